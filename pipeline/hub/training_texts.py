"""What the gate finds in the texts that a model was trained on.

They are searched as stage 4 searches them before it pushes them. A file that it has searched is not
read again.
"""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path

from pipeline.console import progress
from pipeline.files import FileFact
from pipeline.hub.repository import Known, scan_all
from pipeline.hub.scanning import FindMentions, Found, Scan, column_names, join_scans
from pipeline.workspace import Workspace

TableWords = Callable[[Path], Iterator[tuple[int, str]]]
"""Of a table of any format and with any columns: each row's place, and all the words in it."""


@dataclass(frozen=True)
class Searched:
    """What was found, by document, or by the name of the file where it names no documents.

    `files` is how many were to be searched, `missing` those that nobody could search: they are not
    on this disk as they were in training.
    """

    found: dict[str, Found] = field(default_factory=dict)
    files: int = 0
    missing: list[str] = field(default_factory=list)

    @property
    def gap(self) -> str | None:
        """What was not searched, as the subject of a sentence; None if everything was."""
        if len(self.missing) == self.files:
            return "None of the texts that it was trained on was"
        if not self.missing:
            return None
        verb = "was not" if len(self.missing) == 1 else "were not"
        return f"{len(self.missing):,} of the {self.files:,} files of training texts {verb}"


def search_texts(
    workspace: Workspace,
    facts: Sequence[FileFact],
    find: FindMentions,
    words: TableWords,
    known: Known,
) -> Searched:
    """Search `facts`, the files that a model was trained on: chunks and records of stages 3 and 4
    as these write them, any other table row by row.

    `known` are findings by the sha256 of the file; new ones are added to it.

    Raises PipelineError if a file is damaged.
    """
    paths = [workspace.root / fact.path for fact in facts]
    same = [
        path.is_file() and workspace.fact(path).sha256 == fact.sha256
        for path, fact in zip(paths, facts, strict=True)
    ]
    there = [path for path, is_same in zip(paths, same, strict=True) if is_same]
    ours = [path for path in there if _is_ours(path)]
    named_ours = {str(path): path for path in ours}
    scans = dict(zip(ours, scan_all(workspace, named_ours, find, known), strict=True))
    theirs = [path for path in there if path not in scans]
    with progress("publish gate", len(theirs), "files") as advance:
        for path in theirs:
            sha256 = workspace.fact(path).sha256
            if sha256 not in known:
                known[sha256] = _scan_table(path, find, words)
            scans[path] = known[sha256]
            advance(note=path.name)
    named = (
        replace(scan, found={name or path.name: found for name, found in scan.found.items()})
        for path, scan in scans.items()
    )
    missing = [fact.path for fact, is_same in zip(facts, same, strict=True) if not is_same]
    return Searched(join_scans(named).found, len(facts), missing)


def _is_ours(path: Path) -> bool:
    return path.suffix == ".parquet" and not {"text", "document_id"}.isdisjoint(column_names(path))


def _scan_table(path: Path, find: FindMentions, words: TableWords) -> Scan:
    found = Found()
    for place, text in words(path):
        found.add((place, mention.quote) for mention in find(text))
    return Scan({"": found} if found.count else {})

"""What the gate finds in the texts that a model was trained on.

They are searched as stage 4 searches them before it pushes them. A file that it has searched is not
read again.
"""

from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path

from pipeline.files import FileFact
from pipeline.hub.repository import Known, scan_all
from pipeline.hub.scanning import FindMentions, Found, join_scans
from pipeline.workspace import Workspace


@dataclass(frozen=True)
class Searched:
    """What was found, by document, or by the name of the file where it names no documents.

    `files` is how many were to be searched, `missing` those that nobody could search: they are not
    on this disk as they were in training, or are no Parquet.
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
    workspace: Workspace, facts: Sequence[FileFact], find: FindMentions, known: Known
) -> Searched:
    """Search the Parquet files among `facts`, the files that a model was trained on.

    `known` are findings by the sha256 of the file; new ones are added to it.

    Raises PipelineError if a file is damaged.
    """
    paths: dict[str, Path] = {}
    for fact in facts:
        path = workspace.root / fact.path
        is_table = path.suffix == ".parquet" and path.is_file()
        if is_table and workspace.fact(path).sha256 == fact.sha256:
            paths[fact.path] = path
    scans = scan_all(workspace, dict(paths), find, known)
    named = (
        replace(scan, found={name or path.name: found for name, found in scan.found.items()})
        for path, scan in zip(paths.values(), scans, strict=True)
    )
    missing = [fact.path for fact in facts if fact.path not in paths]
    return Searched(join_scans(named).found, len(facts), missing)

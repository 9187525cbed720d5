"""The files and objects behind a source: found, sorted by kind, told apart by content."""

import re
from collections.abc import Iterable, Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING

from pipeline.acquisition.documents import DOCUMENT_SUFFIXES
from pipeline.acquisition.sources import WEIGHTS, Source, no_weight
from pipeline.console import few, many, say
from pipeline.corpus.compression import plain_name
from pipeline.corpus.tables import FORMATS
from pipeline.errors import PipelineError, UsageError
from pipeline.storage import Entry
from pipeline.storage.urls import redact
from pipeline.workspace import STAGES, Workspace

if TYPE_CHECKING:
    from pipeline.storage import Storage

MAGIC = "*?[{"
OUR_OWN = ("stage.json", "catalog.jsonl", "refused.jsonl", "report.jsonl", "documents.jsonl")
_ABOUT_THE_FOLDER = re.compile(r"(readme|licen[cs]e|changelog|notice)\b", re.IGNORECASE)


def find(storage: "Storage", source: Source) -> list[Entry]:
    """The files or objects of a --source; PipelineError if there are none."""
    try:
        return storage.expand(source.place)
    except PipelineError as error:
        prefix = "" if error.message.startswith(source.shown) else f"{source.shown}: "
        error.message = f"--source {prefix}{error.message}"
        if source.weight is not None:
            error.hint = f"{error.hint or ''} ({source.weight:g} was read as its weight.)".strip()
        elif bad := no_weight(source.place):
            why = f"If {bad!r} is to be its weight: {WEIGHTS[0].lower()}{WEIGHTS[1:]}"
            error.hint = f"{error.hint or ''} {why}".strip()
        raise


def is_named(place: str, entries: Sequence[Entry]) -> bool:
    """Whether a --source names these files, by a path or a pattern, and not the folder around."""
    if Path(place).expanduser().is_dir():  # whatever signs are in its name
        return False
    return any(c in place for c in MAGIC) or (
        len(entries) == 1 and place.rstrip("/").split("?")[0].endswith(entries[0].name)
    )


def sort_out(place: str, entries: Sequence[Entry]) -> tuple[list[Entry], list[Entry]]:
    """Part the files of a source into documents and tables.

    What was named, by a path or a pattern, is taken whatever its suffix is. Of a folder the texts
    are taken; its tables only where it has no texts, for beside texts they usually describe them.

    Raises PipelineError if nothing is left.
    """
    others, tables = parted(entries)
    if is_named(place, entries):
        return others, tables
    tables = [entry for entry in tables if entry.name not in OUR_OWN]
    documents = [entry for entry in others if is_of(entry.name, DOCUMENT_SUFFIXES)]
    if tables and all(_ABOUT_THE_FOLDER.match(entry.name) for entry in documents):
        documents = []
    if documents and tables:
        say(
            f"{redact(place)} holds {many(len(documents), 'text')}; its tables are left alone "
            f"({few([entry.name for entry in tables])}): name them with --source to take them."
        )
        tables = []
    strange = [entry.name for entry in others if not is_of(entry.name, DOCUMENT_SUFFIXES)]
    if strange and (documents or tables):
        say(f"Files of other kinds in {redact(place)} are left alone: {few(strange)}.")
    if not documents and not tables:
        raise PipelineError(
            f"--source {redact(place)} has no texts (.txt, .md, .epub, .html) and no tables "
            "(.jsonl, .json, .csv, .parquet) in it.",
            "Name a file, or a pattern such as 'folder/*.log', to have it whatever its suffix is.",
        )
    return documents, tables


def parted(entries: Sequence[Entry]) -> tuple[list[Entry], list[Entry]]:
    """What is no table by its name, and what is one."""
    sides: tuple[list[Entry], list[Entry]] = ([], [])
    for entry in entries:
        sides[is_of(entry.name, FORMATS)].append(entry)
    return sides


def is_of(name: str, suffixes: Iterable[str]) -> bool:
    """Whether a file name ends in one of the suffixes, compressed or not."""
    return plain_name(name.lower()).endswith(tuple(suffixes))


def version_of(workspace: Workspace, entry: Entry) -> list[str | None]:
    """What tells one content of a file or object from another."""
    path = Path(entry.url)
    if is_local(entry) and path.is_file():
        return [workspace.fact(path).sha256]
    return [entry.url, entry.version]


def on_this_disk(
    sources: Sequence[Source], storage: "Storage", workspace: Workspace
) -> dict[str, list[Entry]]:
    """The files of those sources that are local, by place: their content is what counts.

    A file that two sources name belongs to the one that names fewer; what the pipeline itself
    wrote into this data directory belongs to none. Raises UsageError for a source that has nothing
    left.
    """
    local = [source for source in sources if is_local_place(source) and source.kind != "series"]
    found = {source.place: find(storage, source) for source in local}
    own = [workspace.directory(stage).absolute() for stage in STAGES]
    own.append(workspace.cache.absolute())
    owner: dict[str, Source] = {}
    listed: dict[str, list[Entry]] = {}
    for source in sorted(local, key=lambda source: len(found[source.place])):
        mine = []
        left = others = 0
        for entry in found[source.place]:
            if any(Path(entry.url).is_relative_to(folder) for folder in own):
                left += 1
            elif entry.url in owner:
                others += 1
            else:
                owner[entry.url] = source
                mine.append(entry)
        if left:
            ours = many(left, "file is", "files are")
            say(f"{source.shown}: {ours} this pipeline's own, and left alone.")
        if others:
            theirs = many(others, "file is", "files are")
            say(f"{source.shown}: {theirs} left to other sources, which name fewer.")
        if not mine:
            raise UsageError(
                f"--source {source.shown} names nothing that is not another source's, or the "
                "pipeline's own.",
                "Leave it out, or name another --data-dir.",
            )
        listed[source.place] = mine
    return listed


def is_local_place(source: Source) -> bool:
    """Whether a --source is a path on this disk."""
    place = source.place
    if source.kind == "hub":
        return Path(place).expanduser().exists()
    return "://" not in place or place.lower().startswith("file://")


def is_local(entry: Entry) -> bool:
    """Whether the entry is a file on this disk."""
    return "://" not in entry.url


def shown_source(entry: Entry) -> str:
    """Where a document is from, for the catalogue: a file's name, not the way to it at home."""
    return entry.name if is_local(entry) else entry.shown


def retrieved_at(entry: Entry) -> str:
    """When the text was fetched; for a local file, when it was last changed."""
    path = Path(entry.url)
    local = is_local(entry) and path.is_file()
    time = datetime.fromtimestamp(path.stat().st_mtime, UTC) if local else datetime.now(UTC)
    return time.isoformat(timespec="seconds")

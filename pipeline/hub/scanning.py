"""The search for references in Parquet files: a stream, in parts, with places to show.

A large file is searched in parts, by several processes at a time; what is found in each is joined
again, so that lines are those of the whole document.
"""

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Protocol

from pipeline.errors import PipelineError

QUOTES = 3  # shown of each document
LONGEST_QUOTE = 160
PART_BYTES = 64_000_000
_BATCH_ROWS = 256  # two megabytes of chunks
_BATCH_ABOUT = 16_384  # rows without their texts
_ABOUT = ("document_id", "title", "authors", "rights")  # what the gate reads beside the texts
_BLOCK = 16_000_000  # bytes of a text file at a time


class MentionLike(Protocol):
    """A reference: where it begins, its line (from 1), and its words."""

    @property
    def line(self) -> int: ...
    @property
    def quote(self) -> str: ...


FindMentions = Callable[[str], Sequence[MentionLike]]


@dataclass
class Found:
    """References in one document: how many, and the first of them as (line, quote)."""

    count: int = 0
    first: list[tuple[int, str]] = field(default_factory=list)

    def add(self, mentions: Iterable[tuple[int, str]]) -> None:
        """Count these too."""
        for line, quote in mentions:
            self.count += 1
            if len(self.first) < QUOTES:
                self.first.append((line, shortened(quote)))


@dataclass
class Scan:
    """What was found in a Parquet file, or a part of it.

    Lines are those of the document's text file. A file may begin in the middle of a document;
    `begins` is that document and the character it begins at, `ends` the last one with its end and
    the number of line ends in its part here, and lines of the first are counted from there.
    """

    found: dict[str, Found] = field(default_factory=dict)
    begins: tuple[str, int] | None = None
    ends: tuple[str, int, int] | None = None
    about: list[dict[str, Any]] = field(default_factory=list)
    """What the rows say of their documents, each once; `document_id` is always there."""

    def as_row(self) -> dict[str, Any]:
        """As JSON can express it."""
        return {
            "mentions": {
                name: {"count": found.count, "first": [list(item) for item in found.first]}
                for name, found in self.found.items()
            },
            "begins": list(self.begins) if self.begins else None,
            "ends": list(self.ends) if self.ends else None,
            "about": self.about,
        }

    @classmethod
    def from_row(cls, row: Mapping[str, Any]) -> "Scan":
        """Read back what `as_row` gave. Raises KeyError, TypeError or ValueError otherwise."""
        found = {
            name: Found(each["count"], [(line, quote) for line, quote in each["first"]])
            for name, each in row["mentions"].items()
        }
        begins = (str(row["begins"][0]), int(row["begins"][1])) if row["begins"] else None
        ends = row["ends"]
        place = (str(ends[0]), int(ends[1]), int(ends[2])) if ends else None
        return cls(found, begins, place, [dict(each) for each in row["about"]])


Part = tuple[Path, Sequence[int]]  # a Parquet file, and some of its row groups in order


def parts_of(path: Path, size: int = PART_BYTES) -> list[Part]:
    """A Parquet file in parts of at least `size` bytes, before compression, to be searched on their
    own. Raises PipelineError if the file is damaged."""
    import pyarrow.parquet as pq

    parts: list[Part] = []
    groups, bytes_so_far = list[int](), 0
    with _reading(path):
        about = pq.read_metadata(path)
        for group in range(about.num_row_groups):
            groups.append(group)
            bytes_so_far += about.row_group(group).total_byte_size
            if bytes_so_far >= size:
                parts.append((path, groups))
                groups, bytes_so_far = [], 0
    return [*parts, (path, groups)] if groups or not parts else parts


def scan_parquet(part: Part, find: FindMentions) -> Scan:
    """Look for references in a part of a file of chunks or of records.

    The chunks of a document are joined first, for a reference may stand where two meet; memory
    holds one document. In records the line is the number of the record.

    Raises PipelineError if the file is damaged.
    """
    import pyarrow.parquet as pq

    path, groups = part
    with _reading(path), pq.ParquetFile(path, pre_buffer=False) as file:
        names = set(file.schema_arrow.names)
        search = _scan_chunks if "text" in names else _scan_records
        scan = search(file, groups, names, find)
        scan.about = _about(file, groups, names)
        return scan


def column_names(path: Path) -> list[str]:
    """The columns of a Parquet file. Raises PipelineError if it is damaged."""
    import pyarrow.parquet as pq

    with _reading(path):
        return list(pq.read_schema(path).names)


def documents_in(path: Path) -> list[dict[str, Any]]:
    """What the rows of a file of chunks or records say of their documents, each once, with its
    `characters` where that can be told. Raises PipelineError if the file is damaged."""
    import pyarrow.parquet as pq

    with _reading(path), pq.ParquetFile(path, pre_buffer=False) as file:
        names = set(file.schema_arrow.names)
        groups = range(file.num_row_groups)
        found = _about(file, groups, names, (*_ABOUT, "language", "split"))
        if {"document_id", "char_end"} <= names:
            ends: dict[str, int] = {}
            for row in _rows(file, groups, ["document_id", "char_end"], _BATCH_ABOUT):
                name = str(row["document_id"] or "")
                ends[name] = max(ends.get(name, 0), row["char_end"] or 0)
            found = [row | {"characters": ends.get(row["document_id"], 0)} for row in found]
        return found


def scan_text(path: Path, find: FindMentions, shown: Callable[[str], str] = str) -> Found:
    """The references in a file of text; none in one that is no text. `shown` may blank what is not
    to be looked at in a line."""
    found, before = Found(), 0
    with path.open("rb") as file:
        if b"\0" in file.read(8192):
            return found
        file.seek(0)
        while lines := file.readlines(_BLOCK):
            text = "".join(shown(line.decode("utf-8", errors="replace")) for line in lines)
            found.add((before + mention.line, mention.quote) for mention in find(text))
            before += len(lines)
    return found


@contextmanager
def _reading(path: Path) -> Iterator[None]:
    """Whatever goes wrong in reading becomes a PipelineError that names the file."""
    import pyarrow as pa

    try:
        yield
    except (pa.ArrowException, OSError) as error:
        reason = str(error).splitlines()[0].rstrip(".") if str(error) else type(error).__name__
        raise PipelineError(
            f"{path} cannot be read as Parquet: {reason}.",
            "It may be damaged: run the stage that wrote it again.",
        ) from error


def _scan_chunks(file: Any, groups: Sequence[int], names: set[str], find: FindMentions) -> Scan:
    scan = Scan()
    for document, start, text in _documents(file, groups, names):
        if scan.begins is None:
            scan.begins = (document, start)
        scan.ends = (document, start + len(text), text.count("\n"))
        if mentions := find(text):
            found = scan.found.setdefault(document, Found())
            found.add((mention.line, mention.quote) for mention in mentions)
    return scan


def _documents(file: Any, groups: Sequence[int], names: set[str]) -> Iterator[tuple[str, int, str]]:
    """Runs of chunks that follow each other, joined: document, where in it, text."""
    place = ["document_id", "char_end", "overlap"]
    columns = ["text", *(name for name in place if name in names)]
    document, start, parts, end = "", 0, list[str](), -1
    for row in _rows(file, groups, columns):
        text = row["text"] if isinstance(row["text"], str) else ""
        id = str(row.get("document_id") or "")
        # A part that repeats the chunk before is no part of the document.
        text = text[row.get("overlap") or 0 :]
        row_end = row.get("char_end")
        row_start = row_end - len(text) if row_end is not None else 0
        if parts and (id != document or row_start != end):
            yield document, start, "".join(parts)
            parts = []
        if not parts:
            document, start = id, row_start
        parts.append(text)
        end = row_start + len(text)
    if parts:
        yield document, start, "".join(parts)


def _scan_records(file: Any, groups: Sequence[int], names: set[str], find: FindMentions) -> Scan:
    scan = Scan()
    wanted = ("prompt", "completion", "messages", "document_id", "record")
    columns = [name for name in wanted if name in names]
    for number, row in enumerate(_rows(file, groups, columns), 1):
        texts = [row.get("prompt"), row.get("completion")]
        texts += [turn.get("content") for turn in row.get("messages") or ()]
        if mentions := find("\n\n".join(text for text in texts if isinstance(text, str))):
            found = scan.found.setdefault(str(row.get("document_id") or ""), Found())
            line = row.get("record") or number
            found.add((line, mention.quote) for mention in mentions)
    return scan


def _about(
    file: Any, groups: Sequence[int], names: set[str], about: Sequence[str] = _ABOUT
) -> list[dict[str, Any]]:
    """What the rows say of their documents: each of its kind once, in order."""
    columns = [name for name in about if name in names]
    rows = _rows(file, groups, columns, _BATCH_ABOUT) if columns else iter([{}])
    known = dict.fromkeys(
        tuple(
            tuple(map(str, value)) if isinstance(value, list) else str(value or "")
            for value in map(row.get, about)
        )
        for row in rows
    )
    return [
        {
            name: list(value) if isinstance(value, tuple) else value
            for name, value in zip(about, each, strict=True)
            if value or name == "document_id"
        }
        for each in known
    ]


def _rows(
    file: Any, groups: Sequence[int], columns: list[str], size: int = _BATCH_ROWS
) -> Iterator[dict[str, Any]]:
    """The rows of a Parquet file, column by column: a dictionary of each whole row costs more."""
    for batch in file.iter_batches(size, row_groups=groups, columns=columns):
        values = [batch.column(name).to_pylist() for name in columns]
        for row in zip(*values, strict=True):
            yield dict(zip(columns, row, strict=True))


def join_scans(scans: Iterable[Scan]) -> Scan:
    """The findings in parts that are read in this order, as those in one."""
    joined = Scan()
    for scan in scans:
        # A document that goes on where the part before it ended: its lines are counted on.
        before = joined.ends
        goes_on = before[0] if before and before[:2] == scan.begins else None
        lines = before[2] if before and goes_on else 0
        for document, found in scan.found.items():
            more = lines if document == goes_on else 0
            target = joined.found.setdefault(document, Found())
            target.add((line + more, quote) for line, quote in found.first)
            target.count += found.count - len(found.first)
        joined.about += [each for each in scan.about if each not in joined.about[-1:]]
        joined.begins = joined.begins or scan.begins
        if scan.ends:
            id, end, own = scan.ends
            joined.ends = (id, end, own + (lines if id == goes_on else 0))
    return joined


def shortened(text: str) -> str:
    """Words on one line of bearable length."""
    line = " ".join(text.split())
    return line if len(line) <= LONGEST_QUOTE else f"{line[: LONGEST_QUOTE - 1]}…"

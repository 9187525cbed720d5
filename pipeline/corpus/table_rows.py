"""What the readers of all formats of tables share: rows, their limits, and lines of bytes."""

import codecs
from collections.abc import Callable, Collection, Iterator
from dataclasses import dataclass
from typing import Any, BinaryIO, Literal

from pipeline.errors import PipelineError

LARGEST_ROW = 64 * 1024 * 1024  # bytes, or characters of JSON and CSV, as they stand in the file
TOO_LONG = f"is longer than {LARGEST_ROW // 2**20} MB"
RAW_SHOWN = 1024 * 1024  # characters of a bad row that are kept
PIECE = 1024 * 1024  # bytes read at once
UTF16_MARKS = (codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE)

OpenStream = Callable[[], BinaryIO]


@dataclass(frozen=True)
class Row:
    """A row, and its place counted from 1: the line that it begins in, or its number.

    Where rows have no lines of their own (Parquet, a JSON array) `unit` is "row".
    """

    place: int
    value: dict[str, Any]
    unit: Literal["line", "row"] = "line"

    @property
    def where(self) -> str:
        """Such as "line 12"."""
        return f"{self.unit} {self.place}"


@dataclass(frozen=True)
class BadRow:
    """A row that cannot be read. `reason` says why, such as "it is no JSON: ...";
    `raw` is how it stands in the file, at most a million characters of it."""

    place: int
    reason: str
    raw: str
    unit: Literal["line", "row"] = "line"

    @property
    def where(self) -> str:
        """Such as "line 12"."""
        return f"{self.unit} {self.place}"


def read_lines(stream: BinaryIO) -> Iterator[bytes | None]:
    """The lines with their ends; None for one that is longer than LARGEST_ROW.

    Not `for line in stream`: a file of one endless line must not fill the memory.
    """
    first = True
    while line := stream.readline(LARGEST_ROW + 1):
        if first:
            line = line.removeprefix(codecs.BOM_UTF8)
            first = False
        if len(line) <= LARGEST_ROW:
            yield line
            continue
        while line and not line.endswith(b"\n"):
            line = stream.readline(PIECE)
        yield None


def picked(value: dict[str, Any], columns: Collection[str] | None) -> dict[str, Any]:
    """A row without those columns that are not in `columns`; all of it if that is None."""
    return value if columns is None else {k: v for k, v in value.items() if k in columns}


def check_columns(columns: list[str], name: str) -> None:
    """Raises PipelineError if two columns have one name: a row could hold but one of them."""
    known: set[str] = set()
    for column in columns:
        if column in known:
            raise PipelineError(f"{name} has two columns {column!r}.", "Rename one of them.")
        known.add(column)


def first_line(error: Exception) -> str:
    """What an error says, as the middle of a sentence."""
    said = getattr(error, "strerror", None) or str(error) or type(error).__name__
    return str(said).splitlines()[0].rstrip(".")


def shown(raw: bytes) -> str:
    """A bad row as BadRow keeps it, whatever its bytes are."""
    return raw[:RAW_SHOWN].decode("utf-8", "backslashreplace").rstrip("\r\n")


def not_utf8(name: str) -> PipelineError:
    """The error for a file that begins with a mark of UTF-16."""
    return PipelineError(f"{name} is text in UTF-16.", "Save it as UTF-8.")

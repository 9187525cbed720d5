"""Rows out of tables: JSON lines, JSON, CSV, TSV and Parquet, plain or compressed, in a stream.

A row that cannot be read is yielded as a BadRow and the reading goes on after it; only what makes
the rest unreadable is an error. Memory holds a row, or a few of Parquet, whatever the file's size.
"""

import codecs
import csv
import io
import json
import re
import shutil
import tempfile
from collections.abc import Callable, Collection, Generator, Iterable, Iterator
from contextlib import ExitStack
from dataclasses import dataclass
from itertools import chain
from pathlib import Path, PurePosixPath
from typing import Any, BinaryIO, Literal, NoReturn, cast

from pipeline.corpus.compression import DamagedFile, decompressed, plain_name
from pipeline.errors import PipelineError

FORMATS = {
    ".jsonl": "jsonl",
    ".ndjson": "jsonl",
    ".json": "json",
    ".csv": "csv",
    ".tsv": "csv",
    ".parquet": "parquet",
}
LARGEST_ROW = 64 * 1024 * 1024  # bytes, or characters of JSON and CSV, as they stand in the file

_RAW_SHOWN = 1024 * 1024  # characters of a bad row that are kept
_PIECE = 1024 * 1024  # bytes read at once
_PARQUET_ROWS = 64  # a book may be a megabyte
_UTF16 = (codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE)

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


def table_format(name: str) -> str | None:
    """The format of a file by its name, one of the values of FORMATS; None if it is no table."""
    return FORMATS.get(PurePosixPath(plain_name(name)).suffix.lower())


def read_rows(
    open_stream: OpenStream,
    local_path: Callable[[], Path],
    name: str,
    columns: Collection[str] | None = None,
) -> Generator[Row | BadRow]:
    """The rows of the table `name` in order, without those columns that are not in `columns`.

    `open_stream` opens the file's bytes as they are stored (it is unpacked here if its name says
    that it is compressed) and may be called more than once. `local_path` is called for Parquet
    only, which cannot be read from a stream. Cells of CSV are text, empty ones None; a column
    without a value is None in Parquet and may be missing in JSON.

    Raises PipelineError naming the file, and the place where there is one, if it cannot be read,
    is damaged or cut off, or is no table.
    """
    kind = table_format(name)
    if kind is None:
        raise PipelineError(
            f"{name} is no table that can be read.", f"Known are {', '.join(FORMATS)}."
        )
    last: Row | BadRow | None = None
    try:
        if kind == "parquet":
            rows = _read_parquet(open_stream, local_path, name, columns)
        else:
            reader = {"jsonl": _read_jsonl, "json": _read_json, "csv": _read_csv}[kind]
            rows = reader(lambda: _buffered(decompressed(open_stream(), name)), name, columns)
        for last in rows:
            yield last
    except DamagedFile as error:
        raise DamagedFile(error.name, error.reason, last.where if last else None) from error
    except OSError as error:
        raise PipelineError(f"{name} cannot be read: {_first_line(error)}.") from error


def column_names(open_stream: OpenStream, local_path: Callable[[], Path], name: str) -> list[str]:
    """The columns of a table, by its first good row; none if it has no row.

    Raises PipelineError as `read_rows` does.
    """
    rows = read_rows(open_stream, local_path, name)
    return next((list(row.value) for row in rows if isinstance(row, Row)), [])


def _buffered(stream: BinaryIO) -> BinaryIO:
    """`stream` with a `readline` that can be given a limit, which fsspec's files have not."""
    if isinstance(stream, io.BufferedIOBase):
        return stream
    return cast(BinaryIO, io.BufferedReader(cast(io.RawIOBase, stream), _PIECE))


def _picked(value: dict[str, Any], columns: Collection[str] | None) -> dict[str, Any]:
    return value if columns is None else {k: v for k, v in value.items() if k in columns}


def _check_columns(columns: list[str], name: str) -> None:
    """Raises PipelineError if two columns have one name: a row could hold but one of them."""
    known: set[str] = set()
    for column in columns:
        if column in known:
            raise PipelineError(f"{name} has two columns {column!r}.", "Rename one of them.")
        known.add(column)


def _first_line(error: Exception) -> str:
    said = getattr(error, "strerror", None) or str(error) or type(error).__name__
    return str(said).splitlines()[0].rstrip(".")


def _shown(raw: bytes) -> str:
    return raw[:_RAW_SHOWN].decode("utf-8", "backslashreplace").rstrip("\r\n")


def _lines(stream: BinaryIO) -> Iterator[bytes | None]:
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
            line = stream.readline(_PIECE)
        yield None


_TOO_LONG = f"is longer than {LARGEST_ROW // 2**20} MB"

# --- JSON lines -------------------------------------------------------------------------------


def _read_jsonl(
    open_stream: OpenStream, name: str, columns: Collection[str] | None
) -> Iterator[Row | BadRow]:
    with open_stream() as stream:
        for number, line in enumerate(_lines(stream), 1):
            if number == 1 and line and line.startswith(_UTF16):
                raise _not_utf8(name)
            if line is None:
                yield BadRow(number, f"it {_TOO_LONG}", "")
            elif not line.isspace() and line:
                value = _json_object(line)
                if isinstance(value, dict):
                    yield Row(number, _picked(value, columns))
                else:
                    yield BadRow(number, value, _shown(line))


def _json_object(line: bytes) -> dict[str, Any] | str:
    """The object that a line holds, or why it holds none."""
    try:
        value = json.loads(line.rstrip(b"\r\n").decode("utf-8"))
    except UnicodeDecodeError as error:
        return f"it is not UTF-8 (byte {error.start + 1} of the line)"
    except json.JSONDecodeError as error:
        return f"it is no JSON: {error.msg} (character {error.pos + 1} of the line)"
    except ValueError:  # a number of more than 4,300 digits
        return "it is no JSON that can be read: a number is too long"
    except RecursionError:
        return "it is no JSON that can be read: it is nested too deep"
    return value if isinstance(value, dict) else _no_object(value)


def _no_object(value: Any) -> str:
    return f"it is no JSON object but of type {type(value).__name__}"


def _not_utf8(name: str) -> PipelineError:
    return PipelineError(f"{name} is text in UTF-16.", "Save it as UTF-8.")


# --- JSON -------------------------------------------------------------------------------------


def _read_json(
    open_stream: OpenStream, name: str, columns: Collection[str] | None
) -> Iterator[Row | BadRow]:
    """An array of objects; an object with such an array under one key; or JSON lines after all."""
    if _is_json_lines(open_stream):
        yield from _read_jsonl(open_stream, name, columns)
        return
    with open_stream() as stream:
        text = _JsonText(stream, name)
        values = text.array() if text.peek() == "[" else _objects(text)
        for number, value in enumerate(values, 1):
            if isinstance(value, dict):
                yield Row(number, _picked(value, columns), "row")
            else:
                raw = json.dumps(value)[:_RAW_SHOWN]
                yield BadRow(number, _no_object(value), raw, "row")
        if text.peek():
            text.fail("more follows where the file should end")


def _is_json_lines(open_stream: OpenStream) -> bool:
    """Whether the first line that holds anything is an object and not the last such line."""
    with open_stream() as stream:
        filled = (line for line in _lines(stream) if line is None or line.strip())
        first = next(filled, None)
        if first is None or first.lstrip()[:1] != b"{" or next(filled, b"") == b"":
            return False
        return isinstance(_json_object(first), dict)


def _objects(text: "_JsonText") -> Iterator[Any]:
    """Objects one after the other, and instead of one that wraps an array of objects, these."""
    while text.peek() == "{":
        other: dict[str, Any] = {}
        wrapped: str | None = None
        for key in text.members():
            if text.peek() != "[":
                other[key] = text.value()
                continue
            items = text.array()
            first = next(items, None)
            if not isinstance(first, dict) or _is_turn(first):
                other[key] = text.limited(chain([] if first is None else [first], items))
                continue
            if wrapped is not None:
                text.fail(f"it has a list of rows under {wrapped!a} and another under {key!a}")
            wrapped = key
            yield first
            yield from items
        if wrapped is None:
            yield other


def _is_turn(item: dict[str, Any]) -> bool:
    """Whether a list of such items is a chat, which is one row, and not a list of rows."""
    return {"role", "content"} <= item.keys() or {"from", "value"} <= item.keys()


class _JsonText:
    """JSON of any length, decoded value by value: memory holds one of them and a piece of text."""

    _SPACE = re.compile(r"[ \t\r\n]*")
    _decoder = json.JSONDecoder()

    def __init__(self, stream: BinaryIO, name: str) -> None:
        self._stream = stream
        self._name = name
        self._utf8 = codecs.getincrementaldecoder("utf-8-sig")()
        self._text = ""
        self._at = 0  # what lies before it in the text is dealt with
        self._line = 1  # of the first character of the text
        self._dropped = 0  # characters before the text
        self._ended = False

    def peek(self) -> str:
        """The next character that is no white space; none at the end."""
        while True:
            space = self._SPACE.match(self._text, self._at)
            self._at = space.end() if space else self._at
            if self._at < len(self._text):
                return self._text[self._at]
            if self._ended:
                return ""
            self._more()

    def take(self, allowed: str) -> str:
        """The next character, one of `allowed`."""
        found = self.peek()
        if not found or found not in allowed:
            wanted = " or ".join(f"'{character}'" for character in allowed)
            self.fail(f"{wanted} is missing" + ("" if found else " at its end"))
        self._at += 1
        return found

    def array(self) -> Iterator[Any]:
        """The elements of an array."""
        self.take("[")
        if self.peek() == "]":
            self.take("]")
            return
        while True:
            yield self.value()
            if self.take(",]") == "]":
                return

    def members(self) -> Iterator[str]:
        """The keys of an object, in order; the caller takes the value of each before the next."""
        self.take("{")
        if self.peek() == "}":
            self.take("}")
            return
        while True:
            if self.peek() != '"':
                self.fail("a key in quotation marks is missing")
            key = self.value()
            self.take(":")
            yield key
            if self.take(",}") == "}":
                return

    def value(self) -> Any:
        """The next value, whatever it is."""
        self.peek()
        while True:
            try:
                value, end = self._decoder.raw_decode(self._text, self._at)
            except json.JSONDecodeError as error:
                if self._ended or not self._may_be_cut(error):
                    self.fail(error.msg, error.pos)
            except (ValueError, RecursionError):
                self.fail("a number is too long, or a list nested too deep")
            else:
                # At the end of what was read "1", even "1e-", may be the beginning of "1e-5".
                if end + 2 < len(self._text) or self._ended:
                    self._at = end
                    return value
            self._more()

    def limited(self, values: Iterable[Any]) -> list[Any]:
        """The values as a list, unless they are longer than a row may be."""
        start = self._dropped + self._at
        kept = []
        for value in values:
            if self._dropped + self._at - start > LARGEST_ROW:
                self.fail(f"a list in it {_TOO_LONG}")
            kept.append(value)
        return kept

    def fail(self, reason: str, at: int | None = None) -> NoReturn:
        """Raises PipelineError naming file and line."""
        line = self._line + self._text.count("\n", 0, self._at if at is None else at)
        raise PipelineError(f"{self._name}:{line} is no JSON: {reason}.")

    def _may_be_cut(self, error: json.JSONDecodeError) -> bool:
        """Whether it may come of the text's end: no escape and no literal has 16 characters."""
        return error.pos > len(self._text) - 16 or error.msg.startswith("Unterminated string")

    def _more(self) -> None:
        """Read at least as much as is left, so that a long value is not tried too often."""
        left = len(self._text) - self._at
        if left > LARGEST_ROW:
            self.fail(f"a value in it {_TOO_LONG}")
        self._line += self._text.count("\n", 0, self._at)
        self._dropped += self._at
        self._text, self._at = self._text[self._at :], 0
        data = self._stream.read(max(_PIECE, left))
        if self._dropped == 0 and not self._text and data.startswith(_UTF16):
            raise _not_utf8(self._name)
        try:
            self._text += self._utf8.decode(data, final=not data)
        except UnicodeDecodeError as error:
            line = self._line + self._text.count("\n")
            line += error.object.count(b"\n", 0, error.start)
            raise PipelineError(f"{self._name}:{line} is not UTF-8.") from error
        self._ended = not data


# --- CSV and TSV ------------------------------------------------------------------------------


class _BadLine(Exception):
    """A line that no row can be made of."""


class _CsvLines:
    """Lines as the csv module wants them. The first that is not ASCII tells the encoding of all:
    UTF-8, else Windows-1252."""

    def __init__(self, stream: BinaryIO) -> None:
        self._lines = _lines(stream)
        self._encoding: str | None = None
        self.line = 0
        self._raw = io.StringIO()  # of the row being read
        self._length = 0

    def __iter__(self) -> Iterator[str]:
        return self

    def __next__(self) -> str:
        line = next(self._lines)
        self.line += 1
        if line is None:
            raise _BadLine(f"it {_TOO_LONG}")
        if self._encoding is None and not line.isascii():
            self._encoding = "UTF-8" if _is_utf8(line) else "Windows-1252"
        try:
            text = line.decode(self._encoding or "ascii")
        except UnicodeDecodeError as error:
            self._raw.write(_shown(line))
            raise _BadLine(f"it is not {self._encoding}, as the lines before it are") from error
        if self._length < _RAW_SHOWN:
            self._raw.write(text)
        self._length += len(text)
        if "\0" in text:
            raise _BadLine("it holds a NUL character")
        if self._length > LARGEST_ROW:
            raise _BadLine(f"it {_TOO_LONG}")
        return text

    def begin(self) -> int:
        """Begin a row; returns the line that it begins in."""
        self._raw = io.StringIO()
        self._length = 0
        return self.line + 1

    def raw(self) -> str:
        """The row as far as it was read."""
        return self._raw.getvalue()[:_RAW_SHOWN].rstrip("\r\n")


def _is_utf8(line: bytes) -> bool:
    try:
        line.decode("utf-8")
    except UnicodeDecodeError:
        return False
    return True


def _read_csv(
    open_stream: OpenStream, name: str, columns: Collection[str] | None
) -> Iterator[Row | BadRow]:
    csv.field_size_limit(max(csv.field_size_limit(), LARGEST_ROW))  # a text may be a whole book
    with open_stream() as stream:
        lines = _CsvLines(stream)
        header, reader = _csv_header(lines, name, columns)
        while header:
            start = lines.begin()
            try:
                cells = next(reader, None)
                if cells is None:
                    return
                if cells and len(cells) != len(header):
                    raise _BadLine(f"it has {len(cells)} cells where the header has {len(header)}")
            except (_BadLine, csv.Error) as error:
                last = f" (lines {start} to {lines.line})" if lines.line > start else ""
                yield BadRow(start, _csv_reason(error) + last, lines.raw())
                continue
            if cells:  # an empty line is none
                value = {key: cell or None for key, cell in zip(header, cells, strict=True)}
                yield Row(start, _picked(value, columns))


def _csv_reason(error: Exception) -> str:
    if isinstance(error, _BadLine):
        return str(error)
    if "unexpected end of data" in str(error):
        return "it opens a quotation mark that is never closed"
    if "new-line character" in str(error):
        return "it holds a carriage return outside of quotation marks"
    return f"it is no CSV: {error}"


def _csv_header(
    lines: _CsvLines, name: str, columns: Collection[str] | None
) -> tuple[list[str], Iterator[list[str]]]:
    """The names of the columns and a reader of the rows after them."""
    try:
        lines.begin()
        first = next((line for line in lines if line.strip("\r\n")), None)
        if first is None:
            return [], iter(())
        delimiter = "\t" if _is_tsv(name) else _delimiter(first, columns)
        reader = csv.reader(chain([first], lines), delimiter=delimiter, strict=True)
        header = next(reader)
    except (_BadLine, csv.Error) as error:
        if lines.raw().startswith(("ÿþ", "þÿ")):
            raise _not_utf8(name) from error
        raise PipelineError(
            f"{name}:{lines.line} holds no names of columns: {_csv_reason(error)}."
        ) from error
    # A nameless column, or several, is what spreadsheets and pandas' index leave behind.
    _check_columns([column for column in header if column], name)
    return header, reader


def _is_tsv(name: str) -> bool:
    return plain_name(name).lower().endswith(".tsv")


def _delimiter(line: str, columns: Collection[str] | None) -> str:
    """What stands between the names in the header: a comma, unless another finds more of them."""

    def found(delimiter: str) -> tuple[int, int]:
        names = next(csv.reader([line], delimiter=delimiter), [])
        return len(set(names) & set(columns or ())), len(names)

    return max(",;\t", key=found)


# --- Parquet ----------------------------------------------------------------------------------


def _read_parquet(
    open_stream: OpenStream,
    local_path: Callable[[], Path],
    name: str,
    columns: Collection[str] | None,
) -> Iterator[Row | BadRow]:
    import pyarrow as pa
    import pyarrow.parquet as pq

    with ExitStack() as stack:
        source: Any
        if plain_name(name) == name:
            source = local_path()
        else:  # compressed twice over: it has to be unpacked to be read from its end
            source = stack.enter_context(tempfile.TemporaryFile())
            shutil.copyfileobj(stack.enter_context(decompressed(open_stream(), name)), source)
        number = 0
        try:
            file = pq.ParquetFile(source, pre_buffer=False, page_checksum_verification=True)
            stack.enter_context(file)
            names = file.schema_arrow.names
            _check_columns(names, name)
            wanted = [column for column in names if columns is None or column in columns]
            for batch in file.iter_batches(_PARQUET_ROWS, columns=wanted):
                # "a.b" is to pyarrow also the field `b` of the column `a`.
                picked = batch.select([column for column in wanted if column in batch.schema.names])
                for row in _batch_rows(picked, number + 1):
                    number = row.place
                    yield row
        except FileNotFoundError as error:
            raise PipelineError(f"{name} is not there.") from error
        except (pa.ArrowException, OSError, ValueError) as error:
            after = f" after row {number}" if number else ""
            raise PipelineError(
                f"{name} cannot be read as Parquet{after}: {_first_line(error)}.",
                "Fetch or write the file again.",
            ) from error


def _batch_rows(batch: Any, first: int) -> Iterator[Row | BadRow]:
    """The rows of an Arrow batch, numbered from `first`; one by one if one of them is bad."""
    import pyarrow as pa

    try:
        values = batch.to_pylist()
    except (ValueError, OverflowError, pa.ArrowException) as error:
        if batch.num_rows == 1:
            yield BadRow(
                first, f"it holds a value that cannot be read: {_first_line(error)}", "", "row"
            )
            return
        for at in range(batch.num_rows):
            yield from _batch_rows(batch.slice(at, 1), first + at)
        return
    for number, value in enumerate(values, first):
        yield Row(number, value, "row")

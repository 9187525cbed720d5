"""Rows out of CSV and TSV."""

import csv
import io
from collections.abc import Collection, Iterator
from itertools import chain
from typing import BinaryIO

from pipeline.corpus import table_rows
from pipeline.corpus.compression import plain_name
from pipeline.corpus.table_rows import (
    RAW_SHOWN,
    TOO_LONG,
    BadRow,
    OpenStream,
    Row,
    check_columns,
    not_utf8,
    picked,
    read_lines,
    shown,
)
from pipeline.errors import PipelineError


class _BadLine(Exception):
    """A line that no row can be made of."""


class _CsvLines:
    """Lines as the csv module wants them. The first that is not ASCII tells the encoding of all:
    UTF-8, else Windows-1252."""

    def __init__(self, stream: BinaryIO) -> None:
        self._lines = read_lines(stream)
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
            raise _BadLine(f"it {TOO_LONG}")
        if self._encoding is None and not line.isascii():
            self._encoding = "UTF-8" if _is_utf8(line) else "Windows-1252"
        try:
            text = line.decode(self._encoding or "ascii")
        except UnicodeDecodeError as error:
            self._raw.write(shown(line))
            raise _BadLine(f"it is not {self._encoding}, as the lines before it are") from error
        if self._length < RAW_SHOWN:
            self._raw.write(text)
        self._length += len(text)
        if "\0" in text:
            raise _BadLine("it holds a NUL character")
        if self._length > table_rows.LARGEST_ROW:
            raise _BadLine(f"it {TOO_LONG}")
        return text

    def begin(self) -> int:
        """Begin a row; returns the line that it begins in."""
        self._raw = io.StringIO()
        self._length = 0
        return self.line + 1

    def raw(self) -> str:
        """The row as far as it was read."""
        return self._raw.getvalue()[:RAW_SHOWN].rstrip("\r\n")


def _is_utf8(line: bytes) -> bool:
    try:
        line.decode("utf-8")
    except UnicodeDecodeError:
        return False
    return True


def read_csv(
    open_stream: OpenStream, name: str, columns: Collection[str] | None
) -> Iterator[Row | BadRow]:
    """The rows under a header, whose delimiter is found there; as `read_rows` of `tables`."""
    # A text may be a whole book.
    csv.field_size_limit(max(csv.field_size_limit(), table_rows.LARGEST_ROW))
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
                yield Row(start, picked(value, columns))


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
            raise not_utf8(name) from error
        raise PipelineError(
            f"{name}:{lines.line} holds no names of columns: {_csv_reason(error)}."
        ) from error
    # A nameless column, or several, is what spreadsheets and pandas' index leave behind.
    check_columns([column for column in header if column], name)
    return header, reader


def _is_tsv(name: str) -> bool:
    return plain_name(name).lower().endswith(".tsv")


def _delimiter(line: str, columns: Collection[str] | None) -> str:
    """What stands between the names in the header: a comma, unless another finds more of them."""

    def found(delimiter: str) -> tuple[int, int]:
        names = next(csv.reader([line], delimiter=delimiter), [])
        return len(set(names) & set(columns or ())), len(names)

    return max(",;\t", key=found)

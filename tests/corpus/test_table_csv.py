"""Rows out of CSV and TSV: places, delimiters, encodings, and rows that are none."""

import gzip
import io
import tracemalloc
from pathlib import Path

import pytest

from pipeline.corpus import table_rows
from pipeline.corpus.tables import BadRow, read_rows
from pipeline.errors import PipelineError
from tests.corpus.table_files import read, told, values


def test_cells_of_csv_stay_text_and_empty_ones_are_none() -> None:
    data = b'id,text,x\n007,NaN,\n1e5,None,""\n'
    assert values(data, "x.csv") == [
        {"id": "007", "text": "NaN", "x": None},
        {"id": "1e5", "text": "None", "x": None},
    ]


def test_a_row_of_csv_is_named_by_the_line_that_it_begins_in() -> None:
    data = b'a,b\r\n1,"x\r\ny\n"\r\n\r\n2,3,4\r\n5,6\r\n"q"z,1\r\n7,\0\r\n8\r\n9,"open\r\n1,2\r\n'
    assert told(read(data, "x.csv")) == [
        ("line 2", {"a": "1", "b": "x\r\ny\n"}),
        ("line 6", "it has 3 cells where the header has 2"),
        ("line 7", {"a": "5", "b": "6"}),
        ("line 8", "it is no CSV: ',' expected after '\"'"),
        ("line 9", "it holds a NUL character"),
        ("line 10", "it has 1 cells where the header has 2"),
        ("line 11", "it opens a quotation mark that is never closed (lines 11 to 12)"),
    ]
    bad = read(data, "x.csv")[-1]
    assert isinstance(bad, BadRow)
    assert bad.raw == '9,"open\r\n1,2'


@pytest.mark.parametrize("delimiter", [",", ";", "\t"])
def test_the_delimiter_of_csv_is_found_in_its_header(delimiter: str) -> None:
    data = f"id{delimiter}text\n1{delimiter}a\n".encode()
    assert values(data, "x.csv") == [{"id": "1", "text": "a"}]


def test_a_wanted_column_tells_the_delimiter_of_an_odd_header() -> None:
    data = b"text;a, b, or c\nx;y\n"
    assert values(data, "x.csv", {"text"}) == [{"text": "x"}]


def test_commas_and_semicolons_mean_nothing_in_tsv() -> None:
    assert values(b"a;b,c\n1;2,3\n", "x.tsv") == [{"a;b,c": "1;2,3"}]


def test_the_first_line_that_is_not_ascii_tells_the_encoding_of_csv() -> None:
    utf8 = "a\nx\né\n".encode() + b"\xe9\ny\n"
    assert told(read(utf8, "x.csv")) == [
        ("line 2", {"a": "x"}),
        ("line 3", {"a": "é"}),
        ("line 4", "it is not UTF-8, as the lines before it are"),
        ("line 5", {"a": "y"}),
    ]
    windows = b"a\nx\n\x93\xe9\x94\n\x81\n"
    assert told(read(windows, "x.csv")) == [
        ("line 2", {"a": "x"}),
        ("line 3", {"a": "“é”"}),
        ("line 4", "it is not Windows-1252, as the lines before it are"),
    ]


def test_a_text_longer_than_the_csv_module_likes_is_read() -> None:
    text = "x, " * 100_000
    assert values(f'a,text\n1,"{text}"\n'.encode(), "x.csv") == [{"a": "1", "text": text}]


def test_a_quotation_mark_never_closed_does_not_fill_the_memory(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(table_rows, "LARGEST_ROW", 2**20)
    packed = gzip.compress(b'a\n"open\n' + b"x\n" * 2**20, 1)
    rows = read_rows(lambda: io.BytesIO(packed), Path, "x.csv.gz")
    tracemalloc.start()
    try:
        bad = next(rows)
        assert tracemalloc.get_traced_memory()[1] < 16 * 2**20
    finally:
        tracemalloc.stop()
        rows.close()
    assert isinstance(bad, BadRow)
    assert bad.place == 2
    assert "longer than" in bad.reason


@pytest.mark.parametrize(
    ("data", "message"),
    [
        (b"a,b,a\n1,2,3\n", r"x\.csv has two columns 'a'"),
        (b'\n"a,b\n1,2\n', r"x\.csv:3 .*quotation mark that is never closed"),
        (b"a\rb\rc", r"x\.csv:1 .*carriage return"),
        (b"\x00\x01", r"x\.csv:1 .*NUL"),
    ],
)
def test_csv_without_a_readable_header_is_an_error(data: bytes, message: str) -> None:
    with pytest.raises(PipelineError, match=message):
        read(data, "x.csv")

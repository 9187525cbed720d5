"""Rows out of JSON lines and JSON: every make of it, wherever it is broken."""

import gzip
import io
import json
import math
import tracemalloc
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pipeline.corpus import table_rows
from pipeline.corpus.tables import BadRow, Row, read_rows
from pipeline.errors import PipelineError
from tests.corpus.table_files import Rows, as_jsonl, read, told, values, words

# --- JSON lines -------------------------------------------------------------------------------


def test_a_broken_line_is_named_and_the_reading_goes_on() -> None:
    data = b'\xef\xbb\xbf{"a":1}\r\n\n{"a":\n[1]\n{"a":"\xe9"}\n  \n{"a":7}'
    assert told(read(data, "x.jsonl")) == [
        ("line 1", {"a": 1}),
        ("line 3", "it is no JSON: Expecting value (character 6 of the line)"),
        ("line 4", "it is no JSON object but of type list"),
        ("line 5", "it is not UTF-8 (byte 7 of the line)"),
        ("line 7", {"a": 7}),
    ]


def test_a_broken_line_keeps_what_stood_there() -> None:
    bad = read(b'{"a": \xff\xc3\xa9\n', "x.jsonl")[0]
    assert isinstance(bad, BadRow)
    assert bad.raw == '{"a": \\xff\u00e9'


def test_lines_end_where_json_lines_end_and_not_where_python_ends_them() -> None:
    rows = [{"text": "a\u2028b\x85c\x1dd"}, {"text": "e"}]
    assert values(as_jsonl(rows), "x.jsonl") == rows


def test_nan_and_a_doubled_key_are_read_as_python_reads_them() -> None:
    (row,) = values(b'{"a": NaN, "b": 1, "b": 2}', "x.jsonl")
    assert math.isnan(row["a"])
    assert row["b"] == 2


@pytest.mark.parametrize(
    "line", [b"[" * 100_000, b'{"a":' * 100_000, b'{"a":' + b"9" * 5000 + b"}"]
)
def test_hostile_json_is_a_bad_row(line: bytes) -> None:
    rows = read(line + b'\n{"a": 1}\n', "x.jsonl")
    assert [type(row) for row in rows] == [BadRow, Row]


def test_a_line_without_end_is_a_bad_row_and_does_not_fill_the_memory(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(table_rows, "LARGEST_ROW", 2**20)
    line = b'{"a": "' + b"x" * 2**26 + b'"}\n'
    packed = gzip.compress(line, 1) + gzip.compress(b'{"a": 2}\n')
    del line
    tracemalloc.start()
    try:
        rows = read(packed, "x.jsonl.gz")
        assert tracemalloc.get_traced_memory()[1] < 16 * 2**20
    finally:
        tracemalloc.stop()
    assert [row.where for row in rows] == ["line 1", "line 2"]
    assert isinstance(rows[0], BadRow)
    assert rows[1] == Row(2, {"a": 2})


# --- JSON -------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("text", "rows"),
    [
        ("[]", []),
        ('[{"a": 1}]', [{"a": 1}]),
        ('{"data": [{"a": 1}, {"a": 2}]}', [{"a": 1}, {"a": 2}]),
        ('{"n": [1, 2], "data": [{"a": 1}], "m": {"b": [{}]}}', [{"a": 1}]),
        ('{"a": 1, "b": []}', [{"a": 1, "b": []}]),
        ("{}", [{}]),
        ('{\n"a": 1\n}\n{\n"a": 2\n}', [{"a": 1}, {"a": 2}]),
        ('{"a": [{"b": 1}]}\n{"a": [{"b": 2}]}', [{"a": [{"b": 1}]}, {"a": [{"b": 2}]}]),
    ],
)
def test_json_of_many_makes_is_read(text: str, rows: Rows) -> None:
    assert values(text.encode(), "x.json") == rows


@pytest.mark.parametrize("keys", [("role", "content"), ("from", "value")])
def test_one_chat_in_a_file_is_one_row(keys: tuple[str, str]) -> None:
    row = {"messages": [dict.fromkeys(keys, "x"), dict.fromkeys(keys, "y")]}
    assert values(json.dumps(row).encode(), "x.json") == [row]


def test_an_element_that_is_no_object_is_a_bad_row() -> None:
    assert told(read(b'[{"a": 1}, 12, {"a": 2}]', "x.json")) == [
        ("row 1", {"a": 1}),
        ("row 2", "it is no JSON object but of type int"),
        ("row 3", {"a": 2}),
    ]


@pytest.mark.parametrize(
    ("text", "message"),
    [
        (b'[{"a": 1},\n{"a" 2}]', r"x\.json:2 is no JSON: Expecting ':' delimiter"),
        (b'[{"a": 1},\n{"a": 2}\n', r"x\.json:3 is no JSON: ',' or '\]' is missing at its end"),
        (b'[{"a": 1},\n{"a": "2', r"x\.json:2 is no JSON: Unterminated string"),
        (b'[{"a": 1}\n{"a": 2}]', r"x\.json:2 is no JSON: ',' or '\]' is missing"),
        (b'[{"a": 1}]\n\n[]', r"x\.json:3 is no JSON: more follows"),
        (b'[{"a": 1},\n{"a": "\xff"}]', r"x\.json:2 is not UTF-8"),
        (b'{"a": 1,\n b: 2}', r"x\.json:2 is no JSON: a key in quotation marks is missing"),
        (b'"text"', r"x\.json:1 is no JSON"),
        (b"<html>", r"x\.json:1 is no JSON"),
        (b"[" * 100_000, r"x\.json:1 is no JSON"),
        (b'{"a": [{"b": 1}],\n"c": [{"b": 1}]}', r"x\.json:2 .*under 'a' and another under 'c'"),
    ],
)
@pytest.mark.parametrize("piece", [1, 7, 2**20])
def test_broken_json_is_an_error_with_its_line(
    text: bytes, message: str, piece: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(table_rows, "PIECE", piece)
    with pytest.raises(PipelineError, match=message):
        read(text, "x.json")


@given(
    rows=st.lists(st.dictionaries(words, words | st.floats(allow_nan=False) | st.integers())),
    piece=st.integers(1, 40),
    wrap=st.booleans(),
    indent=st.sampled_from([None, 1]),
)
@settings(deadline=None)
def test_json_comes_back_equal_wherever_the_pieces_read_end(
    rows: list[dict[str, Any]], piece: int, wrap: bool, indent: int | None
) -> None:
    value: Any = {"k": 1.5e-7, "rows": rows, "e": 1.5} if wrap and rows else rows
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(table_rows, "PIECE", piece)
        assert values(json.dumps(value, indent=indent).encode(), "x.json") == rows


def test_a_large_array_takes_the_memory_of_a_piece() -> None:
    rows = [{"text": "x" * 10_000, "n": number} for number in range(4000)]
    for data in (json.dumps(rows).encode(), json.dumps({"a": 1, "data": rows}).encode()):
        tracemalloc.start()
        try:
            found = read_rows(lambda data=data: io.BytesIO(data), Path, "x.json")  # type: ignore[misc]
            assert sum(1 for _ in found) == 4000
            # The second has one line, which is looked at for JSON lines.
            assert tracemalloc.get_traced_memory()[1] < len(data) * 1.1 + 16 * 2**20
        finally:
            tracemalloc.stop()

"""Rows out of tables: what was written comes back, and what is broken is named by its place."""

import bz2
import csv
import gzip
import io
import json
import lzma
import math
import tracemalloc
from collections.abc import Callable, Collection, Sequence
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pipeline.corpus import tables
from pipeline.corpus.compression import DamagedFile, decompressed
from pipeline.corpus.tables import BadRow, Row, column_names, read_rows, table_format
from pipeline.errors import PipelineError

PACK: dict[str, Callable[[bytes], bytes]] = {
    "": bytes,
    ".gz": lambda data: gzip.compress(data, mtime=0),
    ".bz2": bz2.compress,
    ".xz": lambda data: lzma.compress(data, preset=0),
    ".zst": lambda data: pa.Codec("zstd").compress(data, asbytes=True),
}
Rows = Sequence[dict[str, Any]]


def read(data: bytes, name: str, columns: Collection[str] | None = None) -> list[Row | BadRow]:
    """The rows of a file with these bytes."""
    return list(read_rows(lambda: io.BytesIO(data), lambda: pytest.fail("asked"), name, columns))


def read_file(path: Path, columns: Collection[str] | None = None) -> list[Row | BadRow]:
    return list(read_rows(lambda: path.open("rb"), lambda: path, path.name, columns))


def values(data: bytes, name: str, columns: Collection[str] | None = None) -> list[dict[str, Any]]:
    """The values of a file whose rows are all good."""
    rows = read(data, name, columns)
    assert all(isinstance(row, Row) for row in rows), rows
    return [row.value for row in rows if isinstance(row, Row)]


def told(rows: list[Row | BadRow]) -> list[tuple[str, Any]]:
    """Each row as (place, value or reason)."""
    return [(row.where, row.value if isinstance(row, Row) else row.reason) for row in rows]


# --- what is written comes back ---------------------------------------------------------------


def as_jsonl(rows: Rows) -> bytes:
    return b"".join(json.dumps(row, ensure_ascii=False).encode() + b"\n" for row in rows)


def as_json(rows: Rows) -> bytes:
    return json.dumps(rows, indent=1).encode()


def as_wrapped_json(rows: Rows) -> bytes:
    return json.dumps({"version": "1", "tags": ["a"], "data": rows, "n": 1}).encode()


def as_csv(rows: Rows) -> bytes:
    file = io.StringIO(newline="")
    writer = csv.DictWriter(file, ["text", "über", ""])
    writer.writeheader()
    writer.writerows(rows)
    return file.getvalue().encode()


def as_tsv(rows: Rows) -> bytes:
    file = io.StringIO(newline="")
    # Without quotes the writer would leave a carriage return bare.
    options: dict[str, Any] = {"quoting": csv.QUOTE_ALL, "lineterminator": "\n"}
    writer = csv.DictWriter(file, ["text", "über", ""], dialect="excel-tab", **options)
    writer.writeheader()
    writer.writerows(rows)
    return file.getvalue().encode()


def as_parquet(rows: Rows) -> bytes:
    fields = [(name, pa.string()) for name in ("text", "über", "")]
    file = io.BytesIO()
    pq.write_table(pa.Table.from_pylist(list(rows), pa.schema(fields)), file)
    return file.getvalue()


WRITE: dict[str, Callable[[Rows], bytes]] = {
    "x.jsonl": as_jsonl,
    "x.NDJSON": as_jsonl,
    "x.json": as_json,
    "wrapped.json": as_wrapped_json,
    "lines.json": as_jsonl,
    "x.csv": as_csv,
    "x.tsv": as_tsv,
}
words = st.text(st.characters(exclude_categories=["Cs"], exclude_characters="\0"), max_size=20)
row_lists = st.lists(
    st.fixed_dictionaries({"text": words, "über": words, "": words}), min_size=1, max_size=8
)


@pytest.mark.parametrize("name", WRITE)
@given(rows=row_lists, suffix=st.sampled_from(list(PACK)))
@settings(deadline=None, max_examples=40)
def test_rows_written_in_any_format_come_back_equal_and_in_order(
    name: str, rows: list[dict[str, str]], suffix: str
) -> None:
    expected: list[dict[str, Any]] = [dict(row) for row in rows]
    if table_format(name) == "csv":
        expected = [{key: text or None for key, text in row.items()} for row in rows]
    assert values(PACK[suffix](WRITE[name](rows)), name + suffix) == expected


@given(rows=row_lists, suffix=st.sampled_from(list(PACK)))
@settings(deadline=None, max_examples=40)
def test_rows_written_as_parquet_come_back_equal_and_in_order(
    tmp_path_factory: pytest.TempPathFactory, rows: list[dict[str, str]], suffix: str
) -> None:
    path = tmp_path_factory.mktemp("p") / f"x.parquet{suffix}"
    path.write_bytes(PACK[suffix](as_parquet(rows)))
    found = read_file(path)
    assert told(found) == [(f"row {number}", row) for number, row in enumerate(rows, 1)]


@pytest.mark.parametrize("name", [*WRITE, "x.parquet.gz"])
def test_only_the_wanted_columns_are_read(name: str) -> None:
    data = {**WRITE, "x.parquet.gz": lambda rows: gzip.compress(as_parquet(rows))}[name](
        [{"text": "a", "über": "b", "": "c"}]
    )
    assert values(data, name, {"text", "other"}) == [{"text": "a"}]


@pytest.mark.parametrize("name", WRITE)
def test_the_columns_of_a_table_are_told_by_its_first_row(name: str) -> None:
    data = WRITE[name]([{"text": "a", "über": "b", "": "c"}] * 2)
    found = column_names(lambda: io.BytesIO(data), lambda: pytest.fail("asked"), name)
    assert found == ["text", "über", ""]


@pytest.mark.parametrize("name", ["x.jsonl", "x.json", "x.csv", "x.tsv"])
@pytest.mark.parametrize("data", [b"", b"\n", b"\xef\xbb\xbf", b"\r\n\r\n"])
def test_an_empty_file_has_no_rows(name: str, data: bytes) -> None:
    assert read(data, name) == []
    assert column_names(lambda: io.BytesIO(data), Path, name) == []


def test_a_file_that_is_no_table_is_refused_with_what_is_known() -> None:
    with pytest.raises(PipelineError, match=r"x\.txt is no table.*\.parquet"):
        read(b"", "x.txt")


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
    monkeypatch.setattr(tables, "LARGEST_ROW", 2**20)
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


@pytest.mark.parametrize("name", ["x.jsonl", "x.json", "x.csv", "x.tsv"])
@pytest.mark.parametrize("encoding", ["utf-16", "utf-16-be"])
def test_utf_16_is_told_of_by_name(name: str, encoding: str) -> None:
    mark = "\ufeff" if encoding.endswith("be") else ""
    with pytest.raises(PipelineError, match=r"text in UTF-16\. Save it as UTF-8"):
        read((mark + '{"a": "b"}\n1\n').encode(encoding), name)


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
    monkeypatch.setattr(tables, "_PIECE", piece)
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
        patch.setattr(tables, "_PIECE", piece)
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


# --- CSV --------------------------------------------------------------------------------------


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
    monkeypatch.setattr(tables, "LARGEST_ROW", 2**20)
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


# --- Parquet ----------------------------------------------------------------------------------


def write_parquet(path: Path, columns: dict[str, Any], **options: Any) -> Path:
    pq.write_table(pa.table(columns), path, write_page_checksum=True, **options)
    return path


def test_parquet_keeps_nulls_and_nested_values(tmp_path: Path) -> None:
    chat = [{"role": "user", "content": None}]
    path = write_parquet(tmp_path / "x.parquet", {"messages": [chat, None], "text": [None, "a"]})
    assert told(read_file(path, ["messages", "text"])) == [
        ("row 1", {"messages": chat, "text": None}),
        ("row 2", {"messages": None, "text": "a"}),
    ]


def test_a_column_with_a_dot_in_its_name_brings_no_other_with_it(tmp_path: Path) -> None:
    path = write_parquet(tmp_path / "x.parquet", {"a.b": ["x"], "a": [{"b": "y"}]})
    assert told(read_file(path, ["a.b"])) == [("row 1", {"a.b": "x"})]


def test_parquet_with_two_columns_of_one_name_is_refused(tmp_path: Path) -> None:
    columns = pa.Table.from_arrays([pa.array(["a"]), pa.array(["b"])], ["text", "text"])
    pq.write_table(columns, tmp_path / "x.parquet")
    with pytest.raises(PipelineError, match=r"x\.parquet has two columns 'text'"):
        read_file(tmp_path / "x.parquet")


def test_text_in_parquet_that_is_no_utf_8_is_a_bad_row(tmp_path: Path) -> None:
    raw = pa.array([b"good", b"\xff\xfe", b"good too"])
    text = pa.Array.from_buffers(pa.string(), 3, raw.buffers())
    path = write_parquet(tmp_path / "x.parquet", {"text": text})
    good, bad, last = read_file(path)
    assert (good, last) == (Row(1, {"text": "good"}, "row"), Row(3, {"text": "good too"}, "row"))
    assert isinstance(bad, BadRow)
    assert (bad.where, "cannot be read" in bad.reason) == ("row 2", True)


def test_a_flipped_byte_in_parquet_is_an_error_that_names_the_last_good_row(
    tmp_path: Path,
) -> None:
    texts = [f"text number {number} " * 20 for number in range(2000)]
    path = write_parquet(
        tmp_path / "x.parquet", {"text": texts}, compression="none", use_dictionary=False
    )
    data = bytearray(path.read_bytes())
    data[data.rindex(b"text number 1999 ")] ^= 1
    path.write_bytes(data)
    with pytest.raises(PipelineError, match=r"x\.parquet cannot be read as Parquet.*[Cc][Rr][Cc]"):
        read_file(path)


@pytest.mark.parametrize("data", [b"", b"PAR1", b"<html>", b"PAR1" + bytes(100) + b"PAR1"])
def test_what_is_no_parquet_is_refused(tmp_path: Path, data: bytes) -> None:
    (tmp_path / "x.parquet").write_bytes(data)
    with pytest.raises(PipelineError, match=r"x\.parquet cannot be read as Parquet: "):
        read_file(tmp_path / "x.parquet")


def test_a_parquet_file_that_is_not_there_is_named(tmp_path: Path) -> None:
    with pytest.raises(PipelineError, match=r"x\.parquet is not there"):
        read_file(tmp_path / "x.parquet")


# --- anything at all --------------------------------------------------------------------------


def spoil(data: bytes, edits: list[tuple[int, bytes]]) -> bytes:
    for at, piece in edits:
        at %= len(data) + 1
        data = data[:at] + piece + data[at + len(piece) // 2 :]
    return data


edit_lists = st.lists(st.tuples(st.integers(0, 10**6), st.binary(max_size=6)), max_size=4)


@pytest.mark.parametrize("name", WRITE)
@given(edits=edit_lists, suffix=st.sampled_from(list(PACK)), outside=st.booleans())
@settings(deadline=None, max_examples=80)
def test_spoilt_bytes_give_bad_rows_or_a_sentence(
    name: str, edits: list[tuple[int, bytes]], suffix: str, outside: bool
) -> None:
    data = WRITE[name]([{"text": f'a, "{n}"\n', "über": "é;\t", "": "x"} for n in range(5)])
    data = spoil(PACK[suffix](data), edits) if outside else PACK[suffix](spoil(data, edits))
    try:
        rows = read(data, name + suffix)
    except PipelineError as error:
        assert name in error.message
        assert "\n" not in error.message
    else:
        assert all(isinstance(row, Row | BadRow) for row in rows)
        assert [row.place for row in rows] == sorted({row.place for row in rows})


@given(edits=edit_lists)
@settings(deadline=None, max_examples=100)
def test_spoilt_parquet_gives_bad_rows_or_a_sentence(edits: list[tuple[int, bytes]]) -> None:
    data = spoil(as_parquet([{"text": f"text {n}", "über": "é"} for n in range(5)]), edits)
    try:
        rows = read(gzip.compress(data), "x.parquet.gz")
    except PipelineError as error:
        assert "x.parquet.gz" in error.message
    else:
        assert all(isinstance(row, Row | BadRow) for row in rows)


# --- endless ----------------------------------------------------------------------------------


class Members(io.RawIOBase):
    """A gzip file of the same member many times over, made as it is read."""

    def __init__(self, member: bytes, count: int, tail: bytes = b"") -> None:
        super().__init__()
        self._member = member
        self._left = [tail, *([member] * count)]
        self._now = memoryview(b"")

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: Any) -> int:
        while not self._now and self._left:
            self._now = memoryview(self._left.pop())
        count = min(len(buffer), len(self._now))
        buffer[:count] = self._now[:count]
        self._now = self._now[count:]
        return count


ROWS_A_MEMBER = 256  # of 64 kB each: 16 MB


@pytest.mark.slow
@pytest.mark.parametrize("cut", [False, True])
def test_two_gigabytes_of_rows_are_read_in_the_memory_of_a_few(cut: bool) -> None:
    row = json.dumps({"id": 7, "text": "It was a dark and stormy night. " * 2000}).encode() + b"\n"
    member = gzip.compress(row * ROWS_A_MEMBER, 6)
    tail = member[: len(member) // 2] if cut else b""
    source = Members(member, 128, tail)
    rows = read_rows(
        lambda: decompressed(source, "x.jsonl.gz"),  # type: ignore[arg-type]
        Path,
        "x.jsonl",
    )
    last: Row | BadRow | None = None
    tracemalloc.start()
    try:
        if cut:
            with pytest.raises(DamagedFile, match=r"x\.jsonl\.gz is damaged after line \d+: .*cut"):
                for item in rows:
                    last = item
        else:
            for item in rows:
                last = item
        assert tracemalloc.get_traced_memory()[1] < 8 * 2**20
    finally:
        tracemalloc.stop()
    assert isinstance(last, Row)
    if cut:
        assert 128 * ROWS_A_MEMBER < last.place < 129 * ROWS_A_MEMBER
    else:
        assert last.place * len(row) >= 2 * 10**9

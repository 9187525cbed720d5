"""Rows out of tables: what was written comes back, and what is broken is named by its place."""

import gzip
import io
import json
import tracemalloc
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pipeline.corpus.compression import DamagedFile, decompressed
from pipeline.corpus.tables import BadRow, Row, column_names, read_rows, table_format
from pipeline.errors import PipelineError
from tests.corpus.table_files import (
    PACK,
    WRITE,
    as_parquet,
    read,
    read_file,
    row_lists,
    told,
    values,
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


@pytest.mark.parametrize("name", ["x.jsonl", "x.json", "x.csv", "x.tsv"])
@pytest.mark.parametrize("encoding", ["utf-16", "utf-16-be"])
def test_utf_16_is_told_of_by_name(name: str, encoding: str) -> None:
    mark = "\ufeff" if encoding.endswith("be") else ""
    with pytest.raises(PipelineError, match=r"text in UTF-16\. Save it as UTF-8"):
        read((mark + '{"a": "b"}\n1\n').encode(encoding), name)


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
def test_half_a_gigabyte_of_rows_is_read_in_the_memory_of_a_few(cut: bool) -> None:
    row = json.dumps({"id": 7, "text": "It was a dark and stormy night. " * 2000}).encode() + b"\n"
    member = gzip.compress(row * ROWS_A_MEMBER, 6)
    tail = member[: len(member) // 2] if cut else b""
    source = Members(member, 32, tail)
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
        assert 32 * ROWS_A_MEMBER < last.place < 33 * ROWS_A_MEMBER
    else:
        assert last.place * len(row) >= 5 * 10**8

"""Rows out of Parquet: nothing is lost, and what is damaged is told of."""

from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from pipeline.corpus.tables import BadRow, Row
from pipeline.errors import PipelineError
from tests.corpus.table_files import read_file, told


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

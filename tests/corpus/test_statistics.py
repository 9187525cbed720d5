"""Sizes of chunks and documents: exact figures, read in a stream."""

import statistics
from itertools import pairwise
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pipeline.corpus.statistics import (
    Distribution,
    columns_of,
    parquet_files,
    read_parts,
)
from pipeline.errors import PipelineError

NUMBERS = st.lists(st.integers(0, 20_000), min_size=1, max_size=60)


@given(NUMBERS)
@settings(max_examples=100)
def test_the_figures_are_those_of_the_numbers(numbers: list[int]) -> None:
    found = Distribution(numbers)
    assert (found.count, found.total) == (len(numbers), sum(numbers))
    assert (found.minimum, found.maximum) == (min(numbers), max(numbers))
    assert found.mean == pytest.approx(statistics.fmean(numbers))
    assert found.median == statistics.median(numbers)
    assert found.below(5000) == sum(number < 5000 for number in numbers)
    assert found.values() == sorted(numbers)


@given(NUMBERS, st.integers(1, 20))
@settings(max_examples=100)
def test_every_number_is_in_one_bin_and_bins_are_few_round_and_without_gaps(
    numbers: list[int], most: int
) -> None:
    bins = Distribution(numbers).bins(most)
    assert len(bins) <= most
    for first, last, count in bins:
        assert count == sum(first <= number <= last for number in numbers)
    assert sum(count for *_, count in bins) == len(numbers)
    assert all(a[1] + 1 == b[0] for a, b in pairwise(bins))
    (width,) = {last - first + 1 for first, last, _ in bins}
    assert str(width).rstrip("0") in ("1", "2", "5")


def test_nothing_has_figures_of_nothing() -> None:
    assert Distribution().as_dict() == {
        "count": 0, "min": 0, "mean": 0.0, "median": 0.0, "max": 0, "total": 0,
    }  # fmt: skip
    assert Distribution().bins() == []


def table(path: Path, rows: list[dict[str, Any]]) -> Path:
    path.parent.mkdir(exist_ok=True, parents=True)
    pq.write_table(pa.Table.from_pylist(rows), path)
    return path


def rows_of(name: str, texts: list[str], first: int = 0, **more: Any) -> list[dict[str, Any]]:
    start = 0
    rows = []
    for number, text in enumerate(texts, first):
        rows.append(
            {"text": text, "document_id": name, "chunk": number, "char_start": start, **more}
        )
        start += len(text)
    return rows


def test_rows_of_a_document_are_one_part_and_training_comes_first(tmp_path: Path) -> None:
    table(tmp_path / "validation-0.parquet", rows_of("c", ["five"]))
    table(tmp_path / "train-0.parquet", rows_of("a", ["one", "two"]) + rows_of("b", ["three"]))
    parts = list(read_parts(parquet_files(tmp_path)))
    assert [(p.document_id, p.split, p.text) for p in parts] == [
        ("a", "train", "onetwo"), ("b", "train", "three"), ("c", "validation", "five"),
    ]  # fmt: skip
    assert (parts[0].chunks, parts[0].starts, parts[0].sizes) == ([0, 1], [0, 3], [3, 3])


def test_a_document_that_goes_on_in_another_file_is_one_part(tmp_path: Path) -> None:
    table(tmp_path / "train-0.parquet", rows_of("a", ["one", "two"]))
    table(tmp_path / "train-1.parquet", rows_of("a", ["three"], first=2))
    (part,) = read_parts(parquet_files(tmp_path))
    assert part.text == "onetwothree"


def test_what_a_chunk_repeats_of_the_one_before_counts_once(tmp_path: Path) -> None:
    rows = rows_of("a", ["The house fell.", "fell. Rain.", "Rain. Night."])
    overlaps = [0, 5, 5]
    starts = [0, 10, 16]
    rows = [
        row | {"overlap": overlap, "char_start": start}
        for row, overlap, start in zip(rows, overlaps, starts, strict=True)
    ]
    (part,) = read_parts([table(tmp_path / "train.parquet", rows)])
    assert part.text == "The house fell. Rain. Night."
    assert part.sizes == [15, 6, 7]
    assert part.starts == [0, 15, 21]


def test_rows_of_a_foreign_file_are_documents(tmp_path: Path) -> None:
    one = table(tmp_path / "a.parquet", [{"text": "one"}, {"text": "two"}])
    two = table(tmp_path / "b.parquet", [{"text": "three", "id": 7, "weight": 70.5}])
    parts = list(read_parts([one, two]))
    assert [(p.document_id, p.text) for p in parts] == [("1", "one"), ("2", "two"), ("7", "three")]
    assert parts[2].about["weight"] is None, "somebody's kilograms"


def test_columns_of_other_kinds_than_ours_count_as_not_there(tmp_path: Path) -> None:
    row = {"text": "one", "chunk": "i", "tokens": [1, 2], "authors": "A. Writer", "title": 1984}
    (part,) = read_parts([table(tmp_path / "a.parquet", [row])])
    assert (part.chunks, part.tokens) == ([0], [None])
    assert part.about["title"] is None
    assert part.about["authors"] == ["A. Writer"]


def test_a_row_without_text_is_named(tmp_path: Path) -> None:
    path = table(tmp_path / "a.parquet", [{"text": "one"}, {"text": None}])
    with pytest.raises(PipelineError, match=r"a\.parquet has a row without text \(row 2\)"):
        list(read_parts([path]))


def test_hidden_files_are_not_looked_at(tmp_path: Path) -> None:
    seen = table(tmp_path / "data" / "train.parquet", [{"text": "one"}])
    table(tmp_path / ".tmp-train.parquet", [{"text": "one"}])
    table(tmp_path / ".cache" / "x.parquet", [{"text": "one"}])
    assert parquet_files(tmp_path) == [seen]
    assert parquet_files(seen) == [seen]


def test_a_place_without_parquet_says_so(tmp_path: Path) -> None:
    with pytest.raises(PipelineError, match="no Parquet files"):
        parquet_files(tmp_path)
    with pytest.raises(PipelineError, match="is not there"):
        parquet_files(tmp_path / "none")


def test_columns_and_rows_come_from_the_footer(tmp_path: Path) -> None:
    path = table(tmp_path / "a.parquet", [{"text": "one", "id": 1}, {"text": "two", "id": 2}])
    assert columns_of(path) == (["text", "id"], 2)
    path.write_bytes(path.read_bytes()[:-9])
    with pytest.raises(PipelineError, match="cannot be read as Parquet"):
        columns_of(path)


def test_what_is_no_parquet_file_is_not_called_damaged(tmp_path: Path) -> None:
    text = tmp_path / "tale.txt"
    text.write_text("It was late.")
    with pytest.raises(PipelineError, match=r"tale\.txt is no Parquet file") as raised:
        parquet_files(text)
    assert "acquire --source" in str(raised.value.hint)
    unnamed = tmp_path / "chunks"
    unnamed.write_bytes(b"PAR1 and so on")
    assert parquet_files(unnamed) == [unnamed], "a name says little"

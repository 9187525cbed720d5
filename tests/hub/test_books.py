"""The table of books: one row each, whatever is known of it."""

from io import BytesIO
from typing import Any

import pyarrow.parquet as pq

from pipeline.hub.books import books_parquet

ROW = {
    "document_id": "84", "title": "Frankenstein", "authors": ["Mary Shelley"], "language": "en",
    "rights": "public domain in the USA", "source": "https://example.org/84.txt", "weight": 0.5,
    "work": "84", "split": "train", "characters": 430_000, "chunks": 64, "tokens": None,
    "characters_in": 448_000, "removed": 18_000, "by_hand": 0, "train": 430_000, "validation": 0,
}  # fmt: skip


def read(*rows: dict[str, Any]) -> list[dict[str, Any]]:
    found: list[dict[str, Any]] = pq.read_table(BytesIO(books_parquet(rows))).to_pylist()
    return found


def test_a_row_says_what_is_known_and_has_no_text() -> None:
    (row,) = read(ROW | {"text": "You will rejoice to hear"})
    assert row.items() >= ROW.items()
    assert row["kind"] == "text"
    assert "text" not in row


def test_what_is_missing_or_makes_no_sense_is_unknown() -> None:
    bare, odd = read({"document_id": 7}, {"document_id": "x", "removed": {"a": 1}, "title": 1984})
    assert bare["document_id"] == "7"
    assert bare["authors"] == []
    assert {bare["title"], bare["characters"], bare["weight"]} == {None}
    assert (odd["removed"], odd["title"]) == (None, None)


def test_records_are_told_from_texts() -> None:
    (row,) = read({"document_id": "qa", "kind": "completion", "records": 200})
    assert (row["kind"], row["records"]) == ("completion", 200)


def test_equal_rows_give_equal_bytes() -> None:
    assert books_parquet([ROW]) == books_parquet([dict(reversed(ROW.items()))])

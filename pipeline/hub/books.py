"""The table of books in a dataset repository: one row each, about the text and without it."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from io import BytesIO
from typing import Any

BOOKS_FILE = "books/books.parquet"
MOST_BOOKS_SHOWN = 500
FIRST_BOOKS = 100  # so many are shown where there are more than that
TEXT = "text"  # the kind of what is no file of records

_TEXTS = ("title", "language", "rights", "source", "collection", "work", "split", "sha256")
_NUMBERS = (
    "characters", "chunks", "records", "tokens", "train", "validation", "characters_in", "removed",
    "by_hand", "segment",
)  # fmt: skip


@dataclass(frozen=True)
class Book:
    """A row of the table of books: a text, or a file of records (`kind` says of which).

    `source` is shown as a link if it is a plain http(s) address.
    """

    id: str
    title: str | None = None
    authors: Sequence[str] = ()
    language: str | None = None
    source: str | None = None
    rights: str | None = None
    characters: int = 0
    chunks: int = 0
    split: str = "train"
    kind: str = TEXT
    records: int = 0


def books_schema() -> Any:
    """The pyarrow schema of a row; all but the id and the kind may be unknown.

    `kind` is `text`, or that of the records. `train` and `validation` are characters on each side,
    `characters_in` and `removed` those of the source, `by_hand` what a person added. `segment` is
    the number of the segment of a series, by which training goes.
    """
    import pyarrow as pa

    return pa.schema(
        [
            ("document_id", pa.string()),
            ("kind", pa.string()),
            ("authors", pa.list_(pa.string())),
            *((name, pa.string()) for name in _TEXTS),
            *((name, pa.int64()) for name in _NUMBERS),
            ("weight", pa.float64()),
        ]
    )


def books_parquet(rows: Iterable[Mapping[str, Any]]) -> bytes:
    """The rows of `documents.jsonl` as a Parquet file. Equal rows give equal bytes.

    A field that is missing, or of a kind that it cannot have, is unknown.
    """
    import pyarrow as pa
    import pyarrow.parquet as pq

    table = pa.Table.from_pylist([_row(row) for row in rows], schema=books_schema())
    buffer = BytesIO()
    pq.write_table(
        table, buffer, compression="zstd", compression_level=3, use_content_defined_chunking=True
    )
    return buffer.getvalue()


def _row(row: Mapping[str, Any]) -> dict[str, Any]:
    weight = row.get("weight")
    return {
        "document_id": str(row.get("document_id")),
        "kind": str(row.get("kind") or TEXT),
        "authors": [str(author) for author in row.get("authors") or []],
        **{name: value if isinstance(value := row.get(name), str) else None for name in _TEXTS},
        **{name: value if type(value := row.get(name)) is int else None for name in _NUMBERS},
        "weight": float(weight) if isinstance(weight, int | float) else None,
    }

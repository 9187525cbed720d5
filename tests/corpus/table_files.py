"""Tables as tests write them, and what is read out of them."""

import bz2
import csv
import gzip
import io
import json
import lzma
from collections.abc import Callable, Collection, Sequence
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import strategies as st

from pipeline.corpus.tables import BadRow, Row, read_rows

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

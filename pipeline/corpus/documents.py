"""Documents read back from Parquet: our own shards, or anybody's file with a column `text`."""

import math
import re
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from pipeline.errors import PipelineError

_HELD_OUT = {"validation", "valid", "val", "dev", "eval", "test"}
_DESCRIPTIVE = ("title", "authors", "language", "source")
_SOURCE = ("collection", "weight")
_READ_ROWS = 64  # rows per batch: half a megabyte of chunks


@dataclass(frozen=True)
class Document:
    """A document, or a run of its chunks: then `char_start` is where in the document it begins.

    `collection` names the source of text that it came from, and `weight` is that source's share of
    the trained tokens: 0 is for evaluation only, None is not weighted. All editions of one work
    have the same `work`, where that is known.
    """

    id: str
    text: str
    title: str | None = None
    authors: tuple[str, ...] = ()
    language: str | None = None
    source: str | None = None
    char_start: int = 0
    collection: str | None = None
    weight: float | None = None
    work: str | None = None


def find_splits(paths: Iterable[Path]) -> tuple[list[Path], list[Path]]:
    """Sort Parquet files into those to train on and those held out, by their names.

    Held out is what has `validation`, `valid`, `val`, `dev`, `eval` or `test` as a word of its
    name, such as `validation-00000-of-00001.parquet`, or as the name of its folder.
    """
    train: list[Path] = []
    held_out: list[Path] = []
    for path in sorted(paths):
        words = set(re.split(r"[^a-z]+", path.stem.lower()))
        words |= set() if "train" in words else {path.parent.name.lower()}
        (held_out if words & _HELD_OUT else train).append(path)
    return train, held_out


def read_documents(paths: Iterable[Path], *, null_is_empty: bool = False) -> Iterator[Document]:
    """Read the documents back from Parquet files, in order, each joined again from its chunks.

    Rows that continue each other (same document, next chunk, offsets that meet or overlap) are one
    Document. Where rows are missing in between, it ends, and what follows is one more Document of
    that id: text that was not side by side is never joined. Files without the columns
    `document_id`, `chunk` and `char_start` may be anybody's: each row is a document then, its id
    the column `document_id` or `id`, else the number of the row. `collection` and `weight` are read
    where both are there, as words and numbers: many a foreign table has a `weight` of its own.
    With `null_is_empty` a row that is no chunk and has no text is an empty document.

    Raises PipelineError naming the file: if it is missing, damaged or no Parquet, has no column
    `text` or a row without text, or has chunks of a document in the wrong order.
    """
    joined: _Join | None = None
    last_chunk: dict[str, int] = {}
    for number, (path, row) in enumerate(_rows(paths)):
        if row["text"] is None and null_is_empty and row.get("chunk") is None:
            row["text"] = ""
        if row["text"] is None:
            raise PipelineError(
                f"{path} has a row without text (row {number}).",
                "Remove the rows whose `text` is null.",
            )
        if joined and joined.add(row):
            continue
        if joined:
            yield joined.document()
            last_chunk[joined.id] = joined.last_chunk
            joined = None
        if row.get("chunk") is None:
            yield _document(row, str(row.get("document_id") or row.get("id") or number))
            continue
        joined = _Join(row)
        if row["chunk"] <= last_chunk.get(joined.id, -1):
            raise PipelineError(
                f"{path}: chunk {row['chunk']} of document {joined.id} comes after chunk "
                f"{last_chunk[joined.id]}.",
                "Sort the rows by document_id and chunk, or run the stage that wrote them again.",
            )
    if joined:
        yield joined.document()


class _Join:
    """Rows of one document that continue each other."""

    def __init__(self, row: dict[str, Any]) -> None:
        self.id = str(row["document_id"])
        self.last_chunk: int = row["chunk"]
        self._first = row
        self._texts = [row["text"]]
        self._end = _end(row)

    def add(self, row: dict[str, Any]) -> bool:
        """Take `row` if it is the next chunk; what it repeats of the chunk before is left out."""
        if row.get("chunk") != self.last_chunk + 1 or str(row["document_id"]) != self.id:
            return False
        overlap = self._end - row["char_start"]
        if overlap < 0:
            return False
        self._texts.append(row["text"][overlap:])
        self.last_chunk = row["chunk"]
        self._end = _end(row)
        return True

    def document(self) -> Document:
        """The document so far."""
        row = self._first | {"text": "".join(self._texts)}
        return _document(row, self.id)


def _end(row: dict[str, Any]) -> int:
    """Where in its document the chunk ends, as recorded: its text may have been edited since."""
    end = row.get("char_end")
    return int(row["char_start"] + len(row["text"]) if end is None else end)


def _document(row: dict[str, Any], document_id: str) -> Document:
    return Document(
        id=document_id,
        text=row["text"],
        title=row.get("title"),
        authors=tuple(row.get("authors") or ()),
        language=row.get("language"),
        source=row.get("source"),
        char_start=row.get("char_start") or 0,
        collection=row.get("collection"),
        weight=_number(row.get("weight")),
        work=row.get("work"),
    )


def _number(value: Any) -> float | None:
    """A number; None where there is none, which pandas writes as not-a-number."""
    return None if value is None or math.isnan(value) else float(value)


def _rows(paths: Iterable[Path]) -> Iterator[tuple[Path, dict[str, Any]]]:
    """Each row of each file with the columns that it has of those that are known."""
    import pyarrow as pa
    import pyarrow.parquet as pq

    for path in paths:
        try:
            with pq.ParquetFile(path, pre_buffer=False, page_checksum_verification=True) as file:
                columns = _columns(path, file.schema_arrow)
                for batch in file.iter_batches(_READ_ROWS, columns=columns):
                    for row in batch.to_pylist():
                        yield path, row
        except FileNotFoundError as error:
            raise PipelineError(f"{path} is not there.") from error
        except (pa.ArrowException, OSError) as error:
            reason = str(error).splitlines()[0].rstrip(".") if str(error) else type(error).__name__
            raise PipelineError(
                f"{path} cannot be read as Parquet: {reason}.",
                "It may be damaged: run the stage that wrote it again.",
            ) from error


def _columns(path: Path, schema: Any) -> list[str]:
    """Which columns to read; PipelineError if there is no text."""
    names: list[str] = schema.names
    kind = schema.field("text").type if "text" in names else None
    if kind is None or not _is_text(kind):
        what = "no column `text`" if kind is None else f"a column `text` of {kind}"
        raise PipelineError(
            f"{path} has {what}; its columns are: {', '.join(names) or 'none'}.",
            "Rename the column that holds the text to `text`.",
        )
    chunked = ("document_id", "chunk", "char_start")
    wanted = ["text", "document_id", *_DESCRIPTIVE]
    wanted += ["chunk", "char_start", "char_end"] if set(chunked) <= set(names) else ["id"]
    wanted += _SOURCE if _has_source(schema) else ()
    wanted += ["work"] if "work" in names and _is_text(schema.field("work").type) else []
    return [name for name in wanted if name in names]


def _has_source(schema: Any) -> bool:
    import pyarrow as pa

    if not set(_SOURCE) <= set(schema.names):
        return False
    collection, weight = (schema.field(name).type for name in _SOURCE)
    is_number = pa.types.is_floating(weight) or pa.types.is_integer(weight)
    return _is_text(collection) and (is_number or pa.types.is_null(weight))


def _is_text(kind: Any) -> bool:
    import pyarrow as pa

    if isinstance(kind, pa.DictionaryType):
        kind = kind.value_type
    return kind in (pa.string(), pa.large_string(), pa.string_view())

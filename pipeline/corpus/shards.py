"""The corpus as Parquet: one row per chunk, the chunks of a document in order, side by side.

Row groups end where a document ends, at a document chosen by a hash of its own id (a longer one
with a higher chance), and not at a running count. Dropping or adding a book therefore moves no
boundary but its own, and little of a dataset has to be sent again. `parquet_files` has the rest of
the layout.

Equal documents give equal bytes. Memory holds one row group: 8 MB of text on average, 64 at most.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

from pipeline.corpus.documents import Document, find_splits, read_documents
from pipeline.corpus.parquet_files import SHARD_BYTES, ParquetFiles, Writer
from pipeline.corpus.splits import chance
from pipeline.errors import PipelineError

__all__ = ["Chunk", "Document", "ShardWriter", "chunk_schema", "find_splits", "read_documents"]

ROW_GROUP_BYTES = 8_000_000  # of text, on average
MAX_ROW_GROUP_BYTES = 64_000_000  # of text


@dataclass(frozen=True)
class Chunk:
    """One row: a chunk and its place in its document, offsets in characters."""

    text: str
    document_id: str
    chunk: int
    char_start: int
    char_end: int
    is_last: bool
    title: str | None = None
    authors: Sequence[str] = ()
    language: str | None = None
    source: str | None = None
    collection: str | None = None  # the source of text that the document came from, by its name
    weight: float | None = None  # that source's share of the trained tokens; None: not weighted


@cache
def chunk_schema() -> Any:
    """The pyarrow schema of a chunk row."""
    import pyarrow as pa

    return pa.schema(
        [
            ("text", pa.string()),
            ("document_id", pa.string()),
            ("chunk", pa.int32()),
            ("char_start", pa.int64()),
            ("char_end", pa.int64()),
            ("is_last", pa.bool_()),
            ("title", pa.string()),
            ("authors", pa.list_(pa.string())),
            ("language", pa.string()),
            ("source", pa.string()),
            ("collection", pa.string()),
            ("weight", pa.float64()),
        ]
    )


class ShardWriter(Writer):
    """Writes documents as `SPLIT-00000-of-0000N.parquet` into an existing directory, in a stream.

        with ShardWriter(directory, "train") as writer:
            writer.write_document(chunks)
        writer.paths  # the finished files

    Named, kept apart and removed as `ParquetFiles` does it. No document, no file.
    """

    def __init__(
        self,
        directory: Path,
        split: str,
        *,
        shard_bytes: int = SHARD_BYTES,
        row_group_bytes: int = ROW_GROUP_BYTES,
    ) -> None:
        self._files = ParquetFiles(
            directory, split, chunk_schema(),
            dictionary=["document_id", "title", "authors.list.element", "language", "source",
                        "collection"],
            statistics=["document_id", "chunk", "char_start", "char_end", "language"],
            shard_bytes=shard_bytes,
        )  # fmt: skip
        self._row_group_bytes = row_group_bytes
        self._group: list[dict[str, Any]] = []
        self._group_bytes = 0

    @property
    def paths(self) -> list[Path]:
        """The finished files."""
        return self._files.paths

    @property
    def rows(self) -> int:
        """Rows in finished row groups."""
        return self._files.rows

    def write_document(self, chunks: Sequence[Chunk]) -> None:
        """Write the chunks of one document, or of a part of it.

        Raises PipelineError if they do not follow each other without a gap, or if their text holds
        lone surrogates, which no UTF-8 file can.
        """
        sizes = [
            _check(chunk, after) for after, chunk in zip([None, *chunks], chunks, strict=False)
        ]
        if self._group_bytes + sum(sizes) > MAX_ROW_GROUP_BYTES:
            self._end_group()
        for chunk, size in zip(chunks, sizes, strict=True):
            if self._group_bytes + size > MAX_ROW_GROUP_BYTES:
                self._end_group()
            self._group.append(vars(chunk))
            self._group_bytes += size
        if chunks and _ends_group(chunks[0].document_id, sum(sizes), self._row_group_bytes):
            self._end_group()

    def close(self) -> list[Path]:
        """Write what is left, give the shards their names, and return their paths."""
        self._end_group()
        return self._files.close()

    def discard(self) -> None:
        """Remove what was written."""
        self._group = []
        self._files.discard()

    def _end_group(self) -> None:
        """Write the rows gathered so far as one row group."""
        self._files.write_group(self._group, self._group_bytes)
        self._group = []
        self._group_bytes = 0


def _check(chunk: Chunk, after: Chunk | None) -> int:
    """The size of a chunk's text in bytes; PipelineError unless it continues `after`."""
    place = f"chunk {chunk.chunk} of document {chunk.document_id}"
    if len(chunk.text) != chunk.char_end - chunk.char_start or (
        after is not None
        and (after.document_id, after.chunk + 1, after.char_end)
        != (chunk.document_id, chunk.chunk, chunk.char_start)
    ):
        raise PipelineError(f"Text is missing or doubled at {place}.")
    try:
        return len(chunk.text.encode())
    except UnicodeEncodeError as error:
        raise PipelineError(
            f"The text holds half a character ({error.object[error.start]!a}) in {place}.",
            "Save the file as UTF-8 once more.",
        ) from error


def _ends_group(document_id: str, size: int, row_group_bytes: int) -> bool:
    """Whether a row group ends after this document: with chance `size / row_group_bytes`."""
    return chance(document_id.encode()) < size / row_group_bytes

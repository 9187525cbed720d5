"""The corpus as Parquet: one row per chunk, the chunks of a document in order, side by side.

Files are laid out for the Hugging Face Hub, where a file is stored as content-defined pieces and
only new pieces are sent:

- zstd level 3; a page index; page checksums, so that a flipped bit is an error and not a typo.
- Row groups end where a document ends, at a document chosen by a hash of its own id (a longer
  document with a higher chance), and not at a running count. Dropping or adding a book therefore
  moves no boundary but its own. Content-defined chunking does the same for pages inside a group.
- No minimum and maximum of the text column in the footer: they would be whole chunks.

Equal documents give equal bytes. Memory holds one row group: 8 MB of text on average, 64 at most.
"""

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from types import TracebackType
from typing import Any, BinaryIO

from pipeline.corpus.documents import Document, find_splits, read_documents
from pipeline.errors import PipelineError

__all__ = ["Chunk", "Document", "ShardWriter", "chunk_schema", "find_splits", "read_documents"]

SHARD_BYTES = 256_000_000
ROW_GROUP_BYTES = 8_000_000  # of text, on average
MAX_ROW_GROUP_BYTES = 64_000_000  # of text
_GROUP_OVERHEAD = 8_000  # bytes of a row group that are not text: headers, footer, index
_TEMPORARY_PREFIX = ".tmp-"


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
        ]
    )


class ShardWriter:
    """Writes documents as `SPLIT-00000-of-0000N.parquet` into an existing directory, in a stream.

        with ShardWriter(directory, "train") as writer:
            writer.write_document(chunks)
        writer.paths  # the finished files

    N is known at the end only, so shards have temporary names until then; if the block fails they
    are removed. A shard is at most `shard_bytes` long, as long as no single row group is longer.
    No document, no file.
    """

    def __init__(
        self,
        directory: Path,
        split: str,
        *,
        shard_bytes: int = SHARD_BYTES,
        row_group_bytes: int = ROW_GROUP_BYTES,
    ) -> None:
        self.paths: list[Path] = []
        self.rows = 0
        self._directory = directory
        self._split = split
        self._shard_bytes = shard_bytes
        self._row_group_bytes = row_group_bytes
        self._temporary: list[Path] = []
        self._file: BinaryIO | None = None
        self._parquet: Any = None
        self._groups = 0  # in this shard
        self._group: list[dict[str, Any]] = []
        self._group_bytes = 0

    def __enter__(self) -> "ShardWriter":
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        if kind is None:
            self.close()
        else:
            self.discard()

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
        self._end_shard()
        count = len(self._temporary)
        for number, temporary in enumerate(self._temporary):
            final = self._directory / f"{self._split}-{number:05}-of-{count:05}.parquet"
            self.paths.append(temporary.replace(final))
        self._temporary = []
        return self.paths

    def discard(self) -> None:
        """Remove what was written."""
        self._group = []
        try:
            self._end_shard()
        finally:
            for temporary in self._temporary:
                temporary.unlink(missing_ok=True)
            self._temporary = []

    def _end_group(self) -> None:
        """Write the rows gathered so far as one row group."""
        if not self._group:
            return
        import pyarrow as pa

        overhead = (self._groups + 1) * _GROUP_OVERHEAD
        if self._file and self._file.tell() + self._group_bytes + overhead > self._shard_bytes:
            self._end_shard()
        if self._parquet is None:
            self._begin_shard()
        table = pa.Table.from_pylist(self._group, schema=chunk_schema())
        self._parquet.write_table(table, row_group_size=len(self._group))
        self.rows += len(self._group)
        self._groups += 1
        self._group = []
        self._group_bytes = 0

    def _begin_shard(self) -> None:
        import pyarrow.parquet as pq

        name = f"{_TEMPORARY_PREFIX}{self._split}-{len(self._temporary):05}.parquet"
        path = self._directory / name
        self._temporary.append(path)
        self._groups = 0
        self._file = path.open("wb")
        self._parquet = pq.ParquetWriter(
            self._file,
            chunk_schema(),
            compression="zstd",
            compression_level=3,
            use_dictionary=["document_id", "title", "authors.list.element", "language", "source"],
            write_statistics=["document_id", "chunk", "char_start", "char_end", "language"],
            write_page_index=True,
            write_page_checksum=True,
            use_content_defined_chunking=True,
        )

    def _end_shard(self) -> None:
        parquet, file = self._parquet, self._file
        self._parquet = self._file = None
        try:
            if parquet is not None:
                parquet.close()
        finally:
            if file is not None:
                file.close()


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
    digest = hashlib.sha256(document_id.encode()).digest()
    return int.from_bytes(digest[:8], "big") / 2**64 < size / row_group_bytes

"""Parquet files written in a stream, laid out for the Hugging Face Hub.

A file is stored there as content-defined pieces, and only new pieces are sent:

- zstd level 3; a page index; page checksums, so that a flipped bit is an error and not a typo.
- The caller says where a row group ends; content-defined chunking does the same for pages.
- Minimum and maximum only of columns that are named: those of a text column would be whole texts.

Equal rows in equal groups give equal bytes.
"""

from pathlib import Path
from types import TracebackType
from typing import Any, BinaryIO, Self

SHARD_BYTES = 256_000_000
_GROUP_OVERHEAD = 8_000  # bytes of a row group that are not rows: headers, footer, index
_TEMPORARY_PREFIX = ".tmp-"


class Writer:
    """Something that is written in a `with` block: closed when it ends well, else discarded."""

    def close(self) -> list[Path]:
        """Finish what was written, and return the paths of the files."""
        raise NotImplementedError

    def discard(self) -> None:
        """Remove what was written."""
        raise NotImplementedError

    def __enter__(self) -> Self:
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


class ParquetFiles(Writer):
    """Writes row groups as `STEM-00000-of-0000N.parquet` into an existing directory.

    N is known at the end only, so shards have temporary names until then; if the `with` block
    fails they are removed. A shard is at most `shard_bytes` long, as long as no single row group
    is longer. No row, no file.
    """

    def __init__(
        self,
        directory: Path,
        stem: str,
        schema: Any,
        *,
        dictionary: list[str],
        statistics: list[str],
        shard_bytes: int = SHARD_BYTES,
    ) -> None:
        self.paths: list[Path] = []
        self.rows = 0
        self._directory = directory
        self._stem = stem
        self._schema = schema
        self._dictionary = dictionary
        self._statistics = statistics
        self._shard_bytes = shard_bytes
        self._temporary: list[Path] = []
        self._file: BinaryIO | None = None
        self._parquet: Any = None
        self._groups = 0  # in this shard

    def write_group(self, rows: list[dict[str, Any]], size: int) -> None:
        """Write rows, of `size` bytes before compression, as one row group."""
        if rows:
            import pyarrow as pa

            self.write_table(pa.Table.from_pylist(rows, schema=self._schema), size)

    def write_table(self, table: Any, size: int) -> None:
        """Write a table of this schema, of `size` bytes before compression, as one row group."""
        overhead = (self._groups + 1) * _GROUP_OVERHEAD
        if self._file and self._file.tell() + size + overhead > self._shard_bytes:
            self._end_shard()
        if self._parquet is None:
            self._begin_shard()
        self._parquet.write_table(table, row_group_size=table.num_rows)
        self.rows += table.num_rows
        self._groups += 1

    def close(self) -> list[Path]:
        """Give the shards their names, and return their paths."""
        self._end_shard()
        count = len(self._temporary)
        for number, temporary in enumerate(self._temporary):
            final = self._directory / f"{self._stem}-{number:05}-of-{count:05}.parquet"
            self.paths.append(temporary.replace(final))
        self._temporary = []
        return self.paths

    def discard(self) -> None:
        """Remove what was written."""
        try:
            self._end_shard()
        finally:
            for temporary in self._temporary:
                temporary.unlink(missing_ok=True)
            self._temporary = []

    def _begin_shard(self) -> None:
        import pyarrow.parquet as pq

        name = f"{_TEMPORARY_PREFIX}{self._stem}-{len(self._temporary):05}.parquet"
        path = self._directory / name
        self._temporary.append(path)
        self._groups = 0
        self._file = path.open("wb")
        self._parquet = pq.ParquetWriter(
            self._file,
            self._schema,
            compression="zstd",
            compression_level=3,
            use_dictionary=self._dictionary,
            write_statistics=self._statistics,
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

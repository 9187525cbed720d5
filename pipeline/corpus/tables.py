"""Rows out of tables: JSON lines, JSON, CSV, TSV and Parquet, plain or compressed, in a stream.

A row that cannot be read is yielded as a BadRow and the reading goes on after it; only what makes
the rest unreadable is an error. Memory holds a row, or a few of Parquet, whatever the file's size.
"""

import io
from collections.abc import Callable, Collection, Generator
from pathlib import Path, PurePosixPath
from typing import BinaryIO, cast

from pipeline.corpus import table_rows
from pipeline.corpus.compression import DamagedFile, decompressed, plain_name
from pipeline.corpus.table_csv import read_csv
from pipeline.corpus.table_json import read_json, read_jsonl
from pipeline.corpus.table_parquet import read_parquet
from pipeline.corpus.table_rows import BadRow, OpenStream, Row, first_line
from pipeline.errors import PipelineError

__all__ = ["FORMATS", "BadRow", "OpenStream", "Row", "column_names", "read_rows", "table_format"]

FORMATS = {
    ".jsonl": "jsonl",
    ".ndjson": "jsonl",
    ".json": "json",
    ".csv": "csv",
    ".tsv": "csv",
    ".parquet": "parquet",
}


def table_format(name: str) -> str | None:
    """The format of a file by its name, one of the values of FORMATS; None if it is no table."""
    return FORMATS.get(PurePosixPath(plain_name(name)).suffix.lower())


def read_rows(
    open_stream: OpenStream,
    local_path: Callable[[], Path],
    name: str,
    columns: Collection[str] | None = None,
) -> Generator[Row | BadRow]:
    """The rows of the table `name` in order, without those columns that are not in `columns`.

    `open_stream` opens the file's bytes as they are stored (it is unpacked here if its name says
    that it is compressed) and may be called more than once. `local_path` is called for Parquet
    only, which cannot be read from a stream. Cells of CSV are text, empty ones None; a column
    without a value is None in Parquet and may be missing in JSON.

    Raises PipelineError naming the file, and the place where there is one, if it cannot be read,
    is damaged or cut off, or is no table.
    """
    kind = table_format(name)
    if kind is None:
        raise PipelineError(
            f"{name} is no table that can be read.", f"Known are {', '.join(FORMATS)}."
        )
    last: Row | BadRow | None = None
    try:
        if kind == "parquet":
            rows = read_parquet(open_stream, local_path, name, columns)
        else:
            reader = {"jsonl": read_jsonl, "json": read_json, "csv": read_csv}[kind]
            rows = reader(lambda: _buffered(decompressed(open_stream(), name)), name, columns)
        for last in rows:
            yield last
    except DamagedFile as error:
        raise DamagedFile(error.name, error.reason, last.where if last else None) from error
    except OSError as error:
        raise PipelineError(f"{name} cannot be read: {first_line(error)}.") from error


def column_names(open_stream: OpenStream, local_path: Callable[[], Path], name: str) -> list[str]:
    """The columns of a table, by its first good row; none if it has no row.

    Raises PipelineError as `read_rows` does.
    """
    rows = read_rows(open_stream, local_path, name)
    return next((list(row.value) for row in rows if isinstance(row, Row)), [])


def _buffered(stream: BinaryIO) -> BinaryIO:
    """`stream` with a `readline` that can be given a limit, which fsspec's files have not."""
    if isinstance(stream, io.BufferedIOBase):
        return stream
    return cast(BinaryIO, io.BufferedReader(cast(io.RawIOBase, stream), table_rows.PIECE))

"""Rows out of Parquet."""

import shutil
import tempfile
from collections.abc import Callable, Collection, Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any

from pipeline.corpus.compression import decompressed, plain_name
from pipeline.corpus.table_rows import BadRow, OpenStream, Row, check_columns, first_line
from pipeline.errors import PipelineError

_PARQUET_ROWS = 64  # a book may be a megabyte


def read_parquet(
    open_stream: OpenStream,
    local_path: Callable[[], Path],
    name: str,
    columns: Collection[str] | None,
) -> Iterator[Row | BadRow]:
    """The rows of a Parquet file, a few in memory at a time; as `read_rows` of `tables`."""
    import pyarrow as pa
    import pyarrow.parquet as pq

    with ExitStack() as stack:
        source: Any
        if plain_name(name) == name:
            source = local_path()
        else:  # compressed twice over: it has to be unpacked to be read from its end
            source = stack.enter_context(tempfile.TemporaryFile())
            shutil.copyfileobj(stack.enter_context(decompressed(open_stream(), name)), source)
        number = 0
        try:
            file = pq.ParquetFile(source, pre_buffer=False, page_checksum_verification=True)
            stack.enter_context(file)
            names = file.schema_arrow.names
            check_columns(names, name)
            wanted = [column for column in names if columns is None or column in columns]
            for batch in file.iter_batches(_PARQUET_ROWS, columns=wanted):
                # "a.b" is to pyarrow also the field `b` of the column `a`.
                picked = batch.select([column for column in wanted if column in batch.schema.names])
                for row in _batch_rows(picked, number + 1):
                    number = row.place
                    yield row
        except FileNotFoundError as error:
            raise PipelineError(f"{name} is not there.") from error
        except (pa.ArrowException, OSError, ValueError) as error:
            after = f" after row {number}" if number else ""
            raise PipelineError(
                f"{name} cannot be read as Parquet{after}: {first_line(error)}.",
                "Fetch or write the file again.",
            ) from error


def _batch_rows(batch: Any, first: int) -> Iterator[Row | BadRow]:
    """The rows of an Arrow batch, numbered from `first`; one by one if one of them is bad."""
    import pyarrow as pa

    try:
        values = batch.to_pylist()
    except (ValueError, OverflowError, pa.ArrowException) as error:
        if batch.num_rows == 1:
            yield BadRow(
                first, f"it holds a value that cannot be read: {first_line(error)}", "", "row"
            )
            return
        for at in range(batch.num_rows):
            yield from _batch_rows(batch.slice(at, 1), first + at)
        return
    for number, value in enumerate(values, first):
        yield Row(number, value, "row")

"""Whatever words are in a table, row by row: for a search that must not depend on its columns."""

from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any

from pipeline.corpus.tables import BadRow, read_rows
from pipeline.errors import PipelineError


def table_words(path: Path) -> Iterator[tuple[int, str]]:
    """For each row its place (a line or a number, from 1) and all texts in it, whatever they lie
    in, with an empty line between two.

    Raises PipelineError naming file and row for a table that cannot be read.
    """
    for row in read_rows(lambda: path.open("rb"), lambda: path, str(path)):
        if isinstance(row, BadRow):
            raise PipelineError(f"{path}, {row.where}: {row.reason.rstrip('.')}.")
        yield row.place, "\n\n".join(_texts(row.value.values()))


def _texts(values: Iterable[Any]) -> Iterator[str]:
    for value in values:
        if isinstance(value, str):
            yield value
        elif isinstance(value, Mapping):
            yield from _texts(value.values())
        elif isinstance(value, list | tuple):
            yield from _texts(value)

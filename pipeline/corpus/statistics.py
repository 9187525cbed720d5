"""How long chunks and documents are: read from Parquet in a stream, counted in little memory."""

import math
from collections import Counter
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from pipeline.corpus.documents import find_splits
from pipeline.corpus.table_rows import BadRow
from pipeline.corpus.tables import read_rows
from pipeline.errors import PipelineError

SPLITS = ("train", "validation")
_NAMES = ("document_id", "id")
_NUMBERS = ("chunk", "char_start", "overlap", "tokens")
_WORDS = ("title", "language", "source", "work")
_MAGIC = b"PAR1"  # with which a Parquet file begins
_OTHERS = ("authors", "collection", "weight")


class Distribution:
    """Whole numbers, counted: every figure is exact, and memory grows with different numbers only.

    With nothing in it the figures are 0.
    """

    def __init__(self, values: Iterable[int] = ()) -> None:
        self._times = Counter(values)

    @classmethod
    def joined(cls, parts: Iterable["Distribution"]) -> "Distribution":
        """The numbers of all of them."""
        whole = cls()
        for part in parts:
            whole._times.update(part._times)
        return whole

    def add(self, value: int) -> None:
        """Count one more number."""
        self._times[value] += 1

    @property
    def count(self) -> int:
        """How many numbers there are."""
        return self._times.total()

    @property
    def total(self) -> int:
        """Their sum."""
        return sum(value * times for value, times in self._times.items())

    @property
    def minimum(self) -> int:
        """The least."""
        return min(self._times, default=0)

    @property
    def maximum(self) -> int:
        """The greatest."""
        return max(self._times, default=0)

    @property
    def mean(self) -> float:
        """The average."""
        return self.total / self.count if self.count else 0.0

    @property
    def median(self) -> float:
        """What half of them are below: of an even number of them, midway between the middle two."""
        if not self.count:
            return 0.0
        return (self._at((self.count - 1) // 2) + self._at(self.count // 2)) / 2

    def below(self, limit: float) -> int:
        """How many are below `limit`."""
        return sum(times for value, times in self._times.items() if value < limit)

    def bins(self, most: int = 12) -> list[tuple[int, int, int]]:
        """At most `most` ranges of equal, round width with how many numbers are in each.

        As (first, last, count), without gaps from the least number to the greatest.
        """
        if not self._times:
            return []
        width = _round_width((self.maximum - self.minimum + 1) / most)
        while self.maximum // width - self.minimum // width >= most:
            width = _round_width(width + 1)
        counted: Counter[int] = Counter()
        for value, times in self._times.items():
            counted[value // width] += times
        numbers = range(self.minimum // width, self.maximum // width + 1)
        return [(n * width, (n + 1) * width - 1, counted[n]) for n in numbers]

    def values(self) -> list[int]:
        """All the numbers, ascending."""
        return sorted(self._times.elements())

    def as_dict(self) -> dict[str, Any]:
        """The figures as plain values."""
        return {
            "count": self.count, "min": self.minimum, "mean": round(self.mean, 1),
            "median": self.median, "max": self.maximum, "total": self.total,
        }  # fmt: skip

    def _at(self, place: int) -> int:
        """The number at a place of the ascending order, from 0."""
        for value in sorted(self._times):
            place -= self._times[value]
            if place < 0:
                return value
        raise IndexError(place)


def _round_width(least: float) -> int:
    """1, 2 or 5 times a power of ten, at least `least`."""
    power = 10 ** max(0, math.ceil(math.log10(max(least, 1))) - 1)
    return next(step * power for step in (1, 2, 5, 10) if step * power >= least)


@dataclass
class Part:
    """The rows of one document that stand side by side in a file: all of it, or its train or
    validation part.

    Lists have one entry for each row. `sizes` are characters, without those that repeat the chunk
    before; `starts` are places in the document. `tokens` are as stage 3 counted them, or None.
    """

    document_id: str
    split: str
    about: dict[str, Any]
    chunks: list[int] = field(default_factory=list)
    starts: list[int] = field(default_factory=list)
    texts: list[str] = field(default_factory=list)
    sizes: list[int] = field(default_factory=list)
    tokens: list[int | None] = field(default_factory=list)

    @property
    def bodies(self) -> list[str]:
        """The texts without what each repeats of the one before: joined, they are the document."""
        pairs = zip(self.texts, self.sizes, strict=True)
        return [text[len(text) - size :] for text, size in pairs]

    @property
    def text(self) -> str:
        """The document, or this part of it."""
        return "".join(self.bodies)

    def _add(self, row: dict[str, Any]) -> None:
        text = row["text"]
        overlap = min(max(row["overlap"] or 0, 0), len(text)) if self.texts else 0
        self.chunks.append(row["chunk"] or 0)
        self.starts.append((row["char_start"] or 0) + overlap)
        self.texts.append(text)
        self.sizes.append(len(text) - overlap)
        self.tokens.append(row["tokens"])


def parquet_files(place: Path) -> list[Path]:
    """The Parquet file `place`, or those below the folder `place`, hidden ones apart.

    Raises PipelineError if there is none.
    """
    if place.is_file():
        if place.suffix.lower() != ".parquet" and not _begins_as_parquet(place):
            raise PipelineError(
                f"{place} is no Parquet file.",
                "Name one that `pipeline chunk` made, or a folder of them, such as 3_chunks; texts "
                "and tables go through `pipeline acquire --source` first.",
            )
        return [place]
    if not place.is_dir():
        raise PipelineError(f"{place} is not there.", "Name a Parquet file, or a folder of them.")
    found = [path for path in sorted(place.rglob("*.parquet")) if path.is_file()]
    visible = [
        path for path in found
        if not any(part.startswith(".") for part in path.relative_to(place).parts)
    ]  # fmt: skip
    if not visible:
        raise PipelineError(
            f"{place} has no Parquet files in it.", "`pipeline chunk` writes some into 3_chunks."
        )
    return visible


def _begins_as_parquet(path: Path) -> bool:
    try:
        with path.open("rb") as file:
            return file.read(len(_MAGIC)) == _MAGIC
    except OSError as error:
        raise PipelineError(f"{path} cannot be read: {error.strerror}.") from error


def columns_of(path: Path) -> tuple[list[str], int]:
    """The names of a Parquet file's columns and how many rows it has, from its footer.

    Raises PipelineError naming the file if it is damaged or no Parquet.
    """
    import pyarrow as pa
    import pyarrow.parquet as pq

    try:
        metadata = pq.read_metadata(path)
        return metadata.schema.to_arrow_schema().names, metadata.num_rows
    except (pa.ArrowException, OSError) as error:
        raise PipelineError(
            f"{path} cannot be read as Parquet.",
            "It may be damaged: run the stage that wrote it again.",
        ) from error


def read_parts(paths: Iterable[Path]) -> Iterator[Part]:
    """The documents of Parquet files with a column `text`, one in memory at a time.

    Training splits come first (see `find_splits`). A row without `document_id` and `chunk` is a
    document of its own, named by its column `id` or by its number.

    Raises PipelineError naming file and row: for a row without text, and as `read_rows` does.
    """
    part: Part | None = None
    number = 0
    for split, files in zip(SPLITS, find_splits(paths), strict=True):
        for path in files:
            for row in _rows(path):
                number += 1
                if part and _continues(part, row, split):
                    part._add(row)
                    continue
                if part:
                    yield part
                name = next((row[key] for key in _NAMES if row[key] is not None), number)
                part = Part(str(name), split, {key: row[key] for key in (*_WORDS, *_OTHERS)})
                part._add(row)
    if part:
        yield part


def _continues(part: Part, row: dict[str, Any], split: str) -> bool:
    return (
        split == part.split
        and row["chunk"] is not None
        and str(row["document_id"]) == part.document_id
        and row["chunk"] == part.chunks[-1] + 1
    )


def _rows(path: Path) -> Iterator[dict[str, Any]]:
    """The rows of a file with every column that is known here, None where it is not there.

    Of a foreign file, what has one of these names and is something else counts as not there.
    """
    columns = ("text", *_NAMES, *_NUMBERS, *_WORDS, *_OTHERS)
    for row in read_rows(lambda: path.open("rb"), lambda: path, str(path), columns):
        if isinstance(row, BadRow):
            raise PipelineError(f"{path}, {row.where}: {row.reason}.")
        value = row.value
        if not isinstance(value.get("text"), str):
            raise PipelineError(
                f"{path} has a row without text ({row.where}).",
                "Remove the rows whose `text` is null.",
            )
        known: dict[str, Any] = {"text": value["text"]} | {key: value.get(key) for key in _NAMES}
        known |= {key: _of_kind(value.get(key), int) for key in _NUMBERS}
        known |= {key: _of_kind(value.get(key), str) for key in _WORDS}
        authors = value.get("authors")
        names = authors if isinstance(authors, list) else [authors]
        known["authors"] = [name for name in names if isinstance(name, str)]
        # A weight is a source's: many a foreign table has a `weight` of its own.
        known["collection"] = _of_kind(value.get("collection"), str)
        weight = _of_kind(value.get("weight"), (int, float))
        has_weight = known["collection"] is not None and weight is not None and weight == weight
        known["weight"] = float(weight) if has_weight else None
        yield known


def _of_kind(value: Any, kind: type | tuple[type, ...]) -> Any:
    return value if isinstance(value, kind) and not isinstance(value, bool) else None

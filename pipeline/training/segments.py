"""A series, segment by segment: which documents are in which, which part of a run each one is.

    series = find_series(tables, workspace)      # which document is in which segment
    segments = make_segments(data, names)        # which sequences are
    segments.cursor(sequences=12, total=40)      # how far a run has come

Stage 1 numbers the segments of a series and stages 2 and 3 pass that on, document by document. They
are trained in the order of their numbers; several series take turns, so that the next segment of
each comes after all that there was. A sequence belongs to one segment, a step may end one and
begin the next.
"""

from bisect import bisect_right
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from hashlib import sha256
from itertools import accumulate
from pathlib import Path
from typing import Any

from pipeline.console import few, say, warn
from pipeline.errors import PipelineError
from pipeline.files import fingerprint, read_jsonl
from pipeline.training.data import Sample
from pipeline.training.dataset import TrainingData
from pipeline.training.order import segment_order
from pipeline.workspace import Workspace

OTHERS = "(no segment)"  # texts beside the series; they come first, so that a series may grow

_BOOKS = Path("books") / "books.parquet"  # beside the folder of a table
_FOLDERS = ("data", "completion", "chat")
_LARGEST = 1_000_000  # no series has a segment of a greater number

Row = Mapping[str, Any]
Place = tuple[str, int]  # the source, and the number of a segment of it


# --- which document is in which segment -----------------------------------------------------------


@dataclass(frozen=True)
class Series:
    """The segments that are listed, by their names in their order, and each document's."""

    names: tuple[str, ...]
    documents: Mapping[str, str]

    def of(self, sample_id: str) -> str:
        """The segment of a document, or of a chunk or record of it ("document#3")."""
        found = self.documents.get(sample_id)
        return found or self.documents.get(sample_id.rpartition("#")[0], OTHERS)

    @property
    def mark(self) -> str:
        """A hash of which document is in which segment."""
        return fingerprint([self.names, sorted(self.documents.items())])


def find_series(tables: Sequence[Path], workspace: Workspace | None) -> Series | None:
    """What is known of the segments of the texts in some tables; None if there are none.

    In a dataset's own table of books, if that says it; else, where a workspace is given, in the
    accounts of its stages 1 and 3.

    Raises PipelineError for an account that cannot be read.
    """
    rows: Sequence[Row] = list(_books(tables))
    listed: Sequence[Row] = []
    number = 0
    if workspace is not None:
        chunked = workspace.directory("chunk") / "documents.jsonl"
        if not rows and chunked.is_file():
            rows = read_jsonl(chunked)
        catalog = workspace.directory("acquire") / "catalog.jsonl"
        listed = read_jsonl(catalog) if catalog.is_file() else []
        record = workspace.record("acquire")
        counted = record.counts.get("segments") if record is not None else None
        number = counted if isinstance(counted, int) else 0
    return series_of(rows, listed, number)


def series_of(rows: Iterable[Row], listed: Iterable[Row] = (), count: int = 0) -> Series | None:
    """The series that the rows of documents tell of; None if no document is in a segment.

    Segments are numbered from 0 or 1 without a gap, so those in between are listed as well.

    Args:
        rows: `document_id`, `collection` and `segment` of documents.
        listed: the same of those that may have been left out since.
        count: how many segments the only series has, where that is known.
    """
    places = {str(row.get("document_id")): _place(row) for row in rows}
    found = {place for place in places.values() if place is not None}
    if not found:
        return None
    sources = {source for source, _ in found}
    found |= {place for row in listed if (place := _place(row)) and place[0] in sources}
    for source in sources:
        numbers = [number for name, number in found if name == source]
        first, last = min(1, *numbers), max(numbers)
        if len(sources) == 1:
            last = max(last, first + min(count, _LARGEST) - 1)
        found |= {(source, number) for number in range(first, last + 1)}
    names = {place: f"{place[0]}/{place[1]}" for place in sorted(found, key=_in_turns)}
    documents = {name: names[place] for name, place in places.items() if place is not None}
    return Series(tuple(names.values()), documents)


def _place(row: Row) -> Place | None:
    source, number = row.get("collection"), row.get("segment")
    if type(number) is not int or not 0 <= number <= _LARGEST:
        return None
    return source if isinstance(source, str) and source else "series", number


def _in_turns(place: Place) -> tuple[int, str]:
    return place[1], place[0]


def _books(tables: Sequence[Path]) -> Iterator[Row]:
    """The rows of a dataset's table of books, if there is one and it has segments."""
    import pyarrow as pa
    import pyarrow.parquet as pq

    columns = ["document_id", "collection", "segment"]
    for folder in sorted({t.parent.parent for t in tables if t.parent.name in _FOLDERS}):
        path = folder / _BOOKS
        if not path.is_file():
            continue
        try:
            if set(columns) <= set(pq.read_schema(path).names):
                yield from pq.read_table(path, columns=columns).to_pylist()
        except (pa.ArrowException, OSError) as error:
            raise PipelineError(
                f"{path} cannot be read as Parquet.", "Run `pipeline upload --force`."
            ) from error


def with_text(
    series: Series, training: Sequence[Sample], held_out: Sequence[Sample], policy: str
) -> Series | None:
    """The series as far as there is something to train on; None if none of it is in `training`.

    A listed segment whose texts are all held out is left out with a word. Of one that has no text
    at all the policy decides: "fail" raises PipelineError naming it, "skip" warns.
    """
    present = {series.of(sample.id) for sample in training if _has_text(sample)}
    if not present - {OTHERS}:
        return None
    scored = {series.of(sample.id) for sample in held_out if _has_text(sample)}
    for name in series.names:
        if name in scored - present:
            say(f"Segment {name} is held out entirely: nothing of it is trained on.")
    _refuse([name for name in series.names if name not in present | scored], policy)
    names = tuple(name for name in (OTHERS, *series.names) if name in present)
    return Series(names, series.documents)


def _has_text(sample: Sample) -> bool:
    return bool(str(sample.content.get("text", "there")).strip())


def _refuse(missing: Sequence[str], policy: str) -> None:
    """Raise PipelineError, or warn, if segments are missing."""
    if not missing:
        return
    told = f"Segment {missing[0]} of the series is listed, but has no text to train on"
    if len(missing) > 1:
        told = f"Segments of the series are listed, but have no text to train on: {few(missing)}"
    if policy == "fail":
        raise PipelineError(
            f"{told}.", "Bring its texts in again, or go on without: --missing-segment skip."
        )
    warn(f"{told}: left out.")


# --- which part of a run is which segment ---------------------------------------------------------


@dataclass(frozen=True)
class Segment:
    """A segment as it is trained on: the numbers of its sequences, and a hash of what is in them
    (the token ids of each row in turn, and which are trained on)."""

    name: str
    sequences: tuple[int, ...]
    sha256: str


@dataclass(frozen=True)
class Cursor:
    """How far a run has come: the segment that it is in, the `number`-th of `of` in the pass
    `epoch` (both from 1 on).

    Of its `size` sequences so many are read, by so many steps: `step` counts those that read any of
    it, also one that it shares with the segment before.
    """

    segment: str
    number: int
    of: int
    epoch: int
    step: int
    sequences: int
    size: int

    def as_dict(self) -> dict[str, Any]:
        """Plain values, for JSON."""
        return asdict(self)

    def __str__(self) -> str:
        again = f", pass {self.epoch}" if self.epoch > 1 else ""
        return f"{self.segment} ({self.number} of {self.of}{again})"


@dataclass(frozen=True)
class Segments:
    """The segments of a run, in order; none is empty. `per_step` are the sequences of a step."""

    parts: tuple[Segment, ...]
    per_step: int = 1

    @property
    def sequences(self) -> int:
        """The sequences of one pass."""
        return sum(len(part.sequences) for part in self.parts)

    def order(self, total: int, seed: int) -> list[int]:
        """The sequences of a run of `total`, as `segment_order` draws them."""
        return segment_order([part.sequences for part in self.parts], total, seed)

    def cursor(self, sequences: int, total: int) -> Cursor:
        """Where a run of `total` sequences is that has read `sequences` of them.

        After the last of a segment that is the next one, at the end of the run the last one.
        """
        is_over = sequences >= total
        epoch, number, start = self._at(max(0, total - 1) if is_over else sequences)
        part = self.parts[number]
        read = min(sequences, total) - start
        return Cursor(
            part.name, number + 1, len(self.parts), epoch + 1, -(-read // self.per_step), read,
            len(part.sequences),
        )  # fmt: skip

    def end(self, sequences: int, n: int) -> int:
        """How many sequences are read at the end of the `n`-th segment from there on, counting the
        one that a run is in that has read so many."""
        epoch, number, _ = self._at(sequences)
        epochs, number = divmod(number + n - 1, len(self.parts))
        return (epoch + epochs) * self.sequences + self._ends[number]

    def identity(self) -> list[list[Any]]:
        """What tells one series from another, and a grown one from the same: name, sequences and
        hash of each segment."""
        return [[part.name, len(part.sequences), part.sha256] for part in self.parts]

    def describe(self) -> list[str]:
        """What is trained on in which order, and how long one pass is: a sentence each."""
        sizes = few([f"{part.name} ({len(part.sequences):,})" for part in self.parts])
        total, steps = self.sequences, -(-self.sequences // self.per_step)
        one = len(self.parts) == 1
        return [
            f"{len(self.parts):,} segment{'' if one else 's'} of sequences, "
            f"{'alone' if one else 'one after the other'}: {sizes}.",
            f"One pass over {'it' if one else 'all of them'} is {total:,} sequences, "
            f"{self.per_step:,} a step: {steps:,} step{'' if steps == 1 else 's'}.",
        ]

    @property
    def _ends(self) -> list[int]:
        return list(accumulate(len(part.sequences) for part in self.parts))

    def _at(self, sequences: int) -> tuple[int, int, int]:
        """The pass and the segment that the sequence of this number is in, both from 0 on, and the
        number of the segment's first one in the run."""
        epoch, within = divmod(sequences, self.sequences)
        ends = self._ends
        number = bisect_right(ends, within)
        start = ends[number] - len(self.parts[number].sequences)
        return epoch, number, epoch * self.sequences + start


def make_segments(data: TrainingData, series: Series, policy: str, per_step: int) -> Segments:
    """The segments of what was tokenized with the segment of each row as its collection.

    One of `series` that no sequence came of is missing: see `with_text`.
    """
    numbers: dict[str, list[int]] = {}
    for number, name in enumerate(data.collections):
        numbers.setdefault(name or OTHERS, []).append(number)
    _refuse([name for name in series.names if name not in numbers], policy)
    names = [name for name in series.names if name in numbers]
    parts = (Segment(n, tuple(numbers[n]), _digest(data, numbers[n])) for n in names)
    return Segments(tuple(parts), per_step)


def _digest(data: TrainingData, numbers: Sequence[int]) -> str:
    found = sha256()
    for number in numbers:
        for row in data.sequences[number]:
            ids, trained = data.store.row(row)
            found.update(f"{len(ids)} {trained is not None} ".encode())
            found.update(ids.tobytes())
            if trained is not None:
                found.update(trained.tobytes())
        found.update(b"\n")
    return found.hexdigest()

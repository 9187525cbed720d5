"""What a user may set for all sources of a run, and which texts a trial run takes."""

from dataclasses import dataclass, field
from math import ceil
from typing import TYPE_CHECKING, Any

from pipeline.acquisition.labels import mark_of
from pipeline.acquisition.register import Register
from pipeline.acquisition.sources import Source
from pipeline.corpus.examples import ColumnNames

if TYPE_CHECKING:
    from pipeline.storage import Storage

DOCUMENTS = 3  # version of the code that makes documents out of sources
RECORDS = 3  # of that which makes records
VERSION = 3  # of the stage: raised with each of them


@dataclass(frozen=True)
class Options:
    """What the user set for all sources of a run; see `pipeline acquire --help`."""

    rights: str | None = None
    names: ColumnNames = field(default_factory=ColumnNames)
    on_bad_record: str = "fail"
    series_base: str | None = None
    missing_keys: str = "fail"
    limit: int | None = None
    fraction: float = 1.0
    split: str = "train"
    subset: str | None = None
    revision: str | None = None
    streaming: bool = True
    refresh: bool = False


class Sampler:
    """Which of the texts of one source a trial run takes: evenly spread, at most `limit`."""

    def __init__(self, limit: int | None, fraction: float) -> None:
        self._limit = limit
        self._fraction = fraction
        self._seen = 0
        self._taken = 0

    @property
    def is_full(self) -> bool:
        """Whether the limit is reached, so that nothing more need be read."""
        return self._limit is not None and self._taken >= self._limit

    @property
    def state(self) -> list[object]:
        """What decides which texts are taken from here on."""
        return [self._limit, self._fraction, self._seen, self._taken]

    @property
    def seen(self) -> int:
        """How many texts were offered so far."""
        return self._seen

    def skip(self, seen: int, taken: int) -> None:
        """Count texts that an earlier run was offered and took."""
        self._seen += seen
        self._taken += taken

    def takes(self) -> bool:
        """Whether the next text is one of those to take. The first one always is."""
        before, self._seen = self._seen, self._seen + 1
        due = ceil(self._seen * self._fraction) > ceil(before * self._fraction)
        if due and not self.is_full:
            self._taken += 1
            return True
        return False


def is_part(limit: int | None, fraction: float) -> bool:
    """Whether these options leave anything out."""
    return limit is not None or fraction < 1


def limits(limit: int | None, sources: int) -> list[int | None]:
    """A limit on all texts, shared out among the sources as evenly as it goes."""
    if limit is None:
        return [None] * sources
    return [limit // sources + (i < limit % sources) for i in range(sources)]


@dataclass(frozen=True)
class Job:
    """One source on its way into `1_raw`, and all that is needed for it."""

    register: Register
    source: Source
    storage: "Storage"
    options: Options
    sampler: Sampler
    segment: int | None = None  # of a series

    @property
    def about(self) -> dict[str, Any]:
        """What the catalogue says of everything from this source."""
        return {
            "collection": self.source.collection, "weight": self.source.weight,
            "place": mark_of(self.source.identity), "segment": self.segment,
        }  # fmt: skip

    def refuse(self, what: str, reason: str, origin: str, **how: bool) -> None:
        """Leave a text of the source out; see `Register.refuse`."""
        self.register.refuse(what, reason, origin=origin, place=self.source.identity, **how)

    def read_in_part(self) -> None:
        """Note that not all of the source was looked at: what is missing of it is not gone."""
        self.register.read_in_part.add(mark_of(self.source.identity))

    def left_unread(self, origin: str) -> None:
        """Note that one file or table of the source was not looked at, or not understood: what came
        from it in an earlier run is not gone, whatever is missing of the rest is."""
        self.register.left_unread.add(mark_of(origin))

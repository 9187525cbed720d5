"""What a user may set for all sources of a run, and which texts a trial run takes."""

from dataclasses import dataclass, field
from math import ceil

from pipeline.corpus.examples import ColumnNames

VERSION = 2  # of the code that makes documents out of sources


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

    def takes(self) -> bool:
        """Whether the next text is one of those to take. The first one always is."""
        before, self._seen = self._seen, self._seen + 1
        due = ceil(self._seen * self._fraction) > ceil(before * self._fraction)
        if due and not self.is_full:
            self._taken += 1
            return True
        return False


def limits(limit: int | None, sources: int) -> list[int | None]:
    """A limit on all texts, shared out among the sources as evenly as it goes."""
    if limit is None:
        return [None] * sources
    return [limit // sources + (i < limit % sources) for i in range(sources)]

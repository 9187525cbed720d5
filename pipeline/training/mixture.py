"""Sources with weights: in which order their rows are trained on.

    schedule = Schedule.of([(0, {"novels": 0.7, "letters": 0.3}), (500, {"letters": 1.0})])
    mixture = Mixture(schedule, lengths, collections, seed=42, rows_per_step=8)
    order = mixture.take(steps=1000)

A weight is a share of the trained tokens, not of the rows or documents: rows differ in length, and
so do the sources. The next row is chosen as a fair packet scheduler does (WF2Q, Bennett and Zhang
1996): of the sources that have had no more than their share so far, the one whose next row would
be due first. Within one set of weights, no source is then ever ahead of or behind its share by
more than one row of the greatest length, wherever the stream is cut. Taking the source with the
largest deficit would be simpler, but falls further behind as the number of sources grows.

Nothing here knows torch, and equal arguments give an equal order on every machine.
"""

import math
import random
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from fractions import Fraction
from itertools import islice, pairwise
from typing import Any

from pipeline.errors import PipelineError, UsageError

Shares = Mapping[str, float]


@dataclass(frozen=True)
class Schedule:
    """Which shares hold from which step on. Steps are those of the optimizer that were done."""

    stages: tuple[tuple[int, dict[str, float]], ...]  # the shares of a stage sum to 1, none is 0

    @classmethod
    def of(cls, stages: Sequence[tuple[int, Shares]]) -> "Schedule":
        """Sort the stages by their steps and scale their weights, which are ratios, to shares.

        Raises:
            UsageError: no stage holds from step 0 on, two stages begin at one step, a weight is
                negative or no number, or a stage has no weight above 0.
        """
        ordered = sorted(stages, key=lambda stage: stage[0])
        if not ordered or ordered[0][0] != 0:
            raise UsageError("No weights are given for the first step.")
        for (step, _), (following, _) in pairwise(ordered):
            if step == following:
                raise UsageError(f"Two sets of weights are given for step {step}.")
        return cls(tuple((step, _normalised(weights)) for step, weights in ordered))

    @property
    def names(self) -> set[str]:
        """The collections that have a share at any time."""
        return {name for _, shares in self.stages for name in shares}

    def at(self, step: int) -> dict[str, float]:
        """The shares once `step` steps are done."""
        return [shares for start, shares in self.stages if start <= step][-1]


def _normalised(weights: Shares) -> dict[str, float]:
    for name, weight in weights.items():
        if not 0 <= weight < math.inf:
            raise UsageError(f"The weight of {name!r} must be 0 or above, not {weight}.")
    total = sum(weights.values())
    if not 0 < total < math.inf:
        raise UsageError(
            f"No source has a weight above 0: {', '.join(map(repr, weights)) or 'none is named'}.",
            "Give a weight above 0 to what is to be trained on.",
        )
    shares = {name: weight / total for name, weight in weights.items()}
    return {name: share for name, share in sorted(shares.items()) if share > 0}


@dataclass(frozen=True)
class Reading:
    """What a stretch of training takes from one collection."""

    collection: str
    share: float  # of the tokens trained on
    tokens: int  # trained on; a token seen twice counts twice
    times: float  # how often each of its tokens is read, on average

    def __str__(self) -> str:
        share = f"{100 * self.share:.1f} %"
        return f"{self.collection} {share} of the tokens, each read {self.times:.1f} times"


@dataclass(frozen=True)
class Mixture:
    """Rows of several collections, and the endless order in which they are trained on.

    `lengths` (tokens) and `collections` have one entry for each row. Rows of collections without
    a share are never drawn.

    Raises:
        PipelineError: a collection with a share has no row.
    """

    schedule: Schedule
    lengths: Sequence[int]
    collections: Sequence[str | None]
    seed: int
    rows_per_step: int = 1

    def __post_init__(self) -> None:
        for name in sorted(self.schedule.names - set(self.collections)):
            raise PipelineError(
                f"The source {name!r} has a share in training, but no text to train on.",
                "Give it the weight 0, or add text.",
            )

    @property
    def tokens(self) -> int:
        """The tokens of all rows that can be drawn: the length of one epoch."""
        return sum(self._tokens_of().values())

    def order(self, start: int = 0) -> Iterator[int]:
        """The indexes of the rows, without end; `start` leaves out the first so many.

        Within a collection rows are shuffled; one that runs out begins again, newly shuffled.
        Where the weights change, accounts begin anew but the reading goes on.
        """
        return islice(self._order(), start, None)

    def take(self, *, steps: int | None = None, tokens: float | None = None) -> list[int]:
        """The rows of the first `steps` steps, or of as many whole steps as `tokens` tokens fill.

        At least one step.
        """
        order = self.order()
        if steps is not None:
            return list(islice(order, steps * self.rows_per_step))
        rows: list[int] = []
        drawn = 0
        while not rows or drawn < (tokens or 0):
            step = list(islice(order, self.rows_per_step))
            rows += step
            drawn += sum(self.lengths[row] for row in step)
        return rows

    def readings(self, order: Sequence[int]) -> list[Reading]:
        """What `order` takes from each collection, the largest share first."""
        there = self._tokens_of()
        drawn = dict.fromkeys(there, 0)
        for row in order:
            drawn[self.collections[row] or ""] += self.lengths[row]
        total = max(sum(drawn.values()), 1)
        readings = [
            Reading(name, tokens / total, tokens, tokens / there[name])
            for name, tokens in drawn.items()
        ]
        return sorted(readings, key=lambda reading: (-reading.tokens, reading.collection))

    def as_dict(self, order: Sequence[int]) -> dict[str, Any]:
        """Plain values for a record: what was asked of each collection, and what `order` read."""
        return {
            "schedule": [{"from_step": step, "shares": s} for step, s in self.schedule.stages],
            "sources": {
                reading.collection: {
                    "share": round(reading.share, 4),
                    "tokens": reading.tokens,
                    "times_read": round(reading.times, 2),
                }
                for reading in self.readings(order)
            },
        }

    def _tokens_of(self) -> dict[str, int]:
        tokens = dict.fromkeys(sorted(self.schedule.names), 0)
        for name, length in zip(self.collections, self.lengths, strict=True):
            if name in tokens:
                tokens[name] += length
        return tokens

    def _order(self) -> Iterator[int]:
        rows: dict[str, list[int]] = {name: [] for name in self.schedule.names}
        for row, name in enumerate(self.collections):
            if name in rows:
                rows[name].append(row)
        readers = {name: _Reader(name, rows[name], self.seed) for name in rows}

        def next_length(name: str) -> int:
            return self.lengths[readers[name].next]

        starts = [start for start, _ in self.schedule.stages]
        for i, (start, shares) in enumerate(self.schedule.stages):
            end = starts[i + 1] if i + 1 < len(starts) else None
            left = None if end is None else (end - start) * self.rows_per_step
            accounts = _Accounts(shares)
            while left is None or left > 0:
                name = accounts.choose(next_length)
                accounts.draw(name, next_length(name))
                yield readers[name].take()
                left = None if left is None else left - 1


class _Reader:
    """The rows of one collection, again and again, each time in another order.

    The order depends on the seed, the collection's name and the number of the round, so that
    another collection beside it changes nothing here.
    """

    def __init__(self, name: str, rows: list[int], seed: int) -> None:
        self._name = name
        self._rows = rows
        self._seed = seed
        self._round = -1
        self._left: list[int] = []
        self._refill()

    @property
    def next(self) -> int:
        """The row that `take` returns next."""
        return self._left[-1]

    def take(self) -> int:
        row = self._left.pop()
        if not self._left:
            self._refill()
        return row

    def _refill(self) -> None:
        self._round += 1
        self._left = list(self._rows)
        random.Random(f"{self._seed}/{self._round}/{self._name}").shuffle(self._left)


class _Accounts:
    """Who has had how much, in whole numbers: rounding would add up over millions of rows."""

    def __init__(self, shares: Shares) -> None:
        # The shortest decimal that a float stands for, 0.7 and not 0.6999..., keeps numbers small.
        exact = {name: Fraction(repr(share)) for name, share in shares.items()}
        scale = math.lcm(*(share.denominator for share in exact.values()))
        self._shares = {name: int(share * scale) for name, share in sorted(exact.items())}
        self._whole = sum(self._shares.values())
        self._drawn = dict.fromkeys(self._shares, 0)
        self._total = 0

    def choose(self, next_length: Callable[[str], int]) -> str:
        """The collection to draw from."""
        allowance = self._total
        due = [
            name
            for name, share in self._shares.items()
            if self._drawn[name] * self._whole <= share * allowance
        ]
        return min(
            due, key=lambda name: (self._drawn[name] + next_length(name)) / self._shares[name]
        )

    def draw(self, name: str, length: int) -> None:
        """Book a row of `length` tokens."""
        self._drawn[name] += length
        self._total += length

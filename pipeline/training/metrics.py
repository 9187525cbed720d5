"""metrics.jsonl: one line for each record of training, each evaluation and each incident."""

import math
import statistics
from collections import deque
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any, TypeVar

from pipeline.errors import PipelineError
from pipeline.files import read_jsonl

Row = TypeVar("Row", "Point", "HeldOut")
AWAY = "Go on with another checkpoint: --resume PATH."

HELD_OUT = "held_out"  # the key of an evaluation's line

_SPIKE_WINDOW = 32  # losses
_SPIKE_MINIMUM = 8  # losses, before which nothing is known of what is usual
_SPIKE_DEVIATIONS = 8.0  # median absolute deviations; of normal noise 5.4 standard deviations
_SPIKE_SHARE = 1.2  # of the median
_CALM_DEVIATIONS = 3.0


@dataclass(frozen=True)
class Point:
    """One record of training. `tokens` and `seconds` count from the start of the run; scoring the
    held-out text is not in the seconds."""

    step: int
    loss: float  # nats per token, averaged over the steps since the last point
    learning_rate: float
    tokens: int
    seconds: float
    tokens_per_second: float  # since the last point
    grad_norm: float | None = None  # of the last step; None where it is unknown or overflowed
    memory: int | None = None  # bytes, the most so far: of the GPUs, or of this process
    waited: float = 0.0  # seconds for data, from the start of the run
    mfu: float | None = None  # model FLOPs per second over what this machine can do

    def as_dict(self) -> dict[str, Any]:
        """The point without what is unknown."""
        return {name: value for name, value in self.__dict__.items() if value is not None}


@dataclass(frozen=True)
class HeldOut:
    """A held-out score: at which step, nats per token, bits per byte."""

    step: int
    loss: float
    bits_per_byte: float


def read_metrics(path: Path) -> list[Point]:
    """The training points of a metrics.jsonl.

    Raises PipelineError, naming the file, for what is no such file; it may come from a remote.
    """
    known = {field.name for field in fields(Point)}
    rows = [row for row in read_jsonl(path) if "loss" in row]
    return [_made(Point, path, {k: v for k, v in row.items() if k in known}) for row in rows]


def read_held_out(path: Path) -> list[HeldOut]:
    """The evaluations of a metrics.jsonl, in their order. Raises as `read_metrics` does."""
    known = ("loss", "bits_per_byte")
    found = []
    for row in read_jsonl(path):
        if HELD_OUT in row:
            score = row[HELD_OUT] if isinstance(row[HELD_OUT], dict) else {}
            values = {name: score[name] for name in known if name in score}
            found.append(_made(HeldOut, path, {"step": row.get("step"), **values}))
    return found


def _made(kind: type[Row], path: Path, values: dict[str, Any]) -> Row:
    """A row as what it is; its values must be numbers."""
    optional = {field.name for field in fields(kind) if field.default is None}
    for name, value in values.items():
        is_number = isinstance(value, int | float) and not isinstance(value, bool)
        if not is_number and not (value is None and name in optional):
            raise PipelineError(f"{path} is damaged: it has a {name} that is no number.", AWAY)
    try:
        return kind(**values)
    except TypeError as error:
        raise PipelineError(f"{path} is damaged: a row of it is incomplete.", AWAY) from error


def check_finite(name: str, value: float, step: int, last_good: str | None = None) -> None:
    """Raise PipelineError if training has come off the rails; `last_good` says where the last good
    weights are."""
    if not math.isfinite(value):
        kept = f"the last good weights: {last_good}" if last_good else "nothing was saved"
        raise PipelineError(
            f"Training broke at step {step}: the {name.replace('grad_norm', 'gradient')} is "
            f"{value}.",
            f"Lower --learning-rate, or raise --warmup; {kept}.",
        )


class SpikeWatch:
    """Tells when the loss jumps out of its usual range; once for each time that it does.

    Usual is what lies within some median absolute deviations of the median of the last 32 losses,
    or within a fifth of that median. Both are deaf to single outliers, so a spike does not hide
    the next one, and a new level that stays becomes the usual one.
    """

    def __init__(self) -> None:
        self._recent: deque[float] = deque(maxlen=_SPIKE_WINDOW)
        self._within = False

    def look(self, loss: float) -> float | None:
        """Take in a loss; the usual one, if here a spike begins."""
        usual = None
        if len(self._recent) >= _SPIKE_MINIMUM:
            median = statistics.median(self._recent)
            deviation = statistics.median(abs(value - median) for value in self._recent)
            is_high = loss > median * _SPIKE_SHARE
            if is_high and loss > median + _SPIKE_DEVIATIONS * deviation:
                usual = None if self._within else median
                self._within = True
            elif not is_high or loss < median + _CALM_DEVIATIONS * deviation:
                self._within = False
        self._recent.append(loss)
        return usual


def smoothed(values: list[float], share: float = 0.08) -> list[float]:
    """Gaussian average of each value's neighbours, as wide as this share of all of them.

    Centred, so that the curve does not lag behind what it smooths.
    """
    import numpy as np

    if not values:
        return []
    width = max(1.0, share * len(values))
    reach = math.ceil(3 * width)
    kernel = np.exp(-0.5 * (np.arange(-reach, reach + 1) / width) ** 2)
    totals = np.convolve(values, kernel)[reach : reach + len(values)]
    weights = np.convolve(np.ones(len(values)), kernel)[reach : reach + len(values)]
    return [float(value) for value in totals / weights]

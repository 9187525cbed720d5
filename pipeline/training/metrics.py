"""What a run leaves behind to look at: metrics.jsonl line by line, and loss.png."""

import json
import math
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any

from pipeline.console import Advance
from pipeline.errors import PipelineError


@dataclass(frozen=True)
class Point:
    """One line of metrics.jsonl. `tokens` and `seconds` count from the start of the run."""

    step: int
    loss: float  # nats per token, averaged over the steps since the last point
    learning_rate: float
    tokens: int
    seconds: float
    tokens_per_second: float  # since the last point

    def as_line(self) -> str:
        """The point as a line of JSON."""
        return json.dumps(self.__dict__) + "\n"


def read_metrics(path: Path) -> list[Point]:
    """Read a metrics.jsonl."""
    return [Point(**json.loads(line)) for line in path.read_text("utf-8").splitlines()]


class MetricsWriter:
    """Takes what the trainer logs: a line in the file, progress on the screen, a halt at NaN."""

    def __init__(
        self,
        file: IO[str],
        advance: Advance,
        clock: Callable[[], float] = time.perf_counter,
    ) -> None:
        self._file = file
        self._advance = advance
        self._clock = clock
        self._start = self._last_time = clock()
        self._last_tokens = 0
        self._last_note = ""
        self.points: list[Point] = []

    def start(self) -> None:
        """The first step begins now; what came before was preparation."""
        self._start = self._last_time = self._clock()

    def step_done(self) -> None:
        """Count one step on the screen."""
        self._advance(1, self._last_note)

    def log(self, step: int, logs: dict[str, Any]) -> None:
        """Keep one log record of the trainer; records without a loss (the summary) are ignored.

        Raises:
            PipelineError: the loss or the gradient is not a finite number.
        """
        if "loss" not in logs:
            return
        for name in ("loss", "grad_norm"):
            check_finite(name, float(logs.get(name, 0.0)), step)
        now = self._clock()
        tokens = int(logs["num_input_tokens_seen"])
        rate = (tokens - self._last_tokens) / max(now - self._last_time, 1e-9)
        point = Point(
            step=step,
            loss=round(float(logs["loss"]), 6),
            learning_rate=float(logs["learning_rate"]),
            tokens=tokens,
            seconds=round(now - self._start, 3),
            tokens_per_second=round(rate, 1),
        )
        self._last_time, self._last_tokens = now, tokens
        self._last_note = f"loss {point.loss:.3f}, {rate:,.0f} tokens/s"
        self.points.append(point)
        self._file.write(point.as_line())
        self._file.flush()


def check_finite(name: str, value: float, step: int) -> None:
    """Raise PipelineError if training has come off the rails."""
    if not math.isfinite(value):
        raise PipelineError(
            f"Training broke at step {step}: the {name.replace('grad_norm', 'gradient')} is "
            f"{value}.",
            "Lower --learning-rate, or raise --warmup; nothing was saved.",
        )


def smoothed(values: list[float], share: float = 0.08) -> list[float]:
    """Gaussian average of each value's neighbours, as wide as this share of all of them.

    Centred, so that the curve does not lag behind what it smooths.
    """
    width = max(1.0, share * len(values))
    reach = math.ceil(3 * width)
    kernel = [math.exp(-0.5 * (d / width) ** 2) for d in range(-reach, reach + 1)]
    result = []
    for i in range(len(values)):
        near = range(max(0, i - reach), min(len(values), i + reach + 1))
        weights = [kernel[k - i + reach] for k in near]
        total = sum(w * values[k] for w, k in zip(weights, near, strict=True))
        result.append(total / sum(weights))
    return result


@dataclass(frozen=True)
class HeldOut:
    """A held-out score for the picture: at which step, nats per token, bits per byte."""

    step: int
    loss: float
    bits_per_byte: float


def plot_loss(points: list[Point], held_out: list[HeldOut], title: str, path: Path) -> None:
    """Draw training loss, its moving average, and the held-out scores, as a PNG."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure
    from matplotlib.ticker import MaxNLocator

    figure = Figure(figsize=(9, 5), dpi=150, layout="constrained")
    FigureCanvasAgg(figure)
    axes = figure.add_subplot()
    steps = [point.step for point in points]
    losses = [point.loss for point in points]
    axes.plot(steps, losses, color="#9db8d2", linewidth=1, label="training loss, per step")
    axes.plot(
        steps, smoothed(losses), color="#1f4e79", linewidth=2, label="training loss, smoothed"
    )
    if held_out:
        _draw_held_out(axes, held_out)
    axes.set_title(title, loc="left", fontsize=12, pad=12, parse_math=False)
    axes.set_xlabel("step")
    axes.set_ylabel("loss (nats per token)")
    axes.xaxis.set_major_locator(MaxNLocator(integer=True))
    axes.grid(axis="y", color="#e6e6e6")
    axes.set_axisbelow(True)
    axes.spines[["top", "right"]].set_visible(False)
    axes.margins(y=0.15)
    axes.legend(frameon=False, loc="best")
    figure.savefig(path, format="png")


def _draw_held_out(axes: Any, held_out: list[HeldOut]) -> None:
    """Mark the scores: the first as a level to fall below, the last as what was reached."""
    colour = "#c8553d"
    first, last = held_out[0], held_out[-1]
    axes.axhline(
        first.loss,
        color=colour,
        linewidth=1.2,
        linestyle=(0, (4, 4)),
        label=f"held out, before: {first.bits_per_byte:.4f} bits per byte",
    )
    axes.plot(
        [score.step for score in held_out[1:]],
        [score.loss for score in held_out[1:]],
        color=colour,
        marker="o",
        markersize=8,
        linewidth=1.2,
        label=f"held out, after: {last.bits_per_byte:.4f} bits per byte",
        zorder=5,
    )

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


def smoothed(values: list[float], share: float = 0.05) -> list[float]:
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
    for i, score in enumerate(held_out):
        _mark(axes, score, first=i == 0)
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


def _mark(axes: Any, score: HeldOut, *, first: bool) -> None:
    """Put a held-out score into the picture; the first is also a line to compare others with."""
    colour = "#c8553d"
    if first:
        axes.axhline(score.loss, color=colour, linewidth=1, linestyle=(0, (4, 4)), alpha=0.7)
    axes.plot(
        [score.step],
        [score.loss],
        color=colour,
        marker="o",
        markersize=7,
        linestyle="none",
        label="held-out loss" if first else None,
        zorder=5,
    )
    axes.annotate(
        f"{score.bits_per_byte:.4f} bits per byte",
        (score.step, score.loss),
        xytext=(0, 9) if first else (0, -10),
        textcoords="offset points",
        ha="left" if first else "right",
        va="bottom" if first else "top",
        color="#a13d28",
        fontweight="bold",
        bbox={"facecolor": "white", "edgecolor": "none", "alpha": 0.8, "pad": 1.5},
        zorder=6,
    )

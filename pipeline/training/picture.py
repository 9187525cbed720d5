"""loss.png: what the training brought, step by step."""

import warnings
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from pipeline.console import printable
from pipeline.files import atomic_path
from pipeline.training.metrics import HeldOut, Point, smoothed

_LINE, _SMOOTH, _HELD_OUT, _RATE = "#9db8d2", "#1f4e79", "#c8553d", "#8a8a8a"
_LONGEST_TITLE = 90
_FEW = 40  # points that are marked one by one
_OUTLIERS = 2.0  # percent at either end
_NEAR = 1.0  # of the height of all else: so far out an outlier is still shown
_DASHES = (0, (4, 4))


def plot_loss(points: Sequence[Point], held_out: Sequence[HeldOut], title: str, path: Path) -> None:
    """Draw training loss, its average, the held-out scores and the learning rate, as a PNG.

    Bits per byte are the held-out loss times a constant (tokens per byte), so they have an axis of
    their own at the right. The score at step 0 is the base model's: a level to fall below.
    """
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure
    from matplotlib.ticker import MaxNLocator, StrMethodFormatter

    figure = Figure(figsize=(9, 5.6), dpi=150, layout="constrained")
    FigureCanvasAgg(figure)
    losses, rates = figure.subplots(2, 1, sharex=True, height_ratios=(6, 1))
    _draw_training(losses, points)
    _draw_held_out(losses, held_out)
    _limit(losses, points, held_out)
    losses.set_title(_short(title), loc="left", fontsize=12, pad=12, parse_math=False)
    losses.set_ylabel("loss (nats per token)")
    losses.grid(axis="y", color="#e6e6e6")
    if losses.get_legend_handles_labels()[0]:
        # Below the axes of both: nothing that is drawn can lie under it.
        figure.legend(loc="outside lower left", ncols=2, frameon=False, fontsize=9)
    _draw_rate(rates, points)
    rates.set_xlabel("step")
    rates.xaxis.set_major_locator(MaxNLocator(integer=True, steps=[1, 2, 5, 10]))
    rates.xaxis.set_major_formatter(StrMethodFormatter("{x:,.0f}"))
    last = max([1, *(p.step for p in points), *(s.step for s in held_out)])
    rates.set_xlim(-0.02 * last, 1.02 * last)
    for axes in (losses, rates):
        axes.set_axisbelow(True)
        axes.spines[["top", "right"]].set_visible(False)
    figure.align_ylabels()
    with atomic_path(path) as temporary, warnings.catch_warnings():
        warnings.simplefilter("ignore")  # a title in a script that the font does not have
        figure.savefig(temporary, format="png")


def _draw_training(axes: Any, points: Sequence[Point]) -> None:
    if not points:
        return
    steps, losses = [point.step for point in points], [point.loss for point in points]
    few = len(points) <= _FEW
    axes.plot(
        steps, losses, color=_LINE, linewidth=1 if few else 0.6, marker="." if few else None,
        label="training loss",
    )  # fmt: skip
    if len(points) > 2:
        axes.plot(steps, smoothed(losses), color=_SMOOTH, linewidth=2, label="the same, smoothed")


def _draw_held_out(axes: Any, scores: Sequence[HeldOut]) -> None:
    if not scores:
        return
    base = [score for score in scores if score.step == 0]
    after = [score for score in scores if score.step]
    if base:
        axes.axhline(
            base[0].loss, color=_HELD_OUT, linewidth=1.2, linestyle=_DASHES,
            label=f"held out, base model: {base[0].bits_per_byte:.4f} bits per byte",
        )  # fmt: skip
    if after:
        last = after[-1]
        curve = [*base[:1], *after]
        axes.plot(
            [score.step for score in curve], [score.loss for score in curve], color=_HELD_OUT,
            marker="o", markersize=5, linewidth=1.6, zorder=5,
            label=f"held out, step {last.step:,}: {last.bits_per_byte:.4f} bits per byte",
        )  # fmt: skip
        _mark_best(axes, min(after, key=lambda score: score.bits_per_byte))
    factor = scores[-1].bits_per_byte / scores[-1].loss if scores[-1].loss else 1.0
    right = axes.secondary_yaxis(
        "right", functions=(lambda loss: loss * factor, lambda bits: bits / factor)
    )
    right.set_ylabel("held out (bits per byte)", color=_HELD_OUT)
    right.tick_params(colors=_HELD_OUT)
    right.spines["right"].set_color(_HELD_OUT)


def _mark_best(axes: Any, best: HeldOut) -> None:
    axes.plot(
        [best.step], [best.loss], linestyle="none", marker="o", markersize=12, zorder=6,
        markerfacecolor="none", markeredgecolor=_HELD_OUT, markeredgewidth=1.6,
        label=f"best, step {best.step:,}: {best.bits_per_byte:.4f} bits per byte",
    )  # fmt: skip


def _limit(axes: Any, points: Sequence[Point], held_out: Sequence[HeldOut]) -> None:
    """Show all, with a margin, but for single outliers so far off that all else would be flat."""
    import numpy as np

    losses = [point.loss for point in points]
    level = [*smoothed(losses), *(score.loss for score in held_out)]
    if losses:
        level += np.percentile(losses, [_OUTLIERS, 100 - _OUTLIERS]).tolist()
    if not level:
        return
    low, high = min(level), max(level)
    near = _NEAR * (high - low)
    low, high = (
        min([low, *(loss for loss in losses if loss >= low - near)]),
        max([high, *(loss for loss in losses if loss <= high + near)]),
    )
    room = max(0.06 * (high - low), 0.002 * abs(high), 1e-3)
    axes.set_ylim(low - room, high + room)


def _draw_rate(axes: Any, points: Sequence[Point]) -> None:
    steps = [point.step for point in points]
    rates = [point.learning_rate for point in points]
    marker = "." if len(points) <= 2 else None
    axes.plot(steps, rates, color=_RATE, linewidth=1.2, marker=marker)
    axes.fill_between(steps, rates, color=_RATE, alpha=0.15, linewidth=0)
    top = max(rates, default=0.0)
    axes.set_ylim(0, 1.15 * top or 1.0)
    axes.set_yticks(*(([0, top], ["0", f"{top:.1e}"]) if top else ([0], ["0"])))
    axes.set_ylabel("learning\nrate")


def _short(title: str) -> str:
    title = " ".join(printable(title).split())
    return title if len(title) <= _LONGEST_TITLE else title[: _LONGEST_TITLE - 1] + "…"

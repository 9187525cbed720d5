"""What a run came to, in a few lines."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from pipeline.console import duration, megabytes
from pipeline.training.metrics import HeldOut


@dataclass(frozen=True)
class Summary:
    """The figures of a run; `str()` of it is what is printed at its end."""

    steps: int
    tokens: int  # trained on; one that was seen twice counts twice
    positions: int  # the same with padding
    seconds: float  # of training alone
    scoring_seconds: float
    total_seconds: float  # everything, from the loading of the model on, in all sessions
    tokens_per_second: float  # of training alone
    waited_seconds: float  # of training, for data
    memory_before: int  # bytes, when training began
    peak_memory: int  # bytes, of the GPUs or of this process
    mfu: float | None  # model FLOPs per second over what the machine can do
    price_per_hour: float | None
    money: float | None  # for `total_seconds`
    held_out: Sequence[HeldOut]  # in the order of the steps
    keep_best: bool = False  # the run ends with the best weights, not with the last ones

    @property
    def best(self) -> HeldOut | None:
        """The lowest score of those after the first step."""
        scores = [score for score in self.held_out if score.step]
        return min(scores, key=lambda score: score.bits_per_byte, default=None)

    def as_dict(self) -> dict[str, Any]:
        """Plain values, for YAML and JSON; without what is unknown."""
        values = {
            "steps": self.steps,
            "tokens": self.tokens,
            "positions": self.positions,
            "seconds": round(self.seconds, 1),
            "scoring_seconds": round(self.scoring_seconds, 1),
            "total_seconds": round(self.total_seconds, 1),
            "tokens_per_second": round(self.tokens_per_second, 1),
            "waited_seconds": round(self.waited_seconds, 2),
            "memory_before": self.memory_before,
            "peak_memory": self.peak_memory,
            "mfu": self.mfu,
            "price_per_hour": self.price_per_hour,
            "money": None if self.money is None else round(self.money, 4),
        }
        return {name: value for name, value in values.items() if value is not None}

    def __str__(self) -> str:
        return "\n".join(filter(None, [*self._speed(), self._scores(), *self._memory_and_money()]))

    def _speed(self) -> list[str]:
        steps = f"{self.steps:,} step" + ("s" if self.steps != 1 else "")
        took = f"Trained {steps}, {self.tokens:,} tokens, in {duration(self.seconds)}"
        if self.scoring_seconds:
            took += f"; scoring took {duration(self.scoring_seconds)}"
        speed = f"Speed: {self.tokens_per_second:,.0f} tokens/s"
        if self.mfu is not None:
            speed += f" ({100 * self.mfu:.0f} % of what this machine can multiply)"
        return [took + ".", f"{speed}; {duration(self.waited_seconds)} spent waiting for data."]

    def _scores(self) -> str:
        if not self.held_out:
            return ""
        first, last, best = self.held_out[0], self.held_out[-1], self.best
        if best is None:
            return f"Held out: {first.bits_per_byte:.4f} bits per byte."
        after = best if self.keep_best else last
        change = 100 * (after.bits_per_byte / first.bits_per_byte - 1)
        line = (
            f"Held out: {first.bits_per_byte:.4f} bits per byte before, "
            f"{after.bits_per_byte:.4f} after ({change:+.1f} %)"
        )
        if best.bits_per_byte < last.bits_per_byte:
            if self.keep_best:
                line += f", as it was at step {best.step:,}; {last.bits_per_byte:.4f} at the end"
            else:
                line += f"; best {best.bits_per_byte:.4f} at step {best.step:,}"
        return line + "."

    def _memory_and_money(self) -> list[str]:
        lines = [
            f"Memory: {megabytes(self.memory_before)} before training, "
            f"{megabytes(self.peak_memory)} at most."
        ]
        if self.money is not None:
            digits = 2 if self.money >= 1 else 4
            lines.append(
                f"Cost: {self.money:,.{digits}f} for {duration(self.total_seconds)} "
                f"at {self.price_per_hour:,.2f} an hour."
            )
        return lines

"""What a person sees of a run, and what the run leaves to be read: progress, metrics, a summary.

with Monitor(folder, steps) as monitor:
    monitor.begin()
    for step in ...:
        monitor.log(step, {"loss": ..., "learning_rate": ...}, tokens)
        monitor.step_done(step)
say(str(monitor.summary(tokens=..., positions=...)))
"""

import json
import logging
import math
import time
from collections import deque
from collections.abc import Callable, Mapping, Sequence
from contextlib import ExitStack
from datetime import datetime, timedelta
from pathlib import Path
from types import TracebackType
from typing import IO, TYPE_CHECKING, Any

from pipeline.console import Advance, duration, megabytes, progress, say, warn
from pipeline.training.memory import MemoryMeter
from pipeline.training.metrics import (
    HELD_OUT,
    HeldOut,
    Point,
    SpikeWatch,
    check_finite,
    read_held_out,
    read_metrics,
)
from pipeline.training.profiler import profiling
from pipeline.training.reporters import Reporter, Reporters
from pipeline.training.run_log import TRAIN_LOG, run_log
from pipeline.training.run_state import Progress
from pipeline.training.summary import Summary

if TYPE_CHECKING:
    from pipeline.training.evaluation import Evaluation

METRICS = "metrics.jsonl"

_PACE_STEPS = 50  # over which the time that is left is estimated
_KNOWN_AFTER = 4  # steps, of which the first takes longer than the others
_WORTH_SAYING = 60.0  # seconds
_MOST_OVERFLOWS = 20  # in a row: the scale of the loss is halved at each, so by then it is 1/10^6

_logger = logging.getLogger(__name__)


class Monitor:
    """Follows a run: progress on the screen, metrics.jsonl, train.log, reporters, a halt at NaN.

    Seconds of training are those from `begin` to the last step, without those of evaluations.

    Args:
        folder: of the run, for metrics.jsonl and train.log.
        steps: optimizer steps of the whole run.
        price_per_hour: of the machine, in whatever currency.
        settings: for the head of train.log, and the reporters.
        evaluations: how many will come after `begin`, for the time that is left.
        cuda: it is the GPUs' memory that counts.
        skips_overflows: training is in float16 with a scaled loss: a step whose gradients overflow
            is left out and the scale lowered, as it must be at first. Else that ends the run.
        profile_steps: so many steps are recorded with torch's profiler.
        keep_best: the run ends with the weights that scored best, not with the last ones.
        done: how far earlier sessions of this run have come, with their seconds; what they logged
            is in the folder's metrics.jsonl already.

    Attributes:
        last_good: where the last good weights are, for the message that ends a broken run.
        flops_per_token, machine_flops: see `flops`; with both, MFU is in the metrics.
        points, held_out: what was logged and scored so far.
    """

    def __init__(
        self,
        folder: Path,
        steps: int,
        *,
        price_per_hour: float | None = None,
        reporters: Sequence[Reporter] = (),
        settings: Mapping[str, Any] | None = None,
        evaluations: int = 0,
        cuda: bool = False,
        skips_overflows: bool = False,
        profile_steps: int = 0,
        keep_best: bool = False,
        done: Progress | None = None,
        clock: Callable[[], float] = time.perf_counter,
    ) -> None:
        self.last_good: str | None = None
        self.flops_per_token: float | None = None
        self.machine_flops: float | None = None
        self.points: list[Point] = []
        self.held_out: list[HeldOut] = []
        self._folder, self._steps, self._price = folder, steps, price_per_hour
        self._reporters = Reporters(reporters)
        self._settings = dict(settings or {})
        self._evaluations = evaluations
        self._skips_overflows = skips_overflows
        self._profile_steps = profile_steps
        self._keep_best = keep_best
        self._before = done or Progress()
        self._done = self._before.step
        self._clock = clock
        self._memory = MemoryMeter(cuda=cuda)
        self._memory_before = 0
        self._spikes = SpikeWatch()
        self._overflows = 0
        self._entered = self._began = clock()  # as if there had been no other session
        self._away = 0.0  # seconds of evaluations since training began
        self._scoring = self._before.scoring_seconds  # of all evaluations
        self._unlisted = 0.0  # seconds of those whose scores no longer hold
        self._waited = 0.0
        self._trained = 0.0  # seconds of training at the last step
        self._step = 0
        self._pace: deque[tuple[int, float]] = deque(maxlen=_PACE_STEPS)
        self._stack = ExitStack()
        self._file: IO[str] | None = None
        self._advance: Advance = lambda *_, **__: None
        self._profile_step: Callable[[], None] = lambda: None

    def __enter__(self) -> "Monitor":
        self._began = self._clock()
        self._entered = self._began - self._before.total_seconds
        self._folder.mkdir(parents=True, exist_ok=True)
        with ExitStack() as stack:
            stack.enter_context(run_log(self._folder / TRAIN_LOG, self._settings))
            path = self._folder / METRICS
            if self._done:
                self.points, self.held_out = read_metrics(path), read_held_out(path)
                self._waited = self.points[-1].waited if self.points else 0.0
                self._unlisted = 0.0 if self.held_out else self._scoring
            mode = "a" if self._done else "w"
            self._file = stack.enter_context(path.open(mode, encoding="utf-8"))
            stack.enter_context(self._reporters.started(self._settings, self._folder))
            self._stack = stack.pop_all()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self._stack.__exit__(kind, error, traceback)
        self._file = None
        self._advance = lambda *_, **__: None

    def begin(self) -> None:
        """The first step begins now; what came before was preparation."""
        self._memory_before = self._memory.restart()
        self._advance = self._stack.enter_context(progress("Training", self._steps, "steps"))
        self._profile_step = self._stack.enter_context(profiling(self._folder, self._profile_steps))
        start = {
            "memory": self._memory_before,
            "flops_per_token": self.flops_per_token,
            "machine_flops": self.machine_flops,
        }
        self._write(
            {"step": self._done, "start": {k: v for k, v in start.items() if v is not None}}
        )
        self._began, self._away = self._clock() - self._before.seconds, 0.0
        self._trained = self._before.seconds
        self._step = self._done
        self._advance(self._done)
        self._pace.append((self._done, self._trained))

    def step_done(self, step: int) -> None:
        """Count the step on the screen. `step` is from 1 on."""
        self._trained = self._seconds()
        if len(self._pace) == 2 and self._pace[0][0] == self._done:
            self._pace.popleft()  # the first step takes longer than the others
        self._pace.append((step, self._trained))
        self._advance(step - self._step, left=self._left(step))
        self._step = step
        if step == self._done + _KNOWN_AFTER:
            self._say_how_long(step)
        before = self._clock()
        self._profile_step()  # to write the trace down takes a second
        self._away += self._clock() - before

    def _say_how_long(self, step: int) -> None:
        left = self._left(step)
        if left >= _WORTH_SAYING:
            end = datetime.now() + timedelta(seconds=left)
            cost = f", for {self._price * left / 3600:,.2f}" if self._price else ""
            say(f"About {duration(left)} to go, until {end:%H:%M}{cost}.")

    def waited(self, seconds: float) -> None:
        """So long the training has waited for data."""
        self._waited += seconds

    def log(self, step: int, logs: Mapping[str, Any], tokens: int) -> None:
        """Keep a record of the trainer; those without a loss (its own summary) are ignored.

        Args:
            logs: `loss`, and where there are such `learning_rate` and `grad_norm`.
            tokens: trained on since the start of the run.

        Raises:
            PipelineError: the loss or the gradient is not a finite number.
        """
        if "loss" not in logs:
            return
        values = {name: float(logs[name]) for name in ("loss", "grad_norm") if name in logs}
        self._check(step, values)
        before = self.points[-1] if self.points else Point(0, 0.0, 0.0, 0, 0.0, 0.0)
        seconds = self._seconds()
        rate = (tokens - before.tokens) / max(seconds - before.seconds, 1e-9)
        gradient = values.get("grad_norm", math.nan)
        point = Point(
            step=step,
            loss=round(values["loss"], 6),
            learning_rate=float(logs.get("learning_rate", 0.0)),
            tokens=tokens,
            seconds=round(seconds, 3),
            tokens_per_second=round(rate, 1),
            grad_norm=round(gradient, 6) if math.isfinite(gradient) else None,
            memory=self._memory.peak(),
            waited=round(self._waited, 3),
            mfu=self._mfu(rate),
        )
        self.points.append(point)
        self._write(point.as_dict())
        self._show(point)
        self._watch(point)
        self._reporters.log(
            step, {f"train/{k}": v for k, v in point.as_dict().items() if k != "step"}
        )

    def evaluated(self, evaluation: "Evaluation") -> None:
        """Keep a score of the held-out text. Its seconds are not of training."""
        self._away += evaluation.seconds
        self._scoring += evaluation.seconds
        score = HeldOut(evaluation.step, evaluation.score.loss, evaluation.score.bits_per_byte)
        by_source = {name: part.bits_per_byte for name, part in evaluation.by_source.items()}
        values: dict[str, Any] = {"loss": score.loss, "bits_per_byte": score.bits_per_byte}
        sources = {"by_source": by_source} if by_source else {}
        record = {**values, **sources, "seconds": round(evaluation.seconds, 3)}
        self.held_out.append(score)
        self._write({"step": score.step, HELD_OUT: record})
        values |= {f"bits_per_byte/{name}": value for name, value in by_source.items()}
        self._reporters.log(
            score.step, {f"{HELD_OUT}/{name}": value for name, value in values.items()}
        )

    def summary(self, *, tokens: int, positions: int) -> Summary:
        """What the run came to so far, with its earlier sessions as far as they were saved.

        Args:
            tokens: trained on; one that was seen twice counts twice.
            positions: the same with padding.
        """
        total = self.total_seconds
        rate = tokens / max(self._trained, 1e-9)
        return Summary(
            steps=self._step,
            tokens=tokens,
            positions=positions,
            seconds=self._trained,
            scoring_seconds=self._scoring,
            total_seconds=total,
            tokens_per_second=rate,
            waited_seconds=self._waited,
            memory_before=self._memory_before,
            peak_memory=max(self._memory.peak(), *(point.memory or 0 for point in self.points), 0),
            mfu=self._mfu(rate),
            price_per_hour=self._price,
            money=None if self._price is None else self._price * total / 3600,
            held_out=list(self.held_out),
            keep_best=self._keep_best,
        )

    @property
    def seconds(self) -> float:
        """Seconds of training so far, those of earlier sessions too."""
        return self._trained

    @property
    def scoring_seconds(self) -> float:
        """Seconds of evaluations so far, those of earlier sessions too."""
        return self._scoring

    @property
    def total_seconds(self) -> float:
        """Seconds of everything so far, those of earlier sessions too."""
        return self._clock() - self._entered

    def _seconds(self) -> float:
        return self._clock() - self._began - self._away

    def _left(self, step: int) -> float:
        """Seconds to the end, with the evaluations that are to come."""
        (first, start), (last, end) = self._pace[0], self._pace[-1]
        training = (end - start) / max(last - first, 1) * (self._steps - step)
        done = [score for score in self.held_out if score.step]
        to_come = max(0, self._evaluations - len(done))
        listed = self._scoring - self._unlisted
        each = listed / len(self.held_out) if self.held_out else 0.0
        return training + to_come * each

    def _mfu(self, rate: float) -> float | None:
        if not self.flops_per_token or not self.machine_flops:
            return None
        return round(rate * self.flops_per_token / self.machine_flops, 4)

    def _check(self, step: int, values: Mapping[str, float]) -> None:
        is_overflow = self._skips_overflows and not math.isfinite(values.get("grad_norm", 0.0))
        self._overflows = self._overflows + 1 if is_overflow else 0
        for name, value in values.items():
            if name == "grad_norm" and 0 < self._overflows <= _MOST_OVERFLOWS:
                continue
            if not math.isfinite(value):
                self._write({"step": step, "broken": {name: str(value)}})
            check_finite(name, value, step, self.last_good)

    def _watch(self, point: Point) -> None:
        usual = self._spikes.look(point.loss)
        if usual is None:
            return
        self._write({"step": point.step, "spike": {"loss": point.loss, "usual": usual}})
        kept = f" The last good weights: {self.last_good}." if self.last_good else ""
        warn(
            f"The loss jumped to {point.loss:.3f} at step {point.step}, from about {usual:.3f}. "
            f"If it stays there, lower --learning-rate or raise --warmup.{kept}"
        )

    def _show(self, point: Point) -> None:
        memory = point.memory or 0
        note = (
            f"loss {point.loss:.3f}, lr {point.learning_rate:.1e}, "
            f"{point.tokens_per_second:,.0f} tokens/s, "
            + (f"{memory / 1e9:,.1f} GB" if memory >= 1e9 else megabytes(memory))
        )
        self._advance(0, note)
        _logger.debug("step %d: %s", point.step, note)

    def _write(self, record: Mapping[str, Any]) -> None:
        if self._file is not None:
            self._file.write(json.dumps(record, ensure_ascii=False) + "\n")
            self._file.flush()

"""What a person sees of a run: metrics, the time that is left, halts, warnings, a summary."""

import json
import math
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from pipeline import console
from pipeline.console import say
from pipeline.errors import PipelineError
from pipeline.scoring.bits import Score
from pipeline.training.evaluation import Evaluation
from pipeline.training.metrics import HeldOut, read_held_out, read_metrics
from pipeline.training.monitor import METRICS, Monitor
from pipeline.training.run_log import TRAIN_LOG
from pipeline.training.run_state import Progress


class Clock:
    """A clock that stands still until it is moved."""

    def __init__(self) -> None:
        self.now = 1000.0

    def __call__(self) -> float:
        return self.now

    def pass_by(self, seconds: float) -> None:
        self.now += seconds


def evaluation(step: int, nats: float = 300.0, seconds: float = 10.0) -> Evaluation:
    return Evaluation(step, Score(nats, 100, 400), {}, ["text"], seconds)


def record(loss: float = 3.0, **more: float) -> dict[str, Any]:
    return {"loss": loss, "learning_rate": 1e-3, "grad_norm": 0.5, "epoch": 0.1, **more}


def lines(folder: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in (folder / METRICS).read_text().splitlines()]


def test_records_are_on_the_disk_at_once_and_evaluations_are_not_training_time(
    tmp_path: Path,
) -> None:
    clock = Clock()
    with Monitor(tmp_path, 4, clock=clock) as monitor:
        clock.pass_by(30)  # the model is loaded
        monitor.evaluated(evaluation(0, seconds=20))
        monitor.begin()
        clock.pass_by(2)
        monitor.waited(0.25)
        monitor.step_done(1)
        monitor.log(1, record(3.5), tokens=1000)
        assert read_metrics(tmp_path / METRICS) == monitor.points
        clock.pass_by(50)
        monitor.evaluated(evaluation(1, nats=290, seconds=50))
        clock.pass_by(2)
        monitor.step_done(2)
        monitor.log(2, record(3.25), tokens=3000)
        monitor.log(2, {"train_runtime": 6.0, "train_loss": 3.4}, tokens=3000)
    points = read_metrics(tmp_path / METRICS)
    assert [(p.step, p.loss, p.tokens, p.seconds, p.tokens_per_second) for p in points] == [
        (1, 3.5, 1000, 2.0, 500.0),
        (2, 3.25, 3000, 4.0, 1000.0),
    ]
    assert points[0].grad_norm == 0.5
    assert points[0].waited == 0.25
    assert points[0].memory is not None
    assert points[0].memory > 10_000_000, "bytes of this process"
    assert points[0].mfu is None
    held_out = read_held_out(tmp_path / METRICS)
    assert held_out == monitor.held_out
    assert [(score.step, score.loss) for score in held_out] == [(0, 3.0), (1, 2.9)]
    assert lines(tmp_path)[1]["start"]["memory"] > 10_000_000


def test_scores_of_sources_are_kept(tmp_path: Path) -> None:
    parts = {"novels": Score(100, 50, 200), "letters": Score(200, 50, 200)}
    with Monitor(tmp_path, 1) as monitor:
        monitor.evaluated(replace(evaluation(0), by_source=parts))
    by_source = lines(tmp_path)[0]["held_out"]["by_source"]
    assert by_source == {name: part.bits_per_byte for name, part in parts.items()}


def test_the_time_left_counts_the_evaluations_to_come_but_not_the_slow_first_step(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    clock = Clock()
    told: list[float] = []
    monkeypatch.setattr(
        console._Work, "advance",
        lambda self, n=1, note="", size=0, left=None: None if left is None else told.append(left),
    )  # fmt: skip
    with Monitor(tmp_path, 10, evaluations=2, clock=clock) as monitor:
        monitor.evaluated(evaluation(0, seconds=20))
        monitor.begin()
        for step, seconds in ((1, 9.0), (2, 3.0), (3, 3.0)):
            clock.pass_by(seconds)
            monitor.step_done(step)
        clock.pass_by(40)
        monitor.evaluated(evaluation(3, seconds=40))
        clock.pass_by(3)
        monitor.step_done(4)
    assert told == [
        9 * 9 + 2 * 20,  # one step is all that is known
        8 * 3 + 2 * 20,
        7 * 3 + 2 * 20,
        6 * 3 + 1 * 30,
    ]


@pytest.mark.parametrize("bad", [{"loss": math.nan}, {"loss": 1.0, "grad_norm": math.inf}])
def test_a_loss_or_gradient_that_is_no_number_stops_the_run(
    tmp_path: Path, bad: dict[str, float]
) -> None:
    with (
        pytest.raises(PipelineError, match=r"broke at step 7: .*weights: best/step-5"),
        Monitor(tmp_path, 9) as monitor,
    ):
        monitor.last_good = "best/step-5"
        monitor.log(7, record(**bad), tokens=5)
    assert [line.keys() for line in lines(tmp_path)] == [{"step", "broken"}]
    assert "broke at step 7" in (tmp_path / TRAIN_LOG).read_text()


def test_a_scaled_loss_may_overflow_at_first_but_not_for_ever(tmp_path: Path) -> None:
    with (
        pytest.raises(PipelineError, match="Training broke at step 24: the gradient is inf"),
        Monitor(tmp_path, 30, skips_overflows=True) as monitor,
    ):
        monitor.log(1, record(grad_norm=math.inf), tokens=5)
        monitor.log(2, record(grad_norm=math.nan), tokens=10)
        monitor.log(3, record(), tokens=15)
        for step in range(4, 30):
            monitor.log(step, record(grad_norm=math.inf), tokens=5 * step)
    assert [point.grad_norm for point in monitor.points[:3]] == [None, None, 0.5]
    with (
        pytest.raises(PipelineError, match="the loss is nan"),
        Monitor(tmp_path, 30, skips_overflows=True) as monitor,
    ):
        monitor.log(1, record(math.nan), tokens=5)


def test_a_spike_is_warned_of_once_and_kept(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    with Monitor(tmp_path, 40) as monitor:
        monitor.last_good = "checkpoints/30"
        for step in range(1, 41):
            loss = 9.0 if step in (31, 32) else 3.0 + 0.05 * math.sin(step)
            monitor.log(step, record(loss), tokens=step)
    warnings = [line for line in capsys.readouterr().err.splitlines() if "warning" in line]
    assert len(warnings) == 1
    assert "jumped to 9.000 at step 31, from about 3.0" in warnings[0]
    assert "checkpoints/30" in warnings[0]
    (spike,) = [line for line in lines(tmp_path) if "spike" in line]
    assert spike["step"] == 31
    assert len(read_metrics(tmp_path / METRICS)) == 40


def test_the_summary_tells_time_speed_memory_scores_and_money(tmp_path: Path) -> None:
    clock = Clock()
    with Monitor(tmp_path, 2, price_per_hour=2.5, clock=clock) as monitor:
        monitor.flops_per_token, monitor.machine_flops = 2e6, 1e9
        clock.pass_by(60)
        monitor.evaluated(evaluation(0, nats=300))
        monitor.begin()
        for step in (1, 2):
            clock.pass_by(5)
            monitor.waited(0.5)
            monitor.step_done(step)
            monitor.log(step, record(), tokens=1000 * step)
            clock.pass_by(10)
            monitor.evaluated(evaluation(step, nats=270 + 10 * step))
        clock.pass_by(630)
        summary = monitor.summary(tokens=2000, positions=2500)
    assert summary.seconds == 10
    assert summary.scoring_seconds == 30
    assert summary.total_seconds == 720
    assert summary.tokens_per_second == 200
    assert summary.waited_seconds == 1
    assert summary.mfu == 200 * 2e6 / 1e9
    assert summary.money == pytest.approx(0.5)
    assert summary.peak_memory >= summary.memory_before > 0
    assert summary.best == monitor.held_out[1]
    assert monitor.points[0].mfu == 0.4
    lines = str(summary).splitlines()
    assert lines.pop(3).startswith("Memory: ")
    assert lines == [
        "Trained 2 steps, 2,000 tokens, in 10 s; scoring took 30 s.",
        "Speed: 200 tokens/s (40 % of what this machine can multiply); 1.0 s spent waiting for "
        "data.",
        "Held out: 1.0820 bits per byte before, 1.0460 after (-3.3 %); best 1.0099 at step 1.",
        "Cost: 0.5000 for 12 min 00 s at 2.50 an hour.",
    ]
    assert json.loads(json.dumps(summary.as_dict()))["money"] == 0.5


def test_a_run_that_goes_on_counts_the_seconds_money_and_memory_of_its_earlier_sessions(
    tmp_path: Path,
) -> None:
    clock = Clock()
    with Monitor(tmp_path, 4, price_per_hour=3600, clock=clock) as monitor:
        clock.pass_by(60)
        monitor.evaluated(evaluation(0, seconds=20))
        monitor.begin()
        for step in (1, 2):
            clock.pass_by(5)
            monitor.step_done(step)
            monitor.log(step, record(), tokens=1000 * step)
        done = Progress(
            step=2, tokens=2000, seconds=monitor.seconds, scoring_seconds=monitor.scoring_seconds,
            total_seconds=monitor.total_seconds,
        )  # fmt: skip
    rows = lines(tmp_path)
    peak = 10**15
    rows[-1]["memory"] = peak
    (tmp_path / METRICS).write_text("".join(json.dumps(row) + "\n" for row in rows))
    clock.pass_by(100_000)  # nobody pays for the time between two sessions
    with Monitor(tmp_path, 4, price_per_hour=3600, done=done, clock=clock) as monitor:
        clock.pass_by(30)
        monitor.begin()
        for step in (3, 4):
            clock.pass_by(5)
            monitor.step_done(step)
        monitor.evaluated(evaluation(4, seconds=10))
        clock.pass_by(10)
        summary = monitor.summary(tokens=4000, positions=4000)
    assert (summary.seconds, summary.scoring_seconds, summary.total_seconds) == (20, 30, 70 + 50)
    assert summary.money == 120
    assert summary.peak_memory == peak


def test_where_the_best_weights_are_kept_the_summary_gives_their_score(tmp_path: Path) -> None:
    with Monitor(tmp_path, 2, keep_best=True) as monitor:
        for step, nats in ((0, 300), (1, 280), (2, 290)):
            monitor.evaluated(evaluation(step, nats))
    assert (
        "1.0820 bits per byte before, 1.0099 after (-6.7 %), as it was at step 1; 1.0460 at the end"
    ) in str(monitor.summary(tokens=1, positions=1))


def test_a_summary_of_nothing_is_no_error(tmp_path: Path) -> None:
    with Monitor(tmp_path, 2) as monitor:
        summary = monitor.summary(tokens=0, positions=0)
    assert summary.tokens_per_second == 0
    assert str(summary).startswith("Trained 0 steps, 0 tokens, in 0.0 s.\nSpeed: 0 tokens/s; 0.0 s")
    assert "Cost" not in str(summary)
    assert "money" not in summary.as_dict()


def test_the_log_has_what_was_said_and_the_settings(tmp_path: Path) -> None:
    with Monitor(tmp_path, 2, settings={"rank": 16}) as monitor:
        say("Training begins.")
        monitor.log(1, record(), tokens=5)
    text = (tmp_path / TRAIN_LOG).read_text()
    assert "rank: 16" in text
    assert "Training begins." in text
    assert "step 1: loss 3.000, lr 1.0e-03, " in text


class Broken:
    """A reporter that fails at the named places."""

    name = "broken"

    def __init__(self, *places: str) -> None:
        self._places = places
        self.calls: list[str] = []

    def start(self, settings: Mapping[str, Any], folder: Path) -> None:
        self._call("start")

    def log(self, step: int, values: Mapping[str, float]) -> None:
        self._call("log")

    def finish(self) -> None:
        self._call("finish")

    def _call(self, place: str) -> None:
        self.calls.append(place)
        if place in self._places:
            raise RuntimeError(f"no {place}: hf_abcdefghijklmnopqrst")


def test_a_reporter_that_does_not_start_ends_the_run_before_it_begins(tmp_path: Path) -> None:
    good, bad = Broken(), Broken("start")
    with pytest.raises(
        PipelineError, match="--report-to broken does not start: no start"
    ) as caught:
        Monitor(tmp_path, 2, reporters=[good, bad]).__enter__()
    assert "hf_abc" not in str(caught.value)
    assert good.calls == ["start", "finish"]


def test_a_reporter_that_fails_later_is_left_behind(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    bad, good = Broken("log", "finish"), Broken()
    with Monitor(tmp_path, 2, reporters=[bad, good]) as monitor:
        monitor.log(1, record(), tokens=5)
        monitor.log(2, record(), tokens=10)
    assert bad.calls == ["start", "log", "finish"]
    assert good.calls == ["start", "log", "log", "finish"]
    assert len(monitor.points) == 2
    shown = capsys.readouterr().err
    assert "broken takes no more figures" in shown
    assert "broken did not end well" in shown
    text = (tmp_path / TRAIN_LOG).read_text()
    assert "RuntimeError: no log: ***" in text, "why, but no secret"


def test_reporters_get_the_same_figures(tmp_path: Path) -> None:
    got: list[tuple[int, dict[str, float]]] = []
    reporter = Broken()
    reporter.log = lambda step, values: got.append((step, dict(values)))  # type: ignore[method-assign]
    with Monitor(tmp_path, 2, reporters=[reporter]) as monitor:
        monitor.evaluated(evaluation(0))
        monitor.log(1, record(), tokens=5)
    assert got[0] == (
        0,
        {"held_out/loss": 3.0, "held_out/bits_per_byte": monitor.held_out[0].bits_per_byte},
    )
    assert got[1][0] == 1
    assert got[1][1]["train/loss"] == 3.0
    assert got[1][1]["train/tokens"] == 5


def test_the_profile_is_written_into_the_folder(tmp_path: Path) -> None:
    import torch

    with Monitor(tmp_path, 8, profile_steps=2) as monitor:
        monitor.begin()
        for step in range(1, 9):
            torch.ones(8, 8) @ torch.ones(8, 8)
            monitor.step_done(step)
    assert (tmp_path / "profile.json.gz").is_file()
    assert "aten::mm" in (tmp_path / "profile.txt").read_text()


def test_the_held_out_scores_are_those_of_the_picture(tmp_path: Path) -> None:
    with Monitor(tmp_path, 1) as monitor:
        monitor.evaluated(evaluation(0, nats=277.2588722239781))
    (score,) = monitor.held_out
    assert isinstance(score, HeldOut)
    assert score.loss == pytest.approx(2.7726, abs=1e-4)
    assert score.bits_per_byte == pytest.approx(1.0)

"""Weights on their way: training never waits for them, the newest wins, failures are loud."""

import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from pipeline.errors import PipelineError
from pipeline.files import read_json_object
from pipeline.training.news import News
from pipeline.training.publishing_best import PUSHED, BestPublisher


class Memory:
    """A place that keeps what it gets, and does first what it is told to."""

    shown = "https://hub/ada/tales"

    def __init__(self) -> None:
        self.got: list[tuple[int, str]] = []
        self.before: Callable[[], object] = bool
        self.known: dict[str, int] = {}

    def begin(self, run: str) -> int | None:
        return self.known.get(run)

    def send(self, folder: Path, news: News) -> None:
        self.before()
        self.got.append((news.step, (folder / "weights").read_text()))


def news(step: int) -> News:
    return News("run", step, 40, 2.0 - step / 100, 2.0, 900, {"name": "ada/base"}, "lora")


def publisher(place: Memory, folder: Path, **how: Any) -> BestPublisher:
    """One that waits a thousandth of the time."""
    how.setdefault("sleep", lambda seconds: time.sleep(min(seconds, 1) / 1000))
    (folder / "waiting").mkdir()
    return BestPublisher(place, folder / "waiting", jitter=lambda: 0.5, **how)


def offer(to: BestPublisher, step: int) -> None:
    to.offer(lambda folder: (folder / "weights").write_text(f"of {step}"), news(step))


def test_the_last_is_waited_for_and_noted(
    tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    place = Memory()
    place.known = {"run": 7}
    with publisher(place, tmp_path) as sending:
        sending.begin("other")
        assert sending.there == -1
        sending.begin("run", tmp_path)
        assert sending.there == 7
        offer(sending, 10)
        outcome = sending.finish(30)
    assert outcome.ok and place.got == [(10, "of 10")]
    assert read_json_object(tmp_path / PUSHED)["step"] == 10
    assert str(outcome) == f"Pushed to {place.shown} 1 time, last the weights of step 10"
    assert "Pushed the best weights so far, of step 10, to" in capfd.readouterr().err
    assert list((tmp_path / "waiting").iterdir()) == [], "nothing is left behind"


def test_a_newer_one_takes_the_place_of_one_that_waits_and_training_waits_for_neither(
    tmp_path: Path,
) -> None:
    place, is_under_way, go_on = Memory(), threading.Event(), threading.Event()

    def hang() -> None:
        is_under_way.set()
        go_on.wait(30)

    place.before = hang
    with publisher(place, tmp_path) as sending:
        offer(sending, 10)
        assert is_under_way.wait(30)
        began = time.perf_counter()
        for step in (20, 30, 40):
            offer(sending, step)
        assert time.perf_counter() - began < 1
        assert len(list((tmp_path / "waiting").iterdir())) == 2, "one under way, one that waits"
        assert not sending.finish(0.05).ok, "it is not waited for longer than asked"
        go_on.set()
        outcome = sending.finish(30)
    assert place.got == [(10, "of 10"), (40, "of 40")]
    assert outcome.ok and outcome.count == 2


def test_a_failure_is_told_at_once_and_tried_again(
    tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    place = Memory()
    left = iter([PipelineError("No answer.", "Check the network."), OSError("full"), KeyError("x")])

    def fail() -> None:
        if (error := next(left, None)) is not None:
            raise error

    place.before = fail
    with publisher(place, tmp_path) as sending:
        offer(sending, 10)
        outcome = sending.finish(30)
    assert outcome.ok and outcome.failures == 3 and outcome.reason is None
    said = capfd.readouterr().err
    assert said.count("could not be pushed") == 1
    assert "step 10 could not be pushed: No answer. All else goes on, and it is tried again" in said
    assert str(outcome).endswith("; 3 tries failed")


def test_what_never_arrives_is_given_up_at_the_end_only(
    tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    place, tries = Memory(), []

    def fail() -> None:
        tries.append(1)
        raise PipelineError("No answer.")

    place.before = fail
    with publisher(place, tmp_path, tries=3) as sending:
        offer(sending, 10)
        while len(tries) < 6:
            time.sleep(0.001)
        outcome = sending.finish(30)
        assert not outcome.ok
        assert f"{outcome}".startswith(
            f"The weights of step 10 never arrived at {place.shown}: No answer; "
        )
        place.before = bool
        offer(sending, 20)
        assert sending.finish(30).ok, "and the next one may"
        sending.stop(1)
    assert "Pushed to https://hub/ada/tales 1 time" in capfd.readouterr().err


def test_weights_that_cannot_be_written_do_not_end_the_training(
    tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    def write(folder: Path) -> None:
        raise OSError(28, "No space left on device")

    with publisher(Memory(), tmp_path) as sending:
        sending.offer(write, news(10))
        assert list((tmp_path / "waiting").iterdir()) == []
        outcome = sending.finish(30)
        sending.stop(1)
    assert not outcome.ok and "No space left" in str(outcome)
    said = capfd.readouterr().err
    assert "The weights of step 10 are not pushed" in said
    assert "The next session of the run tries again." in said

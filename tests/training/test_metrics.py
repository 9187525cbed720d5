"""metrics.jsonl keeps training, evaluations and incidents apart; old files are still read."""

import json
import math
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pipeline.errors import PipelineError
from pipeline.training.metrics import (
    HeldOut,
    Point,
    SpikeWatch,
    check_finite,
    read_held_out,
    read_metrics,
    smoothed,
)


def test_a_file_of_an_older_version_or_a_newer_one_is_still_read(tmp_path: Path) -> None:
    old = {
        "step": 1, "loss": 3.5, "learning_rate": 1e-4, "tokens": 9, "seconds": 2.0,
        "tokens_per_second": 4.5,
    }  # fmt: skip
    path = tmp_path / "metrics.jsonl"
    path.write_text(json.dumps(old) + "\n" + json.dumps(old | {"step": 2, "mood": "good"}) + "\n")
    assert read_metrics(path) == [
        Point(1, 3.5, 1e-4, 9, 2.0, 4.5),
        Point(2, 3.5, 1e-4, 9, 2.0, 4.5),
    ]
    assert read_held_out(path) == []


def test_evaluations_and_incidents_are_no_training_points(tmp_path: Path) -> None:
    point = Point(1, 3.5, 1e-4, 9, 2.0, 4.5, grad_norm=0.5, memory=7, waited=0.1, mfu=0.4)
    lines = [
        {"step": 0, "start": {"memory": 5}},
        {"step": 0, "held_out": {"loss": 3.0, "bits_per_byte": 1.2, "seconds": 1.0}},
        point.as_dict(),
        {"step": 1, "spike": {"loss": 9.0, "usual": 3.0}},
        {"step": 1, "held_out": {"loss": 2.9, "bits_per_byte": 1.1}},
    ]
    path = tmp_path / "metrics.jsonl"
    path.write_text("".join(json.dumps(line) + "\n" for line in lines))
    assert read_metrics(path) == [point]
    assert read_held_out(path) == [HeldOut(0, 3.0, 1.2), HeldOut(1, 2.9, 1.1)]


def test_a_damaged_line_is_named(tmp_path: Path) -> None:
    path = tmp_path / "metrics.jsonl"
    path.write_text('{"step": 1, "held_out"\n')
    with pytest.raises(PipelineError, match=r"metrics\.jsonl:1 is not a JSON object"):
        read_metrics(path)


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=3),
    lambda inner: st.lists(inner, max_size=2) | st.dictionaries(st.text(max_size=3), inner),
    max_leaves=4,
)


@given(st.sampled_from(["step", "loss", "memory", "held_out", "loss of held_out"]), JSON)
def test_rows_that_hold_anything_are_read_or_refused(
    tmp_path_factory: pytest.TempPathFactory, name: str, value: object
) -> None:
    row: dict[str, Any] = {
        "step": 1, "loss": 2.0, "learning_rate": 0.1, "tokens": 8, "seconds": 1.0,
        "tokens_per_second": 8.0, "memory": 5, "held_out": {"loss": 2.0, "bits_per_byte": 1.0},
    }  # fmt: skip
    (row if " of " not in name else row["held_out"])[name.split(" ")[0]] = value
    path = tmp_path_factory.mktemp("odd") / "metrics.jsonl"
    path.write_text(json.dumps(row) + "\n")
    for read in (read_metrics, read_held_out):
        try:
            assert all(math.isfinite(each.step) or each.step for each in read(path))
        except PipelineError as error:
            assert str(path) in error.message


def test_a_row_nested_as_deep_as_nobody_writes_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "metrics.jsonl"
    path.write_text('{"loss": ' + "[" * 100_000 + "]" * 100_000 + "}\n")
    with pytest.raises(PipelineError, match="not a JSON object"):
        read_metrics(path)


def test_what_breaks_a_run_names_the_last_good_weights() -> None:
    check_finite("loss", 3.0, 7)
    with pytest.raises(PipelineError, match="nothing was saved"):
        check_finite("loss", math.nan, 7)
    with pytest.raises(PipelineError, match=r"the gradient is inf.*weights: run/best"):
        check_finite("grad_norm", math.inf, 7, "run/best")


def noisy(n: int, level: float = 3.0) -> list[float]:
    return [level + 0.15 * math.sin(7.3 * i) for i in range(n)]


def test_a_spike_is_told_once_with_what_is_usual() -> None:
    watch = SpikeWatch()
    assert [watch.look(loss) for loss in noisy(40)] == [None] * 40
    usual = watch.look(6.0)
    assert usual == pytest.approx(3.0, abs=0.1)
    assert watch.look(5.5) is None, "still the same spike"
    assert [watch.look(loss) for loss in noisy(10)] == [None] * 10
    assert watch.look(6.0) is not None, "another one"


def test_a_new_level_that_stays_is_told_once() -> None:
    watch = SpikeWatch()
    told = [watch.look(loss) for loss in [*noisy(40), *noisy(100, level=6.0)]]
    assert sum(usual is not None for usual in told) == 1


def test_a_jump_of_less_than_a_fifth_is_no_spike_however_quiet_the_loss_was() -> None:
    watch = SpikeWatch()
    assert [watch.look(loss) for loss in [*[3.0] * 40, 3.59]] == [None] * 41
    assert watch.look(3.61) is not None


@given(st.lists(st.floats(0.1, 3.0), max_size=7), st.floats(0, 100))
def test_little_is_known_of_the_first_losses(losses: list[float], then: float) -> None:
    watch = SpikeWatch()
    assert all(watch.look(loss) is None for loss in [*losses, then])


def test_a_curve_that_falls_fast_has_no_spikes() -> None:
    watch = SpikeWatch()
    assert all(watch.look(10 * math.exp(-i / 30) + x) is None for i, x in enumerate(noisy(200, 2)))


def test_smoothing_keeps_a_level_and_does_not_lag() -> None:
    assert smoothed([2.0] * 30) == pytest.approx([2.0] * 30)
    line = [float(i) for i in range(100)]
    assert smoothed(line)[30:70] == pytest.approx(line[30:70])
    noisy = [1.0 + (-1) ** i for i in range(100)]
    assert max(abs(value - 1) for value in smoothed(noisy)[10:90]) < 0.05
    assert smoothed([]) == []
    assert smoothed([4.0]) == pytest.approx([4.0])

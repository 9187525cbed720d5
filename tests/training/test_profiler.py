"""The profiler records the steps that were asked for, and says so if there were too few."""

import gzip
import json
from pathlib import Path

import pytest
import torch

from pipeline.training.profiler import SKIPPED, TABLE, TRACE, profiling


def work(folder: Path, steps: int, recorded: int) -> None:
    with profiling(folder, recorded) as step_done:
        for step in range(1, steps + 1):
            with torch.profiler.record_function(f"step {step}"):
                torch.ones(4, 4) @ torch.ones(4, 4)
            step_done()


def test_the_steps_after_the_first_three_are_recorded(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    work(tmp_path, steps=8, recorded=2)
    trace = json.loads(gzip.decompress((tmp_path / TRACE).read_bytes()))
    names = {event.get("name", "") for event in trace["traceEvents"]}
    assert {name for name in names if name.startswith("step ")} == {"step 4", "step 5"}
    assert "aten::mm" in (tmp_path / TABLE).read_text()
    assert "ui.perfetto.dev" in capsys.readouterr().err
    assert {path.name for path in tmp_path.iterdir()} == {TRACE, TABLE}


def test_a_run_that_ends_early_leaves_what_there_is(tmp_path: Path) -> None:
    work(tmp_path, steps=4, recorded=100)
    assert (tmp_path / TRACE).is_file()


def test_a_run_of_too_few_steps_is_warned_of(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    work(tmp_path, steps=SKIPPED - 1, recorded=2)
    assert "No profile was written" in capsys.readouterr().err
    assert list(tmp_path.iterdir()) == []


def test_nothing_is_recorded_unasked(tmp_path: Path) -> None:
    work(tmp_path, steps=5, recorded=0)
    assert list(tmp_path.iterdir()) == []

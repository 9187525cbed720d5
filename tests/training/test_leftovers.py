"""What no run needs any more is told with its size; nothing that could be gone on with is."""

import shlex
from pathlib import Path

import pytest

from pipeline.training import attempts, checkpoints, leftovers
from pipeline.training.leftovers import told
from pipeline.training.run_folders import ASIDE, GIVEN_UP


@pytest.fixture
def root(tmp_path: Path) -> Path:
    """The checkpoints of a run `mine`, and of others: finished, half-way, given up, set aside."""
    root = tmp_path / "check points"
    for run, step in [("mine", 9), ("done", 9), ("half", 4), ("gone", 4), (f"{ASIDE}1-x", 4)]:
        checkpoints.write(
            root / run, step, lambda path: (path / "model.bin").write_bytes(bytes(1000)),
            {"run": run, "steps": 9},
        )  # fmt: skip
    (root / "gone" / GIVEN_UP).touch()
    checkpoints.write(root / "mine", 5, lambda path: (path / "a").write_bytes(bytes(500)), {})
    checkpoints.set_aside(root / "mine" / "step-00000005")
    checkpoints.write(root / "mine", 8, lambda path: (path / "a").write_bytes(bytes(500)), {})
    attempts.set_aside(root / "mine" / "step-00000008")
    return root


def test_what_no_run_needs_is_found_and_runs_that_can_be_gone_on_with_are_not(root: Path) -> None:
    found = {
        one.path.relative_to(root).as_posix(): one.why for one in leftovers.leftovers(root, "mine")
    }
    assert found == {
        "done": "finished", "gone": "given up", f"{ASIDE}1-x": "set aside",
        "mine/broken-step-00000005": "broken",
        "mine/set-aside-step-00000008": "whole, set aside",
    }  # fmt: skip
    assert all(one.size > 500 for one in leftovers.leftovers(root, "mine"))
    assert leftovers.leftovers(root / "nowhere", "mine") == []


def test_it_is_told_with_the_command_that_deletes_it_where_that_brings_much(
    root: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert told(root, "mine") is None
    monkeypatch.setattr(leftovers, "WORTH_TELLING", 3000)
    text = told(root, "mine")
    assert text is not None and "finished" in text and str(root) in text
    command = shlex.split(text.partition("with them: ")[2])
    assert command[:2] == ["rm", "-r"] and len(command) == 7
    assert {Path(word).name for word in command[2:]} == {
        "done", "gone", f"{ASIDE}1-x", "broken-step-00000005", "set-aside-step-00000008"
    }  # fmt: skip

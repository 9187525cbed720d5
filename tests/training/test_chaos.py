"""Runs that are killed at any moment end as the straight run does; `make chaos` plays more."""

import subprocess
import sys
from pathlib import Path

import pytest

from tests.chain import ROOT, environment


@pytest.fixture(scope="module")
def played(tmp_path_factory: pytest.TempPathFactory) -> str:
    """What the player says of a few runs; in a process of its own, as it forks."""
    work: Path = tmp_path_factory.mktemp("chaos")
    done = subprocess.run(
        [sys.executable, "-m", "tests.chaos", "--runs", "6", "--seed", "1", "--work", str(work)],
        cwd=ROOT, env=environment(OMP_NUM_THREADS="1"), capture_output=True, text=True, check=False,
        timeout=550,
    )  # fmt: skip
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


@pytest.mark.slow
def test_runs_killed_at_random_moments_end_with_the_weights_of_the_straight_one(
    played: str,
) -> None:
    assert "equal to the straight run: 6" in played
    for phase in ("step", "save", "upload", "delete"):
        assert f"\n  in {phase}: " in played, played
    kills = next(line for line in played.splitlines() if line.startswith("kills: "))
    assert all(name in kills for name in ("SIGKILL", "SIGTERM", "SIGSTOP"))


@pytest.mark.slow
def test_two_machines_by_turns_through_the_trainer_overwrite_nothing(played: str) -> None:
    assert "two machines by turns: A was killed" in played
    assert "A woke up and changed nothing there, B ended: equal" in played

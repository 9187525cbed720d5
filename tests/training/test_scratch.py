"""Folders to work in: gone after the work, and after a kill with the next work at that place."""

import multiprocessing
import os
import signal
from pathlib import Path

import pytest

from pipeline.training.scratch import scratch_folder


def work_and_die(parent: Path) -> None:
    with scratch_folder(parent, "fetch") as folder:
        (folder / "half").write_bytes(b"x")
        os.kill(os.getpid(), signal.SIGKILL)


@pytest.mark.skipif(not hasattr(os, "fork"), reason="needs processes that begin as this one is")
def test_what_a_killed_process_left_goes_and_what_is_in_use_stays(tmp_path: Path) -> None:
    with scratch_folder(tmp_path, "fetch") as living:
        process = multiprocessing.get_context("fork").Process(target=work_and_die, args=(tmp_path,))
        process.start()
        process.join()
        assert process.exitcode == -signal.SIGKILL
        (left,) = (path.parent for path in tmp_path.glob("*/half"))
        (tmp_path / ".tmp-of-something-else").mkdir()
        with scratch_folder(tmp_path, "fetch") as second:
            assert second.is_dir()
            assert living.is_dir()
            assert not left.exists()
    assert [path.name for path in tmp_path.iterdir()] == [".tmp-of-something-else"]
    with scratch_folder(tmp_path):  # a place of this product alone
        pass
    assert not list(tmp_path.iterdir())


def test_a_folder_that_was_given_its_name_stays_and_a_failure_leaves_nothing(
    tmp_path: Path,
) -> None:
    with scratch_folder(tmp_path) as folder:
        folder.rename(tmp_path / "final")
    with pytest.raises(ValueError, match="no"), scratch_folder(tmp_path):
        raise ValueError("no")
    assert [path.name for path in tmp_path.iterdir()] == ["final"]

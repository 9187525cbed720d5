"""The memory and the disk that there are, and what a run writes."""

import shutil
from pathlib import Path
from types import SimpleNamespace

import psutil
import pytest

from pipeline.errors import PipelineError
from pipeline.training import room
from pipeline.training.room import Disk, check_room, disk_needed, free_memory
from pipeline.training.settings import TrainSettings

GB = 1_000_000_000


def container(folder: Path, limit: str, used: int, cached: int) -> Path:
    (folder / "memory.max").write_text(f"{limit}\n")
    (folder / "memory.current").write_text(f"{used}\n")
    (folder / "memory.stat").write_text(f"anon 1\ninactive_file {cached}\nactive_file 2\n")
    return folder


@pytest.fixture
def machine(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Path:
    """A machine with 10 GB free, on which this process has 1 GB, in no container."""
    monkeypatch.setattr(psutil, "virtual_memory", lambda: SimpleNamespace(available=10 * GB))
    process = SimpleNamespace(memory_info=lambda: SimpleNamespace(rss=GB))
    monkeypatch.setattr(psutil, "Process", lambda: process)
    monkeypatch.setattr(room, "_CGROUP", tmp_path)
    return tmp_path


def test_a_process_can_have_what_is_free_and_what_it_has(machine: Path) -> None:
    assert free_memory(cuda=False) == 11 * GB


def test_a_container_may_allow_less_but_gives_cached_files_back(machine: Path) -> None:
    container(machine, str(8 * GB), used=5 * GB, cached=2 * GB)
    assert free_memory(cuda=False) == (8 - 5 + 2 + 1) * GB


def test_a_container_without_a_limit_or_with_a_higher_one_changes_nothing(machine: Path) -> None:
    container(machine, "max", used=5 * GB, cached=2 * GB)
    assert free_memory(cuda=False) == 11 * GB
    container(machine, str(64 * GB), used=5 * GB, cached=2 * GB)
    assert free_memory(cuda=False) == 11 * GB


def test_an_old_kind_of_container_is_known_too(machine: Path) -> None:
    folder = machine / "memory"
    folder.mkdir()
    (folder / "memory.limit_in_bytes").write_text(f"{4 * GB}")
    (folder / "memory.usage_in_bytes").write_text(f"{3 * GB}")
    (folder / "memory.stat").write_text(f"cache 7\ntotal_inactive_file {GB}\n")
    assert free_memory(cuda=False) == 3 * GB


def test_this_machine_has_some() -> None:
    assert 0 < free_memory(cuda=False) <= psutil.virtual_memory().total + 100 * GB


def test_a_run_writes_its_result_the_best_on_the_way_checkpoints_and_tokens() -> None:
    needed = disk_needed(TrainSettings(), 10, 80, characters=100, checkpoints=3)
    assert needed == Disk(result=40, best=40, checkpoints=3 * (40 + 80), tokens=200)
    assert needed.total == 640
    assert disk_needed(TrainSettings(keep_best=False), 10, 80) == Disk(40, 0, 0, 0)


def test_a_disk_with_no_room_is_told_of_before_the_run(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    asked: list[Path] = []

    def usage(path: Path) -> SimpleNamespace:
        asked.append(Path(path))
        return SimpleNamespace(free=4 * GB)

    monkeypatch.setattr(shutil, "disk_usage", usage)
    folder = tmp_path / "data" / "6_adapter"  # not there yet
    check_room(Disk(GB, 2 * GB, 0, GB), folder)
    assert asked == [tmp_path]
    with pytest.raises(PipelineError) as error:
        check_room(Disk(GB, 2 * GB, 0, GB + 1), folder)
    assert error.value.message == (
        "The run writes about 4.00 GB (the result 1.00 GB, the best weights on the way 2.00 GB, "
        f"tokens 1.00 GB), and the disk of {folder} has 4.00 GB free."
    )

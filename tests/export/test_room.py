"""The disk: what stage 7 needs is known beforehand, and a full one is told in one sentence."""

import errno
import json
import shutil
import subprocess
from collections import namedtuple
from collections.abc import Iterator
from pathlib import Path

import pytest

from pipeline.errors import PipelineError
from pipeline.export import room as disk
from pipeline.export.gguf import quantize
from pipeline.export.proof_logits import PLACES
from pipeline.export.room import Room, room_needed, told_if_full
from tests.export.test_gguf import files_no_larger_than

KINDS = ["q4_k_m", "q8_0", "q3_k_s", "iq4_nl", "f16"]
MB = 1_000_000


@pytest.fixture(scope="module")
def room(base: Path, adapter: Path) -> Room:
    return room_needed(base, adapter, KINDS)


def size_of(folder: Path) -> int:
    return sum(path.stat().st_size for path in folder.iterdir())


def test_merged_model_and_plain_gguf_are_as_large_as_was_said(
    room: Room, merged: Path, plain_gguf: Path
) -> None:
    assert room.merged == pytest.approx(size_of(merged), rel=0.25), "its tokenizer is in JSON"
    assert room.plain == pytest.approx(plain_gguf.stat().st_size, rel=0.03)
    assert room.peak > max(room.merged + room.plain, room.plain + sum(room.files.values()))


@pytest.mark.parametrize("kind", ["q4_k_m", "q3_k_s"])
def test_each_file_is_as_large_as_was_said(
    room: Room, plain_gguf: Path, tmp_path: Path, kind: str
) -> None:
    quantize(plain_gguf, tmp_path / "out.gguf", kind, tmp_path / "log")
    assert room.files[kind] == pytest.approx((tmp_path / "out.gguf").stat().st_size, rel=0.04)


def test_new_tokens_and_types_cost_room(base: Path, adapter: Path, room: Room) -> None:
    assert room.files["q8_0"] < room.plain
    assert room_needed(base, adapter, ["q8_0"]).peak < room.peak
    assert room_needed(base, base, ["q8_0"]).plain == room.plain, "a whole model is one too"


def test_the_logits_of_a_proof_lie_beside_all_else(
    base: Path, adapter: Path, room: Room, monkeypatch: pytest.MonkeyPatch
) -> None:
    proven = room_needed(base, adapter, KINDS, is_proven=True)
    words = json.loads((base / "config.json").read_text())["vocab_size"]
    assert (room.logits, proven.logits) == (0, PLACES * 4 * words)
    assert proven.peak - room.peak == pytest.approx(proven.logits * 1.03)
    assert "logits for the proof 201.3 MB" in proven.describe()
    monkeypatch.setattr(disk, "ROW_BYTES", 100 * MB)
    assert room_needed(base, adapter, KINDS, is_proven=True).logits == 100 * MB


def test_too_little_room_is_refused_with_what_is_missing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    room = Room(16_000 * MB, 16_000 * MB, {"q4_k_m": 4_900 * MB})
    usage = namedtuple("usage", "total used free")
    monkeypatch.setattr(shutil, "disk_usage", lambda place: usage(1, 1, 30_000 * MB))
    with pytest.raises(PipelineError, match=r"needs 33\.01 GB .* only 30\.00 GB are free") as error:
        room.check(tmp_path / "not" / "there" / "yet")
    assert "3.01 GB are missing" in error.value.message
    assert "q4_k_m 4.90 GB" in error.value.message
    monkeypatch.setattr(shutil, "disk_usage", lambda place: usage(1, 1, 34_000 * MB))
    room.check(tmp_path)


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    """A file system of two megabytes, or, where none can be made, files of at most so many."""
    folder = tmp_path / "small"
    folder.mkdir()
    command = ["mount", "-t", "tmpfs", "-o", "size=2m", "tmpfs", str(folder)]
    try:
        mounted = subprocess.run(command, capture_output=True, check=False).returncode == 0
    except OSError:
        mounted = False
    if not mounted:
        with files_no_larger_than(2 * MB):
            yield folder
        return
    try:
        yield folder
    finally:
        subprocess.run(["umount", str(folder)], check=True)


def test_a_disk_that_fills_up_in_the_middle_is_told_and_leaves_nothing(
    plain_gguf: Path, small_disk: Path, tmp_path: Path
) -> None:
    out = small_disk / "out.gguf"
    with (
        pytest.raises(PipelineError, match=rf"The disk of {small_disk} is full: about") as error,
        told_if_full(small_disk, small_disk) as needed,
    ):
        needed.room = Room(10 * MB, 10 * MB, {"q8_0": 5 * MB})
        quantize(plain_gguf, out, "q8_0", tmp_path / "log")
    missing = "68.5" if small_disk.is_mount() else "50.0"  # of a large disk as little as is said
    assert f"{missing} MB more are needed (merged model 10.0 MB, GGUF in" in error.value.message
    assert "The adapter is as it was" in error.value.message
    assert not list(small_disk.iterdir())


def full() -> OSError:
    return OSError(errno.ENOSPC, "No space left on device")


def test_what_is_missing_is_counted_when_the_disk_is_full(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Of a peak of 33 GB there were 34 GB free at the start, and another program took 20 of them;
    8 GB of this run's own are free again when it ends."""
    usage = namedtuple("usage", "total used free")
    free = [34_000 * MB]
    monkeypatch.setattr(shutil, "disk_usage", lambda _: usage(1, 1, free[0]))
    own = tmp_path / "own"
    (own / "merged").mkdir(parents=True)
    with (
        pytest.raises(PipelineError, match=r"is full: about 19\.01 GB more are needed"),
        told_if_full(tmp_path, own) as needed,
    ):
        needed.room = Room(16_000 * MB, 16_000 * MB, {"q8_0": 8_500 * MB, "q4_k_m": 4_900 * MB})
        needed.room.check(tmp_path)
        free[0] = 6_000 * MB
        with (own / "merged" / "model.safetensors").open("wb") as file:
            file.truncate(8_000 * MB)  # takes no room
        raise full()


def test_a_file_that_is_there_to_stay_needs_no_more_room(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    usage = namedtuple("usage", "total used free")
    monkeypatch.setattr(shutil, "disk_usage", lambda _: usage(1, 1, 0))
    with (
        pytest.raises(PipelineError, match=r"about 3\.14 GB .*unpacked checkpoint 1\.00 GB"),
        told_if_full(tmp_path, tmp_path) as needed,
    ):
        needed.unpacked = 1_000 * MB
        needed.room = Room(900 * MB, 1_000 * MB, {"q8_0": 5_000 * MB, "q4_k_m": 1_030 * MB})
        needed.is_made("q8_0")
        raise full()


def test_other_errors_are_not_taken_for_a_full_disk(tmp_path: Path) -> None:
    with pytest.raises(PipelineError, match=r"^something else$"), told_if_full(tmp_path, tmp_path):
        raise PipelineError("something else")
    with pytest.raises(FileNotFoundError), told_if_full(tmp_path, tmp_path):
        (tmp_path / "nowhere").read_bytes()

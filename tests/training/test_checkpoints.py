"""A checkpoint is whole or it is none: whatever happens to it is found out before it is loaded."""

import json
import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from pipeline.errors import PipelineError
from pipeline.training import checkpoints
from pipeline.training.checkpoints import COMPLETE, Broken, newest, remove, verify, whole, write


def content(text: str) -> Callable[[Path], object]:
    """Two files, of which one is long enough to be cut."""

    def files(folder: Path) -> None:
        (folder / "model.safetensors").write_text(text * 1000)
        (folder / "notes.json").write_text(text)

    return files


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    for step in (10, 20, 30):
        write(tmp_path / "checkpoints", step, content(f"at {step}"), {"run": "a"})
    return tmp_path / "checkpoints"


def test_a_checkpoint_has_what_was_written_and_says_so(folder: Path) -> None:
    found = newest(folder)
    assert found is not None
    assert (found.step, found.about, found.name) == (30, {"run": "a"}, "step-00000030")
    assert found.size == sum(f.stat().st_size for f in found.path.iterdir() if f.name != COMPLETE)
    assert (found.path / "notes.json").read_text() == "at 30"
    assert [one.step for one in whole(folder)] == [30, 20, 10]
    assert sorted(entry.name for entry in folder.iterdir()) == [
        "step-00000010", "step-00000020", "step-00000030"
    ]  # fmt: skip


def test_one_that_is_deleted_while_it_is_looked_at_is_passed_over(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    original = checkpoints.read_record

    def deleted_meanwhile(path: Path) -> dict[str, Any]:
        record = original(path)
        if path.name == "step-00000030":
            shutil.rmtree(path)
        return record

    monkeypatch.setattr(checkpoints, "read_record", deleted_meanwhile)
    assert [one.step for one in whole(folder)] == [20, 10]


def test_the_same_step_again_replaces_it(folder: Path) -> None:
    write(folder, 30, content("anew"), {"run": "b"})
    found = newest(folder)
    assert found is not None and found.about == {"run": "b"}
    assert (found.path / "notes.json").read_text() == "anew"
    assert len(list(folder.iterdir())) == 3


def cut(path: Path) -> None:
    file = path / "model.safetensors"
    os.truncate(file, file.stat().st_size - 1)


def flip(path: Path) -> None:
    file = path / "model.safetensors"
    data = bytearray(file.read_bytes())
    data[len(data) // 2] ^= 1
    file.write_bytes(data)


def lose(path: Path) -> None:
    (path / "notes.json").unlink()


def add(path: Path) -> None:
    (path / "extra.bin").write_bytes(b"x")


def link_out(path: Path) -> None:
    target = path.parent.parent / "elsewhere"
    (path / "notes.json").replace(target)
    (path / "notes.json").symlink_to(target)


def forget(path: Path) -> None:
    (path / COMPLETE).unlink()


def garble(path: Path) -> None:
    (path / COMPLETE).write_bytes(b"{")


def rename(path: Path) -> None:
    path.replace(path.with_name("step-00000040"))


def hostile(path: Path) -> None:
    record = json.loads((path / COMPLETE).read_text())
    record["files"]["../../escape"] = record["files"]["notes.json"]
    (path / COMPLETE).write_text(json.dumps(record))


def say(path: Path, **what: Any) -> None:
    record = json.loads((path / COMPLETE).read_text())
    (path / COMPLETE).write_text(json.dumps(record | what))


DAMAGES = [
    (cut, r"model\.safetensors has 4,999 bytes and not 5,000"),
    (flip, r"model\.safetensors is not as it was written"),
    (lose, r"notes\.json is missing"),
    (add, r"extra\.bin does not belong to it"),
    (link_out, r"notes\.json is missing"),
    (forget, r"COMPLETE\.json is missing"),
    (garble, r"COMPLETE\.json cannot be read"),
    (rename, r"COMPLETE\.json is of step 30"),
    (hostile, r"is no file of a checkpoint"),
    (lambda path: say(path, step=30.0), r"COMPLETE\.json is of step 30\.0"),
    (lambda path: say(path, about={"versions": [1]}), r"makes no sense: versions is no object"),
    (lambda path: say(path, about={"steps": "six"}), r"makes no sense: steps is no number"),
    (lambda path: say(path, about={"run": 1}), r"makes no sense: run is no text"),
]


@pytest.mark.parametrize(("damage", "reason"), DAMAGES)
def test_a_broken_one_is_set_aside_with_a_word_and_the_next_older_one_is_taken(
    folder: Path, damage: Callable[[Path], None], reason: str, capfd: pytest.CaptureFixture[str]
) -> None:
    damage(folder / "step-00000030")
    broken = checkpoints.listed(folder)[0]
    with pytest.raises(Broken, match=reason):
        verify(broken)
    assert [one.step for one in whole(folder)] == [20, 10]
    found = newest(folder)
    assert found is not None and found.step == 20
    said = " ".join(capfd.readouterr().err.split())
    assert "is broken" in said and f"broken-{broken.name}" in said
    assert (folder / f"broken-{broken.name}").is_dir(), "kept for whoever wants to look"
    again = newest(folder)
    assert again is not None and again.step == 20 and not capfd.readouterr().err


def test_without_a_whole_one_there_is_none(folder: Path) -> None:
    for path in checkpoints.listed(folder):
        cut(path)
    assert newest(folder) is None
    assert newest(folder / "nowhere") is None


def test_a_write_that_fails_leaves_the_others_and_nothing_of_its_own(folder: Path) -> None:
    def fail(path: Path) -> None:
        (path / "model.safetensors").write_text("half")
        raise OSError(28, "No space left on device")

    with pytest.raises(PipelineError, match=r"step 40 could not be written .*the disk is full"):
        write(folder, 40, fail, {})
    with pytest.raises(PipelineError, match="step 30"):
        write(folder, 30, fail, {})
    assert sorted(entry.name for entry in folder.iterdir())[-1] == "step-00000030"
    assert len(list(folder.iterdir())) == 3
    found = newest(folder)
    assert found is not None and (found.path / "notes.json").read_text() == "at 30"


def test_a_checkpoint_that_is_removed_is_gone_whole(folder: Path) -> None:
    remove(folder / "step-00000020")
    assert [one.step for one in whole(folder)] == [30, 10]
    assert len(list(folder.iterdir())) == 2


WRITER = """
import sys
from pathlib import Path
from typing import Any
from pipeline.training.checkpoints import write
def files(path):
    for n in range(40):
        (path / f"part-{n}.bin").write_bytes(b"x" * 200_000)
print("ready", flush=True)
step = 100
while True:
    write(Path(sys.argv[1]), step, files, {})
    step += 1
"""


@pytest.mark.parametrize("delay", [0.0, 0.03, 0.07, 0.12])
def test_a_kill_at_any_moment_leaves_whole_checkpoints_only(folder: Path, delay: float) -> None:
    writer = subprocess.Popen(
        [sys.executable, "-c", WRITER, str(folder)], stdout=subprocess.PIPE, text=True
    )
    assert writer.stdout is not None and writer.stdout.readline() == "ready\n"
    time.sleep(delay)
    writer.send_signal(signal.SIGKILL)
    writer.wait()
    writer.stdout.close()
    named = checkpoints.listed(folder)
    assert [one.path for one in whole(folder)] == named, "what has the name is whole"
    assert len(named) >= 3

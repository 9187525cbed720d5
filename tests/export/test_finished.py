"""The files of stage 7: each is kept as soon as it is proven, and proof.json tells of no other."""

import json
import multiprocessing
import os
import shutil
import signal
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from pipeline.export.finished import ADAPTER, PROOF, Finished
from pipeline.run import StageRun, open_run
from pipeline.workspace import Workspace

KINDS = ["q8_0", "q4_0", "f16"]
REPORT = {"name": "tales", "proof": "full", "proven": True}


@contextmanager
def at_work(
    data: Path, *kinds: str, key: str = "one", **options: Any
) -> Iterator[tuple[Finished, StageRun]]:
    with open_run(
        Workspace(data), "quantize", version=1, settings={"quantization": kinds, "key": key},
        **options,
    ) as run:  # fmt: skip
        yield Finished(run, key, kinds), run


def make(data: Path, *kinds: str, at_most: int = 9, key: str = "one", **options: Any) -> list[str]:
    """Run a stage that makes files of a few bytes; what it made. It fails after `at_most`."""
    made: list[str] = []
    with at_work(data, *kinds, key=key, **options) as (finished, run), run.scratch() as scratch:
        for kind in finished.left:
            if len(made) == at_most:
                raise ValueError("not proven")
            path = scratch / f"tales-{kind.upper()}.gguf"
            path.write_text(f"{kind} of {key}")
            finished.add(path, kind, {"quantization": kind, "of": key}, {**REPORT, "files": {}})
            made.append(kind)
        finished.tell()
    return made


def there(data: Path) -> list[str]:
    """The kinds of the files, after a look at whether proof.json tells of these."""
    stage = data / "7_gguf"
    found = {path.name: path.read_text() for path in stage.glob("*.gguf")}
    proof = json.loads((stage / PROOF).read_text()) if (stage / PROOF).is_file() else {}
    assert not proof or {name: proof[name] for name in REPORT} == REPORT
    for name, facts in proof.get("files", {}).items():
        assert found[name] == f"{facts['quantization']} of {facts['of']}"
    return [facts["quantization"] for facts in proof.get("files", {}).values()]


def test_what_is_proven_stays_when_a_later_file_is_not(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="not proven"):
        make(tmp_path, *KINDS, at_most=2)
    assert there(tmp_path) == ["q8_0", "q4_0"]
    assert make(tmp_path, *KINDS) == ["f16"]
    assert there(tmp_path) == KINDS


def test_types_come_and_go_without_making_any_again(tmp_path: Path) -> None:
    assert make(tmp_path, "q4_0") == ["q4_0"]
    assert make(tmp_path, "f16", "q4_0") == ["f16"]
    assert there(tmp_path) == ["f16", "q4_0"], "in the order in which they are wanted"
    assert make(tmp_path, "q4_0") == []
    assert there(tmp_path) == ["q4_0"]
    assert not (tmp_path / "7_gguf" / "tales-F16.gguf").exists(), "nobody asks for it any more"


def test_what_was_made_from_something_else_is_made_again_and_not_told_of(tmp_path: Path) -> None:
    make(tmp_path, *KINDS)
    with pytest.raises(ValueError, match="not proven"):
        make(tmp_path, *KINDS, key="other", at_most=1)
    assert there(tmp_path) == ["q8_0"]
    assert len(list((tmp_path / "7_gguf").glob("*.gguf"))) == 3, "a failure takes nothing away"
    assert make(tmp_path, *KINDS, key="other") == ["q4_0", "f16"]
    assert make(tmp_path, *KINDS, key="other", force=True) == KINDS


def test_a_failure_before_the_first_file_leaves_all_as_it_was(tmp_path: Path) -> None:
    make(tmp_path, "f16")
    before = (tmp_path / "7_gguf" / "stage.json").read_bytes()
    with pytest.raises(ValueError, match="not proven"):
        make(tmp_path, "f16", "q4_0", at_most=0)
    assert (tmp_path / "7_gguf" / "stage.json").read_bytes() == before
    assert there(tmp_path) == ["f16"]


def test_an_edited_file_is_made_again_if_that_is_asked_for(tmp_path: Path) -> None:
    make(tmp_path, *KINDS)
    (tmp_path / "7_gguf" / "tales-Q4_0.gguf").write_text("by hand")
    assert make(tmp_path, *KINDS, overwrite_edited=True) == ["q4_0"]
    assert there(tmp_path) == KINDS


def test_a_deleted_proof_is_written_again_without_making_anything(tmp_path: Path) -> None:
    make(tmp_path, *KINDS)
    (tmp_path / "7_gguf" / PROOF).unlink()
    assert make(tmp_path, *KINDS) == []
    assert there(tmp_path) == KINDS


def test_an_edited_proof_is_kept_which_is_said_once(tmp_path: Path) -> None:
    make(tmp_path, "f16")
    (tmp_path / "7_gguf" / PROOF).write_text("{}")
    assert make(tmp_path, *KINDS) == ["q8_0", "q4_0"]
    assert (tmp_path / "7_gguf" / PROOF).read_text() == "{}"
    record = Workspace(tmp_path).record("quantize")
    assert record is not None
    assert len(record.warnings) == 1


def test_an_adapter_is_told_of_by_itself(tmp_path: Path) -> None:
    make(tmp_path, "f16")
    with at_work(tmp_path, ADAPTER) as (finished, run), run.scratch() as scratch:
        (scratch / "a.gguf").write_text("adapter")
        finished.add(scratch / "a.gguf", ADAPTER, {"file": "a.gguf"}, REPORT)
        finished.tell()
    proof = json.loads((tmp_path / "7_gguf" / PROOF).read_text())
    assert proof == {**REPORT, "files": {}, "adapter": {"file": "a.gguf"}}
    assert [path.name for path in (tmp_path / "7_gguf").glob("*.gguf")] == ["a.gguf"]


def make_until(data: Path, last: int, key: str) -> None:
    """Make all, killed by SIGKILL when it touches files in the stage's folder for the last time."""
    touched = 0

    def strike(event: str, arguments: tuple[Any, ...]) -> None:
        nonlocal touched
        if event in ("open", "os.rename", "os.remove", "os.mkdir") and "7_gguf" in str(arguments):
            touched += 1
            if touched == last:
                os.kill(os.getpid(), signal.SIGKILL)

    sys.addaudithook(strike)  # there is no way to take one away: only in a process of its own
    make(data, *KINDS, key=key)


@pytest.mark.skipif(not hasattr(os, "fork"), reason="needs processes that begin as this one is")
def test_killed_at_any_moment_the_proof_tells_of_what_is_there_and_the_next_run_goes_on(
    tmp_path: Path,
) -> None:
    make(tmp_path / "before", *KINDS, key="before")
    kept = set()
    for last in range(1, 999):
        data = Path(shutil.copytree(tmp_path / "before", tmp_path / str(last)))
        process = multiprocessing.get_context("fork").Process(
            target=make_until, args=(data, last, "after")
        )
        process.start()
        process.join()
        done = [kind for kind in there(data) if made_from(data, kind) == "after"]
        left = make(data, *KINDS, key="after")
        assert not set(left) & set(done), "what is told of is not made again"
        assert there(data) == KINDS
        kept.add(len(KINDS) - len(left))
        if process.exitcode != -signal.SIGKILL:
            break
    assert process.exitcode == 0
    assert kept == {0, 1, 2, 3}


def made_from(data: Path, kind: str) -> str:
    files = json.loads((data / "7_gguf" / PROOF).read_text())["files"]
    return str(files[f"tales-{kind.upper()}.gguf"]["of"])

"""SIGKILL at any moment of stage 7: nothing half-made bears a final name, and the same command
makes what is missing. Real processes, really killed."""

import json
import multiprocessing
import os
import re
import shutil
import signal
import time
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import psutil
import pytest

from pipeline.errors import PipelineError
from pipeline.export import room as disk
from pipeline.export.gguf import quantize as write_gguf
from pipeline.export.header import read_header
from pipeline.export.room import room_needed
from pipeline.outputs import Outputs
from pipeline.step7_quantize import quantize
from tests.export.test_gguf import files_no_larger_than

# What lies in the stage's folder at the moment: while merging, converting, quantizing.
MOMENTS = (".tmp-*/merged/*", ".tmp-*/plain.gguf", ".tmp-*/*Q8_0.gguf")
PATIENCE = 240.0  # seconds; a machine may be busy


def make(data: Path) -> None:
    import torch

    torch.set_num_threads(1)
    quantize(data, quantization=["q8_0"], proof="none")


def make_two(data: Path) -> None:
    """Die as soon as the first of two files has its name, before anybody is told of it."""
    import torch

    def take(run: Outputs, *arguments: Any) -> None:
        taken(run, *arguments)
        os.kill(os.getpid(), signal.SIGKILL)

    taken, Outputs.take = Outputs.take, take  # type: ignore[method-assign,assignment]
    torch.set_num_threads(1)
    quantize(data, quantization=["q8_0", "q4_0"], proof="none")


def wait_until(what: str, holds: object) -> None:
    end = time.monotonic() + PATIENCE
    while not holds():  # type: ignore[operator]
        assert time.monotonic() < end, what
        time.sleep(0.002)


@pytest.fixture
def data(base: Path, adapter: Path, tmp_path: Path) -> Path:
    """A data directory as it is after stage 6."""
    data = tmp_path / "data"
    shutil.copytree(adapter, data / "6_adapter")
    evaluation = {"prompt": "The lamp", "sequence_length": 64, "bits_per_byte": {}}
    (data / "6_adapter" / "evaluation.json").write_text(json.dumps(evaluation))
    windows = [{"document": "a", "ids": [5, 6, 7], "n_bytes": 9}]
    (data / "6_adapter" / "windows.json").write_text(json.dumps(windows))
    config = json.loads((adapter / "adapter_config.json").read_text())
    config["base_model_name_or_path"] = str(base)
    (data / "6_adapter" / "adapter_config.json").write_text(json.dumps(config))
    return data


@pytest.mark.parametrize(
    ("room", "log"), [(0.5, None), (1.01, "convert.log")], ids=["merging", "converting"]
)
def test_a_disk_that_fills_up_in_the_middle_leaves_the_adapter_and_no_half_file(
    data: Path, base: Path, merged: Path, room: float, log: str | None,
    monkeypatch: pytest.MonkeyPatch,
) -> None:  # fmt: skip
    """`room`: what a file may have at most, in files as large as the merged model's."""
    import torch

    # Other programs take all that was free when the run began.
    free = iter([shutil.disk_usage(data).free, 0])
    usage = SimpleNamespace(disk_usage=lambda _: SimpleNamespace(free=next(free)))
    monkeypatch.setattr(disk, "shutil", usage)
    peak = room_needed(base, data / "6_adapter", ["q8_0"]).peak

    before = {path.name: path.read_bytes() for path in (data / "6_adapter").iterdir()}
    stage, threads = data / "7_gguf", torch.get_num_threads()
    size = round(room * (merged / "model.safetensors").stat().st_size)
    try:
        with files_no_larger_than(size), pytest.raises(PipelineError) as raised:
            make(data)
    finally:
        torch.set_num_threads(threads)
    said = raised.value
    told = re.search(rf"The disk of {stage} is full: about ([\d.]+) MB more", said.message)
    assert told, said.message
    lies_there = (merged / "model.safetensors").stat().st_size if log else 0
    assert float(told[1]) == pytest.approx((peak - lies_there) / 1e6, abs=5)
    assert float(told[1]) > 50
    assert "The adapter is as it was" in said.message
    assert "run the same command again" in str(said.hint)
    assert log is None or (stage / "logs" / log).is_file(), "it came as far as that"
    left = {path.name for path in stage.rglob("*") if path.is_file() and path.suffix != ".log"}
    assert left <= {"stage.json"}, "and nothing half-made"
    assert {path.name: path.read_bytes() for path in (data / "6_adapter").iterdir()} == before


@pytest.mark.slow
@pytest.mark.skipif(not hasattr(os, "fork"), reason="needs processes that begin as this one is")
def test_killed_at_any_moment_the_same_command_makes_it(data: Path) -> None:
    import pipeline.step7_quantize  # noqa: F401  (once, and not in every process)

    adapter = {path.name: path.read_bytes() for path in (data / "6_adapter").iterdir()}
    stage = data / "7_gguf"
    context = multiprocessing.get_context("fork")
    for moment in MOMENTS:
        process = context.Process(target=make, args=(data,))
        process.start()
        assert process.pid is not None

        def reached(moment: str = moment) -> bool:
            return any(p.stat().st_size for p in stage.glob(moment) if p.exists())

        wait_until(moment, lambda process=process: reached() or not process.is_alive())
        workers = psutil.Process(process.pid).children(recursive=True) if process.pid else []
        os.kill(process.pid, signal.SIGKILL)
        process.join()
        assert process.exitcode == -signal.SIGKILL, f"it ended before {moment}"
        assert not list(stage.glob("*.gguf")), moment
        wait_until(
            f"workers of {moment}",
            lambda w=workers: (
                not any(p.is_running() and p.status() != psutil.STATUS_ZOMBIE for p in w)
            ),
        )
    process = context.Process(target=make, args=(data,))
    process.start()
    process.join()
    assert process.exitcode == 0
    (file,) = stage.glob("*.gguf")
    read_header(file)
    assert not list(stage.glob(".tmp-*"))
    assert {path.name: path.read_bytes() for path in (data / "6_adapter").iterdir()} == adapter


@pytest.mark.slow
@pytest.mark.skipif(not hasattr(os, "fork"), reason="needs processes that begin as this one is")
def test_a_file_that_is_there_is_never_made_again(
    data: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    process = multiprocessing.get_context("fork").Process(target=make_two, args=(data,))
    process.start()
    process.join()
    assert process.exitcode == -signal.SIGKILL
    stage = data / "7_gguf"
    (first,) = stage.glob("*.gguf")
    facts = first.stat().st_ino, first.stat().st_mtime_ns
    read_header(first)
    made: list[str] = []

    def write(plain: Path, out: Path, kind: str, log: Path) -> None:
        made.append(kind)
        write_gguf(plain, out, kind, log)

    def ask_for(*kinds: str) -> list[str]:
        """What the proof then tells of."""
        quantize(data, quantization=list(kinds), proof="none")
        assert (first.stat().st_ino, first.stat().st_mtime_ns) == facts
        names = [path.name for path in stage.glob("*.gguf")]
        told = list(json.loads((stage / "proof.json").read_text())["files"])
        assert sorted(told) == sorted(names)
        return [name.rpartition("-")[2] for name in told]

    monkeypatch.setattr("pipeline.quantizing.gguf.quantize", write)
    assert ask_for("q8_0", "q4_0") == ["Q8_0.gguf", "Q4_0.gguf"], "as after a run in one go"
    assert made == ["q4_0"]
    assert ask_for("f16", "q8_0", "q4_0") == ["F16.gguf", "Q8_0.gguf", "Q4_0.gguf"]
    assert made == ["q4_0", "f16"]
    monkeypatch.setattr("pipeline.quantizing.merge_adapter", lambda *_, **__: pytest.fail("again"))
    assert ask_for("q8_0") == ["Q8_0.gguf"]
    assert not list(stage.glob(".tmp-*"))

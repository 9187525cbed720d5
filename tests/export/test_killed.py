"""SIGKILL at any moment of stage 7: nothing half-made bears a final name, and the same command
makes what is missing. Real processes, really killed."""

import json
import multiprocessing
import os
import shutil
import signal
import time
from pathlib import Path

import psutil
import pytest

from pipeline.errors import PipelineError
from pipeline.export.header import read_header
from tests.export.test_gguf import files_no_larger_than

# What lies in the stage's folder at the moment: while merging, converting, quantizing.
MOMENTS = (".tmp-*/merged/*", ".tmp-*/plain.gguf", ".tmp-*/out/*.gguf")
PATIENCE = 240.0  # seconds; a machine may be busy


def make(data: Path) -> None:
    import torch

    from pipeline.step7_quantize import quantize

    torch.set_num_threads(1)
    quantize(data, quantization=["q8_0"], proof="none")


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
    data: Path, merged: Path, room: float, log: str | None
) -> None:
    """`room`: what a file may have at most, in files as large as the merged model's."""
    import torch

    before = {path.name: path.read_bytes() for path in (data / "6_adapter").iterdir()}
    stage, threads = data / "7_gguf", torch.get_num_threads()
    size = round(room * (merged / "model.safetensors").stat().st_size)
    try:
        with files_no_larger_than(size), pytest.raises(PipelineError) as raised:
            make(data)
    finally:
        torch.set_num_threads(threads)
    said = raised.value
    assert f"The disk of {stage} is full: about 50.0 MB more are needed" in said.message
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

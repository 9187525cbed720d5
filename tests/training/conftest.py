"""Models that several modules of tests share, made once."""

import gc
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import torch

from pipeline.training.base_model import BaseModel
from tests.tiny_models import base_models, smollm2, tiny_llama_smollm


@pytest.fixture(autouse=True)
def one_thread() -> Iterator[None]:
    """Models this small only get slower with more threads, above all on a busy machine."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


@pytest.fixture(autouse=True)
def small_runs_are_quick(monkeypatch: pytest.MonkeyPatch) -> None:
    """Most of a small run's time goes into its picture, into measuring the machine's speed, and
    into the garbage that transformers collects in each run, among all that is loaded.

    Runs that fixtures of a wider scope make are whole, and both have tests of their own.
    """

    def picture(points: Any, held_out: Any, title: str, path: Path) -> None:
        path.write_bytes(b"\x89PNG\r\n\x1a\n")

    monkeypatch.setattr("pipeline.training.results.plot_loss", picture)
    monkeypatch.setattr("pipeline.training.trainer.matmul_rate", lambda device, dtype: 1e11)
    gc.collect()
    gc.freeze()


@pytest.fixture(scope="session")
def smollm2_base(tmp_path_factory: pytest.TempPathFactory) -> BaseModel:
    """The real SmolLM2-135M, unpacked."""
    return smollm2(base_models(tmp_path_factory))


@pytest.fixture(scope="session")
def tiny_smollm(tmp_path_factory: pytest.TempPathFactory) -> BaseModel:
    """A tiny model with SmolLM2's tokenizer."""
    return tiny_llama_smollm(tmp_path_factory.mktemp("tiny-smollm") / "model")


@pytest.fixture(scope="session")
def tiny_gguf(tiny_smollm: BaseModel) -> Path:
    """The same as a GGUF, made by llama.cpp's converter."""
    path = tiny_smollm.path.parent / "tiny.gguf"
    command = [sys.executable, "-m", "convert_hf_to_gguf", str(tiny_smollm.path)]
    subprocess.run(
        [*command, "--outfile", str(path), "--outtype", "bf16"], check=True, capture_output=True
    )
    return path

"""Models that several modules of tests share, made once."""

import gc
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from pipeline.training.base_model import BaseModel
from tests.tiny_models import (
    base_models,
    on_one_thread,
    smollm2,
    tiny_llama_smollm,
    without_pictures,
)


@pytest.fixture(autouse=True)
def one_thread() -> Iterator[None]:
    """No test of this folder trains on more than one thread."""
    with on_one_thread():
        yield


@pytest.fixture(autouse=True)
def small_runs_are_quick(monkeypatch: pytest.MonkeyPatch) -> None:
    """No picture, no measuring, and no look at the garbage that transformers collects in each run,
    among all that is loaded.

    Runs that fixtures of a wider scope make are whole; the picture and the measuring have tests of
    their own.
    """
    without_pictures(monkeypatch)
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

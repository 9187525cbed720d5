"""Whatever an architecture calls its weights, the merged model is PEFT's own."""

import json
import warnings
from pathlib import Path
from typing import Any

import pytest
import torch
from peft import PeftModel
from safetensors.torch import load_file, save_file
from transformers import AutoModelForCausalLM

from pipeline.errors import PipelineError
from pipeline.export.merge import merge_adapter
from tests.export.architectures import DENSE, save_model
from tests.export.conftest import save_adapter

METHODS: dict[str, dict[str, Any]] = {
    "lora": {},
    "rslora": {"use_rslora": True, "lora_alpha": 3},
    "dora": {"use_dora": True},
}


def state(folder: Path) -> dict[str, torch.Tensor]:
    """A model's weights as transformers loads them."""
    return dict(AutoModelForCausalLM.from_pretrained(folder, dtype="auto").state_dict())


def pefts(base: Path, adapter: Path, dtype: torch.dtype) -> dict[str, torch.Tensor]:
    """The weights of PEFT's own merge in float32, rounded once."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        model = AutoModelForCausalLM.from_pretrained(base, dtype=torch.float32)
        merged = PeftModel.from_pretrained(model, adapter).merge_and_unload()
    return {name: weight.to(dtype) for name, weight in merged.state_dict().items()}


def assert_same(folder: Path, expected: dict[str, torch.Tensor]) -> None:
    """The same numbers; a few may be the next number of 16 bits, where a sum in another order
    falls on the other side of the middle."""
    found = state(folder)
    assert found.keys() == expected.keys()
    for name, weight in expected.items():
        assert found[name].dtype == weight.dtype, name
        steps = (found[name].view(torch.int16).int() - weight.view(torch.int16).int()).abs()
        assert steps.max() <= 1, name
        assert (steps > 0).float().mean() < 0.005, name


@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize("name", DENSE)
def test_merge_of_every_architecture_is_pefts_own(name: str, method: str, tmp_path: Path) -> None:
    base = save_model(name, tmp_path / "base")
    adapter = save_adapter(base, tmp_path / "adapter", **METHODS[method])
    merge_adapter(base, adapter, tmp_path / "merged")
    assert_same(tmp_path / "merged", pefts(base, adapter, torch.bfloat16))


@pytest.mark.parametrize("dtype", [torch.float16, torch.float32])
def test_other_types_of_base_are_merged_likewise(dtype: torch.dtype, tmp_path: Path) -> None:
    base = save_model("llama", tmp_path / "base", dtype)
    adapter = save_adapter(base, tmp_path / "adapter")
    merge_adapter(base, adapter, tmp_path / "merged")
    kept = torch.float16 if dtype == torch.float16 else torch.bfloat16
    assert_same(tmp_path / "merged", pefts(base, adapter, kept))


@pytest.mark.parametrize("name", ["mixtral", "qwen3-moe"])
@pytest.mark.parametrize("targets", [["gate_up_proj", "down_proj"], ["down_proj"]])
def test_experts_of_a_mixture_are_merged_and_stored_as_before(
    name: str, targets: list[str], tmp_path: Path
) -> None:
    base = save_model(name, tmp_path / "base")
    parameters = [f"mlp.experts.{target}" for target in targets]
    adapter = save_adapter(
        base, tmp_path / "adapter", target_modules=["q_proj"], target_parameters=parameters
    )
    merge_adapter(base, adapter, tmp_path / "merged")
    assert_same(tmp_path / "merged", pefts(base, adapter, torch.bfloat16))
    before, after = (load_file(tmp_path / f / "model.safetensors") for f in ("base", "merged"))
    assert before.keys() == after.keys()
    assert any("experts.3." in key for key in after)  # one by one, as in the base


def test_experts_that_do_not_fit_into_the_memory_are_refused(tmp_path: Path) -> None:
    base = save_model("mixtral", tmp_path / "base")
    adapter = save_adapter(
        base, tmp_path / "adapter", target_modules=["q_proj"],
        target_parameters=["mlp.experts.gate_up_proj"],
    )  # fmt: skip
    with pytest.raises(PipelineError, match=r"needs .* GB of memory.*--max-memory"):
        merge_adapter(base, adapter, tmp_path / "merged", max_memory=40_000)


def rename(folder: Path, change: Any) -> None:
    """Save the model's tensors under other names."""
    path = folder / "model.safetensors"
    save_file({change(key): value for key, value in load_file(path).items()}, path)


def test_checkpoint_without_the_prefix_of_its_base_model_is_merged(tmp_path: Path) -> None:
    base = save_model("gpt2", tmp_path / "base")
    adapter = save_adapter(base, tmp_path / "adapter")
    expected = pefts(base, adapter, torch.bfloat16)
    rename(base, lambda key: key.removeprefix("transformer."))  # as OpenAI's own
    merge_adapter(base, adapter, tmp_path / "merged")
    assert "h.0.attn.c_attn.weight" in load_file(tmp_path / "merged" / "model.safetensors")
    assert_same(tmp_path / "merged", expected)


def test_tensor_that_the_model_does_not_know_is_kept(tmp_path: Path) -> None:
    base = save_model("llama", tmp_path / "base")
    adapter = save_adapter(base, tmp_path / "adapter")
    path = base / "model.safetensors"
    more = {"model.layers.0.rotary_emb.inv_freq": torch.arange(4.0), "steps": torch.tensor(7)}
    save_file(load_file(path) | more, path)
    merge_adapter(base, adapter, tmp_path / "merged")
    merged = load_file(tmp_path / "merged" / "model.safetensors")
    for name, tensor in more.items():
        assert torch.equal(merged[name], tensor)
        assert merged[name].dtype == tensor.dtype


def test_base_that_lacks_a_tensor_is_refused(tmp_path: Path) -> None:
    base = save_model("llama", tmp_path / "base")
    adapter = save_adapter(base, tmp_path / "adapter")
    weights = load_file(base / "model.safetensors")
    del weights["model.layers.1.input_layernorm.weight"]
    save_file(weights, base / "model.safetensors")
    with pytest.raises(PipelineError, match=r"lacks the tensor of model\.layers\.1\.input_layer"):
        merge_adapter(base, adapter, tmp_path / "merged")


def test_base_whose_tensors_are_not_as_its_config_tells_is_refused(tmp_path: Path) -> None:
    base = save_model("llama", tmp_path / "base")
    adapter = save_adapter(base, tmp_path / "adapter")
    config = json.loads((base / "config.json").read_text("utf-8"))
    (base / "config.json").write_text(json.dumps(config | {"intermediate_size": 40}), "utf-8")
    with pytest.raises(PipelineError, match=r"has the shape \[32, 48\] where.*\[32, 40\]"):
        merge_adapter(base, adapter, tmp_path / "merged")


@pytest.mark.parametrize("more", [{}, {"auto_map": {"AutoConfig": "oracle.OracleConfig"}}])
def test_model_that_transformers_does_not_know_is_refused_with_no_question_asked(
    more: dict[str, Any], tmp_path: Path
) -> None:
    base = save_model("llama", tmp_path / "base")
    adapter = save_adapter(base, tmp_path / "adapter")
    config = json.loads((base / "config.json").read_text("utf-8"))
    (base / "config.json").write_text(json.dumps(config | more | {"model_type": "oracle"}), "utf-8")
    (base / "oracle.py").write_text("raise SystemExit('this code must not run')", "utf-8")
    with pytest.raises(PipelineError, match=r"base model in .* cannot be loaded"):
        merge_adapter(base, adapter, tmp_path / "merged")

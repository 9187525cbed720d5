"""The merged model is base plus adapter, rounded once; a broken adapter is one clear sentence."""

import json
import shutil
from pathlib import Path
from typing import Any

import pytest
import torch
from peft import PeftModel
from safetensors.torch import load_file, save_file
from transformers import AutoModelForCausalLM, AutoTokenizer

from pipeline.errors import PipelineError
from pipeline.export.merge import merge_adapter
from tests.export.conftest import save_adapter

PROMPT = torch.arange(100, 164).reshape(2, 32)


def logits(model: torch.nn.Module) -> torch.Tensor:
    with torch.no_grad():
        return model.eval()(PROMPT).logits


def load(directory: Path) -> torch.nn.Module:
    return AutoModelForCausalLM.from_pretrained(directory, dtype=torch.float32)


@pytest.mark.filterwarnings("ignore:Model (with|has) `tie_word")  # that is the point of some
@pytest.mark.parametrize(
    "settings",
    [
        {},
        {"use_rslora": True, "lora_alpha": 3},
        {"use_dora": True},
        {"target_modules": ["q_proj", "lm_head"]},
        {"target_modules": ["q_proj", "embed_tokens"]},
        {"target_modules": ["q_proj"], "modules_to_save": ["embed_tokens"]},
        {"target_modules": ["q_proj"], "trainable_token_indices": [101, 102]},
    ],
    ids=["lora", "rslora", "dora", "tied output", "tied input", "saved module", "trained tokens"],
)
def test_merged_model_computes_what_the_adapter_does(
    settings: dict[str, Any], base: Path, tmp_path: Path
) -> None:
    adapter = save_adapter(base, tmp_path / "adapter", **settings)

    merge_adapter(base, adapter, tmp_path / "merged")

    with_adapter = logits(PeftModel.from_pretrained(load(base), adapter))
    merged = logits(load(tmp_path / "merged"))
    change = (with_adapter - logits(load(base))).abs().mean()
    rounding = (merged - with_adapter).abs().mean()  # each weight is off by up to 0.4 %
    assert change > 0.01
    assert rounding < 0.05 * change


def test_every_weight_is_rounded_only_once(base: Path, adapter: Path, merged: Path) -> None:
    before = load_file(base / "model.safetensors")
    after = load_file(merged / "model.safetensors")
    lora = load_file(adapter / "adapter_model.safetensors")
    assert set(after) == set(before)
    scale = 8 / 8  # PEFT's defaults: alpha 8, and r 8
    for name, weight in before.items():
        key = f"base_model.model.{name.removesuffix('.weight')}.lora_"
        exact = weight.float()
        if key + "A.weight" in lora:
            exact += scale * (lora[key + "B.weight"] @ lora[key + "A.weight"])
        assert after[name].dtype == torch.bfloat16
        # bfloat16 keeps 8 significant bits: one rounding is off by at most 2^-8, two by more.
        error = (after[name].float() - exact).abs()
        assert (error <= 2**-8 * exact.abs() * 1.0001 + 1e-7).all(), name


def test_float16_base_stays_float16(base: Path, adapter: Path, tmp_path: Path) -> None:
    half = tmp_path / "half"
    model = AutoModelForCausalLM.from_pretrained(base, dtype=torch.float16)
    model.save_pretrained(half)
    AutoTokenizer.from_pretrained(base).save_pretrained(half)
    merge_adapter(half, adapter, tmp_path / "merged")
    weights = load_file(tmp_path / "merged" / "model.safetensors")
    assert {weight.dtype for weight in weights.values()} == {torch.float16}


def test_tokenizer_is_the_bases_but_for_the_chat_template(
    base: Path, merged: Path, adapter: Path, tmp_path: Path
) -> None:
    assert (base / "chat_template.jinja").is_file()  # else this test proves nothing
    assert (merged / "tokenizer.json").read_bytes() == (base / "tokenizer.json").read_bytes()
    assert not (merged / "chat_template.jinja").exists()
    assert AutoTokenizer.from_pretrained(merged).chat_template is None

    merge_adapter(base, adapter, tmp_path / "chat", keep_chat_template=True)
    assert AutoTokenizer.from_pretrained(tmp_path / "chat").chat_template


def test_chat_template_inside_the_tokenizer_config_is_removed_too(
    base: Path, adapter: Path, tmp_path: Path
) -> None:
    old = tmp_path / "old"
    shutil.copytree(base, old)
    (old / "chat_template.jinja").unlink()
    config = json.loads((old / "tokenizer_config.json").read_text("utf-8"))
    text = json.dumps(config | {"chat_template": "{{ messages }}"})
    (old / "tokenizer_config.json").write_text(text, "utf-8")
    merge_adapter(old, adapter, tmp_path / "merged")
    assert json.loads((tmp_path / "merged" / "tokenizer_config.json").read_text("utf-8")) == config


def test_generation_config_that_cannot_be_saved_is_copied(
    base: Path, adapter: Path, tmp_path: Path
) -> None:
    odd = tmp_path / "odd"
    shutil.copytree(base, odd)
    # Sampling values without do_sample: transformers reads this, but refuses to write it.
    text = json.dumps({"do_sample": False, "temperature": 0.6, "eos_token_id": [0, 2]})
    (odd / "generation_config.json").write_text(text, "utf-8")
    merge_adapter(odd, adapter, tmp_path / "merged")
    assert (tmp_path / "merged" / "generation_config.json").read_text("utf-8") == text


@pytest.fixture
def broken(adapter: Path, tmp_path: Path) -> Path:
    """A copy of the adapter, to be broken."""
    return Path(shutil.copytree(adapter, tmp_path / "broken"))


@pytest.mark.parametrize("name", ["adapter_config.json", "adapter_model.safetensors"])
def test_missing_adapter_file_is_named(name: str, base: Path, broken: Path, tmp_path: Path) -> None:
    (broken / name).unlink()
    with pytest.raises(PipelineError, match=f"{name} is missing"):
        merge_adapter(base, broken, tmp_path / "merged")


@pytest.mark.parametrize("kept", [0, 5, 200, -1])
def test_truncated_adapter_is_refused(kept: int, base: Path, broken: Path, tmp_path: Path) -> None:
    weights = broken / "adapter_model.safetensors"
    weights.write_bytes(weights.read_bytes()[:kept])
    with pytest.raises(PipelineError, match=r"adapter_model\.safetensors is damaged or not whole"):
        merge_adapter(base, broken, tmp_path / "merged")


def test_adapter_config_that_is_not_json_is_refused(
    base: Path, broken: Path, tmp_path: Path
) -> None:
    (broken / "adapter_config.json").write_text("{", "utf-8")
    with pytest.raises(PipelineError, match="is damaged: it is not JSON"):
        merge_adapter(base, broken, tmp_path / "merged")


def test_adapter_whose_training_diverged_is_refused(
    base: Path, broken: Path, tmp_path: Path
) -> None:
    weights = load_file(broken / "adapter_model.safetensors")
    next(iter(weights.values()))[0, 0] = float("nan")
    save_file(weights, broken / "adapter_model.safetensors")
    with pytest.raises(PipelineError, match="not finite"):
        merge_adapter(base, broken, tmp_path / "merged")


def test_adapter_with_tensors_missing_is_not_merged_as_zeros(
    base: Path, broken: Path, tmp_path: Path
) -> None:
    weights = load_file(broken / "adapter_model.safetensors")
    weights.popitem()
    save_file(weights, broken / "adapter_model.safetensors")
    with pytest.raises(PipelineError, match=r"does not fit the base model.*missing adapter keys"):
        merge_adapter(base, broken, tmp_path / "merged")


def test_adapter_of_another_model_is_refused(base: Path, broken: Path, tmp_path: Path) -> None:
    weights = load_file(broken / "adapter_model.safetensors")
    wider = {key: torch.cat([weight, weight], dim=1) for key, weight in weights.items()}
    save_file(wider, broken / "adapter_model.safetensors")
    with pytest.raises(PipelineError, match="does not fit the base model"):
        merge_adapter(base, broken, tmp_path / "merged")


def test_missing_and_quantized_bases_are_refused(base: Path, adapter: Path, tmp_path: Path) -> None:
    with pytest.raises(PipelineError, match=r"no base model .*config\.json is missing"):
        merge_adapter(tmp_path / "nowhere", adapter, tmp_path / "merged")
    packed = Path(shutil.copytree(base, tmp_path / "packed"))
    config = json.loads((packed / "config.json").read_text("utf-8"))
    config["quantization_config"] = {"quant_method": "bitsandbytes", "load_in_4bit": True}
    (packed / "config.json").write_text(json.dumps(config), "utf-8")
    with pytest.raises(PipelineError, match="stored quantized"):
        merge_adapter(packed, adapter, tmp_path / "merged")

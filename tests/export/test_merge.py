"""The merged model is base plus adapter, rounded once; a broken adapter is one clear sentence."""

import json
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import torch
from peft import PeftModel
from safetensors.torch import load_file, save_file
from transformers import AutoModelForCausalLM, AutoTokenizer, LlamaConfig

from bench.merge import write_llama
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
    with pytest.raises(PipelineError, match=r"merged weights of model\.layers.* are not finite"):
        merge_adapter(base, broken, tmp_path / "merged")
    assert not list((tmp_path / "merged").glob("*.safetensors"))


def test_adapter_with_tensors_missing_is_not_merged_as_zeros(
    base: Path, broken: Path, tmp_path: Path
) -> None:
    weights = load_file(broken / "adapter_model.safetensors")
    weights.popitem()
    save_file(weights, broken / "adapter_model.safetensors")
    with pytest.raises(PipelineError, match=r"does not fit the base model.*lacks 1 of 28 tensors"):
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
    config["quantization_config"] = {"quant_method": "gptq", "bits": 4}
    (packed / "config.json").write_text(json.dumps(config), "utf-8")
    with pytest.raises(PipelineError, match=r"stored quantized \(gptq\).*--merge-base"):
        merge_adapter(packed, adapter, tmp_path / "merged")


def test_adapter_of_a_model_with_other_layers_is_refused(
    base: Path, broken: Path, tmp_path: Path
) -> None:
    weights = load_file(broken / "adapter_model.safetensors")
    more = {key.replace("layers.1", "layers.7"): weight + 0 for key, weight in weights.items()}
    save_file(weights | more, broken / "adapter_model.safetensors")
    with pytest.raises(PipelineError, match=r"14 of its tensors have no place there.*layers\.7"):
        merge_adapter(base, broken, tmp_path / "merged")


def test_base_in_shards_is_merged_like_one_in_a_file(
    base: Path, adapter: Path, merged: Path, tmp_path: Path
) -> None:
    shards = tmp_path / "shards"
    model = AutoModelForCausalLM.from_pretrained(base, dtype=torch.bfloat16)
    model.save_pretrained(shards, max_shard_size="100KB")
    assert len(list(shards.glob("*.safetensors"))) > 2
    merge_adapter(shards, adapter, tmp_path / "merged", shard_size=300_000)
    assert len(list((tmp_path / "merged").glob("model-*.safetensors"))) > 1
    found = AutoModelForCausalLM.from_pretrained(tmp_path / "merged", dtype="auto").state_dict()
    expected = AutoModelForCausalLM.from_pretrained(merged, dtype="auto").state_dict()
    assert all(torch.equal(found[name], weight) for name, weight in expected.items())


def test_shard_that_is_missing_is_named(base: Path, adapter: Path, tmp_path: Path) -> None:
    shards = tmp_path / "shards"
    AutoModelForCausalLM.from_pretrained(base).save_pretrained(shards, max_shard_size="1MB")
    lost = sorted(shards.glob("model-*.safetensors"))[1]
    lost.unlink()
    with pytest.raises(PipelineError, match=lost.name):
        merge_adapter(shards, adapter, tmp_path / "merged")


def test_few_wide_numbers_of_a_16_bit_base_are_kept(
    base: Path, adapter: Path, tmp_path: Path
) -> None:
    mixed = Path(shutil.copytree(base, tmp_path / "mixed"))
    weights = load_file(mixed / "model.safetensors")
    weights["model.norm.weight"] = weights["model.norm.weight"].float() + 1e-6
    save_file(weights, mixed / "model.safetensors", metadata={"format": "pt"})
    merge_adapter(mixed, adapter, tmp_path / "merged")
    after = load_file(tmp_path / "merged" / "model.safetensors")
    assert torch.equal(after["model.norm.weight"], weights["model.norm.weight"])


def test_what_was_done_is_told(base: Path, adapter: Path, tmp_path: Path) -> None:
    told: list[int] = []
    done = merge_adapter(base, adapter, tmp_path / "merged", on_tensor=told.append)
    weights = load_file(tmp_path / "merged" / "model.safetensors")
    assert done.tensors == len(told) == len(weights)
    assert done.changed == 14  # seven linear layers in each of two blocks
    assert done.bytes == sum(told) == sum(weight.nbytes for weight in weights.values())
    assert done.dtype == "bfloat16"
    assert 0 < done.peak < 2**30


def test_too_little_memory_is_refused_before_anything_is_written(
    base: Path, adapter: Path, tmp_path: Path
) -> None:
    with pytest.raises(PipelineError, match=r"needs .* MB of memory, more than the .*--max-memory"):
        merge_adapter(base, adapter, tmp_path / "merged", max_memory=1000)
    assert not (tmp_path / "merged").exists()


MEMORY = """
import resource, sys
from pathlib import Path
import peft, transformers, safetensors.torch
from transformers import LlamaForCausalLM
from pipeline.export.merge import merge_adapter
folder = Path(sys.argv[1])
tiny = merge_adapter(Path(sys.argv[2]), Path(sys.argv[3]), folder / "first")
before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
done = merge_adapter(
    folder / "base", folder / "adapter", folder / "merged", max_memory=int(sys.argv[4])
)
print(done.bytes, (resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before) * 1024)
"""


@pytest.mark.slow
def test_memory_stays_within_its_limit(base: Path, adapter: Path, tmp_path: Path) -> None:
    model = LlamaConfig(
        vocab_size=50_000, hidden_size=1024, intermediate_size=4096, num_hidden_layers=5,
        num_attention_heads=8, num_key_value_heads=8, tie_word_embeddings=True, dtype="bfloat16",
        architectures=["LlamaForCausalLM"],
    )  # fmt: skip
    write_llama(tmp_path, model)
    assert (tmp_path / "base" / "model.safetensors").stat().st_size > 250_000_000
    limit = 30_000_000
    command = [sys.executable, "-W", "ignore", "-c", MEMORY, *map(str, (tmp_path, base, adapter))]
    done = subprocess.run([*command, str(limit)], check=True, capture_output=True, text=True)
    size, peak = map(int, done.stdout.split()[-2:])
    assert size > 250_000_000
    assert peak < 1.5 * limit  # a tenth of the model; the rest is Python's own


def test_limit_is_kept_by_taking_smaller_slices(base: Path, adapter: Path, tmp_path: Path) -> None:
    merged = merge_adapter(base, adapter, tmp_path / "one")
    small = merge_adapter(base, adapter, tmp_path / "other", max_memory=300_000)
    assert small.peak <= 300_000 < merged.peak
    one, other = (load_file(tmp_path / f / "model.safetensors") for f in ("one", "other"))
    for name, weight in one.items():
        assert torch.allclose(weight.float(), other[name].float(), rtol=2**-7), name

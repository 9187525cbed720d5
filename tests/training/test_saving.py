"""What was trained is stored so that others can use it, and nothing of it is lost."""

import dataclasses
import json
import shutil
from pathlib import Path
from typing import Any

import pytest
import torch
from huggingface_hub import constants
from peft import AutoPeftModelForCausalLM, PeftModel
from safetensors.torch import load_file
from transformers import AutoConfig, AutoModelForCausalLM, AutoTokenizer

from pipeline.corpus.new_tokens import Extended, extend_tokenizer
from pipeline.errors import PipelineError
from pipeline.training.adapter_sources import base_for
from pipeline.training.base_model import BaseModel
from pipeline.training.engine import Engine
from pipeline.training.loading import load_for_training
from pipeline.training.saving import save_trained
from pipeline.training.scored_models import base_of, find_candidate, load_for_scoring
from pipeline.training.settings import TrainSettings
from tests.training.architectures import (
    BF16,
    CONTEXT,
    FP32,
    IDS,
    KINDS,
    logits_of,
    snapshot,
    take_steps,
    tiny_base,
)

TRL = Engine("trl", "for a test")
TOKENIZER = {"tokenizer.json", "tokenizer_config.json"}
ADAPTER = {"adapter_config.json", "adapter_model.safetensors"} | TOKENIZER
MODEL = {"config.json", "generation_config.json", "model.safetensors"} | TOKENIZER


@pytest.fixture(scope="module")
def base(tmp_path_factory: pytest.TempPathFactory) -> BaseModel:
    return tiny_base(tmp_path_factory.mktemp("saving") / "base")


def train_and_save(
    base: BaseModel, folder: Path, precision: Any = FP32, extended: Extended | None = None,
    **asked: Any,
) -> Any:  # fmt: skip
    settings = TrainSettings(**{"rank": 4, **asked})
    model = load_for_training(TRL, base, settings, precision, cuda=False, extended=extended)
    take_steps(model, 2, precision)
    save_trained(model, base, settings, folder, extended)
    return model


def names(folder: Path) -> set[str]:
    return {path.name for path in folder.iterdir()}


@pytest.mark.parametrize("kind", ["llama", "gpt2", "gpt_neox", "qwen2_moe"])
@pytest.mark.parametrize(
    "asked",
    [{}, {"method": "dora"}, {"rslora": True}, {"target_modules": ("attention",)}],
    ids=str,
)
def test_stock_peft_loads_an_adapter_and_says_the_same(
    kind: str, asked: dict[str, Any], tmp_path: Path
) -> None:
    base = tiny_base(tmp_path / "base", kind)
    model = train_and_save(base, tmp_path / "out", **asked)
    assert names(tmp_path / "out") == ADAPTER
    plain = AutoModelForCausalLM.from_pretrained(base.path, dtype=torch.float32)
    untrained = logits_of(plain)
    stock = PeftModel.from_pretrained(plain, tmp_path / "out")
    assert torch.equal(logits_of(stock), logits_of(model))
    assert not torch.allclose(logits_of(stock), untrained, atol=1e-2)


@pytest.mark.parametrize("method", ["qlora", "qlora8"])
def test_an_adapter_of_a_quantized_base_fits_the_base_in_16_bits(
    method: str, base: BaseModel, tmp_path: Path
) -> None:
    model = train_and_save(base, tmp_path, BF16, method=method)
    assert names(tmp_path) == ADAPTER
    plain = AutoModelForCausalLM.from_pretrained(base.path, dtype=torch.bfloat16)
    stock = PeftModel.from_pretrained(plain, tmp_path)
    both = torch.stack([logits_of(each).flatten() for each in (stock, model)])
    assert torch.corrcoef(both)[0, 1] > 0.8


@pytest.mark.parametrize("tied", [False, True])
def test_whole_norms_and_embeddings_come_with_the_adapter(tied: bool, tmp_path: Path) -> None:
    base = tiny_base(tmp_path / "base", tie_word_embeddings=tied)
    model = train_and_save(
        base, tmp_path / "out", target_modules=("attention", "norm", "embed_tokens")
    )
    plain = AutoModelForCausalLM.from_pretrained(base.path, dtype=torch.float32)
    stock = PeftModel.from_pretrained(plain, tmp_path / "out")
    assert torch.equal(logits_of(stock), logits_of(model))


def test_the_adapters_weights_are_float32_and_the_same_in_every_run(
    base: BaseModel, tmp_path: Path
) -> None:
    for folder in ("one", "other"):
        train_and_save(base, tmp_path / folder, BF16, target_modules=("all-linear", "norm"))
    for name in ADAPTER:
        assert (tmp_path / "one" / name).read_bytes() == (tmp_path / "other" / name).read_bytes()
    tensors = load_file(tmp_path / "one" / "adapter_model.safetensors")
    assert {tensor.dtype for tensor in tensors.values()} == {torch.float32}
    config = json.loads((tmp_path / "one" / "adapter_config.json").read_text("utf-8"))
    assert config["target_modules"] == sorted(config["target_modules"])
    assert config["base_model_name_or_path"] == str(base.path)


def test_a_base_from_the_hub_is_named_with_its_revision_and_another_by_its_place(
    base: BaseModel, tmp_path: Path
) -> None:
    def named_for(source: str) -> tuple[str, str | None]:
        known = dataclasses.replace(base, name="ada/base", source=source, revision="4a1f")
        train_and_save(known, tmp_path)
        config = json.loads((tmp_path / "adapter_config.json").read_text("utf-8"))
        return config["base_model_name_or_path"], config["revision"]

    assert named_for("Hugging Face Hub") == ("ada/base", "4a1f"), "and no folder of this disk"
    assert named_for("a.gguf, dequantized") == (str(base.path), None)


def test_a_base_from_the_hub_is_found_again_by_everything_that_reads_the_adapter(
    base: BaseModel, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    commit = "4a1f" * 10
    cached = tmp_path / "hub" / "models--ada--base" / "snapshots" / commit
    shutil.copytree(base.path, cached)
    monkeypatch.setattr(constants, "HF_HUB_CACHE", str(tmp_path / "hub"))
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", True)
    known = BaseModel(cached, "ada/base", "Hugging Face Hub", None, commit)
    folder = tmp_path / "adapter"
    train_and_save(known, folder)
    assert base_for(folder) == base_of(folder) == ("ada/base", commit)
    loaded = load_for_scoring(find_candidate(str(folder)), tmp_path / "cache")
    stock = AutoPeftModelForCausalLM.from_pretrained(folder, dtype=torch.float32)
    with torch.no_grad():
        ours, theirs = loaded.model.float()(IDS).logits, stock(IDS).logits
    torch.testing.assert_close(ours, theirs, rtol=0, atol=0.05)


def test_the_tokenizer_is_the_bases_file_for_file(base: BaseModel, tmp_path: Path) -> None:
    train_and_save(base, tmp_path)
    for name in TOKENIZER:
        assert (tmp_path / name).read_bytes() == (base.path / name).read_bytes()


def test_stretched_positions_are_recorded_and_make_the_same_model(
    base: BaseModel, tmp_path: Path
) -> None:
    model = train_and_save(base, tmp_path, rope_scaling="yarn:2")
    assert names(tmp_path) == ADAPTER | {"base_changes.json"}
    changes = json.loads((tmp_path / "base_changes.json").read_text("utf-8"))
    assert changes["max_position_embeddings"] == 2 * CONTEXT
    assert changes["rope_parameters"]["rope_type"] == "yarn"
    config = AutoConfig.from_pretrained(base.path)
    for key, value in changes.items():
        setattr(config, key, value)
    plain = AutoModelForCausalLM.from_pretrained(base.path, config=config, dtype=torch.float32)
    assert torch.equal(logits_of(PeftModel.from_pretrained(plain, tmp_path)), logits_of(model))


@pytest.mark.parametrize("tied", [False, True])
def test_new_tokens_come_with_the_adapter(tied: bool, tmp_path: Path) -> None:
    base = tiny_base(tmp_path / "base", tie_word_embeddings=tied)
    extended = extend_tokenizer(base.path, ["Frankenstein", "gothick"], tmp_path / "tokenizers")
    model = train_and_save(base, tmp_path / "out", extended=extended)
    out = tmp_path / "out"
    assert names(out) == ADAPTER | {"base_changes.json"}
    changes = json.loads((out / "base_changes.json").read_text("utf-8"))
    assert changes == {"extra_tokens": ["Frankenstein", "gothick"]}
    assert len(AutoTokenizer.from_pretrained(out)) == extended.size
    rows = json.loads((out / "adapter_config.json").read_text("utf-8"))["trainable_token_indices"]
    assert set(map(tuple, rows.values())) == {tuple(token.id for token in extended.new)}
    plain = AutoModelForCausalLM.from_pretrained(base.path, dtype=torch.float32)
    plain.resize_token_embeddings(max(extended.size, 450), mean_resizing=False)
    assert torch.equal(logits_of(PeftModel.from_pretrained(plain, out)), logits_of(model))


@pytest.mark.parametrize("kind", KINDS)
def test_a_whole_model_is_stored_in_16_bits_and_goes_on_in_32(kind: str, tmp_path: Path) -> None:
    base = tiny_base(tmp_path / "base", kind)
    settings = TrainSettings(method="full")
    model = load_for_training(TRL, base, settings, BF16, cuda=False)
    take_steps(model, 2)
    before = snapshot(model)
    save_trained(model, base, settings, tmp_path / "out")
    after = snapshot(model)
    assert all(torch.equal(before[name], after[name]) for name in before)
    assert names(tmp_path / "out") == MODEL
    stored = load_file(tmp_path / "out" / "model.safetensors")
    assert {tensor.dtype for tensor in stored.values()} == {torch.bfloat16}
    again = AutoModelForCausalLM.from_pretrained(tmp_path / "out")
    assert again.dtype == torch.bfloat16
    for name, parameter in again.named_parameters():
        assert torch.equal(parameter, before[name].bfloat16()), name


@pytest.mark.parametrize(
    ("dtype", "stored"),
    [
        (torch.float16, torch.float16),
        (torch.bfloat16, torch.bfloat16),
        (torch.float32, torch.bfloat16),
    ],
)
def test_the_16_bits_are_the_bases(dtype: Any, stored: Any, tmp_path: Path) -> None:
    base = tiny_base(tmp_path / "base", dtype=dtype)
    train_and_save(base, tmp_path / "out", method="full")
    tensors = load_file(tmp_path / "out" / "model.safetensors")
    assert {tensor.dtype for tensor in tensors.values()} == {stored}


def test_weights_that_16_bits_cannot_hold_are_not_stored(tmp_path: Path) -> None:
    base = tiny_base(tmp_path / "base", dtype=torch.float16)
    settings = TrainSettings(method="full")
    model = load_for_training(TRL, base, settings, FP32, cuda=False)
    with torch.no_grad():
        model.model.norm.weight[3] = 1e6
    with pytest.raises(PipelineError, match=r"model.norm.weight are not finite numbers in"):
        save_trained(model, base, settings, tmp_path / "out")
    assert model.model.norm.weight[3] == 1e6


def test_the_bases_generation_settings_are_kept_word_for_word(tmp_path: Path) -> None:
    base = tiny_base(tmp_path / "base")
    published = '{"temperature": 0.7, "do_sample": false}'  # the library refuses to save this
    (base.path / "generation_config.json").write_text(published, "utf-8")
    train_and_save(base, tmp_path / "out", method="full")
    assert (tmp_path / "out" / "generation_config.json").read_text("utf-8") == published


def test_a_whole_model_generates_with_the_bases_cache_though_training_went_without(
    tmp_path: Path,
) -> None:
    base = tiny_base(tmp_path / "base")
    settings = TrainSettings(method="full")
    model = load_for_training(TRL, base, settings, BF16, cuda=False)
    model.config.use_cache = False  # as the trainer has it
    save_trained(model, base, settings, tmp_path / "out")
    for name in ("config.json", "generation_config.json"):
        assert json.loads((tmp_path / "out" / name).read_text())["use_cache"] is True
    assert model.config.use_cache is False, "and training goes on as it was"
    config = base.path / "config.json"
    config.write_text(json.dumps(json.loads(config.read_text()) | {"use_cache": False}))
    save_trained(model, base, settings, tmp_path / "without")
    assert json.loads((tmp_path / "without" / "config.json").read_text())["use_cache"] is False


def test_a_whole_model_knows_its_stretched_positions_and_new_tokens(tmp_path: Path) -> None:
    base = tiny_base(tmp_path / "base")
    words = [f"word-{i}" for i in range(60)]
    extended = extend_tokenizer(base.path, words, tmp_path / "tokenizers")
    model = train_and_save(
        base, tmp_path / "out", method="full", rope_scaling="linear:2", extended=extended
    )
    assert names(tmp_path / "out") == MODEL
    again = AutoModelForCausalLM.from_pretrained(tmp_path / "out", dtype=torch.float32)
    assert again.config.max_position_embeddings == 2 * CONTEXT
    assert again.config.vocab_size == extended.size > 450
    assert torch.allclose(logits_of(again), logits_of(model), atol=0.3)


def test_a_model_from_nothing_is_whole_and_needs_no_base(base: BaseModel, tmp_path: Path) -> None:
    sizes = {
        "model_type": "qwen3", "hidden_size": 32, "intermediate_size": 64, "head_dim": 8,
        "num_hidden_layers": 1, "num_attention_heads": 4, "num_key_value_heads": 2,
    }  # fmt: skip
    path = tmp_path / "new.json"
    path.write_text(json.dumps(sizes), "utf-8")
    model = train_and_save(base, tmp_path / "out", from_scratch=str(path))
    assert names(tmp_path / "out") == MODEL
    again = AutoModelForCausalLM.from_pretrained(tmp_path / "out", dtype=torch.float32)
    tokenizer = AutoTokenizer.from_pretrained(tmp_path / "out")
    assert again.config.model_type == "qwen3"
    assert again.config.vocab_size == len(tokenizer)
    assert again.config.eos_token_id == tokenizer.eos_token_id
    assert torch.allclose(logits_of(again), logits_of(model), atol=0.05)

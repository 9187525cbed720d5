"""Which library trains, in which number format: decided by what is there, and said."""

import dataclasses
import sys
import types
from pathlib import Path
from typing import Any

import pytest
import torch
from transformers import AutoModelForCausalLM, GPT2Config, GPT2LMHeadModel

from pipeline.errors import UsageError
from pipeline.training import engine
from pipeline.training.engine import (
    Machine,
    choose_engine,
    choose_precision,
    linear_names,
    load_with_adapter,
    start_engine,
)
from pipeline.training.settings import TrainSettings
from tests.tiny_models import tiny_llama


@pytest.mark.parametrize(
    ("cuda", "unsloth", "expected"),
    [
        (True, True, "unsloth"),
        (True, False, "trl"),
        (False, True, "trl"),
        (False, False, "trl"),
    ],
)
def test_unsloth_is_used_where_it_and_a_gpu_are(cuda: bool, unsloth: bool, expected: str) -> None:
    chosen = choose_engine(Machine(cuda=cuda, bf16=True, unsloth=unsloth))
    assert chosen.name == expected
    assert chosen.reason


@pytest.mark.parametrize(
    ("cuda", "bf16", "expected", "autocast"),
    [
        (True, True, "bfloat16", torch.bfloat16),
        (True, False, "float16", torch.float16),
        (False, True, "bfloat16", torch.bfloat16),
        (False, False, "float32", None),
    ],
)
def test_the_number_format_is_what_the_device_is_fast_at(
    cuda: bool, bf16: bool, expected: str, autocast: torch.dtype | None
) -> None:
    precision = choose_precision(Machine(cuda=cuda, bf16=bf16, unsloth=False))
    assert precision.name == expected
    assert precision.autocast == autocast
    assert precision.reason


def test_an_unsloth_that_does_not_load_is_done_without(monkeypatch: pytest.MonkeyPatch) -> None:
    def broken(name: str) -> types.ModuleType:
        raise NotImplementedError("Unsloth cannot find any torch accelerator? You need a GPU.")

    monkeypatch.setattr(engine.importlib, "import_module", broken)
    chosen = start_engine(Machine(cuda=True, bf16=True, unsloth=True))
    assert chosen.name == "trl"
    assert "You need a GPU" in chosen.reason


def test_an_engine_can_be_asked_for_and_is_refused_where_it_cannot_run() -> None:
    gpu = Machine(cuda=True, bf16=True, unsloth=True)
    assert choose_engine(gpu, "trl").name == "trl"
    assert choose_engine(gpu, "unsloth").name == "unsloth"
    with pytest.raises(UsageError, match="--engine unsloth cannot be used: no GPU"):
        choose_engine(dataclasses.replace(gpu, cuda=False), "unsloth")
    with pytest.raises(UsageError, match="not installed"):
        choose_engine(dataclasses.replace(gpu, unsloth=False), "unsloth")


def test_unsloth_gets_the_same_settings(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    calls: dict[str, dict] = {}

    class FastLanguageModel:
        @staticmethod
        def from_pretrained(**arguments: Any) -> tuple[Any, None]:
            calls["load"] = arguments
            return AutoModelForCausalLM.from_pretrained(arguments["model_name"]), None

        @staticmethod
        def get_peft_model(model: Any, **arguments: Any) -> Any:
            calls["adapt"] = arguments
            return model

    fake = types.ModuleType("unsloth")
    fake.FastLanguageModel = FastLanguageModel  # type: ignore[attr-defined]
    monkeypatch.setitem(sys.modules, "unsloth", fake)
    machine = Machine(cuda=True, bf16=True, unsloth=True)
    settings = TrainSettings(rank=4, alpha=7, dropout=0.25, seed=9, sequence_length=2000)
    base = tiny_llama(tmp_path / "model")
    load_with_adapter(choose_engine(machine), base, settings, choose_precision(machine), cuda=True)
    assert calls["load"]["model_name"] == str(base.path)
    assert calls["load"]["max_seq_length"] == 2000
    assert calls["load"]["dtype"] == torch.bfloat16
    adapt = calls["adapt"]
    assert (adapt["r"], adapt["lora_alpha"], adapt["lora_dropout"]) == (4, 7, 0.25)
    assert adapt["random_state"] == 9
    assert adapt["target_modules"] == LLAMA_LINEAR


LLAMA_LINEAR = ["down_proj", "gate_proj", "k_proj", "o_proj", "q_proj", "up_proj", "v_proj"]


def test_a_new_adapter_is_float32_on_all_linear_layers_and_changes_nothing(tmp_path: Path) -> None:
    base = tiny_llama(tmp_path / "model")
    machine = Machine(cuda=False, bf16=True, unsloth=False)
    model = load_with_adapter(
        choose_engine(machine), base, TrainSettings(rank=4), choose_precision(machine), cuda=False
    )
    trained = {n: p for n, p in model.named_parameters() if p.requires_grad}
    frozen = {n: p for n, p in model.named_parameters() if not p.requires_grad}
    assert {p.dtype for p in trained.values()} == {torch.float32}
    assert {p.dtype for p in frozen.values()} == {torch.bfloat16}
    assert {n.split(".")[-4] for n in trained} == set(LLAMA_LINEAR)

    ids = torch.tensor([[5, 6, 7]])
    plain = AutoModelForCausalLM.from_pretrained(base.path, dtype=torch.bfloat16)
    with torch.no_grad():
        assert torch.equal(model(ids).logits, plain(ids).logits)


def test_the_linear_layers_of_an_architecture_with_names_of_its_own_are_found() -> None:
    config = GPT2Config(n_layer=1, n_head=2, n_embd=8, vocab_size=20, n_positions=16)
    assert linear_names(GPT2LMHeadModel(config)) == ["c_attn", "c_fc", "c_proj"]


def test_this_machine_can_be_looked_at() -> None:
    machine = Machine.detect()
    assert machine.cuda == torch.cuda.is_available()
    assert isinstance(machine.bf16, bool)

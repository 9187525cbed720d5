"""Which library trains, in which number format: decided by what is there, and said."""

import dataclasses
import importlib.machinery
import types
from typing import Any

import pytest
import torch

from pipeline.errors import PipelineError, UsageError
from pipeline.training import engine
from pipeline.training.engine import (
    Machine,
    Precision,
    choose_attention,
    choose_engine,
    choose_precision,
    start_engine,
)
from pipeline.training.settings import TrainSettings

GPU = Machine(cuda=True, bf16=True, unsloth=True, device_name="A100", gpus=1)
CPU = Machine(cuda=False, bf16=False, unsloth=False)
BF16 = Precision("bfloat16", "for a test")


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


def test_a_number_format_can_be_asked_for() -> None:
    assert choose_precision(GPU, "fp32").name == "float32"
    assert choose_precision(GPU, "fp16").name == "float16"
    assert choose_precision(GPU, "bf16").name == "bfloat16"
    assert choose_precision(CPU, "fp32").autocast is None
    assert choose_precision(dataclasses.replace(CPU, bf16=True), "bf16").reason == "as asked"
    slow = choose_precision(CPU, "bf16")
    assert slow.name == "bfloat16"
    assert "emulates" in slow.reason


def test_a_number_format_that_the_device_cannot_do_is_refused() -> None:
    with pytest.raises(UsageError, match="--precision fp16 needs a GPU"):
        choose_precision(CPU, "fp16")
    old = dataclasses.replace(GPU, bf16=False, device_name="T4")
    with pytest.raises(UsageError, match="--precision bf16: the T4 has no bfloat16"):
        choose_precision(old, "bf16")


def test_an_unsloth_that_does_not_load_is_done_without(monkeypatch: pytest.MonkeyPatch) -> None:
    def broken(name: str) -> types.ModuleType:
        raise NotImplementedError("Unsloth cannot find any torch accelerator? You need a GPU.")

    monkeypatch.setattr(engine.importlib, "import_module", broken)
    chosen = start_engine(GPU, TrainSettings())
    assert chosen.name == "trl"
    assert "You need a GPU" in chosen.reason
    with pytest.raises(PipelineError, match="does not load: Unsloth cannot find"):
        start_engine(GPU, TrainSettings(engine="unsloth"))


def test_an_engine_can_be_asked_for_and_is_refused_where_it_cannot_run() -> None:
    assert choose_engine(GPU, "trl").name == "trl"
    assert choose_engine(GPU, "unsloth").name == "unsloth"
    with pytest.raises(UsageError, match="--engine unsloth cannot be used: no GPU"):
        choose_engine(dataclasses.replace(GPU, cuda=False), "unsloth")
    with pytest.raises(UsageError, match="not installed"):
        choose_engine(dataclasses.replace(GPU, unsloth=False), "unsloth")


@pytest.mark.parametrize(
    "can",
    [
        {},
        {"method": "qlora"},
        {"rslora": True, "dropout": 0.1, "rank": 64},
        {"target_modules": ("attention",)},
        {"target_modules": ("attention", "embed_tokens", "normal.q_proj")},
        {"gradient_checkpointing": False},
    ],
)
def test_auto_takes_unsloth_for_what_it_can_do(can: dict[str, Any]) -> None:
    assert choose_engine(GPU, "auto", TrainSettings(**can)).name == "unsloth"


@pytest.mark.parametrize(
    ("cannot", "reason"),
    [
        ({"method": "full"}, "--method full"),
        ({"method": "dora"}, "--method dora"),
        ({"method": "qlora8"}, "8 bits"),
        ({"from_scratch": "tiny.yaml"}, "models that there are already"),
        ({"split_model": True}, "split"),
        ({"rope_scaling": "auto"}, "positions"),
        ({"extra_tokens": ("Frankenstein",)}, "new tokens"),
        ({"precision": "fp32"}, "16 bits only"),
        ({"target_modules": ("attention,input_layernorm",)}, "norms"),
        ({"target_modules": ("all-linear", "model.norm")}, "norms"),
    ],
)
def test_auto_says_why_not_and_asking_for_it_is_refused(
    cannot: dict[str, Any], reason: str
) -> None:
    settings = TrainSettings(**cannot)
    chosen = choose_engine(GPU, "auto", settings)
    assert chosen.name == "trl"
    assert reason in chosen.reason
    with pytest.raises(UsageError, match="--engine unsloth cannot be used: unsloth") as caught:
        choose_engine(GPU, "unsloth", settings)
    assert reason in str(caught.value)


@pytest.fixture
def flash_attention(monkeypatch: pytest.MonkeyPatch) -> None:
    spec = importlib.machinery.ModuleSpec("flash_attn", None)
    monkeypatch.setattr(engine.importlib.util, "find_spec", lambda name: spec)


@pytest.mark.usefixtures("flash_attention")
def test_flash_attention_is_used_only_where_it_keeps_packed_documents_apart() -> None:
    apart = TrainSettings(micro_batch_size=1)
    assert choose_attention(apart, BF16, cuda=True).name == "flash_attention_2"
    together = TrainSettings(micro_batch_size=2)
    for settings in (together, TrainSettings()):  # None: as many as memory takes
        chosen = choose_attention(settings, BF16, cuda=True)
        assert chosen.name == "sdpa"
        assert "--micro-batch-size 1" in chosen.reason
    unpacked = dataclasses.replace(together, packing=False)
    assert choose_attention(unpacked, BF16, cuda=True).name == "flash_attention_2"


@pytest.mark.usefixtures("flash_attention")
def test_flash_attention_needs_a_gpu_and_16_bits() -> None:
    settings = TrainSettings(micro_batch_size=1)
    assert choose_attention(settings, BF16, cuda=False).reason == "flash-attn needs a GPU"
    float32 = choose_attention(settings, Precision("float32", ""), cuda=True)
    assert float32.reason == "flash-attn computes in 16 bits only"


def test_without_flash_attention_it_is_torchs_own() -> None:
    chosen = choose_attention(TrainSettings(micro_batch_size=1), BF16, cuda=True)
    assert (chosen.name, chosen.reason) == ("sdpa", "flash-attn is not installed")


def test_this_machine_can_be_looked_at() -> None:
    machine = Machine.detect()
    assert machine.cuda == torch.cuda.is_available()
    assert machine.gpus == torch.cuda.device_count()
    assert isinstance(machine.bf16, bool)

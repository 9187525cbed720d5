"""The FLOPs counted by formula are those that torch counts; the machine's rate is plausible."""

from pathlib import Path
from typing import Any

import pytest
import torch
from torch.utils.flop_counter import FlopCounterMode
from transformers import AutoModelForCausalLM, GPT2Config, GPT2LMHeadModel

from pipeline.training.flops import flops_per_token, matmul_rate
from tests.tiny_models import tiny_llama

TOKENS = 128


def tiny_model(folder: Path) -> Any:
    base = tiny_llama(folder / "model")
    # This attention computes the whole square, also what the causal mask throws away.
    return AutoModelForCausalLM.from_pretrained(
        base.path, dtype=torch.float32, attn_implementation="eager"
    )


def gpt2() -> Any:
    return GPT2LMHeadModel(
        GPT2Config(vocab_size=300, n_positions=256, n_embd=64, n_layer=2, n_head=4),
    )


def with_adapter(model: Any, **options: Any) -> Any:
    from peft import LoraConfig, get_peft_model

    config = LoraConfig(task_type="CAUSAL_LM", r=8, target_modules="all-linear", **options)
    model = get_peft_model(model, config)
    model.enable_input_require_grads()  # else the first layer has nothing to pass on
    return model


def counted(model: Any) -> float:
    ids = torch.arange(TOKENS)[None]
    model.train()
    with FlopCounterMode(display=False) as counter:
        model(input_ids=ids, labels=ids).loss.backward()
    return counter.get_total_flops() / TOKENS


@pytest.mark.parametrize("is_adapter", [False, True], ids=["full", "adapter"])
def test_what_is_counted_by_formula_is_what_is_computed(tmp_path: Path, is_adapter: bool) -> None:
    model = tiny_model(tmp_path)
    if is_adapter:
        model = with_adapter(model)
    # The whole square is twice the causal half.
    assert flops_per_token(model, 2 * TOKENS) == pytest.approx(counted(model), rel=1e-3)


def test_gpt2_has_linear_layers_of_its_own_kind() -> None:
    model = gpt2()
    model.set_attn_implementation("eager")
    assert flops_per_token(model, 2 * TOKENS) == pytest.approx(counted(model), rel=1e-3)


def test_frozen_weights_cost_two_thirds(tmp_path: Path) -> None:
    model = tiny_model(tmp_path)
    whole = flops_per_token(model, 0)
    assert flops_per_token(model.requires_grad_(False), 0) == pytest.approx(whole * 4 / 6)
    assert whole == 6 * sum(
        module.weight.numel() for module in model.modules() if isinstance(module, torch.nn.Linear)
    )


def test_a_layer_that_is_trained_in_whole_counts_once(tmp_path: Path) -> None:
    model = tiny_model(tmp_path)
    head = model.lm_head.weight.numel()
    plain = flops_per_token(with_adapter(tiny_model(tmp_path / "b")), 0)
    saved = flops_per_token(with_adapter(model, modules_to_save=["lm_head"]), 0)
    assert saved == plain + 2 * head


def test_the_rate_of_this_machine_is_measured() -> None:
    state = torch.get_rng_state()
    rate = matmul_rate("cpu", torch.float32, seconds=0.05)
    assert 1e9 < rate < 1e14  # FLOPs per second: a slow core, and more than any CPU has
    assert torch.equal(torch.get_rng_state(), state), "a run draws the same numbers after it"


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="no CUDA device here")
def test_the_rate_of_a_gpu_is_measured_and_its_memory_freed() -> None:
    before = torch.cuda.memory_allocated()
    assert matmul_rate("cuda", torch.float16, seconds=0.1) > 1e12
    assert torch.cuda.memory_allocated() <= before + 32 * 1024**2  # the workspace of cuBLAS

"""Which tensors decay, at which rate each learns, and that the optimizers asked for do learn."""

import importlib.util
from pathlib import Path
from typing import Any

import pytest
import torch
from peft import LoraConfig, get_peft_model
from transformers import (
    GPT2Config,
    GPT2LMHeadModel,
    LlamaConfig,
    LlamaForCausalLM,
    PrinterCallback,
    Trainer,
    TrainingArguments,
)

from pipeline.errors import UsageError
from pipeline.training.optimizer import (
    check_optimizer,
    make_optimizer,
    make_scheduler,
    parameter_groups,
)
from pipeline.training.schedules import factor
from pipeline.training.settings import OPTIMIZERS, TrainSettings


def llama(*, tied: bool = False) -> LlamaForCausalLM:
    torch.manual_seed(0)
    return LlamaForCausalLM(
        LlamaConfig(
            vocab_size=32, hidden_size=16, intermediate_size=32, num_hidden_layers=1,
            num_attention_heads=2, num_key_value_heads=1, tie_word_embeddings=tied,
        )
    )  # fmt: skip


def adapted(**options: Any) -> Any:
    return get_peft_model(llama(), LoraConfig(target_modules=["q_proj", "up_proj"], **options))


def names(model: Any, group: dict[str, Any]) -> set[str]:
    inside = {id(tensor) for tensor in group["params"]}
    return {name for name, tensor in model.named_parameters() if id(tensor) in inside}


def decayed(model: Any) -> tuple[set[str], set[str]]:
    """The names of what decays, and of what does not."""
    found: tuple[set[str], set[str]] = (set(), set())
    for group in parameter_groups(model, 0.1):
        found[0 if group["weight_decay"] else 1].update(names(model, group))
    return found


def test_matrices_decay_but_norms_and_embeddings_do_not() -> None:
    yes, no = decayed(llama())
    assert {name.split(".")[-2] for name in yes} == {
        "q_proj", "k_proj", "v_proj", "o_proj", "gate_proj", "up_proj", "down_proj", "lm_head"
    }  # fmt: skip
    assert {name.split(".")[-2] for name in no} == {
        "embed_tokens", "input_layernorm", "post_attention_layernorm", "norm"
    }  # fmt: skip


def test_biases_do_not_decay() -> None:
    config = GPT2Config(n_layer=1, n_head=2, n_embd=8, vocab_size=20, n_positions=16)
    yes, no = decayed(GPT2LMHeadModel(config))
    assert yes == {
        f"transformer.h.0.{name}.weight"
        for name in ("attn.c_attn", "attn.c_proj", "mlp.c_fc", "mlp.c_proj")
    }
    assert {name.rpartition(".")[2] for name in no} == {"bias", "weight"}
    assert "transformer.wte.weight" in no  # its head as well, which is the same tensor


def test_of_an_adapter_both_factors_decay_and_doras_magnitudes_do_not() -> None:
    yes, no = decayed(adapted(use_dora=True))
    assert len(yes) == 4 and all("lora_A" in name or "lora_B" in name for name in yes)
    assert len(no) == 2 and all("lora_magnitude_vector" in name for name in no)


def test_the_rows_of_new_tokens_do_not_decay() -> None:
    model = adapted(trainable_token_indices={"embed_tokens": [3, 4]})
    _, no = decayed(model)
    assert {name.split(".")[-2] for name in no} == {"trainable_tokens_delta"}


@pytest.mark.parametrize("tied", [False, True])
def test_every_trainable_tensor_is_in_one_group_once_and_nothing_else(tied: bool) -> None:
    for model in (llama(tied=tied), adapted(use_dora=True)):
        tensors = [id(t) for group in parameter_groups(model, 0.1, learning_rate=1, ratio=4)
                   for t in group["params"]]  # fmt: skip
        assert len(tensors) == len(set(tensors))
        assert set(tensors) == {id(t) for t in model.parameters() if t.requires_grad}


def test_b_factors_can_learn_faster() -> None:
    model = adapted()
    optimizer = make_optimizer(model, TrainSettings(learning_rate=1e-3), ratio=8)
    rates = {
        name.split(".")[-3]: group["lr"]
        for group in optimizer.param_groups
        for name in names(model, group)
    }
    assert rates == {"lora_A": 1e-3, "lora_B": 8e-3}
    scheduler = make_scheduler(optimizer, TrainSettings(warmup=3), 10)
    assert scheduler.get_last_lr() == pytest.approx([1e-3 / 4, 8e-3 / 4])


def test_the_settings_reach_the_optimizer() -> None:
    settings = TrainSettings(learning_rate=3e-4, beta1=0.8, beta2=0.99, weight_decay=0.1)
    optimizer = make_optimizer(llama(), settings)
    assert isinstance(optimizer, torch.optim.AdamW)
    assert optimizer.defaults["betas"] == (0.8, 0.99)
    assert optimizer.defaults["eps"] == 1e-8
    assert {group["lr"] for group in optimizer.param_groups} == {3e-4}
    assert {group["weight_decay"] for group in optimizer.param_groups} == {0.0, 0.1}


@pytest.mark.parametrize("name", OPTIMIZERS)
def test_every_optimizer_learns_a_text_by_heart(name: str) -> None:
    model = llama()
    optimizer = make_optimizer(model, TrainSettings(optimizer=name, learning_rate=1e-2))
    ids = torch.arange(16)[None] % 7
    losses = []
    for _ in range(20):
        optimizer.zero_grad()
        loss = model(input_ids=ids, labels=ids).loss
        loss.backward()
        optimizer.step()
        losses.append(loss.item())
    assert losses[-1] < losses[0] / 2


def test_adamw_steps_as_the_plain_one_does() -> None:
    steps = []
    for plain in (True, False):
        model = llama()
        if plain:
            groups = parameter_groups(model, 0.1)
            optimizer: Any = torch.optim.AdamW(groups, lr=1e-3, foreach=False, fused=False)
        else:
            settings = TrainSettings(learning_rate=1e-3, weight_decay=0.1, beta2=0.999)
            optimizer = make_optimizer(model, settings)
        for i in range(3):
            optimizer.zero_grad()
            ids = torch.arange(i, i + 9)[None]
            model(input_ids=ids, labels=ids).loss.backward()
            optimizer.step()
        steps.append(torch.cat([t.detach().flatten() for t in model.parameters()]))
    torch.testing.assert_close(steps[0], steps[1], rtol=1e-5, atol=1e-7)


def test_states_of_8_bits_are_of_8_bits_but_those_of_embeddings() -> None:
    model = LlamaForCausalLM(
        LlamaConfig(
            vocab_size=512, hidden_size=64, intermediate_size=128, num_hidden_layers=1,
            num_attention_heads=2, tie_word_embeddings=True,
        )
    )  # fmt: skip
    optimizer = make_optimizer(model, TrainSettings(optimizer="adamw-8bit"))
    ids = torch.arange(9)[None]
    model(input_ids=ids, labels=ids).loss.backward()
    optimizer.step()
    kinds = {
        name: optimizer.state[tensor]["state1"].dtype for name, tensor in model.named_parameters()
    }
    assert kinds["model.layers.0.mlp.up_proj.weight"] == torch.uint8
    assert kinds["model.embed_tokens.weight"] == torch.float32


def test_an_optimizer_that_is_not_installed_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    check_optimizer(TrainSettings(optimizer="adamw-8bit"))
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
    check_optimizer(TrainSettings())
    with pytest.raises(UsageError, match="adamw-8bit needs the package bitsandbytes"):
        check_optimizer(TrainSettings(optimizer="adamw-8bit"))


@pytest.mark.parametrize("name", ["cosine", "linear", "constant", "wsd"])
def test_the_rate_of_every_step_is_the_peak_times_its_factor(name: str) -> None:
    settings = TrainSettings(scheduler=name, learning_rate=0.5, warmup=2)
    optimizer = make_optimizer(llama(), settings)
    scheduler = make_scheduler(optimizer, settings, 8)
    rates = []
    for _ in range(8):
        rates.append(optimizer.param_groups[0]["lr"])
        optimizer.step()
        scheduler.step()
    assert rates == [0.5 * factor(name, step, 8, 2, settings.decay) for step in range(8)]


def test_the_trainer_steps_with_our_rates_and_logs_them(tmp_path: Path) -> None:
    settings = TrainSettings(
        learning_rate=2e-3, warmup=2, batch_size=4, micro_batch_size=2, scheduler="cosine"
    )
    model = llama()
    optimizer = make_optimizer(model, settings)
    used: list[float] = []
    optimizer.register_step_pre_hook(lambda o, *rest: used.append(o.param_groups[0]["lr"]))
    ids = torch.arange(8)
    trainer = Trainer(
        model=model,
        args=TrainingArguments(
            output_dir=str(tmp_path), max_steps=6, per_device_train_batch_size=2,
            gradient_accumulation_steps=2, use_cpu=True, logging_steps=1, save_strategy="no",
            report_to="none", disable_tqdm=True,
        ),
        train_dataset=[{"input_ids": ids, "labels": ids} for _ in range(24)],
        optimizers=(optimizer, make_scheduler(optimizer, settings, 6)),
    )  # fmt: skip
    trainer.remove_callback(PrinterCallback)
    trainer.train()
    expected = [2e-3 * factor("cosine", step, 6, 2, 0) for step in range(6)]
    logged = [line["learning_rate"] for line in trainer.state.log_history if "loss" in line]
    assert used == logged == expected

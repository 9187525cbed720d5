"""Tiny adapted models, batches, and what a step makes of them, the plain way and the fast."""

from typing import Any

import numpy as np
import torch
from peft import LoraConfig, get_peft_model
from transformers import AutoModelForCausalLM

from pipeline.training.batches import TOKENS, Collator
from pipeline.training.fast import FastLoss
from pipeline.training.targets import find_targets, is_transposed
from tests.training.architectures import tiny_config

BF16 = torch.bfloat16
NO_DROPOUT = {"resid_pdrop": 0.0, "embd_pdrop": 0.0, "attn_pdrop": 0.0}  # GPT-2 has some
WINDOWS = {"mistral": 6, "gemma2": 6, "gemma3_text": 6}  # less than the rows below


def adapted(
    kind: str = "llama", dtype: torch.dtype = torch.float32, *, told: Any = (), **lora: Any
) -> Any:
    """A tiny model of this architecture with an adapter that already does something."""
    changes: dict[str, Any] = {"sliding_window": WINDOWS[kind]} if kind in WINDOWS else {}
    if kind == "gpt2":
        changes = NO_DROPOUT
    torch.manual_seed(0)
    base = AutoModelForCausalLM.from_config(
        tiny_config(kind, **{**changes, **dict(told)}), dtype=dtype
    )
    asked = {"r": 4, "lora_alpha": 6, "init_lora_weights": False, **lora}
    config = LoraConfig(
        task_type="CAUSAL_LM",
        target_modules=find_targets(base).linear,
        fan_in_fan_out=is_transposed(base),
        **asked,
    )
    model = get_peft_model(base, config)
    for parameter in model.parameters():
        if parameter.requires_grad:
            parameter.data = parameter.data.float()
    return model.train()


def batch(*, packed: bool, seed: int = 0) -> dict[str, Any]:
    """Two sequences as the product makes them: of rows side by side, or of one and padding."""
    draw = np.random.default_rng(seed)
    lengths = [[9, 14, 4], [20]] if packed else [[25], [17]]
    rows = [[(draw.integers(3, 400, n), None) for n in each] for each in lengths]
    half = np.arange(lengths[1][0]) % 2 == 0
    rows[1] = [(rows[1][0][0], half)]  # a chat: some of it is only read
    made = Collator(2, packed=packed)([{"rows": each} for each in rows])
    del made[TOKENS]
    return made


def plain_loss(model: Any, inputs: Any, items: Any = None, autocast: Any = None) -> Any:
    """By transformers' own code."""
    given = {} if items is None else {"num_items_in_batch": items}
    with torch.autocast("cpu", autocast, enabled=autocast is not None):
        return model(**inputs, **given, use_cache=False).loss


def step(
    model: Any, inputs: Any, fast_loss: FastLoss | None = None, *, items: Any = 30, cast: Any = None
) -> tuple[float, dict[str, torch.Tensor]]:
    """The loss, and the gradient of everything that is trained."""
    trained = {name: p for name, p in model.named_parameters() if p.requires_grad}
    for parameter in trained.values():
        parameter.grad = None
    loss = fast_loss(model, inputs, items) if fast_loss else plain_loss(model, inputs, items, cast)
    assert loss is not None
    loss.backward()
    return loss.item(), {n: p.grad.clone() for n, p in trained.items() if p.grad is not None}


def distance(some: dict[str, torch.Tensor], exact: dict[str, torch.Tensor]) -> float:
    """How far these gradients are from the exact ones, as a share of their length."""
    assert some.keys() == exact.keys()
    one, other = (torch.cat([each[name].flatten() for name in exact]) for each in (some, exact))
    return ((one - other).norm() / other.norm()).item()

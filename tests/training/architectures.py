"""Tiny models of many architectures, and steps of training on them."""

from pathlib import Path
from typing import Any

import torch
from transformers import (
    AutoModelForCausalLM,
    Gemma2Config,
    Gemma3TextConfig,
    GPT2Config,
    GPTNeoXConfig,
    LlamaConfig,
    MistralConfig,
    MixtralConfig,
    PhiConfig,
    PreTrainedConfig,
    Qwen2MoeConfig,
    Qwen3Config,
)

from pipeline.training.base_model import BaseModel
from pipeline.training.engine import Precision
from tests.tiny_models import tiny_tokenizer

BF16 = Precision("bfloat16", "for a test")
FP32 = Precision("float32", "for a test")
IDS = torch.arange(20)[None] + 50
CONTEXT = 64
_SIZES: dict[str, Any] = {
    "hidden_size": 64, "intermediate_size": 128, "num_hidden_layers": 2, "num_attention_heads": 2,
    "max_position_embeddings": CONTEXT, "initializer_range": 0.2,
}  # fmt: skip
_GROUPED: dict[str, Any] = {**_SIZES, "num_key_value_heads": 1}
_EXPERTS: dict[str, Any] = {**_GROUPED, "moe_intermediate_size": 64, "num_experts": 4}
_KINDS: dict[str, tuple[type[PreTrainedConfig], dict[str, Any]]] = {
    "llama": (LlamaConfig, _GROUPED),
    "mistral": (MistralConfig, _GROUPED),
    "qwen3": (Qwen3Config, {**_GROUPED, "head_dim": 32}),
    "gemma2": (Gemma2Config, {**_GROUPED, "head_dim": 32}),
    "gemma3_text": (Gemma3TextConfig, {**_GROUPED, "head_dim": 32, "layer_types": [
        "sliding_attention", "full_attention"]}),
    "phi": (PhiConfig, _SIZES),
    "gpt_neox": (GPTNeoXConfig, {**_SIZES, "rotary_pct": 0.5}),
    "gpt2": (GPT2Config, {"n_layer": 2, "n_head": 2, "n_embd": 64, "n_positions": CONTEXT,
                          "initializer_range": 0.2}),
    "mixtral": (MixtralConfig, {**_GROUPED, "num_local_experts": 4}),
    "qwen2_moe": (Qwen2MoeConfig, {**_EXPERTS, "shared_expert_intermediate_size": 64}),
}  # fmt: skip
KINDS = tuple(_KINDS)


def tiny_config(kind: str, **changed: Any) -> Any:
    """A configuration of this architecture with two small layers."""
    cls, sizes = _KINDS[kind]
    ids = {"bos_token_id": 0, "eos_token_id": 1, "pad_token_id": 2}
    return cls(**{"vocab_size": 450, **sizes, **ids, **changed})


def tiny_base(
    folder: Path, kind: str = "llama", *, dtype: Any = torch.bfloat16, **changed: Any
) -> BaseModel:
    """Such a model with random weights, and a tokenizer, on the disk."""
    torch.manual_seed(0)
    AutoModelForCausalLM.from_config(tiny_config(kind, **changed), dtype=dtype).save_pretrained(
        folder
    )
    tiny_tokenizer().save_pretrained(folder)
    return BaseModel(folder.resolve(), folder.name, "made by a test", None, None)


def trained(model: Any) -> dict[str, torch.Tensor]:
    """The parameters that are trained."""
    return {name: p for name, p in model.named_parameters() if p.requires_grad}


def snapshot(model: Any) -> dict[str, torch.Tensor]:
    """Copies of everything in a model, with the frozen and the packed."""
    return {name: p.detach().clone() for name, p in model.state_dict().items()}


def take_steps(
    model: Any, n: int = 2, precision: Precision = BF16, lr: float = 1e-2
) -> list[float]:
    """Train on IDS for `n` steps; the losses before each."""
    optimizer = torch.optim.AdamW(trained(model).values(), lr=lr, weight_decay=0.0)
    losses = []
    model.train()
    for _ in range(n):
        optimizer.zero_grad()
        loss = loss_of(model, precision)
        loss.backward()
        optimizer.step()
        losses.append(loss.item())
    return losses


def loss_of(model: Any, precision: Precision = BF16) -> Any:
    """The loss on IDS."""
    with torch.autocast("cpu", torch.bfloat16, enabled=precision.autocast is not None):
        return model(input_ids=IDS, labels=IDS, use_cache=False).loss


def logits_of(model: Any) -> torch.Tensor:
    """What the model says of IDS, in float32."""
    model.eval()
    with torch.no_grad():
        return model(input_ids=IDS, use_cache=False).logits.float()

"""Real architectures built small, for tests of what depends on the names and forms of weights."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from transformers import (
    AutoModelForCausalLM,
    Gemma2Config,
    Gemma3TextConfig,
    GPT2Config,
    GPTNeoXConfig,
    Lfm2Config,
    LlamaConfig,
    MistralConfig,
    MixtralConfig,
    Phi3Config,
    PhiConfig,
    Qwen2Config,
    Qwen3Config,
    Qwen3MoeConfig,
)

_SHAPE: dict[str, Any] = {
    "vocab_size": 100,
    "hidden_size": 32,
    "intermediate_size": 48,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "initializer_range": 0.2,
    "bos_token_id": 1,
    "eos_token_id": 2,
    "pad_token_id": 0,
}
_GROUPED = _SHAPE | {"num_key_value_heads": 2}
_HEADS = _GROUPED | {"head_dim": 8}
_GPT2: dict[str, Any] = {
    "vocab_size": 100,
    "n_embd": 32,
    "n_head": 4,
    "n_layer": 2,
    "n_positions": 64,
    "initializer_range": 0.2,
    "bos_token_id": 1,
    "eos_token_id": 2,
}

CONFIGS: dict[str, Callable[[], Any]] = {
    "llama": lambda: LlamaConfig(**_GROUPED),
    "llama-tied": lambda: LlamaConfig(**_GROUPED, tie_word_embeddings=True),
    "mistral": lambda: MistralConfig(**_GROUPED),
    "qwen2": lambda: Qwen2Config(**_GROUPED),
    "qwen3": lambda: Qwen3Config(**_HEADS, tie_word_embeddings=True),
    "gemma2": lambda: Gemma2Config(**_HEADS),
    "gemma3": lambda: Gemma3TextConfig(**_HEADS),
    "gpt2": lambda: GPT2Config(**_GPT2),
    "gpt-neox": lambda: GPTNeoXConfig(**_SHAPE),
    "phi": lambda: PhiConfig(**_SHAPE),
    "phi3": lambda: Phi3Config(**_GROUPED),
    "lfm2": lambda: Lfm2Config(**_GROUPED, layer_types=["conv", "full_attention"]),
    "mixtral": lambda: MixtralConfig(**_GROUPED, num_local_experts=4),
    "qwen3-moe": lambda: Qwen3MoeConfig(
        **_HEADS, num_experts=4, num_experts_per_tok=2, moe_intermediate_size=24
    ),
}
DENSE = [name for name in CONFIGS if name not in ("mixtral", "qwen3-moe")]


def save_model(
    name: str, folder: Path, dtype: torch.dtype = torch.bfloat16, **settings: Any
) -> Path:
    """Save a small model of that architecture with random weights, norms and biases too."""
    torch.manual_seed(0)
    model = AutoModelForCausalLM.from_config(CONFIGS[name](), dtype=torch.float32)
    with torch.no_grad():
        for parameter in model.parameters():
            if parameter.dim() == 1:
                parameter.add_(torch.randn_like(parameter) * 0.1)
    model.to(dtype).save_pretrained(folder, **settings)
    return folder

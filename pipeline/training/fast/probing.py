"""Asking a model whether it is of the plain kind, rather than knowing every architecture."""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

from pipeline.scoring.bits import evaluating

if TYPE_CHECKING:
    import torch

TOKENS = 12  # of each of the two rows that a model is asked with


def causal_model(model: Any) -> Any:
    """The causal model of transformers that `model` is, or that it is a LoRA adapter of; None if it
    is something else, which has a forward pass of its own around that one.
    """
    from peft import PeftModelForCausalLM, PeftType
    from transformers import PreTrainedModel

    if isinstance(model, PeftModelForCausalLM):
        kinds = {config.peft_type for config in model.peft_config.values()}
        return model.get_base_model() if kinds == {PeftType.LORA} else None
    return model if isinstance(model, PreTrainedModel) else None


def probe_ids(base: Any) -> "torch.Tensor":
    """Some token ids for `base`: two rows, which differ."""
    import torch

    vocabulary = base.get_input_embeddings().weight.shape[0]
    return torch.arange(2 * TOKENS).reshape(2, TOKENS) % vocabulary


@contextmanager
def asking(model: Any, autocast: "torch.dtype | None") -> Iterator[None]:
    """Without gradients and dropout; every module's mode is put back."""
    import torch

    with (
        evaluating(model),
        torch.no_grad(),
        torch.autocast("cpu", autocast, enabled=autocast is not None),
    ):
        yield

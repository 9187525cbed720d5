"""The same mathematics with less work, for training steps on a CPU.

    with fast_on_cpu(model, autocast) as fast_loss:
        loss = fast_loss(model, inputs, items) if fast_loss else ...

Only what makes gradients comes here: scores and samples are made by the libraries' own code, and so
is whatever is not the plain case. The libraries are not changed, and the model only within.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

from pipeline.training.fast.adapters import fast_adapters
from pipeline.training.fast.attention import fast_attention
from pipeline.training.fast.loss import FastLoss, fast_loss_of

if TYPE_CHECKING:
    import torch

__all__ = ["FastLoss", "fast_on_cpu"]


@contextmanager
def fast_on_cpu(model: Any, autocast: "torch.dtype | None") -> "Iterator[FastLoss | None]":
    """Within, adapted layers and attention of `model` take the faster ways, where they can.

    To be entered before a trainer has changed the model. Yields a function for the loss of a
    batch, or None for a model with a loss of its own.

    Args:
        autocast: the type that the run computes in; None if that is the type of the weights.
    """
    fast_loss = fast_loss_of(model, autocast)
    with fast_adapters(model), fast_attention(model, autocast):
        yield fast_loss

"""The loss of a training step, with its gradient made on the way.

TRL computes the logits of a chunk twice, once more in the backward pass, and their entropy and the
share of right guesses at every step. Here the gradient is made where the loss is, once, and the
logits of a block of tokens are gone before those of the next.
"""

import functools
from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any

from pipeline.training.batches import IGNORED
from pipeline.training.fast.probing import asking, causal_model, probe_ids

if TYPE_CHECKING:
    import torch

    FastLoss = Callable[[Any, Mapping[str, Any], torch.Tensor | int | None], torch.Tensor | None]
else:
    FastLoss = Callable[..., Any]

ROWS = 128  # of logits at a time: 25 MB in float32 at a vocabulary of 49152


def fast_loss_of(model: Any, autocast: "torch.dtype | None") -> FastLoss | None:
    """A function for the loss of `model` on a batch, or None if its loss is not the plain one.

    The function takes the model, a batch with labels, and how many labels count in the whole step,
    which the sum over the batch is divided by; without it, it is the mean over the batch. It
    returns None for anything but the model itself, such as a wrapper that averages gradients.
    """
    base = causal_model(model)
    if base is None or not _has_plain_loss(base, autocast):
        return None

    def fast_loss(
        asked: Any, inputs: Mapping[str, Any], items: "torch.Tensor | int | None" = None
    ) -> "torch.Tensor | None":
        import torch

        if asked is not model:
            return None
        given = {name: value for name, value in inputs.items() if name != "labels"}
        with torch.autocast("cpu", autocast, enabled=autocast is not None):
            hidden = base.base_model(**{**given, "use_cache": False}).last_hidden_state
        weight = base.get_output_embeddings().weight
        targets = inputs["labels"][..., 1:]
        total = summed_cross_entropy(hidden[..., :-1, :], weight, targets, autocast)
        if items is None:
            items = (targets != IGNORED).sum()
        # A step may have nothing to learn from.
        return total / torch.as_tensor(items).clamp(min=1)

    return fast_loss


def summed_cross_entropy(
    hidden: "torch.Tensor",
    weight: "torch.Tensor",
    targets: "torch.Tensor",
    dtype: "torch.dtype | None" = None,
) -> "torch.Tensor":
    """Nats, summed over the targets that count. There is a gradient for `hidden` only.

    Args:
        hidden: (..., width)
        weight: (vocabulary, width), frozen.
        targets: (...) token ids, or `IGNORED`.
        dtype: of the matrix products; None for that of `hidden`.
    """
    dtype = dtype or hidden.dtype
    rows = hidden.reshape(-1, hidden.shape[-1]).to(dtype)
    total: torch.Tensor = _function().apply(rows, weight.to(dtype), targets.reshape(-1))
    return total


@functools.cache
def _function() -> Any:
    import torch

    class SummedCrossEntropy(torch.autograd.Function):
        @staticmethod
        def forward(ctx: Any, hidden: Any, weight: Any, targets: Any) -> Any:
            total = torch.zeros((), dtype=torch.float32)
            gradient = torch.zeros_like(hidden)
            for rows in (targets != IGNORED).nonzero().squeeze(1).split(ROWS):
                wanted = targets[rows, None]
                logs = torch.log_softmax((hidden[rows] @ weight.t()).float(), -1)
                total -= logs.gather(1, wanted).sum()
                # The gradient for the logits: probabilities, less 1 where the target is.
                of_logits = logs.exp_().scatter_add_(1, wanted, -torch.ones_like(logs[:, :1]))
                gradient[rows] = of_logits.to(hidden.dtype) @ weight
            ctx.save_for_backward(gradient)
            return total

        @staticmethod
        def backward(ctx: Any, upstream: Any) -> Any:
            (gradient,) = ctx.saved_tensors
            return gradient * upstream, None, None

    return SummedCrossEntropy


def _has_plain_loss(base: Any, autocast: "torch.dtype | None") -> bool:
    """Whether the loss is the cross entropy of what the head makes of the decoder's last states.

    Not so: logits that are scaled or capped, a head with a bias or with trained or quantized
    weights, a loss with a part for the balance of experts or for anything else.
    """
    import torch
    from transformers.loss.loss_utils import ForCausalLMLoss

    head = base.get_output_embeddings()
    return (
        base.base_model is not base
        and type(head) is torch.nn.Linear
        and getattr(head, "bias", None) is None
        and not head.weight.requires_grad
        and not hasattr(base.config.get_text_config(), "output_router_logits")
        and base.loss_function == ForCausalLMLoss
        and _does_nothing_else(base, head, autocast)
    )


def _does_nothing_else(base: Any, head: Any, autocast: "torch.dtype | None") -> bool:
    """Follow two rows through the model: from decoder to head to loss they must stay untouched."""
    import torch

    ids = probe_ids(base)
    passed: list[tuple[Any, Any]] = []
    marker = torch.zeros(())
    loss_function = base.loss_function
    hook = head.register_forward_hook(lambda _, given, made: passed.append((given[0], made)))
    base.loss_function = lambda *_, **__: marker
    try:
        with asking(base, autocast):
            found = base(input_ids=ids, labels=ids, use_cache=False)
            hidden = base.base_model(input_ids=ids, use_cache=False).last_hidden_state
    except (TypeError, ValueError, AttributeError, RuntimeError):
        return False  # code of its own, which wants something else
    finally:
        hook.remove()
        base.loss_function = loss_function
    if (
        len(passed) != 1
        or found.logits is not passed[0][1]
        or not torch.equal(passed[0][0], hidden)
    ):
        return False
    return found.loss is marker and not marker.any()

"""Causal attention in 16 bits as matrix products, a block of queries against all keys before it.

PyTorch's kernel for the CPU reaches a tenth of the machine's rate in bfloat16 where plain matrix
products reach most of it. Scores are rounded to 16 bits, as in transformers' `eager` code; sums of
gradients are in float32.
"""

import functools
import inspect
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

from pipeline.training.fast.probing import asking, causal_model, probe_ids

if TYPE_CHECKING:
    import torch

NAME = "blocked"  # in transformers' registry
BLOCK = 128  # queries
DTYPES = ("torch.bfloat16",)  # in float32 PyTorch's own kernel is as fast


@contextmanager
def fast_attention(model: Any, autocast: "torch.dtype | None") -> Iterator[None]:
    """Within, `model` makes gradients with blocked attention, if it leaves attention to others and
    takes the kind named `sdpa` otherwise.
    """
    base = causal_model(model)
    if base is None or not base.is_backend_compatible() or _kinds(base) != {"sdpa"}:
        yield
        return
    _register()
    try:
        if not _takes(base, autocast):
            base.set_attn_implementation("sdpa")
        yield
    finally:
        base.set_attn_implementation("sdpa")


def _kinds(base: Any) -> set[str]:
    """The kinds of attention that the model and its parts are set to."""
    from transformers import PreTrainedModel

    parts = [module for module in base.modules() if isinstance(module, PreTrainedModel)]
    return {part.config._attn_implementation for part in parts}


def _takes(base: Any, autocast: "torch.dtype | None") -> bool:
    """Switch over, and say whether the model gives the same answers.

    Without gradients `blocked_attention` is `sdpa` itself. Other answers mean that the model's own
    code goes by the name.
    """
    import torch

    try:
        plain = _answers(base, autocast)
        base.set_attn_implementation(NAME)
        return _kinds(base) == {NAME} and torch.equal(plain, _answers(base, autocast))
    except (TypeError, ValueError, AttributeError, RuntimeError):
        return False  # code of its own, which wants something else


def _answers(base: Any, autocast: "torch.dtype | None") -> "torch.Tensor":
    """What the model makes of padded rows and, if it knows positions, of several in a sequence."""
    import torch

    ids = probe_ids(base)
    half = ids.shape[1] // 2
    mask = torch.ones_like(ids)
    mask[0, half:] = 0
    places = {"attention_mask": mask}
    if "position_ids" in inspect.signature(base.forward).parameters:
        places["position_ids"] = torch.arange(half).repeat(2, 2)
    with asking(base, autocast):
        return torch.stack(
            [
                base(input_ids=ids, use_cache=False, **{name: place}).logits[1]
                for name, place in places.items()
            ]
        )


def _register() -> None:
    """Make `NAME` known to transformers, with the masks of its `sdpa`."""
    from transformers import AttentionInterface, AttentionMaskInterface
    from transformers.masking_utils import sdpa_mask

    AttentionInterface.register(NAME, blocked_attention)
    AttentionMaskInterface.register(NAME, sdpa_mask)


def blocked_attention(
    module: Any,
    query: "torch.Tensor",
    key: "torch.Tensor",
    value: "torch.Tensor",
    attention_mask: "torch.Tensor | None",
    dropout: float = 0.0,
    scaling: float | None = None,
    is_causal: bool | None = None,
    **rest: Any,
) -> "tuple[torch.Tensor, None]":
    """Takes and returns what transformers' `sdpa_attention_forward` does, which does the work of
    every other case: no gradients, float32, a text continued from a cache, a mask that is added or
    lets a token see later ones.
    """
    import torch
    from transformers.integrations.sdpa_attention import sdpa_attention_forward

    causal = getattr(module, "is_causal", True) if is_causal is None else is_causal
    serves = (
        torch.is_grad_enabled()
        and not dropout
        and rest.get("position_bias") is None
        and query.dtype == key.dtype == value.dtype
        and str(query.dtype) in DTYPES
        and 1 < query.shape[2] == key.shape[2]
        and query.shape[1] % key.shape[1] == 0
        and (causal if attention_mask is None else _is_causal(attention_mask, query.shape[2]))
    )
    if not serves:
        return sdpa_attention_forward(
            module, query, key, value, attention_mask,
            dropout=dropout, scaling=scaling, is_causal=is_causal, **rest,
        )  # fmt: skip
    scale = query.shape[-1] ** -0.5 if scaling is None else scaling
    out = _function().apply(query * scale, key, value, attention_mask)
    return out.transpose(1, 2).contiguous(), None


def _is_causal(mask: "torch.Tensor", length: int) -> bool:
    """Whether `mask` is one of yes and no, and hides what `blocked_attention` does not look at: the
    keys behind a block of queries. Within the block the mask decides.
    """
    import torch

    if mask.dtype != torch.bool or mask.shape[-2:] != (length, length):
        return False
    return not any(mask[..., block, block.stop :].any() for block in _blocks(length))


@functools.cache
def _function() -> Any:
    import torch

    class Blocked(torch.autograd.Function):
        """softmax(q k') v; the probabilities are not kept, but computed again for the gradient."""

        @staticmethod
        def forward(ctx: Any, query: Any, key: Any, value: Any, mask: Any) -> Any:
            out = query.new_empty(*query.shape[:3], value.shape[3])
            for block in _blocks(query.shape[2]):
                shares = _probabilities(query, key, mask, block)
                _set(out, block, shares @ value[:, :, : block.stop])
            ctx.save_for_backward(query, key, value, mask)
            return out

        @staticmethod
        def backward(ctx: Any, upstream: Any) -> Any:
            query, key, value, mask = ctx.saved_tensors
            of_query = torch.empty_like(query)
            of_key = torch.zeros(key.shape, dtype=torch.float32)
            of_value = torch.zeros(value.shape, dtype=torch.float32)
            for block in _blocks(query.shape[2]):
                seen = slice(0, block.stop)
                shares = _probabilities(query, key, mask, block)
                given = _by_key_head(upstream, key, block)
                of_value[:, :, seen] += shares.transpose(-1, -2) @ given
                of_shares = given @ value[:, :, seen].transpose(-1, -2)
                of_scores = torch._softmax_backward_data(of_shares, shares, -1, shares.dtype)
                _set(of_query, block, of_scores @ key[:, :, seen])
                asked = _by_key_head(query, key, block)
                of_key[:, :, seen] += of_scores.transpose(-1, -2) @ asked
            return of_query, of_key.to(key.dtype), of_value.to(value.dtype), None

    return Blocked


def _blocks(length: int) -> Iterator[slice]:
    return (slice(i, min(i + BLOCK, length)) for i in range(0, length, BLOCK))


def _by_key_head(x: "torch.Tensor", key: "torch.Tensor", block: slice) -> "torch.Tensor":
    """Rows of `block` of all query heads that share a key head, one below the other."""
    return x[:, :, block].reshape(x.shape[0], key.shape[1], -1, x.shape[3])


def _set(x: "torch.Tensor", block: slice, rows: "torch.Tensor") -> None:
    """The opposite of `_by_key_head`: put the rows of `block` where they belong in `x`."""
    place = x[:, :, block]
    place.copy_(rows.reshape(place.shape))


def _probabilities(
    query: "torch.Tensor", key: "torch.Tensor", mask: "torch.Tensor | None", block: slice
) -> "torch.Tensor":
    import torch

    end, n = block.stop, block.stop - block.start
    scores = _by_key_head(query, key, block) @ key[:, :, :end].transpose(-1, -2)
    # Not infinity: a row that may see nothing, one of padding, would be no number then.
    lowest = torch.finfo(scores.dtype).min
    heads = scores.view(query.shape[0], query.shape[1], n, end)
    if mask is None:
        heads[..., block].masked_fill_(_later(n), lowest)
    else:
        heads.masked_fill_(~mask[..., block, :end], lowest)
    return scores.softmax(-1)


@functools.lru_cache(maxsize=8)
def _later(n: int) -> "torch.Tensor":
    """True where a key comes after the query."""
    import torch

    return torch.ones(n, n, dtype=torch.bool).triu(1)

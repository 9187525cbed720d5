"""Completions of a prompt, for a person to read: the base model's beside the tuned one's."""

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import torch
    from transformers import PreTrainedTokenizerBase


def complete(
    model: Any,
    tokenizer: "PreTrainedTokenizerBase",
    prompt: str | Sequence[int],
    *,
    max_new_tokens: int,
    temperature: float = 0.6,
    top_p: float = 0.9,
    repetition_penalty: float = 1.1,
    seed: int = 0,
    autocast: "torch.dtype | None" = None,
) -> str:
    """Continue `prompt` and return the continuation only, without special tokens.

    The prompt gets BOS if the tokenizer's convention adds one, and no EOS; one of token ids (a chat
    in its template) is taken as it is. Sampling is seeded and leaves torch's own random state as it
    was; a temperature of 0 always takes the likeliest token.
    """
    import torch
    from transformers import GenerationConfig

    ids = _ids(tokenizer, prompt) if isinstance(prompt, str) else list(prompt)
    sampling: dict[str, Any] = (
        {"do_sample": True, "temperature": temperature, "top_p": top_p, "top_k": 0}
        if temperature > 0
        else {"do_sample": False}
    )
    config = GenerationConfig(
        max_new_tokens=max_new_tokens,
        repetition_penalty=repetition_penalty,
        eos_token_id=_end_ids(model, tokenizer),
        # An id of 0 is a pad token like any other, so `or` would be wrong here.
        pad_token_id=tokenizer.eos_token_id
        if tokenizer.pad_token_id is None
        else tokenizer.pad_token_id,
        use_cache=True,
        **sampling,
    )
    was_training = model.training
    model.eval()
    device = next(model.parameters()).device
    inputs = torch.tensor([ids], device=device)
    devices = [device] if device.type == "cuda" else []
    try:
        with (
            torch.random.fork_rng(devices),
            torch.no_grad(),
            torch.autocast(device.type, autocast, enabled=autocast is not None),
        ):
            torch.manual_seed(seed)
            output = model.generate(
                input_ids=inputs,
                attention_mask=torch.ones_like(inputs),
                generation_config=config,
            )
    finally:
        model.train(was_training)
    # Decoded together, because a tokenizer may strip the blank at the start of what it decodes.
    return _decode(tokenizer, output[0].tolist())[len(_decode(tokenizer, ids)) :]


def _ids(tokenizer: "PreTrainedTokenizerBase", prompt: str) -> list[int]:
    ids: list[int] = list(tokenizer(prompt)["input_ids"])
    # A tokenizer that ends every text would have the model start a new one.
    ends = len(ids) > 1 and ids[-1] == tokenizer.eos_token_id
    return ids[:-1] if ends else ids


def _decode(tokenizer: "PreTrainedTokenizerBase", ids: list[int]) -> str:
    text = tokenizer.decode(ids, skip_special_tokens=True, clean_up_tokenization_spaces=False)
    return str(text)


def _end_ids(model: Any, tokenizer: "PreTrainedTokenizerBase") -> list[int]:
    """Every token that ends a text: the tokenizer's, and those that the model's settings name."""
    named = getattr(model.generation_config, "eos_token_id", None)
    ends = [named] if isinstance(named, int) else list(named or [])
    if tokenizer.eos_token_id is not None:
        ends.append(tokenizer.eos_token_id)
    return sorted(set(ends))

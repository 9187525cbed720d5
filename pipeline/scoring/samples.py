"""Completions of prompts, for a person to read: the base model's beside the tuned one's."""

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any

from pipeline.scoring.bits import evaluating

if TYPE_CHECKING:
    import torch
    from transformers import PreTrainedTokenizerBase

Prompt = str | Sequence[int]

_LIKELY = 512  # tokens that nearly always hold the share drawn from: to sort all takes longest
_SAME = 0.05  # of the logits' spread: by how much rounding in 16 bits moves them, and no more
_PADDING = 16  # tokens with which it is tried whether a model sees padding


def complete(
    model: Any,
    tokenizer: "PreTrainedTokenizerBase",
    prompt: Prompt,
    *,
    max_new_tokens: int,
    temperature: float = 0.6,
    top_p: float = 0.9,
    repetition_penalty: float = 1.1,
    seed: int = 0,
    autocast: "torch.dtype | None" = None,
) -> str:
    """Continue one prompt; see `complete_all`."""
    return complete_all(
        model, tokenizer, [prompt], max_new_tokens=max_new_tokens, temperature=temperature,
        top_p=top_p, repetition_penalty=repetition_penalty, seed=seed, autocast=autocast,
    )[0]  # fmt: skip


def complete_all(
    model: Any,
    tokenizer: "PreTrainedTokenizerBase",
    prompts: Sequence[Prompt],
    *,
    max_new_tokens: int,
    temperature: float = 0.6,
    top_p: float = 0.9,
    repetition_penalty: float = 1.1,
    seed: int = 0,
    autocast: "torch.dtype | None" = None,
    together: bool | None = None,
) -> list[str]:
    """Continue each of `prompts` and return the continuations only, without special tokens.

    A prompt gets BOS if the tokenizer's convention adds one, and no EOS; one of token ids (a chat
    in its template) is taken as it is. Prompt number i is continued as if it were alone, with the
    seed `seed + i`; torch's own random state has no part in it. A temperature of 0 always takes
    the likeliest token.

    With `together` all prompts are continued at once, padded on the left, unless this model sees
    padding (recurrent layers do). None is yes on a GPU, where it is as many times as fast. On a CPU
    it is no faster in float32, and in bfloat16 (twice as fast) rounding would change the texts.
    """
    import torch

    rows = [text_ids(tokenizer, prompt) if isinstance(prompt, str) else list(prompt)
            for prompt in prompts]  # fmt: skip
    ends = end_ids(model, tokenizer)

    def draw(together: list[list[int]], first: int) -> list[str]:
        device = next(model.parameters()).device
        inputs, mask = _padded(together, pad_id(tokenizer))
        choose = _chooser(
            [inputs.shape[1] - len(ids) for ids in together],
            [seed + first + i for i in range(len(together))],
            temperature, top_p, repetition_penalty,
        )  # fmt: skip
        output = model.generate(
            input_ids=inputs.to(device),
            attention_mask=mask.to(device),
            generation_config=_config(max_new_tokens, ends, pad_id(tokenizer)),
            logits_processor=_processors(choose),
        ).tolist()
        return [_written(tokenizer, ids, row[inputs.shape[1] :], ends)
                for ids, row in zip(together, output, strict=True)]  # fmt: skip

    device_type = next(model.parameters()).device.type
    together = device_type != "cpu" if together is None else together
    with (
        evaluating(model),
        torch.no_grad(),
        torch.autocast(device_type, autocast, enabled=autocast is not None),
    ):
        if together and len(rows) > 1 and _ignores_padding(model, rows[0], pad_id(tokenizer)):
            return draw(rows, 0)
        return [text for i, ids in enumerate(rows) for text in draw([ids], i)]


def _config(max_new_tokens: int, ends: list[int], pad: int) -> Any:
    from transformers import GenerationConfig

    return GenerationConfig(
        max_new_tokens=max_new_tokens, eos_token_id=ends, pad_token_id=pad, use_cache=True,
        do_sample=False, num_beams=1, repetition_penalty=1.0,  # `_chooser` does all that
    )  # fmt: skip


def _processors(choose: Callable[..., "torch.Tensor"]) -> Any:
    from transformers import LogitsProcessorList

    return LogitsProcessorList([choose])  # type: ignore[list-item]


def _chooser(
    padding: list[int], seeds: list[int], temperature: float, top_p: float, penalty: float
) -> Callable[["torch.Tensor", "torch.Tensor"], "torch.Tensor"]:
    """A logits processor that leaves each row but the token which that row's own seed draws.

    The usual chain (repetition penalty, temperature, top-p, draw), but that no row depends on the
    rows beside it: the library's own draws them all from one stream of random numbers, and counts
    padding as repeated.
    """
    import torch

    sources = [torch.Generator().manual_seed(seed) for seed in seeds]

    def choose(ids: "torch.Tensor", scores: "torch.Tensor") -> "torch.Tensor":
        chosen = torch.full_like(scores, -torch.inf)
        for i, (pad, source) in enumerate(zip(padding, sources, strict=True)):
            logits = scores[i].float()
            seen = ids[i, pad:].unique()
            repeated = logits[seen]
            logits[seen] = torch.where(repeated < 0, repeated * penalty, repeated / penalty)
            chosen[i, _draw(logits, temperature, top_p, source)] = 0.0
        return chosen

    return choose


def _draw(
    logits: "torch.Tensor", temperature: float, top_p: float, source: "torch.Generator"
) -> int:
    """One token: of the likeliest that make up `top_p`, by a number from `source`."""
    import torch

    if temperature <= 0:
        return int(logits.argmax())
    every = (logits / temperature).softmax(-1)
    shares, order = every.topk(min(_LIKELY, len(every)))
    if shares.sum() < top_p:
        shares, order = every.topk(len(every))
    sums = shares.cumsum(-1)
    kept = max(1, int((sums - shares < top_p).sum()))
    at = torch.rand((), generator=source).item() * sums[kept - 1].item()
    return int(order[min(int((sums[:kept] <= at).sum()), kept - 1)])


def _padded(rows: list[list[int]], pad: int) -> tuple["torch.Tensor", "torch.Tensor"]:
    """Ids and attention mask, padded on the left."""
    import torch

    longest = max(map(len, rows))
    ids = [[pad] * (longest - len(row)) + row for row in rows]
    mask = [[0] * (longest - len(row)) + [1] * len(row) for row in rows]
    return torch.tensor(ids), torch.tensor(mask)


def _ignores_padding(model: Any, row: list[int], pad: int) -> bool:
    """Whether a prompt is answered behind padding as it is without."""
    import torch

    device = next(model.parameters()).device
    ids, mask = _padded([row, [pad] * _PADDING + row], pad)
    mask[1, :_PADDING] = 0
    positions = (mask.cumsum(-1) - 1).clamp(min=0)
    padded = model(
        input_ids=ids.to(device), attention_mask=mask.to(device),
        position_ids=positions.to(device), use_cache=False,
    ).logits[0, -1].float()  # fmt: skip
    alone = torch.tensor([row], device=device)
    expected = model(
        input_ids=alone, attention_mask=torch.ones_like(alone), use_cache=False
    ).logits[0, -1].float()  # fmt: skip
    moved = (padded - expected).square().mean().sqrt().item()
    return bool(moved <= _SAME * max(expected.std().item(), 1e-6))


def _written(
    tokenizer: "PreTrainedTokenizerBase", prompt: list[int], drawn: list[int], ends: list[int]
) -> str:
    """The text of what was drawn, up to an end token."""
    stop = next((i for i, token in enumerate(drawn) if token in ends), len(drawn))
    # Decoded together, because a tokenizer may strip the blank at the start of what it decodes.
    whole = _decode(tokenizer, [*prompt, *drawn[:stop]])
    return whole[len(_decode(tokenizer, prompt)) :]


def text_ids(tokenizer: "PreTrainedTokenizerBase", prompt: str) -> list[int]:
    """The ids of a text to go on from: with BOS where the tokenizer adds one, without EOS."""
    ids: list[int] = list(tokenizer(prompt)["input_ids"])
    # A tokenizer that ends every text would have the model start a new one.
    ends = len(ids) > 1 and ids[-1] == tokenizer.eos_token_id
    return ids[:-1] if ends else ids


def _decode(tokenizer: "PreTrainedTokenizerBase", ids: list[int]) -> str:
    text = tokenizer.decode(ids, skip_special_tokens=True, clean_up_tokenization_spaces=False)
    return str(text)


def pad_id(tokenizer: "PreTrainedTokenizerBase") -> int:
    """What fills up the shorter prompts of several."""
    # An id of 0 is a pad token like any other, so `or` would be wrong here.
    if tokenizer.pad_token_id is not None:
        return int(tokenizer.pad_token_id)
    return int(tokenizer.eos_token_id) if tokenizer.eos_token_id is not None else 0


def end_ids(model: Any, tokenizer: "PreTrainedTokenizerBase") -> list[int]:
    """Every token that ends a text: the tokenizer's, and those that the model's settings name."""
    named = getattr(model.generation_config, "eos_token_id", None)
    ends = [named] if isinstance(named, int) else list(named or [])
    if tokenizer.eos_token_id is not None:
        ends.append(tokenizer.eos_token_id)
    return sorted(set(ends))

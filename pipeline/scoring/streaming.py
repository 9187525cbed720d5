"""A model of transformers writes, token by token, as a GGUF does in llama.cpp.

`samples` draws several texts at once and returns them; here a person watches one come about.
"""

import time
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any

from pipeline.errors import PipelineError
from pipeline.scoring.bits import evaluating
from pipeline.scoring.samples import end_ids, pad_id
from pipeline.scoring.sampling import Answer, Sampling, StopFinder

if TYPE_CHECKING:
    import torch
    from transformers import PreTrainedTokenizerBase

_CONTEXT = 8  # tokens of the prompt that the first ones written are decoded with
_CUT = "\ufffd"  # what a tokenizer writes for a part of a character


def stream(
    model: Any,
    tokenizer: "PreTrainedTokenizerBase",
    prompt: Sequence[int],
    sampling: Sampling,
    *,
    context: int | None = None,
    autocast: "torch.dtype | None" = None,
    ignore_end: bool = False,
    on_text: Callable[[str], object] = lambda text: None,
) -> Answer:
    """Let the model go on from the token ids `prompt`; see `Sampling` for how.

    Args:
        context: how many tokens the model sees at once; with a full one the text ends.
        ignore_end: write `max_tokens` without an end token, to measure speed.
        on_text: gets the text piece by piece, whole characters only.

    Raises:
        PipelineError: the prompt is empty, or longer than the context.
    """
    import torch
    from transformers import StoppingCriteriaList

    room = room_for(len(prompt), context, sampling.max_tokens)
    ends = end_ids(model, tokenizer)
    written = _Written(tokenizer, prompt, ends, StopFinder(sampling.stop), on_text)
    device = next(model.parameters()).device
    inputs = torch.tensor([list(prompt)], device=device)
    with (
        evaluating(model),
        torch.no_grad(),
        torch.autocast(device.type, autocast, enabled=autocast is not None),
    ):
        model.generate(
            input_ids=inputs,
            attention_mask=torch.ones_like(inputs),
            generation_config=_config(room, ends, pad_id(tokenizer)),
            logits_processor=_processors(Chooser(sampling, never=ends if ignore_end else ())),
            stopping_criteria=StoppingCriteriaList([written.is_stopped]),
            streamer=written,
        )
    return written.answer()


def room_for(prompt_tokens: int, context: int | None, max_tokens: int) -> int:
    """How many tokens can be written after a prompt of so many.

    Raises PipelineError if the prompt is empty or leaves no room.
    """
    if not prompt_tokens:
        raise PipelineError(
            "The prompt is empty, and this model has no token that begins a text.",
            "Give it a word to go on from.",
        )
    if context is None:
        return max_tokens
    if prompt_tokens >= context:
        raise PipelineError(
            f"The prompt has {prompt_tokens:,} tokens, and this model sees only {context:,}."
        )
    return min(max_tokens, context - prompt_tokens)


def _config(max_new_tokens: int, ends: list[int], pad: int) -> Any:
    from transformers import GenerationConfig

    return GenerationConfig(
        max_new_tokens=max_new_tokens, eos_token_id=ends or None, pad_token_id=pad, use_cache=True,
        do_sample=False, num_beams=1, repetition_penalty=1.0,  # `Chooser` does all that
    )  # fmt: skip


def _processors(choose: "Chooser") -> Any:
    from transformers import LogitsProcessorList

    return LogitsProcessorList([choose])  # type: ignore[list-item]


class Chooser:
    """A logits processor that leaves one token, drawn as llama.cpp's chain draws it.

    Tokens of `never` are not drawn.
    """

    def __init__(self, sampling: Sampling, never: Sequence[int] = ()) -> None:
        import torch

        self._sampling = sampling
        self._never = list(never)
        self._source = torch.Generator().manual_seed(sampling.seed)

    def __call__(self, ids: "torch.Tensor", scores: "torch.Tensor") -> "torch.Tensor":
        import torch

        chosen = torch.full_like(scores, -torch.inf)
        chosen[0, self.draw(ids[0], scores[0].float())] = 0.0
        return chosen

    def draw(self, ids: "torch.Tensor", logits: "torch.Tensor") -> int:
        """The next token after `ids`; `logits` are changed on the way."""
        import torch

        how = self._sampling
        logits[self._never] = -torch.inf
        if how.repeat_last_n:
            seen = (ids if how.repeat_last_n < 0 else ids[-how.repeat_last_n :]).unique()
            repeated = logits[seen]
            logits[seen] = torch.where(
                repeated <= 0, repeated * how.repeat_penalty, repeated / how.repeat_penalty
            )
        if how.temperature <= 0:
            return int(logits.argmax())
        best, order = logits.topk(min(how.top_k or len(logits), len(logits)))
        shares = best.softmax(-1)
        # The first token is always kept: nothing comes before it.
        kept = (shares.cumsum(-1) - shares < how.top_p) & (shares >= how.min_p * shares[0])
        kept[0] = True
        odds = (best[kept] / how.temperature).softmax(-1).cumsum(-1)
        at = torch.rand((), generator=self._source).item() * odds[-1].item()
        return int(order[kept][min(int((odds <= at).sum()), len(odds) - 1)])


class Detokenizer:
    """Text of token ids that come one by one: whole characters only, and blanks as they belong.

    What a token says may depend on the one before it (a tokenizer may strip the first blank of
    what it decodes), so a new one is always decoded together with some that are known.
    """

    def __init__(self, tokenizer: "PreTrainedTokenizerBase", before: Sequence[int]) -> None:
        self._tokenizer = tokenizer
        self._ids = list(before[-_CONTEXT:])
        self._known = self._decode(self._ids)

    def add(self, token: int) -> str:
        """The text that this token completes; none where it ends within a character."""
        self._ids.append(token)
        text = self._decode(self._ids)
        if text.endswith(_CUT):
            return ""
        return self._take(text)

    def end(self) -> str:
        """What is left at the end: a character that was never completed."""
        return self._take(self._decode(self._ids))

    def _take(self, text: str) -> str:
        new = text[len(self._known) :]
        if len(self._ids) > 2 * _CONTEXT:
            self._ids = self._ids[-_CONTEXT:]
            text = self._decode(self._ids)
        self._known = text
        return new

    def _decode(self, ids: list[int]) -> str:
        text = self._tokenizer.decode(
            ids, skip_special_tokens=True, clean_up_tokenization_spaces=False
        )
        return str(text)


class _Written:
    """Takes tokens as `generate` draws them (it calls this a streamer), and the time."""

    def __init__(
        self,
        tokenizer: "PreTrainedTokenizerBase",
        prompt: Sequence[int],
        ends: Sequence[int],
        finder: StopFinder,
        on_text: Callable[[str], object],
    ) -> None:
        self._detokenizer = Detokenizer(tokenizer, prompt)
        self._prompt_tokens = len(prompt)
        self._ends = set(ends)
        self._finder = finder
        self._on_text = on_text
        self._text: list[str] = []
        self._finish = "length"
        self._tokens = -1  # the first thing that comes is the prompt
        self._start = self._first = self._last = time.perf_counter()

    def put(self, value: "torch.Tensor") -> None:
        """Take the prompt, or one token more."""
        self._tokens += 1
        if not self._tokens:
            return
        self._last = time.perf_counter()
        if self._tokens == 1:
            self._first = self._last
        token = int(value.reshape(-1)[0])
        if token in self._ends:
            self._finish = "stop"
            return
        self._show(self._finder.add(self._detokenizer.add(token)))
        if self._finder.stopped:
            self._finish = "stop"

    def end(self) -> None:
        """No more tokens come."""
        self._show(self._finder.add(self._detokenizer.end()))
        self._show(self._finder.end())

    def is_stopped(self, ids: "torch.Tensor", scores: Any, **_: Any) -> "torch.Tensor":
        """For `generate`: whether a stop text was met."""
        import torch

        return torch.full((ids.shape[0],), self._finder.stopped, device=ids.device)

    def answer(self) -> Answer:
        """What came of it."""
        return Answer(
            "".join(self._text), self._tokens, self._last - self._first, self._finish,
            self._prompt_tokens, self._first - self._start,
        )  # fmt: skip

    def _show(self, text: str) -> None:
        if text:
            self._text.append(text)
            self._on_text(text)

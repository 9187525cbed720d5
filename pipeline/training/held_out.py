"""The windows that a model is scored on, of texts and of records.

Of a record only what the model has to write is scored: the completion, or the assistant's turns,
without the tokens that end them. What it pays for them is divided by the UTF-8 bytes of exactly
this text.
"""

import hashlib
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from pipeline.corpus.encoding import Encoded, Encoder
from pipeline.corpus.examples import Shape
from pipeline.corpus.tokens import block_spans
from pipeline.corpus.turns import ChatTemplate, choose_template
from pipeline.errors import PipelineError
from pipeline.scoring.bits import MINIMUM_SHARE, Window, windows
from pipeline.training.data import Sample
from pipeline.training.sources import samples_in, split_files

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase

_TRIES = 50  # records too long for what is left of the budget, after which it counts as used up


def held_out_windows(
    tokenizer: "PreTrainedTokenizerBase",
    samples: Sequence[Sample],
    kind: Shape,
    template: str | None,
    *,
    length: int,
    max_tokens: int,
    least: int = MINIMUM_SHARE,
) -> list[Window]:
    """Windows of `length` tokens at most, in which about `max_tokens` tokens are scored.

    Texts give their starts, `least` tokens each if they can, as `windows` says. Records are taken
    whole or not at all, in an order drawn by their ids.

    Raises:
        PipelineError: nothing is held out, no record fits into `max_tokens`, or one cannot be
            encoded (see `Encoder`).
    """
    if kind == "text":
        return windows(tokenizer, samples, length=length, max_tokens=max_tokens, least=least)
    measure = _measure(tokenizer, template)
    chosen: dict[int, list[Window]] = {}
    left, misses = max_tokens, 0
    for i in sorted(range(len(samples)), key=lambda i: draw(samples[i].id)):
        encoded, mask, n_bytes = measure(samples[i])
        scored = sum(mask)
        if not 0 < scored <= left:
            misses += 1
        elif n_bytes:
            chosen[i] = _cut(samples[i].id, encoded.ids, mask, n_bytes, length)
            left -= scored
        if not left or misses > _TRIES:
            break
    if not chosen:
        if not samples:
            raise PipelineError("There is no held-out record to score.", "Hold out at least one.")
        raise PipelineError(
            f"No held-out record fits into --eval-tokens {max_tokens}.", "Raise it."
        )
    return [window for i in sorted(chosen) for window in chosen[i]]


def read_to_score(files: Sequence[Path], kind: Shape) -> list[Sample]:
    """The samples of a dataset that is only to be scored on: its validation split and what has the
    weight 0, or all of it where that is nothing.

    Raises PipelineError naming file and row of what is no sample.
    """
    train, validation = split_files(files)
    held_out = list(samples_in(validation, kind, "document"))
    rest = list(samples_in(train, kind, "document"))
    held_out += [sample for sample in rest if sample.weight == 0]
    return held_out or rest


def draw(name: str) -> bytes:
    """What a record's place in the order of drawing is, by its id."""
    return hashlib.sha256(name.encode(errors="surrogatepass")).digest()


_Measured = tuple[Encoded, list[bool], int]


def _measure(
    tokenizer: "PreTrainedTokenizerBase", template: str | None
) -> Callable[[Sample], _Measured]:
    """A function from a record to its ids, which of them are scored, and the bytes of those."""
    encoder = Encoder(tokenizer, template)
    special = {i for i, token in tokenizer.added_tokens_decoder.items() if token.special}
    special |= set(tokenizer.all_special_ids)
    if tokenizer.unk_token_id not in (tokenizer.bos_token_id, tokenizer.eos_token_id):
        special.discard(tokenizer.unk_token_id)  # it stands for text
    chats: list[ChatTemplate] = []

    def measure(sample: Sample) -> _Measured:
        try:
            encoded = encoder.encode(sample.content)
            if sample.kind == "chat" and not chats:
                chats.append(choose_template(tokenizer, template))
            said = (
                _said(chats[0], sample)
                if sample.kind == "chat" else sample.content["completion"]
            )  # fmt: skip
        except PipelineError as error:
            raise PipelineError(f"Record {sample.id!r}: {error.message}", error.hint) from error
        mask = [
            trained and token not in special
            for token, trained in zip(encoded.ids, encoded.mask(), strict=True)
        ]
        if sample.kind == "completion":
            mask[-1] = False  # the end token, even where the tokenizer does not call it special
        return encoded, mask, len(said.encode("utf-8", "surrogatepass"))

    return measure


def _said(template: ChatTemplate, sample: Sample) -> str:
    """What the assistant writes in a chat, without special tokens."""
    return "".join(
        template.ends.sub("", segment.text) if segment.from_template else segment.text
        for segment in template.segments(sample.content["messages"])
        if segment.trained
    )


def _cut(name: str, ids: list[int], mask: list[bool], n_bytes: int, length: int) -> list[Window]:
    """A record as windows; of a long one each but the first begins with half a window of context.

    Windows in which nothing is scored are left out.
    """
    total = sum(mask)
    found, scored = [], 0
    context = length // 2 if len(ids) > length else 0
    for start, fresh, end in block_spans(len(ids), length, context):
        counts = [False] * (fresh - start) + mask[fresh:end]
        counts[0] = False
        before, scored = scored, scored + sum(mask[fresh:end])
        if scored > before:
            share = n_bytes * scored // total - n_bytes * before // total
            found.append(Window(name, ids[start:end], share, counts))
    return found

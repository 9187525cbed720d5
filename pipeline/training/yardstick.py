"""The same held-out text for every model, in each model's own tokens.

A run's own windows (`windows.json`) are taken as they are by every model that makes the same
tokens of their text. Other tokenizers get windows over exactly the same bytes.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from pipeline.corpus.examples import Shape
from pipeline.errors import PipelineError
from pipeline.scoring.bits import MINIMUM_SHARE, WINDOW_TOKENS, Window
from pipeline.scoring.stretches import (
    CHARACTERS_PER_TOKEN,
    Speller,
    Stretch,
    choose_stretches,
    cut,
    speller_of,
    stretches_of,
)
from pipeline.training.data import NOUNS, Sample
from pipeline.training.held_out import draw, held_out_windows

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase

_EVERYTHING = 10**15  # tokens


@dataclass(frozen=True)
class Reference:
    """Windows that are there already, and the tokenizer that they were cut with."""

    tokenizer: "PreTrainedTokenizerBase"
    windows: list[Window]


class Yardstick:
    """What models are scored on.

    Args:
        samples: what may be scored, all of one kind.
        tokens: how much of it, in tokens of some ordinary tokenizer, and `least` of each text that
            is taken; not used with `reference`.
        template: of chats; None is each tokenizer's own.
        reference: windows whose bytes are to be scored; without, no tokenizer has a say in it.

    Raises PipelineError if there is nothing to score, or not what the reference was made of.
    """

    def __init__(
        self,
        samples: Sequence[Sample],
        kind: Shape,
        *,
        tokens: int,
        least: int = MINIMUM_SHARE,
        template: str | None = None,
        reference: Reference | None = None,
    ) -> None:
        self.kind = kind
        self.sources = {sample.id: sample.collection for sample in samples}
        self._template = template
        self._stretches: list[Stretch] = []
        self._records: list[Sample] = []
        if kind != "text":
            self._records = _chosen_records(samples, kind, tokens, reference)
            self._texts = [text for record in self._records for text in _texts(record)]
        else:
            self._stretches = (
                stretches_of(reference.tokenizer, samples, reference.windows)
                if reference else choose_stretches(samples, tokens=tokens, least=least)
            )  # fmt: skip
            self._texts = [stretch.text for stretch in self._stretches]
        self._reference: tuple[Speller, list[list[int]], list[Window]] | None = None
        if reference:
            self._refer_to(speller_of(reference.tokenizer), reference.windows)

    @property
    def documents(self) -> list[str]:
        """The ids of the documents or records that are scored."""
        found = [stretch.document for stretch in self._stretches]
        return found or [record.id for record in self._records]

    @property
    def noun(self) -> str:
        """What these are called: "document", "record" or "chat"."""
        return NOUNS[self.kind]

    def windows(
        self,
        speller: Speller,
        context: int | None,
        tokenizer: "PreTrainedTokenizerBase | None" = None,
    ) -> list[Window]:
        """The windows of a model that sees `context` tokens at once (None: it does not say).

        `tokenizer` is that of transformers, where there is one: records in another model's tokens
        cannot be had without it.

        Raises PipelineError if this tokenizer cannot spell what is to be scored.
        """
        length = min(WINDOW_TOKENS, context or WINDOW_TOKENS)
        if self._reference:
            other, ids, windows = self._reference
            longest = max(len(window.ids) for window in windows)
            shares = other.prefix == speller.prefix and longest <= length
            if shares and speller.encode(self._texts) == ids:
                return windows
        if self.kind == "text":
            return cut(self._stretches, speller, length)
        if tokenizer is None:
            raise PipelineError(
                f"Only its {NOUNS[self.kind]}s' plain text could be spelled in its own tokens.",
                "Name the Hugging Face model that it was made of first.",
            )
        windows = held_out_windows(
            tokenizer, self._records, self.kind, self._template, length=length,
            max_tokens=_EVERYTHING,
        )  # fmt: skip
        if self._reference is None:
            self._refer_to(speller, windows)
        return windows

    def _refer_to(self, speller: Speller, windows: list[Window]) -> None:
        self._reference = (speller, speller.encode(self._texts), windows)


def _chosen_records(
    samples: Sequence[Sample], kind: Shape, tokens: int, reference: Reference | None
) -> list[Sample]:
    """The reference's records, or some drawn by their ids, whole or not at all."""
    if reference:
        by_id = {sample.id: sample for sample in samples}
        names = dict.fromkeys(window.document for window in reference.windows)
        gone = next((name for name in names if name not in by_id), None)
        if gone is not None:
            raise PipelineError(
                f"The held-out record {gone!r} is not in the dataset.",
                "Train again (`pipeline train`), or say with --dataset what to score on.",
            )
        return [by_id[name] for name in names]
    left = tokens * CHARACTERS_PER_TOKEN
    chosen = set()
    for i in sorted(range(len(samples)), key=lambda i: draw(samples[i].id)):
        size = sum(map(len, _texts(samples[i])))
        if 0 < size <= left:
            chosen.add(i)
            left -= size
    if not chosen:
        if samples:
            raise PipelineError(f"No {NOUNS[kind]} fits into --tokens {tokens}.", "Raise it.")
        raise PipelineError(f"There is no {NOUNS[kind]} to score.", "Give another --dataset.")
    return [samples[i] for i in sorted(chosen)]


def _texts(sample: Sample) -> list[str]:
    """Everything that is said in a record, by whom ever."""
    if sample.kind == "chat":
        return [turn["content"] for turn in sample.content["messages"]]
    return [sample.content["prompt"], sample.content["completion"]]

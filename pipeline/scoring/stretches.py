"""The same bytes for every tokenizer: stretches of text, and the windows that cover each exactly.

Where models with different tokenizers are compared, what is scored cannot be chosen by counting
one tokenizer's tokens. A stretch says from which character of a document to which it goes; each
tokenizer then cuts windows over exactly these characters. What comes before is context.
"""

import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from pipeline.errors import PipelineError
from pipeline.scoring.bits import (
    EVAL_TOKENS,
    MINIMUM_SHARE,
    WINDOW_TOKENS,
    HasText,
    Spelling,
    Window,
    even_shares,
    evenly,
)

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase

CHARACTERS_PER_TOKEN = 4  # about as many as in English with common tokenizers

# Between two words: where tokens begin with any tokenizer that splits at blanks.
_GAP = re.compile(r"(?<=\w) (?=\w)")
_NEAR = 400  # characters within which such a place is looked for

Encode = Callable[[Sequence[str]], list[list[int]]]
"""From texts to their ids, with nothing added and nothing read as a special token."""


@dataclass(frozen=True)
class Stretch:
    """The characters from `begin` of a document to the end of `text`, which ends where it does."""

    document: str
    text: str
    begin: int

    @property
    def n_bytes(self) -> int:
        """UTF-8 bytes that are scored."""
        return len(self.text[self.begin :].encode("utf-8", "surrogatepass"))


@dataclass(frozen=True)
class Speller:
    """A tokenizer, as far as windows are concerned: `encode`, the ids that it puts before every
    text, and one that may stand before a text where a model needs something to begin with."""

    encode: Encode
    prefix: tuple[int, ...]
    start: int | None


def choose_stretches(
    documents: Sequence[HasText], *, tokens: int = EVAL_TOKENS, least: int = MINIMUM_SHARE
) -> list[Stretch]:
    """The starts of the documents but for their first words, about as many characters as `tokens`
    have; no tokenizer has a say in it.

    Every document gives an equal share; what a short one cannot give, the others do. Where shares
    would fall below those of `least` tokens, documents are left out, evenly over the list.

    Raises PipelineError if the documents hold no text.
    """
    chosen = evenly([d for d in documents if d.text.strip()], max(1, tokens // least))
    shares = even_shares([len(d.text) for d in chosen], tokens * CHARACTERS_PER_TOKEN)
    found = []
    for document, share in zip(chosen, shares, strict=True):
        first = _GAP.search(document.text, 0, _NEAR)
        begin = first.start() if first else 0
        end = _gap_before(document.text, begin + share)
        if end > begin:
            found.append(Stretch(document.id, document.text[:end], begin))
    if not found:
        raise PipelineError(
            "There is no held-out text to score.",
            "The validation split is empty or has no text: hold out at least one book.",
        )
    return found


def _gap_before(text: str, at: int) -> int:
    """The last place between two words that is not behind `at`; `at` if there is none near."""
    if at >= len(text):
        return len(text)
    gaps = [gap.start() for gap in _GAP.finditer(text, max(0, at - _NEAR), at + 2)]
    near = [gap for gap in gaps if gap <= at]
    return near[-1] if near else at


def stretches_of(
    tokenizer: "PreTrainedTokenizerBase",
    documents: Sequence[HasText],
    held_out: Sequence[Window],
) -> list[Stretch]:
    """What windows cover that `tokenizer` cut from the starts of some of the documents.

    Raises PipelineError if a document is gone or is not what the windows were cut from.
    """
    spell = Spelling(tokenizer)
    by_id = {document.id: document for document in documents if document.text}
    found = []
    for name in dict.fromkeys(window.document for window in held_out):
        mine = [window for window in held_out if window.document == name]
        document = by_id.get(name)
        spelled = spell(name, document.text) if document else None
        ids = mine[0].ids + [token for window in mine[1:] for token in window.ids[1:]]
        if document is None or spelled is None or spelled.ids[: len(ids)] != ids:
            what = "is not" if document is None else "is no longer what it was"
            raise PipelineError(
                f"The held-out document {name!r} {what} in the dataset.",
                "Train again (`pipeline train`), or say with --dataset what to score on.",
            )
        ends = (spelled.byte_ends[0], spelled.byte_ends[len(ids) - 1])
        data = document.text.encode("utf-8", "surrogatepass")
        begin, end = (_characters(data, at) for at in ends)
        found.append(Stretch(name, document.text[:end], begin))
    return found


def _characters(data: bytes, at: int) -> int:
    """How many characters begin in the first `at` bytes."""
    return sum(byte & 0xC0 != 0x80 for byte in data[:at])


def cut(
    stretches: Sequence[Stretch], speller: Speller, length: int = WINDOW_TOKENS
) -> list[Window]:
    """Windows of at most `length` tokens over exactly the bytes of the stretches.

    Where a token would lie across the beginning of a stretch, what is before it and the stretch
    are encoded by themselves. A model whose tokenizer begins texts with nothing cannot predict a
    document's first token: where that is to be scored, a start token goes before it.

    Raises PipelineError if the tokenizer makes nothing of a stretch, or has no start token where
    one is needed.
    """
    texts = [stretch.text for stretch in stretches]
    wholes = speller.encode(texts)
    befores = speller.encode([s.text[: s.begin] for s in stretches])
    rests: dict[int, list[int]] = {}
    forced = [
        i for i, (whole, before) in enumerate(zip(wholes, befores, strict=True))
        if whole[: len(before)] != before
    ]  # fmt: skip
    if forced:
        parts = speller.encode([stretches[i].text[stretches[i].begin :] for i in forced])
        rests = dict(zip(forced, parts, strict=True))
    found: list[Window] = []
    for i, stretch in enumerate(stretches):
        ids = befores[i] + rests[i] if i in rests else wholes[i]
        ids, first = [*speller.prefix, *ids], len(speller.prefix) + len(befores[i])
        if first == 0:
            if speller.start is None:
                raise PipelineError(
                    f"The model has no token to begin {stretch.document!r} with.",
                    "Its tokenizer names neither a start nor an end token.",
                )
            ids, first = [speller.start, *ids], 1
        found += _windows(stretch, ids, first, length)
    if not found:
        raise PipelineError("There is no held-out text to score.", "Give another --dataset.")
    return found


def _windows(stretch: Stretch, ids: list[int], first: int, length: int) -> list[Window]:
    """Windows in which each token from number `first` on is predicted once."""
    n, n_bytes = len(ids) - first, stretch.n_bytes
    if n <= 0:
        return []
    found = []
    # A few tokens of context go with the first window; of more, only what fits.
    start = max(0, first - max(1, length // 2))
    while start < len(ids) - 1:
        end = min(start + length, len(ids))
        fresh = max(start + 1, first)
        share = n_bytes * (end - first) // n - n_bytes * (fresh - first) // n
        mask = None if fresh == start + 1 else [i >= fresh for i in range(start, end)]
        found.append(Window(stretch.document, ids[start:end], share, mask))
        start = end - 1
    return found


def speller_of(tokenizer: "PreTrainedTokenizerBase") -> Speller:
    """The speller of a tokenizer of transformers. Raises PipelineError for one that is not fast."""
    spell = Spelling(tokenizer)
    start = tokenizer.eos_token_id if tokenizer.bos_token_id is None else tokenizer.bos_token_id
    return Speller(spell.plain, tuple(spell.prefix), start)

"""Cut a text into chunks of nearly equal size, at the best places, without losing a character.

`"".join(chunk_text(text)) == text`, whatever the text: chunks are slices of it, and what separates
two paragraphs or sentences stays at the end of the chunk before the cut.

How it works. At each step the number of chunks that the rest of the text needs is decided first,
so that all of them can have a size in [minimum, target] and none is a leftover; the rest divided by
that number is the size to aim at. Then the cut is the place of the best kind, and among these the
one nearest to that aim:

1. between two paragraphs, anywhere from `minimum` to `target`;
2. else one paragraph covers that whole range and overflows the chunk: between two of its
   sentences, in verse at the end of a line if one of them ends there;
3. else one sentence covers it: after a semicolon, colon or dash, then after a comma, then at the
   end of a line, then at white space, and if there is none, anywhere but before a combining mark.

Sizes. No chunk is longer than `target`. None is shorter than `minimum`, but where the length of a
text makes that impossible (8,000 characters are neither one chunk of at most 7,000 nor two of at
least 6,000: two halves then, rather than a chunk and a scrap), and where keeping to it would tear a
sentence apart at the end of a short text. From 36,000 characters on, with the default sizes, a
division exists for every length.

A size is a number of characters, or of whatever else a `Measure` counts: with that of `tokenizing`
both sizes are in tokens, and the cuts are chosen in the same way.

Only the neighbourhood of each cut is looked at, so the time is linear, and most text is not even
read by Punkt.
"""

import re
import unicodedata
from collections.abc import Iterable, Iterator, Sequence
from itertools import pairwise
from typing import NamedTuple, Protocol

from pipeline.corpus.sentences import DEFAULT_LANGUAGE, sentence_ends
from pipeline.errors import PipelineError

DEFAULT_TARGET = 7000
DEFAULT_MINIMUM = 6000

_PARAGRAPH_END = re.compile(r"\n(?:[ \t\r]*\n)+")
_SENTENCE_CONTEXT = 400  # characters on each side of a window that Punkt sees with it
_PLACES_IN_A_SENTENCE = (
    re.compile(r"[。！？；：]|[;:][”’»\"')\]]*\s+|(?:[—–]|-{2,})(?:[”’»\"')\]]+\s+|\s*)"),
    re.compile(r",[”’»\"')\]]*\s+|[，、]"),
    re.compile(r"\n+"),
    re.compile(r"\s+"),
)
_ZERO_WIDTH_JOINER = "\u200d"
_SKIN_TONES = range(0x1F3FB, 0x1F400)
_WORD_START = re.compile(r"(?<=\s)\S")


class Measure(Protocol):
    """What the sizes of the chunks of one text are counted in."""

    def units(self, offset: int) -> int:
        """How many units begin before the character at `offset`."""

    def place(self, unit: int) -> int:
        """The offset of the character that the unit begins with; the length of the text, if there
        are no more units than that."""


class Characters:
    """A unit is a character."""

    def units(self, offset: int) -> int:
        return offset

    def place(self, unit: int) -> int:
        return unit


CHARACTERS = Characters()


class Window(NamedTuple):
    """Offsets in a text between which a cut may fall, and the one where it would fall best."""

    first: int
    last: int
    aim: int

    def nearest(self, offsets: Iterable[int]) -> int | None:
        """The offset inside the window that is nearest to the aim, or None."""
        first, last, aim = self
        inside = [offset for offset in offsets if first <= offset <= last]
        return min(inside, key=lambda offset: abs(offset - aim)) if inside else None


def check_sizes(target: int, minimum: int) -> None:
    """Raise PipelineError unless 1 <= minimum <= target."""
    if minimum < 1 or target < 1:
        raise PipelineError(
            f"Chunks cannot have a size of {min(minimum, target)} characters.",
            "Both sizes are positive numbers of characters.",
        )
    if minimum > target:
        raise PipelineError(
            f"The minimum chunk size ({minimum}) is above the chunk size ({target}).",
            f"Lower the minimum to at most {target}, or raise the chunk size.",
        )


def chunk_text(
    text: str,
    target: int = DEFAULT_TARGET,
    minimum: int = DEFAULT_MINIMUM,
    language: str = DEFAULT_LANGUAGE,
) -> list[str]:
    """Cut `text` into chunks of `minimum` to `target` characters; joined they are `text` again.

    A text of at most `target` characters is one chunk, an empty one none. `language` (ISO 639-1)
    chooses how sentences are told. See the module for the rules; PipelineError for bad sizes.
    """
    ends = chunk_ends(text, target, minimum, language)
    return [text[start:end] for start, end in pairwise([0, *ends])]


def chunk_ends(
    text: str,
    target: int,
    minimum: int,
    language: str = DEFAULT_LANGUAGE,
    measure: Measure = CHARACTERS,
) -> list[int]:
    """The offsets at which the chunks of `text` end, as `chunk_text` cuts it; the last is its
    length.

    `target` and `minimum` are in the units of `measure`. Where one character has more units than
    `target`, a chunk of it is longer than that. PipelineError for bad sizes.
    """
    check_sizes(target, minimum)
    ends = []
    start, size = 0, measure.units(len(text))
    while size - measure.units(start) > target:
        cut = _best_cut(text, start, size, target, minimum, language, measure)
        if cut >= len(text):
            break
        ends.append(cut)
        start = cut
    return [*ends, len(text)] if text else []


def overlap_starts(
    text: str,
    ends: Sequence[int],
    overlap: int,
    language: str = DEFAULT_LANGUAGE,
    measure: Measure = CHARACTERS,
) -> list[int]:
    """Where each chunk begins if it repeats up to `overlap` units of the end of the one before.

    It begins with a sentence if that repeats at least half of what it may, else with a word, else
    (where words have no spaces between them) with a character. The first chunk repeats nothing,
    and none repeats more than the whole of the one before.
    """
    starts = [0] if ends else []
    for before, cut in pairwise([0, *ends[:-1]]):
        first = min(cut, max(before, measure.place(max(0, measure.units(cut) - overlap))))
        while measure.units(cut) - measure.units(first) > overlap:
            first += 1
        starts.append(_overlap_start(text, before, first, cut, language))
    return starts


def _overlap_start(text: str, before: int, first: int, cut: int, language: str) -> int:
    """The best offset from `first` to `cut` for an overlap to begin at."""
    if first <= before or first >= cut:
        return first
    left = max(before, first - _SENTENCE_CONTEXT)
    half = (first + cut) // 2
    near = sentence_ends(text[left:cut], language, first - left, half - left)
    sentences = [left + end for end in near]
    paragraphs = (m.end() for m in _PARAGRAPH_END.finditer(text, max(left, first - 2), cut))
    start = min((at for at in (*sentences, *paragraphs) if first <= at <= half), default=None)
    if start is not None:
        return start
    word = _WORD_START.search(text, first, cut)
    if word:
        return word.start()
    return next((at for at in range(first, cut) if not _inside_a_character(text, at)), cut)


def _best_cut(
    text: str, start: int, size: int, target: int, minimum: int, language: str, measure: Measure
) -> int:
    """The offset at which the chunk that begins at `start` ends; more than `target` is left of the
    text, which has `size` units."""
    begin = measure.units(start)
    for units in _windows(size - begin, target, minimum):
        window = _placed(units, begin, start, measure)
        cut = window.nearest(_paragraph_ends(text, window))
        if cut is not None:
            return cut
        sentences = _sentence_ends(text, window, start, language)
        line_ends = (end for end in sentences if text[end - 1] == "\n")
        cut = window.nearest(line_ends) or window.nearest(sentences)
        if cut is not None:
            return cut
    if window.first > window.last:  # units that lie closer together than characters
        window = Window(window.first, window.first, window.first)
    return _cut_in_sentence(text, window)


def _placed(window: Window, begin: int, start: int, measure: Measure) -> Window:
    """A window of units after the `begin`-th as one of offsets; a chunk has a character at least"""
    place = measure.place
    first, last, aim = (place(begin + unit) for unit in window)
    return Window(max(first, start + 1), last, max(aim, start + 1))


def _windows(rest: int, target: int, minimum: int) -> Iterator[Window]:
    """Where the next cut may fall, from the strictest window to the widest, in units from the
    start of the chunk; `rest` is what is left of the text.

    The first leaves a rest whose chunks can have a size in the middle half of [minimum, target], so
    that the end of the text is not reached with a rest that fits nowhere; the second leaves one
    whose chunks can have a size in bounds at all. Far from the end both are all of [minimum,
    target]. The third is never narrower than the play between the two sizes: where the second is,
    the third only promises that the chunk is not longer than `target`.
    """
    # Aim between the two sizes, but well up when the minimum is so low that it says little.
    usual = max((target + minimum) / 2, 0.9 * target)
    fewest = -(-rest // target)
    count = max(min(max(round(rest / usual), fewest), rest // minimum), fewest)
    aim = round(rest / count)
    play = target - minimum

    def leaving(spare: int) -> Window:
        first = max(minimum, rest - (count - 1) * (target - spare))
        last = min(target, rest - (count - 1) * (minimum + spare))
        return Window(first, last, aim)

    steady, fitting = leaving(play // 4), leaving(0)
    yield steady
    if fitting != steady:
        yield fitting
    width = max(play, target // 10)
    if fitting.last - fitting.first < width:
        last = min(target, max(aim + width // 2, fitting.last))
        first = max(1, min(last - width, fitting.first))
        yield Window(first, last, aim)


def _paragraph_ends(text: str, window: Window) -> Iterable[int]:
    """Offsets in the window at which a paragraph begins."""
    # Begin early enough to see the whole of a break that ends at the first offset.
    matches = _PARAGRAPH_END.finditer(text, max(0, window.first - 2), window.last)
    return (match.end() for match in matches)


def _sentence_ends(text: str, window: Window, start: int, language: str) -> list[int]:
    """Offsets in the window at which a sentence begins."""
    if window.first > window.last:
        return []
    left = max(start, window.first - _SENTENCE_CONTEXT)
    right = min(len(text), window.last + _SENTENCE_CONTEXT)
    first, last = window.first - left, window.last - left
    return [left + end for end in sentence_ends(text[left:right], language, first, last)]


def _cut_in_sentence(text: str, window: Window) -> int:
    """The best offset in the window where no sentence ends."""
    for place in _PLACES_IN_A_SENTENCE:
        ends = (match.end() for match in place.finditer(text, window.first - 1, window.last))
        cut = window.nearest(end for end in ends if not _inside_a_character(text, end))
        if cut is not None:
            return cut
    anywhere = range(window.first, window.last + 1)
    cut = window.nearest(offset for offset in anywhere if not _inside_a_character(text, offset))
    return window.aim if cut is None else cut


def _inside_a_character(text: str, offset: int) -> bool:
    """Whether a cut at `offset` would part what a reader sees as one character."""
    before, after = text[offset - 1 : offset], text[offset : offset + 1]
    if not after:
        return False
    return (
        unicodedata.category(after).startswith("M")
        or _ZERO_WIDTH_JOINER in (before, after)
        or ord(after) in _SKIN_TONES
        or (before == "\r" and after == "\n")
    )

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

Only the neighbourhood of each cut is looked at, so the time is linear, and most text is not even
read by Punkt.
"""

import re
import unicodedata
from collections.abc import Iterable
from dataclasses import dataclass

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


@dataclass(frozen=True)
class Window:
    """Offsets in a text between which a cut may fall, and the one where it would fall best."""

    first: int
    last: int
    aim: int

    def nearest(self, offsets: Iterable[int]) -> int | None:
        """The offset inside the window that is nearest to the aim, or None."""
        inside = (offset for offset in offsets if self.first <= offset <= self.last)
        return min(inside, key=lambda offset: abs(offset - self.aim), default=None)


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
    check_sizes(target, minimum)
    chunks = []
    start = 0
    while len(text) - start > target:
        cut = _best_cut(text, start, target, minimum, language)
        chunks.append(text[start:cut])
        start = cut
    if start < len(text):
        chunks.append(text[start:])
    return chunks


def _best_cut(text: str, start: int, target: int, minimum: int, language: str) -> int:
    """The offset at which the chunk that begins at `start` ends; more than `target` is left."""
    windows = _windows(start, len(text) - start, target, minimum)
    for window in windows:
        cut = window.nearest(_paragraph_ends(text, window))
        if cut is not None:
            return cut
        sentences = _sentence_ends(text, window, start, language)
        line_ends = (end for end in sentences if text[end - 1] == "\n")
        cut = window.nearest(line_ends) or window.nearest(sentences)
        if cut is not None:
            return cut
    return _cut_in_sentence(text, windows[-1])


def _windows(start: int, rest: int, target: int, minimum: int) -> tuple[Window, Window, Window]:
    """Where the next cut may fall, from the strictest window to the widest.

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
    aim = rest / count
    play = target - minimum

    def leaving(spare: int) -> Window:
        first = max(minimum, rest - (count - 1) * (target - spare))
        last = min(target, rest - (count - 1) * (minimum + spare))
        return Window(start + first, start + last, start + round(aim))

    steady, fitting = leaving(play // 4), leaving(0)
    width = max(play, target // 10)
    if fitting.last - fitting.first >= width:
        return steady, fitting, fitting
    last = min(start + target, max(fitting.aim + width // 2, fitting.last))
    first = max(start + 1, min(last - width, fitting.first))
    return steady, fitting, Window(first, last, fitting.aim)


def _paragraph_ends(text: str, window: Window) -> Iterable[int]:
    """Offsets in the window at which a paragraph begins."""
    # Begin early enough to see the whole of a break that ends at the first offset.
    matches = _PARAGRAPH_END.finditer(text, max(0, window.first - 2), window.last)
    return (match.end() for match in matches)


def _sentence_ends(text: str, window: Window, start: int, language: str) -> list[int]:
    """Offsets in and around the window at which a sentence begins."""
    if window.first > window.last:
        return []
    left = max(start, window.first - _SENTENCE_CONTEXT)
    right = min(len(text), window.last + _SENTENCE_CONTEXT)
    return [left + end for end in sentence_ends(text[left:right], language)]


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

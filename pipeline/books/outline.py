"""What a whole text is looked through for: where its lines and paragraphs end, where rare words
stand. A book is looked through several times, and each look must take less than a millisecond.

Characters that are not ASCII become "?" here: none of the words that are looked for has any, and
every place in the outline is the same place in the text.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache, cached_property
from math import prod
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from numpy.typing import NDArray

    Ints = NDArray[Any]
    Bools = NDArray[Any]

Span = tuple[int, int]

_NEWLINE = ord("\n")
# ASCII characters that str.isspace() holds to be space, and what stands for all others.
_SPACES = b" \t\x0b\x0c\r\x1c\x1d\x1e\x1f"
_OTHER = b"?"
# The share of letters in English texts; that of any other character is taken for smaller.
_FREQUENCY = {
    " ": 0.17, "e": 0.1, "t": 0.073, "a": 0.065, "o": 0.062, "n": 0.056, "i": 0.055, "h": 0.052,
    "s": 0.05, "r": 0.047, "d": 0.036, "l": 0.033, "u": 0.023, "m": 0.02, "w": 0.019, "c": 0.019,
    "f": 0.018, "\n": 0.018, "y": 0.016, "g": 0.016, "p": 0.013, "b": 0.012, "v": 0.008,
    "k": 0.006, "x": 0.001,
}  # fmt: skip
_RARE = 0.0005
_LONGEST_WORD = 40
_PART = 4  # letters of a word by which it is found
_CASE = 0x20  # the bit in which capitals and small letters differ
_FACTOR = 40503  # so that two pairs of letters make a number that no others are likely to make
_MOST_LINES = 0.1  # share of the lines up to which each is tidied by itself


def fold(text: str) -> str:
    """Lower case of the same length, so that positions in it are positions in `text`."""
    if text.isascii():
        return text.lower()
    # U+0130 is the one character whose lower case is longer than itself.
    return text.replace("\u0130", "I").lower().replace("\u2019", "'")


class Outline:
    """A text, and its outline in ASCII."""

    def __init__(self, text: str) -> None:
        import numpy as np

        self.text = text
        if not text.isascii() and ("\u0130" in text or "\u212a" in text):
            # These two become ASCII letters in lower case.
            text = text.replace("\u0130", "I").replace("\u212a", "K")
        self._ascii = text.encode("ascii", "replace")
        self._codes = np.frombuffer(self._ascii, np.uint8)
        self._found: dict[str, list[int]] = {}

    # --- words -------------------------------------------------------------------------------

    def places(self, words: tuple[str, ...]) -> dict[str, list[int]]:
        """Where each of the words (in lower case, ASCII) stands, in whatever case, in order.

        Four letters of a word stand at an even place, wherever the word does. All such places are
        looked at together, by a number for what stands there. Words that were asked for before, if
        only together with others, are known."""
        if not all(word in self._found for word in words):
            self._found |= self._looked_for(words)
        return {word: self._found[word] for word in words}

    def _looked_for(self, words: tuple[str, ...]) -> dict[str, list[int]]:
        import numpy as np

        plan = _plan(words)
        at = np.flatnonzero(plan.is_number.take(self._numbers))
        numbers = self._numbers[at]
        # At most places stand other words with these four letters: the two that follow tell.
        following = self._numbers[np.minimum(at + 1, len(self._numbers) - 1)]
        is_likely = plan.is_enough[numbers] | plan.is_pair[_mixed(numbers, following)]
        at, numbers = at[is_likely], numbers[is_likely]
        found: dict[str, list[int]] = {word: [] for word in words}
        for place, number in zip((2 * at).tolist(), numbers.tolist(), strict=True):
            for word, offset in plan.parts[number]:
                found[word].append(place - offset)
        for word in plan.short:
            found[word] = self._starts_of_pair(word)
        return {
            word: starts and self._apart(word, sorted(starts)) for word, starts in found.items()
        }

    @cached_property
    def _numbers(self) -> "Ints":
        """For each even place, a number for the four characters there in whatever case."""
        import numpy as np

        padding = bytes(4 + len(self._ascii) % 2)
        return _number(np.frombuffer(self._ascii + padding, "<u2"))

    def _starts_of_pair(self, word: str) -> list[int]:
        """Where the first two letters of a word stand side by side."""
        import numpy as np

        is_first, is_second = ((self._codes | _CASE) == ord(each) | _CASE for each in word[:2])
        starts: list[int] = np.flatnonzero(is_first[:-1] & is_second[1:]).tolist()
        return starts

    def _apart(self, word: str, starts: Sequence[int]) -> list[int]:
        """Those of the places where the word does stand, and not within the last one."""
        needle, size = word.encode(), len(word)
        kept: list[int] = []
        end = 0
        for start in starts:
            if start >= end and self._ascii[start : start + size].lower() == needle:
                kept.append(start)
                end = start + size
        return kept

    # --- lines and paragraphs ----------------------------------------------------------------

    @cached_property
    def _line_ends(self) -> "Ints":
        """Where lines end; the last one does at the end of the text."""
        import numpy as np

        return np.append(np.flatnonzero(self._codes == _NEWLINE), len(self._codes))

    @cached_property
    def paragraphs(self) -> list[Span]:
        """The spans of lines that no empty line interrupts."""
        import numpy as np

        ends = self._line_ends
        starts = np.concatenate(([0], ends[:-1] + 1))
        filled = np.concatenate(([False], ends > starts, [False]))
        opens = filled[1:-1] & ~filled[:-2]
        closes = filled[1:-1] & ~filled[2:]
        return list(zip(starts[opens].tolist(), ends[closes].tolist(), strict=True))

    def lines_round(self, places: Sequence[int]) -> list[int]:
        """Where the lines begin in which one of the places stands, and those right above these."""
        import numpy as np

        ends = self._line_ends
        lines = np.searchsorted(ends, np.array(places, ends.dtype))
        lines = np.unique(np.concatenate((lines, np.maximum(lines - 1, 0))))
        starts: list[int] = np.where(lines > 0, ends[lines - 1] + 1, 0).tolist()
        return starts

    @property
    def wide_gaps(self) -> list[int]:
        """Where there are two empty lines or more in a row: the line end before each two."""
        import numpy as np

        ends = self._line_ends[:-1]
        follows = np.diff(ends) == 1
        gaps: list[int] = ends[:-2][follows[:-1] & follows[1:]].tolist()
        return gaps

    @cached_property
    def loose_lines(self) -> list[int]:
        """The numbers of the lines (the first is 0) that end in white space."""
        import numpy as np

        is_loose = np.zeros(256, bool)
        is_loose[list(_SPACES + _OTHER)] = True
        ends = self._line_ends
        filled = np.flatnonzero(ends > 0)
        last = ends[filled] - 1
        codes = self._codes[last]
        loose = np.flatnonzero(is_loose[codes])
        if (codes[loose] == _OTHER[0]).any():
            text = self.text
            return [
                line
                for line, at in zip(filled[loose].tolist(), last[loose].tolist(), strict=True)
                if text[at].isspace()
            ]
        numbers: list[int] = filled[loose].tolist()
        return numbers

    def tidied(self) -> "Outline":
        """The same lines without white space at their ends."""
        if not self.loose_lines:
            return self
        text = self.text
        if len(self.loose_lines) > _MOST_LINES * len(self._line_ends):
            return Outline("\n".join(map(str.rstrip, text.split("\n"))))
        pieces = []
        position = 0
        for line in self.loose_lines:
            start = int(self._line_ends[line - 1]) + 1 if line else 0
            end = int(self._line_ends[line])
            pieces += [text[position:start], text[start:end].rstrip()]
            position = end
        pieces.append(text[position:])
        return Outline("".join(pieces))


# --- how words are looked for ---------------------------------------------------------------------


@dataclass(frozen=True)
class _Plan:
    """How some words are looked for. A number (see `_number`) is that of a part of a word if
    `is_number`, and then `parts` says of which words, and where in them the part stands. With the
    number two places further it makes a pair, if the word goes on so far; else the number
    `is_enough`. `short` are words that have no such parts."""

    is_number: "Bools"
    is_enough: "Bools"
    is_pair: "Bools"
    parts: dict[int, list[tuple[str, int]]]
    short: list[str]


@cache
def _plan(words: tuple[str, ...]) -> _Plan:
    """The rarest part of each word for even places, and for odd ones."""
    import numpy as np

    is_number, is_enough, is_pair = (np.zeros(1 << 16, bool) for _ in range(3))
    parts: dict[int, list[tuple[str, int]]] = {}
    for word in words:
        if not (2 <= len(word) <= _LONGEST_WORD):
            raise ValueError(f"a word of {len(word)} letters cannot be looked for")
        for first in (0, 1) if len(word) > _PART else ():
            longest = min(_PART + 2, len(word) - first)
            offsets = range(first, len(word) - longest + 1, 2)
            offset = min(offsets, key=lambda at: _commonness(word[at : at + longest]))
            part = word[offset : offset + longest // 2 * 2]
            numbers = _number(np.frombuffer(part.encode("ascii"), "<u2"))
            number = int(numbers[0])
            is_number[number] = True
            if len(numbers) == 1:
                is_enough[number] = True
            else:
                is_pair[_mixed(numbers[:1], numbers[1:])] = True
            parts.setdefault(number, []).append((word, offset))
    short = [word for word in words if len(word) <= _PART]
    return _Plan(is_number, is_enough, is_pair, parts, short)


def _number(pairs: "Ints") -> "Ints":
    """A number of 16 bits for each two neighbours of the pairs of letters, whatever their case."""
    small = pairs | (_CASE << 8 | _CASE)
    number: Ints = small[:-1] * _FACTOR ^ small[1:]
    return number


def _mixed(numbers: "Ints", following: "Ints") -> "Ints":
    """A number of 16 bits for two."""
    mixed: Ints = numbers * _FACTOR ^ following
    return mixed


def _commonness(part: str) -> float:
    return prod(_FREQUENCY.get(letter, _RARE) for letter in part)

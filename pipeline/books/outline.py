"""What a whole text is looked through for: where its lines and paragraphs end, where rare words
stand. A book is looked through several times, and each look must take less than a millisecond.

Characters that are not ASCII become "?" here: none of the words that are looked for has any, and
every place in the outline is the same place in the text.
"""

from collections.abc import Sequence
from functools import cache, cached_property
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from numpy.typing import NDArray

    Ints = NDArray[Any]

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
_FEW = 40  # places that are compared one by one
_MOST_LINES = 0.1  # share of the lines up to which each is tidied by itself


def fold(text: str) -> str:
    """Lower case of the same length, so that positions in it are positions in `text`."""
    # U+0130 is the one character whose lower case is longer than itself.
    return text.replace("\u0130", "I").lower().replace("\u2019", "'")


class Outline:
    """A text, and its outline in ASCII."""

    def __init__(self, text: str) -> None:
        import numpy as np

        self.text = text
        self._ascii = text.encode("ascii", "replace")
        self._codes = np.frombuffer(self._ascii, np.uint8)
        self._pairs: dict[int, Ints] = {}  # where those stand that were looked up so far

    # --- words -------------------------------------------------------------------------------

    def places(self, words: tuple[str, ...]) -> dict[str, list[int]]:
        """Where each of the words (in lower case, ASCII) stands, in whatever case, in order.

        The places of a pair of letters that is rare are looked up, then it is seen whether the
        word's other letters stand beside it. Words share their pairs where they can."""
        found = {}
        for word, ((first, pair), *others) in _plan(words):
            starts = self._pair(pair) - first
            for at, other in others:
                if len(starts) <= _FEW:
                    break
                starts = starts[self._numbers[starts + at] == other]
            found[word] = self._apart(word, starts.tolist())
        return found

    def _pair(self, pair: int) -> "Ints":
        """Where two letters stand side by side."""
        import numpy as np

        if pair not in self._pairs:
            is_there = self._numbers == pair
            # First which eight places hold it at all: half the time, for what is rare.
            eights = np.flatnonzero(is_there.view(np.uint64) != 0)
            places = (8 * eights[:, np.newaxis] + np.arange(8)).ravel()
            self._pairs[pair] = places[is_there[places]]
        return self._pairs[pair]

    @cached_property
    def _numbers(self) -> "Ints":
        """For each place, the letter there and the next one as one number; some places more, so
        that one may look ahead from anywhere."""
        import numpy as np

        padding = _LONGEST_WORD + -(len(self._folded) + _LONGEST_WORD) % 8
        letters = np.frombuffer(self._folded + bytes(padding + 1), np.uint8).astype(np.uint16)
        numbers: Ints = letters[1:] * 256 + letters[:-1]
        return numbers

    def _apart(self, word: str, starts: Sequence[int]) -> list[int]:
        """Those of the places where the word does stand, and not within the last one."""
        needle = word.encode()
        kept: list[int] = []
        end = 0
        for start in starts:
            if start >= end and start >= 0 and self._folded.startswith(needle, start):
                kept.append(start)
                end = start + len(needle)
        return kept

    @cached_property
    def _folded(self) -> bytes:
        # These two become ASCII letters in lower case.
        if "\u0130" in self.text or "\u212a" in self.text:
            plain = self.text.replace("\u0130", "I").replace("\u212a", "K")
            return plain.encode("ascii", "replace").lower()
        return self._ascii.lower()

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

Pair = tuple[int, int]  # where in a word it stands, and its two letters as a number


@cache
def _plan(words: tuple[str, ...]) -> list[tuple[str, list[Pair]]]:
    """For each word the pair of letters to look up, and the others that must stand beside it."""
    used: set[str] = set()
    plan = []
    for word in words:
        if not (2 <= len(word) <= _LONGEST_WORD):
            raise ValueError(f"a word of {len(word)} letters cannot be looked for")
        rarest = sorted(range(len(word) - 1), key=lambda at: _commonness(word[at : at + 2]))
        shared = (at for at in rarest if word[at : at + 2] in used)
        first = next(shared, rarest[0])
        used.add(word[first : first + 2])
        rarest.sort(key=lambda at: at != first)
        plan.append((word, [_pair_at(word, at) for at in rarest]))
    return plan


def _pair_at(word: str, at: int) -> Pair:
    return at, int.from_bytes(word[at : at + 2].encode("ascii"), "little")


def _commonness(pair: str) -> float:
    return _FREQUENCY.get(pair[0], _RARE) * _FREQUENCY.get(pair[1], _RARE)

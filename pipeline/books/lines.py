"""The lines of a text as arrays: where they start and end, how deep they are set, what they start
with. A book has tens of thousands of them, and to look at each by itself takes too long."""

import re
from collections.abc import Sequence
from functools import cache, cached_property
from itertools import pairwise
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from numpy.typing import NDArray

    Ints = NDArray[Any]
    Bools = NDArray[Any]
    Floats = NDArray[Any]

Lines = list[str]

# What a line starts with. Figures, "I", letters without case and lines wholly in capitals tell
# nothing.
SMALL, CAPITAL, NEUTRAL = 0, 1, 2
_UNTOLD = 3

STOPS = (".", ",", "!", "?", ";", ":", '"', "”", "'", "’", "--", "—", ")", "»")


# --- one line -------------------------------------------------------------------------------------


def indent_of(line: str) -> int:
    return len(line) - len(line.lstrip(" "))


def first_letter(line: str) -> str:
    """The first letter or digit of a line, behind quotation marks and the like; or nothing."""
    for character in line:
        if character.isalnum():
            return character
    return ""


def starts_small(line: str) -> bool:
    return line[:1].islower() or first_letter(line).islower()


_PRONOUN = re.compile(r"\W*I\b")


def start_of(line: str) -> int:
    """SMALL, CAPITAL or NEUTRAL."""
    first = first_letter(line)
    if first.islower() or line[:1].islower():
        return SMALL
    if not first.isupper() or (first == "I" and _PRONOUN.match(line)) or line.isupper():
        return NEUTRAL
    return CAPITAL


def fills(line: str, following: str, width: int) -> bool:
    """Whether the first word of the next line would not have fitted into this one."""
    room = width - len(line) - 1
    if room < 1:
        return True
    word = following.lstrip(" ")
    end = word.find(" ")
    return (len(word) if end < 0 else end) > room


# --- what characters are --------------------------------------------------------------------------

IS_LOWER, IS_UPPER, IS_ALNUM, IS_DIGIT, IS_DECIMAL, IS_STOP, IS_OF_NAME = (1 << n for n in range(7))
_IS_KNOWN = 1 << 7
_NAME = frozenset("ABCDEFGHIJKLMNOPQRSTUVWXYZ .'’-")  # what the name of who speaks is written in


def _traits_of(character: str) -> int:
    return (
        _IS_KNOWN
        | IS_LOWER * character.islower()
        | IS_UPPER * character.isupper()
        | IS_ALNUM * character.isalnum()
        | IS_DIGIT * character.isdigit()
        | IS_DECIMAL * character.isdecimal()
        | IS_STOP * (character in STOPS)
        | IS_OF_NAME * (character in _NAME)
    )


@cache
def _traits() -> "Ints":
    """The traits of the characters that were looked up so far, by their codes."""
    import numpy as np

    return np.zeros(0x110000, np.uint8)


def traits(codes: "Ints") -> "Ints":
    """The traits of characters (IS_LOWER and so on, as bits)."""
    import numpy as np

    table = _traits()
    found: Ints = table.take(codes)
    if not found.all():
        for code in np.unique(codes[found == 0]).tolist():
            table[code] = _traits_of(chr(code))
        found = table.take(codes)
    return found


def _encoded(text: str) -> tuple["Ints", str]:
    """The codes of the characters, and the encoding that holds them: the narrowest, for it is the
    memory that takes the time."""
    import numpy as np

    encodings = [("utf-16-le", "<u2", "ignore"), ("utf-32-le", "<u4", "surrogatepass")]
    if text.isascii():
        encodings.insert(0, ("ascii", "u1", "strict"))
    for encoding, kind, errors in encodings:
        codes = np.frombuffer(text.encode(encoding, errors), kind)
        if len(codes) == len(text):
            break
    return codes, encoding


# --- all lines ------------------------------------------------------------------------------------

_SPACE = ord(" ")
_DEEPEST = 60  # indent up to which the lines are looked at together


class Page:
    """A text, its lines that are not empty, and the blocks that these stand in.

    Line number n is `text[starts[n] : stops[n]]`; its first `indents[n]` characters are spaces,
    and none of its last ones is. Block number n holds the lines from `bounds[n]` up to, not with,
    `bounds[n + 1]`: at first, what stands between empty lines.
    """

    def __init__(self, text: str) -> None:
        """Tabs become spaces, spaces at the ends of lines go."""
        import numpy as np

        self._lay_out(text.expandtabs(8) if "\t" in text else text)
        if (self.codes[self.stops - 1] == _SPACE).any():
            self._lay_out("\n".join(map(str.rstrip, self.text.split("\n"))))
        self.lengths = self.stops - self.starts
        self.indents = self._measured_indents()
        self.begins = self.starts + self.indents
        is_bound = np.concatenate(([2], self.distances, [2]))[: len(self.starts) + 1] > 1
        self.bounds = np.flatnonzero(is_bound)
        self._told = np.full(len(self.starts), _UNTOLD)

    def _lay_out(self, text: str) -> None:
        import numpy as np

        self.text = text
        # Line ends behind the end, so that one may look two characters ahead from anywhere.
        self.codes, self.encoding = _encoded(f"{text}\n\n\n")
        stops = np.flatnonzero(self.codes[:-2] == ord("\n"))
        starts = np.concatenate(([0], stops[:-1] + 1))
        filled = np.flatnonzero(stops > starts)
        self.starts, self.stops = starts[filled], stops[filled]
        self.distances = np.diff(filled)  # from each line to the next: 1 where none lies between

    def _measured_indents(self) -> "Ints":
        import numpy as np

        indents = np.zeros(len(self.starts), np.int64)
        deeper = np.flatnonzero(self.codes[self.starts] == _SPACE)
        for depth in range(1, _DEEPEST):
            if not len(deeper):
                return indents
            indents[deeper] = depth
            deeper = deeper[self.codes[self.starts[deeper] + depth] == _SPACE]
        for line in deeper.tolist():
            indents[line] = indent_of(self.line(line))
        return indents

    # --- by number ---

    def line(self, number: int) -> str:
        return self.text[self.starts[number] : self.stops[number]]

    def lines(self, first: int, stop: int) -> Lines:
        """The lines from `first` up to, not with, `stop`, of one block."""
        return self.whole(first, stop).split("\n")

    def whole(self, first: int, stop: int) -> str:
        return self.text[self.starts[first] : self.stops[stop - 1]]

    def blocks(self) -> list[Lines]:
        ends = self.bounds.tolist()
        return [self.lines(*pair) for pair in pairwise(ends)]

    def regroup(self, blocks: Sequence[Lines]) -> None:
        """Parts the same lines as `blocks` does."""
        import numpy as np

        self.bounds = np.cumsum([0, *map(len, blocks)])

    # --- by array ---

    @cached_property
    def spaces(self) -> "Ints":
        """Where spaces stand; and the end of the text, so that there is one behind each word."""
        import numpy as np

        is_space = self.codes[: len(self.text) + 1] == _SPACE
        is_space[-1] = True
        return np.flatnonzero(is_space)

    @cached_property
    def surplus_spaces(self) -> "Ints":
        """Where spaces stand behind a space."""
        import numpy as np

        return self.spaces[1:][np.diff(self.spaces) == 1]

    def starts_of(self, lines: "Ints") -> "Ints":
        """What each of the lines starts with: SMALL, CAPITAL or NEUTRAL."""
        new = lines[self._told[lines] == _UNTOLD]
        if len(new):
            self._told[new] = self._tell_starts(new)
        return self._told[lines]

    def _tell_starts(self, lines: "Ints") -> "Ints":
        import numpy as np

        at = self.begins[lines]
        at = at + (traits(self.codes[at]) & IS_ALNUM == 0)  # behind a quotation mark
        first, second = traits(self.codes[at]), traits(self.codes[at + 1])
        is_letter = first & IS_ALNUM > 0
        is_capital = first & IS_UPPER > 0
        goes_on = second & (IS_LOWER | IS_ALNUM) == IS_LOWER | IS_ALNUM
        found = np.full(len(lines), _UNTOLD)
        found[is_letter & ~is_capital] = NEUTRAL
        found[is_letter & is_capital & goes_on] = CAPITAL
        found[is_letter & (first & IS_LOWER > 0)] = SMALL
        found[traits(self.codes[self.starts[lines]]) & IS_LOWER > 0] = SMALL
        untold = np.flatnonzero(found == _UNTOLD)
        found[untold] = [start_of(self.line(line)) for line in lines[untold].tolist()]
        return found

    def stop_at(self, lines: "Ints") -> "Bools":
        """Whether each of the lines ends in a punctuation mark."""
        last = self.stops[lines] - 1
        is_dash = (self.codes[last] == ord("-")) & (self.codes[last - 1] == ord("-"))
        return (traits(self.codes[last]) & IS_STOP > 0) | is_dash

    def fill(self, lines: "Ints", width: Any) -> "Bools":
        """Whether the first word of the line behind each of the lines would not have fitted into
        it. `width` is a number, or one for each of the lines."""
        import numpy as np

        room = width - self.lengths[lines] - 1
        begins = self.begins[lines + 1]
        ends = self.spaces[np.searchsorted(self.spaces, begins)]
        words = np.minimum(ends, self.stops[lines + 1]) - begins
        return (room < 1) | (words > room)

    def hang_at(self, lines: "Ints", hanging: frozenset[str]) -> "Bools":
        """Whether the last word of each of the lines is one of `hanging`."""
        import numpy as np

        starts, stops = self.starts[lines], self.stops[lines]
        above = np.searchsorted(self.spaces, stops)  # the number of spaces above each end
        behind = self.spaces[np.maximum(above, 1) - 1] + 1
        starts = np.where(above > 0, np.maximum(starts, behind), starts)
        words = zip(starts.tolist(), stops.tolist(), strict=True)
        return np.array([self.text[start:stop] in hanging for start, stop in words], bool)


def ranges(firsts: "Ints", stops: "Ints") -> tuple["Ints", "Ints"]:
    """The numbers from each of `firsts` up to, not with, its one of `stops`; and for each number,
    which of these it comes from."""
    import numpy as np

    counts = stops - firsts
    owners = np.repeat(np.arange(len(firsts)), counts)
    before = np.cumsum(counts) - counts
    return np.arange(len(owners)) + (firsts - before)[owners], owners


def counts_in(flags: "Bools", firsts: "Ints", stops: "Ints") -> "Ints":
    """How many of `flags` are set from each of `firsts` up to, not with, its one of `stops`."""
    import numpy as np

    sums = np.concatenate(([0], np.cumsum(flags)))
    counts: Ints = sums[stops] - sums[firsts]
    return counts

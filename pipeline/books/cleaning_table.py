"""The lines of a text in one table, for the rules that look at how lines begin or end, or for
single characters.

A pattern that begins with the start of a line, whatever comes before its first word, costs two
milliseconds a megabyte, and several rules would each pay them. One pass with numpy finds where all
lines begin, and the few that open as a rule wants are then looked at one by one.
"""

import re
from functools import cache, cached_property
from typing import Any

_MOST_ROUNDS = 100  # characters that are skipped everywhere at once; longer runs go one by one
OPENING = 5  # letters
_SHIFT = 6  # bits
_COMPARED = 3  # characters: to compare with more takes longer than to look in a table
_FEW = 2000  # characters: so many are found one by one, which is faster than to look at all
_MARGIN = "\n" * OPENING  # so that whatever stands a few characters further can be looked up


class LineTable:
    """Where the lines of a text begin, and what stands there first. Positions are those of the
    text. Letters are compared without case."""

    def __init__(self, text: str) -> None:
        self.text = text
        self.units = code_points(text)
        self._places: dict[str, list[int]] = {}

    @cached_property
    def _ends(self) -> Any:
        import numpy as np

        return np.flatnonzero(self.units[: len(self.text)] == ord("\n"))

    @cached_property
    def _starts(self) -> Any:
        import numpy as np

        return np.concatenate((np.zeros(1, self._ends.dtype), self._ends + 1))

    @cached_property
    def _firsts(self) -> Any:
        """Where in each line the first character stands that is no space."""
        return skip(self.text, self.units, self._starts, " ")

    @cached_property
    def _openings(self) -> Any:
        """Where in each line the first character stands that is no mark round headings either."""
        return skip(self.text, self.units, self._firsts, " _*=")

    @cached_property
    def _paragraphs(self) -> Any:
        """The numbers of the lines that stand at the top or below an empty line."""
        import numpy as np

        below = np.flatnonzero(self._ends[1:] - self._ends[:-1] == 1) + 2
        top = [0, 1] if self.text.startswith("\n") else [0]
        return np.concatenate((np.array(top, below.dtype), below))

    @cached_property
    def _keys(self) -> Any:
        """The first letters of each line, as one number. Different ones may give the same; the
        rules look at the lines anyway."""
        import numpy as np

        keys = np.zeros(len(self._openings), np.uint32)
        for offset in range(OPENING):
            keys <<= _SHIFT
            keys ^= self.units[self._openings + offset] | 32
        return _folded(keys)

    def opened(
        self, words: tuple[str, ...] = (), characters: str = "", *, paragraphs: bool = False
    ) -> list[int]:
        """The starts of the lines that begin with one of `words` (of `OPENING` letters), behind
        any of " _*=", or with one of `characters`, behind any spaces; and sometimes of one that
        does not. `paragraphs`: only lines with an empty one above them, whose marks stand before
        `characters` too."""
        lines = self._paragraphs if paragraphs else slice(None)
        wanted = _are_keys_of(words)[self._keys[lines]] if words else False
        if characters:
            firsts = self._openings if paragraphs else self._firsts
            wanted |= one_of(self.units[firsts[lines]], characters)
        starts: list[int] = self._starts[lines][wanted].tolist()
        return starts

    def closed(self, characters: str) -> list[int]:
        """The ends of the lines whose last character is one of `characters`."""
        ends = self._ends[1:] if self.text.startswith("\n") else self._ends
        closed: list[int] = ends[one_of(self.units[ends - 1], characters)].tolist()
        return closed

    @property
    def has_controls(self) -> bool:
        """Whether there are any control characters of ASCII but line ends."""
        import numpy as np

        units = self.units[: len(self.text)]
        return bool(np.count_nonzero(units < ord(" ")) > np.count_nonzero(units == ord("\n")))

    def places(self, characters: str) -> list[int]:
        """Where any of the characters stands, in order."""
        if characters not in self._places:
            found: list[int] = []
            for character in characters:
                at = self.text.find(character)
                while at >= 0 and len(found) <= _FEW:
                    found.append(at)
                    at = self.text.find(character, at + 1)
            is_all = len(found) <= _FEW
            self._places[characters] = sorted(found) if is_all else self._all(characters)
        return self._places[characters]

    def _all(self, characters: str) -> list[int]:
        """Where any of the characters stands, by a look at every place."""
        import numpy as np

        found: list[int] = np.flatnonzero(one_of(self.units[: len(self.text)], characters)).tolist()
        return found


def places_of(text: str, characters: str) -> list[int]:
    """Where any of the characters stands in a text, in order: at one look, though several rules
    ask for the same ones."""
    is_there = any(character in text for character in characters)
    return line_table(text).places(characters) if is_there else []


def skip(text: str, units: Any, places: Any, characters: str) -> Any:
    """The next places where none of the characters stands; `units` are the text's code points."""
    after = places.copy()
    moving = one_of(units[after], characters).nonzero()[0]
    for _ in range(_MOST_ROUNDS):
        if not len(moving):
            return after
        after[moving] += 1
        moving = moving[one_of(units[after[moving]], characters)]
    run = re.compile(f"[{re.escape(characters)}]*")
    for place in moving.tolist():
        after[place] = run.match(text, after[place]).end()  # type: ignore[union-attr]
    return after


def one_of(points: Any, characters: str) -> Any:
    """Which code points are those of the characters; for so few `np.isin` takes longer."""
    if len(characters) > _COMPARED and points.itemsize <= 2:
        return _are(characters).take(points)
    found = points == ord(characters[0])
    for character in characters[1:]:
        found |= points == ord(character)
    return found


@cache
def _are(characters: str) -> Any:
    """For each number of 16 bits, whether it is the code point of one of the characters."""
    import numpy as np

    found = np.zeros(1 << 16, bool)
    found[[ord(character) for character in characters]] = True
    return found


@cache
def _are_keys_of(words: tuple[str, ...]) -> Any:
    """For each key, whether it is that of one of the words."""
    import numpy as np

    keys = np.zeros(1 << 16, bool)
    for word in words:
        key = 0
        for letter in word:
            key = key << _SHIFT ^ (ord(letter) | 32)
        keys[_folded(key & 0xFFFFFFFF)] = True
    return keys


def _folded(key: Any) -> Any:
    """A number of 32 bits as one of 16."""
    return (key ^ key >> 16) & 0xFFFF


_latest: LineTable | None = None


def code_points(text: str) -> Any:
    """One number for each character, as narrow as they allow, and a margin of line ends."""
    import numpy as np

    latest = _latest  # of another thread, perhaps, which may change it at any moment
    if latest is not None and latest.text is text:
        return latest.units
    text += _MARGIN
    if text.isascii():
        return np.frombuffer(text.encode("ascii"), np.uint8)
    data = text.encode("utf-16-le", "surrogatepass")
    if len(data) == 2 * len(text):
        return np.frombuffer(data, "<u2")
    return np.frombuffer(text.encode("utf-32-le", "surrogatepass"), "<u4")


def line_table(text: str) -> LineTable:
    """The table of a text. The latest is kept, since most rules leave most texts as they are."""
    global _latest
    table = _latest
    if table is None or table.text is not text:
        _latest = table = LineTable(text)
    return table

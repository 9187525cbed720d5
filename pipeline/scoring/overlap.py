"""How much of what a model wrote is copied: the longest stretch that stands in a training text.

    for found in longest_overlap(samples, [("frankenstein", text), ...]):
        print(found.length, found.document, found.text)

Exact, and made for short samples and much text. All stretches of n units of the text are hashed at
once (n is one more than the longest that is known, so next to none of them is in a sample). Where
one is, the longest there is found by halving.
"""

import re
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

if TYPE_CHECKING:
    import numpy as np
    import numpy.typing as npt

    Values = npt.NDArray[np.uint64]
    Places = npt.NDArray[np.intp]

Unit = Literal["characters", "words"]

_PIECE = 1 << 18  # characters: what is hashed at once should stay in the processor's cache
_BASE = 0x9E3779B97F4A7C15  # odd, with its bits well mixed
_WORD_SPACE = re.compile(r"\s")
_SPACES = [c for c in range(0x3001) if chr(c).isspace()]


@dataclass(frozen=True)
class Overlap:
    """The longest stretch of a sample that stands in a document: `text`, as the sample has it,
    `length` characters or words. Of several as long it is the first; None if there is none."""

    length: int
    text: str
    document: str | None


def longest_overlap(
    samples: Sequence[str], documents: Iterable[tuple[str, str]], unit: Unit = "characters"
) -> list[Overlap]:
    """For each sample its longest stretch that stands in one of the documents, (id, text) each.

    Characters count as they are, case and blanks too. Words are what stands between blanks, so
    that it is all the same where lines are broken. Documents are read once, one after another.
    """
    values_of = _characters if unit == "characters" else _words
    sought = [_Sample(text, *values_of(text)) for text in samples]
    overlap = max((len(sample.values) for sample in sought), default=0)
    for block, starts, ids in _blocks(documents, lambda text: values_of(text)[0], unit, overlap):
        wanted = [sample for sample in sought if sample.best < len(sample.values)]
        if not wanted:
            break
        _search(block, starts, ids, wanted)
    return [sample.found() for sample in sought]


class _Sample:
    """A sample as numbers, and the longest stretch of it so far."""

    def __init__(self, text: str, values: "Values", spans: "npt.NDArray[np.intp] | None") -> None:
        self.text = text
        self.values = values
        self.grams = _Grams(values)
        self.best = 0
        self._spans = spans
        self._at = 0
        self._document: str | None = None

    def take(self, at: int, length: int, document: str) -> None:
        self._at, self.best, self._document = at, length, document

    def found(self) -> Overlap:
        if not self.best:
            return Overlap(0, "", None)
        first, last = self._at, self._at + self.best
        if self._spans is not None:
            first, last = int(self._spans[first, 0]), int(self._spans[last - 1, 1])
        return Overlap(self.best, self.text[first:last], self._document)


class _Grams:
    """Hashes of all runs of n values: those of powers of two are kept, others are put together."""

    def __init__(self, values: "Values") -> None:
        self._levels = [values]

    def __len__(self) -> int:
        return len(self._levels[0])

    def all(self, n: int) -> "Values":
        """Of every run of `n` values, in order."""
        import numpy as np

        count = len(self) - n + 1
        if count <= 0:
            return np.empty(0, np.uint64)
        return self._joined(n, lambda level, offset: level[offset : offset + count])

    def at(self, n: int, places: "Places") -> "Values":
        """Of the runs that begin at `places`."""
        return self._joined(n, lambda level, offset: level[places + offset])

    def _joined(self, n: int, part: "Callable[[Values, int], Values]") -> "Values":
        import numpy as np

        joined: Values | None = None
        offset = 0
        for power in reversed(range(n.bit_length())):
            if n >> power & 1:
                piece = part(self._level(power), offset)
                joined = piece if joined is None else joined * np.uint64(_power(power)) + piece
                offset += 1 << power
        assert joined is not None
        return joined

    def _level(self, power: int) -> "Values":
        import numpy as np

        while len(self._levels) <= power:
            half = 1 << len(self._levels) - 1
            last = self._levels[-1]
            shifted = last[:-half] * np.uint64(_power(len(self._levels) - 1))
            shifted += last[half:]
            self._levels.append(shifted)
        return self._levels[power]


def _power(power: int) -> int:
    """The base to the (2 to the `power`), modulo 2 to the 64."""
    return pow(_BASE, 1 << power, 1 << 64)


def _search(block: "Values", starts: list[int], ids: list[str], wanted: Sequence[_Sample]) -> None:
    """Look for something longer than what each sample has already."""
    import numpy as np

    n = min(sample.best for sample in wanted) + 1
    grams = _Grams(block)
    places = _among(grams.all(n), [sample.grams.all(n) for sample in wanted])
    for sample in wanted if len(places) else ():
        length, where = _longest(grams, sample, places)
        for place in where:
            run = block[place : place + length]
            at = int(np.argmax(sample.grams.all(length) == grams.at(length, place[None])[0]))
            if np.array_equal(run, sample.values[at : at + length]):  # and not only its hash
                number = int(np.searchsorted(starts, place, side="right")) - 1
                sample.take(at, length, ids[number])
                break


def _among(hashes: "Values", wanted: "Sequence[Values]") -> "Places":
    """Where in `hashes` one of the wanted is. A table of their first bits settles most cases."""
    import numpy as np

    sought = np.unique(np.concatenate(wanted))
    bits = min(22, max(16, (32 * len(sought)).bit_length()))
    shift = np.uint64(64 - bits)
    table = np.zeros(1 << bits, bool)
    table[sought >> shift] = True
    places = np.flatnonzero(table[hashes >> shift])
    return places[np.isin(hashes[places], sought)]


def _longest(grams: _Grams, sample: _Sample, places: "Places") -> "tuple[int, Places]":
    """The longest run beyond the sample's best that begins at one of `places`, and where."""
    import numpy as np

    def having(n: int, places: "Places") -> "Places":
        places = places[places <= len(grams) - n]
        return places[np.isin(grams.at(n, places), sample.grams.all(n))]

    length, where = sample.best + 1, having(sample.best + 1, places)
    if not len(where):
        return 0, where
    too_long, step = len(sample.values) + 1, 1
    while too_long - length > 1:
        # In growing steps as long as there is something, then by halving what is left.
        longer = length + step if step else (length + too_long) // 2
        longer = min(longer, too_long - 1)
        found = having(longer, where)
        if len(found):
            length, where, step = longer, found, 2 * step
        else:
            too_long, step = longer, 0
    return length, where


def _blocks(
    documents: Iterable[tuple[str, str]],
    values_of: "Callable[[str], Values]",
    unit: Unit,
    overlap: int,
) -> "Iterator[tuple[Values, list[int], list[str]]]":
    """The documents as numbers, small ones together, large ones in pieces that overlap.

    Yields (numbers, where each document begins, its id); between documents is a 0, which no sample
    has in it.
    """
    import numpy as np

    gap = np.zeros(1, np.uint64)
    parts: list[Values] = []
    starts: list[int] = []
    ids: list[str] = []
    size = 0
    for name, text in documents:
        tail = gap
        for piece in _pieces(text, unit):
            values = values_of(piece)
            starts.append(size)
            ids.append(name)
            parts += [tail, values]
            size += len(tail) + len(values)
            tail = np.concatenate([gap, np.concatenate([tail, values])[-overlap:]])
            if size >= _PIECE:
                yield np.concatenate(parts), starts, ids
                parts, starts, ids, size = [], [], [], 0
    if parts:
        yield np.concatenate(parts), starts, ids


def _pieces(text: str, unit: Unit) -> Iterator[str]:
    start = 0
    while start < len(text):
        end = start + _PIECE
        if unit == "words" and end < len(text):
            space = _WORD_SPACE.search(text, end)
            end = space.start() if space else len(text)
        yield text[start:end]
        start = end


def _characters(text: str) -> "tuple[Values, None]":
    """A number above 0 for each character."""
    import numpy as np

    return _code_points(text).astype(np.uint64) + np.uint64(1), None


def _words(text: str) -> "tuple[Values, Places]":
    """A number above 0 for each word, and from where to where it goes."""
    import numpy as np

    codes = _code_points(text)
    is_space = np.zeros(0x3002, bool)
    is_space[_SPACES] = True
    edges = np.diff(is_space[np.minimum(codes, 0x3001)], prepend=True, append=True)
    spans = np.flatnonzero(edges).reshape(-1, 2)
    if not len(spans):
        return np.empty(0, np.uint64), spans
    lengths = spans[:, 1] - spans[:, 0]
    # Each character times a power of the base by its place in the word, added up for each word.
    ends = np.cumsum(lengths)
    within = np.arange(ends[-1]) - np.repeat(ends - lengths, lengths)
    letters = codes[np.repeat(spans[:, 0], lengths) + within].astype(np.uint64) + np.uint64(1)
    powers = np.cumprod(np.full(lengths.max(), _BASE, np.uint64))
    return np.add.reduceat(letters * powers[within], ends - lengths) | np.uint64(1), spans


def _code_points(text: str) -> "npt.NDArray[np.uint32]":
    import numpy as np

    return np.frombuffer(text.encode("utf-32-le", "surrogatepass"), np.uint32)

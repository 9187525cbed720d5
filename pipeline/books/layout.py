"""How a text is laid out: how wide its lines are, and how its prose is broken.

Hard-wrapped prose breaks a line where the next word would not have fitted, goes on with a small
letter, seldom stops at the end of a line, and breaks after words like "the" as gladly as after
others; verse does the opposite of each. How far a file's own prose does so is measured first,
since many files of the 1990s were broken by the sense.
"""

from collections import Counter
from dataclasses import dataclass, replace
from functools import cached_property
from math import log
from typing import TYPE_CHECKING

from pipeline.books.lines import CAPITAL, NEUTRAL, SMALL, Page, ranges

if TYPE_CHECKING:
    from pipeline.books.lines import Bools, Floats, Ints

SLACK = 6  # characters by which a full line may be short: underscores and marks are gone from it
LONG_LINE = 200  # no file wraps wider; longer lines are whole paragraphs
_BLOCKS_TO_MEASURE = 160  # taken evenly from all over the text
_BLOCKS_TO_READ = 30  # of these, for the words that no line of verse ends in


@dataclass(frozen=True)
class Rates:
    """How the lines of a kind of text break: the share of line breaks at which the next word would
    not have fitted, and the shares at which a small letter or a capital follows, where the line
    above stops (ends in a punctuation mark) and where it does not. These two go together: prose
    has its capitals mostly behind a full stop. `hanging` is the share of the lines without a stop
    that end in a word which belongs to the next, as articles do."""

    full: float
    small: float
    small_after_stop: float
    capital: float
    capital_after_stop: float
    hanging: float = 0.4

    @property
    def stops_often(self) -> bool:
        """As verse with small letters does, of whose lines the half and more end in a punctuation
        mark. In prose, a third of those do so that a small letter follows."""
        return self.small_after_stop > self.small

    def likelihoods(self) -> "Floats":
        """How likely each kind of line break (see `break_kinds`) is in such a text."""
        import numpy as np

        starts = [
            [self.small, self.small_after_stop],
            [self.capital, self.capital_after_stop],
            [1, 1],
        ]
        full = [[1 - self.full], [self.full]]
        hangs = [[[1 - self.hanging, self.hanging]], [[1, 1]]]  # where it stops, it cannot
        found: Floats = np.array(starts)[:, :, None, None] * np.array(hangs) * np.array(full)
        return found.ravel()


# Measured on Leaves of Grass, Beowulf, Faust and The Raven; prose on forty novels.
_VERSE = Rates(0.2, 0.03, 0.03, 0.26, 0.68, hanging=0.05)
_USUAL_PROSE = Rates(0.7, 0.73, 0.12, 0.05, 0.1)
_RAREST = 0.03  # a rate measured lower than this is not trusted
_RAREST_IN_VERSE = 0.01
WIDE = 0.9  # share of the width
_WIDE_IN_PROSE, _RAREST_WIDE = 0.8, 0.1  # shares of the paragraphs with a line of that
_OFTEN_WIDE = 0.5  # verse that is wide that often tells nothing by it
_GREEDY = 0.7  # share of full lines from which on a file's prose was wrapped by a program


@dataclass(frozen=True)
class Layout:
    """How a text is laid out.

    `width` is that of its lines, in characters, and `margin` the usual indent; `prose` says how
    its prose is broken, `small_in_verse` how often its verse goes on with a small letter, and
    `wide_in_verse` how many of its stanzas have a line nearly as wide as that. It is mostly
    `verse`, or `narrow`: in lines so short, or stopped so often, that verse with small letters
    could pass for prose. At the indents `continued`, verse too long for the page goes on. The
    words `hanging` belong to the word behind them. `wrapped` is False where most paragraphs are
    lines already, `long_lines` is True where some are."""

    width: int
    prose: Rates = _USUAL_PROSE
    verse: bool = False
    narrow: bool = False
    continued: frozenset[int] = frozenset()
    hanging: frozenset[str] = frozenset()
    wrapped: bool = True
    margin: int = 0
    long_lines: bool = False
    small_in_verse: float = _VERSE.small
    wide_in_verse: float = 1.0

    @property
    def is_greedy(self) -> bool:
        """Each line of prose is as full as it can be."""
        return self.prose.full >= _GREEDY

    @property
    def weight_of_wide(self) -> float:
        """How much a line of at least WIDE speaks for prose, in a file that is mostly verse."""
        wide = max(_RAREST_WIDE, self.wide_in_verse)
        return log(_WIDE_IN_PROSE / wide) if wide < _OFTEN_WIDE else 0.0

    @cached_property
    def weights(self) -> "Floats":
        """How much each kind of line break (see `break_kinds`) speaks for prose (above 0) or for
        verse (below)."""
        import numpy as np

        small = self.small_in_verse
        verse = replace(_VERSE, small=small, small_after_stop=small)
        weights: Floats = np.log(self.prose.likelihoods() / verse.likelihoods())
        return weights


def break_kinds(page: Page, above: "Ints", layout: Layout) -> "Ints":
    """What each line break below the lines `above` tells: 8 x the start of the next line, + 4
    where the line stops, + 2 where it is full, + 1 where it hangs."""
    stopped = page.stop_at(above)
    kinds = 8 * page.starts_of(above + 1) + 4 * stopped + 2 * page.fill(above, layout.width - SLACK)
    if layout.hanging:
        kinds[~stopped] += page.hang_at(above[~stopped], layout.hanging)
    return kinds


def measure(page: Page) -> Layout:
    """The layout of a text, from its paragraphs of several lines."""
    import numpy as np

    longest = int(page.lengths.max(initial=0))
    firsts, stops = page.bounds[:-1], page.bounds[1:]
    several = np.flatnonzero(stops - firsts > 2)
    if not len(several):
        return Layout(72, wrapped=longest <= LONG_LINE)
    sample = several[:: len(several) // _BLOCKS_TO_MEASURE + 1]
    firsts, stops = firsts[sample], stops[sample]
    lengths = page.lengths[ranges(firsts, stops)[0]]
    lengths = np.sort(lengths[lengths <= LONG_LINE])
    width = max(40, int(lengths[int(0.98 * (len(lengths) - 1))])) if len(lengths) else LONG_LINE
    is_prose = (stops - firsts > 3) & _are_often_small(page, firsts, stops)
    is_verse = bool((stops - firsts)[is_prose].sum() < 0.3 * len(lengths))
    if longest > LONG_LINE and (is_verse or _is_mostly_long(page)):
        return Layout(longest, wrapped=False)
    above, _ = ranges(firsts[is_prose], stops[is_prose] - 1)
    rates = _rates(np.bincount(break_kinds(page, above, Layout(width)), minlength=24))
    continued = _continued_indents(page, firsts, stops, width)
    small, wide = _VERSE.small, 1.0
    if is_verse:
        stanzas = page, firsts[~is_prose], stops[~is_prose]
        small, wide = _small_in_verse(*stanzas, continued), _wide_in_verse(*stanzas, width)
    every = len(sample) // _BLOCKS_TO_READ + 1
    return Layout(
        width,
        rates,
        verse=is_verse,
        narrow=(width < 50 and rates.full < 0.85) or (rates.stops_often and not is_verse),
        continued=continued,
        hanging=_hanging_words(page, firsts[::every], stops[::every]),
        margin=Counter(page.indents[firsts + 1].tolist()).most_common(1)[0][0],
        long_lines=longest > LONG_LINE,
        small_in_verse=small,
        wide_in_verse=wide,
    )


def _small_in_verse(page: Page, firsts: "Ints", stops: "Ints", continued: frozenset[int]) -> float:
    """How often the lines of a file's own verse start with a small letter, where it is seldom."""
    import numpy as np

    lines, _ = ranges(firsts + 1, stops)
    lines = lines[~np.isin(page.indents[lines], list(continued))]
    small = np.count_nonzero(page.starts_of(lines) == SMALL)
    return float(min(_VERSE.small, max(_RAREST_IN_VERSE, small / max(1, len(lines)))))


def _wide_in_verse(page: Page, firsts: "Ints", stops: "Ints", width: int) -> float:
    """The share of a file's stanzas that have a line nearly as wide as its widest."""
    import numpy as np

    lines, owners = ranges(firsts, stops)
    wide = np.unique(owners[page.lengths[lines] >= WIDE * width])
    return len(wide) / max(1, len(firsts))


def _is_mostly_long(page: Page) -> bool:
    """Most of the text stands in long lines. (A stray one among wrapped prose says nothing.)"""
    lengths = page.lengths
    return bool(2 * lengths[lengths > LONG_LINE].sum() > lengths.sum())


def _rates(seen: "Ints") -> Rates:
    """The rates of a file's own prose, in which there are so many line breaks of each kind."""
    counts = seen.reshape(3, 2, 2, 2)  # by start, stopped, full, hangs
    total = int(counts[:NEUTRAL].sum())
    if total < 20:
        return _USUAL_PROSE

    def share(start: int, stopped: bool) -> float:
        return max(_RAREST, int(counts[start, int(stopped)].sum()) / total)

    return Rates(
        min(0.92, max(0.05, int(counts[:, :, 1].sum()) / int(counts.sum()))),
        share(SMALL, False),
        share(SMALL, True),
        share(CAPITAL, False),
        share(CAPITAL, True),
    )


def _are_often_small(page: Page, firsts: "Ints", stops: "Ints") -> "Bools":
    return small_starts(page, firsts, stops) >= 0.34 * (stops - firsts - 1)


def small_starts(page: Page, firsts: "Ints", stops: "Ints") -> "Ints":
    """How many lines of each block, but its first, start with a small letter."""
    import numpy as np

    lines, owners = ranges(firsts + 1, stops)
    return np.bincount(owners[page.starts_of(lines) == SMALL], minlength=len(firsts))


def _continued_indents(page: Page, firsts: "Ints", stops: "Ints", width: int) -> frozenset[int]:
    """The indents at which verse too long for the page goes on, mostly with a small letter; at
    those of refrains it does not."""
    import numpy as np

    lines, _ = ranges(firsts, stops)
    if page.indents[lines].max() < 3:
        return frozenset()
    heads = np.cumsum(stops - firsts) - (stops - firsts)
    base = np.minimum.reduceat(page.indents[lines], heads)
    above, owners = ranges(firsts, stops - 1)
    above = above[page.indents[above + 1] >= base[owners] + 3]
    above = above[page.fill(above, width - 2 * SLACK)]
    is_small = page.starts_of(above + 1) == SMALL
    small = Counter(page.indents[above[is_small] + 1].tolist())
    capital = Counter(page.indents[above[~is_small] + 1].tolist())
    return frozenset(indent for indent in small if small[indent] > max(2, capital[indent]))


def _hanging_words(page: Page, firsts: "Ints", stops: "Ints") -> frozenset[str]:
    """Small words that are frequent and never stand before a punctuation mark: articles,
    prepositions, conjunctions of whatever language."""
    blocks = zip(firsts.tolist(), stops.tolist(), strict=True)
    words = Counter(" ".join(page.whole(first, stop) for first, stop in blocks).split())
    frequent = [word for word, count in words.items() if count >= 6]
    small = [word for word in frequent if word.islower() and word.isalpha()]
    stopped = [sum([words.get(word + mark, 0) for mark in ",.;:!?"]) for word in small]
    pairs = zip(small, stopped, strict=True)
    return frozenset([word for word, count in pairs if count <= 0.03 * words[word]])

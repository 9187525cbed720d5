"""Are the lines of a paragraph wrapped prose, or lines that someone set on purpose (verse, a play,
a list, a title page)?

Hard-wrapped prose breaks a line where the next word would not have fitted, goes on with a small
letter, and seldom stops at the end of a line; verse does the opposite of each. How far a file's
own prose does so is measured first, since many files of the 1990s were broken by the sense. Each
line break is then weighed as evidence: naive Bayes, with the file's own rates for prose.
"""

import re
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from enum import Enum, auto
from itertools import pairwise
from math import log

Lines = list[str]

_SLACK = 6  # characters by which a full line may be short: underscores and marks are gone from it
_LONGEST_WRAPPED = 120  # no file wraps wider; longer lines are whole paragraphs
_BLOCKS_TO_MEASURE = 600  # taken evenly from all over the text


class Shape(Enum):
    """What the line breaks of a paragraph are."""

    PROSE = auto()  # wraps, to be undone
    LINES = auto()  # meant, to be kept
    UNSURE = auto()  # as its neighbours are


@dataclass(frozen=True)
class Rates:
    """How the lines of a kind of text break: the share of line breaks at which the next word would
    not have fitted, and the shares at which a small letter or a capital follows, where the line
    above stops (ends in a punctuation mark) and where it does not. These two go together: prose
    has its capitals mostly behind a full stop."""

    full: float
    small: float
    small_after_stop: float
    capital: float
    capital_after_stop: float

    def of(self, small: bool, stopped: bool) -> float:
        if small:
            return self.small_after_stop if stopped else self.small
        return self.capital_after_stop if stopped else self.capital


# Measured on Leaves of Grass, Beowulf, Faust and The Raven; prose on forty novels.
_VERSE = Rates(0.25, small=0.03, small_after_stop=0.03, capital=0.26, capital_after_stop=0.68)
_USUAL_PROSE = Rates(0.7, small=0.73, small_after_stop=0.12, capital=0.05, capital_after_stop=0.1)
_RAREST = 0.03  # a rate measured lower than this is not trusted
# Before a paragraph is looked at: in a novel, one in a hundred is verse.
_PRIOR_IN_PROSE = 3.0
_PRIOR_IN_VERSE = -2.0


@dataclass(frozen=True)
class Layout:
    """How a text is laid out: the width of its lines, how its prose is broken, whether it is
    mostly verse, and at which indents verse too long for the page goes on."""

    width: int
    prose: Rates = _USUAL_PROSE
    verse: bool = False
    continued: frozenset[int] = frozenset()

    @property
    def wrapped(self) -> bool:
        """False where paragraphs are lines already."""
        return self.width <= _LONGEST_WRAPPED


def indent_of(line: str) -> int:
    return len(line) - len(line.lstrip(" "))


def first_letter(line: str) -> str:
    """The first letter or digit of a line, behind quotation marks and the like; or nothing."""
    for character in line:
        if character.isalnum():
            return character
    return ""


def _starts_small(line: str) -> bool:
    return line[:1].islower() or first_letter(line).islower()


def _fills(line: str, following: str, width: int) -> bool:
    """Whether the first word of the next line would not have fitted into this one."""
    room = width - len(line) - 1
    if room < 1:
        return True
    word = following.lstrip(" ")
    end = word.find(" ")
    return (len(word) if end < 0 else end) > room


_STOPS = (".", ",", "!", "?", ";", ":", '"', "”", "'", "’", "--", "—", ")")


Event = tuple[bool, bool, bool]


def _evidence(lines: Lines, width: int, skip: frozenset[int] = frozenset()) -> Iterator[Event]:
    """For each line break: does a small letter follow, is the line full, does it end in a stop.
    Breaks before the indents in `skip` are no evidence."""
    for line, following in pairwise(lines):
        if skip and indent_of(following) in skip:
            continue
        full = _fills(line, following, width - _SLACK)
        yield _starts_small(following), full, line.endswith(_STOPS)


def measure(blocks: Sequence[Lines]) -> Layout:
    """The layout of a text, from its paragraphs of several lines."""
    longest = max((max(map(len, block)) for block in blocks), default=0)
    if longest > 3 * _LONGEST_WRAPPED:
        return Layout(longest)
    several = [block for block in blocks if len(block) > 2]
    sample = several[:: len(several) // _BLOCKS_TO_MEASURE + 1]
    lengths = sorted(len(line) for block in sample for line in block)
    width = max(40, lengths[int(0.98 * (len(lengths) - 1))]) if lengths else 72
    prose = [block for block in sample if len(block) > 3 and _is_mostly_small(block)]
    breaks = sum(map(len, sample))
    seen = Counter(event for block in prose for event in _evidence(block, width))
    return Layout(
        width,
        _rates(seen),
        breaks > 0 and sum(map(len, prose)) < 0.3 * breaks,
        _continued_indents(sample, width),
    )


def _rates(seen: Counter[Event]) -> Rates:
    """The rates of a file's own prose, of which `seen` counts the line breaks."""
    total = seen.total()
    if total < 20:
        return _USUAL_PROSE

    def share(small: bool, stopped: bool) -> float:
        return max(_RAREST, sum(seen[small, full, stopped] for full in (True, False)) / total)

    full = sum(count for (_, full, _), count in seen.items() if full) / total
    return Rates(
        min(0.95, max(0.05, full)),
        share(True, False),
        share(True, True),
        share(False, False),
        share(False, True),
    )


def _is_mostly_small(block: Lines) -> bool:
    return 2 * sum(map(_starts_small, block[1:])) >= len(block) - 1


def _continued_indents(blocks: Iterable[Lines], width: int) -> frozenset[int]:
    """The indents at which verse too long for the page goes on, mostly with a small letter; at
    those of refrains it does not."""
    small: Counter[int] = Counter()
    capital: Counter[int] = Counter()
    for block in blocks:
        if not any(line.startswith("   ") for line in block[1:]):
            continue
        base = min(map(indent_of, block))
        for line, following in pairwise(block):
            indent = indent_of(following)
            if indent >= base + 3 and _fills(line, following, width - 2 * _SLACK):
                (small if _starts_small(following) else capital)[indent] += 1
    return frozenset(indent for indent in small if small[indent] > max(2, capital[indent]))


_COLUMNS = re.compile(r"\S {3,}\S")
_SHORTEST_SHARE = 0.62  # of the width: a paragraph of prose has a longer line than that


def judge(lines: Lines, layout: Layout) -> Shape:
    """The shape of a paragraph of two lines or more."""
    if _is_plain_prose(lines, layout):
        return Shape.PROSE
    if 2 * sum(1 for line in lines if _COLUMNS.search(line)) > len(lines):
        return Shape.LINES
    indents = set(map(indent_of, lines))
    if len(indents) > max(3, len(lines) // 4):
        return Shape.LINES  # set as a shape, as the mouse's tale is
    too_short = max(map(len, lines[:-1])) < _SHORTEST_SHARE * layout.width
    if too_short and not _is_narrow_prose(lines):
        return Shape.LINES
    prose = layout.prose
    score = _PRIOR_IN_VERSE if layout.verse else _PRIOR_IN_PROSE
    for small, full, stopped in _evidence(lines, layout.width, layout.continued):
        score += log(prose.of(small, stopped) / _VERSE.of(small, stopped))
        if full:
            score += log(prose.full / _VERSE.full)
        else:
            score += log((1 - prose.full) / (1 - _VERSE.full))
    if abs(score) < 1:
        return Shape.UNSURE
    return Shape.PROSE if score > 0 else Shape.LINES


def _is_plain_prose(lines: Lines, layout: Layout) -> bool:
    """What nearly all paragraphs of nearly all books are, told cheaply."""
    if len(lines) < 3 or len(lines[0]) < 0.75 * layout.width or layout.verse:
        return False
    small = 0
    for line in lines[1:]:
        first = line[0]
        if first == " ":
            return False
        small += first.islower()
    return 3 * small >= 2 * (len(lines) - 1)


def _is_narrow_prose(lines: Lines) -> bool:
    """A quotation set narrower than the rest: its lines fill a width of their own."""
    if len(lines) < 4 or not _is_mostly_small(lines):
        return False
    own_width = max(map(len, lines))
    if own_width - indent_of(lines[1]) < 30:
        return False
    full = sum(full for _, full, _ in _evidence(lines, own_width + _SLACK - 2))
    return full >= 0.8 * (len(lines) - 1)

"""Cleaning rules for how lines were printed: the numbers of pages and of lines of verse, and words
broken at the end of a line. Each returns the changed text and how many things it changed."""

import re
from collections.abc import Iterator
from functools import cache
from itertools import pairwise
from statistics import median
from typing import Any

from pipeline.books.cleaning_table import code_points, line_table

# --- page numbers ---------------------------------------------------------------------------------

_PAGE_LINE = re.compile(
    r"[ ]*(?:(?P<bare>\d{1,4})|[-–—]{1,2}[ ]?(?P<dashes>\d{1,4})[ ]?[-–—]{1,2}"
    r"|\|[ ]?(?P<bars>\d{1,4})[ ]?\||(?:page|pg\.?|p\.)[ ]?(?P<word>\d{1,4}))(?=\n)",
    re.I,
)
_LONGEST_LINE = 60  # characters, most of them an indent
_FEWEST_PAGES = 10
_MOST_SKIPPED = 4  # the step to the next number: plates and the first pages of chapters have none
_COUNTED = 0.75  # the share of the steps that are by one
_PARTED = 0.25  # the share of the numbers that stand in mid-sentence: no chapter's, no poem's does
_SHORTEST_PAGE = 500  # characters, in the middle; verses of Scripture are shorter
_LONGEST_PAGE = 8000
_MOST_SERIES = 8  # volumes in one file, each of which counts anew


def remove_bare_page_numbers(text: str) -> tuple[str, int]:
    """12, - 12 -, |12| and Page 12 in a line by itself: numbers that count through a book as far
    apart as pages are, and part its sentences."""
    hits = list(_lines_of_number(text))
    forms = {hit.form for hit in hits}
    pages = [hit for form in sorted(forms) for hit in _pages(hits, form)]
    if not pages:
        return text, 0
    pieces = []
    position = 0
    for hit in sorted(pages, key=lambda hit: hit.start):
        above, below = hit.gap_above, hit.gap_below
        pieces.append(text[position : max(position, hit.start - above)])
        pieces.append("\n" if hit.parts_sentence else "\n" * max(above, below))
        position = hit.end + below
    return "".join(pieces) + text[position:], len(pages)


class _NumberLine:
    """A line with a number and nothing else, and how it stands between its neighbours."""

    def __init__(self, text: str, match: re.Match[str]) -> None:
        self.start, self.end = match.span()
        self.form = str(match.lastgroup)
        self.number = int(match[self.form])
        left, right = self.start, self.end
        while left and text[left - 1] == "\n":
            left -= 1
        while right < len(text) and text[right] == "\n":
            right += 1
        self.gap_above, self.gap_below = self.start - left, right - self.end
        before, behind = text[max(0, left - 1) : left], text[right : right + 40].lstrip()[:1]
        self.parts_sentence = (before.islower() or before in (",", ";", "-")) and behind.islower()


def _lines_of_number(text: str) -> Iterator[_NumberLine]:
    for end in line_table(text).closed("0123456789-–—|"):
        start = text.rfind("\n", max(0, end - _LONGEST_LINE), end) + 1
        if start or end < _LONGEST_LINE:
            match = _PAGE_LINE.match(text, start)
            if match and match.end() == end:
                yield _NumberLine(text, match)


def _pages(hits: list[_NumberLine], form: str) -> Iterator[_NumberLine]:
    """Those of the numbers of one form that belong to a series that counts pages."""
    left = [hit for hit in hits if hit.form == form]
    for _ in range(_MOST_SERIES):
        series = _longest_series(left)
        if len(series) < _FEWEST_PAGES:
            return
        taken = set(series)
        left = [hit for hit in left if hit not in taken]
        if _count_pages(series):
            yield from _without_headings(series)


def _longest_series(hits: list[_NumberLine]) -> list[_NumberLine]:
    """The longest run, in the order of the text, in which each number is a little larger than the
    one before; other numbers may stand between, such as those of chapters."""
    best: dict[int, tuple[int, _NumberLine]] = {}  # the length of the best run that ends so
    previous: dict[_NumberLine, _NumberLine] = {}
    longest: tuple[int, _NumberLine] | None = None
    for hit in hits:
        before = max(
            (
                best[hit.number - step]
                for step in range(1, _MOST_SKIPPED + 1)
                if hit.number - step in best
            ),
            key=lambda found: found[0],
            default=None,
        )
        length = before[0] + 1 if before else 1
        if before:
            previous[hit] = before[1]
        if hit.number not in best or best[hit.number][0] <= length:
            best[hit.number] = (length, hit)
        if longest is None or length > longest[0]:
            longest = (length, hit)
    series = [longest[1]] if longest else []
    while series and series[-1] in previous:
        series.append(previous[series[-1]])
    return series[::-1]


def _count_pages(series: list[_NumberLine]) -> bool:
    """Whether numbers that rise stand as far apart as pages are long, and in mid-sentence."""
    steps = [after.number - hit.number for hit, after in pairwise(series)]
    lengths = [
        (after.start - hit.start) / step
        for (hit, after), step in zip(pairwise(series), steps, strict=True)
    ]
    parted = sum(hit.parts_sentence for hit in series)
    return (
        steps.count(1) >= _COUNTED * len(steps)
        and _SHORTEST_PAGE <= median(lengths) <= _LONGEST_PAGE
        and parted >= _PARTED * len(series)
    )


def _without_headings(series: list[_NumberLine]) -> list[_NumberLine]:
    """The numbers less those that may head a chapter: they part no sentence, and open or close the
    series or stand below a wider gap than the others do."""
    widest = 1 + max(hit.gap_above for hit in series if hit.parts_sentence)
    inner = set(series[1:-1])
    return [
        hit for hit in series if hit.parts_sentence or (hit in inner and hit.gap_above <= widest)
    ]


# --- line numbers ---------------------------------------------------------------------------------

_NUMBER_AT_END = re.compile(r"  (\d{0,4}[05])(?=\n)")
_LONGEST_NUMBER = 5  # digits
_NUMBER_AT_START = re.compile(r"\n[ ]*(\d{0,4}[05])[ ]+(?=[^\s\d])")
_NUMBERED = re.compile(r"^[ ]*\d{1,5}\b|[ ]\d{1,5}$")
_FEWEST = 4  # numbers in a row that count lines
_STEPS = (5, 10)


def remove_line_numbers(text: str) -> tuple[str, int]:
    """The numbers that verse carries at every fifth or tenth line, before it or far behind it.
    Only where they count the lines between them."""
    hits = _numbers_at_end(text)
    spans = _counting(hits) if {"10", "20"} <= {match[1] for match in hits} else []
    if not spans:
        hits = _numbers_at_start(text)
        if len(hits) >= _FEWEST and all(
            f" {n} " in text or f"\n{n} " in text for n in (10, 20, 30)
        ):
            spans = _counting(hits)
    pieces = []
    position = 0
    for start, end in spans:
        # The indent stays as wide as it was, since it shapes the stanza.
        at_line_start = not text[text.rfind("\n", 0, start) + 1 : start].strip()
        pieces += [text[position:start], " " * (end - start) if at_line_start else ""]
        position = end
    return ("".join(pieces) + text[position:], len(spans)) if spans else (text, 0)


def _numbers_at_end(text: str) -> list[re.Match[str]]:
    hits = []
    for end in line_table(text).closed("05"):
        start = text.rfind("  ", max(0, end - _LONGEST_NUMBER - 2), end)
        match = _NUMBER_AT_END.match(text, start) if start >= 0 else None
        if match and match.end() == end:
            hits.append(match)
    return hits


def _numbers_at_start(text: str) -> list[re.Match[str]]:
    starts = line_table(text).opened(characters="0123456789")
    hits = (_NUMBER_AT_START.match(text, start - 1) for start in starts if start)
    return [match for match in hits if match]


def _counting(hits: list[re.Match[str]]) -> list[tuple[int, int]]:
    """The spans of the numbers that stand in runs in which each counts the lines since the last."""
    spans: list[tuple[int, int]] = []
    run: list[re.Match[str]] = hits[:1]
    for before, match in pairwise(hits):
        if _follows(match.string, before, match):
            run.append(match)
            continue
        spans += _spans_of(run)
        run = [match]
    return spans + _spans_of(run)


def _follows(text: str, before: re.Match[str], match: re.Match[str]) -> bool:
    step = int(match[1]) - int(before[1])
    fresh = int(match[1]) in _STEPS and step <= 0  # the count begins again with a new part
    if step not in _STEPS and not fresh:
        return False
    between = text[before.end(1) : match.start(1)]
    if len(between) > 120 * 10 * _FEWEST:
        return False
    lines = [line for line in between.split("\n")[1:] if line.strip()]
    numbered = sum(1 for line in lines if _NUMBERED.search(line))
    if 4 * numbered > len(lines):
        return False  # a list or a table, in which every line has its number
    if fresh:
        return len(lines) <= 4 * int(match[1])
    # Titles, notes and lines that were too long for the page may stand between.
    return step - 1 <= len(lines) <= 3 * step


def _spans_of(run: list[re.Match[str]]) -> list[tuple[int, int]]:
    if len(run) < _FEWEST:
        return []
    if run[0].re is _NUMBER_AT_END:
        return [(_end_of_words(match.string, match.start()), match.end()) for match in run]
    return [match.span(1) for match in run]


def _end_of_words(text: str, position: int) -> int:
    """Where the spaces begin that end at a position."""
    while position and text[position - 1] == " ":
        position -= 1
    return position


# --- words broken at the end of a line ------------------------------------------------------------

# From the hyphen on.
_BREAK = re.compile(r"-\n(?<=[^\W\d_]-\n)[ ]*([^\W\d_]+)([^\s\-]*)[ ]?")
_WORD = re.compile(r"[^\W\d_]+(?:-[^\W\d_]+)*")


def join_broken_words(text: str) -> tuple[str, int]:
    """A word that a wrap broke becomes whole, if the book has it whole elsewhere and nowhere with
    a hyphen. Other hyphens at the end of a line belong to their words and stay."""
    matches = (_BREAK.match(text, end - 1) for end in line_table(text).closed("-"))
    breaks = [
        (_letters_before(text, match.start()).lower(), match)
        for match in matches
        if match and match[1].islower()
    ]
    if not breaks:
        return text, 0
    known = _known_forms(text, {(first, match[1]) for first, match in breaks})
    pieces = []
    position = count = 0
    for first, match in breaks:
        if first + match[1] not in known or f"{first}-{match[1]}" in known:
            continue
        count += 1
        # The rest of the word moves up, so that the lines stay lines.
        at_end = text[match.end() : match.end() + 1] in ("", "\n")
        pieces += [text[position : match.start()], match[1], match[2], "" if at_end else "\n"]
        position = match.end()
    return ("".join(pieces) + text[position:], count) if count else (text, 0)


_LONGEST_WORD = 40


def _letters_before(text: str, position: int) -> str:
    start = position
    while start and position - start < _LONGEST_WORD and text[start - 1].isalpha():
        start -= 1
    return text[start:position]


_FEW_SEARCHES = 8  # a search for one word costs a third of a millisecond a megabyte
_MOST_SEARCHES = 100


def _known_forms(text: str, candidates: set[tuple[str, str]]) -> set[str]:
    """Which of the broken words stand in the text, whole or with a hyphen within a line."""
    whole = {first + second for first, second in candidates}
    wanted = whole | {f"{first}-{second}" for first, second in candidates}
    if _FEW_SEARCHES < len(whole) <= _MOST_SEARCHES and all(
        max(word) < "\u0100" for word in wanted
    ):
        return _words_in(text, wanted)
    text = text.lower()
    if len(whole) <= _MOST_SEARCHES:
        whole = {word for word in whole if _has_word(text, word)}
        hyphened = {f"{a}-{b}" for a, b in candidates if a + b in whole}
        return whole | {word for word in hyphened if _has_word(text, word)}
    return wanted.intersection(_WORD.findall(text))


def _has_word(text: str, word: str) -> bool:
    at = text.find(word)
    while at >= 0:
        end = at + len(word)
        if not _goes_on(text[at - 1 : at]) and not _goes_on(text[end : end + 1]):
            return True
        at = text.find(word, end)
    return False


def _goes_on(character: str) -> bool:
    return character.isalpha() or character == "-"


def _words_in(text: str, wanted: set[str]) -> set[str]:
    """Which of some words (in small letters of Latin-1, with hyphens) stand in a text: in one pass
    over all runs of letters and hyphens, of which those are looked at that may be one of them."""
    import numpy as np

    units = code_points(text)
    inside = _letters_and_hyphen()[units if units.itemsize < 4 else np.minimum(units, 0xFFFF)]
    edges = np.flatnonzero(inside[1:] != inside[:-1]) + 1
    if inside[0]:
        edges = np.concatenate((np.zeros(1, edges.dtype), edges))
    starts, lengths = edges[::2], edges[1::2] - edges[::2]
    likely = np.zeros(1 << 16, bool)
    likely[[_run_key(len(word), *map(ord, word[:2])) for word in wanted]] = True
    keys = _run_key(lengths, units[starts].astype(np.int64), units[starts + 1])
    places = likely[keys].nonzero()[0]
    runs = zip(starts[places].tolist(), lengths[places].tolist(), strict=True)
    return wanted.intersection(text[start : start + length].lower() for start, length in runs)


def _run_key(length: Any, first: Any, second: Any) -> Any:
    """A number below 1 << 16 for a run's length and its first letters, whatever their case."""
    return (length << 10 ^ (first | 32) << 5 ^ (second | 32)) & 0xFFFF


@cache
def _letters_and_hyphen() -> Any:
    import numpy as np

    return np.array([_goes_on(chr(code)) for code in range(1 << 16)])

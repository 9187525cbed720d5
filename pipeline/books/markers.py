"""The paragraphs of a text, and the Project Gutenberg markers that stand among them."""

import re
from bisect import bisect_left, bisect_right
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from enum import Enum, auto
from functools import cached_property

from pipeline.books import boilerplate_patterns as pg
from pipeline.books.outline import Outline, fold
from pipeline.books.searching import bracket_pairs, outermost

_LONGEST_SMALL_PRINT = 30_000
_LONGEST_BRACKET = 4000
_LONGEST_MATCH = 1000  # of a pattern that is not bound to one line
_LONGEST_WORD = 12  # "proyecto", of the name of the project
LONGEST_TITLE = 150
_PROSE = 200  # characters of a paragraph that is no heading
_MANY_MENTIONS = 8
_SENTENCE_ENDS = ".!?\"”'»)"

_SAID = re.compile(r"\W{0,4}?[\"“„«][^\"”»]{0,200}[\"”»]\s+[a-z]")


class Kind(Enum):
    """What a marker marks."""

    START = auto()  # *** START OF THE PROJECT GUTENBERG EBOOK ... ***
    END = auto()  # *** END OF ..., "End of the Project Gutenberg EBook of ..."
    SMALL_PRINT = auto()  # ***START**THE SMALL PRINT!**...
    SMALL_PRINT_END = auto()  # *END*THE SMALL PRINT!...
    RESTRICTIONS = auto()  # the last sentence of a header of 2002 and 2003
    FILE_NAME = auto()  # ***** This file should be named ... *****
    LICENCE = auto()  # the first sentence of the licence

    __hash__ = object.__hash__  # five times as fast as that of enumerations


@dataclass(frozen=True)
class Marker:
    """A marker at [start, end). A `firm` one has asterisks; an END without them may close only a
    part of a larger text."""

    kind: Kind
    start: int
    end: int
    firm: bool = True


class Page:
    """A text whose lines have no white space at their ends, its paragraphs and its markers."""

    def __init__(self, outline: Outline) -> None:
        self.text = outline.text
        self._outline = outline
        self.paragraphs = outline.paragraphs
        self._starts = [start for start, _ in self.paragraphs]
        self._places = outline.places(pg.NEEDLES)
        self._last_fold = (0, 0, "")
        self._bracketed = (0, 0)  # where the outermost brackets are known
        self._outermost: list[tuple[int, int]] = []
        self._wrapping: dict[tuple[int, int, bool], bool] = {}
        self.markers = sorted(set(self._find()), key=lambda marker: (marker.start, -marker.end))
        self._marker_starts = [marker.start for marker in self.markers]

    # --- words -------------------------------------------------------------------------------
    # To lower the case of a whole text takes long: it is done where a needle is, and there alone.

    def fold(self, start: int, end: int) -> str:
        """A stretch of text in lower case."""
        if self._last_fold[:2] != (start, end):
            self._last_fold = start, end, fold(self.text[start:end])
        return self._last_fold[2]

    def match(self, pattern: re.Pattern[str], start: int) -> re.Match[str] | None:
        """A pattern for folded text, matched at the start of a line; its own positions count from
        there."""
        end = max(start + _LONGEST_MATCH, self.line_end(start))
        return pattern.match(self.fold(start, end))

    def occurrences(self, needles: Iterable[str]) -> list[int]:
        """Where any of the needles stands, in order."""
        return sorted(at for needle in needles for at in self._places[needle])

    def holds(self, needles: Iterable[str], start: int, end: int) -> bool:
        """Whether any of the needles begins in a stretch of text."""
        places = [self._places[needle] for needle in needles]
        return any(bisect_left(hits, start) < bisect_left(hits, end) for hits in places)

    @property
    def has_trace(self) -> bool:
        """Whether the text has anything to do with Project Gutenberg."""
        for needle in pg.TRACE_NEEDLES:
            for start in self._places[needle]:
                end = start + len(needle)
                while start and self.text[start - 1].isspace():
                    start -= 1
                while end < len(self.text) and self.text[end].isspace():
                    end += 1
                around = self.fold(max(0, start - _LONGEST_WORD), end + _LONGEST_WORD)
                if pg.TRACE.search(around):
                    return True
        return False

    @cached_property
    def _residue(self) -> list[tuple[int, int]]:
        """Where the needles of residue stand: from, to."""
        return sorted(
            (at, at + len(needle)) for needle in pg.RESIDUE_NEEDLES for at in self._places[needle]
        )

    def residue(self, begin: int, end: int) -> list[int]:
        """Where a stretch of text names the project or speaks of etexts."""
        places = []
        for index in range(bisect_left(self._residue, (begin, begin)), len(self._residue)):
            at, stop = self._residue[index]
            if at >= end:
                break
            start = max(begin, at - 16)
            before = max(begin, start - 1)  # its last character tells whether a word begins
            around = self.fold(before, min(end, at + 24))
            if stop <= end and pg.RESIDUE.search(around, start - before):
                places.append(at)
        return places

    def bookmarks(self, begin: int, end: int) -> list[int]:
        """Where a stretch of text speaks of lists of bookmarks."""
        places = []
        for at in self._places["bookmarks"]:
            for opening in pg.BOOKMARKS_OPENINGS:
                start = at - len(opening)
                if begin <= start and at + len("bookmarks") <= end:
                    places += [start] if self.fold(start, at) == opening else []
        return places

    # --- places ------------------------------------------------------------------------------

    def index_at(self, position: int) -> int:
        """The index of the paragraph that holds `position`, or of the first one after it."""
        index = max(0, bisect_right(self._starts, position) - 1)
        if index < len(self.paragraphs) and self.paragraphs[index][1] <= position:
            index += 1
        return index

    def line_start(self, position: int) -> int:
        return self.text.rfind("\n", 0, position) + 1

    def line_end(self, position: int) -> int:
        end = self.text.find("\n", position)
        return len(self.text) if end < 0 else end

    def paragraph_end(self, position: int) -> int:
        index = self.index_at(position)
        if index == len(self.paragraphs) or self.paragraphs[index][0] > position:
            return position
        return self.paragraphs[index][1]

    def _brackets(self, position: int) -> list[tuple[int, int]]:
        """The outermost pairs of brackets near a position. Those round it are among them: what
        stands further away than the longest pair cannot be one of these."""
        first, last = self._bracketed
        if not (first <= position < last):
            # A good way on, so that many positions in a row are looked at together.
            begin = max(0, position - _LONGEST_BRACKET)
            end = position + 5 * _LONGEST_BRACKET
            near = bracket_pairs(self.text[begin:end], _LONGEST_BRACKET)
            self._outermost = [(begin + start, begin + stop) for start, stop in outermost(near)]
            self._bracketed = position, position + 4 * _LONGEST_BRACKET
        return self._outermost

    def bracket_round(self, position: int) -> tuple[int, int]:
        """The outermost square brackets round a position; an impossible span if there are none."""
        if self.text.rfind("[", max(0, position - _LONGEST_BRACKET), position + 1) < 0:
            return -1, -1
        brackets = self._brackets(position)
        index = bisect_right(brackets, (position, len(self.text))) - 1
        if index >= 0 and position < brackets[index][1]:
            return brackets[index]
        return -1, -1

    def markers_in(self, start: int, end: int) -> list[Marker]:
        """The markers that begin in [start, end)."""
        first = bisect_left(self._marker_starts, start)
        return self.markers[first : bisect_left(self._marker_starts, end)]

    def small_print_end(self, start: int) -> int | None:
        """Where the small print that begins at `start` ends."""
        for marker in self.markers_in(start, start + _LONGEST_SMALL_PRINT):
            if marker.kind is Kind.SMALL_PRINT_END:
                return marker.end
            if marker.kind in (Kind.START, Kind.END):
                break  # its end is missing: what follows is that of another one
        return None

    # --- paragraphs --------------------------------------------------------------------------

    def plain(self, index: int, begin: int = 0) -> str:
        """A paragraph on one line, in lower case."""
        start, end = self.paragraphs[index]
        return pg.on_one_line(self.text[max(start, begin) : end])

    def is_wrapping(self, index: int, begin: int = 0, fields: bool = False) -> bool:
        """Whether a paragraph speaks as headers and footers do. `fields` counts "Title: ..."."""
        start, end = self.paragraphs[index]
        start = max(start, begin)
        key = index, start, fields
        if key not in self._wrapping:
            self._wrapping[key] = pg.is_of_wrapping(self.text[start:end]) or bool(
                fields and pg.FIELD_LINE.match(self.plain(index, begin))
            )
        return self._wrapping[key]

    @cached_property
    def text_limit(self) -> int:
        """The place after which no more than a title stands that is no wrapping."""
        letters = 0
        for index in range(len(self.paragraphs) - 1, -1, -1):
            start, end = self.paragraphs[index]
            if not self.is_wrapping(index):
                letters += end - start
                if letters > LONGEST_TITLE:
                    return start + letters - LONGEST_TITLE
        return 0

    @cached_property
    def is_about_the_project(self) -> bool:
        """Whether the text itself is about Project Gutenberg, or electronic books: many of its
        paragraphs of some length speak of it, apart from the wrapping round it."""
        begin = max((m.end for m in self.markers if m.kind is Kind.START), default=0)
        end = min((m.start for m in self.markers if m.kind is Kind.END), default=len(self.text))
        paragraphs = {self.index_at(at) for at in self.residue(begin, end)}
        spoken = 0
        for index in paragraphs:
            start, stop = self.paragraphs[index]
            if stop - start >= _PROSE and not self.match(pg.NOTICE_OPENING, start):
                spoken += self.text[stop - 1] in _SENTENCE_ENDS
        return spoken >= _MANY_MENTIONS

    # --- finding markers ---------------------------------------------------------------------

    def _find(self) -> Iterator[Marker]:
        for line in self._outline.lines_round(self.occurrences(pg.MARKER_NEEDLES)):
            if pg.MARKER_OPENING.match(self.text, line):
                yield from self._markers_at(line)
        for hit in self.occurrences(pg.JOINED_END_NEEDLES):
            if self.match(pg.JOINED_END, hit) and hit > self.line_start(hit):
                yield Marker(Kind.SMALL_PRINT_END, hit, self.line_end(hit))
        for hit in self.occurrences(pg.RESTRICTIONS_NEEDLES):
            if self.match(pg.RESTRICTIONS, hit):
                yield Marker(Kind.RESTRICTIONS, hit, self.paragraph_end(hit))
        for hit in self.occurrences(pg.FILE_NAME_NEEDLES):
            line = self.line_start(hit)
            if match := self.match(pg.FILE_NAME, line):
                yield Marker(Kind.FILE_NAME, line, line + match.end(), firm=False)
        for hit in self.occurrences(pg.LICENCE_NEEDLES):
            if match := self.match(pg.LICENCE_START, hit):
                yield Marker(Kind.LICENCE, self.line_start(hit), hit + match.end())

    def _markers_at(self, line: int) -> Iterator[Marker]:
        if match := self.match(pg.START_LINE, line):
            words = self.text[line : line + 60]
            if "*" in words[:20] or words.upper() == words:
                yield Marker(Kind.START, line, self._title_end(line, match))
        elif (match := self.match(pg.END_LINE, line)) and not self._is_said(line):
            firm = "*" in match.group()[:16]
            yield Marker(Kind.END, line, self._title_end(line, match), firm)
        elif match := self.match(pg.SMALL_PRINT_END, line):
            yield Marker(Kind.SMALL_PRINT_END, line, line + match.end())
        elif match := self.match(pg.SMALL_PRINT_START, line):
            yield Marker(Kind.SMALL_PRINT, line, line + match.end())

    def _is_said(self, line: int) -> bool:
        """Whether somebody in the text says so: `“End of Project Gutenberg!” she cried.`"""
        return bool(_SAID.match(self.text, line, self.line_end(line)))

    def _title_end(self, start: int, match: re.Match[str]) -> int:
        """Where a marker ends: at its closing asterisks, else with its line and those lines in
        capitals, or the few last ones of a footer's paragraph, on which its title goes on."""
        if match.group().rstrip().endswith("**"):
            return start + match.end()
        end = self.line_end(start + match.end())
        paragraph_end = self.paragraph_end(start)
        rest = self.text[end + 1 : paragraph_end].split("\n")
        if match.re is pg.END_LINE and len(rest) <= 4:
            return paragraph_end
        for line in rest[:3]:
            if not line or line.upper() != line:
                break
            end += 1 + len(line)
        return end

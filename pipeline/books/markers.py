"""The paragraphs of a text, and the Project Gutenberg markers that stand among them."""

import re
from bisect import bisect_left, bisect_right
from collections.abc import Iterator
from dataclasses import dataclass
from enum import Enum, auto
from functools import cached_property

from pipeline.books import boilerplate_patterns as pg
from pipeline.books.searching import bracket_pairs, occurrences, outermost

_PARAGRAPH = re.compile(r"[^\n]+(?:\n[^\n]+)*")
_LONGEST_SMALL_PRINT = 30_000
_LONGEST_BRACKET = 4000


class Kind(Enum):
    """What a marker marks."""

    START = auto()  # *** START OF THE PROJECT GUTENBERG EBOOK ... ***
    END = auto()  # *** END OF ..., "End of the Project Gutenberg EBook of ..."
    SMALL_PRINT = auto()  # ***START**THE SMALL PRINT!**...
    SMALL_PRINT_END = auto()  # *END*THE SMALL PRINT!...
    RESTRICTIONS = auto()  # the last sentence of a header of 2002 and 2003
    FILE_NAME = auto()  # ***** This file should be named ... *****
    LICENCE = auto()  # the first sentence of the licence


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

    def __init__(self, text: str) -> None:
        self.text = text
        self.folded = pg.fold(text)
        self.paragraphs = [match.span() for match in _PARAGRAPH.finditer(text)]
        self._starts = [start for start, _ in self.paragraphs]
        self.markers = sorted(set(self._find()), key=lambda marker: (marker.start, -marker.end))
        self._marker_starts = [marker.start for marker in self.markers]

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

    @cached_property
    def _brackets(self) -> list[tuple[int, int]]:
        return outermost(bracket_pairs(self.text, _LONGEST_BRACKET))

    def bracket_round(self, position: int) -> tuple[int, int]:
        """The outermost square brackets round a position; an impossible span if there are none."""
        index = bisect_right(self._brackets, (position, len(self.text))) - 1
        if index >= 0 and position < self._brackets[index][1]:
            return self._brackets[index]
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
        return None

    # --- paragraphs --------------------------------------------------------------------------

    def plain(self, index: int, begin: int = 0) -> str:
        """A paragraph on one line, in lower case."""
        start, end = self.paragraphs[index]
        return " ".join(self.folded[max(start, begin) : end].split())

    def is_wrapping(self, index: int, begin: int = 0, fields: bool = False) -> bool:
        """Whether a paragraph speaks as headers and footers do. `fields` counts "Title: ..."."""
        plain = self.plain(index, begin)
        if "gutenberg" in plain or (fields and pg.FIELD_LINE.match(plain)):
            return True
        return bool(pg.PHRASES.search(plain))

    # --- finding markers ---------------------------------------------------------------------

    def _find(self) -> Iterator[Marker]:
        folded = self.folded
        seen_to = -1
        for hit in occurrences(folded, pg.MARKER_NEEDLES):
            if hit < seen_to:
                continue
            line = self.line_start(hit)
            seen_to = self.line_end(hit)
            if line:
                yield from self._markers_at(self.line_start(line - 1))
            yield from self._markers_at(line)
        for hit in occurrences(folded, pg.RESTRICTIONS_NEEDLES):
            if pg.RESTRICTIONS.match(folded, hit):
                yield Marker(Kind.RESTRICTIONS, hit, self.paragraph_end(hit))
        for hit in occurrences(folded, pg.FILE_NAME_NEEDLES):
            if match := pg.FILE_NAME.match(folded, self.line_start(hit)):
                yield Marker(Kind.FILE_NAME, match.start(), match.end(), firm=False)
        for hit in occurrences(folded, pg.LICENCE_NEEDLES):
            if match := pg.LICENCE_START.match(folded, hit):
                yield Marker(Kind.LICENCE, self.line_start(hit), match.end())

    def _markers_at(self, line: int) -> Iterator[Marker]:
        if match := pg.START_LINE.match(self.folded, line):
            words = self.text[line : line + 60]
            if "*" in words[:20] or words.upper() == words:
                yield Marker(Kind.START, line, self._title_end(match))
        elif match := pg.END_LINE.match(self.folded, line):
            firm = "*" in match.group()[:16]
            yield Marker(Kind.END, line, self._title_end(match), firm)
        elif match := pg.SMALL_PRINT_END.match(self.folded, line):
            yield Marker(Kind.SMALL_PRINT_END, line, match.end())
        elif match := pg.SMALL_PRINT_START.match(self.folded, line):
            yield Marker(Kind.SMALL_PRINT, line, match.end())

    def _title_end(self, match: re.Match[str]) -> int:
        """Where a marker ends: at its closing asterisks, else with its line and those lines in
        capitals, or the few last ones of a footer's paragraph, on which its title goes on."""
        if match.group().rstrip().endswith("**"):
            return match.end()
        end = self.line_end(match.end())
        paragraph_end = self.paragraph_end(match.start())
        rest = self.text[end + 1 : paragraph_end].split("\n")
        if match.re is pg.END_LINE and len(rest) <= 4:
            return paragraph_end
        for line in rest[:3]:
            if not line or line.upper() != line:
                break
            end += 1 + len(line)
        return end

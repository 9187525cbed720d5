"""Takes a Project Gutenberg file apart: header, body (or bodies), footer, licence.

The file is read as a row of paragraphs. Markers (START, END, small print, licence) say where the
wrapping begins and ends; the paragraphs beside a marker that speak of the project, its files or
its money belong to the same piece of wrapping. Nothing is ever cut on the word of one end alone:
a header reaches from the top as far as paragraphs of a header reach, a footer from its marker as
far as paragraphs of a footer reach, and between them stands the text, whether there is one text
in the file or nine.
"""

import re
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field

from pipeline.books import boilerplate_patterns as pg
from pipeline.books.header import read_header
from pipeline.books.markers import LONGEST_TITLE, Kind, Marker, Page
from pipeline.books.notices import LONGEST_NOTICE, Cut, find_notices, less_heading
from pipeline.books.outline import Outline

# How far, in characters of unknown paragraphs, a piece of wrapping may reach to its next known
# paragraph: far inside a header or a footer, where no text can be; hardly where one could.
_REACH_IN_WRAPPING = 3000
_REACH_AFTER_ANCHOR = 1500
_REACH_NEAR_TEXT = 600
_REACH_TO_INNER_HEADER = 250
_FEWEST_WORDS = 20
_TITLE_PAGE = 600
_LAST_LINES = 300

_WORD = re.compile(r"[^\W\d_]{2,}")
_WORD_CHARACTERS = re.compile(r"[^\W_]+")
_WORDLESS = re.compile(r"[\W_]*\Z")


class NotABook(Exception):
    """The file has no body that can be told from its wrapping; `reason` says why."""

    def __init__(self, reason: str) -> None:
        super().__init__(reason)
        self.reason = reason


@dataclass(frozen=True)
class Stripped:
    """The body of a file, what its header says of it, and what was cut away.

    The offsets in `removed` are those of `tidy_lines(text)`. `marked` is False for a text that
    bears no trace of Project Gutenberg and is its own body.
    """

    body: str
    title: str | None = None
    author: str | None = None
    language: str | None = None
    removed: list[Cut] = field(default_factory=list)
    warnings: list[str] = field(default_factory=list)
    marked: bool = True


def tidy_lines(text: str) -> str:
    """The same lines without white space at their ends."""
    return Outline(text).tidied().text


def strip_boilerplate(text: str) -> Stripped:
    """Separates the author's text from the wrapping that Project Gutenberg put round it.

    Several texts in one file keep their texts and lose every header and footer. A text without a
    trace of Project Gutenberg passes whole.

    Raises:
        NotABook: the file is of Project Gutenberg, but which part of it is the text cannot be
            told, or no text is in it.
    """
    return strip_outline(Outline(text).tidied())


def strip_outline(outline: Outline) -> Stripped:
    """`strip_boilerplate` for a text whose lines have no white space at their ends."""
    text = outline.text
    page = Page(outline)
    if not page.has_trace:
        return Stripped(text, marked=False)
    wrapping = _merged(_wrapping(page))
    if not wrapping:
        raise NotABook("it speaks of Project Gutenberg, but has neither header nor footer")
    mentions = 0
    notices = []
    for start, end in _pieces(wrapping, len(text)):
        found, left = find_notices(page, start, end)
        notices += found
        mentions += left
    cuts = _merged(wrapping + notices)
    pieces = list(_pieces(cuts, len(text)))
    body = _join(text[start:end] for start, end in pieces)
    _check(body, any(page.holds(pg.LICENCE_LEFT_NEEDLES, *piece) for piece in pieces))
    has_header = wrapping[0].kind == "header"
    header = read_header(text[: wrapping[0].end], body[:_TITLE_PAGE]) if has_header else {}
    warnings = []
    if not has_header:
        warnings.append("no header was found")
    if wrapping[-1].kind != "footer":
        warnings.append("no END marker was found")
    if mentions:
        warnings.append(f"the text itself speaks of Project Gutenberg ({mentions} times)")
    return Stripped(
        body,
        header.get("title"),
        header.get("author"),
        header.get("language"),
        cuts,
        warnings,
    )


def _check(body: str, is_suspect: bool) -> None:
    words = _WORD.finditer(body)
    if sum(1 for _ in zip(range(_FEWEST_WORDS), words, strict=False)) < _FEWEST_WORDS:
        raise NotABook("nothing is left between its header and its footer")
    if is_suspect and (left := pg.licence_left(Outline(body))):
        raise NotABook(f'its wrapping could not be told from its text: "{left}" is left in it')


def _merged(cuts: list[Cut]) -> list[Cut]:
    """The same cuts in order, none overlapping another."""
    merged: list[Cut] = []
    for cut in sorted(cuts, key=lambda cut: (cut.start, -cut.end)):
        if merged and cut.start < merged[-1].end:
            last = merged[-1]
            merged[-1] = Cut(last.kind, last.start, max(last.end, cut.end))
        else:
            merged.append(cut)
    return merged


def _pieces(cuts: list[Cut], length: int) -> Iterator[tuple[int, int]]:
    """The stretches that the cuts leave."""
    position = 0
    for cut in cuts:
        if cut.start > position:
            yield position, cut.start
        position = cut.end
    if position < length:
        yield position, length


def _join(pieces: Iterable[str]) -> str:
    stripped = [piece.strip("\n") for piece in pieces]
    return "\n\n\n".join(piece for piece in stripped if piece)


# --- headers and footers ------------------------------------------------------------------------


def _wrapping(page: Page) -> list[Cut]:
    cuts = []
    position = _with_inner_headers(page, _header_end(page, 0, _REACH_IN_WRAPPING))
    if position:
        cuts.append(Cut("header", 0, position))
    footer_kinds = (Kind.END, Kind.LICENCE, Kind.FILE_NAME, Kind.SMALL_PRINT, Kind.START)
    for marker in page.markers:
        if marker.start >= position and marker.kind in footer_kinds:
            start = _reach_back(page, marker, position)
            position = _with_inner_headers(page, _footer_end(page, marker))
            cuts.append(Cut("footer", start, position))
    if cuts:
        start, end = _last_lines(page, cuts)
        if match := pg.LAST_LINE.search(page.fold(start, end)):
            cuts.append(Cut("footer", start + match.start(), start + match.end()))
    return cuts


def _with_inner_headers(page: Page, position: int) -> int:
    """Where a header that ends at `position` ends with those inside it, of other years."""
    while 0 < position < len(page.text):
        inner = _header_end(page, position, _REACH_TO_INNER_HEADER, anchored_only=True)
        if inner <= position:
            break
        position = inner
    return position


def _last_lines(page: Page, cuts: list[Cut]) -> tuple[int, int]:
    """Where the last lines of the text begin and end, above a footer that reaches to the end."""
    last = cuts[-1]
    end = last.start if last.end == len(page.text) else len(page.text)
    while end and page.text[end - 1].isspace():
        end -= 1
    return max(0, end - _LAST_LINES), end


def _header_end(page: Page, begin: int, reach: int, anchored_only: bool = False) -> int:
    """Where the header that begins at `begin` ends; `begin` itself if none begins there.

    A START marker ends it; failing that, the small print, or the sentence that ends the headers
    of 2002, with the paragraphs right below that speak as headers do; failing these, the last
    paragraph of a row that does so from the top.
    """
    first = anchor = run = begin
    run_before: int | None = None  # where the run ended before the last gap in it
    gap = run_gap = 0
    run_reach = _REACH_NEAR_TEXT
    opened = False
    index = page.index_at(begin)
    while index < len(page.paragraphs):
        start, end = page.paragraphs[index]
        start = max(start, begin)
        kinds = {marker.kind: marker for marker in page.markers_in(start, end)}
        if Kind.START in kinds:
            return kinds[Kind.START].end
        small_print = kinds.get(Kind.SMALL_PRINT, kinds.get(Kind.SMALL_PRINT_END))
        close = page.small_print_end(small_print.start) if small_print else None
        if close:
            anchor = begin = run = close
            gap, reach = 0, min(reach, _REACH_AFTER_ANCHOR)
            run_reach = run_gap = 0
            run_before = None
            index = page.index_at(close)
            continue
        if Kind.END in kinds or Kind.LICENCE in kinds:
            # Known paragraphs below a gap that reach to the footer are the footer's.
            run = run_before if gap == 0 and run_before is not None else run
            break
        if Kind.RESTRICTIONS in kinds:
            anchor = run = end
            gap, reach = 0, min(reach, _REACH_AFTER_ANCHOR)
            run_reach = run_gap = 0
        elif page.is_wrapping(index, begin, fields=True):
            gap = 0
            opened = opened or bool(pg.HEADER_OPENING.match(page.plain(index, begin)))
            if run_gap <= run_reach and (opened or anchor > first):
                run_before = run if run_gap else run_before
                run, run_gap = end, 0
        elif not _WORDLESS.match(page.text, start, end):
            gap += end - start
            # Without a marker, only a title may stand between two known paragraphs.
            run_gap += end - start if end - start <= LONGEST_TITLE else _REACH_IN_WRAPPING
        if gap > reach:
            break
        index += 1
    if run > max(anchor, first):
        start, end = page.paragraphs[page.index_at(run - 1)]
        run = less_heading(page, max(start, first), run) if run == end else run
    return first if anchored_only and anchor == first else run


def _reach_back(page: Page, marker: Marker, limit: int) -> int:
    """Where the wrapping that holds `marker` begins: at its line, or at the unbroken row of
    wrapping paragraphs above it."""
    index = page.index_at(marker.start)
    start = marker.start
    if page.paragraphs[index][0] < marker.start:
        return start
    while index > 0 and page.paragraphs[index - 1][1] > limit:
        index -= 1
        above, end = page.paragraphs[index]
        if _WORDLESS.match(page.text, above, end):
            continue
        fields = marker.kind is Kind.START
        if end - above > LONGEST_NOTICE or not page.is_wrapping(index, limit, fields):
            break
        if not page.match(pg.NOTICE_OPENING, above) and page.is_about_the_project:
            break
        start = max(limit, _first_wrapping_line(page, above, end))
        if start > above:
            break
    return start


def _first_wrapping_line(page: Page, start: int, end: int) -> int:
    """`start`, or the line of the paragraph at which wrapping follows directly on the text."""
    position = start
    for line in page.fold(start, end).split("\n"):
        if pg.speaks_as_wrapping(" ".join(line.split())):
            before = page.text[start : max(start, position - 1)].rstrip()
            return position if before.endswith((".", "!", "?", '"', "”", "'", "*")) else start
        position += len(line) + 1
    return start


def _footer_end(page: Page, marker: Marker) -> int:
    """Where the wrapping that `marker` opens ends: at the end of the file, or where the header of
    a further text ends, or (after the END of a part) with the paragraphs of the footer."""
    end = marker.end
    sure = marker.firm
    gap = known = 0
    if marker.kind is Kind.START:
        return end
    if marker.kind is Kind.SMALL_PRINT:
        end = page.small_print_end(marker.start) or end
    index = page.index_at(end)
    while index < len(page.paragraphs):
        start, stop = page.paragraphs[index]
        kinds = {found.kind: found for found in page.markers_in(max(start, end), stop)}
        if Kind.START in kinds:
            return kinds[Kind.START].end
        if Kind.SMALL_PRINT in kinds:
            close = page.small_print_end(kinds[Kind.SMALL_PRINT].start)
            if close and _has_text(page, close):  # it was the small print of a further text
                following = page.paragraphs[page.index_at(close)][0]
                is_opened = page.match(pg.NEXT_TEXT, following)
                reach = _REACH_IN_WRAPPING if is_opened else _REACH_NEAR_TEXT
                return _header_end(page, close, reach, anchored_only=not is_opened)
            return len(page.text)
        is_next = start > marker.end and pg.NEXT_TEXT_OPENING.match(page.text, start)
        if is_next and page.match(pg.NEXT_TEXT, start):
            close = _header_end(page, start, _REACH_IN_WRAPPING)
            if close > start:
                return close if _has_text(page, close) else len(page.text)
        index += 1
        if kinds or page.is_wrapping(index - 1, end):
            end, gap = stop, 0
            known += 1
            sure = sure or known >= 3 or any(found.firm for found in kinds.values())
        elif not _WORDLESS.match(page.text, start, stop):
            gap += stop - start
            if gap > (_REACH_IN_WRAPPING if sure else _REACH_NEAR_TEXT):
                break
    reach = _REACH_IN_WRAPPING if sure else _REACH_NEAR_TEXT
    return len(page.text) if _is_rest_short(page, end, reach) else end


def _has_text(page: Page, position: int) -> bool:
    """Whether more than a title stands after `position` that is no wrapping."""
    return position < page.text_limit


def _is_rest_short(page: Page, position: int, longest: int) -> bool:
    """Whether at most `longest` letters and digits stand after `position`."""
    words = _WORD_CHARACTERS.finditer(page.text, position)
    return sum(len(word.group()) for word, _ in zip(words, range(longest), strict=False)) <= longest

"""Notices of Project Gutenberg that stand within a text, between its header and its footer."""

from collections import deque
from dataclasses import dataclass
from itertools import pairwise

from pipeline.books import boilerplate_patterns as pg
from pipeline.books.markers import Page

LONGEST_NOTICE = 1500  # characters
_LONGEST_HEADING = 200


@dataclass(frozen=True)
class Cut:
    """A stretch [start, end) of the text that was wrapping: "header", "footer" or "notice"."""

    kind: str
    start: int
    end: int


def find_notices(page: Page, begin: int, end: int) -> tuple[list[Cut], int]:
    """The notices in a stretch of text that name the project or its files, such as the headings
    of the parts of a collection; and the number of mentions that are the author's own words."""
    cuts = _bookmarks(page, begin, end)
    lists = deque(sorted(cuts, key=lambda cut: cut.start))
    mentions = 0
    done = listed = begin
    for hit in page.residue(begin, end):
        while lists and lists[0].start <= hit:
            listed = max(listed, lists.popleft().end)
        if hit < max(done, listed):
            continue
        start, stop = _unit(page, hit, begin, end)
        done = max(stop, hit + 1)
        words = page.fold(start, stop)
        if pg.TRANSCRIBER.match(words) and "gutenberg" not in words:
            continue  # the cleaning rules know where such a note ends
        if _is_notice(page, start, stop, begin, end):
            start, stop = _with_neighbours(page, start, stop, begin, end)
            cuts.append(Cut("notice", start, less_heading(page, start, stop)))
            done = stop
        elif edge := _edge_lines(page, hit, start, stop):
            cuts.append(Cut("notice", *edge))
            done = edge[1]
        else:
            mentions += 1
    return cuts, mentions


def _is_notice(page: Page, start: int, stop: int, begin: int, end: int) -> bool:
    """Whether a paragraph or bracket that names the project is of those who made the file."""
    words = page.fold(start, stop)
    if page.text[start : start + 1] == "[" or words.startswith("<<"):
        return True
    if len(words) > LONGEST_NOTICE:
        return False
    if len(words) > _LONGEST_HEADING and page.is_about_the_project:
        return bool(pg.NOTICE_OPENING.match(words))
    near_edge = start - begin < LONGEST_NOTICE or end - stop < LONGEST_NOTICE
    if near_edge or pg.NOTICE_OPENING.match(words):
        return True
    return bool(pg.NOTICE.search(words)) and not pg.SOMEBODY.search(words)


def _bookmarks(page: Page, begin: int, end: int) -> list[Cut]:
    """Lists of quotations under a heading of their own, and the notes that announce them."""
    cuts = []
    for hit in page.bookmarks(begin, end):
        start, stop = _unit(page, hit, begin, end)
        heading = page.fold(start, page.line_end(start))
        if page.text[start] == "[":
            cuts.append(Cut("notice", start, stop))
        elif pg.BOOKMARKS.match(heading):
            index = page.index_at(start) + (page.line_end(start) >= stop)
            while index < len(page.paragraphs) and page.paragraphs[index][1] <= end:
                first, last = page.paragraphs[index]
                if not _is_sorted(page.fold(max(first, page.line_end(start)), last)):
                    break
                stop = last
                index += 1
            cuts.append(Cut("notice", start, max(stop, page.line_end(start))))
    return cuts


def _is_sorted(text: str) -> bool:
    """Whether the lines of a paragraph stand in the order of the alphabet, as quotations do that
    a program sorted; lines that go on from the one above may stand among them."""
    lines = [line.strip("\t \"'") for line in text.split("\n") if line.strip()]
    pairs = list(pairwise(lines))
    rising = sum(1 for one, next_one in pairs if one[:4] <= next_one[:4])
    return len(lines) > 1 and rising >= 0.75 * len(pairs)


def less_heading(page: Page, start: int, stop: int) -> int:
    """The end of a notice less a last line in capitals that follows on its last sentence: that is
    the heading of the text below."""
    line = page.line_start(max(start, stop - 1))
    last = page.text[line:stop].strip()
    above = page.text[start : max(start, line - 1)].rstrip()
    is_heading = last.isupper() and not page.residue(line, stop)
    return line if is_heading and above.endswith((".", ")", "!", "*", "]")) else stop


def _unit(page: Page, position: int, begin: int, end: int) -> tuple[int, int]:
    """The bracket round a position, if one opens at the start of a line; else its paragraph."""
    start, stop = page.bracket_round(position)
    if start >= begin and stop <= end and not page.text[page.line_start(start) : start].strip():
        return start, stop
    start, stop = page.paragraphs[page.index_at(position)]
    start, stop = max(start, begin), min(stop, end)
    opened = page.text.rfind("\n<<", start - 1, position) + 1
    closed = page.text.find(">>", position, stop) + 2
    return (opened, closed) if opened > 0 and closed > 1 else (start, stop)


def _with_neighbours(page: Page, start: int, stop: int, begin: int, end: int) -> tuple[int, int]:
    """A notice with the paragraphs right beside it that speak as headers do."""
    index = page.index_at(start)
    if page.paragraphs[index][0] >= start:
        while index > 0 and page.paragraphs[index - 1][0] >= begin and page.is_wrapping(index - 1):
            index -= 1
            start = page.paragraphs[index][0]
        above = page.paragraphs[max(0, index - 1)]
        if begin <= above[0] < start and pg.TRANSCRIBER_HEADING.match(page.fold(*above)):
            start = above[0]
    index = page.index_at(stop)
    while index < len(page.paragraphs) and page.paragraphs[index][1] <= end:
        if page.paragraphs[index][0] < stop or not page.is_wrapping(index):
            break
        stop = page.paragraphs[index][1]
        index += 1
    return start, stop


def _edge_lines(page: Page, hit: int, start: int, stop: int) -> tuple[int, int] | None:
    """The first or last lines of a long paragraph, where a notice runs on into the text."""
    line, line_end = page.line_start(hit), page.line_end(hit)
    if stop - start <= LONGEST_NOTICE or page.is_about_the_project:
        return None
    if not pg.NOTICE.search(page.fold(line, line_end)):
        return None
    if page.text.count("\n", start, line) <= 2:
        return start, min(line_end + 1, stop)
    if page.text.count("\n", line_end, stop) <= 2:
        return line, stop
    return None

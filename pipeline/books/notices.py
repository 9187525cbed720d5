"""Notices of Project Gutenberg that stand within a text, between its header and its footer."""

from dataclasses import dataclass

from pipeline.books import boilerplate_patterns as pg
from pipeline.books.markers import Page

LONGEST_NOTICE = 1500  # characters


@dataclass(frozen=True)
class Cut:
    """A stretch [start, end) of the text that was wrapping: "header", "footer" or "notice"."""

    kind: str
    start: int
    end: int


def find_notices(page: Page, begin: int, end: int) -> tuple[list[Cut], int]:
    """The notices in a stretch of text that name the project or its files, such as the headings
    of the parts of a collection; and the number of mentions that are the author's own words."""
    cuts: list[Cut] = []
    mentions = 0
    done = begin
    for hit in pg.residue(page.folded, begin, end):
        if hit < done:
            continue
        start, stop = _unit(page, hit, begin, end)
        done = max(stop, hit + 1)
        words = page.folded[start:stop]
        if pg.TRANSCRIBER.match(words) and "gutenberg" not in words:
            continue  # the cleaning rules know where such a note ends
        near_edge = start - begin < LONGEST_NOTICE or end - stop < LONGEST_NOTICE
        in_brackets = page.text[start : start + 1] == "["
        if in_brackets or (len(words) <= LONGEST_NOTICE and (near_edge or pg.NOTICE.search(words))):
            start, stop = _with_neighbours(page, start, stop, begin, end)
            cuts.append(Cut("notice", start, stop))
            done = stop
        elif edge := _edge_lines(page, hit, start, stop):
            cuts.append(Cut("notice", *edge))
            done = edge[1]
        else:
            mentions += 1
    return cuts, mentions


def _unit(page: Page, position: int, begin: int, end: int) -> tuple[int, int]:
    """The bracket round a position, if one opens at the start of a line; else its paragraph."""
    start, stop = page.bracket_round(position)
    if start >= begin and stop <= end and not page.text[page.line_start(start) : start].strip():
        return start, stop
    start, stop = page.paragraphs[page.index_at(position)]
    return max(start, begin), min(stop, end)


def _with_neighbours(page: Page, start: int, stop: int, begin: int, end: int) -> tuple[int, int]:
    """A notice with the paragraphs right beside it that speak as headers do."""
    index = page.index_at(start)
    if page.paragraphs[index][0] >= start:
        while index > 0 and page.paragraphs[index - 1][0] >= begin and page.is_wrapping(index - 1):
            index -= 1
            start = page.paragraphs[index][0]
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
    if not pg.NOTICE.search(page.folded, line, line_end):
        return None
    if page.text.count("\n", start, line) <= 2:
        return start, min(line_end + 1, stop)
    if page.text.count("\n", line_end, stop) <= 2:
        return line, stop
    return None

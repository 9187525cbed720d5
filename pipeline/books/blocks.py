"""The blocks of lines that paragraphs stand in: what is between empty lines, or what parts
paragraphs where these do not."""

import re
from collections import Counter
from itertools import accumulate, pairwise

from pipeline.books.layout import Layout
from pipeline.books.lines import SMALL, Lines, Page, counts_in, fills, indent_of, starts_small
from pipeline.books.shapes import ends_sentence, frame

# --- what stands between empty lines --------------------------------------------------------------

_FEWEST_LINES = 40  # a text shorter than that says nothing about how it is laid out
_LONGEST_PARAGRAPH = 60  # lines


def read_blocks(text: str) -> Page:
    """A text, its blocks parted by empty lines, or by what parts paragraphs where these do not."""
    import numpy as np

    page = Page(text)
    sizes = np.diff(page.bounds)
    if len(page.starts) < 1.2 * len(sizes) and _is_double_spaced(page):
        page = Page(re.sub(r"\n+", lambda gap: "\n\n" if len(gap[0]) > 2 else "\n", page.text))
        sizes = np.diff(page.bounds)
    is_long = sizes > _LONGEST_PARAGRAPH
    if is_long.any() and 2 * sizes[is_long].sum() >= sizes.sum():
        blocks = page.blocks()
        in_long = [line for block in blocks if len(block) > _LONGEST_PARAGRAPH for line in block]
        page.regroup(_part_long_blocks(blocks, in_long))
    return page


def _is_double_spaced(page: Page) -> bool:
    """An empty line after every line: single lines, of which many go on with a small letter."""
    import numpy as np

    sizes = np.diff(page.bounds)
    single = page.bounds[:-1][sizes == 1]
    if len(single) < max(_FEWEST_LINES, 0.9 * len(sizes)):
        return False
    return bool(np.count_nonzero(page.starts_of(single) == SMALL) > 0.35 * len(single))


def _part_long_blocks(blocks: list[Lines], lines: Lines) -> list[Lines]:
    """The paragraphs of a text that has no empty lines between them, of which `lines` are the
    lines: told by their first lines' indent, or else by their last lines' end."""
    indents = Counter(map(indent_of, lines))
    base = indents.most_common(1)[0][0]
    plain = [line for line in lines if indent_of(line) == base]
    if sum(map(starts_small, plain)) < 0.3 * len(plain):
        return blocks  # a long poem
    first = next((indent for indent, _ in indents.most_common() if indent > base + 1), None)
    if first is not None and indents[first] > 0.03 * len(lines):
        return [part for block in blocks for part in _part_by_first_lines(block, base, first)]
    width = sorted(map(len, plain))[int(0.98 * (len(plain) - 1))]
    return [part for block in blocks for part in _part_by_last_lines(block, width)]


def _part_by_first_lines(block: Lines, base: int, first: int) -> list[Lines]:
    """Parts at each line of the indent `first`, and round what is set deeper."""
    parts: list[Lines] = []
    was_deeper = False
    for line in block:
        indent = indent_of(line)
        is_deeper = indent > first + 1
        starts = base + 1 < indent <= first + 1
        if starts or is_deeper != was_deeper or not parts:
            parts.append([])
        parts[-1].append(line)
        was_deeper = is_deeper
    return parts


def _part_by_last_lines(block: Lines, width: int) -> list[Lines]:
    """Parts where a sentence ends in a line that had room for the next word."""
    parts = [block[:1]]
    for line, following in pairwise(block):
        had_room = not fills(line, following, width - 2)
        if had_room and ends_sentence(line) and not starts_small(following):
            parts.append([])
        parts[-1].append(following)
    return parts


def holds_paragraphs(block: Lines) -> bool:
    """Whether the lines of a block are too long to be anything but paragraphs. (One may stand
    below the name of who speaks, or above that of an author.)"""
    if sum(map(len, block)) <= 150 * len(block) or len(block) == 1:
        return False
    return min(map(len, block)) > 100 or (len(block) > 2 and frame(block) == (0, len(block)))


# --- blocks of several parts ---------------------------------------------------------------------


def part_mixed_blocks(page: Page, layout: Layout) -> None:
    """Parts the blocks that are made of long lines, which are paragraphs, or of prose and what it
    quotes."""
    import numpy as np

    firsts, stops = page.bounds[:-1], page.bounds[1:]
    may_be_several = np.zeros(len(firsts), bool)
    if layout.long_lines:
        may_be_several |= np.add.reduceat(page.lengths, firsts) > 150 * (stops - firsts)
    if page.indents.any():
        base = np.repeat(np.minimum.reduceat(page.indents, firsts), stops - firsts)
        deeper = page.indents > base + 1
        changes = np.append(deeper[1:] != deeper[:-1], False)
        number = counts_in(changes, firsts, stops - 1)
        at_edge = changes[firsts] | changes[stops - 2]  # a line alone is no part
        may_be_several |= (stops - firsts > 3) & (number > 0) & (number < 3) & ~at_edge
    several = np.flatnonzero(may_be_several).tolist()
    bounds = set(page.bounds.tolist()) if several else set()
    for block in several:
        first, stop = int(firsts[block]), int(stops[block])
        parts = _parts(page.lines(first, stop), layout)
        bounds.update(accumulate(map(len, parts), initial=first))
    if several:
        page.bounds = np.array(sorted(bounds))


def _parts(block: Lines, layout: Layout) -> list[Lines]:
    if layout.long_lines and holds_paragraphs(block):
        return [[line] for line in block]
    return _by_indent(block, layout) if len(block) > 3 else [block]


def _by_indent(block: Lines, layout: Layout) -> list[Lines]:
    """Prose and what it quotes, where only the indent tells the one from the other."""
    base = min(map(indent_of, block))
    runs: list[Lines] = []
    was_deeper = None
    for line in block:
        deeper = indent_of(line) > base + 1
        if deeper != was_deeper:
            runs.append([])
        runs[-1].append(line)
        was_deeper = deeper
    if not 2 <= len(runs) <= 3 or min(map(len, runs)) < 2:
        return [block]
    plain = [run for run in runs if indent_of(run[0]) <= base + 1]
    full = all(len(line) > 0.75 * layout.width for run in plain for line in run[:-1])
    return runs if full else [block]

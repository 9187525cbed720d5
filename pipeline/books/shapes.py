"""Are the lines of a paragraph wrapped prose, or lines that someone set on purpose (verse, a play,
a list, a title page)?

Nearly all paragraphs of nearly all books are plain prose, told by their first letters alone. Of
the others, each line break is weighed as evidence: naive Bayes, with the file's own rates for
prose (see `layout`).
"""

import re
from collections.abc import Iterator
from enum import IntEnum
from typing import TYPE_CHECKING

from pipeline.books.layout import WIDE, Layout, break_kinds, small_starts
from pipeline.books.lines import (
    IS_DIGIT,
    IS_LOWER,
    Lines,
    Page,
    counts_in,
    indent_of,
    ranges,
    starts_small,
    traits,
)

if TYPE_CHECKING:
    from pipeline.books.lines import Bools, Floats, Ints


class Shape(IntEnum):
    """What the line breaks of a paragraph are."""

    PROSE = 0  # wraps, to be undone
    LINES = 1  # meant, to be kept
    UNSURE = 2  # as its neighbours are
    HARDLY_PROSE = 3  # meant, unless all that stands round it is prose


Frames = dict[int, tuple[int, int]]


def shapes_of(page: Page, layout: Layout) -> tuple["Ints", Frames]:
    """The shape of each block (PROSE where it is one line), and the frames of those that have
    one: the numbers of the lines at which the body starts and stops."""
    import numpy as np

    firsts, stops = page.bounds[:-1], page.bounds[1:]
    frames = _frames(page, firsts, stops)
    is_told = (stops - firsts == 1) | _are_plain_prose(page, firsts, stops, layout)
    shapes = np.where(is_told, Shape.PROSE, Shape.LINES)
    firsts, stops = firsts.copy(), stops.copy()
    for block, (first, stop) in frames.items():
        firsts[block], stops[block] = first, stop
    judged = np.flatnonzero(~is_told & (stops - firsts > 1))
    shapes[judged] = judge(page, firsts[judged], stops[judged], layout)
    if (shapes >= Shape.UNSURE).any():
        _look_round(page, shapes, layout)
        hardly = np.flatnonzero(shapes == Shape.HARDLY_PROSE)
        several = np.diff(page.bounds) > 1
        shapes[several] = _settled(shapes[several], layout)
        for block in hardly[shapes[hardly] == Shape.PROSE].tolist():
            if not _may_be_prose(page.lines(*page.bounds[block : block + 2]), layout):
                shapes[block] = Shape.LINES
    return shapes, frames


def _are_plain_prose(page: Page, firsts: "Ints", stops: "Ints", layout: Layout) -> "Bools":
    """What nearly all paragraphs of nearly all books are: a full first line, and small letters
    below it."""
    if layout.verse or layout.narrow:
        return firsts < 0
    is_small = traits(page.codes[page.starts]) & IS_LOWER > 0
    small = counts_in(is_small, firsts + 1, stops)
    indented = counts_in(page.indents > 0, firsts + 1, stops)
    is_full = page.lengths[firsts] >= 0.75 * layout.width
    return is_full & (indented == 0) & (3 * small >= 2 * (stops - firsts - 1))


def _look_round(page: Page, shapes: "Ints", layout: Layout) -> None:
    """Settles what cannot be told by itself but by what announces it and by how it is set: verse
    in prose is mostly announced and indented, and prose that is neither looks like prose."""
    import numpy as np

    blocks = np.flatnonzero(shapes >= Shape.UNSURE)
    firsts, stops = page.bounds[blocks], page.bounds[blocks + 1]
    lines, owners = ranges(firsts, stops)
    heads = np.searchsorted(owners, np.arange(len(blocks)))
    is_indented = np.minimum.reduceat(page.indents[lines], heads) > layout.margin
    above = page.codes[page.stops[firsts - 1] - 1]
    is_announced = (above[:, None] == _ANNOUNCING).any(1) & (firsts > 0)
    is_unsure = shapes[blocks] == Shape.UNSURE
    is_lines = np.where(is_unsure, is_indented & is_announced, is_indented | is_announced)
    shapes[blocks[is_lines]] = Shape.LINES


_ANNOUNCING = list(map(ord, ":,-—"))
_OPENING = ('"', "“", "'", "‘", "«", "„")


def _may_be_prose(lines: Lines, layout: Layout) -> bool:
    """Whether the lines but the last are of some length and the last ends a sentence, and they do
    not all start with a quotation mark, which starts a paragraph."""
    shortest = _SHORTEST_GREEDY if layout.is_greedy else _SHORTEST_BY_SENSE
    if min(map(len, lines[:-1])) < shortest * layout.width:
        return False
    return ends_sentence(lines[-1]) and not all(line.startswith(_OPENING) for line in lines)


def _settled(shapes: "Ints", layout: Layout) -> "Ints":
    """Where a paragraph cannot be told by itself, those before and after it decide."""
    import numpy as np

    fallback = Shape.LINES if layout.verse else Shape.PROSE
    padded = np.concatenate(([fallback], shapes, [fallback]))
    edges = np.flatnonzero(np.diff(padded >= Shape.UNSURE)).tolist()
    for start, stop in zip(edges[::2], edges[1::2], strict=True):
        before, after = padded[start], padded[stop + 1]
        run = shapes[start:stop]
        is_hardly = run == Shape.HARDLY_PROSE
        run[:] = before if before == after else fallback
        if not before == after == Shape.PROSE or is_hardly.sum() > 1:
            run[is_hardly] = Shape.LINES
    return shapes


# --- frames ---------------------------------------------------------------------------------------

_LONGEST_HEAD = 45
_ATTRIBUTION = 8  # characters by which it is set deeper than what it stands below


def _frames(page: Page, firsts: "Ints", stops: "Ints") -> Frames:
    import numpy as np

    begins = page.begins[firsts]
    small = np.bitwise_or.reduce([traits(page.codes[begins + n]) for n in range(3)]) & IS_LOWER > 0
    has_head = (page.lengths[firsts] <= _LONGEST_HEAD) & ~small  # or may have: names are CAPITALS
    has_foot = page.indents[stops - 1] >= page.indents[stops - 2] + _ATTRIBUTION
    frames = {}
    for block in np.flatnonzero((stops - firsts > 1) & (has_head | has_foot)).tolist():
        first, stop = int(firsts[block]), int(stops[block])
        lines = page.lines(first, stop)
        start, end = frame(lines)
        if end - start < len(lines):
            frames[block] = first + start, first + end
    return frames


def frame(block: Lines) -> tuple[int, int]:
    """Where the body of a block starts and stops, between a line that heads it (the name of who
    speaks, the number of a part) and what stands below: a stage direction, or a line that says
    whose words these are."""
    start, stop = 0, len(block)
    if len(block[0]) <= _LONGEST_HEAD and _is_head(block[0].strip(" "), block[1]):
        start = 1
    if start and block[-1].endswith((")", "]")):
        opened = (n for n in range(stop - 1, 1, -1) if block[n].lstrip().startswith(("(", "[")))
        stop = next(opened, stop)
    elif stop - start > 2 and block[-1][0] == " " and _is_attribution(block[-1], block[-2]):
        stop -= 1
    return start, stop


def _is_attribution(line: str, above: str) -> bool:
    is_deep = indent_of(line) >= indent_of(above) + _ATTRIBUTION
    return is_deep and ends_sentence(above) and not starts_small(line)


def _is_head(line: str, below: str) -> bool:
    """FAUST:, DIE HEXE (lacht):, XIV., 6; not the first line of a title."""
    name = line.split(" (", 1)[0]
    if line[-1] in ",-—" or not (name.isupper() or name.rstrip(".").isdigit()):
        return False
    return not (starts_small(below) or below.isupper())


def ends_sentence(line: str) -> bool:
    return line.rstrip("\"'”’»)]_*").endswith((".", "!", "?", ":", "--", "—", ";"))


# --- judgement ------------------------------------------------------------------------------------

# Before a paragraph is looked at: in a novel, one in a hundred is verse.
_PRIOR_IN_PROSE = 3.0
_PRIOR_IN_VERSE = -2.0
_REMARK = 4.0  # what happens on the stage, how to sing the song, headings
# In a novel, verse seldom has lines as long as those of the prose, and is often indented. What
# the longest line of a paragraph says, by its share of the width (below the first, from there to
# the second and so on): where prose is wrapped by a program, and where it is broken by the sense.
_WIDTH_GREEDY = (0.7, 0.8, 0.9), (-3.0, -1.0, 0.0, 1.5)
_WIDTH_BY_SENSE = (0.6, 0.7, 0.8, 0.9), (-2.5, -1.8, -0.3, 0.8, 1.2)
_INDENTED = -1.5
_SURELY_LINES = -3.0
# A sentence that starts within a line (not after Mr. and the like).
_SENTENCE = re.compile(r"(?:[!?]|[^\W\d_]{4}\.)[\"'”’]? [\"'“‘`]?[A-Z]")
_WITH_SENTENCE = 1.2
_WITHOUT_SENTENCE = -0.2
# A paragraph of prose has a longer line than that share of the width: where the lines are full,
# and where they are broken by the sense.
_SHORTEST_GREEDY = 0.62
_SHORTEST_BY_SENSE = 0.55
# Where most is verse, prose has no shorter line but its last: what is below one ran over the page.
_SHORTEST = 0.4
_NARROWEST_PROSE = 30  # characters


def judge(page: Page, firsts: "Ints", stops: "Ints", layout: Layout) -> "Ints":
    """The shapes of paragraphs of two lines or more that are not plain prose: those of the lines
    from each of `firsts` up to, not with, its one of `stops`."""
    import numpy as np

    if not len(firsts):
        return firsts
    above, owners = ranges(firsts, stops - 1)  # all lines but the last of each
    starts = np.cumsum(stops - firsts - 1) - (stops - firsts - 1)
    longest = np.maximum.reduceat(page.lengths[above], starts)
    indent = np.minimum(np.minimum.reduceat(page.indents[above], starts), page.indents[stops - 1])
    deepest = np.maximum(np.maximum.reduceat(page.indents[above], starts), page.indents[stops - 1])

    shortest = _SHORTEST_GREEDY if layout.is_greedy else _SHORTEST_BY_SENSE
    is_short = longest < shortest * layout.width
    is_short &= np.bincount(owners[page.fill(above, layout.width)], minlength=len(firsts)) == 0
    narrow = np.flatnonzero(is_short | layout.narrow)
    is_lines = _are_tables(page, firsts, stops) | _are_outlined(page, firsts, stops, deepest)
    if len(narrow):
        may_stop = 0.25 if layout.prose.stops_often else 0.5
        is_lines[narrow] |= ~_are_narrow_prose(page, firsts[narrow], stops[narrow], may_stop)

    if layout.verse:
        is_lines |= np.minimum.reduceat(page.lengths[above], starts) < _SHORTEST * layout.width
        is_remark = _are_remarks(page, firsts, stops)
        is_wide = longest >= WIDE * layout.width
        score: Floats = _PRIOR_IN_VERSE + layout.weight_of_wide * is_wide + _REMARK * is_remark
    else:
        score = _PRIOR_IN_PROSE + _looks(longest - indent, indent, layout)
    if layout.continued:  # breaks before these indents are no evidence
        goes_on = np.isin(page.indents[above + 1], list(layout.continued))
        goes_on &= deepest[owners] > 0
        above, owners = above[~goes_on], owners[~goes_on]
    order = np.arange(len(firsts))
    score = np.bincount(np.append(order, owners), np.append(score, _weights(page, above, layout)))
    if not layout.verse:
        _count_sentences(page, firsts, stops, score, is_lines)
    shapes = np.where(score >= 1, Shape.PROSE, Shape.UNSURE)
    shapes[score <= -1] = Shape.HARDLY_PROSE
    shapes[is_lines | (score <= _SURELY_LINES)] = Shape.LINES
    return shapes


def _weights(page: Page, above: "Ints", layout: Layout) -> "Floats":
    """What the line breaks below the lines `above` say for prose (above 0) or against it."""
    import numpy as np

    weights: Floats = layout.weights[break_kinds(page, above, layout)]
    if layout.verse:  # a line that goes on below, set deeper, does so with a small letter
        is_deeper = page.indents[above + 1] > page.indents[above] + 1
        weights[is_deeper] = np.minimum(weights[is_deeper], 0)
    return weights


def _looks(longest: "Ints", indent: "Ints", layout: Layout) -> "Floats":
    """What the outlines of paragraphs say for prose (above 0) or against it."""
    import numpy as np

    shares, says = _WIDTH_GREEDY if layout.is_greedy else _WIDTH_BY_SENSE
    step = np.searchsorted([share * layout.width for share in shares], longest, side="right")
    looks: Floats = np.array(says)[step] + _INDENTED * (indent > layout.margin)
    return looks


def _count_sentences(
    page: Page, firsts: "Ints", stops: "Ints", score: "Floats", is_told: "Bools"
) -> None:
    """Where the score is still near nothing, sentences that start within lines speak for prose."""
    import numpy as np

    lines = stops - firsts
    is_near = (-_WITH_SENTENCE * lines < score - _SURELY_LINES) & (score + 1 < 3) & ~is_told
    for number in np.flatnonzero(is_near).tolist():
        whole = page.whole(firsts[number], stops[number])
        sentences = min(int(lines[number]), len(_SENTENCE.findall(whole)))
        without = int(lines[number]) - sentences
        score[number] += _WITH_SENTENCE * sentences + _WITHOUT_SENTENCE * without


def _are_remarks(page: Page, firsts: "Ints", stops: "Ints") -> "Bools":
    """In brackets from the first character to the last (round ones are the poet's), or wholly in
    capitals, as headings are."""
    import numpy as np

    is_opened = page.codes[page.begins[firsts]] == ord("[")
    found: Bools = is_opened & (page.codes[page.stops[stops - 1] - 1] == ord("]"))
    no_small = traits(page.codes[page.begins[firsts] + 1]) & IS_LOWER == 0
    for number in np.flatnonzero(no_small & ~found).tolist():
        found[number] = page.whole(firsts[number], stops[number]).isupper()
    return found


def _are_outlined(page: Page, firsts: "Ints", stops: "Ints", deepest: "Ints") -> "Bools":
    """Set as a shape, as the mouse's tale is: in more indents than a paragraph has."""
    import numpy as np

    found = np.zeros(len(firsts), bool)
    for number in np.flatnonzero((deepest > 0) & (stops - firsts > 3)).tolist():
        first, stop = int(firsts[number]), int(stops[number])
        indents = set(page.indents[first:stop].tolist())
        found[number] = len(indents) > max(3, (stop - first) // 4)
    return found


_TABLE = re.compile(r"\S {3,}\S|\.(?: ?\.){4}|-{6}")


def _are_tables(page: Page, firsts: "Ints", stops: "Ints") -> "Bools":
    """Columns, leaders, or a figure at the end of most lines."""
    import numpy as np

    has_figure = traits(page.codes[page.stops - 1]) & IS_DIGIT > 0
    lines = stops - firsts
    found = (lines > 2) & (3 * counts_in(has_figure, firsts, stops) > 2 * lines)
    may_be_row = np.zeros(len(page.starts), bool)
    for marks in _table_marks(page):
        may_be_row[np.searchsorted(page.starts, marks, side="right") - 1] = True
    may_be = ~found & (2 * counts_in(may_be_row, firsts, stops) > lines)
    for number in np.flatnonzero(may_be).tolist():
        rows = filter(_TABLE.search, page.lines(firsts[number], stops[number]))
        found[number] = 2 * sum(1 for _ in rows) > lines[number]
    return found


def _table_marks(page: Page) -> Iterator["Ints"]:
    """Where the marks of a table may stand: three spaces, five dots, six hyphens."""
    import numpy as np

    surplus = page.surplus_spaces
    gaps = surplus[:-1][np.diff(surplus) == 1] - 1  # the first space of each three
    before = page.codes[gaps - 1]
    yield gaps[(before != ord(" ")) & (before != ord("\n"))]
    dots = np.flatnonzero(page.codes == ord("."))
    yield dots[:-4][dots[4:] - dots[:-4] <= 8]  # with spaces between them, or without
    hyphens = np.flatnonzero(page.codes == ord("-"))
    yield hyphens[:-5][hyphens[5:] - hyphens[:-5] == 5]


def _are_narrow_prose(page: Page, firsts: "Ints", stops: "Ints", may_stop: float) -> "Bools":
    """Quotations set narrower than the rest: their lines fill a width of their own, and a share
    of `may_stop` at most end in a punctuation mark."""
    import numpy as np

    lines, owners = ranges(firsts, stops)
    width = np.zeros(len(firsts), np.int64)
    np.maximum.at(width, owners, page.lengths[lines])
    breaks = stops - firsts - 1
    second = np.minimum(firsts + 1, stops - 1)
    found = (breaks >= 3) & (width - page.indents[second] >= _NARROWEST_PROSE)
    found &= small_starts(page, firsts, stops) >= 0.5 * breaks
    above, owners = ranges(firsts, stops - 1)
    full = np.bincount(owners[page.fill(above, width[owners] - 2)], minlength=len(firsts))
    stopped = np.bincount(owners[page.stop_at(above)], minlength=len(firsts))
    return found & (full >= 0.8 * breaks) & (stopped <= may_stop * breaks)

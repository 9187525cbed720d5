"""One line per paragraph of prose; verse, plays, lists and title pages line by line."""

import re
from collections.abc import Iterator
from itertools import pairwise
from typing import TYPE_CHECKING

from pipeline.books.blocks import holds_paragraphs, part_mixed_blocks, read_blocks
from pipeline.books.layout import Layout, measure
from pipeline.books.lines import (
    IS_DECIMAL,
    IS_OF_NAME,
    IS_UPPER,
    Lines,
    Page,
    counts_in,
    indent_of,
    ranges,
    starts_small,
    traits,
)
from pipeline.books.shapes import Shape, ends_sentence, shapes_of

if TYPE_CHECKING:
    from pipeline.books.lines import Bools, Ints

_SPACES = re.compile(r" {2,}")
# "Haupt- und Nebensache", "two- or threefold": the hyphen stands for a word left out.
_AFTER_HANGING_HYPHEN = {
    *("and", "or", "to", "of"), *("und", "oder", "bis"), *("et", "ou", "en"), *("och", "og", "ja"),
}  # fmt: skip


def reflow(text: str, layout: Layout | None = None) -> str:
    """Undoes hard wraps: each paragraph of prose becomes one line, other lines stay as they are,
    and exactly one empty line separates paragraphs. No word is lost or changed; a word that a
    wrap broke at its hyphen, or at a dash, is joined without a space.

    `layout` is measured on the text itself unless it is given, as for an excerpt."""
    page = read_blocks(text)
    if not len(page.starts):
        return ""
    layout = layout or measure(page)
    if not layout.wrapped:
        return "\n\n".join(_keep_unwrapped(page.blocks())) + "\n"
    part_mixed_blocks(page, layout)
    paragraphs = list(_paragraphs(page, layout))
    paragraphs[-1] += "\n"
    return "\n\n".join(paragraphs)


def _paragraphs(page: Page, layout: Layout) -> Iterator[str]:
    """What becomes of the blocks: most of them together, for one block after the other would take
    too long; alone where one must look at each of its lines."""
    import numpy as np

    shapes, frames = shapes_of(page, layout)
    firsts, stops = page.bounds[:-1], page.bounds[1:]
    is_lines = shapes == Shape.LINES
    may_be_several = counts_in(_may_start_paragraphs(page), firsts + 1, stops) > 0
    may_be_several[list(frames)] = True
    alone = np.where(is_lines, _are_centred_or_go_on(page, layout), may_be_several)
    codes, begins, ends = _laid_out(page, ~is_lines & ~alone)
    # Neighbours stay together where the empty line between them is there already.
    follows = np.append(False, ~alone[1:] & ~alone[:-1] & (page.distances[firsts[1:] - 1] == 2))
    heads = np.flatnonzero(~follows)
    for block, last in zip(heads.tolist(), [*(heads[1:] - 1).tolist(), -1], strict=True):
        first, stop = int(firsts[block]), int(stops[block])
        if not alone[block]:
            yield str(codes[begins[block] : ends[last]], page.encoding, "surrogatepass")
        elif is_lines[block]:
            yield _stanza(page.lines(first, stop), page.indents[first:stop].tolist(), layout)
        else:
            start, end = frames.get(block, (first, stop))
            yield from _framed_prose(page.lines(first, stop), start - first, end - first)


def _laid_out(page: Page, joined: "Bools") -> tuple[memoryview, "Ints", "Ints"]:
    """The codes of the text with those blocks on one line each that are `joined`, of which no
    line is indented but the first, and the others without the indent that all their lines share;
    and where in these codes each block begins and ends."""
    import numpy as np

    firsts, stops = page.bounds[:-1], page.bounds[1:]
    is_joined = np.repeat(joined, stops - firsts)
    breaks = is_joined.copy()
    breaks[stops - 1] = False  # below the last line
    glued = _inside_words(page, np.flatnonzero(breaks))
    breaks[glued] = False
    dropped = [page.stops[glued]]
    if page.indents.any():
        shared = np.repeat(np.minimum.reduceat(page.indents, firsts), stops - firsts)
        indents = np.where(is_joined, page.indents, shared)
        dropped.append(ranges(page.starts, page.starts + indents)[0])
    surplus = page.surplus_spaces
    line = np.searchsorted(page.starts, surplus, side="right") - 1
    dropped.append(surplus[is_joined[line] & (surplus > page.begins[line])])
    places = np.sort(np.concatenate(dropped))
    codes = np.delete(page.codes[: len(page.text)], places)

    def moved(positions: "Ints") -> "Ints":
        found: Ints = positions - np.searchsorted(places, positions)
        return found

    codes[moved(page.stops[breaks])] = ord(" ")
    return codes.data, moved(page.starts[firsts]), moved(page.stops[stops - 1])


def _inside_words(page: Page, above: "Ints") -> list[int]:
    """Those of the lines `above` whose break falls inside a word or beside a dash."""
    import numpy as np

    last, below = page.codes[page.stops[above] - 1], page.starts[above + 1]
    may_be = (last == ord("-")) | (last == ord("—")) | (page.codes[below] == ord("—"))
    may_be |= (page.codes[below] == ord("-")) & (page.codes[below + 1] == ord("-"))
    numbers = above[np.flatnonzero(may_be)].tolist()
    return [each for each in numbers if _belongs_to_word(page.line(each), page.line(each + 1))]


def _keep_unwrapped(blocks: list[Lines]) -> Iterator[str]:
    """The paragraphs of a text that is not hard-wrapped: its long lines are paragraphs, and its
    short ones are lines of verse or the like."""
    for block in blocks:
        if holds_paragraphs(block):
            yield from (line.strip() for line in block)
        else:
            least = min(map(indent_of, block))
            yield "\n".join(line[least:] for line in block)


# --- prose --------------------------------------------------------------------------------------

_SPEAKER = re.compile(r" *[A-Z][A-Z .'’-]{2,30}[.:] ")
_NUMBERED = re.compile(r" *[\[(]?(?:\d{1,3}[:.])?(\d{1,3})[\]).:]? +[^\W\d_]")


def _framed_prose(block: Lines, start: int, stop: int) -> list[str]:
    """The paragraphs of a block of prose, with what stands above `start` and below `stop` on lines
    of their own."""
    paragraphs = _prose(block[start:stop])
    if start:
        paragraphs[0] = f"{_one_spaced(block[0].strip(' '))}\n{paragraphs[0]}"
    if stop < len(block):
        paragraphs[-1] += "\n" + _join("\n".join(block[stop:]))
    return paragraphs


def _may_start_paragraphs(page: Page) -> "Bools":
    """Whether each line starts with what may start a paragraph: an indent, a number, a bracket,
    the name of who speaks."""
    first, second, third = (traits(page.codes[page.starts + ahead]) for ahead in range(3))
    is_name = first & second & third & IS_OF_NAME > 0
    starts = (page.indents > 0) | (first & IS_DECIMAL > 0) | (is_name & (first & IS_UPPER > 0))
    for bracket in "[(":
        starts |= page.codes[page.starts] == ord(bracket)
    return starts


def _prose(block: Lines) -> list[str]:
    """The paragraphs of a block of prose: usually one; several where only indents, numbers or
    the names of speakers set them apart."""
    parts = [block[:1]]
    starts = _starts_by_indent(block) | _starts_by_number(block) | _starts_by_speaker(block)
    for number, line in enumerate(block[1:], 1):
        if number in starts and ends_sentence(parts[-1][-1]) and not starts_small(line):
            parts.append([])
        parts[-1].append(line)
    return [_join("\n".join(part)) for part in parts]


def _starts_by_indent(block: Lines) -> set[int]:
    """Lines set deeper than the rest; or, where those are the most, lines set less deep, as the
    entries of a dictionary are."""
    indents = list(map(indent_of, block))
    base = min(indents)
    deeper = {number for number, indent in enumerate(indents) if indent > base + 1}
    if 0 not in deeper and 2 * len(deeper) >= len(block):
        return set(range(len(block))) - deeper
    return deeper


def _starts_by_number(block: Lines) -> set[int]:
    """Lines that are numbered one after the other: verses of scripture, articles of a law."""
    starts: set[int] = set()
    last = None
    for number, line in enumerate(block):
        match = _NUMBERED.match(line)
        if match and (last is None or int(match[1]) == last + 1):
            starts.add(number)
            last = int(match[1])
    return starts if len(starts) > 1 else set()


def _starts_by_speaker(block: Lines) -> set[int]:
    starts = {number for number, line in enumerate(block) if _SPEAKER.match(line)}
    return starts if len(starts) > 1 else set()


def _join(whole: str) -> str:
    """Wrapped lines on one line."""
    if "\n " in whole or whole[0] == " ":
        whole = "\n".join(line.strip(" ") for line in whole.split("\n"))
    if "-\n" in whole or "—\n" in whole or "\n--" in whole or "\n—" in whole:
        lines = whole.split("\n")
        pieces = lines[:1]
        for before, line in pairwise(lines):
            pieces.append(line if _belongs_to_word(before, line) else " " + line)
        return _one_spaced("".join(pieces))
    return _one_spaced(whole.replace("\n", " "))


def _belongs_to_word(before: str, after: str) -> bool:
    """Whether a wrap fell inside a word or beside a dash that has no spaces round it."""
    if before.endswith(("--", "—")):
        return before.rstrip("-—")[-1:].isalnum() and after[:1].isalnum()
    if after.startswith(("--", "—")):
        return after.lstrip("-—")[:1].isalnum() and before[-1:].isalnum()
    if before.endswith("-") and before[-2:-1].isalnum():
        word = after.split(" ", 1)[0].strip(",.;")
        return word[:1].isalnum() and word not in _AFTER_HANGING_HYPHEN
    return False


def _one_spaced(line: str) -> str:
    return _SPACES.sub(" ", line) if "  " in line else line


# --- verse --------------------------------------------------------------------------------------

_CENTRED = 6  # indent from which on lines may be centred
_OFF_CENTRE = 3  # characters between their middles


def _are_centred_or_go_on(page: Page, layout: Layout) -> "Bools":
    """Of blocks of lines: whether they lose more than the indent that all their lines share."""
    import numpy as np

    firsts, stops = page.bounds[:-1], page.bounds[1:]
    if not page.indents.any():
        return firsts < 0
    shared = np.minimum.reduceat(page.indents, firsts)
    middles = page.indents + page.lengths
    spread = np.maximum.reduceat(middles, firsts) - np.minimum.reduceat(middles, firsts)
    found = (shared >= _CENTRED) & (spread <= 2 * _OFF_CENTRE)
    if layout.continued:
        goes_on = np.isin(page.indents, list(layout.continued))
        goes_on &= page.indents > np.repeat(shared, stops - firsts)
        found |= counts_in(goes_on, firsts, stops) > 0
    return found


def _stanza(lines: Lines, indents: list[int], layout: Layout) -> str:
    """A block of lines as they stand to one another, without the indent that all share."""
    shared = min(indents)
    if shared >= _CENTRED and _is_centred(lines, indents):
        return "\n".join(_one_spaced(line.strip(" ")) for line in lines)
    if layout.continued:
        lines = _unbroken(lines, indents, layout)
    return "\n".join(line[shared:] for line in lines)


def _is_centred(lines: Lines, indents: list[int]) -> bool:
    """Lines whose middles stand under one another, as on a title page."""
    middles = [(indent + len(line)) / 2 for line, indent in zip(lines, indents, strict=True)]
    return max(middles) - min(middles) <= _OFF_CENTRE


def _unbroken(lines: Lines, indents: list[int], layout: Layout) -> Lines:
    """Lines of verse too long for the page, which went on below with a deeper indent, whole."""
    base = min(indents)
    room = layout.width - 12
    whole: list[Lines] = []  # each in the pieces that stand on the page
    above = 0  # length of the line above, as it stands on the page
    for line, indent in zip(lines, indents, strict=True):
        rest = line.strip(" ")
        may_go_on = bool(whole) and indent > base and indent in layout.continued
        if may_go_on and above + 1 + len(rest.split(" ", 1)[0]) > room:
            whole[-1].append(rest)
        else:
            whole.append([line])
        above = len(line)
    return list(map(" ".join, whole))

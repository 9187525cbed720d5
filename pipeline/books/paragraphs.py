"""One line per paragraph of prose; verse, plays, lists and title pages line by line."""

import re
from collections.abc import Iterator
from itertools import pairwise

from pipeline.books.lines import Layout, Lines, Shape, first_letter, indent_of, judge, measure

_BLOCK = re.compile(r"[^\n]+(?:\n[^\n]+)*")
_SPACES = re.compile(r" {2,}")
# "Haupt- und Nebensache", "two- or threefold": the hyphen stands for a word left out.
_AFTER_HANGING_HYPHEN = {
    *("and", "or", "to", "of"), *("und", "oder", "bis"), *("et", "ou", "en"), *("och", "og", "ja"),
}  # fmt: skip


def reflow(text: str) -> str:
    """Undoes hard wraps: each paragraph of prose becomes one line, other lines stay as they are,
    and exactly one empty line separates paragraphs. No word is lost or changed; a word that a
    wrap broke at its hyphen, or at a dash, is joined without a space."""
    blocks = [match.group().split("\n") for match in _BLOCK.finditer(_without_trailing_space(text))]
    if not blocks:
        return ""
    layout = measure(blocks)
    if not layout.wrapped:
        return "\n\n".join(_keep_unwrapped(blocks)) + "\n"
    blocks = [part for block in blocks for part in _by_indent(block, layout)]
    shapes = _settle([_shape(block, layout) for block in blocks], layout)
    paragraphs: list[str] = []
    for block, shape in zip(blocks, shapes, strict=True):
        if len(block) == 1:
            paragraphs.append(_one_spaced(block[0].strip(" ")))
        elif shape is Shape.LINES:
            paragraphs.append(_stanza(block, layout))
        else:
            paragraphs += _prose(block)
    return "\n\n".join(paragraphs) + "\n"


def _without_trailing_space(text: str) -> str:
    if "\t" in text:
        text = text.expandtabs(8)
    return "\n".join(map(str.rstrip, text.split("\n")))


def _keep_unwrapped(blocks: list[Lines]) -> Iterator[str]:
    """The paragraphs of a text that is not hard-wrapped: its long lines are paragraphs, and its
    short ones are lines of verse or the like."""
    for block in blocks:
        if len(block) > 1 and sum(map(len, block)) > 150 * len(block):
            yield from (line.strip() for line in block)
        else:
            least = min(map(indent_of, block))
            yield "\n".join(line[least:] for line in block)


# --- shapes -------------------------------------------------------------------------------------


def _by_indent(block: Lines, layout: Layout) -> list[Lines]:
    """Prose and what it quotes, where only the indent tells the one from the other."""
    if len(block) < 4 or not any(line[0] == " " for line in block):
        return [block]
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


def _shape(block: Lines, layout: Layout) -> Shape:
    return judge(block, layout) if len(block) > 1 else Shape.UNSURE


def _settle(shapes: list[Shape], layout: Layout) -> list[Shape]:
    """Where a paragraph cannot be told by itself, those before and after it decide."""
    fallback = Shape.LINES if layout.verse else Shape.PROSE
    before = fallback
    settled = []
    after = _next_sure(shapes, fallback)
    for shape, following in zip(shapes, after, strict=True):
        if shape is Shape.UNSURE:
            shape = before if before is following else fallback
        else:
            before = shape
        settled.append(shape)
    return settled


def _next_sure(shapes: list[Shape], fallback: Shape) -> list[Shape]:
    following = []
    sure = fallback
    for shape in reversed(shapes):
        following.append(sure)
        if shape is not Shape.UNSURE:
            sure = shape
    return following[::-1]


# --- prose --------------------------------------------------------------------------------------

_SPEAKER = re.compile(r"[A-Z][A-Z .'’-]{2,30}[.:] ")


def _prose(block: Lines) -> Iterator[str]:
    """The paragraphs of a block of prose: usually one; several where only indents or the names
    of speakers set them apart."""
    for line in block[1:]:
        if line[0] == " " or line[1:3].isupper():
            break
    else:
        yield _join(block)
        return
    indents = [indent_of(line) for line in block]
    base = min(indents)
    deeper = [indent > base + 1 for indent in indents]
    is_play = sum(1 for line in block if _SPEAKER.match(line, indent_of(line))) > 1
    hanging = all(deeper[1:])
    part = block[:1]
    for line, is_deeper in zip(block[1:], deeper[1:], strict=True):
        speaks = is_play and _SPEAKER.match(line, indent_of(line))
        starts = (is_deeper and not hanging) or speaks
        if starts and not first_letter(line).islower() and _ends_sentence(part[-1]):
            yield _join(part)
            part = []
        part.append(line)
    yield _join(part)


def _ends_sentence(line: str) -> bool:
    return line.rstrip("\"'”’»)]_*").endswith((".", "!", "?", ":", "--", "—", ";"))


def _join(lines: Lines) -> str:
    """Wrapped lines on one line."""
    joined = " ".join(lines)
    if "  " in joined or joined[0] == " ":
        lines = [line.strip(" ") for line in lines]
        joined = " ".join(lines)
    if "- " in joined or "— " in joined or " --" in joined or " —" in joined:
        pieces = lines[:1]
        for before, line in pairwise(lines):
            pieces.append(line if _belongs_to_word(before, line) else " " + line)
        joined = "".join(pieces)
    return _one_spaced(joined)


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


def _stanza(block: Lines, layout: Layout) -> str:
    """A block of lines as they stand to one another, without the indent that all share."""
    if _is_centred(block):
        return "\n".join(_one_spaced(line.strip(" ")) for line in block)
    lines = _unbroken(block, layout)
    shared = min(map(indent_of, lines))
    return "\n".join(line[shared:] for line in lines)


def _is_centred(lines: Lines) -> bool:
    """Lines whose middles stand under one another, as on a title page."""
    if min(map(indent_of, lines)) < 6:
        return False
    middles = [(indent_of(line) + len(line)) / 2 for line in lines]
    return max(middles) - min(middles) <= 3


def _unbroken(lines: Lines, layout: Layout) -> Lines:
    """Lines of verse too long for the page, which went on below with a deeper indent, whole."""
    base = min(map(indent_of, lines))
    whole: Lines = []
    above = 0  # length of the line above, as it stands on the page
    for line in lines:
        word = line.strip(" ").split(" ", 1)[0]
        room = layout.width - 12
        indent = indent_of(line)
        if whole and indent > base and indent in layout.continued and above + 1 + len(word) > room:
            whole[-1] += " " + line.strip(" ")
        else:
            whole.append(line)
        above = len(line)
    return whole

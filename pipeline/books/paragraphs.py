"""One line per paragraph of prose; verse, plays, lists and title pages line by line."""

import re
from collections.abc import Iterator
from itertools import pairwise

from pipeline.books.lines import Layout, Lines, Shape, first_letter, indent_of, judge, measure

_BLOCK = re.compile(r"[^\n]+(?:\n[^\n]+)*")
_SPACES = re.compile(r" {2,}")
# "Haupt- und Nebensache", "two- or threefold": the hyphen stands for a word left out.
_AFTER_HANGING_HYPHEN = set("and or to und oder bis et ou en of och og ja".split())


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
    shapes = _settle([_shape(block, layout) for block in blocks], layout)
    paragraphs: list[str] = []
    for block, shape in zip(blocks, shapes, strict=True):
        if len(block) == 1:
            paragraphs.append(_one_spaced(block[0].strip(" ")))
        elif shape is Shape.LINES:
            paragraphs.append(_stanza(block, layout))
        else:
            paragraphs += _prose(block, layout)
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


def _prose(block: Lines, layout: Layout) -> Iterator[str]:
    """The paragraphs of a block of prose: usually one; several where only indents or speakers'
    names set them apart; lines of verse quoted within it stay lines."""
    for part, verse in _parts(block, layout):
        yield _stanza(part, layout) if verse else _join(part)


def _parts(block: Lines, layout: Layout) -> Iterator[tuple[Lines, bool]]:
    if not any(line[0] == " " or line[:3].isupper() for line in block[1:]):
        yield block, False
        return
    indents = [indent_of(line) for line in block]
    base = min(indents)
    deeper = [indent > base + 1 for indent in indents]
    speakers = sum(1 for line in block if _SPEAKER.match(line, indent_of(line)))
    if (not any(deeper[1:]) and speakers < 2) or all(deeper[1:]):
        yield block, False
        return
    part: Lines = []
    number = 0
    while number < len(block):
        run = number
        while run < len(block) and deeper[run]:
            run += 1
        if run - number >= 2 and _is_quoted_verse(block[number:run]):
            if part:
                yield part, False
            part = []
            yield block[number:run], True
            number = run
            continue
        starts_paragraph = (
            part
            and (deeper[number] or (speakers >= 2 and _SPEAKER.match(block[number], base)))
            and not first_letter(block[number]).islower()
            and _ends_sentence(part[-1])
        )
        if starts_paragraph:
            yield part, False
            part = []
        part.append(block[number])
        number += 1
    if part:
        yield part, False


def _is_quoted_verse(lines: Lines) -> bool:
    small = sum(1 for line in lines[1:] if first_letter(line).islower())
    return 2 * small < len(lines) - 1


def _ends_sentence(line: str) -> bool:
    return line.rstrip("\"'”’»)]_*").endswith((".", "!", "?", ":", "--", "—", ";"))


def _join(lines: Lines) -> str:
    """Wrapped lines on one line."""
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

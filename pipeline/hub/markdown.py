"""Markdown that nothing from outside can break: cells and tables of a card.

Titles and authors come from strangers' catalogues. Every character that means something to
Markdown or HTML becomes an entity, so no title ends a cell or a row, or becomes a link.
"""

import re
import unicodedata
from collections.abc import Iterable, Sequence

# A bracket or an underscore inside a word needs no escape where [ and ] have one.
_MARKUP = re.compile(r"[\\`*{}\[\]<>#|~$&@]|(?<!\w)_|_(?!\w)|(?<=:)//|(?<=www)\.")
_SAFE_LINK = re.compile(r"https?://[\w.-]+(?::\d+)?(?:/[\w./~%?=&,:+-]*)?", re.ASCII)


class Markdown(str):
    """Text that is Markdown already, and safe."""

    __slots__ = ()


def one_line(text: str) -> str:
    """`text` on one line: white space runs are one space, what cannot be seen is left out.

    That is control, format (such as the marks that turn the reading direction), surrogate and
    private characters.
    """
    visible = (" " if c.isspace() else c for c in text if _is_visible(c))
    return " ".join("".join(visible).split())


def _is_visible(character: str) -> bool:
    return character.isspace() or unicodedata.category(character)[0] != "C"


def cell(value: object) -> str:
    """`value` as the text of one table cell, in which nothing is markup."""
    return _MARKUP.sub(lambda m: "".join(f"&#{ord(c)};" for c in m[0]), one_line(str(value)))


def link(address: str) -> str:
    """A link if `address` is a plain http(s) address, else the text as it is."""
    return Markdown(f"<{address}>") if _SAFE_LINK.fullmatch(address) else address


def code_names(names: Iterable[str]) -> Markdown:
    """Names of this program's own, such as columns, set as code."""
    return Markdown(", ".join(f"`{name}`" for name in names))


def code_span(text: str) -> Markdown:
    """`text` set as code within a line, of which nothing is markup; not for a table, in which a
    `|` would end the cell all the same."""
    line = one_line(text)
    fence = "`" * (1 + max(map(len, re.findall("`+", line)), default=0))
    pad = " " if line.startswith("`") or line.endswith("`") else ""
    return Markdown(f"{fence}{pad}{line}{pad}{fence}") if line else Markdown("(nothing)")


def table(header: Sequence[str], rows: Iterable[Iterable[object]]) -> str:
    """A Markdown table; whole numbers get their commas."""
    lines = ["| " + " | ".join(header) + " |", "|" + " --- |" * len(header)]
    for row in rows:
        cells = (value if isinstance(value, Markdown) else cell(_number(value)) for value in row)
        lines.append("| " + " | ".join(cells) + " |")
    return "\n".join(lines)


def paragraphs(text: str) -> Markdown:
    """`text` as one table cell that keeps its line breaks, and in which nothing is markup."""
    return Markdown("<br>".join(cell(line) for line in text.splitlines() if one_line(line)))


def code_block(text: str, language: str = "") -> str:
    """`text` set as code, between fences that nothing in it can end. Lines stay; what cannot be
    seen is left out."""
    lines = (
        "".join(c if c != "\t" else "    " for c in line if c == "\t" or _is_visible(c))
        for line in text.rstrip("\n").split("\n")
    )
    body = "\n".join(lines)
    fence = "`" * max(3, 1 + max(map(len, re.findall("`+", body)), default=0))
    return f"{fence}{language}\n{body}\n{fence}"


def _number(value: object) -> object:
    is_whole = isinstance(value, int) and not isinstance(value, bool)
    return f"{value:,}" if is_whole else value

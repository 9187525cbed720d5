"""Small parts of what is printed: columns of figures, bars, text that stays on its line."""

from collections.abc import Sequence
from typing import Any

Section = str | dict[str, Any]  # lines, or a table for printing.print_table

_EIGHTHS = " ▏▎▍▌▋▊▉"


def aligned(
    columns: Sequence[str], rows: Sequence[Sequence[str]], words: Sequence[str] | None = None
) -> dict[str, Any]:
    """A table whose columns are figures, aligned at the right, but for those in `words`.

    Without `words` that is the first one.
    """
    left = columns[:1] if words is None else words
    names = []
    cells: list[list[str]] = []
    for at, column in enumerate(columns):
        texts = [column, *(row[at] for row in rows)]
        width = max(map(len, texts))
        if column not in left:
            texts = [text.rjust(width) for text in texts]
        names.append(texts[0])
        cells.append(texts[1:])
    return {
        "columns": names,
        "rows": [dict(zip(names, row, strict=True)) for row in zip(*cells, strict=True)],
        "long": tuple(left) if len(left) > 1 else (),
    }


def bar(share: float, width: int) -> str:
    """A bar of characters for a share from 0 to 1 of `width`; never nothing for more than 0."""
    eighths = round(share * width * 8)
    if share > 0:
        eighths = max(eighths, 1)
    return "█" * (eighths // 8) + _EIGHTHS[eighths % 8].strip()


def number(count: float, word: str) -> str:
    """A number with its word, such as "1 document" or "1,234 documents"."""
    return f"{count:,g} {word}" if count == 1 else f"{_plain(count)} {word}s"


def _plain(count: float) -> str:
    return f"{count:,}" if isinstance(count, int) else f"{count:,.6g}"


def visible(text: str) -> str:
    """`text` on one line: a line end is ↵, and what cannot be seen is a space or �."""
    shown = text.replace("\r\n", "\n").replace("\n", "↵").replace("\t", " ")
    return "".join(c if c.isprintable() else " " if c.isspace() else "�" for c in shown)


def shortened(text: str, width: int) -> str:
    """`text`, or its beginning with … if it is longer than `width` characters."""
    return text if len(text) <= width else text[: max(width - 1, 1)] + "…"

"""What a command prints as its result, on stdout: tables, and the lines of a comparison. Drawn with
rich on a terminal, plain elsewhere, so that it can be piped."""

import os
import sys
from collections.abc import Iterable
from typing import Any

from pipeline.console import printable


def print_table(table: dict[str, Any]) -> None:
    """Print rows to stdout as a table: drawn on a terminal, aligned columns elsewhere.

    `table` has `columns` (names), `rows` (column -> text, or (text, style)), and `long` (names of
    columns whose text may take several lines).
    """
    cells = [[_cell(row[column]) for column in table["columns"]] for row in table["rows"]]
    if not sys.stdout.isatty():
        lines = [table["columns"], *([text for text, _ in row] for row in cells)]
        widths = [max(map(len, column)) for column in zip(*lines, strict=True)]
        for line in lines:
            padded = "  ".join(text.ljust(width) for text, width in zip(line, widths, strict=True))
            sys.stdout.write(padded.rstrip() + "\n")
        return
    from rich.box import SIMPLE_HEAD
    from rich.console import Console
    from rich.table import Table
    from rich.text import Text

    drawn = Table(header_style="bold", box=SIMPLE_HEAD, pad_edge=False)
    for column in table["columns"]:
        # A word that is longer than its column goes on in the next line, and loses nothing.
        is_long = column in table.get("long", ())
        drawn.add_column(column, no_wrap=not is_long, overflow="fold" if is_long else "ellipsis")
    for row in cells:
        drawn.add_row(*(Text(text, style=style) for text, style in row))
    Console().print(drawn)


DIFF_STYLES = {
    "title": "bold", "heading": "bold cyan", "place": "dim cyan", "removed": "red",
    "added": "green", "note": "dim",
}  # fmt: skip


def print_diff(lines: Iterable[tuple[str, str]]) -> None:
    """Print lines to stdout, each with a style of DIFF_STYLES: coloured on a terminal (or where
    FORCE_COLOR asks for it), plain elsewhere. Long lines stay lines."""
    from rich.console import Console
    from rich.text import Text

    drawn = Console(file=sys.stdout, highlight=False, soft_wrap=True)
    try:
        for style, line in lines:
            if drawn.is_terminal:
                drawn.print(Text(printable(line), style=DIFF_STYLES.get(style, "")))
            else:
                sys.stdout.write(printable(line) + "\n")
        sys.stdout.flush()
    except BrokenPipeError:  # `| head`, or `| less` that was left: nobody reads on
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())


def _cell(value: str | tuple[str, str]) -> tuple[str, str]:
    text, style = value if isinstance(value, tuple) else (value, "")
    return printable(text), style

"""Everything that a person sees while a stage works: lines, warnings, progress bars.

All of it goes to stderr, so that what a command prints as its result can be piped. On a terminal
it is drawn with rich (colour, bars with rate and ETA); elsewhere it is plain lines, and few.
"""

import os
import sys
import time
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from rich.console import Console

Advance = Callable[..., None]

PLAIN_INTERVAL = 10.0  # seconds between two lines of progress where there is no terminal

_console: "Console | None" = None
_quiet = False


def set_quiet(quiet: bool) -> None:
    """Keep information lines and progress to ourselves; warnings still show."""
    global _quiet
    _quiet = quiet


def console() -> "Console":
    """The one rich console, on stderr, made when first needed."""
    global _console
    if _console is None or _console.file is not sys.stderr:
        from rich.console import Console

        # Off a terminal a line stays a line: whoever reads a log wraps it as they like.
        width = None if sys.stderr.isatty() else 10_000
        _console = Console(file=sys.stderr, highlight=False, soft_wrap=True, width=width)
    return _console


def printable(text: str) -> str:
    """`text` without control characters: a book's title must not move the cursor."""
    return "".join(c if c.isprintable() or c in "\n\t" else "�" for c in text)


def say(text: str) -> None:
    """Print one line of information."""
    if not _quiet:
        console().print(printable(text), markup=False)


def warn(text: str) -> None:
    """Print one warning, in yellow where there is colour."""
    console().print("warning: " + printable(text), style="yellow", markup=False)


def fail(message: str, hint: str | None = None) -> None:
    """Print the sentence that ends a command, and under it the way out."""
    console().print("error: " + printable(message), style="bold red", markup=False)
    if hint:
        console().print("  " + printable(hint), markup=False)


@contextmanager
def progress(label: str, total: float | None = None, unit: str = "it") -> Iterator[Advance]:
    """Show how far a long piece of work has come.

    Yields `advance(n=1, note="", size=0)`, `size` in bytes. On a terminal: a bar with rate, bytes
    and remaining time. Elsewhere: a plain line every ten seconds, none for what is quicker.
    """
    if _quiet:
        yield lambda n=1.0, note="", size=0: None
    elif console().is_terminal:
        with _bar(label, total, unit) as advance:
            yield advance
    else:
        yield _plain_lines(label, total, unit)


@contextmanager
def _bar(label: str, total: float | None, unit: str) -> Iterator[Advance]:
    from rich.progress import (
        BarColumn,
        MofNCompleteColumn,
        Progress,
        ProgressColumn,
        SpinnerColumn,
        Task,
        TextColumn,
        TimeRemainingColumn,
    )
    from rich.text import Text

    class Rate(ProgressColumn):
        def render(self, task: Task) -> Text:
            speed = task.finished_speed or task.speed
            return Text(f"{speed:,.1f} {unit}/s" if speed else "", style="dim")

    class Size(ProgressColumn):
        def render(self, task: Task) -> Text:
            total = task.fields["size"]
            return Text(megabytes(total) if total else "", style="dim")

    columns = [
        SpinnerColumn(),
        TextColumn("{task.description}", markup=False),
        BarColumn(),
        MofNCompleteColumn(),
        Rate(),
        Size(),
        TimeRemainingColumn(),
        TextColumn("{task.fields[note]}", style="dim", markup=False),
    ]
    with Progress(*columns, console=console(), transient=True) as bars:
        task = bars.add_task(label, total=total, note="", size=0)
        bytes_so_far = 0

        def advance(n: float = 1, note: str = "", size: int = 0) -> None:
            nonlocal bytes_so_far
            bytes_so_far += size
            bars.update(task, advance=n, size=bytes_so_far)
            if note:
                bars.update(task, note=printable(note))

        yield advance


def _plain_lines(label: str, total: float | None, unit: str) -> Advance:
    start = last = time.monotonic()
    count = 0.0
    bytes_so_far = 0

    def advance(n: float = 1, note: str = "", size: int = 0) -> None:
        nonlocal count, last, bytes_so_far
        count += n
        bytes_so_far += size
        now = time.monotonic()
        if now - last < PLAIN_INTERVAL:
            return
        last = now
        rate = count / (now - start)
        line = f"{label}: {count:,.0f}"
        if total:
            line += f" of {total:,.0f}"
        line += f" ({rate:,.1f} {unit}/s"
        if bytes_so_far:
            line += f", {megabytes(bytes_so_far)}"
        if total and rate:
            line += f", {max(total - count, 0) / rate:,.0f} s left"
        say(line + ")" + (f" {note}" if note else ""))

    return advance


def megabytes(size: int) -> str:
    """A number of bytes as people read it."""
    return f"{size / 1e9:,.2f} GB" if size >= 1e9 else f"{size / 1e6:,.1f} MB"


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
        drawn.add_column(column, no_wrap=column not in table.get("long", ()))
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

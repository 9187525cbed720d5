"""Everything that a person sees while a stage works: lines, warnings, progress bars.

All of it goes to stderr, so that what a command prints as its result can be piped. On a terminal
it is drawn with rich (colour, bars with rate and ETA); elsewhere it is plain lines, and few.
"""

import sys
import time
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from rich.console import Console
    from rich.live import Live

Advance = Callable[..., None]

PLAIN_INTERVAL = 10.0  # seconds, at least, between two lines of progress without a terminal
PLAIN_LONGEST = 60.0  # seconds after which there is a line though little is done

_MARK_SECONDS = 0.25
_MARKS = 300
_BAR = (10, 40)  # cells, at least and at most
_LAST_TO_GO = 3  # parts of a line that are cut rather than left out: count, time, note
_SPINNER = "⠋⠙⠹⠸⠼⠴⠦⠧⠇⠏"

_console: "Console | None" = None
_live: "Live | None" = None
_running: "list[_Work]" = []
_listeners: list[Callable[[str, str], None]] = []
_quiet = False


def set_quiet(quiet: bool) -> None:
    """Keep information lines and progress to ourselves; warnings still show."""
    global _quiet
    _quiet = quiet


def console() -> "Console":
    """The one rich console, on stderr, made when first needed."""
    global _console
    if _live is not None:
        return _live.console  # another would write into what it draws
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
    _tell("info", text)
    if not _quiet:
        console().print(printable(text), markup=False)


def warn(text: str) -> None:
    """Print one warning, in yellow where there is colour."""
    _tell("warning", text)
    console().print("warning: " + printable(text), style="yellow", markup=False)


def fail(message: str, hint: str | None = None) -> None:
    """Print the sentence that ends a command, and under it the way out."""
    _tell("error", f"{message} {hint}" if hint else message)
    console().print("error: " + printable(message), style="bold red", markup=False)
    if hint:
        console().print("  " + printable(hint), markup=False)


@contextmanager
def heard_by(listener: Callable[[str, str], None]) -> Iterator[None]:
    """Tell `listener` too what is said: a kind (`info`, `warning`, `error`) and the text.

    With --quiet it still hears what the screen does not show.
    """
    _listeners.append(listener)
    try:
        yield
    finally:
        _listeners.remove(listener)


def _tell(kind: str, text: str) -> None:
    for listener in _listeners:
        listener(kind, text)


@contextmanager
def progress(label: str, total: float | None = None, unit: str = "it") -> Iterator[Advance]:
    """Show how far a long piece of work has come.

    Yields `advance(n=1, note="", size=0, left=None)`: `size` in bytes; `left` in seconds, where
    the caller knows better than the pace so far. On a terminal: one line with a bar, rate, bytes
    and remaining time, cut to its width. Elsewhere a plain line for each tenth of the work, or
    each minute, none within ten seconds. While another piece of work is shown within this one,
    time does not count for this one's pace.
    """
    work = _Work(label, total, unit)
    outer = _running[-1] if _running else None
    if outer:
        outer.pause()
    _running.append(work)
    try:
        if _quiet:
            yield lambda n=1.0, note="", size=0, left=None: None
        elif console().is_terminal and not console().is_dumb_terminal:
            with _drawn():
                yield work.advance
        else:
            yield _plain_lines(work)
    finally:
        _running.remove(work)
        if outer:
            outer.resume()
        if _live is not None:
            _live.refresh()  # else the line of what has ended would stay for a moment


class _Work:
    """A piece of work: how much of it is done, how fast, and how long the rest will take."""

    def __init__(
        self,
        label: str,
        total: float | None,
        unit: str,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self.label, self.total, self.unit = printable(label), total, unit
        self.count, self.size, self.note = 0.0, 0, ""
        self._clock = clock
        self._start = clock()
        self._paused = 0.0  # seconds until now
        self._paused_since: float | None = None
        self._told: tuple[float, float] | None = None  # seconds left, and when that was said
        # Recent marks of (seconds of work, count): pace is that of late, not of all time, and
        # steps of a minute each have one as well.
        self._marks = deque([(0.0, 0.0)], maxlen=_MARKS)
        self._last = (0.0, 0.0)

    def pause(self) -> None:
        """From now on it is something else that takes the time."""
        self._paused_since = self._clock()

    def resume(self) -> None:
        """Back to this work."""
        if self._paused_since is not None:
            self._paused += self._clock() - self._paused_since
            self._paused_since = None

    def worked(self) -> float:
        """Seconds of work so far."""
        now = self._clock() if self._paused_since is None else self._paused_since
        return now - self._start - self._paused

    def advance(
        self, n: float = 1, note: str = "", size: int = 0, left: float | None = None
    ) -> None:
        """Count what is done."""
        worked = self.worked()
        self.count += n
        self.size += size
        self.note = printable(note) or self.note
        if left is not None:
            self._told = (left, worked)
        self._last = (worked, self.count)
        if worked - self._marks[-1][0] >= _MARK_SECONDS:
            self._marks.append(self._last)

    def rate(self) -> float:
        """Units per second of late; 0 before anything is done."""
        (first, done), (last, count) = self._marks[0], self._last
        return (count - done) / (last - first) if last > first else 0.0

    def left(self) -> float | None:
        """Seconds to go, if that can be known."""
        if self._told:
            left, then = self._told
        elif self.total and self.rate():
            left, then = (self.total - self.count) / self.rate(), self._last[0]
        else:
            return None
        return max(0.0, left - (self.worked() - then))

    def speed(self) -> str:
        """The rate as people read it: 3.1 steps/s, or 3.1 s/step."""
        rate = self.rate()
        if 0 < rate < 1:
            return f"{1 / rate:,.1f} s/{self.unit.removesuffix('s')}"
        return f"{rate:,.1f} {self.unit}/s" if rate else ""


@contextmanager
def _drawn() -> Iterator[None]:
    """Keep the lines of the running work at the foot of the terminal, redrawn in place."""
    global _live
    if _live is not None:  # work within work has a line of its own
        yield
        return
    from rich.live import Live

    # What is written to a pipe must not end up on the terminal.
    stdout = sys.stdout.isatty()
    live = Live(
        console=console(), get_renderable=_lines, transient=True, refresh_per_second=8,
        redirect_stdout=stdout,
    )  # fmt: skip
    with live:
        _live = live
        try:
            yield
        finally:
            _live = None


def _lines() -> Any:
    from rich.text import Text

    width = console().width - 1  # a full line makes some terminals wrap
    lines = [_line(work, width) for work in list(_running)]
    return Text("\n", no_wrap=True, overflow="crop").join(lines)


def _line(work: _Work, width: int) -> Any:
    """One line of at most `width` cells: where room lacks, the bar goes, then what tells least."""
    from rich.text import Text

    left = work.left()
    parts = [
        f"{work.count:,.0f}/{work.total:,.0f}" if work.total else f"{work.count:,.0f}",
        "" if left is None else f"{_clock_time(left)} left",
        work.note,
        work.speed(),
        megabytes(work.size) if work.size else "",
    ]
    head = Text(f"{_SPINNER[int(time.monotonic() * 10) % len(_SPINNER)]} {work.label}  ")
    while True:
        told = "  ".join(part for part in parts if part)
        room = width - head.cell_len - Text(told).cell_len - 2
        if room >= (_BAR[0] if work.total else 0) or len(parts) <= _LAST_TO_GO:
            break
        parts.pop()
    if work.total and room >= _BAR[0]:
        cells = min(room, _BAR[1])
        done = min(cells, int(cells * work.count / work.total))
        head.append("━" * done, style="cyan")
        head.append("━" * (cells - done) + "  ", style="bright_black")
    line = head.append(told, style="dim")
    line.truncate(width, overflow="ellipsis")
    line.no_wrap = True
    return line


def _plain_lines(work: _Work) -> Advance:
    last, tenth = 0.0, 0

    def advance(n: float = 1, note: str = "", size: int = 0, left: float | None = None) -> None:
        nonlocal last, tenth
        work.advance(n, note, size, left)
        since = work.worked() - last
        now_tenth = int(10 * work.count / work.total) if work.total else 0
        is_due = now_tenth > tenth or not work.total or since >= PLAIN_LONGEST
        if since < PLAIN_INTERVAL or not is_due:
            return
        last, tenth = work.worked(), now_tenth
        line = f"{work.label}: {work.count:,.0f}"
        if work.total:
            line += f" of {work.total:,.0f}"
        told = [work.speed(), megabytes(work.size) if work.size else ""]
        seconds = work.left()
        if seconds is not None:
            told.append(f"{duration(seconds)} left")
        line += f" ({', '.join(part for part in told if part)})"
        say(line + (f" {work.note}" if work.note else ""))

    return advance


def duration(seconds: float) -> str:
    """A time as people read it: 4.2 s, 41 s, 3 min 12 s, 1 h 04 min."""
    if seconds < 9.95:
        return f"{seconds:.1f} s"
    whole = round(seconds)
    if whole < 60:
        return f"{whole} s"
    if whole < 3600:
        return f"{whole // 60} min {whole % 60:02d} s"
    return f"{whole // 3600:,} h {whole % 3600 // 60:02d} min"


def _clock_time(seconds: float) -> str:
    """The same in a form whose width hardly changes: 0:03:12."""
    whole = round(seconds)
    return f"{whole // 3600}:{whole % 3600 // 60:02d}:{whole % 60:02d}"


def few(names: Sequence[str], at_most: int = 5) -> str:
    """Names for a message: the first of them, and how many more there are."""
    more = f" and {len(names) - at_most:,} more" if len(names) > at_most else ""
    return ", ".join(names[:at_most]) + more


def many(n: int, noun: str, more: str | None = None) -> str:
    """A number with its noun, or what stands for several ("entry", "entries")."""
    return f"{n:,} {noun}" if n == 1 else f"{n:,} {more or noun + 's'}"


def megabytes(size: int) -> str:
    """A number of bytes as people read it."""
    return f"{size / 1e9:,.2f} GB" if size >= 1e9 else f"{size / 1e6:,.1f} MB"

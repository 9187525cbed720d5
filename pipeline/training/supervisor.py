"""`pipeline train --until-done`: the same command in a child process, again and again until done.

A child that ends with exit code 33 has saved everything and has more to do, so it is started again;
after a failure there is a pause that doubles. The same failure several times with nothing saved in
between is the end.
"""

import os
import re
import signal
import subprocess
import sys
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from types import FrameType

from pipeline.console import fail, warn
from pipeline.errors import EXIT_DONE, EXIT_FAILED, EXIT_STOPPED, EXIT_USAGE
from pipeline.training.requests import SUPERVISED, listened

MOST_FAILURES = 5
FIRST_PAUSE = 10.0  # seconds
LONGEST_PAUSE = 300.0
OPTION = "--until-done"

_STDERR = 2
_TAIL = 16_384  # bytes at the end of what a child says in which its error is looked for
_ESCAPE = re.compile(r"\x1b\[[0-9;?]*[ -/]*[@-~]|\x1b\][^\x07\x1b]*(?:\x07|\x1b\\)|\x1b[@-_]")
_NUMBER = re.compile(r"0x[0-9a-f]+|[0-9]+")
_NUMBERED_SIGNAL = 128  # plus its number: the exit code that shells give for a death by signal


@dataclass(frozen=True)
class Ended:
    """How a child ended.

    - `code`: as `subprocess` has it: the exit code, or the negative number of a signal.
    - `error`: the last line of what it said, if that is an error.
    - `reached`: how far the run was saved by then, in any form that changes with it.
    - `asked`: whether someone asked for the end, of the supervisor too.
    """

    code: int
    error: str = ""
    reached: str = ""
    asked: bool = False

    @property
    def exit_code(self) -> int:
        """The exit code as a shell has it."""
        return self.code if self.code >= 0 else _NUMBERED_SIGNAL - self.code

    @property
    def kind(self) -> tuple[int, str]:
        """What identical failures share; numbers (addresses, bytes) may differ."""
        return self.code, _NUMBER.sub("0", self.error)

    def __str__(self) -> str:
        if self.code < 0:
            return f"it was killed by {_signal_name(-self.code)}"
        if self.code == EXIT_STOPPED:
            return "it stopped for more to do, but had saved nothing new"
        return f"it failed with exit code {self.code}" + (f" ({self.error})" if self.error else "")


def pause(failures: int) -> float:
    """Seconds to wait after so many failures (from 1 on): twice as long each time, up to a cap."""
    return min(FIRST_PAUSE * 2.0 ** min(failures - 1, 30), LONGEST_PAUSE)


def supervise(
    run: Callable[[], Ended],
    sleep: Callable[[float], object] = time.sleep,
    most_failures: int = MOST_FAILURES,
) -> int:
    """Call `run` until it is done or asked to end, or has failed `most_failures` times alike.

    Failures are counted from the last one on before which something new was saved. A wrong option
    is no better the second time. Returns the exit code: the child's last, as a shell has it.
    """
    failures: Counter[tuple[int, str]] = Counter()
    reached: str | None = None
    while True:
        ended = run()
        if ended.asked or ended.code in (EXIT_DONE, EXIT_USAGE):
            return ended.exit_code
        knows_nothing = not ended.reached and ended.code == EXIT_STOPPED  # then its word counts
        went_on = ended.reached != reached or knows_nothing
        reached = ended.reached
        if went_on:
            failures.clear()
            if ended.code == EXIT_STOPPED:
                continue
        failures[ended.kind] += 1
        if failures[ended.kind] >= most_failures:
            times = "time" if most_failures == 1 else "times"
            fail(
                f"Training is given up after {most_failures} {times} the same: {ended}.",
                "What was saved stays: once that is mended, the same command goes on.",
            )
            return EXIT_FAILED if ended.code == EXIT_STOPPED else ended.exit_code
        seconds = pause(failures.total())
        warn(f"Training ended too early: {ended}. It starts again in {seconds:.0f} seconds.")
        sleep(seconds)


def run_until_done(
    stop_file: Path | None = None,
    reached: Callable[[], str] = str,
    *,
    command: Sequence[str] | None = None,
    sleep: Callable[[float], object] = time.sleep,
    most_failures: int = MOST_FAILURES,
) -> int:
    """Start this very command (or `command`), without --until-done, until it is done.

    See `supervise` for the rest and for what is returned. `stop_file` ends it as well, and is
    deleted then; `reached` tells how far the run was saved, in any form.
    """
    child = this_command() if command is None else command
    return supervise(lambda: run_child(child, stop_file, reached), sleep, most_failures)


def this_command() -> list[str]:
    """The command line of this process but for --until-done."""
    return [sys.executable, *(word for word in sys.orig_argv[1:] if not _is_option(word))]


def _is_option(word: str) -> bool:
    return word.replace("_", "-") == OPTION


def run_child(
    command: Sequence[str],
    stop_file: Path | None = None,
    reached: Callable[[], str] = str,
    environment: Mapping[str, str] | None = None,
) -> Ended:
    """Run `command` to its end: what it prints goes through unchanged, signals are passed on."""
    with _passed_on() as passing:
        end, for_child = _stderr_of_child()
        try:
            process = subprocess.Popen(
                command,
                stderr=for_child,
                env={**(os.environ if environment is None else environment), SUPERVISED: "1"},
                # In the same group it would get Ctrl-C twice: from the terminal, and from here.
                process_group=0 if os.name == "posix" else None,
            )
        except BaseException:
            os.close(end)
            raise
        finally:
            os.close(for_child)
        tail = bytearray()
        reader = threading.Thread(target=_copy, args=(end, tail), daemon=True)
        reader.start()
        with process:
            passing.to(process)
            code = process.wait()
        # A grandchild that lives on keeps this open, and is not waited for.
        reader.join(timeout=1)
    asked = passing.asked or _take(stop_file)
    error = last_error(bytes(tail)) if code > 0 else ""  # who is killed says nothing of it
    return Ended(code, error, reached(), asked)


def last_error(said: bytes) -> str:
    """The last line that `said` has after "error:", or else its last line of all."""
    text = _ESCAPE.sub("", said.decode("utf-8", "replace"))
    lines = [line.strip() for line in re.split(r"[\r\n]+", text) if line.strip()]
    errors = [line for line in lines if line.startswith("error: ")]
    return (errors or lines or [""])[-1].removeprefix("error: ")[:500]


def _take(file: Path | None) -> bool:
    """Whether `file` is there, which it no longer is afterwards."""
    if file is None or not file.is_file():
        return False
    try:
        file.unlink(missing_ok=True)
    except OSError as error:
        warn(f"{file} cannot be deleted ({error.strerror}); do it before you go on.")
    return True


# --- what the child says --------------------------------------------------------------------------


def _stderr_of_child() -> tuple[int, int]:
    """Two ends: one to read from here, one for the child. On a terminal it gets another terminal,
    as through a pipe its progress bars would become plain lines."""
    if not os.isatty(_STDERR):
        return os.pipe()
    try:
        import fcntl
        import pty
        import termios
    except ImportError:  # Windows
        return os.pipe()
    end, for_child = pty.openpty()
    modes = termios.tcgetattr(for_child)
    modes[1] &= ~termios.OPOST  # the real terminal turns line feeds into new lines
    termios.tcsetattr(for_child, termios.TCSANOW, modes)
    with suppress(OSError):
        size = fcntl.ioctl(_STDERR, termios.TIOCGWINSZ, bytes(8))
        fcntl.ioctl(for_child, termios.TIOCSWINSZ, size)
    return end, for_child


def _copy(source: int, tail: bytearray) -> None:
    """Pass everything on at once, and keep the end of it."""
    try:
        while data := _read(source):
            tail += data
            del tail[:-_TAIL]
            with suppress(OSError):  # nobody there to read; the child must not wait for it
                while data:
                    data = data[os.write(_STDERR, data) :]
    finally:
        os.close(source)


def _read(source: int) -> bytes:
    try:
        return os.read(source, 65_536)
    except OSError:  # so a terminal ends, where a pipe has nothing more
        return b""


# --- signals --------------------------------------------------------------------------------------


class _Passing:
    """Gives a child the signals that come here, also those that came before it was there."""

    def __init__(self) -> None:
        self._process: subprocess.Popen[bytes] | None = None
        self._early: list[int] = []
        self.asked = False

    def on_signal(self, number: int, frame: FrameType | None) -> None:
        self.asked = True
        if self._process is None:
            self._early.append(number)
        else:
            self._process.send_signal(number)

    def to(self, process: "subprocess.Popen[bytes]") -> None:
        self._process = process
        for number in self._early:
            process.send_signal(number)


@contextmanager
def _passed_on() -> Iterator[_Passing]:
    """Pass signals on; outside the main thread they are left alone."""
    passing = _Passing()
    if threading.current_thread() is not threading.main_thread():
        yield passing
        return
    before = {number: signal.signal(number, passing.on_signal) for number in listened()}
    try:
        yield passing
    finally:
        for number, handler in before.items():
            signal.signal(number, signal.SIG_DFL if handler is None else handler)


def _signal_name(number: int) -> str:
    try:
        return signal.Signals(number).name
    except ValueError:
        return f"signal {number}"

"""What people and machines ask of a run while it trains: save, or save and stop.

    with Requests() as requests:
        ...                                   # after every step:
        request = requests.poll(folder)
        if request:
            ...                               # save
            requests.honoured(request)        # and, if request.stops, end

SIGINT (Ctrl-C) and SIGTERM ask for the running step to be finished, a checkpoint, and the end; a
second one ends the run at once. SIGTERM is what the notice of a spot instance or of a preemption
comes as: whoever rents such a machine has its notice turned into it, where the provider does not.
SIGHUP (a terminal or an ssh session that is closed) and SIGUSR1 or SIGUSR2 (as a batch system sends
them some time before its SIGTERM) ask for the same, as often as they come. Where no signal can be
sent, a file does it: SAVE or STOP in the run's directory.
"""

import errno
import os
import queue
import signal
import threading
import time
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from types import FrameType, TracebackType
from typing import Any, Self

from pipeline.console import say, warn

SAVE = "SAVE"
STOP = "STOP"
URGENT = (signal.SIGINT, signal.SIGTERM)  # twice they end the run at once
_NOTICES = ("SIGHUP", "SIGUSR1", "SIGUSR2")  # where the platform has them
SUPERVISED = "PIPELINE_SUPERVISED"  # set for a training that a supervisor has started
STOPPING = "Stopping after this step; again to stop at once."

# Whoever ends a whole group of processes signals a supervised run twice: by itself, and through
# the supervisor, which passes on what it gets. Within so many seconds that is one request.
_AS_ONE = 0.3
_OUTPUTS = (1, 2)  # file descriptors


@dataclass(frozen=True)
class Request:
    """What is asked for (SAVE or STOP), by what, and the files that are answered with it."""

    kind: str
    why: str
    files: tuple[Path, ...] = ()

    @property
    def stops(self) -> bool:
        """Whether the run is to end once it is saved."""
        return self.kind == STOP


def is_supervised() -> bool:
    """Whether a supervisor has started this process, and starts it again."""
    return bool(os.environ.get(SUPERVISED))


def listened() -> list[signal.Signals]:
    """The signals that ask a run to save and end. A notice that this process was started to ignore,
    as nohup does it with SIGHUP, is none."""
    notices = [getattr(signal, name) for name in _NOTICES if hasattr(signal, name)]
    return [*URGENT, *(one for one in notices if signal.getsignal(one) != signal.SIG_IGN)]


class Requests:
    """Listens to signals while it is entered, and looks for files when it is polled.

    Outside the main thread, where Python allows no handlers, signals are left alone; files work.
    """

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._asked_by: str | None = None
        self._urged_at: float | None = None  # when the first came of which a second ends it all
        self._process = 0
        self._before: dict[signal.Signals, Any] = {}
        self._ignored: set[Path] = set()
        # A handler runs in the midst of anything, so it must not print: whatever it interrupts may
        # be printing. This kind of queue is made to be filled from there.
        self._to_say: queue.SimpleQueue[str | None] = queue.SimpleQueue()
        self._speaker: threading.Thread | None = None

    def __enter__(self) -> Self:
        if threading.current_thread() is threading.main_thread():
            self._process = os.getpid()
            self._speaker = threading.Thread(target=self._speak, name="requests", daemon=True)
            self._speaker.start()
            for number in listened():
                self._before[number] = signal.signal(number, self._on_signal)
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        for number, before in self._before.items():
            # None stands for a handler that is not Python's; it cannot be put back.
            signal.signal(number, signal.SIG_DFL if before is None else before)
        self._before.clear()
        if self._speaker is not None:
            self._to_say.put(None)
            self._speaker.join(timeout=2)  # a terminal may be held up
            self._speaker = None

    @property
    def stopping(self) -> bool:
        """Whether a signal has asked for the end: no time for long work such as an evaluation."""
        return self._asked_by is not None

    def poll(self, directory: Path) -> Request | None:
        """What is asked for now, a stop before a save; a signal's request stays."""
        there = {name: file for name in (STOP, SAVE) if self._is_there(file := directory / name)}
        files = tuple(there.values())
        if self._asked_by is not None:
            return Request(STOP, self._asked_by, files)
        for name in there:
            return Request(name, f"the file {name}", files)
        return None

    def honoured(self, request: Request) -> None:
        """Delete the files that asked for what is now done.

        Under a supervisor STOP stays: it must see that the run is not to be started again.
        """
        for file in request.files:
            if file.name == STOP and is_supervised():
                continue
            try:
                file.unlink(missing_ok=True)
            except OSError as error:
                # Else the run would be saved after every step from now on.
                self._ignored.add(file)
                warn(f"{file} cannot be deleted ({error.strerror}), and counts no longer.")

    def _is_there(self, file: Path) -> bool:
        with suppress(OSError):  # a disk that does not answer must not end a run
            return file not in self._ignored and file.is_file()
        return False

    def _on_signal(self, number: int, frame: FrameType | None) -> None:
        if os.getpid() != self._process:
            raise KeyboardInterrupt  # in a process forked from this one, which is not the run
        if number not in URGENT:
            # A shell and the system both send SIGHUP, and after a batch system's notice there comes
            # its SIGTERM: none of that must break off the save that the first one asked for.
            _let_go_of_dead_terminals()
        now = self._clock()
        if self._asked_by is None:
            self._asked_by = signal.Signals(number).name
            self._to_say.put(STOPPING)
        if number not in URGENT:
            return
        if self._urged_at is None:
            self._urged_at = now
        elif not is_supervised() or now - self._urged_at >= _AS_ONE:
            raise KeyboardInterrupt

    def _speak(self) -> None:
        while (text := self._to_say.get()) is not None:
            with suppress(OSError, ValueError):  # a terminal that is gone must not matter here
                say(text)


def _let_go_of_dead_terminals() -> None:
    """Send into the void what would be written to a terminal that is gone: to fail at that is to
    die of a line of news, before the run is saved."""
    for descriptor in _OUTPUTS:
        try:
            os.write(descriptor, b"")
        except OSError as error:
            if error.errno == errno.EIO:
                void = os.open(os.devnull, os.O_WRONLY)
                os.dup2(void, descriptor)
                os.close(void)

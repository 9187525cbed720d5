"""The worker's half of `child`: read requests, answer with events, leave with the parent."""

import faulthandler
import json
import os
import queue
import signal
import sys
import threading
from collections.abc import Callable
from typing import Any

Request = dict[str, Any]
Emit = Callable[..., None]


def open_answers() -> Emit:
    """A function that sends an event to the parent. Whatever else is printed goes to the log.

    Ctrl-C is left to the parent: a terminal sends it to both.
    """
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    faulthandler.enable()
    answers = os.fdopen(os.dup(sys.stdout.fileno()), "w", encoding="utf-8")
    os.dup2(sys.stderr.fileno(), sys.stdout.fileno())

    def emit(event: str, **values: Any) -> None:
        answers.write(json.dumps({"event": event, **values}) + "\n")
        answers.flush()

    return emit


class Requests:
    """The requests of the parent, read in a thread of its own so that none waits unseen.

    `on_end` is called, in that thread, when the parent has gone or wants us to go.
    """

    def __init__(self, on_end: Callable[[], object]) -> None:
        self.stopped: set[int] = set()  # numbers of requests that are not wanted any more
        self._queue: queue.SimpleQueue[Request] = queue.SimpleQueue()
        self._on_end = on_end
        threading.Thread(target=self._read, daemon=True).start()

    def next(self) -> Request:
        """Wait for a request."""
        return self._queue.get()

    def _read(self) -> None:
        # Not through sys.stdin: a thread that waits in there blocks the interpreter's own exit.
        rest = b""
        while data := os.read(0, 65536):
            *lines, rest = (rest + data).split(b"\n")
            for line in lines:
                request: Request = json.loads(line)
                if request["op"] == "stop":
                    self.stopped.add(request["number"])
                else:
                    self._queue.put(request)
        self._on_end()

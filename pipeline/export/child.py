"""A worker process that lives for more than one request: lines in, lines out, both JSON.

`process.run_logged` is for programs that do one thing and end; a model that is loaded once and
asked many times, or serves, needs a conversation.
"""

import json
import queue
import subprocess
import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import IO, Any

from pipeline.errors import PipelineError
from pipeline.export.process import SILENCE_LIMIT, failure, worker_environment

GRACE = 10.0  # seconds that a worker has to end by itself

Event = dict[str, Any]


class Child:
    """A process that answers requests with events; see `open_child`."""

    def __init__(self, command: list[str], what: str, log: Path) -> None:
        self._what, self._log = what, log
        log.parent.mkdir(parents=True, exist_ok=True)
        with log.open("ab") as sink:
            self.log_start = sink.tell()
            try:
                self._process = subprocess.Popen(
                    command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=sink,
                    env=worker_environment(),
                )  # fmt: skip
            except OSError as error:
                raise PipelineError(f"{what} could not be started: {error}.") from error
        self._lines: queue.SimpleQueue[bytes | None] = queue.SimpleQueue()
        # A signal that interrupts a read would lose the half of a line; a queue loses nothing.
        self._reader = threading.Thread(
            target=_read_lines, args=(self._process.stdout, self._lines), daemon=True
        )
        self._reader.start()

    def send(self, **request: Any) -> None:
        """Send a request. That the process is gone is told by `receive`."""
        stdin = self._process.stdin
        with suppress(BrokenPipeError):
            if stdin is not None:
                stdin.write(json.dumps(request).encode() + b"\n")
                stdin.flush()

    def receive(self, silence: float | None = SILENCE_LIMIT) -> Event:
        """Wait for the next event.

        Raises PipelineError, naming the log, if the process has ended or says nothing for
        `silence` seconds (None: however long it takes).
        """
        try:
            line = self._lines.get(timeout=silence)
        except queue.Empty:
            raise PipelineError(
                f"{self._what} showed no sign of life for {silence:,.0f} seconds and was ended, "
                f"log: {self._log}",
                "Run the same command again; if it hangs again, look into the log.",
            ) from None
        if line is None:
            raise failure(self._what, self._process.wait(), self._log, self.log_start)
        event: Event = json.loads(line)
        return event

    def close(self, grace: float = GRACE) -> None:
        """End the process: by closing its stdin, and by force if that does not help."""
        try:
            with suppress(BrokenPipeError):
                if self._process.stdin is not None:
                    self._process.stdin.close()
            with suppress(subprocess.TimeoutExpired):
                self._process.wait(grace)
        finally:
            if self._process.poll() is None:
                self._process.kill()
            self._process.wait()
            self._reader.join()
            if self._process.stdout is not None:
                self._process.stdout.close()


@contextmanager
def open_child(command: list[str], what: str, log: Path) -> Iterator[Child]:
    """Start `command`; it is gone afterwards, whatever happens.

    `what` names it in messages. Its stderr is appended to `log`.

    Raises PipelineError if it cannot be started.
    """
    child = Child(command, what, log)
    try:
        yield child
    finally:
        child.close()


def _read_lines(pipe: IO[bytes], lines: "queue.SimpleQueue[bytes | None]") -> None:
    for line in pipe:
        lines.put(line)
    lines.put(None)

"""The best weights of a run, published while it goes on: `--push-to your-name/horror-adapter`.

    with BestPublisher(place, folder) as publisher:
        publisher.begin(run, checkpoints)       # before any model is loaded
        publisher.offer(write, News(...))       # what the network does, it does not wait for
        outcome = publisher.finish(timeout=900)

What is offered is written into a folder of its own at once, so that no later step changes it, and
sent from another thread. Only the newest is worth the line: it takes the place of one that waits.
"""

import random
import shutil
import tempfile
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Protocol, Self

from pipeline.console import duration, many, say, warn
from pipeline.errors import PipelineError
from pipeline.files import write_json
from pipeline.storage.writing import backoff
from pipeline.training.configs import library_errors
from pipeline.training.news import News

PUSHED = "pushed.json"  # in the folder of a run: which weights arrived last


class Place(Protocol):
    """Where weights are published."""

    @property
    def shown(self) -> str:
        """Its address, without credentials."""

    def begin(self, run: str) -> int | None:
        """The step of the weights of this run that are there; None if it has none there.

        Raises PipelineError if they must not go there.
        """

    def send(self, folder: Path, news: News) -> None:
        """Make it hold the files of `folder`, which are the place's own to change.

        Raises PipelineError.
        """


@dataclass(frozen=True)
class Outcome:
    """How publishing went. `ok`: the last weights that were offered have arrived."""

    ok: bool
    url: str
    last: News | None  # what was offered last
    arrived: News | None  # what arrived last
    count: int
    failures: int  # tries that failed
    reason: str | None  # why the last one never arrived

    def __str__(self) -> str:
        tries = f"; {many(self.failures, 'try', 'tries')} failed" if self.failures else ""
        if self.last is None:
            return f"Nothing was to be pushed to {self.url}"
        if not self.ok:
            reason = (self.reason or "there was no time").rstrip(".")
            return (
                f"The weights of step {self.last.step} never arrived at {self.url}: {reason}{tries}"
            )
        done = f"{many(self.count, 'time', 'times')}, last the weights of step {self.last.step}"
        return f"Pushed to {self.url} {done}{tries}"


@dataclass
class _Parcel:
    """Weights on their way, in a folder of their own."""

    folder: Path
    news: News
    failures: int = 0


class BestPublisher:
    """Sends weights to `place` in the background; a context manager.

    Args:
        folder: for what waits; it is this object's own.
        tries: how often the last one is tried at the end.
        sleep, jitter: for tests; what waits between tries, and a number from 0 to 1.
    """

    def __init__(
        self,
        place: Place,
        folder: Path,
        *,
        tries: int = 5,
        sleep: Callable[[float], None] | None = None,
        jitter: Callable[[], float] = random.random,
    ) -> None:
        self.run = ""
        self.there = -1  # the step of the run's weights that are published; none has this
        self._place, self._folder = place, folder
        self._tries, self._sleep, self._jitter = tries, sleep, jitter
        self._record: Path | None = None
        self._state = threading.Condition()
        self._thread: threading.Thread | None = None
        self._waiting: _Parcel | None = None
        self._sent: _Parcel | None = None  # what the thread is at: the one that waits, or was
        self._is_finishing = self._is_closed = self._is_failing = False
        self._last: News | None = None
        self._arrived: News | None = None
        self._count = self._failures = 0
        self._reason: str | None = None

    # --- from the training's side -------------------------------------------------------------

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def begin(self, run: str, folder: Path | None = None) -> None:
        """The run `run` begins or goes on. `folder` gets a note of what has arrived.

        Raises PipelineError if the place refuses the run.
        """
        self.run = run
        self._record = folder / PUSHED if folder else None
        there = self._place.begin(run)
        self.there = -1 if there is None else there

    def offer(self, write: Callable[[Path], object], news: News) -> None:
        """Publish what `write` puts into a folder; takes as long as that, whatever becomes of it.

        What goes wrong is told, and is in the outcome: training must not end for it.
        """
        from safetensors import SafetensorError

        errors: tuple[type[Exception], ...] = (PipelineError, SafetensorError, *library_errors())
        self._last = news
        folder: Path | None = None
        try:
            folder = Path(tempfile.mkdtemp(dir=self._folder))
            write(folder)
        except errors as error:
            if folder is not None:
                shutil.rmtree(folder, ignore_errors=True)
            self._failures += 1
            self._reason = error.message if isinstance(error, PipelineError) else str(error)
            warn(f"The weights of step {news.step} are not pushed: {self._reason}")
            return
        with self._state:
            replaced, self._waiting = self._waiting, _Parcel(folder, news)
            is_free = replaced is not self._sent  # else the thread lets go of it
            self._state.notify_all()
        if replaced is not None and is_free:
            shutil.rmtree(replaced.folder, ignore_errors=True)
        if self._thread is None:
            self._thread = threading.Thread(target=self._work, name="publisher", daemon=True)
            self._thread.start()

    def finish(self, timeout: float | None = None) -> Outcome:
        """Wait until the last weights have arrived, for `timeout` seconds at most.

        A place that goes on failing is given up after some tries more.
        """
        with self._state:
            self._is_finishing = True
            if self._waiting is not None:
                self._waiting.failures = 0
            self._state.notify_all()
            self._state.wait_for(self._is_idle, timeout)
            self._is_finishing = False
            return self._outcome()

    def stop(self, timeout: float) -> None:
        """The session ends, and the run will go on: what does not arrive now is sent then."""
        outcome = self.finish(timeout)
        if not outcome.ok:
            warn(f"{outcome}. The next session of the run tries again.")
        elif outcome.last is not None:
            say(f"{outcome}.")

    def close(self) -> None:
        """Stop, whatever is under way."""
        with self._state:
            self._is_closed = True
            self._state.notify_all()
        if self._thread is not None:
            self._thread.join(timeout=0.2)  # one that hangs ends with the process

    def _is_idle(self) -> bool:
        is_alive = self._thread is not None and self._thread.is_alive()
        return not is_alive or not (self._waiting or self._sent)

    def _outcome(self) -> Outcome:
        return Outcome(
            self._last == self._arrived, self._place.shown, self._last, self._arrived, self._count,
            self._failures, self._reason,
        )  # fmt: skip

    # --- in the background --------------------------------------------------------------------

    def _work(self) -> None:
        try:
            while (parcel := self._next()) is not None:
                self._send(parcel)
                with self._state:
                    self._sent = None
                    if self._waiting is not parcel:
                        shutil.rmtree(parcel.folder, ignore_errors=True)
                    self._state.notify_all()
        finally:  # also after an error of our own: nobody must wait for this thread
            with self._state:
                self._sent = None
                self._reason = self._reason if self._is_closed else self._reason or "it stopped"
                self._state.notify_all()

    def _next(self) -> _Parcel | None:
        with self._state:
            self._state.wait_for(lambda: self._waiting or self._is_closed)
            self._sent = None if self._is_closed else self._waiting
            return self._sent

    def _send(self, parcel: _Parcel) -> None:
        began = time.monotonic()
        try:
            self._place.send(parcel.folder, parcel.news)
        except PipelineError as error:
            self._failed(parcel, error.message, error.hint)
        except OSError as error:  # the files here: a full disk
            self._failed(parcel, f"{error}.", None)
        except (LookupError, TypeError, ValueError, RuntimeError) as error:
            # An answer that nobody foresaw; the words of such an error may hold anything.
            self._failed(parcel, f"{type(error).__name__}.", None)
        else:
            self._succeeded(parcel, time.monotonic() - began)

    def _succeeded(self, parcel: _Parcel, seconds: float) -> None:
        news, self._arrived = parcel.news, parcel.news
        self._count += 1
        self._is_failing, self._reason = False, None
        what = "result" if news.finished else "best weights so far"
        say(f"Pushed the {what}, of step {news.step}, to {self._place.shown} ({duration(seconds)})")
        self._note(news)
        self._drop(parcel)

    def _note(self, news: News) -> None:
        """Remember what has arrived, for `pipeline status`."""
        if self._record is None:
            return
        at = datetime.now(UTC).isoformat(timespec="seconds")
        try:
            write_json(self._record, {"step": news.step, "url": self._place.shown, "at": at})
        except OSError as error:  # the weights are there all the same
            warn(f"{self._record} was not written: {error}.")

    def _failed(self, parcel: _Parcel, reason: str, hint: str | None) -> None:
        """Tell it at once, wait, and try again; at the end, give up after some tries."""
        if self._is_closed:
            return  # its folder is gone from under it
        parcel.failures += 1
        self._failures += 1
        self._reason = reason
        if not self._is_failing:
            self._is_failing = True
            warn(
                f"The weights of step {parcel.news.step} could not be pushed: {reason} "
                f"All else goes on, and it is tried again.{f' {hint}' if hint else ''}"
            )
        if self._is_finishing and parcel.failures >= self._tries:
            self._drop(parcel)
        else:
            self._rest(backoff(parcel.failures, self._jitter()), parcel)

    def _rest(self, seconds: float, parcel: _Parcel) -> None:
        """Wait between two tries, but no longer than there is nothing new to do."""
        if self._sleep is not None:
            return self._sleep(seconds)
        was_finishing = self._is_finishing
        with self._state:
            self._state.wait_for(
                lambda: (
                    self._is_closed
                    or self._is_finishing != was_finishing
                    or self._waiting is not parcel
                ),
                seconds,
            )
        return None

    def _drop(self, parcel: _Parcel) -> None:
        with self._state:
            if self._waiting is parcel:
                self._waiting = None

"""Copies of checkpoints elsewhere, made in the background: `--sync-to s3://... | hf://... | ...`.

    with RemoteCopies("s3://bucket/runs/horror", keep=...) as copies:
        start = copies.newer(folder)     # local or remote, whichever is newer
        copies.offer(checkpoint)         # returns at once, whatever the remote does
        outcome = copies.finish(timeout=600)

Files go first and the marker last, and each is proven to have arrived. The last machine to begin
owns the run: an earlier one that comes back stops sending, and could overwrite nothing anyway (see
remote_registry). Only the newest checkpoint is worth the line: those it supersedes are skipped.
"""

import random
import threading
import time
from collections.abc import Callable, Collection, Iterable
from pathlib import Path
from typing import Any, Self, TypeVar

from pipeline.console import duration, megabytes, say, warn
from pipeline.errors import PipelineError
from pipeline.storage.writing import Trouble, backoff, persist, remote_folder
from pipeline.training.attempts import Attempt
from pipeline.training.checkpoints import Broken, Checkpoint
from pipeline.training.remote_fetch import fetch, newer
from pipeline.training.remote_lineage import Follows, accepts
from pipeline.training.remote_outcome import Outcome
from pipeline.training.remote_queue import Queue
from pipeline.training.remote_registry import RemoteCheckpoint, Session
from pipeline.training.remote_retention import Keep, retain
from pipeline.training.remote_run import RemoteRun, Superseded, once
from pipeline.training.remote_upload import Upload

_REFUSED_WAIT = 300.0  # seconds until what was refused is tried again: someone may mend it

T = TypeVar("T")

__all__ = ["Outcome", "RemoteCopies", "shown_url"]


def shown_url(url: str) -> str:
    """An address as messages and notes have it, without credentials. Raises UsageError."""
    folder = remote_folder(url)
    folder.close()
    return folder.shown


class RemoteCopies:
    """Sends the checkpoints of one run to `url` in the background; a context manager.

    Args:
        url: a folder, s3://, gs://, hf:// or what else fsspec knows; it holds one run.
        run: the id of the run, if it has one; None takes that of the remote, or makes one.
        keep: which of the steps there may be deleted, given all of them; None deletes none. The
            newest one is never deleted.
        tries: how often a request is tried at the start, and at the end.
        timeout: seconds for each request.
        by_hand: send without becoming the owner of the run.
        follows: whether this run goes on with a checkpoint of another one, which may be the newest
            there: then the address is this run's from now on. None: with no other.
        on_arrival: told the step of each checkpoint that arrived, and where (without credentials).
        sleep, jitter: for tests; what waits between tries, and a number from 0 to 1.

    Entering asks the remote and becomes the owner of the run. Raises PipelineError if that cannot
    be done, and UsageError for an address that makes no sense or is another run's.
    """

    def __init__(
        self,
        url: str,
        *,
        run: str | None = None,
        keep: Keep | None = None,
        tries: int = 5,
        timeout: float = 60.0,
        by_hand: bool = False,
        follows: Follows | None = None,
        on_arrival: Callable[[int, str], None] | None = None,
        sleep: Callable[[float], None] | None = None,
        jitter: Callable[[], float] = random.random,
    ) -> None:
        self._folder = remote_folder(url, timeout)
        self._keep, self._tries, self._sleep, self._jitter = keep, tries, sleep, jitter
        self._wanted_run, self._by_hand, self._on_arrival = run, by_hand, on_arrival
        self._follows = follows
        self._reader = RemoteRun(self._folder, self._persist)
        self._writer = RemoteRun(self._folder)  # of the thread; its tries are counted below
        self._queue = Queue()
        self._state = self._queue.state
        self._thread: threading.Thread | None = None
        self._session: Session | None = None
        self._is_failing = False
        self._reason: str | None = None
        self._last: int | None = None
        self._arrived: set[int] = set()
        self._latest: RemoteCheckpoint | None = None
        self._count = self._sent = self._failures = 0

    # --- from the training's side -------------------------------------------------------------

    @property
    def run(self) -> str | None:
        """The id of the run, once the remote was asked."""
        return self._reader.run

    @property
    def shown(self) -> str:
        """The address, without credentials."""
        return self._folder.shown

    def __enter__(self) -> Self:
        accepted = accepts(self._reader, self._follows)
        try:
            self._reader.begin(self._wanted_run, by_hand=self._by_hand, accepts=accepted)
        except BaseException:
            self._folder.close()
            raise
        self._session = self._reader.session
        self._writer.follow(self._reader)
        self._thread = threading.Thread(target=self._work, name="remote-copies", daemon=True)
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def steps(self) -> set[int]:
        """The steps of which there is a complete checkpoint. Raises PipelineError."""
        return {step for step, _ in self.there()}

    def there(self) -> set[tuple[int, Attempt]]:
        """Step and attempt of the complete checkpoints that count. Raises PipelineError."""
        self._reader.look()
        return {(one.step, one.attempt) for one in self._reader.held()}

    @property
    def attempt(self) -> Attempt:
        """The attempt at the run that counts there; see `attempts`."""
        return self._reader.attempt

    def announce(self, attempt: Attempt) -> None:
        """Let another attempt count from now on, there as well. Raises PipelineError."""
        self._reader.announce(attempt)
        self._writer.attempt = attempt

    def newest(self) -> RemoteCheckpoint | None:
        """The newest complete checkpoint at the remote. Raises PipelineError."""
        self._reader.look()
        return self._reader.newest()

    def fetch(self, remote: RemoteCheckpoint, folder: Path) -> Checkpoint:
        """Download a checkpoint, whole or not at all. Raises Broken, PipelineError."""
        return fetch(self._reader, remote, folder)

    def newer(self, folder: Path) -> Checkpoint | None:
        """The newest complete checkpoint, local or remote, in `folder` in the end.

        One of a run that this one goes on with is in that run's own folder beside it. A local one
        that never arrived is offered again. Raises PipelineError.
        """
        self._reader.look()
        found = newer(self._reader, folder, self._follows)
        if self._reader.attempt != self._writer.attempt:
            self.announce(self._reader.attempt)
        there = self._reader.newest()
        if found is not None and (there is None or there.step < found.step):
            self.offer(found)
        return found

    def offer(self, checkpoint: Checkpoint) -> None:
        """Send a checkpoint, in the background; returns in milliseconds."""
        if self._session is None:
            raise ValueError("RemoteCopies was not entered")
        try:
            upload = Upload(checkpoint, self._session)
        except Broken as reason:
            warn(f"The checkpoint {checkpoint.path} is not copied: {reason}.")
            return
        with self._state:
            self._last = max(checkpoint.step, self._last or 0)
        self._queue.offer(upload)

    def delete(self, steps: Iterable[int]) -> None:
        """Delete the copies of these steps, in the background; but never the newest one."""
        self._queue.delete(steps)

    def finish(self, timeout: float | None = None) -> Outcome:
        """Wait until the last checkpoint has arrived, for `timeout` seconds at most.

        A remote that goes on failing is given up after some tries more.
        """
        self._queue.finish(lambda: not self._is_alive(), timeout)
        with self._state:
            return self._outcome()

    def close(self) -> None:
        """Stop, whatever is under way."""
        waiting = self._queue.close()
        if self._thread is not None:
            self._thread.join(timeout=0.2)  # one that hangs ends with the process
        for upload in waiting:
            upload.release()
        self._folder.close()

    def _is_alive(self) -> bool:
        return self._thread is not None and self._thread.is_alive()

    def _outcome(self) -> Outcome:
        arrived = max(self._arrived, default=None)
        ok = self._last is None or (arrived is not None and arrived >= self._last)
        return Outcome(
            ok, self._folder.shown, self._last, arrived, self._count, self._sent, self._failures,
            self._reason,
        )  # fmt: skip

    def _persist(self, question: Callable[[], T]) -> T:
        sleep = self._sleep or time.sleep
        return persist(question, tries=self._tries, sleep=sleep, jitter=self._jitter)

    # --- in the background --------------------------------------------------------------------

    def _work(self) -> None:
        try:
            while self._queue.wait_for_work():
                upload = self._queue.next(self._writer.marked(), self._keep)
                if upload is not None:
                    self._send(upload)
                else:
                    self._delete_doomed()
                self._queue.rest()
        finally:  # also after an error of our own: nobody must wait for this thread
            with self._state:
                is_closed = self._queue.is_closed
                self._reason = self._reason if is_closed else self._reason or "it stopped"
            self._queue.rest()

    def _send(self, upload: Upload) -> None:
        """Try to send a checkpoint; what becomes of a failure is decided here."""
        began, before = time.monotonic(), upload.sent
        try:
            upload.advance(self._writer)
        except Superseded as reason:
            self._stop_sending(reason.message)
            warn(str(reason))
        except (Broken, OSError) as reason:  # the files here, not those there
            self._drop(upload, f"the checkpoint here is broken: {reason}")
            warn(f"The checkpoint of step {upload.step} is not copied: it is broken ({reason}).")
        except PipelineError as error:
            self._failed(upload, error)
        else:
            self._succeeded(upload, time.monotonic() - began)
        finally:
            self._sent += upload.sent - before

    def _succeeded(self, upload: Upload, seconds: float) -> None:
        self._writer.arrived(upload.record)
        self._arrived.add(upload.step)
        self._latest = max(self._latest or upload.record, upload.record, key=lambda one: one.name)
        self._count += 1
        self._is_failing, self._reason = False, None
        say(
            f"Copied the checkpoint of step {upload.step} to {self._folder.shown} "
            f"({megabytes(upload.sent)} sent, {duration(seconds)})"
        )
        if self._on_arrival is not None:
            self._on_arrival(upload.step, self._folder.shown)
        self._queue.drop(upload)
        self._tidily(self._retain)

    def _failed(self, upload: Upload, error: PipelineError) -> None:
        """Wait and try again; at the end, give up after some tries."""
        upload.failures += 1
        self._failures += 1
        self._reason = error.message
        passes = isinstance(error, Trouble) and (error.passes or error.missing)
        if not self._is_failing:
            self._is_failing = True
            again = "it is tried again" if passes else "the next one will be tried"
            hint = f" {error.hint}" if error.hint else ""
            warn(
                f"The checkpoint of step {upload.step} could not be copied: {error.message} "
                f"Training goes on, and {again}.{hint}"
            )
        if upload.is_gone:
            self._drop(upload, "it was deleted before it had arrived")
            return
        if self._queue.is_finishing and (not passes or upload.failures >= self._tries):
            self._drop(upload, error.message)
            return
        seconds = backoff(upload.failures, self._jitter()) if passes else _REFUSED_WAIT
        if self._sleep is not None:
            self._sleep(seconds)
        else:
            self._queue.pause(seconds, upload)

    def _drop(self, upload: Upload, reason: str) -> None:
        self._reason = reason
        self._queue.drop(upload)

    def _stop_sending(self, reason: str) -> None:
        self._reason = reason
        self._queue.stop()

    # --- what need not be kept there ----------------------------------------------------------

    def _tidily(self, work: Callable[[], Any]) -> None:
        """Do what does not decide whether a checkpoint arrived: a failure is only told."""
        self._writer.ask = self._persist
        try:
            work()
        except Superseded as reason:
            self._stop_sending(reason.message)
            warn(str(reason))
        except PipelineError as error:
            self._reason = f"not everything could be deleted there: {error.message}"
            warn(f"{self._folder.shown} could not be tidied: {error.message} It is tried again.")
        finally:
            self._writer.ask = once

    def _delete_doomed(self) -> None:
        doomed = self._queue.doomed()
        self._tidily(lambda: self._retain(doomed))
        self._queue.deleted(doomed)

    def _retain(self, doomed: Collection[int] = ()) -> None:
        retain(self._writer, self._latest, doomed, self._keep, self._queue.steps())

"""Copies of a run's checkpoints, made beside it: `pipeline sync watch`.

    Watch(folder, "s3://bucket/runs/horror", every=60, until_done=True, is_training=...).follow()

It sends as a person does by hand: it never becomes the owner of the run, so a training that sends
to the same place goes on undisturbed. Where there is an owner, what is new is left to it for one
round, and for as long as what it has sent of it grows; if both send the same one all the same, each
does so under a name of its own.
"""

import random
import time
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path

from pipeline.console import duration, megabytes, say, warn
from pipeline.errors import PipelineError, UsageError
from pipeline.storage.writing import Trouble, backoff, remote_folder
from pipeline.training.attempts import Attempt, attempt_of
from pipeline.training.checkpoints import Broken, Checkpoint
from pipeline.training.copy_notes import note_copy
from pipeline.training.remote_lineage import accepts, descends
from pipeline.training.remote_local import is_last, latest_run, run_of_checkpoint
from pipeline.training.remote_registry import Name
from pipeline.training.remote_retention import retain
from pipeline.training.remote_run import RemoteRun
from pipeline.training.remote_upload import Upload

EVERY = 60.0  # seconds
_REFUSED_WAIT = 300.0  # seconds until what was refused is tried again: someone may mend it
_LAST_TRIES = 5  # how often in a row the last checkpoint of a run that has ended may fail


class Watch:
    """Looks at the checkpoints below `root` every `every` seconds, and sends what is not at `url`.

    Args:
        root: the folder of stage 6 in which each run has a folder of its own.
        url: a folder, s3://, gs://, hf:// or what else fsspec knows; it holds one run.
        until_done: end once the latest run has ended and its last checkpoint is there.
        is_training: whether a training is at work on these checkpoints now.
        timeout: seconds for each request.
        sleep, now, jitter: for tests; what waits between two looks, the time in seconds since
            1970, and a number from 0 to 1.

    Raises UsageError for an address that makes no sense.
    """

    def __init__(
        self,
        root: Path,
        url: str,
        *,
        every: float = EVERY,
        until_done: bool = False,
        is_training: Callable[[], bool] = lambda: False,
        timeout: float = 60.0,
        sleep: Callable[[float], None] = time.sleep,
        now: Callable[[], float] = time.time,
        jitter: Callable[[], float] = random.random,
    ) -> None:
        self._root, self._every, self._until_done = root, every, until_done
        self._is_training, self._sleep, self._now, self._jitter = is_training, sleep, now, jitter
        self._folder = remote_folder(url, timeout)
        self._remote = RemoteRun(self._folder)
        self._was_reached = False
        self._upload: Upload | None = None  # the one that is under way, or is to be tried again
        self._there: set[tuple[str, int, Attempt]] = set()  # what is at the remote: see `_key`
        self._broken: set[Path] = set()
        self._growing: dict[Name, int] = {}  # bytes seen of what others are sending
        self._newest: Checkpoint | None = None
        self._failures = 0  # in a row
        self._reason = ""
        self._sent: list[int] = []  # steps
        self._bytes = 0

    def follow(self) -> None:
        """Send what there is and what comes, until KeyboardInterrupt or, if it is to, until done.

        What is under way then is broken off, and never counts. Raises UsageError if the address
        holds another run, and PipelineError: it cannot be used at all, or the remote failed and
        the last checkpoint is not there in the end.
        """
        ending = "until the run has ended" if self._until_done else "Ctrl-C ends it"
        seconds = duration(self._every)
        say(f"sync: watching {self._root} for {self._folder.shown}, every {seconds}; {ending}")
        try:
            while (wait := self._round()) is not None:
                self._sleep(wait)
        except KeyboardInterrupt:
            if self._failures and not self._has_arrived(self._newest):
                raise self._never_arrived() from None
        finally:
            self._let_go()
            self._folder.close()
        say(self._summary())

    def _round(self) -> float | None:
        """Look once and send what is missing.

        Returns the seconds until the next look; None at the end.
        """
        has_ended = self._until_done and self._has_ended()
        found = latest_run(self._root, hashes=False)
        self._newest = found[0] if found else None
        try:
            self._send_missing(found, leave_none=has_ended)
        except UsageError:
            raise
        except PipelineError as error:
            return self._failed(error, has_ended)
        self._failures = 0
        if has_ended and self._newest is not None and is_last(self._newest):
            if self._newest.path in self._broken:
                raise self._never_arrived()
            if self._has_arrived(self._newest):
                return None
        return self._every

    def _has_ended(self) -> bool:
        """Whether the latest run is at its end, and no training at work, as one is until all of
        its results are written, or as one that has yet to save anything."""
        found = latest_run(self._root, hashes=False)
        return bool(found) and is_last(found[0]) and not self._is_training()

    # --- one look -----------------------------------------------------------------------------

    def _send_missing(self, found: list[Checkpoint], *, leave_none: bool) -> None:
        """Send what the remote has not, the newest first. Raises PipelineError."""
        wanted = [one for one in found if self._is_wanted(one)]
        if self._upload is not None and self._upload.about not in wanted:
            self._let_go()
        if self._was_reached and not wanted:
            return
        self._look(found[0] if found else None)
        self._was_reached = True
        self._note_complete(wanted)
        for one in wanted:
            if self._is_wanted(one) and (leave_none or not self._is_left(one)):
                self._send(one)

    def _is_wanted(self, one: Checkpoint) -> bool:
        return not self._has_arrived(one) and one.path not in self._broken

    def _has_arrived(self, one: Checkpoint | None) -> bool:
        return one is None or _key(one) in self._there

    def _look(self, newest: Checkpoint | None) -> None:
        """See what is there, as one of this run, and of the same age as whoever owns it now.

        A later owner takes what an older session has not finished for what a killed one left.
        """
        run = None if newest is None else run_of_checkpoint(newest)
        session = self._remote.session
        if session is not None and self._remote.run == run:
            self._remote.look()
            owner = self._remote.owner()
            if owner is None or owner.term == session.term:
                return
        remote = RemoteRun(self._folder)
        follows = None if newest is None else descends(newest)
        remote.begin(run, by_hand=True, accepts=accepts(remote, follows))
        if newest is not None:
            remote.attempt = max(remote.attempt, attempt_of(newest.about))
        self._let_go()
        self._remote = remote

    def _note_complete(self, wanted: list[Checkpoint]) -> None:
        complete = {(one.step, one.attempt) for one in self._remote.complete()}
        self._there |= {key for one in wanted if (key := _key(one))[1:] in complete}

    def _is_left(self, one: Checkpoint) -> bool:
        """Whether a checkpoint is left to the owner of the run for this round."""
        if self._remote.owner() is None:
            return False
        try:
            age = self._now() - datetime.fromisoformat(one.saved).astimezone(UTC).timestamp()
        except (ValueError, OverflowError):
            age = self._every
        if 0 <= age < self._every:
            return True
        others = [name for name in self._remote.partial() if name.step == one.step]
        before = dict(self._growing)
        for name in others:
            if name.by != self._remote.session:
                self._growing[name] = self._remote.bytes_of(name)
        return self._growing != before

    def _send(self, one: Checkpoint) -> None:
        """Send one checkpoint, and see that it is there. Raises PipelineError."""
        began = time.monotonic()
        try:
            upload = self._taken_up(one)
            upload.advance(self._remote)
        except (Broken, OSError) as reason:  # the files here, not those there
            self._let_go()
            if one.path.is_dir():  # else the run has just deleted it, as it does with old ones
                self._broken.add(one.path)
                self._reason = f"the checkpoint here is broken: {reason}"
                warn(f"The checkpoint {one.path} is not copied: it is broken ({reason}).")
            return
        self._remote.arrived(upload.record)
        self._tidy(upload)
        self._confirm(upload)
        self._sent.append(one.step)
        self._bytes += upload.sent
        self._there.add(_key(one))
        say(
            f"Copied the checkpoint of step {one.step} to {self._folder.shown} "
            f"({megabytes(upload.sent)} sent, {duration(time.monotonic() - began)})"
        )
        self._let_go()
        self._note(one)

    def _taken_up(self, one: Checkpoint) -> Upload:
        if self._upload is None or self._upload.about != one:
            self._let_go()
            session = self._remote.session
            if session is None:
                raise ValueError("the remote was not begun")
            self._upload = Upload(one, session)
        return self._upload

    def _tidy(self, upload: Upload) -> None:
        """Write the registry and clear away what was broken off; that may fail."""
        try:
            retain(self._remote, upload.record, (), None, {upload.step})
        except PipelineError as error:
            warn(f"{self._folder.shown} could not be tidied: {error.message} It is tried again.")

    def _confirm(self, upload: Upload) -> None:
        """Raise Trouble if what was sent is not there in full, since a session that began
        meanwhile may have taken it for litter."""
        self._remote.look()
        if self._remote.read_again(upload.name) is None:
            self._let_go()
            shown = f"{self._folder.shown}/{upload.name}"
            raise Trouble(f"{shown} was sent, and is not there in full.", passes=True)

    def _note(self, one: Checkpoint) -> None:
        """Remember for `pipeline status` what arrived where."""
        note_copy(one.path.parent, one.step, self._folder.shown)

    def _let_go(self) -> None:
        upload, self._upload = self._upload, None
        if upload is not None:
            upload.release()

    # --- how it went --------------------------------------------------------------------------

    def _failed(self, error: PipelineError, has_ended: bool) -> float:
        """Tell it and say how long to wait. Raises PipelineError once it is to be given up."""
        passes = isinstance(error, Trouble) and (error.passes or error.missing)
        if not self._was_reached and not passes:
            raise error
        self._failures += 1
        self._reason = error.message
        if has_ended and (not passes or self._failures >= _LAST_TRIES):
            raise self._never_arrived()
        wait = backoff(self._failures, self._jitter()) if passes else _REFUSED_WAIT
        hint = f" {error.hint}" if error.hint else ""
        warn(f"sync: {error.message} It is tried again in {duration(wait)}.{hint}")
        return wait

    def _never_arrived(self) -> PipelineError:
        step = self._newest.step if self._newest else 0
        return PipelineError(
            f"The last checkpoint (step {step}) never arrived at {self._folder.shown}: "
            f"{self._reason.rstrip('.')}.",
            "Here it is safe: `pipeline sync up` sends it.",
        )

    def _summary(self) -> str:
        if not self._sent:
            told = f"sync: nothing was sent to {self._folder.shown}"
        else:
            number = len(self._sent)
            told = (
                f"sync: {number} checkpoint{'' if number == 1 else 's'} sent to "
                f"{self._folder.shown} ({megabytes(self._bytes)}), "
                f"the last of step {max(self._sent)}"
            )
        if not self._has_arrived(self._newest) and self._newest is not None:
            return f"{told}; that of step {self._newest.step} is not there yet"
        return told


def _key(one: Checkpoint) -> tuple[str, int, Attempt]:
    """Run, step, and which attempt at the run it is of."""
    return run_of_checkpoint(one), one.step, attempt_of(one.about)

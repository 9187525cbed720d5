"""What waits to be sent or deleted elsewhere: filled by training, emptied by the thread that sends.

Nobody who fills it ever waits for the remote.
"""

import threading
from collections.abc import Callable, Collection, Iterable

from pipeline.training.remote_registry import Name
from pipeline.training.remote_retention import Keep
from pipeline.training.remote_upload import Upload


class Queue:
    """One upload for each step at most, and the steps whose copies are to be deleted.

    `is_finishing` and `is_closed` only ever become true; `is_stopped` as well: nothing more is
    taken then, as another machine owns the run.
    """

    def __init__(self) -> None:
        self.state = threading.Condition()
        self.is_finishing = self.is_closed = self.is_stopped = False
        self._waiting: dict[int, Upload] = {}
        self._doomed: set[int] = set()
        self._is_busy = False

    # --- from the training's side -------------------------------------------------------------

    def offer(self, upload: Upload) -> None:
        """Put an upload in, in place of an earlier one of its step."""
        with self.state:
            replaced = self._waiting.pop(upload.step, None)
            is_taken = not self.is_stopped and not self.is_closed
            if is_taken:
                self._waiting[upload.step] = upload
            self.state.notify_all()
        for one in filter(None, [replaced, None if is_taken else upload]):
            one.release()

    def delete(self, steps: Iterable[int]) -> None:
        """Have the copies of these steps deleted."""
        with self.state:
            self._doomed.update(steps)
            self.state.notify_all()

    def finish(self, is_over: Callable[[], bool], timeout: float | None) -> None:
        """Wait until nothing is left to do, or `is_over`, for `timeout` seconds at most."""
        with self.state:
            self.is_finishing = True
            for upload in self._waiting.values():
                upload.failures = 0
            self.state.notify_all()
            self.state.wait_for(lambda: is_over() or self._is_idle(), timeout)

    def close(self) -> list[Upload]:
        """Take nothing any more. Returns what waited, which is to be released."""
        with self.state:
            self.is_closed = True
            waiting, self._waiting = self._waiting, {}
            self.state.notify_all()
            return list(waiting.values())

    def _is_idle(self) -> bool:
        return not (self._waiting or self._doomed or self._is_busy)

    # --- from the thread's side ---------------------------------------------------------------

    def wait_for_work(self) -> bool:
        """Wait until there is something to do; False once there is nothing to be done any more."""
        with self.state:
            self.state.wait_for(lambda: self._waiting or self._doomed or self.is_closed)
            self._is_busy = not self.is_closed
            return self._is_busy

    def rest(self) -> None:
        """A piece of work is done."""
        with self.state:
            self._is_busy = False
            self.state.notify_all()

    def next(self, marked: Iterable[Name], keep: Keep | None) -> Upload | None:
        """The newest checkpoint that waits; those that it makes superfluous are let go."""
        with self.state:
            if not self._waiting:
                return None
            newest = max(self._waiting)
            steps = sorted({name.step for name in marked} | self._waiting.keys())
            doomed = set(keep(steps)) if keep else set(steps[:-1])
            skipped = [
                self._waiting.pop(step)
                for step, upload in list(self._waiting.items())
                if step != newest and (step in doomed or upload.is_gone)
            ]
            upload = self._waiting[newest]
        for one in skipped:
            one.release()
        return upload

    def drop(self, upload: Upload) -> None:
        """Let go of an upload, done or given up."""
        with self.state:
            if self._waiting.get(upload.step) is upload:
                del self._waiting[upload.step]
        upload.release()

    def stop(self) -> None:
        """Let go of everything, and take nothing any more."""
        with self.state:
            self.is_stopped = True
            dropped = list(self._waiting.values())
            self._waiting.clear()
            self._doomed.clear()
        for upload in dropped:
            upload.release()

    def pause(self, seconds: float, upload: Upload) -> None:
        """Wait between two tries, but no longer than there is nothing new to do."""
        was_finishing = self.is_finishing
        with self.state:
            self.state.wait_for(
                lambda: (
                    self.is_closed
                    or self.is_finishing != was_finishing
                    or max(self._waiting, default=0) > upload.step
                ),
                seconds,
            )

    def steps(self) -> set[int]:
        """The steps that wait to be sent."""
        with self.state:
            return set(self._waiting)

    def doomed(self) -> set[int]:
        """The steps whose copies are to be deleted."""
        with self.state:
            return set(self._doomed)

    def deleted(self, steps: Collection[int]) -> None:
        """The copies of these steps are gone."""
        with self.state:
            self._doomed.difference_update(steps)

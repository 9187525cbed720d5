"""What a process that is to be killed does: a journal of it, and a strike at a chosen moment.

    watch = Watch(journal, Strike("save", event=3, delay=0.002, number=signal.SIGKILL))
    install(watch)

Moments are events on the file system (Python's audit hooks), requests to a remote and parts of a
training step, counted within a phase; a delay after one reaches what lies between two of them.
"""

import json
import os
import signal
import sys
import threading
import time
from collections import defaultdict
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import wraps
from importlib import import_module
from pathlib import Path
from typing import Any

PHASES = (
    "start", "step", "evaluation", "save", "delete", "upload", "delete there", "download", "end",
)  # fmt: skip
_EVENTS = frozenset(
    {"open", "os.rename", "os.remove", "os.rmdir", "os.mkdir", "os.link", "os.scandir",
     "os.truncate", "shutil.rmtree", "shutil.copyfile"}
)  # fmt: skip
_REQUESTS = ("put", "delete", "read", "size", "sizes", "holds", "copy", "download")


@dataclass(frozen=True)
class Strike:
    """When to strike, and with what: `delay` seconds after the n-th event of a phase.

    SIGTERM is followed by SIGKILL after `grace` seconds (None: never).
    """

    phase: str
    event: int
    delay: float
    number: signal.Signals
    grace: float | None = None


class Watch:
    """Keeps the journal, which survives any kill, and strikes once."""

    def __init__(self, journal: Path, strike: Strike | None) -> None:
        self._file = os.open(journal, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o644)
        self._strike = strike
        self._seen = 0
        self._phases: dict[int, list[str]] = defaultdict(list)  # of each thread

    def note(self, **what: Any) -> None:
        """Add a line to the journal."""
        os.write(self._file, json.dumps(what).encode() + b"\n")

    @contextmanager
    def phase(self, name: str) -> Iterator[None]:
        """What this thread does while the block lasts."""
        stack = self._phases[threading.get_ident()]
        stack.append(name)
        try:
            yield
        finally:
            stack.pop()

    def event(self) -> None:
        """Something happened in this thread; strike if this was the moment."""
        strike, stack = self._strike, self._phases.get(threading.get_ident())
        if strike is None or not stack or stack[-1] != strike.phase:
            return
        self._seen += 1
        if self._seen < strike.event:
            return
        self._strike = None
        if strike.delay:
            threading.Thread(target=self._hit, args=(strike,), daemon=True).start()
        else:
            self._hit(strike)

    def _hit(self, strike: Strike) -> None:
        time.sleep(strike.delay)
        doing = [stack[-1] for stack in self._phases.copy().values() if stack]
        phase = strike.phase if strike.phase in doing else doing[0]
        self.note(struck=strike.number.name, phase=phase)
        if strike.grace is not None:
            threading.Thread(target=self._lose_patience, args=(strike.grace,), daemon=True).start()
        os.kill(os.getpid(), strike.number)

    def _lose_patience(self, seconds: float) -> None:
        time.sleep(seconds)
        os.kill(os.getpid(), signal.SIGKILL)


def install(watch: Watch) -> None:
    """Have everything in this process that matters tell `watch`."""
    import transformers

    from pipeline.storage.folders import RemoteFolder
    from pipeline.training import checkpoints, remote_fetch
    from pipeline.training.checkpointing import RunCheckpoints
    from pipeline.training.evaluation import Evaluator
    from pipeline.training.remote_run import RemoteRun
    from pipeline.training.remote_upload import Upload

    def tell(owner: Any, name: str, phase: str | None, done: Callable[..., Any] = id) -> None:
        original = getattr(owner, name)

        @wraps(original)
        def told(*args: Any, **rest: Any) -> Any:
            if phase is None:
                watch.event()
                result = original(*args, **rest)
            else:
                with watch.phase(phase):
                    watch.event()
                    result = original(*args, **rest)
            if done is not id:
                done(result, *args)
            return result

        setattr(owner, name, told)

    tell(transformers.Trainer, "train", "step")
    tell(transformers.Trainer, "training_step", None)
    tell(import_module("accelerate.optimizer").AcceleratedOptimizer, "step", None)
    tell(Evaluator, "evaluate", "evaluation")
    tell(checkpoints, "write", "save", lambda found, *_: watch.note(saved=found.step))
    tell(checkpoints, "remove", "delete")
    tell(Upload, "advance", "upload", lambda _, upload, *__: watch.note(arrived=upload.step))
    tell(RemoteRun, "delete", "delete there")
    tell(remote_fetch, "fetch", "download")
    tell(
        RunCheckpoints, "find", None,
        lambda _, saves, *__: watch.note(resumed=saves.found.step if saves.found else 0),
    )  # fmt: skip
    for name in _REQUESTS:
        tell(RemoteFolder, name, None)
    sys.addaudithook(lambda event, _: watch.event() if event in _EVENTS else None)

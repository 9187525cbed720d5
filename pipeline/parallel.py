"""Work on many independent things in several processes, with results in their order.

    with Workers(jobs, imports=("numpy",)) as workers:
        for result in workers.map(clean_one, paths):
            ...

Only a few things are in flight at a time, so memory does not grow with their number. Workers die
with the process that started them, however that ends, and leave Ctrl-C to it.
"""

import multiprocessing
import os
import signal
import sys
import threading
from collections import deque
from collections.abc import Callable, Generator, Iterable, Iterator
from concurrent.futures import Executor, Future, ProcessPoolExecutor, ThreadPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from contextlib import contextmanager
from importlib import import_module
from itertools import islice
from multiprocessing.connection import wait as wait_for_end
from pathlib import Path
from typing import Self, TypeVar

from pipeline.errors import PipelineError

Item = TypeVar("Item")
Result = TypeVar("Result")

_TAKEN_AHEAD = 8  # things for each process: at work, waiting for it, or done before their turn


def default_jobs() -> int:
    """As many processes as this one may use cores."""
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1


def map_in_order(
    function: Callable[[Item], Result], items: Iterable[Item], jobs: int
) -> Generator[Result]:
    """The results of `function` for each item, in the order of the items: see `Workers.map`."""
    with Workers(jobs) as workers:
        yield from workers.map(function, items)


class Workers:
    """Those who work: a thread of this process for one job, `jobs` processes for more.

    Processes are started at once, and import the modules `imports` while this one goes on with
    something else: the earlier they are made the better. Where this process has no other thread
    they are forks of it, which costs milliseconds; else each starts from nothing.
    """

    def __init__(self, jobs: int, imports: Iterable[str] = ()) -> None:
        self._jobs = max(jobs, 1)
        self._pool: Executor
        if self._jobs == 1:
            self._pool = ThreadPoolExecutor(1)
            return
        # A lock that another thread holds while this process forks is never released in the fork.
        method = "fork" if _is_alone() else "spawn"
        self._pool = ProcessPoolExecutor(
            self._jobs,
            mp_context=multiprocessing.get_context(method),
            initializer=_begin_worker,
            initargs=(tuple(imports),),
        )
        with _told_if_killed():
            for _ in range(self._jobs):  # each starts one where they are started as needed
                self._pool.submit(default_jobs)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._pool.shutdown(wait=True, cancel_futures=True)

    def map(self, function: Callable[[Item], Result], items: Iterable[Item]) -> Generator[Result]:
        """The results of `function` for each item, in the order of the items. Work on the first
        ones begins at once, not when their results are asked for.

        With one job the next result is made while the caller writes the last one. With more,
        `function` (one of a module, or a partial of such a one) and what it takes and gives are
        pickled. What it raises is raised here.

        Raises PipelineError if a worker process is killed, as happens where memory runs out.
        """
        rest = iter(items)
        waiting: deque[Future[Result]] = deque()

        def fill() -> None:
            room = _TAKEN_AHEAD * self._jobs - len(waiting)
            waiting.extend(self._pool.submit(function, item) for item in islice(rest, room))

        def results() -> Generator[Result]:
            try:
                while waiting:
                    with _told_if_killed():
                        result = waiting.popleft().result()
                        fill()  # before the result is given away: they work meanwhile
                    yield result
            finally:
                for future in waiting:
                    future.cancel()

        with _told_if_killed():
            fill()
        return results()


@contextmanager
def _told_if_killed() -> Iterator[None]:
    try:
        yield
    except BrokenProcessPool as error:
        raise PipelineError(
            "A worker process was killed.",
            "If the machine ran out of memory, give fewer: --jobs 1.",
        ) from error


def _is_alone() -> bool:
    """Whether this process has one thread only; of its libraries' threads only Linux tells."""
    if sys.platform != "linux":
        return False
    return len(list(Path("/proc/self/task").iterdir())) == 1


def _begin_worker(imports: tuple[str, ...]) -> None:
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    signal.signal(signal.SIGTERM, signal.SIG_DFL)  # a fork has its parent's, which saves its work
    threading.Thread(target=_die_with_parent, daemon=True).start()
    for name in imports:
        import_module(name)


def _die_with_parent() -> None:
    parent = multiprocessing.parent_process()
    if parent is not None:
        wait_for_end([parent.sentinel])
        os._exit(1)

"""Work on many independent things in several processes, with results in their order.

    for result in map_in_order(clean_one, paths, jobs=default_jobs()):
        ...

This process is one of them: it works while the others start, and while it waits for the disk. Only
a few things are in flight at a time, so memory does not grow with their number. Workers die with
the process that started them, however that ends, and leave Ctrl-C to it.
"""

import multiprocessing
import os
import signal
import threading
from collections import deque
from collections.abc import Callable, Generator, Iterable
from concurrent.futures import (
    FIRST_COMPLETED,
    Executor,
    Future,
    ProcessPoolExecutor,
    ThreadPoolExecutor,
    wait,
)
from concurrent.futures.process import BrokenProcessPool
from itertools import islice
from multiprocessing.connection import wait as wait_for_end
from typing import Any, TypeVar

from pipeline.errors import PipelineError

Item = TypeVar("Item")
Result = TypeVar("Result")

_TAKEN_AHEAD = 8  # things for each process: at work, waiting for it, or done before their turn
# Things for each worker process: one at work, and enough to go on with while this process, which
# works itself, is slow to take results and to give more.
_QUEUED = 4


def default_jobs() -> int:
    """As many processes as this one may use cores."""
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1


def map_in_order(
    function: Callable[[Item], Result], items: Iterable[Item], jobs: int
) -> Generator[Result]:
    """The results of `function` for each item, in the order of the items.

    With one job everything happens in this process, but in a thread: the next result is made while
    the caller writes the last one. With more, `function` (one of a module, or a partial of such a
    one) and what it takes and gives are pickled. What it raises is raised here.

    Raises PipelineError if a worker process is killed, as happens where memory runs out.
    """
    rest = iter(items)
    waiting: deque[Future[Result]] = deque()
    crews = [_Crew(ThreadPoolExecutor(1), 1)]
    if jobs > 1:
        crews.append(_processes(jobs - 1))
    try:
        while True:
            is_done = bool(waiting) and waiting[0].done()
            for crew in crews:  # before the result is given away: they work meanwhile
                room = min(crew.room(), _TAKEN_AHEAD * max(jobs, 1) - len(waiting))
                waiting.extend(crew.submit(function, item) for item in islice(rest, room))
            if is_done:
                yield waiting.popleft().result()
            elif waiting:
                wait((future for crew in crews for future in crew.at_work), None, FIRST_COMPLETED)
            else:
                return
    except BrokenProcessPool as error:
        raise PipelineError(
            "A worker process was killed.",
            "If the machine ran out of memory, give fewer: --jobs 1.",
        ) from error
    finally:
        for crew in crews:
            crew.pool.shutdown(wait=True, cancel_futures=True)


class _Crew:
    """Workers of one kind. `most` things are given to them at a time."""

    def __init__(self, pool: Executor, most: int) -> None:
        self.pool = pool
        self.at_work: list[Future[Any]] = []
        self._most = most

    def room(self) -> int:
        """How many things more they can be given."""
        self.at_work = [future for future in self.at_work if not future.done()]
        return self._most - len(self.at_work)

    def submit(self, function: Callable[[Item], Result], item: Item) -> Future[Result]:
        """Give them a thing to do."""
        future = self.pool.submit(function, item)
        self.at_work.append(future)
        return future


def _processes(number: int) -> _Crew:
    """Processes that are given things as soon as the first of them has started."""
    # Threads of this process (progress bars) must not be forked in the middle of something.
    context = multiprocessing.get_context("spawn")
    crew = _Crew(
        ProcessPoolExecutor(number, mp_context=context, initializer=_begin_worker),
        _QUEUED * number,
    )
    crew.at_work = [crew.pool.submit(default_jobs)] * (_QUEUED * number)
    return crew


def _begin_worker() -> None:
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    threading.Thread(target=_die_with_parent, daemon=True).start()


def _die_with_parent() -> None:
    parent = multiprocessing.parent_process()
    if parent is not None:
        wait_for_end([parent.sentinel])
        os._exit(1)

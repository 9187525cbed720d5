"""Work on many independent things in several processes, with results in their order.

    for result in map_in_order(clean_one, paths, jobs=default_jobs()):
        ...

Only a few things are in flight at a time, so memory does not grow with their number. Workers die
with the process that started them, however that ends, and leave Ctrl-C to it.
"""

import multiprocessing
import os
import signal
import threading
from collections import deque
from collections.abc import Callable, Generator, Iterable
from concurrent.futures import Future, ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from multiprocessing.connection import wait
from typing import TypeVar

from pipeline.errors import PipelineError

Item = TypeVar("Item")
Result = TypeVar("Result")

_IN_FLIGHT = 2  # things for each process: one at work, one waiting


def default_jobs() -> int:
    """As many processes as this one may use cores."""
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1


def map_in_order(
    function: Callable[[Item], Result], items: Iterable[Item], jobs: int
) -> Generator[Result]:
    """The results of `function` for each item, in the order of the items.

    With one job everything happens in this process. With more, `function` (one of a module, or a
    partial of such a one) and what it takes and gives are pickled. What it raises is raised here.

    Raises PipelineError if a worker process is killed, as happens where memory runs out.
    """
    if jobs <= 1:
        yield from map(function, items)
        return
    waiting: deque[Future[Result]] = deque()
    # Threads of this process (progress bars) must not be forked in the middle of something.
    context = multiprocessing.get_context("spawn")
    pool = ProcessPoolExecutor(jobs, mp_context=context, initializer=_begin_worker)
    try:
        for item in items:
            waiting.append(pool.submit(function, item))
            if len(waiting) >= _IN_FLIGHT * jobs:
                yield waiting.popleft().result()
        while waiting:
            yield waiting.popleft().result()
    except BrokenProcessPool as error:
        raise PipelineError(
            "A worker process was killed.",
            "If the machine ran out of memory, give fewer: --jobs 1.",
        ) from error
    finally:
        pool.shutdown(wait=True, cancel_futures=True)


def _begin_worker() -> None:
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    threading.Thread(target=_die_with_parent, daemon=True).start()


def _die_with_parent() -> None:
    parent = multiprocessing.parent_process()
    if parent is not None:
        wait([parent.sentinel])
        os._exit(1)

"""Work ahead in threads, and take the results in order."""

import os
from collections import deque
from collections.abc import Callable, Generator, Iterable
from concurrent.futures import Future, ThreadPoolExecutor
from typing import TypeVar

T = TypeVar("T")

THREADS = min(4, os.cpu_count() or 1)
IN_FLIGHT = THREADS + 2  # results that are in memory at most: in work, done, taken


def in_order(tasks: Iterable[Callable[[], T]]) -> Generator[T, None, None]:
    """The results of the tasks, in their order, while later ones are being worked on.

    torch itself is held to one thread for the time. Its own way is to divide each small operation
    among all processors and to wait for the last of them, which on a machine with other work takes
    many times as long.
    """
    import torch

    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    waiting: deque[Future[T]] = deque()
    try:
        with ThreadPoolExecutor(THREADS) as pool:
            try:
                for task in tasks:
                    waiting.append(pool.submit(task))
                    if len(waiting) > THREADS:
                        yield waiting.popleft().result()
                while waiting:
                    yield waiting.popleft().result()
            finally:
                for future in waiting:
                    future.cancel()
    finally:
        torch.set_num_threads(threads)

"""Work done one item ahead, so that a disk writes while the network fetches."""

import threading
from collections.abc import Callable, Iterator, Sequence
from queue import Empty, Full, Queue
from typing import TypeVar

T = TypeVar("T")
R = TypeVar("R")
Done = tuple[R | None, BaseException | None]

_LOOK_ROUND = 0.05  # seconds between two looks whether the other side is still there


def ahead(work: Callable[[T], R], items: Sequence[T]) -> Iterator[tuple[T, R]]:
    """Each item with what `work` makes of it, in order; never two at a time.

    The next item is worked on while the caller uses the last one. An exception of `work` is raised
    when its item is due, after all that came before. The thread dies with the process, so that a
    stop need not wait for the network.
    """
    done: Queue[Done[R]] = Queue(maxsize=1)
    stopped = threading.Event()

    def put(result: R | None, error: BaseException | None) -> bool:
        while not stopped.is_set():
            try:
                done.put((result, error), timeout=_LOOK_ROUND)
                return True
            except Full:
                continue
        return False

    def run() -> None:
        for item in items:
            try:
                result = work(item)
            except BaseException as error:  # noqa: BLE001 - raised where the item is due
                put(None, error)
                return
            if not put(result, None):
                return

    worker = threading.Thread(target=run, daemon=True)
    worker.start()
    try:
        for item in items:
            result, error = _wait(done)
            if error is not None:
                raise error
            yield item, result  # type: ignore[misc]
    finally:
        stopped.set()


def _wait(done: "Queue[Done[R]]") -> Done[R]:
    while True:  # a wait without end would not notice Ctrl-C on every system
        try:
            return done.get(timeout=1.0)
        except Empty:
            continue

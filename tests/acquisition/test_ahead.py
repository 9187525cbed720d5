"""Working ahead: the order stays, errors come when they are due, a stop is a stop."""

import threading
import time

import pytest

from pipeline.acquisition.ahead import ahead


def test_every_item_comes_once_in_order() -> None:
    assert list(ahead(str, range(100))) == [(n, str(n)) for n in range(100)]


def test_the_next_item_is_worked_on_while_the_last_is_used() -> None:
    started = threading.Event()

    def work(n: int) -> int:
        if n == 1:
            started.set()
        return n

    for n, _ in ahead(work, [0, 1]):
        if n == 0:
            assert started.wait(10), "the second item waits for the first to be used"


def test_never_two_at_a_time() -> None:
    busy = threading.Lock()

    def work(n: int) -> int:
        assert busy.acquire(blocking=False)
        time.sleep(0.001)
        busy.release()
        return n

    assert len(list(ahead(work, range(20)))) == 20


def test_an_error_comes_after_all_that_came_before_it() -> None:
    def work(n: int) -> int:
        if n == 2:
            raise ValueError("two")
        return n

    seen = []
    with pytest.raises(ValueError, match="two"):
        for n, _ in ahead(work, range(5)):
            seen.append(n)
    assert seen == [0, 1]


def test_a_caller_that_stops_ends_the_work() -> None:
    worked: list[int] = []
    for _ in ahead(lambda n: worked.append(n), range(1000)):
        break
    time.sleep(0.3)
    before = len(worked)
    time.sleep(0.2)
    assert len(worked) == before < 10

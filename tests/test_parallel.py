"""Work in several processes is as work in one, only sooner."""

import multiprocessing
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import closing
from functools import partial
from itertools import count, islice
from pathlib import Path

import psutil
import pytest

from pipeline.errors import PipelineError, UsageError
from pipeline.parallel import Workers, default_jobs, map_in_order


def slow_square(number: int, pause: float = 0.0) -> int:
    time.sleep(pause if number % 2 == 0 else 0)
    return number * number


def fail_at_three(number: int) -> int:
    if number == 3:
        raise UsageError("Three is wrong.", "Take four.")
    return number


def die_in_a_worker(number: int) -> int:
    if multiprocessing.parent_process():
        os.kill(os.getpid(), signal.SIGKILL)
    time.sleep(0.01)
    return number


def who(number: int, pause: float = 0.0) -> int:
    time.sleep(pause)
    return os.getpid()


@pytest.mark.parametrize("jobs", [1, 2])
def test_results_come_in_the_order_of_the_items(jobs: int) -> None:
    results = map_in_order(partial(slow_square, pause=0.02), range(12), jobs)

    assert list(results) == [number * number for number in range(12)]


def test_one_job_is_this_process_and_more_are_as_many_others() -> None:
    assert set(map_in_order(who, range(3), 1)) == {os.getpid()}

    with closing(map_in_order(partial(who, pause=0.01), count(), 2)) as results:
        workers = set(islice(results, 40))
    assert len(workers) == 2
    assert os.getpid() not in workers


def has_imported(name: str) -> bool:
    return name in sys.modules


@pytest.mark.parametrize("alone", [True, False])
def test_workers_are_forks_of_a_process_that_is_alone_and_have_imported_what_they_are_told(
    alone: bool,
) -> None:
    # In a process of its own: this one has other threads.
    done = subprocess.run(
        [sys.executable, "-c",
         "import sys, threading\n"
         "sys.modules['only_here'] = sys\n"
         "from tests.test_parallel import has_imported\n"
         "from pipeline.parallel import Workers\n"
         "if __name__ == '__main__':\n"
         f"    alone = {alone}\n"
         "    more = threading.Event()\n"
         "    alone or threading.Thread(target=more.wait).start()\n"
         "    with Workers(2, imports=('colorsys',)) as workers:\n"
         "        print(*workers.map(has_imported, ['only_here', 'colorsys']))\n"
         "    more.set()\n"],
        capture_output=True, text=True, check=False, timeout=60, cwd=Path(__file__).parents[1],
    )  # fmt: skip
    assert done.stderr == ""
    assert done.stdout.split() == [str(alone and sys.platform == "linux"), "True"]


def test_work_begins_before_results_are_asked_for() -> None:
    begun = threading.Event()

    with Workers(1) as workers:
        results = workers.map(lambda _: begun.set(), [1])
        assert begun.wait(10)
        assert list(results) == [None]


def test_the_next_result_is_made_while_the_last_one_is_used() -> None:
    begun = [threading.Event() for _ in range(3)]

    def begin(number: int) -> int:
        begun[number].set()
        return number

    with closing(map_in_order(begin, range(3), 1)) as results:
        assert next(results) == 0
        assert begun[1].wait(10)


@pytest.mark.parametrize("jobs", [1, 2])
def test_an_error_is_raised_here_with_its_hint_after_the_results_before_it(jobs: int) -> None:
    results = map_in_order(fail_at_three, range(6), jobs)

    assert [next(results) for _ in range(3)] == [0, 1, 2]
    with pytest.raises(UsageError, match="Three is wrong") as raised:
        next(results)
    assert raised.value.hint == "Take four."


def test_a_killed_worker_is_one_sentence() -> None:
    with pytest.raises(PipelineError, match="worker process was killed") as raised:
        list(map_in_order(die_in_a_worker, range(10_000), 2))
    assert "--jobs 1" in str(raised.value)


def test_only_a_few_items_are_taken_ahead() -> None:
    taken = 0

    def numbers() -> Iterator[int]:
        nonlocal taken
        for number in range(100):
            taken = number
            yield number

    with closing(map_in_order(slow_square, numbers(), 2)) as results:
        next(results)

        assert taken <= 16


def test_there_is_a_job_for_each_core_that_may_be_used() -> None:
    assert 1 <= default_jobs() <= (os.cpu_count() or 1)


def test_workers_die_with_their_parent(tmp_path: Path) -> None:
    script = tmp_path / "parent.py"
    script.write_text(
        "import sys\n"
        "from functools import partial\n"
        "from itertools import count\n"
        "from os import getpid\n"
        "from tests.test_parallel import who\n"
        "from pipeline.parallel import map_in_order\n"
        "if __name__ == '__main__':\n"
        "    results = map_in_order(partial(who, pause=0.01), count(), 2)\n"
        "    print(next(each for each in results if each != getpid()), flush=True)\n"
        "    sys.stdin.read()\n"
    )
    environment = os.environ | {"PYTHONPATH": str(Path(__file__).parents[1])}
    with subprocess.Popen(
        [sys.executable, str(script)],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        env=environment,
        text=True,
    ) as parent:
        assert parent.stdout is not None
        parent.stdout.readline()
        workers = psutil.Process(parent.pid).children(recursive=True)
        assert len(workers) >= 2
        parent.kill()
        _, alive = psutil.wait_procs(workers, timeout=10)
        assert alive == []

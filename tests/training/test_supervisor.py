"""`--until-done`: the loop by itself, and real children of small scripts."""

import os
import signal
import struct
import subprocess
import sys
import textwrap
from collections.abc import Iterator
from contextlib import contextmanager
from itertools import count
from pathlib import Path

import pytest

from pipeline.training.requests import STOP
from pipeline.training.supervisor import (
    LONGEST_PAUSE,
    MOST_FAILURES,
    Ended,
    last_error,
    pause,
    run_child,
    run_until_done,
    supervise,
)


class Runs:
    """Children that end as told, and the pauses between them."""

    def __init__(self, *endings: Ended | int) -> None:
        self.left = [Ended(one) if isinstance(one, int) else one for one in endings]
        self.slept: list[float] = []

    def __call__(self) -> Ended:
        return self.left.pop(0)

    def supervised(self, most_failures: int = 3) -> int:
        return supervise(self, self.slept.append, most_failures)


FULL = Ended(1, "The disk is full.")


# --- the loop -------------------------------------------------------------------------------------


def test_it_goes_on_at_once_while_there_is_more_to_do() -> None:
    runs = Runs(33, 33, 33, 33, 0)
    assert runs.supervised() == 0
    assert runs.slept == []


def test_after_a_failure_it_waits_and_tries_again(capfd: pytest.CaptureFixture[str]) -> None:
    runs = Runs(33, FULL, -9, 33, 0)
    assert runs.supervised() == 0
    assert runs.slept == [10.0, 20.0]
    said = capfd.readouterr().err
    assert "it failed with exit code 1 (The disk is full.). It starts again in 10 seconds" in said
    assert "it was killed by SIGKILL" in said


def test_pauses_double_up_to_a_cap() -> None:
    assert [pause(n) for n in range(1, 8)] == [10, 20, 40, 80, 160, 300, 300]
    assert pause(10_000) == LONGEST_PAUSE


def test_the_same_failure_several_times_is_the_end_with_that_error(
    capfd: pytest.CaptureFixture[str],
) -> None:
    runs = Runs(FULL, FULL, FULL, 0)
    assert runs.supervised() == 1
    assert runs.slept == [10.0, 20.0]
    said = capfd.readouterr().err
    assert "given up after 3 times the same: it failed with exit code 1 (The disk is full.)" in said


def test_the_exit_code_is_the_failures_own() -> None:
    assert Runs(*[Ended(5)] * 3).supervised() == 5
    assert Runs(*[Ended(-9)] * 3).supervised() == 137


def test_failures_that_differ_are_counted_each_though_they_take_turns() -> None:
    other = Ended(1, "The network is down.")
    runs = Runs(FULL, other, FULL, Ended(3, "The disk is full."), other, FULL, 0)
    assert runs.supervised() == 1
    assert len(runs.left) == 1 and runs.slept == [10, 20, 40, 80, 160]


def test_numbers_in_an_error_do_not_make_it_another_one() -> None:
    runs = Runs(*(Ended(1, f"No room for {n} MiB at 0x7f{n}a.") for n in range(10, 13)), 0)
    assert runs.supervised() == 1


def test_what_was_saved_in_between_begins_the_count_anew() -> None:
    killed = [Ended(-9, reached=f"step-{n // 2}") for n in range(20)]
    runs = Runs(*killed, Ended(0))
    assert runs.supervised() == 0
    assert runs.slept == [10.0, 20.0] * 10


def test_a_round_that_ended_begins_the_count_anew() -> None:
    assert Runs(FULL, FULL, 33, FULL, FULL, 33, 0).supervised() == 0


def test_more_to_do_without_anything_new_is_a_failure(capfd: pytest.CaptureFixture[str]) -> None:
    stuck = Ended(33, reached="step-7")
    runs = Runs(stuck, stuck, stuck, stuck, stuck)
    assert runs.supervised() == 1
    assert len(runs.slept) == 2 and len(runs.left) == 1
    assert "saved nothing new" in capfd.readouterr().err


def test_a_wrong_option_is_not_tried_again() -> None:
    runs = Runs(Ended(2, "--rank must be 1 or more."), 0)
    assert runs.supervised() == 2
    assert runs.slept == []


@pytest.mark.parametrize(("code", "expected"), [(33, 33), (0, 0), (1, 1), (-15, 143)])
def test_who_was_asked_to_end_does_not_start_again(code: int, expected: int) -> None:
    runs = Runs(33, Ended(code, asked=True), 0)
    assert runs.supervised() == expected
    assert len(runs.left) == 1 and runs.slept == []


@pytest.mark.parametrize(
    ("said", "error"),
    [
        (b"", ""),
        (b"step 1\nerror: The loss is nan.\n  Lower --learning-rate.\n", "The loss is nan."),
        (b"Traceback (most recent call last):\n  ...\nValueError: no\n\n", "ValueError: no"),
        (b"\x1b[1;31merror: Red.\x1b[0m\r\n\x1b[?25h\x1b]0;title\x07", "Red."),
        (b" 10%|\r 20%|\rerror: \xff\n", "�"),
    ],
)
def test_the_last_error_is_found_in_what_was_said(said: bytes, error: str) -> None:
    assert last_error(said) == error


# --- real children --------------------------------------------------------------------------------


@pytest.fixture
def script(tmp_path: Path) -> Path:
    """A script that ends with each of the codes in `codes`, one a start, and says so."""
    path = tmp_path / "train.py"
    path.write_text(
        textwrap.dedent("""
            import os, pathlib, sys
            here = pathlib.Path(__file__).parent
            codes = (here / "codes").read_text().split()
            (here / "codes").write_text(" ".join(codes[1:]))
            print("result", codes[0], os.environ["PIPELINE_SUPERVISED"], flush=True)
            code = int(codes[0])
            if code < 0:
                os.kill(os.getpid(), -code)
            sys.exit(f"error: broken at {os.getpid()}" if code == 1 else code)
        """)
    )
    return path


def test_a_child_is_started_again_until_it_is_done(
    script: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    (script.parent / "codes").write_text("33 -9 1 33 0 5")
    slept: list[float] = []
    code = run_until_done(command=[sys.executable, str(script)], sleep=slept.append)
    assert code == 0 and slept == [10.0, 20.0]
    out, err = capfd.readouterr()
    assert out == "result 33 1\nresult -9 1\nresult 1 1\nresult 33 1\nresult 0 1\n"
    assert err.count("error: broken at") == 1


def test_a_child_that_always_fails_alike_is_given_up(
    script: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    (script.parent / "codes").write_text("1 " * 9)
    command = [sys.executable, str(script)]
    assert run_until_done(command=command, sleep=lambda seconds: None, most_failures=3) == 1
    assert "3 times the same: it failed with exit code 1 (broken at" in capfd.readouterr().err


def test_what_is_reached_is_asked_for_after_every_child(script: Path) -> None:
    (script.parent / "codes").write_text("1 " * MOST_FAILURES + "1 1 0")
    command, numbers = [sys.executable, str(script)], count()
    assert run_until_done(reached=lambda: f"{next(numbers)}", command=command, sleep=id) == 0


def test_what_a_child_prints_goes_through_byte_for_byte(
    tmp_path: Path, capfdbinary: pytest.CaptureFixture[bytes]
) -> None:
    raw = b"\x1b[2K 50%|\r\xff\xfe\x00\r\n" + b"x" * 300_000 + b" and no new line"
    (tmp_path / "raw").write_bytes(raw)
    code = "import os, sys; os.write(1, b'out'); sys.stderr.buffer.write(open('raw', 'rb').read())"
    ended = run_child([sys.executable, "-c", f"import os; os.chdir({str(tmp_path)!r}); {code}"])
    assert ended == Ended(0)
    assert capfdbinary.readouterr() == (b"out", raw)


def test_a_stop_file_ends_it_and_is_deleted(script: Path, tmp_path: Path) -> None:
    (tmp_path / "codes").write_text("33 33")
    (tmp_path / STOP).touch()
    assert run_until_done(tmp_path / STOP, command=[sys.executable, str(script)]) == 33
    assert (tmp_path / "codes").read_text() == "33" and not (tmp_path / STOP).exists()


def test_a_grandchild_that_lives_on_is_not_waited_for() -> None:
    code = "import subprocess, sys; subprocess.Popen(['sleep', '3']); sys.exit('error: gone')"
    ended = run_child([sys.executable, "-c", code])
    assert ended == Ended(1, "gone")


# --- signals, and a process of its own ------------------------------------------------------------

SUPERVISOR = """
import sys
from pathlib import Path
from pipeline.training.supervisor import run_until_done
sys.exit(run_until_done(command=[sys.executable, "-c", sys.argv[1]]))
"""
LISTENS = """
import os, sys, time
from pathlib import Path
from pipeline.training.requests import Requests
with Requests() as requests:
    print("ready", flush=True)
    for _ in range(2000):
        time.sleep(0.01)
        if request := requests.poll(Path("nowhere")):
            print("saved", request.why, flush=True)
            sys.exit(33)
"""


@contextmanager
def supervising(child: str) -> Iterator["subprocess.Popen[str]"]:
    with subprocess.Popen(
        [sys.executable, "-c", SUPERVISOR, child], stdout=subprocess.PIPE, stderr=subprocess.PIPE,
        text=True, start_new_session=True,
    ) as process:  # fmt: skip
        try:
            assert process.stdout is not None and process.stdout.readline() == "ready\n"
            yield process
        finally:
            process.kill()


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT, signal.SIGUSR1])
def test_a_signal_is_passed_on_and_the_child_that_saved_is_not_started_again(
    number: signal.Signals,
) -> None:
    with supervising(LISTENS) as process:
        os.killpg(process.pid, number)  # as a terminal does: to the whole group
        out, err = process.communicate(timeout=20)
    assert out == f"saved {number.name}\n"
    assert process.returncode == 33
    assert err.count("Stopping after this step") == 1 and "Traceback" not in err


def test_the_child_has_a_group_of_its_own_so_that_ctrl_c_reaches_it_once(
    capfd: pytest.CaptureFixture[str],
) -> None:
    run_child([sys.executable, "-c", "import os; print(os.getpgrp() == os.getpid())"])
    assert capfd.readouterr().out == "True\n"


def test_a_second_signal_is_passed_on_too() -> None:
    stuck = LISTENS.replace("time.sleep(0.01)", "time.sleep(30)")
    with supervising(stuck) as process:
        process.send_signal(signal.SIGINT)
        assert process.stderr is not None
        assert "Stopping after this step" in process.stderr.readline()
        signal.sigtimedwait([], 0.4)  # longer than two senders of one signal are apart
        process.send_signal(signal.SIGINT)
        _, err = process.communicate(timeout=20)
    assert "KeyboardInterrupt" in err
    assert process.returncode == 128 + signal.SIGINT


SAME_COMMAND = """
import os, sys
from pipeline.training.requests import is_supervised
from pipeline.training.supervisor import run_until_done
if "--until-done" in sys.argv and not is_supervised():
    sys.exit(run_until_done())
print(sys.argv[1:], os.isatty(2), flush=True)
"""


def test_the_same_command_is_run_without_the_option(tmp_path: Path) -> None:
    path = tmp_path / "again.py"
    path.write_text(SAME_COMMAND)
    done = subprocess.run(
        [sys.executable, "-u", path, "train", "--until-done", "--max-steps", "3"],
        capture_output=True, text=True, timeout=20, check=True,
    )  # fmt: skip
    assert done.stdout == "['train', '--max-steps', '3'] False\n"


ON_TERMINAL = """
import os, sys
from pipeline.training.supervisor import run_until_done
child = "import os, sys; print(os.isatty(2), os.get_terminal_size(2).columns, file=sys.stderr)"
sys.exit(run_until_done(command=[sys.executable, "-c", child]))
"""


def test_on_a_terminal_the_child_has_one_too_of_the_same_size() -> None:
    import pty
    import termios
    from fcntl import ioctl

    end, terminal = pty.openpty()
    try:
        ioctl(terminal, termios.TIOCSWINSZ, struct.pack("HHHH", 30, 77, 0, 0))
        done = subprocess.run(
            [sys.executable, "-c", ON_TERMINAL], stderr=terminal, timeout=20, check=False
        )
        assert done.returncode == 0
        assert os.read(end, 1000) == b"True 77\r\n", "one new line for each, and no more"
    finally:
        os.close(terminal)
        os.close(end)

"""Save and stop on request: real signals in real processes, and files."""

import os
import signal
import subprocess
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from pipeline.training.requests import (
    SAVE,
    STOP,
    STOPPING,
    SUPERVISED,
    Request,
    Requests,
    is_supervised,
    listened,
)

RUN = """
import sys, time
from pathlib import Path
from pipeline.training.requests import Requests
folder = Path(sys.argv[1])
with Requests() as requests:
    for step in range(1, 400):
        print("step", step, flush=True)
        until = time.monotonic() + float(sys.argv[2])
        while time.monotonic() < until:
            time.sleep(0.01)
        request = requests.poll(folder)
        if request:
            print(request.kind, request.why, "after", step, flush=True)
            requests.honoured(request)
            if request.stops:
                break
print("left", flush=True)
time.sleep(30)
"""


class Training:
    """A process that trains in steps of so many seconds."""

    def __init__(self, process: "subprocess.Popen[str]") -> None:
        self.process = process

    def line(self) -> str:
        assert self.process.stdout is not None
        return self.process.stdout.readline().strip()

    def until(self, start: str) -> str:
        """The next line that begins like that."""
        while line := self.line():
            if line.startswith(start):
                return line
        raise AssertionError(f"it ended without {start!r}: {self.said()}")

    def said(self) -> str:
        assert self.process.stderr is not None
        return self.process.stderr.read()


@contextmanager
def training(folder: Path, seconds: float, **env: str) -> Iterator[Training]:
    with subprocess.Popen(
        [sys.executable, "-c", RUN, str(folder), str(seconds)], stdout=subprocess.PIPE,
        stderr=subprocess.PIPE, text=True, env={**os.environ, **env},
    ) as process:  # fmt: skip
        try:
            yield Training(process)
        finally:
            process.kill()


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT, signal.SIGHUP])
def test_a_signal_lets_the_step_end_is_announced_once_and_leaves_the_handlers_as_they_were(
    tmp_path: Path, number: signal.Signals
) -> None:
    with training(tmp_path, 0.3) as run:
        step = run.until("step 2")
        run.process.send_signal(number)
        assert run.line() == f"STOP {number.name} after {step.removeprefix('step ')}"
        assert run.line() == "left"
        run.process.send_signal(number)  # by now it does what it did before
        code = run.process.wait(10)
        said = run.said()
    assert said.count(STOPPING) == 1
    assert code == -number, "they kill, SIGINT by KeyboardInterrupt, which kills as well"


@pytest.mark.parametrize("second", [signal.SIGTERM, signal.SIGINT])
def test_a_second_signal_stops_at_once(tmp_path: Path, second: signal.Signals) -> None:
    with training(tmp_path, 60) as run:
        run.until("step 1")
        run.process.send_signal(signal.SIGTERM)
        assert run.process.stderr is not None
        assert run.process.stderr.readline().strip() == STOPPING, "at once, not after the step"
        run.process.send_signal(second)
        run.process.wait(10)
        said = run.said()
    assert "KeyboardInterrupt" in said and STOPPING not in said


def test_notices_come_as_often_as_they_like_and_the_sigterm_after_them_breaks_nothing_off(
    tmp_path: Path,
) -> None:
    before = [signal.getsignal(number) for number in listened()]
    with Requests() as requests:
        for number in (signal.SIGHUP, signal.SIGHUP, signal.SIGUSR1, signal.SIGUSR2):
            os.kill(os.getpid(), number)
        os.kill(os.getpid(), signal.SIGTERM)
        os.kill(os.getpid(), signal.SIGHUP)
        assert requests.poll(tmp_path) == Request(STOP, "SIGHUP")
        with pytest.raises(KeyboardInterrupt):
            os.kill(os.getpid(), signal.SIGTERM)
    assert [signal.getsignal(number) for number in listened()] == before


def test_under_nohup_a_closed_terminal_is_none_of_the_runs_business(tmp_path: Path) -> None:
    before = signal.signal(signal.SIGHUP, signal.SIG_IGN)
    try:
        with training(tmp_path, 0.05) as run:
            run.until("step 1")
            run.process.send_signal(signal.SIGHUP)
            assert run.line() == "step 2"
            assert run.line() == "step 3"
            (tmp_path / STOP).touch()
            run.until("STOP the file STOP after")
    finally:
        signal.signal(signal.SIGHUP, before)


ON_A_TERMINAL = """
import sys, time
from pathlib import Path
from pipeline.console import say
from pipeline.training.requests import Requests
with Requests() as requests:
    say("step 1")
    while not (request := requests.poll(Path("nowhere"))):
        time.sleep(0.01)
    say("Saved.")
    print("Saved.", flush=True)
    Path(sys.argv[1]).write_text(request.why)
"""


def test_a_run_whose_terminal_is_closed_saves_though_nobody_reads_what_it_says(
    tmp_path: Path,
) -> None:
    import pty

    pid, terminal = pty.fork()
    if not pid:
        os.execv(
            sys.executable, [sys.executable, "-c", ON_A_TERMINAL, str(tmp_path / "saved")]
        )  # pragma: no cover
    assert b"step 1" in os.read(terminal, 1000)
    os.close(terminal)
    assert os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) == 0
    assert (tmp_path / "saved").read_text() == "SIGHUP"


def test_one_signal_sent_by_two_is_one_request_under_a_supervisor(tmp_path: Path) -> None:
    with training(tmp_path, 0.5, **{SUPERVISED: "1"}) as run:
        run.until("step 1")
        run.process.send_signal(signal.SIGTERM)
        run.process.send_signal(signal.SIGINT)
        assert run.line() in ("STOP SIGTERM after 1", "STOP SIGINT after 1")
        assert run.line() == "left"


def test_a_file_asks_a_running_process_to_save_and_another_one_to_stop(tmp_path: Path) -> None:
    with training(tmp_path, 0.02) as run:
        run.until("step 1")
        (tmp_path / SAVE).touch()
        run.until("SAVE the file SAVE after")
        run.until("step")
        assert not (tmp_path / SAVE).exists()
        (tmp_path / STOP).touch()
        run.until("STOP the file STOP after")
        assert run.line() == "left"
        assert list(tmp_path.iterdir()) == []


FORKED = """
import os, signal, time
from pipeline.training.requests import Requests
with Requests() as requests:
    child = os.fork()
    if child == 0:
        try:
            os.kill(os.getpid(), signal.SIGTERM)
            time.sleep(5)
            os._exit(3)
        except KeyboardInterrupt:
            os._exit(7)
    print(os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]), requests.stopping)
"""


def test_a_worker_that_is_forked_from_the_run_ends_at_the_first_signal() -> None:
    done = subprocess.run(
        [sys.executable, "-c", FORKED], capture_output=True, text=True, timeout=20, check=True
    )
    assert done.stdout == "7 False\n"


# --- files ----------------------------------------------------------------------------------------


def test_a_save_is_asked_for_until_it_is_honoured(tmp_path: Path) -> None:
    requests = Requests()
    assert requests.poll(tmp_path) is None
    (tmp_path / SAVE).touch()
    request = requests.poll(tmp_path)
    assert request == Request(SAVE, "the file SAVE", (tmp_path / SAVE,)) and not request.stops
    assert requests.poll(tmp_path) == request, "a run that dies before it is saved was still asked"
    requests.honoured(request)
    assert requests.poll(tmp_path) is None and not (tmp_path / SAVE).exists()


def test_a_stop_goes_before_a_save_and_answers_both(tmp_path: Path) -> None:
    (tmp_path / SAVE).touch()
    (tmp_path / STOP).write_text("now")
    requests = Requests()
    request = requests.poll(tmp_path)
    assert request is not None and request.stops and request.why == "the file STOP"
    requests.honoured(request)
    assert list(tmp_path.iterdir()) == []


def test_under_a_supervisor_the_stop_file_stays_for_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert not is_supervised()
    monkeypatch.setenv(SUPERVISED, "1")
    assert is_supervised()
    (tmp_path / SAVE).touch()
    (tmp_path / STOP).touch()
    requests = Requests()
    request = requests.poll(tmp_path)
    assert request is not None
    requests.honoured(request)
    assert list(tmp_path.iterdir()) == [tmp_path / STOP]


def test_a_request_that_cannot_be_deleted_counts_once_and_is_warned_of(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    def refuse(self: Path, missing_ok: bool = False) -> None:
        raise PermissionError(13, "Permission denied", str(self))

    monkeypatch.setattr(Path, "unlink", refuse)
    (tmp_path / SAVE).touch()
    requests = Requests()
    request = requests.poll(tmp_path)
    assert request is not None
    requests.honoured(request)
    assert requests.poll(tmp_path) is None
    assert f"{tmp_path / SAVE} cannot be deleted (Permission denied)" in capfd.readouterr().err


def test_a_folder_of_that_name_or_a_directory_that_is_not_there_asks_for_nothing(
    tmp_path: Path,
) -> None:
    (tmp_path / STOP).mkdir()
    assert Requests().poll(tmp_path) is None
    assert Requests().poll(tmp_path / "nowhere") is None


def test_outside_the_main_thread_signals_are_left_alone_and_files_work(tmp_path: Path) -> None:
    handlers = [signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)]
    found: list[object] = []

    def train() -> None:
        with Requests() as requests:
            found.extend(signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM))
            (tmp_path / STOP).touch()
            found.append(requests.poll(tmp_path))

    thread = threading.Thread(target=train)
    thread.start()
    thread.join()
    assert found == [*handlers, Request(STOP, "the file STOP", (tmp_path / STOP,))]


def test_a_signals_request_stays_and_takes_the_files_along(tmp_path: Path) -> None:
    before = signal.getsignal(signal.SIGTERM)
    with Requests() as requests:
        stopping = [requests.stopping]
        os.kill(os.getpid(), signal.SIGTERM)
        stopping.append(requests.stopping)
        assert stopping == [False, True]
        (tmp_path / SAVE).touch()
        request = requests.poll(tmp_path)
        assert request == Request(STOP, "SIGTERM", (tmp_path / SAVE,))
        requests.honoured(request)
        assert requests.poll(tmp_path) == Request(STOP, "SIGTERM")
        with pytest.raises(KeyboardInterrupt):
            os.kill(os.getpid(), signal.SIGTERM)
    assert signal.getsignal(signal.SIGTERM) is before

"""A program that crashes, fails, hangs or is interrupted ends as one sentence with its log."""

import os
import sys
import time
from pathlib import Path

import pytest

from pipeline.errors import PipelineError
from pipeline.export.process import log_file, python_module, reason, run_logged


def python(code: str) -> list[str]:
    return [sys.executable, "-c", code]


def is_alive(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    return True


def test_output_goes_to_the_log_and_lines_to_the_listener(tmp_path: Path) -> None:
    log = tmp_path / "log"
    log.write_text("before\n")
    lines: list[str] = []
    code = "import sys; print(input()); print('é'); print('noise', file=sys.stderr)"
    run_logged(python(code), what="it", log=log, request="request", on_line=lines.append)
    assert lines == ["request\n", "é\n"]
    assert log.read_text() == "before\nnoise\n"


def test_without_a_listener_everything_goes_to_the_log(tmp_path: Path) -> None:
    log = tmp_path / "log"
    run_logged(python("import sys; print(1); print(2, file=sys.stderr)"), what="it", log=log)
    assert sorted(log.read_text().split()) == ["1", "2"]


@pytest.mark.parametrize("name", ["SIGSEGV", "SIGABRT", "SIGILL"])
def test_crash_names_signal_last_words_and_log(name: str, tmp_path: Path) -> None:
    code = f"import os, signal; os.write(2, b'loading\\n'); os.kill(os.getpid(), signal.{name})"
    with pytest.raises(PipelineError, match=rf"^it crashed \({name}\) after: loading, log: ") as e:
        run_logged(python(code), what="it", log=tmp_path / "the.log")
    assert str(tmp_path / "the.log") in e.value.message


def test_death_by_the_memory_killer_is_told_as_such(tmp_path: Path) -> None:
    code = "import os, signal; os.kill(os.getpid(), signal.SIGKILL)"
    with pytest.raises(PipelineError, match=r"^it was killed \(SIGKILL\)") as raised:
        run_logged(python(code), what="it", log=tmp_path / "log")
    assert "memory" in str(raised.value.hint)


def test_failure_tells_the_exception_and_the_log(tmp_path: Path) -> None:
    code = "print('hello'); raise OSError(28, 'No space left on device')"
    with pytest.raises(
        PipelineError, match=r"^it failed: OSError: \[Errno 28\] No space"
    ) as raised:
        run_logged(python(code), what="it", log=tmp_path / "log")
    assert f"(log: {tmp_path / 'log'})" in raised.value.message
    assert "disk is full" in str(raised.value.hint)


def test_failure_without_a_word_tells_the_status(tmp_path: Path) -> None:
    with pytest.raises(PipelineError, match="it failed: exit status 3"):
        run_logged(python("raise SystemExit(3)"), what="it", log=tmp_path / "log")


def test_missing_program_is_one_sentence(tmp_path: Path) -> None:
    with pytest.raises(PipelineError, match=r"it could not be started: .*No such file"):
        run_logged([str(tmp_path / "nothing")], what="it", log=tmp_path / "log")


def test_silence_is_taken_for_a_hang_but_a_growing_log_is_not(tmp_path: Path) -> None:
    busy = "import os, time\nfor i in range(10): os.write(2, b'.'); time.sleep(0.2)"
    run_logged(python(busy), what="it", log=tmp_path / "log", silence=1.5)
    start = time.monotonic()
    with pytest.raises(PipelineError, match="no sign of life for 1 seconds and was ended, log: "):
        run_logged(
            python("import time; time.sleep(60)"), what="it", log=tmp_path / "log", silence=1.0
        )
    assert time.monotonic() - start < 20


def test_interruption_ends_the_child(tmp_path: Path) -> None:
    pids: list[int] = []

    def interrupt(line: str) -> None:
        pids.append(int(line))
        raise KeyboardInterrupt

    code = "import os, time; print(os.getpid(), flush=True); time.sleep(60)"
    with pytest.raises(KeyboardInterrupt):
        run_logged(python(code), what="it", log=tmp_path / "log", on_line=interrupt)
    assert not is_alive(pids[0])


def test_files_in_the_current_directory_do_not_change_what_runs(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "json.py").write_text("raise SystemExit('hijacked')")
    monkeypatch.chdir(tmp_path)
    (tmp_path / "data").write_text("{}")
    run_logged(python_module("json.tool", "data"), what="it", log=tmp_path / "log")
    assert (tmp_path / "log").read_text() == "{}\n"


def test_temporary_log_stays_only_if_an_error_names_it() -> None:
    with log_file(None) as fine:
        fine.write_text("x")
    assert not fine.exists()
    with pytest.raises(PipelineError), log_file(None) as useless:
        raise PipelineError("The prompt is empty.")
    assert not useless.exists()
    with pytest.raises(PipelineError), log_file(None) as named:
        raise PipelineError(f"It crashed, log: {named}")
    assert named.exists()
    named.unlink()


LOGS = {
    "Traceback (most recent call last):\n  File 'a'\nKeyError: 'x'\nmore\n": "KeyError: 'x'",
    "a\nTraceback (most recent call last):\n  a\nValueError: one\n\nDuring handling\n\n"
    "Traceback (most recent call last):\n  b\nTypeError: two\n": "TypeError: two",
    "load: ok\nload: error loading model: bad\nfailed to load\n": "load: error loading model: bad",
    "INFO:x:start\nERROR:hf-to-gguf:Model Foo is not supported\n": "Model Foo is not supported",
    "WARNING: failed to find a config\nloading\n": "loading",
    "terminate called\n  what():  unordered_map::at\nFatal Python error: Aborted\n\n"
    'Current thread 0x0 (most recent call first):\n  File "x.py", line 2 in f\n': (
        "what():  unordered_map::at"
    ),
    "Writing:  10%|#   | 1/10\rWriting: 100%|####| 10/10\n": "",
    "": "",
}


@pytest.mark.parametrize(("text", "expected"), LOGS.items())
def test_reason_is_the_line_that_tells_most(text: str, expected: str, tmp_path: Path) -> None:
    log = tmp_path / "log"
    log.write_text("ValueError: of an earlier run\n" + text)
    assert reason(log, start=len("ValueError: of an earlier run\n")) == expected

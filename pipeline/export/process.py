"""Run a program that may crash in a process of its own, with everything it says in a log file.

llama.cpp is C++ and its converter is another project's script: whatever happens to them must end
as one sentence and the path of the full log, never as the end of the pipeline.
"""

import os
import queue
import re
import signal
import subprocess
import sys
import tempfile
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import BinaryIO

from pipeline.errors import PipelineError

SILENCE_LIMIT = 900.0  # seconds without a line or a byte of log before a process counts as hung
_CHECK_EVERY = 1.0  # seconds
_LOG_TAIL = 200_000  # bytes of a log that are read to find out what went wrong
_NO_MEMORY = "The memory may be too small for it: close other programs, or use a larger machine."
_SOURCE_ROOT = Path(__file__).resolve().parents[2]

_TROUBLE = re.compile(
    r"error|fail|exception|what\(\):|invalid|unable|cannot|no space|assert", re.IGNORECASE
)
_NOISE = re.compile(
    r"(?i:warning)|%\||it/s\]|^\W*$"
    r"|^Current thread|^Thread 0x|^Extension modules|^Fatal Python error|^File \""
)
_LOGGER_PREFIX = re.compile(r"^(ERROR|CRITICAL):[\w.-]+:")
_OUT_OF_DISK = re.compile(
    # The last two are numpy's and C++'s way to say that a write fell short.
    r"no space left|disk quota|file too large|\d+ requested and \d+ written|iostream error",
    re.IGNORECASE,
)
_OUT_OF_MEMORY = re.compile(
    r"out of memory|bad_alloc|cannot allocate|failed to allocate|MemoryError", re.IGNORECASE
)


def python_module(module: str, *arguments: str) -> list[str]:
    """The command that runs a module with this interpreter.

    `-P` keeps the current directory off the import path: a book folder that happens to hold a
    `json.py` must not change what runs.
    """
    return [sys.executable, "-P", "-m", module, *arguments]


@contextmanager
def log_file(log: Path | None) -> Iterator[Path]:
    """The log to write to: the one asked for, else one that stays only if an error names it."""
    if log is not None:
        yield log
        return
    handle, name = tempfile.mkstemp(prefix="pipeline-", suffix=".log")
    os.close(handle)
    kept = False
    try:
        yield Path(name)
    except PipelineError as error:
        kept = name in error.message
        raise
    finally:
        if not kept:
            Path(name).unlink()


def run_logged(
    command: list[str],
    *,
    what: str,
    log: Path,
    request: str = "",
    on_line: Callable[[str], None] | None = None,
    silence: float = SILENCE_LIMIT,
) -> None:
    """Run `command` to its end; stderr, and stdout if nobody listens to it, are appended to `log`.

    `what` names the program in messages. `request`, if given, is one line written to stdin, which
    then stays open, so that the child can tell from its closing that we are gone. `on_line` gets
    each line of stdout as it comes; what it raises ends the child, and so does KeyboardInterrupt.

    Raises:
        PipelineError: the program crashed, failed, or showed no sign of life (no line, no growth
            of the log) for `silence` seconds. The message names the log.
    """
    log.parent.mkdir(parents=True, exist_ok=True)
    with log.open("ab") as sink:
        start = sink.tell()
        try:
            child = subprocess.Popen(
                command,
                stdin=subprocess.PIPE if request else subprocess.DEVNULL,
                stdout=subprocess.PIPE if on_line else sink,
                stderr=sink,
                env=worker_environment(),
            )
        except OSError as error:
            raise PipelineError(f"{what} could not be started: {error}.") from error
        with _ended(child):
            _send(child, request)
            hung = not _follow(child, log, on_line, silence)
    if hung:
        raise PipelineError(
            f"{what} showed no sign of life for {silence:,.0f} seconds and was ended, log: {log}",
            "Run the same command again; if it hangs again, look into the log.",
        )
    if child.returncode:
        raise failure(what, child.returncode, log, start)


@contextmanager
def _ended(child: "subprocess.Popen[bytes]") -> Iterator[None]:
    """Whatever happens inside, the child is gone afterwards and its pipes are closed."""
    try:
        yield
    finally:
        if child.poll() is None:
            child.kill()
        child.wait()
        for pipe in (child.stdin, child.stdout):
            if pipe is not None:
                with suppress(BrokenPipeError):
                    pipe.close()


def _send(child: "subprocess.Popen[bytes]", request: str) -> None:
    if child.stdin is None:
        return
    # A child that died before reading is told by its exit status, below.
    with suppress(BrokenPipeError):
        child.stdin.write(request.encode() + b"\n")
        child.stdin.flush()


def _follow(
    child: "subprocess.Popen[bytes]",
    log: Path,
    on_line: Callable[[str], None] | None,
    silence: float,
) -> bool:
    """Pass on the child's lines until it ends. False when it has to be given up as hung."""
    lines: queue.SimpleQueue[bytes | None] = queue.SimpleQueue()
    reader = threading.Thread(target=_read_lines, args=(child, lines), daemon=True)
    reader.start()
    quiet, size = 0.0, -1
    wait = min(_CHECK_EVERY, silence)
    while True:
        try:
            line = lines.get(timeout=wait)
        except queue.Empty:
            quiet += wait
            if log.stat().st_size != size:
                quiet, size = 0.0, log.stat().st_size
            if quiet >= silence:
                return False
            continue
        quiet = 0.0
        if line is None:
            break
        if on_line is not None:
            on_line(line.decode("utf-8", "replace"))
    reader.join()
    child.wait()
    return True


def _read_lines(child: "subprocess.Popen[bytes]", lines: "queue.SimpleQueue[bytes | None]") -> None:
    pipe: BinaryIO | None = child.stdout  # type: ignore[assignment]
    if pipe is None:
        child.wait()
    else:
        for line in pipe:
            lines.put(line)
    lines.put(None)


def worker_environment() -> dict[str, str]:
    """The child's environment: it finds this package, and it works offline."""
    path = [str(_SOURCE_ROOT), *filter(None, [os.environ.get("PYTHONPATH")])]
    return {
        # Threads that wait by spinning make llama.cpp many times slower as soon as another program
        # wants a core (2 threads on 2 busy cores: reading 50 tokens/s for 200, drawing 9 for 60);
        # on idle cores waiting politely costs nothing while it reads (430 and 440).
        "OMP_WAIT_POLICY": "passive",
        **os.environ,
        "PYTHONPATH": os.pathsep.join(path),
        "PYTHONUTF8": "1",
        "PYTHONUNBUFFERED": "1",
        "HF_HUB_OFFLINE": "1",  # both programs are given local files only
        "GGML_NO_BACKTRACE": "1",  # ggml would start a debugger to print one
    }


def failure(what: str, returncode: int, log: Path, start: int = 0) -> PipelineError:
    """Say in one sentence how a process ended, from its exit status and its part of the log."""
    why = reason(log, start)
    if returncode >= 0:
        detail = why or f"exit status {returncode}"
        return PipelineError(f"{what} failed: {detail} (log: {log}).", way_out(why))
    try:
        name = signal.Signals(-returncode).name
    except ValueError:
        name = f"signal {-returncode}"
    hint = _NO_MEMORY if name == "SIGKILL" else way_out(why)
    ended = "was killed" if name in ("SIGKILL", "SIGTERM", "SIGINT") else "crashed"
    after = f" after: {why}" if why else ""
    return PipelineError(f"{what} {ended} ({name}){after}, log: {log}", hint)


def way_out(why: str) -> str:
    """What to do about a reason that a log gave."""
    if _OUT_OF_DISK.search(why):
        return "The disk is full: free some space and run the same command again."
    if _OUT_OF_MEMORY.search(why):
        return _NO_MEMORY
    return "The log holds all that it said."


def reason(log: Path, start: int = 0) -> str:
    """The line of a log that says best what went wrong; empty if there is none.

    After a Python traceback that is its last line; else the first line that speaks of an error,
    since llama.cpp names the cause first and its consequences after; else the last line.
    """
    with log.open("rb") as source:
        source.seek(max(start, log.stat().st_size - _LOG_TAIL))
        text = source.read().decode("utf-8", "replace")
    # A progress bar rewrites its line with \r: only what it showed last counts.
    lines = [line.rsplit("\r", 1)[-1].rstrip() for line in text.split("\n")]
    traceback = [i for i, line in enumerate(lines) if line.startswith("Traceback (most recent")]
    told = [line for line in lines[traceback[-1] + 1 if traceback else 0 :] if line.strip()]
    if traceback:
        told = [line for line in told if not line.startswith((" ", "\t"))][:1] or told
    told = [line for line in map(str.strip, told) if not _NOISE.search(line)]
    troubles = [line for line in told if _TROUBLE.search(line)]
    best = _LOGGER_PREFIX.sub("", (troubles or told[-1:] or [""])[0])
    return best if len(best) <= 300 else best[:297] + "..."

"""Kill a command at every moment at which it touches files, and start it again until it ends."""

import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

_STRUCK = """
import os, signal, sys
place, last = sys.argv[1], int(sys.argv[2])
touched = 0

def strike(event, arguments):
    global touched
    if event in ("open", "os.rename", "os.remove", "os.link", "os.mkdir", "shutil.rmtree"):
        if any(place in os.fsdecode(a) for a in arguments if isinstance(a, (str, bytes))):
            touched += 1
            if touched == last:
                os.kill(os.getpid(), signal.SIGKILL)

sys.addaudithook(strike)
sys.argv = ["pipeline", *sys.argv[3:]]
from pipeline.cli import main
main()
"""


def killed_until_it_ends(folder: Path, *command: str | Path) -> int:
    """Run a command of the pipeline again and again, each time killed by SIGKILL a little later:
    the n-th time that it opens, renames, links or deletes something in `folder`.

    Returns how often it was killed before it ended.
    """
    for kills, last in enumerate(_moments()):
        words = [sys.executable, "-c", _STRUCK, str(folder), str(last), *map(str, command)]
        done = subprocess.run(words, capture_output=True, text=True, timeout=120, check=False)
        if done.returncode == 0:
            return kills
        if done.returncode != -signal.SIGKILL:
            pytest.fail(f"it ended with {done.returncode}: {done.stderr}")
    raise AssertionError("the moments have no end")


def _moments() -> Iterator[int]:
    """2, 5, 9, 14, 20, ...: dense where a command begins, and soon beyond its end."""
    moment = 0
    for step in range(2, 10_000):
        moment += step
        yield moment


def contents(folder: Path, *but: str) -> dict[str, bytes]:
    """The files below a folder, without those named."""
    return {
        path.relative_to(folder).as_posix(): path.read_bytes()
        for path in folder.rglob("*")
        if path.is_file() and path.name not in but
    }

"""Folders to work in that a killed process cannot leave behind for ever.

Each has a lock beside it, which the system takes back from a process that dies. A folder whose
lock is free is nobody's, and the next process that works at that place deletes it.
"""

import secrets
import shutil
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import TYPE_CHECKING

from pipeline.files import TEMPORARY_PREFIX

if TYPE_CHECKING:
    from filelock import FileLock

_LOCK = ".lock"


@contextmanager
def scratch_folder(parent: Path, kind: str = "") -> Iterator[Path]:
    """A new folder in `parent`, gone after the block with all that is still in it.

    First what dead processes left of the same `kind` is deleted; without one that is everything
    temporary in `parent`, which then must be a folder of this product alone.
    """
    from filelock import FileLock

    parent.mkdir(parents=True, exist_ok=True)
    prefix = TEMPORARY_PREFIX + (f"{kind}-" if kind else "")
    remove_leftovers(parent, prefix)
    folder = parent / f"{prefix}{secrets.token_hex(4)}"
    lock = FileLock(folder.with_name(folder.name + _LOCK))
    # The lock is there before the folder: one without a lock is never in use.
    with suppress(NotImplementedError):  # a remote file system may have no locks
        lock.acquire()
    try:
        folder.mkdir()
        yield folder
    finally:
        shutil.rmtree(folder, ignore_errors=True)
        _give_up(lock)


def remove_leftovers(parent: Path, prefix: str) -> None:
    """Delete the folders in `parent` that begin with `prefix` and are nobody's any more."""
    from filelock import FileLock, Timeout

    for name in sorted({path.name.removesuffix(_LOCK) for path in parent.glob(f"{prefix}*")}):
        lock = FileLock(parent / f"{name}{_LOCK}")
        try:
            lock.acquire(timeout=0)
        except (Timeout, NotImplementedError, OSError):
            continue
        shutil.rmtree(parent / name, ignore_errors=True)
        _give_up(lock)


def _give_up(lock: "FileLock") -> None:
    """Delete a lock's file, then release it: nobody waits for one of these."""
    with suppress(OSError):
        Path(lock.lock_file).unlink(missing_ok=True)
    lock.release()

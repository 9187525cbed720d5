"""A folder of copies of remote objects that is bounded in size and never believed blindly.

Each copy is one file, `<hash of the address>/<hash of the version>-<sha256 of the content>`, so
that a single rename puts it there whole, with all that is needed to check it. The time of its
last use is the file's own: the least recently used go first.
"""

import os
import tempfile
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from pipeline.files import TEMPORARY_PREFIX, sha256_bytes, sha256_file

_FULL_AGAIN = 0.9  # what is left of the limit after making room: not every write should scan
_ABANDONED = 24 * 3600.0  # seconds after which a temporary file is that of a killed process


class Cache:
    """Copies of objects by (url, version), at most `limit` bytes of them together.

    Any number of threads and processes may use one folder at once. A disk that is full or
    read-only costs only time: nothing is kept then.
    """

    def __init__(self, folder: Path, limit: int) -> None:
        self._folder = folder
        self._limit = limit
        self._size: int | None = None  # bytes, once counted; other processes add to it unseen
        self._lock = threading.Lock()

    def fits(self, size: int | None) -> bool:
        """Whether an object of `size` bytes may be kept; one of unknown size may."""
        return size is None or size <= self._limit

    def find(self, url: str, version: str) -> Path | None:
        """The verified copy of an object, or None. A damaged one is deleted.

        The path stays good until enough newer copies have crowded it out.
        """
        for path in self._candidates(url, version):
            try:
                if sha256_file(path) == _digest(path):
                    os.utime(path)
                    return path
            except OSError:
                continue  # another process made room with it
            _delete(path)
        return None

    def read(self, url: str, version: str) -> bytes | None:
        """The verified content of an object, or None. A damaged copy is deleted."""
        for path in self._candidates(url, version):
            try:
                data = path.read_bytes()
                if sha256_bytes(data) == _digest(path):
                    os.utime(path)
                    return data
            except OSError:
                continue
            _delete(path)
        return None

    def add(self, url: str, version: str, data: bytes) -> None:
        """Keep the content of an object, if there is room for it, in place of older versions."""
        if not self.fits(len(data)):
            return
        # A cache that cannot be written (full, read-only) costs time and is no error.
        with suppress(OSError), self.temporary() as temporary:
            temporary.write_bytes(data)
            self.adopt(url, version, temporary, sha256_bytes(data))

    def adopt(self, url: str, version: str, temporary: Path, sha256: str) -> Path:
        """Make the file `temporary` (of this cache) the copy of an object; returns its path."""
        size = temporary.stat().st_size
        folder = self._place(url)
        final = folder / f"{_short(version)}-{sha256}"
        # Not synced to the disk, which would cost more than the download of a small object: what
        # a power cut leaves behind does not match its name and is fetched again.
        try:
            folder.mkdir(parents=True, exist_ok=True)
            temporary.replace(final)
        except FileNotFoundError:  # another process just removed the folder, empty as it was
            folder.mkdir(parents=True, exist_ok=True)
            temporary.replace(final)
        for path in folder.iterdir():
            if path != final:
                _delete(path)
        self._make_room(size, final)
        return final

    @contextmanager
    def temporary(self) -> Iterator[Path]:
        """Yield the path of a new empty file in the cache; what is left there is deleted."""
        self._folder.mkdir(parents=True, exist_ok=True)
        descriptor, name = tempfile.mkstemp(prefix=TEMPORARY_PREFIX, dir=self._folder)
        os.close(descriptor)
        try:
            yield Path(name)
        finally:
            _delete(Path(name))

    def _place(self, url: str) -> Path:
        return self._folder / sha256_bytes(url.encode("utf-8", "surrogatepass"))[:32]

    def _candidates(self, url: str, version: str) -> list[Path]:
        with suppress(OSError):
            return sorted(self._place(url).glob(f"{_short(version)}-*"))
        return []

    def _make_room(self, added: int, newest: Path) -> None:
        """Delete the least recently used copies once all together pass the limit."""
        with self._lock:
            if self._size is not None:
                self._size += added
                if self._size <= self._limit:
                    return
            copies = self._copies()
            self._size = sum(size for _, size, _ in copies)
            if self._size <= self._limit:
                return
            for _, size, path in copies:
                if self._size <= self._limit * _FULL_AGAIN:
                    break
                if path != newest and _delete(path):
                    self._size -= size
                    with suppress(OSError):  # not empty: another process just wrote there
                        path.parent.rmdir()

    def _copies(self) -> list[tuple[float, int, Path]]:
        """(last use, size, path) of all copies, the least recently used first."""
        copies = []
        now = time.time()
        for path in self._folder.glob("*/*"):
            with suppress(OSError):
                stat = path.stat()
                copies.append((stat.st_mtime, stat.st_size, path))
        for path in self._folder.glob(TEMPORARY_PREFIX + "*"):
            with suppress(OSError):
                if now - path.stat().st_mtime > _ABANDONED:
                    _delete(path)
        return sorted(copies)


def _short(version: str) -> str:
    return sha256_bytes(version.encode("utf-8", "surrogatepass"))[:16]


def _digest(path: Path) -> str:
    return path.name.rpartition("-")[2]


def _delete(path: Path) -> bool:
    """Whether `path` could be deleted; Windows refuses while another process reads it."""
    try:
        path.unlink(missing_ok=True)
    except OSError:
        return False
    return True

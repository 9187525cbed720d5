"""A store of objects that lies: an fsspec file system (`lying://`) that goes wrong on demand.

with lying(fail=0.2, seed=7) as remote:
    RemoteCopies("lying://bucket/run")
    remote.objects            # what is really there
"""

import errno
import io
import random
import threading
from collections import Counter
from collections.abc import Callable, Iterator, MutableMapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, ClassVar

import fsspec
from fsspec import AbstractFileSystem

SECRET = "AKIASECRETINTHEANSWER"


@dataclass
class Remote:
    """What is there, and how it lies; the numbers are probabilities for each request.

    `lag`: how many looks it takes until a new object is seen; `ghosts`: for how many looks a
    deleted one still is. `gate`: requests that `blocks` chooses wait for it, for ever if need be.
    """

    seed: int = 0
    fail: float = 0.0  # the request fails; it may have had its effect
    drop: float = 0.0  # what was accepted is not there
    cut: float = 0.0  # ... is shorter
    flip: float = 0.0  # ... has another bit
    length: float = 0.0  # the size that is told is wrong
    misread: float = 0.0  # what is read has another bit
    lag: int = 0
    keeps_deleted: float = 0.0
    ghosts: int = 0
    blocks: Callable[[str, str], bool] | None = None
    error: Callable[[], Exception] = lambda: OSError(errno.EIO, f"refused for {SECRET}")
    objects: MutableMapping[str, bytes] = field(default_factory=dict)
    unseen: Counter[str] = field(default_factory=Counter)
    gone: dict[str, tuple[int, int]] = field(default_factory=dict)  # size, looks that are left
    calls: list[tuple[str, str]] = field(default_factory=list)
    gate: threading.Event = field(default_factory=threading.Event)

    def __post_init__(self) -> None:
        self._random = random.Random(self.seed)
        self._lock = threading.Lock()

    def heal(self) -> None:
        """From now on it tells the truth."""
        self.fail = self.drop = self.cut = self.flip = self.length = self.misread = 0.0
        self.keeps_deleted, self.lag, self.ghosts, self.blocks = 0.0, 0, 0, None
        self.unseen.clear()
        self.gone.clear()
        self.gate.set()

    def chance(self, probability: float) -> bool:
        with self._lock:
            return self._random.random() < probability

    def asked(self, method: str, path: str) -> None:
        with self._lock:
            self.calls.append((method, path))
        if self.blocks is not None and self.blocks(method, path):
            self.gate.wait(60)

    def flipped(self, data: bytes) -> bytes:
        if not data:
            return data
        with self._lock:
            at = self._random.randrange(len(data))
        return data[:at] + bytes([data[at] ^ 1]) + data[at + 1 :]

    def store(self, path: str, data: bytes) -> None:
        if self.chance(self.fail / 2):
            raise self.error()
        if not self.chance(self.drop):
            if self.chance(self.cut):
                data = data[: len(data) // 2]
            if self.chance(self.flip):
                data = self.flipped(data)
            if path not in self.objects:
                self.unseen[path] = self.lag
            self.objects[path] = data
        if self.chance(self.fail / 2):
            raise self.error()

    def sees(self, path: str) -> bool:
        if path not in self.objects:
            return False
        if self.unseen[path] > 0:
            self.unseen[path] -= 1
            return False
        return True

    def size_seen(self, path: str) -> int | None:
        """The size of an object that is seen, though it may be there no longer."""
        if path in self.objects:
            return len(self.objects[path]) if self.sees(path) else None
        size, looks = self.gone.get(path, (0, 0))
        if not looks:
            return None
        self.gone[path] = (size, looks - 1)
        return size

    def delete(self, path: str) -> None:
        if path in self.objects and not self.chance(self.keeps_deleted):
            self.gone[path] = (len(self.objects.pop(path)), self.ghosts)


class LyingFileSystem(AbstractFileSystem):
    """The objects of the current Remote."""

    protocol = "lying"
    remote: ClassVar[Remote]

    def _fact(self, path: str, size: int) -> dict[str, Any]:
        wrong = self.remote.chance(self.remote.length)
        return {"name": path, "size": size // 2 if wrong else size, "type": "file"}

    def _begin(self, method: str, path: str) -> str:
        path = str(self._strip_protocol(path))
        self.remote.asked(method, path)
        if method not in ("put", "copy") and self.remote.chance(self.remote.fail):
            raise self.remote.error()
        return path

    def find(self, path: str, *_: Any, **__: Any) -> dict[str, Any]:
        path = self._begin("list", path)
        known = [*self.remote.objects, *self.remote.gone]
        found = dict.fromkeys(name for name in known if name.startswith(path + "/"))
        sizes = {name: self.remote.size_seen(name) for name in found}
        return {name: self._fact(name, size) for name, size in sizes.items() if size is not None}

    def info(self, path: str, **_: Any) -> dict[str, Any]:
        path = self._begin("info", path)
        size = self.remote.size_seen(path)
        if size is None:
            raise FileNotFoundError(path)
        return self._fact(path, size)

    def _data(self, path: str) -> bytes:
        path = self._begin("read", path)
        if path not in self.remote.objects:
            raise FileNotFoundError(path)
        data = self.remote.objects[path]
        return self.remote.flipped(data) if self.remote.chance(self.remote.misread) else data

    def cat_file(self, path: str, start: Any = None, end: Any = None, **_: Any) -> bytes:
        return self._data(path)[start:end]

    def open(self, path: str, *_: Any, **__: Any) -> io.BytesIO:
        return io.BytesIO(self._data(path))

    def put_file(self, lpath: str, rpath: str, *_: Any, **__: Any) -> None:
        path = self._begin("put", rpath)
        self.remote.store(path, Path(lpath).read_bytes())

    def pipe_file(self, path: str, value: bytes, *_: Any, **__: Any) -> None:
        self.remote.store(self._begin("put", path), value)

    def cp_file(self, path1: str, path2: str, **_: Any) -> None:
        source, target = str(self._strip_protocol(path1)), self._begin("copy", path2)
        if source not in self.remote.objects:
            raise FileNotFoundError(source)
        self.remote.store(target, self.remote.objects[source])

    def rm_file(self, path: str) -> None:
        self.remote.delete(self._begin("delete", path))


@contextmanager
def lying(**how: Any) -> Iterator[Remote]:
    """A remote at lying://, empty at first."""
    fsspec.register_implementation("lying", LyingFileSystem, clobber=True)
    LyingFileSystem.remote = Remote(**how)
    try:
        yield LyingFileSystem.remote
    finally:
        LyingFileSystem.remote.gate.set()

"""A folder anywhere that can be written to: any fsspec file system, a request at a time.

    folder = RemoteFolder("s3://bucket/runs/horror")
    folder.put({"step-1/model.safetensors": Path("model.safetensors")})
    folder.holds("step-1/model.safetensors", Digests.of(Path("model.safetensors")))

Each request is tried once and has a deadline, so that a store that never answers holds up nobody;
`persist` tries again. Nothing of what a store says reaches a message: it may quote credentials.
"""

import errno
import re
import shutil
import threading
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from pathlib import Path
from queue import Empty, SimpleQueue
from typing import Any, TypeVar

from pipeline.files import sync, write_bytes
from pipeline.storage.digests import PART, Digests
from pipeline.storage.filesystems import connect, parsed, spelled, trouble
from pipeline.storage.remote import CHECK_NETWORK, TRY_LATER, Trouble, missing, silent
from pipeline.storage.urls import LOCAL, redact

SLOWEST = 200_000  # bytes a second; what is slower than this counts as no answer
PIECE = 8 * 2**20
_MOST_HANGING = 8  # requests without an answer; beyond that, no more are sent
_PART_OF_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]*")  # neither hidden nor a way out
_LONGEST_WAIT = 300.0  # seconds between two tries

T = TypeVar("T")


class TooLarge(Trouble):
    """A file is larger than whatever belongs there can be."""


def persist(
    question: Callable[[], T],
    *,
    tries: int,
    sleep: Callable[[float], None],
    jitter: Callable[[], float],
) -> T:
    """The answer to `question`, asked up to `tries` times while its Trouble may pass."""
    for failures in range(1, tries + 1):
        try:
            return question()
        except Trouble as trouble:
            if not trouble.passes or failures == tries:
                raise
            sleep(backoff(failures, jitter()))
    raise ValueError("tries must be at least 1")


def backoff(failures: int, jitter: float) -> float:
    """Seconds to wait after so many failures; `jitter` is a number from 0 to 1."""
    return float(min(_LONGEST_WAIT, 2.0 ** min(failures - 1, 20))) * (0.5 + jitter)


class RemoteFolder:
    """What is below an address, by names relative to it ("step-1/model.safetensors").

    `timeout` (seconds) is for each request, and is longer the more bytes it moves. Every method
    raises Trouble; a name that could lead out of the folder is refused.
    """

    def __init__(self, url: str, timeout: float = 60.0) -> None:
        self._protocol, self._address = parsed(url)
        self._timeout = timeout
        self._hanging: list[threading.Thread] = []
        self._connected: tuple[Any, str] | None = None
        self._connecting = threading.Lock()
        self.shown = redact(self._address).rstrip("/")

    def close(self) -> None:
        """Close connections, if that can be done at once."""
        self._drop()
        connected, self._connected = self._connected, None
        creator = getattr(connected and connected[0], "_s3creator", None)
        if connected and creator is not None and not any(t.is_alive() for t in self._hanging):
            from fsspec.asyn import sync as run

            run(connected[0].loop, creator.__aexit__, None, None, None, timeout=5)

    # --- what there is ------------------------------------------------------------------------

    def sizes(self, below: str = "") -> dict[str, int]:
        """The files below a folder of this one: name -> size in bytes. None if there is none."""

        def found(files: Any, root: str) -> dict[str, int]:
            place = f"{root}/{self._checked(below)}" if below else root
            files.invalidate_cache()
            try:
                listed = files.find(place, detail=True)
            except FileNotFoundError:
                return {}
            start = len(root) + 1
            return {
                name[start:]: int(info.get("size") or 0)
                for name, info in ((spelled(key), info) for key, info in listed.items())
                if name.startswith(root + "/") and info.get("type", "file") == "file"
            }

        return self._run(f"{self.shown}/{below}".rstrip("/"), found)

    def size(self, name: str) -> int | None:
        """The size in bytes of one file; None if there is none."""
        info = self._info(name)
        return None if info is None else int(info.get("size") or 0)

    def _info(self, name: str) -> Mapping[str, Any] | None:
        def found(files: Any, root: str) -> Mapping[str, Any] | None:
            files.invalidate_cache()
            try:
                info: Mapping[str, Any] = files.info(f"{root}/{name}")
            except FileNotFoundError:
                return None
            return info if info.get("type", "file") == "file" else None

        return self._run(self._show(name), found)

    def holds(self, name: str, digests: Digests) -> bool:
        """Whether a file has this content: by the store's own checksum, else by reading it."""
        info = self._info(name)
        if info is None:
            raise missing(self._show(name))
        if int(info.get("size") or 0) != digests.size:
            return False
        return digests.proven_by(info) or self.sha256(name, digests.size) == digests.sha256

    # --- reading ------------------------------------------------------------------------------

    def read(self, name: str, most: int) -> bytes:
        """The content of a small file, of at most `most` bytes."""
        size = self.size(name)
        if size is None:
            raise missing(self._show(name))
        if size > most:
            raise TooLarge(f"{self._show(name)} has {size:,} bytes, which cannot be right.")
        if not size:
            return b""
        data = self._run(
            self._show(name),
            lambda files, root: bytes(files.cat_file(f"{root}/{name}", start=0, end=size)),
        )
        if len(data) != size:
            raise Trouble(f"{self._show(name)} breaks off in the middle.", TRY_LATER, passes=True)
        return data

    def sha256(self, name: str, most: int) -> str:
        """The sha256 of a file, of which at most `most` bytes and one more are read."""
        import hashlib

        digest = hashlib.sha256()
        for piece in self._pieces(name, most):
            digest.update(piece)
        return digest.hexdigest()

    def download(self, name: str, path: Path, size: int) -> None:
        """Write a file's first `size` bytes, and one more if there are more, to `path`."""
        with path.open("wb") as file:
            for piece in self._pieces(name, size):
                file.write(piece)

    def _pieces(self, name: str, most: int) -> Iterator[bytes]:
        """A file in pieces; each is waited for on its own, so that one can go on for hours."""
        show, left = self._show(name), most + 1

        def opened(files: Any, root: str) -> Any:
            return files.open(f"{root}/{name}", "rb", block_size=PIECE)

        file = self._run(show, opened)
        try:
            while left:
                wanted = min(PIECE, left)
                piece = self._run(show, lambda *_: bytes(file.read(wanted)), wanted)  # noqa: B023
                if not piece:
                    return
                left -= len(piece)
                yield piece
        finally:
            if not any(thread.is_alive() for thread in self._hanging):
                self._run(show, lambda *_: file.close())

    # --- writing ------------------------------------------------------------------------------

    def groups(self, names: Sequence[str]) -> list[list[str]]:
        """How `put` and `delete` should be given files: those of one group travel together."""
        return [[name] for name in names]

    def put(self, files: Mapping[str, Path | bytes]) -> None:
        """Write files; bytes are there whole or not at all wherever the store can do that."""
        for name, content in files.items():
            size = len(content) if isinstance(content, bytes) else content.stat().st_size
            self._run(self._show(name), self._writer(name, content), size)

    def _writer(self, name: str, content: Path | bytes) -> Callable[[Any, str], None]:
        def write(files: Any, root: str) -> None:
            target = f"{root}/{name}"
            if self._protocol == LOCAL:
                _write_local(Path(target), content)
            elif isinstance(content, bytes):
                files.pipe_file(target, content)
            elif self._protocol == "s3":
                files.put_file(str(content), target, chunksize=PART, max_concurrency=4)
            else:
                files.put_file(str(content), target)

        return write

    def copy(self, source: str, name: str, size: int) -> None:
        """Copy a file of this folder to another name, without its bytes coming this way."""

        def copied(files: Any, root: str) -> None:
            if self._protocol == LOCAL:
                _write_local(Path(root, name), Path(root, source))
            else:
                files.cp_file(f"{root}/{source}", f"{root}/{name}")

        self._checked(source)
        self._run(self._show(name), copied, size)

    def delete(self, names: Collection[str]) -> None:
        """Delete files; one that is not there is no error."""
        for name in names:

            def gone(files: Any, root: str, name: str = name) -> None:
                try:
                    files.rm_file(f"{root}/{name}")
                except FileNotFoundError:
                    return
                if self._protocol == LOCAL and "/" in name:
                    _remove_if_empty(Path(root, name).parent)

            self._run(self._show(name), gone)

    # --- one request --------------------------------------------------------------------------

    def _run(self, shown: str, work: Callable[[Any, str], T], size: int = 0) -> T:
        """Do `work(file system, root)` in a thread of its own; wait for it for so long only."""
        self._hanging = [thread for thread in self._hanging if thread.is_alive()]
        if len(self._hanging) >= _MOST_HANGING:
            raise Trouble(
                f"{shown}: {len(self._hanging)} earlier requests have had no answer yet.",
                CHECK_NETWORK, passes=True, reached=False,
            )  # fmt: skip
        seconds = self._timeout + size / SLOWEST
        box: SimpleQueue[tuple[T | None, Exception | None]] = SimpleQueue()

        def run() -> None:
            try:
                box.put((work(*self._connection()), None))
            except Exception as error:  # noqa: BLE001 - raised where the answer is waited for
                box.put((None, error))

        thread = threading.Thread(target=run, name="remote-request", daemon=True)
        thread.start()
        try:
            answer, error = box.get(timeout=seconds)
        except Empty:
            self._hanging.append(thread)
            self._drop()
            raise silent(shown, seconds) from None
        if error is not None:
            if isinstance(error, TimeoutError) or not isinstance(error, OSError):
                self._drop()  # an answer that comes later must not be taken for that to the next
            raise trouble(error, shown, seconds) from error
        return answer  # type: ignore[return-value]

    def _drop(self) -> None:
        """End a connection of the kind on which one request after another travels."""
        drop = getattr(self._connected and self._connected[0], "drop", None)
        if drop is not None:
            drop()

    def _connection(self) -> tuple[Any, str]:
        with self._connecting:
            if self._connected is None:
                self._connected = self._connect()
            return self._connected

    def _connect(self) -> tuple[Any, str]:
        """The file system, and where the folder is in it."""
        return connect(self._protocol, self._address, self._timeout)

    def _show(self, name: str) -> str:
        return f"{self.shown}/{self._checked(name)}"

    def _checked(self, name: str) -> str:
        if not all(_PART_OF_NAME.fullmatch(part) for part in name.split("/")):
            raise Trouble(f"{name!r} is no name of a file below {self.shown}.")
        return name


def _write_local(path: Path, content: Path | bytes) -> None:
    if isinstance(content, bytes):
        return write_bytes(path, content)
    path.parent.mkdir(parents=True, exist_ok=True)
    shutil.copyfile(content, path)
    return sync(path)


def _remove_if_empty(folder: Path) -> None:
    try:
        folder.rmdir()
    except OSError as error:
        if error.errno not in (errno.ENOTEMPTY, errno.EEXIST, errno.ENOENT):
            raise

"""The one door to texts, wherever they are: local paths, s3://, gs://, hf://, http(s)://.

    with Storage(cache=folder) as storage:
        entries = storage.expand("s3://bucket/train.{1..32}.jsonl.gz")
        for entry, data in storage.read_many(entries):
            ...

Everything remote goes through fsspec's file systems and its event loop, so that many small objects
travel at once. What is read is whole and is what was listed, or there is an error that says so.
"""

import random
import time
from collections import deque
from collections.abc import Awaitable, Callable, Collection, Iterable, Iterator
from concurrent.futures import CancelledError, Future
from contextlib import ExitStack
from pathlib import Path
from typing import BinaryIO, Self, TypeVar, cast

from pipeline.errors import PipelineError
from pipeline.files import write_bytes
from pipeline.storage import listing, transfer
from pipeline.storage.cache import Cache
from pipeline.storage.remote import Remote, Trouble, WebRemote
from pipeline.storage.streams import RemoteStream
from pipeline.storage.urls import LOCAL, Entry, canonical, scheme

__all__ = ["Entry", "Storage"]

READ_AHEAD = 256 * 2**20  # bytes that `read_many` holds at most, beyond the object handed out
UNKNOWN_SIZE = READ_AHEAD // 64  # what an object of unknown size counts as

T = TypeVar("T")


class Storage:
    """Lists, reads and writes objects by address; close it at the end (it is a context manager).

    `cache` is a folder for copies of remote objects, of at most `cache_bytes` bytes together.
    `tries` is how often a request is made at most, `timeout` (seconds) is for each wait for bytes.
    `sleep` and `jitter` (a number from 0 to 1) can be replaced in tests. Every method raises
    PipelineError (UsageError for an address that makes no sense).
    """

    def __init__(
        self,
        cache: Path | None = None,
        cache_bytes: int = 4 * 2**30,
        tries: int = 5,
        timeout: float = 60.0,
        sleep: Callable[[float], None] = time.sleep,
        jitter: Callable[[], float] = random.random,
    ) -> None:
        self._cache = Cache(cache, cache_bytes) if cache is not None else None
        self._patience = transfer.Patience(tries, sleep, jitter)
        self._timeout = timeout
        self._remotes: dict[str, Remote] = {}
        self._scratch: ExitStack | None = None
        self._scratch_folder: Path | None = None

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """Close connections and delete temporary copies; the storage can be used again."""
        remotes, self._remotes = self._remotes, {}
        for remote in {id(remote): remote for remote in remotes.values()}.values():
            self._run(remote.close())
        if self._scratch is not None:
            self._scratch.close()
            self._scratch = self._scratch_folder = None

    # --- what there is ------------------------------------------------------------------------

    def expand(self, pattern: str, suffixes: Collection[str] | None = None) -> list[Entry]:
        """The objects that `pattern` stands for: sorted by address, none twice, never none.

        A pattern is an object, a folder (all below it, without hidden files and folders), or has
        globs (`*`, `**`, `?`, `[ab]`) and braces (`{1..32}`, `{01..10}`, `{a,b}`). A name that
        exists is taken literally, whatever is in it. A web address has braces only. `suffixes`
        (such as ".txt") chooses among what folders and globs hold, whatever the case.
        """
        if scheme(pattern) == LOCAL:
            return listing.local(pattern, suffixes)
        remote = self._remote(pattern)
        return self._run(listing.remote(remote, self._patience, pattern, suffixes))

    def exists(self, url: str) -> bool:
        """Whether there is an object at `url`; a folder is none."""
        url = canonical(url)
        if scheme(url) == LOCAL:
            return Path(url).is_file()
        remote = self._remote(url)
        try:
            self._run(self._patience.ask(lambda: remote.stat(url)))
        except Trouble as trouble:
            if trouble.missing:
                return False
            raise
        return True

    # --- reading ------------------------------------------------------------------------------

    def read(self, entry: Entry) -> bytes:
        """The whole content of an object, as it was listed."""
        if scheme(entry.url) == LOCAL:
            return listing.read_local(entry)
        kept = self._kept(entry)
        return kept if kept is not None else self._keep(entry, self._run(self._fetch(entry)))

    def read_many(
        self, entries: Iterable[Entry], concurrency: int = 64
    ) -> Iterator[tuple[Entry, bytes | PipelineError]]:
        """The contents of many objects in the order given, up to `concurrency` under way at once.

        An object that cannot be read yields its error in its place, and the others go on. No more
        than READ_AHEAD bytes wait to be taken, an object of unknown size counting as UNKNOWN_SIZE.
        """
        from fsspec.asyn import get_loop

        waiting: deque[tuple[Entry, int, Future[bytes] | None]] = deque()
        coming = iter(entries)
        ahead: Entry | None = next(coming, None)
        held = 0
        try:
            while waiting or ahead is not None:
                while ahead is not None and len(waiting) < concurrency:
                    cost = UNKNOWN_SIZE if ahead.size is None else ahead.size
                    if waiting and held + cost > READ_AHEAD:
                        break
                    waiting.append((ahead, cost, self._start(ahead, get_loop())))
                    held += cost
                    ahead = next(coming, None)
                entry, cost, future = waiting.popleft()
                held -= cost
                yield entry, self._outcome(entry, future)
        finally:
            for _, _, future in waiting:
                if future is not None:
                    future.cancel()

    def open(self, entry: Entry) -> BinaryIO:
        """The content of an object of any size as a stream, in flat memory; forward only.

        Where it breaks it is resumed. A local file, or one in the cache, can also be sought in.
        """
        if scheme(entry.url) == LOCAL:
            return listing.open_local(entry)
        if self._cache is not None and entry.version is not None:
            path = self._cache.find(entry.url, entry.version)
            if path is not None:
                return path.open("rb")
        stream = RemoteStream(transfer.pieces(self._remote(entry.url), entry, self._patience))
        return cast(BinaryIO, stream.buffered())

    def local_copy(self, entry: Entry) -> Path:
        """A path with the whole content: of a local file its own, else that of a verified copy.

        A copy that the cache cannot keep is deleted by `close`.
        """
        if scheme(entry.url) == LOCAL:
            listing.check_local(entry)
            return Path(entry.url)
        cache, version = self._cache, entry.version
        if cache is None or version is None or not cache.fits(entry.size):
            cache, version = self._scratch_cache(), version or "unknown"
        else:
            found = cache.find(entry.url, version)
            if found is not None:
                return found
        parts = transfer.pieces(self._remote(entry.url), entry, self._patience)
        try:
            with RemoteStream(parts) as stream, cache.temporary() as temporary:
                return cache.adopt(entry.url, version, temporary, stream.save(temporary))
        except OSError as error:
            raise PipelineError(
                f"{entry.shown} cannot be copied to the disk: {error.strerror or error}.",
                "Make room there, or choose another cache directory.",
            ) from error

    def write(self, url: str, data: bytes) -> None:
        """Make `data` the content of `url`: a local path, s3:// or gs://; whole or not at all."""
        url = canonical(url)
        if scheme(url) != LOCAL:
            remote = self._remote(url)
            return self._run(self._patience.ask(lambda: remote.put(url, data)))
        try:
            return write_bytes(Path(url), data)
        except OSError as error:
            raise PipelineError(f"{url} cannot be written: {error.strerror or error}.") from error

    # --- the parts ----------------------------------------------------------------------------

    def _remote(self, url: str) -> Remote:
        """The remote for an address; made when first needed, as its libraries take time."""
        kind = scheme(url).removesuffix("s") if "http" in scheme(url) else scheme(url)
        if kind not in self._remotes:
            self._remotes[kind] = self._connect(kind)
        return self._remotes[kind]

    def _connect(self, kind: str) -> Remote:
        if kind == "s3":
            from pipeline.storage.s3 import S3Remote

            return S3Remote(self._timeout)
        if kind in ("gs", "hf"):
            from pipeline.storage.hubs import GsRemote, HfRemote

            return GsRemote(self._timeout) if kind == "gs" else HfRemote(self._timeout)
        return WebRemote(self._timeout)

    def _run(self, work: Awaitable[T]) -> T:
        """The result of `work` on fsspec's event loop."""
        from fsspec.asyn import get_loop

        return _submit(work, get_loop()).result()

    def _fetch(self, entry: Entry) -> Awaitable[bytes]:
        return transfer.whole(self._remote(entry.url), entry, self._patience)

    def _start(self, entry: Entry, loop: object) -> "Future[bytes] | None":
        """Begin to fetch an object; None for a local one, which is read when its turn comes."""
        if scheme(entry.url) == LOCAL:
            return None
        kept = self._kept(entry)
        if kept is None:
            return _submit(self._fetch(entry), loop)
        done: Future[bytes] = Future()
        done.set_result(kept)
        return done

    def _outcome(self, entry: Entry, future: "Future[bytes] | None") -> bytes | PipelineError:
        try:
            if future is None:
                return listing.read_local(entry)
            return self._keep(entry, future.result())
        except PipelineError as error:
            return error
        except CancelledError as error:
            raise PipelineError(f"Reading {entry.shown} was interrupted.") from error

    def _kept(self, entry: Entry) -> bytes | None:
        if self._cache is None or entry.version is None:
            return None
        return self._cache.read(entry.url, entry.version)

    def _keep(self, entry: Entry, data: bytes) -> bytes:
        if self._cache is not None and entry.version is not None:
            self._cache.add(entry.url, entry.version, data)
        return data

    def _scratch_cache(self) -> Cache:
        """A folder for what must be on the disk but cannot be kept; deleted by `close`."""
        if self._scratch is None or self._scratch_folder is None:
            from tempfile import TemporaryDirectory

            self._scratch = ExitStack()
            self._scratch_folder = Path(self._scratch.enter_context(TemporaryDirectory()))
        return Cache(self._scratch_folder, 2**63)


def _submit(work: Awaitable[T], loop: object) -> "Future[T]":
    import asyncio

    async def awaited() -> T:
        return await work

    return asyncio.run_coroutine_threadsafe(awaited(), cast(asyncio.AbstractEventLoop, loop))

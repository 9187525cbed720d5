"""A remote object as a file that is read from front to back, in flat memory."""

import asyncio
import hashlib
import io
from collections.abc import AsyncIterator
from concurrent.futures import Future
from pathlib import Path
from typing import TYPE_CHECKING

from pipeline.storage.transfer import large_pieces

if TYPE_CHECKING:
    from _typeshed import WriteableBuffer


class RemoteStream(io.RawIOBase):
    """Reads pieces that come from fsspec's event loop, one of them ahead.

    Reading raises PipelineError if the object cannot be had in full.
    """

    def __init__(self, parts: AsyncIterator[bytes]) -> None:
        from fsspec.asyn import get_loop

        super().__init__()
        self._loop = get_loop()
        self._parts = large_pieces(parts)
        self._inner = parts
        self._piece = memoryview(b"")
        self._next: Future[bytes] | None = self._ask()

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: "WriteableBuffer") -> int:
        if not self._piece:
            self._piece = memoryview(self._take())
        target = memoryview(buffer).cast("B")
        count = min(len(target), len(self._piece))
        target[:count] = self._piece[:count]
        self._piece = self._piece[count:]
        return count

    def buffered(self) -> io.BufferedReader:
        """The stream with `readline`, `peek` and iteration."""
        return io.BufferedReader(self, buffer_size=2**18)

    def save(self, path: Path) -> str:
        """Write all that comes to `path`; returns its sha256 in hex."""
        digest = hashlib.sha256()
        with path.open("wb") as file:
            while piece := self._take():
                digest.update(piece)
                file.write(piece)
        return digest.hexdigest()

    def close(self) -> None:
        if not self.closed:
            waiting, self._next = self._next, None
            self._piece = memoryview(b"")
            asyncio.run_coroutine_threadsafe(self._stop(waiting), self._loop).result()
        super().close()

    def _take(self) -> bytes:
        """The next piece; nothing at the end."""
        if self._next is None:
            return b""
        future, self._next = self._next, None
        piece = future.result()
        if piece:
            self._next = self._ask()
        return piece

    def _ask(self) -> "Future[bytes]":
        async def piece() -> bytes:
            return await anext(self._parts, b"")

        return asyncio.run_coroutine_threadsafe(piece(), self._loop)

    async def _stop(self, waiting: "Future[bytes] | None") -> None:
        """End the transfer on its own loop, so that its connection is closed."""
        if waiting is not None and not waiting.done():
            waiting.cancel()
            while not waiting.done() or _running(self._parts):
                await asyncio.sleep(0)
        for parts in (self._parts, self._inner):
            close = getattr(parts, "aclose", None)
            if close is not None:
                await close()


def _running(parts: AsyncIterator[bytes]) -> bool:
    return bool(getattr(parts, "ag_running", False))

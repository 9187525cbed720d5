"""Whole objects over connections that break: tried again, and resumed where they stopped."""

import asyncio
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from typing import TypeVar

from pipeline.storage.remote import Answer, Remote, Trouble, broken_off, changed
from pipeline.storage.urls import Entry

PIECE = 4 * 2**20  # bytes that a reader gets at once, at least, but for the last
_LONGEST_WAIT = 300.0  # seconds; a server that asks for more is asked again another day
_TRIES_TO_REACH = 3  # a server never reached is not worth a long wait
_PROGRESS = 2**20  # bytes after which a connection counts as having worked

T = TypeVar("T")


class Patience:
    """How often something is tried, and how long one waits in between.

    The waits double from one second on, times 0.5 to 1.5 by `jitter` (a number from 0 to 1):
    clients that were refused together must not come back together.
    """

    def __init__(
        self, tries: int, sleep: Callable[[float], None], jitter: Callable[[], float]
    ) -> None:
        self._tries = tries
        self._sleep = sleep
        self._jitter = jitter

    async def ask(self, question: Callable[[], Awaitable[T]]) -> T:
        """The answer to `question`, asked again while its Trouble may pass. Raises Trouble."""
        failures = 0
        while True:
            try:
                return await question()
            except Trouble as trouble:
                failures += 1
                await self.wait(trouble, failures)

    async def wait(self, trouble: Trouble, failures: int) -> None:
        """Wait before the next try; raises Trouble if there is to be none."""
        if not trouble.passes:
            raise trouble
        tries = self._tries if trouble.reached else min(self._tries, _TRIES_TO_REACH)
        if failures >= tries or (trouble.wait or 0.0) > _LONGEST_WAIT:
            raise _given_up(trouble, failures) from trouble
        wait = trouble.wait
        if wait is None:
            wait = 2.0 ** (failures - 1) * (0.5 + self._jitter())
        if self._sleep is time.sleep:  # many transfers share the loop
            await asyncio.sleep(wait)
        else:
            self._sleep(wait)


def _given_up(trouble: Trouble, failures: int) -> Trouble:
    asked = f"; it asks for {trouble.wait:.0f} s of patience" if trouble.wait else ""
    tries = "one try" if failures == 1 else f"{failures} tries"
    return Trouble(
        f"{trouble.message.removesuffix('.')} ({tries}{asked}).", trouble.hint,
        reached=trouble.reached, wait=trouble.wait,
    )  # fmt: skip


async def pieces(remote: Remote, entry: Entry, patience: Patience) -> AsyncIterator[bytes]:
    """The content of an object in order, in pieces of some 64 kB to some MB.

    A connection that breaks is followed by another from the byte where it stopped (a server
    without ranges sends all again, and what is known is skipped). Raises Trouble if the object is
    not the one that was listed, changes meanwhile, or cannot be had in full.
    """
    position, failures = 0, 0
    size, version = entry.size, entry.version
    while True:
        began = position
        try:
            answer = await remote.get(entry.url, position, version)
            try:
                size, version = _agreed(entry, answer, size, version)
                skip = position - answer.start
                if skip < 0:
                    raise broken_off(entry.url)
                while data := await answer.read(PIECE):
                    if skip:
                        data, skip = data[skip:], max(0, skip - len(data))
                    if data:
                        position += len(data)
                        yield data
            finally:
                answer.close()
            if size is not None and position < size:
                raise broken_off(entry.url)
        except Trouble as trouble:
            failures = 1 if position - began >= _PROGRESS else failures + 1
            await patience.wait(trouble, failures)
        else:
            if size is not None and position > size:
                raise changed(entry.url)
            return


def _agreed(
    entry: Entry, answer: Answer, size: int | None, version: str | None
) -> tuple[int | None, str | None]:
    """Size and version of the object, if the answer is about the same content as before."""
    if size is not None and answer.size is not None and size != answer.size:
        raise changed(entry.url)
    if version is not None and answer.version is not None and version != answer.version:
        raise changed(entry.url)
    return (answer.size if size is None else size), (version or answer.version)


async def whole(remote: Remote, entry: Entry, patience: Patience) -> bytes:
    """The whole content of an object. Raises Trouble."""
    parts = [part async for part in pieces(remote, entry, patience)]
    return parts[0] if len(parts) == 1 else b"".join(parts)


async def large_pieces(parts: AsyncIterator[bytes]) -> AsyncIterator[bytes]:
    """The same bytes in pieces of at least PIECE bytes (but for the last): fewer hand-overs."""
    held: list[bytes] = []
    size = 0
    async for part in parts:
        held.append(part)
        size += len(part)
        if size >= PIECE:
            yield b"".join(held)
            held, size = [], 0
    if held:
        yield b"".join(held)

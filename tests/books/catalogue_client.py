"""A client of the catalogue on loopback, and books that it finds there."""

from pathlib import Path
from typing import Any

from pipeline.books.catalogue import Book
from pipeline.books.gutendex import GutendexClient
from pipeline.books.polite import PoliteSession
from tests.gutendex_server import GutendexServer


class Clock:
    """Time that passes only while one sleeps."""

    def __init__(self) -> None:
        self.now = 1_000_000.0
        self.waits: list[float] = []

    def __call__(self) -> float:
        return self.now

    def sleep(self, seconds: float) -> None:
        self.waits.append(seconds)
        self.now += seconds


def client(
    server: GutendexServer,
    clock: Clock | None = None,
    page_cache: Path | None = None,
    **manners: Any,
) -> GutendexClient:
    clock = clock or Clock()
    session = PoliteSession(sleep=clock.sleep, clock=clock, jitter=lambda: 0.5, **manners)
    return GutendexClient(server.url, session, page_cache, now=clock)


def books(server: GutendexServer, limit: int | None = 100, **query: Any) -> list[Book]:
    return list(client(server).search(limit=limit, **query))


def numbers(server: GutendexServer, **query: Any) -> list[int]:
    return [book.id for book in books(server, **query)]


def many_books(count: int) -> dict[int, tuple[str, bytes]]:
    return {n: (f"Book {n}", b"Some text of a book.\n") for n in range(1, count + 1)}

"""A small Gutendex on loopback: its catalogue and the files that it points to.

    with GutendexServer() as server:
        GutendexClient(server.url).search(topic="horror")
        server.downloads    # ids of the files that were asked for, in order

The catalogue holds the sample library unless books are given. Faults on demand, for the next
requests whose path holds a given part: a status (with Retry-After), a body cut short, a web page
in place of a book, an answer that is no catalogue, or slowness.
"""

import json
import threading
import time
from collections.abc import Iterable
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any, Self
from urllib.parse import parse_qs, urlencode, urlsplit

from pipeline.books.boilerplate import strip_boilerplate
from pipeline.books.decoding import decode
from pipeline.books.sample import sample_library

PAGE_SIZE = 32
WEB_PAGE = b"<!DOCTYPE html>\n<html><head><title>404 | Not found</title></head><body></body></html>"


@dataclass
class ServedBook:
    """A book of the catalogue and its bytes."""

    id: int
    title: str
    body: bytes
    authors: list[str] = field(default_factory=list)
    languages: list[str] = field(default_factory=lambda: ["en"])
    subjects: list[str] = field(default_factory=lambda: ["Horror tales"])
    bookshelves: list[str] = field(default_factory=list)
    copyright: bool | None = False
    downloads: int = 0
    formats: dict[str, str] | None = None  # type -> path below /files/; default: one UTF-8 text


@dataclass
class Fault:
    """What to do instead of answering the next `times` requests whose path holds `part`."""

    part: str
    times: int = 1
    status: int | None = None
    retry_after: str | None = None
    body: bytes | None = None
    content_type: str = "text/plain"
    cut: bool = False  # promise the whole body, send half, and close
    delay: float = 0.0  # seconds before the answer


def sample_books() -> list[ServedBook]:
    """The sample library as a catalogue, all of it about horror."""
    books = []
    for path in sorted(sample_library().glob("*.txt")):
        raw = path.read_bytes()
        header = strip_boilerplate(decode(raw).text)
        books.append(
            ServedBook(
                int(path.name.split("-")[0]),
                header.title or path.stem,
                raw,
                [header.author] if header.author else [],
                subjects=["Ghost stories", "Horror tales"],
                bookshelves=["Horror"],
            )
        )
    return books


class GutendexServer:
    """Serves `/books` and `/files/...` on a free port of 127.0.0.1 while its `with` block runs.

    `delay` is how long each file takes, in seconds.
    """

    def __init__(
        self,
        books: Iterable[ServedBook] | None = None,
        page_size: int = PAGE_SIZE,
        delay: float = 0.0,
    ) -> None:
        self.books = sample_books() if books is None else list(books)
        self.page_size = page_size
        self.delay = delay
        self.faults: list[Fault] = []
        self.requests: list[tuple[str, dict[str, str]]] = []  # path and query of each request
        self.agents: set[str] = set()
        self.downloads: list[int] = []
        self._lock = threading.Lock()
        self._server = ThreadingHTTPServer(("127.0.0.1", 0), _handler(self))
        self._server.daemon_threads = True
        self._thread = threading.Thread(target=self._server.serve_forever, args=(0.02,))

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self._server.server_address[1]}"

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(self, *exception: object) -> None:
        self._server.shutdown()
        self._thread.join()
        self._server.server_close()

    # --- what it knows ------------------------------------------------------------------------

    def take_fault(self, path: str) -> Fault | None:
        with self._lock:
            for fault in self.faults:
                if fault.part in path and fault.times > 0:
                    fault.times -= 1
                    return fault
        return None

    def note(self, path: str, query: dict[str, str], agent: str) -> None:
        with self._lock:
            self.requests.append((path, query))
            self.agents.add(agent)

    def catalogue(self, query: dict[str, str]) -> tuple[int, dict[str, Any]]:
        """Status and answer for a query; unknown parameters are ignored without a word."""
        found = [book for book in self.books if _fits(book, query)]
        if query.get("sort") in ("ascending", "descending"):
            found.sort(key=lambda book: book.id, reverse=query["sort"] == "descending")
        else:
            found.sort(key=lambda book: -book.downloads)
        page = int(query.get("page", "1"))
        start = (page - 1) * self.page_size
        if page > 1 and start >= len(found):
            return 404, {"detail": "Invalid page."}
        more = start + self.page_size < len(found)
        return 200, {
            "count": len(found),
            "next": self._page_url(query, page + 1) if more else None,
            "previous": self._page_url(query, page - 1) if page > 1 else None,
            "results": [self._entry(book) for book in found[start : start + self.page_size]],
        }

    def file(self, path: str) -> bytes | None:
        name = path.removeprefix("/files/")
        for book in self.books:
            if name in _formats(book).values():
                with self._lock:
                    self.downloads.append(book.id)
                return book.body
        return None

    def _page_url(self, query: dict[str, str], page: int) -> str:
        return f"{self.url}/books/?{urlencode({**query, 'page': page})}"

    def _entry(self, book: ServedBook) -> dict[str, Any]:
        people = [{"name": name, "birth_year": None, "death_year": None} for name in book.authors]
        formats = {kind: f"{self.url}/files/{path}" for kind, path in _formats(book).items()}
        return {
            "id": book.id, "title": book.title, "authors": people, "translators": [],
            "subjects": book.subjects, "bookshelves": book.bookshelves,
            "languages": book.languages, "copyright": book.copyright, "media_type": "Text",
            "formats": formats, "download_count": book.downloads,
        }  # fmt: skip


def _formats(book: ServedBook) -> dict[str, str]:
    return book.formats or {
        "text/html": f"{book.id}/{book.id}-h.htm",
        "application/zip": f"{book.id}/{book.id}.zip",
        "text/plain; charset=utf-8": f"{book.id}/{book.id}-0.txt",
    }


def _fits(book: ServedBook, query: dict[str, str]) -> bool:
    topic = query.get("topic", "").lower()
    if not any(topic in subject.lower() for subject in book.subjects + book.bookshelves):
        return False
    words = query.get("search", "").lower().split()
    text = " ".join([book.title, *book.authors]).lower()
    if not all(word in text for word in words):
        return False
    languages = query.get("languages")
    if languages and not set(languages.split(",")) & set(book.languages):
        return False
    rights = {True: "true", False: "false", None: "null"}[book.copyright]
    if "copyright" in query and rights not in query["copyright"].split(","):
        return False
    mime_type = query.get("mime_type", "")
    return any(kind.startswith(mime_type) for kind in _formats(book))


def _handler(owner: GutendexServer) -> type[BaseHTTPRequestHandler]:
    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def log_message(self, format: str, *args: Any) -> None:
            pass

        def do_GET(self) -> None:
            parts = urlsplit(self.path)
            query = {name: values[-1] for name, values in parse_qs(parts.query).items()}
            owner.note(parts.path, query, self.headers.get("User-Agent", ""))
            fault = owner.take_fault(parts.path)
            if fault and self._misbehave(fault):
                return
            if parts.path.rstrip("/") == "/books":
                status, answer = owner.catalogue(query)
                self._send(status, json.dumps(answer).encode(), "application/json")
                return
            body = owner.file(parts.path)
            time.sleep(owner.delay)
            if body is None:
                self._send(404, WEB_PAGE, "text/html")
            else:
                self._send(200, body, "text/plain", cut=bool(fault and fault.cut))

        def _misbehave(self, fault: Fault) -> bool:
            """Whether the fault was an answer by itself."""
            time.sleep(fault.delay)
            if fault.status is None and fault.body is None:
                return False
            body = fault.body if fault.body is not None else b"trouble"
            self._send(fault.status or 200, body, fault.content_type, fault.retry_after)
            return True

        def _send(
            self,
            status: int,
            body: bytes,
            content_type: str,
            retry_after: str | None = None,
            cut: bool = False,
        ) -> None:
            try:
                self.send_response(status)
                self.send_header("Content-Type", content_type)
                self.send_header("Content-Length", str(len(body)))
                if retry_after is not None:
                    self.send_header("Retry-After", retry_after)
                self.end_headers()
                self.wfile.write(body[: len(body) // 2] if cut else body)
            except (BrokenPipeError, ConnectionResetError):
                pass  # the client had waited long enough
            self.close_connection = cut

    return Handler


def book_file(path: Path, id: int) -> ServedBook:
    """A file as a book of the catalogue."""
    return ServedBook(id, path.stem, path.read_bytes())

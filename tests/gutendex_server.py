"""A small Gutendex on loopback: its catalogue and the files that it points to.

    with GutendexServer() as server:
        GutendexClient(server.url).search(topic="horror")
        server.downloads    # ids of the files that were asked for, in order

The catalogue holds the sample library, all of it about horror, unless books are given. Faults on
demand: too many requests (with Retry-After), errors, slowness, a body cut short, a web page in
place of what was asked for.

The same books lie below `/mirror/` as on a mirror of Project Gutenberg, and zip archives, if any
are given, beside the files. Files have an ETag and a date, and answer conditional requests.
"""

import hashlib
import json
import re
import threading
import time
from collections.abc import Collection, Mapping
from dataclasses import dataclass
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any, Self
from urllib.parse import parse_qs, urlencode, urlsplit

from pipeline.books.boilerplate import strip_boilerplate
from pipeline.books.decoding import decode
from pipeline.books.sample import sample_library

LAST_MODIFIED = "Sat, 01 Feb 2003 04:05:06 GMT"
MIRROR_KINDS = ("-0", "cache", "-8", "")  # files that a mirror may have of a book
WEB_PAGE = b"<!DOCTYPE html>\n<html><head><title>404 | Not found</title></head><body></body></html>"


@dataclass
class Faults:
    """How many of the next requests whose path begins with `only` go wrong, in this order."""

    too_many: int = 0  # answered 429
    broken: int = 0  # answered 500
    slow: int = 0  # answered after `delay` seconds
    short: int = 0  # half of the promised body, then the connection is closed
    html: int = 0  # a web page, with status 200
    retry_after: str | None = None
    delay: float = 0.5
    only: str = "/files/"


@dataclass(frozen=True)
class Request:
    """A request that was answered; `time` is in seconds, `port` tells connections apart."""

    path: str
    time: float
    port: int
    headers: Mapping[str, str]


def sample_books() -> dict[int, tuple[str, bytes]]:
    """The sample library: id -> (title, bytes)."""
    books = {}
    for path in sorted(sample_library().glob("*.txt")):
        raw = path.read_bytes()
        title = strip_boilerplate(decode(raw).text).title or path.stem
        books[int(path.name.split("-")[0])] = (title, raw)
    return books


class GutendexServer:
    """Serves `/books`, `/files/...` and `/mirror/...` on a free port of 127.0.0.1 while its `with`
    block runs.

    `entries` replaces fields of the catalogue's entries, by id. `delay` is how long each file
    takes, `latency` each request, in seconds. `mirrored` are the kinds of files that the mirror
    has. `zips` are archives by id; `redirects` lead from paths to addresses.
    """

    def __init__(
        self,
        books: Mapping[int, tuple[str, bytes]] | None = None,
        per_page: int = 32,
        delay: float = 0.0,
        faults: Faults | None = None,
        entries: Mapping[int, Mapping[str, Any]] | None = None,
        latency: float = 0.0,
        mirrored: Collection[str] = MIRROR_KINDS,
        zips: Mapping[int, bytes] | None = None,
        redirects: Mapping[str, str] | None = None,
    ) -> None:
        self.books = dict(sample_books() if books is None else books)
        self.per_page = per_page
        self.delay = delay
        self.faults = faults or Faults()
        self.entries = dict(entries or {})
        self.latency = latency
        self.mirrored = mirrored
        self.zips = dict(zips or {})
        self.redirects = dict(redirects or {})
        self.requests: list[Request] = []
        self.pages: list[str] = []  # paths and queries of the requests to the catalogue
        self.agents: list[str] = []
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

    # --- what it answers ----------------------------------------------------------------------

    def fault(self, path: str) -> str:
        """The fault that this request is to meet, or nothing."""
        with self._lock:
            for kind in ("too_many", "broken", "slow", "short", "html"):
                left = getattr(self.faults, kind)
                if left and path.startswith(self.faults.only):
                    setattr(self.faults, kind, left - 1)
                    return kind
        return ""

    def note(self, path: str, port: int, headers: Mapping[str, str]) -> None:
        with self._lock:
            self.requests.append(Request(path, time.monotonic(), port, dict(headers)))
            self.agents.append(headers.get("User-Agent", ""))
            if path.startswith("/books"):
                self.pages.append(path)

    def catalogue(self, query: Mapping[str, str]) -> tuple[int, dict[str, Any]]:
        """Status and answer for a query; unknown parameters are ignored without a word."""
        found = [entry for entry in map(self._entry, sorted(self.books)) if _fits(entry, query)]
        if query.get("sort") == "descending":
            found.reverse()
        elif query.get("sort") != "ascending":
            found.sort(key=lambda entry: -entry["download_count"])
        page = int(query.get("page", "1"))
        start = (page - 1) * self.per_page
        if page > 1 and start >= len(found):
            return 404, {"detail": "Invalid page."}
        is_last = start + self.per_page >= len(found)
        return 200, {
            "count": len(found),
            "next": None if is_last else self._page_url(query, page + 1),
            "previous": self._page_url(query, page - 1) if page > 1 else None,
            "results": found[start : start + self.per_page],
        }

    def file(self, path: str) -> bytes | None:
        """The bytes of `/files/<id>.txt` and `.zip`, or of a file of the mirror."""
        if found := re.fullmatch(r"/files/(\d+)\.zip", path):
            return self.zips.get(int(found[1]))
        id = self._mirrored_id(path)
        if found := re.fullmatch(r"/files/(\d+)\.txt", path):
            id = int(found[1])
        if id not in self.books:
            return None
        with self._lock:
            self.downloads.append(id)
        return self.books[id][1]

    def _mirrored_id(self, path: str) -> int:
        """The book whose file a path of the mirror is; 0 if there is no such file."""
        if found := re.fullmatch(r"/mirror/cache/epub/(\d+)/pg\1\.txt", path):
            return int(found[1]) if "cache" in self.mirrored else 0
        found = re.fullmatch(r"/mirror/((?:\d/)+)(\d+)/\2(-0|-8|)\.txt", path)
        if not found or found[3] not in self.mirrored:
            return 0
        return int(found[2]) if found[1] == "".join(f"{n}/" for n in found[2][:-1] or "0") else 0

    def _page_url(self, query: Mapping[str, str], page: int) -> str:
        return f"{self.url}/books/?{urlencode({**query, 'page': page})}"

    def _entry(self, id: int) -> dict[str, Any]:
        return {
            "id": id, "title": self.books[id][0], "translators": [], "media_type": "Text",
            "authors": [{"name": "Nobody, A.", "birth_year": None, "death_year": None}],
            "subjects": ["Ghost stories", "Horror tales"], "bookshelves": ["Horror"],
            "languages": ["en"], "copyright": False, "download_count": id % 7,
            "formats": {
                "text/html": f"{self.url}/files/{id}.htm",
                "application/octet-stream": f"{self.url}/files/{id}.zip",
                "text/plain; charset=us-ascii": f"{self.url}/files/{id}.zip",
                "text/plain; charset=utf-8": f"{self.url}/files/{id}.txt",
            },
        } | dict(self.entries.get(id, {}))  # fmt: skip


def _fits(entry: Mapping[str, Any], query: Mapping[str, str]) -> bool:
    topic = query.get("topic", "").lower()
    if not any(topic in name.lower() for name in entry["subjects"] + entry["bookshelves"]):
        return False
    names = " ".join([entry["title"], *(author["name"] for author in entry["authors"])]).lower()
    if not all(word in names for word in query.get("search", "").lower().split()):
        return False
    languages = query.get("languages")
    if languages and not set(languages.split(",")) & set(entry["languages"]):
        return False
    ids = query.get("ids")
    if ids and str(entry["id"]) not in ids.split(","):
        return False
    years = [(author["birth_year"], author["death_year"]) for author in entry["authors"]]
    start, end = int(query.get("author_year_start", -9999)), int(query.get("author_year_end", 9999))
    if "author_year_start" in query or "author_year_end" in query:
        known = [[year for year in pair if year is not None] for pair in years]
        if not any(pair and max(pair) >= start and min(pair) <= end for pair in known):
            return False
    rights = json.dumps(entry["copyright"])
    if "copyright" in query and rights not in query["copyright"].split(","):
        return False
    return any(kind.startswith(query.get("mime_type", "")) for kind in entry["formats"])


def _handler(owner: GutendexServer) -> type[BaseHTTPRequestHandler]:
    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def log_message(self, format: str, *args: Any) -> None:
            pass

        def do_GET(self) -> None:
            parts = urlsplit(self.path)
            owner.note(self.path, self.client_address[1], dict(self.headers))
            time.sleep(owner.latency)
            fault = owner.fault(parts.path)
            if fault in ("too_many", "broken"):
                status = 429 if fault == "too_many" else 500
                self._send(
                    status, b"trouble", "text/plain", {"Retry-After": owner.faults.retry_after}
                )
                return
            if fault == "slow":
                time.sleep(owner.faults.delay)
            if parts.path in owner.redirects:
                self._send(302, b"", "text/plain", {"Location": owner.redirects[parts.path]})
            elif parts.path.rstrip("/") == "/books" and fault != "html":
                query = {name: values[-1] for name, values in parse_qs(parts.query).items()}
                status, answer = owner.catalogue(query)
                self._send(
                    status, json.dumps(answer).encode(), "application/json", cut=fault == "short"
                )
            else:
                found = owner.file(parts.path)
                self._send_file(None if fault == "html" else found, fault)

        def _send_file(self, found: bytes | None, fault: str) -> None:
            time.sleep(owner.delay)
            if found is None:
                self._send(200 if fault == "html" else 404, WEB_PAGE, "text/html")
                return
            etag = f'"{hashlib.sha256(found).hexdigest()[:16]}"'
            known = self.headers.get("If-None-Match")
            since = self.headers.get("If-Modified-Since")
            extra = {"ETag": etag, "Last-Modified": LAST_MODIFIED}
            if known == etag or (known is None and since == LAST_MODIFIED):
                self._send(304, b"", "text/plain", extra)
            else:
                self._send(200, found, "text/plain", extra, cut=fault == "short")

        def _send(
            self,
            status: int,
            body: bytes,
            kind: str,
            extra: Mapping[str, str | None] | None = None,
            cut: bool = False,
        ) -> None:
            self.close_connection = cut
            try:
                self.send_response(status)
                self.send_header("Content-Type", kind)
                if status != 304:
                    self.send_header("Content-Length", str(len(body)))
                for name, value in (extra or {}).items():
                    if value is not None:
                        self.send_header(name, value)
                self.end_headers()
                self.wfile.write(body[: len(body) // 2] if cut else body)
            except (BrokenPipeError, ConnectionResetError):
                self.close_connection = True  # the client had waited long enough

    return Handler

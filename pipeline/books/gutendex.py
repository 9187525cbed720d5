"""A client of Gutendex, the catalogue of Project Gutenberg as JSON, that behaves as a guest.

It says who it is, waits between downloads, waits longer when it is asked to, gives up after a
number of attempts, and names what went wrong. https://gutendex.com asks heavy users to run a
server of their own, so the address is a setting.
"""

import random
import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from email.utils import parsedate_to_datetime
from importlib.metadata import PackageNotFoundError, version
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit

from pipeline.books.decoding import decode
from pipeline.books.plain_text import Rejected, check_is_text
from pipeline.console import say
from pipeline.errors import PipelineError, UsageError

if TYPE_CHECKING:
    from requests import Response

DEFAULT_URL = "https://gutendex.com"
SORTS = ("ascending", "descending", "popular")
LARGEST_FILE = 64 * 1024 * 1024  # bytes; the largest plain text of the catalogue has some 30 MB

_RETRY_STATUS = {429, 500, 502, 503, 504}
_LONGEST_WAIT = 300.0  # seconds; whoever asks for more is asked again another day
_WORTH_A_WORD = 5.0  # seconds of waiting that need an explanation
_TRIES_BEFORE_FIRST_ANSWER = 3  # a server never reached is not worth a long wait


def user_agent() -> str:
    """`bookshelf-llm/<version>`."""
    try:
        return f"bookshelf-llm/{version('bookshelf-llm')}"
    except PackageNotFoundError:
        return "bookshelf-llm"


class DownloadRefused(Exception):
    """What came for a book is no text of it; `reason` says why."""

    def __init__(self, reason: str) -> None:
        super().__init__(reason)
        self.reason = reason


@dataclass(frozen=True)
class Book:
    """A book of the catalogue with the address of its best plain text.

    `copyright` is False for the public domain in the USA, None where the catalogue is silent.
    """

    id: int
    title: str
    authors: list[str]
    languages: list[str]
    subjects: list[str]
    copyright: bool | None
    text_url: str


class GutendexClient:
    """Searches a Gutendex server and downloads from where it points.

    `timeout` is for each wait for bytes, `pause` stands between two downloads (both in seconds),
    `tries` is how often a request is made at most. `sleep` and `jitter` (a number from 0 to 1) can
    be replaced in tests.
    """

    def __init__(
        self,
        base_url: str = DEFAULT_URL,
        user_agent: str = user_agent(),
        timeout: float = 30.0,
        pause: float = 2.0,
        tries: int = 5,
        sleep: Callable[[float], None] = time.sleep,
        jitter: Callable[[], float] = random.random,
    ) -> None:
        import requests  # 0.1 s, and only this stage needs it

        self._books_url = _books_url(base_url)
        self._timeout = timeout
        self._pause = pause
        self._tries = tries
        self._sleep = sleep
        self._jitter = jitter
        self._session = requests.Session()
        self._session.headers["User-Agent"] = user_agent
        self._answered = False
        self._downloads = 0

    def search(
        self,
        topic: str | None = None,
        search: str | None = None,
        languages: str | None = None,
        limit: int | None = None,
        sort: str = "ascending",
        copyright: str | None = "false",
    ) -> Iterator[Book]:
        """The books that fit, at most `limit`, none twice; stops at the last page.

        `topic` is looked for in subjects and bookshelves, `search` in titles and authors,
        `languages` are codes such as "en,fr". `sort`: "ascending" and "descending" by number are
        stable; "popular" is the order of downloads, which moves while one reads it. `copyright` is
        "false" (public domain in the USA), "true", "null" (not known), several of them separated
        by commas, or None for all. Books without a plain text are passed over.

        Raises PipelineError if there is no network, or no Gutendex at the other end.
        """
        if sort not in SORTS:
            raise UsageError(f"sort {sort!r} is not one of {', '.join(SORTS)}.")
        wanted = {
            "topic": topic, "search": search, "languages": languages,
            "mime_type": "text/plain", "copyright": copyright,
            "sort": None if sort == "popular" else sort,
        }  # fmt: skip
        query = {name: value for name, value in wanted.items() if value}
        seen: set[int] = set()
        page = 1
        while limit is None or len(seen) < limit:
            answer = self._page(query, page)
            for book in map(as_book, answer["results"]):
                if book is not None and book.id not in seen:
                    seen.add(book.id)
                    yield book
                    if len(seen) == limit:
                        return
            if not answer.get("next") or not answer["results"]:
                break
            page += 1
        if limit is not None and 0 < len(seen) < limit:
            say(f"{len(seen)} of {limit} books asked for: the catalogue has no more.")

    def download(self, book: Book) -> bytes:
        """The bytes of a book's text, as served.

        Raises:
            DownloadRefused: what came is no text (a web page, nothing, half a file, ...).
            PipelineError: the server cannot be reached, or wants no more requests for now.
        """
        if self._downloads:
            self._sleep(self._pause)
        self._downloads += 1
        response = self._get(book.text_url, {})
        if response.status_code != 200:
            raise DownloadRefused(f"the server answered {_status(response)}")
        body = response.content
        if len(body) > LARGEST_FILE:
            raise DownloadRefused(f"its file is larger than {LARGEST_FILE // 2**20} MB")
        promised = response.headers.get("Content-Length", "")
        packed = "Content-Encoding" in response.headers
        if not packed and promised.isdigit() and len(body) < int(promised):
            raise DownloadRefused(f"only {len(body):,} of {int(promised):,} bytes came")
        try:
            check_is_text(decode(body).text)
        except Rejected as rejection:
            raise DownloadRefused(rejection.reason) from rejection
        return body

    def _page(self, query: Mapping[str, str], page: int) -> dict[str, Any]:
        """One page of the catalogue; an empty one past the last."""
        response = self._get(self._books_url, {**query, "page": str(page)})
        try:
            answer = response.json()
        except ValueError:
            answer = None
        if response.status_code == 404 and isinstance(answer, dict) and page > 1:
            return {"results": []}  # the catalogue became shorter as we read it
        if response.status_code >= 400:
            raise PipelineError(
                f"{self._books_url} answered {_status(response)}.", "Check --gutendex-url."
            )
        if not isinstance(answer, dict) or not isinstance(answer.get("results"), list):
            raise PipelineError(
                f"{self._books_url} does not answer as a Gutendex server does.",
                "Check --gutendex-url.",
            )
        return answer

    # --- one request, with patience -----------------------------------------------------------

    def _get(self, url: str, query: Mapping[str, str]) -> "Response":
        """The answer to a GET, whatever its status, after as many tries as it is worth."""
        tried = 0
        while True:
            outcome = self._ask(url, query)
            if not isinstance(outcome, _Trouble):
                return outcome
            tried += 1
            tries = self._tries if self._answered else min(self._tries, _TRIES_BEFORE_FIRST_ANSWER)
            if tried >= tries or (outcome.asked_wait or 0) > _LONGEST_WAIT:
                raise self._given_up(url, outcome, tried) from outcome.cause
            wait = outcome.asked_wait
            if wait is None:  # clients that were refused together must not come back together
                wait = 2.0 ** (tried - 1) * (0.5 + self._jitter())
            if wait >= _WORTH_A_WORD:
                say(f"{urlsplit(url).netloc} {outcome.said}; asking again in {wait:.0f} s.")
            self._sleep(wait)

    def _ask(self, url: str, query: Mapping[str, str]) -> "Response | _Trouble":
        """One try: an answer, or trouble that may pass."""
        import requests

        try:
            response = self._session.get(url, params=dict(query), timeout=self._timeout)
        except requests.exceptions.ChunkedEncodingError as error:
            self._answered = True
            return _Trouble("broke off in the middle", cause=error)
        except requests.Timeout as error:
            return _Trouble(
                "does not answer", unreachable=f"no answer in {self._timeout:g} s", cause=error
            )
        except requests.ConnectionError as error:
            return _Trouble("does not answer", unreachable="no connection", cause=error)
        except requests.RequestException as error:  # no address, too many redirects, ...
            raise PipelineError(f"{url} cannot be asked: {error}.", "Check the address.") from error
        self._answered = True
        if response.status_code not in _RETRY_STATUS:
            return response
        return _Trouble(
            f"answered HTTP {response.status_code}",
            asked_wait=_retry_after(response),
            refused=response.status_code == 429,
        )

    def _given_up(self, url: str, trouble: "_Trouble", tried: int) -> Exception:
        host = urlsplit(url).netloc
        tries = f"({tried} tries)" if tried > 1 else "(one try)"
        if trouble.unreachable:
            return PipelineError(
                f"{url} cannot be reached: {trouble.unreachable} {tries}.",
                "Check the network, or give the address of another server with --gutendex-url.",
            )
        if trouble.refused or trouble.asked_wait is not None:
            wait = f" for {trouble.asked_wait:.0f} seconds" if trouble.asked_wait else ""
            return PipelineError(
                f"{host} wants no more requests{wait} {tries}.",
                "Run the same command again later: what has come is kept.",
            )
        if url == self._books_url:
            return PipelineError(
                f"{url} {trouble.said} {tries}.", "Try again later, or check --gutendex-url."
            )
        return DownloadRefused(f"the server {trouble.said} {tries}")


@dataclass(frozen=True)
class _Trouble:
    """A try that failed in a way that may pass."""

    said: str  # what the server did, behind its name
    asked_wait: float | None = None  # seconds, by Retry-After
    refused: bool = False  # too many requests
    unreachable: str = ""  # why, if the server was not reached at all
    cause: Exception | None = None


def _books_url(base_url: str) -> str:
    parts = urlsplit(base_url)
    if parts.scheme not in ("http", "https") or not parts.netloc:
        raise UsageError(
            f"--gutendex-url {base_url} is no web address.", f"It should look like {DEFAULT_URL}"
        )
    base = base_url.rstrip("/")
    return base if base.endswith("/books") else base + "/books"


def _status(response: "Response") -> str:
    return f"HTTP {response.status_code} {response.reason or ''}".strip()


def _retry_after(response: "Response") -> float | None:
    """Seconds that the server asks for, given as a number or as a date."""
    value = response.headers.get("Retry-After", "").strip()
    if value.isdigit():
        return float(value)
    try:
        return max(0.0, parsedate_to_datetime(value).timestamp() - time.time())
    except (TypeError, ValueError):
        return None


# --- the catalogue's entries ----------------------------------------------------------------------

_CHARSET_ORDER = ("utf-8", "", "us-ascii", "iso-8859-1")


def as_book(entry: Any) -> Book | None:
    """An entry of the catalogue; None if it is none, or has no plain text."""
    if not isinstance(entry, dict) or not isinstance(entry.get("id"), int):
        return None
    url = text_url(entry.get("formats"))
    if url is None:
        return None
    authors = [author for author in _list(entry, "authors") if isinstance(author, dict)]
    rights = entry.get("copyright")
    return Book(
        entry["id"],
        str(entry.get("title") or ""),
        [str(author["name"]) for author in authors if author.get("name")],
        [str(language) for language in _list(entry, "languages")],
        [str(subject) for subject in _list(entry, "subjects")],
        rights if isinstance(rights, bool) else None,
        url,
    )


def _list(entry: Mapping[str, Any], key: str) -> list[Any]:
    value = entry.get(key)
    return value if isinstance(value, list) else []


def text_url(formats: Any) -> str | None:
    """The address of the best plain text among a book's formats (a mapping of media types to
    addresses): UTF-8 before the rest, never a .zip, never the readme of an audio book."""
    if not isinstance(formats, dict):
        return None
    best: tuple[int, str] | None = None
    for kind, url in formats.items():
        mime, _, parameter = str(kind).lower().partition(";")
        address = str(url).lower()
        if mime.strip() != "text/plain" or not address.startswith(("http://", "https://")):
            continue
        if address.endswith((".zip", "readme.txt")):
            continue
        charset = parameter.partition("charset=")[2].strip()
        if address.endswith((".utf-8", ".utf8", "-0.txt")):
            charset = "utf-8"
        rank = _CHARSET_ORDER.index(charset) if charset in _CHARSET_ORDER else len(_CHARSET_ORDER)
        if best is None or rank < best[0]:
            best = rank, str(url)
    return best[1] if best else None

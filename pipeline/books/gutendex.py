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
_RETRIES_BEFORE_FIRST_ANSWER = 2  # a server never reached is not worth a long wait


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
    `retries` is how often a request is repeated at most. `sleep` can be replaced in tests.
    """

    def __init__(
        self,
        base_url: str = DEFAULT_URL,
        user_agent: str = user_agent(),
        timeout: float = 30.0,
        pause: float = 2.0,
        retries: int = 4,
        sleep: Callable[[float], None] = time.sleep,
    ) -> None:
        import requests  # 0.1 s, and only this stage needs it

        self._books_url = _books_url(base_url)
        self._timeout = timeout
        self._pause = pause
        self._retries = retries
        self._sleep = sleep
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
            if answer is None:
                return
            for entry in answer["results"]:
                book = _book(entry)
                if book is None or book.id in seen:
                    continue
                seen.add(book.id)
                yield book
                if limit is not None and len(seen) >= limit:
                    return
            if not answer.get("next") or not answer["results"]:
                return
            page += 1

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
        if (
            "Content-Encoding" not in response.headers
            and promised.isdigit()
            and len(body) < int(promised)
        ):
            raise DownloadRefused(f"only {len(body):,} of {int(promised):,} bytes came")
        try:
            check_is_text(decode(body).text)
        except Rejected as rejection:
            raise DownloadRefused(rejection.reason) from rejection
        return body

    def _page(self, query: Mapping[str, str], page: int) -> dict[str, Any] | None:
        """One page of the catalogue; None past the last one."""
        response = self._get(self._books_url, {**query, "page": str(page)})
        try:
            answer = response.json()
        except ValueError:
            answer = None
        if response.status_code == 404 and isinstance(answer, dict) and page > 1:
            return None
        if response.status_code != 200:
            raise PipelineError(
                f"{self._books_url} answered {_status(response)}.", "Check --gutendex-url."
            )
        if not isinstance(answer, dict) or not isinstance(answer.get("results"), list):
            raise PipelineError(
                f"{self._books_url} does not answer as a Gutendex catalogue does.",
                "Check --gutendex-url.",
            )
        return answer

    # --- one request, with patience -----------------------------------------------------------

    def _get(self, url: str, query: Mapping[str, str]) -> "Response":
        """The answer to a GET, whatever its status, after as many attempts as it is worth."""
        import requests

        attempt = 0
        while True:
            problem: Exception | None = None
            asked_wait: float | None = None
            try:
                response = self._session.get(url, params=dict(query), timeout=self._timeout)
                self._answered = True
                if response.status_code not in _RETRY_STATUS:
                    return response
                asked_wait = _retry_after(response)
                said = f"answered {_status(response)}"
            except (requests.ConnectionError, requests.Timeout) as error:
                problem, said = error, "does not answer"
            except requests.exceptions.ChunkedEncodingError as error:
                problem, said = error, "broke off"
                self._answered = True
            except requests.RequestException as error:  # no URL at all, too many redirects, ...
                raise PipelineError(
                    f"{url} cannot be asked: {error}.", "Check --gutendex-url."
                ) from error
            retries = self._retries if self._answered else _RETRIES_BEFORE_FIRST_ANSWER
            if attempt >= min(retries, self._retries) or (asked_wait or 0) > _LONGEST_WAIT:
                raise self._given_up(url, said, asked_wait) from problem
            wait = asked_wait if asked_wait is not None else _backoff(attempt)
            if wait >= _WORTH_A_WORD:
                say(f"{urlsplit(url).netloc} {said}; asking again in {wait:.0f} s.")
            self._sleep(wait)
            attempt += 1

    def _given_up(self, url: str, said: str, asked_wait: float | None) -> Exception:
        host = urlsplit(url).netloc
        if said == "does not answer":
            return PipelineError(
                f"Cannot reach {url}.",
                "Check the network, or give the address of another server with --gutendex-url.",
            )
        if asked_wait is not None or "429" in said:
            wait = f" for {asked_wait:.0f} s" if asked_wait else ""
            return PipelineError(
                f"{host} wants no more requests{wait}.",
                "Run the same command again later: what has come is kept.",
            )
        if url == self._books_url:
            return PipelineError(f"{host} {said}.", "Try again later, or check --gutendex-url.")
        return DownloadRefused(f"the server {said}, however often it was asked")


def _books_url(base_url: str) -> str:
    parts = urlsplit(base_url)
    if parts.scheme not in ("http", "https") or not parts.netloc:
        raise UsageError(
            f"--gutendex-url {base_url} is no web address.", f"It should look like {DEFAULT_URL}"
        )
    base = base_url.rstrip("/")
    return base if base.endswith("/books") else base + "/books"


def _status(response: "Response") -> str:
    return f"{response.status_code} {response.reason or ''}".strip()


def _backoff(attempt: int) -> float:
    """0.5, 1, 2, 4, ... seconds, each between half and one and a half times that: many clients
    that were refused together do not come back together."""
    return 0.5 * 2.0**attempt * random.uniform(0.5, 1.5)


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


def _book(entry: Any) -> Book | None:
    """An entry of the catalogue; None if it is none, or has no plain text."""
    if not isinstance(entry, dict) or not isinstance(entry.get("id"), int):
        return None
    url = text_url(entry.get("formats") or {})
    if url is None:
        return None
    rights = entry.get("copyright")
    return Book(
        entry["id"],
        str(entry.get("title") or "Untitled"),
        [str(author["name"]) for author in entry.get("authors") or [] if author.get("name")],
        [str(language) for language in entry.get("languages") or []],
        [str(subject) for subject in entry.get("subjects") or []],
        rights if isinstance(rights, bool) else None,
        url,
    )


def text_url(formats: Mapping[str, str]) -> str | None:
    """The best plain text among the formats of a book: UTF-8 before the rest, never a .zip and
    never the readme of an audio book."""
    best: tuple[int, str] | None = None
    for kind, url in formats.items():
        mime, _, parameter = kind.lower().partition(";")
        address = url.lower()
        if mime.strip() != "text/plain" or address.endswith((".zip", "readme.txt")):
            continue
        charset = parameter.partition("charset=")[2].strip()
        if address.endswith((".utf-8", ".utf8", "-0.txt")):
            charset = "utf-8"
        rank = _CHARSET_ORDER.index(charset) if charset in _CHARSET_ORDER else len(_CHARSET_ORDER)
        if best is None or rank < best[0]:
            best = rank, url
    return best[1] if best else None

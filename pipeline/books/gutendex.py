"""A client of Gutendex, the catalogue of Project Gutenberg as JSON.

https://gutendex.com asks heavy users to run a server of their own, so the address is a setting,
and pages of the catalogue are kept for a day. `polite` has the manners, `catalogue` the books,
`downloads` the files.
"""

import hashlib
import json
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from pipeline.books.catalogue import Book, as_book, entry_id
from pipeline.books.downloads import Download, as_download, ask, first_text
from pipeline.books.polite import PoliteSession, RequestFailed, redacted
from pipeline.console import say
from pipeline.errors import PipelineError, UsageError
from pipeline.files import encode_json, write_bytes

DEFAULT_URL = "https://gutendex.com"
SORTS = ("ascending", "descending", "popular")
RIGHTS = ("false", "true", "null")
IDS_PER_REQUEST = 32  # as many as fit on a page
PAGE_LIFETIME = 24 * 3600.0  # seconds

_MOST_BARREN_PAGES = 3  # pages with nothing new, before the catalogue is taken to go in a circle
_NO_FILTERS = {"copyright", "sort", "mime_type"}  # in queries; the last is not the user's
_CHECK_URL = "Check --gutendex-url."


class Search:
    """The books that fit a question, asked for page by page as one iterates.

    After an iteration that came to its end:

    - `found`: how many books came.
    - `ran_out`: whether the catalogue had fewer than were asked for.
    - `without_text`: ids of entries that have no plain text (audio books, for one).
    - `missing`: of the ids asked for, those that the catalogue does not have, or not under the
      other conditions of the search.

    Before it as well:

    - `asked`: how many books are wanted; None for all that there are.
    - `filtered`: whether books must fit conditions other than numbers and rights (a topic, ...),
      so that a book that is `missing` may yet be in the catalogue.

    Iterating again asks again.
    """

    def __init__(
        self,
        page: Callable[[Mapping[str, str]], dict[str, Any]],
        query: Mapping[str, str],
        ids: Sequence[int] | None,
        limit: int | None,
    ) -> None:
        self.found = 0
        self.ran_out = False
        self.without_text: list[int] = []
        self.missing: list[int] = []
        self.asked = limit
        if ids is not None:
            self.asked = len(ids) if limit is None else min(len(ids), limit)
        self.filtered = not query.keys() <= _NO_FILTERS
        self._page = page
        self._query = query
        self._ids = ids
        self._limit = limit

    def __iter__(self) -> Iterator[Book]:
        self.found, self.ran_out, self.without_text, self.missing = 0, False, [], []
        seen: set[int] = set()
        for query in self._queries():
            for entry in self._entries(query, seen):
                if self.found == self._limit:
                    return
                book = as_book(entry)
                if book is None:
                    self.without_text.append(entry["id"])
                    continue
                self.found += 1
                yield book
                if self.found == self._limit:
                    return
        self._sum_up(seen)

    def _queries(self) -> Iterator[dict[str, str]]:
        if self._ids is None:
            yield dict(self._query)
            return
        for start in range(0, len(self._ids), IDS_PER_REQUEST):
            some = self._ids[start : start + IDS_PER_REQUEST]
            yield {**self._query, "ids": ",".join(map(str, some))}

    def _entries(self, query: Mapping[str, str], seen: set[int]) -> Iterator[dict[str, Any]]:
        """The entries of all pages that are not in `seen`, which they are put into."""
        wanted = None if self._ids is None else set(self._ids)
        page, barren = 1, 0
        while barren < _MOST_BARREN_PAGES:
            answer = self._page({**query, "page": str(page)})
            barren += 1
            for entry in answer["results"]:
                id = entry_id(entry)
                # A server that does not know `ids` answers with any books.
                if id is None or id in seen or (wanted is not None and id not in wanted):
                    continue
                barren = 0
                seen.add(id)
                yield entry
            if not answer.get("next") or not answer["results"]:
                return
            page += 1

    def _sum_up(self, seen: set[int]) -> None:
        if self._ids is not None:
            self.missing = sorted(set(self._ids) - seen)
        self.ran_out = self.asked is not None and self.found < self.asked
        if not self.ran_out or not self.found:
            return
        if self._ids is None:
            say(f"{self.found} of {self.asked} asked: the catalogue has no more.")
        else:
            lost = ", ".join(map(str, [*self.missing, *sorted(self.without_text)][:10]))
            rest = ", ..." if len(self.missing) + len(self.without_text) > 10 else ""
            fitting = " that fits what else is asked for" if self.filtered else ""
            say(
                f"{self.found} of {self.asked} asked: "
                f"the catalogue has no text of {lost}{rest}{fitting}."
            )


class GutendexClient:
    """Searches a Gutendex server and downloads from where it points.

    `session` makes the requests (one of its own with the usual manners, but without a quota, if
    none is given). Pages of the catalogue are kept in the directory `page_cache` for a day; `now`
    gives seconds since 1970.
    """

    def __init__(
        self,
        base_url: str = DEFAULT_URL,
        session: PoliteSession | None = None,
        page_cache: Path | None = None,
        now: Callable[[], float] = time.time,
    ) -> None:
        self._books_url = _books_url(base_url)
        self._session = session or PoliteSession()
        self._page_cache = page_cache
        self._now = now

    def search(
        self,
        topic: str | None = None,
        search: str | None = None,
        languages: str | None = None,
        author_year_start: int | None = None,
        author_year_end: int | None = None,
        ids: Sequence[int] | None = None,
        sort: str = "ascending",
        copyright: str | None = "false",
        limit: int | None = None,
    ) -> Search:
        """The books that fit, at most `limit`, none twice; stops at the last page.

        `topic` is looked for in subjects and bookshelves, `search` in titles and authors,
        `languages` are codes such as "en,fr". Of the years, one author has lived in or after the
        first and in or before the second; they may be negative. `ids` are the numbers of the books
        wanted. `sort`: "ascending" and "descending" by number are stable; "popular" is the order
        of downloads, which moves while one reads it. `copyright` is "false" (public domain in the
        USA), "true", "null" (not known), several of them separated by commas, or None for all,
        which is also the way to hear of rights in books asked for by `ids`.

        Raises UsageError for what makes no sense; iterating raises PipelineError if there is no
        network, or no Gutendex at the other end.
        """
        if sort not in SORTS:
            raise UsageError(f"sort {sort!r} is not one of {', '.join(SORTS)}.")
        if copyright and not set(copyright.split(",")) <= set(RIGHTS):
            raise UsageError(f"copyright {copyright!r} is not one or more of {', '.join(RIGHTS)}.")
        start, end = author_year_start, author_year_end
        if start is not None and end is not None and start > end:
            raise UsageError(f"The years of authors end ({end}) before they start ({start}).")
        if ids is not None and any(id < 1 for id in ids):
            raise UsageError(f"{min(ids)} is no number of a book.")
        wanted = {
            "topic": topic, "search": search,
            "languages": languages.replace(" ", "").lower() if languages else None,
            "author_year_start": start, "author_year_end": end,
            # Entries without a text are wanted too where they are asked for by name, to tell.
            "mime_type": "text/plain" if ids is None else None,
            "copyright": copyright, "sort": None if sort == "popular" else sort,
        }  # fmt: skip
        query = {name: str(value) for name, value in wanted.items() if value not in (None, "")}
        if ids is not None:
            ids = sorted(set(ids), reverse=sort == "descending")
        return Search(self._page, query, ids, limit)

    def download(self, book: Book) -> Download:
        """The text of a book: the bytes as served, or those of the text in a zip archive.

        Raises:
            DownloadRefused: what came is no text (a web page, nothing, half a file, ...).
            PipelineError: a server cannot be reached, or wants no more requests for now.
        """
        return first_text(self._session, book.text_urls)

    def refresh(
        self, book: Book, etag: str | None, last_modified: str | None, url: str | None = None
    ) -> Download | None:
        """The text at `url` (the book's first address if not given) if it has changed.

        `etag` and `last_modified` are those of the version at hand; None if that is still the one
        served. Without either, and from servers that do not compare them, the text comes whole.
        Raises as `download` does.
        """
        url = url or book.text_url
        known = {"If-None-Match": etag, "If-Modified-Since": last_modified}
        headers = {name: value for name, value in known.items() if value}
        answer = ask(self._session, url, headers)
        if answer.status == 304 and headers:
            return None
        return as_download(answer, url)

    # --- pages of the catalogue ---------------------------------------------------------------

    def _page(self, query: Mapping[str, str]) -> dict[str, Any]:
        """One page of the catalogue, from the cache or the server; an empty one past the last."""
        kept = self._kept(query)
        if kept is not None:
            return kept
        try:
            response = self._session.get(self._books_url, query)
        except RequestFailed as failure:
            hint = failure.hint if failure.kind == "busy" else _other_server(failure)
            raise PipelineError(failure.message, hint) from failure
        try:
            answer = json.loads(response.body)
        except (ValueError, RecursionError):
            answer = None
        if response.status == 404 and isinstance(answer, dict) and query["page"] != "1":
            return {"results": []}  # the catalogue became shorter as we read it
        address = redacted(self._books_url)
        if response.status >= 400:
            raise PipelineError(f"{address} answered {response.said}.", _CHECK_URL)
        if not _is_page(answer):
            raise PipelineError(f"{address} does not answer as a Gutendex server does.", _CHECK_URL)
        self._keep(query, answer)
        return dict(answer)

    def _cache_file(self, query: Mapping[str, str]) -> Path | None:
        if self._page_cache is None:
            return None
        key = json.dumps([self._books_url, sorted(query.items())])
        return self._page_cache / f"{hashlib.sha256(key.encode()).hexdigest()[:32]}.json"

    def _kept(self, query: Mapping[str, str]) -> dict[str, Any] | None:
        """A page that was answered less than a day ago."""
        path = self._cache_file(query)
        if path is None:
            return None
        try:
            kept = json.loads(path.read_bytes())
            age = self._now() - kept["time"]
            answer = kept["answer"]
        except (OSError, ValueError, RecursionError, LookupError, TypeError):
            return None  # not there, or broken: it will be written anew
        return dict(answer) if 0 <= age < PAGE_LIFETIME and _is_page(answer) else None

    def _keep(self, query: Mapping[str, str], answer: Mapping[str, Any]) -> None:
        path = self._cache_file(query)
        if path is None:
            return
        with suppress(OSError):  # a disk that takes no files costs only time
            write_bytes(path, encode_json({"time": self._now(), "answer": answer}))


def _books_url(base_url: str) -> str:
    try:
        parts = urlsplit(base_url)
    except ValueError:
        parts = urlsplit("")
    if parts.scheme not in ("http", "https") or not parts.hostname:
        raise UsageError(
            f"--gutendex-url {redacted(base_url)} is no web address.",
            f"It should look like {DEFAULT_URL}",
        )
    base = base_url.rstrip("/")
    return base if base.endswith("/books") else base + "/books"


def _other_server(failure: RequestFailed) -> str:
    if failure.kind == "unreachable":
        return "Check the network, or give the address of another server with --gutendex-url."
    return "Try again later, or check --gutendex-url."


def _is_page(answer: Any) -> bool:
    return isinstance(answer, dict) and isinstance(answer.get("results"), list)

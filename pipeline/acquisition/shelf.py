"""Books of Project Gutenberg into `1_raw`: found in the catalogue, fetched from where one may."""

import re
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

from pipeline.acquisition.ahead import ahead
from pipeline.acquisition.labels import mark_of
from pipeline.acquisition.options import Sampler
from pipeline.acquisition.register import Register
from pipeline.acquisition.summary import SHORT
from pipeline.books.addresses import RequestFailed, host_of, is_main_site, redacted
from pipeline.books.archive import read_archive
from pipeline.books.catalogue import Book
from pipeline.books.decoding import decode
from pipeline.books.downloads import Download, DownloadRefused
from pipeline.books.gutendex import DEFAULT_URL, GutendexClient, Search
from pipeline.books.mirrors import Mirrors
from pipeline.books.naming import file_name
from pipeline.books.plain_text import Rejected, check_is_text
from pipeline.books.polite import PoliteSession
from pipeline.books.quota import DailyQuota
from pipeline.console import many, progress
from pipeline.errors import PipelineError, UsageError
from pipeline.files import sha256_bytes

if TYPE_CHECKING:
    from pipeline.storage import Storage

COLLECTION = "gutenberg"
_UNREACHABLE_IN_A_ROW = 3  # books, after which it is the network
RIGHTS = {False: "public domain in the USA", True: "under copyright in the USA", None: "unknown"}
FROM_HERE_ON = ("mirrors", "archive", "pause", "refresh")  # how to fetch, which changes no text


@dataclass(frozen=True)
class Wanted:
    """Which books, and where from; see `pipeline acquire --help`."""

    topic: str | None = None
    search: str | None = None
    ids: tuple[int, ...] = ()
    languages: str | None = None
    author_year_start: int | None = None
    author_year_end: int | None = None
    copyright: str | None = None
    allow_copyrighted: bool = False
    sort: str = "ascending"
    num_records: int = 20
    gutendex_url: str = DEFAULT_URL
    mirrors: tuple[str, ...] = ()
    archive: str | None = None
    pause: float = 2.0
    refresh: bool = False

    @property
    def is_anything(self) -> bool:
        """Whether books are wanted at all."""
        which = (self.topic, self.search, self.languages, self.author_year_start,
                 self.author_year_end)  # fmt: skip
        return bool(self.ids) or any(value is not None for value in which)

    def as_settings(self) -> dict[str, Any]:
        """What decides which books are there in the end."""
        settings = {name: v for name, v in asdict(self).items() if name not in FROM_HERE_ON}
        return settings | {"gutendex_url": redacted(self.gutendex_url)}

    def check(self) -> None:
        """Raise UsageError for what makes no sense, before anything is done."""
        with PoliteSession() as session:
            self.ask(GutendexClient(self.gutendex_url, session))
            if self.mirrors:
                Mirrors(self.mirrors, session)

    def ask(self, client: GutendexClient) -> Search:
        """Ask the catalogue. Books asked for by number come in any language, and with any rights,
        so that one can be told why a book is refused."""
        unknown = self.allow_copyrighted or self.ids
        return client.search(
            topic=self.topic, search=self.search, ids=self.ids or None,
            languages=self.languages or (None if self.ids else "en"),
            author_year_start=self.author_year_start, author_year_end=self.author_year_end,
            sort=self.sort, copyright=self.copyright or (None if unknown else "false"),
            limit=len(self.ids) or self.num_records,
        )  # fmt: skip


def parse_ids(text: str | None) -> tuple[int, ...]:
    """`84, 345` as numbers. Raises UsageError for anything else."""
    if text is None:
        return ()
    words = [word for word in re.split(r"[,\s]+", text) if word]
    bad = next((word for word in words if not re.fullmatch(r"[1-9]\d{0,8}", word)), None)
    if bad is not None or not words:
        raise UsageError(
            f"--ids {text!r}: {bad or 'nothing'} is no number of a book.", "For example: 84,345"
        )
    return tuple(dict.fromkeys(map(int, words)))


def fetch_books(register: Register, wanted: Wanted, storage: "Storage", sampler: Sampler) -> None:
    """Bring the books wanted into `1_raw`; what is there already is not fetched again.

    Raises PipelineError if there are none, if the catalogue cannot be asked, or if more are to
    come from the main site than it allows a program on one day.
    """
    quota = DailyQuota()
    with PoliteSession(pause=wanted.pause, quota=quota) as session:
        pages = register.run.workspace.cache / "gutendex"
        client = GutendexClient(wanted.gutendex_url, session, page_cache=pages)
        mirrors = Mirrors(wanted.mirrors, session) if wanted.mirrors else None
        missing, there = choose(register, wanted, wanted.ask(client), sampler)
        if wanted.archive:
            take_from_archive(register, wanted.archive, missing, storage)
        elif missing:
            if mirrors is None:
                quota.check(sum(is_main_site(host_of(book.text_url)) for book, _ in missing))
            take_one_by_one(register, missing, (mirrors or client).download)
        if wanted.refresh:
            refresh(register, there, client, mirrors, quota)


def choose(
    register: Register, wanted: Wanted, search: Search, sampler: Sampler
) -> tuple[list[tuple[Book, str]], list[tuple[Book, str]]]:
    """The books to fetch and those that are there, each with its file name."""
    missing: list[tuple[Book, str]] = []
    there: list[tuple[Book, str]] = []
    with progress("catalogue", None, "books") as advance:
        for book in search:
            advance()
            if not sampler.takes():
                register.count("not sampled")
                continue
            if book.copyright and not wanted.allow_copyrighted:
                refuse(
                    register, book.id, label(book),
                    "it is under copyright (--allow-copyrighted takes it)", counted=False,
                )  # fmt: skip
                continue
            name = register.name(file_name(book.id, book.title)[:-4], origin_of(book.id))
            plan = register.plan(name, origin_of(book.id))
            if plan == "write":
                missing.append((book, name))
            elif plan == "current":
                there.append((book, name))
    where = "the catalogue does not have it"
    if search.filtered or wanted.copyright:
        where += ", or not with all that is asked for (such as --languages)"
    for id in search.missing:
        refuse(register, id, f"book {id}", where, counted=False)
    for id in search.without_text:
        refuse(register, id, f"book {id}", "it has no plain text", counted=False)
    if not search.found:
        raise PipelineError(
            "No books were found for what was asked.",
            "Try another --topic (horror, poetry, adventure, ...), --search or --languages.",
        )
    if search.ran_out and search.asked:
        register.count(SHORT, search.asked - search.found)
    return missing, there


def take_one_by_one(
    register: Register, books: Sequence[tuple[Book, str]], fetch: Callable[[Book], Download]
) -> None:
    """Download book by book; what is refused is listed. A host that cannot be reached is one
    book's trouble, until it is that of every book.

    Raises PipelineError for a network that is not there, and a server that wants no more.
    """

    def attempt(chosen: tuple[Book, str]) -> Download | DownloadRefused | RequestFailed:
        try:
            return fetch(chosen[0])
        except DownloadRefused as refusal:
            return refusal
        except RequestFailed as failure:
            if failure.kind != "unreachable":
                raise
            return failure

    in_a_row = came = 0
    with progress("acquire", len(books), "books") as advance:
        for (book, name), download in ahead(attempt, books):
            if isinstance(download, RequestFailed):
                in_a_row += 1
                if in_a_row == _UNREACHABLE_IN_A_ROW or (not came and in_a_row == len(books)):
                    raise download
                advance(note=name)
                why = f"the server {download.reason}"
                refuse(register, book.id, label(book), why, missed=True)
                continue
            in_a_row = 0
            if isinstance(download, DownloadRefused):
                advance(note=name)
                refuse(
                    register, book.id, label(book), download.reason, missed=download.may_pass,
                    doubted=True,
                )  # fmt: skip
            else:
                came += 1
                advance(note=name, size=len(download.body))
                add(register, book, name, download)


def take_from_archive(
    register: Register, archive: str, books: Sequence[tuple[Book, str]], storage: "Storage"
) -> None:
    """Read the books out of the archive of all texts, to the last one that is wanted."""
    found = storage.expand(archive)
    if len(found) != 1:
        raise UsageError(f"--archive {redacted(archive)} names {len(found)} files, not one.")
    left = {book.id: (book, name) for book, name in books}
    if not left:
        return
    with storage.open(found[0]) as stream, progress("acquire", len(books), "books") as advance:
        texts = read_archive(stream, found[0].shown, set(left), lambda size: advance(0, size=size))
        for id, body in texts:
            book, name = left.pop(id)
            advance(note=name)
            source = f"{found[0].shown}#cache/epub/{id}/pg{id}.txt"
            try:
                check_is_text(decode(body).text)
            except Rejected as rejection:
                refuse(register, book.id, label(book), rejection.reason)
                continue
            add(register, book, name, Download(body, source, None, None))
    for book, _ in left.values():
        refuse(register, book.id, label(book), "the archive does not have it", missed=True)


def refresh(
    register: Register,
    books: Sequence[tuple[Book, str]],
    client: GutendexClient,
    mirrors: Mirrors | None,
    quota: DailyQuota,
) -> None:
    """Ask for each book whether it has changed where it came from, and take it if it has.

    Those that were asked for longest ago come first, and no more than the main site allows.
    """
    rows = {name: register.run.row(name) or {} for _, name in books}
    left = quota.left() if mirrors is None else 0
    asked_later = 0
    with progress("refresh", len(books), "books") as advance:
        for book, name in sorted(books, key=lambda item: last_asked(rows[item[1]])):
            row = rows[name]
            url = str(row.get("source") or "")
            advance(note=name)
            if not url.startswith(("http://", "https://")) or "#" in url:
                continue  # out of an archive, which cannot be asked
            if mirrors is None and is_main_site(host_of(url)):
                if not left:
                    asked_later += 1
                    continue
                left -= 1
            try:
                if mirrors is not None:
                    download: Download | None = mirrors.download(book)
                else:
                    download = client.refresh(book, row.get("etag"), row.get("last_modified"), url)
            except (DownloadRefused, RequestFailed) as failure:
                if isinstance(failure, RequestFailed) and failure.kind != "unreachable":
                    raise
                register.run.warn(f"{label(book)} stays as it is: {failure.reason}.")
                continue
            if download is None or sha256_bytes(download.body) == row.get("sha256"):
                register.count("not changed")
                row["checked_at"] = now()
            else:
                register.count("renewed")
                add(register, book, name, download)
    if asked_later:
        register.run.warn(
            f"{many(asked_later, 'book was', 'books were')} not asked for: the main site allows no "
            "more today. The same command goes on with them tomorrow."
        )


def last_asked(row: dict[str, Any]) -> str:
    """When a book was last asked for, as text that sorts by time."""
    return str(row.get("checked_at") or row.get("retrieved_at") or "")


def now() -> str:
    """The time, to the second, in UTC."""
    return datetime.now(UTC).isoformat(timespec="seconds")


def add(register: Register, book: Book, name: str, download: Download) -> None:
    """Write a book with its row of the catalogue."""
    row = {
        "id": str(book.id), "title": book.title or None, "authors": book.authors,
        "languages": book.languages, "subjects": book.subjects,
        "rights": RIGHTS[book.copyright], "source": download.url,
        "origin": mark_of(origin_of(book.id)), "collection": COLLECTION, "weight": None,
        "etag": download.etag, "last_modified": download.last_modified,
        "retrieved_at": now(),
    }  # fmt: skip
    register.add(name, download.body, origin_of(book.id), row)


def refuse(register: Register, id: int, what: str, reason: str, **how: bool) -> None:
    """Leave a book out, until it is asked for again."""
    register.refuse(what, reason, origin=origin_of(id), place=COLLECTION, **how)


def origin_of(id: int) -> str:
    """What makes a book this book, wherever it is fetched from."""
    return f"gutenberg:{id}"


def label(book: Book) -> str:
    """A book as messages name it."""
    return f"{book.title or 'untitled'} ({book.id})"

"""Books of Project Gutenberg into `1_raw`: found in the catalogue, fetched from where one may."""

import re
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit

from pipeline.acquisition.ahead import ahead
from pipeline.acquisition.register import Register, origin_mark
from pipeline.books.archive import read_archive
from pipeline.books.catalogue import Book
from pipeline.books.decoding import decode
from pipeline.books.downloads import Download, DownloadRefused
from pipeline.books.gutendex import DEFAULT_URL, GutendexClient, Search
from pipeline.books.mirrors import Mirrors
from pipeline.books.naming import file_name
from pipeline.books.plain_text import Rejected, check_is_text
from pipeline.books.polite import PoliteSession, is_main_site
from pipeline.books.quota import DailyQuota
from pipeline.console import progress
from pipeline.errors import PipelineError, UsageError
from pipeline.files import sha256_bytes

if TYPE_CHECKING:
    from pipeline.storage import Storage

COLLECTION = "gutenberg"
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
        return bool(self.topic is not None or self.search is not None or self.ids)

    def as_settings(self) -> dict[str, Any]:
        """What decides which books are there in the end."""
        return {name: v for name, v in asdict(self).items() if name not in FROM_HERE_ON}

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


def fetch_books(register: Register, wanted: Wanted, storage: "Storage") -> None:
    """Bring the books wanted into `1_raw`; what is there already is not fetched again.

    Raises PipelineError if there are none, if the catalogue cannot be asked, or if more are to
    come from the main site than it allows a program on one day.
    """
    quota = DailyQuota()
    with PoliteSession(pause=wanted.pause, quota=quota) as session:
        pages = register.run.workspace.cache / "gutendex"
        client = GutendexClient(wanted.gutendex_url, session, page_cache=pages)
        mirrors = Mirrors(wanted.mirrors, session) if wanted.mirrors else None
        missing, there = choose(register, wanted, wanted.ask(client))
        if wanted.archive:
            take_from_archive(register, wanted.archive, missing, storage)
        elif missing:
            if mirrors is None:
                quota.check(sum(is_main_site(host_of(book)) for book, _ in missing))
            fetch = mirrors.download if mirrors is not None else client.download
            take_one_by_one(register, missing, fetch)
        if wanted.refresh:
            refresh(register, there, client)


def choose(
    register: Register, wanted: Wanted, search: Search
) -> tuple[list[tuple[Book, str]], list[tuple[Book, str]]]:
    """The books to fetch and those that are there, each with its file name."""
    missing: list[tuple[Book, str]] = []
    there: list[tuple[Book, str]] = []
    with progress("catalogue", None, "books") as advance:
        for book in search:
            advance()
            if book.copyright and not wanted.allow_copyrighted:
                register.refuse(
                    label(book), "it is under copyright (--allow-copyrighted takes it)",
                    counted=False,
                )  # fmt: skip
                continue
            name = register.name(file_name(book.id, book.title)[:-4], origin_of(book))
            plan = register.plan(name, origin_of(book))
            if plan == "write":
                missing.append((book, name))
            elif plan == "current":
                there.append((book, name))
    for id in search.missing:
        register.refuse(f"book {id}", "the catalogue does not have it", counted=False)
    for id in search.without_text:
        register.refuse(f"book {id}", "it has no plain text", counted=False)
    if not search.found:
        raise PipelineError(
            "No books were found for what was asked.",
            "Try another --topic (horror, poetry, adventure, ...), --search or --languages.",
        )
    return missing, there


def take_one_by_one(
    register: Register, books: Sequence[tuple[Book, str]], fetch: Callable[[Book], Download]
) -> None:
    """Download book by book; what is refused is listed, and asked for again next time."""

    def attempt(chosen: tuple[Book, str]) -> Download | DownloadRefused:
        try:
            return fetch(chosen[0])
        except DownloadRefused as refusal:
            return refusal

    with progress("acquire", len(books), "books") as advance:
        for (book, name), download in ahead(attempt, books):
            if isinstance(download, DownloadRefused):
                advance(note=name)
                register.refuse(label(book), download.reason, missed=True)
            else:
                advance(note=name, size=len(download.body))
                add(register, book, name, download)


def take_from_archive(
    register: Register, archive: str, books: Sequence[tuple[Book, str]], storage: "Storage"
) -> None:
    """Read the books out of the archive of all texts, to the last one that is wanted."""
    found = storage.expand(archive)
    if len(found) != 1:
        raise UsageError(f"--archive {archive} names {len(found)} files, not one.")
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
                register.refuse(label(book), rejection.reason)
                continue
            add(register, book, name, Download(body, source, None, None))
    for book, _ in left.values():
        register.refuse(label(book), "the archive does not have it", missed=True)


def refresh(register: Register, books: Sequence[tuple[Book, str]], client: GutendexClient) -> None:
    """Ask for each book whether it has changed where it came from, and take it if it has."""
    with progress("refresh", len(books), "books") as advance:
        for book, name in books:
            row = register.run.row(name) or {}
            url = str(row.get("source") or "")
            advance(note=name)
            if not url.startswith(("http://", "https://")) or "#" in url:
                continue  # out of an archive, which cannot be asked
            try:
                download = client.refresh(book, row.get("etag"), row.get("last_modified"), url)
            except DownloadRefused as refusal:
                register.run.warn(f"{label(book)} stays as it is: {refusal.reason}.")
                continue
            if download is None or sha256_bytes(download.body) == row.get("sha256"):
                register.count("not changed")
            else:
                register.count("renewed")
                add(register, book, name, download)


def add(register: Register, book: Book, name: str, download: Download) -> None:
    """Write a book with its row of the catalogue."""
    row = {
        "id": str(book.id), "title": book.title or None, "authors": book.authors,
        "languages": book.languages, "subjects": book.subjects,
        "rights": RIGHTS[book.copyright], "source": download.url,
        "origin": origin_mark(origin_of(book)), "collection": COLLECTION, "weight": None,
        "etag": download.etag, "last_modified": download.last_modified,
        "retrieved_at": datetime.now(UTC).isoformat(timespec="seconds"),
    }  # fmt: skip
    register.add(name, download.body, origin_of(book), row)


def origin_of(book: Book) -> str:
    """What makes a book this book, wherever it is fetched from."""
    return f"gutenberg:{book.id}"


def label(book: Book) -> str:
    """A book as messages name it."""
    return f"{book.title or 'untitled'} ({book.id})"


def host_of(book: Book) -> str:
    """The host that a book's text would come from."""
    return urlsplit(book.text_url).hostname or ""

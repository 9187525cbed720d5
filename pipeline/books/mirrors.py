"""Books from mirrors of Project Gutenberg, which are open to programs where the main site is not.

A mirror is an address below which files lie as Project Gutenberg lays them out: book 12345 in the
folder `1/2/3/4/12345` (all digits but the last, and `0` for the books 1 to 9), and what is made
from it in `cache/epub/12345`. A list: https://www.gutenberg.org/MIRRORS.ALL
"""

from collections.abc import Sequence
from urllib.parse import urlsplit

from pipeline.books.catalogue import Book
from pipeline.books.downloads import GONE, Download, DownloadRefused, as_download, without_answer
from pipeline.books.polite import Answer, PoliteSession, RequestFailed, redacted
from pipeline.console import warn
from pipeline.errors import PipelineError, UsageError

TRIES = 2  # for each request; there may be another mirror

_DEAD = ("unreachable", "busy", "error")
_NO_FILE = "no mirror has it"


def mirror_paths(id: int) -> list[str]:
    """Where the text of a book may lie below the address of a mirror, the best one first."""
    folder = "/".join([*(str(id)[:-1] or "0"), str(id)])
    return [
        f"{folder}/{id}-0.txt",  # UTF-8
        f"cache/epub/{id}/pg{id}.txt",
        f"{folder}/{id}-8.txt",  # some eight-bit encoding
        f"{folder}/{id}.txt",
    ]


class Mirrors:
    """The mirrors `urls`, asked in this order. One that does not answer is passed over from then
    on. Raises UsageError for what is no web address.
    """

    def __init__(self, urls: Sequence[str], session: PoliteSession) -> None:
        if not urls:
            raise UsageError("No mirror is named.", "Name one with --mirror URL.")
        self._urls = list(dict.fromkeys(map(_checked, urls)))
        self._alive = list(self._urls)
        self._session = session

    def download(self, book: Book) -> Download:
        """The text of a book, from the first mirror that has it.

        Raises:
            DownloadRefused: no mirror that answers has a text of it. That may pass if a file broke
                off, or if one of the mirrors was passed over, which may have the book.
            PipelineError: none of the mirrors answers; or one of them is the main site, whose
                quota is used up.
        """
        refusals: list[DownloadRefused] = []
        for url in list(self._alive):
            try:
                download = self._from(url, book.id, refusals)
            except RequestFailed as failure:
                self._alive.remove(url)
                warn(f"The mirror {redacted(url)} {failure.reason}; it is passed over from now on.")
                continue
            if download is not None:
                return download
        if not self._alive:
            raise PipelineError(
                f"No mirror answers: {', '.join(map(redacted, self._urls))}.",
                "Name another with --mirror URL (https://www.gutenberg.org/MIRRORS.ALL lists "
                "them), or read the archive of all texts with --archive FILE_OR_URL.",
            )
        reason = refusals[0].reason if refusals else _NO_FILE
        passed_over = len(self._alive) < len(self._urls)
        raise DownloadRefused(reason, passed_over or any(each.may_pass for each in refusals))

    def _from(self, mirror: str, id: int, refusals: list[DownloadRefused]) -> Download | None:
        """A download from one mirror; None if it has none, with what it has instead put to the
        `refusals`. Raises RequestFailed if it is dead."""
        for path in mirror_paths(id):
            try:
                answer = self._ask(mirror + path)
                if answer.status not in GONE:
                    return as_download(answer, mirror + path)
            except DownloadRefused as refusal:
                refusals.append(refusal)
        return None

    def _ask(self, url: str) -> Answer:
        try:
            return self._session.get(url, download=True, tries=TRIES)
        except RequestFailed as failure:
            if failure.kind in _DEAD:
                raise
            raise without_answer(failure) from failure


def _checked(url: str) -> str:
    """The address with a slash at its end."""
    try:
        parts = urlsplit(url)
        sound = parts.scheme in ("http", "https") and bool(parts.hostname)
    except ValueError:
        sound = False
    if not sound or parts.query or parts.fragment:
        raise UsageError(
            f"--mirror {redacted(url)} is no address of a mirror.",
            "It should look like https://gutenberg.pglaf.org or https://host/a/path/to/gutenberg",
        )
    return url.rstrip("/") + "/"

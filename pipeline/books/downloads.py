"""One book off the web: its addresses tried in order until one of them holds a text.

What a body is, its bytes say; labels and names of files are often wrong. Zip archives, which the
catalogue has for older books, are opened in memory.
"""

import io
import struct
import zipfile
import zlib
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from urllib.parse import urlsplit, urlunsplit

from pipeline.books.decoding import decode
from pipeline.books.plain_text import Rejected, check_is_text
from pipeline.books.polite import LARGEST_BODY, Answer, PoliteSession, RequestFailed

_ZIP = b"PK\x03\x04"
_ZIP_ENTRY = b"PK\x01\x02"  # one for each member
_MOST_MEMBERS = 10_000
_METHODS = (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED)  # others unpack without a bound


class DownloadRefused(Exception):
    """What came for a book is no text of it; `reason` says why."""

    def __init__(self, reason: str) -> None:
        super().__init__(reason)
        self.reason = reason


@dataclass(frozen=True)
class Download:
    """The text of a book, as served, and the address that it came from.

    `etag` and `last_modified` are the server's words for this version of what is at `url`, to be
    handed back to it when one asks for a newer one.
    """

    body: bytes
    url: str
    etag: str | None
    last_modified: str | None


def first_text(session: PoliteSession, urls: Iterable[str]) -> Download:
    """What the first of `urls` that holds a text has.

    Raises DownloadRefused with the reason of the first address if none does, and PipelineError if
    a server cannot be reached, wants no more requests, or the quota of the main site is used up.
    """
    refusal: DownloadRefused | None = None
    for url in urls:
        try:
            return as_download(ask(session, url), url)
        except DownloadRefused as error:
            refusal = refusal or error
    raise refusal or DownloadRefused("the catalogue names no plain text")


def ask(session: PoliteSession, url: str, headers: Mapping[str, str] | None = None) -> Answer:
    """The answer at the address of a book. Raises as `first_text` does."""
    try:
        return session.get(url, headers=headers, download=True)
    except RequestFailed as failure:
        if failure.kind in ("unreachable", "busy"):
            raise
        raise DownloadRefused(f"the server {failure.reason}") from failure


def as_download(answer: Answer, url: str) -> Download:
    """The text in an answer. Raises DownloadRefused if there is none."""
    if answer.status != 200:
        raise DownloadRefused(f"the server answered {answer.said}")
    body = text_in(answer.body)
    headers = answer.headers
    return Download(body, _public(url), headers.get("ETag"), headers.get("Last-Modified"))


def text_in(body: bytes) -> bytes:
    """`body` itself, or what the zip archive `body` has in it. Raises DownloadRefused if that is
    no text."""
    if body.startswith(_ZIP):
        body = _unzip(body)
    try:
        check_is_text(decode(body).text)
    except Rejected as rejection:
        raise DownloadRefused(rejection.reason) from rejection
    return body


def _public(url: str) -> str:
    """`url` without user name and password, for it is written down beside the book."""
    parts = urlsplit(url)
    return urlunsplit(parts._replace(netloc=parts.netloc.rpartition("@")[2]))


def _unzip(body: bytes) -> bytes:
    if body.count(_ZIP_ENTRY) > _MOST_MEMBERS:
        raise DownloadRefused("it is a zip archive of too many files")
    try:
        with zipfile.ZipFile(io.BytesIO(body)) as archive:
            member = _text_member(archive.infolist())
            with archive.open(member) as file:
                text = file.read(LARGEST_BODY + 1)  # whatever size the archive says
    except (
        zipfile.BadZipFile, zlib.error, struct.error, EOFError, OSError, RuntimeError, ValueError,
    ) as error:  # fmt: skip
        raise DownloadRefused("it is a zip archive that cannot be opened") from error
    if len(text) > LARGEST_BODY:
        raise DownloadRefused(f"it holds a text larger than {LARGEST_BODY // 2**20} MB")
    return text


def _text_member(members: list[zipfile.ZipInfo]) -> zipfile.ZipInfo:
    """The book in an archive: its UTF-8 edition, else the largest text."""
    texts = [
        member for member in members
        if member.filename.lower().endswith(".txt") and not member.is_dir()
        and not member.filename.lower().endswith("readme.txt")
        and "__MACOSX" not in member.filename
    ]  # fmt: skip
    if not texts:
        raise DownloadRefused("it is a zip archive without a text")
    best = max(texts, key=lambda text: (text.filename.endswith("-0.txt"), text.file_size))
    if best.flag_bits & 1:
        raise DownloadRefused("it is an encrypted zip archive")
    if best.compress_type not in _METHODS:
        raise DownloadRefused("it is a zip archive of an unusual kind")
    return best

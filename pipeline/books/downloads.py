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

GONE = (404, 410)  # statuses that say that a file is not there

_ZIP = b"PK\x03\x04"
_ZIP_ENTRY = b"PK\x01\x02"  # one for each member
_MOST_MEMBERS = 10_000
_METHODS = (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED)  # others unpack without a bound


class DownloadRefused(Exception):
    """What came for a book is no text of it; `reason` says why.

    `may_pass` tells what may be there another time (a body that broke off, a server with an error)
    from what is final (a web page in its place, nothing, no such file).
    """

    def __init__(self, reason: str, may_pass: bool = False) -> None:
        super().__init__(reason)
        self.reason = reason
        self.may_pass = may_pass


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

    Raises DownloadRefused with the reason of the first address that answered if none does; it may
    pass if the trouble of any address may. Raises PipelineError if no server can be reached, and at
    once if one wants no more requests or the quota of the main site is used up.
    """
    refusals: list[DownloadRefused] = []
    unreachable: dict[str, RequestFailed] = {}
    for url in urls:
        server = urlsplit(url).netloc
        try:
            # A server that was not there a moment ago is not worth the waits a second time.
            answer = ask(session, url, tries=1 if server in unreachable else None)
            return as_download(answer, url)
        except DownloadRefused as refusal:
            refusals.append(refusal)
        except RequestFailed as failure:
            if failure.kind != "unreachable":
                raise
            unreachable.setdefault(server, failure)
    if refusals:
        may_pass = bool(unreachable) or any(refusal.may_pass for refusal in refusals)
        raise DownloadRefused(refusals[0].reason, may_pass) from refusals[0]
    if unreachable:
        raise next(iter(unreachable.values()))
    raise DownloadRefused("the catalogue names no plain text")


def ask(
    session: PoliteSession,
    url: str,
    headers: Mapping[str, str] | None = None,
    tries: int | None = None,
) -> Answer:
    """The answer at the address of a book, after `tries` at most (the session's if not given).

    Raises DownloadRefused if no whole answer came that could be taken, and PipelineError if the
    server cannot be reached, wants no more requests, or the quota of the main site is used up.
    """
    try:
        return session.get(url, headers=headers, download=True, tries=tries)
    except RequestFailed as failure:
        if failure.kind in ("unreachable", "busy"):
            raise
        raise without_answer(failure) from failure


def without_answer(failure: RequestFailed) -> DownloadRefused:
    """The refusal of a book for which no whole answer came, or none that could be taken."""
    return DownloadRefused(f"the server {failure.reason}", may_pass=failure.kind != "refused")


def as_download(answer: Answer, url: str) -> Download:
    """The text in an answer. Raises DownloadRefused if there is none."""
    if answer.status != 200:
        raise DownloadRefused(f"the server answered {answer.said}", answer.status not in GONE)
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

"""One file or object of any kind as one document: text as it came, the text in EPUB, HTML and
Markdown."""

import io
import mimetypes
import re
from collections.abc import Iterable
from dataclasses import dataclass, field

from pipeline.books.decoding import decode
from pipeline.books.mentions import find_mentions
from pipeline.books.plain_text import Rejected, check_is_text
from pipeline.corpus.compression import decompressed, is_compressed, plain_name
from pipeline.errors import PipelineError

TEXT_SUFFIXES = (".txt", ".text")
MARKDOWN_SUFFIXES = (".md", ".markdown", ".mdown", ".mkd")
PAGE_SUFFIXES = (".html", ".htm", ".xhtml")
DOCUMENT_SUFFIXES = (*TEXT_SUFFIXES, *MARKDOWN_SUFFIXES, *PAGE_SUFFIXES, ".epub")
LARGEST_UNPACKED = 1024 * 1024 * 1024  # bytes of one compressed text: more is no book

_HTML = re.compile(
    rb"\s*(?:\xef\xbb\xbf)?\s*(?:<\?xml[^>]{0,200}>\s*)?<(?:!doctype\s+html|html)\b", re.I
)


class Refused(Exception):
    """The file holds no text that could be used; `reason` is a phrase that says why."""

    def __init__(self, reason: str) -> None:
        super().__init__(reason)
        self.reason = reason


@dataclass(frozen=True)
class Document:
    """A document as it is put into `1_raw`, with what its file says of itself."""

    data: bytes
    title: str | None = None
    authors: list[str] = field(default_factory=list)
    languages: list[str] = field(default_factory=list)
    rights: str | None = None


def stem(name: str) -> str:
    """A file name without its suffixes: "my.novel.txt.gz" is "my.novel"."""
    bare = plain_name(name)
    return re.sub(r"\.[A-Za-z0-9]{1,8}$", "", bare) or bare


def as_document(data: bytes, name: str) -> Document:
    """The document in a file called `name`. Text stays byte for byte; EPUB, HTML and Markdown
    become text.

    Raises Refused for what is no text: empty, a web page called .txt, a listing, another format.
    """
    if is_compressed(name):
        data, name = unpack(data, name), plain_name(name)
    lower = name.lower()
    if lower.endswith(".epub"):
        return from_epub(data, name)
    is_named_text = lower.endswith(TEXT_SUFFIXES)
    if lower.endswith(PAGE_SUFFIXES) or (not is_named_text and _HTML.match(data)):
        return from_html(data, name)
    if not data.strip():
        raise Refused("it is empty")
    kind = None if is_named_text else mimetypes.guess_type(name)[0]
    if kind and not kind.startswith("text/"):
        raise Refused(f"it is not text but {kind}, by its name")
    if lower.endswith(MARKDOWN_SUFFIXES):
        return from_markdown(data, name)
    check(decode(data).text)
    return Document(data)


def check(text: str) -> None:
    """Raise Refused for what is no text of words."""
    try:
        check_is_text(text)
    except Rejected as rejection:
        raise Refused(rejection.reason) from rejection


def unpack(data: bytes, name: str) -> bytes:
    """Decompress a text. Raises Refused for a damaged or absurdly large one."""
    try:
        with decompressed(io.BytesIO(data), name) as stream:
            unpacked = stream.read(LARGEST_UNPACKED + 1)
    except PipelineError as error:
        raise Refused("its compression is damaged") from error
    if len(unpacked) > LARGEST_UNPACKED:
        raise Refused(f"it unpacks to more than {LARGEST_UNPACKED // 2**20} MB")
    return unpacked


def from_html(data: bytes, name: str) -> Document:
    """The text of a web page, with its title and authors."""
    from pipeline.corpus.extract import Unreadable, read_page

    try:
        page = read_page(data, name)
    except Unreadable as error:
        raise Refused(error.reason) from error
    if not page.text.strip():
        raise Refused("it is a web page without text")
    check(page.text)
    return Document(as_file(page.text), title_of(page.titles), list(page.authors))


def from_markdown(data: bytes, name: str) -> Document:
    """The text of a Markdown page, with what its front matter says."""
    from pipeline.corpus.extract import Unreadable
    from pipeline.corpus.markdown import extract_markdown

    try:
        page = extract_markdown(decode(data).text, name)
    except Unreadable as error:
        raise Refused(error.reason) from error
    check(page.text)
    return Document(
        as_file(page.text), title_of(page.titles), list(page.authors),
        [page.language] if page.language else [], page.rights,
    )  # fmt: skip


def from_epub(data: bytes, name: str) -> Document:
    """The text of an electronic book, with its title, authors and rights."""
    from pipeline.corpus.epub import extract_epub
    from pipeline.corpus.extract import Unreadable

    try:
        book = extract_epub(data, name)
    except Unreadable as error:
        raise Refused(error.reason) from error
    if not book.text.strip():
        raise Refused("it is a book without text")
    return Document(
        as_file(book.text), book.title, list(book.authors),
        [book.language] if book.language else [], book.rights,
    )  # fmt: skip


def title_of(titles: Iterable[str]) -> str | None:
    """The first of the titles that is one of the text: "The Project Gutenberg eBook of ..." tells
    of a file."""
    return next((title for title in titles if not find_mentions(title)), None)


def as_file(text: str) -> bytes:
    """An extracted text as a text file: UTF-8, a line end at its end."""
    return f"{text.rstrip()}\n".encode("utf-8", "replace")

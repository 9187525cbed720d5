"""The text and the particulars of an EPUB: a zip of web pages with a list that says their order.

The file may be anybody's: nothing in it is unpacked to the disk, no entity is resolved, and how
much it may unpack to is bounded.
"""

import io
import lzma
import posixpath
import struct
import zipfile
import zlib
from collections.abc import Iterator
from typing import Any, BinaryIO
from urllib.parse import unquote, urlsplit

from pipeline.corpus.extract import Unreadable, html_text, parse_html
from pipeline.corpus.page_facts import Extracted

LARGEST_MEMBER = 64 * 1024 * 1024  # bytes, unpacked
LARGEST_BOOK = 512 * 1024 * 1024  # bytes of all that is read, unpacked
MOST_MEMBERS = 100_000
_LONGEST_PATH = 1000  # characters; they come into messages

_CONTAINER = "META-INF/container.xml"
_ENCRYPTION = "META-INF/encryption.xml"
_PROTECTION = ("META-INF/rights.xml", "META-INF/sinf.xml", "META-INF/license.lcpl")
# Fonts are scrambled in many free books; that keeps nobody from reading the text.
_FONTS_ONLY = {"http://www.idpf.org/2008/embedding", "http://ns.adobe.com/pdf/enc#RC"}
_PAGES = {"application/xhtml+xml", "text/html", "text/x-oeb1-document", "application/xml"}
_DAMAGE = (
    zipfile.BadZipFile, zlib.error, lzma.LZMAError, EOFError, OSError, ValueError, struct.error,
    OverflowError, NotImplementedError,
)  # fmt: skip
_SMALL = 300  # characters: what a contents page says beside its links


def extract_epub(data: bytes | BinaryIO, name: str) -> Extracted:
    """The text of an EPUB in the order of its spine, as `extract_html` lays out pages.

    `data` is the file's bytes or an open file that can be sought. The table of contents is left
    out; pages outside the main order (`linear="no"`: notes, answers) come last. `name` is for
    messages.

    Raises Unreadable if it is no EPUB, is damaged, protected by DRM or a password, unpacks to
    more than 64 MB in one part or 512 MB in all, or holds no text.
    """
    file = io.BytesIO(data) if isinstance(data, bytes) else data
    try:
        archive = zipfile.ZipFile(file)
    except _DAMAGE as error:
        raise Unreadable(name, "it is no EPUB (no zip archive)") from error
    with archive:
        book = _Book(archive, name)
        book.refuse_protection()
        package_path = book.package_path()
        package = book.xml(package_path)
        pages = _pages(package, package_path, name)
        texts, missing = [], []
        for path, is_contents in pages:
            page = book.read(path)
            if page is None:
                missing.append(path)
                continue
            text = _chapter(page, is_contents, f"{name}, {path}")
            if text:
                texts.append(text)
    if not texts:
        lost = f": {len(missing)} of its {len(pages)} parts are missing" if missing else ""
        raise Unreadable(name, f"it holds no text{lost}")
    metadata = next(_all(package, "metadata"), package)
    title = _first(metadata, "title")
    return Extracted(
        "\n\n".join(texts),
        (title,) if title else (),
        _authors(metadata),
        _first(metadata, "language"),
        _first(metadata, "rights"),
        tuple(missing),
    )


class _Book:
    """The members of the zip, read with care."""

    def __init__(self, archive: zipfile.ZipFile, name: str) -> None:
        self._archive = archive
        self._name = name
        self._left = LARGEST_BOOK
        members = archive.infolist()
        if len(members) > MOST_MEMBERS:
            raise Unreadable(name, f"it has more than {MOST_MEMBERS:,} parts")
        # What is not found by its own name may be spelt otherwise: Windows does not mind.
        self._members = {member.filename.lower(): member for member in reversed(members)}
        self._members |= {member.filename: member for member in members}

    def read(self, path: str) -> bytes | None:
        """A member's bytes; None if there is none of that name."""
        member = self._members.get(path) or self._members.get(path.lower())
        if member is None:
            return None
        if member.flag_bits & 1:
            raise Unreadable(self._name, "it is protected by a password")
        allowed = min(LARGEST_MEMBER, self._left)
        try:
            with self._archive.open(member) as file:
                data = file.read(allowed + 1)  # what the headers say of the size may be a lie
        except (*_DAMAGE, RuntimeError) as error:
            raise Unreadable(self._name, f"it is damaged ({path})") from error
        if len(data) > allowed:
            raise Unreadable(self._name, f"it unpacks to too much ({path})")
        self._left -= len(data)
        return data

    def xml(self, path: str) -> Any:
        from lxml import etree

        data = self.read(path)
        if data is None:
            raise Unreadable(self._name, f"it is no EPUB (no {path})")
        # Entities stay as they are, so that neither files nor a billion laughs come in.
        parser = etree.XMLParser(
            resolve_entities=False, load_dtd=False, no_network=True, recover=True, huge_tree=False
        )
        try:
            tree = etree.fromstring(data, parser)
        except (etree.XMLSyntaxError, ValueError) as error:
            raise Unreadable(self._name, f"it is damaged ({path} is no XML)") from error
        if tree is None:
            raise Unreadable(self._name, f"it is damaged ({path} is no XML)")
        return tree

    def refuse_protection(self) -> None:
        protected = any(path in self._members for path in _PROTECTION)
        if _ENCRYPTION in self._members:
            methods = _all(self.xml(_ENCRYPTION), "EncryptionMethod")
            protected |= any(method.get("Algorithm") not in _FONTS_ONLY for method in methods)
        if protected:
            raise Unreadable(self._name, "it is protected by DRM")

    def package_path(self) -> str:
        for root in _all(self.xml(_CONTAINER), "rootfile"):
            path = _inside("", root.get("full-path", ""))
            if path and len(path) < _LONGEST_PATH:
                return path
        raise Unreadable(self._name, f"it is no EPUB ({_CONTAINER} names no package)")


def _pages(package: Any, package_path: str, name: str) -> list[tuple[str, bool]]:
    """Paths of the pages in reading order, each once, and whether it is a table of contents."""
    folder = posixpath.dirname(package_path)
    items = {item.get("id"): item for item in _all(package, "item")}
    contents = {
        _inside(folder, reference.get("href", ""))
        for reference in _all(package, "reference")
        if reference.get("type", "").lower() == "toc"
    }
    main: dict[str, bool] = {}
    aside: dict[str, bool] = {}
    for entry in _all(package, "itemref"):
        item = items.get(entry.get("idref"))
        if item is None or item.get("media-type", "").strip().lower() not in _PAGES:
            continue
        path = _inside(folder, item.get("href", ""))
        if path and len(path) < _LONGEST_PATH:
            is_contents = path in contents or "nav" in item.get("properties", "").split()
            (aside if entry.get("linear") == "no" else main).setdefault(path, is_contents)
    pages = [*main.items(), *((path, flag) for path, flag in aside.items() if path not in main)]
    if not pages:
        raise Unreadable(name, "it lists no pages to read (no spine)")
    return pages


def _inside(folder: str, address: str) -> str | None:
    """The path within the zip; None for what lies outside or on the network."""
    try:
        parts = urlsplit(address.strip())
    except ValueError:
        return None
    path = posixpath.normpath(posixpath.join(folder, unquote(parts.path)))
    outside = parts.scheme or parts.netloc or not parts.path or path.startswith(("/", "../"))
    return None if outside or path in (".", "..") else path


def _chapter(page: bytes, is_contents: bool, name: str) -> str:
    if is_contents and _is_mostly_links(page, name):
        return ""
    return html_text(page, name)


def _is_mostly_links(page: bytes, name: str) -> bool:
    """Some books keep the contents and the text in one file: that is read like any other."""
    tree = parse_html(page, name)
    if tree is None:
        return True
    for kind in ("head", "script", "style"):
        for element in list(tree.iter(kind)):
            element.drop_tree()
    whole = len("".join("".join(tree.itertext()).split()))
    links = sum(len("".join("".join(link.itertext()).split())) for link in tree.iter("a"))
    return whole - links <= max(_SMALL, links)


# --- what the package says of the book ------------------------------------------------------------


def _all(tree: Any, tag: str) -> Iterator[Any]:
    """Elements by their local name: namespaces are often left out or wrong."""
    yield from tree.iter("{*}" + tag)


def _text(element: Any) -> str:
    return " ".join("".join(element.itertext()).split())


def _first(metadata: Any, tag: str) -> str | None:
    return next(filter(None, map(_text, _all(metadata, tag))), None)


def _authors(metadata: Any) -> tuple[str, ...]:
    """The creators; where some are marked as authors, these alone (others translate, edit, ...)."""
    roles = {
        meta.get("refines", "").removeprefix("#"): _text(meta)
        for meta in _all(metadata, "meta")
        if meta.get("property") == "role"
    }
    creators: dict[str, str] = {}
    for creator in _all(metadata, "creator"):
        own = next((v for key, v in creator.attrib.items() if key.endswith("}role")), None)
        role = own or creator.get("role") or roles.get(creator.get("id", "-"), "")
        if _text(creator):
            creators.setdefault(_text(creator), role or "aut")
    authors = [name for name, role in creators.items() if role == "aut"]
    return tuple(authors or creators)

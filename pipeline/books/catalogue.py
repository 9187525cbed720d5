"""Books of the catalogue of Project Gutenberg, out of its entries as Gutendex gives them."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any
from urllib.parse import urlsplit

_CHARSET_ORDER = ("utf-8", "", "us-ascii", "iso-8859-1")
_ZIP_RANK = len(_CHARSET_ORDER) + 1


@dataclass(frozen=True)
class Book:
    """A book of the catalogue with the addresses of its plain texts, the best one first.

    `copyright` is False for the public domain in the USA, None where the catalogue is silent.
    """

    id: int
    title: str
    authors: list[str]
    languages: list[str]
    subjects: list[str]
    copyright: bool | None
    text_urls: tuple[str, ...]

    @property
    def text_url(self) -> str:
        """The address of the best plain text."""
        return self.text_urls[0]


def as_book(entry: Any) -> Book | None:
    """An entry of the catalogue; None if it is none, or has no plain text."""
    id = entry_id(entry)
    if id is None:
        return None
    urls = text_urls(entry.get("formats"))
    if not urls:
        return None
    authors = [author for author in _list(entry, "authors") if isinstance(author, dict)]
    rights = entry.get("copyright")
    return Book(
        id,
        str(entry.get("title") or ""),
        [str(author["name"]) for author in authors if author.get("name")],
        [str(language) for language in _list(entry, "languages")],
        [str(subject) for subject in _list(entry, "subjects")],
        rights if isinstance(rights, bool) else None,
        urls,
    )


def entry_id(entry: Any) -> int | None:
    """The number of a book; None if the entry has none."""
    id = entry.get("id") if isinstance(entry, dict) else None
    return id if type(id) is int and id > 0 else None


def _list(entry: Mapping[str, Any], key: str) -> list[Any]:
    value = entry.get(key)
    return value if isinstance(value, list) else []


def text_urls(formats: Any) -> tuple[str, ...]:
    """The addresses of plain texts among a book's formats (a mapping of media types to addresses),
    best first: UTF-8 before the rest, zip archives last; never the readme of an audio book, or what
    is no address."""
    if not isinstance(formats, dict):
        return ()
    ranked: list[tuple[int, str]] = []
    for kind, url in formats.items():
        mime, _, parameter = str(kind).lower().partition(";")
        address = str(url).lower()
        if mime.strip() != "text/plain" or not address.startswith(("http://", "https://")):
            continue
        if address.endswith("readme.txt") or not _is_sound(str(url)):
            continue
        charset = parameter.partition("charset=")[2].strip()
        if address.endswith((".utf-8", ".utf8", "-0.txt")):
            charset = "utf-8"
        rank = _CHARSET_ORDER.index(charset) if charset in _CHARSET_ORDER else len(_CHARSET_ORDER)
        ranked.append((_ZIP_RANK if address.endswith(".zip") else rank, str(url)))
    return tuple(dict.fromkeys(url for _, url in sorted(ranked, key=lambda each: each[0])))


def _is_sound(url: str) -> bool:
    """Whether an address can be taken apart and names a host. Anything may stand in a catalogue."""
    if not url.isprintable() or any(map(str.isspace, url)):
        return False
    try:
        parts = urlsplit(url)
        return bool(parts.hostname) and parts.port != 0  # a port that is no number raises
    except ValueError:
        return False

"""What a document says of itself: title, authors, language, rights. Anybody may have written it, so
each is one line of a bounded length."""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

LONGEST_FACT = 300  # characters
_MOST_AUTHORS = 20
_MOST_ELEMENTS = 100  # that are looked at for each fact
# The first of these that there is: a site puts its own name behind the title of its <title>.
_TITLES = ("citation_title", "dc.title", "dcterms.title", "og:title")
_AUTHORS = ("citation_author", "author", "dc.creator", "dcterms.creator", "article:author")
_NO_TITLES = {"untitled", "untitled document", "document", "new document", "index", "home"}


@dataclass(frozen=True)
class Extracted:
    """A document's text and what it says of itself, None or empty where it says nothing.

    `titles` are all that may be its title, the likeliest first. `missing` are the names of chapters
    that a book lists and does not have.
    """

    text: str
    titles: tuple[str, ...] = ()
    authors: tuple[str, ...] = ()
    language: str | None = None
    rights: str | None = None
    missing: tuple[str, ...] = ()

    @property
    def title(self) -> str | None:
        """The likeliest of the titles."""
        return self.titles[0] if self.titles else None


def one_line(value: object) -> str | None:
    """A fact on one line, without control characters; None if it is no text, empty or too long."""
    if not isinstance(value, str) or len(value) > 10 * LONGEST_FACT:
        return None
    line = "".join(c for c in " ".join(value.split()) if c.isprintable())
    return line if 0 < len(line) <= LONGEST_FACT else None


def titles_of(tree: Any) -> tuple[str, ...]:
    """What may be the title of a web page: of its metadata, its only heading of the first level,
    its <title>."""
    found = [one_line(content) for name in _TITLES for content in _metadata(tree, name)]
    headings = _texts(tree, "h1")
    found += headings if len(headings) == 1 else []
    found += _texts(tree, "title")[:1]
    titles = (title for title in found if title and title.lower() not in _NO_TITLES)
    return tuple(dict.fromkeys(titles))


def authors_of(tree: Any) -> tuple[str, ...]:
    """The authors whom the metadata of a web page names, but not by an address."""
    for name in _AUTHORS:
        lines = map(one_line, _metadata(tree, name))
        authors = [line for line in lines if line and "://" not in line]
        if authors:
            return tuple(dict.fromkeys(authors))[:_MOST_AUTHORS]
    return ()


def _metadata(tree: Any, name: str) -> Iterator[str]:
    for element in tree.iter("meta"):
        if (element.get("name") or element.get("property") or "").strip().lower() == name:
            yield element.get("content") or ""


def _texts(tree: Any, tag: str) -> list[str]:
    """What stands in the first elements of a kind, where that is one line of some length."""
    elements = (element for element, _ in zip(tree.iter(tag), range(_MOST_ELEMENTS), strict=False))
    return [line for element in elements if (line := one_line("".join(element.itertext())))]

"""A phrase, or a sequence of token ids, in the documents: how often, and where."""

import re
from array import array
from bisect import bisect_right
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from itertools import accumulate
from typing import Any

from pipeline.corpus.statistics import Part
from pipeline.errors import UsageError
from pipeline.inspection.lengths import Encoded, TextTokenizer

CONTEXT = 60  # characters on each side
_ALIKE = ("'’‘‛", '"“”„«»', "-‐‑–—")


@dataclass(frozen=True)
class Hit:
    """One place where it was found. `offset` counts characters in the chunk, `place` in the
    document; `before` and `after` are what stands around it."""

    document_id: str
    title: str | None
    split: str
    chunk: int
    offset: int
    place: int
    before: str
    found: str
    after: str

    def as_dict(self) -> dict[str, Any]:
        """Plain values."""
        return asdict(self)


class Search:
    """Counts what is found and keeps the first hits. `sought` is what a person typed."""

    def __init__(self, sought: str, shown: int) -> None:
        self.sought = sought
        self.hits = 0
        self.documents: set[str] = set()
        self.first: list[Hit] = []
        self._shown = shown

    def look(self, part: Part, encoded: Encoded | None) -> None:
        """Look through a document; `encoded` are its tokens if there is a tokenizer."""
        text = ""
        ends: list[int] = []
        for start, end in self._places(part, encoded):
            if not ends:
                text = part.text
                ends = list(accumulate(part.sizes))
                self.documents.add(part.document_id)
            self.hits += 1
            if len(self.first) < self._shown:
                self.first.append(_hit(part, text, ends, start, end))

    def as_dict(self) -> dict[str, Any]:
        """Plain values."""
        return {
            "sought": self.sought, "hits": self.hits, "documents": len(self.documents),
            "first": [hit.as_dict() for hit in self.first],
        }  # fmt: skip

    def _places(self, part: Part, encoded: Encoded | None) -> Iterator[tuple[int, int]]:
        """Where it begins and ends, in characters of the document's text."""
        raise NotImplementedError


class PhraseSearch(Search):
    """A phrase, whatever white space is between its words and wherever chunks end.

    Capitals do not matter, nor whether quotes are curly and how long a dash is.
    Raises UsageError for a phrase of nothing.
    """

    def __init__(self, phrase: str, shown: int) -> None:
        super().__init__(phrase, shown)
        words = phrase.split()
        if not words:
            raise UsageError("--search is given nothing to look for.", 'Such as: --search "vault"')
        self._pattern = re.compile(r"\s+".join(map(_loosely, words)), re.IGNORECASE)

    def _places(self, part: Part, encoded: Encoded | None) -> Iterator[tuple[int, int]]:
        return (match.span() for match in self._pattern.finditer(part.text))


class TokenSearch(Search):
    """A sequence of token ids, such as "12 34 56".

    Raises UsageError for what are no ids, or none of this tokenizer.
    """

    def __init__(self, sought: str, shown: int, tokenizer: TextTokenizer) -> None:
        super().__init__(sought, shown)
        words = sought.replace(",", " ").split()
        if not words or not all(re.fullmatch("[0-9]{1,9}", word) for word in words):
            raise UsageError(
                f"--search-ids {sought!r} is no list of token ids.", 'Such as: --search-ids "12 34"'
            )
        unknown = next((word for word in words if int(word) >= len(tokenizer)), None)
        if unknown is not None:
            raise UsageError(
                f"--search-ids names {unknown}, but the tokenizer ends at {len(tokenizer) - 1}."
            )
        self._sought = array("I", map(int, words)).tobytes()
        self._length = len(words)

    def _places(self, part: Part, encoded: Encoded | None) -> Iterator[tuple[int, int]]:
        if encoded is None:
            return
        packed = array("I", encoded.ids).tobytes()
        width = array("I").itemsize
        at = packed.find(self._sought)
        while at >= 0:
            if at % width == 0:
                first = at // width
                yield encoded.places[first][0], encoded.places[first + self._length - 1][1]
            at = packed.find(self._sought, at + 1)


def _loosely(word: str) -> str:
    """A pattern for a word in which quotes and dashes may be of any make."""
    parts = []
    for character in word:
        alike = next((group for group in _ALIKE if character in group), None)
        parts.append(f"[{re.escape(alike)}]" if alike else re.escape(character))
    return "".join(parts).replace("[\\-‐‑–—][\\-‐‑–—]", "(?:--|[—–])")


def _hit(part: Part, text: str, ends: list[int], start: int, end: int) -> Hit:
    row = min(bisect_right(ends, start), len(ends) - 1)
    inside = start - (ends[row] - part.sizes[row])
    repeated = len(part.texts[row]) - part.sizes[row]
    return Hit(
        part.document_id, part.about.get("title"), part.split, part.chunks[row],
        repeated + inside, part.starts[row] + inside,
        text[max(0, start - CONTEXT) : start], text[start:end], text[end : end + CONTEXT],
    )  # fmt: skip

"""Which texts are the same text, which stand in another, and which belong to one work.

Texts are compared by their sketches: `share` is how much of one text stands in the other too.

- exact: equal but for case, punctuation, spaces and accents.
- near: each is covered by the other: editions of one text.
- contained: one is covered by the other, which has more: an excerpt, a tale of a collection, an
  abridgement.
- related: text in common, but neither is covered: collections that overlap. Both are kept.

COVERED is 0.7. Editions of one text, on real books, share 95 % and more, an abridged Alice 82 %,
and an edition with one word in twenty changed about 75 %; a text of which 60 % are known still
holds much that is new. RELATED is 0.1: books that have nothing to do with each other share less
than 0.5 %, and a tenth of a book learned by heart would already flatter a validation split.
Of a short text beside a long one only a few hashes tell, so what is said must be sure as well: a
text is covered only if at least half of it surely is (the lower bound of Wilson's 95 % interval),
and related by no fewer than three hashes.
"""

import re
from collections import defaultdict
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from math import sqrt
from typing import Literal

from pipeline.books.sketches import Sketch, candidate_pairs, fold_letters, shared_hashes

COVERED = 0.7
RELATED = 0.1

_LEAST_SHARED = 3  # hashes
_SURELY_COVERED = 0.5

Relation = Literal["exact", "near", "contained", "related"]


@dataclass(frozen=True)
class Entry:
    """A text to compare. What is `fixed` is never dropped."""

    id: str
    sketch: Sketch
    title: str | None = None
    authors: tuple[str, ...] = ()
    fixed: bool = False


@dataclass(frozen=True)
class Pair:
    """Two texts with text in common; a row of the table.

    - `dropped`: `other` if it is left out for the sake of `kept`, None if both stay.
    - `share`: how much of `other` stands in `kept` (0 to 1), `share_of_kept` the other way round.
    - `kept_letters`, `other_letters`: the lengths in letters and digits.
    """

    dropped: str | None
    kept: str
    other: str
    relation: Relation
    share: float
    share_of_kept: float
    kept_letters: int
    other_letters: int


@dataclass(frozen=True)
class Duplicates:
    """What was found.

    - `dropped`: for the id of each text to leave out, the pair that says why.
    - `pairs`: these, and the pairs of texts that both stay.
    - `works`: for every id, that of the text that stands for its work.
    """

    dropped: dict[str, Pair]
    pairs: list[Pair]
    works: dict[str, str]


@dataclass(frozen=True)
class _Match:
    """Two texts by their ranks (the better one first), and how much of each is in the other."""

    better: int
    worse: int
    better_share: float
    worse_share: float
    better_covered: bool
    worse_covered: bool

    @property
    def relation(self) -> Relation:
        if self.better_covered and self.worse_covered:
            return "near"
        return "contained" if self.better_covered or self.worse_covered else "related"


def find_duplicates(
    entries: Sequence[Entry], *, covered: float = COVERED, related: float = RELATED
) -> Duplicates:
    """Finds what to leave out, and what belongs together, whatever the order of `entries`.

    Of two texts the fixed one stays, then the larger, then the one whose id comes first. A text is
    dropped only for one that stays and covers it by itself: what is covered only by several
    together stays. A work is all that is related, and what has the same title and author.
    """
    ranked = sorted(entries, key=lambda entry: (not entry.fixed, -_size(entry.sketch), entry.id))
    first_of = _first_equals(ranked)
    firsts = [rank for rank, first in enumerate(first_of) if rank == first]
    matches = [
        match
        for match in _matches(ranked, firsts, covered, related)
        if max(match.better_share, match.worse_share) >= related
    ]
    kept_for = _resolve(ranked, matches)
    pairs = _table(ranked, matches, first_of, kept_for)
    links = [(match.better, match.worse) for match in matches]
    links += list(enumerate(first_of))
    links += _same_titles(ranked)
    works = {
        ranked[rank].id: ranked[root].id for rank, root in enumerate(_united(len(ranked), links))
    }
    dropped = {pair.dropped: pair for pair in pairs if pair.dropped is not None}
    return Duplicates(dropped, pairs, works)


def _size(sketch: Sketch) -> float:
    """The letters of a text, those not counted that only repeat what it has said before.

    Accented ones count twice: of two editions, the one in seven bits is not to stay.
    """
    distinct = sketch.count(sketch.level) << sketch.level
    letters = min(sketch.letters, 1.25 * distinct) if distinct else sketch.letters
    return letters + sketch.accented


def _first_equals(ranked: Sequence[Entry]) -> list[int]:
    """For each text the rank of the first that equals it. Texts without a letter equal none."""
    first: dict[bytes, int] = {}
    return [
        first.setdefault(entry.sketch.digest, rank) if entry.sketch.letters else rank
        for rank, entry in enumerate(ranked)
    ]


def _resolve(ranked: Sequence[Entry], matches: Iterable[_Match]) -> dict[int, _Match]:
    """For each text to drop the match for whose sake it goes; the better ones decide first."""
    reasons = defaultdict(list)
    for match in matches:
        if match.worse_covered and not ranked[match.worse].fixed:
            reasons[match.worse].append(match)
    kept_for: dict[int, _Match] = {}
    for rank in sorted(reasons):
        standing = [match for match in reasons[rank] if match.better not in kept_for]
        if standing:
            kept_for[rank] = max(standing, key=lambda match: (match.worse_share, -match.better))
    return kept_for


def _table(
    ranked: Sequence[Entry],
    matches: Iterable[_Match],
    first_of: Sequence[int],
    kept_for: dict[int, _Match],
) -> list[Pair]:
    """The rows: for each text that is dropped why, and for those that stay what they share."""
    rows: list[tuple[int, int, Pair]] = []

    def add(better: int, worse: int, goes: bool, match: _Match | None) -> None:
        kept, other = ranked[better], ranked[worse]
        pair = Pair(
            other.id if goes else None,
            kept.id,
            other.id,
            match.relation if match else "exact",
            round(match.worse_share, 4) if match else 1.0,
            round(match.better_share, 4) if match else 1.0,
            kept.sketch.letters,
            other.sketch.letters,
        )
        rows.append((better, worse, pair))

    for match in matches:
        goes = kept_for.get(match.worse) is match
        if goes or (match.worse not in kept_for and match.better not in kept_for):
            add(match.better, match.worse, goes, match)
    for rank, first in enumerate(first_of):
        if rank != first:
            reason = kept_for.get(first)
            add(reason.better if reason else first, rank, not ranked[rank].fixed, reason)
    return [pair for _, _, pair in sorted(rows, key=lambda row: row[:2])]


# --- pairs ----------------------------------------------------------------------------------------


def _matches(
    ranked: Sequence[Entry], firsts: Sequence[int], covered: float, related: float
) -> Iterator[_Match]:
    sketches = [ranked[rank].sketch for rank in firsts]
    for one, other in candidate_pairs(sketches, related / 2, _LEAST_SHARED):
        shared, ones, others = shared_hashes(sketches[one], sketches[other])
        if shared < _LEAST_SHARED:
            continue
        yield _Match(
            firsts[one],
            firsts[other],
            shared / ones,
            shared / others,
            _is_covered(shared, ones, covered),
            _is_covered(shared, others, covered),
        )


def _is_covered(shared: int, hashes: int, covered: float) -> bool:
    return shared >= covered * hashes and _surely(shared, hashes) >= _SURELY_COVERED


def _surely(shared: int, hashes: int) -> float:
    """The lower bound of Wilson's 95 % interval."""
    z, share = 1.96, shared / hashes
    spread = z * sqrt(share * (1 - share) / hashes + z * z / (4 * hashes * hashes))
    return (share + z * z / (2 * hashes) - spread) / (1 + z * z / hashes)


# --- works ----------------------------------------------------------------------------------------

_NUMBER = r"(?:\d+|[ivxlc]+|one|two|three|four|five|six|first|second|third|fourth|fifth|sixth)"
_VOLUME = re.compile(
    rf"[\s,.:;(\[—–-]*\b(?:(?:the\s+)?{_NUMBER}\s+(?:volume|part)|"
    rf"(?:volumes?|vols?|v|parts?|pt|books?|tomes?|bande?|bd|teil)\b\.?\s*{_NUMBER})\b.*",
    re.I | re.S,
)
_SUBTITLE = re.compile(r"\s*(?:[:;\n]|,\s+or[,\s]|\s--?\s|[—–(\[]).*", re.I | re.S)
_ARTICLE = re.compile(
    r"^(?:the|an?|la|les?|l['’]|der|die|das|el|los|las|il|lo|gli|i)\b['’]?\s*", re.I
)
_NOBODY = {"", "anonymous", "anon", "various", "variousauthors", "unknown", "unknownauthor"}


def _same_titles(ranked: Sequence[Entry]) -> list[tuple[int, int]]:
    """Links between texts of the same title and author, where both are known."""
    first: dict[tuple[str, str], int] = {}
    return [
        (first.setdefault((title, author), rank), rank)
        for rank, entry in enumerate(ranked)
        if (title := title_key(entry.title))
        for author in map(author_key, entry.authors)
        if author
    ]


def title_key(title: str | None) -> str:
    """A title without its article, subtitle and number of volume, as letters; "" for none."""
    title = (title or "").strip()
    main = _SUBTITLE.sub("", _VOLUME.sub("", title)) or title
    return fold_letters(_ARTICLE.sub("", main)) or fold_letters(title)


def author_key(author: str) -> str:
    """Surname and initial, from "Mary W. Shelley" and "Shelley, Mary W." alike; "" for nobody."""
    author = re.sub(r"\(.*?\)|[\d?-]{4,}", " ", author)
    if fold_letters(author) in map(fold_letters, _NOBODY):
        return ""
    last, comma, given = author.partition(",")
    if not comma:
        given, _, last = author.strip().rpartition(" ")
    surname = fold_letters(last.split()[-1] if last.split() else given)
    return f"{surname}, {fold_letters(given)[:1]}" if surname else ""


def _united(count: int, links: Iterable[tuple[int, int]]) -> list[int]:
    """For each of `count` the least one that it is linked to, by whatever way."""
    parents = list(range(count))

    def root(one: int) -> int:
        while parents[one] != one:
            parents[one] = parents[parents[one]]
            one = parents[one]
        return one

    for one, other in links:
        low, high = sorted((root(one), root(other)))
        parents[high] = low
    return [root(one) for one in range(count)]

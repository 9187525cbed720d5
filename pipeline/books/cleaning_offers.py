"""Lists of books that a bookseller offers, at the back of a book or before its title."""

import re
from collections.abc import Iterator
from itertools import islice

from pipeline.books.book_titles import END, RULE_ABOVE, are_titles, is_heading, with_rule_above
from pipeline.books.searching import Span, paragraphs, stripped_lines

# One of them stands in whatever the patterns below match, near the end of the text.
_SELLERS = (
    *("ooks are sold", "Dunlap", "DUNLAP", "ealer for", "EALER FOR", "o Follow!", "ooksellers"),
    *("OOKSELLERS", "2mo", "2 mo", "2MO", "auchnitz", "AUCHNITZ"),
)
_NEAR_END = 8000  # characters in which one of them stands, if there are offers at all
# A line with which a bookseller begins, right below the heading of his list.
_OFFER = re.compile(
    r"[\s_*(=]*(?:may\s+be\s+had\s+(?:wherever\s+books\s+are\s+sold|(?:of|from|at)\s+(?:all|any|your)\s+"
    r"(?:book\s?-?(?:sell|deal|sto|shop)|dealer|newsdealer|librar))"
    r"|ask\s+(?:your\s+\w+\s+)?for\b[^\n]{0,50}\b(?:list|catalog)"
    r"|(?:for\s+sale|sold)\s+(?:by|at)\s+all\s+(?:book\s?-?(?:sell|deal|sto|shop)|newsdealer)"
    r"|(?P<whole>there['’]?s\s+more\s+to\s+follow\b)"
    r"|(?:collection\s+of\s+(?:british|english)(?:\s+and\s+american)?\s+authors\b[\s\W]*)?"
    r"tauchnitz\s+edition\b"
    r"|(?P<format>(?:(?:large\s+|small\s+|crown\s+)?(?:8|12|16)\s?(?:vo|mos?)\b|cloth\b|price\b|each\b)"
    r"[^\n]*(?:\bcloth\b|illustrat|\bbound\b|\bprice\b|\bnet\b|\bcents\b|\$)))",
    re.I,
)
# What goes on with an offer: a price in figures, a publisher's name, where to write to.
_MORE = re.compile(
    r"[$£]\s?\d|\b\d+\s?cents\b|\b(?:8|12|16)\s?(?:vo|mos?)\b|\bpost-?\s?paid\b|grosset\s*(?:&|and)\s*dunlap"
    r"|\ba\.\s*l\.\s*burt\b|wherever\s+books\s+are\s+sold|(?:reverse|other)\s+side\s+of\s+the\s+wrapper"
    r"|\bask\s+(?:your\s+\w+\s+)?for\b[^\n]{0,50}\b(?:list|catalog)|\b(?:complete|free)\s+catalog"
    r"|\bcomplete\s+(?:free\s+)?list\b|tauchnitz|\b\d{1,2}\s?v\.(?:\s|$)"
    r"|^[^\n]{3,60},[ _]*publishers?[ _]*,[^\n]{3,40}$",
    re.I | re.M,
)
_SERIES = re.compile(
    r"\b(?:series|novels|stories|tales|books|romances|library|works)\b"
    r"(?!\s+(?:consulted|cited|quoted|referred|on|about|relat))",
    re.I,
)
_FINIS = re.compile(r"[\W_]*(?:the\s+end|end|finis|fin|ende)[\W_]*", re.I)
_WIDE = 4  # line ends that part what belongs to the book from what was bound with it
_MOST_HEADINGS = 3  # paragraphs above an offer: the author, the title of the series, the price
_LONGEST_BLURB = 900  # characters of a paragraph that praises a book
_MOST_BLURBS = 2  # paragraphs below a title
_LONGEST_OFFER = 12_000


def offers(text: str, begin: int) -> list[Span]:
    """Lists of books at the back that a bookseller offers, from the heading below the end of the
    work, a rule or a wide gap as far as titles and what is said of them go."""
    nearest = max(begin, len(text) - _NEAR_END)
    if not any(text.find(seller, nearest) >= 0 for seller in _SELLERS):
        return []
    near = list(paragraphs(text, text.find("\n", begin)))
    spans: list[Span] = []
    for number, (start, stop) in enumerate(near):
        if spans and start < spans[-1][1]:
            continue
        lines = text[start:stop].split("\n", 2)
        offer = _OFFER.match(text, start, stop)
        if offer is None and len(lines) > 1 and is_heading(lines[0].strip()):
            offer = _OFFER.match(text, start + len(lines[0]) + 1, stop)
        if offer is None:
            continue
        first = _first_heading(text, near, number, spans[-1][1] if spans else 0)
        if first is None or not _is_offered(text, near[first][0], offer):
            continue
        end = _end_of_offer(text, near[number:])
        spans.append((with_rule_above(text, near[first][0]), end))
    return spans


def _is_offered(text: str, start: int, offer: re.Match[str]) -> bool:
    """Whether there is a heading, or the line is one; below most headings a mere format, such as
    "12mo, cloth", may be an author's list of what he read."""
    heading = text[start : offer.start()]
    if offer["format"]:
        return bool(_SERIES.search(heading))
    is_heading = offer["whole"] or "tauchnitz" in offer.group().lower()
    return bool(is_heading or heading.strip())


def _first_heading(text: str, near: list[Span], number: int, done: int) -> int | None:
    """The number of the uppermost of the short paragraphs above an offer, if above that the work
    ends or another offer (at `done`) did; None if running text does."""
    for first in range(number, max(0, number - _MOST_HEADINGS - 1), -1):
        start, stop = near[first]
        lines = stripped_lines(text, start, stop)
        if first < number and not (len(lines) <= _MOST_HEADINGS and all(map(is_heading, lines))):
            return None
        if END.match(text, start, stop):
            return None
        above = near[first - 1]
        if (
            above[1] <= done
            or text.count("\n", above[1], start) >= _WIDE
            or _FINIS.fullmatch(text, *above)
            or RULE_ABOVE.fullmatch(text, *above)
        ):
            return first
    return None


def _end_of_offer(text: str, near: list[Span]) -> int:
    """Where a list ends that begins with the first of the paragraphs: at a rule, a wide gap or the
    end of the text if there are only titles and blurbs up to there, else with the last paragraph
    in which the bookseller speaks."""
    begin, certain = near[0]
    end = certain
    blurbs = 0
    for start, stop in islice(near, 1, None):
        if text.count("\n", end, start) > _WIDE or RULE_ABOVE.fullmatch(text, start, stop):
            return end
        if END.match(text, start, stop) or stop - begin > _LONGEST_OFFER:
            return certain
        if _MORE.search(text, start, stop):
            certain = end = stop
            blurbs = 0
            continue
        blurbs = 0 if are_titles(stripped_lines(text, start, stop)) else blurbs + 1
        if blurbs > _MOST_BLURBS or (blurbs and stop - start > _LONGEST_BLURB):
            return certain
        end = stop
    return end


# --- a page before the title ----------------------------------------------------------------------

_EVERYMANS = re.compile(
    r"[ _]*the\s+publishers\s+of\s+[^\n]{3,60}?\s+will\s+be\s+pleased\s+to\s+send\b", re.I
)
_BINDINGS = re.compile(r"styles\s+of\s+binding|pigskin", re.I)
_OPENING_PAGES = 5000  # characters
_MOST_BELOW = 14  # paragraphs of such a page


def everymans(text: str, end: int) -> Iterator[Span]:
    """The page before the title of Everyman's Library, as far as the list of its bindings."""
    at = text.find("PLEASED TO SEND", 0, min(end, _OPENING_PAGES))
    if at < 0:
        return
    page = list(islice(paragraphs(text, text.rfind("\n\n", 0, at) + 1), _MOST_BELOW))
    start, stop = page[0]
    if not _EVERYMANS.match(text, start, stop):
        return
    for first, last in page[1:]:
        lines = stripped_lines(text, first, last)
        if END.match(text, first, last) and not lines[0].startswith("["):
            break
        if not all(line.isupper() or line.startswith("[") for line in lines):
            break
        if _BINDINGS.search(text, first, last):
            stop = last
    yield start, stop

"""The cleaning rule for publishers' advertisements: lists of books at the front or the back."""

import re
from collections.abc import Iterator
from itertools import pairwise

from pipeline.books.book_titles import END, PRICE, are_titles, is_heading, with_rule_above
from pipeline.books.cleaning_offers import everymans, offers
from pipeline.books.searching import Span, cut, outermost, paragraphs, stripped_lines

_BY_THE_AUTHOR = (
    r"(?:(?:other|more|some|new|recent)\s+)?(?:books|works|novels|stories|tales|romances|volumes)\s+"
    r"(?:written\s+|published\s+)?by\s+(?:the\s+same\s+(?:author|writer)s?|[^\n]{3,40})"
    r"|(?:(?:other\s+)?(?:books|works|novels)\s+)?by\s+the\s+same\s+(?:author|writer)s?"
    r"(?:\s+and\s+[^\n]{3,40})?"
    r"|also\s+by\s+(?:the\s+same\s+author|[^\n]{3,40})"
    r"|uniform\s+(?:in\s+\w+\s+)?with\s+(?:this|the\s+present)\s+(?:volume|work|edition)"
    r"|(?:vo[nm]|des)(?:\s+(?:demselben|gleichen|selben))\s+verfassers?(?:\s+\w+){0,4}"
    r"|(?:ouvrages?\s+)?du\s+m[êe]me\s+auteur|saman\s+tekij[äa]n(?:\s+\w+){0,3}"
    r"|samalta\s+tekij[äa]lt[äa](?:\s+\w+){0,3}|van\s+denzelfden\s+schrijver(?:\s+\w+){0,3}"
    r"|af\s+samme\s+forfatter(?:\s+\w+){0,3}|del\s+mismo\s+autor|dello\s+stesso\s+autore"
)
_OF_A_PUBLISHER = (
    r"(?:publishers?['’]?s?['’]?\s+)?advertisements|advertisement"
    r"|a\s+(?:selection|list|few)\s+(?:from\s+the\s+(?:catalogue|list)\s+)?of\b[^\n]{0,60}"
    r"|(?:a\s+)?(?:catalogue|list|selection)\s+of\s+(?:new\s+|recent\s+|the\s+|standard\s+|popular\s+)*"
    r"(?:books|works|publications|novels|fiction)\b(?!\s+(?:consulted|cited|quoted|referred|on|about|relat))"
    r"[^\n]{0,60}"
    r"|(?:new|recent|popular|standard|other|latest|the\s+best)\s+(?:and\s+\w+\s+)?(?:\w+\s+)?"
    r"(?:books|works|publications|novels|fiction)\b[^\n]{0,60}"
    r"|[^\n]{3,50}['’]s?\s+(?:new\s+|recent\s+)?(?:publications|list|catalogue|announcements)"
    r"|(?:books|novels|works|publications)\s+(?:of|from|published\s+by|issued\s+by)\b[^\n]{0,60}"
    r"|opinions\s+of\s+the\s+press|press\s+(?:notices|opinions)"
)
_HEADING = re.compile(
    rf"[\s_*=\-]*(?:(?P<author>{_BY_THE_AUTHOR})|(?:{_OF_A_PUBLISHER}))[\s_*=.:,;—\-]*", re.I
)
# What all headings begin with, but those that name a publisher: "Smith's publications".
_OPENINGS = frozenset(
    (
        *("ot", "mo", "so", "ne", "re", "bo", "wo", "no", "st", "ta", "ro", "vo", "by", "al"),
        *("un", "de", "ou", "du", "sa", "va", "af", "pu", "ad", "a ", "ca", "li", "se", "po"),
        *("la", "th", "op", "pr"),
    )
)
_TRADE = re.compile(
    r"[$£]\s?\d|\b\d+s\.(?:\s?\d+d\.)?|\b\d+\s?/[-\d]|\b\d+\s?cents\b|\bnet\b|\bcloth\b"
    r"|\b(?:8|12|16|18|4)(?:vo|mo|to)\b"
    r"|\boctavo\b|\bgilt\b|illustrat(?:ed|ions)\b|post-?\s?(?:paid|free)"
    r"|paper\s+covers?|\bcrown\b"
    r"|\bvols?\.|\bedition\b|\bpublish(?:ed|ers?|ing)\b|\bprices?\b|\bbound\b|\bbooksellers?\b"
    r"|\b\d+\s?(?:M|Mk|Mark|fr|francs|Fmk)\b\.?|\bgeb(?:unden|\.)"
    r"|--_?[A-Z][\w ]+(?:Review|Times|Post|News|Gazette|Journal|Herald|Tribune)",
    re.I,
)
_FRONT, _BACK = 12_000, 60_000  # characters from either end in which advertisements stand
_FEWEST_TITLES = 3
_LOOSE = 3  # paragraphs without a price or the like that may stand between two with one


def remove_advertisements(text: str) -> tuple[str, int]:
    """A heading such as BY THE SAME AUTHOR or NEW BOOKS next to the beginning or the end, with the
    list under it: titles, prices, what the papers said; and at the end whatever heading has a line
    below it that tells where to buy."""
    front = min(_FRONT, len(text) // 4)
    back = max(front, len(text) - min(_BACK, len(text) // 3))
    at_the_back = outermost(
        [*_advertisements(text, back, len(text), is_front=False), *offers(text, back)]
    )
    spans = [
        *_advertisements(text, 0, front, is_front=True),
        *everymans(text, front),
        *_with_rules_below(text, at_the_back),
    ]
    return cut(text, outermost(spans))


def _advertisements(text: str, begin: int, end: int, is_front: bool) -> list[Span]:
    begin = text.find("\n", begin) if begin else 0
    if begin < 0:
        return []
    near = list(paragraphs(text, begin, end + 2000))
    spans: list[Span] = []
    for number, (start, stop) in enumerate(near):
        if start >= end or (spans and start < spans[-1][1]):
            continue
        line_end = text.find("\n", start, stop)
        heading = _heading(text[start : stop if line_end < 0 else line_end].strip())
        if not heading:
            continue
        lines = stripped_lines(text, start, stop)
        last = _end_of_titles(text, near[number:], lines[1:]) if heading["author"] else None
        if last is None or not is_front:
            priced = _end_of_trade(text, near[number:], lines[1:], is_front)
            last = priced if last is None else max(last, priced or 0)
        if last is not None:
            spans.append((with_rule_above(text, start), last))
    return spans


def _heading(line: str) -> re.Match[str] | None:
    opens_so = line.lstrip(" _*=-")[:2].lower() in _OPENINGS
    if not opens_so and "'" not in line and "’" not in line:
        return None
    return _HEADING.fullmatch(line) if is_heading(line) else None


def _end_of_titles(text: str, near: list[Span], titles: list[str]) -> int | None:
    """Where a list of an author's books ends that begins in the first of the paragraphs: at the
    first gap wider than those in it, at a heading, at a paragraph that is no list of titles. None
    if it is no list."""
    if not are_titles(titles):
        return None
    ends = [near[0][1]]
    found = most = len(titles)
    widest = 2
    for number, ((_, before), (start, stop)) in enumerate(pairwise(near), 1):
        lines = stripped_lines(text, start, stop)
        gap = text.count("\n", before, start)
        if _BY.match(lines[0]) and len(ends) > 2:
            ends.pop()  # the last was the title of this very book
            break
        if (found and gap > widest) or END.match(lines[0]) or not are_titles(lines):
            break
        # Below titles line by line, one that stands alone is the heading of more, or no title.
        is_alone = len(lines) == 1 and most >= _FEWEST_TITLES
        if is_alone and not PRICE.search(lines[0]) and not _heads_titles(text, near[number:]):
            break
        if found == 1:
            widest = max(widest, min(gap, 3))
        found += len(lines)
        most = max(most, len(lines))
        ends.append(stop)
    return ends[-1] if found >= _FEWEST_TITLES else None


def _heads_titles(text: str, near: list[Span]) -> bool:
    """Whether there are several titles right below the first of the paragraphs."""
    below = near[1:2]
    if not below or text.count("\n", near[0][1], below[0][0]) > 2:
        return False
    lines = stripped_lines(text, *below[0])
    return len(lines) > 1 and are_titles(lines)


_BY = re.compile(r"[\W_]*by\b", re.I)


def _end_of_trade(text: str, near: list[Span], lines: list[str], is_front: bool) -> int | None:
    """Where a publisher's list ends: with the last paragraph that names a price, a binding or a
    newspaper. None if too few do."""
    if len(lines) > 2 and not are_titles(lines):
        return None
    prices = sum(1 for line in lines if PRICE.search(line))
    end = near[0][1]
    since = 0
    for (_, before), (start, stop) in pairwise(near):
        if END.match(text, start, stop):
            break
        if is_front and text.count("\n", before, start) > 3 and prices >= _FEWEST_TITLES:
            break
        if _TRADE.search(text, start, stop):
            prices += len(PRICE.findall(text, start, stop))
            end = stop
            since = 0
            continue
        since += 1
        if since > _LOOSE:
            break
    return end if prices >= _FEWEST_TITLES else None


def _with_rules_below(text: str, spans: list[Span]) -> Iterator[Span]:
    """The spans, the last of them to the end of the text if only rules are left below it."""
    for start, end in spans:
        below = text[end:]
        is_last = (start, end) == spans[-1] and not below.strip(" \n*_=~-–—")
        yield start, len(text.rstrip("\n")) if is_last else end

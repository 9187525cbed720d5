"""The cleaning rule for publishers' advertisements: lists of books at the front or the back."""

import re
from itertools import pairwise

from pipeline.books.searching import Span, cut, paragraphs, stripped_lines

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
# Without one of these a list of books may be the author's own, of the works he read.
_PRICE = re.compile(
    r"[$£]\s?\d|\b\d+s\.|\b\d+\s?/[-\d]|\b\d+\s?cents\b|\bnet\b|\bcloth\b|post-?\s?(?:paid|free)|"
    r"\bgilt\b|paper\s+covers?|\bprice\b",
    re.I,
)
_FRONT, _BACK = 12_000, 60_000  # characters from either end in which advertisements stand
_LONGEST_TITLE = 75  # characters of a line that names a book
_FEWEST_TITLES = 3
_LOOSE = 3  # paragraphs without a price or the like that may stand between two with one
_END = re.compile(
    r"[\s_*=]*(?:chapter|book\s+(?:i|one|the\s+first)\b|part\s+(?:i|one|the\s+first)\b|preface|introduction|prologue|"
    r"foreword|contents|notes?\b|footnotes?\b|index\b|appendix|glossary|dedication|list\s+of\s+"
    r"illustrations|transcriber|the\s+end\b|to\s+(?:my|the\s+reader)|[ivxl]+\.?$|\[)",
    re.I,
)


def remove_advertisements(text: str) -> tuple[str, int]:
    """A heading such as BY THE SAME AUTHOR or NEW BOOKS next to the beginning or the end, with the
    list under it: titles, prices, what the papers said."""
    front = min(_FRONT, len(text) // 4)
    back = max(front, len(text) - min(_BACK, len(text) // 3))
    spans = [
        *_advertisements(text, 0, front, is_front=True),
        *_advertisements(text, back, len(text), is_front=False),
    ]
    return cut(text, spans)


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
            spans.append((_with_rule_above(text, start), last))
    return spans


_RULE_ABOVE = re.compile(r"[*_=~\-–— ]+")


def _with_rule_above(text: str, start: int) -> int:
    """Where the row of asterisks or dashes begins that parts a list from the book, if any."""
    above = text[max(0, start - 100) : start].rstrip("\n")
    line = above[above.rfind("\n") + 1 :]
    return text.rindex(line, 0, start) if _RULE_ABOVE.fullmatch(line) else start


def _heading(line: str) -> re.Match[str] | None:
    opens_so = line.lstrip(" _*=-")[:2].lower() in _OPENINGS
    if not opens_so and "'" not in line and "’" not in line:
        return None
    return _HEADING.fullmatch(line) if _is_heading(line) else None


def _is_heading(line: str) -> bool:
    if len(line) > _LONGEST_TITLE or line.endswith((",", ";")):
        return False
    return line.isupper() or not line.endswith((".", "!", "?")) or "same" in line.lower()


def _end_of_titles(text: str, near: list[Span], titles: list[str]) -> int | None:
    """Where a list of an author's books ends that begins in the first of the paragraphs: at the
    first gap wider than those in it, at a heading, at a paragraph that is no list of titles. None
    if it is no list."""
    if not _are_titles(titles):
        return None
    ends = [near[0][1]]
    found = len(titles)
    widest = 2
    for (_, before), (start, stop) in pairwise(near):
        lines = stripped_lines(text, start, stop)
        gap = text.count("\n", before, start)
        if _BY.match(lines[0]) and len(ends) > 2:
            ends.pop()  # the last was the title of this very book
            break
        if (found and gap > widest) or _END.match(lines[0]) or not _are_titles(lines):
            break
        if found == 1:
            widest = max(widest, min(gap, 3))
        found += len(lines)
        ends.append(stop)
    return ends[-1] if found >= _FEWEST_TITLES else None


_BY = re.compile(r"[\W_]*by\b", re.I)


def _are_titles(lines: list[str]) -> bool:
    return all(_is_title(line) for line in lines)


def _is_title(line: str) -> bool:
    """Whether a line names a book: short, and its longer words have capitals."""
    if _PRICE.search(line):
        return True
    if len(line) > _LONGEST_TITLE or line.endswith(("?", ",", ";", ":")):
        return False
    if line.startswith(('"', "'", "“", "‘", "«", "—", "--")):
        return False
    long = [word for word in re.findall(r"[^\W\d_]+", line) if len(word) > 3]
    return not line[:1].islower() and 5 * sum(word[0].isupper() for word in long) >= 3 * len(long)


def _end_of_trade(text: str, near: list[Span], lines: list[str], is_front: bool) -> int | None:
    """Where a publisher's list ends: with the last paragraph that names a price, a binding or a
    newspaper. None if too few do."""
    if len(lines) > 2 and not _are_titles(lines):
        return None
    prices = sum(1 for line in lines if _PRICE.search(line))
    end = near[0][1]
    since = 0
    for (_, before), (start, stop) in pairwise(near):
        if _END.match(text, start, stop):
            break
        if is_front and text.count("\n", before, start) > 3 and prices >= _FEWEST_TITLES:
            break
        if _TRADE.search(text, start, stop):
            prices += len(_PRICE.findall(text, start, stop))
            end = stop
            since = 0
            continue
        since += 1
        if since > _LOOSE:
            break
    return end if prices >= _FEWEST_TITLES else None

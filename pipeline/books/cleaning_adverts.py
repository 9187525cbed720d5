"""The cleaning rule for publishers' advertisements: lists of books at the front or the back."""

import re
from collections.abc import Iterator
from itertools import islice, pairwise

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
    list under it: titles, prices, what the papers said; and at the end whatever heading has a line
    below it that tells where to buy."""
    front = min(_FRONT, len(text) // 4)
    back = max(front, len(text) - min(_BACK, len(text) // 3))
    at_the_back = outermost(
        [*_advertisements(text, back, len(text), is_front=False), *_offers(text, back)]
    )
    spans = [
        *_advertisements(text, 0, front, is_front=True),
        *_everymans(text, min(front, _OPENING_PAGES)),
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
    found = most = len(titles)
    widest = 2
    for number, ((_, before), (start, stop)) in enumerate(pairwise(near), 1):
        lines = stripped_lines(text, start, stop)
        gap = text.count("\n", before, start)
        if _BY.match(lines[0]) and len(ends) > 2:
            ends.pop()  # the last was the title of this very book
            break
        if (found and gap > widest) or _END.match(lines[0]) or not _are_titles(lines):
            break
        # Below titles line by line, one that stands alone is the heading of more, or no title.
        is_alone = len(lines) == 1 and most >= _FEWEST_TITLES
        if is_alone and not _PRICE.search(lines[0]) and not _heads_titles(text, near[number:]):
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
    return len(lines) > 1 and _are_titles(lines)


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


# --- offers ---------------------------------------------------------------------------------------

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


def _offers(text: str, begin: int) -> list[Span]:
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
        if offer is None and len(lines) > 1 and _is_heading(lines[0].strip()):
            offer = _OFFER.match(text, start + len(lines[0]) + 1, stop)
        if offer is None:
            continue
        first = _first_heading(text, near, number, spans[-1][1] if spans else 0)
        if first is None or not _is_offered(text, near[first][0], offer):
            continue
        end = _end_of_offer(text, near[number:])
        spans.append((_with_rule_above(text, near[first][0]), end))
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
        if first < number and not (len(lines) <= _MOST_HEADINGS and all(map(_is_heading, lines))):
            return None
        if _END.match(text, start, stop):
            return None
        above = near[first - 1]
        if (
            above[1] <= done
            or text.count("\n", above[1], start) >= _WIDE
            or _FINIS.fullmatch(text, *above)
            or _RULE_ABOVE.fullmatch(text, *above)
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
        if text.count("\n", end, start) > _WIDE or _RULE_ABOVE.fullmatch(text, start, stop):
            return end
        if _END.match(text, start, stop) or stop - begin > _LONGEST_OFFER:
            return certain
        if _MORE.search(text, start, stop):
            certain = end = stop
            blurbs = 0
            continue
        blurbs = 0 if _are_titles(stripped_lines(text, start, stop)) else blurbs + 1
        if blurbs > _MOST_BLURBS or (blurbs and stop - start > _LONGEST_BLURB):
            return certain
        end = stop
    return end


def _with_rules_below(text: str, spans: list[Span]) -> Iterator[Span]:
    """The spans, the last of them to the end of the text if only rules are left below it."""
    for start, end in spans:
        below = text[end:]
        is_last = (start, end) == spans[-1] and not below.strip(" \n*_=~-–—")
        yield start, len(text.rstrip("\n")) if is_last else end


_EVERYMANS = re.compile(
    r"[ _]*the\s+publishers\s+of\s+[^\n]{3,60}?\s+will\s+be\s+pleased\s+to\s+send\b", re.I
)
_BINDINGS = re.compile(r"styles\s+of\s+binding|pigskin", re.I)
_OPENING_PAGES = 5000  # characters
_MOST_BELOW = 14  # paragraphs of such a page


def _everymans(text: str, end: int) -> Iterator[Span]:
    """The page before the title of Everyman's Library, as far as the list of its bindings."""
    at = text.find("PLEASED TO SEND", 0, end)
    if at < 0:
        return
    page = list(islice(paragraphs(text, text.rfind("\n\n", 0, at) + 1), _MOST_BELOW))
    start, stop = page[0]
    if not _EVERYMANS.match(text, start, stop):
        return
    for first, last in page[1:]:
        lines = stripped_lines(text, first, last)
        if _END.match(text, first, last) and not lines[0].startswith("["):
            break
        if not all(line.isupper() or line.startswith("[") for line in lines):
            break
        if _BINDINGS.search(text, first, last):
            stop = last
    yield start, stop

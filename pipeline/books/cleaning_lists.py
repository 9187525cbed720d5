"""Cleaning rules for lists: tables of contents and indexes. Each returns the changed text and how
many things it removed."""

import re
from collections.abc import Callable, Iterable, Iterator
from itertools import chain, islice, pairwise

from pipeline.books.cleaning_table import line_table
from pipeline.books.searching import Span, cut, paragraphs, stripped_lines

# --- contents lists -------------------------------------------------------------------------------

_CONTENTS_HEADING = re.compile(
    r"^[ _*=]*(?=[ctlist\u00ed])(?:"
    r"(?:the[ ]|table[ ]of[ ])?contents(?:[ ]of[ ][^\n]{1,40})?"
    r"|list[ ]of[ ](?:illustrations|plates|tales|stories|chapters)|illustrations"
    r"|inhalt(?:sverzeichnis)?|sis[äa]llys(?:luettelo)?|table[ ]des[ ]mati[èe]res"
    r"|inhoud|inneh[åa]ll|[íi]ndice)[.:]?[ _*=]*$",
    re.I | re.M,
)
# The letters with which these headings begin.
_CONTENTS_OPENINGS = (
    *("conte", "the c", "table", "list ", "illus", "inhal", "sisäl", "sisal", "inhou", "inneh"),
    *("indic", "índic"),
)
# Not in mid-sentence: "I had seen", "Part of me", "12 men".
_NO_SENTENCE = r"(?-i:(?![ ]*(?!(?:the|to|by|and|on)\b)[a-zß-ÿ]))"
_ENTRY = re.compile(
    r"[\W_]*(?:(?:chap|vol)\.|(?:chapters?|books?|parts?|acts?|scenes?|letters?|sections?|volumes?"
    r"|cantos?|prologue|epilogue|preface|introduction|appendix|index|notes|conclusion|kapitel"
    rf"|chapitre|osa|teil)\b{_NO_SENTENCE}"
    rf"|(?:[ivxlcdm]+|\d{{1,3}})\b(?:[.:)\-]|[ ]{_NO_SENTENCE})|[ivxlcdm]+$)",
    re.I,
)
_ENTRY_PAGE = re.compile(r"(?:[ ]{2,}|[ .·]{3,}|[ ]\.)[ ]*(?:\d{1,4}|[ivxlcdm]{1,8}|page)$", re.I)
_LONGEST_ENTRY = 64
_LONGEST_LINE = 90
_FEWEST_ENTRIES = 3
_MOST_ENTRIES = 500  # paragraphs
_HOPELESS = 3  # headings without a list in one paragraph


def remove_contents(text: str) -> tuple[str, int]:
    """A heading such as CONTENTS with the list of short entries under it."""
    headings = _headings(text, _CONTENTS_HEADING, _CONTENTS_OPENINGS)
    return cut(text, _lists_below(text, headings, _contents_end))


def _lists_below(
    text: str,
    headings: Iterable[re.Match[str]],
    find_end: Callable[[str, int], int | None],
) -> list[Span]:
    """The headings that have a list, each with its list.

    A paragraph in which three headings had none is given up: thousands of such lines would take
    quadratic time.
    """
    spans: list[Span] = []
    done = 0
    paragraph_end = failures = -1
    for heading in headings:
        if heading.start() < done:
            continue
        end = find_end(text, heading.end())
        if end is not None:
            spans.append((heading.start(), end))
            done = end
            continue
        if heading.start() >= paragraph_end:
            paragraph_end, failures = text.find("\n\n", heading.start()), 0
            paragraph_end = len(text) if paragraph_end < 0 else paragraph_end
        failures += 1
        if failures == _HOPELESS:
            done = paragraph_end
    return spans


def _headings(
    text: str, pattern: re.Pattern[str], openings: tuple[str, ...]
) -> Iterator[re.Match[str]]:
    """The lines that match a pattern, which begin with one of the openings or are set off."""
    for start in line_table(text).opened(openings):
        heading = pattern.match(text, start)
        if heading:
            yield heading


def _contents_end(text: str, start: int) -> int | None:
    """Where the list under a contents heading ends; None if no list stands there.

    The list ends where its first entry comes again (as the heading of the first chapter), at a
    gap wider than those between its entries, or at the first paragraph that is no entry.
    """
    entries: list[str] = []
    end = start
    widest_gap = 2  # line ends between two entries
    is_dense = False  # entries stand line by line: a paragraph by itself need be none
    listed = islice(paragraphs(text, start), _MOST_ENTRIES)
    for (begin, stop), following in pairwise(chain(listed, [(len(text), len(text))])):
        lines = stripped_lines(text, begin, stop)
        gap = text.count("\n", end, begin)
        if not _is_list(lines) or (is_dense and not _adds(lines, text, following)):
            break
        if entries and gap > widest_gap:
            heads_a_part = gap <= 4 and _goes_on(stripped_lines(text, *following))
            if not _goes_on(lines) and not heads_a_part:
                break
        if len(entries) == 1:
            widest_gap = max(widest_gap, min(gap, 3))
        kept = _lines_before_repetition(lines, entries)
        entries += lines[:kept]
        if kept:
            end = begin + len("\n".join(text[begin:stop].split("\n")[:kept]))
        if kept < len(lines):
            break
        is_dense |= kept >= _FEWEST_ENTRIES
    return end if len(entries) >= _FEWEST_ENTRIES else None


def _adds(lines: list[str], text: str, following: Span) -> bool:
    """Whether a paragraph belongs to a list that has entries line by line: a dedication or a verse
    right below it does not."""
    if _ENTRY_PAGE.search(lines[0]) or _ENTRY_PAGE.search(lines[-1]):
        return True
    below = stripped_lines(text, *following)
    if len(lines) == 1:  # an entry, or what heads a part; not what heads the first chapter
        return (bool(_ENTRY.match(lines[0])) or len(below) >= _FEWEST_ENTRIES) and _is_list(below)
    if _ENTRY.match(lines[0]) or _is_plainly_list(lines):
        return True
    return len(lines) >= _FEWEST_ENTRIES and not any(line.endswith(_STOPS) for line in lines)


_STOPS = tuple(".,;:!?-—")


def _lines_before_repetition(lines: list[str], entries: list[str]) -> int:
    """How many of the lines stand before the one that repeats the list's first entry."""
    first = _bare(entries[0] if entries else lines[0])
    for number, line in enumerate(lines):
        if (entries or number) and _bare(line) == first and not _ENTRY_PAGE.search(line):
            return number
    return len(lines)


def _bare(entry: str) -> str:
    """An entry without page number, punctuation and case."""
    return re.sub(r"[\W_]+", " ", _ENTRY_PAGE.sub("", entry)).strip().casefold()


def _is_list(lines: list[str]) -> bool:
    if all(_ENTRY_PAGE.search(line) for line in lines):
        return True
    if all(len(line) <= _LONGEST_ENTRY or _ENTRY_PAGE.search(line) for line in lines):
        return _is_plainly_list(lines) or not _is_speech(lines)
    if _is_plainly_list(lines):
        return max(map(len, lines)) <= _LONGEST_LINE
    return bool(_ENTRY.match(lines[0])) and sum(map(len, lines)) <= 600  # one entry, wrapped


def _goes_on(lines: list[str]) -> bool:
    """Whether a list goes on after a gap: single lines there are titles and chapter headings."""
    if _ENTRY_PAGE.search(lines[0]) or _ENTRY_PAGE.search(lines[-1]):
        return True
    return len(lines) >= 3 and _is_list(lines) and _is_plainly_list(lines)


def _is_plainly_list(lines: list[str]) -> bool:
    entries = sum(1 for line in lines if _ENTRY.match(line) or _ENTRY_PAGE.search(line))
    return 2 * entries > len(lines)


def _is_speech(lines: list[str]) -> bool:
    """Whether short lines are talk or prose: opened by a quotation mark, closed as a sentence
    is, or going on in the next line with a small letter."""
    if lines[0].startswith(tuple('"“‘«»—')) or lines[-1].endswith(tuple('?!"”')):
        return True
    small = sum(1 for line in lines[1:] if line[:1].islower())
    return 2 * small > len(lines) - 1 if len(lines) > 1 else lines[0].endswith((".", ","))


# --- indexes --------------------------------------------------------------------------------------

_INDEX_HEADING = re.compile(
    r"^[ _*=]*(?=[acghinprst])(?:"
    r"(?:(?:general|alphabetical|analytical|subject|complete|an|the)[ ])*"
    r"index(?:es)?(?:[ ](?:of|to|and)[ ][^\n]{1,60}|[ ][ivx]+\.?)?"
    r"|(?:alphabetisches[ ])?(?:sach|namen|personen)?register|hakemisto|table[ ]alphab[ée]tique)"
    r"[.:]?[ _*=]*$",
    re.I | re.M,
)
# The end of a line with page numbers, or with a reference to another entry.
_INDEX_LINE = re.compile(
    r"(?:[,;:.\-–_*]|  |[^\W\d_] )[ ]?[_*]?\d{1,4}[a-z]?[_*]?[ ]?"
    r"(?:_?n\.?_?|note|sqq?|ff?|seq)?[.,;]*$"
    r"|\b_?(?:see|see also|see under|vide|siehe|ks\.)_?[ :][^\n]{2,50}$",
    re.I,
)
_INDEX_TAIL = 60  # characters
_FEWEST_INDEX_LINES = 12
_INDEX_LETTER = re.compile(r"[\W_]*[A-Z](?:[-–, ]+[A-Z])?[\W_]*$")


def remove_indexes(text: str) -> tuple[str, int]:
    """A heading such as INDEX with the entries below it, each with its pages and in the order of
    the alphabet; not what comes after the last of them."""
    headings = list(_headings(text, _INDEX_HEADING, _INDEX_OPENINGS))
    if not headings or not any(needle in text for needle in _INDEX_NEEDLES):
        return text, 0
    return cut(text, _lists_below(text, headings, _index_end))


_INDEX_OPENINGS = (
    *("index", "gener", "alpha", "analy", "subje", "sachr", "regis", "hakem", "table"),
    *("compl", "namen", "perso"),
    *("the a", "the c", "the g", "the i", "the s", "the t"),
    *("an al", "an an", "an co", "an ge", "an in", "an su", "an th"),
)
_INDEX_NEEDLES = (
    *("INDEX", "Index", "REGISTER", "Register", "HAKEMISTO", "Hakemisto"),
    *("TABLE ALPH", "Table alph"),
)


def _index_end(text: str, start: int) -> int | None:
    """Where the index under a heading ends; None if none stands there."""
    end = start
    found = loose = 0
    initials: list[str] = []
    for begin, stop in paragraphs(text, start):
        lines = stripped_lines(text, begin, stop)
        if len(lines) == 1 and _INDEX_HEADING.match(text, begin, stop):
            break  # the next one, which is looked at by itself
        pages = sum(1 for line in lines if _INDEX_LINE.search(line[-_INDEX_TAIL:]))
        if 3 * pages >= len(lines):  # an entry may run over several lines
            found += pages
            loose = 0
            end = stop
            initials += _initials(text[begin:stop].split("\n"))
        elif not _INDEX_LETTER.match(lines[0]) or len(lines) > 1:
            loose += 1
            if loose > 1 or (found and stop - begin > 200) or stop - begin > 600:
                break
    return end if found >= _FEWEST_INDEX_LINES and _is_sorted(initials) else None


def _initials(lines: list[str]) -> list[str]:
    """The first letters of the entries, which begin with a capital as far left as the first."""
    indent = len(lines[0]) - len(lines[0].lstrip(" "))
    initials = []
    for line in lines:
        first = re.search(r"[^\W_]", line)
        if first and first.group().isupper() and len(line) - len(line.lstrip(" ")) <= indent:
            initials.append(first.group().casefold())
    return initials


def _is_sorted(initials: list[str]) -> bool:
    """Whether initials run through the alphabet: nearly never back, and some way on."""
    steps = [after >= before for before, after in pairwise(initials)]
    return len(set(initials)) >= 3 and 10 * sum(steps) >= 8 * len(steps)

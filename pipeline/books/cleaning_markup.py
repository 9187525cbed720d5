"""The cleaning rule for markup other than italics: bold, spaced and small-capital letters, HTML
tags and entities, raised letters, brackets round Greek and round ligatures."""

import html
import re
from operator import itemgetter

from pipeline.books.cleaning_table import places_of
from pipeline.books.searching import substitute

# Marks that stand in pairs round words, as _underscores_ do.
_PAIR = (
    r"{m}(?<![\w{m}]{m})(?=[^\W\d_])((?:[^{m}\n]|\n(?!\n)){{{least},200}}?)"
    r"(?<=[^\s{m}]){m}(?![\w{m}])"
)
_PAIRS = tuple(
    (mark, re.compile(_PAIR.format(m=escaped, least=least)))
    for mark, escaped, least in (("=", "=", 1), ("+", r"\+", 3), ("~", "~", 1))
)
_TAGS = re.compile(
    r"<(/?)(i|b|u|em|strong|small|big|sup|sub|tt|span|font|center|cite|sc|smcap)\b[^<>\n]{0,80}>"
    r"|<(?:br|hr|p)\s*/?>",
    re.I,
)
_ENTITY = re.compile(r"&(?:#\d{2,5}|#x[0-9a-fA-F]{2,5}|[a-zA-Z]{2,8}[0-9]{0,2});")
_TEX = re.compile(r"[\^_]\{([^{}\n\\]{1,20})\}")
# Letters set higher, as in M^r and y^e and 18^th: of the words and numbers that are written so.
_RAISED = re.compile(
    r"\^(?:(?<=\d\^)(?:st|nd|rd|th|d|s)|(?<=[A-Zyw]\^)[a-z]{1,4}|(?<=[a-zA-Z][a-z]\^)[a-z]{1,4})"
    r"(?![\w^{(])"
)
_POWER = re.compile(r"\^(?![a-z{])|[+=*/]\s?\w\^|\^\w\s?[+=*/]")
_STARRED = re.compile(
    r"(?<![^\s\"'“‘(—\-])(\*{1,2})(?=[^\W\d_])((?:[^*\n]|\n(?!\n)){1,200}?)"
    r"(?<=[^\s*])\1(?![\w*])"
)
# As many of the asterisks must stand in pairs: others refer to notes, or stand for letters.
_PAIRED_STARS = 0.9
_LANGUAGE = re.compile(
    r"\[(?:Greek|Hebrew|Arabic|Russian|Cyrillic|Sanskrit|Syriac|Coptic)(?: transliteration)?:"
    r"([^\[\]]{1,2000})\]"
)
_LIGATURE = re.compile(
    r"\[(oe|ae|OE|AE|Oe|Ae)\](?<=[^\W_]\[..\])|\[(oe|ae|OE|AE|Oe|Ae)\](?=[^\W_])"
)
_ACCENT = re.compile(r"\[[=)(:'`^~,.]([^\W\d_])\](?:(?<=[^\W_]\[..\])|(?=[^\W_]))")


def remove_markup(text: str) -> tuple[str, int]:
    """=Bold=, *bold*, +spaced+ and ~small capital~ words, <i>tags</i>, &entities;, M^{rs} and M^r,
    [Greek: logos], man[oe]uvre: the words stay, what marks them goes. Only what is paired or closed
    is markup."""
    count = 0
    if "&" in text and ";" in text:
        text, count = _decode_entities(text)
    if "<" in text and ">" in text:
        text, found = _remove_tags(text)
        count += found
    if "{" in text:
        braces = places_of(text, "{")
        marks = [at - 1 for at in braces if at and text[at - 1] in "^_"]
        text, found = substitute(_TEX, marks, itemgetter(1), text)
        count += found
    if "^" in text and not _POWER.search(text):
        text, found = substitute(_RAISED, places_of(text, "^"), _less_mark, text)
        count += found
    if "*" in text:
        text, found = _remove_stars(text)
        count += found
    if "[" in text:
        for pattern in (_LANGUAGE, _LIGATURE, _ACCENT):
            text, found = substitute(pattern, places_of(text, "["), _within, text)
            count += found
    for _ in range(2):  # one may stand within another
        before = count
        for mark, pattern in _PAIRS:
            text, found = substitute(pattern, places_of(text, mark), itemgetter(1), text)
            count += found
        if count == before:
            break
    return text, count


def _less_mark(match: re.Match[str]) -> str:
    return match.group()[1:]


def _remove_stars(text: str) -> tuple[str, int]:
    """The asterisks round words, if nearly all of them but those of scene breaks stand so."""
    places = places_of(text, "*")
    pairs = [match for at in places if (match := _STARRED.match(text, at))]
    if not pairs:
        return text, 0
    paired = sum(2 * len(match[1]) for match in pairs)
    if paired < _PAIRED_STARS * _stars_in_words(text, places):
        return text, 0
    return substitute(_STARRED, places, itemgetter(2), text)


def _stars_in_words(text: str, places: list[int]) -> int:
    """How many asterisks stand in lines that have anything else."""
    count = end = 0
    for at in places:
        if at < end:
            continue
        start, stop = text.rfind("\n", end, at) + 1 or end, text.find("\n", at)
        end = len(text) if stop < 0 else stop
        line = text[start:end]
        count += line.count("*") if line.strip(" *") else 0
    return count


def _within(match: re.Match[str]) -> str:
    return match[match.lastindex or 0].strip(" \n")


# Not the signs of logic and mathematics, whose names are words: &and; &or; &not;
_LETTERS_AND_SIGNS = re.compile("[ -~\u00a0-\u00ab\u00ae-\u017f\u2010-\u203a\u20ac\u2122]")


def _decode_entities(text: str) -> tuple[str, int]:
    count = 0

    def decode(match: re.Match[str]) -> str:
        nonlocal count
        written = match.group()
        # An ampersand that was itself written as an entity: what follows it is one more.
        character = html.unescape(written)
        if character == written or len(character) != 1:
            return written
        if not (_LETTERS_AND_SIGNS.match(character)):
            return written
        count += 1
        return " " if character == "\xa0" else character

    for _ in range(3):
        before = count
        text, _ = substitute(_ENTITY, places_of(text, "&"), decode, text)
        if count == before:
            break
    return text, count


def _remove_tags(text: str) -> tuple[str, int]:
    """Tags whose name is both opened and closed somewhere, and single ones such as <br>."""
    opened: set[str] = set()
    closed: set[str] = set()
    for match in _TAGS.finditer(text):
        if match[2]:
            (closed if match[1] else opened).add(match[2].lower())
    count = 0

    def remove(match: re.Match[str]) -> str:
        nonlocal count
        if match[2] and match[2].lower() not in opened & closed:
            return match.group()
        count += 1
        return ""

    return _TAGS.sub(remove, text), count

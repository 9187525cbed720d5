"""What Project Gutenberg's wrapping looks like: headers, small print, licence, footers, 1991-2026.

Every pattern is for *folded* text: lower case, same length as the original (`fold`). Patterns for
lines are matched at the start of a line; phrase patterns are searched in a paragraph whose white
space has been collapsed, so hard wraps never hide a phrase.
"""

import re
from collections.abc import Iterable
from functools import lru_cache

from pipeline.books.outline import Outline, fold

_PG = r"project\s+gutenberg"
_PROJECT = r"(?:proje[ck]t|proyecto|projeto|projet|progetto)\s+gutenberg"


# Where any of these occur, the file has to do with Project Gutenberg.
TRACE_NEEDLES = ("gutenberg", "pglaf", "print!")
TRACE = re.compile(
    rf"{_PG}|{_PROJECT}|gutenberg\.(?:org|net|ca)|pglaf\.org|gutenberg-tm|small\s+print!"
    r"|gutenberg\s+projekt"
)

# Each marker has one of these on its first line or the next.
MARKER_NEEDLES = ("gutenberg", "small print", "small\nprint", "etext", "copyrighted", "top of this")

# --- markers, matched at the start of a line ----------------------------------------------------

_DECORATION = r"[^\w\n]{0,60}"
_TITLE_TO_STARS = r"(?:[^\n*]|\n(?!\n)|\*(?!\*)){0,500}?\*{2,}[^\S\n]*"

# What all markers that stand at the start of a line begin with; for text that is not folded.
MARKER_OPENING = re.compile(
    rf"{_DECORATION}(?:start|beginning|(?:the\s+)?(?:end|small)|fin|fim|einde|slut|kon[ie]|loppu"
    r"|vége|sfârșit|proje[ck]t\s+gutenberg|this\s+is\s+a|more\s+information)",
    re.I,
)
START_LINE = re.compile(
    rf"{_DECORATION}(?:start|beginning)\s+of\s+(?:the\s+|this\s+)?(?:copyrighted\s+)?"
    rf"proje[ck]t\s+gutenberg(?:{_TITLE_TO_STARS})?"
)
END_LINE = re.compile(
    rf"{_DECORATION}(?:"
    r"(?:the\s+)?end\s+of\s+(?:\w+\s+){0,5}?proje[ck]t\s+gutenberg"
    rf"|(?:ende|fin|fine|fim|einde|slut|slutet|koniec|konec|loppu|vége|sfârșit)\b[^\n]{{0,60}}?{_PROJECT}"
    r"|project\s+gutenberg[^\n]{0,80}\b(?:loppu+|päättyy|ends?\s+here)\b"
    r"|ende\s+dieses\s+e-?text"
    r"|end\s+of\s+this\s+is\s+copyrighted"
    r"|this\s+is\s+a\s+copyrighted\s+project\s+gutenberg\s+e-?\w+,?\s+details\s+above"
    r"|more\s+information\s+about\s+this\s+book\s+is\s+at\s+the\s+top\s+of\s+this\s+file"
    rf")(?:{_TITLE_TO_STARS})?"
)
SMALL_PRINT_START = re.compile(
    rf"{_DECORATION}(?:start\W{{0,12}}(?:the\s+)?small\s+print|\"?small\s+print\"?\s+v\.)"
)
SMALL_PRINT_END = re.compile(
    rf"{_DECORATION}(?:end\W{{0,12}}(?:the\s+)?small\s+print[^\n]*(?:\n\W*ver\.[^\n]*)?"
    r"|(?:the\s+)?small\s+print![^\n]*\*end\b[^\n]*)"
)
# Where lines were joined it stands within one.
JOINED_END_NEEDLES = ("*end",)
JOINED_END = re.compile(r"\*end\*?\s?the\s+small\s+print")
RESTRICTIONS_NEEDLES = ("restrictions",)
RESTRICTIONS = re.compile(r"restrictions\s+in\s+how\s+the\s+file\s+may\s+be\s+used\.?")
FILE_NAME_NEEDLES = ("should be named", "should be labeled")
FILE_NAME = re.compile(
    r"[^\w\n]*this\s+(?:\w+\s+)?(?:file|edition)\s+should\s+be\s+(?:named|labeled)\b"
)
LICENCE_NEEDLES = ("updated", "creating", "start: full", "the full", "section 1.")
LICENCE_START = re.compile(
    rf"updated\s+editions\s+will\s+(?:re\w+\s+)*replace\s+the\s+previous"
    rf"|creating\s+the\s+works\s+from\s+(?:public\s+domain\s+)?(?:print\s+)?editions"
    rf"|start:\s+full\s+licen[sc]e"
    rf"|the\s+full\s+{_PG}\S*\s+licen[sc]e"
    rf"|section\s+1\.\s+general\s+(?:terms|information)[^\n]{{0,40}}\n?[^\n]{{0,40}}{_PG}"
)
# A last line of old files: asterisks round the word, unlike an author's "THE END"; of Canadian
# ones; and of those that were cut off in it.
LAST_LINE = re.compile(
    r"\n[^\S\n]*(?:\*{2,}[^\S\n]*end[^\S\n]*\*{2,}"
    r"|\[(?:the[^\S\n]+)?end[^\S\n]+of[^\S\n][^\]]{1,160}\sby\s[^\]]{1,80}\]"
    r"|\*{0,9}[ ]?(?:the[^\S\n]+)?end[^\S\n]+of[^\S\n]+(?:the[^\S\n]+|this[^\S\n]+)?project"
    r"(?:[^\S\n]+gut\w*)?"
    r")\Z"
)

# --- phrases, searched in a paragraph on one line -----------------------------------------------

# A paragraph with one of these belongs to a header or a footer if it stands in or next to one.
_PHRASES = (
    r"proje[ck]t gutenberg", r"gutenberg-tm", r"gutenberg\.\w", r"gutenberg projekt", r"pglaf",
    r"promo\.net", r"small print", r"plain vanilla", r"readable by both humans",
    r"prepared by (?:hundreds|thousands) of volunteers", r"copyright laws are changing",
    r"information in this header", r"electronic path open", r"do not remove this",
    r"this header should be", r"first thing seen", r"without written permission",
    r"information on contacting", r"further information,? is included", r"need your donations",
    r"501\(c\)", r"literary archive", r"employee identification", r"university ave",
    r"champaign, il", r"lisle, il", r"benedictine", r"carnegie-mellon university",
    r"should be (?:named|labeled)\b.{0,60}\.(?:txt|zip|htm)", r"editions of our",
    r"versions based on separate", r"new (?:number|letter), ", r"trying to release all our",
    r"neither this list", r"official release date", r"preliminary version",
    r"most people start at our", r"download .{0,20}before announcement",
    r"first five letters of the", r"dollars for each hour", r"one trillion", r"1 trillion",
    r"projected audience", r"revised rates of prod", r"record of our progress",
    r"contributions are (?:only )?being solicited", r"filed in (?:about|all)",
    r"requirements for other states", r"various questions we have", r"finishing the paperwork",
    r"we cannot solicit", r"international donations", r"tax.deductible",
    r"internal revenue service", r"donations (?:by check|should be made|are tax)",
    r"wire transfer or payment", r"other email fails", r"michael s\. hart",
    r"prof\.? (?:michael )?hart", r"prefer to send you", r"ftp program", r"ftp session",
    r"login: ?anonymous", r"get (?:gut)?index", r"mac users, do not", r"gutenberg legal advisor",
    r"never copyrighted, sharewared", r'parchment "facsimiles"',
    r"transcription of (?:one of the first|our first)", r"in our series by",
    r"officially (?:re-?)?released", r"associated files of various formats",
    r"portions of this header are copyright", r"editions will replace the previous",
    r"owns a united states copyright", r"full licen[sc]e", r"start: .{0,20}licen[sc]e",
    r"canadian public domain", r"gutenberg\.ca\b", r"made available at no cost and with",
    r"redistribute this file", r"kept? this file on your",
)  # fmt: skip
# Those that do not begin with a certain letter, and what stands in every one of them.
_OTHER_PHRASES = re.compile(
    "|".join([
        r"\be-?texts?\b", r"\be-?books?\b", r"\bpmb 113\b", r"\w\.txt or \w+\.zip", r"\bhart@",
        r"^ftp ", r"\bcd (?:etext|pub/)", r"\(three pages\)",
        r"\[(?:the actual date|date last updated|most recently updated|last updated)",
        r"\[yes, we are", r"\[this file (?:was|last)",
    ])
)  # fmt: skip
_IN_OTHER_PHRASES = ("text", "txt", "book", "pmb 113", "hart@", "ftp ", "cd ", "(three", "[")


def _by_first_letter(phrases: Iterable[str]) -> re.Pattern[str]:
    """A pattern for any of the phrases: four times as fast as to try each of them everywhere."""
    groups: dict[str, list[str]] = {}
    for phrase in phrases:
        groups.setdefault(phrase[0], []).append(phrase[1:])
    return re.compile("|".join(f"{first}(?:{'|'.join(rest)})" for first, rest in groups.items()))


_PLAIN_PHRASES = _by_first_letter(_PHRASES)


def on_one_line(paragraph: str) -> str:
    """A paragraph on one line, in lower case."""
    return " ".join(fold(paragraph).split())


@lru_cache(maxsize=1024)  # paragraphs: licences are much alike
def is_of_wrapping(paragraph: str) -> bool:
    """Whether a paragraph as it stands names the project, or speaks as headers and footers do."""
    plain = on_one_line(paragraph)
    return "gutenberg" in plain or speaks_as_wrapping(plain)


def speaks_as_wrapping(plain: str) -> bool:
    """Whether a paragraph on one line, in lower case, speaks as headers and footers do."""
    if _PLAIN_PHRASES.search(plain):
        return True
    has_other = any(part in plain for part in _IN_OTHER_PHRASES)
    return has_other and bool(_OTHER_PHRASES.search(plain))


# Fields of a header; they count only above the text.
FIELD_LINE = re.compile(
    r"\[?(?:title|author|editor|translator|illustrator|contributor|commentator|release date|"
    r"posting date|first posted|last updated|most recently updated|language|edition|credits|"
    r"character set encoding|original publication|date of first publication)\b[^\n:]{0,30}:"
)
# How a header begins; needed where no marker ends it.
HEADER_OPENING = re.compile(
    r"[\W_]*(?:(?:this is |the |a )*(?:\w+ )?proje[ck]t gutenberg|welcome to the world of"
    r"|title ?:|(?:this |the )*e-?(?:text|book)\b)"
)
# The first line of a further text's header, below the footer of the one before.
NEXT_TEXT = re.compile(
    rf"[\W_]*(?:this\s+is\s+)?(?:the\s+)?{_PG}(?:'s)?\s+(?:e-?text|e-?book)\s+of\s+\w"
    rf"|[\W_]*{_PG}'s\s+\w[^\n]{{0,100}},\s+by\s"
)
# What it begins with, for text that is not folded.
NEXT_TEXT_OPENING = re.compile(rf"[\W_]*(?:this\s+is\s+)?(?:the\s+)?{_PG}", re.I)
# What must be gone from a body: notices that name the project or its files.
RESIDUE_NEEDLES = ("gutenberg", "etext", "e-text", "pglaf", "ebook #", "print!")
RESIDUE = re.compile(
    rf"{_PG}|{_PROJECT}|gutenberg\s+projekt|gutenberg\.(?:org|net|aol|ca|spiegel)|gutenberg-tm|pglaf"
    r"|\be-?texts?\b|\[\s*e-?book\s*#|small\s+print!"
)

# How notices of the project begin, wherever in a text they stand.
NOTICE_OPENING = re.compile(
    r"[\W_]*(?:(?:this|the|a|an|our)\s+)*(?:(?:end|beginning|start)\s+of\s+)?"
    rf"(?:(?:the|this)\s+)?(?:{_PG}(?:'s)?\s+(?:e-?text|e-?book|edition|file|also|has|is\s+a\s+trade)"
    r"|e-?(?:text|book)s?\s+(?:of|was|is|are|were|prepared|produced|edit|transcri|version|#|number|no)"
    r"|(?:file|edition|electronic\s+(?:text|version|edition|book))\s+(?:was|is|of|has|should|pre|pro)"
    r"|produced|prepared|transcri|scanned|digiti[sz]ed|proof-?read|html\s+version|release\s+date"
    r"|posting\s+date|officially|note\s*:|notes?\s+(?:to|on)\s+this|editor'?s?\s+bookmarks"
    r"|(?:january|february|march|april|may|june|july|august|september|october|november|december)"
    r",?\s+\d{4}\s+\[)"
)
# Quotations that the maker of a file listed behind each part of it, in the order of the alphabet.
BOOKMARKS = re.compile(
    r"[^\w\n]*(?:e-?text|e-?book|pg|widger)'?s?\s+(?:editor'?s?\s+)?bookmarks\W*\Z"
)
BOOKMARKS_OPENINGS = ("editor's ", "list of ")
# How the notes of those who made a file begin.
TRANSCRIBER = re.compile(
    r"[^\w\n]*(?:transcri(?:ber|ption|bed|bing)|typographical\s+(?:errors|error)|redactor|"
    r"(?:e-?text\s+)?(?:editor|producer|proofreader|digiti[sz]er)'?s?'?\s+notes?)"
)
TRANSCRIBER_HEADING = re.compile(
    r"[^\w\n]*(?:transcriber|redactor|producer|(?:e-?text\s+)?editor)'?s?'?\s+notes?\W*\Z"
)
# Somebody speaks or is spoken of: no notice of the project does that in the middle of a text.
SOMEBODY = re.compile(r"\b(?:i|i'm|i'd|i've|me|my|you|your|he|him|his|she|her)\b")
# The words of people who make files, not of authors.
NOTICE = re.compile(
    r"\be-?texts?\b|\be-?books?\b|transcri|proof-?read|https?:|www\.|\bhtml?\b|scann|digiti[sz]|"
    r"produced|prepared|volunteer|edition|\bfile|\bzip\b|version|copyright|public domain|web ?site|"
    r"illustrations|archive|donat|releas|\bend of\b"
)
# Sentences of the licence and the small print: if one is left, the body was not told rightly.
_LICENCE = re.compile(
    rf"{_PG}\S*\s+licen[sc]e|small\s+print!|{_PG}\s+literary\s+archive"
    rf"|(?:start|end)\s+of\s+(?:the|this)\s+{_PG}"
    r"|no\s+one\s+owns\s+a\s+united\s+states\s+copyright|you\s+have\s+no\s+remedies\s+for\s+neglig"
)


LICENCE_LEFT_NEEDLES = ("gutenberg", "print!", "united states copyright", "no remedies")


def licence_left(outline: Outline) -> str | None:
    """A sentence of the licence or the small print that stands in a text, if one does."""
    if not any(outline.places(LICENCE_LEFT_NEEDLES).values()):
        return None
    found = _LICENCE.search(fold(outline.text))
    return " ".join(found.group().split()) if found else None


# All words by which the wrapping is found.
_ALL_NEEDLES = (
    *TRACE_NEEDLES, *MARKER_NEEDLES, *JOINED_END_NEEDLES, *RESTRICTIONS_NEEDLES,
    *FILE_NAME_NEEDLES, *LICENCE_NEEDLES, *RESIDUE_NEEDLES, *LICENCE_LEFT_NEEDLES, "bookmarks",
)  # fmt: skip
NEEDLES = tuple(dict.fromkeys(_ALL_NEEDLES))

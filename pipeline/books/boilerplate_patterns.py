"""What Project Gutenberg's wrapping looks like: headers, small print, licence, footers, 1991-2026.

Every pattern is for *folded* text: lower case, same length as the original (`fold`). Patterns for
lines are matched at the start of a line; phrase patterns are searched in a paragraph whose white
space has been collapsed, so hard wraps never hide a phrase.
"""

import re

from pipeline.books.searching import occurrences

_PG = r"project\s+gutenberg"


def fold(text: str) -> str:
    """Lower case of the same length, so that positions in it are positions in `text`."""
    # U+0130 is the one character whose lower case is longer than itself.
    return text.replace("\u0130", "I").lower().replace("\u2019", "'")


# Where any of these occur, the file has to do with Project Gutenberg.
_TRACE = re.compile(
    rf"{_PG}|projekt\s+gutenberg|gutenberg\.(?:org|net)|pglaf\.org|gutenberg-tm|small\s+print!"
)


def has_trace(folded: str) -> bool:
    """Whether a text has anything to do with Project Gutenberg."""
    rare = ("gutenberg", "pglaf.org", "print!")
    return any(word in folded for word in rare) and bool(_TRACE.search(folded))


# Each marker has one of these on its first line or the next.
MARKER_NEEDLES = ("gutenberg", "small print", "small\nprint", "etext", "copyrighted", "top of this")

# --- markers, matched at the start of a line ----------------------------------------------------

_DECORATION = r"[^\w\n]{0,60}"
_TITLE_TO_STARS = r"(?:[^\n*]|\n(?!\n)|\*(?!\*)){0,500}?\*{2,}[^\S\n]*"

START_LINE = re.compile(
    rf"{_DECORATION}(?:start|beginning)\s+of\s+(?:the\s+|this\s+)?(?:copyrighted\s+)?"
    rf"proje[ck]t\s+gutenberg(?:{_TITLE_TO_STARS})?"
)
END_LINE = re.compile(
    rf"{_DECORATION}(?:"
    r"(?:the\s+)?end\s+of\s+(?:\w+\s+){0,5}?proje[ck]t\s+gutenberg"
    r"|(?:ende|fin|fine|fim|einde|slut|slutet|koniec|loppu|vége)\b[^\n]{0,60}?proje[ck]t\s+gutenberg"
    r"|project\s+gutenberg[^\n]{0,80}\b(?:loppu|ends?\s+here)\b"
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
# A last line of old files: asterisks round the word, unlike an author's "THE END".
STARRED_END = re.compile(r"\n[^\S\n]*\*{2,}[^\S\n]*end[^\S\n]*\*{2,}[^\S\n]*\n*\Z")

# --- phrases, searched in a paragraph on one line -----------------------------------------------

# A paragraph with one of these belongs to a header or a footer if it stands in or next to one.
PHRASES = re.compile(
    "|".join(
        [
            r"proje[ck]t gutenberg|gutenberg-tm|gutenberg\.\w|gutenberg projekt|pglaf|promo\.net",
            r"\be-?texts?\b|\be-?books?\b|small print|plain vanilla|readable by both humans",
            r"prepared by (?:hundreds|thousands) of volunteers|copyright laws are changing",
            r"information in this header|electronic path open|do not remove this",
            r"this header should be|first thing seen|without written permission",
            r"information on contacting|further information,? is included|need your donations",
            r"501\(c\)|literary archive|employee identification|\bpmb 113\b|university ave",
            r"champaign, il|lisle, il|benedictine|carnegie-mellon university",
            r"should be (?:named|labeled)\b.{0,60}\.(?:txt|zip|htm)|\w\.txt or \w+\.zip",
            r"editions of our|versions based on separate|new (?:number|letter), ",
            r"trying to release all our|neither this list|official release date",
            r"preliminary version|most people start at our|download .{0,20}before announcement",
            r"first five letters of the|dollars for each hour|one trillion|1 trillion",
            r"projected audience|revised rates of prod|record of our progress",
            r"contributions are (?:only )?being solicited|filed in (?:about|all)",
            r"requirements for other states|various questions we have|finishing the paperwork",
            r"we cannot solicit|international donations|tax.deductible|internal revenue service",
            r"donations (?:by check|should be made|are tax)|wire transfer or payment",
            r"other email fails|\bhart@|michael s\. hart|prof\.? (?:michael )?hart",
            r"prefer to send you|ftp program|ftp session|^ftp |login: ?anonymous",
            r"\bcd (?:etext|pub/)|get (?:gut)?index|mac users, do not|gutenberg legal advisor",
            r"\(three pages\)|never copyrighted, sharewared|parchment \"facsimiles\"",
            r"transcription of (?:one of the first|our first)|in our series by",
            r"\[(?:the actual date|date last updated|most recently updated|last updated)",
            r"\[yes, we are|\[this file (?:was|last)|officially (?:re-?)?released",
            r"associated files of various formats|portions of this header are copyright",
            r"editions will replace the previous|owns a united states copyright|full licen[sc]e",
            r"start: .{0,20}licen[sc]e",
        ]
    )
)
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
# What must be gone from a body: notices that name the project or its files.
RESIDUE_NEEDLES = ("gutenberg", "etext", "e-text", "pglaf", "ebook #", "print!")
_RESIDUE = re.compile(
    rf"{_PG}|projekt\s+gutenberg|gutenberg\s+projekt|gutenberg\.(?:org|net|aol)|gutenberg-tm|pglaf"
    r"|\be-?texts?\b|\[\s*e-?book\s*#|small\s+print!"
)


def residue(folded: str, begin: int = 0, end: int | None = None) -> list[int]:
    """Where a stretch of text names the project or speaks of etexts."""
    stretch = folded[begin:end]
    return [
        begin + at
        for at in occurrences(stretch, RESIDUE_NEEDLES)
        if _RESIDUE.search(stretch, max(0, at - 16), at + 24)
    ]


# How the notes of those who made a file begin.
TRANSCRIBER = re.compile(
    r"[^\w\n]*(?:transcri(?:ber|ption|bed|bing)|typographical\s+(?:errors|error)|redactor|"
    r"(?:e-?text\s+)?(?:editor|producer|proofreader|digiti[sz]er)'?s?'?\s+notes?)"
)
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


def licence_left(folded: str) -> str | None:
    """A sentence of the licence or the small print that stands in a text, if one does."""
    rare = ("gutenberg", "print!", "united states copyright", "no remedies")
    if not any(word in folded for word in rare):
        return None
    found = _LICENCE.search(folded)
    return " ".join(found.group().split()) if found else None

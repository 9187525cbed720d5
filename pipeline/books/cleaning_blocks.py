"""Cleaning rules that need to see paragraphs: credits, transcribers' notes, contents lists,
illustrations. Each returns the changed text and how many things it removed."""

import re
from collections.abc import Iterable, Iterator
from itertools import chain, islice, pairwise

from pipeline.books.searching import bracket_pairs, outermost

_PARAGRAPH = re.compile(r"[^\n]+(?:\n[^\n]+)*")

Span = tuple[int, int]


def _paragraphs(text: str, start: int = 0) -> Iterator[Span]:
    return (match.span() for match in _PARAGRAPH.finditer(text, start))


def _cut(text: str, spans: Iterable[Span]) -> tuple[str, int]:
    """The text without the spans. Where one stood alone between empty lines, these stay."""
    pieces = []
    position = count = 0
    for start, end in sorted(spans):
        if start < position:
            continue
        pieces.append(text[position:start])
        position = end
        count += 1
    pieces.append(text[position:])
    return "".join(pieces), count


# --- credits --------------------------------------------------------------------------------------

_WORKED = (
    r"prepared|produced|created|transcribed|scanned|typed|keyed|entered|converted|contributed|"
    r"provided|digiti[sz]ed|re-?formatted|proof-?read|proofed|reproofed|corrected|submitted|ocr'?e?d"
)
_CREDIT_LINE = re.compile(
    rf"[\W_]*(?:"
    rf"(?:this\s+|the\s+)?(?:e-?text|e-?book|book|text|file|edition|html\s+version|etext\s+edition)"
    rf"\s+(?:file\s+)?(?:was\s+|is\s+|has\s+been\s+)?(?:originally\s+|generously\s+)?(?:{_WORKED})\b"
    rf"|(?:{_WORKED})(?:\s+(?:and|&)\s+\w+|,\s+\w+)*(?:\s+for\s+\S.{{0,60}})?\s+(?:by|from)\b"
    r"|(?:html|margination|further\s+corrections|additional\s+(?:proof|edit|correct)\w+)\b.{0,40}\bby\b"
    r"|chapters?\s+[\d\-]+:?\s+(?:mostly\s+)?scanned"
    r"|from\s+the\s+\S.{0,40}\b(?:readers'?\s+club|bbs)\b"
    r"|.{0,60}distributed\s+proofread"
    r"|note:\s+(?:images?|project|the\s+original|see\b|there\s+is|html)"
    r"|(?:from\s+)?(?:page\s+|scanned\s+)?images\s+(?:generously\s+|of\s+the\s+original\s+pages\s+)?"
    r"(?:made\s+available|provided|courtesy|are\s+available)"
    r"|(?:the\s+)?internet\s+archive\b|https?://\S+\W*$"
    r"|credits?\W*$"
    r")",
    re.I,
)
# What only those who make files speak of; needed where a printed book might say "produced by".
_CREDIT_EVIDENCE = re.compile(
    r"\be-?texts?\b|\be-?books?\b|scann|proof-?read|\bproofed|\bocr\b|@|https?:|www\.|\bhtml\b|"
    r"digiti[sz]|\bpg\b|\bbbs\b|internet|transcribed from",
    re.I,
)
_HEAD = 4000  # characters below the START marker in which credits stand
_TAIL_PARAGRAPHS = 6
_LONGEST_CREDIT = 1200


def remove_credits(text: str) -> tuple[str, int]:
    """ "Produced by ...", "Transcribed from ... by ...", "Scanned by ...": the lines of those who
    made the file, next to its beginning and its end."""
    spans = []
    at_top = True
    head = [span for span in _paragraphs(text[: _HEAD + _LONGEST_CREDIT]) if span[0] < _HEAD]
    for start, end in head:
        credit = _credit_from(text, start, end)
        if credit is not None and (at_top or _CREDIT_EVIDENCE.search(text, start, end)):
            spans.append((credit, end))
        elif end - start > 100:
            at_top = False
    spans += _tail_credits(text, head[-1][1] if head else 0)
    if "istributed Proof" in text:
        for match in _PARAGRAPH.finditer(text):
            if "istributed Proof" in match.group() and _CREDIT_LINE.match(match.group()):
                spans.append(match.span())
    return _cut(text, {span for span in spans if span[1] - span[0] <= _LONGEST_CREDIT})


def _credit_from(text: str, start: int, end: int) -> int | None:
    """Where in a paragraph the credits begin: at once, or with a later line of its own."""
    lines = text[start:end].split("\n")
    if _CREDIT_LINE.match(lines[0]):
        return start
    credits = [number for number, line in enumerate(lines) if _CREDIT_LINE.match(line)]
    if not credits or len(lines) > 8 or (credits[0] > 1 and len(credits) == 1):
        return None
    if len(credits) > 1 and credits[0] == 1 and ("@" in text[start:end]):
        return start  # "Chapters 20-24 / Scanned by ... / Proofread by ..."
    return start + sum(len(line) + 1 for line in lines[: credits[0]])


def _tail_credits(text: str, after: int) -> list[Span]:
    tail = list(_paragraphs(text, max(after, len(text) - 2 * _HEAD)))[-_TAIL_PARAGRAPHS:]
    return [
        (start, end)
        for start, end in tail
        if _CREDIT_LINE.match(text, start, end) and _CREDIT_EVIDENCE.search(text, start, end)
    ]


# --- brackets -------------------------------------------------------------------------------------


def _bracketed(text: str, opening: re.Pattern[str], longest: int) -> list[Span]:
    """The brackets that begin as `opening` says, with all that is nested in them. One that is not
    closed within `longest` characters is left alone."""
    wanted = {match.start() for match in opening.finditer(text)}
    if not wanted:
        return []
    return outermost(span for span in bracket_pairs(text, longest) if span[0] in wanted)


_ILLUSTRATION = re.compile(
    r"\[[ _*]*(?:Illustrations?|Illus\.|Frontispiece|Picture|Image|Cover|Decoration|Vignette|Plate|"
    r"Tail-?piece|Head-?piece|Colophon|Map|Abbildung|Ilustraci[oó]n|Illustrazione|Illustratie|"
    r"Gravure|Kuva|Kuvitus)s?\b[ _]*(?=[\]:.,;\n\[(]|No\b|\d)",
    re.I,
)


def remove_illustrations(text: str) -> tuple[str, int]:
    """[Illustration], [Illustration: with a caption of several lines], [Frontispiece]."""
    if "[" not in text:
        return text, 0
    return _cut(text, _bracketed(text, _ILLUSTRATION, 3000))


# --- transcribers' notes --------------------------------------------------------------------------

_NOTE_WORDS = (
    r"(?:transcriber|transcription|redactor|proof-?reader|digiti[sz]er|e-?text\s+(?:editor|producer))"
    r"(?:['’]?s?['’]?)\s+(?:end-?\s?|foot-?)?(?:note|comment|correction|remark)s?"
    r"|(?:typographical|printer'?s?)\s+errors?\s+(?:have\s+been\s+)?corrected\s+by\s+the\s+(?:e-?text\s+)?transcriber"
)
_NOTE_BRACKET = re.compile(rf"\[[\s_*]*(?:{_NOTE_WORDS}|transcriber:|T\.?N\.?:)", re.I)
_NOTE_PARAGRAPH = re.compile(rf"[\s_*=]*(?:{_NOTE_WORDS})[\s_*:.=\-–—]*", re.I)
_NOTE_BOX = re.compile(r"^[ ]*\+[-=]{4,}\+?[ ]*\n(?:[ ]*\|[^\n]*\n)+[ ]*\+[-=]{4,}\+?[ ]*$", re.M)
_RULE = re.compile(r"[ ]*(?:[-=_*][ ]*){3,}\Z")
# A note that does not say what it is: "[This text is for users whose readers cannot ..."
_FILE_BRACKET = re.compile(
    r"\[[\s_*]*this\s+(?:plain\s+)?(?:text|e-?text|e-?book|file|version)\b", re.I
)
_FILE_TALK = re.compile(r"unicode|utf-?8|\bascii\b|latin-?1|\bhtml\b|e-?text|e-?book", re.I)
_NOTE_NEEDLES = (
    *("ranscri", "RANSCRI", "edactor", "EDACTOR", "roofreader", "roof-reader", "igiti"),
    *("T.N", "TN:"),
)
_TRANSCRIBER = re.compile(r"transcri", re.I)
_LONGEST_NOTE = 6000
_LONGEST_END_NOTE = 15_000
_NOTE_TALK = re.compile(
    r"spelling|error|corrected|retained|hyphen|punctuation|original|printed|text|underscore|"
    r"typograph|changed|edition|inconsisten|italic",
    re.I,
)


def remove_transcriber_notes(text: str) -> tuple[str, int]:
    """Notes of those who typed the file: in brackets, in a box, in a paragraph that says so, under
    a heading as far as the next gap, and at the end of the file to its end."""
    spans = [
        span
        for span in _bracketed(text, _FILE_BRACKET, _LONGEST_NOTE)
        if _FILE_TALK.search(text, *span)
    ]
    if not spans and not any(needle in text for needle in _NOTE_NEEDLES):
        return text, 0
    spans += _bracketed(text, _NOTE_BRACKET, _LONGEST_NOTE)
    if "+--" in text or "+==" in text:
        spans += [m.span() for m in _NOTE_BOX.finditer(text) if _TRANSCRIBER.search(m.group())]
    covered = {start for start, _ in spans}
    paragraphs = list(_paragraphs(text))
    for number, (start, end) in enumerate(paragraphs):
        match = _NOTE_PARAGRAPH.match(text, start, end)
        if match and start not in covered:
            spans.append((start, _note_end(text, paragraphs, number, match.end() >= end)))
    return _cut(text, outermost(spans))


def _note_end(text: str, paragraphs: list[Span], number: int, heading_only: bool) -> int:
    """Where a note ends: with the file, at the next gap or rule, else with its own paragraph (or
    the one under its heading)."""
    start, end = paragraphs[number]
    if len(text) - start <= _LONGEST_END_NOTE and start >= 0.7 * len(text):
        return len(text)
    following = paragraphs[number + 1 : number + 40]
    note_end = end
    for index, (begin, stop) in enumerate(following):
        wide = text.count("\n", note_end, begin) > 2 and (index or not heading_only)
        if wide or _RULE.match(text, begin, stop):
            return note_end
        talks = heading_only or _NOTE_TALK.search(text, begin, stop)
        if stop - start > _LONGEST_NOTE or not talks:
            break
        note_end = stop
    if heading_only and following and _NOTE_TALK.search(text, *following[0]):
        return following[0][1]
    return end


# --- contents lists -------------------------------------------------------------------------------

_CONTENTS_HEADING = re.compile(
    r"^[ _*=]*(?=[ctlist\u00ed])(?:"
    r"(?:the[ ]|table[ ]of[ ])?contents(?:[ ]of[ ][^\n]{1,40})?"
    r"|list[ ]of[ ](?:illustrations|plates|tales|stories|chapters)|illustrations"
    r"|inhalt(?:sverzeichnis)?|sis[äa]llys(?:luettelo)?|table[ ]des[ ]mati[èe]res"
    r"|inhoud|inneh[åa]ll|[íi]ndice)[.:]?[ _*=]*$",
    re.I | re.M,
)
_ENTRY = re.compile(
    r"[\W_]*(?:chapter|chap\.|book|part|act|scene|letter|section|volume|vol\.|canto|prologue|epilogue|"
    r"preface|introduction|appendix|index|notes|conclusion|kapitel|chapitre|osa|teil|"
    r"[ivxlcdm]+\b[.:)\- ]|[ivxlcdm]+$|\d{1,3}\b[.:)\- ])",
    re.I,
)
_ENTRY_PAGE = re.compile(r"(?:[ ]{2,}|[ .·]{3,}|[ ]\.)[ ]*(?:\d{1,4}|[ivxlcdm]{1,8}|page)$", re.I)
_LONGEST_ENTRY = 64
_LONGEST_LINE = 90
_FEWEST_ENTRIES = 3
_MOST_ENTRIES = 500  # paragraphs


def remove_contents(text: str) -> tuple[str, int]:
    """A heading such as CONTENTS with the list of short entries under it."""
    spans: list[Span] = []
    for heading in _CONTENTS_HEADING.finditer(text):
        if spans and heading.start() < spans[-1][1]:
            continue
        end = _contents_end(text, heading.end())
        if end is not None:
            spans.append((heading.start(), end))
    return _cut(text, spans)


def _contents_end(text: str, start: int) -> int | None:
    """Where the list under a contents heading ends; None if no list stands there.

    The list ends where its first entry comes again (as the heading of the first chapter), at a
    gap wider than those between its entries, or at the first paragraph that is no entry.
    """
    entries: list[str] = []
    end = start
    widest_gap = 2  # line ends between two entries
    paragraphs = islice(_paragraphs(text, start), _MOST_ENTRIES)
    for (begin, stop), following in pairwise(chain(paragraphs, [(len(text), len(text))])):
        lines = _lines(text, begin, stop)
        gap = text.count("\n", end, begin)
        if not _is_list(lines):
            break
        if entries and gap > widest_gap:
            heads_a_part = gap <= 4 and _goes_on(_lines(text, *following))
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
    return end if len(entries) >= _FEWEST_ENTRIES else None


def _lines(text: str, start: int, end: int) -> list[str]:
    return [line.strip() for line in text[start:end].split("\n")]


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

"""Cleaning rules for what those who made the file put in: credits, transcribers' notes, and what
stands in brackets that name it: illustrations, sidenotes. Each returns the changed text and how
many things it removed."""

import re
from bisect import bisect_right
from collections.abc import Iterator, Sequence
from itertools import islice

from pipeline.books.cleaning_table import line_table, places_of
from pipeline.books.searching import (
    Span,
    closed_brackets,
    cut,
    lift,
    occurrences,
    outermost,
    paragraphs,
)

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
# In small letters: one of them stands in whatever these lines match.
_CREDIT_NEEDLES = (
    *("prepared", "produced", "created", "transcribed", "scanned", "typed", "keyed", "entered"),
    *("converted", "contributed", "provided", "digiti", "formatted", "proof", "corrected"),
    *("submitted", "ocr", "html", "margination", "corrections", "additional", "club", "bbs"),
    *("note:", "images", "internet", "http", "credit"),
)
_HEAD = 4000  # characters below the START marker in which credits stand
_TAIL_PARAGRAPHS = 6
_LONGEST_CREDIT = 1200


def remove_credits(text: str) -> tuple[str, int]:
    """ "Produced by ...", "Transcribed from ... by ...", "Scanned by ...": the lines of those who
    made the file, next to its beginning and its end."""
    spans = []
    at_top = True
    top = text[: _HEAD + _LONGEST_CREDIT]
    head = [span for span in paragraphs(top) if span[0] < _HEAD]
    places = occurrences(top.lower(), _CREDIT_NEEDLES)
    for start, end in head:
        # A few letters are two in lower case, so that the places may lie a little further.
        likely = _any_within(places, start - 1, end + _LONGEST_CREDIT)
        credit = _credit_from(text, start, end) if likely else None
        if credit is not None and (at_top or _CREDIT_EVIDENCE.search(text, start, end)):
            spans.append((credit, end))
        elif end - start > 100:
            at_top = False
    spans += _tail_credits(text, head[-1][1] if head else 0)
    if "istributed Proof" in text:
        spans += _proofreaders(text)
    return cut(text, {span for span in spans if span[1] - span[0] <= _LONGEST_CREDIT})


def _proofreaders(text: str) -> Iterator[Span]:
    end = 0
    for at in occurrences(text, ["istributed Proof"]):
        if at < end:
            continue
        start, end = next(paragraphs(text, text.rfind("\n\n", end, at) + 1))
        if _CREDIT_LINE.match(text, start, end):
            yield start, end


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
    tail = list(paragraphs(text, max(after, len(text) - 2 * _HEAD)))[-_TAIL_PARAGRAPHS:]
    return [
        (start, end)
        for start, end in tail
        if _CREDIT_LINE.match(text, start, end) and _CREDIT_EVIDENCE.search(text, start, end)
    ]


# --- brackets -------------------------------------------------------------------------------------


def bracketed(text: str, opening: re.Pattern[str], longest: int) -> list[Span]:
    """The brackets that begin as `opening` says, with all that is nested in them. One that is not
    closed within `longest` characters, or not before the next paragraph that opens such a bracket,
    is left alone."""
    wanted = [start for start in places_of(text, "[") if opening.match(text, start)]
    if not wanted:
        return []
    pairs = closed_brackets(text, wanted, longest)
    opens_paragraph = [start for start in wanted if text[start - 2 : start] == "\n\n"]
    return outermost(span for span in pairs if not _any_within(opens_paragraph, *span))


def _any_within(places: list[int], start: int, end: int) -> bool:
    following = bisect_right(places, start)
    return following < len(places) and places[following] < end


_ILLUSTRATION = re.compile(
    r"\[[ _*]*(?:(?:(?:Full[ -]page |Colou?red )?Illustrations?|Illus\.|Frontispiece|Picture|Image|"
    r"Cover|Decoration|Vignette|Plate|Tail-?piece|Head-?piece|Colophon|Map|Portrait|Facsimile|"
    r"Abbildung|Ilustraci[oó]n|Illustrazione|Illustratie|Gravure|Kuva|Kuvitus|Ilustra[cç][aã]o"
    r")s?\b[ _]*(?=[\]:.,;\n\[(]|No\b|\d)"
    r"|(?:Blank Page|Music|Music(?:al)? (?:notation|score)|Sheet music|Listen|MusicXML)"
    r"[ _]*(?=\]))",
    re.I,
)
_LONGEST_CAPTION = 3000


def remove_illustrations(text: str) -> tuple[str, int]:
    """[Illustration], [Illustration: with a caption of several lines], [Frontispiece], and other
    things that a text file has no place for: [Blank Page], [Music]."""
    return lift(text, bracketed(text, _ILLUSTRATION, _LONGEST_CAPTION))


_SIDENOTE = re.compile(
    r"\[[ _*]*(?:Side-?\s?notes?|Marginal\s+note|Margin(?:\s+note)?|Running\s+head(?:er|ing|line)?|"
    r"Page\s+head(?:er|ing|line)?|Head-?line|Randnotiz|Randbemerkung|Note\s+marginale|"
    r"Notes?\s+en\s+marge|En\s+marge|Kanttekening|Reunahuomautus)\s*[:.]",
    re.I,
)
_LONGEST_SIDENOTE = 1500


def remove_sidenotes(text: str) -> tuple[str, int]:
    """[Sidenote: what stood in the margin]; what it stood beside closes up."""
    return lift(text, bracketed(text, _SIDENOTE, _LONGEST_SIDENOTE))


# --- transcribers' notes --------------------------------------------------------------------------

_NOTE_WORDS = (
    r"(?:transcriber|transcription|redactor|proof-?reader|digiti[sz]er|e-?text\s+(?:editor|producer))"
    r"(?:['’]?s?['’]?)\s+(?:end-?\s?|foot-?)?(?:note|comment|correction|remark)s?"
    r"|(?:anmerkung(?:en)?|hinweise?|notiz(?:en)?)\s+zur\s+transkription|transkriptionsnotizen"
    r"|notes?\s+(?:de\s+la\s+|de\s+|du\s+)transcript(?:eur|rice|ion)|nota\s+del?\s+tran?scri\w+"
    r"|opmerkingen\s+van\s+de\s+(?:bewerker|transcri\w+)"
    r"|(?:typographical|printer'?s?)\s+errors?\s+(?:have\s+been\s+)?corrected\s+by\s+the\s+(?:e-?text\s+)?transcriber"
)
# The letters with which these begin, and the characters that may stand before them.
_NOTE_OPENINGS = (
    *("trans", "redac", "proof", "digit", "etext", "e-tex", "anmer", "hinwe", "notiz", "note "),
    *("note\n", "notes", "nota ", "nota\n", "opmer", "typog", "print"),
)
_ODD_OPENINGS = "\n\t\r\x0b\x0c\x85\xa0\u2028\u2029\u3000"
_NOTE_BRACKET = re.compile(
    rf"\[[\s_*]*(?:{_NOTE_WORDS}|transcriber:|T\.?N\.?:|\*\*(?=[^\]*]))", re.I
)
# Behind the words something must part them from what follows: "Transcriber's notes lay on the desk"
# is a story.
_NOTE_PARAGRAPH = re.compile(
    rf"[\s_*=]*(?:{_NOTE_WORDS})(?=[ _*]*(?:[:.=\-–—\n\]]|\Z))[\s_*:.=\-–—\]]*", re.I
)
# An entry of a list of corrections: "Page 12: teh -> the".
_CORRECTION = re.compile(
    r"[\W_]*(?:pp?\.|pg\.?|page|line|chapter|footnote|note|s\.|seite)\s*\d|[^\n]{0,200}?(?:->|=>|→)",
    re.I,
)
_NOTE_BOX = re.compile(r"^[ ]*\+[-=]{4,}\+?[ ]*\n(?:[ ]*\|[^\n]*\n)+[ ]*\+[-=]{4,}\+?[ ]*$", re.M)
_RULE = re.compile(r"[ ]*(?:[-=_*][ ]*){3,}\Z")
# A note that does not say what it is: "[This text is for users whose readers cannot ..."
_FILE_BRACKET = re.compile(
    r"\[[\s_*]*this\s+(?:plain\s+)?(?:text|e-?text|e-?book|file|version)\b", re.I
)
_FILE_TALK = re.compile(r"unicode|utf-?8|\bascii\b|latin-?1|\bhtml\b|e-?text|e-?book", re.I)
# Next to the beginning: "[The text is taken from the first edition.]"
_SOURCE_BRACKET = re.compile(
    r"\[[\s_*]*(?:the|this)\s+(?:present\s+)?(?:e-?text|text|e-?book|file)\s+(?:is|was|has\s+been|here)\s+"
    r"(?:take|based|scan|reproduc|prepar|deriv|cop|from|transcri|that\s+of)",
    re.I,
)
_NOTE_NEEDLES = (
    *("ranscri", "RANSCRI", "edactor", "EDACTOR", "roofreader", "roof-reader", "igiti"),
    *("T.N", "TN:", "[**", "ranskri", "RANSKRI", "trascri", "merkingen van de"),
)
_TRANSCRIBER = re.compile(r"transcri", re.I)
_LONGEST_NOTE = 6000
_LONGEST_END_NOTE = 15_000
_MOST_FOLLOWING = 39  # paragraphs
_NOTE_TALK = re.compile(
    r"spelling|error|corrected|retained|hyphen|punctuation|original|printed|text|underscore|"
    r"typograph|changed|edition|inconsisten|italic|transcri|public domain|cover image|"
    r"schreib|druckfehler|korrigiert|erreurs|corrig|orthogra|spelfout|errores|errori",
    re.I,
)


def remove_transcriber_notes(text: str) -> tuple[str, int]:
    """Notes of those who typed the file: in brackets, in a box, in a paragraph that says so, under
    a heading as far as the next gap, and at the end of the file to its end."""
    spans = [
        span
        for span in bracketed(text, _FILE_BRACKET, _LONGEST_NOTE)
        if _FILE_TALK.search(text, *span)
    ]
    spans += bracketed(text[: _HEAD + _LONGEST_CREDIT], _SOURCE_BRACKET, _LONGEST_CREDIT)
    notes = bracketed(text, _NOTE_BRACKET, _LONGEST_NOTE)
    notes += _note_boxes(text)
    notes += _note_paragraphs(text, {start for start, _ in spans + notes})
    if notes and not spans and not any(needle in text for needle in _NOTE_NEEDLES):
        return text, 0
    return cut(text, outermost(spans + notes))


def _note_boxes(text: str) -> Iterator[Span]:
    if "+" not in text or ("+--" not in text and "+==" not in text):
        return
    for start in line_table(text).opened(characters="+"):
        box = _NOTE_BOX.match(text, start)
        if box and _TRANSCRIBER.search(box.group()):
            yield box.span()


def _note_paragraphs(text: str, covered: set[int]) -> Iterator[Span]:
    for start in line_table(text).opened(_NOTE_OPENINGS, _ODD_OPENINGS, paragraphs=True):
        if start in covered or text[start : start + 1] in ("", "\n"):
            continue
        _, end = next(paragraphs(text, start))
        match = _NOTE_PARAGRAPH.match(text, start, end)
        if match:
            yield start, _note_end(text, start, end, match.end() >= end)


def _is_note_to_the_end(text: str, position: int) -> bool:
    """Whether all that follows speaks of the file, or lists corrections."""
    return all(_is_of_a_note(text, *span) for span in paragraphs(text, position))


def _is_of_a_note(text: str, start: int, end: int) -> bool:
    return bool(_NOTE_TALK.search(text, start, end) or _CORRECTION.match(text, start, end))


def _is_mostly_note(text: str, spans: Sequence[Span]) -> bool:
    """Whether half of these paragraphs, by their length, speak of the file."""
    speaking = sum(end - start for start, end in spans if _is_of_a_note(text, start, end))
    return 2 * speaking >= sum(end - start for start, end in spans)


_PART_HEADING = re.compile(
    r"[\W_]*(?:(?:chapter|book|part|act|scene|letter|canto|kapitel|chapitre)\s+(?:\d+|[ivxlcdm]+)\b"
    r"|appendix|epilogue|afterword|postscript|glossary|index|conclusion)[^\n]{0,60}\Z",
    re.I,
)


def _last_note_end(text: str, end: int) -> int | None:
    """Where a note ends whose heading stands next to the end of the file: with the file, or where
    something begins (behind a gap, a rule or with a heading of its own) that is not mostly about
    the file. None if what follows is not."""
    following = list(paragraphs(text, end))
    note_end = end
    for index, (begin, stop) in enumerate(following):
        is_parted = (
            (index and text.count("\n", note_end, begin) > 2)
            or _RULE.match(text, begin, stop)
            or _PART_HEADING.match(text[begin:stop].rstrip())
        )
        if is_parted and not _is_mostly_note(text, following[index:]):
            return note_end
        note_end = stop
    return len(text) if _is_mostly_note(text, following) else None


def _note_end(text: str, start: int, end: int, heading_only: bool) -> int:
    """Where a note ends that begins with a paragraph: with the file, at the next gap or rule, else
    with its own paragraph (or the one under its heading)."""
    if len(text) - start <= _LONGEST_END_NOTE and start >= 0.7 * len(text):
        if heading_only and (last := _last_note_end(text, end)) is not None:
            return last
        if not heading_only and _is_note_to_the_end(text, end):
            return len(text)
    following = list(islice(paragraphs(text, end), _MOST_FOLLOWING))
    note_end = end
    for index, (begin, stop) in enumerate(following):
        wide = text.count("\n", note_end, begin) > 2 and (index or not heading_only)
        if wide or _RULE.match(text, begin, stop):
            return note_end
        talks = heading_only or _is_of_a_note(text, begin, stop)
        if stop - start > _LONGEST_NOTE or not talks:
            break
        note_end = stop
    if heading_only and following and _NOTE_TALK.search(text, *following[0]):
        return following[0][1]
    return end

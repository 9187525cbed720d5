"""Cleaning rules for what refers to other places: page numbers, footnotes and their marks. Each
returns the changed text and how many things it removed."""

import re
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import islice, pairwise, zip_longest

from pipeline.books.cleaning_blocks import bracketed
from pipeline.books.cleaning_table import places_of
from pipeline.books.searching import Span, lift, lines_opened, outermost, substitute

# --- page numbers and note marks ------------------------------------------------------------------

_ROMAN = r"(?=[ivxlcdm])m{0,3}(?:cm|cd|d?c{0,3})(?:xc|xl|l?x{0,3})(?:ix|iv|v?i{0,3})"
_NUMBER = rf"(?:\d{{1,4}}[a-z]?|{_ROMAN})"
_PAGE_WORD = r"(?:Page|page|PAGE|Pg|pg|PG|P|p|S|s)\.?\s?"
_PAGE_OR_NUMBER = re.compile(
    rf"[\[{{](?<![_^][\[{{])\s*(?P<word>{_PAGE_WORD})?{_NUMBER}\s*[\]}}](?P<space>[ ]?)"
)
# In mid-sentence, where a page ended: the two halves of the paragraph belong together.
_PAGE_IN_SENTENCE = re.compile(
    rf"\n(?<=[a-z,;\-]\n)\n+[ ]*(?:\[\s*{_PAGE_WORD}{_NUMBER}\s*\]|\{{{_NUMBER}\}}"
    rf"|\[{_NUMBER}\](?=[ ]*\n))(?:[ ]*\n+)?[ ]*(?=[a-z])"
)
_NUMBER_ALONE = re.compile(rf"[ ]*\[{_NUMBER}\][ ]*$", re.M)
_FEWEST_PAGES = 3  # a number alone in brackets may head a part; several are pages
_NUMBER_IN_BRACES = re.compile(r"\{(?!\s*(?:[a-z]|mix|mi|di|li)\s*\})")


def remove_page_numbers(text: str) -> tuple[str, int]:
    """[Pg 12], [p. xii], {12}, and a number in brackets that has a line to itself."""
    numbers = _numbers(text)
    if not numbers:
        return text, 0
    text, in_sentence = substitute(_PAGE_IN_SENTENCE, _ends_above(text, numbers), "\n", text)
    if in_sentence:
        numbers = _numbers(text)
    alone = (at for at in lines_opened(text, numbers) if _NUMBER_ALONE.match(text, at))
    pages_alone = len(list(islice(alone, _FEWEST_PAGES))) == _FEWEST_PAGES
    kept = 0

    def remove(match: re.Match[str]) -> str:
        nonlocal kept
        start, end = match.span()
        before, behind = text[max(0, start - 80) : start], text[end : end + 80]
        at_line_start = before.rstrip(" ")[-1:] in ("", "\n")
        at_line_end = behind.lstrip(" ")[:1] in ("", "\n")
        is_page = match["word"] or _NUMBER_IN_BRACES.match(match.group())
        if at_line_start and at_line_end and (is_page or (pages_alone and end - start <= 6)):
            return "\n"  # what stands above it and what stands below are two paragraphs
        if not is_page:
            kept += 1
            return match.group()
        return "" if at_line_start or before.endswith(" ") else match["space"]

    text, found = substitute(_PAGE_OR_NUMBER, numbers, remove, text)
    return text, in_sentence + found - kept


def _numbers(text: str) -> list[int]:
    """Where a page or another number stands in brackets."""
    return [at for at in places_of(text, "[{") if _PAGE_OR_NUMBER.match(text, at)]


def _ends_above(text: str, places: list[int]) -> Iterator[int]:
    """The ends of the lines above the places that have empty lines between."""
    for line in lines_opened(text, places):
        end = line
        while end and text[end - 1] == "\n":
            end -= 1
        if line - end > 1:
            yield end


_NUMBERED = r"(?:FN|fn|Note|note|n)?[ #.\-]{0,2}\d{1,4}[a-z]?"
_MARK_IN_A_LINE = re.compile(
    rf"\[(?<=[^\s\[(]\[)(?:{_NUMBERED}|\*{{1,3}}|†|‡|[A-Z](?=\](?![^\W\d_])))\]"  # "[T]he" stays
    rf"|\[{_NUMBERED}\](?=[^\W_])|\{{\*\d{{1,3}}\}}"
)
# A single letter here could number a part of a poem: [I], [V], [X].
_MARK_AT_A_NOTE = re.compile(
    rf"([ ]*)(?:\[(?:{_NUMBERED}|\*{{1,3}}|†|‡|[A-HJ-UWYZ])\]|\{{\*\d{{1,3}}\}})[ ]+(?=\S)"
)


def remove_note_marks(text: str) -> tuple[str, int]:
    """The marks of footnotes: behind a word, and before a note, which then stands by itself."""
    brackets = places_of(text, "[{")
    lines = lines_opened(text, brackets)
    text, at_notes = substitute(_MARK_AT_A_NOTE, lines, _below, text)
    if at_notes:
        brackets = places_of(text, "[{")
    text, in_lines = substitute(_MARK_IN_A_LINE, brackets, "", text)
    return text, at_notes + in_lines


def _below(mark: re.Match[str]) -> str:
    return f"\n{mark[1]}"


# --- footnotes ------------------------------------------------------------------------------------

_NOTE_WORD = (
    r"(?:Foot-?notes?|Fu(?:ß|ss)note|Endnote|Anmerkung|Voetnoot|Alaviite|Viite|Fotnot|Fodnote|Noot|"
    r"Nota al pie|Nota a pi[eè] di pagina|Note de bas de page)"
)
_BRACKETED_NOTE = re.compile(
    rf"\[[ _*]*(?:{_NOTE_WORD}(?:\s+[\w*†‡§.]{{1,8}})?\s*[:.\]]"
    r"|(?:Note|Nota|FN)\s+\d{1,4}[a-z]?\s*[:.]\s)",
    re.I,
)
_LONGEST_NOTE = 15_000
_NOTES_HEADING = re.compile(
    r"[ _*=]*(?:foot-?notes?|end-?notes?|notes?|fu(?:ß|ss)noten?|anmerkung(?:en)?|viiteselitykset|"
    r"viitteet|alaviitteet|voetnoten|noten|fotnoter|noter|notas|note)(?:\s+(?:to|zu|zum|du|de)\b[^\n]{1,40})?"
    r"[ _*=.:—\-]*",
    re.I,
)
_MARK = re.compile(rf"\[(?:{_NUMBERED}|\*{{1,3}}|†|‡|[A-Z])\]|\{{\*\d{{1,3}}\}}")
_NOT_THE_KEY = re.compile(r"\W|FN|fn|[Nn]ote|^n")
_DEEPEST_NOTE = 16  # characters of indent
_FEWEST_COLLECTED = 4  # notes that stand together, and not below the paragraph of their marks
_MOST_BETWEEN = 4000  # characters by which a note may go on in paragraphs of its own


@dataclass
class _Note:
    """A paragraph, or a part of one, that begins with the mark that stands at `reference`."""

    start: int
    end: int
    key: str
    reference: int


def remove_footnotes(text: str) -> tuple[str, int]:
    """[Footnote 1: ...], and paragraphs that begin with a mark, such as [1] or *, which stands
    behind a word somewhere above; with the heading over them, if that says that they are notes."""
    spans: list[Span] = []
    if "[" in text:
        spans += bracketed(text, _BRACKETED_NOTE, _LONGEST_NOTE)
    spans += _marked_notes(text)
    if "*" in text or "†" in text:
        spans += _starred_notes(text)
    if not spans:
        return text, 0
    spans = outermost(spans)
    return lift(text, [*spans, *_headings_of(text, spans)])


def _marked_notes(text: str) -> Iterator[Span]:
    notes = list(_notes_with_reference(text))
    for first, last in _runs(notes):
        run = notes[first:last]
        are_collected = len(run) >= _FEWEST_COLLECTED or bool(_heading_above(text, run[0].start))
        for note, following in zip_longest(run, run[1:]):
            end = note.end
            if following and 0 < following.start - end <= _MOST_BETWEEN:
                between = text[end : following.start].rstrip()
                if are_collected or _is_set_in(between):
                    end += len(between)  # it goes on below its first paragraph
            yield note.start, end


def _runs(notes: list[_Note]) -> Iterator[tuple[int, int]]:
    """The notes that are numbered on and all of whose marks stand above the first of them: where a
    run of them begins, and where it stops."""
    first = 0
    for number in range(1, len(notes) + 1):
        if number < len(notes):
            before, note = notes[number - 1], notes[number]
            if note.reference < notes[first].start and _comes_next(before.key, note.key):
                continue
        yield first, number
        first = number


def _is_set_in(between: str) -> bool:
    """Whether all lines of some paragraphs are indented, as those of a note may be."""
    return all(line.startswith("  ") for line in between.split("\n") if line)


def _comes_next(key: str, following: str) -> bool:
    return key.isdigit() and following.isdigit() and int(following) == int(key) + 1


def _notes_with_reference(text: str) -> Iterator[_Note]:
    """The notes to whose marks a word refers that stands above. A mark is used up by its note, so
    that numbers may begin again with each chapter."""
    references: dict[str, int] = {}
    note: _Note | None = None
    text_end = len(text.rstrip("\n"))
    for start in places_of(text, "[{"):
        match = _MARK.match(text, start)
        if not match:
            continue
        end = match.end()
        key = _NOT_THE_KEY.sub("", match.group()) or match.group()
        line = text.rfind("\n", max(0, start - _DEEPEST_NOTE), start) + 1
        behind = text[end : end + 3]
        opens_line = (line or start < _DEEPEST_NOTE) and not text[line:start].strip(" ")
        # Behind it no space, or several: in the margin of a line of verse.
        if not opens_line or behind[:1] != " " or not behind.strip(" \n"):
            references[key] = start
            continue
        opens = line < 2 or text[line - 2] == "\n"
        within = note is not None and start < note.end
        if key in references and (opens or within):
            if note and within:
                note.end = line - 1
            if note:
                yield note
            paragraph_end = text.find("\n\n", end)
            paragraph_end = text_end if paragraph_end < 0 else paragraph_end
            note = _Note(line, paragraph_end, key, references.pop(key))
    if note:
        yield note


_STAR_NOTE = re.compile(r"[ ]{0,8}(\*{1,3}|[†‡§])[ ]?(?=[^\s*†‡§])")
_STAR_REFERENCE = re.compile(r"(?:\*{1,3}|[†‡§])(?<=[\w.,;:!?'\"’”)][*†‡§])(?![*\w†‡§])")


def _starred_notes(text: str) -> Iterator[Span]:
    """Paragraphs that begin with an asterisk or a dagger, each of which stands behind one word
    above, once; and the marks behind these words."""
    stars = places_of(text, "*†‡§")
    marks = (match for at in stars if (match := _STAR_REFERENCE.match(text, at)))
    references = [match for match in marks if _is_lone_star(text, match)]
    if not references:
        return
    lines = [at for at in lines_opened(text, stars) if at < 2 or text[at - 2] == "\n"]
    notes = [match for at in lines if (match := _STAR_NOTE.match(text, at))]
    waiting = 0
    for number, note in enumerate(notes):
        while waiting < len(references) and references[waiting].end() < note.start():
            waiting += 1
        before = notes[number - 1].start() if number else 0
        between = [r for r in references[max(0, waiting - 8) : waiting] if r.start() > before]
        if len(between) != 1 or between[0].group() != note[1]:
            continue
        end = text.find("\n\n", note.end())
        end = len(text.rstrip("\n")) if end < 0 else end
        following = notes[number + 1].start() if number + 1 < len(notes) else -1
        if 0 <= following <= end + 4:
            continue  # a list with asterisks
        yield between[0].span()
        yield note.start(), end


def _is_lone_star(text: str, match: re.Match[str]) -> bool:
    """Whether a mark is the only one in its line: others may stand for emphasis or for a rule."""
    start, end = match.span()
    line_start = text.rfind("\n", max(0, start - 200), start) + 1
    line_end = text.find("\n", end, end + 200)
    line = text[line_start or max(0, start - 200) : line_end if line_end >= 0 else end + 200]
    return line.count(match.group()[0]) == len(match.group())


def _headings_of(text: str, spans: list[Span]) -> Iterator[Span]:
    """FOOTNOTES: and the like, in a line by itself right above a note."""
    for (_, before), (start, _) in pairwise([(0, 0), *spans]):
        if heading := _heading_above(text, start, before):
            yield heading


def _heading_above(text: str, start: int, behind: int = 0) -> Span | None:
    """The heading of notes right above a place, if there is one `behind` another place."""
    near = text[max(behind, start - 120) : start]
    above = near.rstrip(" \n")
    line = above[above.rfind("\n") + 1 :]
    if not line or not _NOTES_HEADING.fullmatch(line):
        return None
    end = start - len(near) + len(above)
    return end - len(line), end

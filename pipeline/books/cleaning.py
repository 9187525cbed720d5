"""The cleaning rules: what each takes out of a body, named and counted.

A rule is a function from a text to the changed text and the number of things it changed. It
removes only what is delimited (brackets, a heading with a list below it, a line by itself), never
"everything before". A rule that would take more than its share of the body is not applied, and
the reader is warned.
"""

import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

from pipeline.books.cleaning_blocks import (
    remove_contents,
    remove_credits,
    remove_illustrations,
    remove_transcriber_notes,
)


@dataclass(frozen=True)
class Rule:
    """A named change. `largest_share` is the part of the body that it may remove at most (a
    thousand characters it may, if that is not half the body)."""

    name: str
    apply: Callable[[str], tuple[str, int]]
    largest_share: float = 0.25


@dataclass(frozen=True)
class Removal:
    """How many things a rule changed, and how many characters shorter it made the text (fewer
    than none where a rule writes something longer, as for scene breaks)."""

    count: int
    characters: int


@dataclass(frozen=True)
class Cleaned:
    """The text after the rules, what each rule removed (rules that found nothing are not in it),
    and a sentence for each rule that was not applied."""

    text: str
    removed: dict[str, Removal] = field(default_factory=dict)
    warnings: list[str] = field(default_factory=list)


# --- characters -----------------------------------------------------------------------------------

_SPACES = re.compile("[\u00a0\u2000-\u200a\u202f\u205f]")
_NOTHINGS = re.compile("[\x00-\x08\x0b\x0e-\x1f\x7f\u00ad\u200b\u2060\ufeff]")
_ODD_CHARACTER = re.compile(
    "[\x00-\x09\x0b\x0c\x0e-\x1f\x7f\u00a0\u00ad\u2000-\u200b\u202f\u205f\u2060\ufeff]"
)


def _plain_characters(text: str) -> tuple[str, int]:
    """No-break and thin spaces and tabs become spaces; zero-width and control characters go."""
    if not _ODD_CHARACTER.search(text):
        return text, 0
    text, breaks = re.subn("\x0c", "\n", text)
    text, spaces = _SPACES.subn(" ", text)
    text, nothings = _NOTHINGS.subn("", text)
    tabs = text.count("\t")
    return (text.expandtabs(8) if tabs else text), breaks + spaces + nothings + tabs


# What UTF-8 looks like when it was read as Windows-1252: these pairs stand in no real text.
_MOJIBAKE = re.compile(
    "[ÂÃ][\u0080-\u00bf]|â[€\u0080][\u0080-\u00bf™œžšŸ“”˜–—]|[ÐÑ][\u0080-\u00bf][ÐÑ]"
)


def _repair_mojibake(text: str) -> tuple[str, int]:
    """Repairs lines that hold evident mojibake, through ftfy, which changes a line only where
    the whole of it makes sense the other way."""
    if text.isascii() or not any(lead in text for lead in "ÂÃâÐÑ") or not _MOJIBAKE.search(text):
        return text, 0
    import ftfy

    lines = text.split("\n")
    repaired = 0
    for number, line in enumerate(lines):
        if _MOJIBAKE.search(line) and (better := ftfy.fix_encoding(line)) != line:
            lines[number] = better
            repaired += 1
    return "\n".join(lines), repaired


# --- page numbers and note marks ------------------------------------------------------------------

_ROMAN = r"(?=[ivxlcdm])m{0,3}(?:cm|cd|d?c{0,3})(?:xc|xl|l?x{0,3})(?:ix|iv|v?i{0,3})"
_NUMBER = rf"(?:\d{{1,4}}[a-z]?|{_ROMAN})"
_PAGE_WORD = r"(?:Page|page|PAGE|Pg|pg|PG|P|p|S|s)\.?\s?"
_PAGE_OR_NUMBER = re.compile(rf"[\[{{]\s*(?P<word>{_PAGE_WORD})?{_NUMBER}\s*[\]}}](?P<space>[ ]?)")
# In mid-sentence, where a page ended: the two halves of the paragraph belong together.
_PAGE_IN_SENTENCE = re.compile(
    rf"\n(?<=[a-z,;\-]\n)\n+[ ]*(?:\[\s*{_PAGE_WORD}{_NUMBER}\s*\]|\{{{_NUMBER}\}}"
    rf"|\[{_NUMBER}\](?=[ ]*\n))(?:[ ]*\n+)?[ ]*(?=[a-z])"
)


def _remove_page_numbers(text: str) -> tuple[str, int]:
    """[Pg 12], [p. xii], {12}, and a number in brackets that has a line to itself."""
    if ("[" not in text and "{" not in text) or not _PAGE_OR_NUMBER.search(text):
        return text, 0
    text, in_sentence = _PAGE_IN_SENTENCE.subn("\n", text)
    kept = 0

    def remove(match: re.Match[str]) -> str:
        nonlocal kept
        start, end = match.span()
        before, behind = text[max(0, start - 80) : start], text[end : end + 80]
        at_line_start = before.rstrip(" ")[-1:] in ("", "\n")
        at_line_end = behind.lstrip(" ")[:1] in ("", "\n")
        is_page = match["word"] or match.group().startswith("{")
        if at_line_start and at_line_end and (is_page or end - start <= 6):
            return "\n"  # what stands above it and what stands below are two paragraphs
        if not is_page:
            kept += 1
            return match.group()
        return "" if at_line_start or before.endswith(" ") else match["space"]

    text, found = _PAGE_OR_NUMBER.subn(remove, text)
    return text, in_sentence + found - kept


_NUMBERED = r"(?:FN|fn|Note|note|n)?[ #.\-]{0,2}\d{1,4}[a-z]?"
_MARK_IN_A_LINE = re.compile(
    rf"\[(?<=[^\s\[(]\[)(?:{_NUMBERED}|\*{{1,3}}|†|‡|[A-Z](?=\](?![^\W\d_])))\]"  # "[T]he" stays
    rf"|\[{_NUMBERED}\](?=[^\W_])|\{{\*\d{{1,3}}\}}"
)
# A single letter here could number a part of a poem: [I], [V], [X].
_MARK_AT_A_NOTE = re.compile(
    rf"^([ ]*)(?:\[(?:{_NUMBERED}|\*{{1,3}}|†|‡|[A-HJ-UWYZ])\]|\{{\*\d{{1,3}}\}})[ ]+(?=\S)", re.M
)


def _remove_note_marks(text: str) -> tuple[str, int]:
    """The marks of footnotes: behind a word, and before a note, which then stands by itself."""
    if "[" not in text and "{*" not in text:
        return text, 0
    text, at_notes = _MARK_AT_A_NOTE.subn(r"\n\1", text)
    text, in_lines = _MARK_IN_A_LINE.subn("", text)
    return text, at_notes + in_lines


# --- typography -----------------------------------------------------------------------------------

# Emphasis on a part of a word: _un_happy, every_body_.
_PART_OF_WORD = re.compile(
    r"_(?<![^\W_]_)([^\s_][^_\n]{0,80})_(?=[^\W_])|_(?<=[^\W_]_)([^_\n]{0,80}[^\s_])_(?![^\W_])"
)
_AT_WORD_EDGE = re.compile(r"_(?<![^\W_]_)(?=[^\s_])|_(?<=[^\s_]_)(?![^\W_])")


def _remove_italics(text: str) -> tuple[str, int]:
    """_Underscores_ round emphasised words; snake_case words and rows of underscores stay."""
    if "_" not in text:
        return text, 0
    text, parts = _PART_OF_WORD.subn(lambda match: match.group(1) or match.group(2), text)
    text, edges = _AT_WORD_EDGE.subn("", text)
    return text, parts + edges // 2 + edges % 2


SCENE_BREAK = "* * *"
_BREAK_LINE = re.compile(
    r"^[ ]*(?:\*(?:[ ]*\*){2,}|[-–—=~_]{4,}|[~#](?:[ ]*[~#]){2,}|[-–—](?:[ ]+[-–—]){2,})[ ]*$", re.M
)


_BREAK_NEEDLES = ("***", "* ", "---", "- ", "___", "===", "~~", "~ ", "##", "# ", "———", "– ")
_BREAKS_IN_A_ROW = re.compile(r"^\* \* \*(?:\n+\* \* \*)+$", re.M)


def _unify_scene_breaks(text: str) -> tuple[str, int]:
    """A line of asterisks or of dashes (or several such lines) becomes `* * *`, with an empty
    line on either side."""
    if not any(needle in text for needle in _BREAK_NEEDLES):
        return text, 0
    count = 0

    def rewrite(match: re.Match[str]) -> str:
        nonlocal count
        start, end = match.span()
        before = "" if text[max(0, start - 2) : start] in ("", "\n\n") else "\n"
        after = "" if text[end : end + 2] in ("", "\n\n") else "\n"
        new = before + SCENE_BREAK + after
        count += new != match.group()
        return new

    unified = _BREAK_LINE.sub(rewrite, text)
    if SCENE_BREAK not in unified:
        return text, 0
    unified, rows = _BREAKS_IN_A_ROW.subn(SCENE_BREAK, unified)
    return unified, count + rows


_WIDE_SPACE = re.compile(r"  (?<=[.!?:;,'\"’”»)\]\-–—]  ) *(?=\S)")


def _collapse_spaces(text: str) -> tuple[str, int]:
    """Two spaces after a full stop (or other punctuation) become one."""
    return _WIDE_SPACE.subn(" ", text) if "  " in text else (text, 0)


RULES: tuple[Rule, ...] = (
    Rule("characters", _plain_characters),
    Rule("mojibake", _repair_mojibake),
    Rule("credits", remove_credits, 0.35),
    Rule("transcriber-notes", remove_transcriber_notes, 0.35),
    Rule("contents", remove_contents, 0.2),
    Rule("illustrations", remove_illustrations),
    Rule("page-numbers", _remove_page_numbers, 0.1),
    Rule("note-marks", _remove_note_marks, 0.1),
    Rule("italics", _remove_italics, 0.1),
    Rule("scene-breaks", _unify_scene_breaks, 0.1),
    Rule("double-spaces", _collapse_spaces),
)


_ALWAYS_ALLOWED = 1000  # characters: a contents list is a large part of a very short work


def clean(body: str, rules: Sequence[Rule] = RULES) -> Cleaned:
    """Applies the rules to a body in their order."""
    removed: dict[str, Removal] = {}
    warnings: list[str] = []
    text = body
    for rule in rules:
        changed, count = rule.apply(text)
        if not count:
            continue
        characters = len(text) - len(changed)
        if characters > max(rule.largest_share * len(body), min(_ALWAYS_ALLOWED, len(body) / 2)):
            warnings.append(
                f'rule "{rule.name}" was not applied: it would have removed '
                f"{characters:,} of {len(body):,} characters"
            )
            continue
        removed[rule.name] = Removal(count, characters)
        text = changed
    return Cleaned(text, removed, warnings)

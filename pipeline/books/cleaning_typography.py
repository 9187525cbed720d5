"""Cleaning rules for single characters: odd spaces, wrong encodings, italics, scene breaks, dashes.
Each returns the changed text and how many things it changed."""

import re

from pipeline.books.cleaning_table import code_points, line_table, one_of, places_of, skip
from pipeline.books.searching import Span, substitute

# --- characters -----------------------------------------------------------------------------------

_SPACES = "\u00a0\u2000\u2001\u2002\u2003\u2004\u2005\u2006\u2007\u2008\u2009\u200a\u202f\u205f"
_CONTROLS = [chr(code) for code in range(0x20) if chr(code) not in "\t\n\f\r"]
_MARKS_OF_DIRECTION = ("\u200e", "\u200f", "\u202a", "\u202b", "\u202c", "\u202d", "\u202e")
_NOTHINGS = ("\x7f", "\u00ad", "\u200b", "\u2060", "\ufeff", *_MARKS_OF_DIRECTION)
_INSTEAD = dict.fromkeys(_SPACES, " ") | dict.fromkeys(_NOTHINGS, "")
_INSTEAD_OF_CONTROLS = {"\f": "\n"} | dict.fromkeys(_CONTROLS, "")


def plain_characters(text: str) -> tuple[str, int]:
    """No-break and thin spaces and tabs become spaces; zero-width and control characters go."""
    count = 0
    has_controls = line_table(text).has_controls
    # A single character is found at several gigabytes a second, a class of them at 300 MB/s.
    for character, instead in (_INSTEAD | (_INSTEAD_OF_CONTROLS if has_controls else {})).items():
        if character in text:
            count += text.count(character)
            text = text.replace(character, instead)
    tabs = text.count("\t") if has_controls else 0
    return (text.expandtabs(8) if tabs else text), count + tabs


# What UTF-8 looks like when it was read as Windows-1252: its second bytes, as these became.
_SECOND = "\u0080-\u00bf€‚ƒ„…†‡ˆ‰Š‹ŒŽ‘’“”•–—˜™š›œžŸ"
_MOJIBAKE = re.compile(
    f"[ÂÃ][{_SECOND}]|â[€\u0080][\u0080-\u00bf™œžšŸ“”˜–—]|[ÐÑ][\u0080-\u00bf][ÐÑ]"
)
# Pairs that stand in no real text. Others do: «ORFÃ», IRMÃ—.
_SURE = re.compile(
    f"[ÂÃ](?<=[a-zß-ÿ][ÂÃ])[{_SECOND}]|Ã[¡-©¬®-¹¼-¿](?=[a-z])|Â\u00a0"
    "|â[€\u0080][\u0080-\u00bf™œžšŸ“”˜–—]|[ÐÑ][\u0080-\u00bf][ÐÑ]"
)


def repair_mojibake(text: str) -> tuple[str, int]:
    """Repairs the lines of a text with evident mojibake in which there may be some, through ftfy,
    which changes a line only where the whole of it makes sense the other way."""
    if text.isascii() or not any(_SURE.match(text, at) for at in places_of(text, "ÂÃâÐÑ")):
        return text, 0
    import ftfy

    lines = text.split("\n")
    repaired = 0
    for number, line in enumerate(lines):
        if _MOJIBAKE.search(line) and (better := ftfy.fix_encoding(line)) != line:
            lines[number] = better
            repaired += 1
    return "\n".join(lines), repaired


# --- typography -----------------------------------------------------------------------------------

# Emphasis on a part of a word: _un_happy, every_body_.
_PART_OF_WORD = re.compile(
    r"_(?<![^\W_]_)([^\s_][^_\n]{0,80})_(?=[^\W_])|_(?<=[^\W_]_)([^_\n]{0,80}[^\s_])_(?![^\W_])"
)
_AT_WORD_EDGE = re.compile(r"_(?<![^\W_]_)(?=[^\s_])|_(?<=[^\s_]_)(?![^\W_])")


def remove_italics(text: str) -> tuple[str, int]:
    """_Underscores_ round emphasised words; snake_case words and rows of underscores stay."""
    if "_" not in text:
        return text, 0
    text, parts = _PART_OF_WORD.subn(lambda match: match.group(1) or match.group(2), text)
    text, edges = _AT_WORD_EDGE.subn("", text)
    return text, parts + edges // 2 + edges % 2


SCENE_BREAK = "* * *"
_BREAK_LINE = re.compile(
    r"\n[ ]*(?:\*(?:[ ]*\*){2,}|[-–—=~_]{4,}|—{3}|[~#+•](?:[ ]*[~#+•]){2,}|[-–—](?:[ ]+[-–—]){2,}"
    r"|⁂)"
    r"[ ]*(?=\n|\Z)"
)
_BREAKS_IN_A_ROW = re.compile(r"\n\* \* \*(?:\n+\* \* \*)+(?=\n|\Z)")


def unify_scene_breaks(text: str) -> tuple[str, int]:
    """A line of asterisks or of dashes (or several such lines) becomes `* * *`, with an empty
    line on either side; at the very beginning or end, where it parts nothing, it goes."""
    # The line end above a line stands in the padded text where the line begins in the text.
    lines = line_table(text).opened(characters="*-–—=~_#+•⁂")
    if not lines:
        return text, 0
    count = 0
    padded = "\n" + text

    def rewrite(match: re.Match[str]) -> str:
        nonlocal count
        start, end = match.span()
        before = "\n" if start == 0 or padded[start - 1] == "\n" else "\n\n"
        after = "" if padded[end : end + 2] in ("", "\n\n") else "\n"
        new = before + SCENE_BREAK + after
        count += new != match.group()
        return new

    unified, found = substitute(_BREAK_LINE, lines, rewrite, padded)
    if not found:
        return text, 0
    rows = 0
    if found > 1:
        unified, rows = _BREAKS_IN_A_ROW.subn("\n" + SCENE_BREAK, unified)
    unified, outside = _without_breaks_outside(unified[1:])
    return unified, count + rows + outside


def _without_breaks_outside(text: str) -> tuple[str, int]:
    """The text without scene breaks before all else and behind it."""
    count = 0
    if (body := text.lstrip()).startswith(SCENE_BREAK + "\n"):
        text, count = body.removeprefix(SCENE_BREAK).lstrip("\n"), 1
    if (body := text.rstrip()).endswith("\n" + SCENE_BREAK):
        text, count = body.removesuffix(SCENE_BREAK), count + 1
    return text, count


_PUNCTUATION = ".!?:;,'\"’”»)]-–—"
_WHITE = "".join(chr(code) for code in range(0x3001) if chr(code).isspace())


def collapse_spaces(text: str) -> tuple[str, int]:
    """Two spaces after a full stop (or other punctuation) become one."""
    if "  " not in text:
        return text, 0
    spans = _wide_spaces(text)
    if not spans:
        return text, 0
    starts, ends = zip(*spans, strict=True)
    kept = zip((0, *ends), (*starts, len(text)), strict=True)
    return "".join([text[start:end] for start, end in kept]), len(spans)


def _wide_spaces(text: str) -> list[Span]:
    """The second and all further spaces behind punctuation, where the line goes on."""
    import numpy as np

    units = code_points(text)
    blank = units == ord(" ")
    before = np.flatnonzero(blank[1:-1] & blank[2:])
    seconds = before[one_of(units[before], _PUNCTUATION)] + 2
    ends = skip(text, units, seconds, " ")
    goes_on = ~one_of(units[ends], _WHITE)
    return list(zip(seconds[goes_on].tolist(), ends[goes_on].tolist(), strict=True))


# --- dashes ---------------------------------------------------------------------------------------

# Two or three hyphens are a dash; four to six stand for a name left out or a speech broken off.
# Longer rows draw lines and tables.
_DASH = re.compile(r"--(?<!---)(-{0,4})(?!-)")
_TABLE_ROW = re.compile(r"-{7}|--\+|\+--|[|].*--.*[|]")


def unify_dashes(text: str) -> tuple[str, int]:
    """`--` becomes an em dash, and `----` two of them, with the spaces that stand round it."""
    if "--" not in text:
        return text, 0
    count = 0
    tables = "-------" in text or "--+" in text or "|" in text

    def rewrite(match: re.Match[str]) -> str:
        nonlocal count
        start, end = match.span()
        if not tables and text[start - 1 : start].isalnum():
            count += 1
            return "——" if len(match[1]) > 1 else "—"
        line_start = text.rfind("\n", max(0, start - 200), start) + 1
        line_end = text.find("\n", end, end + 200)
        line = text[max(line_start, start - 200) : line_end if line_end >= 0 else end + 200]
        if not line.strip("- ") or _TABLE_ROW.search(line):
            return match.group()
        count += 1
        return "——" if len(match[1]) > 1 else "—"

    return _DASH.sub(rewrite, text), count

"""Text for a language model out of Markdown: what a reader of the page would read.

CommonMark with tables, read by markdown-it and laid out as web pages are (see `extract`). The front
matter says what the text is; it is no part of it. Scene breaks become `* * *`, and notes stay where
they stood, with their numbers in brackets as those of a plain text have them: stage 2 knows both.
"""

import re
from collections import Counter
from collections.abc import Mapping, Sequence
from functools import cache
from html import escape
from typing import TYPE_CHECKING, Any

from pipeline.corpus.extract import LEFT_OUT, Unreadable, read_page
from pipeline.corpus.page_facts import Extracted, one_line

if TYPE_CHECKING:
    from markdown_it import MarkdownIt
    from markdown_it.rules_block import StateBlock
    from markdown_it.rules_core import StateCore
    from markdown_it.token import Token

_LONGEST_FRONT_MATTER = 50_000  # characters
# How the front matter ends that begins so: in YAML, and in TOML.
_ENDS = {
    "---": re.compile(r"\n(?:---|\.\.\.)[ \t]*(?=\n|\Z)"),
    "+++": re.compile(r"\n\+\+\+[ \t]*(?=\n|\Z)"),
}
_TITLE_LINE = re.compile(r"%[ \t]+(.+)")  # Pandoc: a title, authors, a date, a line each
_DEEPEST = 80  # quotations, lists and their items within one another
_NOTE = re.compile(r"\[\^([^\]\s]{1,60})\]:[ \t]*(.*)")
_NOTE_MARK = re.compile(r"\[\^([^\]\s]{1,60})\]")
_SCENE_BREAK = "<p>* * *</p>\n"
# Tags of what is left out (see `extract`) with all that stands in it.
_SWALLOWING = "|".join(sorted(LEFT_OUT))
_OPENED, _CLOSED = (re.compile(rf"<{end}({_SWALLOWING})(?![\w-])", re.I) for end in ("", "/"))
_NEVER_ENDED = re.compile(r"\s*(?:<!--(?!.*-->)|<\?(?!.*\?>)|<![A-Z\[](?!.*>))", re.S)


def extract_markdown(text: str, name: str) -> Extracted:
    """The text of a Markdown page, laid out as `extract_html` does it, and what its front matter
    says of it; its only heading of the first level is its title too. `name` is for messages.

    Raises Unreadable if it holds no text, or none that could be read.
    """
    text = text.replace("\r\n", "\n").replace("\r", "\n").replace("\0", "\ufffd")
    about, body = split_front_matter(text)
    reader = _reader()
    tokens = reader.parse(body)
    if any(token.level >= _DEEPEST - 1 for token in tokens):  # the reader leaves out what is deeper
        raise Unreadable(name, "its lists and quotations are nested too deeply")
    _show_unclosed_tags(tokens)
    page = f'<meta charset="utf-8">\n{reader.renderer.render(tokens, reader.options, {})}'
    shown = read_page(page.encode("utf-8", "replace"), name)
    title = one_line(about.get("title"))
    return Extracted(
        shown.text,
        (title,) if title else shown.titles,
        _authors(about),
        _first(about, "lang", "language"),
        _first(about, "rights", "license", "licence", "copyright"),
    )


# --- front matter ---------------------------------------------------------------------------------


def split_front_matter(text: str) -> tuple[Mapping[str, Any], str]:
    """What stands above a page about it, and the page. A rule, or a list between two rules, is no
    front matter: that is names with values, in YAML, TOML, or Pandoc's lines with `%`."""
    opening, line = text[:3], text.partition("\n")[0]
    if opening in _ENDS and line.rstrip() == opening:
        end = _ENDS[opening].search(text, len(line), _LONGEST_FRONT_MATTER)
        inside = text[len(line) : end.start()] if end else ""
        about = _yaml(inside) if opening == "---" else _toml(inside)
        if end and about is not None:
            return about, text[end.end() :].removeprefix("\n")
    return _title_lines(text)


def _yaml(text: str) -> Mapping[str, Any] | None:
    import yaml

    try:
        # Every value as the word that stands there: no dates that there cannot be, no numbers, and
        # no merging of maps, by which a few lines can take hours.
        found = yaml.load(text, Loader=yaml.BaseLoader)
    except (yaml.YAMLError, RecursionError):
        return None
    return found if isinstance(found, dict) else None


def _toml(text: str) -> Mapping[str, Any] | None:
    import tomllib

    try:
        return tomllib.loads(text)
    except (tomllib.TOMLDecodeError, RecursionError):
        return None


def _title_lines(text: str) -> tuple[Mapping[str, Any], str]:
    lines = text.split("\n", 3)
    found = []
    for line in lines[:3]:
        match = _TITLE_LINE.fullmatch(line.rstrip())
        if match is None:
            break
        found.append(match[1])
    if not found:
        return {}, text
    authors = [author.strip() for author in found[1].split(";")] if len(found) > 1 else []
    return {"title": found[0], "author": authors}, "\n".join(lines[len(found) :])


def _authors(about: Mapping[str, Any]) -> tuple[str, ...]:
    for key in ("author", "authors", "creator"):
        value = about.get(key)
        several = value if isinstance(value, list) else [value]
        names = [each.get("name") if isinstance(each, dict) else each for each in several[:20]]
        if found := [line for line in map(one_line, names) if line]:
            return tuple(found)
    return ()


def _first(about: Mapping[str, Any], *keys: str) -> str | None:
    return next((line for key in keys if (line := one_line(about.get(key)))), None)


# --- the page -------------------------------------------------------------------------------------


@cache
def _reader() -> "MarkdownIt":
    from markdown_it import MarkdownIt

    reader = MarkdownIt("commonmark", {"html": True, "maxNesting": _DEEPEST})
    reader.enable(["table", "strikethrough"])
    # A note is no paragraph for the rules that ask whether one ends, and no address of a link.
    reader.block.ruler.before("reference", "note", _note, {"alt": ["paragraph", "reference"]})
    reader.core.ruler.push("note_marks", _plain_note_marks)
    reader.add_render_rule("hr", lambda *_: _SCENE_BREAK)
    return reader


def _note(state: "StateBlock", begin: int, end: int, silent: bool) -> bool:
    """A note, `[^1]: ...`, with the paragraphs of it that are indented below its first."""
    if state.is_code_block(begin):
        return False
    match = _NOTE.fullmatch(_line(state, begin))
    if match is None:
        return False
    if silent:
        return True
    lines = [f"[{match[1]}] {match[2]}".rstrip()]
    line = begin + 1
    while True:
        while line < end and not state.isEmpty(line) and not _NOTE.fullmatch(_line(state, line)):
            lines.append(_line(state, line))
            line += 1
        following = line
        while following < end and state.isEmpty(following):
            following += 1
        if following == end or not state.is_code_block(following):
            break
        lines[-1] += "\\"  # a line end that stays: stage 2 knows a note as one paragraph
        line = following
    state.push("paragraph_open", "p", 1).map = [begin, line]
    inline = state.push("inline", "", 0)
    inline.content, inline.map, inline.children = "\n".join(lines), [begin, line], []
    state.push("paragraph_close", "p", -1)
    state.line = line
    return True


def _line(state: "StateBlock", number: int) -> str:
    start = state.bMarks[number] + state.tShift[number]
    return state.src[start : state.eMarks[number]].rstrip()


def _show_unclosed_tags(tokens: Sequence["Token"]) -> None:
    """`List<object>` in a note on programs is no tag: what is opened and never closed is shown as
    it is written, else all that follows would be taken for what is in it, and left out."""
    raw = [
        token for block in tokens for token in (block, *(block.children or ()))
        if token.type in ("html_block", "html_inline")
    ]  # fmt: skip
    opened, closed = (
        Counter(name.lower() for token in raw for name in pattern.findall(token.content))
        for pattern in (_OPENED, _CLOSED)
    )
    unclosed = {name for name in opened if opened[name] > closed[name]}
    for token in raw:
        if token.type == "html_block" and _NEVER_ENDED.match(token.content):
            token.content = f"<pre>{escape(token.content)}</pre>\n"
        token.content = _OPENED.sub(
            lambda tag: f"&lt;{tag[0][1:]}" if tag[1].lower() in unclosed else tag[0], token.content
        )


def _plain_note_marks(state: "StateCore") -> None:
    """`[^1]` behind a word becomes `[1]`."""
    for token in state.tokens:
        for child in token.children or ():
            if child.type == "text" and "[^" in child.content:
                child.content = _NOTE_MARK.sub(r"[\1]", child.content)

"""Text for a language model out of HTML: paragraphs with one empty line between them.

lxml reads the page, however broken, and inscriptis lays it out. Between the two the tree is made
plain, because inscriptis draws for a screen: it pads tables with spaces, resolves `&amp;lt;` twice
and skips what follows a processing instruction. What is no text of the author (scripts,
navigation, the foot of a site, what is hidden, the numbers of printed pages) is left out; every
other word is kept, in its order.
"""

import re
from collections.abc import Iterator
from functools import cache
from typing import TYPE_CHECKING, Any

from pipeline.corpus.html_encoding import decode_html
from pipeline.corpus.page_facts import Extracted, authors_of, titles_of

if TYPE_CHECKING:
    from inscriptis.model.config import ParserConfig


class Unreadable(Exception):
    """A document without text that could be used; `reason` is a sentence without its full stop
    that begins with "it", `name` is the document's."""

    def __init__(self, name: str, reason: str) -> None:
        super().__init__(f"{name}: {reason}")
        self.name = name
        self.reason = reason


def extract_html(data: bytes, name: str) -> str:
    """The text of an HTML or XHTML page, without white space at its ends.

    Paragraphs, headings, lists and tables stand apart by one empty line; a paragraph is one line,
    but for its `<br>`; a row of a table is one line, its cells two spaces apart; `<pre>` is kept
    as it is. `name` is for messages.

    Raises Unreadable if it holds no text, is no text at all, or is nested too deeply.
    """
    return read_page(data, name).text


def read_page(data: bytes, name: str) -> Extracted:
    """The text of a web page as `extract_html` gives it, and what it says of itself."""
    tree = parse_html(data, name)
    titles, authors = (titles_of(tree), authors_of(tree)) if tree is not None else ((), ())
    text = _text_of(tree, name)
    if not text:
        raise Unreadable(name, "it holds no text")
    return Extracted(text, titles, authors)


def html_text(data: bytes, name: str) -> str:
    """As `extract_html`, but a page without text (a cover, a picture) gives an empty string."""
    return _text_of(parse_html(data, name), name)


def _text_of(tree: Any, name: str) -> str:
    if tree is None:
        return ""
    _make_plain(tree)
    if _depth(tree) > _DEEPEST:
        _make_shallow(tree)
    if _depth(tree) > _DEEPEST:
        raise Unreadable(name, "its tags are nested too deeply")
    from inscriptis.html_engine import Inscriptis

    return _tidy(Inscriptis(tree, _layout()).get_text())


def parse_html(data: bytes, name: str) -> Any:
    """The page as a tree of lxml; None if it is empty. Raises Unreadable as `extract_html`."""
    from lxml import etree, html

    text = decode_html(data)
    if "\0" in text:
        raise Unreadable(name, "it is not text")
    # Line ends of Windows would survive in <pre>. `huge_tree` for the depth: old pages leave
    # hundreds of <font> open, and beyond 256 the parser drops the rest of the page.
    text = text.replace("\r\n", "\n").replace("\r", "\n")
    parser = html.HTMLParser(encoding="utf-8", huge_tree=True, no_network=True)
    try:
        tree = html.document_fromstring(text.encode("utf-8", "replace"), parser=parser)
    except (etree.ParserError, etree.XMLSyntaxError):
        return None
    if any(entry.type == etree.ErrorTypes.ERR_RESOURCE_LIMIT for entry in parser.error_log):
        raise Unreadable(name, "its tags are nested too deeply")
    return tree


# --- a plain tree ---------------------------------------------------------------------------------

LEFT_OUT = {
    "head", "title", "script", "style", "template", "noscript", "nav", "link", "meta", "svg",
    "iframe", "frame", "object", "embed", "applet", "audio", "video", "canvas", "map", "select",
    "option", "datalist", "button", "input", "textarea", "progress", "meter", "dialog", "menu",
    "rt", "rp", "annotation", "annotation-xml",
}  # fmt: skip
_LEFT_OUT_ROLES = {"navigation", "contentinfo", "search"}
_OF_AN_AUTHOR = ("article", "section", "main", "blockquote", "figure")
_PARAGRAPHS = {
    "p", "h1", "h2", "h3", "h4", "h5", "h6", "div", "section", "article", "aside", "main", "header",
    "footer", "figure", "figcaption", "blockquote", "address", "center", "form", "fieldset",
    "legend", "details", "summary", "hgroup", "caption", "hr", "dir", "pre",
}  # fmt: skip
_LISTS = {"ul", "ol", "dl"}
_LINES = {"li", "dt", "dd", "x-line"}
_PREFORMATTED = {"pre", "xmp", "listing", "plaintext"}
_KEPT = _PARAGRAPHS | _LISTS | _LINES | {"html", "body", "br", "x-lines"}
_DEEPEST = 250  # inscriptis calls itself once per level

# Characters of Unicode that no text has, as marks of our own within the tree.
_AMPERSAND = "\ufdd0"
_NEXT_CELL = "\ufdd1"
_CHARACTERS = str.maketrans({
    **dict.fromkeys(map(chr, (*range(9), *range(14, 32), 0xFFFE, 0xFFFF))),  # lxml takes none
    "\x0b": " ", "\x0c": " ",
    "&": _AMPERSAND,  # inscriptis would resolve "&lt;" in the text once more
    "\ufdd0": None, "\ufdd1": None,
    "\xad": None, "\u200b": None, "\ufeff": None,  # where a word may be broken: not its letters
})  # fmt: skip

_HIDDEN = re.compile(r"display\s*:\s*none|visibility\s*:\s*hidden", re.I)
_PAGE_CLASS = re.compile(r"page-?(?:num|no|break)|pg-?num|^pb$|newpage", re.I)
_PAGE_NUMBER = re.compile(r"\W*(?:p(?:g|ages?|p)?\b)?\W*(?:\d{1,4}|[ivxlcdm]{1,9})?\W*", re.I)
_NOTE_CLASS = re.compile(r"noteref|fnanchor|footnote", re.I)
_NOTE_MARK = re.compile(r"\s*(\d{1,4}|[*†‡§]{1,3}|[a-z])\s*")
_VERSE_LINE = re.compile(r"^(?:verse|line|l|i\d+|v\d+|indent\d*|verse-line|poem-?line)$", re.I)
_NUMBER = re.compile(r"[0-9]{1,6}", re.A)


def _make_plain(tree: Any) -> None:
    """Leaves blocks, line breaks and text in the tree, and no attributes but numbers of lists."""
    from lxml import etree

    etree.strip_tags(tree, etree.Comment, etree.ProcessingInstruction, etree.Entity)
    elements = list(tree.iter(etree.Element))
    for element in elements:
        element.text = element.text and element.text.translate(_CHARACTERS)
        element.tail = element.tail and element.tail.translate(_CHARACTERS)
    for element in elements:
        if element.tag not in ("html", "body") and _is_left_out(element):
            element.drop_tree()
    for element in list(tree.iter(etree.Element)):
        _plain_element(element)
    for element in tree.iter(etree.Element):
        number = element.get("value") if element.tag == "li" else None
        element.attrib.clear()
        if number:
            element.set("value", number)
        if element.tag not in _KEPT:
            element.tag = "x-inline"  # whatever its name: lxml refuses some that it has read
    etree.strip_tags(tree, "x-inline")
    _set_lines_close(tree)


def _set_lines_close(tree: Any) -> None:
    """Lines of one list or stanza stand close; the list stands apart, but not within a list."""
    from lxml import etree

    for line in list(tree.iter(*_LINES)):
        if not len(line) and not (line.text or "").strip():
            line.drop_tree()  # or a bullet would stand alone
            continue
        parent = line.getparent()
        if parent is not None and parent.tag in _PARAGRAPHS:
            parent.tag = "x-lines"
    for lines in list(tree.iter("x-lines", *_LISTS)):
        if next(lines.iterancestors("li"), None) is not None:
            lines.set("style", "margin-top: 0em")
        elif lines.tail and not lines.tail.isspace():
            gap = etree.Element("hr")
            gap.tail, lines.tail = lines.tail, None
            lines.addnext(gap)


def _is_left_out(element: Any) -> bool:
    if element.tag in LEFT_OUT or "hidden" in element.attrib:
        return True
    if element.get("role") in _LEFT_OUT_ROLES or _HIDDEN.search(element.get("style", "")):
        return True
    return _is_page_number(element) or _is_of_the_site(element)


def _is_of_the_site(element: Any) -> bool:
    """The foot of the whole page, with the site's links and rights: that of an article, or of a
    quotation, is its author's."""
    if element.tag != "footer":
        return False
    return next(element.iterancestors(*_OF_AN_AUTHOR), None) is None


def _is_page_number(element: Any) -> bool:
    """The number of a printed page, which would stand in the middle of a sentence."""
    kinds = [*element.get("class", "").split(), *_kinds_of(element)]
    if not any(map(_PAGE_CLASS.search, kinds)):
        return False
    return _PAGE_NUMBER.fullmatch("".join(element.itertext())[:40]) is not None


def _kinds_of(element: Any) -> list[str]:
    """What an EPUB says an element is: "toc", "noteref", "doc-pagebreak", ..."""
    return f"{element.get('epub:type', '')} {element.get('role', '')}".split()


def _plain_element(element: Any) -> None:
    if element.tag in _PREFORMATTED:
        _flatten(element)
    elif element.tag == "q":
        _wrap(element, "“", "”")
    elif element.tag == "img":
        if len(element.get("alt", "").strip()) == 1 and element.get("alt").strip().isalpha():
            element.text = element.get("alt").strip()  # an initial: the first letter of a chapter
    elif element.tag == "a":
        _plain_note_mark(element)
    elif element.tag == "ol":
        _number_items(element)
    elif element.tag == "table":
        element.tag = "x-lines"  # inscriptis must not take it for a table
    elif element.tag == "tr":
        _join_cells(element)
        element.tag = "x-line"
    elif element.tag == "li":
        _one_paragraph_is_none(element)
    elif element.tag == "div" and any(map(_VERSE_LINE.match, element.get("class", "").split())):
        element.tag = "x-line"


def _flatten(element: Any) -> None:
    for line_break in element.iter("br"):
        line_break.text = "\n"
    text = "".join(element.itertext())
    del element[:]
    element.tag = "pre"
    element.text = text.removeprefix("\n").rstrip()


def _wrap(element: Any, before: str, after: str) -> None:
    element.text = before + (element.text or "")
    if len(element):
        element[-1].tail = (element[-1].tail or "") + after
    else:
        element.text += after


def _plain_note_mark(element: Any) -> None:
    """A raised number of a note gets brackets: `the sea[3]` is told from a word, `the sea3` not."""
    if "#" not in element.get("href", ""):
        return
    mark = _NOTE_MARK.fullmatch("".join(element.itertext())[:40])
    raised = any(parent.tag == "sup" for parent in element.iterancestors("sup"))
    raised = raised or next(element.iter("sup"), None) is not None
    named = any(map(_NOTE_CLASS.search, [*element.get("class", "").split(), *_kinds_of(element)]))
    if mark and (raised or named):
        del element[:]
        element.text = f"[{mark[1]}]"


def _number_items(items: Any) -> None:
    """`start` and `value` of a numbered list, where they are small plain numbers."""
    start = items.get("start", "")
    for number, item in enumerate(items.iterchildren("li")):
        value = item.attrib.pop("value", "" if number else start)
        if _NUMBER.fullmatch(value):
            item.set("value", value)


def _join_cells(row: Any) -> None:
    """Cells of one line stand beside each other; a paragraph alone in its cell is such a line."""
    cells = list(row.iterchildren("td", "th"))
    for cell in cells:
        _one_paragraph_is_none(cell)
    for cell in cells[:-1]:
        cell.tail = _NEXT_CELL


def _one_paragraph_is_none(item: Any) -> None:
    blocks = [child for child in item.iterdescendants() if child.tag in _PARAGRAPHS]
    if len(blocks) == 1 and blocks[0].tag in ("p", "div"):
        blocks[0].tag = "span"


def _make_shallow(tree: Any) -> None:
    """The same page without blocks in blocks: `<p><font>` that is never closed holds the rest."""
    from lxml import etree

    for block in list(tree.iter(*(_PARAGRAPHS - {"pre"}))):
        gap = etree.Element("hr")
        gap.tail, block.text = block.text, None
        block.insert(0, gap)
        block.append(etree.Element("hr"))
        block.tag = "x-block"
    etree.strip_tags(tree, "x-block")


def _depth(tree: Any) -> int:
    deepest = 0
    waiting: list[tuple[Any, int]] = [(tree, 1)]
    while waiting:
        element, depth = waiting.pop()
        deepest = max(deepest, depth)
        waiting.extend((child, depth + 1) for child in element)
    return deepest


# --- the layout -----------------------------------------------------------------------------------


@cache
def _layout() -> "ParserConfig":
    from inscriptis.html_properties import Display, WhiteSpace
    from inscriptis.model.config import ParserConfig
    from inscriptis.model.html_element import HtmlElement
    from inscriptis.model.tag import CustomHtmlTagHandlerMapping

    def block(before: int, after: int, space: WhiteSpace = WhiteSpace.normal) -> HtmlElement:
        return HtmlElement(
            display=Display.block, margin_before=before, margin_after=after, whitespace=space
        )

    # What stands in a block inherits the margin behind it, so that of lists must be 0.
    css = dict.fromkeys(_PARAGRAPHS, block(1, 1)) | dict.fromkeys(_LINES, block(0, 0))
    css |= dict.fromkeys([*_LISTS, "x-lines"], block(1, 0))
    css |= {"body": block(0, 0), "pre": block(1, 1, WhiteSpace.pre)}
    bullets = CustomHtmlTagHandlerMapping(
        start_tag_mapping={"ul": lambda state, _: state.li_counter.append("- ")},
        end_tag_mapping={},
    )
    return ParserConfig(css=css, custom_html_tag_handler_mapping=bullets)


def _tidy(text: str) -> str:
    lines: Iterator[str] = (
        "  ".join(filter(None, map(str.strip, line.split(_NEXT_CELL))))
        if _NEXT_CELL in line
        else line.rstrip()
        for line in text.split("\n")
    )
    tidy = re.sub("\n{3,}", "\n\n", "\n".join(lines)).replace(_AMPERSAND, "&")
    return tidy.strip("\n").rstrip()

"""One book file in, one clean text out, with an exact account of what was taken away."""

import re
from collections.abc import Sequence
from dataclasses import dataclass, field

from pipeline.books import boilerplate_patterns as pg
from pipeline.books.boilerplate import NotABook, strip_boilerplate, tidy_lines
from pipeline.books.cleaning import RULES, Rule, clean
from pipeline.books.decoding import decode
from pipeline.books.paragraphs import reflow

NO_MARKERS = "no Project Gutenberg markers"


class Rejected(Exception):
    """The file holds no text that could be used; `reason` is a phrase that says why."""

    def __init__(self, reason: str) -> None:
        super().__init__(reason)
        self.reason = reason


@dataclass(frozen=True)
class CleanDocument:
    """A clean text: UTF-8-able, its lines ended by "\\n", exactly one at the end.

    `removed` says for each step how many things it took and how many characters these were, so
    that `characters_in` less the sum of them is `characters_out`: "boilerplate" (headers, footers,
    notices), one entry for each cleaning rule, "unwrap" (line ends that became spaces, and the
    indents with them) and "whitespace" (spaces at the ends of lines, surplus empty lines).
    `characters_in` counts the decoded text with one character for each line end.
    """

    text: str
    title: str | None
    author: str | None
    language: str | None
    encoding: str
    removed: dict[str, dict[str, int]]
    warnings: list[str]
    characters_in: int
    characters_out: int


@dataclass
class _Account:
    """Counts what each step takes from the text that runs through it."""

    text: str
    removed: dict[str, dict[str, int]] = field(default_factory=dict)

    def step(self, name: str, text: str, count: int) -> None:
        characters = len(self.text) - len(text)
        if characters or count:
            entry = self.removed.setdefault(name, {"count": 0, "characters": 0})
            entry["count"] += count
            entry["characters"] += characters
        self.text = text


def clean_document(
    raw: bytes,
    *,
    unwrap: bool = True,
    strip: bool = True,
    rules: Sequence[Rule] = RULES,
) -> CleanDocument:
    """Cleans one file as it was served.

    `unwrap` undoes the hard wraps of prose, `strip` takes off Project Gutenberg's wrapping, and
    `rules` are applied to what is left.

    Raises:
        Rejected: an empty file, bytes that are no text, a web page or a directory listing saved
            as a book, or a file whose body cannot be told from its wrapping.
    """
    decoded = decode(raw)
    check_is_text(decoded.text)
    account = _Account(decoded.text)
    tidy = tidy_lines(decoded.text)
    account.step("whitespace", tidy, _changed_lines(decoded.text, tidy))
    title = author = language = None
    warnings: list[str] = []
    if strip:
        try:
            stripped = strip_boilerplate(tidy)
        except NotABook as error:
            raise Rejected(error.reason) from error
        title, author, language = stripped.title, stripped.author, stripped.language
        warnings += stripped.warnings if stripped.marked else [NO_MARKERS]
        account.step("boilerplate", stripped.body, len(stripped.removed))
    cleaned = clean(account.text, rules)
    warnings += cleaned.warnings
    for name, removal in cleaned.removed.items():
        account.removed[name] = {"count": removal.count, "characters": removal.characters}
    account.text = cleaned.text
    _single_empty_lines(account)
    if unwrap:
        before = account.text.count("\n")
        flowed = reflow(account.text)
        account.step("unwrap", flowed, max(0, before - flowed.count("\n")))
    if not account.text.strip():
        raise Rejected("nothing is left of it after cleaning")
    if strip and (left := pg.licence_left(pg.fold(account.text))):
        raise Rejected(f'its wrapping could not be told from its text: "{left}" is left in it')
    return CleanDocument(
        account.text,
        title,
        author,
        language,
        decoded.encoding,
        account.removed,
        warnings,
        len(decoded.text),
        len(account.text),
    )


def _changed_lines(before: str, after: str) -> int:
    if len(before) == len(after):
        return 0
    pairs = zip(before.split("\n"), after.split("\n"), strict=True)
    return sum(1 for old, new in pairs if len(old) != len(new))


def _single_empty_lines(account: _Account) -> None:
    """At most one empty line in a row, none at the start, one line end at the end."""
    tidy = tidy_lines(account.text)
    text, runs = re.subn(r"\n\n\n+", "\n\n", tidy)
    text = text.strip("\n") + "\n"
    account.step("whitespace", text, runs)


# --- files that are no books ------------------------------------------------------------------------

_HTML = re.compile(r"\s*(?:<\?xml[^>]{0,200}>\s*)?(?:<!--.{0,2000}?-->\s*)?<(?:!doctype\s+html|html|head|body)\b", re.I | re.S)
_TAG = re.compile(r"</?(?:html|head|body|div|p|a|br|span|table|tr|td|script|link|meta|li|ul)\b[^>]{0,300}>", re.I)
_LISTING_LINE = re.compile(
    r"^(?:[-dl](?:[r-][w-][xsStT-]){3}\+?\s+\d+\s.*|.*\s\d\d-[A-Za-z]{3}-\d{4}\s+\d\d:\d\d\s+[\d.KMG-]+\s*)$", re.M
)
_INDEX = re.compile(r"\s*(?:<[^>]*>\s*)*index of /", re.I)
_CONTROL = re.compile("[\x00-\x08\x0e-\x19\x1b-\x1f\x7f-\x84\x86-\x9f\ufffd]")
_SAMPLE = 50_000  # characters: enough to see what kind of file it is
_MAGIC = {"PK\x03\x04": "a zip archive", "%PDF-": "a PDF file", "\x1f\u2039": "a gzip archive", "{\\rtf": "an RTF file"}


def _is_mostly_tags(text: str) -> bool:
    if text.count("<") < 10:
        return False
    return sum(map(len, _TAG.findall(text))) > 0.05 * len(text)


def check_is_text(text: str) -> None:
    """Raises Rejected for what is no plain text of words: nothing, other kinds of files, a web
    page, a directory listing."""
    sample = text[:_SAMPLE]
    if not sample.strip("\x1a\x00 \n\t\ufeff"):
        raise Rejected("it is empty")
    for magic, name in _MAGIC.items():
        if sample.startswith(magic):
            raise Rejected(f"it is {name}, not a text")
    if len(_CONTROL.findall(sample)) > 0.01 * len(sample):
        raise Rejected("it is not text")
    if _HTML.match(sample) or _is_mostly_tags(sample):
        raise Rejected("it is a web page (HTML), not a text")
    lines = sample.count("\n") + 1
    if _INDEX.match(sample) or len(_LISTING_LINE.findall(sample)) > 0.5 * lines:
        raise Rejected("it is a directory listing, not a text")
    if not any(character.isalpha() for character in sample):
        raise Rejected("it has no words")

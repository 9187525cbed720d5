"""One book file in, one clean text out, with an exact account of what was taken away."""

import re
from collections.abc import Sequence
from dataclasses import dataclass, field

from pipeline.books import boilerplate_patterns as pg
from pipeline.books.boilerplate import NotABook, strip_boilerplate, tidy_lines
from pipeline.books.cleaning import RULES, Rule, clean
from pipeline.books.decoding import decode
from pipeline.books.paragraphs import reflow
from pipeline.books.plain_text import Rejected as Rejected
from pipeline.books.plain_text import check_is_text

NO_MARKERS = "no Project Gutenberg markers"


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

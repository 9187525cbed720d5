"""One book file in, one clean text out, with an exact account of what was taken away."""

import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace

from pipeline.books import boilerplate_patterns as pg
from pipeline.books.boilerplate import NotABook, strip_outline
from pipeline.books.cleaning import DEFAULT_RULES, Rule, clean
from pipeline.books.decoding import Decoded, decode
from pipeline.books.mentions import NEEDLES, Mention, mentions_in
from pipeline.books.outline import Outline
from pipeline.books.paragraphs import reflow
from pipeline.books.plain_text import Rejected as Rejected
from pipeline.books.plain_text import check_is_text
from pipeline.books.searching import substitute

_WIDE_GAP = re.compile(r"\n\n\n+")
NO_MARKERS = "no Project Gutenberg markers"
# Told of each step that changed the text: its name, the text before it and the text after it.
Watch = Callable[[str, str, str], None]


@dataclass(frozen=True)
class CleanDocument:
    """A clean text: UTF-8-able, its lines ended by "\\n", exactly one at the end.

    `removed` says for each step how many things it took and how many characters these were, so
    that `characters_in` less the sum of them is `characters_out`: "boilerplate" (headers, footers,
    notices), one entry for each cleaning rule, "unwrap" (line ends that became spaces, and the
    indents with them) and "whitespace" (spaces at the ends of lines, surplus empty lines).
    `characters_in` counts the decoded text with one character for each line end. `mentions` are
    the places where the clean text speaks of Project Gutenberg.
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
    mentions: list[Mention] = field(default_factory=list)


@dataclass
class _Account:
    """Counts what each step takes from the text that runs through it."""

    text: str
    watch: Watch | None
    removed: dict[str, dict[str, int]] = field(default_factory=dict)

    def step(self, name: str, text: str, count: int) -> None:
        characters = len(self.text) - len(text)
        if characters or count:
            entry = self.removed.setdefault(name, {"count": 0, "characters": 0})
            entry["count"] += count
            entry["characters"] += characters
        if self.watch and text != self.text:
            self.watch(name, self.text, text)
        self.text = text

    def clean(self, rules: Sequence[Rule]) -> list[str]:
        """Applies the rules; returns the warnings of those that went too far."""
        seen: dict[str, tuple[str, str]] = {}
        watched = [_noting(rule, seen) for rule in rules] if self.watch else rules
        cleaned = clean(self.text, watched)
        for name, removal in cleaned.removed.items():
            self.removed[name] = {"count": removal.count, "characters": removal.characters}
            if self.watch:
                self.watch(name, *seen[name])
        self.text = cleaned.text
        return cleaned.warnings


def _noting(rule: Rule, seen: dict[str, tuple[str, str]]) -> Rule:
    """The same rule, which notes the text before and after it in `seen`."""

    def apply(text: str) -> tuple[str, int]:
        changed, count = rule.apply(text)
        seen[rule.name] = (text, changed)
        return changed, count

    return replace(rule, apply=apply)


def clean_document(
    raw: bytes,
    *,
    unwrap: bool = True,
    strip: bool = True,
    rules: Sequence[Rule] = DEFAULT_RULES,
    watch: Watch | None = None,
) -> CleanDocument:
    """Cleans one file as it was served.

    `unwrap` undoes the hard wraps of prose, `strip` takes off Project Gutenberg's wrapping, and
    `rules` are applied to what is left. `watch` is told of every change.

    Raises:
        Rejected: an empty file, bytes that are no text, a web page or a directory listing saved
            as a book, or a file whose body cannot be told from its wrapping.
    """
    decoded = decode(raw)
    try:
        check_is_text(decoded.text)
    except Rejected as error:
        raise Rejected(error.reason, len(raw)) from error
    try:
        return _clean_text(decoded, unwrap, strip, rules, watch)
    except (Rejected, NotABook) as error:
        raise Rejected(error.reason, len(decoded.text)) from error


def _clean_text(
    decoded: Decoded, unwrap: bool, strip: bool, rules: Sequence[Rule], watch: Watch | None
) -> CleanDocument:
    account = _Account(decoded.text, watch)
    outline = Outline(decoded.text)
    tidy = outline.tidied()
    account.step("whitespace", tidy.text, len(outline.loose_lines))
    title = author = language = None
    warnings: list[str] = []
    if strip:
        stripped = strip_outline(tidy)
        title, author, language = stripped.title, stripped.author, stripped.language
        warnings += stripped.warnings if stripped.marked else [NO_MARKERS]
        account.step("boilerplate", stripped.body, len(stripped.removed))
    warnings += account.clean(rules)
    laid_out = Outline(account.text).tidied()
    _single_empty_lines(account, laid_out)
    if unwrap:
        # As it was laid out: where each line has an empty one below, more of them part paragraphs.
        flowed = reflow(laid_out.text)
        account.step("unwrap", flowed, max(0, account.text.count("\n") - flowed.count("\n")))
    if not account.text.strip():
        raise Rejected("nothing is left of it after cleaning")
    final = Outline(account.text)
    final.places((*pg.LICENCE_LEFT_NEEDLES, *NEEDLES))  # at one look, for both that ask for them
    if strip and (left := pg.licence_left(final)):
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
        mentions_in(final),
    )


def _single_empty_lines(account: _Account, tidy: Outline) -> None:
    """At most one empty line in a row, none at the start, one line end at the end."""
    text, runs = substitute(_WIDE_GAP, tidy.wide_gaps, "\n\n", tidy.text)
    text = text.strip("\n") + "\n"
    account.step("whitespace", text, runs)

"""The cleaning rules: what each takes out of a body, named and counted.

A rule is a function from a text to the changed text and the number of things it changed. It
removes only what is delimited (brackets, a heading with a list below it, a line by itself), never
"everything before". A rule that would take more than its share of the body is not applied, and
the reader is warned.
"""

from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass, field

from pipeline.books.cleaning_adverts import remove_advertisements
from pipeline.books.cleaning_blocks import (
    remove_credits,
    remove_illustrations,
    remove_sidenotes,
    remove_transcriber_notes,
)
from pipeline.books.cleaning_lines import (
    join_broken_words,
    remove_bare_page_numbers,
    remove_line_numbers,
)
from pipeline.books.cleaning_lists import remove_contents, remove_indexes
from pipeline.books.cleaning_markup import remove_markup
from pipeline.books.cleaning_notes import remove_footnotes, remove_note_marks, remove_page_numbers
from pipeline.books.cleaning_typography import (
    collapse_spaces,
    plain_characters,
    remove_italics,
    repair_mojibake,
    unify_dashes,
    unify_scene_breaks,
)
from pipeline.errors import UsageError
from pipeline.settings import nearest


@dataclass(frozen=True)
class Rule:
    """A named change. `largest_share` is the part of the body that it may remove at most (a
    thousand characters it may, if that is not half the body). `on`: whether it is applied where
    nobody says otherwise."""

    name: str
    apply: Callable[[str], tuple[str, int]]
    largest_share: float = 0.25
    on: bool = True


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


# All rules, in the order in which they are applied: wrong encodings first, since a no-break space
# or a soft hyphen may be half of a letter; lists and notes are told by the marks and numbers in
# them, so that the rules for these come later; scene breaks before dashes, since these draw them.
RULES: tuple[Rule, ...] = (
    Rule("mojibake", repair_mojibake),
    Rule("characters", plain_characters),
    Rule("markup", remove_markup, 0.1),
    Rule("credits", remove_credits, 0.35),
    Rule("transcriber-notes", remove_transcriber_notes, 0.35),
    Rule("contents", remove_contents, 0.2),
    Rule("indexes", remove_indexes, 0.2),
    Rule("advertisements", remove_advertisements, 0.2),
    Rule("illustrations", remove_illustrations),
    Rule("sidenotes", remove_sidenotes, 0.2),
    Rule("footnotes", remove_footnotes, 0.3),
    Rule("page-numbers", remove_page_numbers, 0.1),
    Rule("note-marks", remove_note_marks, 0.1),
    Rule("page-lines", remove_bare_page_numbers, 0.1),
    Rule("line-numbers", remove_line_numbers, 0.1),
    Rule("hyphens", join_broken_words, 0.05),
    Rule("italics", remove_italics, 0.1),
    Rule("scene-breaks", unify_scene_breaks, 0.1),
    # Off: "--" is how most of the library writes a dash, and how a reader of its files knows it.
    Rule("dashes", unify_dashes, 0.05, on=False),
    Rule("double-spaces", collapse_spaces),
)
RULE_NAMES = tuple(rule.name for rule in RULES)


def choose_rules(skip: Collection[str] = (), extra: Collection[str] = ()) -> tuple[Rule, ...]:
    """The rules that are on, less those named in `skip`, and those named in `extra`, in order. A
    rule that is named in both is left out.

    Raises UsageError for a name that is no rule's.
    """
    for option, names in (("--skip-rule", skip), ("--with-rule", extra)):
        for name in names:
            if name not in RULE_NAMES:
                raise UsageError(f"{option} {name}: no such rule.", nearest(name, RULE_NAMES))
    return tuple(
        rule for rule in RULES if rule.name not in skip and (rule.on or rule.name in extra)
    )


DEFAULT_RULES = choose_rules()


_ALWAYS_ALLOWED = 1000  # characters: a contents list is a large part of a very short work


def clean(body: str, rules: Sequence[Rule] = DEFAULT_RULES) -> Cleaned:
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

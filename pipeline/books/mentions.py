"""References to Project Gutenberg that are left in a text, wherever they stand in it."""

import re
from dataclasses import dataclass

from pipeline.books.outline import Outline, fold
from pipeline.books.searching import occurrences

# Every pattern below holds one of these; most texts hold none, and cost a look for these.
NEEDLES = (
    "gutenberg", "pglaf", "pgdp", "etext", "e-text", "readable by both humans", "small print!",
    "small print\"!",
)  # fmt: skip
_OTHER_NEEDLES = ("古騰堡", "古腾堡", "谷登堡", "гутенберг", "γουτεμβ")
_OTHER_LETTERS = "古谷гГγΓ"  # with which these begin
_REACH = 80  # characters on either side of a needle in which a pattern must lie
_LONGEST_QUOTE = 90
_PROJECT = r"proje[ck]to?|projet|proyecto|progetto|projekti|projektet|proiectul|проект\w*|εγχείρημα"
_MENTION = re.compile(
    rf"(?:{_PROJECT})[\W_]{{1,4}}(?:de |di |du |do |of )?gutenberg"
    r"|gutenberg[\W_]{1,4}(?:projek\w*|project\w*|projet|progetto|proyecto)"
    r"|gutenberg(?:\.|\s+dot\s+)(?:org|net|com|ca|aol|spiegel|cc|polytechnic)|gutenberg-?(?:tm|de\b)"
    r"|gutenberg\s*(?:\(tm\)|™|®)|[/.]gutenberg/|gutenberg(?:\s+literary)?\s+archive"
    r"|gutenberg\s+e-?(?:text|book)"
    r"|\bpglaf\b|\bpgdp\b"
    r"|\be-?texts?\b"
    r"|readable\s+by\s+both\s+humans\s+and\s+by\s+computers|small\s+print\"?!"
    r"|古騰堡|古腾堡|谷登堡|проект\w*\W{1,3}гутенберг|гутенберг\w*\W{1,3}проект|γουτεμβ"
)


@dataclass(frozen=True)
class Mention:
    """A reference at `start` (characters), in the line `line` (the first is 1), with the words
    round it on one line."""

    start: int
    line: int
    quote: str


def find_mentions(text: str) -> list[Mention]:
    """Every reference to Project Gutenberg: its name in its spellings and languages, its web
    addresses, its foundation, and the phrases of its licence that speak of etexts."""
    return mentions_in(Outline(text))


def mentions_in(outline: Outline) -> list[Mention]:
    """`find_mentions` for a text whose outline is known."""
    text = outline.text
    hits = [at for found in outline.places(NEEDLES).values() for at in found]
    if any(letter in text for letter in _OTHER_LETTERS):
        hits += occurrences(fold(text), _OTHER_NEEDLES)
    places: set[int] = set()
    for at in hits:
        begin = max(0, at - _REACH)
        before = max(0, begin - 1)  # its last character tells whether a word begins
        for match in _MENTION.finditer(fold(text[before : at + _REACH]), begin - before):
            if before + match.start() <= at < before + match.end():
                places.add(before + match.start())
    mentions = []
    line = 1
    counted = 0
    for start in sorted(places):
        line += text.count("\n", counted, start)
        counted = start
        mentions.append(Mention(start, line, _quote(text, start)))
    return mentions


def _quote(text: str, start: int) -> str:
    """The words round a place, as many as fit, from the line that it is in."""
    begin = text.rfind("\n", max(0, start - _LONGEST_QUOTE // 3 - 1), start) + 1
    if begin < start - _LONGEST_QUOTE // 3:
        begin = text.find(" ", start - _LONGEST_QUOTE // 3, start) + 1 or start
    words = " ".join(text[begin : begin + _LONGEST_QUOTE * 2].split())
    return words if len(words) <= _LONGEST_QUOTE else words[:_LONGEST_QUOTE].rstrip() + "..."

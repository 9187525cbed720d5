"""Paragraphs of books that a person read and labelled, and how well unwrapping does on them.

`labelled_paragraphs.jsonl` holds paragraphs of the shared books as they stood there after
cleaning, each with the last lines of the paragraph before it and the first of the one after it.
They are a random draw, in strata, so that there is enough of what is rare and hard: `weight` says
for how many paragraphs of its book each one stands. The labels were given before the program's
answers were seen. "prose" should become one line; "lines" should keep its lines (but for those
numbered in `joins`, which go on the line above); "mixed" holds both, or could be either, and is in
no score. The rows with a "layout" say what was measured on each book, for where the books are not
at hand. The program was improved by what it got wrong there, first on the paragraphs that are not
marked "holdout", at last on all of them.

So `labelled_paragraphs_held_out.jsonl` holds others, labelled before the program saw them:
passages of further Project Gutenberg books (shortened, line for line as they were) that are all
letters, plays, songs, lists and quotations, and a hundred paragraphs of the shared books, drawn at
random from those that are not full lines and small letters. Of what went wrong in the first draw
of passages (three of prose, two headings among them), the cause was mended afterwards; the other
draws were only read.
"""

import json
import re
from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass
from itertools import accumulate
from pathlib import Path
from typing import Any

DATA = Path(__file__).with_name("labelled_paragraphs.jsonl")
HELD_OUT = Path(__file__).with_name("labelled_paragraphs_held_out.jsonl")


@dataclass(frozen=True)
class Labelled:
    """A paragraph, where it stands, and what should become of it."""

    file: str
    label: str
    weight: float
    text: str
    before: str
    after: str
    kind: str = "prose"
    holdout: bool = False
    joins: tuple[int, ...] = ()


def read_rows(path: Path = DATA) -> list[dict[str, Any]]:
    return [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()]


def read_labelled(path: Path = DATA) -> list[Labelled]:
    rows = [row for row in read_rows(path) if "label" in row]
    return [Labelled(**{**row, "joins": tuple(row.get("joins", ()))}) for row in rows]


def read_passages() -> list[tuple[str, list[Labelled]]]:
    """The passages of further books, each with the labelled ones of its paragraphs."""
    passages = []
    for row in read_rows(HELD_OUT):
        if "blocks" in row:
            text = "\n\n".join(block["text"] for block in row["blocks"]) + "\n"
            labelled = [block for block in row["blocks"] if "label" in block]
            of_book = {"file": row["book"], "weight": 1.0, "before": "", "after": ""}
            passages.append((text, [Labelled(**of_book, **block) for block in labelled]))
    return passages


NO_LETTERS = re.compile(r"[^\w\n]+|_+")


def letters(text: str) -> list[str]:
    """What neither cleaning nor unwrapping changes, line by line: a paragraph is known again by
    it."""
    return NO_LETTERS.sub("", text).split("\n")


def line_ends(lines: list[str]) -> list[int]:
    """Where lines end, counted in letters."""
    return list(accumulate(map(len, lines)))


class Flowed:
    """A book before and after unwrapping."""

    def __init__(self, wrapped: str, flowed: str) -> None:
        lines = letters(wrapped)
        self.letters = "".join(lines)
        self.starts = {0, *line_ends(lines)}
        self.kept = set(line_ends(letters(flowed)))

    def breaks(self, text: str) -> list[bool] | None:
        """For each line break of the paragraph `text`: is it still there? None: the paragraph
        is not in the book as it was labelled."""
        lines = letters(text)
        key = "".join(lines)
        start = self.letters.find(key)
        while start >= 0 and start not in self.starts:
            start = self.letters.find(key, start + 1)
        if start < 0:
            return None
        ends = line_ends(lines)  # a line without letters, as of dots, has no end of its own
        return [start + end in self.kept and end < ends[-1] for end in ends[:-1]]


@dataclass(frozen=True)
class Verdict:
    """What became of a labelled paragraph."""

    paragraph: Labelled
    breaks: list[bool]

    @property
    def is_right(self) -> bool:
        if self.paragraph.label == "prose":
            return not any(self.breaks)
        joins = self.paragraph.joins
        return all(kept for line, kept in enumerate(self.breaks, 1) if line not in joins)


@dataclass(frozen=True)
class Score:
    """Counts of prose and of lines (verse and the like), right and wrong; `prose_error` is the
    share of the books' prose paragraphs that come out wrong, as estimated from the weights."""

    prose: int
    prose_wrong: int
    lines: int
    lines_kept: int
    by_kind: dict[str, tuple[int, int]]
    prose_error: float

    @property
    def kept(self) -> float:
        return self.lines_kept / self.lines

    def table(self) -> str:
        """Precision and recall of both answers, then the kinds of lines."""
        as_prose = self.prose - self.prose_wrong
        joined = self.lines - self.lines_kept
        rows = [
            f"{'':12}{'labelled':>9}{'right':>7}{'recall':>8}{'precision':>11}",
            _row("prose", self.prose, as_prose, as_prose + joined),
            _row("lines", self.lines, self.lines_kept, self.lines_kept + self.prose_wrong),
        ]
        for kind, (right, total) in sorted(self.by_kind.items()):
            rows.append(f"  {kind:10}{total:>9}{right:>7}{right / total:>8.1%}")
        if self.prose_error != self.prose_wrong / self.prose:
            rows.append(f"of the books' prose, {self.prose_error:.2%} is wrong (estimate)")
        return "\n".join(rows)


def _row(name: str, labelled: int, right: int, answered: int) -> str:
    precision = right / answered if answered else 0.0
    return f"{name:12}{labelled:>9}{right:>7}{right / labelled:>8.1%}{precision:>11.1%}"


def score(verdicts: Iterable[Verdict]) -> Score:
    """The score over the verdicts; paragraphs labelled "mixed" are in none."""
    totals: Counter[str] = Counter()
    right: Counter[str] = Counter()
    stand_for: Counter[bool] = Counter()
    for verdict in verdicts:
        paragraph = verdict.paragraph
        if paragraph.label != "mixed":
            totals[paragraph.kind] += 1
            right[paragraph.kind] += verdict.is_right
        if paragraph.label == "prose":
            stand_for[verdict.is_right] += round(10 * paragraph.weight)
    prose = totals.pop("prose")
    lines = totals.total()
    return Score(
        prose,
        prose - right.pop("prose", 0),
        lines,
        right.total(),
        {kind: (right[kind], total) for kind, total in totals.items()},
        stand_for[False] / stand_for.total(),
    )

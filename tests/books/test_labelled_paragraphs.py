"""Unwrapping, held against the paragraphs that a person labelled.

`python -m tests.books.test_labelled_paragraphs` prints the tables and the paragraphs that come
out wrong; with --write-layouts it measures the layouts of the books anew and saves them.
"""

import json
import sys
from collections import defaultdict
from collections.abc import Callable
from dataclasses import asdict
from functools import cache

import pytest

from pipeline.books.layout import Layout, Rates, measure
from pipeline.books.lines import Page
from pipeline.books.paragraphs import reflow
from tests.books.corpus import still_wrapped
from tests.books.labelled_paragraphs import (
    DATA,
    Flowed,
    Labelled,
    Verdict,
    read_labelled,
    read_rows,
    score,
)
from tests.conftest import NO_SHARED_BOOKS, SHARED_BOOKS

LARGEST_SHARE_OF_PROSE_WRONG = 0.005
LARGEST_SHARE_OF_HARD_PROSE_WRONG = 0.02  # of the draw itself, in which the hard is frequent
SMALLEST_SHARE_OF_LINES_KEPT = 0.95


def by_file() -> dict[str, list[Labelled]]:
    files = defaultdict(list)
    for paragraph in read_labelled():
        files[paragraph.file].append(paragraph)
    return files


@cache
def in_their_books() -> tuple[Verdict, ...]:
    """Each paragraph as it comes out where its whole book is unwrapped. (Another cleaning rule
    may have changed a paragraph or taken it away: it is left out.)"""
    verdicts = []
    for file, paragraphs in by_file().items():
        wrapped = still_wrapped(SHARED_BOOKS / file)
        book = Flowed(wrapped, reflow(wrapped))
        found = ((paragraph, book.breaks(paragraph.text)) for paragraph in paragraphs)
        verdicts += [Verdict(paragraph, breaks) for paragraph, breaks in found if breaks]
    return tuple(verdicts)


@cache
def between_their_neighbours() -> tuple[Verdict, ...]:
    """Each paragraph as it comes out between some lines of its neighbours, by the layout that
    was measured on its book."""
    layouts = {row["file"]: row["layout"] for row in read_rows() if "layout" in row}
    verdicts = []
    for file, paragraphs in by_file().items():
        layout = as_layout(layouts[file])
        for paragraph in paragraphs:
            excerpt = f"{paragraph.before}\n\n{paragraph.text}\n\n{paragraph.after}"
            breaks = Flowed(excerpt, reflow(excerpt, layout)).breaks(paragraph.text)
            assert breaks is not None
            verdicts.append(Verdict(paragraph, breaks))
    return tuple(verdicts)


def as_layout(row: dict[str, object]) -> Layout:
    fields = dict(row)
    rates = fields.pop("prose")
    assert isinstance(rates, dict)
    sets = {name: frozenset(value) for name, value in fields.items() if isinstance(value, list)}
    return Layout(**{**fields, **sets, "prose": Rates(**rates)})  # type: ignore[arg-type]


def as_row(layout: Layout) -> dict[str, object]:
    row = asdict(layout)
    sets = {name: sorted(value) for name, value in row.items() if isinstance(value, frozenset)}
    rates = {name: round(value, 3) for name, value in row["prose"].items()}
    return {**row, **sets, "prose": rates}


def report(verdicts: tuple[Verdict, ...]) -> str:
    """The table over all paragraphs, and over those held out alone."""
    held_out = [verdict for verdict in verdicts if verdict.paragraph.holdout]
    return f"all\n{score(verdicts).table()}\nheld out\n{score(held_out).table()}"


def test_enough_paragraphs_of_either_kind_are_labelled() -> None:
    labels = [paragraph.label for paragraph in read_labelled()]
    assert labels.count("prose") >= 180
    assert labels.count("lines") >= 120
    assert labels.count("prose") + labels.count("lines") >= 400
    assert len(by_file()) >= 40


@pytest.mark.parametrize("where", [in_their_books, between_their_neighbours])
def test_labelled_prose_is_unwrapped_and_labelled_lines_are_kept(
    where: Callable[[], tuple[Verdict, ...]],
) -> None:
    if where is in_their_books and not SHARED_BOOKS.is_dir():
        pytest.skip(NO_SHARED_BOOKS)
    verdicts = where()
    assert len(verdicts) >= 0.9 * len(read_labelled())
    result = score(verdicts)
    assert result.prose_error < LARGEST_SHARE_OF_PROSE_WRONG, report(verdicts)
    assert result.prose_wrong < LARGEST_SHARE_OF_HARD_PROSE_WRONG * result.prose, report(verdicts)
    assert result.kept >= SMALLEST_SHARE_OF_LINES_KEPT, report(verdicts)


def print_reports() -> None:
    for where in (in_their_books, between_their_neighbours):
        if where is in_their_books and not SHARED_BOOKS.is_dir():
            continue
        sys.stdout.write(f"\n{where.__name__}\n{report(where())}\n")
        for verdict in where():
            if not verdict.is_right and verdict.paragraph.label != "mixed":
                paragraph = verdict.paragraph
                sys.stdout.write(f"\nwrong: {paragraph.label}, {paragraph.file}\n")
                sys.stdout.write(f"{paragraph.text}\n")


def write_layouts() -> None:
    rows = [row for row in read_rows() if "layout" not in row]
    for file in by_file():
        layout = measure(Page(still_wrapped(SHARED_BOOKS / file)))
        rows.append({"file": file, "layout": as_row(layout)})
    lines = [json.dumps(row, ensure_ascii=False) + "\n" for row in rows]
    DATA.write_text("".join(lines), encoding="utf-8")


if __name__ == "__main__":
    if "--write-layouts" in sys.argv:
        write_layouts()
    print_reports()

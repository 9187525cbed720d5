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
from pathlib import Path

import pytest

from pipeline.books.layout import Layout, Rates, measure
from pipeline.books.lines import Page
from pipeline.books.paragraphs import reflow
from tests.books.corpus import still_wrapped
from tests.books.labelled_paragraphs import (
    DATA,
    HELD_OUT,
    Flowed,
    Labelled,
    Verdict,
    read_labelled,
    read_passages,
    read_rows,
    score,
)
from tests.conftest import NO_SHARED_BOOKS, SHARED_BOOKS

LARGEST_SHARE_OF_PROSE_WRONG = 0.005  # of the draw itself, in which the hard is frequent
LARGEST_SHARE_OF_HELD_OUT_PROSE_WRONG = 0.015  # of what is hard altogether
SMALLEST_SHARE_OF_LINES_KEPT = 0.95


def by_file(data: Path = DATA) -> dict[str, list[Labelled]]:
    files = defaultdict(list)
    for paragraph in read_labelled(data):
        files[paragraph.file].append(paragraph)
    return files


@cache
def in_their_books(data: Path = DATA) -> tuple[Verdict, ...]:
    """Each paragraph as it comes out where its whole book is unwrapped. (Another cleaning rule
    may have changed a paragraph or taken it away: it is left out.)"""
    verdicts = []
    for file, paragraphs in by_file(data).items():
        wrapped = still_wrapped(SHARED_BOOKS / file)
        book = Flowed(wrapped, reflow(wrapped))
        found = ((paragraph, book.breaks(paragraph.text)) for paragraph in paragraphs)
        verdicts += [Verdict(paragraph, breaks) for paragraph, breaks in found if breaks]
    return tuple(verdicts)


@cache
def between_their_neighbours(data: Path = DATA) -> tuple[Verdict, ...]:
    """Each paragraph as it comes out between some lines of its neighbours, by the layout that
    was measured on its book."""
    layouts = {row["file"]: row["layout"] for row in read_rows() if "layout" in row}
    verdicts = []
    for file, paragraphs in by_file(data).items():
        layout = as_layout(layouts[file])
        for paragraph in paragraphs:
            excerpt = f"{paragraph.before}\n\n{paragraph.text}\n\n{paragraph.after}"
            breaks = Flowed(excerpt, reflow(excerpt, layout)).breaks(paragraph.text)
            assert breaks is not None
            verdicts.append(Verdict(paragraph, breaks))
    return tuple(verdicts)


@cache
def in_their_passages() -> tuple[Verdict, ...]:
    """Each paragraph of the held-out passages as it comes out where the passage is all there is
    of its book."""
    verdicts = []
    for text, paragraphs in read_passages():
        passage = Flowed(text, reflow(text))
        for paragraph in paragraphs:
            breaks = passage.breaks(paragraph.text)
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
    """The table, and the paragraphs that come out wrong."""
    wrong = [
        f"wrong: {verdict.paragraph.label}, {verdict.paragraph.file}\n{verdict.paragraph.text}"
        for verdict in verdicts
        if not verdict.is_right and verdict.paragraph.label != "mixed"
    ]
    return "\n\n".join([score(verdicts).table(), *wrong])


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
    assert result.prose_wrong < LARGEST_SHARE_OF_PROSE_WRONG * result.prose, report(verdicts)
    assert result.kept >= SMALLEST_SHARE_OF_LINES_KEPT, report(verdicts)


def held_out() -> tuple[Verdict, ...]:
    return between_their_neighbours(HELD_OUT) + in_their_passages()


def held_out_in_their_books() -> tuple[Verdict, ...]:
    return in_their_books(HELD_OUT) + in_their_passages()


@pytest.mark.parametrize("where", [held_out_in_their_books, held_out])
def test_so_are_those_that_were_held_out(where: Callable[[], tuple[Verdict, ...]]) -> None:
    if where is held_out_in_their_books and not SHARED_BOOKS.is_dir():
        pytest.skip(NO_SHARED_BOOKS)
    verdicts = where()
    result = score(verdicts)
    assert result.prose >= 230 and result.lines >= 100
    assert result.prose_wrong < LARGEST_SHARE_OF_HELD_OUT_PROSE_WRONG * result.prose, report(
        verdicts
    )
    assert result.kept >= SMALLEST_SHARE_OF_LINES_KEPT, report(verdicts)


def print_reports() -> None:
    without_books = (between_their_neighbours, held_out)
    with_books = (in_their_books, held_out_in_their_books)
    for where in without_books + (with_books if SHARED_BOOKS.is_dir() else ()):
        sys.stdout.write(f"\n{where.__name__}\n{report(where())}\n")


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

"""The files that the laws of cleaning are tested on: the sample library, and the shared books
where they are beside the repository, with what is known to be true of each."""

import csv
import re
from dataclasses import dataclass
from functools import cache
from pathlib import Path

import pytest

from pipeline.books.document import clean_document
from pipeline.books.sample import sample_library
from tests.conftest import NO_SHARED_BOOKS, SHARED_BOOKS


@dataclass(frozen=True)
class Truth:
    """A file, whether it is a book, and lines of it that must survive cleaning."""

    path: Path
    is_book: bool
    must_keep: tuple[str, ...] = ()


def _sample_truth(path: Path) -> Truth:
    """The first line of every paragraph of some length between the markers must survive."""
    return Truth(path, True, tuple(_lines_of_the_tale(path)))


def _lines_of_the_tale(path: Path) -> list[str]:
    """Full lines of prose from the middle half of a tale, told without the code under test."""
    raw = path.read_bytes()
    try:
        text = raw.decode("utf-8-sig")
    except UnicodeDecodeError:
        text = raw.decode("latin-1")
    lines = text.splitlines()
    middle = lines[len(lines) // 3 : 2 * len(lines) // 3]
    plain = [line for line in middle if len(line) > 50 and not re.search(r"[\[\]{}*|]|^ ", line)]
    return plain[::5]


def _shared_truths() -> list[Truth]:
    if not SHARED_BOOKS.is_dir():
        return []
    with (SHARED_BOOKS / "truth.tsv").open(encoding="utf-8", newline="") as file:
        return [
            Truth(
                SHARED_BOOKS / row["file"],
                row["expect"] == "book",
                tuple(line for line in row["must_keep"].split(" ¦ ") if line),
            )
            for row in csv.DictReader(file, delimiter="\t", quoting=csv.QUOTE_NONE)
        ]


SAMPLES = [_sample_truth(path) for path in sorted(sample_library().glob("*.txt"))]
SHARED = _shared_truths()
BOOKS = [truth for truth in SAMPLES + SHARED if truth.is_book]
NO_BOOKS = [truth for truth in SHARED if not truth.is_book]

_missing = pytest.param(None, marks=pytest.mark.skip(NO_SHARED_BOOKS), id="shared-books")
book_params = [pytest.param(truth, id=truth.path.name) for truth in BOOKS]
if not SHARED:
    book_params.append(_missing)
no_book_params = [pytest.param(truth, id=truth.path.name) for truth in NO_BOOKS] or [_missing]


@cache
def still_wrapped(path: Path) -> str:
    """The text of a book, cleaned, its lines as they were."""
    return clean_document(path.read_bytes(), unwrap=False).text


def squeezed(text: str) -> str:
    """Without underscores, and with one space for any white space, as lines are compared."""
    return " ".join(text.replace("_", "").split())

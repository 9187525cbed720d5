"""The books that tests read."""

from pathlib import Path

import pytest

from pipeline.books import sample

SHARED_BOOKS = Path(__file__).resolve().parents[1].parent / "shared" / "books"
NO_SHARED_BOOKS = "shared/books is not beside the repository"


@pytest.fixture(scope="session")
def shared_books() -> Path:
    """The folder of real Project Gutenberg files; tests that need it are skipped without it."""
    if not SHARED_BOOKS.is_dir():
        pytest.skip(NO_SHARED_BOOKS)
    return SHARED_BOOKS


@pytest.fixture(scope="session")
def sample_library() -> Path:
    """The folder of the tales that ship with the product."""
    return sample.sample_library()

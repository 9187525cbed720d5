"""What all tests share: where the books are."""

from pathlib import Path

import pytest

from pipeline.books import sample

SHARED_BOOKS = Path(__file__).parents[2] / "shared" / "books"


@pytest.fixture(scope="session")
def shared_books() -> Path:
    """Real Project Gutenberg files; they stand beside the repository, or nowhere."""
    if not (SHARED_BOOKS / "manifest.tsv").is_file():
        pytest.skip("shared/books is not beside the repository")
    return SHARED_BOOKS


@pytest.fixture(scope="session")
def sample_library() -> Path:
    """The tales that ship with the package."""
    return sample.sample_library()

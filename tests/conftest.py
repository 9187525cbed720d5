"""The books that tests read."""

import os
from collections.abc import Iterator
from functools import cache
from pathlib import Path
from typing import Any

import pytest
from hypothesis import settings

from pipeline.books import sample
from tests.s3_server import KEY, SECRET, S3Server

# The same examples in every run: a test that fails does so for the next person, too. To look for
# new ones: `pytest --hypothesis-profile default`.
settings.register_profile("same-examples", derandomize=True)
settings.load_profile("same-examples")

SHARED_BOOKS = Path(__file__).resolve().parents[1].parent / "shared" / "books"
NO_SHARED_BOOKS = "shared/books is not beside the repository"


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Files with slow tests first: a long one that begins last would run alone in the end."""
    slow = {item.path for item in items if item.get_closest_marker("slow")}
    items.sort(key=lambda item: item.path not in slow)


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


@pytest.fixture(scope="session")
def running_s3() -> Iterator[S3Server]:
    with S3Server() as server, pytest.MonkeyPatch.context() as patch:
        _read_descriptions_once(patch)
        yield server


def _read_descriptions_once(patch: pytest.MonkeyPatch) -> None:
    """Let the clients of all tests share what botocore reads for each: two megabytes of JSON."""
    from botocore.loaders import JSONFileLoader

    read = cache(JSONFileLoader().load_file)

    def load_file(_: Any, path: str) -> Any:
        return read(path)

    patch.setattr(JSONFileLoader, "load_file", load_file)


@pytest.fixture
def s3(running_s3: S3Server, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> S3Server:
    """An empty server, and an environment that names it and holds no one's credentials."""
    running_s3.reset()
    for name in [name for name in os.environ if name.startswith("AWS_")]:
        monkeypatch.delenv(name)
    monkeypatch.setenv("AWS_EC2_METADATA_DISABLED", "true")
    monkeypatch.setenv("AWS_CONFIG_FILE", str(tmp_path / "none"))
    monkeypatch.setenv("AWS_SHARED_CREDENTIALS_FILE", str(tmp_path / "none"))
    monkeypatch.setenv("AWS_ENDPOINT_URL", running_s3.url)
    return running_s3


@pytest.fixture
def s3_keys(s3: S3Server, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", KEY)
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", SECRET)

"""What tests of the corpus read from: a bucket, and a Hub on loopback."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from pipeline.corpus import hub_rows
from tests.corpus.hub_datasets import DATASETS
from tests.corpus.series_bucket import Bucket
from tests.datasets_server import DatasetsServer


@pytest.fixture
def bucket(tmp_path: Path) -> Bucket:
    """An empty bucket."""
    return Bucket(tmp_path)


@pytest.fixture
def hub(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Iterator[DatasetsServer]:
    """A Hub with DATASETS, which the libraries of this process ask."""
    monkeypatch.setattr(hub_rows, "RETRY_WAITS", (0.0, 0.0))
    with DatasetsServer(DATASETS) as server:
        server.use(monkeypatch, tmp_path / "home")
        server.private.add("ada/private")
        server.gated.add("ada/gated")
        yield server


@pytest.fixture
def cache(tmp_path: Path) -> Path:
    """What `datasets` may keep, not yet there."""
    return tmp_path / "cache"

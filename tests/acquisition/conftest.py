"""No test waits, or counts its downloads among those of the person who runs it."""

from functools import partial
from pathlib import Path

import pytest

from pipeline.books.polite import PoliteSession


@pytest.fixture(autouse=True)
def own_quota(tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A cache directory of its own for each test."""
    home = tmp_path_factory.mktemp("cache")
    monkeypatch.setenv("XDG_CACHE_HOME", str(home))
    return home


@pytest.fixture(autouse=True)
def no_waits(monkeypatch: pytest.MonkeyPatch) -> None:
    """Back-off takes no time; how long it is, is tested where it is decided."""
    impatient = partial(PoliteSession, sleep=lambda seconds: None)
    monkeypatch.setattr("pipeline.acquisition.shelf.PoliteSession", impatient)

"""No test may count its downloads among those of the person who runs it."""

from pathlib import Path

import pytest


@pytest.fixture(autouse=True)
def own_quota(tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A cache directory of its own for each test."""
    home = tmp_path_factory.mktemp("cache")
    monkeypatch.setenv("XDG_CACHE_HOME", str(home))
    return home

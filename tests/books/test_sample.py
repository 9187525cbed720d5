"""The tales that ship with the product."""

from pathlib import Path

import pytest

from pipeline.books import sample
from pipeline.errors import PipelineError


def test_the_sample_library_holds_at_least_eight_tales(sample_library: Path) -> None:
    tales = list(sample_library.glob("*.txt"))
    assert len(tales) >= 8
    assert sum(tale.stat().st_size for tale in tales) > 60_000


def test_a_package_without_it_says_so(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(sample, "__file__", str(tmp_path / "sample.py"))
    with pytest.raises(PipelineError, match="sample library is missing"):
        sample.sample_library()

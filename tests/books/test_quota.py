"""The day's downloads from the main site: counted for all directories, kept, never forgotten."""

import json
import os
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pipeline.books.quota import DailyQuota, default_path
from pipeline.errors import PipelineError


class Clock:
    def __init__(self, now: float = 1_000_000.0) -> None:
        self.now = now

    def __call__(self) -> float:
        return self.now


def quota(tmp_path: Path, clock: Clock | None = None, limit: int = 3) -> DailyQuota:
    return DailyQuota(tmp_path / "deep" / "count.json", limit=limit, clock=clock or Clock())


def test_what_is_taken_is_not_left(tmp_path: Path) -> None:
    assert quota(tmp_path).left() == 3
    quota(tmp_path).take()
    assert quota(tmp_path).left() == 2, "another process sees it"


def test_more_than_the_limit_is_refused_with_the_way_out(tmp_path: Path) -> None:
    for _ in range(3):
        quota(tmp_path).take()
    with pytest.raises(PipelineError) as error:
        quota(tmp_path).take()
    assert "The 3 downloads a day" in error.value.message
    assert "the next is allowed at 1970-01-1" in error.value.message
    for way in ("--mirror URL", "--archive FILE_OR_URL", "tomorrow"):
        assert way in str(error.value.hint)


def test_what_is_wanted_is_checked_before_the_first(tmp_path: Path) -> None:
    quota(tmp_path).take()
    quota(tmp_path).check(2)
    with pytest.raises(PipelineError, match=r"3 books .* 3 a day; 2 are left"):
        quota(tmp_path).check(3)
    assert quota(tmp_path).left() == 2, "a check takes nothing"


def way_out(tmp_path: Path, wanted: int) -> str:
    with pytest.raises(PipelineError) as error:
        quota(tmp_path).check(wanted)
    assert "--mirror URL" in str(error.value.hint) and "--archive" in str(error.value.hint)
    return str(error.value.hint)


def test_tomorrow_is_a_way_out_only_for_what_one_day_allows(tmp_path: Path) -> None:
    quota(tmp_path).take()
    assert "tomorrow" in way_out(tmp_path, 3)
    assert "tomorrow" not in way_out(tmp_path, 4)
    assert "--num-records: at most 2 new ones today" in way_out(tmp_path, 4)
    quota(tmp_path).take()
    quota(tmp_path).take()
    assert "same command again tomorrow" in way_out(tmp_path, 3)
    assert "--num-records: at most 3 new ones tomorrow" in way_out(tmp_path, 4)


def test_a_download_is_forgotten_after_a_day(tmp_path: Path) -> None:
    clock = Clock()
    for _ in range(3):
        quota(tmp_path, clock).take()
        clock.now += 3600
    clock.now += 21 * 3600 - 1
    assert quota(tmp_path, clock).left() == 0
    clock.now += 1
    assert quota(tmp_path, clock).left() == 1


@settings(deadline=None, max_examples=25)
@given(st.lists(st.floats(0, 40_000), max_size=20), st.integers(1, 4))
def test_no_window_of_a_day_holds_more_than_the_limit(
    tmp_path_factory: pytest.TempPathFactory, gaps: list[float], limit: int
) -> None:
    clock = Clock()
    taken: list[float] = []
    counted = quota(tmp_path_factory.mktemp("q"), clock, limit)
    for gap in gaps:
        clock.now += gap
        allowed = sum(when > clock.now - 24 * 3600 for when in taken) < limit
        assert bool(counted.left()) is allowed
        try:
            counted.take()
        except PipelineError:
            assert not allowed
        else:
            assert allowed
            taken.append(clock.now)


def test_a_clock_set_back_blocks_for_no_longer_than_a_day(tmp_path: Path) -> None:
    clock = Clock(9_000_000.0)
    for _ in range(3):
        quota(tmp_path, clock).take()
    clock.now = 1_000_000.0
    with pytest.raises(PipelineError):
        quota(tmp_path, clock).take()
    clock.now += 24 * 3600
    quota(tmp_path, clock).take()


@pytest.mark.parametrize(
    "content",
    [b"", b"{", b"[]", b'{"downloads": 3}', b'{"downloads": ["x"]}', b'{"downloads": [true]}',
     b'{"downloads": [NaN]}', b"[" * 100_000, b"\xff",
     b'{"downloads": [1' + b"0" * 400 + b"]}"],
)  # fmt: skip
def test_a_damaged_count_is_taken_as_used_up_for_a_day(
    tmp_path: Path, content: bytes, capsys: pytest.CaptureFixture[str]
) -> None:
    clock = Clock()
    path = quota(tmp_path).path
    path.parent.mkdir()
    path.write_bytes(content)
    os.utime(path, (clock.now, clock.now))
    assert quota(tmp_path, clock).left() == 0
    assert "is damaged: the downloads of the day count as used up" in capsys.readouterr().err
    clock.now += 24 * 3600
    assert quota(tmp_path, clock).left() == 3
    quota(tmp_path, clock).take()
    assert len(json.loads(path.read_bytes())["downloads"]) == 1


def test_takers_at_the_same_time_share_the_limit(tmp_path: Path) -> None:
    def take(_: int) -> bool:
        try:
            quota(tmp_path, limit=5).take()
        except PipelineError:
            return False
        return True

    with ThreadPoolExecutor(8) as pool:
        assert sum(pool.map(take, range(12))) == 5


def test_a_place_that_cannot_be_written_to_is_one_sentence(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    counted = DailyQuota(tmp_path / "file" / "count.json")
    with pytest.raises(PipelineError, match="cannot be counted in"):
        counted.take()


@pytest.mark.skipif(sys.platform in ("win32", "darwin"), reason="these have other places")
def test_the_count_lies_in_the_users_cache(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    assert default_path() == tmp_path / "bookshelf-llm" / "downloads.json"
    monkeypatch.setenv("XDG_CACHE_HOME", "not/absolute")
    monkeypatch.setenv("HOME", str(tmp_path))
    assert default_path() == tmp_path / ".cache" / "bookshelf-llm" / "downloads.json"

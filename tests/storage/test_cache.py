"""The cache: what comes back is what was put, or nothing; bounded; shared without harm."""

import os
import threading
import time
from pathlib import Path
from tempfile import TemporaryDirectory

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pipeline.files import sha256_bytes
from pipeline.storage.cache import Cache


def files(folder: Path) -> list[Path]:
    return sorted(path for path in folder.rglob("*") if path.is_file())


def test_what_was_kept_comes_back(tmp_path: Path) -> None:
    cache = Cache(tmp_path, 1000)
    cache.add("s3://b/k", "v1", b"text")
    assert cache.read("s3://b/k", "v1") == b"text"
    path = cache.find("s3://b/k", "v1")
    assert path is not None
    assert path.read_bytes() == b"text"
    assert Cache(tmp_path, 1000).read("s3://b/k", "v1") == b"text"


def test_another_version_is_another_object_and_the_old_one_goes(tmp_path: Path) -> None:
    cache = Cache(tmp_path, 1000)
    cache.add("s3://b/k", "v1", b"old")
    assert cache.read("s3://b/k", "v2") is None
    cache.add("s3://b/k", "v2", b"new")
    assert cache.read("s3://b/k", "v1") is None
    assert cache.read("s3://b/k", "v2") == b"new"
    assert len(files(tmp_path)) == 1


def test_the_least_recently_used_go_first(tmp_path: Path) -> None:
    cache = Cache(tmp_path, 400)
    for number, name in enumerate("abcd"):
        cache.add(name, "v", name.encode() * 100)
        (path,) = tmp_path.glob(f"{sha256_bytes(name.encode())[:32]}/*")
        os.utime(path, (number, number))
    assert cache.read("a", "v") == b"a" * 100
    cache.add("e", "v", b"e" * 100)
    kept = [name for name in "abcde" if cache.read(name, "v") is not None]
    assert kept == ["a", "d", "e"]


def test_what_is_larger_than_the_limit_is_not_kept(tmp_path: Path) -> None:
    cache = Cache(tmp_path, 10)
    cache.add("a", "v", bytes(10))
    cache.add("b", "v", bytes(11))
    assert cache.read("a", "v") == bytes(10)
    assert cache.read("b", "v") is None
    assert cache.fits(10)
    assert not cache.fits(11)


def test_a_damaged_copy_is_deleted_and_not_given(tmp_path: Path) -> None:
    cache = Cache(tmp_path, 1000)
    for use in (cache.read, cache.find):
        cache.add("a", "v", b"text")
        (path,) = files(tmp_path)
        path.write_bytes(b"texT")
        assert use("a", "v") is None
        assert files(tmp_path) == []


def test_a_file_that_fails_on_the_way_leaves_nothing(tmp_path: Path) -> None:
    cache = Cache(tmp_path, 1000)
    with pytest.raises(KeyError), cache.temporary() as temporary:
        temporary.write_bytes(b"half")
        raise KeyError
    assert files(tmp_path) == []


def test_what_a_killed_process_left_is_cleared_in_time(tmp_path: Path) -> None:
    for name, age in (("old", 2 * 24 * 3600.0), ("new", 60.0)):
        path = tmp_path / f".tmp-{name}"
        path.write_bytes(b"half")
        os.utime(path, (time.time() - age,) * 2)
    Cache(tmp_path, 1000).add("a", "v", b"text")
    assert [path.name for path in tmp_path.glob(".tmp-*")] == [".tmp-new"]


def test_a_cache_that_cannot_be_written_costs_only_time(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("no folder")
    cache = Cache(tmp_path / "file", 1000)
    cache.add("a", "v", b"text")
    assert cache.read("a", "v") is None


def test_many_writers_and_readers_do_no_harm(tmp_path: Path) -> None:
    wrong: list[object] = []

    def work(seed: int) -> None:
        cache = Cache(tmp_path, 2000)  # its own, as another process would have
        for step in range(60):
            name = str((seed + step) % 9)
            try:
                cache.add(name, "v", name.encode() * 400)
                if cache.read(name, "v") not in (None, name.encode() * 400):
                    wrong.append(name)
            except Exception as error:  # noqa: BLE001
                wrong.append(error)

    threads = [threading.Thread(target=work, args=(seed,)) for seed in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert wrong == []
    assert not list(tmp_path.glob(".tmp-*"))


@settings(max_examples=30, deadline=None)
@given(st.lists(st.tuples(st.integers(0, 9), st.integers(0, 300)), max_size=25))
def test_the_limit_holds_after_every_write(
    writes: list[tuple[int, int]],
) -> None:
    with TemporaryDirectory() as folder:
        cache = Cache(Path(folder), 500)
        for name, size in writes:
            cache.add(str(name), str(size), bytes(size))
            assert sum(path.stat().st_size for path in files(Path(folder))) <= 500
            assert cache.read(str(name), str(size)) == bytes(size)

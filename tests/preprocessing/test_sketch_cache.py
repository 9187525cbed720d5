"""Sketches are remembered; whatever happens to the file costs only time."""

import sqlite3
from pathlib import Path

import pytest

from pipeline.books.sketches import Sketch, sketch
from pipeline.preprocessing.sketch_cache import open_sketches

MADE = sketch("A lamp stood in the upper window, and nobody knew who lit it. " * 50)


def fill(folder: Path, names: str) -> None:
    with open_sketches(folder) as cache:
        for name in names:
            cache.add(name, MADE.to_bytes())


def known(folder: Path, names: str, *, read_only: bool = False) -> list[Sketch | None]:
    with open_sketches(folder, read_only=read_only) as cache:
        return [cache.get(name) for name in names]


def test_what_was_added_is_there_the_next_time(tmp_path: Path) -> None:
    fill(tmp_path, "ab")
    fill(tmp_path, "bc")
    assert known(tmp_path, "abcd") == [MADE, MADE, MADE, None]


def test_looking_only_reads_and_writes_nothing(tmp_path: Path) -> None:
    assert known(tmp_path, "a", read_only=True) == [None]
    assert list(tmp_path.iterdir()) == []
    fill(tmp_path, "a")
    before = {path: path.read_bytes() for path in tmp_path.iterdir()}
    with open_sketches(tmp_path, read_only=True) as cache:
        cache.add("b", MADE.to_bytes())
        assert "a" in cache and "b" in cache
    assert {path: path.read_bytes() for path in tmp_path.iterdir()} == before


@pytest.mark.parametrize("content", [b"", b"no database at all" * 500, b"SQLite format 3\x00"])
@pytest.mark.parametrize("read_only", [False, True])
def test_a_damaged_file_is_an_empty_one(tmp_path: Path, content: bytes, read_only: bool) -> None:
    fill(tmp_path, "a")
    (path,) = tmp_path.iterdir()
    path.write_bytes(content)
    assert known(tmp_path, "a", read_only=read_only) == [None]
    fill(tmp_path, "b")
    assert known(tmp_path, "ab") == [None, MADE]


def test_a_sketch_that_cannot_be_read_is_not_known(tmp_path: Path) -> None:
    fill(tmp_path, "ab")
    (path,) = tmp_path.iterdir()
    with sqlite3.connect(path) as database:
        database.execute("UPDATE sketches SET data = x'00ff' WHERE sha256 = 'a'")
    database.close()
    assert known(tmp_path, "ab") == [None, MADE]


def test_a_folder_that_cannot_be_written_costs_only_time(tmp_path: Path) -> None:
    with open_sketches(tmp_path / "not there") as cache:
        cache.add("a", MADE.to_bytes())
        assert cache.get("a") == MADE

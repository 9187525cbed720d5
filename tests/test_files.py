"""Atomic writes, hashes that are remembered only when that is safe, and what a full disk says."""

import errno
import json
import os
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pipeline import files
from pipeline.errors import PipelineError
from pipeline.files import (
    HashCache,
    encode_listing,
    fingerprint,
    is_disk_full,
    read_jsonl,
    sha256_file,
    write_bytes,
)


def test_a_failed_write_leaves_the_old_file_and_nothing_else(tmp_path: Path) -> None:
    path = tmp_path / "file"
    write_bytes(path, b"old")
    with pytest.raises(RuntimeError), files.atomic_path(path) as temporary:
        temporary.write_bytes(b"half")
        raise RuntimeError
    assert path.read_bytes() == b"old"
    assert [p.name for p in tmp_path.iterdir()] == ["file"]


def test_a_file_is_on_the_disk_before_it_bears_its_name(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    events = []
    monkeypatch.setattr(files, "sync", lambda path: events.append(("sync", path.name)))
    rename = Path.replace

    def replace(source: Path, target: Path) -> Path:
        events.append(("rename", target.name))
        return rename(source, target)

    monkeypatch.setattr(Path, "replace", replace)
    write_bytes(tmp_path / "file", b"x")
    assert [kind for kind, _ in events] == ["sync", "rename", "sync"]
    assert events[1:] == [("rename", "file"), ("sync", tmp_path.name)]


def test_leftovers_of_a_killed_process_are_removed_at_any_depth(tmp_path: Path) -> None:
    (tmp_path / "rejected").mkdir()
    (tmp_path / "rejected" / ".tmp-1-abc").write_text("half")
    (tmp_path / ".tmp-folder").mkdir()
    (tmp_path / ".tmp-folder" / "x").write_text("half")
    (tmp_path / "kept.txt").write_text("whole")
    files.remove_temporary(tmp_path)
    assert sorted(p.name for p in tmp_path.rglob("*")) == ["kept.txt", "rejected"]


def test_a_hash_is_taken_from_the_cache_only_if_the_file_cannot_have_changed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "file"
    path.write_bytes(b"one")
    stored = tmp_path / "hashes.json"
    counted = []
    monkeypatch.setattr(
        files, "sha256_file", lambda p: counted.append(p) or sha256_file(p)  # type: ignore[func-returns-value]
    )  # fmt: skip

    fresh = HashCache(stored)
    fresh.fact(path, "file")
    fresh.fact(path, "file")
    assert len(counted) == 2, "a file changed within the last clock ticks must be hashed again"

    monkeypatch.setattr(files, "RACY_SECONDS", -1.0)
    fresh.fact(path, "file")
    fresh.save()
    counted.clear()
    again = HashCache(stored)
    assert again.fact(path, "file").sha256 == sha256_file(path)
    assert counted == []

    before = path.stat()
    path.write_bytes(b"two")
    os.utime(path, ns=(before.st_atime_ns, before.st_mtime_ns))  # same size, same mtime
    assert again.fact(path, "file").sha256 == sha256_file(path)
    assert counted == [path]


@pytest.mark.parametrize("content", ["", "{", "[1]", '{"x": 3}', '{"x": []}'])
def test_a_broken_hash_cache_is_an_empty_one(tmp_path: Path, content: str) -> None:
    (tmp_path / "hashes.json").write_text(content)
    path = tmp_path / "file"
    path.write_bytes(b"data")
    assert HashCache(tmp_path / "hashes.json").fact(path, "file").sha256 == sha256_file(path)


JSON = st.recursive(st.none() | st.booleans() | st.integers() | st.text(), st.lists, max_leaves=5)


@given(st.dictionaries(st.text(), JSON, min_size=1))
def test_a_fingerprint_does_not_depend_on_the_order_of_keys(value: dict[str, object]) -> None:
    assert fingerprint(value) == fingerprint(dict(reversed(value.items())))


@given(st.lists(st.dictionaries(st.text(), st.text() | st.integers())))
def test_json_lines_round_trip(rows: list[dict[str, object]]) -> None:
    lines = files.json_lines(rows).decode().split("\n")[:-1]
    assert [json.loads(line) for line in lines] == rows


@given(st.dictionaries(st.text(), JSON | st.lists(st.dictionaries(st.text(), JSON))))
def test_a_listing_is_json_with_a_line_for_each_entry_of_its_lists(
    value: dict[str, object],
) -> None:
    text = encode_listing(value).decode()

    assert json.loads(text) == value
    for entries in (each for each in value.values() if isinstance(each, list)):
        lines = [line[4:].removesuffix(",") for line in text.split("\n")]
        assert all(json.dumps(entry, ensure_ascii=False) in lines for entry in entries)


def test_a_bad_json_line_is_named(tmp_path: Path) -> None:
    path = tmp_path / "rows.jsonl"
    path.write_text('{"a": 1}\n[2]\n')
    with pytest.raises(PipelineError, match=r"rows\.jsonl:2 is not a JSON object"):
        read_jsonl(path)


@pytest.mark.parametrize(
    ("error", "expected"),
    [
        (OSError(errno.ENOSPC, "No space left on device"), True),
        (OSError(errno.EFBIG, "File too large"), True),
        (RuntimeError("I/O error: No space left on device (os error 28)"), True),
        (OSError(errno.EACCES, "Permission denied"), False),
        (ValueError("x"), False),
    ],
)
def test_a_full_disk_is_recognised_whoever_reports_it(error: Exception, expected: bool) -> None:
    assert is_disk_full(error) is expected


def test_lines_that_are_no_utf_8_are_named_and_a_mark_of_order_is_no_text(tmp_path: Path) -> None:
    path = tmp_path / "rows.jsonl"
    path.write_bytes(b'\xef\xbb\xbf{"a": 1}\r\n\n{"a": 2}\n')
    assert read_jsonl(path) == [{"a": 1}, {"a": 2}]
    path.write_bytes(b'{"a": 1}\n{"a": "\xff"}\n')
    with pytest.raises(PipelineError, match=r"rows\.jsonl:2 is not UTF-8 text"):
        read_jsonl(path)

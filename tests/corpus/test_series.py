"""Series of segment lists: numbering, damaged lists, hostile keys, and building them."""

import gzip
import json
import os
import tempfile
from collections.abc import Collection, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pipeline.corpus import series
from pipeline.corpus.series import Segment, build_series, read_series, segment_url
from pipeline.errors import PipelineError, UsageError
from pipeline.storage import Storage
from tests.s3_server import KEY, SECRET, S3Server

PATTERN = "s3://bucket/lists/part_{segment_number}.json.gz"


@dataclass(frozen=True)
class Entry:
    url: str
    size: int | None
    version: str | None = None


class Bucket:
    """A storage whose `s3://bucket/` is a folder; local paths are themselves."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.written: list[str] = []

    def path(self, url: str) -> Path:
        assert url.startswith("s3://bucket/") or "://" not in url, url
        return self.folder / url.removeprefix("s3://bucket/")

    def exists(self, url: str) -> bool:
        return self.path(url).is_file()

    def expand(self, pattern: str, suffixes: Collection[str] | None = None) -> list[Entry]:
        return [Entry(pattern, self.path(pattern).stat().st_size)]

    def read(self, entry: Any) -> bytes:
        return self.path(entry.url).read_bytes()

    def write(self, url: str, data: bytes) -> None:
        self.written.append(url)
        self.path(url).parent.mkdir(parents=True, exist_ok=True)
        self.path(url).write_bytes(data)


@pytest.fixture
def bucket(tmp_path: Path) -> Bucket:
    return Bucket(tmp_path)


def put(bucket: Bucket, number: int, value: object, pattern: str = PATTERN) -> None:
    bucket.write(segment_url(pattern, number), gzip.compress(json.dumps(value).encode()))


def read(bucket: Bucket, pattern: str = PATTERN, **options: Any) -> list[Segment]:
    return list(read_series(pattern, bucket, **{"missing_keys": "unchecked", **options}))


def keys(segments: list[Segment]) -> list[str]:
    return [key for segment in segments for key in segment.keys]


# --- numbering


@pytest.mark.parametrize("first", [0, 1])
def test_a_series_begins_at_0_or_1_and_ends_at_the_first_number_that_is_not_there(
    bucket: Bucket, first: int
) -> None:
    for number in (first, first + 1, first + 2):
        put(bucket, number, [f"books/{number}.txt"])
    assert read(bucket) == [
        Segment(n, [f"s3://bucket/books/{n}.txt"]) for n in (first, first + 1, first + 2)
    ]


def test_the_first_number_can_be_given(bucket: Bucket) -> None:
    for number in (0, 1, 2):
        put(bucket, number, [f"{number}.txt"])
    assert [segment.number for segment in read(bucket, first=1)] == [1, 2]


def test_a_gap_in_the_numbers_is_told_before_anything_is_read(bucket: Bucket) -> None:
    for number in (1, 2, 4):
        put(bucket, number, ["a.txt"])
    with pytest.raises(PipelineError, match="segment 3 is missing and segment 4 is there"):
        read_series(PATTERN, bucket)


def test_no_segment_at_all_names_what_was_looked_for(bucket: Bucket) -> None:
    with pytest.raises(PipelineError, match=r"neither .*part_0.json.gz nor .*part_1.json.gz"):
        read(bucket)
    put(bucket, 1, ["a.txt"])
    with pytest.raises(PipelineError, match=r"there is no .*part_7.json.gz"):
        read(bucket, first=7)


@pytest.mark.parametrize(
    ("pattern", "name"),
    [
        ("a/{segment_number}.json", "a/7.json"),
        ("a/{segment_number:05}.json", "a/00007.json"),
        ("a/{segment_number:05d}.json", "a/00007.json"),
        ("{segment_number}/p-{segment_number:03}.json", "7/p-007.json"),
        (r"a\1\g<0>/{segment_number}", r"a\1\g<0>/7"),
    ],
)
def test_the_number_takes_the_place_of_the_placeholder(pattern: str, name: str) -> None:
    assert segment_url(pattern, 7) == name


@pytest.mark.parametrize(
    "pattern",
    [
        "s3://bucket/part_1.json",
        "s3://bucket/{number}.json",
        "s3://bucket/{segment_number.__class__}.json",
        "s3://bucket/{segment_number!r}.json",
        "s3://bucket/{segment_number:5}.json",
        "s3://bucket/{segment_number:099999999}.json",
        "s3://bucket/{segment_number}{0}.json",
        "s3://bucket/{a,b}/{segment_number}.json",
        "",
    ],
)
def test_any_other_braces_are_an_error_of_usage_with_an_example(
    bucket: Bucket, pattern: str
) -> None:
    with pytest.raises(UsageError) as error:
        read_series(pattern, bucket)
    assert "{segment_number}" in error.value.message
    assert series.EXAMPLE in str(error.value.hint)


# --- what is in a list


def test_a_list_may_be_plain_or_gzip_whatever_its_name(bucket: Bucket) -> None:
    bucket.write(segment_url(PATTERN, 1), b'\xef\xbb\xbf["a.txt"]')
    put(bucket, 2, ["b.txt"])
    assert keys(read(bucket)) == ["s3://bucket/a.txt", "s3://bucket/b.txt"]


def test_an_empty_list_is_a_warning(bucket: Bucket, capsys: pytest.CaptureFixture[str]) -> None:
    put(bucket, 1, [])
    put(bucket, 2, ["a.txt"])
    assert keys(read(bucket)) == ["s3://bucket/a.txt"]
    assert "s3://bucket/lists/part_1.json.gz is an empty list" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("data", "said"),
    [
        (b"", "is an empty file"),
        (b'["a.txt", ', "is not JSON"),
        (b"[" * 100_000, "is not JSON"),
        (b"\xff\xfe\xfd", "is not JSON"),
        (b'{"keys": ["a.txt"]}', "holds no JSON array"),
        (b'"a.txt"', "holds no JSON array"),
        (gzip.compress(b'["a.txt"]')[:-9], "is damaged gzip"),
        (b"\x1f\x8bnonsense", "is damaged gzip"),
    ],
)
def test_a_damaged_list_is_named(bucket: Bucket, data: bytes, said: str) -> None:
    bucket.write(segment_url(PATTERN, 1), data)
    with pytest.raises(PipelineError, match=f"part_1.json.gz {said}"):
        read(bucket)


def test_a_list_that_unpacks_without_end_is_refused(
    bucket: Bucket, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(series, "LARGEST_LIST", 2**20)
    bucket.write(segment_url(PATTERN, 1), gzip.compress(b" " * 2**21))
    with pytest.raises(PipelineError, match="unpacks to more than 1 MB"):
        read(bucket)
    bucket.write(segment_url(PATTERN, 1), b" " * 2**21)
    with pytest.raises(PipelineError, match="is larger than 1 MB"):
        read(bucket)


def test_a_key_that_was_listed_before_is_left_out_and_counted(
    bucket: Bucket, capsys: pytest.CaptureFixture[str]
) -> None:
    put(bucket, 1, ["a.txt", "b.txt", "a.txt"])
    put(bucket, 2, ["b.txt", "c.txt", "s3://bucket/a.txt"])
    assert [segment.keys for segment in read(bucket)] == [
        ["s3://bucket/a.txt", "s3://bucket/b.txt"],
        ["s3://bucket/c.txt"],
    ]
    assert "3 keys of" in capsys.readouterr().err


# --- keys that are not trusted


@pytest.mark.parametrize(
    ("key", "said"),
    [
        ("../secret.txt", "has `.` or `..`"),
        ("a/../../secret.txt", "has `.` or `..`"),
        ("a/./b.txt", "has `.` or `..`"),
        ("/etc/passwd", "is absolute"),
        ("file:///etc/passwd", "is an address elsewhere"),
        ("http://169.254.169.254/latest", "is an address elsewhere"),
        ("s3://other/a.txt", "is an address elsewhere"),
        ("s3://bucket-of-another/a.txt", "is an address elsewhere"),
        ("s3://bucket/../other/a.txt", "has `.` or `..`"),
        ("s3://bucket//etc/a.txt", "is absolute"),
        ("zip::a.zip", "is an address elsewhere"),
        ("a\\..\\b.txt", "has a backslash"),
        ("a\x00.txt", "has control characters"),
        ("a\x1b[2J.txt", "has control characters"),
        ("a\ud800.txt", "has control characters"),
        ("", "names no object"),
        ("folder/", "names no object"),
        (7, "no key but int"),
        (None, "no key but NoneType"),
        (["a.txt"], "no key but list"),
    ],
)
def test_a_key_that_leads_elsewhere_is_refused_with_its_place(
    bucket: Bucket, key: object, said: str
) -> None:
    put(bucket, 1, ["a.txt", key])
    with pytest.raises(PipelineError, match=r"item 2 of s3://bucket/lists/part_1.json.gz") as error:
        read(bucket)
    assert said in error.value.message
    assert "\x1b" not in error.value.message


def test_a_refused_address_does_not_show_its_password(bucket: Bucket) -> None:
    put(bucket, 1, ["https://ada:secret@example.org/a?X-Amz-Signature=secret"])
    with pytest.raises(PipelineError) as error:
        read(bucket)
    assert "secret" not in str(error.value)
    assert "example.org" in str(error.value)


@pytest.mark.parametrize(
    "key", ["books/Où? [1] 100% #1 {a}*.txt", "a//b.txt", "chapter 1: x.txt", "..a/b..txt", "C:x"]
)
def test_an_odd_name_is_a_key(bucket: Bucket, key: str) -> None:
    put(bucket, 1, [key])
    assert keys(read(bucket)) == [f"s3://bucket/{key}"]


def test_keys_are_relative_to_the_base_if_one_is_given(bucket: Bucket) -> None:
    put(bucket, 1, ["a.txt", "s3://bucket/books/b.txt"])
    both = ["s3://bucket/books/a.txt", "s3://bucket/books/b.txt"]
    assert keys(read(bucket, base="s3://bucket/books/")) == both
    assert keys(read(bucket, base="s3://bucket/books")) == both
    put(bucket, 1, ["s3://bucket/books2/b.txt"])
    with pytest.raises(PipelineError, match="is an address elsewhere"):
        read(bucket, base="s3://bucket/books")


def test_keys_of_a_local_list_are_relative_to_its_folder(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "lists").mkdir()
    (tmp_path / "lists" / "p1.json").write_text('["a.txt", "sub/b.txt"]', "utf-8")
    local = Bucket(tmp_path)
    here = (tmp_path / "lists").as_posix()
    both = [f"{here}/a.txt", f"{here}/sub/b.txt"]
    assert keys(read(local, f"{here}/p{{segment_number}}.json")) == both
    monkeypatch.chdir(tmp_path)
    assert keys(read(local, "lists/p{segment_number}.json")) == both
    monkeypatch.chdir(tmp_path / "lists")
    local.folder = tmp_path / "lists"
    assert keys(read(local, "p{segment_number}.json")) == both
    assert keys(read(local, "p{segment_number}.json", base="..")) == [
        f"{tmp_path.as_posix()}/a.txt", f"{tmp_path.as_posix()}/sub/b.txt"
    ]  # fmt: skip


@pytest.mark.parametrize("key", ["C:/x.txt", "C:x.txt", "a//b.txt", "~/../x"])
def test_a_local_key_cannot_name_a_drive_or_nothing(tmp_path: Path, key: str) -> None:
    (tmp_path / "p1.json").write_text(json.dumps([key]), "utf-8")
    with pytest.raises(PipelineError, match="item 1 of"):
        read(Bucket(tmp_path), f"{tmp_path.as_posix()}/p{{segment_number}}.json")


@settings(deadline=None, max_examples=300)
@given(st.text(st.sampled_from("ab./\\:~\x00% s3"), max_size=12))
def test_no_key_leads_out_of_the_folder_of_its_list(key: str) -> None:
    with local_bucket() as local:
        (local.folder / "in").mkdir()
        (local.folder / "in" / "p1.json").write_text(json.dumps([key]), "utf-8")
        inside = local.folder / "in"
        try:
            (full,) = keys(read(local, f"{inside.as_posix()}/p{{segment_number}}.json"))
        except PipelineError:
            return
        assert Path(full).resolve().is_relative_to(inside.resolve())
        assert Path(full).resolve() != inside.resolve()


# --- keys without an object


def test_a_key_without_an_object_fails_by_default_with_the_count(bucket: Bucket) -> None:
    bucket.write("s3://bucket/a.txt", b"A")
    put(bucket, 1, ["a.txt", "lost.txt", "gone.txt"])
    with pytest.raises(PipelineError) as error:
        read(bucket, missing_keys="fail")
    assert "s3://bucket/lost.txt, listed in s3://bucket/lists/part_1" in error.value.message
    assert "2 of its 3 keys are missing" in error.value.message


def test_a_key_without_an_object_can_be_skipped_and_is_counted(
    bucket: Bucket, capsys: pytest.CaptureFixture[str]
) -> None:
    for name in ("a.txt", "b.txt"):
        bucket.write(f"s3://bucket/{name}", b"text")
    put(bucket, 1, ["a.txt", "lost.txt"])
    put(bucket, 2, ["gone.txt", "b.txt"])
    assert keys(read(bucket, missing_keys="skip")) == ["s3://bucket/a.txt", "s3://bucket/b.txt"]
    assert "2 keys of" in capsys.readouterr().err


def test_an_unknown_policy_is_an_error_of_usage(bucket: Bucket) -> None:
    with pytest.raises(UsageError, match="not one of fail, skip"):
        read(bucket, missing_keys="ignore")


# --- building


def documents(count: int) -> list[str]:
    return [f"s3://bucket/books/{number:03}.txt" for number in range(count)]


@contextmanager
def local_bucket() -> Iterator[Bucket]:
    """A bucket of its own for each example of a property."""
    with tempfile.TemporaryDirectory() as folder:
        yield Bucket(Path(folder))


NAME = st.text(
    st.characters(exclude_categories=("Cs", "Cc"), exclude_characters="/\\:"), min_size=1
)


@settings(deadline=None, max_examples=60)
@given(
    st.sets(NAME.filter(lambda key: key not in (".", "..")), min_size=1, max_size=30),
    st.integers(1, 30),
    st.none() | st.integers(),
    st.sampled_from([".json", ".json.gz"]),
    st.sampled_from([0, 1]),
)
def test_what_was_built_is_read_back_and_every_key_is_in_exactly_one_list(
    names: set[str], segments: int, seed: int | None, suffix: str, first: int
) -> None:
    segments = min(segments, len(names))
    wanted = sorted(f"s3://bucket/books/{name}" for name in names)
    with local_bucket() as bucket:
        pattern = "s3://bucket/lists/{segment_number:03}" + suffix
        urls = build_series(wanted, pattern, segments, bucket, seed=seed, first=first)
        found = read(bucket, pattern)
    assert [segment_url(pattern, segment.number) for segment in found] == urls
    assert sorted(keys(found)) == wanted
    assert seed is not None or keys(found) == wanted
    sizes = [len(segment.keys) for segment in found]
    assert max(sizes) - min(sizes) <= 1
    assert len(sizes) == segments


def test_equal_documents_give_equal_bytes_in_whatever_order_they_come(tmp_path: Path) -> None:
    written = []
    for number, given_documents in enumerate([documents(50), documents(50)[::-1]]):
        bucket = Bucket(tmp_path / str(number))
        urls = build_series(given_documents, PATTERN, 3, bucket, seed=7)
        written.append([bucket.path(url).read_bytes() for url in urls])
    assert written[0] == written[1]
    assert written[0][0][4:8] == bytes(4)  # the time of a gzip file


def test_a_seed_shuffles_and_another_one_shuffles_differently(tmp_path: Path) -> None:
    orders = []
    for seed in (None, 1, 2):
        bucket = Bucket(tmp_path / str(seed))
        build_series(documents(50), PATTERN, 2, bucket, seed=seed)
        orders.append(keys(read(bucket)))
    assert orders[0] == sorted(orders[0])
    assert orders[0] != orders[1] != orders[2] != orders[0]


def test_entries_of_a_storage_are_documents_and_local_ones_are_listed_by_name(
    tmp_path: Path,
) -> None:
    paths = [(tmp_path / "books" / name).as_posix() for name in ("a.txt", "b c.txt")]
    lists = f"{tmp_path.as_posix()}/books/list_{{segment_number}}.json"
    (url,) = build_series([Entry(path, 1) for path in paths], lists, 1, Bucket(tmp_path))
    assert json.loads(Path(url).read_text("utf-8")) == ["a.txt", "b c.txt"]


def test_the_series_does_not_list_itself(bucket: Bucket) -> None:
    lists = [segment_url(PATTERN, number) for number in (1, 2)]
    build_series([*documents(3), *lists], PATTERN, 2, bucket)
    assert keys(read(bucket)) == documents(3)


def test_a_document_that_comes_twice_is_listed_once(bucket: Bucket) -> None:
    build_series(documents(3) * 2, PATTERN, 1, bucket)
    assert keys(read(bucket)) == documents(3)


def test_lists_that_are_there_are_not_replaced_unless_told(bucket: Bucket) -> None:
    build_series(documents(4), PATTERN, 2, bucket)
    before = read(bucket)
    with pytest.raises(PipelineError, match=r"part_1.json.gz is there already"):
        build_series(documents(6), PATTERN, 2, bucket)
    assert read(bucket) == before
    build_series(documents(6), PATTERN, 2, bucket, overwrite=True)
    assert keys(read(bucket)) == documents(6)


@pytest.mark.parametrize("left_over", [0, 3, 4])
def test_a_list_of_an_older_series_cannot_join_the_new_one(bucket: Bucket, left_over: int) -> None:
    put(bucket, left_over, ["old.txt"])
    with pytest.raises(PipelineError, match="would be taken for a part of the new series"):
        build_series(documents(4), PATTERN, 2, bucket, overwrite=True)


@pytest.mark.parametrize("overwrite", [False, True])
@pytest.mark.parametrize("writes", [0, 1, 2, 3])
def test_a_series_whose_building_was_killed_is_never_read_as_a_whole_one(
    bucket: Bucket, writes: int, overwrite: bool
) -> None:
    class Killed(Exception):
        pass

    class Dying(Bucket):
        def write(self, url: str, data: bytes) -> None:
            if len(self.written) == writes:
                raise Killed
            super().write(url, data)

    if overwrite:
        build_series(documents(3), PATTERN, 3, bucket)
    with pytest.raises(Killed):
        build_series(documents(9), PATTERN, 3, Dying(bucket.folder), overwrite=overwrite)
        raise Killed  # three writes are enough where nothing is replaced
    try:
        found = keys(read(bucket))
    except PipelineError:
        return
    assert found in (documents(3), documents(9))


def test_more_segments_than_documents_are_refused(bucket: Bucket) -> None:
    with pytest.raises(PipelineError, match="2 documents do not fill 3 segments"):
        build_series(documents(2), PATTERN, 3, bucket)
    with pytest.raises(PipelineError, match="0 documents do not fill 1 segments"):
        build_series([], PATTERN, 1, bucket)
    with pytest.raises(UsageError):
        build_series(documents(2), PATTERN, 0, bucket)
    assert not bucket.written


def test_a_document_outside_the_base_is_refused_before_anything_is_written(bucket: Bucket) -> None:
    with pytest.raises(PipelineError, match=r"s3://other/a.txt is not below s3://bucket"):
        build_series([*documents(2), "s3://other/a.txt"], PATTERN, 1, bucket)
    with pytest.raises(PipelineError, match=r"has `.` or `..`"):
        build_series([*documents(2), "s3://bucket/../a.txt"], PATTERN, 1, bucket)
    assert not bucket.written


# --- a real bucket


def test_a_series_is_built_in_a_real_bucket_and_read_back(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    for name in [name for name in os.environ if name.startswith("AWS_")]:
        monkeypatch.delenv(name)
    monkeypatch.setenv("AWS_CONFIG_FILE", str(tmp_path / "none"))
    monkeypatch.setenv("AWS_SHARED_CREDENTIALS_FILE", str(tmp_path / "none"))
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", KEY)
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", SECRET)
    names = [f"books/{number}: Où? [1] +%#.txt" for number in range(20)]
    with S3Server() as s3, Storage() as storage:
        monkeypatch.setenv("AWS_ENDPOINT_URL", s3.url)
        for name in names:
            s3.put("bucket", name, b"text")
        entries = storage.expand("s3://bucket/books/")
        for pattern in (PATTERN, PATTERN.replace("s3://", "s3a://").replace("part", "p")):
            assert len(build_series(entries, pattern, 3, storage, seed=1)) == 3
            found = keys(list(read_series(pattern, storage)))
            assert sorted(found) == sorted(f"s3://bucket/{name}" for name in names)
        s3.put("bucket", "lists/part_1.json.gz", json.dumps([*names[:7], "lost.txt"]).encode())
        with pytest.raises(PipelineError, match=r"lost\.txt.*1 of its 8 keys"):
            list(read_series(PATTERN, storage))
        found = keys(list(read_series(PATTERN, storage, missing_keys="skip")))
        assert set(found) <= {f"s3://bucket/{name}" for name in names}
        assert "1 keys of" in capsys.readouterr().err

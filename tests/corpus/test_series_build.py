"""Building a series: every document in one list, equal bytes, and nothing half done."""

import json
import os
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pipeline.corpus.series import read_series
from pipeline.corpus.series_build import build_series
from pipeline.corpus.series_keys import segment_url
from pipeline.errors import PipelineError, UsageError
from pipeline.storage import Storage
from tests.corpus.series_bucket import PATTERN, Bucket, Entry, keys, local_bucket, put, read
from tests.s3_server import KEY, SECRET, S3Server


def documents(count: int) -> list[str]:
    return [f"s3://bucket/books/{number:03}.txt" for number in range(count)]


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
    with pytest.raises(PipelineError, match="2 documents cannot fill 3 segments"):
        build_series(documents(2), PATTERN, 3, bucket)
    with pytest.raises(PipelineError, match="0 documents cannot fill 1 segment of"):
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
        assert "1 key points to nothing" in capsys.readouterr().err

"""Series of segment lists: numbering, damaged lists, and keys without an object."""

import gzip

import pytest

from pipeline.corpus import series
from pipeline.corpus.series import Segment, read_series
from pipeline.corpus.series_keys import segment_url
from pipeline.errors import PipelineError, UsageError
from tests.corpus.series_bucket import PATTERN, Bucket, keys, put, read

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
        (gzip.compress(b'["a.txt"]', mtime=0)[:-9], "is damaged gzip"),
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
    assert "3 keys were listed before" in capsys.readouterr().err


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
    assert "2 keys point to nothing" in capsys.readouterr().err


def test_an_unknown_policy_is_an_error_of_usage(bucket: Bucket) -> None:
    with pytest.raises(UsageError, match="not one of fail, skip"):
        read(bucket, missing_keys="ignore")

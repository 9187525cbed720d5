"""The names of a series: addresses of its segments, and keys that are not trusted."""

import json
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pipeline.corpus.series import read_series
from pipeline.corpus.series_keys import EXAMPLE, segment_url
from pipeline.errors import PipelineError, UsageError
from tests.corpus.series_bucket import Bucket, keys, local_bucket, put, read


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
    assert EXAMPLE in str(error.value.hint)


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

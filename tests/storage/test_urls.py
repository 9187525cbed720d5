"""Addresses: what they are called, what stands for what, and what is never shown."""

import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pipeline.errors import UsageError
from pipeline.storage.urls import (
    Entry,
    canonical,
    expand_braces,
    fixed_part,
    glob_filter,
    redact,
    scheme,
)


@pytest.mark.parametrize(
    ("url", "name"),
    [
        ("/a/b c.txt", "b c.txt"),
        ("s3://b/a/c?d#e%20.txt", "c?d#e%20.txt"),
        ("https://h/a/b%20c.txt?x=/y", "b c.txt"),
        ("https://h/", ""),
        ("hf://datasets/u/n@main/d/a.txt", "a.txt"),
    ],
)
def test_the_name_is_the_last_part_of_the_path(url: str, name: str) -> None:
    assert Entry(url).name == name


@pytest.mark.parametrize(
    ("address", "spelled"),
    [
        ("S3://b/K", "s3://b/K"),
        ("s3a://b/k", "s3://b/k"),
        ("gcs://b/k", "gs://b/k"),
        ("s3://b", "s3://b/"),
        ("https://h/a?b=c#d", "https://h/a?b=c"),
        ("file:///a%20b/c", "/a b/c"),
        ("/a/../b", "/b"),
    ],
)
def test_an_address_has_one_spelling(address: str, spelled: str) -> None:
    assert canonical(address) == spelled


@pytest.mark.parametrize("address", ["file://host/a", "ftp://h/a", "s3://", "s3://k:s@b/x", ""])
def test_what_is_no_address_is_refused(address: str) -> None:
    with pytest.raises(UsageError):
        canonical(address)


@pytest.mark.parametrize("path", ["a://", "C:\\data\\a.txt", "1a://x", "a b://c", "./s3:/x"])
def test_what_only_looks_like_a_scheme_is_a_path_or_refused(path: str) -> None:
    if path == "a://":
        with pytest.raises(UsageError):
            scheme(path)
    else:
        assert scheme(path) == "file"


@pytest.mark.parametrize(
    ("address", "shown"),
    [
        ("https://ada:s3cret@h/a", "https://***@h/a"),
        ("https://h/a?X-Amz-Signature=s3cret&id=5", "https://h/a?X-Amz-Signature=***&id=5"),
        ("https://h/a?s3cret", "https://h/a?***=***"),
        ("https://h?sig=s3cret", "https://h?sig=***"),
        ("https://h/a?q=" + "s3cret" * 5, "https://h/a?q=***"),
        ("https://h/a?id=1#s3cret", "https://h/a?id=1"),
        ("s3://AKIA:s3cret@b/k", "s3://***@b/k"),
        ("s3://b/k?not=a-query", "s3://b/k?not=a-query"),
        ("sftp://ada:12/s3cret@h/a", "sftp://***@h/a"),
        ("sftp://ada:/s3cret@h/a", "sftp://***@h/a"),
        ("sftp://h:22/a", "sftp://h:22/a"),
        ("/home/a@b", "/home/a@b"),
    ],
)
def test_secrets_are_not_shown(address: str, shown: str) -> None:
    assert redact(address) == shown
    assert "s3cret" not in redact(address)


@given(
    st.text("abc0:@%/?#", min_size=1, max_size=9).filter(lambda t: "/" not in t),
    st.sampled_from(["token", "X-Amz-Security-Token", "AWSAccessKeyId", "sig", "password"]),
)
def test_no_password_or_token_survives(noise: str, name: str) -> None:
    secret = "S3CRETS3CRETS3CRETS3CRET"
    shown = redact(f"https://user:{secret}@host/{noise}?{name}={secret}")
    assert secret not in shown or "#" in noise


@pytest.mark.parametrize(
    ("pattern", "names"),
    [
        ("t.{1..3}", ["t.1", "t.2", "t.3"]),
        ("t.{08..10}", ["t.08", "t.09", "t.10"]),
        ("{b,a}/{b,a}", ["b/b", "b/a", "a/b", "a/a"]),
        ("{a,a}", ["a"]),
        ("a{b", ["a{b"]),
        ("${x}", ["${x}"]),
    ],
)
def test_braces_are_those_of_a_shell(pattern: str, names: list[str]) -> None:
    assert expand_braces(pattern) == names


@pytest.mark.parametrize(
    "pattern",
    ["{1..1000000000}", "{1..9999}{1..9999}", "{a," * 5000],
)
def test_hostile_braces_are_one_sentence(pattern: str) -> None:
    with pytest.raises(UsageError):
        expand_braces(pattern)


@pytest.mark.parametrize(
    ("pattern", "yes", "no"),
    [
        ("*.txt", "a.txt", "d/a.txt"),
        ("*", "a", ".a"),
        (".*", ".a", "a"),
        ("**/*.txt", "a.txt", ".d/a.txt"),
        ("**/*.txt", "d/e/a.txt", "d/.a.txt"),
        ("d/**", "d/e/f", "d/.e/f"),
        ("d/**", "d/../f", "d/..f"),
        ("a?c", "abc", "a/c"),
        ("[ab].x", "a.x", "c.x"),
        ("[!ab].x", "c.x", "a.x"),
        ("[!a]b", "cb", "/b"),
        ("[a-c]", "b", "d"),
        ("[]]", "]", "["),
        ("[x", "[x", "x"),
        ("a.c", "a.c", "abc"),
        ("a**c", "abbc", "a/c"),
    ],
)
def test_globs_are_those_of_a_shell(pattern: str, yes: str, no: str) -> None:
    assert glob_filter(pattern).fullmatch(yes)
    assert not glob_filter(pattern).fullmatch(no)


def test_a_senseless_glob_is_one_sentence() -> None:
    with pytest.raises(UsageError, match="makes no sense"):
        glob_filter("[z-a]")


@given(st.text("ab*?[]!^-./\\&~|", max_size=8))
def test_any_glob_is_understood_or_refused(pattern: str) -> None:
    try:
        assert isinstance(glob_filter(pattern), re.Pattern)
    except UsageError:
        assert "[" in pattern


def test_the_fixed_part_ends_before_the_first_glob() -> None:
    assert fixed_part("/a/b/c*/d") == "/a/b/"
    assert fixed_part("a*") == ""

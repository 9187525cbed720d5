"""Mirrors of Project Gutenberg: where their files lie, and what happens when they fail."""

from pathlib import Path
from typing import Any

import pytest

from pipeline.books.catalogue import Book
from pipeline.books.downloads import DownloadRefused
from pipeline.books.mirrors import Mirrors, mirror_paths
from pipeline.books.polite import PoliteSession
from pipeline.books.quota import DailyQuota
from pipeline.errors import PipelineError, UsageError
from tests.gutendex_server import Faults, GutendexServer

BOOK = Book(900001, "", [], [], [], False, ("http://127.0.0.1:9/not-asked.txt",))
NOBODY = "http://127.0.0.1:9"


def mirrors(*urls: str, **manners: Any) -> Mirrors:
    session = PoliteSession(**{"sleep": lambda _: None, "jitter": lambda: 0.5, **manners})
    return Mirrors([url + "/mirror" if "//127" in url else url for url in urls], session)


def asked(server: GutendexServer) -> list[str]:
    return [request.path.removeprefix("/mirror/") for request in server.requests]


@pytest.mark.parametrize(
    ("id", "folder"), [(5, "0/5"), (19, "1/19"), (12345, "1/2/3/4/12345"), (70000, "7/0/0/0/70000")]
)
def test_a_folder_is_made_of_all_digits_but_the_last(id: int, folder: str) -> None:
    assert mirror_paths(id) == [
        f"{folder}/{id}-0.txt",
        f"cache/epub/{id}/pg{id}.txt",
        f"{folder}/{id}-8.txt",
        f"{folder}/{id}.txt",
    ]


@pytest.mark.parametrize(("kind", "requests"), [("-0", 1), ("cache", 2), ("-8", 3), ("", 4)])
def test_a_book_is_found_under_each_of_its_names(kind: str, requests: int) -> None:
    with GutendexServer(mirrored=[kind]) as server:
        got = mirrors(server.url).download(BOOK)
        assert got.body == server.books[BOOK.id][1]
        assert asked(server) == mirror_paths(BOOK.id)[:requests]
        assert got.url == f"{server.url}/mirror/{mirror_paths(BOOK.id)[requests - 1]}"
        assert got.etag


def test_the_mirrors_are_asked_in_order() -> None:
    with GutendexServer(mirrored=[]) as first, GutendexServer() as second:
        assert mirrors(first.url, second.url).download(BOOK).url.startswith(second.url)
        assert len(asked(first)) == 4
        assert mirrors(second.url, first.url).download(BOOK).url.startswith(second.url)
        assert len(asked(first)) == 4, "not asked where the one before has it"


def test_a_book_that_no_mirror_has_is_refused() -> None:
    with (
        GutendexServer(mirrored=[]) as first,
        GutendexServer(books={}) as second,
        pytest.raises(DownloadRefused, match="no mirror has it") as refusal,
    ):
        mirrors(first.url, second.url).download(BOOK)
    assert not refusal.value.may_pass


def test_a_mirror_that_was_passed_over_may_have_the_book_later() -> None:
    with GutendexServer(books={}) as server:
        several = mirrors(NOBODY, server.url)
        for _ in range(2):
            with pytest.raises(DownloadRefused, match="no mirror has it") as refusal:
                several.download(BOOK)
            assert refusal.value.may_pass


def test_a_file_that_broke_off_may_be_whole_later() -> None:
    with (
        GutendexServer(mirrored=["-0"], faults=Faults(short=2, only="/mirror")) as server,
        pytest.raises(DownloadRefused, match="broke off") as refusal,
    ):
        mirrors(server.url).download(BOOK)
    assert refusal.value.may_pass


def test_a_web_page_in_place_of_a_book_is_passed_over() -> None:
    with GutendexServer(faults=Faults(html=1, only="/mirror")) as server:
        assert mirrors(server.url).download(BOOK).body == server.books[BOOK.id][1]
        assert len(asked(server)) == 2
    with (
        GutendexServer(faults=Faults(html=4, only="/mirror")) as server,
        pytest.raises(DownloadRefused, match="web page") as refusal,
    ):
        mirrors(server.url).download(BOOK)
    assert not refusal.value.may_pass


@pytest.mark.parametrize(
    ("fault", "word"),
    [({"too_many": 99}, "wants no more requests"), ({"broken": 99}, "answered HTTP 500")],
)
def test_a_mirror_that_fails_is_passed_over_from_then_on(
    fault: dict[str, int], word: str, capsys: pytest.CaptureFixture[str]
) -> None:
    faults = Faults(only="/mirror", **fault)  # type: ignore[arg-type]
    with GutendexServer(faults=faults) as bad, GutendexServer() as good:
        several = mirrors(bad.url, good.url)
        assert several.download(BOOK).url.startswith(good.url)
        tried = len(asked(bad))
        assert tried == 2
        several.download(BOOK)
        assert len(asked(bad)) == tried
    assert capsys.readouterr().err.count(word) == 1


def test_a_mirror_that_is_not_there_is_passed_over(capsys: pytest.CaptureFixture[str]) -> None:
    with GutendexServer() as server:
        several = mirrors(NOBODY, server.url)
        several.download(BOOK)
        several.download(BOOK)
    assert capsys.readouterr().err.count(f"The mirror {NOBODY}/mirror/ cannot be reached") == 1


def test_a_file_that_breaks_off_once_too_often_does_not_end_a_mirror() -> None:
    with GutendexServer(faults=Faults(short=2, only="/mirror")) as server:
        several = mirrors(server.url)
        assert several.download(BOOK).url.endswith(f"pg{BOOK.id}.txt")
        assert several.download(BOOK).url.endswith("-0.txt")


def test_without_any_mirror_left_the_way_out_is_named() -> None:
    several = mirrors(NOBODY)
    for _ in range(2):
        with pytest.raises(PipelineError, match="No mirror answers") as error:
            several.download(BOOK)
        assert "--mirror URL" in str(error.value.hint)
        assert "--archive FILE_OR_URL" in str(error.value.hint)


def test_no_password_of_a_mirror_is_told_or_kept(capsys: pytest.CaptureFixture[str]) -> None:
    with GutendexServer() as server:
        with_password = server.url.replace("//", "//ada:5ecret@")
        several = Mirrors(
            [NOBODY.replace("//", "//ada:5ecret@"), f"{with_password}/mirror/"],
            PoliteSession(sleep=lambda _: None),
        )
        assert several.download(BOOK).url.startswith(f"{server.url}/mirror/")
        assert server.requests[0].headers["Authorization"].startswith("Basic ")
    assert "5ecret" not in capsys.readouterr().err


def test_the_main_site_named_as_a_mirror_is_the_main_site(tmp_path: Path) -> None:
    quota = DailyQuota(tmp_path / "count.json", limit=1)
    with GutendexServer() as server:
        several = mirrors(server.url, main_hosts=["127.0.0.1"], quota=quota)
        several.download(BOOK)
        with pytest.raises(PipelineError, match="used up"):
            several.download(BOOK)
        assert len(server.downloads) == 1


@pytest.mark.parametrize(
    "url", ["ftp://x", "file:///mnt/mirror", "gutenberg.pglaf.org", "http://", "http://[x", "",
            "http://x/?a=b", "http://x/#a"],
)  # fmt: skip
def test_only_web_addresses_are_mirrors(url: str) -> None:
    with pytest.raises(UsageError, match="is no address of a mirror"):
        mirrors(url)


def test_no_mirrors_are_an_error() -> None:
    with pytest.raises(UsageError, match="No mirror is named"):
        mirrors()

"""Books of Project Gutenberg: which ones, from where, how many a day, and what is refused."""

import io
import json
import tarfile
import zipfile
from pathlib import Path
from typing import Any

import pytest

from pipeline.acquisition.shelf import parse_ids
from pipeline.errors import PipelineError, UsageError
from pipeline.step1_acquire import Sort, acquire
from tests.acquisition.data import counts, names, rows, text
from tests.gutendex_server import WEB_PAGE, Faults, GutendexServer


def books(n: int, first: int = 1) -> dict[int, tuple[str, bytes]]:
    return {i: (f"Book {i}", f"The text of book {i}.\n".encode()) for i in range(first, first + n)}


def take(data: Path, server: GutendexServer, **options: Any) -> None:
    acquire(data, gutendex_url=server.url, pause=0, **options)


def main_site(ids: Any) -> dict[int, dict[str, Any]]:
    """Catalogue entries whose texts are at the main site, where no test may go."""
    address = "https://www.gutenberg.org/ebooks/{}.txt.utf-8"
    return {i: {"formats": {"text/plain; charset=utf-8": address.format(i)}} for i in ids}


def test_books_by_number_come_in_any_language(tmp_path: Path) -> None:
    with GutendexServer(books(5), entries={3: {"languages": ["fr"]}}) as server:
        take(tmp_path, server, ids="3, 5")
    assert names(tmp_path) == ["3-book-3.txt", "5-book-5.txt"]


@pytest.mark.parametrize("ids", ["", "x", "84,-1", "0", "84;85"])
def test_numbers_that_are_none_are_refused(ids: str) -> None:
    with pytest.raises(UsageError, match="is no number of a book"):
        parse_ids(ids)


def test_a_number_that_the_catalogue_does_not_have_is_named(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    with GutendexServer(books(2)) as server:
        take(tmp_path, server, ids="2,77")
    assert "book 77 was left out: the catalogue does not have it" in capsys.readouterr().err
    assert rows(tmp_path, "refused.jsonl")[0]["what"] == "book 77"


def test_fewer_books_than_asked_for_are_told_truly(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    with GutendexServer(books(40)) as server:
        take(tmp_path, server, topic="horror", num_records=100)
    printed = capsys.readouterr().err
    assert "40 of 100 asked: the catalogue has no more." in printed
    assert "40 documents" in printed


@pytest.mark.parametrize("allowed", [True, False])
def test_a_book_under_copyright_comes_only_if_allowed(tmp_path: Path, allowed: bool) -> None:
    with GutendexServer(books(2), entries={1: {"copyright": True}}) as server:
        take(tmp_path, server, ids="1,2", allow_copyrighted=allowed)
    assert len(names(tmp_path)) == 1 + allowed
    if allowed:
        assert rows(tmp_path)[0]["rights"] == "under copyright in the USA"
    else:
        assert "under copyright" in rows(tmp_path, "refused.jsonl")[0]["reason"]


def test_more_than_a_hundred_books_a_day_from_the_main_site_are_refused_before_any(
    tmp_path: Path,
) -> None:
    many = books(101)
    with (
        GutendexServer(many, entries=main_site(many)) as server,
        pytest.raises(PipelineError) as error,
    ):
        take(tmp_path, server, topic="horror", num_records=101)
    assert "101 books are to come from the main site" in error.value.message
    assert "--mirror" in str(error.value)
    assert "--archive" in str(error.value)
    assert names(tmp_path) == []


def test_a_mirror_may_be_asked_for_any_number(tmp_path: Path) -> None:
    many = books(101, first=12300)
    with GutendexServer(many, entries=main_site(many)) as server:
        take(
            tmp_path, server, topic="horror", num_records=101,
            mirror=["http://127.0.0.1:9/dead", f"{server.url}/mirror"],
        )  # fmt: skip
        asked = [request.path for request in server.requests if "12345" in request.path]
    assert len(names(tmp_path)) == 101
    assert asked == ["/mirror/1/2/3/4/12345/12345-0.txt"]
    assert text(tmp_path, "12345-book-12345.txt") == "The text of book 12345.\n"


def archive(path: Path, texts: dict[int, bytes]) -> str:
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w") as tar:
        for id, body in texts.items():
            member = tarfile.TarInfo(f"cache/epub/{id}/pg{id}.txt")
            member.size = len(body)
            tar.addfile(member, io.BytesIO(body))
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as packed:
        packed.writestr("txt-files.tar", buffer.getvalue())
    return str(path)


def test_the_archive_of_all_texts_is_read_for_the_books_wanted(tmp_path: Path) -> None:
    many = books(120)
    packed = archive(tmp_path / "txt-files.tar.zip", {i: many[i][1] for i in many if i != 7})
    with GutendexServer(many, entries=main_site(many)) as server:
        take(tmp_path / "data", server, topic="horror", num_records=110, archive=packed)
        assert server.downloads == []
    assert len(names(tmp_path / "data")) == 109
    assert rows(tmp_path / "data", "refused.jsonl")[0]["reason"] == "the archive does not have it"
    assert rows(tmp_path / "data")[0]["source"].endswith("txt-files.tar.zip#cache/epub/1/pg1.txt")


def test_the_archive_may_be_at_an_address(tmp_path: Path) -> None:
    packed = archive(tmp_path / "a.zip", {i: body for i, (_, body) in books(3).items()})
    with (
        GutendexServer(books(3)) as server,
        GutendexServer(books(3), zips={1: Path(packed).read_bytes()}) as other,
    ):
        take(tmp_path / "data", server, ids="1,3", archive=f"{other.url}/files/1.zip")
    assert names(tmp_path / "data") == ["1-book-1.txt", "3-book-3.txt"]


def test_a_web_page_in_place_of_a_book_is_refused_and_listed(tmp_path: Path) -> None:
    texts = books(3) | {2: ("Not found", WEB_PAGE)}
    with GutendexServer(texts) as server:
        take(tmp_path, server, topic="horror")
    assert names(tmp_path) == ["1-book-1.txt", "3-book-3.txt"]
    (refused,) = rows(tmp_path, "refused.jsonl")
    assert refused["what"] == "Not found (2)"
    assert "web page" in refused["reason"]


def test_refresh_fetches_only_what_has_changed(tmp_path: Path) -> None:
    with GutendexServer(books(3)) as server:
        take(tmp_path, server, topic="horror", num_records=3)
        server.books[2] = ("Book 2", b"The text of book 2, mended.\n")
        take(tmp_path, server, topic="horror", num_records=3)
        assert text(tmp_path, "2-book-2.txt") == "The text of book 2.\n"
        take(tmp_path, server, topic="horror", num_records=3, refresh=True)
    assert text(tmp_path, "2-book-2.txt") == "The text of book 2, mended.\n"
    assert (counts(tmp_path)["renewed"], counts(tmp_path)["not changed"]) == (1, 2)


def test_refresh_leaves_a_book_that_was_edited_by_hand(tmp_path: Path) -> None:
    with GutendexServer(books(1)) as server:
        take(tmp_path, server, topic="horror", num_records=1)
        (tmp_path / "1_raw" / "1-book-1.txt").write_text("Mine.\n")
        server.books[1] = ("Book 1", b"Theirs.\n")
        take(tmp_path, server, topic="horror", num_records=1, refresh=True)
    assert text(tmp_path, "1-book-1.txt") == "Mine.\n"


def test_a_book_keeps_its_file_when_its_title_changes(tmp_path: Path) -> None:
    with GutendexServer(books(1)) as server:
        take(tmp_path, server, ids="1")
        server.books[1] = ("Another Title", server.books[1][1])
        take(tmp_path / "fresh", server, ids="1")
        take(tmp_path, server, ids="1", sort=Sort.POPULAR)
    assert names(tmp_path) == ["1-book-1.txt"]


def test_pages_of_the_catalogue_are_asked_for_once_a_day(tmp_path: Path) -> None:
    with GutendexServer(books(40), faults=Faults(html=1)) as server:
        for _ in range(2):  # one book was refused, so the second run goes on
            take(tmp_path, server, topic="horror", num_records=40)
        assert len(server.pages) == 2
    assert len(names(tmp_path)) == 40


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"topic": "x", "archive": "a", "mirror": ["http://m"]}, "two ways"),
        ({"mirror": ["http://m"]}, "no books are asked for"),
        ({"topic": "x", "source": ["a=0.5"]}, "have no weight"),
    ],
)
def test_options_that_make_no_sense_together_are_refused(
    tmp_path: Path, options: dict[str, Any], message: str
) -> None:
    with pytest.raises(UsageError, match=message):
        acquire(tmp_path, **options)


def test_what_was_fetched_is_in_the_catalogue_with_its_facts(tmp_path: Path) -> None:
    with GutendexServer(books(1)) as server:
        take(tmp_path, server, topic="horror", num_records=1)
        address = f"{server.url}/files/1.txt"
    (row,) = rows(tmp_path)
    body = (tmp_path / "1_raw" / row["file"]).read_bytes()
    assert (row["id"], row["title"], row["bytes"]) == ("1", "Book 1", len(body))
    assert (row["source"], row["collection"]) == (address, "gutenberg")
    assert row["etag"]
    assert row["rights"] == "public domain in the USA"
    assert json.dumps(row)


def test_a_limit_holds_for_books_too(tmp_path: Path) -> None:
    with GutendexServer(books(9)) as server:
        take(tmp_path, server, topic="horror", num_records=9, limit=2)
        assert server.downloads == [1, 2]
    assert counts(tmp_path)["not sampled"] == 7


def test_a_language_alone_asks_the_catalogue(tmp_path: Path) -> None:
    with GutendexServer(books(3), entries={2: {"languages": ["fr"]}}) as server:
        take(tmp_path, server, languages="fr")
    assert names(tmp_path) == ["2-book-2.txt"]


def test_a_number_in_another_language_is_not_said_to_be_missing(tmp_path: Path) -> None:
    with GutendexServer(books(2)) as server:
        take(tmp_path, server, ids="1", languages="en")
        take(tmp_path, server, ids="1,2", languages="en")
        with pytest.raises(PipelineError, match="No books were found"):
            take(tmp_path / "fr", server, ids="1,2", languages="fr")
        server.entries[2] = {"languages": ["fr"]}
        take(tmp_path / "both", server, ids="1,2", languages="en")
    assert (
        "or not with all that is asked for" in rows(tmp_path / "both", "refused.jsonl")[0]["reason"]
    )


def test_refresh_asks_the_mirrors_where_some_are_named(tmp_path: Path) -> None:
    with GutendexServer(books(2)) as server:
        take(tmp_path, server, topic="horror", num_records=2)
        server.books[1] = ("Book 1", b"The text of book 1, mended.\n")
        before = len(server.requests)
        mirror = [f"{server.url}/mirror"]
        take(tmp_path, server, topic="horror", num_records=2, mirror=mirror, refresh=True)
        asked = [request.path for request in server.requests[before:]]
    assert all(path.startswith(("/mirror/", "/books")) for path in asked)
    assert text(tmp_path, "1-book-1.txt") == "The text of book 1, mended.\n"
    assert rows(tmp_path)[0]["source"].startswith(mirror[0])


def test_refresh_asks_the_main_site_for_no_more_than_it_allows(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def conditional(server: GutendexServer) -> list[str]:
        return [r.path for r in server.requests if "If-None-Match" in r.headers]

    with GutendexServer(books(5)) as server:
        take(tmp_path, server, topic="horror", num_records=5)
        monkeypatch.setattr("pipeline.acquisition.shelf.is_main_site", lambda host: True)
        monkeypatch.setattr("pipeline.acquisition.shelf.DailyQuota.left", lambda quota: 3)
        monkeypatch.setattr("pipeline.acquisition.shelf.now", lambda: "2999-01-01T00:00:00+00:00")
        take(tmp_path, server, topic="horror", num_records=5, refresh=True)
        first = conditional(server)
        assert len(first) == 3
        assert "2 books were not asked for" in capsys.readouterr().err
        take(tmp_path, server, topic="horror", num_records=5, refresh=True)
        assert set(conditional(server)[3:5]).isdisjoint(first), "those that waited come first"

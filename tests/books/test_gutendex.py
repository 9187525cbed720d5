"""The catalogue client against a real server on loopback: order, patience, refusals."""

import json
from typing import Any

import pytest

from pipeline.books.gutendex import (
    Book,
    DownloadRefused,
    GutendexClient,
    as_book,
    text_url,
)
from pipeline.errors import PipelineError
from tests.gutendex_server import Faults, GutendexServer


class Clock:
    """Stands in for sleeping: remembers how long one was to wait."""

    def __init__(self) -> None:
        self.waits: list[float] = []

    def __call__(self, seconds: float) -> None:
        self.waits.append(seconds)


def client(server: GutendexServer, clock: Clock | None = None, **options: Any) -> GutendexClient:
    settings: dict[str, Any] = {"pause": 0.0, "jitter": lambda: 0.5, **options}
    return GutendexClient(server.url, sleep=clock or Clock(), **settings)


def books(server: GutendexServer, limit: int = 100, **query: str) -> list[Book]:
    return list(client(server).search(limit=limit, **query))


def test_pages_are_walked_to_the_last_and_no_book_comes_twice() -> None:
    with GutendexServer(per_page=5) as server:
        found = books(server, topic="horror")
        assert [book.id for book in found] == sorted(server.books)
        assert len(server.pages) == 3
        assert all("sort=ascending" in page and "topic=horror" in page for page in server.pages)


def test_no_more_pages_are_asked_for_than_needed() -> None:
    with GutendexServer(per_page=5) as server:
        assert len(books(server, 4)) == 4
        assert len(server.pages) == 1


def test_a_catalogue_with_less_says_so(capsys: pytest.CaptureFixture[str]) -> None:
    with GutendexServer() as server:
        assert len(books(server, 40)) == 12
    assert "12 of 40 books asked for: the catalogue has no more." in capsys.readouterr().err


def test_a_topic_without_books_yields_nothing() -> None:
    with GutendexServer() as server:
        assert books(server, topic="zzz") == []


def test_a_search_is_passed_on() -> None:
    with GutendexServer() as server:
        assert [book.id for book in books(server, search="third tide")] == [900001]


def test_the_bytes_are_kept_as_served_and_the_program_says_its_name() -> None:
    with GutendexServer() as server:
        talker = client(server)
        for book in talker.search(limit=12):
            assert talker.download(book) == server.books[book.id][1]
        assert all(agent.startswith("bookshelf-llm/") for agent in server.agents)


def test_between_two_downloads_there_is_a_pause() -> None:
    clock = Clock()
    with GutendexServer() as server:
        talker = client(server, clock, pause=2.0)
        for book in talker.search(limit=3):
            talker.download(book)
    assert clock.waits == [2.0, 2.0]


@pytest.mark.parametrize("only", ["/files/", "/books"])
def test_an_overloaded_server_is_waited_for_as_long_as_it_asks(only: str) -> None:
    clock = Clock()
    faults = Faults(too_many=2, retry_after="7", only=only)
    with GutendexServer(faults=faults) as server:
        talker = client(server, clock)
        (book,) = talker.search(limit=1)
        assert talker.download(book)
    assert clock.waits == [7.0, 7.0]


def test_a_broken_server_is_tried_again_after_growing_waits() -> None:
    clock = Clock()
    with GutendexServer(faults=Faults(broken=3)) as server:
        talker = client(server, clock)
        (book,) = talker.search(limit=1)
        assert talker.download(book)
    assert clock.waits == [1.0, 2.0, 4.0]


def test_patience_has_an_end() -> None:
    with GutendexServer(faults=Faults(broken=99, only="/books")) as server:
        with pytest.raises(PipelineError, match=r"HTTP 500 \(3 tries\)"):
            list(client(server, tries=3).search(limit=1))
        assert len(server.pages) == 3


def test_a_server_that_asks_for_hours_is_told_of() -> None:
    faults = Faults(too_many=1, retry_after="7200", only="/books")
    with (
        GutendexServer(faults=faults) as server,
        pytest.raises(PipelineError, match="7200 seconds"),
    ):
        list(client(server).search(limit=1))


def test_a_file_that_breaks_off_is_fetched_again() -> None:
    with GutendexServer(faults=Faults(short=1)) as server:
        talker = client(server)
        (book,) = talker.search(limit=1)
        assert talker.download(book) == server.books[book.id][1]
        assert len(server.downloads) == 2


def test_a_web_page_is_no_book() -> None:
    with GutendexServer(faults=Faults(html=1)) as server:
        talker = client(server)
        (book,) = talker.search(limit=1)
        with pytest.raises(DownloadRefused, match="web page"):
            talker.download(book)


@pytest.mark.parametrize(
    ("data", "reason"),
    [(b"", "empty"), (b"PK\x03\x04zip", "zip archive"), (b"\x00\x01" * 99, "not text")],
)
def test_what_is_no_text_is_refused(data: bytes, reason: str) -> None:
    with GutendexServer(books={1: ("Odd", data)}) as server:
        talker = client(server)
        (book,) = talker.search(limit=1)
        with pytest.raises(DownloadRefused, match=reason):
            talker.download(book)


def test_no_network_is_one_sentence_with_the_way_out() -> None:
    talker = GutendexClient("http://127.0.0.1:9", sleep=Clock(), tries=2)
    with pytest.raises(PipelineError) as error:
        list(talker.search(limit=1))
    assert "http://127.0.0.1:9/books cannot be reached: no connection" in error.value.message
    assert "--gutendex-url" in str(error.value.hint)


def test_a_server_of_another_kind_is_recognised() -> None:
    with GutendexServer() as server:
        talker = GutendexClient(f"{server.url}/files/900001.txt?", sleep=Clock())
        with pytest.raises(PipelineError, match="does not answer as a Gutendex server does"):
            list(talker.search(limit=1))


@pytest.mark.parametrize("url", ["ftp://x", "file:///etc/passwd", "gutendex.com"])
def test_only_web_addresses_are_taken(url: str) -> None:
    with pytest.raises(PipelineError, match="is no web address"):
        GutendexClient(url)


@pytest.mark.parametrize(
    ("formats", "best"),
    [
        ({"text/plain": "http://x/a", "text/plain; charset=utf-8": "http://x/b"}, "http://x/b"),
        ({"text/plain; charset=us-ascii": "http://x/a.zip", "text/plain": "http://x/b.txt"},
         "http://x/b.txt"),
        ({"text/plain; charset=iso-8859-1": "http://x/8", "text/plain; charset=us-ascii":
          "http://x/7"}, "http://x/7"),
        ({"text/html": "http://x/a"}, None),
        ({"text/plain": "file:///etc/passwd"}, None),
        ({"text/plain": None}, None),
        (None, None),
    ],
)  # fmt: skip
def test_the_best_plain_text_is_chosen(formats: Any, best: str | None) -> None:
    assert text_url(formats) == best


@pytest.mark.parametrize("entry", [None, [], {}, {"id": "1"}, {"id": 1}, {"id": 1, "formats": []}])
def test_what_is_no_book_entry_is_passed_over(entry: Any) -> None:
    assert as_book(json.loads(json.dumps(entry))) is None


def test_a_sparse_entry_is_a_book() -> None:
    book = as_book({"id": 1, "formats": {"text/plain": "http://x/1.txt"}, "authors": [None]})
    assert book == Book(1, "", [], [], [], None, "http://x/1.txt")

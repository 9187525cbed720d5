"""The catalogue client against a real server on loopback: order, patience, refusals."""

from pathlib import Path
from typing import Any
from urllib.parse import parse_qs, urlsplit

import pytest

from pipeline.books.gutendex import GutendexClient
from pipeline.books.polite import PoliteSession
from pipeline.books.quota import DailyQuota
from pipeline.errors import PipelineError, UsageError
from tests.books.catalogue_client import Clock, books, client, many_books, numbers
from tests.gutendex_server import Faults, GutendexServer


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
    assert "12 of 40 asked: the catalogue has no more." in capsys.readouterr().err


def test_a_topic_without_books_yields_nothing() -> None:
    with GutendexServer() as server:
        assert books(server, topic="zzz") == []


def test_a_search_is_passed_on() -> None:
    with GutendexServer() as server:
        assert [book.id for book in books(server, search="third tide")] == [900001]


def test_between_two_downloads_there_is_a_pause() -> None:
    clock = Clock()
    with GutendexServer() as server:
        talker = client(server, clock, pause=2.0, main_hosts=["127.0.0.1"])
        for book in talker.search(limit=3):
            talker.download(book)
    assert clock.waits == [2.0, 2.0]


def test_a_book_from_the_main_site_is_taken_from_the_quota(tmp_path: Path) -> None:
    quota = DailyQuota(tmp_path / "count.json", limit=2)
    with GutendexServer() as server:
        talker = client(server, quota=quota, main_hosts=["127.0.0.1"])
        found = list(talker.search(limit=3))
        assert quota.left() == 2
        talker.download(found[0])
        talker.download(found[1])
        with pytest.raises(PipelineError, match="used up"):
            talker.download(found[2])
        assert len(server.downloads) == 2


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


def test_no_network_is_one_sentence_with_the_way_out() -> None:
    talker = GutendexClient("http://127.0.0.1:9", PoliteSession(sleep=Clock().sleep))
    with pytest.raises(PipelineError) as error:
        list(talker.search(limit=1))
    assert "http://127.0.0.1:9/books cannot be reached: no connection" in error.value.message
    assert "--gutendex-url" in str(error.value.hint)


def test_a_server_of_another_kind_is_recognised() -> None:
    with GutendexServer() as server:
        talker = GutendexClient(f"{server.url}/files/900001.txt?")
        with pytest.raises(PipelineError, match="does not answer as a Gutendex server does"):
            list(talker.search(limit=1))


@pytest.mark.parametrize("url", ["ftp://x", "file:///etc/passwd", "gutendex.com", "http://[x"])
def test_only_web_addresses_are_taken(url: str) -> None:
    with pytest.raises(UsageError, match="is no web address"):
        GutendexClient(url)


# --- what is asked for ----------------------------------------------------------------------------


def test_parameters_have_the_names_that_gutendex_knows() -> None:
    with GutendexServer() as server:
        books(
            server, topic="horror", search="tide x", languages="EN, fr", author_year_start=-800,
            author_year_end=0, sort="descending", copyright="false,null",
        )  # fmt: skip
        (page,) = server.pages
    assert parse_qs(urlsplit(page).query) == {
        "topic": ["horror"], "search": ["tide x"], "languages": ["en,fr"],
        "author_year_start": ["-800"], "author_year_end": ["0"], "sort": ["descending"],
        "copyright": ["false,null"], "mime_type": ["text/plain"], "page": ["1"],
    }  # fmt: skip


def test_authors_are_found_by_the_years_in_which_they_lived() -> None:
    ada = {"authors": [{"name": "Ada", "birth_year": 1815, "death_year": 1852}]}
    with GutendexServer(entries={900001: ada}) as server:
        assert numbers(server, author_year_start=1800, author_year_end=1899) == [900001]
        assert numbers(server, author_year_start=1900) == []


def test_the_order_is_that_of_numbers_up_or_down_or_of_downloads() -> None:
    with GutendexServer(per_page=5) as server:
        ids = sorted(server.books)
        assert numbers(server, sort="descending") == ids[::-1]
        assert numbers(server, sort="popular") == sorted(ids, key=lambda id: (-(id % 7), id))


def test_an_order_that_moves_between_pages_gives_no_book_twice() -> None:
    with GutendexServer(per_page=4) as server:
        found = []
        for book in client(server).search(sort="popular"):
            found.append(book.id)
            if len(found) == 4:  # the last of the catalogue becomes the most popular
                server.entries[min(server.books, key=lambda id: id % 7)] = {"download_count": 99}
        assert len(set(found)) == len(found) >= 11


@pytest.mark.parametrize(
    "query",
    [{"sort": "random"}, {"copyright": "False"}, {"copyright": "false,maybe"}, {"ids": [0]},
     {"author_year_start": 2, "author_year_end": 1}],
)  # fmt: skip
def test_what_the_server_would_pass_over_in_silence_is_refused(query: dict[str, Any]) -> None:
    with GutendexServer() as server:
        with pytest.raises(UsageError):
            client(server).search(**query)
        assert server.pages == []


# --- books by number ------------------------------------------------------------------------------


def test_books_by_number_come_in_order_and_in_few_requests() -> None:
    with GutendexServer(many_books(80), per_page=20) as server:
        found = numbers(server, ids=[*range(70, 0, -1), 7, 7])
        assert found == list(range(1, 71))
        assert len(server.pages) == 2 + 2 + 1, "32, 32 and 6 books on pages of 20"


def test_numbers_that_the_catalogue_does_not_have_are_told(
    capsys: pytest.CaptureFixture[str],
) -> None:
    audio = {3: {"formats": {"audio/mpeg": "http://x/3.mp3"}}}
    with GutendexServer(many_books(5), entries=audio) as server:
        search = client(server).search(ids=[2, 3, 99, 1], copyright=None)
        assert [book.id for book in search] == [1, 2]
    assert (search.found, search.missing, search.without_text) == (2, [99], [3])
    assert search.ran_out
    assert "2 of 4 asked: the catalogue has no text of 99, 3." in capsys.readouterr().err


@pytest.mark.parametrize(
    ("query", "filtered"),
    [({}, False), ({"copyright": "false", "sort": "popular"}, False), ({"copyright": None}, False),
     ({"languages": "fr"}, True), ({"topic": "horror"}, True), ({"search": "tide"}, True),
     ({"author_year_start": 1800}, True), ({"author_year_end": 0}, True)],
)  # fmt: skip
@pytest.mark.parametrize("ids", [None, [900001]])
def test_a_search_tells_whether_a_missing_book_may_only_not_fit(
    ids: list[int] | None, query: dict[str, Any], filtered: bool
) -> None:
    with GutendexServer() as server:
        assert client(server).search(ids=ids, **query).filtered is filtered


def test_a_book_that_does_not_fit_is_not_said_to_be_missing(
    capsys: pytest.CaptureFixture[str],
) -> None:
    french = {2: {"languages": ["fr"]}}
    with GutendexServer(many_books(2), entries=french) as server:
        search = client(server).search(ids=[1, 2], languages="en")
        assert [book.id for book in search] == [1]
    assert (search.missing, search.filtered) == ([2], True)
    assert "no text of 2 that fits what else is asked for." in capsys.readouterr().err


@pytest.mark.parametrize(
    ("ids", "limit", "asked"),
    [(None, None, None), (None, 7, 7), ([3, 1, 3], None, 2), ([3, 1], 1, 1), ([3, 1], 9, 2)],
)
def test_a_search_knows_how_many_are_wanted(
    ids: list[int] | None, limit: int | None, asked: int | None
) -> None:
    with GutendexServer() as server:
        assert client(server).search(ids=ids, limit=limit).asked == asked


def test_no_numbers_are_no_books() -> None:
    with GutendexServer() as server:
        assert books(server, ids=[]) == []


def test_a_server_that_does_not_know_numbers_gives_only_what_was_asked_for() -> None:
    class Simple(GutendexServer):
        def catalogue(self, query: Any) -> Any:
            return super().catalogue({k: v for k, v in query.items() if k != "ids"})

    with Simple(many_books(9)) as server:
        assert numbers(server, ids=[4, 2]) == [2, 4]


def test_a_search_that_got_enough_has_not_run_out() -> None:
    with GutendexServer() as server:
        search = client(server).search(limit=3)
        assert len(list(search)) == 3
        assert (search.found, search.ran_out) == (3, False)


def test_a_catalogue_that_goes_in_a_circle_comes_to_an_end() -> None:
    class Circle(GutendexServer):
        def catalogue(self, query: Any) -> Any:
            status, answer = super().catalogue({**query, "page": "1"})
            return status, {**answer, "next": "http://x"}

    with Circle() as server:
        assert len(books(server)) == 12
        assert len(server.pages) < 10


# --- pages kept on disk ---------------------------------------------------------------------------


def test_pages_are_kept_for_a_day(tmp_path: Path) -> None:
    clock = Clock()
    with GutendexServer(per_page=5) as server:
        first = list(client(server, clock, tmp_path).search(topic="horror"))
        assert len(server.pages) == 3
        clock.now += 24 * 3600 - 1
        assert list(client(server, clock, tmp_path).search(topic="horror")) == first
        assert len(server.pages) == 3
        list(client(server, clock, tmp_path).search(topic="other"))
        assert len(server.pages) == 4, "another question is another page"
        clock.now += 1
        list(client(server, clock, tmp_path).search(topic="horror"))
        assert len(server.pages) == 7


@pytest.mark.parametrize(
    "content", [b"", b"[]", b"{}", b"[" * 99_999, b'{"time": "x", "answer": {"results": []}}',
                b'{"time": 1000000, "answer": {"results": 7}}',
                b'{"time": 9000000, "answer": {"results": []}}'],
)  # fmt: skip
def test_a_broken_page_on_disk_is_asked_for_again(tmp_path: Path, content: bytes) -> None:
    with GutendexServer() as server:
        list(client(server, page_cache=tmp_path).search())
        (path,) = tmp_path.iterdir()
        path.write_bytes(content)
        assert len(list(client(server, page_cache=tmp_path).search())) == 12
        assert len(server.pages) == 2
        list(client(server, page_cache=tmp_path).search())
        assert len(server.pages) == 2, "and it is whole again"


def test_only_good_answers_are_kept(tmp_path: Path) -> None:
    with GutendexServer(faults=Faults(html=1, only="/books")) as server:
        talker = client(server, page_cache=tmp_path)
        with pytest.raises(PipelineError, match="does not answer as a Gutendex server"):
            list(talker.search())
        assert list(tmp_path.iterdir()) == []
        assert len(list(talker.search())) == 12


def test_a_cache_that_cannot_be_written_costs_only_time(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with GutendexServer() as server:
        assert len(list(client(server, page_cache=tmp_path / "file").search())) == 12

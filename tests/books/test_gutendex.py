"""The catalogue client against a real server on loopback: order, patience, refusals."""

import io
import json
import zipfile
from contextlib import suppress
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs, urlsplit

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pipeline.books.downloads import text_in
from pipeline.books.gutendex import (
    Book,
    Download,
    DownloadRefused,
    GutendexClient,
    as_book,
    text_urls,
)
from pipeline.books.polite import PoliteSession
from pipeline.books.quota import DailyQuota
from pipeline.errors import PipelineError, UsageError
from tests.gutendex_server import Faults, GutendexServer


class Clock:
    """Time that passes only while one sleeps."""

    def __init__(self) -> None:
        self.now = 1_000_000.0
        self.waits: list[float] = []

    def __call__(self) -> float:
        return self.now

    def sleep(self, seconds: float) -> None:
        self.waits.append(seconds)
        self.now += seconds


def client(
    server: GutendexServer,
    clock: Clock | None = None,
    page_cache: Path | None = None,
    **manners: Any,
) -> GutendexClient:
    clock = clock or Clock()
    session = PoliteSession(sleep=clock.sleep, clock=clock, jitter=lambda: 0.5, **manners)
    return GutendexClient(server.url, session, page_cache, now=clock)


def books(server: GutendexServer, limit: int | None = 100, **query: Any) -> list[Book]:
    return list(client(server).search(limit=limit, **query))


def numbers(server: GutendexServer, **query: Any) -> list[int]:
    return [book.id for book in books(server, **query)]


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


def test_the_bytes_are_kept_as_served_and_the_program_says_its_name() -> None:
    with GutendexServer() as server:
        talker = client(server)
        for book in talker.search(limit=12):
            assert talker.download(book).body == server.books[book.id][1]
        assert all(agent.startswith("bookshelf-llm/") for agent in server.agents)


def test_between_two_downloads_there_is_a_pause() -> None:
    clock = Clock()
    with GutendexServer() as server:
        talker = client(server, clock, pause=2.0, main_hosts=["127.0.0.1"])
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
        assert talker.download(book).body == server.books[book.id][1]
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


def many_books(count: int) -> dict[int, tuple[str, bytes]]:
    return {n: (f"Book {n}", b"Some text of a book.\n") for n in range(1, count + 1)}


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


# --- formats --------------------------------------------------------------------------------------


def packed(method: int = zipfile.ZIP_DEFLATED, **members: bytes) -> bytes:
    file = io.BytesIO()
    with zipfile.ZipFile(file, "w", method) as archive:
        for name, data in members.items():
            archive.writestr(name.replace("__", "/").replace("_", "."), data)
    return file.getvalue()


def only(server: GutendexServer) -> Download:
    (book,) = books(server)
    return client(server).download(book)


def test_the_next_format_is_tried_where_one_is_no_text() -> None:
    good = b"A text after all.\n"
    with GutendexServer(
        {1: ("Odd", b"<html><body>No.</body></html>"), 2: ("Good", good)}
    ) as server:
        formats = {
            "text/plain; charset=utf-8": f"{server.url}/files/1.txt",
            "text/plain": f"{server.url}/files/99.txt",
            "text/plain; charset=us-ascii": f"{server.url}/files/2.txt",
        }
        server.entries[1] = {"formats": formats}
        (book, _) = books(server)
        got = client(server).download(book)
    assert (got.body, got.url) == (good, f"{server.url}/files/2.txt")


def test_the_text_in_a_zip_archive_is_taken_where_there_is_no_other() -> None:
    text = "Caf\u00e9, 8 bits.\r\n".encode("latin-1")
    archive = packed(readme_txt=b"Read me first, says the readme.", book__1_txt=text, b_htm=b"<p>")
    with GutendexServer({1: ("Odd", b"")}, zips={1: archive}) as server:
        got = only(server)
    assert got.body == text
    assert got.url.endswith("/files/1.zip")


def test_an_archive_named_as_a_text_is_known_by_its_content() -> None:
    with GutendexServer({1: ("Odd", packed(a_txt=b"Some words.\n"))}) as server:
        assert only(server).body == b"Some words.\n"


def test_the_edition_in_utf_8_is_taken_from_an_archive_of_several() -> None:
    archive = packed(
        zipfile.ZIP_STORED, **{"1-8_txt": b"The longer one of eight bits.", "1-0_txt": b"Of UTF-8."}
    )
    assert text_in(archive) == b"Of UTF-8."


@settings(deadline=None, max_examples=300)
@given(st.integers(0, 200), st.binary(min_size=1, max_size=4))
def test_whatever_an_archive_holds_it_is_read_or_refused(place: int, noise: bytes) -> None:
    data = packed(a_txt=b"Some words of a book.\n" * 9)
    with suppress(DownloadRefused):
        assert text_in(data[:place] + noise + data[place + len(noise) :])


def encrypted() -> bytes:
    data = bytearray(packed(a_txt=b"Some words.\n"))
    data[6] |= 1
    data[data.index(b"PK\x01\x02") + 8] |= 1
    return bytes(data)


@pytest.mark.parametrize(
    ("archive", "reason"),
    [
        (packed(a_htm=b"<p>"), "without a text"),
        (packed(a_txt=bytes(65 * 2**20)), "larger than 64 MB"),
        (packed(a_txt=bytes(9999)).replace((9999).to_bytes(4, "little"), b"\x09\0\0\0"), "opened"),
        (encrypted(), "encrypted"),
        (packed(zipfile.ZIP_BZIP2, a_txt=b"Some words.\n"), "unusual"),
        (packed(a_txt=b"<!DOCTYPE html><html>"), "web page"),
        (packed(a_txt=b"Some words.\n")[:-30], "cannot be opened"),
        (b"PK\x03\x04" + b"PK\x01\x02" * 10_001, "too many files"),
    ],
    ids=["no text", "large", "lying", "encrypted", "bzip2", "web page", "cut", "many"],
)
def test_an_archive_that_is_not_as_it_should_be_is_refused(archive: bytes, reason: str) -> None:
    with (
        GutendexServer({1: ("Odd", archive)}) as server,
        pytest.raises(DownloadRefused, match=reason),
    ):
        only(server)


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


# --- newer versions -------------------------------------------------------------------------------


def test_what_has_not_changed_does_not_come_again() -> None:
    with GutendexServer() as server:
        talker = client(server)
        (book,) = talker.search(limit=1)
        got = talker.download(book)
        assert got.etag and got.last_modified
        assert talker.refresh(book, got.etag, got.last_modified, got.url) is None
        assert talker.refresh(book, None, got.last_modified) is None
        server.books[book.id] = ("New", b"A newer text.\n")
        newer = talker.refresh(book, got.etag, got.last_modified, got.url)
        assert newer and newer.body == b"A newer text.\n"
        assert newer.etag != got.etag


def test_without_an_earlier_version_a_refresh_is_a_download() -> None:
    with GutendexServer() as server:
        talker = client(server)
        (book,) = talker.search(limit=1)
        assert talker.refresh(book, None, None) == talker.download(book)


def test_a_newer_version_that_is_no_text_is_refused() -> None:
    with GutendexServer() as server:
        talker = client(server)
        (book,) = talker.search(limit=1)
        server.books[book.id] = ("New", b"")
        with pytest.raises(DownloadRefused, match="empty"):
            talker.refresh(book, '"old"', None)


# --- the catalogue's entries ----------------------------------------------------------------------


@pytest.mark.parametrize(
    ("formats", "found"),
    [
        ({"text/plain": "http://x/a", "text/plain; charset=utf-8": "http://x/b"},
         ["http://x/b", "http://x/a"]),
        ({"text/plain; charset=us-ascii": "http://x/a.zip", "text/plain": "http://x/b.txt"},
         ["http://x/b.txt", "http://x/a.zip"]),
        ({"text/plain; charset=iso-8859-1": "http://x/8", "text/plain; charset=us-ascii":
          "http://x/7"}, ["http://x/7", "http://x/8"]),
        ({"text/plain; charset=utf-8": "http://x/1-readme.txt"}, []),
        ({"text/plain": "http://x/a", "text/plain; charset=x": "http://x/a"}, ["http://x/a"]),
        ({"text/html": "http://x/a", "application/zip": "http://x/a.zip"}, []),
        ({"text/plain": "file:///etc/passwd"}, []),
        ({"text/plain": None}, []),
        (None, []),
    ],
)  # fmt: skip
def test_plain_texts_are_tried_from_the_best_down(formats: Any, found: list[str]) -> None:
    assert text_urls(formats) == tuple(found)


@pytest.mark.parametrize(
    "entry",
    [None, [], {}, {"id": "1"}, {"id": 1}, {"id": 1, "formats": []},
     {"id": True, "formats": {"text/plain": "http://x/1"}},
     {"id": -1, "formats": {"text/plain": "http://x/1"}}],
)  # fmt: skip
def test_what_is_no_book_entry_is_passed_over(entry: Any) -> None:
    assert as_book(json.loads(json.dumps(entry))) is None


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(),
    lambda inner: st.lists(inner) | st.dictionaries(st.text(), inner),
    max_leaves=5,
)


@settings(deadline=None)
@given(st.dictionaries(st.sampled_from(["title", "authors", "languages", "subjects"]), JSON))
def test_whatever_an_entry_says_it_is_read(fields: dict[str, Any]) -> None:
    book = as_book({**fields, "id": 7, "formats": {"text/plain": "http://x/7"}})
    assert book is not None
    assert isinstance(book.title, str)
    assert all(isinstance(word, str) for word in book.authors + book.languages + book.subjects)


def test_a_sparse_entry_is_a_book() -> None:
    book = as_book({"id": 1, "formats": {"text/plain": "http://x/1.txt"}, "authors": [None]})
    assert book == Book(1, "", [], [], [], None, ("http://x/1.txt",))
    assert book.text_url == "http://x/1.txt"

"""Downloads from a real server on loopback: formats, archives, newer versions, refusals."""

import io
import zipfile
from contextlib import suppress

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pipeline.books.downloads import Download, DownloadRefused, first_text, text_in
from pipeline.books.polite import PoliteSession, RequestFailed
from tests.books.catalogue_client import books, client
from tests.gutendex_server import Faults, GutendexServer


def test_the_bytes_are_kept_as_served_and_the_program_says_its_name() -> None:
    with GutendexServer() as server:
        talker = client(server)
        for book in talker.search(limit=12):
            assert talker.download(book).body == server.books[book.id][1]
        assert all(agent.startswith("bookshelf-llm/") for agent in server.agents)


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


# --- what may pass, and what is final ---------------------------------------------------------


NOBODY = "http://127.0.0.1:9"  # no server is there


def refused(server: GutendexServer, *paths: str) -> DownloadRefused:
    with pytest.raises(DownloadRefused) as refusal:
        first_text(quick(), [path if "//" in path else server.url + path for path in paths])
    return refusal.value


def quick() -> PoliteSession:
    return PoliteSession(sleep=lambda _: None, tries=2)


@pytest.mark.parametrize(
    ("fault", "may_pass"), [("broken", True), ("short", True), ("html", False)]
)
def test_what_a_server_could_not_send_may_be_there_later(fault: str, may_pass: bool) -> None:
    with GutendexServer(faults=Faults(**{fault: 9})) as server:  # type: ignore[arg-type]
        assert refused(server, "/files/900001.txt").may_pass is may_pass


@pytest.mark.parametrize("body", [b"", b"PK\x03\x04zip", packed(a_htm=b"<p>"), b"Index of /1"])
def test_what_is_no_text_will_be_none_later(body: bytes) -> None:
    with GutendexServer({1: ("Odd", body)}) as server:
        assert not refused(server, "/files/1.txt").may_pass


def test_a_file_that_is_not_there_or_too_large_is_final() -> None:
    with GutendexServer({1: ("Long", b"A word. " * 99)}) as server:
        assert not refused(server, "/files/2.txt").may_pass
        with pytest.raises(DownloadRefused, match="sends more than") as refusal:
            first_text(PoliteSession(largest=99), [f"{server.url}/files/1.txt"])
    assert not refusal.value.may_pass


def test_one_address_that_may_come_back_is_reason_to_ask_again() -> None:
    with GutendexServer(faults=Faults(broken=2, only="/files/900001")) as server:
        refusal = refused(server, "/files/1.txt", "/files/900001.txt")
        assert (refusal.reason, refusal.may_pass) == (
            "the server answered HTTP 404 Not Found",
            True,
        )
        assert refused(server, f"{NOBODY}/1.txt", "/files/1.txt").may_pass


def test_a_server_that_is_not_there_does_not_hide_the_next() -> None:
    with GutendexServer() as server:
        urls = [f"{NOBODY}/900001.txt", f"{server.url}/files/900001.txt"]
        got = first_text(quick(), urls)
        assert (got.url, got.body) == (urls[1], server.books[900001][1])


def test_servers_of_which_none_is_there_are_an_error_that_names_the_first() -> None:
    waits: list[float] = []
    session = PoliteSession(sleep=waits.append)
    with pytest.raises(RequestFailed) as error:
        first_text(session, [f"{NOBODY}/1.txt", f"{NOBODY}/2.txt", "http://127.0.0.1:19/3.txt"])
    assert error.value.kind == "unreachable"
    assert error.value.message.startswith(f"{NOBODY}/1.txt cannot be reached")
    assert len(waits) == 2 + 0 + 2, "a server that is not there is not waited for again"


def test_a_server_that_wants_no_more_ends_it_at_once() -> None:
    with GutendexServer(faults=Faults(too_many=2)) as server:
        with pytest.raises(RequestFailed) as error:
            first_text(quick(), [f"{NOBODY}/1.txt", *[f"{server.url}/files/900001.txt"] * 2])
        assert (error.value.kind, len(server.requests)) == ("busy", 2)


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

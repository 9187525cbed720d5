"""HTTP manners against real servers on loopback: patience, pauses, caps, redirects."""

import gzip
import socketserver
import threading
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from email.utils import formatdate
from pathlib import Path
from typing import Any

import pytest

from pipeline.books.polite import PoliteSession, RequestFailed, is_main_site, redacted
from pipeline.books.quota import DailyQuota
from pipeline.errors import PipelineError
from tests.books.catalogue_client import Clock
from tests.gutendex_server import Faults, GutendexServer

HERE = ("127.0.0.1",)  # plays the main site


def session(clock: Clock | None = None, **options: Any) -> PoliteSession:
    clock = clock or Clock()
    return PoliteSession(**{"sleep": clock.sleep, "clock": clock, "jitter": lambda: 0.5, **options})


@contextmanager
def raw_server(*answers: bytes, drip: float = 0.0) -> Iterator[str]:
    """A server that answers its requests with these bytes, one after the other, as they are."""
    left = list(answers)

    class Handler(socketserver.StreamRequestHandler):
        def handle(self) -> None:
            while self.rfile.readline() not in (b"\r\n", b""):
                pass
            answer = left.pop(0) if len(left) > 1 else left[0]
            pieces = [bytes([byte]) for byte in answer] if drip else [answer]
            try:
                for piece in pieces:
                    self.wfile.write(piece)
                    time.sleep(drip)
            except OSError:
                self.close_connection = True  # the client has had enough

    with socketserver.ThreadingTCPServer(("127.0.0.1", 0), Handler) as server:
        server.daemon_threads = True
        thread = threading.Thread(target=server.serve_forever, args=(0.02,))
        thread.start()
        try:
            yield f"http://127.0.0.1:{server.server_address[1]}/"
        finally:
            server.shutdown()
            thread.join()


def answer(body: bytes = b"Well.", status: str = "200 OK", **headers: str) -> bytes:
    fields = {"Content-Length": str(len(body)), "Connection": "close"}
    fields |= {name.replace("_", "-"): value for name, value in headers.items()}
    lines = [f"HTTP/1.1 {status}", *(f"{name}: {value}" for name, value in fields.items())]
    return "\r\n".join(lines).encode("latin-1") + b"\r\n\r\n" + body


# --- the main site --------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("host", "expected"),
    [
        ("gutenberg.org", True), ("www.gutenberg.org", True), ("WWW.Gutenberg.ORG.", True),
        ("notgutenberg.org", False), ("gutenberg.org.example.com", False),
        ("aleph.gutenberg.org", False), ("Aleph.Gutenberg.org.", False),
        ("mail.gutenberg.org", True), ("notaleph.gutenberg.org", True),
        ("gutenberg.pglaf.org", False), ("127.0.0.1", False), ("", False),
    ],
)  # fmt: skip
def test_the_main_site_is_known_by_its_host(host: str, expected: bool) -> None:
    assert is_main_site(host) is expected


def test_the_pause_is_measured_from_the_end_of_the_last_download() -> None:
    clock = Clock()
    with GutendexServer() as server, session(clock, main_hosts=HERE, pause=2.0) as http:
        for idle in (0.0, 1.5, 5.0):
            http.get(f"{server.url}/files/900001.txt", download=True)
            clock.now += idle
        http.get(f"{server.url}/files/900001.txt", download=True)
    assert clock.waits == [2.0, 0.5], "and after five seconds there is nothing left to wait for"


def test_other_hosts_and_catalogue_pages_are_not_paused() -> None:
    clock = Clock()
    with GutendexServer() as server:
        with session(clock, main_hosts=HERE) as http:
            http.get(f"{server.url}/books", download=False)
            http.get(f"{server.url}/books", download=False)
        with session(clock) as http:
            http.get(f"{server.url}/files/900001.txt", download=True)
            http.get(f"{server.url}/files/900001.txt", download=True)
    assert clock.waits == []


def test_each_try_at_the_main_site_is_counted(tmp_path: Path) -> None:
    quota = DailyQuota(tmp_path / "count.json", limit=5)
    faults = Faults(broken=1)
    with (
        GutendexServer(faults=faults) as server,
        session(main_hosts=HERE, quota=quota) as http,
    ):
        http.get(f"{server.url}/books")
        assert quota.left() == 5, "a page of the catalogue is no download"
        http.get(f"{server.url}/files/900001.txt", download=True)
    assert quota.left() == 3


def test_a_redirect_leads_not_around_the_guard(tmp_path: Path) -> None:
    quota = DailyQuota(tmp_path / "count.json", limit=1)
    with GutendexServer() as main:
        to_main = {"/files/1.txt": f"{main.url}/files/900001.txt"}
        with (
            GutendexServer(redirects=to_main) as mirror,
            session(main_hosts=HERE, quota=quota) as http,
        ):
            elsewhere = mirror.url.replace("127.0.0.1", "localhost")
            http.get(f"{elsewhere}/files/1.txt", download=True)
            assert quota.left() == 0
            with pytest.raises(PipelineError, match="used up"):
                http.get(f"{elsewhere}/files/1.txt", download=True)
        assert len(main.downloads) == 1


def test_redirects_within_the_main_site_are_one_download(tmp_path: Path) -> None:
    clock, quota = Clock(), DailyQuota(tmp_path / "count.json", limit=5)
    with (
        GutendexServer(redirects={"/ebooks/7": "/files/900001.txt"}) as server,
        session(clock, main_hosts=HERE, quota=quota) as http,
    ):
        got = http.get(f"{server.url}/ebooks/7", download=True)
        assert got.url == f"{server.url}/files/900001.txt"
        assert got.body == server.books[900001][1]
    assert quota.left() == 4
    assert clock.waits == []


def test_a_used_up_quota_sends_nothing(tmp_path: Path) -> None:
    quota = DailyQuota(tmp_path / "count.json", limit=0)
    with GutendexServer() as server, session(main_hosts=HERE, quota=quota) as http:
        with pytest.raises(PipelineError, match="used up"):
            http.get(f"{server.url}/files/900001.txt", download=True)
        assert server.requests == []


# --- patience -------------------------------------------------------------------------------------


def test_one_connection_serves_many_requests() -> None:
    with GutendexServer(redirects={"/a": "/files/900001.txt"}) as server, session() as http:
        for path in ("/books", "/files/900001.txt", "/a", "/nothing", "/books"):
            http.get(server.url + path)
        assert len({request.port for request in server.requests}) == 1
        assert server.agents[0].startswith("bookshelf-llm/")


def test_threads_share_the_one_connection() -> None:
    with GutendexServer(latency=0.05) as server, session() as http, ThreadPoolExecutor(4) as pool:
        list(pool.map(lambda _: http.get(f"{server.url}/files/900001.txt"), range(4)))
        assert len({request.port for request in server.requests}) == 1


@pytest.mark.parametrize("status", ["429 No", "500 No", "502 No", "503 No", "504 No"])
def test_passing_trouble_is_waited_for(status: str) -> None:
    clock = Clock()
    with raw_server(answer(status=status), answer()) as url, session(clock) as http:
        assert http.get(url).body == b"Well."
    assert clock.waits == [1.0]


def test_other_statuses_are_answers() -> None:
    with raw_server(answer(b"Gone.", "410 Gone", ETag='"x"')) as url, session() as http:
        got = http.get(url)
    assert (got.status, got.said, got.body) == (410, "HTTP 410 Gone", b"Gone.")
    assert got.headers["etag"] == '"x"'


def test_waits_are_spread_by_chance() -> None:
    clock = Clock()
    chances = iter([0.0, 1.0])
    with (
        raw_server(answer(status="500 No"), answer(status="500 No"), answer()) as url,
        session(clock, jitter=lambda: next(chances)) as http,
    ):
        http.get(url)
    assert clock.waits == [0.5, 3.0]


def test_retry_after_may_be_a_date() -> None:
    clock = Clock()
    date = formatdate(time.time() + 60, usegmt=True)
    with (
        raw_server(answer(status="503 No", Retry_After=date), answer()) as url,
        session(clock) as http,
    ):
        http.get(url)
    assert 50 < clock.waits[0] <= 60


@pytest.mark.parametrize("value", ["soon", "-5", "1e9", "\u00b2", "", "0"])
def test_an_odd_retry_after_is_passed_over(value: str) -> None:
    clock = Clock()
    with (
        raw_server(answer(status="503 No", Retry_After=value), answer()) as url,
        session(clock) as http,
    ):
        http.get(url)
    assert clock.waits == [1.0]


def test_patience_is_for_a_request_in_all() -> None:
    clock = Clock()
    busy = answer(status="503 No", Retry_After="100")
    with (
        raw_server(busy) as url,
        session(clock, tries=99, patience=250) as http,
        pytest.raises(RequestFailed, match="wants no more requests for 100 seconds") as error,
    ):
        http.get(url)
    assert error.value.kind == "busy"
    assert clock.waits == [100.0, 100.0]


def test_a_body_that_drips_in_does_not_take_for_ever() -> None:
    with (
        raw_server(answer(b"x" * 1000), drip=0.01) as url,
        PoliteSession(tries=1, patience=0.5) as http,
        pytest.raises(RequestFailed, match="is too slow") as error,
    ):
        http.get(url)
    assert error.value.kind == "cut"


def test_a_server_without_words_is_unreachable() -> None:
    with (
        raw_server(answer(), drip=0.5) as url,
        session(timeout=0.05, tries=2) as http,
        pytest.raises(RequestFailed, match=r"no answer in 0.05 s \(2 tries\)") as error,
    ):
        http.get(url)
    assert error.value.kind == "unreachable"


# --- bodies ---------------------------------------------------------------------------------------


def test_a_body_shorter_than_announced_is_fetched_again() -> None:
    with (
        raw_server(answer(b"Wel", Content_Length="5"), answer()) as url,
        session() as http,
    ):
        assert http.get(url).body == b"Well."


def test_a_packed_body_is_unpacked_and_a_broken_one_fetched_again() -> None:
    packed = gzip.compress(b"Well. " * 1000)
    broken = answer(b"no gzip at all", Content_Encoding="gzip")
    with (
        raw_server(broken, answer(packed, Content_Encoding="gzip")) as url,
        session() as http,
    ):
        assert http.get(url).body == b"Well. " * 1000


def test_a_body_has_a_largest_size_packed_or_not() -> None:
    bomb = gzip.compress(bytes(10_000_000))
    for body, headers in ((bytes(2_000_001), {}), (bomb, {"Content_Encoding": "gzip"})):
        with raw_server(answer(body, **headers)) as url, session(largest=2_000_000) as http:
            with pytest.raises(RequestFailed, match="sends more than") as error:
                http.get(url)
            assert error.value.kind == "refused"


# --- addresses ------------------------------------------------------------------------------------


@pytest.mark.parametrize("target", ["file:///etc/passwd", "ftp://x/y", "http://[x/", "\xff"])
def test_a_redirect_to_what_is_no_web_address_is_refused(target: str) -> None:
    with raw_server(answer(status="302 Found", Location=target)) as url, session() as http:
        with pytest.raises(RequestFailed, match="no web address") as error:
            http.get(url)
        assert error.value.kind == "refused"


def test_redirects_in_a_circle_end() -> None:
    with GutendexServer(redirects={"/a": "/b", "/b": "/a"}) as server, session() as http:
        with pytest.raises(RequestFailed, match="in a circle"):
            http.get(f"{server.url}/a")
        assert len(server.requests) == 11


@pytest.mark.parametrize("url", ["ftp://x/y", "x", "", "http://", "http://[x", "http://a\ud800/"])
def test_what_is_no_web_address_is_not_asked(url: str) -> None:
    with session() as http, pytest.raises(RequestFailed) as error:
        http.get(url)
    assert error.value.kind == "refused"


def test_no_secret_of_an_address_is_told() -> None:
    url = "http://ada:pass@127.0.0.1:9/books?X-Amz-Signature=5ec2e7#here"
    assert redacted(url) == "http://127.0.0.1:9/books"
    with session() as http, pytest.raises(RequestFailed) as error:
        http.get(url)
    assert "pass" not in str(error.value)
    assert "5ec2e7" not in str(error.value)

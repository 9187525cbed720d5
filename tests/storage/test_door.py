"""Objects from a real S3 server, a web server and the disk: listed, read whole, resumed, cached."""

import hashlib
import os
import subprocess
import sys
import threading
import time
import tracemalloc
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from itertools import pairwise
from pathlib import Path
from urllib.parse import unquote

import pytest

from pipeline.errors import PipelineError, UsageError
from pipeline.storage import Entry, Storage
from tests.hub_server import HubServer, Repo
from tests.s3_server import SECRET, S3Server


class Clock:
    """Stands in for sleeping: remembers how long one was to wait."""

    def __init__(self) -> None:
        self.waits: list[float] = []

    def __call__(self, seconds: float) -> None:
        self.waits.append(seconds)


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def storage(clock: Clock) -> Iterator[Storage]:
    with Storage(sleep=clock, jitter=lambda: 0.5, timeout=20) as opened:
        yield opened


def urls(entries: list[Entry]) -> list[str]:
    return [entry.url for entry in entries]


def noise(size: int) -> bytes:
    return hashlib.shake_128(b"noise").digest(size)


def error_of(storage: Storage, pattern: str) -> PipelineError:
    with pytest.raises(PipelineError) as caught:
        storage.read(storage.expand(pattern)[0])
    assert SECRET not in str(caught.value)
    return caught.value


# --- listing --------------------------------------------------------------------------------------


def test_a_folder_is_listed_in_order_without_what_is_hidden(s3: S3Server, storage: Storage) -> None:
    for key in ["d/b.txt", "d/a/c.TXT", "d/.git/x.txt", "d/a/.b.txt", "d/n.pdf", "d/e/", "dd/f"]:
        s3.put("lib", key, b"text")
    assert urls(storage.expand("s3://lib/d/", [".txt"])) == [
        "s3://lib/d/a/c.TXT",
        "s3://lib/d/b.txt",
    ]
    assert urls(storage.expand("s3://lib/d")) == [
        "s3://lib/d/a/c.TXT",
        "s3://lib/d/b.txt",
        "s3://lib/d/n.pdf",
    ]


def test_an_entry_says_size_version_and_name(s3: S3Server, storage: Storage) -> None:
    s3.put("lib", "d/a.txt", b"text")
    (listed,), (named,) = storage.expand("s3://lib/d/"), storage.expand("s3://lib/d/a.txt")
    assert listed == named == Entry("s3://lib/d/a.txt", 4, hashlib.md5(b"text").hexdigest())
    assert listed.name == "a.txt"


def test_a_whole_bucket_can_be_named(s3: S3Server, storage: Storage) -> None:
    s3.put("lib", "x/y", b"")
    assert urls(storage.expand("s3://lib")) == urls(storage.expand("s3://lib/")) == ["s3://lib/x/y"]


def test_globs_and_braces_find_what_a_shell_finds(s3: S3Server, storage: Storage) -> None:
    for key in ["t.1.gz", "t.2.gz", "t.10.gz", "d/t.3.gz", "d/e/t.4.gz", ".t.5.gz"]:
        s3.put("lib", key, b"")
    assert urls(storage.expand("s3://lib/t.{1..2}.gz")) == ["s3://lib/t.1.gz", "s3://lib/t.2.gz"]
    assert urls(storage.expand("s3://lib/t.?.gz")) == ["s3://lib/t.1.gz", "s3://lib/t.2.gz"]
    assert urls(storage.expand("s3://lib/*/*.gz")) == ["s3://lib/d/t.3.gz"]
    assert len(storage.expand("s3://lib/**/*.gz")) == 5
    assert len(storage.expand("s3://lib/{**/*.gz,t.1.gz}")) == 5
    assert urls(storage.expand("s3://lib/.t*")) == ["s3://lib/.t.5.gz"]


def test_a_shard_that_is_not_there_is_named(s3: S3Server, storage: Storage) -> None:
    s3.put("lib", "t.1.gz", b"")
    with pytest.raises(PipelineError, match=r"s3://lib/t\.2\.gz does not exist"):
        storage.expand("s3://lib/t.{1..2}.gz")


def test_more_than_one_page_of_keys_is_listed(s3: S3Server, storage: Storage) -> None:
    for number in range(1100):
        s3.put("lib", f"k{number:04}", b"")
    assert len(storage.expand("s3://lib/")) == 1100
    assert len(s3.asked("GET", "/lib")) == 2


ODD_NAMES = [
    "a b.txt", "é😀.txt", "a+b.txt", "50%.txt", "a%20b.txt", "a#b.txt", "a?b.txt", "a*b[c].txt",
    "{1..2}.txt", "x/../y.txt", "x/./y.txt", "x//y.txt", "a&b=c.txt", "?versionId=1.txt",
    "tail ", "~.txt", "a\\b.txt",
]  # fmt: skip


@pytest.mark.parametrize("signed", [False, True])
def test_keys_may_hold_anything(
    s3: S3Server, storage: Storage, signed: bool, request: pytest.FixtureRequest
) -> None:
    if signed:
        request.getfixturevalue("s3_keys")
    for name in ODD_NAMES:
        s3.put("lib", f"d/{name}", name.encode())
    listed = storage.expand("s3://lib/d/")
    assert sorted(urls(listed)) == sorted(f"s3://lib/d/{name}" for name in ODD_NAMES)
    for entry, data in storage.read_many(listed):
        assert data == entry.url.removeprefix("s3://lib/d/").encode()
    for name in ODD_NAMES:
        (entry,) = storage.expand(f"s3://lib/d/{name}")
        assert storage.read(entry) == name.encode()


# --- who may, and what goes wrong -----------------------------------------------------------------


def test_without_credentials_requests_are_anonymous(s3: S3Server, storage: Storage) -> None:
    s3.put("lib", "k", b"text")
    assert storage.read(storage.expand("s3://lib/k")[0]) == b"text"
    assert not any(request.signed for request in s3.requests)


@pytest.mark.usefixtures("s3_keys")
def test_with_keys_requests_are_signed(s3: S3Server, storage: Storage) -> None:
    s3.put("lib", "k", b"text")
    assert storage.read(storage.expand("s3://lib/k")[0]) == b"text"
    assert all(request.signed for request in s3.requests)


def test_a_missing_bucket_and_a_missing_key_are_told_apart(s3: S3Server, storage: Storage) -> None:
    s3.put("lib", "k", b"text")
    assert "The bucket of s3://none/" in error_of(storage, "s3://none/k").message
    assert error_of(storage, "s3://lib/none").message == "s3://lib/none does not exist."
    assert "holds no file" in error_of(storage, "s3://lib/none*").message


@pytest.mark.parametrize(
    ("status", "code", "words"),
    [
        (403, "AccessDenied", "is denied to the AWS credentials in use"),
        (403, "InvalidAccessKeyId", "the access key is not known there"),
        (403, "SignatureDoesNotMatch", "the secret key does not fit"),
        (400, "ExpiredToken", "has expired"),
        (400, "SomethingNew", "answered SomethingNew"),
    ],
)
@pytest.mark.usefixtures("s3_keys")
def test_each_refusal_has_its_own_sentence(
    s3: S3Server, storage: Storage, status: int, code: str, words: str
) -> None:
    s3.put("lib", "k", b"text")
    s3.fail("/lib", 9, status=status, code=code)
    error = error_of(storage, "s3://lib/")
    assert words in error.message
    assert error.hint
    assert len(s3.requests) == 1


def test_denied_without_credentials_names_where_to_put_them(s3: S3Server, storage: Storage) -> None:
    s3.put("lib", "k", b"text", public=False)
    error = error_of(storage, "s3://lib/k")
    assert "no AWS credentials were found" in error.message
    assert "AWS_ACCESS_KEY_ID" in str(error.hint)


def test_no_network_is_one_sentence(
    s3: S3Server, storage: Storage, clock: Clock, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("AWS_ENDPOINT_URL", "http://127.0.0.1:9")
    message = error_of(storage, "s3://lib/k").message
    assert message == "s3://lib/k cannot be reached: no connection (3 tries)."
    assert clock.waits == [1.0, 2.0]


def test_settings_of_aws_that_cannot_be_used_are_named(
    s3: S3Server, storage: Storage, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("AWS_PROFILE", "nobody")
    assert "AWS_PROFILE" in str(error_of(storage, "s3://lib/k").hint)


@pytest.mark.parametrize(
    "url", ["s3://", "s3:///k", "s3://AKIA:hidden@lib/k", "ftp://h/k", "", "\0"]
)
def test_what_is_no_address_is_refused(storage: Storage, url: str) -> None:
    with pytest.raises(UsageError) as caught:
        storage.expand(url)
    assert "hidden" not in str(caught.value)


def test_a_bucket_name_that_cannot_be_is_one_sentence(s3: S3Server, storage: Storage) -> None:
    assert "s3://B!/k" in error_of(storage, "s3://B!/k").message


# --- patience -------------------------------------------------------------------------------------


def test_an_overloaded_server_is_asked_again(s3: S3Server, storage: Storage, clock: Clock) -> None:
    s3.put("lib", "k", b"text")
    s3.fail("/lib/k", 2, status=503, code="SlowDown")
    assert storage.read(Entry("s3://lib/k")) == b"text"
    assert clock.waits == [1.0, 2.0]


def test_patience_has_an_end(s3: S3Server, clock: Clock) -> None:
    s3.put("lib", "k", b"text")
    s3.fail("/lib/k", 99, status=503, code="SlowDown")
    with (
        Storage(tries=3, sleep=clock, jitter=lambda: 0.5) as storage,
        pytest.raises(PipelineError, match=r"overloaded \(SlowDown\) \(3 tries\)"),
    ):
        storage.read(Entry("s3://lib/k"))
    assert len(s3.requests) == 3


def test_a_silent_server_is_asked_again(s3: S3Server, clock: Clock) -> None:
    s3.put("lib", "k", b"text")
    s3.fail("/lib/k", 1, silent=5.0)
    with Storage(timeout=0.3, sleep=clock) as storage:
        assert storage.read(Entry("s3://lib/k")) == b"text"
    assert len(clock.waits) == 1


def resumed_after(s3: S3Server, cuts: tuple[int, ...]) -> None:
    """Each request for `k` begins where the answer before it, broken off at its cut, ended."""
    whole, *rests = [request.range for request in s3.asked("GET", "/k")]
    assert whole is None
    starts = [0, *(int(rest.removeprefix("bytes=").removesuffix("-")) for rest in rests if rest)]
    received = [after - before for before, after in pairwise(starts)]
    # The system may throw away the last of what was sent on a connection that then breaks.
    assert all(0 <= got <= sent for got, sent in zip(received, cuts, strict=True))
    assert starts[1] > 0, "a resumed read asks for the rest only"


def test_a_cut_is_resumed_where_it_happened(s3: S3Server, storage: Storage) -> None:
    data = noise(300_000)
    s3.put("lib", "k", data)
    (entry,) = storage.expand("s3://lib/k")
    cuts = (100_000, 50_000)
    for cut in cuts:
        s3.fail("/lib/k", cut=cut)
    assert storage.read(entry) == data
    resumed_after(s3, cuts)
    assert {request.if_match for request in s3.asked("GET", "/k")} == {f'"{entry.version}"'}


def test_an_object_that_changes_meanwhile_is_no_patchwork(s3: S3Server, storage: Storage) -> None:
    s3.put("lib", "k", noise(300_000))
    s3.fail("/lib/k", cut=100_000)
    s3.fail("/lib/k", before=lambda: s3.put("lib", "k", b"x" * 300_000))
    with pytest.raises(PipelineError, match="s3://lib/k changed while it was being read"):
        storage.read(Entry("s3://lib/k"))


def test_an_object_that_changed_since_it_was_listed_is_told_of(
    s3: S3Server, storage: Storage
) -> None:
    s3.put("lib", "k", b"old")
    (entry,) = storage.expand("s3://lib/k")
    s3.put("lib", "k", b"new")
    with pytest.raises(PipelineError, match="s3://lib/k changed"):
        storage.read(entry)


# --- many -----------------------------------------------------------------------------------------


def test_many_come_in_the_order_asked_and_one_failure_stops_none(
    s3: S3Server, storage: Storage
) -> None:
    for number in range(20):
        s3.put("lib", f"k{number}", str(number).encode())
    s3.fail("/lib/k3", 9, status=403, code="AccessDenied")
    asked = [Entry(f"s3://lib/k{number}") for number in (7, 3, 99, 0, 19)]
    answers = list(storage.read_many(asked, concurrency=3))
    assert [entry for entry, _ in answers] == asked
    data = [answer for _, answer in answers]
    assert (data[0], data[3], data[4]) == (b"7", b"0", b"19")
    assert "denied" in str(data[1])
    assert "s3://lib/k99 does not exist" in str(data[2])


def test_many_small_objects_are_under_way_at_once(s3: S3Server, storage: Storage) -> None:
    """How much time that saves, `bench/acquire.py` measures."""
    for number in range(200):
        s3.put("lib", f"k{number:03}", noise(100))
    entries = storage.expand("s3://lib/")
    s3.latency, s3.most_at_once = 0.1, 0
    assert all(answer == noise(100) for _, answer in storage.read_many(entries, concurrency=64))
    assert 30 < s3.most_at_once <= 64


def test_what_is_read_ahead_is_bounded(
    s3: S3Server, storage: Storage, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("pipeline.storage.door.READ_AHEAD", 2500)
    for number in range(9):
        s3.put("lib", f"k{number}", bytes(1000))
    entries = storage.expand("s3://lib/")
    s3.requests.clear()
    answers = storage.read_many(entries)
    next(answers)
    time.sleep(0.3)
    assert len(s3.requests) == 2
    assert len(list(answers)) == 8


def test_reading_many_can_be_left_early(s3: S3Server, storage: Storage) -> None:
    for number in range(50):
        s3.put("lib", f"k{number}", b"x")
    for _entry, _ in storage.read_many(storage.expand("s3://lib/")):
        break
    assert storage.read(Entry("s3://lib/k1")) == b"x"


# --- streams --------------------------------------------------------------------------------------


def test_a_stream_is_resumed_where_it_breaks(s3: S3Server, storage: Storage) -> None:
    data = noise(9_000_000)
    s3.put("lib", "k", data)
    cuts = (5_000_000, 100, 3_000_000)
    for cut in cuts:
        s3.fail("/lib/k", cut=cut)
    with storage.open(Entry("s3://lib/k")) as stream:
        assert stream.read(10) == data[:10]
        assert stream.read() == data[10:]
    resumed_after(s3, cuts)


def test_a_stream_gives_lines(s3: S3Server, storage: Storage) -> None:
    s3.put("lib", "k", b"one\ntwo\nthree")
    with storage.open(Entry("s3://lib/k")) as stream:
        assert list(stream) == [b"one\n", b"two\n", b"three"]


def test_a_stream_can_be_left_early_and_closed_twice(s3: S3Server, storage: Storage) -> None:
    s3.put("lib", "k", noise(20_000_000))
    stream = storage.open(Entry("s3://lib/k"))
    assert len(stream.read(100)) == 100
    stream.close()
    stream.close()
    assert storage.read(Entry("s3://lib/k"))[:3] == noise(3)


def test_a_stream_that_cannot_be_resumed_says_so(s3: S3Server, clock: Clock) -> None:
    s3.put("lib", "k", noise(300_000))
    s3.fail("/lib/k", 99, cut=10)
    with (
        Storage(tries=3, sleep=clock) as storage,
        storage.open(Entry("s3://lib/k")) as stream,
        pytest.raises(PipelineError, match=r"breaks off in the middle \(3 tries\)"),
    ):
        stream.read()


# --- web servers ----------------------------------------------------------------------------------


class WebServer:
    """Serves `files` (path with query -> content), with ranges and ETags or without."""

    def __init__(self, ranges: bool = True, etags: bool = True, endless: int = 0) -> None:
        self.files: dict[str, bytes] = {}
        self.requests: list[tuple[str, str | None]] = []
        self.cuts: list[int] = []
        self.refusals: list[tuple[int, dict[str, str]]] = []
        web = self

        class Handler(BaseHTTPRequestHandler):
            def log_message(self, *_: object) -> None:
                """Keep the output of the tests clean."""

            def do_GET(self) -> None:
                asked = self.headers.get("Range")
                web.requests.append((self.path, asked))
                if web.refusals:
                    status, headers = web.refusals.pop(0)
                    return self.send(status, b"", headers)
                if endless:
                    return self.stream(endless)
                data = web.files.get(unquote(self.path))
                if data is None:
                    return self.send(404, b"", {})
                headers = {"ETag": f'"{hashlib.md5(data).hexdigest()}"'} if etags else {}
                if not (asked and ranges):
                    return self.send(200, data, headers)
                first, _, last = asked.removeprefix("bytes=").partition("-")
                part = data[int(first) : int(last) + 1 if last else None]
                if not part:
                    return self.send(416, b"", headers | {"Content-Range": f"bytes */{len(data)}"})
                span = f"bytes {first}-{int(first) + len(part) - 1}/{len(data)}"
                return self.send(206, part, headers | {"Content-Range": span})

            def do_POST(self) -> None:
                body = self.rfile.read(int(self.headers["Content-Length"]))
                web.files[unquote(self.path)] = body
                self.send(200, b"{}", {})

            def send(self, status: int, data: bytes, headers: dict[str, str]) -> None:
                self.send_response(status)
                for name, value in headers.items():
                    self.send_header(name, value)
                self.send_header("Content-Length", str(len(data)))
                self.end_headers()
                whole = self.headers.get("Range") != "bytes=0-0"
                self.wfile.write(data[: web.cuts.pop(0)] if web.cuts and whole else data)

            def stream(self, size: int) -> None:
                self.send_response(200)
                self.send_header("Content-Length", str(size))
                self.end_headers()
                for _ in range(size // 2**20):
                    self.wfile.write(bytes(2**20))

        self._server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self._thread = threading.Thread(target=self._server.serve_forever, args=(0.02,))
        self.url = f"http://127.0.0.1:{self._server.server_port}"

    def __enter__(self) -> "WebServer":
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._server.shutdown()
        self._server.server_close()
        self._thread.join()


@pytest.mark.parametrize("etags", [True, False])
@pytest.mark.parametrize("ranges", [True, False])
def test_a_web_file_is_whole_although_the_connection_breaks(
    storage: Storage, ranges: bool, etags: bool
) -> None:
    data = noise(200_000)
    with WebServer(ranges, etags) as web:
        web.files["/a b.txt?id=1"] = data
        (entry,) = storage.expand(f"{web.url}/a%20b.txt?id=1")
        assert (entry.name, entry.size) == ("a b.txt", 200_000)
        web.cuts = [70_000]
        assert storage.read(entry) == data
        assert [asked for _, asked in web.requests] == ["bytes=0-0", None, "bytes=70000-"]


def test_an_empty_web_file_is_empty(storage: Storage) -> None:
    with WebServer() as web:
        web.files["/e.txt"] = b""
        (entry,) = storage.expand(f"{web.url}/e.txt")
        assert entry.size == 0
        assert storage.read(entry) == b""


def test_braces_name_web_files_and_stars_do_not(storage: Storage) -> None:
    with WebServer() as web:
        web.files = {"/1.txt": b"a", "/2.txt": b"b"}
        found = storage.expand(web.url + "/{1..2}.txt")
        assert sorted(path for path, _ in web.requests) == ["/1.txt", "/2.txt"]
        assert [data for _, data in storage.read_many(found)] == [b"a", b"b"]
        with pytest.raises(UsageError, match="has no list of its files"):
            storage.expand(web.url + "/*.txt")


def test_a_web_server_may_ask_for_time(storage: Storage, clock: Clock) -> None:
    with WebServer() as web:
        web.files["/1"] = b"a"
        web.refusals = [(429, {"Retry-After": "7"}), (500, {})]
        storage.expand(web.url + "/1")
    assert clock.waits == [7.0, 2.0]


def test_secrets_in_an_address_are_used_and_never_shown(storage: Storage) -> None:
    with WebServer() as web:
        web.refusals = [(403, {})]
        address = web.url.replace("//", "//ada:hidden1@") + "/x?X-Amz-Signature=hidden2&id=5"
        error = error_of(storage, address)
    assert "***@127.0.0.1" in error.message
    assert "id=5" in error.message
    assert "hidden" not in str(error)


def test_a_stream_of_any_size_takes_little_memory(storage: Storage) -> None:
    size = 256 * 2**20
    with WebServer(endless=size) as web:
        tracemalloc.start()
        try:
            read = 0
            with storage.open(Entry(f"{web.url}/x", size)) as stream:
                while data := stream.read(2**20):
                    read += len(data)
            peak = tracemalloc.get_traced_memory()[1]
        finally:
            tracemalloc.stop()
    assert read == size
    assert peak < 48 * 2**20


# --- the cache ------------------------------------------------------------------------------------


def test_what_is_in_the_cache_takes_no_request(s3: S3Server, tmp_path: Path, clock: Clock) -> None:
    s3.put("lib", "k", b"text")
    with Storage(cache=tmp_path / "cache", sleep=clock) as storage:
        entries = storage.expand("s3://lib/k")
        assert storage.read(entries[0]) == b"text"
        s3.requests.clear()
        assert storage.read(entries[0]) == b"text"
        assert list(storage.read_many(entries)) == [(entries[0], b"text")]
        assert storage.local_copy(entries[0]).read_bytes() == b"text"
        with storage.open(entries[0]) as stream:
            assert stream.read() == b"text"
    assert s3.requests == []


def test_a_new_version_takes_the_place_of_the_old(s3: S3Server, tmp_path: Path) -> None:
    with Storage(cache=tmp_path / "cache") as storage:
        for text in (b"old", b"new"):
            s3.put("lib", "k", text)
            assert storage.read(storage.expand("s3://lib/k")[0]) == text
    assert [path.read_bytes() for path in (tmp_path / "cache").rglob("*-*")] == [b"new"]


def test_a_damaged_copy_is_fetched_again(s3: S3Server, tmp_path: Path) -> None:
    s3.put("lib", "k", b"text")
    with Storage(cache=tmp_path / "cache") as storage:
        (entry,) = storage.expand("s3://lib/k")
        storage.local_copy(entry).write_bytes(b"tex!")
        assert storage.local_copy(entry).read_bytes() == b"text"
        storage.local_copy(entry).write_bytes(b"te")
        assert storage.read(entry) == b"text"


def test_what_is_too_large_for_the_cache_is_copied_until_the_end(
    s3: S3Server, tmp_path: Path
) -> None:
    s3.put("lib", "k", bytes(2000))
    with Storage(cache=tmp_path / "cache", cache_bytes=1000) as storage:
        path = storage.local_copy(storage.expand("s3://lib/k")[0])
        assert path.read_bytes() == bytes(2000)
        assert not list(tmp_path.rglob("*-*"))
    assert not path.exists()


# --- local files, writing -------------------------------------------------------------------------


def test_local_files_are_found_as_remote_ones_are(storage: Storage, tmp_path: Path) -> None:
    for name in ["b.txt", "a/c.TXT", ".git/x.txt", "a/.b.txt", "n.pdf", "{1..2}[x].txt", "p/1.md"]:
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_text(name)

    def found(pattern: str, *suffixes: str) -> list[str]:
        entries = storage.expand(f"{tmp_path}/{pattern}", suffixes or None)
        return [Path(entry.url).relative_to(tmp_path).as_posix() for entry in entries]

    assert found("", ".txt") == ["a/c.TXT", "b.txt", "{1..2}[x].txt"]
    assert found("{1..2}[x].txt") == ["{1..2}[x].txt"]
    assert found("*.txt") == ["b.txt", "{1..2}[x].txt"]
    assert found("**/*.txt") == ["b.txt", "{1..2}[x].txt"]
    assert found("{a,p}") == ["a/c.TXT", "p/1.md"]
    assert found("p/{1..1}.md") == ["p/1.md"]
    assert found(".git/*") == [".git/x.txt"]
    (entry,) = storage.expand((tmp_path / "p" / "1.md").as_uri())
    assert storage.read(entry) == b"p/1.md"
    assert storage.local_copy(entry) == tmp_path / "p" / "1.md"


def test_a_home_directory_is_known(
    storage: Storage, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "a.txt").write_text("a")
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.setenv("USERPROFILE", str(tmp_path))
    assert urls(storage.expand("~/a.txt")) == [str(tmp_path / "a.txt")]


@pytest.mark.parametrize("pattern", ["none", "none/*", "empty", "*.none", "empty/**"])
def test_nothing_there_is_an_error(storage: Storage, tmp_path: Path, pattern: str) -> None:
    (tmp_path / "empty").mkdir()
    with pytest.raises(PipelineError, match=r"does not exist|holds no file"):
        storage.expand(f"{tmp_path}/{pattern}")


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="no pipes with names on this system")
def test_a_pipe_is_not_waited_for(storage: Storage, tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe.txt")
    for pattern in (tmp_path, tmp_path / "pipe.txt"):
        with pytest.raises(PipelineError):
            storage.expand(str(pattern))


def test_a_local_file_that_changed_is_told_of(storage: Storage, tmp_path: Path) -> None:
    path = tmp_path / "a"
    path.write_text("old")
    (entry,) = storage.expand(str(path))
    path.write_text("newer")
    for use in (storage.read, storage.open, storage.local_copy):
        with pytest.raises(PipelineError, match="changed"):
            use(entry)
    path.unlink()
    ((_, answer),) = storage.read_many([entry])
    assert "does not exist" in str(answer)


@pytest.mark.usefixtures("s3_keys")
def test_what_is_written_is_there(s3: S3Server, storage: Storage, tmp_path: Path) -> None:
    s3.put("lib", "other", b"")
    for url in ("s3://lib/d/new ü.json", f"{tmp_path}/d/new.json"):
        assert not storage.exists(url)
        storage.write(url, b"[]")
        assert storage.exists(url)
        assert storage.read(storage.expand(url)[0]) == b"[]"
    assert s3.get("lib", "d/new ü.json") == b"[]"
    assert not storage.exists(f"{tmp_path}/d")
    with pytest.raises(UsageError, match="cannot be written"):
        storage.write("https://example.com/x", b"")


def test_a_closed_storage_can_be_used_again(s3: S3Server, storage: Storage) -> None:
    s3.put("lib", "k", b"text")
    for _ in range(2):
        assert storage.read(Entry("s3://lib/k")) == b"text"
        storage.close()


# --- other stores ---------------------------------------------------------------------------------


def test_google_storage_is_listed_read_and_written(
    storage: Storage, monkeypatch: pytest.MonkeyPatch
) -> None:
    with WebServer(etags=False) as web:
        monkeypatch.setenv("STORAGE_EMULATOR_HOST", web.url)
        item = b'{"name": "d/a b.txt", "size": "4", "generation": "17"}'
        listing = "/storage/v1/b/b/o?prefix=d/&maxResults=1000"
        web.files = {
            listing: b'{"items": [' + item + b'], "nextPageToken": "more"}',
            f"{listing}&pageToken=more": b'{"items": [{"name": "d/.hidden", "size": "1"}]}',
            "/storage/v1/b/b/o/d/a b.txt": item,
            "/download/storage/v1/b/b/o/d/a b.txt?alt=media&ifGenerationMatch=17": b"text",
        }
        listed = storage.expand("gs://b/d/")
        assert listed == storage.expand("gs://b/d/a b.txt") == [Entry("gs://b/d/a b.txt", 4, "17")]
        web.cuts = [2]
        assert storage.read(listed[0]) == b"text"
        assert web.requests[-1][1] == "bytes=2-"
        assert not storage.exists("gs://b/none")
        storage.write("gs://b/new.json", b"[]")
        assert web.files["/upload/storage/v1/b/b/o?uploadType=media&name=new.json"] == b"[]"


def test_the_hub_is_listed_and_read_at_a_revision(tmp_path: Path) -> None:
    """In a process of its own: huggingface_hub reads HF_ENDPOINT when it is imported."""
    data = noise(100_000)
    with HubServer() as hub:
        hub.repos["dataset", "ada/books"] = Repo(
            False,
            {"main": {"d/a.txt": (data, False), "d/b.txt": (b"b", False), "c.md": (b"c", False)}},
        )
        hub.cut("resolve/main/d/a.txt")
        code = (
            "import sys, hashlib\n"
            "from pipeline.storage import Storage\n"
            "with Storage(sleep=lambda seconds: None) as storage:\n"
            "    found = storage.expand('hf://datasets/ada/books@main/**/*.txt')\n"
            "    print([entry.url for entry in found])\n"
            "    print([entry.url for entry in storage.expand('hf://datasets/ada/books')])\n"
            "    print(storage.expand('hf://datasets/ada/books/d/b.txt')[0].size)\n"
            "    print([hashlib.md5(data).hexdigest() for _, data in storage.read_many(found)])\n"
            "    print(storage.exists('hf://datasets/ada/books/none'))\n"
            "    try: storage.expand('hf://datasets/ada/none')\n"
            "    except Exception as error: print(type(error).__name__, error)\n"
        )
        environment = os.environ | {
            "HF_ENDPOINT": hub.url,
            "HF_TOKEN": hub.token,
            "HF_HOME": str(tmp_path),
        }
        root = Path(__file__).parents[1]
        result = subprocess.run(
            [sys.executable, "-c", code],
            env=environment, cwd=root, capture_output=True, text=True, timeout=100,
        )  # fmt: skip
    assert result.stderr == ""
    lines = result.stdout.splitlines()
    base = "hf://datasets/ada/books"
    assert lines[0] == str([f"{base}@main/d/a.txt", f"{base}@main/d/b.txt"])
    assert lines[1] == str([f"{base}/c.md", f"{base}/d/a.txt", f"{base}/d/b.txt"])
    assert lines[2] == "1"
    assert lines[3] == str([hashlib.md5(data).hexdigest(), hashlib.md5(b"b").hexdigest()])
    assert lines[4] == "False"
    assert lines[5] == "Trouble hf://datasets/ada/none does not exist. Check the name."

"""Folders over SSH: a real SFTP server on loopback, keys that are known, waits that end."""

import logging
import socket
import sys
from collections.abc import Iterator
from importlib import import_module
from pathlib import Path
from urllib.parse import quote

import paramiko  # type: ignore[import-untyped]
import pytest

from pipeline.errors import UsageError
from pipeline.storage.writing import Digests, RemoteFolder, Trouble, remote_folder
from tests.sftp_server import PASSWORD, USER, SftpServer


@pytest.fixture
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("HOME", str(tmp_path / "home"))
    monkeypatch.delenv("SSH_AUTH_SOCK", raising=False)
    return tmp_path / "home"


@pytest.fixture
def server(home: Path, tmp_path: Path) -> Iterator[SftpServer]:
    with SftpServer(tmp_path / "far", home) as running:
        yield running


@pytest.fixture
def folder(server: SftpServer) -> Iterator[RemoteFolder]:
    found = remote_folder(server.url, timeout=20)
    yield found
    found.close()


def test_what_is_put_is_listed_held_read_and_deleted_with_its_folder(
    folder: RemoteFolder, server: SftpServer, tmp_path: Path
) -> None:
    file = tmp_path / "model.safetensors"
    file.write_bytes(b"weights " * 60_000)
    assert folder.sizes() == {} and folder.size("a/x.json") is None
    folder.put({"a/model.safetensors": file, "a/x.json": b"{}"})
    folder.put({"b/empty.json": b""})
    size = file.stat().st_size
    assert folder.sizes() == {"a/model.safetensors": size, "a/x.json": 2, "b/empty.json": 0}
    assert folder.sizes("a") == {"a/model.safetensors": size, "a/x.json": 2}
    assert folder.holds("a/model.safetensors", Digests.of(file))
    assert folder.read("a/x.json", 10) == b"{}" and folder.read("b/empty.json", 10) == b""
    folder.download("a/model.safetensors", tmp_path / "back", size)
    assert (tmp_path / "back").read_bytes() == file.read_bytes()
    with pytest.raises(Trouble, match="does not exist"):
        folder.read("a/none", 10)
    with pytest.raises(Trouble):  # it is sent
        folder.copy("a/x.json", "c/x.json", 2)
    folder.put({"a/x.json": b"other"})
    assert folder.read("a/x.json", 10) == b"other"
    folder.delete(["a/model.safetensors", "a/x.json", "a/none"])
    assert folder.sizes() == {"b/empty.json": 0}
    assert [path.name for path in (server.root / "runs").iterdir()] == ["b"]
    (server.root / "runs" / "b" / "link").symlink_to("/etc/passwd")
    assert folder.sizes() == {"b/empty.json": 0}, "a link is no file of ours"
    assert len(server._transports) == 1, "all over one connection"


@pytest.mark.parametrize("renames", [True, False])
def test_a_small_file_is_there_whole_or_as_it_was(
    renames: bool, folder: RemoteFolder, server: SftpServer
) -> None:
    server.renames = renames
    folder.put({"x.json": b"before"})
    server.cut(after=40_000)
    with pytest.raises(Trouble) as caught:
        folder.put({"x.json": b"after" * 50_000})
    assert caught.value.passes
    assert folder.read("x.json", 10) == b"before", "and the connection is a new one"
    folder.put({"x.json": b"after"})
    assert folder.read("x.json", 10) == b"after"
    assert "x.json" not in server.writes


def test_a_large_file_that_broke_off_is_no_whole_one_and_is_sent_again(
    folder: RemoteFolder, server: SftpServer, tmp_path: Path
) -> None:
    file = tmp_path / "large.bin"
    file.write_bytes(b"0123456789abcdef" * 20_000)
    digests = Digests.of(file)
    server.cut(after=100_000)
    with pytest.raises(Trouble):
        folder.put({"large.bin": file})
    assert not folder.holds("large.bin", digests)
    folder.put({"large.bin": file})
    server.cut(after=100_000)
    with pytest.raises(Trouble) as caught:
        folder.download("large.bin", tmp_path / "back", digests.size)
    assert caught.value.passes
    assert folder.holds("large.bin", digests)


def test_a_listing_that_breaks_off_is_an_error_and_not_an_empty_folder(
    folder: RemoteFolder, server: SftpServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder.put({"a/x.json": b"{}"})
    monkeypatch.setattr(paramiko.SFTPClient, "listdir_iter", refuse)
    with pytest.raises(Trouble):
        folder.sizes()


def refuse(*_: object) -> None:
    raise OSError("Socket is closed")


def test_a_server_that_never_answers_is_waited_for_so_long_only(server: SftpServer) -> None:
    folder = remote_folder(server.url, timeout=0.5)
    folder.put({"x.json": b"1"})
    server.silent.set()
    with pytest.raises(Trouble, match=r"no answer in 0\.5 s") as caught:
        folder.size("x.json")
    assert caught.value.passes
    server.silent.clear()
    assert folder.read("x.json", 10) == b"1"
    folder.close()
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    with pytest.raises(Trouble, match="cannot be reached") as gone:
        remote_folder(f"sftp://127.0.0.1:{port}/runs").size("x.json")
    assert gone.value.passes


def test_a_host_that_is_not_known_and_one_with_another_key_are_refused(
    server: SftpServer, home: Path, caplog: pytest.LogCaptureFixture
) -> None:
    known = home / ".ssh" / "known_hosts"
    before = known.read_text()
    server.know()
    folder = remote_folder(server.url, timeout=20)
    with pytest.raises(Trouble, match=r"is not in ~/\.ssh/known_hosts") as caught:
        folder.sizes()
    assert not caught.value.passes and known.read_text() == "", "nor was it added"
    server.know(paramiko.ECDSAKey.generate())
    with pytest.raises(Trouble, match="has another key than the one in") as caught:
        folder.sizes()
    assert not caught.value.passes
    known.write_text(before)
    assert folder.sizes() == {}
    folder.close()


def test_a_password_is_taken_and_never_told(
    server: SftpServer, home: Path, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.DEBUG)
    (home / ".ssh" / "id_ecdsa").unlink()
    place = server.url.rpartition("@")[2]
    right, wrong = quote(PASSWORD, safe=""), quote(f"{PASSWORD}x", safe="")
    folder = remote_folder(f"sftp://{USER}:{right}@{place}", timeout=20)
    assert folder.sizes() == {} and folder.shown == f"sftp://***@{place}"
    folder.close()
    for url in (f"sftp://{USER}:{wrong}@{place}", server.url):
        refused = remote_folder(url, timeout=20)
        with pytest.raises(Trouble, match="is denied") as caught:
            refused.sizes()
        assert caught.value.denied and not caught.value.passes
        refused.close()
        assert not any(word in str(caught.value) for word in (PASSWORD, right, wrong, USER))
    assert not any(word in caplog.text for word in (PASSWORD, right, wrong))


@pytest.mark.parametrize(
    "url",
    [
        f"sftp://{USER}:{PASSWORD}@host/runs",  # a slash and an @ in it that were not encoded
        f"ssh://{USER}:secret@host:port/runs",
        f"sftp://{USER}:secret@host",
        f"sftp://{USER}:secret@host/",
        f"sftp://{USER}:secret@host/~/runs",
        "sftp:///runs",
    ],
)
def test_what_is_no_address_is_refused_without_repeating_a_password(url: str) -> None:
    with pytest.raises(UsageError, match="is no address of a folder") as caught:
        remote_folder(url)
    assert not any(word in str(caught.value) for word in ("secret", PASSWORD, "p/ss", "ss@word"))


def test_ssh_is_the_same_and_without_paramiko_it_is_said_what_to_install(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    assert remote_folder("ssh://ada@host/runs/").shown == "sftp://***@host/runs"
    monkeypatch.delitem(sys.modules, "fsspec.implementations.sftp", raising=False)
    monkeypatch.setitem(sys.modules, "paramiko", None)
    monkeypatch.delitem(import_module("fsspec.registry")._registry, "sftp", raising=False)
    with pytest.raises(UsageError, match="needs the package paramiko, which is not inst") as caught:
        remote_folder("sftp://ada:secret@host/runs")
    assert caught.value.hint == "Install it: pip install paramiko"
    assert "secret" not in str(caught.value)

"""Folders to write to: names stay below them, no request waits for ever, the Hub in one commit."""

import threading
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from pipeline.errors import UsageError
from pipeline.storage.digests import PART
from pipeline.storage.writing import (
    Digests,
    RemoteFolder,
    TooLarge,
    Trouble,
    backoff,
    persist,
    remote_folder,
)
from tests.hub_server import TOKEN, HubServer
from tests.lying_remote import SECRET, lying
from tests.s3_server import S3Server


@pytest.fixture
def hub(monkeypatch: pytest.MonkeyPatch) -> Iterator[HubServer]:
    with HubServer() as server:
        monkeypatch.setenv("HF_ENDPOINT", server.url)
        monkeypatch.setenv("HF_TOKEN", TOKEN)
        monkeypatch.setattr("huggingface_hub.constants.HF_HUB_DISABLE_XET", True)
        yield server


@pytest.fixture(params=["folder", "s3", "hub", "memory"])
def folder(request: pytest.FixtureRequest, tmp_path: Path) -> RemoteFolder:
    if request.param == "folder":
        return remote_folder(str(tmp_path / "far" / "away"))
    if request.param == "hub":
        request.getfixturevalue("hub")
        return remote_folder("hf://ada/model/runs/one")
    if request.param == "memory":
        return remote_folder(f"memory://{tmp_path.name}/x")
    server: S3Server = request.getfixturevalue("s3")
    request.getfixturevalue("s3_keys")
    server.put("bucket", "runs/onerous/other", b"a name that begins alike")
    return remote_folder("s3://bucket/runs/one")


def test_what_is_put_is_listed_held_read_copied_and_deleted(
    folder: RemoteFolder, tmp_path: Path
) -> None:
    file = tmp_path / "model.safetensors"
    file.write_bytes(b"weights " * 1000)
    assert folder.sizes() == {} and folder.size("a/x.json") is None
    folder.put({"a/model.safetensors": file, "a/x.json": b"{}"})
    folder.put({"b/empty.json": b""})
    assert folder.sizes() == {"a/model.safetensors": 8000, "a/x.json": 2, "b/empty.json": 0}
    assert folder.sizes("a") == {"a/model.safetensors": 8000, "a/x.json": 2}
    digests = Digests.of(file)
    assert folder.holds("a/model.safetensors", digests)
    assert folder.sha256("a/model.safetensors", 8000) == digests.sha256
    assert folder.read("a/x.json", 10) == b"{}" and folder.read("b/empty.json", 10) == b""
    folder.download("a/model.safetensors", tmp_path / "back", 8000)
    assert (tmp_path / "back").read_bytes() == file.read_bytes()
    with pytest.raises(TooLarge):
        folder.read("a/model.safetensors", 7999)
    with pytest.raises(Trouble, match="does not exist"):
        folder.read("a/none", 10)
    folder.put({"a/x.json": b"other"})
    assert folder.read("a/x.json", 10) == b"other"
    file.write_bytes(b"weights." * 1000)
    assert not folder.holds("a/model.safetensors", Digests.of(file))
    folder.delete(["a/model.safetensors", "a/x.json", "a/none"])
    assert folder.sizes() == {"b/empty.json": 0}
    folder.close()


def test_the_hub_takes_files_in_one_commit_and_the_repository_is_private(
    hub: HubServer, tmp_path: Path
) -> None:
    folder = remote_folder("hf://ada/model/runs/one")
    assert folder.groups(["a", "b"]) == [["a", "b"]]
    folder.put({"a/one.json": b"1", "a/two.json": b"2"})
    files = hub.files("model", "ada/model")
    assert files["runs/one/a/one.json"] == b"1" and files["runs/one/a/two.json"] == b"2"
    repo = hub.repos["model", "ada/model"]
    assert repo.private and len(repo.commits) == 1
    folder.delete(["a/one.json", "a/two.json"])
    assert len(repo.commits) == 2


def test_an_upload_in_parts_is_proven_by_its_etag(
    s3: S3Server, s3_keys: None, tmp_path: Path
) -> None:
    s3.put("bucket", "x", b"")
    file = tmp_path / "large.bin"
    file.write_bytes(b"0123456789abcdef" * (2 * PART // 16) + b"and a rest")
    folder = remote_folder("s3://bucket/run")
    folder.put({"large.bin": file})
    assert folder.holds("large.bin", Digests.of(file))
    assert not s3.asked("GET", "large.bin"), "nothing was read back"
    assert s3.asked("PUT", "large.bin")[0].query.startswith("partNumber")
    folder.copy("large.bin", "copy.bin", file.stat().st_size)
    assert folder.size("copy.bin") == file.stat().st_size
    folder.close()


@pytest.mark.parametrize(
    "name", ["../x", "a/../../x", "/etc/passwd", "", "a//b", ".hidden", "a/.b", "a\\b", "a\0", "~"]
)
def test_no_name_leads_out_of_the_folder(name: str, tmp_path: Path) -> None:
    folder = remote_folder(str(tmp_path / "in"))
    (tmp_path / "x").write_text("outside")
    for question in (
        lambda: folder.put({name: b"x"}),
        lambda: folder.read(name, 10),
        lambda: folder.delete([name]),
        lambda: folder.size(name),
        lambda: folder.copy(name, "a", 1),
        lambda: folder.copy("a", name, 1),
        lambda: folder.download(name, tmp_path / "y", 1),
    ):
        with pytest.raises(Trouble, match="is no name of a file below"):
            question()
    assert (tmp_path / "x").read_text() == "outside" and not (tmp_path / "in").exists()


def test_a_request_has_a_deadline_and_those_that_hang_are_not_piled_up() -> None:
    with lying() as remote:
        folder = remote_folder("lying://bucket/run", timeout=0.05)
        folder.put({"a": b"1"})
        remote.blocks = lambda method, path: not remote.gate.is_set()
        before = threading.active_count()
        for _ in range(20):
            began = time.perf_counter()
            with pytest.raises(Trouble) as caught:
                folder.read("a", 10)
            assert time.perf_counter() - began < 1 and caught.value.passes
        assert threading.active_count() - before <= 8
        assert "8 earlier requests have had no answer yet" in str(caught.value)
        remote.gate.set()
        time.sleep(0.1)
        assert folder.read("a", 10) == b"1"


def test_nothing_that_a_store_says_is_repeated() -> None:
    with lying(fail=1.0) as remote:
        folder = remote_folder("lying://user:pass@bucket/run")
        for error in (OSError(5, SECRET), PermissionError(SECRET), RuntimeError(SECRET)):
            remote.error = lambda error=error: error  # type: ignore[misc]
            with pytest.raises(Trouble) as caught:
                folder.sizes()
            assert SECRET not in str(caught.value) and "pass@" not in str(caught.value)
            assert caught.value.passes == (not isinstance(error, PermissionError))


def test_waits_grow_and_end_and_what_will_not_pass_is_not_tried_again() -> None:
    assert [backoff(n, 0.5) for n in (1, 2, 3, 4)] == [1, 2, 4, 8]
    assert backoff(1, 0.0) == 0.5 and backoff(1000, 1.0) == 450
    tries: list[int] = []

    def ask(passes: bool) -> None:
        tries.append(1)
        raise Trouble("no", passes=passes)

    waits: list[float] = []
    for passes, count in ((True, 4), (False, 1)):
        tries.clear()
        with pytest.raises(Trouble):
            persist(lambda: ask(passes), tries=4, sleep=waits.append, jitter=lambda: 0.5)  # noqa: B023
        assert len(tries) == count
    assert waits == [1, 2, 4]


@pytest.mark.parametrize(
    "url",
    ["https://example.org/x", "nothing://x", "s3://key:secret@bucket/x", "simplecache::s3://x"],
)
def test_an_address_that_cannot_be_written_to_is_refused_at_once(url: str) -> None:
    with pytest.raises(UsageError) as caught:
        remote_folder(url)
    assert "secret" not in str(caught.value)

"""One address, one run, and what it grew out of: a grown series goes on where it was."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from pipeline.errors import UsageError
from pipeline.training import checkpoints
from pipeline.training.checkpoints import Checkpoint
from pipeline.training.identity import compare
from pipeline.training.remote_copies import RemoteCopies
from pipeline.training.remote_fetch import check
from pipeline.training.remote_lineage import FOLLOWS, ancestors, descends
from pipeline.training.remote_run import RemoteRun
from tests.s3_server import S3Server

ONE, TWO, OTHER = (f"{number:016x}" for number in (1, 2, 3))  # ids of runs
A, B, CHANGED = ["s/1", 6, "aa"], ["s/2", 4, "bb"], ["s/1", 6, "cc"]


def identity(*segments: list[Any], **more: Any) -> dict[str, Any]:
    return {"segments": list(segments), "learning_rate": 0.1, **more}


def make(root: Path, run: str, step: int, now: dict[str, Any], read: int = 6) -> Checkpoint:
    """A checkpoint of a run of so many sequences by then."""

    def files(path: Path) -> None:
        (path / "model.safetensors").write_bytes(f"{run} {step}".encode() * 5000)
        progress = {"step": step, "sequences": read}
        (path / "state.json").write_text(json.dumps({"progress": progress}))

    return checkpoints.write(root / run, step, files, {"run": run, "identity": now, "steps": step})


def copies(url: str, run: str, now: dict[str, Any] | None = None) -> RemoteCopies:
    """Those of a run that goes on, where `now` is given, with what has only grown."""
    follows = None if now is None else lambda other: compare(other, now).harmless
    return RemoteCopies(url, run=run, follows=follows, sleep=lambda _: None)


def sent(url: str, run: str, *found: Checkpoint) -> None:
    with copies(url, run) as sending:
        for one in found:
            sending.offer(one)
            assert sending.finish(30).ok


def there(url: str) -> list[Path]:
    return sorted(Path(url).rglob("*"))


@pytest.fixture
def url(tmp_path: Path) -> str:
    return str(tmp_path / "copies")


@pytest.fixture
def s3_url(s3: S3Server, s3_keys: None) -> str:
    s3.put("bucket", "other/file", b"of somebody else")
    return "s3://bucket/runs/horror"


def test_a_grown_series_goes_on_at_the_address_of_the_run_before_it(
    s3: S3Server, s3_url: str, tmp_path: Path
) -> None:
    first = make(tmp_path / "a", ONE, 3, identity(A))
    sent(s3_url, ONE, first)
    with pytest.raises(UsageError, match=f"another run .{ONE}, and this is {TWO}"):
        copies(s3_url, TWO).__enter__()
    now = identity(A, B)
    before = len(s3.asked("GET", "model.safetensors"))
    with copies(s3_url, TWO, now) as sending:
        assert sending.newer(tmp_path / "a" / TWO) == first
        assert len(s3.asked("GET", "model.safetensors")) == before, "it is here already"
        sending.offer(make(tmp_path / "a", TWO, 5, now, read=10))
        assert sending.finish(30).ok
    with copies(s3_url, TWO) as again:  # as nothing differs from the newest any more
        found = again.newer(tmp_path / "b" / TWO)
        assert found is not None and found.path == tmp_path / "b" / TWO / "step-00000005"
        remote = RemoteRun(again._folder)
        remote.look()
        older = [one for one in remote.complete() if one.step == 3]
        assert len(older) == 1
        check(remote, older[0])
    with pytest.raises(UsageError, match=f"another run .{TWO}, and this is {ONE}"):
        copies(s3_url, ONE, identity(A)).__enter__()


def test_another_machine_gets_the_checkpoint_into_the_folder_of_its_own_run(
    url: str, tmp_path: Path
) -> None:
    first = make(tmp_path / "a", ONE, 3, identity(A))
    sent(url, ONE, first)
    with copies(url, TWO, identity(A, B)) as sending:
        found = sending.newer(tmp_path / "b" / TWO)
    assert found is not None and found.path == tmp_path / "b" / ONE / first.name
    assert not (tmp_path / "b" / TWO).exists()


def test_a_later_one_here_that_never_arrived_is_gone_on_with_and_sent(
    url: str, tmp_path: Path
) -> None:
    sent(url, ONE, make(tmp_path, ONE, 2, identity(A), read=4))
    later = make(tmp_path, ONE, 3, identity(A))
    with copies(url, TWO, identity(A, B)) as sending:
        assert sending.newer(tmp_path / TWO) == later
        assert sending.finish(30).ok and sending.steps() == {2, 3}


@pytest.mark.parametrize(
    ("now", "read"),
    [
        (identity(CHANGED, B), 6),  # another text
        (identity(B, A), 6),  # what is new comes first
        (identity(A, B, learning_rate=0.2), 6),  # another setting
        (identity(A, B), 7),  # in its second pass already
    ],
)
def test_a_run_that_is_more_than_a_grown_one_is_refused_and_nothing_there_changes(
    now: dict[str, Any], read: int, url: str, tmp_path: Path
) -> None:
    sent(url, ONE, make(tmp_path, ONE, 3, identity(A), read))
    before = there(url)
    with pytest.raises(UsageError, match="another run"):
        copies(url, OTHER, now).__enter__()
    assert there(url) == before, "nor is it the owner now"
    sent(url, ONE, make(tmp_path, ONE, 4, identity(A)))


@pytest.mark.parametrize("state", [b"", b"[]", b"{" * 100_000])
def test_a_copy_that_does_not_say_how_far_it_was_is_not_gone_on_with(
    state: bytes, url: str, tmp_path: Path
) -> None:
    found = make(tmp_path, ONE, 3, identity(A))
    sent(url, ONE, _with_state(tmp_path / "x", found, lambda path: path.write_bytes(state)))
    with pytest.raises(UsageError, match="another run"):
        copies(url, TWO, identity(A, B)).__enter__()


@pytest.mark.parametrize("told", [[], None, "a run", {"data": []}])
def test_a_copy_that_says_anything_as_its_run_is_not_gone_on_with(
    told: object, url: str, tmp_path: Path
) -> None:
    found = make(tmp_path, ONE, 3, identity(A))
    marker = found.path / checkpoints.COMPLETE
    said = json.loads(marker.read_bytes())
    said["about"]["identity"] = told
    marker.write_text(json.dumps(said))
    sent(url, ONE, found)
    with pytest.raises(UsageError, match="another run"):
        copies(url, TWO, identity(A, B)).__enter__()


def _with_state(root: Path, found: Checkpoint, change: Callable[[Path], object]) -> Checkpoint:
    return checkpoints.write(
        root / ONE, found.step, lambda path: change(path / "state.json"), found.about
    )


def test_a_run_that_was_accepted_and_sent_nothing_has_not_taken_the_address(
    url: str, tmp_path: Path
) -> None:
    sent(url, ONE, make(tmp_path, ONE, 3, identity(A)))
    with copies(url, TWO, identity(A, B)):
        pass
    with pytest.raises(UsageError, match=f"another run .{ONE}, and this is {TWO}"):
        copies(url, TWO).__enter__()
    sent(url, ONE, make(tmp_path, ONE, 4, identity(A)))


def test_by_hand_a_run_goes_where_its_own_checkpoints_say_that_it_comes_from(
    tmp_path: Path,
) -> None:
    first = make(tmp_path, ONE, 3, identity(A))
    second = checkpoints.write(
        tmp_path / TWO, 5, lambda path: (path / "x").touch(),
        {"run": TWO, FOLLOWS: ancestors(first, TWO)},
    )  # fmt: skip
    assert ancestors(first, ONE) == {} == ancestors(None, ONE)
    assert ancestors(second, TWO) == {ONE: 3}
    assert ancestors(second, OTHER) == {ONE: 3, TWO: 5}
    assert descends(second)(first) and not descends(first)(second)
    assert not descends(second)(make(tmp_path, ONE, 4, identity(A))), "that is no part of it"

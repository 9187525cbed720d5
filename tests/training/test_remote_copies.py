"""Copies elsewhere: complete ones only, in the background, whatever the remote or a kill does."""

import json
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import pytest

from pipeline.errors import PipelineError, UsageError
from pipeline.training import checkpoints
from pipeline.training.checkpoints import COMPLETE, Checkpoint
from pipeline.training.remote_copies import Outcome, RemoteCopies
from pipeline.training.remote_registry import REGISTRY, read_registry
from tests.hub_server import TOKEN, HubServer
from tests.lying_remote import SECRET, Remote, lying
from tests.s3_server import KEY, S3Server
from tests.s3_server import SECRET as S3_SECRET
from tests.sftp_server import SftpServer

URL = "lying://bucket/run"
S3_URL = "s3://bucket/runs/horror"


def make(folder: Path, step: int, text: str = "") -> Checkpoint:
    """A checkpoint with a file of its own and one that all have."""

    def files(path: Path) -> None:
        (path / "model.safetensors").write_bytes(f"{text} {step} ".encode() * 5000)
        (path / "tokenizer.json").write_bytes(b"the same in all" * 3000)

    return checkpoints.write(folder, step, files, {})


def copies(url: str = URL, **how: Any) -> RemoteCopies:
    """Copies that wait a thousandth of the time."""
    how.setdefault("sleep", lambda seconds: time.sleep(min(seconds, 1) / 1000))
    return RemoteCopies(url, **{"jitter": lambda: 0.5, "timeout": 20.0, **how})


def sent(url: str, *found: Checkpoint, **how: Any) -> Outcome:
    """Send some checkpoints, one after another."""
    with copies(url, **how) as sending:
        for one in found:
            sending.offer(one)
            outcome = sending.finish(30)
    return outcome


def fetched(url: str, folder: Path) -> Checkpoint | None:
    """What another machine, with an empty disk, would start from."""
    with copies(url, by_hand=True) as reading:
        return reading.newer(folder)


def same(one: Path, other: Path) -> bool:
    left, right = ({p.name: p.read_bytes() for p in path.iterdir()} for path in (one, other))
    return left == right


@pytest.fixture
def remote() -> Iterator[Remote]:
    with lying() as there:
        yield there


@pytest.fixture
def bucket(s3: S3Server, s3_keys: None) -> S3Server:
    s3.put("bucket", "other/file", b"of somebody else")
    return s3


@pytest.fixture
def hub(monkeypatch: pytest.MonkeyPatch) -> Iterator[HubServer]:
    with HubServer() as server:
        monkeypatch.setenv("HF_ENDPOINT", server.url)
        monkeypatch.setenv("HF_TOKEN", TOKEN)
        monkeypatch.setattr("huggingface_hub.constants.HF_HUB_DISABLE_XET", True)
        yield server


@pytest.fixture
def far(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[SftpServer]:
    monkeypatch.setenv("HOME", str(tmp_path / "home"))
    with SftpServer(tmp_path / "far", tmp_path / "home") as server:
        yield server


@pytest.fixture(params=["folder", "s3", "hub", "sftp"])
def url(request: pytest.FixtureRequest, tmp_path: Path) -> str:
    if request.param == "hub":
        request.getfixturevalue("hub")
        return "hf://ada/horror/copies"
    if request.param == "folder":
        return (tmp_path / "far away").as_uri().replace("%20", " ")
    if request.param == "sftp":
        return str(request.getfixturevalue("far").url)
    request.getfixturevalue("bucket")
    return S3_URL


def test_what_arrives_is_what_was_sent(url: str, tmp_path: Path) -> None:
    found = make(tmp_path / "a", 120)
    outcome = sent(url, found)
    assert outcome.ok and (outcome.last, outcome.arrived, outcome.count) == (120, 120, 1)
    assert outcome.sent == found.size and not outcome.failures
    other = fetched(url, tmp_path / "b")
    assert other is not None and other.path == tmp_path / "b" / "step-00000120"
    assert same(found.path, other.path)
    assert [entry.name for entry in (tmp_path / "b").iterdir()] == ["step-00000120"]
    assert [entry.name for entry in (tmp_path / "a").iterdir()] == ["step-00000120"]


def test_the_marker_comes_last_and_each_file_is_read_back(remote: Remote, tmp_path: Path) -> None:
    sent(URL, make(tmp_path, 1))
    puts = [path.rpartition("/")[2] for method, path in remote.calls if method == "put"]
    assert puts[1:] == ["model.safetensors", "tokenizer.json", COMPLETE, REGISTRY]
    marker = next(i for i, call in enumerate(remote.calls) if call[1].endswith(COMPLETE))
    read = [path.rpartition("/")[2] for method, path in remote.calls[:marker] if method == "read"]
    assert read == ["model.safetensors", "tokenizer.json"]


def test_s3_s_own_checksums_save_reading_back(bucket: S3Server, tmp_path: Path) -> None:
    sent(S3_URL, make(tmp_path, 1))
    assert len(bucket.asked("HEAD", "model.safetensors")) == 1
    assert not bucket.asked("GET", "model.safetensors")


def test_only_what_changed_goes_over_the_line(bucket: S3Server, tmp_path: Path) -> None:
    first, second = make(tmp_path, 1), make(tmp_path, 2)
    sent(S3_URL, first)
    outcome = sent(S3_URL, second)  # another process: it knows from the registry
    changed = (second.path / "model.safetensors").stat().st_size
    assert outcome.ok and outcome.sent == changed
    key = next(r.path for r in bucket.asked("PUT", "tokenizer.json") if "step-00000002" in r.path)
    assert bucket.get("bucket", key.removeprefix("/bucket/")) == b"the same in all" * 3000


def test_a_remote_that_hangs_holds_up_nobody(remote: Remote, tmp_path: Path) -> None:
    with copies() as sending:
        remote.blocks = lambda method, path: True
        for step in range(1, 20):
            found = make(tmp_path, step)
            began = time.perf_counter()
            sending.offer(found)
            assert time.perf_counter() - began < 0.1
        began = time.perf_counter()
        outcome = sending.finish(0.3)
    assert time.perf_counter() - began < 3
    assert not outcome.ok and outcome.last == 19 and outcome.arrived is None
    assert f"The last checkpoint (step 19) never arrived at {URL}" in str(outcome)


def test_a_request_without_an_answer_is_given_up_and_sent_again(
    remote: Remote, tmp_path: Path
) -> None:
    hung: list[str] = []

    def once(method: str, path: str) -> bool:
        is_first = method == "put" and path.endswith("model.safetensors") and not hung
        hung.extend([path] if is_first else [])
        return is_first

    with copies(timeout=0.2) as sending:
        remote.blocks = once
        sending.offer(make(tmp_path, 1))
        outcome = sending.finish(30)
    assert hung and outcome.ok and outcome.failures == 1


def test_a_failure_is_told_at_once_and_in_the_summary_without_what_the_store_said(
    remote: Remote, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    waits: list[float] = []
    with copies(sleep=waits.append, tries=4) as sending:
        remote.fail = 1.0
        sending.finish(0)
        sending.offer(make(tmp_path, 7))
        outcome = sending.finish(30)
    assert not outcome.ok and outcome.failures == 4
    assert waits == [1.0, 2.0, 4.0], "each wait is twice as long"
    said = " ".join(capfd.readouterr().err.split())
    assert said.count("warning: The checkpoint of step 7 could not be copied") == 1
    assert "cannot be used (OSError)" in said and "cannot be used" in str(outcome)
    assert SECRET not in said + str(outcome)


def test_after_a_failure_the_next_try_sends_what_is_missing(remote: Remote, tmp_path: Path) -> None:
    remote.blocks = lambda method, path: False
    with copies() as sending:
        remote.fail = 0.5
        sending.offer(make(tmp_path, 7))
        outcome = sending.finish(30)
        remote.heal()
        if not outcome.ok:
            sending.offer(make(tmp_path, 7))
            outcome = sending.finish(30)
    assert outcome.ok and outcome.failures > 0
    assert fetched(URL, tmp_path / "b") is not None


def test_refused_credentials_are_a_clear_word_and_no_secret(
    bucket: S3Server, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    with copies(S3_URL) as sending:
        bucket.fail("", times=1000, status=403, code="AccessDenied")
        sending.finish(0)
        sending.offer(make(tmp_path, 1))
        outcome = sending.finish(30)
        said = str(outcome) + capfd.readouterr().err
        assert not outcome.ok and outcome.failures == 1 and f"Access to {S3_URL}" in said
        with pytest.raises(PipelineError, match="denied") as caught, copies(S3_URL):
            pass
    for secret in (KEY, S3_SECRET):
        assert secret not in said + str(caught.value)
    bucket.heal()


def test_one_checkpoint_is_on_its_way_and_the_newest_is_next(
    remote: Remote, tmp_path: Path
) -> None:
    with copies() as sending:
        remote.blocks = lambda method, path: "step-00000001" in path and not remote.gate.is_set()
        for step in (1, 2, 3, 4):
            sending.offer(make(tmp_path, step))
            checkpoints.remove(tmp_path / checkpoints.name_of(step))  # as retention does
            time.sleep(0.05)
        remote.gate.set()
        outcome = sending.finish(30)
    assert outcome.ok and outcome.count == 2, "2 and 3 were superseded by 4"
    assert {step_of(path) for path in remote.objects} - {0} == {1, 4}
    assert list(tmp_path.iterdir()) == [], "the links are gone"


def step_of(path: str) -> int:
    part = path.split("/")[2]
    return int(part.split("-")[1]) if part.startswith("step-") else 0


def test_one_that_the_policy_keeps_arrives_although_a_newer_one_goes_first(
    remote: Remote, tmp_path: Path
) -> None:
    def keep_tens(steps: Sequence[int]) -> list[int]:
        return [step for step in steps[:-1] if step % 10]

    with copies(keep=keep_tens) as sending:
        remote.blocks = lambda method, path: "step-00000009" in path and not remote.gate.is_set()
        for step in (9, 10, 11, 12):
            sending.offer(make(tmp_path, step))
            time.sleep(0.05)
        remote.gate.set()
        outcome = sending.finish(30)
    assert outcome.ok
    assert {step_of(path) for path in remote.objects} - {0} == {10, 12}


def test_retention_deletes_the_marker_first_and_never_the_newest(
    remote: Remote, tmp_path: Path
) -> None:
    with copies(keep=lambda steps: steps) as sending:  # a policy that would delete all
        for step in (1, 2, 3):
            sending.offer(make(tmp_path, step))
            assert sending.finish(30).ok
        sending.delete([3])
        assert sending.finish(30).ok
    assert {step_of(path) for path in remote.objects} - {0} == {3}
    deleted = [path for method, path in remote.calls if method == "delete"]
    assert [path.rpartition("/")[2] for path in deleted[:3]] == [
        COMPLETE, "model.safetensors", "tokenizer.json"
    ]  # fmt: skip
    registry = read_registry(remote.objects["bucket/run/registry.json"])
    assert registry is not None and [one.step for one in registry.checkpoints] == [3]


def test_nothing_good_is_deleted_while_the_newest_is_not_seen_to_be_there(
    remote: Remote, tmp_path: Path
) -> None:
    sent(URL, make(tmp_path, 1))
    with copies(keep=lambda steps: steps[:-1]) as sending:
        remote.lag = 15
        sending.offer(make(tmp_path, 2))
        sending.finish(30)
        assert any(step_of(path) == 1 and path.endswith(COMPLETE) for path in remote.objects)


# --- two machines ---------------------------------------------------------------------------------


def test_two_machines_by_turns(url: str, tmp_path: Path) -> None:
    with copies(url) as a:
        assert a.newer(tmp_path / "a") is None
        a.offer(make(tmp_path / "a", 100, "A"))
        assert a.finish(30).ok
    make(tmp_path / "a", 110, "A")  # A is killed before this one leaves
    with copies(url) as b:
        start = b.newer(tmp_path / "b")
        assert start is not None and start.step == 100 and b.run == a.run
        b.offer(make(tmp_path / "b", 200, "B"))
        assert b.finish(30).ok
    with copies(url) as again:
        start = again.newer(tmp_path / "a")
        assert start is not None and start.step == 200, "B's is newer than A's own 110"
        assert same(start.path, tmp_path / "b" / "step-00000200")
        again.offer(make(tmp_path / "a", 300, "A"))
        assert again.finish(30).ok
    start = fetched(url, tmp_path / "b")
    assert start is not None and start.step == 300


def test_a_machine_that_wakes_up_late_overwrites_nothing(
    url: str, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    with copies(url) as a:
        a.offer(make(tmp_path / "a", 100, "A"))
        assert a.finish(30).ok
        with copies(url) as b:  # A is asleep
            b.offer(make(tmp_path / "b", 120, "B"))
            assert b.finish(30).ok
            a.offer(make(tmp_path / "a", 120, "A"))
            a.offer(make(tmp_path / "a", 130, "A"))
            a.delete([100, 120])
            outcome = a.finish(30)
            b.offer(make(tmp_path / "b", 140, "B"))
            assert b.finish(30).ok, "B goes on"
    assert not outcome.ok and "Another machine continues this run" in str(outcome)
    assert "Another machine continues this run" in " ".join(capfd.readouterr().err.split())
    start = fetched(url, tmp_path / "c")
    assert start is not None and same(start.path, tmp_path / "b" / "step-00000140")
    with copies(url, by_hand=True) as looking:
        assert looking.steps() == {100, 120, 140}


def test_a_machine_that_falls_asleep_in_an_upload_never_writes_the_marker(
    remote: Remote, tmp_path: Path
) -> None:
    with copies() as a:
        remote.blocks = lambda method, path: "step-00000100" in path and not remote.gate.is_set()
        a.offer(make(tmp_path / "a", 100, "A"))
        time.sleep(0.1)
        with copies() as b:
            remote.gate.set()
            assert not a.finish(30).ok
            b.offer(make(tmp_path / "b", 50, "B"))
            assert b.finish(30).ok
    assert not any(step_of(path) == 100 for path in remote.objects), "B cleared up after A"
    start = fetched(URL, tmp_path / "c")
    assert start is not None and start.step == 50


def test_one_address_holds_one_run(remote: Remote, tmp_path: Path) -> None:
    sent(URL, make(tmp_path, 1), run="spring")
    with copies(run="spring") as again:
        assert again.run == "spring"
    with copies() as adopting:
        assert adopting.run == "spring"
    before = dict(remote.objects)
    with pytest.raises(UsageError, match=r"checkpoints of another run \(spring, .* autumn\)"):
        sent(URL, make(tmp_path, 2), run="autumn")
    assert remote.objects == before


def test_a_local_checkpoint_that_never_arrived_is_sent_at_the_next_start(
    remote: Remote, tmp_path: Path
) -> None:
    sent(URL, make(tmp_path, 1))
    make(tmp_path, 2)
    with copies() as sending:
        start = sending.newer(tmp_path)
        outcome = sending.finish(30)
    assert start is not None and start.step == 2
    assert outcome.ok and outcome.arrived == 2


# --- remotes that lie -----------------------------------------------------------------------------

LIES: list[dict[str, Any]] = [
    {"fail": 0.3}, {"drop": 0.3}, {"cut": 0.3}, {"flip": 0.3}, {"length": 0.2}, {"misread": 0.15},
    {"lag": 3}, {"keeps_deleted": 0.5},
    {"fail": 0.1, "drop": 0.1, "cut": 0.1, "flip": 0.1, "length": 0.1, "misread": 0.1, "lag": 1},
]  # fmt: skip


@pytest.mark.parametrize("seed", range(2))
@pytest.mark.parametrize("lies", LIES, ids=lambda lies: "-".join(lies))
def test_whatever_a_remote_does_nothing_false_is_ever_taken(
    lies: dict[str, Any], seed: int, tmp_path: Path
) -> None:
    with lying(seed=seed) as remote:
        originals = {}
        with copies(keep=lambda steps: steps[:-2], tries=30) as sending:
            for name, value in lies.items():
                setattr(remote, name, value)
            for step in (1, 2, 3, 4):
                originals[step] = make(tmp_path / "a", step)
                sending.offer(originals[step])
                outcome = sending.finish(30)
        assert outcome.ok, "a remote that works now and then gets it in the end"
        for name in ("fail", "drop", "cut", "flip", "length", "keeps_deleted"):
            setattr(remote, name, 0.0)
        with copies(by_hand=True, tries=30) as reading:
            start = reading.newer(tmp_path / "b")  # still misread, still late
        assert start is not None and start.step == 4
        assert same(start.path, originals[4].path)


READING_LIES: list[dict[str, Any]] = [
    {"length": 0.25}, {"fail": 0.3}, {"misread": 0.2}, {"lag": 2},
    {"length": 0.1, "fail": 0.1, "misread": 0.1, "lag": 1},
]  # fmt: skip


@pytest.mark.parametrize("lies", READING_LIES, ids=lambda lies: "-".join(lies))
def test_however_a_remote_lies_to_who_reads_the_newest_copy_is_found_and_comes_whole(
    lies: dict[str, Any], tmp_path: Path
) -> None:
    with lying(seed=1) as remote:
        sent(URL, make(tmp_path / "a", 1), make(tmp_path / "a", 2))
        for name, value in lies.items():
            setattr(remote, name, value)
        for path in remote.objects:
            remote.unseen[path] = remote.lag
        for turn in range(5):
            with copies(by_hand=True, tries=30) as reading:
                start = reading.newer(tmp_path / f"b-{turn}")
            assert start is not None and start.step == 2
            assert same(start.path, tmp_path / "a" / start.name)


DELETING_LIES: list[dict[str, Any]] = [
    {"ghosts": 3}, {"keeps_deleted": 0.5}, {"fail": 0.2}, {"length": 0.2},
    {"ghosts": 2, "keeps_deleted": 0.2, "fail": 0.1, "length": 0.1, "lag": 1},
]  # fmt: skip


@pytest.mark.parametrize("lies", DELETING_LIES, ids=lambda lies: "-".join(lies))
def test_however_a_remote_lies_of_deletions_the_newest_stays_and_the_rest_goes_in_the_end(
    lies: dict[str, Any], tmp_path: Path
) -> None:
    with lying(seed=3) as remote, copies(keep=lambda steps: steps[:-2], tries=30) as sending:
        for name, value in lies.items():
            setattr(remote, name, value)
        for step in range(1, 7):
            found = make(tmp_path, step)
            sending.offer(found)
            assert sending.finish(30).ok
            there = {path.rpartition("/")[2] for path in remote.objects if step_of(path) == step}
            assert there == {file.name for file in found.path.iterdir()}
        remote.heal()
        sending.offer(make(tmp_path, 7))
        assert sending.finish(30).ok
        assert {step_of(path) for path in remote.objects} - {0} == {6, 7}


def test_a_remote_that_always_changes_what_it_gets_is_told_so(
    remote: Remote, tmp_path: Path
) -> None:
    with copies() as sending:
        remote.flip = 1.0
        sending.finish(0)
        sending.offer(make(tmp_path, 1))
        outcome = sending.finish(30)
    assert not outcome.ok and "arrived changed" in str(outcome)
    remote.heal()
    assert fetched(URL, tmp_path / "b") is None


def damage(remote: Remote, step: int, name: str, change: Callable[[bytes], bytes | None]) -> None:
    path = next(p for p in remote.objects if step_of(p) == step and p.endswith(name))
    changed = change(remote.objects[path])
    if changed is None:
        del remote.objects[path]
    else:
        remote.objects[path] = changed


@pytest.mark.parametrize(
    ("name", "change"),
    [
        ("model.safetensors", lambda data: None),
        ("model.safetensors", lambda data: data[:-1]),
        ("model.safetensors", lambda data: b"X" + data[1:]),
        (COMPLETE, lambda data: None),
        (COMPLETE, lambda data: b""),
        (COMPLETE, lambda data: data[: len(data) // 2]),
        (COMPLETE, lambda data: b"[" * 1_000_000),
        (COMPLETE, lambda data: b" " * 9_000_000),
        (COMPLETE, lambda data: data.replace(b"tokenizer.json", b"../../escaped!")),
        (COMPLETE, lambda data: data.replace(b'"size": ', b'"size": -')),
        (COMPLETE, lambda data: data.replace(b'"size": ', b'"size": 9')),
        (COMPLETE, lambda data: data.replace(b'"step": 2', b'"step": 3')),
    ],
)
def test_a_copy_that_is_broken_there_is_passed_over_for_the_next_older_one(
    remote: Remote, tmp_path: Path, name: str, change: Callable[[bytes], bytes | None]
) -> None:
    sent(URL, make(tmp_path / "a", 1), make(tmp_path / "a", 2))
    damage(remote, 2, name, change)
    start = fetched(URL, tmp_path / "b")
    assert start is not None and start.step == 1
    assert [entry.name for entry in (tmp_path / "b").iterdir()] == ["step-00000001"]
    assert sorted(entry.name for entry in tmp_path.iterdir()) == ["a", "b"]


def test_a_download_that_fails_is_an_error_and_leaves_nothing(
    remote: Remote, tmp_path: Path
) -> None:
    sent(URL, make(tmp_path / "a", 1))
    with copies(by_hand=True, tries=2) as reading:
        found = reading.newest()
        assert found is not None
        remote.fail = 1.0
        with pytest.raises(PipelineError, match=r"cannot be used"):
            reading.fetch(found, tmp_path / "b")
    assert list((tmp_path / "b").iterdir()) == []


@pytest.mark.parametrize("data", [b"", b"{", b'{"version": 1, "checkpoints": [', b"\xff\xfe"])
def test_a_registry_that_was_cut_off_is_made_anew(
    remote: Remote, tmp_path: Path, data: bytes
) -> None:
    sent(URL, make(tmp_path / "a", 1), make(tmp_path / "a", 2))
    before = read_registry(remote.objects["bucket/run/registry.json"])
    remote.objects["bucket/run/registry.json"] = data
    start = fetched(URL, tmp_path / "b")
    assert start is not None and start.step == 2
    assert sent(URL, make(tmp_path / "a", 3)).ok
    after = read_registry(remote.objects["bucket/run/registry.json"])
    assert before is not None and after is not None and after.run == before.run
    assert [one.step for one in after.checkpoints] == [3, 2, 1]
    assert [one.files for one in after.checkpoints[1:]] == [o.files for o in before.checkpoints]


def test_what_a_listing_does_not_show_yet_is_known_from_the_registry(
    remote: Remote, tmp_path: Path
) -> None:
    sent(URL, make(tmp_path / "a", 1), make(tmp_path / "a", 2))
    for path in remote.objects:
        if step_of(path) == 2:
            remote.unseen[path] = 2  # not in the next two listings
    start = fetched(URL, tmp_path / "b")
    assert start is not None and start.step == 2


# --- kills ----------------------------------------------------------------------------------------

SENDER = """
import sys
from pathlib import Path
from pipeline.training import checkpoints
from pipeline.training.remote_copies import RemoteCopies
def files(path):
    for n in range(6):
        (path / f"part-{n}.bin").write_bytes(bytes([step % 256, n]) * 50_000)
with RemoteCopies(sys.argv[1], keep=lambda steps: steps[:-2]) as copies:
    start = copies.newer(Path(sys.argv[2]))
    step = start.step if start else 0
    print("ready", flush=True)
    while True:
        step += 1
        copies.offer(checkpoints.write(Path(sys.argv[2]), step, files, {}))
        copies.finish(10)
"""


def stored(bucket: S3Server) -> list[str]:
    return list(bucket._backend.buckets["bucket"].keys)


@pytest.mark.parametrize("rounds", [(0.05, 0.23, 0.4)])
def test_a_kill_in_an_upload_or_a_deletion_leaves_only_whole_ones(
    bucket: S3Server, tmp_path: Path, rounds: tuple[float, ...]
) -> None:
    bucket.latency = 0.005
    newest = 0
    for turn, delay in enumerate(rounds):
        command = [sys.executable, "-c", SENDER, S3_URL, str(tmp_path / f"machine-{turn}")]
        sender = subprocess.Popen(command, stdout=subprocess.PIPE, text=True)
        assert sender.stdout is not None and sender.stdout.readline() == "ready\n"
        if turn == len(rounds) - 1:  # by now one has arrived, however slow the machine is
            deadline = time.monotonic() + 30
            while time.monotonic() < deadline and not any(COMPLETE in k for k in stored(bucket)):
                time.sleep(0.02)
        time.sleep(delay)
        sender.send_signal(signal.SIGKILL)
        sender.wait()
        sender.stdout.close()
        start = fetched(S3_URL, tmp_path / f"look-{turn}")
        assert (start.step if start else 0) >= newest, "what had arrived is there"
        newest = start.step if start else 0
        for path in checkpoints.listed(tmp_path / f"look-{turn}"):
            checkpoints.verify(path)
    assert newest > 0
    assert sent(S3_URL, make(tmp_path, newest + 1)).ok
    folders: dict[str, set[str]] = {}
    for key in stored(bucket):
        if "/step-" in key:
            folder, _, name = key.removeprefix("runs/horror/").partition("/")
            folders.setdefault(folder, set()).add(name)
    assert all(COMPLETE in names for names in folders.values()), "no litter of killed uploads"


def test_what_a_killed_download_left_is_cleared_away(remote: Remote, tmp_path: Path) -> None:
    sent(URL, make(tmp_path / "a", 1))
    left = tmp_path / "b" / ".tmp-fetching-x" / "step-00000001"
    left.mkdir(parents=True)
    (left / COMPLETE).write_text(json.dumps({"half": True}))
    start = fetched(URL, tmp_path / "b")
    assert start is not None and list((tmp_path / "b").iterdir()) == [start.path]

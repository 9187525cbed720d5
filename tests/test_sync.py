"""`pipeline sync`: copies of checkpoints by hand."""

import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from typer.testing import CliRunner, Result

from pipeline.cli import make_pipeline
from pipeline.run import open_run
from pipeline.sync import is_at_work
from pipeline.training import checkpoints
from pipeline.training.attempts import FIRST, Attempt
from pipeline.training.remote_copies import RemoteCopies
from pipeline.workspace import Workspace
from tests.chain import ROOT, environment
from tests.lying_remote import lying
from tests.s3_server import S3Server
from tests.sftp_server import SftpServer

RUN = "0123456789abcdef"
S3_URL = "s3://bucket/runs/horror"


def sync(action: str, url: str, data: Path, *more: str) -> Result:
    command = ["sync", action, url, "--data-dir", str(data), *more]
    return CliRunner().invoke(make_pipeline(), command)


def make(data: Path, *steps: int, text: str = "", attempt: Attempt = FIRST) -> Path:
    folder = data / "6_adapter" / "checkpoints" / RUN
    for step in steps:
        content = f"{text} {step}" * 9
        checkpoints.write(
            folder, step, lambda path: (path / "model.bin").write_text(content),  # noqa: B023
            {"run": RUN, "steps": 2, **attempt.noted()},
        )  # fmt: skip
    return folder


@pytest.fixture(params=["folder", "s3", "sftp"])
def url(
    request: pytest.FixtureRequest, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> Iterator[str]:
    if request.param == "sftp":
        monkeypatch.setenv("HOME", str(tmp_path / "home"))
        with SftpServer(tmp_path / "far", tmp_path / "home") as far:
            yield far.url
        return
    if request.param == "s3":
        server: S3Server = request.getfixturevalue("s3")
        request.getfixturevalue("s3_keys")
        server.put("bucket", "other", b"")
    yield S3_URL if request.param == "s3" else str(tmp_path / "copies")


def test_up_and_down_bring_all_that_is_whole_and_verify_reads_it(url: str, tmp_path: Path) -> None:
    folder = make(tmp_path / "a", 1, 2, 3)
    (folder / "step-00000002" / "model.bin").write_text("broken")
    sent = sync("up", url, tmp_path / "a")
    assert sent.exit_code == 0 and "sync: 2 checkpoints sent, 0 there already" in sent.stderr
    assert "0 checkpoints sent, 2 there already" in sync("up", url, tmp_path / "a").stderr
    listed = sync("list", url, tmp_path / "a").stdout.split("\n")
    assert [line.split()[0] for line in listed[1:3]] == ["3", "1"]
    assert all(line.endswith("complete") for line in listed[1:3])
    assert "sync: 2 checkpoints" in sync("verify", url, tmp_path / "a").stderr
    fetched = sync("down", url, tmp_path / "b")
    assert fetched.exit_code == 0 and "the checkpoint of step 3 is in" in fetched.stderr
    assert sync("down", url, tmp_path / "b", "--step", "1").exit_code == 0
    other = tmp_path / "b" / "6_adapter" / "checkpoints" / RUN
    assert [one.step for one in checkpoints.whole(other)] == [3, 1]


def test_sending_by_hand_does_not_stop_a_machine_that_trains(tmp_path: Path) -> None:
    url, folder = str(tmp_path / "copies"), make(tmp_path / "a", 5)
    with RemoteCopies(url, run=RUN) as training:
        make(tmp_path / "b", 4, 5, text="by hand")
        assert sync("up", url, tmp_path / "b").exit_code == 0
        training.offer(checkpoints.verify(make(tmp_path / "a", 6) / "step-00000006"))
        assert training.finish(20).ok
        assert training.steps() == {4, 5, 6}
    assert folder.is_dir()


def test_a_newer_one_here_is_not_replaced_by_an_older_one_there(tmp_path: Path) -> None:
    url = str(tmp_path / "copies")
    make(tmp_path / "a", 1)
    sync("up", url, tmp_path / "a")
    folder = make(tmp_path / "b", 2)
    assert "the checkpoint of step 2 is in" in sync("down", url, tmp_path / "b").stderr
    assert [path.name for path in folder.iterdir()] == ["step-00000002"]


def test_what_was_left_behind_is_shown_as_such_and_neither_sent_nor_fetched(
    tmp_path: Path,
) -> None:
    url = str(tmp_path / "copies")
    folder = make(tmp_path / "a", 1, 3)
    assert sync("up", url, tmp_path / "a").exit_code == 0
    make(tmp_path / "b", 2, attempt=FIRST.next(None))  # the run was begun anew there
    assert "sync: 1 checkpoint sent" in sync("up", url, tmp_path / "b").stderr
    listed = sync("list", url, tmp_path).stdout.split("\n")[1:4]
    found = {line.split()[0]: line.endswith("left behind") for line in listed}
    assert found == {"3": True, "2": False, "1": True}
    refused = sync("up", url, tmp_path / "a")
    assert refused.exit_code == 1 and "was begun anew on another machine" in refused.stderr
    assert "the checkpoint of step 2 is in" in sync("down", url, tmp_path / "a").stderr
    assert [path.name for path in checkpoints.listed(folder)] == ["step-00000002"]
    assert len(list(folder.glob("set-aside-step-*/step-*"))) == 2
    assert "of step 3 is in" in sync("down", url, tmp_path / "c", "--step", "3").stderr


def test_what_is_broken_there_is_found_and_what_is_incomplete_is_shown(tmp_path: Path) -> None:
    url = str(tmp_path / "copies")
    make(tmp_path / "a", 1, 2)
    sync("up", url, tmp_path / "a")
    first, second = sorted((tmp_path / "copies").glob("step-*"))
    (first / "model.bin").write_text("x" * (first / "model.bin").stat().st_size)
    (second / checkpoints.COMPLETE).unlink()
    verified = sync("verify", url, tmp_path / "a")
    assert verified.exit_code == 1 and "1 of 1 checkpoint at" in verified.stderr
    assert "model.bin is not as it was written" in verified.stderr
    assert "incomplete, never used" in sync("list", url, tmp_path / "a").stdout
    assert sync("down", url, tmp_path / "b", "--step", "1").exit_code == 1
    fetched = sync("down", url, tmp_path / "b")
    assert fetched.exit_code == 1 and "no complete checkpoint" in fetched.stderr


@pytest.mark.parametrize(
    ("action", "url", "code", "said"),
    [
        ("up", "copies", 1, "has no whole checkpoint"),
        ("down", "copies", 1, "no complete checkpoint at"),
        ("list", "copies", 1, "no checkpoint at"),
        ("verify", "copies", 1, "no complete checkpoint at"),
        ("up", "https://example.org/x", 1, "has no whole checkpoint"),
        ("down", "https://example.org/x", 2, "cannot be written to"),
        ("down", "nonsense://x", 2, "nonsense:// is not known here"),
        ("sideways", "copies", 2, "sideways"),
        ("watch --step 1", "copies", 2, "takes no --step"),
        ("up --every 1", "copies", 2, "--every belongs to `pipeline sync watch`"),
        ("list --until-done", "copies", 2, "--until-done belongs to `pipeline sync watch`"),
    ],
)
def test_what_cannot_be_done_is_said(
    action: str, url: str, code: int, said: str, tmp_path: Path
) -> None:
    address = str(tmp_path / url) if url == "copies" else url
    word, *options = action.split()
    result = sync(word, address, tmp_path, *options)
    assert result.exit_code == code and said in " ".join(result.stderr.split())


def test_a_remote_that_changes_everything_fails_the_command(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("pipeline.training.remote_copies._REFUSED_WAIT", 0.01)
    monkeypatch.setattr("pipeline.training.remote_copies.backoff", lambda *_: 0.01)
    make(tmp_path, 1)
    with lying() as remote:
        remote.flip = 1.0
        result = sync("up", "lying://bucket/run", tmp_path)
    assert result.exit_code == 1
    assert "1 of 1 checkpoint did not arrive" in " ".join(result.stderr.split())


def test_watch_ends_by_itself_once_a_run_has_ended(tmp_path: Path) -> None:
    url = str(tmp_path / "copies")
    make(tmp_path, 1, 2)
    watched = sync("watch", url, tmp_path, "--until-done")
    assert watched.exit_code == 0
    assert "sync: 2 checkpoints sent" in watched.stderr.split("\n")[-2]
    workspace = Workspace(tmp_path)
    assert not is_at_work(workspace, "train")
    with open_run(workspace, "acquire", version=1, settings={}):
        assert is_at_work(workspace, "acquire") and not is_at_work(workspace, "train")
    assert not is_at_work(workspace, "acquire")


@pytest.mark.slow
@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_signal_ends_a_watch_and_what_was_sent_is_whole(number: int, tmp_path: Path) -> None:
    url = str(tmp_path / "copies")
    make(tmp_path, 1)
    process = subprocess.Popen(
        [sys.executable, "-m", "pipeline.cli", "sync", "watch", url, "--every", "0.1",
         "--data-dir", str(tmp_path)],
        cwd=ROOT, env=environment(), stderr=subprocess.PIPE, text=True,
    )  # fmt: skip
    try:
        assert process.stderr is not None
        assert process.stderr.readline().startswith("sync: watching")
        assert "Copied the checkpoint of step 1" in process.stderr.readline()
        make(tmp_path, 2)
        assert "Copied the checkpoint of step 2" in process.stderr.readline()
        process.send_signal(number)
        _, said = process.communicate(timeout=60)
    finally:
        process.kill()
        process.communicate()
    assert process.returncode == 0
    *before, last = said.splitlines()
    assert last.startswith("sync: 2 checkpoints sent to")
    # A line that was being printed when the signal came is printed again.
    assert all(line.startswith("Copied the checkpoint of step 2") for line in before)
    assert "sync: 2 checkpoints" in sync("verify", url, tmp_path).stderr

"""The command that goes on with a run is told without secrets, and only if it is one of ours."""

from typing import Any

import pytest

from pipeline.training.command_line import command_of, this_training
from pipeline.training.requests import SUPERVISED


@pytest.mark.parametrize(
    ("argv", "told"),
    [
        (["/usr/bin/pipeline", "train", "--epochs", "2"], "pipeline train --epochs 2"),
        (["pipeline.exe", "all", "--data-dir", "my data"], "pipeline all --data-dir 'my data'"),
        (["/x/pipeline/step6_train.py", "--force"], "pipeline train --force"),
        (["pipeline", "train", "--resume", "never", "--rank", "8"], "pipeline train --rank 8"),
        (["pipeline", "train", "--resume=/a/step-00000002"], "pipeline train"),
        (
            ["pipeline", "train", "--sync-to", "sftp://me:hunter2@host/x", "--force"],
            "pipeline train --sync-to 'sftp://***@host/x' --force",
        ),
        (
            ["pipeline", "train", "--sync-to=abfs://c@host/x?sig=hunter2"],
            "pipeline train '--sync-to=abfs://***@host/x?***'",
        ),
        (
            ["pipeline", "train", "--sync-to", "a::s3://hunter2@b::ftp://c"],
            "pipeline train --sync-to '***'",
        ),
        (["pipeline", "train", "--push-to", "hf_hunter2hunter2"], "pipeline train --push-to '***'"),
        (["pipeline", "status"], None),
        (["pytest", "train"], None),
        ([], None),
    ],
)
def test_the_command_is_told_as_it_was_given_but_for_secrets_and_the_way_back(
    argv: list[str], told: str | None
) -> None:
    words = this_training(argv)
    assert command_of({"command": words}) == told
    assert "hunter2" not in " ".join(words)


def test_who_is_supervised_is_told_with_the_supervisor(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(SUPERVISED, "1")
    assert this_training(["pipeline", "train"]) == ["train", "--until-done"]


@pytest.mark.parametrize(
    "words",
    [None, "rm -rf /", ["rm", "-rf", "/"], [], ["train", "a\x1b[2J"], ["train", "a\nb"],
     ["train", 7], ["train"] * 1000, ["train", "x" * 10_000]],
)  # fmt: skip
def test_what_a_remote_made_up_is_not_shown(words: Any) -> None:
    assert command_of({"command": words}) is None


def test_what_a_shell_would_take_for_more_is_quoted() -> None:
    assert command_of({"command": ["train", "; rm -rf ~"]}) == "pipeline train '; rm -rf ~'"

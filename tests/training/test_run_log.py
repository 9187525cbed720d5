"""train.log has what was said and what the libraries logged, and no secret."""

import logging
import warnings
from collections.abc import Iterator
from pathlib import Path

import pytest

from pipeline import console
from pipeline.console import fail, say, warn
from pipeline.errors import PipelineError
from pipeline.training.run_log import redact, run_log


@pytest.fixture
def library() -> Iterator[logging.Logger]:
    """A library that quiet_libraries has told to show errors only."""
    logger = logging.getLogger("trl")
    before = logger.level
    logger.setLevel(logging.ERROR)
    yield logger
    logger.setLevel(before)


def test_what_is_said_is_in_the_file_in_its_order_after_versions_and_settings(
    tmp_path: Path,
) -> None:
    path = tmp_path / "run" / "train.log"
    with run_log(path, {"rank": 16, "sample_prompts": ["“The door”"]}):
        say("one")
        warn("two")
        fail("three", "four")
    say("after")
    text = path.read_text("utf-8")
    places = [text.index(part) for part in (
        "python: 3", "torch: ", "rank: 16", "“The door”", "INFO    pipeline.training: one",
        "WARNING pipeline.training: two", "ERROR   pipeline.training: three four",
    )]  # fmt: skip
    assert places == sorted(places)
    assert "after" not in text


def test_quiet_is_for_the_screen_only(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    console.set_quiet(True)
    try:
        with run_log(tmp_path / "train.log"):
            say("not shown")
    finally:
        console.set_quiet(False)
    assert capsys.readouterr().err == ""
    assert "not shown" in (tmp_path / "train.log").read_text()


def test_what_libraries_log_is_in_the_file_and_only_errors_on_the_screen(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], library: logging.Logger
) -> None:
    before = library.level, library.propagate, list(library.handlers)
    with run_log(tmp_path / "train.log"):
        child = logging.getLogger("trl.trainer")
        child.debug("too much")
        child.info("some detail")
        child.warning("some doubt")
        child.error("some failure")
    child.info("later")
    assert (library.level, library.propagate, list(library.handlers)) == before
    text = (tmp_path / "train.log").read_text()
    assert "INFO    trl.trainer: some detail" in text
    assert "WARNING trl.trainer: some doubt" in text
    assert text.count("some failure") == 1
    assert "too much" not in text
    assert "later" not in text
    assert capsys.readouterr().err == "warning: trl: some failure\n"


def test_python_warnings_are_in_the_file_and_still_shown(tmp_path: Path) -> None:
    with pytest.warns(UserWarning, match="a doubt"), run_log(tmp_path / "train.log"):
        warnings.warn("a doubt", UserWarning, stacklevel=1)
    assert "a doubt" in (tmp_path / "train.log").read_text()


@pytest.mark.parametrize("error", [PipelineError("No disk.", "Buy one."), KeyError("bug")])
def test_the_error_that_ends_the_run_is_the_last_of_it(tmp_path: Path, error: Exception) -> None:
    with pytest.raises(type(error)), run_log(tmp_path / "train.log"):
        raise error
    text = (tmp_path / "train.log").read_text()
    assert ("No disk. Buy one." in text) or ("Traceback" in text and "KeyError: 'bug'" in text)
    assert ("Traceback" in text) is isinstance(error, KeyError), "for bugs, not for sentences"


def test_a_title_does_not_move_the_cursor_of_who_reads_the_log(tmp_path: Path) -> None:
    with run_log(tmp_path / "train.log", {"title": "\x1b[2J"}):
        say("A \x1b[2Jtitle")
    assert "\x1b" not in (tmp_path / "train.log").read_text()


def test_the_same_log_within_itself_changes_nothing(tmp_path: Path) -> None:
    with run_log(tmp_path / "train.log"):
        with run_log(tmp_path / "train.log", {"rank": 99}):
            say("within")
        say("still heard")
    text = (tmp_path / "train.log").read_text()
    assert text.count("within") == text.count("still heard") == 1
    assert "rank: 99" not in text


def test_a_run_that_goes_on_goes_on_in_the_same_file(tmp_path: Path) -> None:
    for word in ("first", "second"):
        with run_log(tmp_path / "train.log"):
            say(word)
    assert (tmp_path / "train.log").read_text().index("first") > 0
    assert "second" in (tmp_path / "train.log").read_text()


def test_a_folder_that_cannot_be_written_is_one_sentence(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(PipelineError, match="cannot be written"), run_log(tmp_path / "file" / "x"):
        pass


def test_secrets_do_not_get_into_the_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MY_SERVICE_KEY", "correct-horse-battery")
    secrets = [
        "correct-horse-battery",
        "hf_" + "a1B2" * 8,
        "ghp_" + "a1B2" * 9,
        "sk-proj-" + "a1B2" * 9,
        "AKIA" + "ABCD" * 4,
        "eyJhbGciOiJIUzI1NiJ9.eyJzdWIiOiIxMjM0In0.c2lnbmF0dXJl",
    ]
    with run_log(tmp_path / "train.log", {"dataset": f"s3://{secrets[0]}/x"}):
        for secret in secrets:
            say(f"The token is {secret}, they say.")
        say("Fetching https://user:pass-word@example.org/data?X-Amz-Signature=abcdef0123&n=2")
        say("Authorization: Bearer abcdef.0123456789")
    text = (tmp_path / "train.log").read_text()
    assert [secret for secret in secrets if secret in text] == []
    for part in ("pass-word", "abcdef0123", "abcdef.0123456789"):
        assert part not in text
    assert "example.org/data" in text
    assert "n=2" in text


def test_numbers_and_switches_are_no_secrets(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PIPELINE_TRAIN_TOKENS", "60000000")
    monkeypatch.setenv("TOKENIZERS_PARALLELISM", "false")
    monkeypatch.setenv("SHORT_KEY", "of")
    line = (
        "60000000 tokens of text, parallel: false, eos_token: <|im_end|>, learning rate 1e-3, "
        "of The Torch Bearer Returning and Basic Information"
    )
    assert redact(line) == line

"""Ollama is asked as its command line wants it, and what goes wrong is one sentence."""

import os
import shlex
import subprocess
import sys
from pathlib import Path

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from pipeline.errors import PipelineError, UsageError
from pipeline.export import ollama
from pipeline.export.ollama import ModelName, Wish, check_wish, commands, parse_name
from tests.export.ollama_program import ANSWER, FAULTS, asked, install

TALES = ModelName("", "me", "tales", "q4")
HOSTILE = "-v $(touch hacked); `id` \"'\n* ☃"


@pytest.fixture
def program(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> str:
    """An Ollama in PATH, beside `folder`; nothing is registered with it yet."""
    path = install(tmp_path / "bin")
    monkeypatch.setenv("PATH", str(path.parent), prepend=os.pathsep)
    monkeypatch.setenv("HOME", str(tmp_path / "home"))
    monkeypatch.delenv("OLLAMA_HOST", raising=False)
    monkeypatch.setattr(ollama, "SERVICE_KEY", tmp_path / "service" / "key")
    return str(path)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """An `8_ollama` with an odd name."""
    folder = tmp_path / "8 $ollama"
    folder.mkdir()
    (folder / "m.gguf").write_bytes(b"GGUF")
    (folder / "Modelfile").write_text("FROM ./m.gguf\n")
    return folder


def calls(program: str) -> list[list[str]]:
    return [call["arguments"] for call in asked(Path(program).parent)]


def test_a_model_is_registered_asked_and_published(program: str, folder: Path) -> None:
    assert ollama.find_program() == program
    said: list[str] = []
    ollama.create(program, TALES, folder)
    ollama.ask(program, TALES, HOSTILE, folder, said.append)
    ollama.push(program, TALES, folder)
    assert calls(program) == [
        ["create", "me/tales:q4", "-f", "Modelfile"],
        ["run", "--nowordwrap", "me/tales:q4"],
        ["push", "me/tales:q4"],
    ]
    assert [call["input"] for call in asked(Path(program).parent)] == ["", HOSTILE, ""]
    assert {call["folder"] for call in asked(Path(program).parent)} == {str(folder)}
    assert "".join(said) == ANSWER
    assert not (folder / "hacked").exists()


def test_the_printed_commands_do_the_same_in_a_shell(program: str, folder: Path) -> None:
    lines = commands(Wish(TALES, HOSTILE, True), folder)
    subprocess.run(["sh", "-ec", "\n".join(lines)], check=True, stdin=subprocess.DEVNULL)
    assert calls(program) == [
        ["create", "me/tales:q4", "-f", "Modelfile"],
        ["run", "me/tales:q4", "--", HOSTILE],
        ["push", "me/tales:q4"],
    ]
    assert asked(Path(program).parent)[0]["folder"] == str(folder)


@pytest.mark.parametrize(
    ("fault", "told", "way_out"),
    [
        ("down", "could not connect to ollama server", "Start Ollama"),
        ("unauthorized", "you are not authorized to push to", "ollama signin"),
        ("key", "unauthorized: key ssh-ed25519 ... is unknown", "ollama signin"),
        ("odd", "400 Bad Request: unsupported� architecture", "A newer Ollama"),
    ],
)
def test_its_error_is_told_in_one_sentence(
    program: str, folder: Path, monkeypatch: pytest.MonkeyPatch, fault: str, told: str, way_out: str
) -> None:
    assert fault in FAULTS
    monkeypatch.setenv("OLLAMA_TEST", fault)
    with pytest.raises(PipelineError) as caught:
        ollama.push(program, TALES, folder)
    assert caught.value.message.startswith(f"`ollama push me/tales:q4` failed: {told}")
    assert "\n" not in caught.value.message
    assert way_out in (caught.value.hint or "")


def test_a_modelfile_that_ollama_does_not_take_is_its_error(program: str, folder: Path) -> None:
    (folder / "Modelfile").write_text("FROM ./m.gguf\nPARAMETER num_ctx many\n")
    with pytest.raises(PipelineError, match="num_ctx 'many' is no number"):
        ollama.create(program, TALES, folder)
    with pytest.raises(PipelineError, match="pull model manifest"):
        ollama.ask(program, TALES, "x", folder, print)


def test_one_that_hangs_is_ended(
    program: str, folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("OLLAMA_TEST", "hang")
    with pytest.raises(PipelineError, match=r"create me/tales:q4 .* was not done after 1 seconds"):
        ollama.create(program, TALES, folder, limit=0.6)
    with pytest.raises(PipelineError, match="said nothing for 1 seconds and was ended"):
        ollama.ask(program, TALES, "x", folder, print, silence=0.6)


def test_one_that_cannot_be_started_or_crashes(tmp_path: Path, folder: Path) -> None:
    bad = tmp_path / "bad"
    bad.write_text("#!/no/such/shell\n")
    bad.chmod(0o755)
    with pytest.raises(PipelineError, match="could not be started: No such file"):
        ollama.create(str(bad), TALES, folder)
    bad.write_text("#!/bin/sh\nkill -9 $$\n")
    with pytest.raises(PipelineError, match="was ended by signal 9: exit status -9"):
        ollama.create(str(bad), TALES, folder)


@pytest.mark.parametrize(
    ("text", "name"),
    [
        ("tales", ModelName("", "", "tales", "")),
        ("me/tales:q4_K.M", ModelName("", "me", "tales", "q4_K.M")),
        ("localhost:5000/me/tales", ModelName("localhost:5000", "me", "tales", "")),
        ("hf.co/me/tales-GGUF:Q4_K_M", ModelName("hf.co", "me", "tales-GGUF", "Q4_K_M")),
        ("_a/_b", ModelName("", "_a", "_b", "")),
    ],
)
def test_names_are_read_by_ollamas_rule(text: str, name: ModelName) -> None:
    assert parse_name(text, "--create") == name
    assert str(name) == text
    assert name.full == (text if name.tag else f"{text}:latest")


@pytest.mark.parametrize(
    "text",
    ["", "-f", "--help", "a b", "a/", "/a", "a//b", "a:", ":b", "a:b:c", "me.x/tales", "../tales",
     ".hidden", "a/b/c/d", "tales\n", "tàles", "a@b", "https://x/me/tales", "x" * 81, "a;b"],
)  # fmt: skip
def test_what_is_no_name_is_refused(text: str) -> None:
    with pytest.raises(UsageError, match="is not a name that Ollama takes"):
        parse_name(text, "--create")


@given(st.text(max_size=80))
@settings(max_examples=60, deadline=None)
@example("SmolLM2-135M (tuned)")
@example("猫")
def test_a_suggested_name_is_always_one(title: str) -> None:
    assert parse_name(ollama.suggested_name(title), "--create").namespace == ""


def test_what_cannot_be_asked_is_refused_before_any_work(program: str) -> None:
    assert check_wish(None, None, False) is None
    for prompt, push in [("x", False), (None, True)]:
        with pytest.raises(UsageError, match="needs --create"):
            check_wish(None, prompt, push)
    with pytest.raises(UsageError, match="this one is empty"):
        check_wish("tales", " \n", False)
    for name in ("tales", "library/tales"):
        with pytest.raises(UsageError, match=r"--push needs a name with your own"):
            check_wish(name, None, True)
    assert check_wish("me/tales", "half \udce9", False) == Wish(
        ModelName("", "me", "tales", ""), "half ?", False
    )


def test_publishing_needs_a_key_and_shows_none_of_it(program: str, tmp_path: Path) -> None:
    key = tmp_path / "home" / ".ollama" / "id_ed25519"
    with pytest.raises(PipelineError, match=r"its key .*id_ed25519 is not there") as caught:
        check_wish("me/tales", None, True)
    assert "ollama signin" in (caught.value.hint or "")
    key.parent.mkdir(parents=True)
    key.write_text("")
    with pytest.raises(PipelineError, match="its key"):
        check_wish("me/tales", None, True)
    key.write_text("a secret")
    assert check_wish("me/tales", None, True) is not None


def test_a_key_elsewhere_is_ollamas_own_business(
    program: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    service = tmp_path / "service" / "key"
    service.parent.mkdir()
    service.write_text("a secret")
    assert check_wish("me/tales", None, True)
    service.unlink()
    monkeypatch.setenv("OLLAMA_HOST", "gpu:11434")
    assert check_wish("me/tales", None, True)


def test_without_ollama_nobody_asks_for_its_key(
    program: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PATH", str(Path(sys.executable).parent))
    assert ollama.find_program() is None
    assert check_wish("me/tales", None, True) is not None


def test_commands_are_one_word_each_whatever_the_folder_is_called() -> None:
    first, *_ = commands(Wish(TALES, None, False), Path("-a b"))
    assert shlex.split(first) == ["cd", "./-a b"]

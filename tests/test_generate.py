"""`pipeline generate`: any form of a model writes, alone or beside its base."""

import io
import json
import os
import pty
import re
import select
import shutil
import subprocess
import sys
import time
from functools import cache
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from pipeline import prompts, writers
from pipeline.comparison import own_prompts
from pipeline.errors import PipelineError, UsageError
from pipeline.export.gguf import convert
from pipeline.generate import context_of, form_of, generate
from pipeline.training import scored_models
from pipeline.training.scored_models import find_candidate
from pipeline.training.settings import DEFAULT_PROMPTS
from pipeline.workspace import Workspace
from tests.chain import ROOT, environment, pipeline
from tests.export.conftest import save_adapter
from tests.tiny_models import TALE, tiny_llama_smollm

PROMPT = "I was walking on the shore"
FEW: dict[str, Any] = {"max_tokens": 10, "temperature": 0.0}


@pytest.fixture(scope="session")
def models(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with a tiny model, `base`, the same as base.gguf, and an adapter of it."""
    return make_models(tmp_path_factory.getbasetemp() / "writers")


@cache
def make_models(folder: Path) -> Path:
    """Once for all files of tests that take the fixture."""
    folder.mkdir()
    base = tiny_llama_smollm(folder / "base").path
    convert(base, folder / "base.gguf", folder / "convert.log")
    save_adapter(base, folder / "adapter", strength=0.3)
    return folder


@pytest.fixture(autouse=True)
def exact(monkeypatch: pytest.MonkeyPatch) -> None:
    """llama.cpp computes in float32, which the model has to do, too, to write the same."""
    machine = scored_models.Machine(cuda=False, bf16=False, unsloth=False)
    monkeypatch.setattr(scored_models.Machine, "detect", lambda: machine)


@pytest.fixture
def out(capsys: pytest.CaptureFixture[str], models: Path, tmp_path: Path) -> Any:
    """Runs the command, by default on the GGUF and without a data directory; what it printed."""

    def run(prompt: str | None = PROMPT, **options: Any) -> Any:
        given = {"model": str(models / "base.gguf"), "data_dir": tmp_path / "data", **FEW}
        generate(prompt, **{**given, **options})
        return capsys.readouterr()

    return run


def write_training_text(data: Path, *texts: str) -> None:
    """Chunks of books called `Book 0`, ..., and a held-out one that no overlap may name."""
    folder = data / "3_chunks"
    folder.mkdir(parents=True)
    for name, rows in (("train", texts), ("validation", ("".join(texts),))):
        table = {
            "text": list(rows),
            "document_id": [f"{name}-{i}" for i in range(len(rows))],
            "title": [f"{'Held out' if name == 'validation' else 'Book'} {i}"
                      for i in range(len(rows))],
        }  # fmt: skip
        pq.write_table(pa.table(table), folder / f"{name}-00000-of-00001.parquet")


def test_every_form_of_a_model_writes_and_the_same_weights_the_same(models: Path, out: Any) -> None:
    gguf, base, adapter = (
        out(model=str(models / name), chat=False).out for name in ("base.gguf", "base", "adapter")
    )
    assert gguf.startswith(PROMPT)
    assert gguf.endswith("\n")
    assert gguf == base
    assert adapter != base
    chats = {out(model=str(models / name)).out for name in ("base.gguf", "base")}
    assert len(chats) == 1, "its tokenizer has a template for chats, which both put it in"
    assert not chats.pop().startswith(PROMPT)


def test_the_text_alone_is_on_stdout_and_how_fast_it_was_on_stderr(out: Any) -> None:
    first = out(chat=False, temperature=1.5, seed=3, samples=2)
    text, second = first.out.split("\n---\n\n")
    assert out(chat=False, temperature=1.5, seed=3).out == text
    assert out(chat=False, temperature=1.5, seed=4).out == second != text
    assert f"base.gguf: {FEW['max_tokens']} tokens in" in first.err
    assert "tokens/s); seed 3" in first.err
    assert "tokens/s); seed 4" in first.err
    assert PROMPT + out(chat=False, echo=False, temperature=1.5, seed=3).out == text


def test_prompts_come_from_a_file_or_a_pipe(
    out: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    file = tmp_path / "prompts.txt"
    file.write_text("\ufeffIt was late.\n\nVery late,\n---\n\n---\r\nThe sea\r\n", "utf-8")
    report = json.loads(out(None, prompt_file=file, as_json=True, chat=False).out)
    asked = [sample["prompt"] for sample in report["samples"]]
    assert asked == ["It was late.\n\nVery late,", "The sea"]
    assert all(sample["text"] for sample in report["samples"])
    monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(io.BytesIO(b"The sea\n")))
    assert out(None, chat=False).out == "The sea" + report["samples"][1]["text"] + "\n"


def test_a_prompt_that_is_none_is_one_sentence_before_anything_is_loaded(
    out: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(writers, "open_session", None)
    for name, data, message in (
        ("empty.txt", b" \n---\n", "empty.txt holds no prompt"),
        ("old.txt", b"caf\xe9", "old.txt is no UTF-8 text"),
        ("gone.txt", None, "gone.txt cannot be read"),
    ):
        if data is not None:
            (tmp_path / name).write_bytes(data)
        with pytest.raises(PipelineError, match=message):
            out(None, prompt_file=tmp_path / name)
    monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(io.BytesIO(b" \n")))
    for options, message in (
        ({"prompt": None}, "There is no prompt"),
        ({"prompt_file": tmp_path / "empty.txt"}, "a prompt or --prompt-file"),
        ({"base": "gpt2"}, "go with --compare"),
        ({"compare": True, "benchmark": 2}, "not both"),
        ({"temperature": -1.0}, "--temperature must be 0 or more"),
    ):
        with pytest.raises(UsageError, match=message):
            out(**options)


def test_the_most_finished_model_of_the_data_directory_is_taken(
    models: Path, tmp_path: Path
) -> None:
    workspace = Workspace(tmp_path)
    with pytest.raises(PipelineError, match=r"has no GGUF yet, and .*6_adapter no adapter"):
        writers.tuned_model(workspace, None)
    shutil.copytree(models / "adapter", tmp_path / "6_adapter")
    assert writers.tuned_model(workspace, None).kind == "adapter"
    gguf = tmp_path / "7_gguf"
    gguf.mkdir()
    for name in ("a-adapter.gguf", "b-F16.gguf", "c-Q4_K_M.gguf"):
        shutil.copy(models / "base.gguf", gguf / name)
    assert writers.tuned_model(workspace, None).name == "a-adapter.gguf", "nothing tells more"
    files: dict[str, Any] = {"a-adapter.gguf": {}, "c-Q4_K_M.gguf": {}, "b-F16.gguf": {}}
    proof = {"files": files, "adapter": {"file": "a-adapter.gguf"}}
    (gguf / "proof.json").write_text(json.dumps(proof))
    assert writers.tuned_model(workspace, None).name == "c-Q4_K_M.gguf", "asked for first"
    ollama = tmp_path / "8_ollama"
    ollama.mkdir()
    shutil.copy(models / "base.gguf", ollama / "llama-3-base.gguf")
    assert writers.finished_gguf(workspace) == gguf / "c-Q4_K_M.gguf", "that is the adapter's base"
    shutil.copy(models / "base.gguf", ollama / "b-F16.gguf")
    assert writers.finished_gguf(workspace) == ollama / "b-F16.gguf"
    base = writers.base_of(workspace, writers.tuned_model(workspace, None), None)
    assert Path(base.place) == models / "base"
    with pytest.raises(PipelineError, match=r"Nothing says which model base.gguf was made from"):
        writers.base_of(workspace, writers.tuned_model(workspace, str(models / "base.gguf")), None)


def test_what_stage_6_recorded_says_whether_prompts_are_turns_of_a_chat(
    models: Path, tmp_path: Path
) -> None:
    folder = tmp_path / "6_adapter"
    shutil.copytree(models / "adapter", folder)
    evaluation = folder / "evaluation.json"
    for recorded, chat in (({}, False), ({"chat": {"template": "{{ 1 }}", "ends": ["<e>"]}}, True)):
        evaluation.write_text(json.dumps(recorded))
        form = writers.recorded_form(find_candidate(str(folder)))
        assert form is not None
        assert form.chat == chat
    assert form is not None
    assert (form.template, form.ends) == ("{{ 1 }}", ("<e>",))
    tuned = find_candidate(str(folder))
    assert form_of(Workspace(tmp_path), tuned, True) == form, "asked for, it is the same chat"
    assert form_of(Workspace(tmp_path), tuned, None) is None, "which the folder tells by itself"
    assert form_of(Workspace(tmp_path), tuned, False) == writers.Form(chat=False)
    evaluation.write_text('{"chat": 3}')
    with pytest.raises(PipelineError, match=r"evaluation.json is damaged"):
        writers.recorded_form(find_candidate(str(folder)))


def test_a_gguf_of_chats_ends_its_answers_as_it_was_trained_to(
    models: Path, out: Any, tmp_path: Path
) -> None:
    whole = out(as_json=True).out
    text = json.loads(whole)["samples"][0]["text"]
    end = text[len(text) // 2 :][:3]
    data = tmp_path / "data"
    (data / "7_gguf").mkdir(parents=True)
    told = {"files": {"base.gguf": {}}, "evaluation": {"chat": {"ends": [end]}}}
    (data / "7_gguf" / "proof.json").write_text(json.dumps(told))
    for chat in (None, True):
        report = json.loads(out(as_json=True, chat=chat).out)
        (sample,) = report["samples"]
        assert report["chat"] and sample["finish"] == "stop"
        assert sample["text"] == text[: text.index(end)]
    assert json.loads(out(as_json=True, chat=False).out)["samples"][0]["finish"] == "length"


def test_every_form_of_a_model_sees_as_much_as_it_was_trained_to_see(
    models: Path, tmp_path: Path
) -> None:
    data = tmp_path / "data"
    (data / "7_gguf").mkdir(parents=True)
    proof = {"files": {"base.gguf": {}}, "context": 64}
    (data / "7_gguf" / "proof.json").write_text(json.dumps(proof))
    adapter = Path(shutil.copytree(models / "adapter", tmp_path / "adapter"))
    told = {"prompt": "x", "sequence_length": 64, "bits_per_byte": {}}
    (adapter / "evaluation.json").write_text(json.dumps(told))
    for name in (models / "base.gguf", adapter):
        tuned = find_candidate(str(name))
        assert context_of(Workspace(data), tuned) == 64
        long = {"model": str(name), "data_dir": data, "chat": False, **FEW}
        with pytest.raises(PipelineError, match="this model sees only 64"):
            generate("the sea " * 80, **long)
    assert context_of(Workspace(tmp_path), find_candidate(str(models / "base.gguf"))) == 1024
    assert context_of(Workspace(data), find_candidate(str(models / "base"))) == 0


def test_without_a_prompt_a_model_is_compared_on_what_its_training_asked(
    models: Path, tmp_path: Path
) -> None:
    adapter = Path(shutil.copytree(models / "adapter", tmp_path / "adapter"))
    told = {"prompt": "Who?", "prompts": ["Who?", "Why?"], "bits_per_byte": {}, "settings": {},
            "samples": {}, "sequence_length": 64}  # fmt: skip
    (adapter / "evaluation.json").write_text(json.dumps(told))
    workspace = Workspace(tmp_path)
    assert own_prompts(workspace, find_candidate(str(adapter))) == ["Who?", "Why?"]
    base = find_candidate(str(models / "base"))
    assert own_prompts(workspace, base) == list(DEFAULT_PROMPTS), "nothing is known of it"


def test_base_and_tuned_are_put_side_by_side_and_saved(
    models: Path, out: Any, tmp_path: Path
) -> None:
    data = tmp_path / "data"
    alone = json.loads(out(model=str(models / "adapter"), as_json=True, seed=5).out)
    text = alone["samples"][0]["text"]
    write_training_text(data, TALE, f"He said: {text} And that was all. " + TALE)
    options = {
        "model": str(models / "adapter"), "prompt": None, "compare": True, "seed": 5,
        "prompt_file": tmp_path / "two.txt",
    }  # fmt: skip
    (tmp_path / "two.txt").write_text(f"{PROMPT}\n---\nWho | is <b>there</b>?")
    printed = out(**options)
    (saved,) = data.glob("comparison-*.md")
    markdown = saved.read_text("utf-8")
    assert markdown == printed.out
    assert f"compared in {saved}" in printed.err
    assert "- Base: base (a whole model)" in markdown
    assert "temperature 0.0, top-k 40, top-p 0.9" in markdown
    assert "seed 5. All that was written is here." in markdown
    assert "> Who &#124; is &#60;b&#62;there&#60;/b&#62;?" in markdown
    assert markdown.count("| seed |") == 2
    assert f"{len(text):,} characters, {len(text.split()):,} words (Book 1)" in markdown
    assert "Held out" not in markdown

    target = tmp_path / "mine.md"
    report = json.loads(out(**options, as_json=True, output=target, samples=2).out)
    base, tuned = (model["samples"] for model in report["models"])
    assert [sample["seed"] for sample in tuned] == [5, 6, 5, 6]
    assert tuned[0]["text"] == text != base[0]["text"]
    assert tuned[0]["overlap"]["characters"]["document"] == "train-1"
    with pytest.raises(UsageError, match=r"mine.md is there already"):
        out(**options, output=target)


def test_what_is_copied_from_the_training_text_is_told_with_the_book(
    out: Any, tmp_path: Path
) -> None:
    none = out(chat=False, check_overlap=True)
    assert "There is no training text beside this model (4_dataset, 3_chunks)" in none.err
    text = none.out.removeprefix(PROMPT).rstrip("\n")
    middle = text[5:-5]
    write_training_text(tmp_path / "data", TALE, f"xx{middle}xx")
    told = out(chat=False, check_overlap=True).err
    assert f"stands in the training text: {len(middle)} characters," in told
    assert "(Book 1): “" in told
    shutil.rmtree(tmp_path / "data" / "3_chunks")
    folder = tmp_path / "data" / "4_dataset" / "chat"
    folder.mkdir(parents=True)
    turns = [{"role": "user", "content": text}, {"role": "assistant", "content": f"xx{middle}xx"}]
    pq.write_table(pa.table({"messages": [turns]}), folder / "train-00000-of-00001.parquet")
    told = out(chat=False, check_overlap=True).err
    assert f"{len(middle)} characters," in told, "a model learns what it has to answer"


def test_speed_is_told_as_mean_and_deviation_of_several_runs(out: Any) -> None:
    report = json.loads(out(None, benchmark=2, max_tokens=5, as_json=True).out)
    assert report["tokens"] == 5
    for name in ("reading, tokens/s", "writing, tokens/s", "first token, s"):
        figures = report["measured"][name]
        assert len(figures["runs"]) == 2
        assert 0 < figures["min"] <= figures["mean"] <= figures["max"]
    table = out(None, benchmark=2, max_tokens=5).out
    assert "mean" in table.splitlines()[0]
    assert "base.gguf: " in table


def test_on_a_terminal_nothing_a_model_writes_moves_the_cursor(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    written = "a\x1b[2Jb\tc\n"
    prompts.TextOut()(written)
    monkeypatch.setattr(sys.stdout, "isatty", lambda: True)
    prompts.TextOut()(written)
    assert capsys.readouterr().out == written + "a�[2Jb\tc\n"


def test_a_prompt_loop_goes_on_after_ctrl_c_and_ends_with_ctrl_d(
    models: Path, tmp_path: Path
) -> None:
    main, side = pty.openpty()
    arguments = ("--gguf", models / "base.gguf", "--text", "--data-dir", tmp_path, "--max-tokens",
                 900, "--temperature", 2)  # fmt: skip
    process = subprocess.Popen(
        [sys.executable, "-m", "pipeline.cli", "generate", *map(str, arguments)],
        stdin=side, stdout=side, stderr=side, cwd=ROOT, start_new_session=True,
        preexec_fn=lambda: _control(0), env=environment(TERM="xterm"),
    )  # fmt: skip
    os.close(side)
    try:
        screen = read_until(main, "\n> ")
        assert "Ctrl-C ends an answer, Ctrl-D the loop" in screen
        os.write(main, b"The sey\x7fa\n")
        read_until(main, r"\n[^\n]")  # the answer has begun
        os.write(main, b"\x03")
        read_until(main, r"\(stopped\)\n> ")
        os.write(main, b"half a line")
        read_until(main, "half a line")
        os.write(main, b"\x03")
        read_until(main, r"\(Ctrl-D ends\)\n> ", again=b"\x03")
        os.write(main, b"It was late\n")
        read_until(main, r"seed 1\n> ")
        os.write(main, b"\x04")
        assert process.wait(60) == 0
    finally:
        process.kill()
        process.wait()
        os.close(main)


def _control(terminal: int) -> None:
    """Make the terminal the one whose Ctrl-C ends what runs in it."""
    from fcntl import ioctl
    from termios import TIOCSCTTY

    ioctl(terminal, TIOCSCTTY, 0)


def read_until(terminal: int, sought: str, seconds: float = 90, again: bytes = b"") -> str:
    """What is written until `sought` is there. `again` is pressed every ten seconds until then: of
    a signal that comes in the moment before it waits, CPython's readline hears at the next key."""
    start = time.monotonic()
    text, end, due = "", start + seconds, start + 10
    while not re.search(sought, text):
        assert time.monotonic() < end, text
        if again and time.monotonic() > due:
            os.write(terminal, again)
            due += 10
        if select.select([terminal], [], [], 0.1)[0]:
            data = os.read(terminal, 65536).decode("utf-8", "replace")
            text += data.replace("\r\n", "\n")
    return text


def test_it_is_a_command(models: Path, tmp_path: Path) -> None:
    gguf = models / "base.gguf"
    result = pipeline("generate", PROMPT, "--gguf", gguf, "--text", "-n", 1, "--max-tokens", 3,
                      "--data-dir", tmp_path)  # fmt: skip
    assert result.stdout.startswith(PROMPT)
    assert "base.gguf: 3 tokens" in result.stderr
    result = pipeline("generate", "x", "--model", tmp_path / "no", code=1)
    assert "There is no model" in result.stderr

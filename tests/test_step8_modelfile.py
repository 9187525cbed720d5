"""`8_ollama` is what Ollama needs, it can be moved as a whole, and Ollama can be asked at once."""

import json
import os
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from gguf import GGUFWriter

from pipeline import step8_modelfile
from pipeline.errors import PipelineError, UsageError
from pipeline.export import ollama
from pipeline.export.llama import Completion
from pipeline.step8_modelfile import modelfile
from tests.export.ollama_grammar import read
from tests.export.ollama_program import ANSWER, asked, install
from tests.kills import contents, killed_until_it_ends

PROMPT = "I was walking on the shore"
JOINS = {
    "before_system": "<|im_start|>system\n",
    "before_user": "<|im_start|>user\n",
    "system_to_user": "<|im_end|>\n<|im_start|>user\n",
    "user_to_assistant": "<|im_end|>\n<|im_start|>assistant\n",
    "before_answer": "",
    "assistant_to_user": "<|im_end|>\n<|im_start|>user\n",
}
CHAT = {"joins": JOINS, "ends": ["<|im_end|>"], "prompt_ids": [1, 2, 3]}


def make_gguf(path: Path, architecture: str = "llama") -> Path:
    writer = GGUFWriter(path, architecture)
    writer.add_tensor("token_embd.weight", np.zeros((2, 2), dtype=np.float32))
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    return path


def proven(
    data: Path, *kinds: str, chat: Any = None, asked: dict[str, Any] | None = None, **changed: Any
) -> Path:
    """A `7_gguf` with GGUFs of these kinds, or with an adapter, as stage 7 leaves it."""
    directory = data / "7_gguf"
    directory.mkdir(parents=True)
    names = [make_gguf(directory / f"Tales-{kind}.gguf").name for kind in kinds]
    bits = {"base": 1.2, "adapter": 1.1}
    evaluation = {
        "prompt": PROMPT, "samples": {"base": "a stick.", "adapter": "a creature."},
        "bits_per_byte": bits, "settings": {"sample_tokens": 8}, **({"chat": chat} if chat else {}),
        **(asked or {}),
    }  # fmt: skip
    proof = {
        "name": "Tales of\nthe shore", "base_model": {"name": "me/base", "licence": "cc0\x0c1.0"},
        "files": {name: {"seed": 3, "bits_per_byte": 1.15} for name in names},
        "end_tokens": ["</s>", "<|odd\u200b|>"], "context": 512,
        "evaluation": evaluation, **changed,
    }  # fmt: skip
    (directory / "proof.json").write_text(json.dumps(proof))
    return data


@pytest.fixture
def drawn(monkeypatch: pytest.MonkeyPatch) -> list[dict[str, Any]]:
    """llama.cpp does not run here; this is what it was asked for."""
    calls: list[dict[str, Any]] = []

    def complete(gguf: Path, prompt: Any, **settings: Any) -> Completion:
        calls.append({"gguf": gguf.name, "prompt": prompt, **settings})
        return Completion("a\n\nstarfish.", 3, 1.0, "stop", 5, 1.0)

    monkeypatch.setattr(step8_modelfile, "complete", complete)
    return calls


@pytest.fixture
def program(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The folder of an Ollama in PATH."""
    folder = install(tmp_path / "bin").parent
    monkeypatch.setenv("PATH", str(folder), prepend=os.pathsep)
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.delenv("OLLAMA_HOST", raising=False)
    monkeypatch.setattr(ollama, "SERVICE_KEY", tmp_path / "no-key")
    return folder


@pytest.fixture(autouse=True)
def without_ollama(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    if "program" not in request.fixturenames:
        monkeypatch.setattr(ollama, "find_program", lambda: None)


def instructions(data: Path) -> list[tuple[str, str]]:
    return read((data / "8_ollama" / "Modelfile").read_text("utf-8"))


def warnings(data: Path) -> str:
    return "\n".join(json.loads((data / "8_ollama" / "stage.json").read_text())["warnings"])


def test_the_directory_is_complete_and_knows_only_names_beside_it(
    tmp_path: Path, drawn: list[dict[str, Any]], capsys: pytest.CaptureFixture[str]
) -> None:
    data = proven(tmp_path / "my data", "Q8_0", "Q4_K_M")
    modelfile(data)
    directory = data / "8_ollama"
    assert {path.name for path in directory.iterdir()} == {
        "Modelfile", "Tales-Q8_0.gguf", "sample.txt", "stage.json",
    }  # fmt: skip
    assert str(tmp_path) not in (directory / "Modelfile").read_text("utf-8")
    assert instructions(data) == [
        ("from", "./Tales-Q8_0.gguf"),
        ("template", "{{ .Prompt }}"),
        ("parameter num_ctx", "512"),
        ("parameter temperature", "0.6"),
        ("parameter repeat_last_n", "256"),
        ("parameter repeat_penalty", "1.1"),
        ("parameter num_predict", "384"),
        ("parameter stop", "</s>"),
        ("license", "cc0\n1.0"),
    ]
    assert "Characters of the licence that a Modelfile cannot hold were replaced" in warnings(data)
    assert "The end token '<|odd\\u200b|>' is no `stop`" in warnings(data)
    told = capsys.readouterr().err
    assert f"cd '{directory}' && ollama create tales-of-the-shore -f Modelfile" in told
    assert (directory / "sample.txt").read_text("utf-8") == (
        f"Prompt:\n  {PROMPT}\n\n"
        "me/base (base model) goes on:\n  a stick.\n\n"
        "Tales-Q8_0.gguf (yours) goes on:\n  a\n  starfish.\n\n"
        "Bits per byte of the held-out text (less is better):\n"
        "  base model 1.2000\n  adapter    1.1000\n  GGUF       1.1500\n"
    )
    modelfile(data)
    assert "(up to date)" in capsys.readouterr().err
    assert len(drawn) == 1


def test_another_gguf_and_other_ways_to_draw_can_be_chosen(
    tmp_path: Path, drawn: list[dict[str, Any]]
) -> None:
    data = proven(tmp_path, "Q8_0", "Q4_K_M")
    modelfile(data, gguf="q4-k-m", temperature=0.9, top_k=10, top_p=0.8, min_p=0.1, sampling_seed=5,
              num_ctx=64, num_predict=-1, repeat_last_n=32, repeat_penalty=1.3)  # fmt: skip
    found = dict(instructions(data))
    assert found["from"] == "./Tales-Q4_K_M.gguf"
    assert [found[f"parameter {name}"] for name in ("top_k", "top_p", "min_p", "seed")] == [
        "10", "0.8", "0.1", "5",
    ]  # fmt: skip
    assert (found["parameter num_ctx"], found["parameter num_predict"]) == ("64", "-1")
    assert drawn == [
        {"gguf": "Tales-Q4_K_M.gguf", "prompt": PROMPT, "max_tokens": 8, "temperature": 0.9,
         "top_p": 0.8, "min_p": 0.1, "top_k": 10, "repeat_penalty": 1.3, "repeat_last_n": 32,
         "seed": 5}
    ]  # fmt: skip
    modelfile(data, gguf="Tales-Q8_0.gguf")
    assert dict(instructions(data))["from"] == "./Tales-Q8_0.gguf"
    assert not (data / "8_ollama" / "Tales-Q4_K_M.gguf").exists()
    with pytest.raises(UsageError, match=r"no GGUF of the type f16 \(it has: Tales-Q8_0\.gguf, "):
        modelfile(data, gguf="f16")


def test_a_model_of_chats_gets_its_template_and_a_system_prompt(
    tmp_path: Path, drawn: list[dict[str, Any]]
) -> None:
    data = proven(tmp_path, "F16", chat=CHAT)
    modelfile(data, system='Speak "low".\u00a0"""\nFROM evil')
    found = instructions(data)
    assert ("system", 'Speak "low". """.\nFROM evil') in found
    assert [value for name, value in found if name == "from"] == ["./Tales-F16.gguf"]
    assert "<|im_start|>assistant\n" in dict(found)["template"]
    stops = [value for name, value in found if name == "parameter stop"]
    assert stops == ["</s>", "<|im_end|>"]
    assert "Characters of the system prompt" in warnings(data)
    assert drawn[0]["prompt"] == [1, 2, 3]


def test_more_than_the_model_sees_is_cut_and_said_where_it_was_asked_for(
    tmp_path: Path, drawn: list[dict[str, Any]]
) -> None:
    data = proven(tmp_path, "F16")
    modelfile(data, num_ctx=128)
    found = dict(instructions(data))
    assert (found["parameter num_predict"], found["parameter repeat_last_n"]) == ("96", "128")
    assert "--num-predict" not in warnings(data)
    modelfile(data, num_ctx=128, num_predict=400, repeat_last_n=300)
    found = dict(instructions(data))
    assert (found["parameter num_predict"], found["parameter repeat_last_n"]) == ("128", "128")
    assert "--num-predict 400 is more than the model sees at once: 128 is written" in warnings(data)
    assert "--repeat-last-n 300 is more" in warnings(data)


def test_the_sample_of_a_model_of_records_shows_what_a_record_asks(
    tmp_path: Path, drawn: list[dict[str, Any]]
) -> None:
    turns = [{"role": "system", "content": "Be brief."}, {"role": "user", "content": "Who,\n\nme?"}]
    asked = {"prompt": "Who,\n\nme?", "prompts": ["Who,\n\nme?"], "turns": [turns],
             "prompts_from": "held-out records"}  # fmt: skip
    data = proven(tmp_path, "F16", chat=CHAT, asked=asked)
    modelfile(data)
    assert (
        (data / "8_ollama" / "sample.txt")
        .read_text()
        .startswith(
            "Prompt (of held-out records):\n  system: Be brief.\n  user: Who,\n  me?\n\nme/base"
        )
    )


def test_a_template_that_cannot_be_converted_is_said(
    tmp_path: Path, drawn: list[dict[str, Any]]
) -> None:
    data = proven(tmp_path, "F16", chat={**CHAT, "joins": None})
    modelfile(data)
    assert "template" not in dict(instructions(data))
    assert "Ollama has to guess" in warnings(data)


def test_a_system_prompt_is_not_for_completion(tmp_path: Path) -> None:
    data = proven(tmp_path, "F16")
    with pytest.raises(UsageError, match="--system is for models of chats"):
        modelfile(data, system="Be brief.")
    assert not (data / "8_ollama").exists()


def test_a_score_of_a_part_of_the_text_is_not_put_beside_the_others(
    tmp_path: Path, drawn: list[dict[str, Any]]
) -> None:
    data = proven(tmp_path, "F16", proof="quick", text={"whole": False})
    modelfile(data)
    assert "GGUF  " not in (data / "8_ollama" / "sample.txt").read_text("utf-8")


def test_an_edited_modelfile_is_kept_and_is_what_ollama_gets(
    tmp_path: Path, drawn: list[dict[str, Any]], program: Path
) -> None:
    data = proven(tmp_path, "F16")
    modelfile(data)
    path = data / "8_ollama" / "Modelfile"
    path.write_text(path.read_text() + "PARAMETER top_k 7\n")
    modelfile(data, temperature=0.1, create="tales")
    known = json.loads((program / "models.json").read_text())
    assert ["parameter top_k", "7"] in known["tales"]


ADAPTER = {"file": "tales-lora.gguf", "base_model": "me/base"}


@pytest.mark.parametrize("also_whole", [False, True])
def test_an_adapter_goes_on_the_base_that_the_user_has(
    tmp_path: Path, drawn: list[dict[str, Any]], also_whole: bool
) -> None:
    data = proven(tmp_path / "data", *["F16"] * also_whole, adapter=ADAPTER)
    make_gguf(data / "7_gguf" / "tales-lora.gguf")
    modelfile(data, from_model="llama3")
    found = instructions(data)
    assert found[:2] == [("from", "llama3:latest"), ("adapter", "./tales-lora.gguf")]
    assert "adapter (yours) goes on:\n  a creature." in (
        data / "8_ollama" / "sample.txt"
    ).read_text("utf-8")
    base = make_gguf(tmp_path / "my base.gguf")
    modelfile(data, from_model=str(base))
    assert instructions(data)[0] == ("from", "./my base.gguf")
    assert (data / "8_ollama" / "my base.gguf").is_file()
    with pytest.raises(UsageError, match="would replace the base"):
        modelfile(data, from_model="llama3", create="llama3:latest")
    make_gguf(tmp_path / "other.gguf", "gemma")
    with pytest.raises(PipelineError, match="is a gemma model, but the adapter is for llama"):
        modelfile(data, from_model=str(tmp_path / "other.gguf"))
    with pytest.raises(PipelineError, match="no GGUF file"):
        modelfile(data, from_model="nowhere.gguf")
    if not also_whole:
        with pytest.raises(UsageError, match=r"needs its base model, me/base, too\. Say --from"):
            modelfile(data)


@pytest.mark.slow
def test_killed_at_any_moment_the_same_command_ends_as_if_nothing_had_happened(
    tmp_path: Path,
) -> None:
    data = proven(tmp_path / "data", adapter=ADAPTER)
    make_gguf(data / "7_gguf" / ADAPTER["file"])
    undisturbed = Path(shutil.copytree(data, tmp_path / "undisturbed"))
    modelfile(undisturbed, from_model="llama3")
    kills = killed_until_it_ends(
        data / "8_ollama", "modelfile", "--data-dir", data, "--from", "llama3"
    )
    assert kills > 3
    expected = contents(undisturbed / "8_ollama", "stage.json")
    assert set(expected) == {"Modelfile", "sample.txt", ADAPTER["file"]}
    assert contents(data / "8_ollama", "stage.json") == expected


def test_a_base_is_only_for_an_adapter(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match=r"--from is for an adapter.*has none"):
        modelfile(proven(tmp_path, "F16"), from_model="llama3")


def test_ollama_is_asked_and_its_answer_printed(
    tmp_path: Path, drawn: list[dict[str, Any]], program: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    data = proven(tmp_path, "F16")
    (tmp_path / ".ollama").mkdir()
    (tmp_path / ".ollama" / "id_ed25519").write_text("a secret")
    modelfile(data, create="me/tales", run=PROMPT, push=True)
    printed = capsys.readouterr()
    assert printed.out == f"{ANSWER}\n"
    assert "a secret" not in printed.out + printed.err
    assert [call["arguments"][0] for call in asked(program)] == ["create", "run", "push"]
    assert asked(program)[1]["input"] == PROMPT
    modelfile(data, create="me/tales", run=PROMPT)  # nothing has changed, but it was asked again
    assert len(drawn) == 1
    assert len(asked(program)) == 5


def test_a_failure_of_ollama_leaves_the_stage_done(
    tmp_path: Path, drawn: list[dict[str, Any]], program: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    data = proven(tmp_path, "F16")
    monkeypatch.setenv("OLLAMA_TEST", "down")
    with pytest.raises(PipelineError, match=r"ollama create tales .* failed: could not connect"):
        modelfile(data, create="tales")
    assert json.loads((data / "8_ollama" / "stage.json").read_text())["status"] == "complete"
    with pytest.raises(PipelineError, match=r"its key .* is not there"):
        modelfile(data, create="me/tales", push=True)


def test_without_ollama_the_commands_are_printed(
    tmp_path: Path, drawn: list[dict[str, Any]], capsys: pytest.CaptureFixture[str]
) -> None:
    data = proven(tmp_path / "my data", "F16")
    modelfile(data, create="me/tales", run="It's late", push=True)
    assert capsys.readouterr().out.splitlines() == [
        f"cd '{data / '8_ollama'}'",
        "ollama create me/tales -f Modelfile",
        "ollama run me/tales 'It'\"'\"'s late'",
        "ollama push me/tales",
    ]


def test_what_makes_no_sense_is_refused_before_any_work(tmp_path: Path) -> None:
    data = proven(tmp_path, "F16")
    for wrong in ({"create": "no name"}, {"run": "x"}, {"push": True}, {"top_p": 2.0}):
        with pytest.raises(UsageError):
            modelfile(data, **wrong)  # type: ignore[arg-type]
    assert not (data / "8_ollama").exists()

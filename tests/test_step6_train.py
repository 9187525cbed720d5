"""Stage 6 on what stages 1 to 4 made of records and texts, and what stages 7 and 8 make of that."""

import inspect
import json
import random
import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import huggingface_hub.constants
import pytest
import yaml
from typer.testing import CliRunner

from pipeline.cli import make_pipeline
from pipeline.errors import PipelineError, Stopped, UsageError
from pipeline.export.header import metadata
from pipeline.export.modelfile import parse_modelfile
from pipeline.status import unfinished_run
from pipeline.step1_acquire import acquire
from pipeline.step2_preprocess import preprocess
from pipeline.step3_chunk import chunk
from pipeline.step4_upload import upload
from pipeline.step6_train import settings_from, train
from pipeline.step7_quantize import quantize
from pipeline.step8_modelfile import modelfile
from pipeline.training.base_model import BaseModel
from pipeline.training.methods import METHODS, PRESETS
from pipeline.workspace import Workspace
from tests.chain import ROOT, environment
from tests.tiny_models import TALE, tiny_llama, tiny_llama_smollm
from tests.training.hub_server import hub

PAIRS = [
    {"prompt": f"Who is there, {n}?", "completion": " The sea." * (1 + n % 3)} for n in range(60)
]
CHATS: list[dict[str, Any]] = [
    {"messages": [{"role": "user", "content": f"Who is there, {n}?"},
                  {"role": "assistant", "content": "The sea, and nobody else."}]}
    for n in range(60)
]  # fmt: skip
SHORT: dict[str, Any] = {
    "sequence_length": 64, "batch_size": 2, "max_steps": 2, "eval_tokens": 120, "sample_tokens": 4,
    "jobs": 1,
}  # fmt: skip

FULL_DISK = SimpleNamespace(disk_usage=lambda place: SimpleNamespace(free=1))


@pytest.fixture(scope="module")
def base(tmp_path_factory: pytest.TempPathFactory) -> BaseModel:
    return tiny_llama(tmp_path_factory.mktemp("tiny") / "model")


def prepare(data: Path, **sources: list[dict[str, Any]]) -> None:
    """Stages 1 to 4 on records, each source a file of JSON lines."""
    paths = []
    for name, rows in sources.items():
        paths.append(data.parent / f"{name}.jsonl")
        paths[-1].write_text("".join(json.dumps(row) + "\n" for row in rows))
    acquire(data, source=[str(path) for path in paths])
    preprocess(data)
    chunk(data)
    upload(data)


def trained(data: Path, base: BaseModel, **options: Any) -> dict[str, Any]:
    """Train, and return the run's record."""
    train(data, base_model=str(base.path), **{**SHORT, **options})
    record: dict[str, Any] = yaml.safe_load((data / "6_adapter" / "run.yaml").read_text())
    return record


@pytest.mark.parametrize(("kind", "rows"), [("completion", PAIRS), ("chat", CHATS)])
def test_records_are_trained_on_from_end_to_end(
    base: BaseModel, tmp_path: Path, kind: str, rows: list[dict[str, Any]]
) -> None:
    data = tmp_path / "data"
    prepare(data, qa=rows)
    ledger = trained(data, base)["data"]
    evaluation = json.loads((data / "6_adapter" / "evaluation.json").read_text())
    assert ledger["kind"] == evaluation["kind"] == kind
    assert evaluation["held_out"]["documents"], "some were held out by stage 3"
    held = sum(1 for _ in evaluation["held_out"]["documents"])
    assert 40 <= ledger["examples"] <= 60 - held
    stage = json.loads((data / "6_adapter" / "stage.json").read_text())
    assert stage["counts"]["ledger"].items() <= ledger.items()
    before = (data / "6_adapter" / "stage.json").read_bytes()
    trained(data, base)
    assert (data / "6_adapter" / "stage.json").read_bytes() == before, "nothing to do"


def test_records_are_not_cut_into_chunks_of_their_own(base: BaseModel, tmp_path: Path) -> None:
    data = tmp_path / "data"
    prepare(data, qa=PAIRS)
    with pytest.raises(UsageError, match="--eos per-chunk is for texts, and records are not cut"):
        trained(data, base, eos="per-chunk")


@pytest.mark.parametrize(
    ("given", "meant"),
    [("per-chunk", "chunk"), ("per-document", "document"), ("chunk", "chunk")],
)
def test_where_texts_end_has_two_names_for_each(given: str, meant: str) -> None:
    values = {name: each.default for name, each in inspect.signature(train).parameters.items()}
    assert settings_from(values | {"eos": given}).eos == meant
    with pytest.raises(UsageError, match="--eos 'row' is unknown"):
        settings_from(values | {"eos": "per-row"})


def test_the_help_gives_every_preset_with_its_reason() -> None:
    shown = CliRunner().invoke(make_pipeline(), ["train", "--help"], env={"COLUMNS": "200"}).output
    text = re.sub(r"[│╭╮╰╯─\s]+", " ", shown)
    for name, preset in PRESETS.items():
        named = "--from-scratch" if name == "scratch" else name
        assert re.search(
            rf"{preset.learning_rate:g} for [^;]*{named}\b[^;]*, since {re.escape(preset.reason)}",
            text,
        ), name
    for name, method in METHODS.items():
        assert f"{name}: {method.about}" in text


def test_of_several_kinds_one_is_chosen(base: BaseModel, tmp_path: Path) -> None:
    data = tmp_path / "data"
    prepare(data, qa=PAIRS, talk=CHATS)
    with pytest.raises(UsageError, match="holds chats and prompts with completions"):
        trained(data, base)
    assert not (data / "6_adapter").exists()
    assert trained(data, base, kind="chat")["data"]["kind"] == "chat"
    assert Workspace(data).examine("train").state == "fresh"


def test_a_table_of_records_needs_no_stage_before(base: BaseModel, tmp_path: Path) -> None:
    path = tmp_path / "talk.jsonl"
    path.write_text("".join(json.dumps(row) + "\n" for row in CHATS))
    record = trained(tmp_path / "data", base, dataset=str(path), chat_template="plain")
    assert record["data"]["kind"] == "chat"
    with pytest.raises(PipelineError, match="All 54 chats are longer than --sequence-length 8"):
        trained(tmp_path / "data", base, dataset=str(path), overlong="drop", sequence_length=8)
    with pytest.raises(UsageError, match="--dataset-revision is for a dataset from the Hub"):
        trained(tmp_path / "data", base, dataset=str(path), dataset_revision="main")
    with pytest.raises(UsageError, match="--dataset-config is for a dataset from the Hub"):
        trained(tmp_path / "data", base, dataset=str(path), dataset_config="en")
    with pytest.raises(PipelineError, match=r"--dataset .*gone\.jsonl is not there"):
        trained(tmp_path / "data", base, dataset=str(tmp_path / "gone.jsonl"))


def test_examples_are_shown_in_brackets_and_nothing_is_trained(
    base: BaseModel, tmp_path: Path
) -> None:
    path = tmp_path / "qa.jsonl"
    path.write_text("".join(json.dumps(row) + "\n" for row in PAIRS))
    shown = subprocess.run(
        [sys.executable, "-m", "pipeline.step6_train", "--data-dir", str(tmp_path / "data"),
         "--base-model", str(base.path), "--dataset", str(path), "--sequence-length", "64",
         "--show", "2"],
        capture_output=True, text=True, check=True, cwd=ROOT, env=environment(),
    ).stdout  # fmt: skip
    assert shown.count("--- sequence") == 2
    assert "<s>Who is there, 0?⟦ The sea.</s>⟧" in shown
    assert not (tmp_path / "data" / "6_adapter").exists()


@pytest.fixture
def base_on_hub(base: BaseModel, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[str]:
    """The id of a base model that is on the Hub alone."""
    with hub({"org/tiny": base.path}) as url:
        template = url + "/{repo_id}/resolve/{revision}/{filename}"
        monkeypatch.setattr(huggingface_hub.constants, "ENDPOINT", url)
        monkeypatch.setattr(huggingface_hub.constants, "HUGGINGFACE_CO_URL_TEMPLATE", template)
        monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_CACHE", str(tmp_path / "cache"))
        yield "org/tiny"


def weights_in(cache: Path) -> list[str]:
    return [p.name for p in cache.rglob("*") if p.suffix in (".safetensors", ".incomplete")]


@pytest.mark.parametrize(
    ("options", "patch", "message"),
    [
        ({"mix": ["poems=1"]}, {}, "--mix cannot be used"),
        ({"order": "even"}, {}, "--order even cannot be used"),
        ({"chat_template": "plain"}, {}, "--chat-template is for chats"),
        ({"target_modules": ["no_such_layer"]}, {}, "no_such_layer"),
        ({"sequence_length": 1 << 20}, {}, "exceeds the .* tokens"),
        ({}, {"estimate.free_memory": lambda **_: 1000}, "of memory: .* has .* free"),
        ({}, {"room.shutil": FULL_DISK}, "The run writes about"),
        ({}, {"base_weights.shutil": FULL_DISK}, "The download of the weights of org/tiny is"),
    ],
)
def test_what_can_be_refused_without_the_weights_of_a_hub_model_is_refused_before_they_are_fetched(
    base_on_hub: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, options: dict[str, Any],
    patch: dict[str, Any], message: str,
) -> None:  # fmt: skip
    path = tmp_path / "qa.jsonl"
    path.write_text("".join(json.dumps(row) + "\n" for row in PAIRS))
    for name, value in patch.items():
        monkeypatch.setattr(f"pipeline.training.{name}", value)
    with pytest.raises(PipelineError, match=message):
        train(tmp_path / "data", base_model=base_on_hub, dataset=str(path), **{**SHORT, **options})
    assert list((tmp_path / "cache").rglob("config.json"))
    assert weights_in(tmp_path / "cache") == []


def test_a_base_model_of_the_hub_is_shown_without_its_weights_and_trained_with_them(
    base_on_hub: str, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    path = tmp_path / "qa.jsonl"
    path.write_text("".join(json.dumps(row) + "\n" for row in PAIRS))
    given: dict[str, Any] = {**SHORT, "base_model": base_on_hub, "dataset": str(path)}
    train(tmp_path / "data", **given, show=1)
    assert "Who is there, 0?⟦ The sea.</s>⟧" in capfd.readouterr().out
    assert weights_in(tmp_path / "cache") == []
    train(tmp_path / "data", **given)
    assert weights_in(tmp_path / "cache") == ["model.safetensors"]
    assert (tmp_path / "data" / "6_adapter" / "adapter_model.safetensors").is_file()


def test_texts_of_a_dataset_are_as_before_and_books_are_not_read(
    base: BaseModel, tmp_path: Path
) -> None:
    data, texts = tmp_path / "data", tmp_path / "texts"
    texts.mkdir()
    for n in range(6):
        words = random.Random(n).sample(TALE.split() * 90, k=30 * len(TALE.split()))
        (texts / f"{n}.txt").write_text(" ".join(words) + "\n")
    acquire(data, source=[str(texts)])
    preprocess(data)
    chunk(data)
    upload(data)
    ledger = trained(data, base)["data"]
    assert ledger["kind"] == "text"
    assert ledger["in_rows"] == ledger["tokens"]
    assert ledger["dropped"] == {}
    assert ledger["real_share"] > 0.95
    per_chunk = trained(data, base, eos="chunk")["data"]
    assert per_chunk["examples"] > ledger["examples"]


def words(seed: int) -> str:
    return " ".join(random.Random(seed).sample(TALE.split() * 3, k=2 * len(TALE.split()))) + "\n"


def in_segments(data: Path, *segments: list[str]) -> None:
    """Stages 1 to 4 on a series: the documents of each segment; others are for evaluation."""
    lists = data.parent / "lists"
    for folder in (lists, data.parent / "scored"):
        folder.mkdir(exist_ok=True)
    (data.parent / "scored" / "held-out.txt").write_text(words(99))
    for number, names in enumerate(segments, 1):
        (lists / f"part_{number}.json").write_text(json.dumps(names))
        for name in names:
            (lists / name).write_text(words(sum(name.encode())))
    pattern = str(lists / "part_{segment_number}.json")
    acquire(data, source=[f"{data.parent / 'scored'}=0"], series=[pattern], refresh=True)
    preprocess(data)
    chunk(data)
    upload(data)


def test_a_series_is_trained_segment_by_segment_until_its_end_and_from_there_if_it_grows(
    base: BaseModel, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    data = tmp_path / "data"
    options: dict[str, Any] = {"max_steps": "auto", "eval_every": 0, "segments_per_round": 1}
    in_segments(data, ["c.txt"], [], ["a.txt", "b.txt"])
    with pytest.raises(PipelineError, match="Segment lists/2 of the series is listed, but has no"):
        trained(data, base, **options)
    options["missing_segment"] = "skip"
    with pytest.raises(Stopped):
        trained(data, base, **options)
    said = capfd.readouterr().err
    assert "lists/1 (3), lists/3 (6)." in said
    assert "9 sequences, 2 a step: 5 steps." in said
    assert ", in segment lists/3 (2 of 2; 1 of its 6 sequences read); the same command goes" in (
        unfinished_run(Workspace(data)) or ""
    )
    assert trained(data, base, **options)["length"] == {"steps": 5, "epochs": 1.0}
    stage = Workspace(data).record("train")
    assert stage is not None
    assert stage.counts["segments"] == 2
    in_segments(data, ["c.txt"], [], ["a.txt", "b.txt"], ["d.txt"])
    assert Workspace(data).examine("train").state == "stale"
    record = trained(data, base, **options, allow_changed=True)
    assert record["length"]["steps"] == 7, "the fifth was not a full one"
    assert record["data"]["examples"] == 4
    assert "The series has grown: segments (new: lists/4)." in capfd.readouterr().err


@pytest.mark.parametrize(
    ("given", "meant"), [(None, None), (7, 7), ("7", 7), ("auto", None), (" AUTO ", None)]
)
def test_steps_are_a_number_or_those_of_one_pass(given: Any, meant: int | None) -> None:
    values = {name: each.default for name, each in inspect.signature(train).parameters.items()}
    assert settings_from(values | {"max_steps": given}).max_steps == meant
    for wrong, message in (
        ({"max_steps": "some"}, "--max-steps must be a number of steps, or auto, not 'some'"),
        ({"max_steps": "0"}, "--max-steps must be at least 1, not 0"),
        ({"max_steps": "auto", "epochs": 2.0}, "Give --max-steps or --epochs, not both"),
        ({"max_steps": "auto", "tokens": 9}, "Give --max-steps or --tokens, not both"),
    ):
        with pytest.raises(UsageError, match=message):
            settings_from(values | wrong)


@pytest.mark.slow
def test_a_model_of_chats_reaches_ollama_with_its_template(tmp_path: Path) -> None:
    base = tiny_llama_smollm(tmp_path / "base")
    data = tmp_path / "data"
    prepare(data, talk=CHATS)
    trained(data, base, sequence_length=128, max_steps=4, learning_rate=1e-2)
    evaluation = json.loads((data / "6_adapter" / "evaluation.json").read_text())
    quantize(data, quantization=["f16"])
    (gguf,) = (data / "7_gguf").glob("*.gguf")
    assert metadata(gguf)["tokenizer.chat_template"] == evaluation["chat"]["template"]
    proof = json.loads((data / "7_gguf" / "proof.json").read_text())
    bits = proof["files"][gguf.name]["bits_per_byte"]
    assert bits == pytest.approx(evaluation["bits_per_byte"]["adapter"], rel=0.02)
    modelfile(data)
    commands = parse_modelfile((data / "8_ollama" / "Modelfile").read_text())
    template = next(c.value for c in commands if c.name == "template")
    assert "{{ .Content }}<|im_end|>\n<|im_start|>assistant\n{{ end }}" in template
    assert "<|im_end|>" in [c.value for c in commands if c.name == "stop"]

"""`pipeline evaluate`: models of every form on the same bytes, in one table."""

import json
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import torch
from peft import LoraConfig, get_peft_model
from transformers import AutoModelForCausalLM, AutoTokenizer

from pipeline.errors import PipelineError, UsageError
from pipeline.evaluate import evaluate_models
from pipeline.export.gguf import convert
from pipeline.scoring.bits import load_windows, save_windows, score_model, windows
from pipeline.training import scored_models
from pipeline.training.scored_models import find_candidate, load_for_scoring
from tests.chain import pipeline
from tests.tiny_models import (
    TALE,
    Document,
    documents,
    on_one_thread,
    tiny_llama,
    tiny_llama_smollm,
)

SOURCES = ["novels", "letters", "novels"]
HELD_OUT = [
    Document(f"tale-{i}", tale.text.rstrip("\n")) for i, tale in enumerate(documents(3, 12))
]


@pytest.fixture(autouse=True)
def one_thread() -> Iterator[None]:
    with on_one_thread():
        yield


@pytest.fixture(scope="module")
def models(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with a tiny model, `base`, an `other` with another tokenizer, and two adapters of
    the first, one `untrained` and one `trained`."""
    folder = tmp_path_factory.mktemp("models")
    base = tiny_llama(folder / "base", context=1024).path
    tiny_llama(folder / "other", "the sea went on talking to the stones", adds_bos=False)
    save_adapter(base, folder / "untrained")
    save_adapter(base, folder / "trained", strength=0.3)
    return folder


@pytest.fixture(scope="module")
def smol(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The same with SmolLM2's tokenizer, for which llama.cpp has a name, and a GGUF of it."""
    folder = tmp_path_factory.mktemp("smol")
    base = tiny_llama_smollm(folder / "base").path
    convert(base, folder / "base.gguf", folder / "convert.log")
    save_adapter(base, folder / "trained", strength=0.3)
    return folder


def save_adapter(base: Path, out: Path, *, strength: float = 0.0) -> None:
    torch.manual_seed(1)
    model = AutoModelForCausalLM.from_pretrained(base)
    lora = LoraConfig(task_type="CAUSAL_LM", r=4, target_modules=["q_proj", "down_proj"])
    adapted = get_peft_model(model, lora)
    with torch.no_grad():
        for name, parameter in adapted.named_parameters():
            if "lora_B" in name:
                parameter.add_(strength * torch.randn_like(parameter))
    adapted.save_pretrained(str(out), save_embedding_layers=False)


@pytest.fixture(scope="module")
def table(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("data") / "tales.parquet"
    write_table(path, HELD_OUT)
    return path


def write_table(path: Path, held_out: list[Document]) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    columns = {
        "text": [document.text for document in held_out],
        "document_id": [document.id for document in held_out],
        "collection": SOURCES[: len(held_out)],
        "weight": [1.0] * len(held_out),
    }
    pq.write_table(pa.table(columns), path)


@pytest.fixture
def workspace(models: Path, tmp_path: Path) -> Path:
    """What stages 4 and 6 leave: a dataset, an adapter with its windows."""
    return make_workspace(tmp_path / "data", models)


def make_workspace(data: Path, models: Path) -> Path:
    write_table(data / "4_dataset" / "data" / "validation-00000-of-00001.parquet", HELD_OUT)
    train = data / "4_dataset" / "data" / "train-00000-of-00001.parquet"
    write_table(train, [Document("other", TALE)])
    adapter = data / "6_adapter"
    shutil.copytree(models / "trained", adapter)
    for path in (models / "base").glob("tokenizer*"):
        shutil.copy(path, adapter)
    tokenizer = AutoTokenizer.from_pretrained(models / "base")
    save_windows(adapter / "windows.json", windows(tokenizer, HELD_OUT, max_tokens=800))
    return data


def evaluated(capsys: pytest.CaptureFixture[str], *names: object, **options: Any) -> Any:
    """The report that `--json` prints."""
    options = {"data_dir": Path("/nonexistent"), **options}
    evaluate_models([str(name) for name in names], as_json=True, **options)
    return json.loads(capsys.readouterr().out)


def test_models_of_every_form_are_scored_on_the_same_bytes(
    models: Path, smol: Path, table: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:  # fmt: skip
    # llama.cpp adds up in float32, which the model has to do, too, for as close a look as this.
    exact = scored_models.Machine(cuda=False, bf16=False, unsloth=False)
    monkeypatch.setattr(scored_models.Machine, "detect", lambda: exact)
    places = [models / name for name in ("other", "base", "untrained", "trained")]
    places += [smol / "base", smol / "base.gguf"]
    report = evaluated(capsys, *places, dataset=str(table), data_dir=tmp_path, tokens=800)
    rows = {row["place"]: row for row in report["models"]}
    other, base, untrained, trained, small, gguf = (rows[str(place)] for place in places)
    kinds = ["model", "model", "adapter", "adapter", "model", "gguf"]
    assert [row["kind"] for row in rows.values()] == kinds
    assert {row["bytes"] for row in rows.values()} == {report["data"]["bytes"]}
    assert len({other["tokens"], base["tokens"], small["tokens"]}) == 3, "three tokenizers"
    assert untrained["bits_per_byte"] == base["bits_per_byte"], "exactly"
    assert abs(trained["bits_per_byte"] - base["bits_per_byte"]) > 0.01
    assert gguf["tokens"] == small["tokens"]
    assert gguf["bits_per_byte"] == pytest.approx(small["bits_per_byte"], abs=0.001)
    assert all(row["tokens_per_second"] > 0 for row in rows.values())
    names = [row["model"] for row in report["models"]]
    assert names[1] == str(models / "base"), "of two models called base each is named by its place"
    assert names[-1] == "base.gguf"


def test_without_a_name_it_is_what_the_workspace_holds_on_what_stage_6_held_out(
    smol: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    data = make_workspace(tmp_path / "data", smol)
    (data / "7_gguf").mkdir()
    shutil.copy(smol / "base.gguf", data / "7_gguf" / "tuned-BF16.gguf")
    report = evaluated(capsys, data_dir=data, by_source=True)
    assert [row["model"] for row in report["models"]] == ["base", "6_adapter", "tuned-BF16.gguf"]
    cut = load_windows(data / "6_adapter" / "windows.json")
    loaded = load_for_scoring(find_candidate(str(data / "6_adapter")), data)
    expected = score_model(loaded.model, cut, autocast=loaded.autocast)
    adapter = report["models"][1]
    assert adapter["bits_per_byte"] == expected.bits_per_byte, "as stage 6 measured it"
    assert {row["tokens"] for row in report["models"]} == {expected.tokens}
    assert report["data"]["documents"] == ["tale-0", "tale-1", "tale-2"]
    for row in report["models"]:
        parts = row["by_source"]
        assert set(parts) == {"letters", "novels"}
        assert sum(part["bytes"] for part in parts.values()) == row["bytes"]
        nats = sum(part["loss"] * part["tokens"] for part in parts.values())
        assert nats / row["tokens"] == pytest.approx(row["loss"])


def test_another_tokenizer_is_scored_on_the_bytes_that_stage_6_scored(
    models: Path, workspace: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    rows = evaluated(capsys, models / "other", models / "base", data_dir=workspace)["models"]
    assert rows[0]["bytes"] == rows[1]["bytes"]
    assert rows[0]["tokens"] != rows[1]["tokens"]


def test_more_or_less_can_be_scored_than_stage_6_did(
    workspace: Path, capsys: pytest.CaptureFixture[str], models: Path
) -> None:
    def tokens(n: int | None) -> int:
        report = evaluated(capsys, models / "base", data_dir=workspace, tokens=n)
        return int(report["models"][0]["tokens"])

    assert tokens(None) in range(780, 801)
    assert tokens(300) in range(280, 301)


def test_a_small_number_of_tokens_is_taken_evenly_from_all_texts(
    models: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    shelf = tmp_path / "shelf"
    shelf.mkdir()
    for number in range(5):
        (shelf / f"tale-{number}.txt").write_text("The lamp went out, and the door stood. " * 40)
    few: dict[str, Any] = {"dataset": str(shelf), "data_dir": tmp_path}
    report = evaluated(capsys, models / "base", tokens=200, **few)
    assert report["data"]["documents"] == [f"tale-{number}" for number in range(5)]
    evaluate_models([str(models / "base")], tokens=64, **few)
    assert "bytes of 2 of 5 documents." in capsys.readouterr().out


def test_before_stage_6_has_run_the_dataset_says_what_is_held_out(
    workspace: Path, models: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    shutil.rmtree(workspace / "6_adapter")
    report = evaluated(capsys, models / "base", data_dir=workspace, tokens=800)
    assert report["data"]["documents"] == ["tale-0", "tale-1", "tale-2"]


def test_the_table_is_printed_and_the_report_is_kept(
    models: Path, table: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "scores.json"
    evaluate_models(
        [str(models / "base")], data_dir=tmp_path, dataset=str(table), by_source=True, out=out,
        tokens=800,
    )  # fmt: skip
    report = json.loads(out.read_text())
    row = report["models"][0]
    printed = capsys.readouterr().out
    assert printed.split("\n")[0].split("  ")[0] == "model"
    for shown in (f"{row['bits_per_byte']:.4f}", f"{row['perplexity']:,.2f}", "letters"):
        assert shown in printed
    assert f"{row['bytes']:,} bytes of 3 documents. Perplexity is per token" in printed


def test_what_an_adapter_changes_of_its_base_is_changed_here_too(
    models: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    from pipeline.training.scored_models import Loaded

    adapter = tmp_path / "adapter"
    shutil.copytree(models / "untrained", adapter)
    changes: dict[str, Any] = {
        "rope_parameters": {"rope_type": "linear", "factor": 2.0, "rope_theta": 10000.0},
        "max_position_embeddings": 2048,
        "extra_tokens": ["Frankenstein’s", "Καλημέρα"],
    }
    (adapter / "base_changes.json").write_text(json.dumps(changes))

    def load(folder: Path) -> Loaded:
        return load_for_scoring(find_candidate(str(folder)), tmp_path)

    changed, plain = load(adapter), load(models / "untrained")
    assert changed.model.config.rope_parameters["factor"] == 2.0
    assert (plain.context, changed.context) == (1024, 2048)
    assert len(changed.tokenizer) == len(plain.tokenizer) + 2
    assert changed.model.get_input_embeddings().weight.shape[0] == len(changed.tokenizer)
    ids = changed.tokenizer("Καλημέρα", add_special_tokens=False)["input_ids"]
    assert len(ids) == 1
    assert not any(p.requires_grad for p in changed.model.parameters())

    text = tmp_path / "letter.txt"
    text.write_text("She said Καλημέρα to Frankenstein’s son, and Καλημέρα to the sea. " * 20)
    names = (models / "untrained", adapter)
    rows = evaluated(capsys, *names, dataset=str(text), data_dir=tmp_path)["models"]
    assert rows[0]["bytes"] == rows[1]["bytes"]
    assert rows[0]["tokens"] > rows[1]["tokens"], "new tokens spell the same text in fewer"


def test_texts_are_taken_as_they_are(
    models: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    folder = tmp_path / "letters"
    folder.mkdir()
    (folder / "a.txt").write_bytes(TALE.encode("windows-1252", "replace"))
    (folder / "b.txt").write_text("\ufeff" + TALE)
    report = evaluated(capsys, models / "base", dataset=str(folder), data_dir=tmp_path)
    assert report["data"]["documents"] == ["a", "b"]
    with pytest.raises(UsageError, match="holds texts, and --kind is chat"):
        evaluated(capsys, models / "base", dataset=str(folder), kind="chat", data_dir=tmp_path)


def test_of_records_what_the_model_has_to_write_is_scored(
    models: Path, smol: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = tmp_path / "qa.jsonl"
    answers = [f" The sea, {n} times — nobody." for n in range(30)]
    rows = [{"prompt": "Who is there?", "completion": answer} for answer in answers]
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    names = (smol / "base", smol / "base.gguf", models / "other")
    report = evaluated(capsys, *names, dataset=str(path), data_dir=tmp_path)
    assert report["data"]["kind"] == "completion"
    assert {row["bytes"] for row in report["models"]} == {len("".join(answers).encode())}
    assert report["models"][0]["tokens"] == report["models"][1]["tokens"]
    with pytest.raises(PipelineError, match=r"base\.gguf: Only its records' plain text"):
        evaluated(capsys, smol / "base.gguf", dataset=str(path), data_dir=tmp_path)


def folder_of(path: Path, **files: bytes) -> Path:
    path.mkdir()
    for name, data in files.items():
        (path / name.replace("__", ".")).write_bytes(data)
    return path


def cut_short(source: Path, target: Path, name: str) -> Path:
    """A copy of a folder whose file `name` lacks its last half."""
    shutil.copytree(source, target)
    path = target / name
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])
    return target


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda m, t: t / "gone.gguf", "There is no GGUF file"),
        (lambda m, t: folder_of(t / "x"), "holds no model: neither config.json nor"),
        (lambda m, t: folder_of(t / "x", a__gguf=b"GGUF"), "holds no model"),
        (lambda m, t: folder_of(t / "x", a__gguf=b"GGUF") / "a.gguf", "is not a GGUF file"),
        (lambda m, t: folder_of(t / "x", a__txt=b"Hm") / "a.txt", "is no model that can be"),
        (lambda m, t: t / "no such model", "There is no model '.*no such model'"),
        (lambda m, t: cut_short(m / "base", t / "x", "model.safetensors"), "cannot be loaded"),
        (lambda m, t: cut_short(m / "trained", t / "x", "adapter_model.safetensors"),
         "is damaged or not whole"),
        (lambda m, t: cut_short(m / "trained", t / "x", "adapter_config.json"), "is damaged"),
        (lambda m, t: folder_of(t / "x", adapter_config__json=b"{}"), "is no whole adapter"),
    ],
)  # fmt: skip
def test_what_is_no_model_is_one_sentence(
    models: Path, table: Path, tmp_path: Path, make: Any, message: str,
    capsys: pytest.CaptureFixture[str],
) -> None:  # fmt: skip
    with pytest.raises(PipelineError, match=message):
        evaluated(capsys, make(models, tmp_path), dataset=str(table), data_dir=tmp_path)


def test_an_adapter_whose_base_is_not_there_is_one_sentence(
    models: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    adapter = tmp_path / "adapter"
    shutil.copytree(models / "trained", adapter)
    config = json.loads((adapter / "adapter_config.json").read_text())
    for base, message in (("/no/such/base", "which is not to be had"), (None, "does not say")):
        config["base_model_name_or_path"] = base
        (adapter / "adapter_config.json").write_text(json.dumps(config))
        with pytest.raises(PipelineError, match=message):
            evaluated(capsys, adapter, data_dir=tmp_path)
    # Stage 6 records how the base was asked for.
    record = {"settings": {"base_model": str(models / "base"), "revision": None}}
    (adapter / "stage.json").write_text(json.dumps(record))
    assert find_candidate(str(adapter)).base == str(models / "base")


@pytest.mark.parametrize(
    "changes", [b"{", b"[]", b'{"extra_tokens": 3}', b'{"rope_parameters": [1]}',
                b'{"max_position_embeddings": "many"}'],
)  # fmt: skip
def test_damaged_changes_of_the_base_are_one_sentence(
    models: Path, table: Path, tmp_path: Path, changes: bytes, capsys: pytest.CaptureFixture[str]
) -> None:
    adapter = tmp_path / "adapter"
    shutil.copytree(models / "trained", adapter)
    (adapter / "base_changes.json").write_bytes(changes)
    with pytest.raises(PipelineError, match=r"base_changes.json is damaged"):
        evaluated(capsys, adapter, dataset=str(table), data_dir=tmp_path)


def test_an_empty_workspace_and_empty_text_are_one_sentence(
    models: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(PipelineError, match="holds no model to score"):
        evaluated(capsys, data_dir=tmp_path)
    empty = tmp_path / "empty.jsonl"
    empty.write_text('{"text": ""}\n')
    with pytest.raises(PipelineError, match="no held-out text to score"):
        evaluated(capsys, models / "base", dataset=str(empty), data_dir=tmp_path)
    with pytest.raises(PipelineError, match="is not there"):
        evaluated(capsys, models / "base", dataset=str(tmp_path / "no"), data_dir=tmp_path)
    with pytest.raises(UsageError, match="go with --dataset"):
        evaluated(capsys, models / "base", kind="chat", data_dir=tmp_path)


@pytest.mark.parametrize("rows", ["{", "[1]", '[{"document": 1, "ids": [1, 2], "n_bytes": 3}]'])
def test_damaged_windows_are_one_sentence(
    workspace: Path, rows: str, capsys: pytest.CaptureFixture[str]
) -> None:
    (workspace / "6_adapter" / "windows.json").write_text(rows)
    with pytest.raises(PipelineError, match=r"windows.json is damaged"):
        evaluated(capsys, data_dir=workspace)


def test_a_dataset_that_is_not_the_one_trained_on_is_one_sentence(
    workspace: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = workspace / "4_dataset" / "data" / "validation-00000-of-00001.parquet"
    write_table(path, [Document("tale-0", "Another text. " * 99), *HELD_OUT[1:]])
    with pytest.raises(PipelineError, match="'tale-0' is no longer what it was"):
        evaluated(capsys, data_dir=workspace)


def test_it_is_a_command(models: Path, table: Path, tmp_path: Path) -> None:
    result = pipeline(
        "evaluate", models / "base", "--dataset", table, "--tokens", 300, "--json",
        "--data-dir", tmp_path,
    )  # fmt: skip
    assert json.loads(result.stdout)["models"][0]["model"] == "base"
    assert "base: " in result.stderr

"""`pipeline train --push-to`: what goes to the Hub, when, and what becomes of a Hub that fails."""

import json
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from peft import PeftModel
from transformers import AutoModelForCausalLM

from pipeline import push_best
from pipeline.errors import PipelineError, Stopped, UsageError
from pipeline.status import unfinished_run
from pipeline.step6_train import train
from pipeline.training.base_model import BaseModel
from pipeline.training.metrics import read_metrics
from pipeline.workspace import Workspace
from tests.hub.test_adapter_repository import loopback
from tests.hub_server import TOKEN, HubServer
from tests.tiny_models import TALE, on_one_thread, tiny_llama, without_pictures

NAME = "ada/tales"
REPO = "model", NAME
OPTIONS: dict[str, Any] = {
    "sequence_length": 64, "batch_size": 2, "max_steps": 4, "eval_tokens": 120, "sample_tokens": 2,
    "jobs": 1, "eval_every": 1, "learning_rate": 1e-2, "dropout": 0.1, "rank": 4,
}  # fmt: skip


@pytest.fixture(autouse=True, scope="module")
def one_thread() -> Iterator[None]:
    with on_one_thread():
        yield


@pytest.fixture(autouse=True)
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    without_pictures(monkeypatch)
    monkeypatch.setattr("pipeline.training.publishing_best.backoff", lambda *_: 0.01)


@pytest.fixture
def hub(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Iterator[HubServer]:
    with loopback(monkeypatch, tmp_path) as server:
        yield server


@pytest.fixture(scope="module")
def base(tmp_path_factory: pytest.TempPathFactory) -> BaseModel:
    return tiny_llama(tmp_path_factory.mktemp("tiny") / "model")


@pytest.fixture(scope="module")
def records(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("records") / "qa.jsonl"
    rows = [{"prompt": f"Who, {n}?", "completion": f" {TALE[n : n + 90]}"} for n in range(60)]
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return path


@pytest.fixture(scope="module")
def plain(tmp_path_factory: pytest.TempPathFactory, base: BaseModel, records: Path) -> Path:
    """A data directory in which training has ended, and nothing was pushed."""
    data = tmp_path_factory.mktemp("plain") / "data"
    train(data, base_model=str(base.path), dataset=str(records), **OPTIONS)
    return data


def pushed(data: Path, base: BaseModel, records: Path, **options: Any) -> None:
    given = {**OPTIONS, "push_to": NAME, **options}
    train(data, base_model=str(base.path), dataset=str(records), **given)


def summaries(hub: HubServer) -> list[str]:
    return [commit["header"]["summary"] for commit in hub.repos[REPO].commits]


def test_a_run_that_is_pushed_is_the_same_run_and_what_is_there_loads(
    hub: HubServer, base: BaseModel, records: Path, plain: Path, tmp_path: Path,
    capfd: pytest.CaptureFixture[str],
) -> None:  # fmt: skip
    data = tmp_path / "data"
    pushed(data, base, records)
    ours, theirs = data / "6_adapter", plain / "6_adapter"
    weights = (ours / "adapter_model.safetensors").read_bytes()
    assert weights == (theirs / "adapter_model.safetensors").read_bytes()
    losses = [
        [(point.step, point.loss, point.grad_norm) for point in read_metrics(at / "metrics.jsonl")]
        for at in (ours, theirs)
    ]
    assert losses[0] == losses[1]

    assert hub.repos[REPO].private
    first, *_, last = summaries(hub)
    assert first.startswith("Step 1 of 4, the best so far:")
    assert ", the result: " in last
    for commit in hub.repos[REPO].commits:
        sent = {line["value"]["path"] for line in commit["operations"]}
        assert {"README.md", "push.json"} <= sent, "the card is never of other weights"
    files = hub.files(*REPO)
    assert files["adapter_model.safetensors"] == weights
    assert b"**Training is finished.**" in files["README.md"]
    assert b"rank: 4" in files["settings.yaml"] and b"dataset: qa.jsonl" in files["settings.yaml"]
    assert not any(str(tmp_path).encode() in content for content in files.values())
    folder = tmp_path / "downloaded"
    folder.mkdir()
    for name, content in files.items():
        (folder / name).write_bytes(content)
    PeftModel.from_pretrained(AutoModelForCausalLM.from_pretrained(base.path), folder)

    said = capfd.readouterr().err
    assert f"settings and card go to {hub.url}/{NAME} (made just now, private)" in said
    assert "Pushed the best weights so far, of step 1, to" in said
    everything = [p.read_bytes() for p in data.rglob("*") if p.is_file()]
    assert not any(TOKEN.encode() in content for content in everything) and TOKEN not in said
    assert not list((data / ".cache").glob(".tmp-pushing*")), "nothing is left behind"
    pushed(data, base, records)
    assert len(summaries(hub)) == len([first, *_, last]), "nothing to do, and nothing to commit"


def test_a_whole_model_goes_there_as_transformers_has_it(
    hub: HubServer, base: BaseModel, records: Path, tmp_path: Path
) -> None:
    short = {"method": "full", "rank": 64, "dropout": 0.0, "max_steps": 2, "learning_rate": 1e-3}
    for name, to in (("with", NAME), ("without", None)):
        pushed(tmp_path / name, base, records, push_to=to, **short)
    weights = [
        (tmp_path / name / "6_adapter" / "model.safetensors").read_bytes()
        for name in ("with", "without")
    ]
    assert weights[0] == weights[1]
    files = hub.files(*REPO)
    assert files["model.safetensors"] == weights[0]
    assert {"config.json", "tokenizer.json"} <= set(files)
    assert str(base.path).encode() not in files["config.json"]


def test_rounds_push_on_and_what_did_not_arrive_is_sent_by_the_next(
    hub: HubServer, base: BaseModel, records: Path, plain: Path, tmp_path: Path,
    capfd: pytest.CaptureFixture[str],
) -> None:  # fmt: skip
    data = tmp_path / "data"
    hub.fail("/commit/", 500, times=1000)
    with pytest.raises(Stopped):
        pushed(data, base, records, steps_per_round=2)
    said = capfd.readouterr().err
    assert "The weights of step 1 could not be pushed: The Hub has trouble" in said
    assert "The next session of the run tries again." in said
    hub.heal()
    hub.cut("/commit/", times=2)
    with pytest.raises(Stopped):
        pushed(data, base, records, steps_per_round=1)
    at_start = summaries(hub)[0]
    assert at_start.startswith(("Step 1 of 4, the best so far", "Step 2 of 4, the best so far"))
    told = unfinished_run(Workspace(data)) or ""
    assert f"pushed to {hub.url}/{NAME}" in told
    pushed(data, base, records)
    assert ", the result: " in summaries(hub)[-1]
    weights = (plain / "6_adapter" / "adapter_model.safetensors").read_bytes()
    assert hub.files(*REPO)["adapter_model.safetensors"] == weights, "as without any round"


def test_a_result_that_never_arrives_is_a_failure_and_is_sent_without_training_again(
    hub: HubServer, base: BaseModel, records: Path, plain: Path, tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:  # fmt: skip
    data = Path(shutil.copytree(plain, tmp_path / "data"))
    record = (data / "6_adapter" / "stage.json").read_bytes()
    monkeypatch.setattr("pipeline.step6_train.train_model", None)
    hub.fail("/commit/", 500, times=1000)
    with pytest.raises(PipelineError, match=r"of step \d never arrived at .*: The Hub has trouble"):
        pushed(data, base, records)
    hub.heal()
    pushed(data, base, records)
    (summary,) = summaries(hub)
    assert ", the result: " in summary
    assert (data / "6_adapter" / "stage.json").read_bytes() == record
    config = json.loads((data / "6_adapter" / "adapter_config.json").read_text())
    assert config["base_model_name_or_path"] == str(base.path), "the stage's own stays as it is"


def test_what_would_be_refused_is_refused_before_a_model_is_loaded(
    hub: HubServer, base: BaseModel, records: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("pipeline.step6_train.resolve_base_model", None)
    data = tmp_path / "data"
    hub.add_repo(*REPO)
    with pytest.raises(UsageError, match="is there already, and public"):
        pushed(data, base, records)
    with pytest.raises(PipelineError, match="may not write to eve/tales"):
        pushed(data, base, records, push_to="eve/tales")
    with pytest.raises(PipelineError, match="is no name for a repository"):
        pushed(data, base, records, push_to="tales")
    with pytest.raises(UsageError, match="--push-public is for --push-to"):
        pushed(data, base, records, push_to=None, push_public=True)
    monkeypatch.delenv("HF_TOKEN")
    asked = len(hub.requests)
    with pytest.raises(PipelineError, match="No Hugging Face token"):
        pushed(data, base, records)
    assert len(hub.requests) == asked and not (data / "6_adapter").exists()
    monkeypatch.setenv("WORLD_SIZE", "2")
    with pytest.raises(UsageError, match="--push-to is for training in one process"):
        push_best.check(NAME, public=False)


def test_texts_under_copyright_do_not_go_to_a_public_repository_and_are_told_of_in_a_private_one(
    hub: HubServer, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    table = tmp_path / "train.parquet"
    rows = [("84", "Frankenstein", "Public domain."), ("x", "Mine", "Copyright 2020 A. Author.")]
    columns = ("document_id", "title", "rights")
    pq.write_table(
        pa.table(dict(zip(columns, map(list, zip(*rows, strict=True)), strict=True))), table
    )
    settings = {"method": "lora", "rank": 4, "dataset": str(table), "keep_best": False}
    workspace = Workspace(tmp_path / "data")
    hub.add_repo(*REPO)
    with (
        push_best.pushing(workspace, NAME, public=True, overwrite=False) as push,
        pytest.raises(PipelineError, match=r"1 text \(x\) is marked as under copyright"),
    ):
        assert push is not None
        push.tell(settings, [table])
    hub.repos[REPO].private = True
    with push_best.pushing(workspace, NAME, public=False, overwrite=False) as push:
        assert push is not None
        push.tell(settings, [table])
    said = capfd.readouterr().err
    assert "At the end, the adapter, tokenizer, settings and card go to" in said
    assert "Not checked: of 2 texts 1 are marked as under copyright" in said
    with push_best.pushing(workspace, None, public=False, overwrite=False) as push:
        assert push is None

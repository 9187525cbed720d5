"""`pipeline merge`: a whole model for other programs, whole under its name or not there."""

import errno
import json
import multiprocessing
import os
import shutil
import signal
from collections import namedtuple
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from huggingface_hub import ModelCard
from peft import PeftModel
from safetensors.torch import load_file, save_file
from transformers import AutoModelForCausalLM, AutoTokenizer

from pipeline import merge_command
from pipeline.errors import PipelineError, UsageError
from pipeline.merge_command import merge
from pipeline.step6_train import train
from tests.export.conftest import save_adapter
from tests.export.test_gguf import files_no_larger_than
from tests.tiny_models import TALE, tiny_llama

IDS = torch.arange(100, 164).reshape(2, 32)
SHORT: dict[str, Any] = {
    "sequence_length": 64, "max_steps": 4, "eval_tokens": 100, "sample_tokens": 1, "jobs": 1,
    "eval_every": 2, "save_steps": 2, "keep_last": 9, "learning_rate": 3e-2,
}  # fmt: skip


@pytest.fixture(scope="module")
def base(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tiny_llama(tmp_path_factory.mktemp("tiny") / "base", context=128).path
    # As many published ones: transformers reads this, but refuses to write it.
    text = json.dumps({"do_sample": False, "temperature": 0.6, "eos_token_id": [1]})
    (folder / "generation_config.json").write_text(text)
    return folder


@pytest.fixture(scope="module")
def adapter(base: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    return save_adapter(base, tmp_path_factory.mktemp("tiny") / "adapter")


@pytest.fixture
def made(adapter: Path, tmp_path: Path) -> Callable[..., Path]:
    """Runs the command, by default on the adapter and without a data directory."""

    def run(**options: Any) -> Path:
        given = {"output": tmp_path / "model", "data_dir": tmp_path / "data",
                 "adapter": str(adapter), **options}  # fmt: skip
        merge(**given)
        return Path(given["output"])

    return run


def trained(data: Path, base: Path, **options: Any) -> Path:
    texts = data.parent / "texts.jsonl"
    texts.write_text("".join(json.dumps({"text": f"{n}. {TALE}"}) + "\n" for n in range(8)))
    train(data, base_model=str(base), dataset=str(texts), **{**SHORT, **options})
    return data


@pytest.fixture(scope="module")
def run(base: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A data directory with an adapter and its checkpoints."""
    return trained(tmp_path_factory.mktemp("run") / "data", base, rank=4)


def logits(model: Any) -> torch.Tensor:
    with torch.no_grad():
        return model.eval()(IDS).logits


def load(folder: Path, dtype: Any = torch.float32) -> Any:
    return AutoModelForCausalLM.from_pretrained(folder, dtype=dtype)


@pytest.mark.parametrize("dtype", ["auto", "bfloat16", "float16", "float32"])
def test_transformers_loads_it_and_it_is_what_peft_merges(
    made: Callable[..., Path], base: Path, adapter: Path, dtype: str
) -> None:
    folder = made(dtype=dtype)
    stored = getattr(torch, "bfloat16" if dtype == "auto" else dtype)
    expected = PeftModel.from_pretrained(load(base), adapter).merge_and_unload()
    found = load(folder, "auto")
    assert found.dtype == stored
    assert json.loads((folder / "config.json").read_text())["dtype"] == str(stored)[6:]
    rounded = expected.to(stored)
    for name, weight in rounded.state_dict().items():
        assert torch.allclose(found.state_dict()[name], weight, rtol=2**-7, atol=1e-6), name
    # Of a few numbers in the middle between two of 16 bits, PEFT's last digit decides.
    change = (logits(expected.float()) - logits(load(base))).abs().mean()
    difference = (logits(found.float()) - logits(rounded.float())).abs().mean()
    assert difference < change * (1e-5 if stored == torch.float32 else 1e-2)
    for name in ("tokenizer.json", "generation_config.json"):
        assert (folder / name).read_bytes() == (base / name).read_bytes()
    assert AutoTokenizer.from_pretrained(folder)("The lamp").input_ids


def test_large_models_go_into_shards_with_an_index(
    made: Callable[..., Path], tmp_path: Path
) -> None:
    whole = made()
    folder = made(output=tmp_path / "shards", max_shard_size=1e-4)
    shards = sorted(folder.glob("model-*-of-*.safetensors"))
    assert len(shards) > 2
    assert max(path.stat().st_size for path in shards) < 2e5
    assert torch.equal(logits(load(folder)), logits(load(whole)))
    # A model that is whole already is put into smaller files, too.
    again = made(adapter=str(whole), output=tmp_path / "again", max_shard_size=1e-4)
    assert len(list(again.glob("model-*"))) == len(shards)
    assert not list(tmp_path.glob(".tmp-*"))


def test_numbers_that_float16_cannot_hold_are_refused_with_the_tensors_name(
    made: Callable[..., Path], adapter: Path, tmp_path: Path
) -> None:
    large = Path(shutil.copytree(adapter, tmp_path / "large"))
    weights = load_file(large / "adapter_model.safetensors")
    name = next(key for key in weights if "layers.1.mlp.up_proj.lora_B" in key)
    weights[name] *= 1e7
    save_file(weights, large / "adapter_model.safetensors")
    with pytest.raises(PipelineError, match=r"layers\.1\.mlp\.up_proj.* no number beyond 65,504"):
        made(adapter=str(large), dtype="float16")
    assert not (tmp_path / "model").exists()
    whole = made(adapter=str(large), dtype="float32")
    with pytest.raises(PipelineError, match=r"layers\.1\.mlp\.up_proj.* no number beyond 65,504"):
        made(adapter=str(whole), dtype="float16", output=tmp_path / "half")


def test_the_result_is_taken_and_of_a_run_that_goes_on_any_checkpoint(
    run: Path, base: Path, tmp_path: Path
) -> None:
    merge(tmp_path / "result", run)
    expected = PeftModel.from_pretrained(load(base), run / "6_adapter").merge_and_unload()
    assert torch.allclose(logits(load(tmp_path / "result")), logits(expected), atol=0.1)
    merge(tmp_path / "best", run, checkpoint="best")
    weights = "model.safetensors"
    same = [(tmp_path / name / weights).read_bytes() for name in ("result", "best")]
    assert same[0] == same[1], "the best is what stage 6 keeps"

    unfinished = Path(shutil.copytree(run, tmp_path / "unfinished"))
    for path in (unfinished / "6_adapter").iterdir():
        if path.is_file():
            path.unlink()
    with pytest.raises(PipelineError) as raised:
        merge(tmp_path / "none", unfinished)
    assert "--checkpoint latest" in str(raised.value.hint)
    merge(tmp_path / "early", unfinished, checkpoint="2", adapter_base=str(base))
    assert (tmp_path / "early" / weights).read_bytes() != same[0]
    record = json.loads((tmp_path / "early" / "merge.json").read_text())
    assert record["source"]["step"] == 2
    assert str(tmp_path) not in json.dumps(record)


def test_a_model_that_was_trained_as_a_whole_is_one_with_the_bases_cache(
    base: Path, tmp_path: Path
) -> None:
    data = trained(
        tmp_path / "data", base, method="full", learning_rate=1e-3, gradient_checkpointing=True
    )
    merge(tmp_path / "result", data)
    merge(tmp_path / "latest", data, checkpoint="latest", dtype="float16")
    for folder in (data / "6_adapter", tmp_path / "result", tmp_path / "latest"):
        assert json.loads((folder / "config.json").read_text())["use_cache"] is True, folder
    assert torch.equal(logits(load(tmp_path / "result")), logits(load(data / "6_adapter")))
    half = load_file(tmp_path / "latest" / "model.safetensors")
    assert {tensor.dtype for tensor in half.values()} == {torch.float16}
    # As versions before this one left them.
    old = data / "6_adapter" / "config.json"
    old.write_text(old.read_text().replace('"use_cache": true', '"use_cache": false'))
    generation = {"_from_model_config": True, "use_cache": False}
    (data / "6_adapter" / "generation_config.json").write_text(json.dumps(generation))
    merge(tmp_path / "old", data, adapter=str(data / "6_adapter"))
    for name in ("config.json", "generation_config.json"):
        assert json.loads((tmp_path / "old" / name).read_text())["use_cache"] is True
    with pytest.raises(UsageError, match="--merge-base is of no use"):
        merge(tmp_path / "more", data, adapter=str(data / "6_adapter"), merge_base=str(base))


def test_only_a_former_model_that_nobody_changed_is_replaced(
    made: Callable[..., Path], tmp_path: Path
) -> None:
    folder = made()
    assert made(dtype="float16") == folder
    assert load(folder, "auto").dtype == torch.float16
    config = folder / "config.json"
    config.write_text(config.read_text() + " ")
    with pytest.raises(PipelineError, match=r"config\.json was changed by hand"):
        made()
    made(overwrite_edited=True)
    assert load(folder, "auto").dtype == torch.bfloat16
    (folder / "tokenizer.json").unlink()  # what is missing can be made again
    made()
    assert (folder / "tokenizer.json").is_file()
    (folder / "notes.txt").write_text("mine")
    for options in ({}, {"overwrite_edited": True}):
        with pytest.raises(PipelineError, match=r"notes\.txt is not of the model"):
            made(**options)
    mine = tmp_path / "mine"
    mine.mkdir()
    (mine / "config.json").write_text("{}")
    for record in (None, "{}", '{"files": [3]}'):
        if record:
            (mine / "merge.json").write_text(record)
        with pytest.raises(PipelineError, match="is not empty, and no model"):
            made(output=mine, overwrite_edited=True)
    with pytest.raises(PipelineError, match="is a file"):
        made(output=mine / "config.json")
    assert not list(tmp_path.glob(".tmp-*"))


@pytest.mark.parametrize(
    ("options", "why"),
    [
        ({"dtype": "float61"}, "Did you mean 'float16'"),
        ({"max_shard_size": 0.0}, "--max-shard-size must be above 0"),
        ({"max_memory": float("nan")}, "--max-memory must be above 0"),
    ],
)
def test_options_that_make_no_sense_are_refused(
    made: Callable[..., Path], options: dict[str, Any], why: str
) -> None:
    with pytest.raises(UsageError) as raised:
        made(**options)
    assert why in f"{raised.value.message} {raised.value.hint}"


@pytest.mark.skipif(not hasattr(os, "fork"), reason="needs processes that begin as this one is")
@pytest.mark.parametrize("moment", ["finish", "put_in_place"])
def test_killed_it_leaves_nothing_half_and_the_next_run_clears_up(
    made: Callable[..., Path], tmp_path: Path, moment: str
) -> None:
    def die(*_: object, **__: object) -> None:
        os.kill(os.getpid(), signal.SIGKILL)

    def killed() -> None:
        setattr(merge_command, moment, die)
        torch.set_num_threads(1)
        made(dtype="float32")

    process = multiprocessing.get_context("fork").Process(target=killed)
    process.start()
    process.join()
    assert process.exitcode == -signal.SIGKILL
    assert not (tmp_path / "model").exists()
    assert len(list(tmp_path.glob(".tmp-merge-*/model/model.safetensors"))) == 1
    made()
    assert {path.name for path in tmp_path.iterdir()} <= {"model", "data"}


def test_a_disk_too_small_is_told_before_anything_is_written(
    made: Callable[..., Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    usage = namedtuple("usage", "total used free")
    monkeypatch.setattr(shutil, "disk_usage", lambda _: usage(10**9, 10**9, 1000))
    monkeypatch.setattr("pipeline.export.merge.write_folder", lambda *_, **__: pytest.fail("began"))
    with pytest.raises(PipelineError, match=r"needs .* but only .* are missing"):
        made()


def test_a_disk_that_fills_up_leaves_the_former_model_as_it_was(
    made: Callable[..., Path], tmp_path: Path
) -> None:
    folder = made()
    before = {path.name: path.read_bytes() for path in folder.iterdir()}
    with (
        files_no_larger_than(len(before["model.safetensors"])),
        pytest.raises(PipelineError, match=r"is full: about 0\.05 GB more are needed") as raised,
    ):
        made(dtype="float32")
    assert "model is as it was before" in raised.value.message
    assert {path.name: path.read_bytes() for path in folder.iterdir()} == before
    assert not list(tmp_path.glob(".tmp-*"))


def test_what_is_missing_is_counted_when_the_disk_is_full(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    usage = namedtuple("usage", "total used free")
    monkeypatch.setattr(shutil, "disk_usage", lambda _: usage(1, 1, 500_000_000))
    own = tmp_path / "own"
    own.mkdir()
    with (
        pytest.raises(PipelineError, match=r"is full: about 2\.55 GB more are needed"),
        merge_command.told_if_full(tmp_path / "model", own) as needed,
    ):
        needed.append(4_000_000_000)
        with (own / "model.safetensors").open("wb") as file:
            file.truncate(1_000_000_000)  # takes no room
        raise OSError(errno.ENOSPC, "No space left on device")


def test_a_readme_tells_the_base_its_licence_and_how_the_model_was_made(
    made: Callable[..., Path], adapter: Path, base: Path, tmp_path: Path
) -> None:
    card = (made(dtype="float32") / "README.md").read_text()
    data = ModelCard(card).data.to_dict()
    assert (data["license"], data["library_name"]) == ("unknown", "transformers")
    assert "base_model" not in data, "a folder of this machine is no model of the Hub"
    assert "The licence of the base model is not known here" in card
    assert "| stored in | float32 |" in card
    assert str(tmp_path) not in card and str(base.parent) not in card

    licensed = Path(shutil.copytree(base, tmp_path / "base | <b>"))
    (licensed / "README.md").write_text("---\nlicense: apache-2.0\n---\n# Base\n")
    (licensed / "LICENSE.txt").write_text("All of it.")
    folder = made(adapter_base=str(licensed), output=tmp_path / "licensed")
    card = (folder / "README.md").read_text()
    assert ModelCard(card).data.to_dict()["license"] == "apache-2.0"
    assert "The licence of the base model: apache-2.0. Its text: LICENSE.txt." in card
    assert (folder / "LICENSE.txt").read_text() == "All of it."
    assert "<b>" not in card
    assert {"README.md", "LICENSE.txt"} <= {
        each["path"] for each in json.loads((folder / "merge.json").read_text())["files"]
    }


def test_a_readme_that_was_edited_is_not_replaced_unasked(made: Callable[..., Path]) -> None:
    card = made() / "README.md"
    card.write_text("Mine.")
    with pytest.raises(PipelineError, match=r"README\.md was changed by hand"):
        made()
    made(overwrite_edited=True)
    assert "Mine." not in card.read_text()

"""What is made of a checkpoint is what stage 6 would have left there, byte for byte."""

import json
import shutil
from pathlib import Path
from typing import Any

import pytest

from pipeline.errors import PipelineError, UsageError
from pipeline.step6_train import train
from pipeline.training.adapter_sources import find_source
from pipeline.training.base_model import BaseModel
from pipeline.training.checkpoint_model import find_weights
from pipeline.training.kept_best import kept_best, no_best
from pipeline.workspace import Workspace
from tests.tiny_models import TALE, tiny_llama

SHORT: dict[str, Any] = {
    "sequence_length": 128, "max_steps": 6, "eval_tokens": 200, "sample_tokens": 1, "jobs": 1,
    "eval_every": 2, "save_steps": 2, "keep_last": 9, "learning_rate": 3e-2, "rank": 4,
}  # fmt: skip
WHOLE: dict[str, Any] = {**SHORT, "rank": 64, "learning_rate": 1e-3}


@pytest.fixture(scope="module")
def base(tmp_path_factory: pytest.TempPathFactory) -> BaseModel:
    return tiny_llama(tmp_path_factory.mktemp("tiny") / "model", context=128)


@pytest.fixture(scope="module")
def texts(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("texts") / "texts.jsonl"
    rows = [{"text": f"{n}. Nyarlathotep came. {TALE}"} for n in range(8)]
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return path


@pytest.fixture(scope="module")
def data(base: BaseModel, texts: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A finished run: DoRA with rsLoRA, new tokens and stretched positions."""
    place = tmp_path_factory.mktemp("data")
    names = place / "names.txt"
    names.write_text("Nyarlathotep\n")
    train(
        place / "data", base_model=str(base.path), dataset=str(texts), method="dora", rslora=True,
        extra_tokens=str(names), rope_scaling="linear:2", **SHORT,
    )  # fmt: skip
    return place / "data"


def taken(data: Path, scratch: Path, **options: Any) -> Path:
    return find_source(Workspace(data), **options).take(scratch).folder


def contents(folder: Path) -> dict[str, bytes]:
    """The files that make a model, and not what is told of how it was made."""
    told = ("evaluation.json", "windows.json")
    return {
        p.name: p.read_bytes() for p in folder.glob("*.*")
        if p.suffix in (".json", ".safetensors") and p.name not in (*told, "stage.json")
    }  # fmt: skip


def test_the_best_checkpoint_becomes_what_stage_6_kept(data: Path, tmp_path: Path) -> None:
    folder = taken(data, tmp_path, checkpoint="best")
    assert contents(folder) == contents(data / "6_adapter")
    assert (folder / "windows.json").read_bytes() == (data / "6_adapter/windows.json").read_bytes()
    kept, made = (
        json.loads((place / "evaluation.json").read_text())
        for place in (data / "6_adapter", folder)
    )
    assert made["step"] == kept["step"]
    assert made["bits_per_byte"] == pytest.approx(kept["bits_per_byte"])


def test_any_step_is_taken_and_peft_loads_it_on_its_base(
    data: Path, base: BaseModel, tmp_path: Path
) -> None:
    from safetensors.torch import load_file

    from pipeline.training.scored_models import find_candidate, load_for_scoring

    root = data / "6_adapter" / "checkpoints"
    place = next(root.glob("*/step-00000002"))
    by_step = taken(data, tmp_path / "a", checkpoint="2")
    by_path = taken(data, tmp_path / "b", checkpoint=str(place))
    assert contents(by_step) == contents(by_path)
    latest = taken(data, tmp_path / "c", checkpoint="latest")
    assert contents(latest) != contents(by_step)
    assert json.loads((by_step / "evaluation.json").read_text())["step"] == 2

    loaded = load_for_scoring(find_candidate(str(by_step)), tmp_path)
    trained = load_file(place / "weights.safetensors")
    parameters = dict(loaded.model.named_parameters())
    assert trained.keys() <= parameters.keys()
    for name, tensor in trained.items():
        assert parameters[name].equal(tensor.to(parameters[name].dtype)), name


@pytest.mark.parametrize("scratch", [False, True], ids=["full", "from-scratch"])
def test_a_checkpoint_of_a_whole_model_becomes_that_model(
    base: BaseModel, texts: Path, tmp_path: Path, scratch: bool
) -> None:
    options: dict[str, Any] = {"method": "full"}
    if scratch:
        config = json.loads((base.path / "config.json").read_text()) | {"num_hidden_layers": 1}
        (tmp_path / "config.json").write_text(json.dumps(config))
        options = {"from_scratch": str(tmp_path / "config.json")}
    data = tmp_path / "data"
    train(
        data, base_model=str(base.path), dataset=str(texts), **{**WHOLE, "max_steps": 2}, **options
    )
    folder = taken(data, tmp_path, checkpoint="latest")
    made, kept = contents(folder), contents(data / "6_adapter")
    told, wanted = (json.loads(files.pop("config.json")) for files in (made, kept))
    assert made == kept
    assert told == wanted
    assert told["use_cache"] is True, "as the base has it, though the trainer switches it off"
    if scratch:
        (data / "6_adapter" / "config.json").unlink()
        with pytest.raises(PipelineError, match=r"trained from scratch, whose config\.json"):
            taken(data, tmp_path / "again", checkpoint="latest")


def test_broken_checkpoints_are_never_used(
    data: Path, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    root = tmp_path / "checkpoints"
    shutil.copytree(data / "6_adapter" / "checkpoints", root)
    newest = next(root.glob("*/step-00000006"))
    weights = newest / "weights.safetensors"
    weights.write_bytes(weights.read_bytes()[:-1] + b"\x01")
    assert find_weights(root, "latest").step == 4
    assert "step-00000006 is broken: weights.safetensors is not as it was" in capfd.readouterr().err
    with pytest.raises(
        PipelineError, match=r"cannot be used: weights\.safetensors is not as"
    ) as bad:
        find_weights(root, "6")
    assert "those of the steps 6, 4, 2" in str(bad.value.hint)
    assert newest.is_dir(), "nothing is moved"
    with pytest.raises(PipelineError, match=r"step-00000005 cannot be used: COMPLETE\.json"):
        find_weights(root, "5")
    with pytest.raises(UsageError, match="--checkpoint newest is not there"):
        find_weights(root, "newest")
    with pytest.raises(PipelineError, match="has no whole checkpoint"):
        find_weights(tmp_path / "nowhere", "best")


def test_markers_of_the_best_that_make_no_sense_are_passed_over_or_told(
    data: Path, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    root = tmp_path / "checkpoints"
    shutil.copytree(data / "6_adapter" / "checkpoints", root)
    (marker,) = root.glob("*/best/step-*/best.json")
    in_checkpoint = next(root.glob("*/step-*/best-best.json"))
    told = json.loads(marker.read_text())
    # One that is better, if it were true, beside the one that is whole.
    worse = marker.parent.with_name("step-00000001-00000000")
    worse.mkdir()
    (worse / "weights.safetensors").write_bytes(b"x")
    for nonsense in ("[" * 100_000, "[]", "\0", '{"bits_per_byte": NaN}', "{}"):
        (worse / "best.json").write_text(nonsense)
        assert find_weights(root, "best").step == told["step"]
        assert f"{worse / 'best.json'} is damaged" in capfd.readouterr().err
    run = marker.parents[2]
    found, damaged = kept_best(run)
    assert {place.parent for *_, place in found} >= {marker.parent, in_checkpoint.parent}
    assert damaged == [worse / "best.json"]
    for _, _, _, weights in found:
        weights.unlink()
    found, damaged = kept_best(run)
    assert not found
    error = no_best(run, damaged)
    assert "are damaged" in error.message
    assert "--checkpoint latest" in str(error.hint)


def test_a_checkpoint_is_not_put_upon_another_base(data: Path, tmp_path: Path) -> None:
    other = tiny_llama(tmp_path / "model", context=128, seed=1)
    with pytest.raises(PipelineError, match=r"was trained on the base model 'model .*, and not on"):
        taken(data, tmp_path, checkpoint="latest", base_model=str(other.path))

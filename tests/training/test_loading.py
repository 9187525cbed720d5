"""Models are loaded as they were asked for, and what cannot be is refused before."""

import dataclasses
import json
import sys
import types
from pathlib import Path
from typing import Any

import pytest
import torch
from transformers import AutoModelForCausalLM

from pipeline.errors import PipelineError, UsageError
from pipeline.training import loading
from pipeline.training.base_model import BaseModel
from pipeline.training.engine import Attention, Engine, Machine, choose_precision
from pipeline.training.loading import check_method, load_for_training, wants_checkpointing
from pipeline.training.settings import TrainSettings
from tests.training.architectures import (
    BF16,
    CONTEXT,
    FP32,
    KINDS,
    logits_of,
    tiny_base,
    tiny_config,
    trained,
)

CPU = Machine(cuda=False, bf16=True, unsloth=False)
GPU = Machine(cuda=True, bf16=True, unsloth=True, device_name="A100", gpus=1)
TRL = Engine("trl", "for a test")
SCRATCH = """\
model_type: llama
hidden_size: 32
intermediate_size: 64
num_hidden_layers: 1
num_attention_heads: 2
"""


@pytest.fixture(scope="module")
def base(tmp_path_factory: pytest.TempPathFactory) -> BaseModel:
    return tiny_base(tmp_path_factory.mktemp("loading") / "base")


@pytest.fixture
def scratch(tmp_path: Path) -> str:
    path = tmp_path / "scratch.yaml"
    path.write_text(SCRATCH, "utf-8")
    return str(path)


def load(base: BaseModel, precision: Any = BF16, **asked: Any) -> Any:
    return load_for_training(
        TRL, base, TrainSettings(**{"rank": 4, **asked}), precision, cuda=False
    )


@pytest.mark.parametrize("kind", KINDS)
def test_every_method_is_allowed_for_every_architecture_without_loading_it(
    kind: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    base = tiny_base(tmp_path / "base", kind)
    for file in base.path.glob("*.safetensors"):
        file.unlink()
    for method in ("lora", "qlora", "qlora8", "dora", "full"):
        check_method(TrainSettings(method=method), base.path, CPU)


def test_what_is_loaded_is_the_base(base: BaseModel) -> None:
    for method in ("lora", "dora", "full"):
        found = logits_of(load(base, FP32, method=method))
        plain = AutoModelForCausalLM.from_pretrained(base.path, dtype=torch.float32)
        assert torch.allclose(found, logits_of(plain), atol=1e-4), method


def test_a_frozen_base_is_in_the_runs_format_and_what_is_trained_in_float32(
    base: BaseModel,
) -> None:
    for precision, dtype in ((BF16, torch.bfloat16), (FP32, torch.float32)):
        model = load(base, precision)
        frozen = {p.dtype for p in model.parameters() if not p.requires_grad}
        assert frozen == {dtype}
        assert {p.dtype for p in trained(model).values()} == {torch.float32}
        assert {p.dtype for p in load(base, precision, method="full").parameters()} == {
            torch.float32
        }


def test_positions_are_stretched_as_asked(base: BaseModel) -> None:
    model = load(base, rope_scaling="auto", sequence_length=2 * CONTEXT)
    assert model.config.rope_parameters["rope_type"] == "yarn"
    assert model.config.max_position_embeddings == 2 * CONTEXT
    assert model.base_model.model.model.rotary_emb.rope_type == "yarn"
    fits = load(base, rope_scaling="auto", sequence_length=CONTEXT)
    assert fits.config.max_position_embeddings == CONTEXT


def test_a_model_from_nothing_is_the_seeds(base: BaseModel, scratch: str) -> None:
    def weights(seed: int) -> list[torch.Tensor]:
        torch.manual_seed(seed + 100)
        model = load(base, from_scratch=scratch, seed=seed)
        assert set(trained(model)) == {name for name, _ in model.named_parameters()}
        return [p.detach().flatten() for p in model.parameters() if p.ndim == 2]

    one, same, other = weights(1), weights(1), weights(2)
    assert all(map(torch.equal, one, same))
    assert not any(map(torch.equal, one, other))


def test_gradient_checkpointing_is_for_gpus_unless_it_is_asked_for(base: BaseModel) -> None:
    assert wants_checkpointing(TrainSettings(), cuda=True)
    assert not wants_checkpointing(TrainSettings(), cuda=False)
    assert not wants_checkpointing(TrainSettings(gradient_checkpointing=False), cuda=True)
    assert not load(base).is_gradient_checkpointing
    assert load(base, gradient_checkpointing=True).is_gradient_checkpointing


def test_attention_that_cannot_be_used_is_done_without_and_said(
    base: BaseModel, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    wanted = Attention("flash_attention_2", "it is installed")
    monkeypatch.setattr(loading, "choose_attention", lambda *a, **k: wanted)
    model = load(base)
    assert model.config._attn_implementation == "sdpa"
    said = " ".join(capsys.readouterr().err.split())
    assert "Attention: sdpa (flash_attention_2 cannot be used: " in said


def test_experts_that_stay_as_they_are_are_spoken_of(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    load(tiny_base(tmp_path / "base", "mixtral"))
    assert "The experts of this model stay as they are" in capsys.readouterr().err


def test_the_adapter_is_drawn_alike_for_both_engines(
    base: BaseModel, fake_unsloth: dict[str, dict[str, Any]]
) -> None:
    settings = TrainSettings(rank=4, seed=7)
    ours = load_for_training(TRL, base, settings, BF16, cuda=False)
    theirs = load_for_training(Engine("unsloth", ""), base, settings, BF16, cuda=True)
    for name, parameter in trained(ours).items():
        assert torch.equal(parameter, trained(theirs)[name]), name


def test_unsloth_gets_the_same_settings(
    base: BaseModel, fake_unsloth: dict[str, dict[str, Any]]
) -> None:
    settings = TrainSettings(
        rank=4,
        alpha=7,
        dropout=0.25,
        seed=9,
        rslora=True,
        target_modules=("attention", "embed_tokens"),
    )
    precision = choose_precision(GPU)
    load_for_training(Engine("unsloth", ""), base, settings, precision, cuda=True)
    loaded, adapted = fake_unsloth["load"], fake_unsloth["adapt"]
    assert loaded["model_name"] == str(base.path)
    assert loaded["dtype"] == torch.bfloat16
    assert loaded["load_in_4bit"] is False
    assert loaded["use_exact_model_name"] is True
    assert (adapted["r"], adapted["lora_alpha"], adapted["lora_dropout"]) == (4, 7, 0.25)
    assert adapted["use_rslora"] is True
    assert adapted["random_state"] == 9
    assert adapted["target_modules"] == ["k_proj", "o_proj", "q_proj", "v_proj"]
    assert adapted["modules_to_save"] == ["embed_tokens"]
    assert adapted["target_parameters"] == []
    assert adapted["use_gradient_checkpointing"] == "unsloth"


@pytest.mark.parametrize(
    ("context", "length", "expected"),
    [(64, 32, 64), (64, 64, 64), (4096, 2000, 2000), (4096, 64, 1024)],
)
def test_unsloth_is_never_told_to_stretch_positions(
    context: int, length: int, expected: int, tmp_path: Path,
    fake_unsloth: dict[str, dict[str, Any]],
) -> None:  # fmt: skip
    base = tiny_base(tmp_path / "base", max_position_embeddings=context)
    settings = TrainSettings(rank=4, sequence_length=length)
    load_for_training(Engine("unsloth", ""), base, settings, BF16, cuda=True)
    assert fake_unsloth["load"]["max_seq_length"] == expected


def test_an_unsloth_that_does_not_quantize_stops_the_run(
    base: BaseModel, fake_unsloth: dict[str, dict[str, Any]]
) -> None:
    settings = TrainSettings(method="qlora", gradient_checkpointing=False)
    with pytest.raises(PipelineError, match="not kept in NF4"):
        load_for_training(Engine("unsloth", ""), base, settings, BF16, cuda=True)
    assert fake_unsloth["load"]["load_in_4bit"] is True


def test_a_whole_layer_that_unsloth_cannot_train_is_one_sentence(
    tmp_path: Path, fake_unsloth: dict[str, dict[str, Any]]
) -> None:
    base = tiny_base(tmp_path / "base", "gpt2")
    settings = TrainSettings(rank=4, target_modules=("attention", "ln_1"))
    with pytest.raises(UsageError, match="unsloth cannot train ln_1 beside an adapter") as caught:
        load_for_training(Engine("unsloth", ""), base, settings, BF16, cuda=True)
    assert "--engine trl" in str(caught.value.hint)
    assert "adapt" not in fake_unsloth


def test_a_type_error_of_a_library_is_one_sentence(
    base: BaseModel, monkeypatch: pytest.MonkeyPatch
) -> None:
    def from_pretrained(*_: Any, **__: Any) -> Any:
        raise TypeError("unexpected keyword argument")

    monkeypatch.setattr(AutoModelForCausalLM, "from_pretrained", from_pretrained)
    with pytest.raises(PipelineError, match="cannot be loaded: unexpected keyword"):
        load(base)


@pytest.fixture
def fake_unsloth(monkeypatch: pytest.MonkeyPatch) -> dict[str, dict[str, Any]]:
    """What unsloth is called with; in its place work transformers and PEFT."""
    from peft import LoraConfig, get_peft_model

    calls: dict[str, dict[str, Any]] = {}

    class FastLanguageModel:
        @staticmethod
        def from_pretrained(**arguments: Any) -> tuple[Any, None]:
            calls["load"] = arguments
            name, dtype = arguments["model_name"], arguments["dtype"]
            return AutoModelForCausalLM.from_pretrained(name, dtype=dtype), None

        @staticmethod
        def get_peft_model(model: Any, **arguments: Any) -> Any:
            calls["adapt"] = dict(arguments)
            for name in ("use_gradient_checkpointing", "random_state", "target_parameters"):
                arguments.pop(name)
            return get_peft_model(model, LoraConfig(task_type="CAUSAL_LM", **arguments))

    fake = types.ModuleType("unsloth")
    fake.FastLanguageModel = FastLanguageModel  # type: ignore[attr-defined]
    monkeypatch.setitem(sys.modules, "unsloth", fake)
    return calls


def refused(base: BaseModel, machine: Machine = CPU, **asked: Any) -> str:
    """What is said; one sentence, and what to do."""
    settings = TrainSettings(**asked)
    settings.check()
    with pytest.raises(PipelineError) as caught:
        check_method(settings, base.path, machine)
    message = str(caught.value.args[0])
    assert message.endswith(".")
    assert "\n" not in message
    assert caught.value.hint
    return message


def test_a_method_without_its_library_is_refused(
    base: BaseModel, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(loading.importlib.util, "find_spec", lambda name: None)
    for method in ("qlora", "qlora8"):
        message = refused(base, method=method)
        assert message == f"--method {method} needs bitsandbytes, which is not installed."
    check_method(TrainSettings(method="lora"), base.path, CPU)


def test_a_model_is_split_over_two_gpus_or_more(
    base: BaseModel, monkeypatch: pytest.MonkeyPatch, scratch: str
) -> None:
    two = dataclasses.replace(GPU, gpus=2)
    assert refused(base, CPU, split_model=True).endswith("this machine has no GPU.")
    assert refused(base, GPU, split_model=True).endswith("this machine has one GPU.")
    assert "not for --from-scratch" in refused(base, two, split_model=True, from_scratch=scratch)
    check_method(TrainSettings(split_model=True), base.path, two)
    monkeypatch.setenv("WORLD_SIZE", "2")
    assert refused(base, two).startswith("Training is one process, and several were started")


def test_a_split_model_is_spread_by_transformers_and_another_lies_on_one_gpu(
    base: BaseModel, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked: list[Any] = []

    def from_pretrained(path: Path, **arguments: Any) -> Any:
        asked.append(arguments["device_map"])
        assert arguments["trust_remote_code"] is False
        return AutoModelForCausalLM.from_config(tiny_config("llama"))

    monkeypatch.setattr(AutoModelForCausalLM, "from_pretrained", from_pretrained)
    for settings in (TrainSettings(split_model=True), TrainSettings()):
        load_for_training(TRL, base, settings, BF16, cuda=True)
    monkeypatch.setenv("LOCAL_RANK", "3")
    load_for_training(TRL, base, TrainSettings(), BF16, cuda=True)
    assert asked == ["balanced", {"": "cuda:0"}, {"": "cuda:3"}]


def test_layers_that_are_not_there_are_refused(base: BaseModel) -> None:
    message = refused(base, target_modules=("q_porj",))
    assert message == "--target-modules q_porj: llama has no layer of that name."
    # Full fine-tuning has no adapter.
    check_method(TrainSettings(method="full", target_modules=("q_porj",)), base.path, CPU)


def test_positions_that_cannot_be_stretched_are_refused(base: BaseModel, tmp_path: Path) -> None:
    assert refused(base, rope_scaling="spline:2") == "--rope-scaling 'spline:2' is unknown."
    gpt2 = tiny_base(tmp_path / "gpt2", "gpt2")
    assert "gpt2 has no rotary positions" in refused(gpt2, rope_scaling="linear:2")


def test_code_that_does_not_look_at_how_positions_are_stretched_is_refused(
    base: BaseModel, monkeypatch: pytest.MonkeyPatch
) -> None:
    def unaware(config: Any) -> Any:
        plain = tiny_config("llama")
        return AutoModelForCausalLM.from_config(plain)

    monkeypatch.setattr(loading, "meta_model", unaware)
    message = refused(base, rope_scaling="yarn:2")
    assert "the code of llama cannot stretch positions by yarn" in message


def test_a_new_model_is_trained_whole(base: BaseModel, scratch: str) -> None:
    for method in ("qlora", "qlora8", "dora"):
        message = refused(base, method=method, from_scratch=scratch)
        assert message == f"--from-scratch trains every weight, and --method {method} does not."
    for method in ("lora", "full"):  # the default, and what it is
        check_method(TrainSettings(method=method, from_scratch=scratch), base.path, CPU)


def test_new_tokens_of_a_head_with_a_bias_are_refused(tmp_path: Path) -> None:
    phi = tiny_base(tmp_path / "phi", "phi")
    message = refused(phi, extra_tokens=("Frankenstein",))
    assert message.startswith("--extra-tokens: the output head of phi has a bias")
    check_method(TrainSettings(extra_tokens=("Frankenstein",), method="full"), phi.path, CPU)


@pytest.mark.parametrize(
    ("kind", "table"),
    [("llama", "embed_tokens"), ("llama", "lm_head"), ("gpt2", "wte"), ("gpt2", "transformer.wte")],
)
def test_new_tokens_beside_a_table_that_is_trained_whole_are_refused(
    kind: str, table: str, tmp_path: Path
) -> None:
    base = tiny_base(tmp_path / "base", kind)
    tokens, targets = ("Frankenstein",), ("attention", table)
    message = refused(base, extra_tokens=tokens, target_modules=targets)
    assert message.startswith("--extra-tokens trains rows of ")
    assert table in message
    check_method(TrainSettings(target_modules=targets), base.path, CPU)
    beside = TrainSettings(extra_tokens=tokens, target_modules=("attention",))
    check_method(beside, base.path, CPU)


def test_checkpointing_that_a_model_has_not_is_refused(
    base: BaseModel, monkeypatch: pytest.MonkeyPatch
) -> None:
    from transformers import LlamaForCausalLM

    monkeypatch.setattr(LlamaForCausalLM, "supports_gradient_checkpointing", False)
    assert "--gradient-checkpointing" in refused(base, gradient_checkpointing=True)
    check_method(TrainSettings(), base.path, GPU)
    assert not load(base, gradient_checkpointing=None).is_gradient_checkpointing


@pytest.mark.parametrize(
    "changed",
    [
        {"hidden_size": "many"}, {"num_attention_heads": 0}, {"hidden_size": 63},
        {"model_type": "nothing-known"}, {"model_type": None}, {"model_type": "vit"},
        {"hidden_act": "sing"}, {"rope_parameters": {"rope_type": "spiral"}},
    ],
)  # fmt: skip
def test_a_broken_base_is_one_sentence(
    changed: dict[str, Any], base: BaseModel, tmp_path: Path
) -> None:
    config = json.loads((base.path / "config.json").read_text("utf-8"))
    (tmp_path / "config.json").write_text(json.dumps({**config, **changed}), "utf-8")
    assert str(tmp_path) in refused(dataclasses.replace(base, path=tmp_path))


def test_code_of_a_models_own_is_never_run(base: BaseModel, tmp_path: Path) -> None:
    config = json.loads((base.path / "config.json").read_text("utf-8"))
    config |= {"model_type": "own", "auto_map": {
        "AutoConfig": "code.Config", "AutoModelForCausalLM": "code.Model"}}  # fmt: skip
    (tmp_path / "config.json").write_text(json.dumps(config), "utf-8")
    (tmp_path / "code.py").write_text("raise SystemExit('it was run')", "utf-8")
    assert "cannot be used" in refused(dataclasses.replace(base, path=tmp_path))


def test_damaged_weights_are_one_sentence(tmp_path: Path) -> None:
    base = tiny_base(tmp_path / "base")
    weights = base.path / "model.safetensors"
    weights.write_bytes(weights.read_bytes()[:1000])
    for method in ("lora", "qlora", "full"):
        with pytest.raises(PipelineError, match="cannot be loaded: "):
            load(base, method=method)

"""Bases in 4 and 8 bits: they are what they are said to be, or the run stops."""

import json
from pathlib import Path
from typing import Any

import pytest
import torch
from bitsandbytes.nn import Linear4bit, Linear8bitLt
from transformers import AutoModelForCausalLM, BitsAndBytesConfig, FalconConfig

from pipeline.errors import PipelineError, UsageError
from pipeline.training.base_model import BaseModel
from pipeline.training.configs import meta_model
from pipeline.training.engine import Engine
from pipeline.training.loading import load_for_training
from pipeline.training.quantized import (
    check_quantized,
    check_quantizes,
    check_stored,
    quantization,
)
from pipeline.training.settings import TrainSettings
from pipeline.training.targets import linear_layers
from tests.training.architectures import (
    BF16,
    FP32,
    KINDS,
    logits_of,
    take_steps,
    tiny_base,
    tiny_config,
)


@pytest.fixture(scope="module")
def base(tmp_path_factory: pytest.TempPathFactory) -> BaseModel:
    return tiny_base(tmp_path_factory.mktemp("quantized") / "base")


def quantized(base: BaseModel, **settings: Any) -> Any:
    return AutoModelForCausalLM.from_pretrained(
        base.path, dtype=torch.bfloat16, quantization_config=BitsAndBytesConfig(**settings)
    )


@pytest.mark.parametrize("kind", KINDS)
def test_qlora_keeps_every_linear_layer_in_nf4_with_quantized_scales(
    kind: str, tmp_path: Path
) -> None:
    base = tiny_base(tmp_path / "base", kind)
    settings = TrainSettings(method="qlora", rank=2)
    model = load_for_training(Engine("trl", ""), base, settings, BF16, cuda=False)
    names = linear_layers(meta_model(tiny_config(kind)))
    layers = [model.get_base_model().get_submodule(name).base_layer for name in names]
    for layer in layers:
        assert isinstance(layer, Linear4bit)
        weight: Any = layer.weight
        state = weight.quant_state
        assert state.quant_type == "nf4"
        assert state.nested
        assert state.state2 is not None
        assert weight.dtype == torch.uint8
        assert weight.numel() * 2 == layer.in_features * layer.out_features
    head = model.get_output_embeddings()
    assert head.weight.dtype == torch.bfloat16


def test_qlora8_keeps_every_linear_layer_in_8_bits(base: BaseModel) -> None:
    settings = TrainSettings(method="qlora8", rank=2)
    model = load_for_training(Engine("trl", ""), base, settings, BF16, cuda=False)
    layers = [m for m in model.modules() if isinstance(m, Linear8bitLt)]
    assert len(layers) == 14
    assert {layer.weight.dtype for layer in layers} == {torch.int8}
    take_steps(model)
    assert {layer.weight.dtype for layer in layers} == {torch.int8}


@pytest.mark.parametrize(("method", "error"), [("qlora", 0.15), ("qlora8", 0.02)])
def test_a_quantized_layer_is_nearly_the_bases(method: str, error: float, base: BaseModel) -> None:
    settings = TrainSettings(method=method, rank=2)
    model = load_for_training(Engine("trl", ""), base, settings, FP32, cuda=False).get_base_model()
    plain = AutoModelForCausalLM.from_pretrained(base.path, dtype=torch.float32)
    x = torch.randn(50, 64, generator=torch.Generator().manual_seed(0))
    for name in ("layers.0.self_attn.q_proj", "layers.1.mlp.up_proj"):
        with torch.no_grad():
            found = model.model.get_submodule(name).base_layer(x)
            exact = plain.model.get_submodule(name)(x)
        assert 1e-4 < ((found - exact).norm() / exact.norm()).item() < error


@pytest.mark.parametrize(
    ("settings", "fault"),
    [
        ({"load_in_4bit": True}, "its type is fp4"),
        ({"load_in_4bit": True, "bnb_4bit_quant_type": "nf4"}, "its scales are not quantized"),
        ({"load_in_8bit": True}, "it is a Linear8bitLt"),
        (
            {
                "load_in_4bit": True, "bnb_4bit_quant_type": "nf4",
                "bnb_4bit_use_double_quant": True, "llm_int8_skip_modules": ["lm_head", "v_proj"],
            },
            "it is a Linear",
        ),
    ],
)  # fmt: skip
def test_what_is_not_nf4_with_double_quantization_stops_the_run(
    settings: dict[str, Any], fault: str, base: BaseModel
) -> None:
    with pytest.raises(PipelineError, match="not kept in NF4 with double quantization: ") as caught:
        check_quantized(quantized(base, **settings), "qlora")
    assert f": {fault}." in str(caught.value)


def test_what_is_not_in_8_bits_stops_the_run(base: BaseModel) -> None:
    plain = AutoModelForCausalLM.from_pretrained(base.path)
    with pytest.raises(PipelineError, match="not kept in 8 bits: it is a Linear"):
        check_quantized(plain, "qlora8")
    check_quantized(plain, "lora")


def test_the_arithmetic_is_in_the_runs_format(base: BaseModel) -> None:
    asked = quantization("qlora", BF16, base.path)
    assert asked.bnb_4bit_compute_dtype == torch.bfloat16
    assert quantization("lora", BF16, base.path) is None


def test_layers_that_bitsandbytes_would_leave_are_known_beforehand() -> None:
    sizes: dict[str, Any] = {
        "hidden_size": 16,
        "num_hidden_layers": 1,
        "num_attention_heads": 2,
        "vocab_size": 9,
    }
    model = meta_model(FalconConfig(**sizes))
    with pytest.raises(UsageError, match=r"query_key_value of falcon is a FalconLinear, which"):
        check_quantizes(model, "qlora", cuda=True)
    check_quantizes(model, "lora", cuda=True)


@pytest.mark.parametrize("kind", KINDS)
def test_all_architectures_with_plain_layers_can_be_quantized(kind: str) -> None:
    for method in ("qlora", "qlora8"):
        check_quantizes(meta_model(tiny_config(kind)), method, cuda=False)


@pytest.mark.parametrize("kind", ["llama", "gpt2"])
def test_widths_that_bitsandbytes_computes_wrongly_on_a_cpu_are_refused(kind: str) -> None:
    width = {"n_embd": 96} if kind == "gpt2" else {"hidden_size": 96}
    model = meta_model(tiny_config(kind, **width))
    with pytest.raises(UsageError, match="is 96 wide, and on a CPU bitsandbytes needs a multiple"):
        check_quantizes(model, "qlora", cuda=False)
    check_quantizes(model, "qlora", cuda=True)
    check_quantizes(model, "qlora8", cuda=False)


def test_a_base_stored_in_nf4_is_for_qlora_alone(base: BaseModel, tmp_path: Path) -> None:
    double = {"bnb_4bit_quant_type": "nf4", "bnb_4bit_use_double_quant": True}
    stored = tmp_path / "stored"
    quantized(base, load_in_4bit=True, **double).save_pretrained(stored)
    check_stored(stored, "qlora")
    for method in ("lora", "full", "qlora8"):
        with pytest.raises(PipelineError, match="is stored quantized, and") as caught:
            check_stored(stored, method)
        assert "--method qlora" in str(caught.value.hint)
    settings = TrainSettings(method="qlora", rank=2)
    packed = BaseModel(stored, "stored", "made by a test", None, None)
    model = load_for_training(Engine("trl", ""), packed, settings, BF16, cuda=False)
    again = load_for_training(Engine("trl", ""), base, settings, BF16, cuda=False)
    both = torch.stack([logits_of(each).flatten() for each in (model, again)])
    assert torch.corrcoef(both)[0, 1] > 0.99


def test_a_base_stored_in_other_bits_is_refused(base: BaseModel, tmp_path: Path) -> None:
    config = json.loads((base.path / "config.json").read_text("utf-8"))
    config["quantization_config"] = {"quant_method": "gptq", "bits": 4}
    (tmp_path / "config.json").write_text(json.dumps(config), "utf-8")
    with pytest.raises(PipelineError, match="--method qlora needs 16 bits"):
        check_stored(tmp_path, "qlora")

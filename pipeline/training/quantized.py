"""Bases kept in 4 or 8 bits by bitsandbytes, and the proof that they are."""

from pathlib import Path
from typing import Any

from pipeline.errors import PipelineError, UsageError
from pipeline.files import read_json_object
from pipeline.training.engine import Precision
from pipeline.training.methods import METHODS
from pipeline.training.targets import linear_layers

BLOCK = 64  # weights that share a scale in NF4


def check_stored(base_path: Path, method: str) -> None:
    """Raise PipelineError if the base in `base_path` is stored in bits that `method` cannot use."""
    packing = _packing(base_path)
    if packing is None or (METHODS[method].bits == 4 and _is_four_bits(packing)):
        return
    hint = "Take --method qlora, or" if _is_four_bits(packing) else "Give"
    raise PipelineError(
        f"The base model in {base_path} is stored quantized, and --method {method} needs 16 bits.",
        f"{hint} the original of the model.",
    )


def _packing(base_path: Path) -> dict[str, Any] | None:
    found = read_json_object(base_path / "config.json").get("quantization_config")
    return found if isinstance(found, dict) else None


def _is_four_bits(packing: dict[str, Any]) -> bool:
    return packing.get("quant_method") == "bitsandbytes" and bool(packing.get("load_in_4bit"))


def quantization(method: str, precision: Precision, base_path: Path) -> Any:
    """transformers' settings for a method: NF4 with double quantization (Dettmers et al. 2023) or
    LLM.int8 (Dettmers et al. 2022); None for a base in 16 bits, or stored in 4 already.
    """
    bits = METHODS[method].bits
    if bits == 16 or _packing(base_path) is not None:
        return None
    from transformers import BitsAndBytesConfig

    if bits == 8:
        return BitsAndBytesConfig(load_in_8bit=True)
    return BitsAndBytesConfig(
        load_in_4bit=True,
        bnb_4bit_quant_type="nf4",
        bnb_4bit_use_double_quant=True,
        bnb_4bit_compute_dtype=precision.dtype,
    )


def check_quantizes(model: Any, method: str, *, cuda: bool) -> None:
    """Raise UsageError if bitsandbytes would leave layers in 16 bits, or compute them wrongly.

    It replaces plain linear layers only. On a CPU its 4-bit code takes every row to begin a new
    block: other widths give numbers that are off by a third (bitsandbytes 0.50.2). `model` may be
    on the meta device.
    """
    import torch
    from transformers.pytorch_utils import Conv1D

    bits = METHODS[method].bits
    if bits == 16:
        return
    for name in linear_layers(model):
        layer = model.get_submodule(name)
        kind = type(layer)
        if kind not in (torch.nn.Linear, Conv1D):
            raise UsageError(
                f"--method {method}: {name} of {model.config.model_type} is a {kind.__name__}, "
                "which bitsandbytes leaves in 16 bits.",
                "Take --method lora.",
            )
        width = layer.weight.shape[0 if kind is Conv1D else 1]
        if bits == 4 and not cuda and width % BLOCK:
            raise UsageError(
                f"--method {method}: {name} is {width} wide, and on a CPU bitsandbytes needs a "
                f"multiple of {BLOCK}.",
                "Take --method lora, or a GPU.",
            )


def check_quantized(model: Any, method: str) -> None:
    """Raise PipelineError unless every linear layer of `model`, as it lies in memory, is kept in
    the bits of `method`.

    A library that falls back to another format would do so without a word.
    """
    bits = METHODS[method].bits
    if bits == 16:
        return
    for name in linear_layers(model):
        module = model.get_submodule(name)
        fault = _fault_4_bit(module) if bits == 4 else _fault_8_bit(module)
        if fault:
            kept = "NF4 with double quantization" if bits == 4 else "8 bits"
            raise PipelineError(
                f"--method {method}: the layer {name} is not kept in {kept}: {fault}.",
                "Take --method lora, or other versions of bitsandbytes and transformers.",
            )


def keep_trainable(model: Any) -> None:
    """Stop bitsandbytes from repacking 4-bit weights on a CPU when a model is first evaluated.

    Repacked, they compute without gradients and never return: training that begins with a score
    of the base would pass no gradient through a base layer, without a word.
    """
    for module in model.modules():
        if hasattr(module, "support_avx512bf16_for_cpu"):
            module.support_avx512bf16_for_cpu = False


def _fault_4_bit(module: Any) -> str | None:
    from bitsandbytes.nn import Linear4bit

    if not isinstance(module, Linear4bit):
        return f"it is a {type(module).__name__}"
    weight: Any = module.weight
    state = getattr(weight, "quant_state", None)
    if state is None:
        return f"its weights are {weight.dtype}"
    if state.quant_type != "nf4":
        return f"its type is {state.quant_type}"
    if not (weight.compress_statistics and state.nested and state.state2 is not None):
        return "its scales are not quantized"
    return None


def _fault_8_bit(module: Any) -> str | None:
    import torch
    from bitsandbytes.nn import Linear8bitLt

    if not isinstance(module, Linear8bitLt):
        return f"it is a {type(module).__name__}"
    weight: Any = module.weight
    if weight.dtype != torch.int8:
        return f"its weights are {weight.dtype}"
    if weight.SCB is None and module.state.SCB is None:
        return "it has no scales"
    return None

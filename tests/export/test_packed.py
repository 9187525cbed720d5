"""Four-bit weights are unpacked to the numbers that bitsandbytes computes with."""

import json
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file, save_file

from pipeline.errors import PipelineError
from pipeline.export.merge import merge_adapter
from pipeline.export.packed import unpacked
from pipeline.tensor_files import as_matrix, read_file
from tests.export.architectures import save_model
from tests.export.conftest import save_adapter
from tests.export.test_names import assert_same, pefts

functional = pytest.importorskip("bitsandbytes.functional")


def through_four_bits(weight: torch.Tensor, kind: str, nested: bool) -> torch.Tensor:
    """The numbers that bitsandbytes makes of a tensor.

    As one long row: where rows of a matrix do not end with a block, its code for CPUs begins a new
    block all the same, which is not how it packed them (0.50.2).
    """
    packed, state = functional.quantize_4bit(
        weight.reshape(1, -1), quant_type=kind, compress_statistics=nested, blocksize=64
    )
    return functional.dequantize_4bit(packed, state).reshape(weight.shape)


def pack(weight: torch.Tensor, name: str, kind: str, nested: bool) -> dict[str, Any]:
    """A tensor as bitsandbytes saves it in four bits."""
    packed, state = functional.quantize_4bit(
        weight, quant_type=kind, compress_statistics=nested, blocksize=64
    )
    parts = state.as_dict(packed=True)
    return {name: packed} | {f"{name}.{key}": part for key, part in parts.items()}


@pytest.mark.parametrize("nested", [False, True])
@pytest.mark.parametrize("kind", ["nf4", "fp4"])
@pytest.mark.parametrize("shape", [(64, 96), (10, 24), (300, 64)])
@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_numbers_are_those_of_bitsandbytes(
    shape: tuple[int, int], kind: str, nested: bool, dtype: torch.dtype, tmp_path: Path
) -> None:
    torch.manual_seed(0)
    weight = (torch.randn(shape) * 0.1).to(dtype)
    expected = through_four_bits(weight, kind, nested)
    save_file(pack(weight, "w", kind, nested) | {"b": weight}, tmp_path / "m.safetensors")
    found = unpacked(read_file(tmp_path / "m.safetensors", "model"), tmp_path)
    assert set(found) == {"w", "b"}
    rows = as_matrix(found["w"].shape)[0]
    slices = [found["w"].rows(at, min(at + 7, rows)) for at in range(0, rows, 7)]
    assert torch.equal(torch.cat(slices), expected)


def make_four_bit(base: Path, folder: Path) -> Path:
    """The model with its linear layers in four bits, as a published one has them."""
    folder.mkdir()
    tensors: dict[str, Any] = {}
    for name, weight in load_file(base / "model.safetensors").items():
        linear = weight.dim() == 2 and "embed" not in name and "lm_head" not in name
        tensors |= pack(weight, name, "nf4", True) if linear else {name: weight}
    save_file(tensors, folder / "model.safetensors", metadata={"format": "pt"})
    config = json.loads((base / "config.json").read_text("utf-8"))
    config["quantization_config"] = {
        "quant_method": "bitsandbytes",
        "load_in_4bit": True,
        "bnb_4bit_quant_type": "nf4",
    }
    (folder / "config.json").write_text(json.dumps(config), "utf-8")
    return folder


def dequantized(packed: Path, base: Path, folder: Path) -> Path:
    """The four-bit model as a 16-bit one, made by bitsandbytes."""
    folder.mkdir()
    (folder / "config.json").write_bytes((base / "config.json").read_bytes())
    tensors = {}
    for name, weight in load_file(base / "model.safetensors").items():
        stored = load_file(packed / "model.safetensors")[name]
        if stored.dtype == torch.uint8:
            weight = through_four_bits(weight, "nf4", True)
        tensors[name] = weight
    save_file(tensors, folder / "model.safetensors", metadata={"format": "pt"})
    return folder


@pytest.mark.parametrize("settings", [{}, {"use_dora": True}])
def test_four_bit_base_is_merged_as_the_model_that_was_trained_on(
    settings: dict[str, Any], tmp_path: Path
) -> None:
    base = save_model("llama", tmp_path / "base")
    packed = make_four_bit(base, tmp_path / "packed")
    plain = dequantized(packed, base, tmp_path / "plain")
    adapter = save_adapter(plain, tmp_path / "adapter", **settings)
    merge_adapter(packed, adapter, tmp_path / "merged")
    assert_same(tmp_path / "merged", pefts(plain, adapter, torch.bfloat16))


def test_merge_base_puts_the_adapter_upon_the_original(tmp_path: Path) -> None:
    base = save_model("llama", tmp_path / "base")
    packed = make_four_bit(base, tmp_path / "packed")
    adapter = save_adapter(base, tmp_path / "adapter")
    merge_adapter(packed, adapter, tmp_path / "merged", merge_base=base)
    assert_same(tmp_path / "merged", pefts(base, adapter, torch.bfloat16))


def test_merge_base_that_is_another_model_is_refused(tmp_path: Path) -> None:
    base = save_model("llama", tmp_path / "base")
    adapter = save_adapter(base, tmp_path / "adapter")
    other = save_model("qwen2", tmp_path / "other")
    with pytest.raises(PipelineError, match=r"not the original of .*'qwen2' and not 'llama'"):
        merge_adapter(base, adapter, tmp_path / "merged", merge_base=other)


@pytest.mark.parametrize("part", ["absmax", "quant_map", "nested_absmax", "nested_quant_map"])
def test_four_bit_tensor_without_one_of_its_parts_is_refused(part: str, tmp_path: Path) -> None:
    tensors = pack(torch.randn(64, 96), "w", "nf4", True)
    del tensors[f"w.{part}"]
    save_file(tensors, tmp_path / "m.safetensors")
    with pytest.raises(PipelineError, match="four-bit tensor 'w'"):
        unpacked(read_file(tmp_path / "m.safetensors", "model"), tmp_path)

"""A base that is a GGUF: the adapter is merged into the weights that the file holds."""

from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file

from pipeline.export.gguf import convert
from pipeline.export.merge import merge_adapter
from pipeline.gguf_reading import open_reader
from pipeline.training.base_model import resolve_base_model
from tests.export.conftest import save_adapter

HEADS, KEY_HEADS = 4, 2
NAMES = {"attn_q": "self_attn.q_proj", "attn_k": "self_attn.k_proj", "ffn_down": "mlp.down_proj"}


def unpermuted(matrix: torch.Tensor, heads: int) -> torch.Tensor:
    """Rows in the order of Hugging Face: llama.cpp has the halves of a head interleaved."""
    rows, columns = matrix.shape
    return (
        matrix.reshape(heads, rows // heads // 2, 2, columns).swapaxes(1, 2).reshape(rows, columns)
    )


@pytest.mark.slow
def test_an_adapter_is_merged_into_what_a_quantized_gguf_holds(base: Path, tmp_path: Path) -> None:
    from gguf.quants import dequantize

    source = tmp_path / "base-Q8_0.gguf"
    convert(base, source, tmp_path / "log", "q8_0")
    unpacked = resolve_base_model(str(source), tmp_path / "cache").path
    adapter = save_adapter(unpacked, tmp_path / "adapter", lora_alpha=4)
    merge_adapter(unpacked, adapter, tmp_path / "merged")

    merged = load_file(tmp_path / "merged" / "model.safetensors")
    original = load_file(base / "model.safetensors")
    update = load_file(adapter / "adapter_model.safetensors")
    tensors = {str(tensor.name): tensor for tensor in open_reader(source).tensors}
    for short, module in NAMES.items():
        stored = tensors[f"blk.1.{short}.weight"]
        assert stored.tensor_type.name == "Q8_0"
        weight = torch.from_numpy(dequantize(stored.data, stored.tensor_type))
        if short != "ffn_down":
            weight = unpermuted(weight, HEADS if short == "attn_q" else KEY_HEADS)
        key = f"model.layers.1.{module}"
        assert not weight.bfloat16().equal(original[f"{key}.weight"]), "it lost something"
        a, b = (update[f"base_model.model.{key}.lora_{x}.weight"] for x in "AB")
        expected = (weight.bfloat16().float() + 4 / 8 * (b @ a)).bfloat16()
        torch.testing.assert_close(merged[f"{key}.weight"], expected, rtol=2**-8, atol=1e-6)

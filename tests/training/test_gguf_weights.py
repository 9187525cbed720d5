"""What is written of a GGUF tensor by tensor is what transformers would write of it as a whole."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from gguf import GGMLQuantizationType, GGUFWriter, quants
from transformers import Lfm2Config, Starcoder2Config
from transformers import modeling_gguf_pytorch_utils as library

from pipeline.training import gguf_weights, whole_weights
from pipeline.training.configs import meta_model
from pipeline.training.gguf_weights import Home, write_gguf_weights
from tests.training.architectures import tiny_config

VOCABULARY = 96
_SIZES: dict[str, Any] = {
    "vocab_size": VOCABULARY, "hidden_size": 64, "intermediate_size": 128, "num_hidden_layers": 2,
    "num_attention_heads": 4, "num_key_value_heads": 2, "max_position_embeddings": 64,
}  # fmt: skip
# Of each architecture in a GGUF a configuration, with what transformers takes for granted in it.
CONFIGS: dict[str, Any] = {
    "llama": lambda: tiny_config("llama", vocab_size=VOCABULARY, num_attention_heads=4),
    "qwen3": lambda: tiny_config("qwen3", vocab_size=VOCABULARY, head_dim=128),
    "gemma2": lambda: tiny_config("gemma2", vocab_size=VOCABULARY),
    "gpt2": lambda: tiny_config("gpt2", vocab_size=VOCABULARY, n_positions=1024),
    "starcoder2": lambda: Starcoder2Config(**_SIZES),
    "lfm2": lambda: Lfm2Config(
        **_SIZES, layer_types=["conv", "full_attention"], block_auto_adjust_ff_dim=False
    ),
}


def write_gguf(path: Path, architecture: str, kind: str, *, tied: bool) -> Path:
    """A GGUF of random numbers, by the tables of transformers for what it reads."""
    config = CONFIGS[architecture]()
    config.tie_word_embeddings = tied
    processor = library.TENSOR_PROCESSORS.get(architecture, library.TensorProcessor)()
    model = meta_model(config)
    shapes = {name: tuple(tensor.shape) for name, tensor in model.state_dict().items()}
    writer = GGUFWriter(path, architecture)
    writer.add_token_list([f"token {number}" for number in range(VOCABULARY)])
    known: Any = library.GGUF_TO_TRANSFORMERS_MAPPING["config"]
    for key, name in known[architecture].items():
        value = getattr(config, name, None) if isinstance(name, str) else None
        if architecture == "lfm2" and name == "num_key_value_heads":
            writer.add_array(f"{architecture}.{key}", [0, 2])
        elif isinstance(value, float):
            writer.add_float32(f"{architecture}.{key}", value)
        elif isinstance(value, int):
            writer.add_uint32(f"{architecture}.{key}", value)
    random = np.random.default_rng(0)
    for name, home in library.get_gguf_hf_weights_map(model, processor).items():
        if tied and name == "output.weight":
            continue
        shape = tuple(length for length in shapes[home] if length != 1)
        if architecture == "gpt2" and len(shape) == 2 and name.startswith("blk."):
            shape = shape[::-1]
        data = random.standard_normal(shape, np.float32)
        packed = kind == "q8_0" and len(shape) == 2 and shape[-1] % 32 == 0
        as_type = GGMLQuantizationType[kind.upper() if packed or kind != "q8_0" else "F32"]
        if len(shape) == 1:
            as_type = GGMLQuantizationType.F32
        writer.add_tensor(name, quants.quantize(data, as_type), raw_dtype=as_type)
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    return path


def contents(folder: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in folder.iterdir()}


@pytest.mark.parametrize("tied", [False, True], ids=["untied", "tied"])
@pytest.mark.parametrize("kind", ["f16", "q8_0"])
@pytest.mark.parametrize("architecture", CONFIGS)
def test_the_files_are_those_of_transformers_byte_for_byte(
    architecture: str, kind: str, tied: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = write_gguf(tmp_path / "model.gguf", architecture, kind, tied=tied)
    gguf_weights._write_at_once(path, tmp_path / "whole")

    def never(*_: Any) -> None:
        raise AssertionError("it takes the memory of the whole model")

    monkeypatch.setattr(gguf_weights, "_write_at_once", never)
    write_gguf_weights(path, tmp_path / "pieces")
    assert contents(tmp_path / "pieces") == contents(tmp_path / "whole")


def test_only_pieces_of_the_large_matrices_are_read_at_a_time(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = write_gguf(tmp_path / "model.gguf", "llama", "q8_0", tied=False)
    monkeypatch.setattr(whole_weights, "SLICE", 640)
    read: list[tuple[str, int]] = []
    real = Home._read

    def noted(self: Home, first: int, last: int) -> Any:
        made = real(self, first, last)
        read.append((self.name, made.size))
        return made

    monkeypatch.setattr(Home, "_read", noted)
    write_gguf_weights(path, tmp_path / "pieces")
    sliced = [size for name, size in read if "embed" in name or "mlp" in name or "v_proj" in name]
    assert max(sliced) <= 640
    assert {size for name, size in read if "q_proj" in name} == {64 * 64}, "its rows change places"
    gguf_weights._write_at_once(path, tmp_path / "whole")
    assert contents(tmp_path / "pieces") == contents(tmp_path / "whole")


def test_what_cannot_be_told_is_left_to_transformers_with_a_word_on_its_memory(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    path = write_gguf(tmp_path / "model.gguf", "llama", "f16", tied=False)
    monkeypatch.setattr(
        gguf_weights, "own_tensors", lambda model: {"another": model.lm_head.weight}
    )
    write_gguf_weights(path, tmp_path / "out")
    assert "unpacked as a whole: 0.2 MB of memory at least" in capsys.readouterr().err
    assert (tmp_path / "out" / "model.safetensors").is_file()


def test_a_tensor_of_another_size_than_its_settings_tell_is_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(CONFIGS, "qwen3", lambda: tiny_config("qwen3", vocab_size=VOCABULARY))
    path = write_gguf(tmp_path / "model.gguf", "qwen3", "f16", tied=True)
    with pytest.raises(ValueError, match=r"holds 4,096 numbers, and its settings"):
        write_gguf_weights(path, tmp_path / "out")

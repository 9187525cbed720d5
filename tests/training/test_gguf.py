"""A GGUF becomes a model that can be trained: the same weights, the same tokens, the right ends."""

import json
import struct
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from tokenizers import Tokenizer, models, pre_tokenizers
from transformers import AutoModelForCausalLM, AutoTokenizer

from pipeline.corpus.tokens import document_ids
from pipeline.errors import PipelineError
from pipeline.training.base_model import BaseModel
from pipeline.training.gguf import build_tokenizer, check_gguf, convert_gguf

RoundTrip = tuple[Path, Path, Path]

HARD_TEXT = (
    "I'm sure — “they'll” say ▁ and   _so_…\n\n\tIn 1821, the 3rd: £12.50 (½ dozen)\r\n"
    "日本語 naïve café 🌊🧛‍♀️ <|im_end|> e\u0301  \n"
)


@pytest.fixture(scope="module")
def round_trip(
    tiny_smollm: BaseModel, tiny_gguf: Path, tmp_path_factory: pytest.TempPathFactory
) -> tuple[Path, Path, Path]:
    """A tiny model, its GGUF by llama.cpp's converter, and what we make of that."""
    back = tmp_path_factory.mktemp("back")
    convert_gguf(tiny_gguf, back)
    return tiny_smollm.path, tiny_gguf, back


def test_the_weights_come_back_bit_for_bit(round_trip: RoundTrip) -> None:
    before, _, after = round_trip
    old = AutoModelForCausalLM.from_pretrained(before, dtype=torch.bfloat16).state_dict()
    new = AutoModelForCausalLM.from_pretrained(after, dtype=torch.bfloat16).state_dict()
    assert old.keys() == new.keys()
    assert all(torch.equal(old[name], new[name]) for name in old)


def test_the_tokenizer_comes_back_with_its_special_tokens_and_no_start(
    round_trip: RoundTrip,
) -> None:
    before, _, after = (
        AutoTokenizer.from_pretrained(p) for p in (round_trip[0],) * 2 + (round_trip[2],)
    )
    assert before.eos_token == after.eos_token == "<|im_end|>"
    assert after.pad_token == "<|im_end|>"
    assert after.bos_token == "<|im_start|>"
    assert document_ids(after, HARD_TEXT) == document_ids(before, HARD_TEXT)
    ids = after(HARD_TEXT, split_special_tokens=True)["input_ids"]
    assert after.decode(ids, clean_up_tokenization_spaces=False) == HARD_TEXT
    assert after("The sea")["input_ids"][0] != after.bos_token_id


def test_what_is_written_loads_in_older_transformers_too(round_trip: RoundTrip) -> None:
    config = json.loads((round_trip[2] / "tokenizer_config.json").read_text())
    assert config["tokenizer_class"] == "PreTrainedTokenizerFast"


def test_the_tokenizer_agrees_with_llama_cpp(round_trip: RoundTrip) -> None:
    _, gguf, after = round_trip
    script = (
        "import json, sys; from llama_cpp import Llama;"
        "model = Llama(sys.argv[1], vocab_only=True, verbose=False);"
        "print(json.dumps(model.tokenize(sys.stdin.buffer.read(), add_bos=False, special=False)))"
    )
    output = subprocess.run(
        [sys.executable, "-c", script, str(gguf)], input=HARD_TEXT.encode(), capture_output=True
    )
    tokenizer = AutoTokenizer.from_pretrained(after)
    ours = tokenizer(HARD_TEXT, split_special_tokens=True)["input_ids"]
    assert ours == json.loads(output.stdout.splitlines()[-1])


@pytest.mark.parametrize(
    ("kind", "pieces"),
    [
        ("gpt-2", ["I", "'m", "Ġ", "123"]),
        ("smollm", ["I", "'m", "Ġ", "1", "2", "3"]),
        ("llama-bpe", ["I", "'m", "Ġ", "123", "4"]),
        ("qwen2", ["I", "'m", "Ġ", "1", "2", "3"]),
    ],
)
def test_known_kinds_split_text_as_llama_cpp_does(kind: str, pieces: list[str]) -> None:
    text = {"gpt-2": "I'm 123", "llama-bpe": "I'm 1234"}.get(kind, "I'm 123")
    tokenizer = build_tokenizer(_fields(kind))
    assert tokenizer is not None
    split = tokenizer.pre_tokenizer.pre_tokenize_str(text)
    expected = "".join(pieces)
    assert "".join(piece for piece, _ in split) == expected
    digits = [piece for piece, _ in split if piece.strip("Ġ").isdigit()]
    assert [d.strip("Ġ") for d in digits] == [p for p in pieces if p.isdigit()]


def test_an_unknown_kind_is_left_to_transformers() -> None:
    assert build_tokenizer(_fields("some-new-kind")) is None
    assert build_tokenizer({**_fields("gpt-2"), "tokenizer.ggml.model": "llama"}) is None


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"", "is not a GGUF file"),
        (b"<!doctype html>", "is not a GGUF file"),
        (b"GGUF" + struct.pack("<I", 1), "is a GGUF of version 1"),
    ],
    ids=["empty", "web page", "old version"],
)
def test_what_is_no_gguf_is_refused_at_once(tmp_path: Path, content: bytes, message: str) -> None:
    path = tmp_path / "model.gguf"
    path.write_bytes(content)
    with pytest.raises(PipelineError, match=message):
        check_gguf(path)


def test_a_gguf_cut_short_is_one_sentence(round_trip: RoundTrip, tmp_path: Path) -> None:
    path = tmp_path / "short.gguf"
    data = round_trip[1].read_bytes()
    path.write_bytes(data[: len(data) // 20])
    (tmp_path / "out").mkdir()
    with pytest.raises(PipelineError, match="cannot be turned into a model"):
        convert_gguf(path, tmp_path / "out")


def _fields(kind: str) -> dict[str, object]:
    """The metadata of a GGUF whose vocabulary is the 256 bytes."""
    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel()
    alphabet = sorted(pre_tokenizers.ByteLevel.alphabet())
    return {
        "tokenizer.ggml.model": "gpt2",
        "tokenizer.ggml.pre": kind,
        "tokenizer.ggml.tokens": [*alphabet, "<end>"],
        "tokenizer.ggml.merges": [],
        "tokenizer.ggml.token_type": [1] * len(alphabet) + [3],
    }

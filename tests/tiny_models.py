"""Real Hugging Face models, small enough to make in a second, for the tests of every stage."""

import os
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

import pytest
import torch
from tokenizers import Tokenizer, decoders, models, pre_tokenizers, processors, trainers
from transformers import (
    LlamaConfig,
    LlamaForCausalLM,
    PreTrainedTokenizerBase,
    PreTrainedTokenizerFast,
)

from pipeline.training.base_model import BaseModel, resolve_base_model

TALE = (
    "The lamp went out. “Who is there?” she asked, and nobody answered; only the sea went on "
    "talking to the stones, as it had talked to her father and to his.\n\n"
    "In the morning — it was the 3rd of November, 1821 — the door stood open. A line of wet "
    "footprints led from the hearth to the sill, café-brown with mud, and not one led back.\n\n"
)
"""A little prose with curly quotes, a dash, digits and an accent: enough to train a tokenizer."""


@contextmanager
def on_one_thread() -> Iterator[None]:
    """Models this small only get slower with more threads, above all on a busy machine."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        yield
    finally:
        torch.set_num_threads(before)


def without_pictures(monkeypatch: pytest.MonkeyPatch) -> None:
    """Spare small runs what takes most of their time: the picture of the loss, and measuring how
    fast the machine is."""

    def picture(points: Any, held_out: Any, title: str, path: Path) -> None:
        path.write_bytes(b"\x89PNG\r\n\x1a\n")

    monkeypatch.setattr("pipeline.training.results.plot_loss", picture)
    monkeypatch.setattr("pipeline.training.trainer.matmul_rate", lambda device, dtype: 1e11)


@dataclass(frozen=True)
class Document:
    """A document as the libraries know it."""

    id: str
    text: str
    title: str = ""


def documents(n: int, paragraphs: int = 8) -> list[Document]:
    """`n` documents that differ, in the same voice."""
    return [
        Document(f"tale-{i}", "".join(f"{i}.{k}. {TALE}" for k in range(paragraphs)), f"Tale {i}")
        for i in range(n)
    ]


def tiny_tokenizer(
    text: str = TALE,
    *,
    vocab_size: int = 1000,
    adds_bos: bool = True,
    pad: str | None = "<pad>",
    pad_is_first: bool = False,
) -> PreTrainedTokenizerFast:
    """A byte-level BPE tokenizer trained on `text`.

    Args:
        adds_bos: texts begin with "<s>", by the tokenizer's own template.
        pad: "<pad>" for a token of its own, "</s>" for the end token, None for none.
        pad_is_first: the pad token has the id 0.
    """
    special = ["<s>", "</s>"]
    if pad == "<pad>":
        special.insert(0 if pad_is_first else 2, "<pad>")
    backend = Tokenizer(models.BPE())
    backend.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    backend.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=vocab_size,
        special_tokens=special,
        initial_alphabet=sorted(pre_tokenizers.ByteLevel.alphabet()),
        show_progress=False,
    )
    backend.train_from_iterator([text], trainer)
    if adds_bos:
        backend.post_processor = processors.TemplateProcessing(
            single="<s> $A",
            pair="<s> $A <s> $B",
            special_tokens=[("<s>", backend.token_to_id("<s>"))],
        )
    return PreTrainedTokenizerFast(
        tokenizer_object=backend,
        bos_token="<s>",
        eos_token="</s>",
        pad_token=pad,
        clean_up_tokenization_spaces=False,
    )


def save_tiny_llama(
    directory: Path,
    tokenizer: PreTrainedTokenizerBase,
    *,
    seed: int = 0,
    context: int = 512,
    tied: bool = False,
) -> Path:
    """Save a Llama of two layers with random weights, and its tokenizer, as `directory`."""
    torch.manual_seed(seed)
    config = LlamaConfig(
        vocab_size=len(tokenizer),
        hidden_size=64,
        intermediate_size=128,
        num_hidden_layers=2,
        num_attention_heads=4,
        num_key_value_heads=2,
        max_position_embeddings=context,
        initializer_range=0.2,  # ten times the usual, for logits that are worth comparing
        tie_word_embeddings=tied,
        bos_token_id=tokenizer.bos_token_id,
        eos_token_id=tokenizer.eos_token_id,
        pad_token_id=tokenizer.pad_token_id,
    )
    model = LlamaForCausalLM(config).bfloat16()
    model.save_pretrained(directory)
    tokenizer.save_pretrained(directory)
    return directory


def tiny_llama(
    directory: Path,
    text: str = TALE,
    *,
    adds_bos: bool = True,
    pad: str | None = "<pad>",
    pad_is_first: bool = False,
    seed: int = 0,
    context: int = 512,
) -> BaseModel:
    """A tiny Llama (hidden size 64, two layers) with a tokenizer trained on `text`."""
    tokenizer = tiny_tokenizer(text, adds_bos=adds_bos, pad=pad, pad_is_first=pad_is_first)
    save_tiny_llama(directory, tokenizer, seed=seed, context=context)
    return BaseModel(directory.resolve(), directory.name, "made by a test", None, None)


def tiny_llama_smollm(directory: Path, *, seed: int = 0, context: int = 1024) -> BaseModel:
    """A tiny Llama with the real tokenizer of SmolLM2, which llama.cpp's converter knows."""
    save_tiny_llama(directory, smollm2_tokenizer(), seed=seed, context=context, tied=True)
    return BaseModel(directory.resolve(), directory.name, "made by a test", "apache-2.0", None)


@cache
def smollm2_tokenizer() -> PreTrainedTokenizerBase:
    """The real tokenizer of SmolLM2; it takes seconds to make, so there is one for all tests."""
    from pipeline.training.base_model import smollm2_file
    from pipeline.training.gguf import read_info, read_tokenizer

    path = smollm2_file()
    return read_tokenizer(path, read_info(path).fields)


def base_models(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of unpacked models that all processes of this run of the tests share."""
    own = tmp_path_factory.getbasetemp()
    return (own.parent if "PYTEST_XDIST_WORKER" in os.environ else own) / "base-models"


def smollm2(cache_dir: Path) -> BaseModel:
    """The real SmolLM2-135M, unpacked into `cache_dir` (12 s; at once if it is there)."""
    return resolve_base_model("smollm2-135m", cache_dir)

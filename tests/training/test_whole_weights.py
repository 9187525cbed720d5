"""A whole model is written tensor by tensor: the same files as from memory, in a piece of it."""

import weakref
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import save_file
from transformers import AutoModelForCausalLM

from pipeline.errors import PipelineError
from pipeline.tensor_files import SHARD_SIZE, Stored, read_file
from pipeline.training import whole_weights
from pipeline.training.configs import meta_model
from pipeline.training.whole_weights import saved_tensors, write_rounded
from tests.training.architectures import tiny_config

DENSE = ("llama", "mistral", "qwen3", "gemma2", "gemma3_text", "phi", "gpt_neox", "gpt2")
MIXTURES = ("mixtral", "qwen2_moe")


def trained(config: Any, folder: Path) -> tuple[Any, dict[str, Stored]]:
    """A model in memory, and its weights in float32 on the disk, as a checkpoint has them."""
    torch.manual_seed(0)
    model = AutoModelForCausalLM.from_config(config, dtype=torch.float32)
    path = folder / "trained.safetensors"
    save_file({name: p.detach().contiguous() for name, p in model.named_parameters()}, path)
    return model, read_file(path, "file of weights")


def contents(folder: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in folder.iterdir()}


@pytest.mark.parametrize("tied", [False, True], ids=["untied", "tied"])
@pytest.mark.parametrize("kind", DENSE)
def test_the_files_are_those_of_transformers_byte_for_byte(
    kind: str, tied: bool, tmp_path: Path
) -> None:
    config = tiny_config(kind, tie_word_embeddings=tied)
    model, stored = trained(config, tmp_path)
    model.to(torch.float16).save_pretrained(tmp_path / "whole")
    write_rounded(meta_model(config), stored, tmp_path / "pieces", torch.float16, SHARD_SIZE)
    assert contents(tmp_path / "pieces") == contents(tmp_path / "whole")


@pytest.mark.parametrize("kind", MIXTURES)
def test_stacks_of_experts_are_cut_as_transformers_cuts_them(kind: str, tmp_path: Path) -> None:
    config = tiny_config(kind)
    model, stored = trained(config, tmp_path)
    model.to(torch.bfloat16).save_pretrained(tmp_path / "whole")
    write_rounded(meta_model(config), stored, tmp_path / "pieces", torch.bfloat16, SHARD_SIZE)
    assert contents(tmp_path / "pieces") == contents(tmp_path / "whole")


def test_only_the_stacks_of_one_layer_are_in_memory_at_a_time(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    config = tiny_config("mixtral", num_hidden_layers=6)
    _, stored = trained(config, tmp_path)
    held: list[int] = []
    real = whole_weights._Stacks.take

    def take(self: Any, own: str, part: str) -> torch.Tensor:
        made = real(self, own, part)
        held.append(len({name.split(".")[2] for name in self._parts}))
        return made

    monkeypatch.setattr(whole_weights._Stacks, "take", take)
    write_rounded(meta_model(config), stored, tmp_path / "out", torch.bfloat16, SHARD_SIZE)
    # One layer, and the next while its first part is made ahead.
    assert len(held) == 6 * config.num_local_experts * 3
    assert max(held) <= 2
    assert held[-1] == 0


def test_what_is_stored_together_is_left_to_transformers(monkeypatch: pytest.MonkeyPatch) -> None:
    model = meta_model(tiny_config("llama"))
    monkeypatch.setattr(
        "transformers.core_model_loading.revert_weight_conversion",
        lambda _, tensors: {"both": torch.empty(2)} if len(tensors) > 1 else tensors,
    )
    assert saved_tensors(model) is None


def test_only_some_slices_are_in_memory_at_a_time(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    config = tiny_config("llama", num_hidden_layers=8)
    _, stored = trained(config, tmp_path)
    live, most, total = 0, 0, 0
    real = Stored.rows

    def free(size: int) -> None:
        nonlocal live
        live -= size

    def rows(self: Stored, first: int, last: int) -> torch.Tensor:
        nonlocal live, most, total
        made = real(self, first, last)
        live, total = live + made.nbytes, total + made.nbytes
        most = max(most, live)
        weakref.finalize(made, free, made.nbytes)
        return made

    monkeypatch.setattr(Stored, "rows", rows)
    monkeypatch.setattr(whole_weights, "SLICE", 1000)
    write_rounded(meta_model(config), stored, tmp_path / "out", torch.bfloat16, SHARD_SIZE)
    assert total == sum(4 * torch.Size(one.shape).numel() for one in stored.values())
    assert most <= 8 * 4000 < total / 20
    reloaded = AutoModelForCausalLM.from_pretrained(tmp_path / "out", dtype=torch.bfloat16)
    assert all(
        parameter.equal(stored[name].whole().bfloat16())
        for name, parameter in reloaded.named_parameters()
    )


def test_numbers_that_16_bits_cannot_hold_are_one_sentence(tmp_path: Path) -> None:
    config = tiny_config("llama")
    model, _ = trained(config, tmp_path)
    weights = {name: p.detach().clone() for name, p in model.named_parameters()}
    weights["model.norm.weight"][0] = 1e6
    save_file(weights, tmp_path / "large.safetensors")
    stored = read_file(tmp_path / "large.safetensors", "file of weights")
    with pytest.raises(PipelineError, match=r"model\.norm\.weight are not finite .*float16"):
        write_rounded(meta_model(config), stored, tmp_path / "out", torch.float16, SHARD_SIZE)
    assert not list((tmp_path / "out").glob("*.safetensors")), "and no half of a model"

"""Each method trains exactly what it says, on every architecture, and nothing else."""

import math
from contextlib import nullcontext
from pathlib import Path
from typing import Any

import pytest
import torch
from transformers import AutoModelForCausalLM, AutoTokenizer

from pipeline.corpus.new_tokens import Extended, NewToken
from pipeline.scoring.bits import Window, score_model
from pipeline.scoring.samples import complete
from pipeline.training.adapters import without_rows
from pipeline.training.base_model import BaseModel
from pipeline.training.engine import Engine
from pipeline.training.loading import load_for_training
from pipeline.training.settings import TrainSettings
from tests.training import architectures
from tests.training.architectures import (
    BF16,
    FP32,
    KINDS,
    loss_of,
    snapshot,
    take_steps,
    tiny_base,
    trained,
)

TRL = Engine("trl", "for a test")
NEW = (NewToken("Frankenstein", 450, (5, 6)), NewToken("gothick", 451, (7, 8, 9)))


@pytest.fixture(scope="module")
def bases(tmp_path_factory: pytest.TempPathFactory) -> dict[str, BaseModel]:
    folder = tmp_path_factory.mktemp("bases")
    return {kind: tiny_base(folder / kind, kind) for kind in KINDS}


def load(base: BaseModel, *, precision: Any = BF16, extended: Any = None, **asked: Any) -> Any:
    rank = {} if asked.get("method") == "full" else {"rank": 4}
    settings = TrainSettings(**rank | asked)
    settings.check()
    return load_for_training(TRL, base, settings, precision, cuda=False, extended=extended)


def changed(model: Any, steps: int = 2, **rest: Any) -> set[str]:
    """The names of the tensors that some steps of training change."""
    before = snapshot(model)
    take_steps(model, steps, **rest)
    after = snapshot(model)
    assert before.keys() == after.keys()
    return {name for name in before if not torch.equal(before[name], after[name])}


@pytest.mark.parametrize("method", ["lora", "dora", "qlora"])
@pytest.mark.parametrize("kind", KINDS)
def test_an_adapters_steps_change_all_of_the_adapter_and_nothing_else(
    kind: str, method: str, bases: dict[str, BaseModel]
) -> None:
    model = load(bases[kind], method=method)
    wanted = set(trained(model))
    assert wanted
    parts = {".lora_A.", ".lora_B."} | ({".lora_magnitude_vector."} if method == "dora" else set())
    assert all(any(part in name for part in parts) for name in wanted)
    assert all(any(part in name for name in wanted) for part in parts)
    assert {p.dtype for p in trained(model).values()} == {torch.float32}
    assert changed(model) == wanted


def test_the_same_with_8_bits(bases: dict[str, BaseModel]) -> None:
    for kind in ("llama", "gpt2"):
        model = load(bases[kind], method="qlora8")
        assert changed(model) == set(trained(model))


@pytest.mark.parametrize("method", ["lora", "dora", "qlora", "qlora8"])
@pytest.mark.parametrize("kind", ["llama", "gpt2"])
def test_a_new_adapter_changes_nothing(kind: str, method: str, bases: dict[str, BaseModel]) -> None:
    model = load(bases[kind], method=method, precision=FP32)
    loss = loss_of(model, FP32).item()
    with model.disable_adapter():
        assert loss == pytest.approx(loss_of(model, FP32).item(), rel=1e-5)


@pytest.mark.parametrize("kind", KINDS)
def test_full_fine_tuning_changes_every_weight(kind: str, bases: dict[str, BaseModel]) -> None:
    model = load(bases[kind], method="full")
    names = {name for name, _ in model.named_parameters()}
    assert set(trained(model)) == names
    # Rows of tokens that do not occur get no gradient, experts that are not chosen neither; a whole
    # tensor without one is what must not be.
    assert names <= changed(model)


def test_full_fine_tuning_keeps_steps_that_16_bits_would_lose(bases: dict[str, BaseModel]) -> None:
    model = load(bases["llama"], method="full")
    assert {p.dtype for p in model.parameters()} == {torch.float32}
    before = {name: p.detach().clone() for name, p in model.named_parameters()}
    take_steps(model, 1, lr=1e-6)
    norm = "model.norm.weight"
    after = model.get_parameter(norm)
    assert not torch.equal(after, before[norm])
    assert torch.equal(after.bfloat16(), before[norm].bfloat16())


@pytest.mark.parametrize(("rslora", "scale"), [(False, 12 / 4), (True, 12 / math.sqrt(4))])
@pytest.mark.parametrize("method", ["lora", "dora"])
def test_the_adapter_counts_alpha_over_rank_times_or_over_its_root(
    method: str, rslora: bool, scale: float, bases: dict[str, BaseModel]
) -> None:
    model = load(
        bases["llama"], method=method, alpha=12, rslora=rslora, precision=FP32,
        target_modules=("q_proj",),
    )  # fmt: skip
    take_steps(model, 2, FP32)
    layer = model.base_model.model.model.layers[0].self_attn.q_proj
    x = torch.randn(3, 64, generator=torch.Generator().manual_seed(0))
    weight = layer.base_layer.weight
    with torch.no_grad():
        merged = weight + scale * (layer.lora_B["default"].weight @ layer.lora_A["default"].weight)
        if method == "dora":  # magnitude times direction, a row at a time
            magnitude = layer.lora_magnitude_vector["default"].weight
            merged = merged * (magnitude / merged.norm(dim=1))[:, None]
        assert torch.allclose(layer(x), x @ merged.T, atol=1e-5)
        assert not torch.allclose(layer(x), x @ weight.T, atol=1e-3)


def test_named_norms_and_embeddings_are_trained_whole(bases: dict[str, BaseModel]) -> None:
    model = load(bases["llama"], target_modules=("attention", "norm,embed_tokens"))
    whole = {name for name in trained(model) if "lora" not in name}
    assert len(whole) == 2
    assert all("modules_to_save" in name for name in whole)
    assert changed(model) == set(trained(model))


@pytest.mark.parametrize("method", ["lora", "qlora"])
@pytest.mark.parametrize("tied", [False, True])
def test_of_the_embedding_only_rows_of_new_tokens_are_trained(
    tied: bool, method: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    base = tiny_base(tmp_path / "base", tie_word_embeddings=tied)
    model = load(base, method=method, extended=Extended(base.path, NEW, 452))
    table = model.get_input_embeddings().weight
    assert table.shape[0] == 452
    assert torch.allclose(table[450].float(), table[[5, 6]].float().mean(0), atol=1e-2)
    assert torch.allclose(table[451].float(), table[[7, 8, 9]].float().mean(0), atol=1e-2)
    rows = {name for name in trained(model) if "trainable_tokens_delta" in name}
    assert len(rows) == (1 if tied else 2)
    assert all(trained(model)[name].shape == (2, 64) for name in rows)
    assert {p.dtype for p in trained(model).values()} == {torch.float32}
    with torch.no_grad():
        before = model.get_input_embeddings().weight.clone()
    monkeypatch.setattr(architectures, "IDS", torch.tensor([[50, 450, 60, 451, 70]]))
    take_steps(model)
    with torch.no_grad():
        after = model.get_input_embeddings().weight
    assert torch.equal(before[:450], after[:450])
    assert not torch.equal(before[450:], after[450:])


@pytest.mark.parametrize("tied", [False, True])
def test_trls_loss_takes_a_head_with_trained_rows(tied: bool, tmp_path: Path) -> None:
    base = tiny_base(tmp_path / "base", tie_word_embeddings=tied)
    model = load(base, extended=Extended(base.path, NEW, 452))
    head = model.get_output_embeddings()
    assert head.bias is None
    assert head.weight.shape[0] == 452
    assert head.weight.requires_grad


def test_full_fine_tuning_with_new_tokens_has_rows_for_them(bases: dict[str, BaseModel]) -> None:
    model = load(bases["llama"], method="full", extended=Extended(Path(), NEW, 452))
    assert model.config.vocab_size == 452
    assert model.get_output_embeddings().weight.shape[0] == 452


@pytest.mark.parametrize("first", [450, 440], ids=["rows are added", "rows were in reserve"])
@pytest.mark.parametrize("method", ["lora", "full"])
@pytest.mark.parametrize(("kind", "tied"), [("llama", False), ("llama", True), ("gemma2", True)])
def test_without_its_new_rows_a_model_is_its_base_exactly(
    kind: str, tied: bool, method: str, first: int, tmp_path: Path
) -> None:
    # gemma2 squashes logits after the head: a low one would be likely again.
    base = tiny_base(tmp_path / "base", kind, tie_word_embeddings=tied)
    plain = AutoModelForCausalLM.from_pretrained(base.path, dtype=torch.float32).eval()
    new = tuple(NewToken(token.text, first + i, token.pieces) for i, token in enumerate(NEW))
    model = load(base, method=method, precision=FP32, extended=Extended(base.path, new, first + 2))
    before = snapshot(model)
    held_out = [Window("a", list(range(40, 70)), 60), Window("b", list(range(90, 130)), 80)]

    def writes(one: Any) -> str:
        tokenizer = AutoTokenizer.from_pretrained(base.path)
        return complete(one, tokenizer, "The lamp went out.", max_new_tokens=8, temperature=0)

    expected, text = score_model(plain, held_out), writes(plain)
    assert score_model(model, held_out) != expected
    adapter_off = nullcontext() if method == "full" else model.disable_adapter()
    with adapter_off, without_rows(model, 450):
        assert score_model(model, held_out) == expected
        assert writes(model) == text
    assert score_model(model, held_out) != expected
    after = snapshot(model)
    assert all(torch.equal(before[name], after[name]) for name in before)


def test_new_rows_are_back_after_an_error_without_them(
    bases: dict[str, BaseModel],
) -> None:
    model = load(bases["llama"], precision=FP32, extended=Extended(Path(), NEW, 452))
    head = model.get_output_embeddings()
    with pytest.raises(ZeroDivisionError), without_rows(model, 450):
        assert head(torch.ones(1, 64)).shape == (1, 450)
        raise ZeroDivisionError
    assert head(torch.ones(1, 64)).shape == (1, 452)


def test_a_padded_embedding_has_rows_already(bases: dict[str, BaseModel]) -> None:
    token = NewToken("gothick", 440, (7, 8))
    model = load(bases["llama"], extended=Extended(Path(), (token,), 441))
    assert model.get_input_embeddings().weight.shape[0] == 450


@pytest.mark.parametrize("method", ["lora", "dora", "qlora", "full"])
def test_gradient_checkpointing_gives_the_same_gradients(
    method: str, bases: dict[str, BaseModel]
) -> None:
    def gradients(checkpointing: bool) -> dict[str, torch.Tensor]:
        # Dropout must be drawn alike when activations are computed again.
        dropout = 0.0 if method == "full" else 0.2
        model = load(
            bases["llama"], method=method, gradient_checkpointing=checkpointing, dropout=dropout
        )
        assert model.is_gradient_checkpointing is checkpointing
        take_steps(model, 1)  # else the first factors have no gradient yet
        torch.manual_seed(0)
        model.zero_grad()
        loss_of(model).backward()
        return {name: p.grad for name, p in trained(model).items() if p.grad is not None}

    plain, again = gradients(False), gradients(True)
    assert plain
    assert plain.keys() == again.keys()
    assert all(torch.equal(plain[name], again[name]) for name in plain)


@pytest.mark.parametrize("method", ["lora", "dora", "qlora", "qlora8"])
def test_a_score_before_training_leaves_the_gradients_as_they_are(
    method: str, bases: dict[str, BaseModel]
) -> None:
    def gradients(scored: bool) -> dict[str, torch.Tensor]:
        model = load(bases["llama"], method=method)
        if scored:
            model.eval()
            with torch.no_grad(), model.disable_adapter():
                loss_of(model)
            model.train()
        take_steps(model, 1)
        loss_of(model).backward()
        return {name: p.grad for name, p in trained(model).items() if p.grad is not None}

    plain, after = gradients(False), gradients(True)
    assert len(plain) == len(after) == len(trained(load(bases["llama"], method=method)))
    assert all(torch.equal(plain[name], after[name]) for name in plain)


@pytest.mark.parametrize("asked", [{}, {"method": "dora"}, {"method": "qlora"}])
def test_the_same_seed_draws_the_same_adapter_and_another_another(
    asked: dict[str, Any], bases: dict[str, BaseModel]
) -> None:
    def factors(seed: int) -> dict[str, torch.Tensor]:
        torch.manual_seed(seed + 100)  # what was drawn before must not matter
        model = load(bases["llama"], seed=seed, **asked)
        return {n: p.detach() for n, p in trained(model).items() if "lora_A" in n}

    one, same, other = factors(1), factors(1), factors(2)
    assert all(torch.equal(one[name], same[name]) for name in one)
    assert not any(torch.equal(one[name], other[name]) for name in one)
    for factor in one.values():
        bound = 1 / math.sqrt(factor.shape[1])
        assert 0.9 * bound < factor.abs().max() <= bound


def test_every_method_learns(bases: dict[str, BaseModel]) -> None:
    for method in ("lora", "dora", "qlora", "qlora8", "full"):
        losses = take_steps(load(bases["llama"], method=method), 6)
        assert losses[-1] < losses[0] - 0.5, method

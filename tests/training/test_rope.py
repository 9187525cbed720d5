"""Longer contexts: how positions are stretched, for which models, and what is recorded of it."""

import json
import math
from pathlib import Path
from typing import Any

import pytest
import torch
from hypothesis import given
from hypothesis import settings as hypothesis_settings
from hypothesis import strategies as st
from transformers import AutoConfig, AutoModelForCausalLM, BloomConfig

from pipeline.errors import UsageError
from pipeline.training.configs import run_context
from pipeline.training.rope import KINDS, context_of, parse_scaling, rope_change
from pipeline.training.settings import TrainSettings
from tests.training.architectures import CONTEXT, tiny_base, tiny_config

ROTARY = ("llama", "mistral", "qwen3", "gemma2", "phi", "gpt_neox", "mixtral", "qwen2_moe")


def stretched(kind: str, scaling: str, length: int = 100, **changed: Any) -> tuple[Any, Any]:
    config = tiny_config(kind, **changed)
    change = rope_change(config, scaling, length)
    assert change is not None
    change.apply(config)
    return config, change


@pytest.mark.parametrize("kind", ROTARY)
@pytest.mark.parametrize("way", KINDS)
def test_every_way_runs_on_every_rotary_architecture_beyond_its_context(
    kind: str, way: str
) -> None:
    config, change = stretched(kind, f"{way}:4")
    assert change.context == context_of(config) == 4 * CONTEXT
    torch.manual_seed(0)
    model = AutoModelForCausalLM.from_config(config).eval()
    rotary = [m for m in model.modules() if getattr(m, "rope_type", None) == way]
    assert rotary
    ids = torch.arange(3 * CONTEXT)[None] % 400 + 3
    with torch.no_grad():
        assert model(ids).logits.isfinite().all()


def test_linear_divides_every_frequency_and_yarn_spares_the_fast_ones() -> None:
    torch.manual_seed(0)
    plain = AutoModelForCausalLM.from_config(tiny_config("llama")).model.rotary_emb.inv_freq
    found = {}
    for way in ("linear", "yarn", "llama3"):
        model = AutoModelForCausalLM.from_config(stretched("llama", f"{way}:4")[0])
        found[way] = plain / model.model.rotary_emb.inv_freq
    assert torch.allclose(found["linear"], torch.full_like(plain, 4.0))
    for way in ("yarn", "llama3"):
        assert found[way][0] == pytest.approx(1.0)
        assert found[way][-1] == pytest.approx(4.0)


def test_dynamic_changes_nothing_within_the_trained_context() -> None:
    def logits(config: Any, ids: torch.Tensor) -> torch.Tensor:
        torch.manual_seed(0)
        with torch.no_grad():
            return AutoModelForCausalLM.from_config(config).eval()(ids).logits

    short, long = torch.arange(CONTEXT)[None] + 3, torch.arange(2 * CONTEXT)[None] + 3
    config, _ = stretched("llama", "dynamic:4")
    assert torch.equal(logits(config, short), logits(tiny_config("llama"), short))
    assert not torch.allclose(logits(config, long), logits(tiny_config("llama"), long))
    assert config.max_position_embeddings == CONTEXT


def test_auto_is_as_much_as_the_sequences_need_and_nothing_where_they_fit() -> None:
    assert rope_change(tiny_config("llama"), "auto", CONTEXT) is None
    assert rope_change(tiny_config("llama"), None, 1000) is None
    change = rope_change(tiny_config("llama"), "auto", CONTEXT + 32)
    assert change is not None
    assert (change.kind, change.factor, change.context) == ("yarn", 1.5, CONTEXT + 32)
    assert rope_change(BloomConfig(), "auto", 100_000) is None  # ALiBi has no end


@given(context=st.integers(50, 5000), more=st.integers(1, 100_000))
@hypothesis_settings(max_examples=100, deadline=None)
def test_auto_is_always_exactly_enough(context: int, more: int) -> None:
    config = tiny_config("llama", max_position_embeddings=context)
    change = rope_change(config, "auto", context + more)
    assert change is not None
    assert change.context == change.max_position_embeddings == context + more


@pytest.mark.parametrize("way", ["linear", "yarn", "llama3"])
def test_a_stretched_base_is_stretched_further_in_its_own_way(way: str) -> None:
    config, first = stretched("llama", f"{way}:2")
    for scaling in (f"{way}:3", "auto"):
        again = rope_change(config, scaling, 6 * CONTEXT)
        assert again is not None
        assert (again.kind, again.factor, again.context) == (way, 3.0, 6 * CONTEXT)
        assert again.parameters["factor"] == 6.0
        # As if it had been done at once.
        at_once = stretched("llama", f"{way}:6")[1]
        assert again.parameters == at_once.parameters
    assert first.parameters["factor"] == 2.0
    other = "linear:2" if way != "linear" else "yarn:2"
    with pytest.raises(UsageError, match=f"llama is stretched already, by {way}") as caught:
        rope_change(config, other, 100)
    assert caught.value.hint == "Give auto."


def test_only_layers_that_see_everything_are_stretched() -> None:
    config, change = stretched("gemma3_text", "linear:2")
    before = tiny_config("gemma3_text").rope_parameters
    assert change.parameters["sliding_attention"] == before["sliding_attention"]
    assert change.parameters["full_attention"] == {
        **before["full_attention"], "rope_type": "linear", "factor": 2.0
    }  # fmt: skip
    assert AutoModelForCausalLM.from_config(config) is not None


@pytest.mark.parametrize("kind", ["gpt2", "bloom"])
def test_a_model_without_rotary_positions_is_refused(kind: str) -> None:
    config = BloomConfig() if kind == "bloom" else tiny_config(kind)
    with pytest.raises(UsageError, match=f"linear:2: {kind} has no rotary positions to stretch"):
        rope_change(config, "linear:2", 10)


@pytest.mark.parametrize(
    "text", ["", "yarn", "yarn:", "yarn:1", "yarn:0.5", "yarn:-2", "yarn:nan", "yarn:inf", "yarn:x",
             "longrope:2", "auto:2", "2", "Yarn:2"],
)  # fmt: skip
def test_what_means_nothing_is_refused_with_examples(text: str) -> None:
    with pytest.raises(UsageError, match="--rope-scaling") as caught:
        parse_scaling(text)
    assert "yarn:2" in str(caught.value.hint)


@given(kind=st.sampled_from(KINDS), factor=st.floats(1.001, 1000, allow_nan=False))
@hypothesis_settings(max_examples=50)
def test_every_kind_and_factor_is_read(kind: str, factor: float) -> None:
    found, number = parse_scaling(f"{kind}:{factor!r}")
    assert found == kind
    assert number is not None
    assert math.isclose(number, factor)


def test_what_is_recorded_makes_the_same_model_of_the_bases_own_config(tmp_path: Path) -> None:
    base = tiny_base(tmp_path / "base")
    for scaling in ("yarn:4", "linear:2", "llama3:8", "dynamic:2"):
        config, change = stretched("llama", scaling)
        raw = json.loads((base.path / "config.json").read_text("utf-8"))
        again = tmp_path / "again"
        again.mkdir(exist_ok=True)
        (again / "config.json").write_text(json.dumps({**raw, **change.as_dict()}), "utf-8")
        assert AutoConfig.from_pretrained(again).rope_parameters == config.rope_parameters
        assert context_of(AutoConfig.from_pretrained(again)) == change.context


def test_a_run_knows_the_stretched_context(tmp_path: Path) -> None:
    base = tiny_base(tmp_path / "base")
    assert run_context(TrainSettings(), base.path) == CONTEXT
    assert run_context(TrainSettings(rope_scaling="dynamic:4"), base.path) == 4 * CONTEXT
    settings = TrainSettings(rope_scaling="auto", sequence_length=200)
    assert run_context(settings, base.path) == 200

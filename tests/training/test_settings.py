"""Settings that make no sense are refused at once, by the name of the option."""

import json
import math
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from pipeline.errors import PipelineError, UsageError
from pipeline.training.methods import METHODS
from pipeline.training.settings import (
    OPTIMIZERS,
    PRECISIONS,
    SCHEDULERS,
    TrainSettings,
    context_length,
)


def with_option(name: str, value: Any) -> TrainSettings:
    return TrainSettings(**{name: value})


def test_the_defaults_make_sense() -> None:
    TrainSettings().check()


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("max_steps", 0),
        ("max_steps", -1),
        ("epochs", 0),
        ("epochs", math.inf),
        ("tokens", 0),
        ("method", "lora4"),
        ("learning_rate", 0.0),
        ("learning_rate", -1e-4),
        ("learning_rate", math.nan),
        ("rank", 0),
        ("alpha", 0),
        ("dropout", 1.0),
        ("dropout", -0.1),
        ("sequence_length", 2),
        ("batch_size", 0),
        ("batch_tokens", 0),
        ("micro_batch_size", 0),
        ("warmup", -0.1),
        ("warmup", math.nan),
        ("scheduler", "cosin"),
        ("decay", 1.0),
        ("optimizer", "sgd"),
        ("weight_decay", -1.0),
        ("beta1", -0.1),
        ("beta2", 1.0),
        ("max_grad_norm", 0.0),
        ("seed", -1),
        ("seed", 2**32),
        ("precision", "int8"),
        ("eval_tokens", 0),
        ("eval_every", -1),
        ("sample_tokens", 0),
        ("log_every", 0),
        ("report_to", ("tensorbord",)),
        ("price_per_hour", 0.0),
        ("profile_steps", -1),
        ("engine", "unslot"),
        ("stride", 1024),
        ("overlong", "keep"),
        ("eos", "row"),
        ("mix", ("novels",)),
    ],
)
def test_a_setting_that_makes_no_sense_is_refused_by_its_name(name: str, value: Any) -> None:
    with pytest.raises(UsageError, match="--" + name.replace("_", "-")):
        with_option(name, value).check()


@pytest.mark.parametrize(
    ("name", "known"),
    [
        ("method", tuple(METHODS)),
        ("scheduler", SCHEDULERS),
        ("optimizer", OPTIMIZERS),
        ("precision", PRECISIONS),
    ],
)
def test_every_name_that_is_known_is_taken_and_all_are_told(
    name: str, known: tuple[str, ...]
) -> None:
    for value in known:
        with_option(name, value).check()
    with pytest.raises(UsageError) as error:
        with_option(name, "other").check()
    assert error.value.hint == f"Known: {', '.join(known)}."


def test_two_lengths_together_are_refused() -> None:
    with pytest.raises(UsageError, match="Give --max-steps or --epochs, not both"):
        TrainSettings(max_steps=3, epochs=1).check()
    with pytest.raises(UsageError, match="Give --epochs or --tokens, not both"):
        TrainSettings(tokens=3, epochs=1).check()


def test_a_step_is_of_sequences_or_of_as_many_as_make_so_many_tokens() -> None:
    assert TrainSettings(batch_size=3).sequences_per_step == 3
    assert TrainSettings(batch_tokens=8192, sequence_length=1024).sequences_per_step == 8
    assert TrainSettings(batch_tokens=5000, sequence_length=1024).sequences_per_step == 5
    assert TrainSettings(batch_tokens=100, sequence_length=1024).sequences_per_step == 1


def test_the_learning_rate_suits_what_is_trained_unless_it_is_given() -> None:
    adapter, full = TrainSettings().peak_learning_rate, TrainSettings(method="full")
    scratch = TrainSettings(from_scratch="model.json")
    assert full.peak_learning_rate < min(scratch.peak_learning_rate, adapter)
    assert TrainSettings(method="full", learning_rate=3e-4).peak_learning_rate == 3e-4


def test_alpha_is_twice_the_rank_unless_it_is_given() -> None:
    assert TrainSettings(rank=8).lora_alpha == 16
    assert TrainSettings(rank=8, alpha=8).lora_alpha == 8


def test_everything_is_trained_in_full_training_and_from_scratch() -> None:
    assert not TrainSettings().trains_everything
    assert TrainSettings(method="full").trains_everything
    assert TrainSettings(from_scratch="model.json").trains_everything


@pytest.mark.parametrize("how", [{"method": "full"}, {"from_scratch": "model.json"}])
@pytest.mark.parametrize(
    ("name", "value"),
    [("rank", 8), ("alpha", 32), ("rslora", True), ("dropout", 0.1), ("target_modules", ("q",))],
)
def test_what_shapes_an_adapter_is_refused_where_there_is_none(
    how: dict[str, Any], name: str, value: Any
) -> None:
    TrainSettings(**how).check()
    with_option(name, value).check()
    with pytest.raises(UsageError, match=f"--{name.replace('_', '-')} is for adapters, and --"):
        TrainSettings(**how, **{name: value}).check()


@pytest.mark.parametrize("prompt", ["", " \n"])
def test_a_prompt_of_nothing_is_refused(prompt: str) -> None:
    with pytest.raises(UsageError, match="--sample-prompt must not be empty"):
        TrainSettings(sample_prompts=("The sea", prompt)).check()


def test_the_largest_seed_is_one_that_numpy_takes() -> None:
    seed = 2**32 - 1
    TrainSettings(seed=seed).check()
    np.random.RandomState(seed)
    with pytest.raises(ValueError, match="Seed must be between"):
        np.random.RandomState(seed + 1)


def test_settings_are_recorded_as_they_are_used_in_plain_values() -> None:
    values = TrainSettings(rank=4, mix=("a=1", "b=2")).as_dict()
    assert json.loads(json.dumps(values)) == values
    assert values["alpha"] == 8
    assert values["learning_rate"] == TrainSettings().peak_learning_rate
    assert values["mix"] == ["a=1", "b=2"]


@pytest.mark.parametrize(
    "config",
    [
        {"max_position_embeddings": 64},
        {"n_positions": 64},
        {"text_config": {"max_position_embeddings": 64}},
    ],
)
def test_a_sequence_longer_than_the_model_sees_is_refused(
    tmp_path: Path, config: dict[str, Any]
) -> None:
    (tmp_path / "config.json").write_text(json.dumps(config))
    assert context_length(tmp_path) == 64
    TrainSettings(sequence_length=64).check_against(tmp_path)
    with pytest.raises(UsageError, match="--sequence-length 65 exceeds the 64 tokens"):
        TrainSettings(sequence_length=65).check_against(tmp_path)


def test_a_config_that_does_not_say_or_cannot_be_read(tmp_path: Path) -> None:
    with pytest.raises(PipelineError, match=r"config\.json cannot be read"):
        context_length(tmp_path)
    (tmp_path / "config.json").write_text("{}")
    assert context_length(tmp_path) is None

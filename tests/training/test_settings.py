"""Settings that make no sense are refused at once, by the name of the option."""

import json
import math
from pathlib import Path
from typing import Any

import pytest

from pipeline.errors import PipelineError, UsageError
from pipeline.training.settings import TrainSettings, context_length, parse_mix, plan


def test_the_defaults_make_sense() -> None:
    TrainSettings().check()


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("max_steps", 0),
        ("max_steps", -1),
        ("epochs", 0),
        ("epochs", math.inf),
        ("learning_rate", 0.0),
        ("learning_rate", -1e-4),
        ("learning_rate", math.nan),
        ("rank", 0),
        ("alpha", 0),
        ("dropout", 1.0),
        ("dropout", -0.1),
        ("sequence_length", 2),
        ("batch_size", 0),
        ("gradient_accumulation", 0),
        ("warmup", -0.1),
        ("scheduler", "cosin"),
        ("engine", "unslot"),
        ("weight_decay", -1.0),
        ("seed", -1),
        ("eval_tokens", 0),
        ("sample_tokens", 0),
        ("log_every", 0),
    ],
)
def test_a_setting_that_makes_no_sense_is_refused_by_its_name(name: str, value: Any) -> None:
    with pytest.raises(UsageError, match="--" + name.replace("_", "-")):
        TrainSettings(**{name: value}).check()


def test_steps_and_epochs_together_are_refused() -> None:
    with pytest.raises(UsageError, match="--max-steps or --epochs"):
        TrainSettings(max_steps=3, epochs=1).check()


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


def test_epochs_become_steps_and_steps_become_epochs() -> None:
    # 10 rows in batches of 4 make 3 batches, 2 of them a step: 2 steps an epoch
    by_epochs = plan(TrainSettings(epochs=3, batch_size=4, gradient_accumulation=2), 10, 1000)
    assert (by_epochs.steps, by_epochs.epochs, by_epochs.tokens) == (6, 3.0, 3000)
    by_steps = plan(TrainSettings(max_steps=3, batch_size=4, gradient_accumulation=2), 10, 1000)
    assert (by_steps.steps, by_steps.epochs, by_steps.tokens) == (3, 1.5, 1500)
    assert plan(TrainSettings(), 10, 1000).steps == 10  # one epoch unless told otherwise
    assert plan(TrainSettings(epochs=0.05), 10, 1000).steps == 1


def test_a_mix_is_weights_by_the_step_from_which_they_hold() -> None:
    mix = ("novels=0.7,letters=0.3", "500: novels = 0.2, letters=8e-1", "900:a=b:c=1,test=0")
    assert parse_mix(mix) == {
        0: {"novels": 0.7, "letters": 0.3},
        500: {"novels": 0.2, "letters": 0.8},
        900: {"a=b:c": 1.0, "test": 0.0},
    }
    TrainSettings(mix=mix).check()
    assert TrainSettings(mix=mix).as_dict()["mix"] == list(mix)


@pytest.mark.parametrize(
    ("mix", "message"),
    [
        ([""], "must be NAME=WEIGHT,NAME=WEIGHT; '' is not"),
        (["novels"], "'novels' is not"),
        (["novels=0.7,letters"], "'letters' is not"),
        (["novels=0.7,"], "'' is not"),
        (["=1"], "'=1' is not"),
        (["novels=much"], "'novels=much' is not"),
        (["novels=-1"], "'novels=-1' is not"),
        (["novels=nan"], "'novels=nan' is not"),
        (["novels=inf"], "'novels=inf' is not"),
        (["5:"], "'' is not"),
        (["a=1,a=2"], "names 'a' twice"),
        (["a=0,b=0"], "no weight above 0"),
        (["a=1", "b=1"], "twice for step 0"),
        (["a=1", "7:b=1", "07:a=1"], "twice for step 7"),
    ],
)
def test_a_mix_that_makes_no_sense_is_refused(mix: list[str], message: str) -> None:
    with pytest.raises(UsageError, match=f"--mix .*{message}"):
        TrainSettings(mix=tuple(mix)).check()

"""A run's state goes through files and comes back to the last bit."""

import json
import random
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from pipeline.errors import PipelineError
from pipeline.training.optimizer import make_optimizer
from pipeline.training.run_state import (
    OPTIMIZER,
    STATE,
    WEIGHTS,
    Parts,
    Progress,
    load_progress,
    load_random,
    load_scaler,
    load_state,
    load_trained,
    save_state,
    trained_tensors,
)
from pipeline.training.settings import OPTIMIZERS, TrainSettings

PROGRESS = Progress(step=3, sequences=12, tokens=700, positions=768, seconds=1.5)


def parts(width: int = 8, optimizer: str = "adamw") -> Parts:
    torch.manual_seed(0)
    model = torch.nn.Sequential(
        torch.nn.Linear(4, width), torch.nn.Dropout(0.3), torch.nn.Linear(width, 2)
    )
    model[0].bias.requires_grad_(False)
    made = make_optimizer(model, TrainSettings(optimizer=optimizer, learning_rate=1e-2))
    return Parts(model, made, torch.optim.lr_scheduler.LambdaLR(made, lambda n: 1 / (n + 1)))


def steps(these: Parts, n: int) -> list[float]:
    """Train so many steps, and return their losses and rates."""
    seen = []
    for _ in range(n):
        loss = these.model(torch.randn(5, 4)).square().mean()
        loss.backward()
        these.optimizer.step()
        these.scheduler.step()
        these.optimizer.zero_grad()
        seen += [loss.item(), these.optimizer.param_groups[0]["lr"]]
    return seen


WIDE = 2048  # so that the first layer has enough weights for states in 8 bits


@pytest.mark.parametrize("optimizer", OPTIMIZERS)
def test_a_run_that_goes_on_from_files_is_the_straight_run(tmp_path: Path, optimizer: str) -> None:
    straight = parts(WIDE, optimizer)
    steps(straight, 3)
    save_state(tmp_path, straight, PROGRESS)
    expected = steps(straight, 4)

    other = parts(WIDE, optimizer)
    torch.manual_seed(99)
    assert load_state(tmp_path, other) == PROGRESS == load_progress(tmp_path)
    load_random(tmp_path)
    assert steps(other, 4) == expected
    for one, same in zip(other.model.parameters(), straight.model.parameters(), strict=True):
        assert torch.equal(one, same)


def test_states_in_8_bits_and_beside_them_those_of_small_tensors_keep_their_types(
    tmp_path: Path,
) -> None:
    from safetensors.torch import load_file

    these = parts(WIDE, "adamw-8bit")
    steps(these, 1)
    save_state(tmp_path, these, PROGRESS)
    saved = {
        name.rpartition(".")[2]: set[torch.dtype]() for name in load_file(tmp_path / OPTIMIZER)
    }
    for name, tensor in load_file(tmp_path / OPTIMIZER).items():
        saved[name.rpartition(".")[2]].add(tensor.dtype)
    assert saved["state1"] == {torch.uint8, torch.float32} and "absmax1" in saved
    other = parts(WIDE, "adamw-8bit")
    load_state(tmp_path, other)
    for values, same in zip(
        these.optimizer.state.values(), other.optimizer.state.values(), strict=True
    ):
        assert values.keys() == same.keys()
        for name, value in values.items():
            assert torch.equal(torch.as_tensor(value), torch.as_tensor(same[name]))
            assert torch.as_tensor(value).dtype == torch.as_tensor(same[name]).dtype


@given(seed=st.integers(0, 2**32 - 1), draws=st.integers(0, 5))
@settings(max_examples=20)
def test_every_source_of_random_numbers_goes_on_where_it_was(
    tmp_path_factory: pytest.TempPathFactory, seed: int, draws: int
) -> None:
    folder = tmp_path_factory.mktemp("state")
    before = random.getstate(), np.random.get_state(), torch.get_rng_state()
    random.seed(seed), np.random.seed(seed), torch.manual_seed(seed)
    for _ in range(draws):
        random.gauss(0, 1), np.random.standard_normal(), torch.randn(3)
    save_state(folder, parts(), PROGRESS)
    torch.manual_seed(seed + 1)
    save_state(folder, parts(), PROGRESS)  # what is drawn in between is part of the state
    expected = random.gauss(0, 1), np.random.standard_normal(), torch.randn(3).tolist()
    random.seed(1), np.random.seed(1), torch.manual_seed(1)
    load_random(folder)
    drawn = random.gauss(0, 1), np.random.standard_normal(), torch.randn(3).tolist()
    random.setstate(before[0])
    np.random.set_state(before[1])
    torch.set_rng_state(before[2])
    assert drawn == expected


def test_only_what_is_trained_is_saved(tmp_path: Path) -> None:
    from safetensors import safe_open

    save_state(tmp_path, parts(), PROGRESS)
    with safe_open(tmp_path / WEIGHTS, framework="pt") as file:
        assert set(file.keys()) == {"0.weight", "2.weight", "2.bias"}
    assert not [path for path in tmp_path.iterdir() if path.suffix not in (".safetensors", ".json")]


def test_statistics_that_layers_keep_come_back_with_what_is_trained() -> None:
    model, other = (torch.nn.BatchNorm1d(3) for _ in range(2))
    model(torch.arange(12.0).reshape(4, 3))
    kept = trained_tensors(model)
    assert set(kept) == {"weight", "bias", "running_mean", "running_var", "num_batches_tracked"}
    load_trained(other, kept)
    assert all(torch.equal(kept[name], tensor) for name, tensor in other.state_dict().items())
    model(torch.ones(4, 3))
    assert kept["num_batches_tracked"] == 1, "what is kept is a copy"


def test_the_state_of_another_model_is_refused(tmp_path: Path) -> None:
    save_state(tmp_path, parts(), PROGRESS)
    with pytest.raises(PipelineError, match=r"does not fit this run: 0\.weight has another shape"):
        load_state(tmp_path, parts(width=9))
    wider = parts()
    wider.model[0].bias.requires_grad_(True)
    with pytest.raises(PipelineError, match=r"one of the two has no 0\.bias"):
        load_state(tmp_path, wider)


def test_a_damaged_state_is_one_sentence(tmp_path: Path) -> None:
    save_state(tmp_path, parts(), PROGRESS)
    state = json.loads((tmp_path / STATE).read_text())
    del state["optimizer"]
    (tmp_path / STATE).write_text(json.dumps(state))
    with pytest.raises(PipelineError, match="does not fit this run"):
        load_state(tmp_path, parts())
    (tmp_path / STATE).write_text("{")
    with pytest.raises(PipelineError, match="cannot be read"):
        load_progress(tmp_path)


def test_settings_of_the_optimizer_and_its_schedule_are_the_runs_own_whatever_a_file_says(
    tmp_path: Path,
) -> None:
    save_state(tmp_path, parts(), PROGRESS)
    state = json.loads((tmp_path / STATE).read_text())
    for group in state["optimizer"]["groups"]:
        group |= {"betas": None, "weight_decay": "much", "lr": 7}
    state["scheduler"] |= {"base_lrs": "x", "lr_lambdas": 3, "optimizer": []}
    (tmp_path / STATE).write_text(json.dumps(state))
    other, untouched = parts(), parts()
    load_state(tmp_path, other)
    assert other.scheduler.base_lrs == untouched.scheduler.base_lrs
    for group, own in zip(
        other.optimizer.param_groups, untouched.optimizer.param_groups, strict=True
    ):
        assert {k: v for k, v in group.items() if k != "params"} == {
            k: v for k, v in own.items() if k != "params"
        }


def test_the_scale_of_the_loss_and_random_numbers_that_make_no_sense_are_one_sentence(
    tmp_path: Path,
) -> None:
    scaler = torch.amp.GradScaler("cpu")
    save_state(tmp_path, replace(parts(), scaler=scaler), PROGRESS)
    load_scaler(tmp_path, scaler)
    state = json.loads((tmp_path / STATE).read_text())
    (tmp_path / STATE).write_text(json.dumps(state | {"scaler": {"scale": 3}, "random": [1]}))
    with pytest.raises(PipelineError, match="does not fit this run"):
        load_scaler(tmp_path, scaler)
    with pytest.raises(PipelineError, match="does not fit this run"):
        load_random(tmp_path)


@pytest.mark.parametrize(
    "state",
    ["{}", '{"progress": {"stepp": 1}}', '{"progress": 3}', "[]"]
    + [
        f'{{"progress": {{"sequences": {value}}}}}'
        for value in ('"x"', "null", "-1", "true", "1.5")
    ]
    + [f'{{"progress": {{"seconds": {value}}}}}' for value in ("NaN", "1e999", "-1", "null", "[]")]
    + ['{"progress": {"cursor": [1]}}', f'{{"progress": {{"step": 1{"0" * 400}}}}}'],
)
def test_a_state_that_does_not_say_how_far_the_run_came_is_one_sentence(
    tmp_path: Path, state: str
) -> None:
    (tmp_path / "state.json").write_text(state)
    with pytest.raises(PipelineError, match="does not say how far the run had come"):
        load_progress(tmp_path)


@pytest.mark.parametrize("state", ["[" * 200_000, "[" * 60 + "]" * 60, '{"a":' * 200_000, "{", ""])
def test_a_state_that_cannot_be_read_or_is_nested_beyond_all_reason_is_one_sentence(
    tmp_path: Path, state: str
) -> None:
    (tmp_path / STATE).write_text(state)
    with pytest.raises(PipelineError, match="cannot be read"):
        load_progress(tmp_path)

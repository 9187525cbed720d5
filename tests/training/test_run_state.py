"""A run's state goes through files and comes back to the last bit."""

import json
import random
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from pipeline.errors import PipelineError
from pipeline.training.run_state import (
    STATE,
    WEIGHTS,
    Parts,
    Progress,
    load_progress,
    load_random,
    load_state,
    load_trained,
    save_state,
    trained_tensors,
)

PROGRESS = Progress(step=3, sequences=12, tokens=700, positions=768, seconds=1.5)


def parts(width: int = 8, optimizer: str = "adamw") -> Parts:
    torch.manual_seed(0)
    model = torch.nn.Sequential(
        torch.nn.Linear(4, width), torch.nn.Dropout(0.3), torch.nn.Linear(width, 2)
    )
    model[0].bias.requires_grad_(False)
    trained = [p for p in model.parameters() if p.requires_grad]
    made: torch.optim.Optimizer = (
        torch.optim.AdamW(trained, lr=1e-2)
        if optimizer == "adamw" else torch.optim.Adafactor(trained)
    )  # fmt: skip
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


@pytest.mark.parametrize("optimizer", ["adamw", "adafactor"])
def test_a_run_that_goes_on_from_files_is_the_straight_run(tmp_path: Path, optimizer: str) -> None:
    straight = parts(optimizer=optimizer)
    steps(straight, 3)
    save_state(tmp_path, straight, PROGRESS)
    expected = steps(straight, 4)

    other = parts(optimizer=optimizer)
    torch.manual_seed(99)
    assert load_state(tmp_path, other) == PROGRESS == load_progress(tmp_path)
    load_random(tmp_path)
    assert steps(other, 4) == expected
    for one, same in zip(other.model.parameters(), straight.model.parameters(), strict=True):
        assert torch.equal(one, same)


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


@pytest.mark.parametrize("state", ["{}", '{"progress": {"stepp": 1}}', '{"progress": 3}', "[]"])
def test_a_state_that_does_not_say_how_far_the_run_came_is_one_sentence(
    tmp_path: Path, state: str
) -> None:
    (tmp_path / "state.json").write_text(state)
    with pytest.raises(PipelineError, match="does not say how far the run had come"):
        load_progress(tmp_path)

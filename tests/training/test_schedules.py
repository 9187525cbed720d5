"""The learning rate of every step, against the closed forms and against transformers' schedules."""

import math
from collections.abc import Callable
from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from transformers import optimization

from pipeline.errors import UsageError
from pipeline.training.schedules import SCHEDULES, decay_steps, factor, warmup_steps
from pipeline.training.settings import SCHEDULERS


def factors(name: str, total: int, warmup: float = 0, decay: float = 0.2) -> list[float]:
    return [factor(name, step, total, warmup, decay) for step in range(total)]


def test_every_schedule_that_the_settings_know_is_here() -> None:
    assert set(SCHEDULES) == set(SCHEDULERS)


def test_constant_is_the_peak() -> None:
    assert factors("constant", 5) == [1.0] * 5


def test_linear_falls_by_the_same_amount_in_every_step() -> None:
    assert factors("linear", 5) == pytest.approx([1.0, 0.8, 0.6, 0.4, 0.2])


def test_cosine_is_half_a_cosine() -> None:
    expected = [(1 + math.cos(math.pi * step / 8)) / 2 for step in range(8)]
    assert factors("cosine", 8) == pytest.approx(expected)


def test_wsd_is_stable_and_then_falls_as_one_minus_the_root_of_what_is_done() -> None:
    falling = [1 - math.sqrt(done / 4) for done in range(4)]
    assert factors("wsd", 20) == pytest.approx([1.0] * 16 + falling)
    assert factors("wsd", 20, decay=0) == [1.0] * 20


@pytest.mark.parametrize("name", SCHEDULES)
def test_the_warm_up_is_a_straight_line_whose_first_step_learns(name: str) -> None:
    assert factors(name, 40, warmup=3)[:4] == pytest.approx([0.25, 0.5, 0.75, 1.0])


def test_a_warm_up_below_one_is_a_share_and_from_one_on_a_number_of_steps() -> None:
    assert warmup_steps(0.05, 200) == 10
    assert warmup_steps(0.05, 30) == 2  # 1.5, rounded up as transformers does
    assert warmup_steps(0.07, 100) == 7  # not 8, though 0.07 * 100 is more than 7 to a computer
    assert warmup_steps(1, 200) == 1
    assert warmup_steps(12, 200) == 12
    assert warmup_steps(0, 200) == 0
    assert factors("cosine", 200, warmup=0.05) == factors("cosine", 200, warmup=10)


def test_a_decay_takes_no_step_of_the_warm_up() -> None:
    assert decay_steps(0.2, 0, 10) == 2
    assert decay_steps(0.5, 8, 10) == 2
    assert decay_steps(0.5, 12, 10) == 0


def test_an_unknown_name_is_refused() -> None:
    with pytest.raises(UsageError, match="--scheduler 'cosin' is unknown"):
        factor("cosin", 0, 10, 0, 0)


@settings(max_examples=200)
@given(
    name=st.sampled_from(SCHEDULES),
    total=st.integers(1, 300),
    warmup=st.one_of(st.floats(0, 0.99), st.integers(1, 400).map(float)),
    decay=st.floats(0, 0.99),
)
def test_every_step_learns_and_the_rate_rises_and_then_falls(
    name: str, total: int, warmup: float, decay: float
) -> None:
    rates = factors(name, total, warmup, decay)
    assert all(0 < rate <= 1 for rate in rates)
    rising = warmup_steps(warmup, total)
    assert rates[:rising] == sorted(rates[:rising])
    assert rates[rising:] == sorted(rates[rising:], reverse=True)
    assert rising >= total or rates[rising] == 1
    # what a scheduler asks for after the last step
    assert 0 <= factor(name, total, total, warmup, decay) <= 1


TRANSFORMERS: dict[str, Callable[..., Any]] = {
    "constant": lambda opt, w, d, n: optimization.get_constant_schedule_with_warmup(opt, w),
    "linear": lambda opt, w, d, n: optimization.get_linear_schedule_with_warmup(opt, w, n),
    "cosine": lambda opt, w, d, n: optimization.get_cosine_schedule_with_warmup(opt, w, n),
    "wsd": lambda opt, w, d, n: optimization.get_wsd_schedule(opt, w, d, n, decay_type="1-sqrt"),
}


@pytest.mark.parametrize("name", SCHEDULES)
@pytest.mark.parametrize(("total", "warmup"), [(1, 0), (7, 0), (20, 1), (50, 5), (50, 30)])
def test_a_step_is_where_transformers_is_in_the_next(name: str, total: int, warmup: int) -> None:
    """Theirs wastes its first step, at a rate of 0; asked one step later it is ours."""
    optimizer = torch.optim.SGD([torch.nn.Parameter(torch.zeros(1))], lr=1.0)
    falling = decay_steps(0.2, warmup, total)
    theirs = TRANSFORMERS[name](optimizer, warmup + 1, falling, total + 1).lr_lambdas[0]
    assert theirs(0) == 0
    assert factors(name, total, warmup) == pytest.approx([theirs(i + 1) for i in range(total)])

"""How long a run is, in every unit."""

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pipeline.errors import UsageError
from pipeline.training.length import (
    Plan,
    check_batch,
    plan,
    plan_of,
    tokens_wanted,
)
from pipeline.training.segments import Segment, Segments
from pipeline.training.settings import TrainSettings


def test_epochs_become_steps_and_tokens() -> None:
    found = plan(TrainSettings(epochs=3), 10, 1000)
    assert (found.steps, found.epochs, found.tokens) == (30, 3.0, 3000)


def test_only_the_last_step_of_a_run_may_be_smaller_than_the_others() -> None:
    # 30 sequences in steps of 4: seven full steps and one of 2; not three epochs of 3 steps each
    found = plan(TrainSettings(epochs=3, batch_size=4), 10, 1000)
    assert (found.steps, found.epochs, found.tokens) == (8, 3.0, 3000)


def test_steps_become_epochs_and_tokens() -> None:
    found = plan(TrainSettings(max_steps=6, batch_size=8), 16, 1000)
    assert (found.steps, found.epochs, found.tokens) == (6, 3.0, 3000)


def test_tokens_become_steps_and_epochs() -> None:
    found = plan(TrainSettings(tokens=2500), 10, 1000)
    assert (found.steps, found.epochs, found.tokens) == (25, 2.5, 2500)


def test_tokens_are_those_trained_on_over_the_whole_run() -> None:
    found = plan(TrainSettings(tokens=500), 10, 1000, 250)
    assert (found.steps, found.epochs, found.tokens, found.trained) == (20, 2.0, 2000, 500)


def test_one_epoch_unless_told_otherwise_and_at_least_one_step() -> None:
    assert plan(TrainSettings(), 10, 1000).steps == 10
    assert plan(TrainSettings(epochs=0.05), 10, 1000).steps == 1
    assert plan(TrainSettings(tokens=1), 10, 1000).steps == 1


def test_a_step_is_not_added_for_a_hair() -> None:
    assert 100 * 1.1 > 110
    assert plan(TrainSettings(epochs=1.1), 100, 3000).steps == 110


@settings(max_examples=100)
@given(
    sequences=st.integers(1, 5000),
    length=st.integers(2, 4096),
    batch=st.integers(1, 64),
    wanted=st.integers(1, 10**9),
)
def test_a_run_trains_on_at_least_the_tokens_asked_for_and_less_than_a_sequence_more(
    sequences: int, length: int, batch: int, wanted: int
) -> None:
    n_tokens = sequences * length
    found = plan(TrainSettings(tokens=wanted, batch_size=batch), sequences, n_tokens)
    assert wanted <= found.tokens < wanted + length
    again = plan(TrainSettings(epochs=found.epochs, batch_size=batch), sequences, n_tokens)
    assert (again.steps, again.tokens) == (found.steps, found.tokens)


def test_a_batch_of_tokens_is_as_many_sequences_as_make_them() -> None:
    found = plan(TrainSettings(batch_tokens=8192, sequence_length=1024), 16, 16384)
    assert (found.sequences_per_step, found.steps) == (8, 2)


def test_accumulation_is_what_a_step_takes_of_micro_batches() -> None:
    settings = TrainSettings(batch_size=12, micro_batch_size=4)
    assert plan(settings, 24, 2400).accumulation == 3
    found = plan(TrainSettings(batch_size=12), 24, 2400)
    assert (found.micro_batch, found.accumulation) == (1, 12)


def test_a_step_that_is_no_multiple_of_the_micro_batch_is_refused_with_what_would_do() -> None:
    with pytest.raises(UsageError) as error:
        check_batch(TrainSettings(batch_size=10, micro_batch_size=4))
    assert error.value.message == "--batch-size 10 is no multiple of --micro-batch-size 4."
    assert error.value.hint == "Give --batch-size 8 or 12, or --micro-batch-size 2."
    with pytest.raises(UsageError, match="--batch-size 12 or 8, or"):  # the nearer one first
        check_batch(TrainSettings(batch_size=11, micro_batch_size=4))
    with pytest.raises(UsageError, match="Give --batch-size 4, or --micro-batch-size 3"):
        check_batch(TrainSettings(batch_size=3, micro_batch_size=4))
    with pytest.raises(UsageError, match=r"--batch-tokens 5120 \(10 sequences\) is no multiple"):
        check_batch(TrainSettings(batch_tokens=5120, sequence_length=512, micro_batch_size=4))
    with pytest.raises(UsageError, match="--batch-tokens 4096 or 6144, or --micro-batch-size 2"):
        check_batch(TrainSettings(batch_tokens=5120, sequence_length=512, micro_batch_size=4))


@given(batch=st.integers(1, 200), micro=st.integers(1, 64))
def test_what_is_advised_is_not_refused(batch: int, micro: int) -> None:
    try:
        check_batch(TrainSettings(batch_size=batch, micro_batch_size=micro))
    except UsageError as error:
        sizes, divisor = str(error.hint).rstrip(".").split(", or --micro-batch-size ")
        for size in sizes.removeprefix("Give --batch-size ").split(" or "):
            check_batch(TrainSettings(batch_size=int(size), micro_batch_size=micro))
        check_batch(TrainSettings(batch_size=batch, micro_batch_size=int(divisor)))


def test_a_batch_in_two_units_or_of_half_a_sequence_is_refused() -> None:
    with pytest.raises(UsageError, match="--batch-size or --batch-tokens, not both"):
        check_batch(TrainSettings(batch_size=2, batch_tokens=4096))
    with pytest.raises(UsageError, match="--batch-tokens 500 is less than one sequence"):
        check_batch(TrainSettings(batch_tokens=500, sequence_length=1024))


def test_a_plan_says_its_length_in_every_unit_and_what_a_step_is() -> None:
    settings = TrainSettings(tokens=126_976, batch_size=8, micro_batch_size=2, warmup=3)
    assert plan(settings, 62, 63_488).describe() == (
        "16 steps = 2.00 epochs = about 126,976 tokens; 8 sequences a step (2 at a time, 4 times), "
        "3 steps of warm-up"
    )
    assert plan(TrainSettings(warmup=0), 1, 90, 40).describe() == (
        "1 step = 1.00 epoch = about 90 tokens, 40 of them trained on; 1 sequence a step, "
        "no warm-up"
    )
    assert "= 0.0010 epochs =" in plan(TrainSettings(max_steps=1), 1000, 10_000).describe()


def test_a_plan_can_be_made_of_a_length_alone() -> None:
    assert Plan(3, 1.5, 300).accumulation == 1
    found = plan_of(TrainSettings(batch_size=2, warmup=0.5), 10, 0.7, 2000, 1500)
    assert (found.warmup_steps, found.sequences_per_step, found.trained) == (5, 2, 1500)


def test_less_than_an_epoch_and_a_long_warm_up_are_noted() -> None:
    assert plan(TrainSettings(), 10, 1000).notes() == []
    assert plan(TrainSettings(max_steps=3), 12, 1000).notes() == [
        "The run sees 25 % of the training data: one epoch is 12 steps."
    ]
    assert plan(TrainSettings(warmup=5), 10, 1000).notes() == []
    (note,) = plan(TrainSettings(warmup=6), 10, 1000).notes()
    assert note.startswith("The warm-up of 6 steps takes more than half of the 10 steps")


def test_the_tokens_of_a_mixture_are_those_asked_for_or_so_many_epochs() -> None:
    assert tokens_wanted(TrainSettings(tokens=50), 1000) == 50
    assert tokens_wanted(TrainSettings(epochs=2.5), 1000) == 2500
    assert tokens_wanted(TrainSettings(), 1000) == 1000


@given(sizes=st.lists(st.integers(1, 40), min_size=1, max_size=6), batch=st.integers(1, 9))
@settings(max_examples=40)
def test_the_steps_of_one_pass_over_a_series_are_those_of_its_sequences_together(
    sizes: list[int], batch: int
) -> None:
    segments = Segments(
        tuple(Segment(f"s/{n}", tuple(range(size)), "") for n, size in enumerate(sizes)), batch
    )
    steps = plan(TrainSettings(batch_size=batch), sum(sizes), 1000).steps
    assert f"{batch:,} a step: {steps:,} step" in segments.describe()[1]

"""Weights are shares of the trained tokens, wherever one stops to count."""

from collections import Counter
from fractions import Fraction
from itertools import islice, pairwise

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pipeline.errors import PipelineError, UsageError
from pipeline.training.mixture import Mixture, Schedule

NAMES = "abcdefghij"
WEIGHTS = st.one_of(
    st.floats(0.01, 1), st.sampled_from([1e-6, 1e-3, 0.1, 0.2, 0.3, 0.5, 0.7, 1.0, 3.0, 1000.0])
)
LENGTHS = st.lists(st.one_of(st.integers(1, 100), st.just(100)), min_size=1, max_size=12)


@st.composite
def mixtures(draw: st.DrawFn, max_stages: int = 1) -> Mixture:
    """Some collections, each with its rows, in any order, and weights that may change."""
    names = NAMES[: draw(st.integers(1, len(NAMES)))]
    rows = [(name, length) for name in names for length in draw(LENGTHS)]
    rows = draw(st.permutations(rows))
    starts = sorted(draw(st.sets(st.integers(1, 60), max_size=max_stages - 1)) | {0})
    stages = []
    for start in starts:
        chosen = draw(st.sets(st.sampled_from(names), min_size=1))
        stages.append((start, {name: draw(WEIGHTS) for name in sorted(chosen)}))
    return Mixture(
        Schedule.of(stages),
        lengths=[length for _, length in rows],
        collections=[name for name, _ in rows],
        seed=draw(st.integers(0, 3)),
        rows_per_step=draw(st.integers(1, 4)),
    )


def example(weights: dict[str, float], **rows: list[int]) -> Mixture:
    lengths = [length for name in rows for length in rows[name]]
    collections = [name for name in rows for _ in rows[name]]
    return Mixture(Schedule.of([(0, weights)]), lengths, collections, seed=1)


def furthest_off(mixture: Mixture, order: list[int], shares: dict[str, float]) -> float:
    """The most tokens by which any collection is off its share at the end of any row."""
    whole = sum(map(Fraction, shares.values()))
    exact = {name: Fraction(share) / whole for name, share in shares.items()}
    drawn: Counter[str] = Counter()
    total, worst = 0, 0.0
    for row in order:
        name = mixture.collections[row]
        assert name in shares
        drawn[name] += mixture.lengths[row]
        total += mixture.lengths[row]
        worst = max(worst, *(abs(float(drawn[n] - exact[n] * total)) for n in exact))
    return worst


@settings(deadline=None, max_examples=150)
@given(mixtures())
def test_no_collection_is_ever_off_its_share_by_more_than_the_longest_row(mixture: Mixture) -> None:
    order = list(islice(mixture.order(), 400))
    off = furthest_off(mixture, order, mixture.schedule.at(0))
    assert off <= max(mixture.lengths) + 1e-6


def test_two_small_sources_beside_a_large_one_wait_no_longer_than_one_row() -> None:
    # Drawing from the source with the largest deficit falls 127 tokens behind here.
    mixture = example({"a": 1, "b": 2, "c": 30}, a=[100], b=[100], c=[100])
    order = list(islice(mixture.order(), 200))
    assert furthest_off(mixture, order, mixture.schedule.at(0)) <= 100


@settings(deadline=None, max_examples=80)
@given(mixtures(max_stages=4))
def test_the_weights_of_each_stage_hold_from_its_step_on(mixture: Mixture) -> None:
    ends = [start for start, _ in mixture.schedule.stages[1:]] + [80]
    order = mixture.take(steps=80)
    assert len(order) == 80 * mixture.rows_per_step
    for (start, shares), end in zip(mixture.schedule.stages, ends, strict=True):
        assert mixture.schedule.at(start) == mixture.schedule.at(end - 1) == shares
        part = order[start * mixture.rows_per_step : end * mixture.rows_per_step]
        assert furthest_off(mixture, part, shares) <= max(mixture.lengths) + 1e-6


@settings(deadline=None)
@given(mixtures(max_stages=3))
def test_a_collection_is_read_to_its_end_before_it_begins_again(mixture: Mixture) -> None:
    order = list(islice(mixture.order(), 300))
    for name in mixture.schedule.names:
        rows = [row for row, of in enumerate(mixture.collections) if of == name]
        read = [row for row in order if mixture.collections[row] == name]
        rounds = [read[i : i + len(rows)] for i in range(0, len(read), len(rows))]
        for whole in rounds[:-1]:
            assert sorted(whole) == rows
        assert len(set(rounds[-1])) == len(rounds[-1]) if rounds else True


@settings(deadline=None)
@given(mixtures(max_stages=3), st.integers(0, 200))
def test_an_order_that_starts_later_is_the_same_order(mixture: Mixture, start: int) -> None:
    assert (
        list(islice(mixture.order(start), 50)) == list(islice(mixture.order(), start + 50))[start:]
    )


def test_the_order_is_known_for_good() -> None:
    # A run that goes on after an upgrade must go on in the same order.
    mixture = example({"letters": 0.25, "novels": 0.75}, novels=[10] * 5, letters=[10] * 3)
    assert mixture.take(steps=12) == [4, 6, 2, 3, 0, 7, 1, 0, 3, 5, 1, 4]


def test_another_seed_and_another_round_have_another_order() -> None:
    def rounds(seed: int) -> tuple[list[int], list[int]]:
        mixture = Mixture(Schedule.of([(0, {"a": 1})]), [1] * 50, ["a"] * 50, seed)
        order = mixture.take(steps=100)
        return order[:50], order[50:]

    first, second = rounds(1)
    assert first != second
    assert first != list(range(50))
    assert rounds(2)[0] != first
    assert rounds(1) == (first, second)


def test_a_source_beside_it_does_not_change_the_order_within_a_collection() -> None:
    alone = example({"a": 1}, a=[5] * 20, b=[5] * 20)
    beside = example({"a": 1, "b": 2}, a=[5] * 20, b=[5] * 20)
    order = [row for row in islice(beside.order(), 60) if beside.collections[row] == "a"]
    assert order == list(islice(alone.order(), len(order)))


def test_long_rows_do_not_get_a_source_more_than_its_share() -> None:
    mixture = example({"long": 1, "short": 1}, long=[1000] * 3, short=[10] * 50)
    readings = {r.collection: r for r in mixture.readings(list(islice(mixture.order(), 5050)))}
    assert readings["long"].share == pytest.approx(0.5, abs=0.01)
    assert readings["short"].times == pytest.approx(readings["short"].tokens / 500)


def test_what_has_no_weight_is_never_drawn_nor_counted() -> None:
    mixture = example({"a": 1, "b": 0}, a=[3, 4], b=[5, 6])
    assert mixture.tokens == 7
    assert set(mixture.take(steps=50)) == {0, 1}


def test_an_epoch_is_as_many_tokens_as_there_are_in_whole_steps() -> None:
    mixture = Mixture(
        Schedule.of([(0, {"novels": 0.7, "letters": 0.3})]),
        [100] * 90 + [40] * 25,
        ["novels"] * 90 + ["letters"] * 25,
        seed=0,
        rows_per_step=8,
    )
    assert mixture.tokens == 10_000
    order = mixture.take(tokens=mixture.tokens)
    assert len(order) % 8 == 0
    tokens = sum(mixture.lengths[row] for row in order)
    assert 10_000 <= tokens < 10_800
    novels, letters = mixture.readings(order)
    assert (novels.collection, letters.collection) == ("novels", "letters")
    assert letters.share == pytest.approx(0.3, abs=0.01)
    assert letters.times == pytest.approx(3, abs=0.3)
    assert str(letters) == "letters 30.2 % of the tokens, each read 3.2 times"
    assert novels.tokens + letters.tokens == tokens


def test_a_run_has_at_least_one_step() -> None:
    mixture = example({"a": 1}, a=[3, 4])
    assert len(mixture.take(tokens=0)) == 1


def test_the_record_is_plain_values() -> None:
    mixture = example({"a": 3, "b": 1}, a=[10] * 3, b=[10] * 2)
    assert mixture.as_dict(mixture.take(steps=4)) == {
        "schedule": [{"from_step": 0, "shares": {"a": 0.75, "b": 0.25}}],
        "sources": {
            "a": {"share": 0.75, "tokens": 30, "times_read": 1.0},
            "b": {"share": 0.25, "tokens": 10, "times_read": 0.5},
        },
    }


def test_a_schedule_is_sorted_and_says_what_holds_at_a_step() -> None:
    schedule = Schedule.of([(500, {"letters": 8, "novels": 2}), (0, {"novels": 5, "test": 0})])
    assert [start for start, _ in schedule.stages] == [0, 500]
    assert all(earlier < later for (earlier, _), (later, _) in pairwise(schedule.stages))
    assert schedule.at(0) == schedule.at(499) == {"novels": 1.0}
    assert schedule.at(500) == schedule.at(10**6) == {"letters": 0.8, "novels": 0.2}
    assert schedule.names == {"novels", "letters"}


@pytest.mark.parametrize(
    ("stages", "message"),
    [
        ([], "for the first step"),
        ([(1, {"a": 1.0})], "for the first step"),
        ([(0, {"a": 1.0}), (0, {"a": 2.0})], "Two sets of weights are given for step 0"),
        ([(0, {"a": -1.0})], "weight of 'a' must be 0 or above, not -1"),
        ([(0, {"a": float("nan")})], "weight of 'a' must be 0 or above, not nan"),
        ([(0, {"a": float("inf")})], "weight of 'a' must be 0 or above, not inf"),
        ([(0, {"a": 0.0})], "No source has a weight above 0: 'a'"),
        ([(0, {"a": 1.0}), (5, {})], "No source has a weight above 0: none is named"),
    ],
)
def test_weights_that_make_no_sense_are_refused(
    stages: list[tuple[int, dict[str, float]]], message: str
) -> None:
    with pytest.raises(UsageError, match=message):
        Schedule.of(stages)


def test_a_share_without_any_text_is_refused() -> None:
    with pytest.raises(PipelineError, match="source 'b' has a share in training, but no text"):
        example({"a": 1, "b": 1}, a=[3])

"""Every pass has every sequence once, in an order of its own; of a series, segment by segment."""

from collections import Counter
from itertools import accumulate, pairwise

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pipeline.training.order import draw_order, even_order, segment_order


@given(n=st.integers(1, 40), passes=st.integers(0, 4), rest=st.integers(0, 39), seed=st.integers(0))
@settings(max_examples=60)
def test_every_pass_has_every_sequence_once(n: int, passes: int, rest: int, seed: int) -> None:
    total = passes * n + rest % n
    order = draw_order(n, total, seed)
    assert len(order) == total
    for start in range(0, passes * n, n):
        assert sorted(order[start : start + n]) == list(range(n))
    assert len(set(order[passes * n :])) == rest % n


@given(short=st.integers(0, 100), more=st.integers(0, 100))
@settings(max_examples=30)
def test_a_longer_run_begins_as_a_shorter_one(short: int, more: int) -> None:
    assert draw_order(13, short + more, 7)[:short] == draw_order(13, short, 7)


def test_passes_differ_and_so_do_seeds() -> None:
    order = draw_order(50, 100, 42)
    assert order[:50] != order[50:]
    assert draw_order(50, 50, 42) != draw_order(50, 50, 43)


def parts(sizes: list[int]) -> list[list[int]]:
    """Segments of these sizes, with numbers that are not in their order."""
    return [list(range(100 * n, 100 * n - size, -1)) for n, size in enumerate(sizes, 1)]


SIZES = st.lists(st.integers(1, 12), min_size=1, max_size=5)


@given(sizes=SIZES, passes=st.integers(1, 3), seed=st.integers(0))
@settings(max_examples=60)
def test_every_pass_has_segment_after_segment_each_sequence_once(
    sizes: list[int], passes: int, seed: int
) -> None:
    segments = parts(sizes)
    order = segment_order(segments, passes * sum(sizes), seed)
    places = accumulate([0, *sizes * passes])
    for segment, (start, end) in zip(segments * passes, pairwise(places), strict=True):
        assert sorted(order[start:end]) == sorted(segment)


@given(sizes=SIZES, more=SIZES, total=st.integers(0, 90), cut=st.integers(0, 90))
@settings(max_examples=60)
def test_a_longer_run_and_a_series_that_grew_begin_as_before(
    sizes: list[int], more: list[int], total: int, cut: int
) -> None:
    order = segment_order(parts(sizes), total, 7)
    assert segment_order(parts(sizes), min(cut, total), 7) == order[:cut]
    grown = segment_order(parts(sizes + more), total, 7)
    first_pass = min(total, sum(sizes))
    assert grown[:first_pass] == order[:first_pass]


@given(n=st.integers(1, 30), total=st.integers(0, 70), seed=st.integers(0))
@settings(max_examples=30)
def test_one_segment_has_the_order_of_data_without_segments(n: int, total: int, seed: int) -> None:
    assert segment_order([range(n)], total, seed) == draw_order(n, total, seed)


def test_nothing_cannot_be_ordered() -> None:
    assert segment_order([[]], 0, 1) == []
    with pytest.raises(ValueError, match="nothing in the segments"):
        segment_order([[], []], 3, 1)


# --- evenly ---------------------------------------------------------------------------------------


@given(groups=st.lists(st.sampled_from("abcd"), min_size=1, max_size=40), seed=st.integers(0))
@settings(max_examples=60)
def test_of_each_text_as_much_is_read_until_it_has_no_more(groups: list[str], seed: int) -> None:
    order = even_order(groups, 2 * len(groups), seed)

    for one_pass in (order[: len(groups)], order[len(groups) :]):
        assert sorted(one_pass) == list(range(len(groups)))
    for end in range(len(groups)):
        read = Counter(groups[number] for number in order[:end])
        going_on = [read[group] for group in set(groups) if read[group] < groups.count(group)]
        assert max(read.values(), default=0) <= min(going_on, default=len(groups)) + 1


@given(
    groups=st.lists(st.integers(0, 5), min_size=1, max_size=30),
    short=st.integers(0, 60), more=st.integers(0, 60),
)  # fmt: skip
@settings(max_examples=40)
def test_a_longer_even_run_begins_as_a_shorter_one(
    groups: list[int], short: int, more: int
) -> None:
    assert even_order(groups, short + more, 7)[:short] == even_order(groups, short, 7)
    assert len(even_order(groups, short + more, 7)) == short + more

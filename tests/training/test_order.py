"""Every pass has every sequence once, in an order of its own."""

from hypothesis import given, settings
from hypothesis import strategies as st

from pipeline.training.order import draw_order


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

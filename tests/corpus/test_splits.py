"""The split: whole documents, decided by seed and id, hardly moved by a new book."""

import random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pipeline.corpus.splits import tail_split, validation_ids
from pipeline.errors import PipelineError

SHELVES = st.dictionaries(st.text(min_size=1, max_size=8), st.integers(0, 10**6), max_size=40)
FRACTIONS = st.floats(0.001, 0.999)


def shelf(count: int, seed: int = 0) -> list[tuple[str, int]]:
    rng = random.Random(seed)
    return [(f"{number}-book", rng.randint(100_000, 900_000)) for number in range(count)]


@given(SHELVES, FRACTIONS, st.integers(0, 5))
def test_some_documents_are_held_out_and_some_are_not(
    sizes: dict[str, int], fraction: float, seed: int
) -> None:
    held_out = validation_ids(list(sizes.items()), fraction, seed)
    assert held_out <= set(sizes)
    if len(sizes) >= 2:
        assert 1 <= len(held_out) < len(sizes)
    else:
        assert not held_out


@given(SHELVES, FRACTIONS, st.randoms(use_true_random=False))
def test_the_order_of_the_documents_does_not_matter(
    sizes: dict[str, int], fraction: float, rng: random.Random
) -> None:
    documents = list(sizes.items())
    shuffled = documents.copy()
    rng.shuffle(shuffled)
    assert validation_ids(documents, fraction) == validation_ids(shuffled, fraction)


@pytest.mark.parametrize("fraction", [0.01, 0.05, 0.1, 0.3])
def test_the_fraction_is_reached_and_not_doubled(fraction: float) -> None:
    documents = shelf(300)
    sizes = dict(documents)
    wanted = fraction * sum(sizes.values())
    held_out = sum(sizes[i] for i in validation_ids(documents, fraction))
    assert wanted <= held_out < wanted + 900_000


def test_a_new_book_moves_hardly_any_other() -> None:
    documents = shelf(200)
    before = validation_ids(documents, 0.1)
    for number in range(50):
        after = validation_ids([*documents, (f"new-{number}", 500_000)], 0.1)
        assert len((before ^ after) - {f"new-{number}"}) <= 1


def test_the_seed_chooses() -> None:
    documents = shelf(30)
    choices = {frozenset(validation_ids(documents, 0.1, seed)) for seed in range(5)}
    assert len(choices) == 5


def test_an_omnibus_is_not_what_is_held_out() -> None:
    documents = [*shelf(20), ("omnibus", 20_000_000)]
    assert all("omnibus" not in validation_ids(documents, 0.05, seed) for seed in range(50))


def test_of_a_few_books_one_of_the_smaller_is_held_out() -> None:
    documents = [("long", 900_000), ("middle", 500_000), ("short", 400_000)]
    chosen = {i for seed in range(20) for i in validation_ids(documents, 0.05, seed)}
    assert chosen == {"middle", "short"}, "either, by the seed, and never the longest"
    assert all(len(validation_ids(documents, 0.05, seed)) == 1 for seed in range(20))


def test_a_poem_is_not_enough_to_hold_out() -> None:
    documents = [*shelf(8), ("poem", 1500)]
    for seed in range(20):
        held_out = validation_ids(documents, 0.02, seed)
        assert "poem" in held_out
        assert len(held_out) == 2


def test_a_poem_is_all_that_can_be_held_out_beside_a_single_novel() -> None:
    assert validation_ids([("novel", 500_000), ("poem", 1500)], 0.1) == {"poem"}


def test_fraction_nought_holds_nothing_out() -> None:
    assert validation_ids(shelf(10), 0) == set()


@pytest.mark.parametrize("fraction", [-0.1, 1, 1.5, float("nan")])
def test_a_fraction_that_makes_no_sense_is_refused(fraction: float) -> None:
    with pytest.raises(PipelineError, match="validation fraction is"):
        validation_ids(shelf(3), fraction)
    with pytest.raises(PipelineError, match="validation fraction is"):
        tail_split(["a", "b"], fraction)


def test_two_documents_of_one_id_are_refused() -> None:
    with pytest.raises(PipelineError, match="same id"):
        validation_ids([("84", 10), ("84", 20)], 0.1)


@given(st.lists(st.text(min_size=1, max_size=20), max_size=30), FRACTIONS)
def test_a_tail_is_held_out_of_a_single_document(chunks: list[str], fraction: float) -> None:
    train, validation = tail_split(chunks, fraction)
    assert train + validation == chunks
    if len(chunks) >= 2:
        assert train
        assert validation
        wanted = fraction * sum(map(len, chunks))
        assert len(train) == 1 or sum(map(len, validation)) >= wanted
        assert len(validation) == 1 or sum(map(len, validation[1:])) < wanted
    else:
        assert validation == []


def test_the_tail_is_as_short_as_it_can_be() -> None:
    chunks = ["x" * 6500] * 100
    assert [len(part) for part in tail_split(chunks, 0.05)] == [95, 5]
    assert [len(part) for part in tail_split(chunks, 0)] == [100, 0]

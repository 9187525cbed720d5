"""The split: whole documents, decided by seed and id, hardly moved by a new book."""

import random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pipeline.corpus.splits import Candidate, hold_out, tail_split, validation_ids
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


@given(
    st.dictionaries(
        st.text(min_size=1, max_size=4),
        st.tuples(st.integers(0, 10**6), st.sampled_from("ABCDEFGH"),
                  st.sampled_from(["novels", "letters"]), st.sampled_from([None, 0.0, 0.3, 1.0])),
        max_size=30,
    ),
    FRACTIONS,
)  # fmt: skip
def test_editions_of_a_work_are_never_on_both_sides(
    shelf: dict[str, tuple[int, str, str, float | None]], fraction: float
) -> None:
    documents = [Candidate(name, *rest) for name, rest in shelf.items()]
    held_out = hold_out(documents, fraction, 0)
    sides = {(d.work, d.id in held_out.ids) for d in documents}
    assert len(sides) == len({d.work for d in documents})
    evaluation = {d.id for d in documents if d.weight == 0}
    assert evaluation <= held_out.ids
    if evaluation:
        assert held_out.drawn_in.keys() == held_out.ids - evaluation
        assert set(held_out.drawn_in.values()) <= evaluation


def test_an_edition_of_what_is_for_evaluation_is_not_trained_on_and_named() -> None:
    documents = [
        Candidate("84-modern", 400_000, "84", "benchmark", 0.0),
        Candidate("84-old", 410_000, "84", "novels", 0.7),
        Candidate("345", 800_000, "345", "novels", 0.7),
    ]
    held_out = hold_out(documents, 0.1, 0)
    assert held_out.ids == {"84-modern", "84-old"}
    assert held_out.drawn_in == {"84-old": "84-modern"}


def test_works_of_one_document_each_are_chosen_as_documents_are() -> None:
    documents = shelf(50)
    plain = validation_ids(documents, 0.1)
    assert validation_ids(documents, 0.1, works={name: name for name, _ in documents}) == plain
    candidates = [Candidate(name, size, name) for name, size in documents]
    assert hold_out(candidates, 0.1, 0).ids == plain


def test_editions_count_as_one_in_the_share_that_is_held_out() -> None:
    documents = shelf(300)
    works = {name: str(number // 3) for number, (name, _) in enumerate(documents)}
    sizes = dict(documents)
    wanted = 0.1 * sum(sizes.values())
    held_out = sum(sizes[i] for i in validation_ids(documents, 0.1, works=works))
    assert wanted <= held_out < wanted + 3 * 900_000


def test_of_one_work_in_two_editions_nothing_is_held_out() -> None:
    assert validation_ids([("1", 10), ("2", 12)], 0.1, works={"1": "1", "2": "1"}) == set()


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

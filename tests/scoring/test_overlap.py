"""What a sample shares with the training text, to the character, and in which document."""

import random

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pipeline.scoring import overlap
from pipeline.scoring.overlap import Overlap, Unit, longest_overlap

TALE = "The lamp went out. “Who is there?” she asked,\n\nand only the sea went on talking.\n"
LETTERS = st.text(alphabet="ab 猫🌊", max_size=30)
WORDS = st.lists(st.sampled_from(["a", "b", "ab", "猫", "sea,"]), max_size=12).map(" ".join)


def by_hand(sample: list[str], documents: list[list[str]]) -> int:
    """The length of the longest run of the sample's units that is in a document."""
    runs = {
        tuple(document[i:j])
        for document in documents
        for i in range(len(document))
        for j in range(i + 1, len(document) + 1)
    }
    lengths = [
        j - i
        for i in range(len(sample))
        for j in range(i + 1, len(sample) + 1)
        if tuple(sample[i:j]) in runs
    ]
    return max(lengths, default=0)


@given(st.lists(LETTERS, max_size=4), st.lists(LETTERS, max_size=4))
@settings(max_examples=150, deadline=None)
def test_of_characters_it_is_the_longest_that_there_is(
    samples: list[str], texts: list[str]
) -> None:
    documents = [(f"d{i}", text) for i, text in enumerate(texts)]
    for sample, found in zip(samples, longest_overlap(samples, documents), strict=True):
        assert found.length == len(found.text) == by_hand(list(sample), [list(t) for t in texts])
        assert found.text in sample
        if found.length:
            having = [name for name, text in documents if found.text in text]
            assert found.document == having[0], "the first that has it"
        else:
            assert found == Overlap(0, "", None)


@given(st.lists(WORDS, max_size=4), st.lists(WORDS, max_size=4))
@settings(max_examples=150, deadline=None)
def test_of_words_it_is_the_longest_that_there_is(samples: list[str], texts: list[str]) -> None:
    documents = [(f"d{i}", text.replace(" ", "\n\n")) for i, text in enumerate(texts)]
    found = longest_overlap(samples, documents, "words")
    for sample, one in zip(samples, found, strict=True):
        assert one.length == by_hand(sample.split(), [text.split() for text in texts])
        assert len(one.text.split()) == one.length
        assert one.text in sample


@given(st.integers(0, 10**6), st.integers(1, 40))
@settings(max_examples=25, deadline=None)
def test_pieces_of_long_documents_hide_nothing_at_their_borders(seed: int, length: int) -> None:
    rng = random.Random(seed)
    text = "".join(rng.choices("abcdefgh ", k=200))
    at = rng.randrange(200 - length)
    sample = "XX" + text[at : at + length] + "YY"
    before = overlap._PIECE
    overlap._PIECE = 16
    try:
        (found,) = longest_overlap([sample], [("first", "ZQ" * 20), ("a", text), ("b", text)])
        (words,) = longest_overlap([f"Q {text[at:]}"], [("a", f"{text} end")], "words")
    finally:
        overlap._PIECE = before
    assert found == Overlap(length, text[at : at + length], "a")
    assert words.length >= len(text[at:].split()) - 1  # the first may be half a word


@pytest.mark.parametrize("unit", ["characters", "words"])
def test_nothing_and_everything(unit: Unit) -> None:
    assert longest_overlap([], [("a", TALE)], unit) == []
    assert longest_overlap(["", "the sea"], [], unit) == [Overlap(0, "", None)] * 2
    assert longest_overlap([" "], [("a", "")], unit) == [Overlap(0, "", None)]
    (whole,) = longest_overlap([TALE.strip()], [("a", TALE), ("b", TALE)], unit)
    assert (whole.text, whole.document) == (TALE.strip(), "a")


def test_documents_that_stand_side_by_side_are_not_one() -> None:
    (found,) = longest_overlap(["the sea went on"], [("a", "of the sea"), ("b", " went on and")])
    assert found.text == " went on"
    (found,) = longest_overlap(["the sea went on"], [("a", "of the sea"), ("b", "went on")])
    assert found == Overlap(7, "the sea", "a")


def test_words_are_the_same_wherever_lines_break_and_case_counts() -> None:
    document = [("a", "and  only\n\tthe sea went\u2003on")]
    (found,) = longest_overlap(["Only the sea went on"], document, "words")
    assert found == Overlap(4, "the sea went on", "a")


def test_documents_are_read_one_after_another_and_no_further_than_needed() -> None:
    read = []

    def documents() -> object:
        for i in range(5):
            read.append(i)
            yield f"d{i}", "the sea " * 40_000

    (found,) = longest_overlap(["the sea the sea"], documents())  # type: ignore[arg-type]
    assert found.document == "d0"
    assert len(read) < 5

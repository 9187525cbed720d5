"""Every tokenizer is scored on exactly the same bytes."""

from dataclasses import replace
from itertools import pairwise

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pipeline.errors import PipelineError
from pipeline.scoring.bits import Window, windows
from pipeline.scoring.stretches import (
    Speller,
    Stretch,
    choose_stretches,
    cut,
    speller_of,
    stretches_of,
)
from tests.tiny_models import TALE, Document, documents, tiny_tokenizer
from tests.tokenizer_families import FAMILIES

TEXTS = [TALE * 30, "Short, but not too short.", "A: 日本語の文章です。" * 300, "", "x" * 5000]
HELD_OUT = [Document(str(i), text) for i, text in enumerate(TEXTS)]
ANY_TEXT = st.text(alphabet=st.characters(exclude_categories=["Cs"]), min_size=1, max_size=60)


def predicted(cut: list[Window]) -> list[int]:
    return [
        token for w in cut for i, token in enumerate(w.ids)
        if i and (w.mask is None or w.mask[i])
    ]  # fmt: skip


def test_what_is_chosen_is_the_starts_in_equal_shares_and_no_tokenizer_has_a_say() -> None:
    chosen = choose_stretches([Document("a", TALE * 50), Document("b", TALE * 9)], tokens=1000)
    assert [stretch.document for stretch in chosen] == ["a", "b"]
    for stretch in chosen:
        assert stretch.begin == len("The"), "the first word is context"
        assert 1600 < len(stretch.text) - stretch.begin <= 2000
        assert (TALE * 50)[len(stretch.text)] == " ", "it ends between two words"


def test_what_a_short_document_leaves_goes_to_the_others_and_blank_ones_give_nothing() -> None:
    held_out = [Document("a", "The sea."), Document("b", TALE * 50), Document("c", " \n")]
    short, long = choose_stretches(held_out, tokens=1000)
    assert short.text == "The sea."
    assert len(long.text) > 3500


def test_text_without_blanks_is_cut_where_it_must_be() -> None:
    (stretch,) = choose_stretches([Document("a", "日本語の文章です。" * 300)], tokens=100)
    assert (stretch.begin, len(stretch.text)) == (0, 400)


def test_little_is_taken_from_as_many_documents_as_give_the_least() -> None:
    shelf = [Document(str(n), TALE * 9) for n in range(8)]
    assert [one.document for one in choose_stretches(shelf, tokens=300)] == ["0"]
    chosen = choose_stretches(shelf, tokens=300, least=32)
    assert [one.document for one in chosen] == [str(n) for n in range(8)]
    assert len({len(one.text) for one in chosen}) == 1
    assert len(choose_stretches(shelf, tokens=100, least=32)) == 3


@pytest.mark.parametrize("nothing", [[], [Document("a", " \n ")]])
def test_nothing_to_score_is_an_error(nothing: list[Document]) -> None:
    with pytest.raises(PipelineError, match="no held-out text"):
        choose_stretches(nothing)


@pytest.mark.parametrize("family", FAMILIES)
def test_windows_of_every_tokenizer_family_cover_the_same_bytes(family: str) -> None:
    tokenizer = FAMILIES[family]()
    chosen = choose_stretches(HELD_OUT, tokens=2000)
    found = cut(chosen, speller_of(tokenizer), length=64)
    for stretch in chosen:
        mine = [window for window in found if window.document == stretch.document]
        assert sum(window.n_bytes for window in mine) == stretch.n_bytes
        assert all(2 <= len(window.ids) <= 64 for window in mine)
        assert all(left.ids[-1] == right.ids[0] for left, right in pairwise(mine))


@pytest.mark.parametrize("adds_bos", [True, False])
@given(text=ANY_TEXT, length=st.integers(2, 9), at=st.integers(0, 60))
@settings(deadline=None, max_examples=80)
def test_each_token_of_a_stretch_is_predicted_once_wherever_it_begins(
    adds_bos: bool, text: str, length: int, at: int
) -> None:
    tokenizer = tiny_tokenizer(adds_bos=adds_bos)
    begin = min(at, len(text) - 1)
    stretch = Stretch("a", text, begin)
    found = cut([stretch], speller_of(tokenizer), length)
    assert tokenizer.decode(predicted(found)) == text[begin:]
    assert sum(window.n_bytes for window in found) == len(text[begin:].encode())
    assert all(2 <= len(window.ids) <= length for window in found)


@pytest.mark.parametrize("adds_bos", [True, False])
def test_a_tokenizer_gets_its_own_windows_back(adds_bos: bool) -> None:
    tokenizer = tiny_tokenizer(adds_bos=adds_bos)
    mine = windows(tokenizer, HELD_OUT, length=64, max_tokens=1500)
    chosen = stretches_of(tokenizer, HELD_OUT, mine)
    again = cut(chosen, speller_of(tokenizer), 64)
    assert [(w.document, w.ids, w.mask) for w in again] == [
        (w.document, w.ids, w.mask) for w in mine
    ]
    for stretch in chosen:
        n_bytes = sum(w.n_bytes for w in mine if w.document == stretch.document)
        assert stretch.n_bytes == n_bytes


def test_another_tokenizer_is_scored_on_the_bytes_of_the_first_ones_windows() -> None:
    first, other = tiny_tokenizer(adds_bos=False), tiny_tokenizer("the sea", vocab_size=300)
    mine = windows(first, HELD_OUT, length=64, max_tokens=1500)
    found = cut(stretches_of(first, HELD_OUT, mine), speller_of(other), 64)
    assert sum(window.n_bytes for window in found) == sum(window.n_bytes for window in mine)
    for name in {window.document for window in mine}:
        texts = [
            tokenizer.decode(predicted([w for w in cut_ if w.document == name]))
            for tokenizer, cut_ in ((first, mine), (other, found))
        ]
        assert texts[0] == texts[1]


def test_a_token_across_the_beginning_is_split_there() -> None:
    tokenizer = tiny_tokenizer(adds_bos=True)
    assert len(tokenizer(" father", add_special_tokens=False)["input_ids"]) == 1
    found = cut([Stretch("a", "her father", 6)], speller_of(tokenizer))
    assert tokenizer.decode(predicted(found)) == "ther"
    assert sum(window.n_bytes for window in found) == 4


def test_a_model_that_begins_texts_with_nothing_gets_a_start_token_where_it_must() -> None:
    speller = Speller(lambda texts: [list(text.encode()) for text in texts], (), 999)
    (window,) = cut([Stretch("a", "sea", 0)], speller)
    assert (window.ids, window.mask) == ([999, *b"sea"], None)
    (window,) = cut([Stretch("a", "sea", 1)], speller)
    assert window.ids == [*b"sea"], "where there is something before it, none is needed"
    with pytest.raises(PipelineError, match="no token to begin 'a' with"):
        cut([Stretch("a", "sea", 0)], replace(speller, start=None))


@pytest.mark.parametrize(
    ("now", "message"),
    [(documents(1), "'tale-1' is not in the dataset"),
     ([*documents(1), Document("tale-1", "Another text.")], "no longer what it was")],
)  # fmt: skip
def test_windows_of_text_that_has_changed_are_an_error(now: list[Document], message: str) -> None:
    tokenizer = tiny_tokenizer()
    mine = windows(tokenizer, documents(2), max_tokens=600)
    with pytest.raises(PipelineError, match=message):
        stretches_of(tokenizer, now, mine)

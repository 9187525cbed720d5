"""A document's ids: its text, one end token, the tokenizer's own start; and blocks that lose
nothing."""

import warnings
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pipeline.corpus.tokens import blocks, document_ids, prefix_ids
from pipeline.errors import PipelineError
from tests.tiny_models import TALE, tiny_tokenizer

CONVENTIONS = [
    {"adds_bos": True, "pad": "<pad>"},
    {"adds_bos": False, "pad": "<pad>"},
    {"adds_bos": True, "pad": "</s>"},
    {"adds_bos": False, "pad": "</s>"},
    {"adds_bos": True, "pad": None},
    {"adds_bos": False, "pad": "<pad>", "pad_is_first": True},
]


@pytest.mark.parametrize("convention", CONVENTIONS, ids=str)
def test_a_document_has_one_end_token_at_its_end_and_the_start_its_tokenizer_wants(
    convention: dict[str, Any],
) -> None:
    tokenizer = tiny_tokenizer(**convention)
    ids = document_ids(tokenizer, TALE * 20)

    assert [i for i, token in enumerate(ids) if token == tokenizer.eos_token_id] == [len(ids) - 1]
    starts = [i for i, token in enumerate(ids) if token == tokenizer.bos_token_id]
    assert starts == ([0] if convention["adds_bos"] else [])


@pytest.mark.parametrize("adds_bos", [True, False])
@given(text=st.text(alphabet=st.characters(exclude_categories=["Cs"])))
@settings(deadline=None, max_examples=50)
def test_the_text_comes_back_unchanged(adds_bos: bool, text: str) -> None:
    tokenizer = tiny_tokenizer(adds_bos=adds_bos)
    ids = document_ids(tokenizer, text)
    assert tokenizer.decode(ids[int(adds_bos) : -1], clean_up_tokenization_spaces=False) == text


@pytest.mark.parametrize("spelled", ["</s>", "<s>", "<s>Once</s>", "a</s></s>", "<pad>"])
def test_text_that_spells_a_special_token_stays_text(spelled: str) -> None:
    tokenizer = tiny_tokenizer(adds_bos=True)
    ids = document_ids(tokenizer, spelled)
    assert ids[0] == tokenizer.bos_token_id
    assert ids[-1] == tokenizer.eos_token_id
    assert not set(ids[1:-1]) & set(tokenizer.all_special_ids)
    assert tokenizer.decode(ids[1:-1]) == spelled


def test_a_tokenizer_that_ends_every_text_by_itself_still_gives_one_end_token() -> None:
    from tokenizers import processors

    tokenizer = tiny_tokenizer()
    tokenizer.backend_tokenizer.post_processor = processors.TemplateProcessing(
        single="<s> $A </s>", special_tokens=[("<s>", 0), ("</s>", 1)]
    )
    assert tokenizer("a")["input_ids"][-1] == tokenizer.eos_token_id
    assert prefix_ids(tokenizer) == [tokenizer.bos_token_id]
    assert document_ids(tokenizer, TALE).count(tokenizer.eos_token_id) == 1


def test_nothing_is_truncated_and_nobody_is_warned_however_long_the_document() -> None:
    tokenizer = tiny_tokenizer()
    tokenizer.model_max_length = 16
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        ids = document_ids(tokenizer, TALE * 100)
    assert tokenizer.decode(ids[1:-1]) == TALE * 100


def test_a_tokenizer_without_an_end_token_is_refused() -> None:
    tokenizer = tiny_tokenizer()
    tokenizer.eos_token = None
    with pytest.raises(PipelineError, match="names no end token"):
        document_ids(tokenizer, "Once.")


@given(n=st.integers(0, 400), length=st.integers(3, 50))
def test_blocks_joined_are_the_document_and_each_can_be_trained(n: int, length: int) -> None:
    ids = list(range(n))
    cut = blocks(ids, length)
    assert [token for block in cut for token in block] == ids
    assert all(len(block) <= length for block in cut)
    assert all(len(block) >= min(2, n) for block in cut)
    assert len(cut) == -(-n // length)  # no more blocks than needed


def test_a_last_token_left_alone_takes_one_from_its_neighbour() -> None:
    assert blocks([1, 2, 3, 4, 5, 6, 7], 3) == [[1, 2, 3], [4, 5], [6, 7]]
    assert blocks([1, 2, 3, 4, 5, 6, 7, 8], 3) == [[1, 2, 3], [4, 5, 6], [7, 8]]


@pytest.mark.parametrize("length", [2, 1, 0, -5])
def test_blocks_too_short_to_predict_anything_are_refused(length: int) -> None:
    with pytest.raises(PipelineError, match="sequence length"):
        blocks([1, 2, 3], length)

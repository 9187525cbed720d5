"""A document's ids: its text, one end token, the tokenizer's own start; and blocks that lose
nothing."""

import warnings
from collections import Counter
from itertools import pairwise
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pipeline.corpus.tokens import (
    block_spans,
    blocks,
    choose_pad,
    document_ids,
    pack,
    prefix_ids,
    tokenizer_fingerprint,
)
from pipeline.errors import PipelineError
from tests.tiny_models import TALE, tiny_tokenizer
from tests.tokenizer_families import FAMILIES, gpt2, llama3

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


def test_a_model_that_has_its_end_token_among_its_pieces_does_not_find_it_in_a_text() -> None:
    from tokenizers import Tokenizer, decoders, models, pre_tokenizers
    from transformers import PreTrainedTokenizerFast

    pieces = [("<unk>", 0.0), ("</s>", 0.0), *((letter, -5.0) for letter in "▁</s>abc")]
    backend = Tokenizer(models.Unigram(pieces, unk_id=0, byte_fallback=False))
    backend.pre_tokenizer = pre_tokenizers.Metaspace(prepend_scheme="never")
    backend.decoder = decoders.Metaspace(prepend_scheme="never")
    tokenizer = PreTrainedTokenizerFast(
        tokenizer_object=backend, eos_token="</s>", unk_token="<unk>"
    )
    ids = document_ids(tokenizer, "a</s>b </s></s>")
    assert ids.count(tokenizer.eos_token_id) == 1
    assert tokenizer.decode(ids[:-1]) == "a</s>b </s></s>"


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


@given(n=st.integers(0, 300), length=st.integers(3, 30), data=st.data())
def test_blocks_with_an_overlap_repeat_so_many_tokens_and_no_more(
    n: int, length: int, data: st.DataObject
) -> None:
    overlap = data.draw(st.integers(1, length - 1))
    ids = list(range(n))
    cut = blocks(ids, length, overlap)
    spans = block_spans(n, length, overlap)
    assert [ids[start:end] for start, _, end in spans] == cut
    assert [token for _, fresh, end in spans for token in ids[fresh:end]] == ids
    assert all(0 < end - start <= length for start, _, end in spans)
    assert all(b[:overlap] == a[-overlap:] for a, b in pairwise(cut) if len(a) >= overlap)


def test_a_short_document_is_one_block_to_the_token() -> None:
    assert blocks([7], 8) == blocks([7], 8, 4) == [[7]]
    assert blocks([7, 8], 8, 4) == [[7, 8]]
    assert blocks(list(range(8)), 8, 4) == [list(range(8))]
    assert blocks([], 8, 4) == []


@pytest.mark.parametrize("overlap", [-1, 8, 9])
def test_an_overlap_of_whole_blocks_is_refused(overlap: int) -> None:
    with pytest.raises(PipelineError, match="overlap must be from 0 to 7"):
        blocks([1, 2, 3], 8, overlap)


# --- packing --------------------------------------------------------------------------------------


@given(st.lists(st.integers(1, 40), max_size=120), st.integers(40, 60))
@settings(max_examples=150)
def test_bins_hold_every_row_once_and_no_bin_is_too_full(lengths: list[int], capacity: int) -> None:
    bins = pack(lengths, capacity)
    assert Counter(row for bin_ in bins for row in bin_) == Counter(range(len(lengths)))
    assert all(sum(lengths[row] for row in bin_) <= capacity for bin_ in bins)
    assert bins == pack(lengths, capacity)


def best_fit_decreasing(lengths: list[int], capacity: int) -> int:
    """How many bins the plain way to do it fills: look at all of them for each row."""
    rooms: list[int] = []
    for length in sorted(lengths, reverse=True):
        fitting = [room for room in rooms if room >= length]
        if fitting:
            rooms[rooms.index(min(fitting))] -= length
        else:
            rooms.append(capacity - length)
    return len(rooms)


@given(st.lists(st.integers(1, 50), max_size=60))
def test_packing_is_best_fit_decreasing(lengths: list[int]) -> None:
    assert len(pack(lengths, 50)) == best_fit_decreasing(lengths, 50)


def test_packing_wastes_next_to_nothing_where_rows_are_many() -> None:
    lengths = [1 + (i * 7919) % 1024 for i in range(5000)]
    assert sum(lengths) / (len(pack(lengths, 1024)) * 1024) > 0.99


def test_many_rows_are_packed_in_next_to_no_time() -> None:
    import time

    lengths = [1 + (i * 7919) % 8192 for i in range(50_000)]
    start = time.perf_counter()
    pack(lengths, 8192)
    assert time.perf_counter() - start < 5  # a hundredth of what looking at all bins takes


@pytest.mark.parametrize("lengths", [[5, 9], [0, 3]])
def test_rows_that_fit_in_no_bin_are_a_fault(lengths: list[int]) -> None:
    with pytest.raises(PipelineError, match="cannot be packed"):
        pack(lengths, 8)


# --- what is known of a tokenizer -----------------------------------------------------------------


@pytest.mark.parametrize(
    ("family", "token", "why"),
    [
        ("gpt2", "<|endoftext|>", "the end token"),
        ("gpt2-pad-is-eos", "<|endoftext|>", "the tokenizer's own"),
        ("llama-2", "</s>", "the end token"),
        ("llama-3", "<|reserved_special_token_0|>", "held in reserve"),
        ("qwen", "<|endoftext|>", "the tokenizer's own"),
        ("gemma", "<pad>", "the tokenizer's own"),
    ],
)
def test_short_rows_are_filled_up_with_what_the_tokenizer_has(
    family: str, token: str, why: str
) -> None:
    tokenizer = FAMILIES[family]()
    id, told = choose_pad(tokenizer)
    assert tokenizer.convert_ids_to_tokens(id) == token
    assert why in told


def test_an_id_of_0_is_a_pad_token_like_any_other() -> None:
    assert choose_pad(FAMILIES["gemma"]())[0] == 0


def test_a_token_made_for_padding_comes_before_one_in_reserve() -> None:
    tokenizer = llama3()
    tokenizer.add_special_tokens({"additional_special_tokens": ["<|finetune_right_pad_id|>"]})
    id, why = choose_pad(tokenizer)
    assert tokenizer.convert_ids_to_tokens(id) == "<|finetune_right_pad_id|>"
    assert "made for it" in why


def test_a_fingerprint_is_of_what_decides_the_ids_and_of_nothing_else() -> None:
    one = tokenizer_fingerprint(gpt2())
    used = gpt2()
    used("some text", truncation=True, max_length=2)
    assert tokenizer_fingerprint(used) == one
    assert len({tokenizer_fingerprint(make()) for make in FAMILIES.values()}) == len(FAMILIES)
    for change in ({"pad_token": "<|endoftext|>"}, {"chat_template": "{{ messages }}"}):
        changed = gpt2()
        for name, value in change.items():
            setattr(changed, name, value)
        assert tokenizer_fingerprint(changed) != one
    grown = gpt2()
    grown.add_tokens(["lighthouse"])
    assert tokenizer_fingerprint(grown) != one

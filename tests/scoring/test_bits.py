"""Bits per byte: every token paid for once, divided by exactly its bytes, on the same windows."""

import math
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from transformers import AutoModelForCausalLM, AutoTokenizer

from pipeline.corpus.tokens import prefix_ids
from pipeline.errors import PipelineError
from pipeline.scoring.bits import (
    Score,
    Window,
    bits_per_byte,
    load_windows,
    save_windows,
    score_model,
    windows,
)
from tests.tiny_models import TALE, Document, documents, tiny_llama, tiny_tokenizer

Parts = tuple[Any, Any]  # a model and its tokenizer

ANY_TEXT = st.text(alphabet=st.characters(exclude_categories=["Cs"]), min_size=3, max_size=80)


@pytest.fixture(scope="module")
def model_and_tokenizer(tmp_path_factory: pytest.TempPathFactory) -> Parts:
    base = tiny_llama(tmp_path_factory.mktemp("tiny") / "model")
    model = AutoModelForCausalLM.from_pretrained(base.path, dtype=torch.float32)
    return model, AutoTokenizer.from_pretrained(base.path)


@pytest.mark.parametrize("adds_bos", [True, False])
@given(text=ANY_TEXT, length=st.integers(2, 9))
@settings(deadline=None, max_examples=60)
def test_every_token_but_the_first_is_predicted_once_and_its_bytes_are_counted(
    adds_bos: bool, text: str, length: int
) -> None:
    tokenizer = tiny_tokenizer(adds_bos=adds_bos)
    ids = [*prefix_ids(tokenizer), *tokenizer(text, add_special_tokens=False)["input_ids"]]

    cut = windows(tokenizer, [Document("a", text)], length=length, max_tokens=10_000)

    assert all(2 <= len(window.ids) <= length for window in cut)
    assert [token for window in cut for token in window.ids[1:]] == ids[1:]
    assert all(left.ids[-1] == right.ids[0] for left, right in pairwise(cut))
    unpaid = b"" if adds_bos else _bytes_of(tokenizer, ids[:1])
    # A first token that holds part of a character shares that character with the next.
    expected = len(text.encode()) - len(unpaid)
    assert abs(sum(window.n_bytes for window in cut) - expected) <= (0 if adds_bos else 3)
    if adds_bos or _is_whole(unpaid):
        assert sum(window.n_bytes for window in cut) == expected


def test_bytes_are_exact_with_a_tokenizer_that_trims_blanks_off_its_positions() -> None:
    from tokenizers import processors

    tokenizer = tiny_tokenizer(adds_bos=False)
    tokenizer.backend_tokenizer.post_processor = processors.ByteLevel(trim_offsets=True)
    text = "\n\n  The   sea \n went on.  \n\n\n"
    cut = windows(tokenizer, [Document("a", text)], length=4, max_tokens=1000)
    first = tokenizer(text, add_special_tokens=False)["input_ids"][:1]
    assert sum(window.n_bytes for window in cut) == len(text) - len(_bytes_of(tokenizer, first))


def test_text_that_spells_an_end_token_is_scored_as_text() -> None:
    tokenizer = tiny_tokenizer(adds_bos=True)
    text = "the tag </s> ends it"
    cut = windows(tokenizer, [Document("a", text)])
    assert tokenizer.eos_token_id not in [token for window in cut for token in window.ids]
    assert sum(window.n_bytes for window in cut) == len(text)


def test_documents_share_the_budget_evenly_and_what_a_short_one_leaves_goes_to_the_others() -> None:
    tokenizer = tiny_tokenizer()
    held_out = [Document("long", TALE * 50), Document("short", "The sea."), Document("b", TALE * 9)]
    cut = windows(tokenizer, held_out, length=64, max_tokens=1000)
    per_document = {
        document.id: sum(w.predicted for w in cut if w.document == document.id)
        for document in held_out
    }
    short = len(tokenizer("The sea.")["input_ids"]) - 1
    assert per_document["short"] == short
    assert sum(per_document.values()) <= 1000
    share = (1000 - short) // 2
    assert abs(per_document["long"] - share) <= 4  # whole characters may take a few tokens less
    assert abs(per_document["b"] - share) <= 4


def test_of_very_many_documents_some_are_taken_from_all_over_the_list() -> None:
    tokenizer = tiny_tokenizer()
    cut = windows(tokenizer, documents(100), max_tokens=1024)
    chosen = list(dict.fromkeys(window.document for window in cut))
    assert chosen == ["tale-0", "tale-25", "tale-50", "tale-75"]


@pytest.mark.parametrize("budget", range(1, 12))
def test_the_budget_never_cuts_through_a_character(budget: int) -> None:
    tokenizer = tiny_tokenizer(adds_bos=True)
    text = "a日本é🌊z"
    try:
        cut = windows(tokenizer, [Document("a", text)], length=5, max_tokens=budget)
    except PipelineError:  # less than one whole character
        return
    ids = [token for window in cut for token in window.ids[1:]]
    # each window gives its last token to the next one
    assert _bytes_of(tokenizer, ids) == text.encode()[: sum(w.n_bytes for w in cut)]
    _bytes_of(tokenizer, ids).decode("utf-8")


def test_a_score_is_the_sum_of_what_the_model_pays_for_each_token(
    model_and_tokenizer: Parts,
) -> None:
    model, tokenizer = model_and_tokenizer
    held_out = windows(tokenizer, documents(2), length=48, max_tokens=300)
    by_hand = 0.0
    for window in held_out:
        with torch.no_grad():
            logits = model(torch.tensor([window.ids])).logits[0].double()
        log_p = logits.log_softmax(-1)
        by_hand -= sum(log_p[i, token].item() for i, token in enumerate(window.ids[1:]))

    score = score_model(model, held_out)

    assert score.nats == pytest.approx(by_hand, rel=1e-5)
    assert score.tokens == sum(window.predicted for window in held_out)
    assert score.bits_per_byte == pytest.approx(by_hand / math.log(2) / score.n_bytes, rel=1e-5)


def test_a_model_that_knows_nothing_pays_the_logarithm_of_its_vocabulary(
    model_and_tokenizer: Parts,
) -> None:
    model, tokenizer = model_and_tokenizer
    held_out = windows(tokenizer, documents(1), length=40, max_tokens=200)
    weight = model.lm_head.weight.detach().clone()
    try:
        with torch.no_grad():
            model.lm_head.weight.zero_()
        score = score_model(model, held_out)
    finally:
        with torch.no_grad():
            model.lm_head.weight.copy_(weight)
    assert score.loss == pytest.approx(math.log(len(tokenizer)), rel=1e-6)
    bits = math.log2(len(tokenizer)) * score.tokens / score.n_bytes
    assert score.bits_per_byte == pytest.approx(bits, rel=1e-6)


def test_scoring_leaves_the_model_in_its_mode_and_tells_how_far_it_is(
    model_and_tokenizer: Parts,
) -> None:
    model, tokenizer = model_and_tokenizer
    held_out = windows(tokenizer, documents(1), length=40, max_tokens=100)
    told: list[int] = []
    model.train()
    score_model(model, held_out, on_window=told.append)
    assert model.training
    assert sum(told) == sum(window.predicted for window in held_out)
    model.eval()
    score_model(model, held_out)
    assert not model.training


@pytest.mark.parametrize("held_out", [[], [Document("a", "")]], ids=["no documents", "no text"])
def test_nothing_held_out_is_an_error_and_never_zero(held_out: list[Document]) -> None:
    with pytest.raises(PipelineError, match="no held-out text"):
        windows(tiny_tokenizer(), held_out)


def test_no_windows_and_no_bytes_are_errors(model_and_tokenizer: Parts) -> None:
    with pytest.raises(PipelineError, match="no held-out text"):
        score_model(model_and_tokenizer[0], [])
    with pytest.raises(PipelineError, match="no held-out text"):
        bits_per_byte(1.0, 0)


@pytest.mark.parametrize("nats", [math.nan, math.inf])
def test_a_loss_that_is_no_number_is_an_error(nats: float) -> None:
    with pytest.raises(PipelineError, match="loss on the held-out text"):
        bits_per_byte(nats, 100)


def test_a_model_with_broken_weights_is_an_error(model_and_tokenizer: Parts) -> None:
    model, tokenizer = model_and_tokenizer
    norm = model.model.norm.weight
    kept = norm.detach().clone()
    try:
        with torch.no_grad():
            norm.fill_(math.nan)
        with pytest.raises(PipelineError, match="is nan"):
            score_model(model, windows(tokenizer, documents(1), max_tokens=50))
    finally:
        with torch.no_grad():
            norm.copy_(kept)


def test_windows_are_kept_as_plain_json(tmp_path: Path) -> None:
    held_out = [Window("tale-0", [1, 2, 3], 9), Window("tale-0", [3, 4], 2)]
    save_windows(tmp_path / "windows.json", held_out)
    assert load_windows(tmp_path / "windows.json") == held_out


def _bytes_of(tokenizer: Any, ids: list[int]) -> bytes:
    """The bytes that byte-level tokens stand for, by the alphabet of GPT-2."""
    from transformers.convert_slow_tokenizer import bytes_to_unicode

    to_byte = {character: byte for byte, character in bytes_to_unicode().items()}
    return bytes(to_byte[c] for token in tokenizer.convert_ids_to_tokens(ids) for c in token)


def _is_whole(data: bytes) -> bool:
    try:
        data.decode("utf-8")
    except UnicodeDecodeError:
        return False
    return True


def test_perplexity_is_per_token_and_none_where_no_number_could_hold_it() -> None:
    assert Score(6.0, 3, 10).perplexity == pytest.approx(math.exp(2.0))
    assert Score(10_000.0, 10, 10).perplexity is None

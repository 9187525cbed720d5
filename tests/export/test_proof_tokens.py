"""Text for the comparison of two tokenizers, and what is said where they differ."""

import unicodedata
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pipeline.corpus.tokens import plain_ids
from pipeline.errors import PipelineError
from pipeline.export.proof_text import ODD, proof_texts
from pipeline.export.proof_tokens import check_reading, reading_of
from tests.tiny_models import TALE, smollm2_tokenizer


@given(st.lists(st.text(max_size=40), max_size=4))
@settings(max_examples=20, deadline=None)
def test_there_is_enough_text_whatever_was_held_out(own: list[str]) -> None:
    texts = proof_texts(own, ["<x>"], n_bytes=30_000)
    assert 30_000 <= sum(len(text.encode("utf-8")) for text in texts) < 45_000
    assert set(ODD) | {"<x>"} <= set(texts)
    assert texts == proof_texts(own, ["<x>"], n_bytes=30_000)


def test_own_text_comes_as_it_is_and_then_in_other_forms() -> None:
    texts = proof_texts([TALE])
    assert TALE in texts
    assert TALE[1:].replace(" ", "") not in texts
    assert any("\r\n" in text and "hearth" in text for text in texts)
    assert any("HEARTH" in text for text in texts)
    decomposed = unicodedata.normalize("NFD", "café-brown")
    assert any(decomposed in text for text in texts)
    assert len(set(texts)) > 0.9 * len(texts)


def test_a_tokenizer_that_normalises_is_told_apart_from_one_that_differs(
    plain_gguf: Path, tmp_path: Path
) -> None:
    """llama.cpp does not bring text into a normal form, as some tokenizers do."""
    tokenizer = smollm2_tokenizer()

    def composed(text: str) -> list[int]:
        return plain_ids(tokenizer, unicodedata.normalize("NFC", text))

    reading = check_reading(plain_gguf, reading_of(tokenizer, composed, [[]]), tmp_path / "log")
    assert reading.unnormalised > 3
    assert (reading.differences, reading.first) == (0, None)


def test_the_first_difference_is_shown_and_some_may_be_allowed(
    plain_gguf: Path, tmp_path: Path
) -> None:
    tokenizer = smollm2_tokenizer()

    def blind(text: str) -> list[int]:
        return plain_ids(tokenizer, text.replace("\u00ad", ""))  # soft hyphens

    trained = reading_of(tokenizer, blind, [plain_ids(tokenizer, TALE)])
    log = tmp_path / "log"
    with pytest.raises(PipelineError, match=r"at first .*mark.* instead of") as raised:
        check_reading(plain_gguf, trained, log)
    assert str(log) in raised.value.message
    reading = check_reading(plain_gguf, trained, log, allowed=100)
    assert 0 < reading.differences <= 100
    assert reading.first is not None
    assert not reading.as_checks()["token_ids"]["equal"]

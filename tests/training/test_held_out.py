"""Records are scored on what the model has to write, to the byte."""

import math
from pathlib import Path
from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from transformers import AutoModelForCausalLM, AutoTokenizer

from pipeline.errors import PipelineError
from pipeline.scoring.bits import Window, load_windows, save_windows, score_model
from pipeline.training.data import Sample
from pipeline.training.held_out import held_out_windows
from tests.tiny_models import Document, tiny_llama, tiny_tokenizer
from tests.tokenizer_families import FAMILIES

TOKENIZER = tiny_tokenizer(adds_bos=True)
ANY_TEXT = st.text(alphabet=st.characters(exclude_categories=["Cs"]), min_size=1, max_size=60)


def pair(name: str, prompt: str, completion: str) -> Sample:
    return Sample(name, {"prompt": prompt, "completion": completion})


def chat(name: str, *said: str) -> Sample:
    roles = ("user", "assistant")
    turns = [{"role": roles[i % 2], "content": text} for i, text in enumerate(said)]
    return Sample(name, {"messages": turns})


def windows(samples: list[Sample], **given: Any) -> list[Window]:
    chosen = {"length": 64, "max_tokens": 10_000, **given}
    return held_out_windows(TOKENIZER, samples, samples[0].kind, None, **chosen)


def scored(window: Window) -> list[int]:
    assert window.mask is not None
    return [token for token, counts in zip(window.ids, window.mask, strict=True) if counts]


def test_of_a_record_the_completion_is_scored_and_not_its_end_token() -> None:
    (window,) = windows([pair("a", "Who is there?", " The sea — nobody.")])
    assert TOKENIZER.decode(scored(window)) == " The sea — nobody."
    assert window.n_bytes == len(" The sea — nobody.".encode())
    assert window.predicted == len(scored(window))
    assert window.ids[-1] == TOKENIZER.eos_token_id


@given(ANY_TEXT, ANY_TEXT, st.integers(4, 12))
@settings(max_examples=80, deadline=None)
def test_windows_of_a_long_record_score_each_token_once_and_all_its_bytes(
    prompt: str, completion: str, length: int
) -> None:
    cut = windows([pair("a", prompt, completion)], length=length)
    whole = windows([pair("a", prompt, completion)], length=1000)
    assert sum(window.n_bytes for window in cut) == len(completion.encode())
    assert [t for window in cut for t in scored(window)] == scored(whole[0])
    assert all(2 <= len(window.ids) <= length for window in cut)


def test_a_window_of_a_long_record_begins_with_half_a_window_of_context() -> None:
    cut = windows([pair("a", "the sea " * 40, "the lamp " * 40)], length=20)
    assert len(cut) > 2
    for window in cut[1:]:
        assert window.mask is not None
        assert window.mask[:10] == [False] * 10


@pytest.mark.parametrize("family", FAMILIES)
def test_of_a_chat_the_assistants_words_are_scored_in_every_family(family: str) -> None:
    tokenizer = FAMILIES[family]()
    said = ["Who?", "The sea.", "Still?", "Still, and nobody."]
    (window,) = held_out_windows(
        tokenizer, [chat("a", *said)], "chat", None, length=500, max_tokens=900
    )  # fmt: skip
    words = "".join(str(tokenizer.decode(scored(window))).split())
    assert words == "Thesea.Still,andnobody."
    assert abs(window.n_bytes - len("".join(said[1::2]))) <= 4, "blanks of the template"
    assert not set(scored(window)) & set(tokenizer.all_special_ids)


def test_masked_windows_cost_what_a_sum_by_hand_costs(tmp_path: Path) -> None:
    base = tiny_llama(tmp_path / "model")
    model = AutoModelForCausalLM.from_pretrained(base.path, dtype=torch.float32)
    tokenizer = AutoTokenizer.from_pretrained(base.path)
    samples = [pair("a", "Who is there?", " The sea."), chat("b", "Who?", "The stones.")]
    for sample in samples:
        (window,) = held_out_windows(
            tokenizer, [sample], sample.kind, None, length=200, max_tokens=99
        )
        assert window.mask is not None
        with torch.no_grad():
            log_p = model(torch.tensor([window.ids])).logits[0].double().log_softmax(-1)
        places = [i for i, counts in enumerate(window.mask) if counts]
        by_hand = -sum(log_p[i - 1, window.ids[i]].item() for i in places)
        score = score_model(model, [window])
        assert score.nats == pytest.approx(by_hand, rel=1e-5)
        assert score.tokens == len(places)
        assert score.bits_per_byte == pytest.approx(by_hand / math.log(2) / window.n_bytes)


def test_records_are_taken_whole_until_the_budget_is_used_up() -> None:
    records = [pair(f"r{i}", "Who?", "the sea " * (1 + i % 5)) for i in range(100)]
    cut = windows(records, max_tokens=100)
    chosen = [window.document for window in cut]
    assert chosen == sorted(chosen, key=lambda name: int(name[1:])), "in their order"
    assert 80 <= sum(window.predicted for window in cut) <= 100
    assert max(int(name[1:]) for name in chosen) > 50, "from all over the list"
    assert cut == windows(records, max_tokens=100)


@pytest.mark.parametrize(
    ("samples", "message"),
    [
        ([], "There is no held-out record to score"),
        ([pair("a", "Who?", "the sea " * 99)], "No held-out record fits into --eval-tokens 20"),
        ([chat("a", "Who?", "\ue0000\ue001")], "Record 'a'"),
    ],
)  # fmt: skip
def test_what_cannot_be_scored_is_one_sentence(samples: list[Sample], message: str) -> None:
    template = "{{ raise_exception('never') }}"
    with pytest.raises(PipelineError, match=message):
        held_out_windows(TOKENIZER, samples, "chat", template, length=64, max_tokens=20)


def test_texts_are_cut_as_ever() -> None:
    from pipeline.scoring.bits import windows as plain

    text = "The sea went on. " * 30
    ours = windows([Sample("a", {"text": text})])
    assert ours == plain(TOKENIZER, [Document("a", text)], length=64, max_tokens=10_000)


def test_masks_are_kept_and_windows_without_them_are_read(tmp_path: Path) -> None:
    path = tmp_path / "windows.json"
    masked = windows([pair("a", "Who?", " The sea.")])
    save_windows(path, masked)
    assert load_windows(path) == masked
    path.write_text('[{"document": "a", "ids": [1, 2, 3], "n_bytes": 9}]')
    assert load_windows(path) == [Window("a", [1, 2, 3], 9)]
    save_windows(path, load_windows(path))
    assert "mask" not in path.read_text()

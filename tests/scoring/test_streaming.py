"""A model of transformers writes token by token."""

from collections import Counter
from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from transformers import AutoModelForCausalLM, AutoTokenizer, PreTrainedTokenizerBase

from pipeline.errors import PipelineError
from pipeline.scoring.samples import complete, text_ids
from pipeline.scoring.sampling import Answer, Sampling
from pipeline.scoring.streaming import Chooser, Detokenizer, stream
from tests.tiny_models import smollm2_tokenizer, tiny_llama, tiny_tokenizer

PROMPT = "The lamp went out. “Who is there?”"
TINY = tiny_tokenizer()


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Any:
    path = tiny_llama(tmp_path_factory.mktemp("tiny") / "model").path
    return AutoModelForCausalLM.from_pretrained(path, dtype=torch.float32).eval()


@pytest.fixture(scope="module")
def tokenizer(model: Any) -> PreTrainedTokenizerBase:
    found: PreTrainedTokenizerBase = AutoTokenizer.from_pretrained(model.config._name_or_path)
    return found


def written(model: Any, tokenizer: Any, sampling: Sampling, **more: Any) -> Answer:
    ids = text_ids(tokenizer, PROMPT)
    return stream(model, tokenizer, ids, sampling, **more)


def test_it_writes_what_drawing_all_at_once_writes(model: Any, tokenizer: Any) -> None:
    sampling = Sampling(temperature=0, repeat_last_n=-1, max_tokens=40)
    pieces: list[str] = []
    answer = written(model, tokenizer, sampling, on_text=pieces.append)
    assert answer.text == complete(model, tokenizer, PROMPT, max_new_tokens=40, temperature=0)
    assert "".join(pieces) == answer.text
    assert len(pieces) > 10
    assert answer.prompt_tokens == len(tokenizer(PROMPT)["input_ids"])
    assert answer.tokens_per_second > 0


def test_the_seed_decides_whatever_else_draws_numbers(model: Any, tokenizer: Any) -> None:
    def text(seed: int) -> str:
        torch.rand(1)
        sampling = Sampling(temperature=1.5, top_k=0, top_p=1, max_tokens=20, seed=seed)
        return written(model, tokenizer, sampling).text

    assert text(1) == text(1) != text(2)


def test_a_stop_text_and_a_full_context_end_it(model: Any, tokenizer: Any) -> None:
    greedy = Sampling(temperature=0, max_tokens=40)  # this model ends by itself after some
    text = written(model, tokenizer, greedy).text
    stop = text[20:24]
    answer = written(model, tokenizer, Sampling(temperature=0, max_tokens=40, stop=(stop,)))
    assert answer.text == text.partition(stop)[0]
    assert answer.finish == "stop"
    assert answer.tokens < 40
    room = answer.prompt_tokens + 3
    short = written(model, tokenizer, greedy, context=room)
    assert (short.tokens, short.finish) == (3, "length")
    with pytest.raises(PipelineError, match=f"sees only {answer.prompt_tokens}"):
        written(model, tokenizer, greedy, context=answer.prompt_tokens)
    with pytest.raises(PipelineError, match="The prompt is empty"):
        stream(model, tokenizer, [], greedy)


def test_an_end_token_ends_it_unless_speed_is_measured(model: Any, tokenizer: Any) -> None:
    greedy = Sampling(temperature=0, repeat_last_n=-1, max_tokens=40)  # this model ends by itself
    answer = written(model, tokenizer, greedy)
    assert answer.finish == "stop"
    assert answer.tokens < 40
    measured = written(model, tokenizer, greedy, ignore_end=True)
    assert (measured.tokens, measured.finish) == (40, "length")
    assert measured.text.startswith(answer.text)


@given(st.text(max_size=30))
@settings(max_examples=25, deadline=None)
def test_text_in_pieces_is_the_text_and_no_character_is_cut(text: str) -> None:
    for tokenizer in (TINY, smollm2_tokenizer()):  # the second does not know every byte
        ids = tokenizer(text, add_special_tokens=False)["input_ids"]
        before = tokenizer("Who is there?", add_special_tokens=False)["input_ids"]
        expected = str(tokenizer.decode([*before, *ids])).removeprefix("Who is there?")
        pieces = Detokenizer(tokenizer, before)
        found = [pieces.add(token) for token in ids]
        assert "".join(found) + pieces.end() == expected
        if "\ufffd" not in expected:
            assert "\ufffd" not in "".join(found)


@pytest.mark.parametrize(
    "sampling",
    [Sampling(temperature=0), Sampling(top_k=1), Sampling(top_p=0), Sampling(min_p=1)],
)
def test_each_setting_can_leave_only_the_likeliest(sampling: Sampling) -> None:
    logits = torch.tensor([0.0, 1.0, 1.5, -1.0])
    chooser = Chooser(sampling)
    assert {chooser.draw(torch.tensor([3]), logits.clone()) for _ in range(50)} == {2}


def test_tokens_are_drawn_as_often_as_they_should_be() -> None:
    logits = torch.tensor([2.0, 1.0, 0.0, -9.0])
    chooser = Chooser(Sampling(temperature=0.5, top_k=3, top_p=1, repeat_penalty=1, seed=3))
    drawn = Counter(chooser.draw(torch.tensor([0]), logits.clone()) for _ in range(4000))
    expected = (logits[:3] / 0.5).softmax(-1)
    assert set(drawn) == {0, 1, 2}
    for token, share in enumerate(expected.tolist()):
        assert drawn[token] / 4000 == pytest.approx(share, abs=0.03)


def test_what_was_said_lately_becomes_less_likely() -> None:
    logits = torch.tensor([2.0, 1.9, -1.0])

    def draw(ids: list[int], last_n: int) -> int:
        chooser = Chooser(Sampling(temperature=0, repeat_last_n=last_n))
        return chooser.draw(torch.tensor(ids), logits.clone())

    assert draw([0, 2, 2], 3) == 1
    assert draw([0, 2, 2], -1) == 1
    assert draw([0, 2, 2], 2) == 0
    assert draw([0, 0, 0], 0) == 0

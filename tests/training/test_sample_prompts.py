"""What a model goes on from in its samples: records ask it, unless the user does."""

from dataclasses import replace
from typing import Any

import pytest

from pipeline.corpus.examples import Shape
from pipeline.training.data import Sample
from pipeline.training.sample_prompts import (
    HELD_OUT_RECORDS,
    Asked,
    choose_prompts,
    recorded_prompts,
    told_prompts,
)
from pipeline.training.settings import DEFAULT_PROMPTS, TrainSettings
from tests.tiny_models import tiny_tokenizer

SETTINGS = TrainSettings(sequence_length=256, sample_tokens=5)
SYSTEM = {"role": "system", "content": "Be brief."}


def pair(number: int, prompt: str) -> Sample:
    return Sample(f"pair-{number}", {"prompt": prompt, "completion": " The sea."})


def chat(number: int, *before: dict[str, str], asks: str = "Who is there?") -> Sample:
    said = [*before, {"role": "user", "content": asks}, {"role": "assistant", "content": "Me."}]
    more = [{"role": "user", "content": "Still?"}, {"role": "assistant", "content": "Still."}]
    return Sample(f"chat-{number}", {"messages": said + more})


def chosen(held_out: list[Sample], kind: Shape = "completion", **settings: Any) -> list[Asked]:
    return choose_prompts(replace(SETTINGS, **settings), kind, held_out, tiny_tokenizer())


def test_a_model_of_texts_goes_on_from_the_beginnings_of_novels() -> None:
    found = chosen([Sample("tale", {"text": "It was late."})], "text")
    assert [one.text for one in found] == list(DEFAULT_PROMPTS)
    assert not any(one.turns or one.is_held_out for one in found)


def test_a_model_of_records_is_asked_what_held_out_records_ask() -> None:
    records = [pair(n, f"Question: who, {n}?\nAnswer:") for n in range(9)]
    found = chosen(records)
    assert len(found) == len({one.text for one in found}) == 3
    assert all(one.is_held_out for one in found)
    assert {one.text for one in found} <= {record.content["prompt"] for record in records}
    assert chosen(records[::-1]) == found, "drawn by their ids, in whatever order they come"


def test_a_model_of_chats_is_asked_the_first_turns_up_to_an_answer() -> None:
    (found,) = chosen([chat(1, SYSTEM)], "chat")
    assert found.text == "Who is there?"
    assert found.turns == (SYSTEM, {"role": "user", "content": "Who is there?"})
    tokenizer = tiny_tokenizer()
    ids = found.given(tokenizer, None)
    told = told_prompts([found], tokenizer, None)
    assert told == {
        "prompt": "Who is there?", "prompts": ["Who is there?"], "prompts_from": HELD_OUT_RECORDS,
        "prompt_in_template": "<s>System:\nBe brief.</s>User:\nWho is there?</s>Assistant:\n",
        "turns": [[SYSTEM, {"role": "user", "content": "Who is there?"}]],
    }  # fmt: skip
    assert isinstance(ids, list)
    assert tokenizer.decode(ids) == told["prompt_in_template"]


@pytest.mark.parametrize("kind", ["completion", "chat"])
def test_what_the_user_gives_wins(kind: Shape) -> None:
    found = chosen([pair(1, "Who?")], kind, sample_prompts=("Mine.",))
    assert [one.text for one in found] == ["Mine."]
    assert bool(found[0].turns) == (kind == "chat")
    assert "prompts_from" not in told_prompts(found, tiny_tokenizer(), None)


def test_the_same_question_is_asked_once_and_long_ones_only_where_there_are_no_others() -> None:
    long = "Say it once more. " * 40
    found = chosen([pair(1, "Who?"), pair(2, "Who?"), pair(3, long)], sequence_length=2000)
    assert [one.text for one in found] == ["Who?", long]


def test_what_leaves_no_room_for_an_answer_is_not_asked() -> None:
    found = chosen([pair(1, "Who?"), pair(2, "Say it once more. " * 40)], sequence_length=64)
    assert [one.text for one in found] == ["Who?"]
    found = chosen([pair(1, "Say it once more. " * 40)], sequence_length=64)
    assert [one.text for one in found] == list(DEFAULT_PROMPTS), "none is left"


def test_a_checkpoint_remembers_what_was_asked() -> None:
    asked = [*chosen([chat(1, SYSTEM)], "chat"), *chosen([chat(2, asks="Why?")], "chat")]
    rows = [{"what": "base", "prompts": [one.as_value() for one in asked]}]
    assert recorded_prompts(rows, SETTINGS, "chat") == asked
    given = replace(SETTINGS, sample_prompts=("Mine.",))
    own = choose_prompts(given, "chat", [], tiny_tokenizer())
    rows = [{"what": "base", "prompts": [one.as_value() for one in own]}]
    assert recorded_prompts(rows, given, "chat") == own
    old = recorded_prompts([{"what": "base"}], SETTINGS, "completion")
    assert [one.text for one in old] == list(DEFAULT_PROMPTS), "an earlier version wrote no prompts"

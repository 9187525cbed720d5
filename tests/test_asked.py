"""What a model was asked, out of a file that a stranger may have written."""

from typing import Any

import pytest

from pipeline.asked import read_as_asked, recorded_prompts

SYSTEM = {"role": "system", "content": "Be brief."}
USER = {"role": "user", "content": "Who?"}


def test_prompts_are_read_as_they_are() -> None:
    told = {"prompt": "Who?", "prompts": ["Who?", "Q:\n\nA:"]}
    assert recorded_prompts(told) == read_as_asked(told) == ["Who?", "Q:\n\nA:"]
    assert recorded_prompts({"prompt": "Who?"}) == ["Who?"], "of an earlier version"


def test_a_chat_with_a_system_prompt_is_shown_with_it() -> None:
    told = {"prompts": ["Who?", "Why?"], "turns": [[SYSTEM, USER], [USER | {"content": "Why?"}]]}
    assert read_as_asked(told) == ["system: Be brief.\nuser: Who?", "Why?"]
    assert recorded_prompts(told) == ["Who?", "Why?"]


@pytest.mark.parametrize(
    "told",
    [{}, {"prompt": None}, {"prompt": 7, "turns": 3}, {"prompts": [None, " "]},
     {"prompts": {"a": 1}}],
)  # fmt: skip
def test_what_is_no_prompt_is_none(told: dict[str, Any]) -> None:
    assert read_as_asked(told) == []


def test_turns_that_are_none_are_not_shown() -> None:
    for turns in ([], [3], [[SYSTEM]], [["a", "b"]], "x"):
        assert read_as_asked({"prompts": ["Who?"], "turns": turns}) == ["Who?"]

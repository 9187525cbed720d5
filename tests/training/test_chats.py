"""What is recorded of a chat template puts turns together as the template itself does."""

from collections.abc import Callable
from typing import Any

import pytest

from pipeline.corpus.turns import ChatTemplate, choose_template
from pipeline.training.chats import describe_chat, joins_of, prompt_ids
from tests.tiny_models import tiny_tokenizer
from tests.tokenizer_families import FAMILIES

SAID = ["Who is there?", "The sea.", "Still?", "Still."]


def turns(*said: str) -> list[dict[str, str]]:
    return [{"role": ("user", "assistant")[i % 2], "content": text} for i, text in enumerate(said)]


def joined(joins: dict[str, str], said: list[str], system: str | None = None) -> str:
    """Turns up to a user's, with what stands around them; then the assistant speaks."""
    text = ""
    if system is not None:
        text = joins["before_system"] + system + joins["system_to_user"]
    for i, content in enumerate(said):
        if i % 2 == 0:
            begins = "" if system is not None else joins["before_user"]
            text += (begins if i == 0 else joins["assistant_to_user"]) + content
            text += joins["user_to_assistant"]
        else:
            text += joins["before_answer"] + content
    return text


def rendered(template: ChatTemplate, messages: list[dict[str, str]]) -> str:
    return "".join(segment.text for segment in template.segments(messages))


@pytest.mark.parametrize("name", FAMILIES)
@pytest.mark.parametrize("plain", [True, False])
def test_joined_turns_are_the_beginning_of_what_the_template_writes(name: str, plain: bool) -> None:
    template = choose_template(FAMILIES[name](), "plain" if plain else None)
    joins = joins_of(template)
    assert joins is not None
    for n in (1, 3):
        whole = rendered(template, turns(*SAID[: n + 1]))
        assert whole.startswith(joined(joins, SAID[:n]) + joins["before_answer"] + SAID[n])
    if joins["before_system"]:
        messages = [{"role": "system", "content": "Be brief."}, *turns(*SAID)]
        begin = joined(joins, SAID[:3], "Be brief.")
        assert rendered(template, messages).startswith(begin + joins["before_answer"] + SAID[3])


@pytest.mark.parametrize("name", FAMILIES)
def test_a_prompt_is_what_stands_before_the_answer_in_training(name: str) -> None:
    tokenizer = FAMILIES[name]()
    told = describe_chat(tokenizer, None, "Who is there?")
    assert told["prompt_ids"] == prompt_ids(tokenizer, None, "Who is there?")
    spelled = "".join(str(tokenizer.decode(told["prompt_ids"])).split())
    template = choose_template(tokenizer)
    assert "".join(rendered(template, turns("Who is there?", "!")).split()).startswith(spelled)
    assert told["ends"], "an answer has an end"
    bos = tokenizer.bos_token if tokenizer("a")["input_ids"][0] == tokenizer.bos_token_id else None
    if bos:
        assert not told["joins"]["before_user"].startswith(bos), "llama.cpp adds it"


def test_the_plain_template_is_recorded_without_a_bos_that_is_never_written() -> None:
    told: Callable[[bool], str] = lambda bos: describe_chat(  # noqa: E731
        tiny_tokenizer(adds_bos=bos), None, "Who?"
    )["template"]
    assert "bos_token" in told(True)
    assert "bos_token" not in told(False)


@pytest.mark.parametrize(
    "source",
    [
        # The last answer begins otherwise.
        "{% for m in messages %}{% if m.role == 'assistant' and loop.last %}{{ '!' }}{% endif %}"
        "{{ m.role + ': ' + m.content + eos_token }}{% endfor %}",
        # The assistant writes a mark of its own before its words.
        "{% for m in messages %}{{ m.role + ': ' }}{% if m.role == 'assistant' %}{{ '<a>' }}"
        "{% endif %}{{ m.content + eos_token }}{% endfor %}"
        "{% if add_generation_prompt %}{{ 'assistant: ' }}{% endif %}",
    ],
)
def test_a_template_that_does_more_than_join_turns_has_no_joins(source: str) -> None:
    assert joins_of(choose_template(tiny_tokenizer(), source)) is None


def test_a_template_that_takes_no_system_prompt_has_joins_without_it() -> None:
    joins: Any = joins_of(choose_template(FAMILIES["gemma"]()))
    assert joins["before_system"] == joins["system_to_user"] == ""
    assert joins["before_user"].endswith("user\n")

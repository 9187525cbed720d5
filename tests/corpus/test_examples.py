"""Training examples out of rows: what a table holds, and which of its rows can be learnt from."""

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pipeline.corpus.examples import (
    BadExample,
    ColumnNames,
    Joins,
    Shape,
    as_example,
    shape_of,
    wanted_columns,
)
from pipeline.errors import PipelineError, UsageError

COMMON = ColumnNames()
texts = st.text(min_size=1).filter(str.strip)


def chat(*turns: str | tuple[str, Any]) -> dict[str, Any]:
    """A row with a chat: "user", or ("user", content)."""
    pairs = [turn if isinstance(turn, tuple) else (turn, f"{turn} speaks") for turn in turns]
    return {"messages": [{"role": role, "content": content} for role, content in pairs]}


def refused(row: dict[str, Any], shape: Shape, names: ColumnNames = COMMON) -> str:
    """Why a row is refused."""
    with pytest.raises(BadExample) as caught:
        as_example(row, shape, names)
    return caught.value.reason


# --- what a table holds -----------------------------------------------------------------------


@pytest.mark.parametrize(
    ("columns", "shape"),
    [
        (["id", "text"], "text"),
        (["content"], "text"),
        (["body", "title"], "text"),
        (["prompt", "completion"], "completion"),
        (["prompt", "generation"], "completion"),
        (["instruction", "input", "output", "text"], "completion"),
        (["question", "answer"], "completion"),
        (["input", "response"], "completion"),
        (["prompt", "prompt_id", "messages"], "chat"),
        (["conversations"], "chat"),
        (["conversation", "completion", "prompt", "text"], "chat"),
        (["prompt"], None),
        (["completion", "url"], None),
        (["Text"], None),
        ([], None),
    ],
)
def test_common_names_tell_what_a_table_holds(columns: list[str], shape: Shape | None) -> None:
    assert shape_of(columns, COMMON) == shape


def test_a_named_column_wins_over_common_names() -> None:
    columns = ["text", "prompt", "completion", "messages", "letter"]
    assert shape_of(columns, ColumnNames(text="letter")) == "text"
    assert shape_of(columns, ColumnNames(completion="letter")) == "completion"
    assert shape_of(columns, ColumnNames(messages="letter")) == "chat"


@pytest.mark.parametrize(
    "names",
    [
        ColumnNames(text="body"),
        ColumnNames(prompt="body"),
        ColumnNames(completion="body"),
        ColumnNames(messages="body"),
    ],
)
def test_a_named_column_that_is_not_there_is_an_error_that_lists_the_others(
    names: ColumnNames,
) -> None:
    message = r"x\.csv has no column 'body'; its columns are: id, 'a b'\."
    with pytest.raises(PipelineError, match=message):
        shape_of(["id", "a b"], names, "x.csv")


def test_a_list_of_a_thousand_columns_is_cut_short() -> None:
    with pytest.raises(PipelineError, match=r"c19 and 980 more\.") as caught:
        shape_of([f"c{number}" for number in range(1000)], ColumnNames(text="body"), "x.csv")
    assert "c20" not in caught.value.message


def test_half_a_pair_of_columns_is_an_error() -> None:
    with pytest.raises(PipelineError, match=r"no column for the completion.*--completion-column"):
        shape_of(["q", "text"], ColumnNames(prompt="q"))
    with pytest.raises(PipelineError, match=r"no column for the prompt.*--prompt-column"):
        shape_of(["a", "text"], ColumnNames(completion="a"))


def test_columns_for_two_kinds_of_example_make_no_sense() -> None:
    with pytest.raises(UsageError, match="more than one kind"):
        shape_of(["a", "b"], ColumnNames(text="a", prompt="b"))


def test_the_columns_to_read_are_the_named_and_the_common_ones() -> None:
    wanted = wanted_columns(ColumnNames(text="letter"))
    assert {"letter", "text", "completion", "messages", "authors"} <= wanted
    assert "embedding" not in wanted


# --- text -------------------------------------------------------------------------------------


@given(texts)
def test_text_is_kept_but_for_line_ends(text: str) -> None:
    assert as_example({"text": text}, "text", COMMON) == {"text": text.replace("\r\n", "\n")}


def test_what_a_row_says_of_its_text_is_kept_if_it_is_words() -> None:
    row = {
        "text": "Once.", "id": 7, "title": "A Tale", "authors": ["A", "B"], "language": None,
        "source": 3.5, "rights": "half \ud83d", "url": "x",
    }  # fmt: skip
    about = {"id": "7", "title": "A Tale", "authors": ["A", "B"]}
    assert as_example(row, "text", COMMON) == {"text": "Once.", "about": about}


def test_the_text_is_not_also_told_of_itself() -> None:
    names = ColumnNames(text="title")
    assert as_example({"title": "Once."}, "text", names) == {"text": "Once."}


@pytest.mark.parametrize(
    ("row", "reason"),
    [
        ({}, "it has no 'text'"),
        ({"text": None}, "it has nothing in 'text'"),
        ({"text": float("nan")}, "it has no text but NaN in 'text'"),
        ({"text": 7}, "it has no text but a value of type int in 'text'"),
        ({"text": b"x"}, "it has no text but a value of type bytes in 'text'"),
        ({"text": ""}, "it has an empty 'text'"),
        ({"text": " \n"}, "it has only white space in 'text'"),
        ({"text": "a\ud83db"}, "it has half a character in 'text'"),
        ({"text": None, "content": "there"}, "it has nothing in 'text'"),
    ],
)
def test_a_row_without_text_is_refused(row: dict[str, Any], reason: str) -> None:
    assert refused(row, "text") == reason


def test_a_refused_row_names_the_column_that_was_asked_for() -> None:
    assert refused({"text": "there"}, "text", ColumnNames(text="letter")) == "it has no 'letter'"


# --- prompt and completion --------------------------------------------------------------------


NAMED = ColumnNames(prompt="question", completion="answer")


def joined(columns: str, prompt: str, completion: str, names: ColumnNames = COMMON) -> str:
    """What a model reads of a prompt and a completion in "one" and "other" column."""
    row = dict(zip(columns.split(), (prompt, completion), strict=True))
    example = as_example(row, "completion", names)
    return str(example["prompt"] + example["completion"])


@given(texts, texts)
@pytest.mark.parametrize(
    ("asked", "answered", "names"),
    [("prompt", "completion", COMMON), ("question", "answer", NAMED)],
)
def test_prompts_with_completions_and_named_columns_are_kept_to_the_character(
    asked: str, answered: str, names: ColumnNames, prompt: str, completion: str
) -> None:
    row = {asked: prompt, answered: completion, "id": 1}
    assert as_example(row, "completion", names) == {
        "prompt": prompt.replace("\r\n", "\n"),
        "completion": completion.replace("\r\n", "\n"),
    }


@pytest.mark.parametrize(
    "columns", ["question answer", "instruction output", "input response", "prompt response"]
)
def test_an_empty_line_parts_what_was_guessed_to_be_question_and_answer(columns: str) -> None:
    asked, answered = columns.split()
    row = {asked: "What is the capital of France?", answered: "Paris"}
    assert as_example(row, "completion", COMMON) == {
        "prompt": "What is the capital of France?", "completion": "\n\nParis",
    }  # fmt: skip


def test_an_empty_line_stands_behind_the_input_of_an_instruction_too() -> None:
    row = {"instruction": "Translate.", "input": "chat", "output": "cat"}
    example = as_example(row, "completion", COMMON)
    assert example["prompt"] + example["completion"] == "Translate.\n\nchat\n\ncat"


@pytest.mark.parametrize(
    ("columns", "prompt", "completion", "read"),
    [
        ("question answer", "What?\n\n", "This.", "What?\n\nThis."),
        ("question answer", "What?\n", "This.", "What?\n\nThis."),
        ("question answer", "What? ", "This.", "What? \n\nThis."),  # nobody meant that space
        ("question answer", "What?", " This.", "What? This."),
        ("question answer", "What?", "\nThis.", "What?\nThis."),
        ("prompt response", "### Response:\n", "This.", "### Response:\nThis."),
        ("prompt response", "Answer: ", "This.", "Answer: This."),
    ],
)
def test_what_was_written_to_join_stays(
    columns: str, prompt: str, completion: str, read: str
) -> None:
    assert joined(columns, prompt, completion) == read


def test_prompts_that_meet_their_completions_are_counted_with_a_sample() -> None:
    joins = Joins()
    for completion in ("Paris", " Paris", "\n\nParis", "Rome"):
        joins.see({"prompt": "What is the capital of France?", "completion": completion})
    warning = joins.warning("x.jsonl")
    assert warning is not None
    assert "x.jsonl: between prompt and completion of 2 of 4 records" in warning
    assert "'France?Paris'" in warning
    assert joins.parted == 1


def test_of_prompts_that_are_parted_there_is_nothing_to_say() -> None:
    joins = Joins()
    joins.see({"prompt": "Who?", "completion": " You."})
    joins.see({"prompt": "Who? ", "completion": "You."})
    assert joins.warning("x.jsonl") is None


@pytest.mark.parametrize(("given", "answer"), [("input", "output"), ("context", "response")])
def test_an_instruction_takes_its_input_with_it(given: str, answer: str) -> None:
    row: dict[str, Any] = {"instruction": "Translate.", given: "chat", answer: "cat"}
    assert as_example(row, "completion", COMMON)["prompt"] == "Translate.\n\nchat"
    for nothing in ("", None):
        row = row | {given: nothing}
        assert as_example(row, "completion", COMMON)["prompt"] == "Translate."
    named = ColumnNames(prompt="instruction")
    assert as_example(row | {given: "x"}, "completion", named)["prompt"] == "Translate."


@pytest.mark.parametrize(
    ("row", "reason"),
    [
        ({"prompt": "a"}, "it has no 'completion'"),
        ({"completion": "a"}, "it has no 'prompt'"),
        ({"prompt": "", "completion": "a"}, "it has an empty 'prompt'"),
        ({"prompt": "a", "completion": "  "}, "it has only white space in 'completion'"),
        ({"prompt": "a", "answer": None}, "it has nothing in 'answer'"),
        (
            {"prompt": ["a"], "completion": "b"},
            "it has no text but a value of type list in 'prompt'",
        ),
    ],
)
def test_half_a_pair_is_refused(row: dict[str, Any], reason: str) -> None:
    assert refused(row, "completion") == reason


# --- chats ------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "turns",
    [
        ["user", "assistant"],
        ["system", "user", "assistant", "user", "assistant"],
        ["user", "assistant", "tool", "tool", "assistant"],
        ["user", "assistant", "tool", "user", "assistant"],
    ],
)
def test_a_chat_in_order_is_kept_turn_by_turn(turns: list[str]) -> None:
    row = chat(*turns)
    assert as_example(row, "chat", COMMON) == row


def test_a_chat_as_json_in_a_cell_is_read() -> None:
    row = chat("user", "assistant")
    packed = {"conversation": json.dumps(row["messages"])}
    assert as_example(packed, "chat", COMMON) == row


def test_chats_in_the_words_of_sharegpt_are_understood() -> None:
    turns = [("system", ""), ("human", "Hi\r\nyou"), ("gpt", "Yes?")]
    row = {"conversations": [{"from": who, "value": what, "weight": 1} for who, what in turns]}
    assert as_example(row, "chat", COMMON) == chat(("user", "Hi\nyou"), ("assistant", "Yes?"))


def test_nulls_that_a_table_put_between_the_fields_of_a_turn_do_no_harm() -> None:
    turns = [
        {"role": None, "content": None, "from": "human", "value": "Hi"},
        {"role": "assistant", "content": "Yes?", "from": None, "value": None},
    ]
    assert as_example({"messages": turns}, "chat", COMMON) == chat(
        ("user", "Hi"), ("assistant", "Yes?")
    )


def test_parts_of_text_are_joined() -> None:
    parts = [{"type": "text", "text": "Hi "}, {"type": "text", "text": "you", "image": None}]
    example = as_example(chat(("user", parts), "assistant"), "chat", COMMON)
    assert example["messages"][0]["content"] == "Hi you"


@pytest.mark.parametrize(
    ("row", "reason"),
    [
        ({}, "it has no 'messages'"),
        ({"messages": None}, "it has no list of turns in 'messages'"),
        ({"messages": "Hello"}, "it has no list of turns in 'messages'"),
        ({"messages": "[" * 100_000}, "it has no list of turns in 'messages'"),
        ({"messages": []}, "it does not end with a turn of the assistant in 'messages'"),
        ({"messages": ["Hello"]}, "it has a turn 1 without role and content"),
        ({"messages": [{"content": "x"}]}, "it has a turn 1 without a role"),
        ({"messages": [{"role": ["user"]}]}, "it has a turn 1 without a role"),
        (chat("narrator"), "it has a turn 1 of the role 'narrator'"),
        (chat("user"), "it does not end with a turn of the assistant in 'messages'"),
        (
            chat("user", "assistant", "user"),
            "it does not end with a turn of the assistant in 'messages'",
        ),
        (chat("assistant"), "it begins with a turn of the assistant and not of the user"),
        (chat("system", "assistant"), "it begins with a turn of the assistant and not of the user"),
        (chat("user", "user", "assistant"), "it has two turns of the user in a row (turn 2)"),
        (
            chat("user", "assistant", "assistant"),
            "it has two turns of the assistant in a row (turn 3)",
        ),
        (
            chat("user", "system", "assistant"),
            "it has a system turn that is not the first (turn 2)",
        ),
        (chat("user", "tool"), "it has a tool's answer that follows no call (turn 2)"),
        (chat("user", ("assistant", "")), "it has an empty turn 2 (assistant)"),
        (chat("user", ("assistant", None)), "it has nothing in turn 2 (assistant)"),
        (chat(("user", "\udc00"), "assistant"), "it has half a character in turn 1 (user)"),
        (
            chat(("user", [{"type": "image_url", "image_url": "x"}]), "assistant"),
            "it has a part of type 'image_url' that is no text in turn 1",
        ),
        (chat(("user", ["x"]), "assistant"), "it has a part that is no text in turn 1"),
    ],
)
def test_a_chat_that_cannot_be_learnt_from_is_refused(row: dict[str, Any], reason: str) -> None:
    assert refused(row, "chat") == reason


# --- laws -------------------------------------------------------------------------------------

anything = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(st.characters()),
    lambda inner: (
        st.lists(inner, max_size=4)
        | st.dictionaries(
            st.sampled_from(["role", "content", "from", "value", "type", "text"]), inner
        )
    ),
    max_leaves=12,
)
columns = st.sampled_from(
    ["text", "prompt", "instruction", "input", "completion", "messages", "id", "authors", "title"]
)
shapes: st.SearchStrategy[Shape] = st.sampled_from(["text", "completion", "chat"])


@given(st.dictionaries(columns, anything), shapes)
def test_any_row_becomes_an_example_of_text_or_is_refused(
    row: dict[str, Any], shape: Shape
) -> None:
    try:
        example = as_example(row, shape, COMMON)
    except BadExample as refusal:
        assert refusal.reason.startswith("it ")
    else:
        json.dumps(example, ensure_ascii=False).encode()
        again = as_example({**example, **example.get("about", {})}, shape, COMMON)
        assert again == example

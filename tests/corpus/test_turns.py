"""Chat templates taken apart: what they write, what was said, and what the assistant has to write.

Templates that cannot be taken apart are refused with a sentence that says what they do.
"""

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pipeline.corpus.turns import PLAIN, ChatTemplate, choose_template
from pipeline.errors import PipelineError
from tests.tokenizer_families import FAMILIES, LLAMA_3_TEMPLATE, gpt2, llama3, qwen

CHAT = [
    {"role": "user", "content": "Who is there?"},
    {"role": "assistant", "content": "Nobody answered."},
    {"role": "user", "content": "And the door?"},
    {"role": "assistant", "content": "It stood open."},
]

QWEN_3_THINKING = """\
{%- set ns = namespace(found=false, last_query_index=0) %}
{%- for message in messages[::-1] %}
    {%- if message.role == "user" and not ns.found %}
        {%- set ns.found = true %}
        {%- set ns.last_query_index = (messages|length - 1) - loop.index0 %}
    {%- endif %}
{%- endfor %}
{%- for message in messages %}
    {%- set content = message.content %}
    {%- if message.role == "user" %}
        {{- '<|im_start|>user\\n' + content + '<|im_end|>\\n' }}
    {%- else %}
        {%- if '</think>' in content %}
            {%- set content = content.split('</think>')[-1].lstrip('\\n') %}
        {%- endif %}
        {%- if loop.index0 > ns.last_query_index %}
            {{- '<|im_start|>assistant\\n<think>\\n\\n</think>\\n\\n' + content.lstrip('\\n') }}
        {%- else %}
            {{- '<|im_start|>assistant\\n' + content }}
        {%- endif %}
        {{- '<|im_end|>\\n' }}
    {%- endif %}
{%- endfor %}
{%- if add_generation_prompt %}{{- '<|im_start|>assistant\\n' }}{%- endif %}
"""
"""In the shape of Qwen 3's: only the last turn is written with its (empty) thoughts."""


def template(source: str) -> ChatTemplate:
    return choose_template(qwen(), source)


def trained(chat_template: ChatTemplate, messages: list[dict[str, str]] = CHAT) -> list[str]:
    """The stretches that are trained on, each joined."""
    stretches: list[str] = []
    before = False
    for segment in chat_template.segments(messages):
        if segment.trained:
            if not before:
                stretches.append("")
            stretches[-1] += segment.text
        before = segment.trained
    return stretches


@pytest.mark.parametrize("family", FAMILIES)
def test_the_segments_joined_are_what_the_tokenizers_own_template_makes(family: str) -> None:
    tokenizer = FAMILIES[family]()
    chosen = choose_template(tokenizer)
    text = "".join(segment.text for segment in chosen.segments(CHAT))
    if tokenizer.chat_template:
        assert text == tokenizer.apply_chat_template(CHAT, tokenize=False)
    said = [segment.text for segment in chosen.segments(CHAT) if not segment.from_template]
    assert said == [message["content"] for message in CHAT]


@pytest.mark.parametrize(
    ("family", "first", "second"),
    [
        ("gpt2", "Nobody answered.<|endoftext|>", "It stood open.<|endoftext|>"),
        ("llama-2", " Nobody answered. </s>", " It stood open. </s>"),
        ("llama-3", "Nobody answered.<|eot_id|>", "It stood open.<|eot_id|>"),
        ("qwen", "Nobody answered.<|im_end|>", "It stood open.<|im_end|>"),
        ("gemma", "Nobody answered.<end_of_turn>", "It stood open.<end_of_turn>"),
    ],
)
def test_trained_on_is_what_the_assistant_writes_up_to_the_end_of_each_turn(
    family: str, first: str, second: str
) -> None:
    assert trained(choose_template(FAMILIES[family]())) == [first, second]


def test_system_and_tool_turns_are_context() -> None:
    tools = [
        {"role": "system", "content": "Be brief."},
        {"role": "user", "content": "What is the tide?"},
        {"role": "assistant", "content": "tide()"},
        {"role": "tool", "content": '{"height": 3}'},
        {"role": "assistant", "content": "Three."},
    ]
    assert trained(choose_template(qwen()), tools) == ["tide()<|im_end|>", "Three.<|im_end|>"]


def test_a_system_prompt_that_the_template_brings_along_is_context() -> None:
    segments = choose_template(qwen()).segments(CHAT)
    (brought,) = [s for s in segments if "You are Qwen" in s.text]
    assert brought.from_template
    assert not brought.trained


@settings(max_examples=40, deadline=None)
@given(
    said=st.lists(
        st.text(alphabet=" \n\tab<|>/s{}%\"\\é", min_size=1, max_size=8).filter(str.strip),
        min_size=4, max_size=4,
    )
)  # fmt: skip
@pytest.mark.parametrize("family", ["gpt2", "llama-2", "llama-3", "qwen", "gemma"])
def test_whatever_is_said_stands_in_the_text_as_the_template_writes_it(
    family: str, said: list[str]
) -> None:
    messages = [{**turn, "content": text} for turn, text in zip(CHAT, said, strict=True)]
    tokenizer = FAMILIES[family]()
    segments = choose_template(tokenizer).segments(messages)
    if tokenizer.chat_template:
        text = tokenizer.apply_chat_template(messages, tokenize=False)
        assert "".join(segment.text for segment in segments) == text
    contents = [segment.text for segment in segments if not segment.from_template]
    strips = family in ("llama-2", "llama-3", "gemma")
    assert contents == [text.strip() if strips else text for text in said]


def test_the_plain_template_keeps_every_character() -> None:
    messages = [{**turn, "content": f"  {turn['content']}\n\n"} for turn in CHAT]
    text = "".join(s.text for s in choose_template(gpt2(), PLAIN).segments(messages))
    assert text == "".join(
        f"{m['role'].capitalize()}:\n{m['content']}<|endoftext|>" for m in messages
    )


def test_the_plain_template_begins_as_the_tokenizer_begins_a_text() -> None:
    assert choose_template(llama3(), PLAIN).segments(CHAT)[0].text.startswith("<|begin_of_text|>")
    assert choose_template(gpt2(), PLAIN).segments(CHAT)[0].text == "User:\n"


def test_a_template_is_rendered_on_the_same_day_for_ever() -> None:
    dated = "{{ strftime_now('%d %b %Y') }}" + LLAMA_3_TEMPLATE
    assert choose_template(llama3(), dated).segments(CHAT)[0].text.startswith("26 Jul 2024")


def test_content_that_a_template_writes_as_json_is_recognised() -> None:
    quoted = (
        "{% for m in messages %}<|im_start|>{{ m.role }}\n{{ m.content | tojson if m.role == "
        "'user' else m.content }}<|im_end|>{% endfor %}"
        "{% if add_generation_prompt %}<|im_start|>assistant\n{% endif %}"
    )
    messages = [{"role": "user", "content": 'the "door"\n'}, CHAT[1]]
    said = [s.text for s in template(quoted).segments(messages) if not s.from_template]
    assert said == ['the \\"door\\"\\n', "Nobody answered."]


def test_only_what_the_prompt_leaves_to_the_model_is_trained_on() -> None:
    assert trained(template(QWEN_3_THINKING)) == [
        "Nobody answered.<|im_end|>",
        "<think>\n\n</think>\n\nIt stood open.<|im_end|>",
    ]


def test_a_template_may_close_the_whole_chat_with_something_else() -> None:
    phi = (
        "{% for m in messages %}<|im_start|>{{ m.role }}\n{{ m.content }}<|im_end|>\n{% endfor %}"
        "{% if add_generation_prompt %}<|im_start|>assistant\n{% else %}<|endoftext|>{% endif %}"
    )
    assert trained(template(phi)) == ["Nobody answered.<|im_end|>", "It stood open.<|im_end|>"]


def test_a_template_that_says_what_is_trained_on_is_believed() -> None:
    marked = (
        "{% for m in messages %}<|im_start|>{{ m.role }}\n{% if m.role == 'assistant' %}"
        "{% generation %}{{ 'Well. ' + m.content + '<|im_end|>' }}{% endgeneration %}\n"
        "{% else %}{{ m.content + '<|im_end|>\n' }}{% endif %}{% endfor %}"
    )
    assert trained(template(marked)) == [
        "Well. Nobody answered.<|im_end|>",
        "Well. It stood open.<|im_end|>",
    ]


LOOP = "{% for m in messages %}<|im_start|>{{ m.role }}\n"
PROMPT = "{% if add_generation_prompt %}<|im_start|>assistant\n{% endif %}"


@pytest.mark.parametrize(
    ("source", "complaint"),
    [
        ("{% for m in messages %}", r"does not take these turns \(user, assistant.*endfor"),
        ("{{ raise_exception('Only one turn, please') }}", "turns .*Only one turn, please"),
        ("{{ messages[0].content.text + 'a' }}", "does not take these turns"),
        ("{{ ''.__class__.__mro__ }}", "unsafe"),
        ("{{ messages[-1].content }}<|im_end|>", r"leaves out what is said in turn 1 \(user\)"),
        (LOOP + "{{ m.content + m.content }}<|im_end|>{% endfor %}" + PROMPT, "repeats what"),
        (LOOP + "{{ m.content | upper }}<|im_end|>{% endfor %}" + PROMPT, "by what it says"),
        (
            LOOP + "{{ m.content | replace('open', 'shut') }}<|im_end|>{% endfor %}" + PROMPT,
            r"changes the text around or in turn 4 \(assistant\)",
        ),
        (
            LOOP + "{{ m.content }}<|im_end|>\n{% endfor %}"
            "{% if add_generation_prompt %}<|im_start|>assistant\n<think>{% endif %}",
            r"begins turn 2 \(assistant\) otherwise than the prompt",
        ),
        (
            "{% for m in messages %}<|im_start|>{{ m.content }}{% endfor %}",
            r"puts nothing at the end of turn 2 \(assistant\), so that a model could not learn",
        ),
        (
            LOOP + "{{ m.content }}"
            "{{ '<|endoftext|>' if m.role == 'assistant' and loop.last else '<|im_end|>' }}"
            "{% endfor %}" + PROMPT,
            r"ends turn 2 \(assistant\) otherwise once others follow",
        ),
        (
            LOOP + "{% if m.role == 'user' %}{% generation %}{{ m.content + '<|im_end|>' }}"
            "{% endgeneration %}{% else %}{{ m.content }}{% endif %}{% endfor %}",
            "marks other turns with {% generation %} than those of the assistant",
        ),
        (
            LOOP + "{% if m.role == 'assistant' %}{% generation %}{{ m.content }}"
            "{% endgeneration %}{% else %}{{ m.content }}{% endif %}<|im_end|>{% endfor %}",
            "leaves the end of the assistant's turn out",
        ),
    ],
)  # fmt: skip
def test_a_template_that_cannot_be_taken_apart_is_refused_in_a_sentence(
    source: str, complaint: str
) -> None:
    with pytest.raises(PipelineError, match=complaint) as caught:
        template(source).segments(CHAT)
    assert caught.value.message.startswith("The chat template of qwen ")
    assert "\n" not in caught.value.message
    assert caught.value.hint


def test_several_templates_without_a_default_are_refused() -> None:
    tokenizer = gpt2()
    tokenizer.chat_template = {"tools": "{{ messages }}", "rag": "{{ messages }}"}
    with pytest.raises(PipelineError, match="several chat templates"):
        choose_template(tokenizer)

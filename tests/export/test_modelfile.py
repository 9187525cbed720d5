"""What the Modelfile says is what Ollama will read, whatever titles and tokens hold."""

import json
import re
from typing import Any

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from pipeline.corpus.turns import choose_template
from pipeline.errors import PipelineError
from pipeline.export.modelfile import (
    Command,
    chat_template,
    expressible,
    parse_modelfile,
    render_modelfile,
)
from pipeline.training.chats import joins_of
from tests.tokenizer_families import FAMILIES

HOSTILE = st.text(
    st.sampled_from("\"'\n\r\t #{}.$\\aFROM \u2028\u0085\u00a0\u200b\x00é▁😀"), max_size=16
)
ANY_TEXT = HOSTILE | st.text(max_size=30)


def render(
    stops: list[str] | None = None, title: str | None = None, licence: str | None = None
) -> str:
    return render_modelfile("m.gguf", context=1024, stops=stops or [], title=title, licence=licence)


def values(text: str, name: str) -> list[str]:
    return [command.value for command in parse_modelfile(text) if command.name == name]


def test_modelfile_of_a_completion_model() -> None:
    text = render_modelfile(
        "tales-q4_k_m.gguf",
        context=2048,
        stops=["<|im_end|>", "<|endoftext|>", "<|im_end|>"],
        title="Tales of the shore",
        licence="apache-2.0",
    )
    assert text == (
        "# Tales of the shore\n"
        "FROM ./tales-q4_k_m.gguf\n"
        "TEMPLATE {{ .Prompt }}\n"
        "PARAMETER num_ctx 2048\n"
        "PARAMETER temperature 0.6\n"
        "PARAMETER repeat_last_n 256\n"
        "PARAMETER repeat_penalty 1.1\n"
        "PARAMETER num_predict 2048\n"
        'PARAMETER stop "<|im_end|>"\n'
        'PARAMETER stop "<|endoftext|>"\n'
        'LICENSE "apache-2.0"\n'
    )


@given(st.lists(ANY_TEXT.filter(bool), max_size=4))
@settings(deadline=None, max_examples=300)
@example(['"'])
@example(['""'])
@example(['"""'])
@example(['a"b', '"x"', '""x', ' "', '" '])
@example(["\n", "\r\n", "a\nFROM evil", "\t"])
@example(["# no comment", "{{ .Prompt }}", "\\n"])
def test_stops_arrive_exactly_or_are_refused(stops: list[str]) -> None:
    cannot = [
        stop
        for stop in stops
        if re.search(r'"""[ \t]*[\r\n]', stop)
        or not all(c.isprintable() or c in " \t\r\n" for c in stop)
    ]
    if cannot:
        with pytest.raises(PipelineError, match="A Modelfile cannot hold"):
            render(stops)
    else:
        assert values(render(stops), "stop") == list(dict.fromkeys(stops))


@given(ANY_TEXT, ANY_TEXT)
@settings(deadline=None, max_examples=300)
@example("x\nFROM evil", "")
@example("x\rFROM evil", "")
@example("# FROM evil", "a\n# not a comment\n\n")
def test_no_title_or_licence_adds_or_changes_a_command(title: str, licence: str) -> None:
    licence = expressible(licence)
    plain = parse_modelfile(render())
    expected = [*plain, Command("license", licence)] if licence else plain
    assert parse_modelfile(render(title=title, licence=licence)) == expected


@given(st.text(st.characters(exclude_characters="/\\"), min_size=1, max_size=20))
@settings(deadline=None, max_examples=200)
@example("my model.gguf")
@example(' "quoted".gguf ')
@example("~.gguf")
def test_file_name_arrives_exactly_or_is_refused(name: str) -> None:
    try:
        text = render_modelfile(name, context=1, stops=[])
    except PipelineError:
        assert not name.isprintable() or not name.strip(". ")
    else:
        assert values(text, "model") == [f"./{name}"]


@given(ANY_TEXT)
@settings(deadline=None, max_examples=200)
def test_expressible_prose_always_fits_and_printable_prose_is_unchanged(text: str) -> None:
    render(licence=expressible(text))
    if text.isprintable():
        assert expressible(text) == text


def test_refusals_name_the_character_or_the_line() -> None:
    with pytest.raises(PipelineError, match=r"cannot hold the character U\+00A0 of 'a\\xa0b'"):
        render(["a\u00a0b"])
    with pytest.raises(PipelineError, match="cannot hold a line that ends with three quotes"):
        render(licence='free"""\nFROM evil')


@pytest.mark.parametrize("name", ["", ".", "..", "a/b.gguf", "/etc/passwd", "a\\b.gguf"])
def test_gguf_must_lie_beside_the_modelfile(name: str) -> None:
    with pytest.raises(PipelineError, match="not the name of a file beside the Modelfile"):
        render_modelfile(name, context=1, stops=[])


@pytest.mark.parametrize(
    "wrong",
    [
        {"context": 0},
        {"temperature": float("nan")},
        {"temperature": -1.0},
        {"repeat_penalty": 0.0},
        {"stops": [""]},
    ],
)
def test_senseless_values_are_refused(wrong: dict[str, object]) -> None:
    arguments: dict[str, object] = {"context": 8, "stops": []}
    with pytest.raises(PipelineError):
        render_modelfile("m.gguf", **(arguments | wrong))  # type: ignore[arg-type]


READ_BY_OLLAMA = [
    ("FROM a b  ", [("model", "a b")]),
    ('from "  a  "', [("model", "  a  ")]),
    ("PARAMETER stop ### User: \nFROM a", [("stop", "### User:"), ("model", "a")]),
    ('FROM a\nPARAMETER stop "### User: "', [("model", "a"), ("stop", "### User: ")]),
    ('FROM a\nPARAMETER stop """x\n"""', [("model", "a"), ("stop", "x\n")]),
    ('FROM a\nSYSTEM """\'\'"\'""\'"""\n', [("model", "a"), ("system", "''\"'\"\"'")]),
    ('FROM a\nSYSTEM ""\n', [("model", "a"), ("system", "")]),
    ("FROM a\nMESSAGE user hi there", [("model", "a"), ("message", "user: hi there")]),
    ("\n  # one\n\t# two\nFROM a # three\r\n", [("model", "a # three")]),
    ('FROM a\nTEMPLATE "x" y\n', None),  # begins quoted and never ends so
    ("FROM a\nPARAMETER num_ctx many\n", None),
    ("FROM a\nPARAMETER colour red\n", None),
    ("FROM a\nPARAMETER stop\n", None),
    ("FROM a\nEXEC rm\n", None),
    ("FROM a\nMESSAGE villain hi\n", None),
    ('FROM a\nSYSTEM """x""\n', None),
    ("PARAMETER top_k 1\n", None),
    ("", None),
]


@pytest.mark.parametrize(("text", "commands"), READ_BY_OLLAMA)
def test_reader_follows_ollamas_grammar(text: str, commands: list[tuple[str, str]] | None) -> None:
    if commands is None:
        with pytest.raises(PipelineError, match=r"Ollama would refuse line|has no FROM line"):
            parse_modelfile(text)
    else:
        assert parse_modelfile(text) == commands


def test_reader_tells_the_line() -> None:
    with pytest.raises(PipelineError, match="line 3 of the Modelfile: there is no command 'exec'"):
        parse_modelfile("FROM a\n\nEXEC x\n")


SAID = ["Who is there?", "The sea.", "Still?", "Still, and nobody.", "Go on."]


def go(template: str, messages: list[dict[str, str]]) -> str:
    """What Go makes of a template of ours: range, if, else if, else, end, strings, .Content."""
    parts = re.split(r'\{\{ ((?:"(?:[^"\\]|\\.)*"|.)*?) \}\}', template, flags=re.DOTALL)
    texts, actions = parts[::2], parts[1::2]
    assert (texts[0], texts[-1], actions[0]) == ("", "", "range $i, $_ := .Messages")
    assert actions[-1] == "end"
    written = ""
    for i, message in enumerate(messages):
        stack: list[tuple[bool, bool]] = []  # written now; a branch was already
        for action, text in zip(actions[1:-1], texts[2:-1], strict=True):
            if action.startswith("if "):
                holds = _holds(action, i, message)
                stack.append((holds, holds))
            elif action.startswith("else"):
                _, done = stack.pop()
                holds = not done and (action == "else" or _holds(action, i, message))
                stack.append((holds, done or holds))
            elif action == "end":
                stack.pop()
            elif all(now for now, _ in stack):
                written += message["content"] if action == ".Content" else json.loads(action)
            if all(now for now, _ in stack):
                written += text
    return written


def _holds(action: str, i: int, message: dict[str, str]) -> bool:
    operator, left, right = action.removeprefix("else ").removeprefix("if ").split(" ")
    value: Any = i if left == "$i" else message["role"]
    other = json.loads(right)
    return bool({"eq": value == other, "le": value == other or str(value) < str(other)}[operator])


def chat(joins: dict[str, str] | None, ends: list[str]) -> str:
    about = {"joins": joins, "ends": ends}
    return render_modelfile("m.gguf", context=64, stops=["</s>"], chat=about)


def turns(n: int) -> list[dict[str, str]]:
    return [{"role": ("user", "assistant")[i % 2], "content": SAID[i]} for i in range(n)]


@pytest.mark.parametrize("family", FAMILIES)
@pytest.mark.parametrize("plain", [True, False])
def test_ollama_puts_turns_together_as_the_model_was_trained_on_them(
    family: str, plain: bool
) -> None:
    tokenizer = FAMILIES[family]()
    template = choose_template(tokenizer, "plain" if plain else None)
    joins = joins_of(template)
    assert joins is not None
    (written,) = values(chat(joins, []), "template")
    assert written == chat_template(joins)
    takes_system = bool(joins["before_system"])
    for system in [[], [{"role": "system", "content": "Be brief."}]]:
        for n in (1, 3):
            known = system if takes_system else []
            answered = template.segments([*known, *turns(n + 1)])
            whole = "".join(segment.text for segment in answered)
            begin = go(written, [*system, *turns(n)])
            assert whole.startswith(begin + joins["before_answer"] + SAID[n])


def test_braces_in_a_template_are_text_to_go() -> None:
    joins = dict.fromkeys(
        ["before_system", "before_user", "system_to_user", "before_answer", "assistant_to_user"],
        '{{ .System }}\n"{',
    )
    written = chat_template(joins | {"user_to_assistant": "}} {"})
    assert go(written, turns(1)) == joins["before_user"] + SAID[0] + "}} {"


def test_a_chat_without_joins_is_left_to_the_template_in_the_gguf() -> None:
    text = chat(None, ["<|end|>"])
    assert values(text, "template") == []
    assert values(text, "stop") == ["</s>", "<|end|>"]

"""What the Modelfile says is what Ollama will read, whatever titles and tokens hold."""

import re

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from pipeline.corpus.turns import choose_template
from pipeline.errors import PipelineError, UsageError
from pipeline.export.go_template import chat_template
from pipeline.export.modelfile import (
    Parameters,
    can_hold,
    expressible,
    parse_modelfile,
    render_modelfile,
)
from pipeline.training.chats import joins_of
from tests.export.ollama_grammar import INSTRUCTIONS, Refused, execute, read
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
    return [value for instruction, value in read(text) if instruction == name]


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
        "PARAMETER num_predict 1536\n"
        'PARAMETER stop "<|im_end|>"\n'
        'PARAMETER stop "<|endoftext|>"\n'
        'LICENSE "apache-2.0"\n'
    )


@pytest.mark.parametrize(
    ("given", "context", "written"),
    [
        ({}, 4096, (2048, 256)),
        ({}, 1024, (768, 256)),  # the rest is for the prompt
        ({}, 128, (96, 128)),
        ({}, 1, (1, 1)),
        ({"num_predict": 900}, 1024, (900, 256)),  # asked for, and it fits
        ({"num_predict": 5000}, 1024, (1024, 256)),
        ({"num_predict": -1, "repeat_last_n": -1}, 128, (-1, -1)),  # no end; as far as it sees
        ({"num_predict": -2, "repeat_last_n": 0}, 128, (-2, 0)),
    ],
)
def test_no_answer_is_longer_than_what_the_model_sees(
    given: dict[str, int], context: int, written: tuple[int, int]
) -> None:
    text = render_modelfile("m.gguf", context=context, stops=[], parameters=Parameters(**given))
    found = values(text, "parameter num_predict") + values(text, "parameter repeat_last_n")
    assert tuple(map(int, found)) == written


@given(st.lists(ANY_TEXT.filter(bool), max_size=4))
@settings(deadline=None, max_examples=150)
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
        assert values(render(stops), "parameter stop") == list(dict.fromkeys(stops))


@given(ANY_TEXT, ANY_TEXT)
@settings(deadline=None, max_examples=150)
@example("x\nFROM evil", "")
@example("x\rFROM evil", "")
@example("# FROM evil", "a\n# not a comment\n\n")
def test_no_title_or_licence_adds_or_changes_a_command(title: str, licence: str) -> None:
    licence = expressible(licence)
    plain = read(render())
    expected = [*plain, ("license", licence)] if licence else plain
    assert read(render(title=title, licence=licence)) == expected


@given(st.text(st.characters(exclude_characters="/\\"), min_size=1, max_size=20))
@settings(deadline=None, max_examples=100)
@example("my model.gguf")
@example(' "quoted".gguf ')
@example("~.gguf")
def test_file_name_arrives_exactly_or_is_refused(name: str) -> None:
    try:
        text = render_modelfile(name, context=1, stops=[])
    except PipelineError:
        assert not name.isprintable() or not name.strip(". ")
    else:
        assert values(text, "from") == [f"./{name}"]


@given(ANY_TEXT)
@settings(deadline=None, max_examples=100)
def test_expressible_prose_always_fits_and_printable_prose_is_unchanged(text: str) -> None:
    render(licence=expressible(text))
    if text.isprintable():
        assert expressible(text) == text


PIECES = ("before_system", "before_user", "system_to_user", "user_to_assistant",
          "before_answer", "assistant_to_user")  # fmt: skip
GOES_IN_TEMPLATES = ANY_TEXT.filter(lambda text: not re.search("[\ud800-\udfff]", text))


@given(st.fixed_dictionaries(dict.fromkeys(PIECES, GOES_IN_TEMPLATES)), ANY_TEXT, ANY_TEXT)
@settings(deadline=None, max_examples=100)
@example(dict.fromkeys(PIECES, '{{ .System }}\n"""\n'), '"""\nFROM evil', "}}")
@example(dict.fromkeys(PIECES, "{"), "{{ end }}", "\\")
@example(dict.fromkeys(PIECES, "{{- /*"), 'x"""\n', "\u200b")
def test_whatever_template_system_prompt_and_ends_hold_ollama_reads_it_back(
    joins: dict[str, str], system: str, end: str
) -> None:
    joins["before_system"] = joins["before_system"] or "<s>"
    system = expressible(system)
    ends = [end] if end and can_hold(end) else []
    about = {"joins": joins, "ends": ends}
    text = render_modelfile("m.gguf", context=8, stops=[], chat=about, system=system or None)
    (template,) = values(text, "template")
    assert values(text, "system") == ([system] if system else [])
    assert values(text, "parameter stop") == ends
    assert {name.split()[0] for name, _ in read(text)} <= INSTRUCTIONS - {"message", "license"}
    messages = [{"role": "system", "content": "Be brief."}, *turns(3)]
    expected = [joins["before_system"], "Be brief.", joins["system_to_user"], SAID[0],
                joins["user_to_assistant"], joins["before_answer"], SAID[1],
                joins["assistant_to_user"], SAID[2], joins["user_to_assistant"]]  # fmt: skip
    assert execute(template, messages) == "".join(expected)


def test_half_a_character_in_a_template_is_refused() -> None:
    with pytest.raises(PipelineError, match="half a character"):
        chat_template(dict.fromkeys(PIECES, "\ud83d"))


def test_every_way_to_draw_arrives_as_a_parameter() -> None:
    parameters = Parameters(0.8, 64, 1.2, -1, top_k=20, top_p=0.95, min_p=0.05, seed=7)
    text = render_modelfile("m.gguf", context=512, stops=[], parameters=parameters)
    lines = [" ".join(pair) for pair in read(text) if pair[0].startswith("parameter")]
    assert [line.removeprefix("parameter ") for line in lines] == [
        "num_ctx 512", "temperature 0.8", "repeat_last_n 64", "repeat_penalty 1.2",
        "num_predict -1", "top_k 20", "top_p 0.95", "min_p 0.05", "seed 7",
    ]  # fmt: skip


def test_an_adapter_goes_with_a_base_beside_it_or_one_that_ollama_has() -> None:
    beside = render_modelfile("base.gguf", context=8, stops=[], adapter_name="my lora.gguf")
    assert values(beside, "from") == ["./base.gguf"]
    assert values(beside, "adapter") == ["./my lora.gguf"]
    named = render_modelfile(
        None, context=8, stops=[], adapter_name="lora.gguf", model_name="hf.co/me/base:q4"
    )
    assert values(named, "from") == ["hf.co/me/base:q4"]
    with pytest.raises(PipelineError, match="not the name of a file"):
        render_modelfile("base.gguf", context=8, stops=[], adapter_name="/etc/lora.gguf")


def test_only_a_model_trained_with_system_prompts_takes_one() -> None:
    with pytest.raises(UsageError, match="goes on from a text"):
        render_modelfile("m.gguf", context=8, stops=[], system="Be brief.")
    about = {"joins": dict.fromkeys(PIECES, "x") | {"before_system": ""}, "ends": []}
    with pytest.raises(UsageError, match=r"takes no --system"):
        render_modelfile("m.gguf", context=8, stops=[], system="Be brief.", chat=about)


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
        {"context": 2**40},
        {"stops": [""]},
        {"parameters": Parameters(temperature=float("nan"))},
        {"parameters": Parameters(temperature=-1.0)},
        {"parameters": Parameters(repeat_penalty=0.0)},
        {"parameters": Parameters(num_predict=0)},
        {"parameters": Parameters(num_predict=-3)},
        {"parameters": Parameters(repeat_last_n=-2)},
        {"parameters": Parameters(top_k=-1)},
        {"parameters": Parameters(top_p=0.0)},
        {"parameters": Parameters(top_p=1.1)},
        {"parameters": Parameters(min_p=float("inf"))},
        {"parameters": Parameters(seed=-1)},
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
def test_both_readers_follow_ollamas_grammar(
    text: str, commands: list[tuple[str, str]] | None
) -> None:
    if commands is None:
        with pytest.raises(PipelineError, match=r"Ollama would refuse line|has no FROM line"):
            parse_modelfile(text)
        with pytest.raises(Refused):
            read(text)
    else:
        assert parse_modelfile(text) == commands
        names = {"from": "model"}
        found = [(name.removeprefix("parameter "), value) for name, value in read(text)]
        assert [(names.get(name, name), value) for name, value in found] == commands


def test_reader_tells_the_line() -> None:
    with pytest.raises(PipelineError, match="line 3 of the Modelfile: there is no command 'exec'"):
        parse_modelfile("FROM a\n\nEXEC x\n")


SAID = ["Who is there?", "The sea.", "Still?", "Still, and nobody.", "Go on."]


def chat(joins: dict[str, str] | None, ends: list[str]) -> str:
    about = {"joins": joins, "ends": ends}
    return render_modelfile("m.gguf", context=64, stops=["</s>"], chat=about)


def turns(n: int) -> list[dict[str, str]]:
    return [{"role": ("user", "assistant")[i % 2], "content": SAID[i]} for i in range(n)]


MISTRAL = (
    "{{ bos_token }}{% for message in messages %}"
    "{% if (message['role'] == 'user') != (loop.index0 % 2 == 0) %}"
    "{{ raise_exception('Roles must alternate') }}{% endif %}"
    "{% if message['role'] == 'user' %}{{ '[INST] ' + message['content'] + ' [/INST]' }}"
    "{% else %}{{ message['content'] + eos_token }}{% endif %}{% endfor %}"
)


@pytest.mark.parametrize(
    ("family", "source"),
    [*((family, None) for family in FAMILIES), ("qwen", "plain"), ("llama-2", "plain"),
     ("llama-2", MISTRAL)],
)  # fmt: skip
def test_ollama_puts_turns_together_as_the_model_was_trained_on_them(
    family: str, source: str | None
) -> None:
    template = choose_template(FAMILIES[family](), source)
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
            begin = execute(written, [*system, *turns(n)])
            assert whole.startswith(begin + joins["before_answer"] + SAID[n])


def test_braces_in_a_template_are_text_to_go() -> None:
    joins = dict.fromkeys(
        ["before_system", "before_user", "system_to_user", "before_answer", "assistant_to_user"],
        '{{ .System }}\n"{',
    )
    written = chat_template(joins | {"user_to_assistant": "}} {"})
    assert execute(written, turns(1)) == joins["before_user"] + SAID[0] + "}} {"


def test_a_chat_without_joins_is_left_to_the_template_in_the_gguf() -> None:
    text = chat(None, ["<|end|>"])
    assert values(text, "template") == []
    assert values(text, "parameter stop") == ["</s>", "<|end|>"]

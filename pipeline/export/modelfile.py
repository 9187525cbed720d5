"""Write an Ollama Modelfile, and read one by Ollama's own grammar.

The grammar is that of `ParseFile` in Ollama's parser/parser.go (2026). What matters of it here:

- A value in quotes, `"..."` or three of them on each side, is taken as it stands: there are no
  escapes. `\\n` is a backslash and an n.
- A value ends at the first line break at which, white space apart, it begins and ends with the
  same quotes. So quotes inside a line are harmless, and a line that ends with three quotes cannot
  be part of any value.
- Characters that do not print (controls, no-break and zero-width spaces, soft hyphens, U+2028)
  are dropped without a word; blanks, tabs and line breaks stay.
- `#` begins a comment only where a command could begin; a comment ends at a line break.
"""

import re
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

from pipeline.errors import PipelineError, UsageError
from pipeline.export.go_template import chat_template, is_dropped
from pipeline.export.parameters import GUIDE, LARGEST, Parameters
from pipeline.export.stop_tokens import WELL_KNOWN, end_tokens

__all__ = [
    "GUIDE",
    "WELL_KNOWN",
    "Command",
    "Parameters",
    "can_hold",
    "chat_template",
    "check_system",
    "end_tokens",
    "expressible",
    "parse_modelfile",
    "render_modelfile",
]

COMPLETION_TEMPLATE = "{{ .Prompt }}"
COMMANDS = {
    "from": "model",  # the name that Ollama's parser gives it
    "adapter": "adapter",
    "draft": "draft",
    "license": "license",
    "message": "message",
    "parser": "parser",
    "renderer": "renderer",
    "requires": "requires",
    "system": "system",
    "template": "template",
}
INTEGERS = (
    *("num_ctx", "num_predict", "num_keep", "num_batch", "num_gpu", "num_thread", "main_gpu"),
    *("seed", "top_k", "repeat_last_n", "draft_num_predict"),
)
FLOATS = (
    *("temperature", "top_p", "min_p", "typical_p"),
    *("repeat_penalty", "presence_penalty", "frequency_penalty"),
)
_WORDS = {name: word.upper() for word, name in COMMANDS.items()}
ROLES = ("system", "user", "assistant")

_BLANKS = " \t"
_BREAKS = "\r\n"
_SPACE = _BLANKS + _BREAKS
_LONGEST_TITLE = 200


class Command(NamedTuple):
    """One command: its name as Ollama knows it ("model" for FROM, "num_ctx" ...), its value."""

    name: str
    value: str


def render_modelfile(
    gguf_name: str | None,
    *,
    context: int,
    stops: Sequence[str],
    parameters: Parameters = GUIDE,
    title: str | None = None,
    licence: str | None = None,
    chat: Mapping[str, Any] | None = None,
    system: str | None = None,
    adapter_name: str | None = None,
    model_name: str | None = None,
) -> str:
    """The Modelfile of a model whose GGUF lies beside it.

    An adapter that lies beside it too is `adapter_name`; then its base may also be a model that
    Ollama has, `model_name` in place of `gguf_name`.

    The prompt goes to a completion model as it is. For a model of chats `chat` says how turns are
    put together ("joins", see `chat_template`) and what ends an answer ("ends"); without joins
    Ollama is left to guess the template from the one in the GGUF. Only a chat has a `system`
    prompt. `context` is that of the training, in tokens, which the `parameters` are fitted to;
    `stops` are the end tokens. `title` goes into a comment, with what cannot stand there replaced
    by blanks.

    Raises:
        PipelineError: a name, stop, licence or system prompt that the grammar cannot express (a
            line that ends with three quotes; a character that does not print; see `expressible`),
            or one without a use.
        UsageError: a number out of range.
    """
    parameters.check()
    if not 1 <= context <= LARGEST:
        raise UsageError(f"--num-ctx must be 1 token or more, not {context}.")
    parameters = parameters.fitted(context)
    if "" in stops:
        raise PipelineError("An empty stop string would end every answer before it begins.")
    template = COMPLETION_TEMPLATE
    if chat is not None:
        template = chat_template(chat["joins"]) if chat["joins"] else ""
        stops = [*stops, *chat["ends"]]
    check_system(system, chat)
    expected = [
        Command("model", model_name or _beside(gguf_name or "")),
        *([Command("adapter", _beside(adapter_name))] if adapter_name else []),
        *([Command("template", template)] if template else []),
        *([Command("system", system)] if system else []),
        Command("num_ctx", str(context)),
        *(Command(name, str(value)) for name, value in parameters.given().items()),
        *(Command("stop", stop) for stop in dict.fromkeys(stops)),
        *([Command("license", licence)] if licence else []),
    ]
    lines = [f"# {_comment(title)}"] if title else []
    text = "\n".join(lines + [_line(command) for command in expected]) + "\n"
    if parse_modelfile(text) != expected:
        raise PipelineError(f"Ollama would not read the Modelfile of {gguf_name} as it is meant.")
    return text


def check_system(system: str | None, chat: Mapping[str, Any] | None) -> None:
    """Raise UsageError for a system prompt that the model was not trained to take."""
    if system and chat is None:
        raise UsageError(
            "--system is for models of chats: this one goes on from a text, and from nothing else."
        )
    if system and chat and chat["joins"] and not chat["joins"]["before_system"]:
        raise UsageError("The chat template that the model was trained with takes no --system.")


def _beside(name: str) -> str:
    if not name.strip(". ") or re.search(r"[/\\]", name):
        raise PipelineError(f"{name!r} is not the name of a file beside the Modelfile.")
    return f"./{name}"


def can_hold(value: str) -> bool:
    """Whether a Modelfile can hold a value to the character."""
    try:
        _quoted(value)
    except PipelineError:
        return False
    return True


def expressible(text: str) -> str:
    """`text` with what a value cannot hold replaced: for prose such as a licence, not for tokens.

    Characters that do not print become blanks (form feeds: line breaks), or vanish if they have no
    width; a line that ends with three quotes gets a full stop.
    """
    text = text.replace("\f", "\n").replace("\u2028", "\n").replace("\u2029", "\n\n")
    kept = "".join(" " * c.isspace() if is_dropped(c) else c for c in text)
    return re.sub(r'("""[ \t]*)(?=[\r\n])', r"\1.", kept)


def _comment(title: str) -> str:
    harmless = "".join(c if c.isprintable() else " " for c in title)
    return " ".join(harmless.split())[:_LONGEST_TITLE]


def _line(command: Command) -> str:
    name, value = command
    if name in _WORDS:
        plain = value == COMPLETION_TEMPLATE or (
            name in ("model", "adapter") and re.fullmatch(r"[\w./:+-]+", value, re.ASCII)
        )
        return f"{_WORDS[name]} {value if plain else _quoted(value)}"
    return f"PARAMETER {name} {_quoted(value) if name == 'stop' else value}"


def _quoted(value: str) -> str:
    """`value` in quotes that Ollama takes off again exactly."""
    dropped = next(filter(is_dropped, value), None)
    if dropped is not None:
        raise PipelineError(
            f"A Modelfile cannot hold the character U+{ord(dropped):04X} of {value[:80]!r}:"
            " Ollama drops it."
        )
    single = f'"{value}"'
    if not single.startswith('"""') and not any(c in value for c in _BREAKS):
        return single
    if re.search(r'"""[ \t]*[\r\n]', value):
        raise PipelineError(
            f"A Modelfile cannot hold a line that ends with three quotes, as in {value[:80]!r}."
        )
    return f'"""{value}"""'


def parse_modelfile(text: str) -> list[Command]:
    """Read a Modelfile as Ollama does, and check its parameters too.

    Values come out to the character as they would there. Outside of values it is stricter: nothing
    but blanks, line breaks and comments may stand before a command.

    Raises:
        PipelineError: Ollama would refuse it; the message tells the line.
    """
    reader = _Reader(text.removeprefix("\ufeff"))
    commands = []
    while reader.find_command():
        commands.append(reader.read_command())
    if not any(command.name == "model" for command in commands):
        raise PipelineError("The Modelfile has no FROM line.")
    return commands


class _Reader:
    """A position in a Modelfile."""

    def __init__(self, text: str) -> None:
        self.text = text
        self.at = 0

    def find_command(self) -> bool:
        """Go to where the next command begins; False at the end of the file."""
        comment = False
        while self.at < len(self.text):
            c = self.text[self.at]
            if c in _BREAKS:
                comment = False
            elif c == "#":
                comment = True
            elif not comment and c not in _BLANKS:
                return True
            self.at += 1
        return False

    def read_command(self) -> Command:
        word = self._word("[A-Za-z]+").lower()
        if word == "parameter":
            command = Command(self._word("[A-Za-z0-9_]+"), self._value())
            self._check_parameter(command)
            return command
        if word not in COMMANDS:
            raise self._refused(f"there is no command {word!r}")
        if word == "message":
            role = self._word("[A-Za-z]+")
            if role not in ROLES:
                raise self._refused(f"there is no role {role!r}")
            return Command("message", f"{role}: {self._value()}")
        return Command(COMMANDS[word], self._value())

    def _word(self, pattern: str) -> str:
        """A word and the one blank that must follow it."""
        match = re.compile(f"({pattern})[ \t]").match(self.text, self.at)
        if match is None:
            raise self._refused("a command is not complete")
        self.at = match.end()
        return match[1]

    def _value(self) -> str:
        """Everything up to the first line break, or the end, at which the value is complete."""
        kept: list[str] = []
        while self.at < len(self.text):
            c = self.text[self.at]
            self.at += 1
            if c in _BREAKS and (value := _unquoted("".join(kept))) is not None:
                return value
            if c.isprintable() or c in _SPACE:
                kept.append(c)
        value = _unquoted("".join(kept))
        if value is None:
            raise self._refused("a quoted value does not end")
        return value

    def _check_parameter(self, command: Command) -> None:
        """As Ollama's api.FormatParams does when the model is created."""
        name, value = command
        if name in INTEGERS:
            fits = re.fullmatch(r"[+-]?[0-9]+", value) is not None
        elif name in FLOATS:
            fits = re.fullmatch(r"[+-]?[0-9]*\.?[0-9]+(e[+-]?[0-9]+)?", value) is not None
        else:
            fits = name == "stop" or (name == "use_mmap" and value in ("true", "false"))
        if not fits:
            raise self._refused(f"there is no parameter {name} {value!r}")

    def _refused(self, why: str) -> PipelineError:
        line = len(re.split(r"\r\n?|\n", self.text[: self.at]))
        return PipelineError(f"Ollama would refuse line {line} of the Modelfile: {why}.")


def _unquoted(value: str) -> str | None:
    """A value without its quotes; None while it is not complete."""
    value = value.strip(_SPACE)
    for quotes in ('"""', '"'):
        if value.startswith(quotes):
            whole = len(value) >= 2 * len(quotes) and value.endswith(quotes)
            return value[len(quotes) : -len(quotes)] if whole else None
    return value

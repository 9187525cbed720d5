"""Chat templates in the language of Go's text/template, which is Ollama's."""

from collections.abc import Mapping

from pipeline.errors import PipelineError


def chat_template(joins: Mapping[str, str]) -> str:
    """A template in Go's language that puts turns together as a model was trained on them.

    `joins` is what stands before and between turns: `before_system`, `before_user` (at the start
    of a chat without a system prompt), `system_to_user`, `user_to_assistant`, `before_answer` (of
    an earlier answer; a new one begins with it by itself), `assistant_to_user`. Where the first is
    empty the model takes no system prompt, and none is written.
    """
    text = {name: _go_literal(value) for name, value in joins.items()}
    says, end = "{{ .Content }}", "{{ end }}"
    first = ["{{ if eq $i 0 }}", text["before_user"],
             "{{ else if eq $i 1 }}", text["system_to_user"]]  # fmt: skip
    system = ['{{ if eq .Role "system" }}', text["before_system"], says, end]
    if not joins["before_system"]:
        first, system = ["{{ if le $i 1 }}", text["before_user"]], []
    begin = [*first, "{{ else }}", text["assistant_to_user"], end]
    user = ['{{ if eq .Role "user" }}', *begin, says, text["user_to_assistant"], end]
    assistant = ['{{ if eq .Role "assistant" }}', text["before_answer"], says, end]
    return "".join(["{{ range $i, $_ := .Messages }}", *system, *user, *assistant, end])


_GO_ESCAPES = {'"': '\\"', "\\": "\\\\", "\n": "\\n", "\r": "\\r", "\t": "\\t"}


def _go_literal(text: str) -> str:
    """Text as it stands in a Go template: where a brace could begin an action, or the Modelfile
    could not hold it, as a string of Go's."""
    if not any(c in '{"' or is_dropped(c) for c in text):
        return text
    if any("\ud800" <= c <= "\udfff" for c in text):
        raise PipelineError(f"The chat template holds half a character: {text[:80]!r}.")
    escaped = (_GO_ESCAPES.get(c) or (c if c.isprintable() else f"\\U{ord(c):08x}") for c in text)
    return f'{{{{ "{"".join(escaped)}" }}}}'


def is_dropped(c: str) -> bool:
    """Whether Ollama drops a character of a Modelfile: one that does not print, blanks apart."""
    return not (c.isprintable() or c in " \t\r\n")

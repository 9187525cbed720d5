"""What Ollama makes of a Modelfile, written from its published reference, for tests.

It shares no code with the product, so that a mistake there is not one here too. The file is read
a character at a time, as Ollama's own reader does:

    # a comment, to the end of the line
    INSTRUCTION value            FROM PARAMETER TEMPLATE SYSTEM ADAPTER LICENSE MESSAGE, any case
    INSTRUCTION "value"          a value in quotes keeps its blanks
    INSTRUCTION \"\"\"a value
    of several lines\"\"\"         nothing in it is escaped, and nothing can be

`execute` is as much of Go's text/template as chat templates need.
"""

import re
from collections.abc import Iterator, Sequence

INSTRUCTIONS = {"from", "parameter", "template", "system", "adapter", "license", "message"}
FLOATS = {"temperature", "top_p", "min_p", "repeat_penalty"}
INTEGERS = {"num_ctx", "num_predict", "repeat_last_n", "seed", "top_k"}


class Refused(Exception):
    """Ollama would not take this file."""


def read(text: str) -> list[tuple[str, str]]:
    """The instructions of a Modelfile, in order: (`from`, value), (`parameter stop`, value) ..."""
    found = []
    characters = iter(text)
    for c in characters:
        if c == "#":
            _until_break(characters)
        elif c not in " \t\r\n":
            found.append(_instruction(c, characters))
    if not any(name == "from" for name, _ in found):
        raise Refused("no FROM line")
    return found


def _instruction(first: str, characters: Iterator[str]) -> tuple[str, str]:
    name = (first + _word(characters)).lower()
    if name not in INSTRUCTIONS:
        raise Refused(f"unknown instruction {name!r}")
    if name == "parameter":
        name = f"parameter {_word(characters)}"
    role = _word(characters) if name == "message" else ""
    if role not in ("", "system", "user", "assistant"):
        raise Refused(f"unknown role {role!r}")
    value = _value(characters)
    _check(name, value)
    return name, f"{role}: {value}" if role else value


def _word(characters: Iterator[str]) -> str:
    """Letters, digits and underscores, up to a blank; a line break or the end is no blank."""
    word = ""
    for c in characters:
        if c in " \t":
            return word
        if not (c.isascii() and (c.isalnum() or c == "_")):
            break
        word += c
    raise Refused(f"{word!r} is not followed by a value")


def _value(characters: Iterator[str]) -> str:
    """To the first line break at which it is complete. What does not print is left out."""
    kept = ""
    for c in characters:
        if c in "\r\n" and (whole := _without_quotes(kept.strip(" \t\r\n"))) is not None:
            return whole
        if c.isprintable() or c in "\t\r\n":
            kept += c
    whole = _without_quotes(kept.strip(" \t\r\n"))
    if whole is None:
        raise Refused(f"no end of {kept[:40]!r}")
    return whole


def _without_quotes(value: str) -> str | None:
    for quotes in ('"""', '"'):
        if value.startswith(quotes):
            n = len(quotes)
            return value[n:-n] if value.endswith(quotes) and len(value) >= 2 * n else None
    return value


def _until_break(characters: Iterator[str]) -> None:
    for c in characters:
        if c in "\r\n":
            return


def _check(name: str, value: str) -> None:
    parameter = name.removeprefix("parameter ")
    if name == parameter or parameter == "stop":
        return
    if parameter not in FLOATS | INTEGERS:
        raise Refused(f"unknown parameter {parameter!r}")
    try:
        (float if parameter in FLOATS else int)(value)
    except ValueError:
        raise Refused(f"{parameter} {value!r} is no number") from None


def execute(template: str, messages: Sequence[dict[str, str]]) -> str:
    """What Go makes of a chat template: one `range` over the messages with `if`s inside."""
    (before, start), *body = _actions(template)
    if before or start != "range $i, $_ := .Messages":
        raise Refused(f"not a loop over the messages: {before}{start}")
    return "".join(_turn(body, i, message) for i, message in enumerate(messages))


def _actions(template: str) -> list[tuple[str, str]]:
    """(text before it, the action) for each; the lexer of Go knows strings, and nothing nests."""
    found, at = [], 0
    for match in re.finditer(r'\{\{((?:"(?:[^"\\\n]|\\.)*"|[^"])*?)\}\}', template, re.DOTALL):
        if "{{" in template[at : match.start()]:
            raise Refused("an action does not end")
        action = match[1]
        if "{" in re.sub(r'"(?:[^"\\]|\\.)*"', "", action):
            raise Refused(f"unexpected brace in {action!r}")
        found.append((template[at : match.start()], action.strip()))
        at = match.end()
    if template[at:] or not found or found[-1][1] != "end":
        raise Refused(f"text after the loop: {template[at:]!r}")
    return found


def _turn(body: Sequence[tuple[str, str]], i: int, message: dict[str, str]) -> str:
    written = ""
    stack: list[tuple[bool, bool]] = []  # whether this branch is written; one of them was already
    for text, action in body:
        if all(now for now, _ in stack):
            written += text
        if action.startswith("if "):
            holds = _holds(action.removeprefix("if "), i, message)
            stack.append((holds, holds))
        elif action.startswith("else"):
            _, done = stack.pop()
            holds = not done and (
                action == "else" or _holds(action.removeprefix("else if "), i, message)
            )
            stack.append((holds, done or holds))
        elif action == "end":
            if stack:
                stack.pop()
        elif all(now for now, _ in stack):
            written += message["content"] if action == ".Content" else go_string(action)
    return written


def _holds(condition: str, i: int, message: dict[str, str]) -> bool:
    operator, left, right = condition.split(" ")
    if left == ".Role" and operator == "eq":
        return message["role"] == go_string(right)
    if left == "$i" and operator in ("eq", "le"):
        return i == int(right) or (operator == "le" and i < int(right))
    raise Refused(f"unknown condition {condition!r}")


_ESCAPE = re.compile(r'\\(?:(["\\nrt])|U([0-9a-f]{8})|(.?))', re.DOTALL)


def go_string(literal: str) -> str:
    """The text of an interpreted string literal of Go."""
    if not re.fullmatch(r'"(?:[^"\\\n]|\\.)*"', literal):
        raise Refused(f"{literal!r} is not a string of Go's")

    def plain(match: "re.Match[str]") -> str:
        if match[3] is not None:
            raise Refused(f"unknown escape in {literal!r}")
        if match[2]:
            return chr(int(match[2], 16))
        return {"n": "\n", "r": "\r", "t": "\t"}.get(match[1], match[1])

    return _ESCAPE.sub(plain, literal[1:-1])

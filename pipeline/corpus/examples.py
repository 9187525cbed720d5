"""Training examples out of rows of any table: plain text, prompt and completion, or a chat.

What a table holds is told by the names of its columns: those that the user gives, else those that
are common. Text is kept as it is, but for line ends, which become "\\n": nothing is stripped, since
a space between prompt and completion belongs to one of them.

A model reads a completion right behind its prompt. Columns called `prompt` and `completion`, and
those that the user names, are for that, and stay as they are. Questions with answers, and other
columns that were guessed, are two texts: an empty line is put before the answer, at which it is
trained on, so that the model is asked with the bare question and nobody has to know of it.
"""

import json
from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass
from typing import Any, Literal

from pipeline.errors import PipelineError, UsageError

Shape = Literal["text", "completion", "chat"]

TEXT_COLUMNS = ("text", "content", "body")
PROMPT_COLUMNS = ("prompt", "instruction", "input", "question")
GIVEN_COLUMNS = ("input", "context")  # what an instruction speaks of, in Alpaca's rows and Dolly's
COMPLETION_COLUMNS = ("completion", "generation", "response", "output", "answer")
MESSAGES_COLUMNS = ("messages", "conversations", "conversation")
ABOUT_COLUMNS = ("id", "title", "authors", "language", "source", "rights")

_ROLES = {
    "system": "system",
    "user": "user",
    "human": "user",
    "assistant": "assistant",
    "gpt": "assistant",
    "tool": "tool",
}  # on the left also what ShareGPT calls them
_LISTED = 20  # columns named in an error
_SHOWN = 20  # characters of the word on each side of a join


@dataclass(frozen=True)
class ColumnNames:
    """The columns that the user named; None is for the common names."""

    text: str | None = None
    prompt: str | None = None
    completion: str | None = None
    messages: str | None = None


class BadExample(Exception):
    """A row that is no example; `reason` says why, such as "it has an empty 'text'"."""

    def __init__(self, reason: str) -> None:
        super().__init__(reason)
        self.reason = reason


def wanted_columns(names: ColumnNames) -> set[str]:
    """Every column that can matter: for reading no others."""
    given = {names.text, names.prompt, names.completion, names.messages} - {None}
    common = (
        TEXT_COLUMNS, PROMPT_COLUMNS, GIVEN_COLUMNS, COMPLETION_COLUMNS, MESSAGES_COLUMNS,
        ABOUT_COLUMNS,
    )  # fmt: skip
    return {name for name in given if name}.union(*common)


def shape_of(
    columns: Collection[str], names: ColumnNames, where: str = "the table"
) -> Shape | None:
    """What the rows of the table `where` are by its columns; None if that cannot be told.

    Named columns decide. Without, the more particular wins: a chat, then prompt and completion,
    then text, since many sets hold a chat's text beside it.

    Raises PipelineError naming table and columns if a named column is not there, UsageError if
    columns of more than one shape are named.
    """
    if sum(map(bool, (names.text, names.prompt or names.completion, names.messages))) > 1:
        raise UsageError(
            "Columns are named for more than one kind of example.",
            "Give --text-column, or --prompt-column and --completion-column, or --messages-column.",
        )
    for given in (names.messages, names.prompt, names.completion, names.text):
        if given is not None and given not in columns:
            raise PipelineError(
                f"{where} has no column {given!r}; its columns are: {_listed(columns)}."
            )
    if names.text is not None:
        return "text"
    if names.messages is not None:
        return "chat"
    prompt = names.prompt or _first(PROMPT_COLUMNS, columns)
    completion = names.completion or _first(COMPLETION_COLUMNS, columns)
    if names.prompt or names.completion:
        if not prompt or not completion:
            missing = "completion" if prompt else "prompt"
            raise PipelineError(
                f"{where} has no column for the {missing}; its columns are: {_listed(columns)}.",
                f"Name it with --{missing}-column.",
            )
        return "completion"
    if _first(MESSAGES_COLUMNS, columns):
        return "chat"
    if prompt and completion:
        return "completion"
    return "text" if _first(TEXT_COLUMNS, columns) else None


def as_example(row: Mapping[str, Any], shape: Shape, names: ColumnNames) -> dict[str, Any]:
    """A row as an example of its table's shape.

    - text: {"text"}, and under "about" those of ABOUT_COLUMNS that hold words
      (`authors` perhaps a list of them);
    - completion: {"prompt", "completion"}; where the columns are the common `instruction`
      and `input` (or `context`), the prompt is both with an empty line between them; where they
      are guessed, but for `prompt` and `completion`, an empty line parts the two (see `_parted`);
    - chat: {"messages": [{"role", "content"}]}, with the roles system, user, assistant and tool.

    Raises BadExample if something is missing, blank, no text, or if a chat cannot be learnt from.
    """
    if shape == "text":
        column = _column(row, names.text, TEXT_COLUMNS)
        example: dict[str, Any] = {"text": _text(row[column], f"'{column}'")}
        about = _about(row, column)
        return example | {"about": about} if about else example
    if shape == "completion":
        column = _column(row, names.completion, COMPLETION_COLUMNS)
        completion = _text(row[column], f"'{column}'")
        asked, prompt = _prompt(row, names)
        if _is_exact(asked, column, names):
            return {"prompt": prompt, "completion": completion}
        return {"prompt": prompt, "completion": _parted(prompt, completion, asked)}
    column = _column(row, names.messages, MESSAGES_COLUMNS)
    return {"messages": _messages(row[column], column)}


class Joins:
    """Counts how the prompts of a file meet their completions."""

    def __init__(self) -> None:
        self.records = self.parted = self.bare = 0
        self._sample = ""

    def see(self, example: Mapping[str, Any]) -> None:
        """Count an example of shape "completion": parted by an empty line, by nothing, or else."""
        prompt, completion = example["prompt"], example["completion"]
        border = _border(prompt, completion)
        self.records += 1
        self.parted += border.count("\n") > 1
        if not border:
            self.bare += 1
            last, first = prompt.split()[-1], completion.split()[0]
            self._sample = self._sample or last[-_SHOWN:] + first[:_SHOWN]

    def warning(self, where: str) -> str | None:
        """What a person should know of the examples of `where`, if anything meets by accident."""
        if not self.bare:
            return None
        return (
            f"{where}: between prompt and completion of {self.bare:,} of {self.records:,} records "
            f"stands no white space, as in {self._sample!r}. They are taken as they are. If that "
            "is not meant, begin the completions with a space or an empty line."
        )


def pair_of(columns: Collection[str], names: ColumnNames) -> tuple[str, str] | None:
    """The columns of prompt and completion, if they were guessed and an empty line parts them."""
    prompt, completion = _first(PROMPT_COLUMNS, columns), _first(COMPLETION_COLUMNS, columns)
    if prompt is None or completion is None or _is_exact(prompt, completion, names):
        return None
    return prompt, completion


def _first(known: Iterable[str], columns: Collection[str]) -> str | None:
    return next((name for name in known if name in columns), None)


def _column(row: Mapping[str, Any], given: str | None, known: Iterable[str]) -> str:
    column = given or _first(known, row)
    if column is None or column not in row:
        raise BadExample(f"it has no {given or next(iter(known))!r}")
    return column


def _listed(columns: Collection[str]) -> str:
    shown = [repr(name) if not name.isidentifier() else name for name in columns][:_LISTED]
    more = len(columns) - len(shown)
    return (", ".join(shown) or "none") + (f" and {more} more" if more > 0 else "")


def _text(value: Any, what: str) -> str:
    """`value` if it is text with something in it; BadExample otherwise."""
    if value is None:
        raise BadExample(f"it has nothing in {what}")
    if isinstance(value, float) and value != value:
        raise BadExample(f"it has no text but NaN in {what}")
    if not isinstance(value, str):
        raise BadExample(f"it has no text but a value of type {type(value).__name__} in {what}")
    if not value.strip():
        raise BadExample(
            f"it has only white space in {what}" if value else f"it has an empty {what}"
        )
    if not _is_whole(value):
        raise BadExample(f"it has half a character in {what}")
    return value.replace("\r\n", "\n")


def _is_whole(text: str) -> bool:
    """Whether it holds no lone surrogates, which no UTF-8 file can."""
    try:
        text.encode()
    except UnicodeEncodeError:
        return False
    return True


def _prompt(row: Mapping[str, Any], names: ColumnNames) -> tuple[str, str]:
    """The column of a row's prompt, and the prompt."""
    column = _column(row, names.prompt, PROMPT_COLUMNS)
    prompt = _text(row[column], f"'{column}'")
    if names.prompt is None and column == "instruction":
        for given in GIVEN_COLUMNS:
            if row.get(given) not in (None, ""):
                return column, prompt + "\n\n" + _text(row[given], f"'{given}'")
    return column, prompt


def _is_exact(prompt: str, completion: str, names: ColumnNames) -> bool:
    """Whether what stands in the columns of these names is joined as it is."""
    named = names.prompt is not None or names.completion is not None
    return named or (prompt, completion) == ("prompt", "completion")


def _parted(prompt: str, completion: str, column: str) -> str:
    """`completion` with an empty line before it, as far as none is there.

    One that begins with white space was written to follow a prompt, and stays; so does one behind
    a `prompt` that ends with some. At the end of a question, white space is an oversight.
    """
    if completion[0].isspace() or (column == "prompt" and prompt[-1].isspace()):
        return completion
    return "\n" * max(0, 2 - _border(prompt, "").count("\n")) + completion


def _border(prompt: str, completion: str) -> str:
    """The white space between a prompt and its completion."""
    before = prompt[len(prompt.rstrip()) :]
    return before + completion[: len(completion) - len(completion.lstrip())]


def _about(row: Mapping[str, Any], text_column: str) -> dict[str, Any]:
    """What the row says of its text; whatever is no plain words is left out."""
    about: dict[str, Any] = {}
    for name in ABOUT_COLUMNS:
        value = row.get(name) if name != text_column else None
        if name == "authors" and isinstance(value, list) and value and all(map(_is_words, value)):
            about[name] = value
        if name == "id" and isinstance(value, int) and not isinstance(value, bool):
            value = str(value)
        if _is_words(value):
            about[name] = value
    return about


def _is_words(value: Any) -> bool:
    return isinstance(value, str) and bool(value.strip()) and _is_whole(value)


# --- chats ------------------------------------------------------------------------------------


def _messages(value: Any, column: str) -> list[dict[str, str]]:
    """A chat that ends with an answer, its turns in an order that a chat can have."""
    if isinstance(value, str):
        try:
            value = json.loads(value)
        except (ValueError, RecursionError):
            raise BadExample(f"it has no list of turns in '{column}'") from None
    if not isinstance(value, list | tuple):
        raise BadExample(f"it has no list of turns in '{column}'")
    messages: list[dict[str, str]] = []
    for number, turn in enumerate(value, 1):
        message = _message(turn, f"turn {number}")
        if message["role"] == "system" and not message["content"]:
            continue  # ShareGPT's way to say that there is none
        _check_order(message["role"], messages, f"turn {number}")
        messages.append(message)
    if not messages or messages[-1]["role"] != "assistant":
        raise BadExample(f"it does not end with a turn of the assistant in '{column}'")
    return messages


def _message(turn: Any, where: str) -> dict[str, str]:
    if not isinstance(turn, Mapping):
        raise BadExample(f"it has a {where} without role and content")
    said = turn.get("role") if turn.get("role") is not None else turn.get("from")
    role = _ROLES.get(said) if isinstance(said, str) else None
    if role is None:
        told = f"of the role {said[:40]!a}" if isinstance(said, str) else "without a role"
        raise BadExample(f"it has a {where} {told}")
    content = turn.get("content") if turn.get("content") is not None else turn.get("value")
    if isinstance(content, list | tuple):
        content = "".join(_part(part, where) for part in content)
    # A tool may answer nothing, and no system prompt is one.
    if role in ("tool", "system") and content in (None, ""):
        return {"role": role, "content": ""}
    return {"role": role, "content": _text(content, f"{where} ({role})")}


def _part(part: Any, where: str) -> str:
    """The text of one part of a turn."""
    kind = part.get("type") if isinstance(part, Mapping) else None
    text = part.get("text") if isinstance(part, Mapping) else None
    if kind != "text" or not isinstance(text, str):
        told = f"a part of type {kind[:40]!a}" if isinstance(kind, str) else "a part"
        raise BadExample(f"it has {told} that is no text in {where}")
    return text


def _check_order(role: str, before: list[dict[str, str]], where: str) -> None:
    """Raises BadExample if a turn of `role` cannot follow the turns `before`."""
    last = before[-1]["role"] if before else None
    if role == "system" and before:
        raise BadExample(f"it has a system turn that is not the first ({where})")
    if role in ("assistant", "tool") and last in (None, "system"):
        raise BadExample(f"it begins with a turn of the {role} and not of the user")
    if role == "tool" and last == "user":
        raise BadExample(f"it has a tool's answer that follows no call ({where})")
    if role == last and role != "tool":  # several tools may answer one turn
        raise BadExample(f"it has two turns of the {role} in a row ({where})")

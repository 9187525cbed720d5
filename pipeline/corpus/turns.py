"""A chat as text: what the template writes, what was said, and which of it is trained on.

    template = choose_template(tokenizer)
    for segment in template.segments(messages): ...

What a model has to learn of a chat is what it will have to write: everything from where a prompt
ends (the template's own, for the turns so far) to the token that ends the assistant's turn. Both
places are found by rendering the first turns alone, with marks in the place of what was said, and
comparing. A template that cannot be taken apart so is refused with a sentence; one that says by
itself what is trained on, with `{% generation %}`, is believed.

What was said is kept apart from what the template writes, so that a message that spells the
template's tokens can be encoded as plain characters and fakes no turn.
"""

import datetime
import json
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from itertools import pairwise
from typing import TYPE_CHECKING, Any

from pipeline.corpus.tokens import end_id, prefix_ids
from pipeline.errors import PipelineError

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase

Messages = Sequence[Mapping[str, str]]

PLAIN = "plain"
PLAIN_TEMPLATE = (
    "{{ bos_token }}{% for message in messages %}{{ message['role'] | capitalize }}:\n"
    "{{ message['content'] }}{{ eos_token }}{% endfor %}"
    "{% if add_generation_prompt %}Assistant:\n{% endif %}"
)
"""For tokenizers without a template. It needs no token but the end token, which ends every turn:
a message cannot spell it, so what follows it is a turn's head and nothing else is."""

# The day that a template sees if it asks for one: a text that changed daily could not be kept.
RENDERING_DAY = datetime.datetime(2024, 7, 26)

_WAY_OUT = "Use the plain template instead, or mend this one."
_GENERATION = re.compile(r"\{%-?\s*generation\s*-?%\}")
_MARK = "\ue000{}\ue001"  # characters for private use; checked to be alone where it matters
_MARKS = re.compile("\ue000([0-9]+)\ue001")


@dataclass(frozen=True)
class Segment:
    """A stretch of a chat's text: written by the template or said by someone, trained on or not."""

    text: str
    from_template: bool
    trained: bool


@dataclass(frozen=True)
class _Part:
    """A stretch of a layout: literal text, or the content of the turn `turn`."""

    text: str
    turn: int | None
    trained: bool


@dataclass
class ChatTemplate:
    """A chat template in Jinja, with the variables that it is rendered with.

    `name` is for messages. `ends` finds the tokens that can end a turn.
    """

    source: str
    variables: Mapping[str, Any]
    name: str
    ends: re.Pattern[str]
    _layouts: dict[tuple[tuple[str, bool], ...], list[_Part]] = field(default_factory=dict)

    def segments(self, messages: Messages) -> list[Segment]:
        """The text of a chat; joined, it is exactly what the template makes of it.

        Contents lose white space at their ends where the template strips them.

        Raises:
            PipelineError: the template refuses these turns, leaves one out or changes it, or it
                cannot be told from it what the assistant has to write.
        """
        shape = tuple((str(m["role"]), not m["content"]) for m in messages)
        if shape not in self._layouts:
            self._layouts[shape] = self._layout(messages)
        parts = self._layouts[shape]
        contents = self._as_written(parts, messages, self._render(messages))
        return [
            Segment(part.text if part.turn is None else contents[part.turn],
                    part.turn is None, part.trained)
            for part in parts
        ]  # fmt: skip

    def _render(self, messages: Messages, *, prompt: bool = False) -> str:
        text, _ = self._render_marked(messages, prompt=prompt)
        return text

    def _render_marked(
        self, messages: Messages, *, prompt: bool = False, marks: bool = False
    ) -> tuple[str, list[tuple[int, int]]]:
        """The text, and where the template's own marks say that the assistant speaks."""
        from jinja2 import TemplateError
        from transformers.utils.chat_template_utils import render_jinja_template

        try:
            answer: Any = render_jinja_template(
                [[dict(message) for message in messages]],
                chat_template=self.source,
                add_generation_prompt=prompt,
                return_assistant_tokens_mask=marks,
                **self.variables,
            )
        # A template is a program: it raises what it likes, also by adding text to nothing.
        except (TemplateError, TypeError, ValueError, LookupError, AttributeError) as error:
            reason = " ".join(str(error).split())[:200] or type(error).__name__
            raise PipelineError(
                f"The chat template of {self.name} does not take these turns "
                f"({', '.join(str(m['role']) for m in messages)}): {reason}",
                _WAY_OUT,
            ) from error
        texts, spans = answer
        return str(texts[0]), [(int(a), int(b)) for a, b in spans[0]] if marks else []

    def _fault(self, what: str) -> PipelineError:
        return PipelineError(f"The chat template of {self.name} {what}.", _WAY_OUT)

    # --- what the template makes of turns, whatever is said in them

    def _layout(self, messages: Messages) -> list[_Part]:
        """The template's text for such turns, cut where contents and trained stretches begin."""
        marked = [
            {"role": m["role"], "content": _MARK.format(i) if m["content"] else ""}
            for i, m in enumerate(messages)
        ]
        owns = bool(_GENERATION.search(self.source))
        text, spans = self._render_marked(marked, marks=owns)
        for i, message in enumerate(marked):
            count = text.count(message["content"]) if message["content"] else 1
            if count != 1:
                told = "leaves out" if not count else "repeats"
                raise self._fault(f"{told} what is said in turn {i + 1} ({message['role']})")
        speaking = [i for i, m in enumerate(marked) if m["role"] == "assistant" and m["content"]]
        if owns:
            self._check_own(text, spans, marked, speaking)
        else:
            spans = [self._span(text, marked, i) for i in speaking]
        return _cut(text, spans)

    def _check_own(
        self, text: str, spans: list[tuple[int, int]], marked: Messages, speaking: list[int]
    ) -> None:
        """Raise unless the template's `{% generation %}` holds the assistant's turns, no others."""
        inside = [int(n) for a, b in spans for n in _MARKS.findall(text[a:b])]
        if inside != speaking:
            raise self._fault("marks other turns with {% generation %} than those of the assistant")
        for start, end in spans:
            last = _MARKS.split(text[start:end])[-1]
            if not last.strip():
                raise self._fault(
                    "leaves the end of the assistant's turn out of {% generation %}, so that a "
                    "model could not learn to stop"
                )

    def _span(self, text: str, marked: Messages, turn: int) -> tuple[int, int]:
        """Where in `text` the assistant writes its `turn`, end token included."""
        mark = marked[turn]["content"]
        place = text.index(mark)
        prompt = self._render(marked[:turn], prompt=True) if turn else text[:place]
        if not text.startswith(prompt) or len(prompt) > place:
            raise self._fault(
                f"begins turn {turn + 1} (assistant) otherwise than the prompt that it makes for it"
            )
        closing = self._render(marked[: turn + 1]).partition(mark)[2]
        if not closing.strip():
            raise self._fault(
                f"puts nothing at the end of turn {turn + 1} (assistant), so that a model could "
                "not learn to stop"
            )
        end = self.ends.search(closing)
        closing = closing[: end.end()] if end else closing
        after = place + len(mark)
        if not text.startswith(closing, after):
            raise self._fault(f"ends turn {turn + 1} (assistant) otherwise once others follow")
        return len(prompt), after + len(closing)

    # --- what it makes of what is said

    def _as_written(self, parts: list[_Part], messages: Messages, text: str) -> dict[int, str]:
        """The contents as they stand in the rendered `text`, whose literal parts are known."""
        found: dict[int, str] = {}
        furthest = 0

        # A depth-first search, since one way to strip a content may fit and lead nowhere.
        stack: list[tuple[int, int, tuple[tuple[int, str], ...]]] = [(0, 0, ())]
        while stack:
            index, place, chosen = stack.pop()
            if index == len(parts):
                if place == len(text):
                    found.update(chosen)
                    return found
                continue
            part = parts[index]
            furthest = max(furthest, index)
            if part.turn is None:
                if text.startswith(part.text, place):
                    stack.append((index + 1, place + len(part.text), chosen))
                continue
            for form in reversed(_forms(messages[part.turn]["content"])):
                if text.startswith(form, place):
                    stack.append((index + 1, place + len(form), (*chosen, (part.turn, form))))
        turns = [part.turn for part in parts[: furthest + 1] if part.turn is not None]
        turn = turns[-1] if turns else 0
        role = messages[turn]["role"]
        raise self._fault(f"changes the text around or in turn {turn + 1} ({role}) by what it says")


def _forms(content: str) -> list[str]:
    """What templates make of a content, the likeliest first: as it is, stripped, or as JSON."""
    forms = [
        content, content.strip(), content.lstrip(), content.rstrip(),
        content.strip("\n"), content.lstrip("\n"), content.rstrip("\n"),
        json.dumps(content, ensure_ascii=False)[1:-1],
    ]  # fmt: skip
    return list(dict.fromkeys(forms))


def _cut(text: str, spans: Sequence[tuple[int, int]]) -> list[_Part]:
    """A layout's text in parts: at the marks, and where `spans` (trained) begin and end."""
    bounds = sorted({0, len(text), *(edge for span in spans for edge in span)})
    parts = []
    for start, end in pairwise(bounds):
        trained = any(a <= start and end <= b for a, b in spans)
        for number, piece in enumerate(_MARKS.split(text[start:end])):
            is_mark = number % 2 == 1
            if piece:
                parts.append(
                    _Part("", int(piece), trained) if is_mark else _Part(piece, None, trained)
                )
    return parts


def choose_template(
    tokenizer: "PreTrainedTokenizerBase", template: str | None = None
) -> ChatTemplate:
    """The template to use: `template` (Jinja, or "plain"), else the tokenizer's own, else plain.

    A tokenizer's own template writes BOS where it wants it; nothing is added to that.

    Raises:
        PipelineError: the tokenizer has several templates and none is the default, or no end token.
    """
    own = None
    if template is None and tokenizer.chat_template:
        try:
            own = tokenizer.get_chat_template()
        except ValueError as error:
            raise PipelineError(
                f"The tokenizer in {tokenizer.name_or_path} has several chat templates, and none "
                "is the default.",
                _WAY_OUT,
            ) from error
    variables: dict[str, Any] = {
        **tokenizer.special_tokens_map,
        "strftime_now": RENDERING_DAY.strftime,
    }
    source = own or template or PLAIN
    if source == PLAIN:
        end_id(tokenizer)
        source = PLAIN_TEMPLATE
        prefix = tokenizer.convert_ids_to_tokens(prefix_ids(tokenizer))
        variables["bos_token"] = "".join(prefix)
    name = tokenizer.name_or_path or "the tokenizer"
    return ChatTemplate(source, variables, name, special_tokens(tokenizer))


def special_tokens(tokenizer: "PreTrainedTokenizerBase") -> re.Pattern[str]:
    """Finds special tokens in a text, with the white space that each takes along."""
    added = tokenizer.added_tokens_decoder.values()
    special = sorted((t for t in added if t.special), key=lambda t: (-len(t.content), t.content))
    patterns = [
        r"\s*" * token.lstrip + re.escape(token.content) + r"\s*" * token.rstrip
        for token in special
    ]
    return re.compile("|".join(patterns) or "(?!)")

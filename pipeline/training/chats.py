"""What the later stages must know of a chat template: how a prompt looks, and how turns join."""

import itertools
from collections.abc import Mapping
from itertools import pairwise
from typing import TYPE_CHECKING, Any

from pipeline.corpus.encoding import Encoder
from pipeline.corpus.tokens import prefix_ids
from pipeline.corpus.turns import PLAIN_TEMPLATE, ChatTemplate, Messages, Segment, choose_template
from pipeline.errors import PipelineError

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase

_SYSTEM = {"role": "system", "content": "S"}
_TALK = [
    {"role": role, "content": f"{role[0].upper()}{n}"}
    for n in range(3)
    for role in ("user", "assistant")
]


def prompt_ids(
    tokenizer: "PreTrainedTokenizerBase", template: str | None, prompt: str | Messages
) -> list[int]:
    """The token ids of a prompt, as the first turn of a chat, or of the first turns of one, up to
    where the assistant speaks."""
    encoded = Encoder(tokenizer, template).chat(_answered(prompt))
    return encoded.ids[: encoded.mask().index(True)]


def rendered_prompt(
    tokenizer: "PreTrainedTokenizerBase", template: str | None, prompt: str | Messages
) -> str:
    """The same as text, with the special tokens spelled out."""
    segments = choose_template(tokenizer, template).segments(_answered(prompt))
    return "".join(s.text for s in itertools.takewhile(lambda s: not s.trained, segments))


def _answered(prompt: str | Messages) -> list[Mapping[str, str]]:
    turns = [{"role": "user", "content": prompt}] if isinstance(prompt, str) else prompt
    return [*turns, {"role": "assistant", "content": "x"}]


def describe_chat(
    tokenizer: "PreTrainedTokenizerBase", template: str | None, prompt: str | Messages
) -> dict[str, Any]:
    """What is recorded of the template that a model was trained with.

    `template` in Jinja; `prompt_ids` of the sample prompt; `ends`, the texts that end an
    assistant's turn; `joins`, what stands between turns, or None for a template that does not
    simply put one turn after the other. (See `joins_of` for the names.)
    """
    chosen = choose_template(tokenizer, template)
    source = chosen.source
    bos = "".join(tokenizer.convert_ids_to_tokens(prefix_ids(tokenizer)))
    if source == PLAIN_TEMPLATE and not bos:
        source = source.replace("{{ bos_token }}", "")  # others would fill it in
    joins = joins_of(chosen)
    if joins:  # llama.cpp adds BOS itself where the tokenizer does
        for name in ("before_system", "before_user"):
            joins[name] = joins[name].removeprefix(bos)
    return {
        "template": source,
        "prompt_ids": prompt_ids(tokenizer, template, prompt),
        "ends": _ends(chosen),
        "joins": joins,
    }


def joins_of(template: ChatTemplate) -> dict[str, str] | None:
    """What a template writes before, between and after turns; None if that differs from turn to
    turn, or the assistant has to write more than blanks before its answer.

    `before_system` and `before_user` (at the start of a chat without a system prompt),
    `system_to_user`, `user_to_assistant`, `before_answer` (blanks that the assistant writes) and
    `assistant_to_user`. A template that takes no system prompt has no `before_system` and writes
    `system_to_user` "".
    """
    segments = template.segments(_TALK)
    plain = _literals(segments)
    answers = {
        one.text if one.from_template and one.trained else ""
        for one, following in pairwise(segments)
        if following.trained and not following.from_template
    }
    if len(set(plain[1::2])) > 1 or len(set(plain[2:-1:2])) > 1 or len(answers) > 1:
        return None
    before_answer = answers.pop()
    if before_answer.strip():
        return None
    joins = {
        "before_user": plain[0],
        "user_to_assistant": plain[1].removesuffix(before_answer),
        "before_answer": before_answer,
        "assistant_to_user": plain[2],
        "before_system": "",
        "system_to_user": "",
    }
    try:
        with_system = _literals(template.segments([_SYSTEM, *_TALK]))
    except PipelineError:  # it takes no system prompt
        return joins
    if with_system[2:] != plain[1:]:
        return None
    return joins | {"before_system": with_system[0], "system_to_user": with_system[1]}


def _literals(segments: list[Segment]) -> list[str]:
    """The template's text before, between and after the contents."""
    texts = [""]
    for segment in segments:
        if segment.from_template:
            texts[-1] += segment.text
        else:
            texts.append("")
    return texts


def _ends(template: ChatTemplate) -> list[str]:
    """What the assistant writes after an answer, which ends it."""
    segments = template.segments(_TALK[:2])
    last = max(i for i, segment in enumerate(segments) if not segment.from_template)
    closing = "".join(segment.text for segment in segments[last + 1 :] if segment.trained)
    return [closing.strip()] if closing.strip() else []

"""What a model goes on from in its samples: what the user gives, else what suits the data.

The beginnings of novels say nothing of a model that learnt to answer questions. One that is
trained on prompts with completions, or on chats, is asked what records ask that it does not see in
training, in their own form.
"""

import heapq
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from pipeline.corpus.examples import Shape
from pipeline.scoring.samples import text_ids
from pipeline.training.chats import prompt_ids, rendered_prompt
from pipeline.training.data import Sample
from pipeline.training.held_out import draw
from pipeline.training.settings import DEFAULT_PROMPTS, TrainSettings

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase

HELD_OUT_RECORDS = "held-out records"  # where prompts are from that nobody gave

TOLD = ("prompt", "prompts", "prompts_from", "prompt_in_template", "turns")

_LOOKED_AT = 200  # records among which prompts are looked for
_LONGEST = 600  # characters of a prompt that is still read with pleasure


@dataclass(frozen=True)
class Asked:
    """A prompt: a text, or the turns of a chat before its first answer, of which `text` is the
    user's. `is_held_out` tells one of a record from one that was given."""

    text: str
    turns: tuple[Mapping[str, str], ...] = ()
    is_held_out: bool = False

    def given(
        self, tokenizer: "PreTrainedTokenizerBase", template: str | None
    ) -> str | list[int]:  # fmt: skip
        """As a model is given it: a chat as the token ids of its template."""
        return prompt_ids(tokenizer, template, self.turns) if self.turns else self.text

    def as_value(self) -> str | list[dict[str, str]]:
        """For JSON."""
        return [dict(turn) for turn in self.turns] if self.turns else self.text

    @property
    def characters(self) -> int:
        """How long it is."""
        return sum(len(turn["content"]) for turn in self.turns) if self.turns else len(self.text)


def choose_prompts(
    settings: TrainSettings,
    kind: Shape,
    held_out: Sequence[Sample],
    tokenizer: "PreTrainedTokenizerBase",
) -> list[Asked]:
    """The prompts of a run: those of `--sample-prompt`, else of held-out records as many as there
    are defaults (or fewer, if there are no more), drawn by their ids; of texts the defaults.

    What does not fit into a sequence together with what is to be written is not taken.
    """
    if kind != "text" and settings.sample_prompts == DEFAULT_PROMPTS:
        room = settings.sequence_length - settings.sample_tokens
        found = _of_records(held_out, tokenizer, settings.chat_template, room)
        if found:
            return found
    return [_as_asked(text, kind) for text in settings.sample_prompts]


def recorded_prompts(
    rows: Sequence[Mapping[str, Any]], settings: TrainSettings, kind: str
) -> list[Asked]:
    """The prompts that the lines of `evaluations.jsonl` name, else those of the settings."""
    values = next((row["prompts"] for row in reversed(rows) if row.get("prompts")), None)
    if values is None:
        return [_as_asked(text, kind) for text in settings.sample_prompts]
    texts = [value if isinstance(value, str) else str(value[-1]["content"]) for value in values]
    is_held_out = tuple(texts) != settings.sample_prompts
    return [
        Asked(text, () if isinstance(value, str) else tuple(value), is_held_out)
        for text, value in zip(texts, values, strict=True)
    ]


def told_prompts(
    asked: Sequence[Asked], tokenizer: "PreTrainedTokenizerBase | None", template: str | None
) -> dict[str, Any]:
    """What `evaluation.json` says of the prompts (TOLD): of chats, for which there must be a
    tokenizer, also all turns, and the first as a model reads it."""
    told: dict[str, Any] = {
        "prompt": asked[0].text, "prompts": [one.text for one in asked],
    }  # fmt: skip
    if any(one.is_held_out for one in asked):
        told["prompts_from"] = HELD_OUT_RECORDS
    if asked[0].turns and tokenizer is not None:
        told["prompt_in_template"] = rendered_prompt(tokenizer, template, asked[0].turns)
        told["turns"] = [one.as_value() for one in asked]
    return told


def _as_asked(text: str, kind: str) -> Asked:
    return Asked(text, ({"role": "user", "content": text},) if kind == "chat" else ())


def _of_records(
    held_out: Sequence[Sample],
    tokenizer: "PreTrainedTokenizerBase",
    template: str | None,
    room: int,
) -> list[Asked]:
    """Different prompts of records, those first that are not too long to read."""
    drawn = heapq.nsmallest(_LOOKED_AT, held_out, key=lambda sample: draw(sample.id))
    prompts = {str(asked.as_value()): asked for asked in map(_first_of, drawn)}
    found: list[Asked] = []
    for asked in sorted(prompts.values(), key=lambda asked: asked.characters > _LONGEST):
        given = asked.given(tokenizer, template)
        if len(text_ids(tokenizer, given) if isinstance(given, str) else given) <= room:
            found.append(asked)
        if len(found) == len(DEFAULT_PROMPTS):
            break
    return found


def _first_of(sample: Sample) -> Asked:
    """What a record asks first."""
    if sample.kind == "completion":
        return Asked(str(sample.content["prompt"]), is_held_out=True)
    turns = list[Mapping[str, str]](sample.content["messages"])
    first = next(i for i, turn in enumerate(turns) if turn["role"] == "assistant")
    return Asked(turns[first - 1]["content"], tuple(turns[:first]), is_held_out=True)

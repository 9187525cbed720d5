"""Two models on the same prompts, side by side: on a terminal, in Markdown, as JSON."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from pipeline import console
from pipeline.asked import recorded_prompts
from pipeline.hub.markdown import Markdown, cell
from pipeline.memorisation import Copied, TrainingText
from pipeline.scoring.sampling import Answer, Sampling
from pipeline.training.adapter_sources import read_evaluation
from pipeline.training.scored_models import Candidate
from pipeline.training.settings import DEFAULT_PROMPTS
from pipeline.workspace import Workspace
from pipeline.writers import Form, Writer, as_line, open_writer, proof_of, told

NO_TEXT = "There is no training text beside this model (4_dataset, 3_chunks) to compare with."


@dataclass(frozen=True)
class Sample:
    """One text that one of the models wrote."""

    prompt: str
    seed: int
    answer: Answer
    copied: Copied | None = None

    def as_dict(self) -> dict[str, Any]:
        """Plain values, for JSON."""
        found = {"prompt": self.prompt, "seed": self.seed, **self.answer.as_dict()}
        return found | ({"overlap": self.copied.as_dict()} if self.copied else {})


@dataclass(frozen=True)
class Comparison:
    """What base and tuned model wrote: for each prompt as many samples, in order."""

    models: tuple[Candidate, Candidate]
    sampling: Sampling
    per_prompt: int
    chat: bool
    samples: tuple[list[Sample], list[Sample]]
    has_training_text: bool

    @property
    def names(self) -> tuple[str, str]:
        """What heads the columns."""
        return f"{self.models[0].name} (base)", f"{self.models[1].name} (tuned)"

    def rows(self) -> Iterator[tuple[Sample, Sample]]:
        """What both wrote after the same prompt with the same seed."""
        return zip(*self.samples, strict=True)

    def as_dict(self) -> dict[str, Any]:
        """Plain values, for JSON."""
        return {
            "settings": self.sampling.as_dict(),
            "samples_per_prompt": self.per_prompt,
            "chat": self.chat,
            "models": [
                {"name": name, "kind": model.kind, "place": model.place, "base": model.base,
                 "samples": [sample.as_dict() for sample in samples]}
                for name, model, samples in zip(self.names, self.models, self.samples, strict=True)
            ],
        }  # fmt: skip


def compare(
    base: Candidate,
    tuned: Candidate,
    cache: Path,
    prompts: Sequence[str],
    sampling: Sampling,
    *,
    per_prompt: int = 1,
    form: Form | None = None,
    context: int = 0,
    training: TrainingText | None = None,
) -> Comparison:
    """Let both write after the same prompts, in the form that the tuned model was trained with.

    Sample number i of every prompt has the seed `sampling.seed + i`. One model is in memory at a
    time.

    Raises PipelineError for a model that cannot be loaded, or a prompt that it cannot take.
    """
    with console.progress("Writing", 2 * len(prompts) * per_prompt, "texts") as advance:
        with open_writer(tuned, cache, form, context) as writer:
            chosen = writer.form
            by_tuned = _samples(writer, prompts, sampling, per_prompt, advance)
        with open_writer(base, cache, chosen, context) as writer:
            by_base = _samples(writer, prompts, sampling, per_prompt, advance)
    if training is not None:
        both = searched(training, [*by_base, *by_tuned])
        by_base, by_tuned = both[: len(by_base)], both[len(by_base) :]
    return Comparison(
        (base, tuned), sampling, per_prompt, chosen.chat, (by_base, by_tuned), training is not None
    )


def _samples(
    writer: Writer,
    prompts: Sequence[str],
    sampling: Sampling,
    per_prompt: int,
    advance: console.Advance,
) -> list[Sample]:
    found = []
    for prompt in prompts:
        for number in range(per_prompt):
            numbered = sampling.numbered(number)
            answer = writer.write(prompt, numbered)
            found.append(Sample(prompt, numbered.seed, answer))
            advance(note=writer.candidate.name)
    tokens = sum(one.answer.tokens for one in found)
    seconds = sum(one.answer.seconds + one.answer.prompt_seconds for one in found)
    console.say(
        f"generate: {writer.candidate.name}: {len(found):,} texts, {tokens:,} tokens in "
        f"{console.duration(seconds)} ({tokens / max(seconds, 1e-9):,.1f} tokens/s)"
    )
    return found


def own_prompts(workspace: Workspace, tuned: Candidate) -> list[str]:
    """What a model was asked for its samples in training, where that is known: a model of records
    is asked what records ask. Else the beginnings of novels."""
    place = Path(tuned.place).expanduser()
    told = proof_of(workspace) if tuned.kind == "gguf" else None
    evaluation = (told or {}).get("evaluation")
    if tuned.kind != "gguf" and place.is_dir():
        evaluation = read_evaluation(place)
    found = recorded_prompts(evaluation) if isinstance(evaluation, dict) else []
    return found or list(DEFAULT_PROMPTS)


def searched(training: TrainingText, samples: Sequence[Sample]) -> list[Sample]:
    """The same samples, with what each has from the training text."""
    copied = training.copied([sample.answer.text for sample in samples])
    return [replace(one, copied=own) for one, own in zip(samples, copied, strict=True)]


def as_table(found: Comparison) -> dict[str, Any]:
    """For `printing.print_table`: a row for each prompt and seed."""
    columns = ["prompt", *found.names]
    rows: list[dict[str, Any]] = []
    for base, tuned in found.rows():
        head = base.prompt if found.per_prompt == 1 else f"{base.prompt}\n(seed {base.seed})"
        texts = [one.answer.text.strip() + "\n" for one in (base, tuned)]
        rows.append(dict(zip(columns, (head, *texts), strict=True)))
        if base.copied and tuned.copied:
            told = (base.copied.told() + "\n", tuned.copied.told() + "\n")
            cells = [(text, "dim") for text in ("copied from the training text", *told)]
            rows.append(dict(zip(columns, cells, strict=True)))
    return {"columns": columns, "rows": rows, "long": columns}


def as_markdown(found: Comparison) -> str:
    """A document of its own: the models, the settings, and each prompt with what they wrote."""
    of = {"gguf": "a GGUF", "model": "a whole model", "adapter": "an adapter"}
    lines = ["# Base and tuned model on the same prompts", ""]
    for role, model in zip(("Base", "Tuned"), found.models, strict=True):
        on = f" on {cell(model.base)}" if model.base else ""
        lines.append(f"- {role}: {cell(model.name)} ({of[model.kind]}{on})")
    first, last = found.sampling.seed, found.sampling.numbered(found.per_prompt - 1).seed
    seeds = f"seed {first}" if first == last else f"seeds {first} to {last}"
    given = "the first turn of a chat" if found.chat else "text to go on from"
    settings = {k: v for k, v in found.sampling.as_dict().items() if k != "seed"}
    lines += [
        f"- Settings: {cell(as_line(settings))}",
        f"- Of each prompt, given as {given}: {seeds}. All that was written is here.",
    ]
    if not found.has_training_text:
        lines.append(f"- {NO_TEXT}")
    prompts = list(dict.fromkeys(sample.prompt for sample in found.samples[0]))
    for number, prompt in enumerate(prompts, 1):
        quote = "\n".join(f"> {cell(line)}".rstrip() for line in prompt.splitlines())
        lines += ["", f"## Prompt {number}", "", quote, ""]
        lines += [f"| seed | {' | '.join(map(cell, found.names))} |", "| --- | --- | --- |"]
        for pair in found.rows():
            if pair[0].prompt != prompt:
                continue
            texts = " | ".join(_paragraphs(one.answer.text) for one in pair)
            lines.append(f"| {pair[0].seed} | {texts} |")
            if found.has_training_text:
                told = " | ".join(cell(one.copied.told() if one.copied else "") for one in pair)
                lines.append(f"| copied | {told} |")
    if found.has_training_text:
        lines += [
            "",
            "“Copied” is the longest stretch that stands word for word in the training text, "
            "with the book.",
        ]
    return "\n".join(lines) + "\n"


def _paragraphs(text: str) -> Markdown:
    """A text as one cell, its lines kept apart."""
    return Markdown("<br>".join(cell(line) for line in text.strip().splitlines()))


def print_copied(samples: Sequence[Sample], name: str) -> None:
    """Say of each sample what it has from the training text, with the stretch itself."""
    for number, one in enumerate(samples, 1):
        if one.copied is None:
            continue
        which = f"{name}: " if len(samples) == 1 else f"{name}, sample {number}: "
        quote = one.copied.quoted()
        console.say(
            f"{which}longest stretch that stands in the training text: {one.copied.told()}"
            + (f": “{quote}”" if quote.strip() else "")
        )


def tell_speed(sample: Sample, name: str) -> None:
    """Say how fast a sample was written."""
    console.say(told(sample.answer, name, sample.seed))

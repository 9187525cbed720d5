"""The card of a model repository: its README.md, YAML front matter and Markdown.

All of it comes from what the stages recorded. Whatever is missing there, as in the proof of an
older version, is left out or said to be missing; nothing is made up.
"""

import math
import re
from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

from pipeline.hub.card import language_codes
from pipeline.hub.making import without_path
from pipeline.hub.markdown import cell, code_block, code_span, one_line, table
from pipeline.hub.model_data import about_data, about_memorisation, about_samples
from pipeline.hub.model_running import how_to_run
from pipeline.hub.model_tables import (
    is_of_other_text,
    part_of_text,
    proof_rows,
    score_rows,
)
from pipeline.hub.provenance import PRODUCT, SETTINGS_FILE
from pipeline.hub.told import MERGED, PICTURE, Told

if TYPE_CHECKING:
    from huggingface_hub import EvalResult, ModelCardData

_LICENCE = re.compile(r"[a-z0-9][a-z0-9.+-]*")


def model_card(told: Told) -> str:
    """The README.md of a repository with these files."""
    from huggingface_hub import ModelCard

    body = [
        f"# {cell(told.name) or 'Model'}",
        *_what_it_is(told),
        *how_to_run(told),
        *_prompt_format(told),
        *_scores(told),
        *_proof(told),
        *_training(told),
        *about_data(told),
        *about_samples(told),
        *about_memorisation(told),
        *_limits(told),
        *_reproduction(told),
    ]
    front = front_matter(told).to_yaml()
    return str(ModelCard(f"---\n{front}\n---\n\n" + "\n\n".join(body) + "\n"))


def front_matter(told: Told) -> "ModelCardData":
    """The card's metadata, for the Hub to read."""
    from huggingface_hub import ModelCardData

    is_whole = bool(told.ggufs) or told.has(MERGED)
    method = str(told.settings.get("method") or "lora")
    runs_in = ["gguf", "llama.cpp", "ollama"] if told.ggufs or told.adapter_gguf else []
    how = ["from-scratch"] if told.is_from_scratch else ["fine-tuned", method]
    results = _eval_results(told)
    more: dict[str, Any] = {**licence_fields(told.licence or told.base.get("licence"))}
    if told.base_id:
        more["base_model_relation"] = "finetune" if is_whole else "adapter"
    return ModelCardData(
        **more,
        language=language_codes(book.language for book in told.books) or None,
        base_model=told.base_id,
        datasets=[told.dataset_id] if told.dataset_id else None,
        tags=[*runs_in, *how, "chat" if told.is_chat else "text-completion"],
        pipeline_tag="text-generation",
        library_name="gguf" if runs_in else ("transformers" if is_whole else "peft"),
        eval_results=results or None,
        model_name=(one_line(told.name) or "model") if results else None,
    )


def licence_fields(licence: object) -> dict[str, str]:
    """A licence as front matter: the Hub's own word for it, else under a name of its own."""
    words = one_line(str(licence or ""))
    if not words:
        return {"license": "unknown"}
    if _LICENCE.fullmatch(words):
        return {"license": words}
    return {"license": "other", "license_name": words[:100]}


def _eval_results(told: Told) -> list["EvalResult"]:
    from huggingface_hub import EvalResult

    if is_of_other_text(told.proof):
        return []  # it says how much each form loses, and not how good the model is
    return [
        EvalResult(
            task_type="text-generation", task_name="Text generation",
            dataset_type=told.dataset_id or "held-out-text",
            dataset_name="Held-out text", dataset_split="validation",
            metric_type="bits_per_byte",
            metric_name=f"Bits per byte ({row.name})"
            + (f" on {row.of_part:,} bytes of it" if row.of_part else ""),
            metric_value=round(row.bits, 4),
        )
        for row in score_rows(told.proof, told.evaluation)
        if row.bits is not None and math.isfinite(row.bits) and row.is_tuned
    ]  # fmt: skip


def _what_it_is(told: Told) -> Iterator[str]:
    base = told.base_id
    name = f"[{base}](https://huggingface.co/{base})" if base else cell(told.base_name)
    data = told.data_in_words
    if told.is_from_scratch:
        yield f"A language model that was trained from nothing on {data}."
    else:
        revision = told.base.get("revision")
        at = f" ({cell(revision)})" if revision else ""
        how = "every weight" if told.settings.get("method") == "full" else "an adapter"
        yield f"{name}{at}, fine-tuned ({how}) on {data}."
        source = told.base.get("source")
        if source and told.base_id and not told.base_is_of_the_hub:
            yield f"The weights that the training began with: {cell(without_path(source))}."
    if told.is_chat:
        yield "It answers in a chat, in the form that it was trained on."
    elif told.evaluation.get("kind") == "completion":
        yield "It completes prompts of the kind that it was trained on."
    else:
        yield (
            "It is a text-completion model: give it the beginning of a text, and it goes on from "
            "there. It does not answer questions or follow instructions."
        )
    if told.proof_level == "none":
        yield "> **Unproven.** Nobody checked that these files are the model that was trained."
    yield table(("file", "bytes"), ((name, size) for name, size in sorted(told.files.items())))


def _prompt_format(told: Told) -> Iterator[str]:
    yield "## Prompt format"
    chat = told.evaluation.get("chat")
    if chat:
        yield "Turns of a chat, put together by this template, which is also in the files:"
        yield code_block(str(chat.get("template") or "(not recorded)"), "jinja")
        if asked := told.evaluation.get("prompt_in_template"):
            yield "A prompt in it, up to where the model answers:"
            yield code_block(str(asked))
    elif told.is_of_records:
        yield (
            "A prompt in the form of those that it was trained on, and nothing else: no template, "
            "no system prompt. One of them:"
        )
        yield code_block(told.prompt)
    else:
        yield "The text to go on from and nothing else: no template, no system prompt."
    ends = told.proof.get("end_tokens") or []
    spelled = ", ".join(code_span(str(end)) for end in ends) or "none"
    facts = [f"Tokens that end {'an answer' if told.is_of_records else 'a text'}: {spelled}"]
    if context := told.proof.get("context") or told.evaluation.get("sequence_length"):
        shown = f"{context:,}" if isinstance(context, int) else cell(context)
        facts.append(f"Tokens that it saw at once in training: {shown}")
    yield "\n".join(f"- {fact}" for fact in facts)


def _scores(told: Told) -> Iterator[str]:
    rows = score_rows(told.proof, told.evaluation)
    yield "## Scores"
    held_out = told.evaluation.get("held_out") or {}
    documents = held_out.get("documents") or []
    size = f"{held_out['bytes']:,} bytes" if isinstance(held_out.get("bytes"), int) else "some text"
    noun = "document" if len(documents) == 1 else "documents"
    part = part_of_text(told.proof)
    each = (
        f"Base and trained model on the held-out text that training scored ({size} of"
        f" {len(documents):,} {noun}), the others on {part:,} bytes of it: compare these with one"
        " another"
        if part is not None
        else f"All on the same held-out text ({size} of {len(documents):,} {noun})"
    )
    if is_of_other_text(told.proof):
        each = (
            f"There was no held-out text: these are scores of {part or 0:,} bytes of sample texts, "
            "and say how much each file loses, not how good the model is"
        )
    else:
        each += ". None of them was trained on it here"
    yield f"{each}. Bits per byte: less is better; it does not depend on the tokenizer."
    columns = {"model": [row.name for row in rows]}
    for title, values in (
        ("bits per byte", [_number(row.bits) for row in rows]),
        ("above the merged model", [_number(row.difference, "+") for row in rows]),
        ("same next token", [f"{row.top1:.2%}" if row.top1 is not None else "" for row in rows]),
        ("mean KL", [_number(row.kl) for row in rows]),
        ("tokens per second", [_number(row.speed, digits=1) for row in rows]),
    ):
        if any(values):
            columns[title] = values
    yield table(tuple(columns), zip(*columns.values(), strict=True))


def _number(value: float | None, sign: str = "", digits: int = 4) -> str:
    return "" if value is None else f"{value:{sign},.{digits}f}"


def _proof(told: Told) -> Iterator[str]:
    yield "## Proof"
    if told.proof_level == "none":
        yield "**Unproven**: the proof was switched off when these files were made."
        return
    rows = proof_rows(told.proof)
    level = f" ({cell(told.proof_level)})" if told.proof_level else ""
    yield (
        f"What was checked when the files were made{level}. Each GGUF was loaded by llama.cpp, "
        "scored on the held-out text, and went on from a prompt."
    )
    if rows:
        yield table(("check", "result"), rows)


def _training(told: Told) -> Iterator[str]:
    yield "## Training"
    found = told.run
    trained, length = found.get("trained") or {}, found.get("length") or {}
    about: list[tuple[str, object]] = [
        ("steps", length.get("steps")), ("passes over the data", length.get("epochs")),
        ("tokens", trained.get("tokens")), ("seconds", trained.get("seconds")),
        ("computed in", (found.get("precision") or {}).get("name")),
        *((name.replace("_", " "), told.settings.get(name)) for name in
          ("method", "rank", "alpha", "learning_rate", "scheduler", "sequence_length", "seed")),
    ]  # fmt: skip
    yield table(("", ""), [(name, value) for name, value in about if value not in (None, "")])
    yield "All settings stand under [How to make it again](#how-to-make-it-again)."
    if PICTURE in told.files:
        yield f"![Loss by step]({PICTURE})"


def _limits(told: Told) -> Iterator[str]:
    yield "## Limits"
    lines = [
        "It writes as its "
        + (
            "records do, and may repeat what stands in them."
            if told.is_of_records
            else "books do, and may repeat what they believed and said of people."
        ),
        "What it says of the world is invention; it is no source of facts.",
        "It may repeat passages of its training text, more often than the few samples here show.",
        "The scores are of text like the training text; they say nothing about other uses.",
    ]
    if told.kind == "completion":
        lines.insert(0, "It was trained to answer as its records do, and not to refuse anything.")
    elif not told.is_chat:
        lines.insert(0, "It has no notion of instructions, and was not trained to refuse anything.")
    yield "\n".join(f"- {line}" for line in lines)


def _reproduction(told: Told) -> Iterator[str]:
    origin = told.provenance
    yield "## How to make it again"
    if origin.command:
        yield (
            f"With {PRODUCT}, in the version below: save the settings below as `{SETTINGS_FILE}` "
            "(the file is also here), then:"
        )
        yield code_block(origin.command, "bash")
    needs = [*origin.missing, *origin.by_hand]
    if needs:
        yield "That alone is not enough:\n\n" + "\n".join(f"- {cell(need)}" for need in needs)
    if origin.data is not None:
        sha256, files = origin.data
        yield (
            f"The training data, {files:,} file{'' if files == 1 else 's'}, have the hash "
            f"`{sha256}`, as this prints it in the folder of the dataset:"
        )
        yield code_block(origin.data_command, "bash")
    yield table(("program", "version"), origin.versions.items())
    yield code_block(origin.settings, "yaml")

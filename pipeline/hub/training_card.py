"""The card of a model under training: short, and plain about what nobody has checked."""

import math
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any, Protocol

from pipeline.hub.card import is_repo_id
from pipeline.hub.markdown import cell, code_block, table
from pipeline.hub.model_card import licence_fields
from pipeline.hub.provenance import PRODUCT, SETTINGS_FILE


class Trained(Protocol):
    """Weights, and what is known of them; see `training.publishing_best.News`."""

    @property
    def run(self) -> str: ...
    @property
    def step(self) -> int: ...
    @property
    def steps(self) -> int: ...
    @property
    def bits_per_byte(self) -> float: ...
    @property
    def before(self) -> float: ...
    @property
    def held_out_bytes(self) -> int: ...
    @property
    def base(self) -> Mapping[str, Any]: ...
    @property
    def method(self) -> str: ...
    @property
    def kind(self) -> str: ...
    @property
    def from_scratch(self) -> bool: ...
    @property
    def finished(self) -> bool: ...


@dataclass(frozen=True)
class Texts:
    """What is known of the texts that are trained on: how many, those that are marked as under
    copyright, those whose rights nobody stated, and those whose name or author holds a reference
    to Project Gutenberg."""

    documents: int = 0
    protected: int = 0
    unknown: int = 0
    named: int = 0

    def __str__(self) -> str:
        """In a clause."""
        if not self.documents:
            return "nothing is known of the rights in the texts"
        parts = [f"of {self.documents:,} texts {self.protected:,} are marked as under copyright"]
        if self.unknown:
            parts.append(f"the rights in {self.unknown:,} are unknown")
        if self.named:
            parts.append(f"{self.named:,} refer to Project Gutenberg in title or author")
        return ", ".join(parts)


def training_card(news: Trained, repo_id: str, texts: Texts) -> str:
    """The README.md of a repository with these weights."""
    from huggingface_hub import ModelCard, ModelCardData

    is_whole = _is_whole(news)
    base = _base_id(news)
    relation = {"base_model_relation": "finetune" if is_whole else "adapter"} if base else {}
    how = ["from-scratch"] if news.from_scratch else ["fine-tuned", news.method]
    more: dict[str, Any] = {**licence_fields(news.base.get("licence")), **relation}
    front = ModelCardData(
        **more,
        base_model=base,
        tags=[*how, "chat" if news.kind == "chat" else "text-completion",
              *([] if news.finished else ["training-under-way"])],
        pipeline_tag="text-generation",
        library_name="transformers" if is_whole else "peft",
    ).to_yaml()  # fmt: skip
    body = [
        f"# {cell(repo_id.partition('/')[2])}",
        *_what_it_is(news, base),
        *_state(news),
        *_how_to_load(news, repo_id, base),
        *_not_checked(texts),
        f"The settings of the training are in [`{SETTINGS_FILE}`]({SETTINGS_FILE}), a settings "
        f"file of {PRODUCT}, which made this and pushed it.",
    ]
    return str(ModelCard(f"---\n{front}\n---\n\n" + "\n\n".join(body) + "\n"))


def _is_whole(news: Trained) -> bool:
    return news.from_scratch or news.method == "full"


def _base_id(news: Trained) -> str | None:
    """The base model's id on the Hub, if it has one there."""
    name = str(news.base.get("name") or "")
    is_there = is_repo_id(name) or news.base.get("source") == "Hugging Face Hub"
    return name if is_there and not news.from_scratch else None


def _what_it_is(news: Trained, base: str | None) -> Iterator[str]:
    if news.from_scratch:
        yield "A language model that is trained from nothing."
    else:
        named = str(news.base.get("name") or "an unknown model")
        shown = f"[{base}](https://huggingface.co/{base})" if base else cell(named)
        revision = news.base.get("revision")
        at = f" ({cell(revision)})" if revision else ""
        what = "every weight" if _is_whole(news) else "an adapter, in PEFT's format"
        yield f"{shown}{at}, fine-tuned: {what}."
    if news.kind == "text":
        yield "It goes on from the beginning of a text. It does not follow instructions."


def _state(news: Trained) -> Iterator[str]:
    if news.finished:
        yield f"**Training is finished.** These are the weights of step {news.step:,}."
    else:
        yield (
            f"> **Training is under way.** These are the best weights so far, of step "
            f"{news.step:,} of {news.steps:,}; better ones replace them, in one commit each."
        )
    rows = [("before training", news.before), (f"at step {news.step:,}", news.bits_per_byte)]
    yield table(
        ("bits per byte of the held-out text", f"{news.held_out_bytes:,} bytes of it"),
        ((name, f"{bits:.4f}") for name, bits in rows if math.isfinite(bits)),
    )
    yield (
        "Less is better. It was not trained on that text, but the best weights are chosen by it, "
        "so of other texts the score is a little too good."
    )


def _how_to_load(news: Trained, repo_id: str, base: str | None) -> Iterator[str]:
    if _is_whole(news):
        code = (
            "from transformers import AutoModelForCausalLM\n\n"
            f"model = AutoModelForCausalLM.from_pretrained({repo_id!r})"
        )
    else:
        code = (
            "from peft import PeftModel\nfrom transformers import AutoModelForCausalLM\n\n"
            f"base = AutoModelForCausalLM.from_pretrained({base or 'the base model'!r})\n"
            f"model = PeftModel.from_pretrained(base, {repo_id!r})"
        )
    yield code_block(code, "python")


def _not_checked(texts: Texts) -> Iterator[str]:
    yield "## Not checked"
    lines = [
        "The texts that it is trained on were not searched for references to Project Gutenberg "
        f"when this was pushed. As far as it is recorded, {texts}.",
        "How much of the training text it repeats word for word was not measured.",
        "Only the score above says how good it is. No GGUF was made or proven.",
    ]
    yield "\n".join(f"- {line}" for line in lines)

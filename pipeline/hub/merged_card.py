"""The README.md beside a merged model: its base, whose licence it has, and how it was made."""

import json
from collections.abc import Mapping
from typing import Any

from pipeline.hub.card import is_repo_id
from pipeline.hub.making import without_path
from pipeline.hub.markdown import cell, code_block, one_line, table
from pipeline.hub.model_card import licence_fields

_HUB = "Hugging Face Hub"
_KINDS = {
    "text": "It goes on from the beginning of a text, and takes no template.",
    "completion": "It completes prompts of the kind that it was trained on, and takes no template.",
    "chat": "It answers in a chat; the template is in the tokenizer's files.",
}


def merged_card(name: str, about: Mapping[str, Any], kind: str, licence_files: list[str]) -> str:
    """The README.md of a folder called `name`.

    `about` is the folder's record, `kind` what the model was trained on, `licence_files` those that
    came with the base and lie beside it.
    """
    from huggingface_hub import ModelCard, ModelCardData

    base = dict(about.get("base_model") or {})
    base_name = str(base.get("name") or "an unknown model")
    is_there = is_repo_id(base_name) or base.get("source") == _HUB
    more: dict[str, Any] = {**licence_fields(base.get("licence"))}
    if is_there:
        more |= {"base_model": base_name, "base_model_relation": "finetune"}
    front = ModelCardData(
        **more, library_name="transformers", pipeline_tag="text-generation"
    ).to_yaml()
    shown = f"[{base_name}](https://huggingface.co/{base_name})" if is_there else cell(base_name)
    revision = f" ({cell(base['revision'])})" if base.get("revision") else ""
    loads = (
        "from transformers import AutoModelForCausalLM, AutoTokenizer\n\n"
        f"model = AutoModelForCausalLM.from_pretrained({json.dumps(name)})\n"
        f"tokenizer = AutoTokenizer.from_pretrained({json.dumps(name)})"
    )
    body = [
        f"# {cell(name) or 'Model'}",
        f"{shown}{revision}, fine-tuned: the whole model, for transformers, vLLM and the like. "
        f"{_KINDS.get(kind, _KINDS['text'])}",
        code_block(loads, "python"),
        "## Licence",
        _licence(base, licence_files),
        "## How it was made",
        table(("", ""), _facts(about)),
        "`merge.json` has this for programs, with the size and the hash of each file.",
    ]
    return str(ModelCard(f"---\n{front}\n---\n\n" + "\n\n".join(body) + "\n"))


def _licence(base: Mapping[str, Any], files: list[str]) -> str:
    words = one_line(str(base.get("licence") or ""))
    told = (
        f"The licence of the base model: {cell(words)}."
        if words
        else "The licence of the base model is not known here: look where it comes from."
    )
    beside = f" Its text: {', '.join(map(cell, files))}." if files else ""
    return (
        f"{told}{beside} What is made from a model falls under its terms: read them before you "
        "pass it on. The texts that it was trained on have rights of their own."
    )


def _facts(about: Mapping[str, Any]) -> list[tuple[str, object]]:
    """How the model came about, line by line; what is not known is left out."""
    origin = dict(about.get("source") or {})
    other = about.get("merged_into")
    into = f"{other.get('name')}, the base in 16 bits" if isinstance(other, Mapping) else None
    rows: list[tuple[str, object]] = [
        ("made by", about.get("made_by")),
        ("what was merged", _ORIGINS.get(str(origin.get("kind")), origin.get("kind"))),
        ("it came from", without_path(origin.get("place")) if origin.get("place") else None),
        ("revision", origin.get("revision")), ("of step", origin.get("step")),
        ("merged into", into), ("stored in", about.get("dtype")),
        ("tensors", about.get("tensors")), ("of them trained", about.get("changed")),
    ]  # fmt: skip
    return [(name, value) for name, value in rows if value not in (None, "")]


_ORIGINS = {
    "run": "the result of the run",
    "checkpoint": "a checkpoint of the run",
    "folder": "an adapter from a folder",
    "hub": "an adapter from the Hugging Face Hub",
    "url": "an adapter from an address",
}

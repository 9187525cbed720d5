"""The files of a model beside its weights: configuration, generation settings, tokenizer."""

import json
import shutil
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from pipeline.errors import PipelineError
from pipeline.files import read_json_object, write_json

CHANGES = "base_changes.json"
NUMBERS = ("max_position_embeddings", "head_dim")
TOKENIZER_FILES = (
    "tokenizer.json",
    "tokenizer.model",
    "tokenizer_config.json",
    "special_tokens_map.json",
    "added_tokens.json",
    "vocab.json",
    "vocab.txt",
    "merges.txt",
    "spiece.model",
    "sentencepiece.bpe.model",
    "tekken.json",
    "tokenization_*.py",
)
CHAT_TEMPLATE_FILES = ("chat_template.jinja", "chat_template.json")


@dataclass(frozen=True)
class BaseChanges:
    """How training changed the base's configuration, as it left it in base_changes.json: keys of
    config.json with their new values, and the texts of new tokens."""

    rope_parameters: dict[str, Any] | None = None
    max_position_embeddings: int | None = None
    head_dim: int | None = None
    extra_tokens: tuple[str, ...] = ()


def read_base_changes(folder: Path) -> BaseChanges:
    """What the adapter's folder tells; nothing if it has no such file.

    Raises:
        PipelineError: the file is damaged, or tells of changes that are not known here.
    """
    path = folder / CHANGES
    if not path.is_file():
        return BaseChanges()
    values = {name: value for name, value in read_json_object(path).items() if value}
    rope, tokens = values.pop("rope_parameters", None), values.pop("extra_tokens", [])
    numbers = {name: values.pop(name, None) for name in NUMBERS}
    if values:
        raise PipelineError(
            f"{path} tells of a change that is not known here: {next(iter(values))!r}.",
            "Was it made by a newer version? Then merge with that one.",
        )
    if (
        not isinstance(rope, dict | None)
        or not all(isinstance(number, int | None) for number in numbers.values())
        or not (isinstance(tokens, list) and all(isinstance(token, str) for token in tokens))
    ):
        raise PipelineError(f"{path} is damaged: its values are of the wrong kind.")
    return BaseChanges(rope, **numbers, extra_tokens=tuple(tokens))


def write_config(
    folder: Path,
    config: Mapping[str, Any],
    *,
    dtype: str,
    changes: BaseChanges,
    untied: bool,
    vocabulary: int | None,
) -> None:
    """Write the base's config.json with what the merge changed; all else stays word for word."""
    top = dict(config)
    top.pop("quantization_config", None)
    text = text_part(top)
    if text is not top:
        text = top["text_config"] = dict(text)
    for part in (top, text):
        for name in ("dtype", "torch_dtype"):
            if name in part:
                part[name] = dtype
    if not {"dtype", "torch_dtype"} & top.keys():
        top["dtype"] = dtype
    if untied:
        top["tie_word_embeddings"] = False
        text["tie_word_embeddings"] = False
    if vocabulary is not None:
        for part in (top, text):
            if part is text or "vocab_size" in part:
                part["vocab_size"] = vocabulary
    if changes.rope_parameters is not None:
        theta = text.pop("rope_theta", None)
        text.pop("rope_scaling", None)
        text["rope_parameters"] = _with_theta(changes.rope_parameters, theta)
    for name in NUMBERS:
        if getattr(changes, name) is not None:
            text[name] = getattr(changes, name)
    write_json(folder / "config.json", top)


def text_part(config: dict[str, Any]) -> dict[str, Any]:
    """What concerns the text model: models that also see or hear keep it one level lower."""
    part = config.get("text_config")
    return part if isinstance(part, dict) else config


def _with_theta(rope: dict[str, Any], theta: Any) -> dict[str, Any]:
    """Older configurations keep the base frequency beside the others, newer ones with them."""
    layered = all(isinstance(value, dict) for value in rope.values())
    return rope if theta is None or layered else {"rope_theta": theta} | rope


def copy_generation_config(source: Path, out_dir: Path) -> None:
    """Copied as it is: many published ones fail the library's own check when they are saved."""
    original = source / "generation_config.json"
    if original.is_file():
        shutil.copyfile(original, out_dir / original.name)


def copy_tokenizer(source: Path, out_dir: Path, *, keep_chat_template: bool) -> None:
    """Copy the tokenizer's files as they are, but for the chat template."""
    wanted = TOKENIZER_FILES + (CHAT_TEMPLATE_FILES if keep_chat_template else ())
    for pattern in wanted:
        for file in source.glob(pattern):
            shutil.copyfile(file, out_dir / file.name)
    config = out_dir / "tokenizer_config.json"
    if keep_chat_template or not config.is_file():
        return
    settings = json.loads(config.read_text(encoding="utf-8"))
    if settings.pop("chat_template", None) is not None:
        write_json(config, settings)


def has_tokenizer(folder: Path) -> bool:
    """Whether a tokenizer lies in this folder."""
    return any((folder / name).is_file() for name in ("tokenizer.json", "tokenizer.model"))

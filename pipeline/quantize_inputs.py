"""What `pipeline quantize` works on: an adapter or a whole model, its base, what they were held
against, and how each is loaded to be asked."""

import filecmp
import json
import math
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING, Any

from pipeline.books.sample import sample_library
from pipeline.corpus.tokens import document_ids
from pipeline.errors import PipelineError
from pipeline.files import read_json_object, write_json
from pipeline.scoring.bits import Window, load_windows, windows
from pipeline.training.adapter_sources import Taken, read_evaluation
from pipeline.training.base_model import HUB_ID, BaseModel
from pipeline.training.scored_models import (
    Candidate,
    find_candidate,
    free_memory,
    holds_model,
    load_for_scoring,
)
from pipeline.training.settings import DEFAULT_PROMPTS
from pipeline.training.sources import Sample, files_in, samples_in, split_files
from pipeline.workspace import Workspace

if TYPE_CHECKING:
    import torch
    from transformers import PreTrainedTokenizerBase

_ENDS, _END_TOKENS, _END_CHARACTERS = 2, 64, 2000  # held-out documents whose ends are looked at
WINDOWS = "windows.json"
_WEIGHTS = "adapter_model.safetensors"
_UNKNOWN_CONTEXT = 2048
_BODY = 3000  # characters after which a tale of the sample library has begun
_OTHER_TOKENS = 2048
_READ_AT_MOST = 200_000_000  # bytes of tables that are read for these


def trained_model(adapter: Path, base: BaseModel) -> Candidate:
    """What was trained: the adapter on this base, or a whole model."""
    if holds_model(adapter):
        return find_candidate(str(adapter))
    return Candidate(adapter.name, "adapter", str(adapter), str(base.path))


@contextmanager
def loaded(
    candidate: Candidate, workspace: Workspace, wide: bool
) -> Iterator[tuple[Any, "torch.dtype | None"]]:
    """A model to be asked: in float32 if that is wanted and its weights are not quantized."""
    found = load_for_scoring(candidate, workspace.cache / "base")
    wide = wide and getattr(found.model.config, "quantization_config", None) is None
    try:
        yield found.model.float() if wide else found.model, None if wide else found.autocast
    finally:
        del found
        free_memory()


def ends_of_documents(
    workspace: Workspace, tokenizer: "PreTrainedTokenizerBase"
) -> list[list[int]]:
    """The last tokens of some held-out documents with the end token; [] where the dataset of texts
    is not on this disk, or large. Whether a model ends there is only reported."""
    record = workspace.record("train")
    dataset = (
        Path(record.settings.get("dataset") or workspace.directory("upload")) if record else None
    )
    if dataset is None or not dataset.exists():
        return []
    with suppress(PipelineError):
        _, held_out = split_files(files_in(dataset))
        if sum(path.stat().st_size for path in held_out) <= _READ_AT_MOST:
            texts = [
                sample.text for sample in islice(samples_in(held_out, "text", "document"), _ENDS)
            ]
            ids = [document_ids(tokenizer, text[-_END_CHARACTERS:]) for text in texts]
            return [tail[-_END_TOKENS:] for tail in ids if len(tail) > 1]
    return []


def evaluation_of(taken: Taken, workspace: Workspace) -> tuple[dict[str, Any], Path | None]:
    """What was measured of an adapter in training, and its held-out windows.

    Of one that came without these, those of stage 6 if it is the same adapter; else what has to be
    known of any model, without scores, and no windows.
    """
    finished = workspace.directory("train")
    for folder in (taken.folder, finished):
        if folder != taken.folder and not _same_weights(folder, taken.folder):
            continue
        found = taken.evaluation if folder == taken.folder else read_evaluation(folder)
        if found is not None:
            is_there = (folder / WINDOWS).is_file()
            return _made_sound(found), folder / WINDOWS if is_there else None
    return {
        "prompt": DEFAULT_PROMPTS[0], "sequence_length": _context_of(taken.base.path),
        "samples": {}, "settings": {}, "bits_per_byte": {"base": None, "adapter": None},
        "base_model": taken.base.as_dict(), "kind": "text",
    }, None  # fmt: skip


def _made_sound(found: Mapping[str, Any]) -> dict[str, Any]:
    """What an evaluation.json says, which a stranger may have written, in the form that later
    stages rely on: what is of another form is left out."""
    scores, samples, chat = (found.get(key) for key in ("bits_per_byte", "samples", "chat"))
    values = dict(found)
    measured = dict(_items(scores))
    for name in ("base", "adapter"):
        bits = measured.get(name)
        is_number = isinstance(bits, int | float) and math.isfinite(bits)
        measured[name] = bits if is_number else None
    values["bits_per_byte"] = measured
    values["samples"] = {name: text for name, text in _items(samples) if isinstance(text, str)}
    values["settings"] = dict(_items(found.get("settings")))
    if type(values["settings"].get("sample_tokens", 0)) is not int:
        del values["settings"]["sample_tokens"]
    if chat and not (
        isinstance(chat.get("ends"), list) and all(isinstance(end, str) for end in chat["ends"])
        and isinstance(chat.get("prompt_ids"), list)
        and all(type(token) is int for token in chat["prompt_ids"])
        and isinstance(chat.get("joins"), dict | None)
    ):  # fmt: skip
        del values["chat"]
    return values


def _items(value: Any) -> list[tuple[str, Any]]:
    return list(value.items()) if isinstance(value, dict) else []


def _same_weights(one: Path, other: Path) -> bool:
    """Whether two folders hold the same adapter."""
    files = (one / _WEIGHTS, other / _WEIGHTS)
    return all(path.is_file() for path in files) and filecmp.cmp(*files, shallow=False)


def _context_of(base: Path) -> int:
    config = read_json_object(base / "config.json")
    found = config.get("max_position_embeddings") or config.get("n_positions")
    return min(found, _UNKNOWN_CONTEXT) if type(found) is int else _UNKNOWN_CONTEXT


def belongs_to(windows: Path, tokenizer: "PreTrainedTokenizerBase") -> bool:
    """Whether held-out windows can be of this tokenizer.

    Raises PipelineError if they are damaged."""
    return all(max(w.ids, default=0) < len(tokenizer) for w in load_windows(windows))


def other_text(tokenizer: "PreTrainedTokenizerBase", length: int) -> list[Window]:
    """Windows of the sample library, for a model whose held-out text is not known."""
    tales = [
        Sample(path.name, {"text": path.read_text("utf-8", "ignore")[_BODY:]})
        for path in sorted(sample_library().glob("*.txt"))
    ]
    return windows(tokenizer, tales, length=length, max_tokens=_OTHER_TOKENS)


def dataset_of(workspace: Workspace) -> str | None:
    """The dataset of stage 6, or where stage 4 put it, if it is one of the Hub's."""
    train, upload = workspace.record("train"), workspace.record("upload")
    named = train.settings.get("dataset") if train else None
    if named is None and upload is not None:
        named = upload.settings.get("repo_id")
    is_id = isinstance(named, str) and HUB_ID.fullmatch(named) and not Path(named).exists()
    return named if is_id else None


def weights_of(folder: Path) -> int:
    """Bytes of the weights in a folder."""
    return sum(path.stat().st_size for path in folder.glob("*.safetensors"))


def set_chat_template(model: Path, template: str) -> None:
    """Make `template` the one of the model in this folder, which the GGUF then carries."""
    (model / "chat_template.json").unlink(missing_ok=True)
    (model / "chat_template.jinja").write_text(template, "utf-8")
    config = model / "tokenizer_config.json"
    if config.is_file():
        settings = json.loads(config.read_text("utf-8"))
        if settings.pop("chat_template", None) is not None:  # it would go before the other
            write_json(config, settings)

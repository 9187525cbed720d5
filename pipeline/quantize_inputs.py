"""What `pipeline quantize` works on: an adapter or a whole model, its base, what they were held
against, and how each is loaded to be asked."""

import json
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING, Any

from pipeline.corpus.tokens import document_ids
from pipeline.errors import PipelineError
from pipeline.files import write_json
from pipeline.training.base_model import BaseModel
from pipeline.training.scored_models import (
    Candidate,
    find_candidate,
    free_memory,
    holds_model,
    load_for_scoring,
)
from pipeline.training.sources import files_in, samples_in, split_files
from pipeline.workspace import Workspace

if TYPE_CHECKING:
    import torch
    from transformers import PreTrainedTokenizerBase

_ENDS, _END_TOKENS, _END_CHARACTERS = 2, 64, 2000  # held-out documents whose ends are looked at
_READ_AT_MOST = 200_000_000  # bytes of tables that are read for these


def trained_on(workspace: Workspace) -> tuple[str, Path, str | None]:
    """The base model that the adapter belongs to, as `resolve_base_model` takes it.

    The record of stage 6 knows how it was asked for; an adapter that came without one says only
    where the model lay when it was trained.
    """
    cache = workspace.cache / "base"
    record = workspace.record("train")
    if record is not None:
        return record.settings["base_model"], cache, record.settings["revision"]
    config = workspace.directory("train") / "adapter_config.json"
    return json.loads(config.read_text("utf-8"))["base_model_name_or_path"], cache, None


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

"""Write what was trained: an adapter as PEFT has it, or a whole model as Hugging Face has it."""

import json
import shutil
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

from pipeline.corpus.new_tokens import TOKENIZER_FILES, Extended
from pipeline.files import write_json
from pipeline.tensor_files import SHARD_SIZE, Stored
from pipeline.training.base_model import BaseModel
from pipeline.training.configs import run_config
from pipeline.training.settings import TrainSettings
from pipeline.training.whole_weights import check_finite, write_rounded

if TYPE_CHECKING:
    import torch

ADAPTER = "adapter_model.safetensors"
ADAPTER_CONFIG = "adapter_config.json"
BASE_CHANGES = "base_changes.json"
GENERATION_CONFIG = "generation_config.json"
HUB = "Hugging Face Hub"


def save_trained(
    model: Any,
    base: BaseModel,
    settings: TrainSettings,
    folder: Path,
    extended: Extended | None = None,
    stored: Mapping[str, Stored] | None = None,
) -> None:
    """Write what was trained into `folder`, as safetensors, with the tokenizer's own files.

    An adapter can be loaded by PEFT. What it needs of its base to be other than the base's files
    say is in `base_changes.json`: keys of config.json, and `extra_tokens` in the order of their
    ids. A whole model is stored in 16 bits. Where it has no data, these are the `stored` tensors,
    one after the other.

    Raises PipelineError: weights are not finite numbers in 16 bits.
    """
    folder.mkdir(parents=True, exist_ok=True)
    if settings.trains_everything:
        _save_model(model, base, settings, folder, stored)
    else:
        _save_adapter(model, base, folder)
        _save_changes(base, settings, extended, folder)
    (folder / "README.md").unlink(missing_ok=True)  # PEFT's form to be filled in
    for path in folder.glob("*.safetensors"):
        path.chmod(0o644)
    # Files, not what the loaded tokenizer would save: nothing of them was changed.
    source = extended.path if extended else base.path
    for pattern in TOKENIZER_FILES:
        for path in source.glob(pattern):
            shutil.copyfile(path, folder / path.name)


def _save_adapter(model: Any, base: BaseModel, folder: Path) -> None:
    is_public = base.source == HUB
    for peft_config in model.peft_config.values():
        # A path into the Hub's cache would mean nothing on another machine.
        peft_config.base_model_name_or_path = base.name if is_public else str(base.path)
        peft_config.revision = base.revision if is_public else None
    model.save_pretrained(folder, save_embedding_layers=False)
    # PEFT writes sets, in an order that differs from run to run.
    config_path = folder / ADAPTER_CONFIG
    config = json.loads(config_path.read_text("utf-8"))
    for key in ("target_modules", "modules_to_save"):
        if isinstance(config.get(key), list):
            config[key].sort()
    config_path.write_text(json.dumps(config, indent=2) + "\n", "utf-8")


def _save_changes(
    base: BaseModel, settings: TrainSettings, extended: Extended | None, folder: Path
) -> None:
    _, change = run_config(settings, base.path)
    changes: dict[str, Any] = change.as_dict() if change else {}
    if extended and extended.new:
        changes["extra_tokens"] = [token.text for token in extended.new]
    if changes:
        write_json(folder / BASE_CHANGES, changes)


def _save_model(
    model: Any,
    base: BaseModel,
    settings: TrainSettings,
    folder: Path,
    stored: Mapping[str, Stored] | None,
) -> None:
    from transformers import GenerationConfig

    wanted, _ = run_config(settings, base.path)
    original, dtype = model.generation_config, stored_dtype(base, settings)
    # Many published generation configs fail the library's own check when they are saved, so the
    # base's file is copied instead.
    try:
        with _cache_of(wanted, model.config):
            model.generation_config = GenerationConfig.from_model_config(model.config)
            if stored is not None:
                write_rounded(model, stored, folder, dtype, SHARD_SIZE)
            else:
                with _rounded(model, dtype):
                    model.save_pretrained(folder, max_shard_size=SHARD_SIZE)
    finally:
        model.generation_config = original
    published = base.path / GENERATION_CONFIG
    if settings.from_scratch is None and published.is_file():
        shutil.copyfile(published, folder / GENERATION_CONFIG)


def stored_dtype(base: BaseModel, settings: TrainSettings) -> "torch.dtype":
    """The 16 bits that a whole model is stored in: float16 if its base is, else bfloat16."""
    import torch

    if settings.from_scratch is not None:
        return torch.bfloat16
    config, _ = run_config(settings, base.path)
    half = config.dtype in (torch.float16, "float16")
    return torch.float16 if half else torch.bfloat16


@contextmanager
def _cache_of(wanted: Any, config: Any) -> Iterator[None]:
    """`config` with the `use_cache` of `wanted` for a while. The trainer switches it off for
    itself; a model that is saved so would write without a cache wherever it is loaded."""
    pairs = {
        id(part): (part, like)
        for part, like in (
            (config.get_text_config(decoder=True), wanted.get_text_config(decoder=True)),
            (config, wanted),
        )
        if hasattr(part, "use_cache") and hasattr(like, "use_cache")
    }
    before = [(part, part.use_cache) for part, _ in pairs.values()]
    try:
        for part, like in pairs.values():
            part.use_cache = like.use_cache
        yield
    finally:
        for part, value in before:
            part.use_cache = value


@contextmanager
def _rounded(model: Any, dtype: "torch.dtype") -> Iterator[None]:
    """`model` in another format for a while; afterwards it is exactly as it was."""
    exact = {p: p.data for p in model.parameters() if p.is_floating_point()}
    before = model.config.dtype
    try:
        for name, parameter in model.named_parameters():
            if parameter not in exact:
                continue
            parameter.data = exact[parameter].to(dtype)
            check_finite(parameter.data, name)
        yield
    finally:
        for parameter, data in exact.items():
            parameter.data = data
        model.config.dtype = before

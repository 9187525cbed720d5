"""Models that are only to be scored: what a name or folder means, and how it is loaded."""

import gc
import json
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from pipeline.errors import PipelineError
from pipeline.files import read_json_object
from pipeline.records import RECORD
from pipeline.training.base_model import (
    BaseModel,
    check_base_model,
    may_be_on_hub,
    resolve_base_model,
)
from pipeline.training.engine import Machine, choose_precision
from pipeline.training.gguf import check_gguf
from pipeline.training.libraries import quiet_libraries
from pipeline.training.saving import ADAPTER, ADAPTER_CONFIG, BASE_CHANGES
from pipeline.training.settings import context_length

if TYPE_CHECKING:
    import torch
    from transformers import PreTrainedTokenizerBase

Kind = Literal["model", "adapter", "gguf"]

_CONFIG_KEYS = ("rope_parameters", "max_position_embeddings", "head_dim")
_KNOWN = "Give a Hugging Face folder, an adapter's folder, a *.gguf file or a Hub id."


@dataclass(frozen=True)
class Candidate:
    """A model that is there. `place` is a folder, a file, or a name on the Hub; of an adapter
    `base` and `revision` are the model that it was made for."""

    name: str
    kind: Kind
    place: str
    base: str | None = None
    revision: str | None = None


@dataclass(frozen=True)
class Loaded:
    """A model ready to be scored. `context` is how many tokens it sees, if it says so."""

    model: Any
    tokenizer: "PreTrainedTokenizerBase"
    context: int | None
    autocast: "torch.dtype | None"


def find_candidate(spec: str, name: str | None = None, revision: str | None = None) -> Candidate:
    """What `spec` means: a folder with a model or an adapter, a GGUF, or a base model by its name.

    Fast, and loads nothing. Raises PipelineError if it is not there, or is no model.
    """
    path = Path(spec).expanduser()
    if path.suffix.lower() == ".gguf" and spec.strip():
        if not path.is_file():
            raise PipelineError(f"There is no GGUF file {spec}.", "Is the path right?")
        check_gguf(path)
        return Candidate(name or path.name, "gguf", str(path))
    if spec.strip() and path.is_dir():
        if holds_model(path):
            check_base_model(spec)
            return Candidate(name or path.resolve().name, "model", spec)
        if (path / ADAPTER_CONFIG).is_file():
            check_adapter(path)
            base, revision = base_of(path)
            return Candidate(name or path.resolve().name, "adapter", spec, base, revision)
        ggufs = sorted(path.glob("*.gguf"))
        raise PipelineError(
            f"{spec} holds no model: neither config.json nor {ADAPTER_CONFIG} is in it.",
            f"Give one of its GGUF files, such as {ggufs[0]}." if ggufs else _KNOWN,
        )
    if path.is_file():
        raise PipelineError(f"{spec} is no model that can be scored.", _KNOWN)
    if not may_be_on_hub(spec):
        raise PipelineError(f"There is no model {spec!r}.", f"Is the path right? {_KNOWN}")
    check_base_model(spec, revision)
    return Candidate(name or spec, "model", spec, revision=revision)


def holds_model(folder: Path) -> bool:
    """Whether a folder has a whole model in it, and no adapter or not only one."""
    weights = [path for path in folder.glob("*.safetensors") if path.name != ADAPTER]
    is_adapter = (folder / ADAPTER_CONFIG).is_file()
    return (folder / "config.json").is_file() and (bool(weights) or not is_adapter)


def check_adapter(folder: Path) -> None:
    """Raise PipelineError if the adapter's files are not there, or not whole."""
    from safetensors import SafetensorError, safe_open

    read_json_object(folder / ADAPTER_CONFIG)
    path = folder / ADAPTER
    if not path.is_file():
        raise PipelineError(
            f"There is no whole adapter in {folder}: {ADAPTER} is missing.",
            "Weights in other formats (*.bin) can run code when loaded: convert them first.",
        )
    try:
        with safe_open(path, framework="pt") as tensors:
            is_empty = not tensors.keys()
    except (SafetensorError, OSError) as error:
        raise PipelineError(
            f"The adapter {path} is damaged or not whole: {_line(error)}.", "Make it again."
        ) from error
    if is_empty:
        raise PipelineError(f"The adapter {path} holds no tensors.", "Make it again.")


def base_of(folder: Path) -> tuple[str, str | None]:
    """The model that an adapter was made for, and its revision, as `resolve_base_model` takes it.

    The record of stage 6 beside it knows how it was asked for; an adapter that came without one
    says only where the model lay when it was trained.

    Raises PipelineError if neither names a model that is there.
    """
    named: list[tuple[Any, Any]] = []
    record = folder / RECORD
    if record.is_file():
        settings = read_json_object(record).get("settings")
        if isinstance(settings, dict):
            named.append((settings.get("base_model"), settings.get("revision")))
    config = read_json_object(folder / ADAPTER_CONFIG)
    named.append((config.get("base_model_name_or_path"), config.get("revision")))
    found = [
        (base, revision if isinstance(revision, str) else None)
        for base, revision in named if isinstance(base, str) and base.strip()
    ]  # fmt: skip
    if not found:
        raise PipelineError(f"The adapter in {folder} does not say which model it was made for.")
    failure = None
    for base, revision in found:
        try:
            check_base_model(base, revision)
        except PipelineError as error:
            failure = failure or error
        else:
            return base, revision
    assert failure is not None
    raise PipelineError(
        f"The adapter in {folder} was made for {found[0][0]!r}, which is not to be had: "
        f"{failure.message}",
        failure.hint,
    )


def load_for_scoring(candidate: Candidate, cache_dir: Path) -> Loaded:
    """Load a model, or an adapter on its base, without gradients.

    In 16 bits where this machine computes in them, as in training. A base that an adapter changed
    (new tokens, stretched positions) is changed in the same way.

    Raises PipelineError if it is damaged, of a kind that needs code of its own, or too large.
    """
    quiet_libraries()
    base = resolve_base_model(candidate.base or candidate.place, cache_dir, candidate.revision)
    folder = Path(candidate.place).expanduser() if candidate.kind == "adapter" else None
    with _one_sentence(candidate, base.path):
        return _load(base, folder)


def _load(base: BaseModel, adapter: Path | None) -> Loaded:
    from transformers import AutoConfig, AutoModelForCausalLM, AutoTokenizer

    machine = Machine.detect()
    precision = choose_precision(machine)
    changes = read_base_changes(adapter) if adapter else {}
    local: dict[str, Any] = {"local_files_only": True, "trust_remote_code": False}
    has_own = adapter is not None and (adapter / "tokenizer.json").is_file()
    tokenizer = AutoTokenizer.from_pretrained(adapter if has_own else base.path, **local)
    config = AutoConfig.from_pretrained(base.path, **local)
    text = config.get_text_config(decoder=True)
    for key in _CONFIG_KEYS:
        if changes.get(key) is not None:
            setattr(text, key, changes[key])
    model = AutoModelForCausalLM.from_pretrained(
        base.path, config=config, dtype=precision.dtype, use_safetensors=True,
        device_map={"": "cuda:0"} if machine.cuda else None, **local,
    )  # fmt: skip
    if changes.get("extra_tokens"):
        tokenizer.add_tokens(list(changes["extra_tokens"]))
        embedding: Any = model.get_input_embeddings()
        if len(tokenizer) > embedding.weight.shape[0]:
            model.resize_token_embeddings(len(tokenizer), mean_resizing=False)
    if adapter is not None:
        model = _with_adapter(model, adapter)
    model.requires_grad_(False)
    context = changes.get("max_position_embeddings") or context_length(base.path)
    return Loaded(model.eval(), tokenizer, context, precision.autocast)


def _with_adapter(model: Any, adapter: Path) -> Any:
    from peft import PeftModel

    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", message="Model (with|has) `tie_word")
        # Without this, tensors that are not in the file would silently count as zeros.
        warnings.filterwarnings("error", message="Found missing adapter keys")
        return PeftModel.from_pretrained(model, adapter)


def read_base_changes(adapter: Path) -> dict[str, Any]:
    """What was changed of the base beside the adapter; {} if nothing was.

    Raises PipelineError if the file is damaged.
    """
    path = adapter / BASE_CHANGES
    if not path.is_file():
        return {}
    changes = read_json_object(path)
    tokens = changes.get("extra_tokens") or []
    longest = changes.get("max_position_embeddings")
    if (
        not isinstance(tokens, list)
        or not all(isinstance(token, str) for token in tokens)
        or not isinstance(changes.get("rope_parameters") or {}, dict)
        or not (longest is None or type(longest) is int)
    ):
        raise PipelineError(f"{path} is damaged: it does not hold what it should.")
    return changes


@contextmanager
def _one_sentence(candidate: Candidate, base: Path) -> Iterator[None]:
    """Turn what the libraries raise for files they cannot use into one sentence."""
    from safetensors import SafetensorError
    from torch import OutOfMemoryError

    what = f"The model in {base}"
    if candidate.kind == "adapter":
        what = f"The adapter in {candidate.place}, on {base},"
    try:
        yield
    except OutOfMemoryError as error:
        raise PipelineError(f"The GPU's memory is too small for {candidate.name}.") from error
    except (
        OSError, ValueError, KeyError, TypeError, RuntimeError, UserWarning, AttributeError,
        ImportError, SafetensorError, json.JSONDecodeError,
    ) as error:  # fmt: skip
        raise PipelineError(
            f"{what} cannot be loaded: {_line(error)}.",
            "It may be damaged, or of a kind that needs code of its own, which is never run.",
        ) from error


def free_memory() -> None:
    """Give back the memory of a model that nobody holds any more."""
    import torch

    gc.collect()
    if torch.cuda.is_available():
        torch.cuda.empty_cache()


def _line(error: BaseException) -> str:
    return (" ".join(str(error).split()) or type(error).__name__)[:300].rstrip(".:")

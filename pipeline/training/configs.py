"""The configuration of the model that a run trains: the base's, perhaps stretched, or a new one.

A new one (--from-scratch) is a file of Hugging Face's form, or a short one in YAML:

    model_type: llama
    hidden_size: 256
    intermediate_size: 768
    num_hidden_layers: 6
    num_attention_heads: 4

The vocabulary and the ids of its special tokens are the tokenizer's, whatever the file says.
"""

import difflib
import json
import re
from pathlib import Path
from typing import TYPE_CHECKING, Any

from pipeline.errors import PipelineError, UsageError
from pipeline.scoring.bits import WINDOW_TOKENS
from pipeline.training.rope import RopeChange, context_of, rope_change
from pipeline.training.settings import TrainSettings

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase

LARGEST_FILE = 1_000_000  # bytes
LONGEST_REASON = 250  # characters
# What a published config.json says of the weights beside it, which a new model has not.
OF_WEIGHTS = ("architectures", "transformers_version", "_name_or_path", "dtype", "torch_dtype")
NOT_FROM_NOTHING = ("auto_map", "quantization_config")
_POSITIONS = "max_position_embeddings"


def run_config(
    settings: TrainSettings, base_path: Path, tokenizer: "PreTrainedTokenizerBase | None" = None
) -> tuple[Any, RopeChange | None]:
    """The configuration of the model to train, stretched if asked for, and that change.

    Without a tokenizer a new model's vocabulary is of the base's size, and special tokens unknown.

    Raises:
        UsageError: --from-scratch or --rope-scaling cannot be done.
        PipelineError: the base model's config.json cannot be used.
    """
    config = read_config(base_path)
    if settings.from_scratch is not None:
        path, size = Path(settings.from_scratch), config.get_text_config(decoder=True).vocab_size
        config = new_config(path, settings.sequence_length, tokenizer, vocab_size=size)
    change = rope_change(config, settings.rope_scaling, settings.sequence_length)
    if change is not None:
        change.apply(config)
    return config, change


def run_context(settings: TrainSettings, base_path: Path) -> int | None:
    """How many tokens the model to train sees at once; None if it does not say.

    Raises as `run_config` does.
    """
    config, change = run_config(settings, base_path)
    return change.context if change else context_of(config)


def read_config(base_path: Path) -> Any:
    """The configuration of the model in `base_path`, from this disk and without code of its own.

    Raises PipelineError.
    """
    from transformers import AutoConfig

    try:
        return AutoConfig.from_pretrained(base_path, local_files_only=True, trust_remote_code=False)
    except library_errors() as error:
        raise PipelineError(
            f"{base_path / 'config.json'} cannot be used: {reason_of(error)}.",
            "It may be damaged, or of a kind that needs code of its own, which is never run.",
        ) from error


def meta_model(config: Any) -> Any:
    """The model of a configuration without its weights: names, shapes and classes only.

    Raises what the libraries raise for sizes that do not fit.
    """
    import torch
    from transformers import AutoModelForCausalLM

    with torch.device("meta"):
        return AutoModelForCausalLM.from_config(config, trust_remote_code=False)


def new_config(
    path: Path,
    sequence_length: int,
    tokenizer: "PreTrainedTokenizerBase | None" = None,
    *,
    vocab_size: int | None = None,
) -> Any:
    """The configuration that the file at `path` asks for, with `tokenizer`'s vocabulary, or without
    it one of `vocab_size`.

    Raises UsageError: it cannot be read, or is of no model that can be made.
    """
    from transformers import AutoConfig

    values = _read(path)
    kind = values.pop("model_type", None)
    _check_kind(path, kind)
    for key in NOT_FROM_NOTHING:
        if key in values:
            raise _broken(path, f"a model with {key} cannot be made from nothing")
    values = {key: value for key, value in values.items() if key not in OF_WEIGHTS}
    try:
        default = AutoConfig.for_model(kind)
        _check_keys(path, values, default)
        vocabulary = _vocabulary(tokenizer, values, vocab_size)
        given = set(values) & {_POSITIONS, default.attribute_map.get(_POSITIONS)}
        config = AutoConfig.for_model(kind, **values, **vocabulary)
    except library_errors() as error:
        raise _broken(path, reason_of(error)) from error
    if not given and hasattr(config, _POSITIONS):
        config.max_position_embeddings = max(sequence_length, WINDOW_TOKENS)
    _check_sizes(path, config)
    return config


def _read(path: Path) -> dict[str, Any]:
    import yaml

    try:
        with path.expanduser().open("rb") as file:
            text = file.read(LARGEST_FILE).decode("utf-8-sig")
    except OSError as error:
        raise UsageError(f"--from-scratch {path} cannot be read: {error.strerror}.") from error
    except ValueError as error:
        raise _broken(path, "it is not UTF-8") from error
    try:
        values = json.loads(text) if text.lstrip().startswith("{") else yaml.safe_load(text)
    except (yaml.YAMLError, ValueError, RecursionError) as error:
        raise _broken(path, "it is neither YAML nor JSON") from error
    if not isinstance(values, dict) or not all(isinstance(key, str) for key in values):
        raise _broken(path, "it has no settings with names")
    return {key: _number(value) for key, value in values.items()}


def _number(value: Any) -> Any:
    """YAML 1.1 takes 1e-06 for a word, as it has no point."""
    is_one = isinstance(value, str) and re.fullmatch(r"[+-]?\d+(\.\d*)?[eE][+-]?\d+", value)
    return float(value) if is_one else value


def _check_kind(path: Path, kind: Any) -> None:
    from transformers.models.auto.modeling_auto import MODEL_FOR_CAUSAL_LM_MAPPING_NAMES as KNOWN

    if kind is None:
        raise _broken(path, "it has no model_type")
    if not isinstance(kind, str) or kind not in KNOWN:
        near = difflib.get_close_matches(str(kind), list(KNOWN), n=1)
        raise UsageError(
            f"--from-scratch {path}: model_type {str(kind)[:80]!r} is no language model that is "
            "known.",
            f"Did you mean {near[0]}?" if near else "Such as llama, qwen3, gemma2 or gpt2.",
        )


def _check_keys(path: Path, values: dict[str, Any], default: Any) -> None:
    """Raise UsageError for what looks like a known name misspelt: it would be ignored silently."""
    known = {*default.to_dict(), *default.attribute_map}
    for key in values:
        if key in known or hasattr(default, key):
            continue
        near = difflib.get_close_matches(key, known - set(values), n=1, cutoff=0.8)
        if near:
            raise UsageError(
                f"--from-scratch {path}: {key[:80]!r} is unknown.", f"Did you mean {near[0]}?"
            )


def _vocabulary(
    tokenizer: "PreTrainedTokenizerBase | None", values: dict[str, Any], vocab_size: int | None
) -> dict[str, Any]:
    """Changes `values`, too: what they say of the vocabulary is dropped."""
    for key in ("vocab_size", "bos_token_id", "eos_token_id", "pad_token_id"):
        values.pop(key, None)
    if tokenizer is None:
        size = {} if vocab_size is None else {"vocab_size": vocab_size}
        return {**size, "bos_token_id": None, "eos_token_id": None, "pad_token_id": None}
    pad, eos, bos = tokenizer.pad_token_id, tokenizer.eos_token_id, tokenizer.bos_token_id
    return {
        "vocab_size": max(tokenizer.get_vocab().values()) + 1,
        "bos_token_id": bos,
        "eos_token_id": eos,
        # An embedding never learns the row of its pad token.
        "pad_token_id": None if pad in (eos, bos) else pad,
    }


def _check_sizes(path: Path, config: Any) -> None:
    try:
        meta_model(config)
    except library_errors() as error:
        raise _broken(path, reason_of(error)) from error


def _broken(path: Path, reason: str) -> UsageError:
    return UsageError(
        f"--from-scratch {path} cannot be used: {reason}.",
        "Give a config.json, or a few lines of YAML: model_type, hidden_size, ...",
    )


def reason_of(error: BaseException) -> str:
    """The first sentence of what a library raised, in one line and without its full stop."""
    text = " ".join(str(error).split()) or type(error).__name__
    first = text.partition(". ")[0].rstrip(".:")
    return first if len(first) <= LONGEST_REASON else first[:LONGEST_REASON] + " ..."


def library_errors() -> tuple[type[Exception], ...]:
    """What the libraries raise for values that they cannot use."""
    from huggingface_hub.errors import StrictDataclassError

    return (
        ArithmeticError, AssertionError, AttributeError, ImportError, KeyError, OSError,
        RuntimeError, StrictDataclassError, TypeError, ValueError,
    )  # fmt: skip

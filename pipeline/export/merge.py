"""Merge a LoRA adapter into its base model."""

import json
import shutil
import warnings
from pathlib import Path
from typing import TYPE_CHECKING, Any

from pipeline.errors import PipelineError
from pipeline.files import read_json_object

if TYPE_CHECKING:
    import torch
    from torch import nn
    from transformers import PreTrainedModel

SHARD_SIZE = "4GB"
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


def merge_adapter(
    base_dir: Path, adapter_dir: Path, out_dir: Path, *, keep_chat_template: bool = False
) -> None:
    """Write base + adapter to `out_dir` as a 16-bit Hugging Face model.

    PEFT's own merge, but each matrix is merged in float32 and rounded once, so that nothing of a
    small update is lost twice: in the base's dtype if that is float16, else in bfloat16. Needs
    memory for the base in 16 bits and for one matrix in float32. The tokenizer is the base's, file
    by file; its chat template is left out, unless asked for, because Ollama would wrap the prompts
    of a completion model in it.

    `out_dir` is the caller's temporary directory; what is in it after a failure is of no use.

    Raises:
        PipelineError: base or adapter is missing, truncated, or they do not belong together.
    """
    _check_base(base_dir)
    _check_adapter(adapter_dir)
    model = _load(base_dir, adapter_dir)
    dtype = model.dtype
    merged = _merge(model, dtype, adapter_dir)
    _save(merged, base_dir, out_dir)
    copy_tokenizer(base_dir, out_dir, keep_chat_template=keep_chat_template)


def copy_tokenizer(base_dir: Path, out_dir: Path, *, keep_chat_template: bool) -> None:
    """Copy the tokenizer's files as they are, but for the chat template."""
    wanted = TOKENIZER_FILES + (CHAT_TEMPLATE_FILES if keep_chat_template else ())
    for pattern in wanted:
        for source in base_dir.glob(pattern):
            shutil.copyfile(source, out_dir / source.name)
    config = out_dir / "tokenizer_config.json"
    if keep_chat_template or not config.is_file():
        return
    settings = json.loads(config.read_text(encoding="utf-8"))
    if settings.pop("chat_template", None) is not None:
        text = json.dumps(settings, indent=2, ensure_ascii=False) + "\n"
        config.write_text(text, encoding="utf-8")


def _check_base(base_dir: Path) -> None:
    config = base_dir / "config.json"
    if not config.is_file():
        raise PipelineError(
            f"There is no base model in {base_dir}: config.json is missing.",
            "It must be the model that the adapter was trained on.",
        )
    if "quantization_config" in read_json_object(config):
        raise PipelineError(
            f"The base model in {base_dir} is stored quantized; an adapter is merged into"
            " 16-bit weights.",
            "Give the 16-bit original of the model.",
        )
    for weights in base_dir.glob("*.safetensors"):
        _check_safetensors(weights, "base model")


def _check_adapter(adapter_dir: Path) -> None:
    config = adapter_dir / "adapter_config.json"
    weights = adapter_dir / "adapter_model.safetensors"
    for file in (config, weights):
        if not file.is_file():
            raise PipelineError(
                f"There is no whole adapter in {adapter_dir}: {file.name} is missing.",
                "Train first: pipeline train",
            )
    read_json_object(config)
    _check_safetensors(weights, "adapter")


def _check_safetensors(path: Path, what: str) -> None:
    """Its header tells how long it must be, so this reads next to nothing."""
    from safetensors import SafetensorError, safe_open

    try:
        with safe_open(path, framework="pt") as tensors:
            empty = not tensors.keys()
    except (SafetensorError, OSError) as error:
        raise PipelineError(
            f"The {what} {path} is damaged or not whole: {error}.",
            "Copy or make it again.",
        ) from error
    if empty:
        raise PipelineError(f"The {what} {path} holds no tensors.")


def _load(base_dir: Path, adapter_dir: Path) -> Any:
    """The base in 16 bits with the adapter around it (a PeftModel), on the CPU."""
    import torch
    from peft import PeftModel
    from transformers import AutoConfig, AutoModelForCausalLM
    from transformers import logging as transformers_logging

    transformers_logging.disable_progress_bar()
    try:
        config = AutoConfig.from_pretrained(base_dir, local_files_only=True)
        half = config.dtype in (torch.float16, "float16")
        base = AutoModelForCausalLM.from_pretrained(
            base_dir,
            dtype=torch.float16 if half else torch.bfloat16,
            local_files_only=True,
        )
    except (OSError, ValueError, RuntimeError, KeyError) as error:
        raise PipelineError(
            f"The base model in {base_dir} cannot be loaded: {_first_line(error)}."
        ) from error
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", message="Model (with|has) `tie_word")  # see _untie
        # Without this, tensors that are not in the file would silently be merged as zeros.
        warnings.filterwarnings("error", message="Found missing adapter keys")
        try:
            # Not with low_cpu_mem_usage: that rounds a float32 adapter to the base's 16 bits.
            return PeftModel.from_pretrained(base, adapter_dir)
        except (OSError, ValueError, RuntimeError, KeyError, TypeError, UserWarning) as error:
            raise PipelineError(
                f"The adapter in {adapter_dir} does not fit the base model in {base_dir}:"
                f" {_first_line(error)}.",
                "Give the base model that the adapter was trained on.",
            ) from error


def _merge(model: Any, dtype: "torch.dtype", adapter_dir: Path) -> "PreTrainedModel":
    import torch
    from peft.tuners.tuners_utils import BaseTunerLayer

    _untie(model)
    layers = [module for module in model.modules() if isinstance(module, BaseTunerLayer)]
    try:
        with torch.no_grad():
            for layer in layers:
                base = layer.get_base_layer()
                _cast(base, torch.float32)
                layer.merge(safe_merge=True)
                _cast(base, dtype)
    except ValueError as error:  # what safe_merge found is not finite
        raise PipelineError(
            f"The adapter in {adapter_dir} is broken: merged weights are not finite numbers.",
            "Train again with a lower learning rate, or merge an earlier checkpoint.",
        ) from error
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", message="All adapters are already merged")
        warnings.filterwarnings("ignore", message="Input and output embeddings are no longer tied")
        merged: PreTrainedModel = model.merge_and_unload()
    return merged.to(dtype)  # type: ignore[arg-type]


def _untie(model: Any) -> None:
    """Give the output layer weights of its own if the adapter changes only one end of a tie."""
    from torch import nn

    output = model.get_output_embeddings()
    inputs = model.get_input_embeddings()
    ends = [getattr(end, "base_layer", end) for end in (output, inputs)]
    adapted = any(hasattr(end, "base_layer") for end in (output, inputs))
    if adapted and output is not None and ends[0].weight is ends[1].weight:
        ends[0].weight = nn.Parameter(ends[0].weight.detach().clone(), requires_grad=False)
        model.config.tie_word_embeddings = False


def _cast(layer: "nn.Module", dtype: "torch.dtype") -> None:
    for parameter in layer.parameters(recurse=False):
        parameter.data = parameter.data.to(dtype)


def _save(model: "PreTrainedModel", base_dir: Path, out_dir: Path) -> None:
    from transformers import GenerationConfig

    # Many published generation configs fail the library's own check when they are saved, so the
    # base's file is copied instead.
    model.generation_config = GenerationConfig.from_model_config(model.config)
    out_dir.mkdir(parents=True, exist_ok=True)
    model.save_pretrained(out_dir, max_shard_size=SHARD_SIZE)
    original = base_dir / "generation_config.json"
    if original.is_file():
        shutil.copyfile(original, out_dir / original.name)


def _first_line(error: BaseException) -> str:
    return (str(error).strip().splitlines() or [type(error).__name__])[0].rstrip(".:")[:300]

"""Load the model that a run trains: by every method, on every device, with either engine."""

import importlib.util
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from pipeline.console import say
from pipeline.corpus.new_tokens import Extended
from pipeline.corpus.token_cache import load_tokenizer
from pipeline.errors import PipelineError, UsageError
from pipeline.scoring.bits import WINDOW_TOKENS
from pipeline.training.adapters import add_adapter, add_token_rows, check_tables, finish_adapter
from pipeline.training.base_model import BaseModel
from pipeline.training.configs import (
    library_errors,
    meta_model,
    read_config,
    reason_of,
    run_config,
)
from pipeline.training.engine import Attention, Engine, Machine, Precision, choose_attention
from pipeline.training.methods import METHODS
from pipeline.training.quantized import (
    check_quantized,
    check_quantizes,
    check_stored,
    keep_trainable,
    quantization,
)
from pipeline.training.rope import RopeChange, context_of
from pipeline.training.settings import TrainSettings
from pipeline.training.targets import find_targets, has_fused_experts

_UNSLOTH_WHOLE = ("embed_tokens", "lm_head")  # anything else it answers with a TypeError


def check_method(settings: TrainSettings, base_path: Path, machine: Machine) -> None:
    """Raise UsageError or PipelineError for what cannot be done with this model on this machine.

    Looks at names and shapes only; no weights are loaded.
    """
    check_machine(settings, machine)
    check_stored(base_path, settings.method)
    tokenizer = load_tokenizer(base_path) if settings.from_scratch is not None else None
    config, change = run_config(settings, base_path, tokenizer)
    with _making(base_path):
        model = meta_model(config)
    _check_stretched(settings, model, change)
    if settings.gradient_checkpointing and not model.supports_gradient_checkpointing:
        raise UsageError(
            f"--gradient-checkpointing: the code of {config.model_type} has none.",
            "Leave it out.",
        )
    if not settings.trains_everything:
        targets = find_targets(model, settings.target_modules)
        check_quantizes(model, settings.method, cuda=machine.cuda)
        if settings.extra_tokens:
            check_tables(model, targets)


def load_for_training(
    engine: Engine,
    base: BaseModel,
    settings: TrainSettings,
    precision: Precision,
    *,
    cuda: bool,
    extended: Extended | None = None,
) -> Any:
    """The model to train: a frozen base with a new adapter, or one whose every weight is trained.

    A new adapter changes nothing yet: its second factor is zero. What is random is drawn with
    `settings.seed`. Gradient checkpointing is switched on where it is wanted.

    Args:
        extended: the tokenizer with new tokens, which get rows of their own.

    Raises:
        PipelineError: the base cannot be loaded, memory is too small, or what was loaded is not
            quantized as it should be.
    """
    with loading(base):
        if engine.name == "unsloth":
            return _load_unsloth(base, settings, precision)
        model = _load_plain(base, settings, precision, cuda=cuda, extended=extended)
        if wants_checkpointing(settings, cuda=cuda) and model.supports_gradient_checkpointing:
            # The reentrant kind would need the inputs of frozen layers to have gradients, and
            # computes other dropout than the forward pass under autocast.
            model.gradient_checkpointing_enable({"use_reentrant": False})
            model.enable_input_require_grads()
        new_tokens = extended.new if extended else ()
        if settings.from_scratch is None:
            add_token_rows(model, new_tokens, extended.size if extended else 0)
        if settings.trains_everything:
            return model
        if has_fused_experts(model):
            say("The experts of this model stay as they are; the adapter is on its other layers.")
        return add_adapter(model, base, settings, new_tokens)


def wants_checkpointing(settings: TrainSettings, *, cuda: bool) -> bool:
    """Whether activations are computed again in the backward pass: a fifth of the time for most of
    their memory, which is what GPUs lack.
    """
    return cuda if settings.gradient_checkpointing is None else settings.gradient_checkpointing


@contextmanager
def loading(base: BaseModel) -> Iterator[None]:
    """Turn what the libraries raise for files they cannot use into one sentence."""
    from safetensors import SafetensorError
    from torch import OutOfMemoryError

    try:
        yield
    except (OutOfMemoryError, MemoryError) as error:
        raise PipelineError(
            f"The memory is too small for {base.name}.",
            "Choose a smaller base model, or --method qlora.",
        ) from error
    except (
        OSError, ImportError, ValueError, KeyError, TypeError, RuntimeError, SafetensorError
    ) as error:  # fmt: skip
        raise PipelineError(
            f"The base model in {base.path} cannot be loaded: {reason_of(error)}.",
            "It may be damaged, or of a kind that needs code of its own, which is never run.",
        ) from error


def _load_plain(
    base: BaseModel,
    settings: TrainSettings,
    precision: Precision,
    *,
    cuda: bool,
    extended: Extended | None,
) -> Any:
    from transformers import AutoModelForCausalLM, set_seed

    tokenizer = None
    if settings.from_scratch is not None:
        tokenizer = load_tokenizer(extended.path if extended else base.path)
    config, change = run_config(settings, base.path, tokenizer)
    if change is not None:
        say(f"Positions are stretched: {change}.")
    set_seed(settings.seed)
    if settings.from_scratch is not None:
        return _new_model(config, cuda=cuda)
    attention = choose_attention(settings, precision, cuda=cuda)
    model = _with_attention(
        attention,
        lambda name: AutoModelForCausalLM.from_pretrained(
            base.path,
            config=config,
            dtype=_dtype(settings, precision),
            device_map=_device_map(settings, cuda=cuda),
            quantization_config=quantization(settings.method, precision, base.path),
            attn_implementation=name,
            local_files_only=True,
            trust_remote_code=False,
        ),
    )
    check_quantized(model, settings.method)
    keep_trainable(model)
    return model


def _dtype(settings: TrainSettings, precision: Precision) -> Any:
    """The format of the weights. Those that are trained are float32, and only the arithmetic is in
    16 bits: a step is often below a 256th of its weight, which bfloat16 rounds to no step at all.
    """
    import torch

    return torch.float32 if settings.trains_everything else precision.dtype


def _new_model(config: Any, *, cuda: bool) -> Any:
    """Weights are drawn on the CPU, so that a seed means the same model on every device."""
    import torch
    from transformers import AutoModelForCausalLM

    model = AutoModelForCausalLM.from_config(config, dtype=torch.float32, trust_remote_code=False)
    say(f"A new {config.model_type} with {model.num_parameters():,} weights.")
    return model.to(_device()) if cuda else model


def _with_attention(attention: Attention, load: Any) -> Any:
    """None lets transformers take sdpa where the model has it, else its own plain code."""
    name = None if attention.name == "sdpa" else attention.name
    reason = attention.reason
    try:
        model = load(name)
    except (ImportError, ValueError, RuntimeError) as error:
        if name is None:
            raise
        reason = f"{name} cannot be used: {reason_of(error)}"
        model = load(None)
    say(f"Attention: {model.config._attn_implementation} ({reason}).")
    return model


def _device_map(settings: TrainSettings, *, cuda: bool) -> Any:
    if settings.split_model:
        return "balanced"
    return {"": _device()} if cuda else None


def _device() -> str:
    return f"cuda:{os.environ.get('LOCAL_RANK', 0)}"


def _load_unsloth(base: BaseModel, settings: TrainSettings, precision: Precision) -> Any:
    from unsloth import FastLanguageModel

    # Scoring uses windows of its own length. More than the model's context would make unsloth
    # stretch its positions.
    context = context_of(read_config(base.path)) or WINDOW_TOKENS
    model, _ = FastLanguageModel.from_pretrained(
        model_name=str(base.path),
        max_seq_length=max(settings.sequence_length, min(WINDOW_TOKENS, context)),
        dtype=precision.dtype,
        load_in_4bit=METHODS[settings.method].bits == 4,
        use_exact_model_name=True,  # and not weights of another source under a like name
    )
    check_quantized(model, settings.method)
    targets = find_targets(model, settings.target_modules)
    for name in targets.whole:
        if name not in _UNSLOTH_WHOLE:
            raise UsageError(
                f"--engine unsloth cannot train {name} beside an adapter.",
                "Use --engine trl, or leave it out of --target-modules.",
            )
    wants = wants_checkpointing(settings, cuda=True)
    model = FastLanguageModel.get_peft_model(
        model,
        r=settings.rank,
        lora_alpha=settings.lora_alpha,
        lora_dropout=settings.dropout,
        target_modules=targets.linear,
        modules_to_save=targets.whole or None,
        target_parameters=[],  # of experts: none, as with the other engine
        use_rslora=settings.rslora,
        bias="none",
        use_gradient_checkpointing="unsloth" if wants else False,
        random_state=settings.seed,
    )
    finish_adapter(model, settings.seed)
    return model


def check_machine(settings: TrainSettings, machine: Machine) -> None:
    """Raise UsageError for what this machine cannot do with any model."""
    if int(os.environ.get("WORLD_SIZE", 1)) > 1:
        raise UsageError(
            "Training is one process, and several were started: each would train on everything.",
            "Start it without accelerate or torchrun; --split-model spreads a model over GPUs.",
        )
    bits = METHODS[settings.method].bits
    if settings.from_scratch is not None and settings.method not in ("lora", "full"):
        raise UsageError(
            f"--from-scratch trains every weight, and --method {settings.method} does not.",
            "Leave --method out.",
        )
    if bits < 16 and importlib.util.find_spec("bitsandbytes") is None:
        raise UsageError(
            f"--method {settings.method} needs bitsandbytes, which is not installed.",
            "Run `pip install bitsandbytes`, or take --method lora.",
        )
    if settings.split_model and machine.gpus < 2:
        have = "one GPU" if machine.gpus == 1 else "no GPU"
        raise UsageError(
            f"--split-model spreads a model over several GPUs, and this machine has {have}.",
            "Leave it out.",
        )
    if settings.split_model and settings.from_scratch is not None:
        raise UsageError(
            "--split-model is for models that one GPU cannot hold, and not for --from-scratch.",
            "Leave it out.",
        )


def _check_stretched(settings: TrainSettings, model: Any, change: RopeChange | None) -> None:
    """Not all code that has rotary positions looks at how they are to be stretched."""
    if change is None:
        return
    kinds: set[str] = set()
    for module in model.modules():
        kind = getattr(module, "rope_type", None)
        kinds |= {kind} if isinstance(kind, str) else set((kind or {}).values())
    if change.kind not in kinds:
        raise UsageError(
            f"--rope-scaling {settings.rope_scaling}: the code of {model.config.model_type} cannot "
            f"stretch positions by {change.kind}.",
            "Take a base model with a longer context.",
        )


@contextmanager
def _making(base_path: Path) -> Iterator[None]:
    try:
        yield
    except library_errors() as error:
        raise PipelineError(
            f"The base model in {base_path} is none that can be trained here: {reason_of(error)}.",
            "It may be damaged, or of a kind that needs code of its own, which is never run.",
        ) from error

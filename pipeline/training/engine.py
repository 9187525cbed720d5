"""What does the training: which library, in which number format, on which device."""

import importlib
import importlib.util
from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

from pipeline.errors import PipelineError, UsageError
from pipeline.training.settings import TrainSettings

if TYPE_CHECKING:
    import torch

EngineName = Literal["unsloth", "trl"]
PrecisionName = Literal["bfloat16", "float16", "float32"]


@dataclass(frozen=True)
class Machine:
    """What a run can use."""

    cuda: bool  # an NVIDIA GPU that torch can use
    bf16: bool  # the device multiplies bfloat16 natively
    unsloth: bool  # the package is installed
    device_name: str = "CPU"
    gpus: int = 0

    @classmethod
    def detect(cls) -> "Machine":
        """Look at this machine. Imports torch."""
        import torch

        unsloth = importlib.util.find_spec("unsloth") is not None
        if torch.cuda.is_available():
            bf16 = torch.cuda.is_bf16_supported(including_emulation=False)
            name, gpus = torch.cuda.get_device_name(), torch.cuda.device_count()
            return cls(True, bf16, unsloth, name, gpus)
        can = torch.cpu.get_capabilities()
        bf16 = any(can.get(flag) for flag in ("avx512_bf16", "amx_bf16", "arm_bf16"))
        return cls(False, bf16, unsloth)


@dataclass(frozen=True)
class Engine:
    """The library that trains, and why this one."""

    name: EngineName
    reason: str


@dataclass(frozen=True)
class Precision:
    """The number format of the frozen base and of the arithmetic, and why this one.

    The adapter's own weights are float32 always: small updates would vanish in 16 bits.
    """

    name: PrecisionName
    reason: str

    @property
    def dtype(self) -> "torch.dtype":
        """The same, as torch's type."""
        import torch

        return {
            "bfloat16": torch.bfloat16,
            "float16": torch.float16,
            "float32": torch.float32,
        }[self.name]

    @property
    def autocast(self) -> "torch.dtype | None":
        """The type to compute in, or None where it is that of the weights."""
        return None if self.name == "float32" else self.dtype


def choose_engine(
    machine: Machine, wanted: str = "auto", settings: TrainSettings | None = None
) -> Engine:
    """unsloth where it can run (it refuses to without a GPU) and do what is asked, else plain TRL.

    Raises:
        UsageError: unsloth is wanted and cannot be used.
    """
    if wanted == "trl":
        return Engine("trl", "as asked")
    missing = None
    if not machine.cuda:
        missing = "no GPU here"
    elif not machine.unsloth:
        missing = "unsloth is not installed"
    elif settings is not None:
        missing = beyond_unsloth(settings)
    if missing is None:
        return Engine("unsloth", f"it and a GPU are here: {machine.device_name}")
    if wanted == "unsloth":
        raise UsageError(f"--engine unsloth cannot be used: {missing}.", "Use --engine auto.")
    return Engine("trl", missing)


def beyond_unsloth(settings: TrainSettings) -> str | None:
    """Why unsloth cannot do what is asked, or would do something else; None if it can.

    Of what it can do it is given what its own code is for: adapters on a base in 16 or 4 bits.
    A name in `target_modules` that does not say what it is, is looked at when the model is loaded.
    """
    named = {name.strip() for entry in settings.target_modules for name in entry.split(",")}
    norms = any("norm" in name.rpartition(".")[2].lower() for name in named)
    reasons = (
        (settings.from_scratch is not None, "unsloth only trains models that there are already"),
        (settings.split_model, "unsloth would split the model in a way of its own"),
        (settings.method == "full", "unsloth has nothing faster for --method full"),
        (settings.method == "dora", "unsloth has no code of its own for --method dora"),
        (settings.method == "qlora8", "unsloth has no code of its own for 8 bits"),
        (settings.rope_scaling is not None, "unsloth stretches positions in a way of its own"),
        (bool(settings.extra_tokens), "unsloth would train the whole embedding for new tokens"),
        (settings.precision == "fp32", "unsloth computes in 16 bits only"),
        (norms, "unsloth trains no norms beside an adapter"),
    )
    return next((reason for applies, reason in reasons if applies), None)


def start_engine(machine: Machine, settings: TrainSettings | None = None) -> Engine:
    """Choose, and load what has to be loaded before trl, transformers and peft are.

    Raises:
        UsageError: unsloth is asked for and cannot be used.
        PipelineError: unsloth is asked for and does not load.
    """
    settings = settings or TrainSettings()
    engine = choose_engine(machine, settings.engine, settings)
    if engine.name == "unsloth":
        try:
            importlib.import_module("unsloth")
        except (ImportError, NotImplementedError, RuntimeError, AttributeError) as error:
            if settings.engine == "unsloth":
                raise PipelineError(f"unsloth is installed but does not load: {error}") from error
            return Engine("trl", f"unsloth is installed but does not load: {error}")
    return engine


def choose_precision(machine: Machine, wanted: str = "auto") -> Precision:
    """The format as asked, or bfloat16 where the device multiplies it natively: a CPU that only
    emulates it is slower than in float32.

    Raises:
        UsageError: the device cannot compute in the format that is wanted.
    """
    name = machine.device_name
    if wanted == "fp32":
        return Precision("float32", "as asked")
    if wanted == "fp16":
        if not machine.cuda:
            raise UsageError("--precision fp16 needs a GPU.", "Use fp32 or bf16.")
        return Precision("float16", "as asked")
    if wanted == "bf16" and not machine.bf16:
        if machine.cuda:
            raise UsageError(f"--precision bf16: the {name} has no bfloat16.", "Use fp16 or fp32.")
        return Precision("bfloat16", "as asked; this CPU emulates it, which is slow")
    if machine.bf16:
        reason = "as asked" if wanted == "bf16" else f"the {name} multiplies it natively"
        return Precision("bfloat16", reason)
    if machine.cuda:
        return Precision("float16", f"the {name} has no bfloat16")
    return Precision("float32", "this CPU has no bfloat16")


@dataclass(frozen=True)
class Attention:
    """The code that computes attention, as transformers names it, and why this one."""

    name: Literal["sdpa", "flash_attention_2"]
    reason: str


def choose_attention(settings: TrainSettings, precision: Precision, *, cuda: bool) -> Attention:
    """flash-attention 2 where it is installed and keeps documents apart, else torch's own.

    It tells packed documents apart in a batch of one sequence only: in a larger one it would let
    them see each other without a word.
    """
    if not cuda:
        return Attention("sdpa", "flash-attn needs a GPU")
    if importlib.util.find_spec("flash_attn") is None:
        return Attention("sdpa", "flash-attn is not installed")
    if precision.name == "float32":
        return Attention("sdpa", "flash-attn computes in 16 bits only")
    if settings.packing and settings.micro_batch_size != 1:
        reason = "flash-attn keeps packed documents apart only with --micro-batch-size 1"
        return Attention("sdpa", reason)
    return Attention("flash_attention_2", "it is installed")

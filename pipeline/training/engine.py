"""What does the training: which library, in which number format, on which device."""

import importlib
import importlib.util
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal

from pipeline.errors import PipelineError, UsageError
from pipeline.scoring.bits import WINDOW_TOKENS
from pipeline.training.base_model import BaseModel
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

    @classmethod
    def detect(cls) -> "Machine":
        """Look at this machine. Imports torch."""
        import torch

        unsloth = importlib.util.find_spec("unsloth") is not None
        if torch.cuda.is_available():
            bf16 = torch.cuda.is_bf16_supported(including_emulation=False)
            return cls(True, bf16, unsloth, torch.cuda.get_device_name())
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


def choose_engine(machine: Machine, wanted: str = "auto") -> Engine:
    """unsloth where it can run (it refuses to without a GPU), else plain TRL.

    Raises:
        UsageError: unsloth is wanted and cannot run here.
    """
    if wanted == "trl":
        return Engine("trl", "as asked")
    missing = None
    if not machine.cuda:
        missing = "no GPU here"
    elif not machine.unsloth:
        missing = "unsloth is not installed"
    if missing is None:
        return Engine("unsloth", f"it and a GPU are here: {machine.device_name}")
    if wanted == "unsloth":
        raise UsageError(f"--engine unsloth cannot be used: {missing}.", "Use --engine auto.")
    return Engine("trl", missing)


def start_engine(machine: Machine, wanted: str = "auto") -> Engine:
    """Choose, and load what has to be loaded before trl, transformers and peft are."""
    engine = choose_engine(machine, wanted)
    if engine.name == "unsloth":
        try:
            importlib.import_module("unsloth")
        except (ImportError, NotImplementedError, RuntimeError, AttributeError) as error:
            if wanted == "unsloth":
                raise PipelineError(f"unsloth is installed but does not load: {error}") from error
            return Engine("trl", f"unsloth is installed but does not load: {error}")
    return engine


def choose_precision(machine: Machine) -> Precision:
    """bfloat16 where the device multiplies it natively; a CPU that only emulates it is slower."""
    if machine.bf16:
        return Precision("bfloat16", f"the {machine.device_name} multiplies it natively")
    if machine.cuda:
        return Precision("float16", f"the {machine.device_name} has no bfloat16")
    return Precision("float32", "this CPU has no bfloat16")


def load_with_adapter(
    engine: Engine, base: BaseModel, settings: TrainSettings, precision: Precision, *, cuda: bool
) -> Any:
    """Load the base model, frozen, with a new adapter (LoRA, Hu et al. 2021) on its linear layers.

    The embedding and the output head stay as they are. The new adapter changes nothing yet: its
    second factor starts at zero. Its first is drawn with `settings.seed`.
    """
    with loading(base):
        if engine.name == "unsloth":
            return _load_unsloth(base, settings, precision)
        return _load_plain(base, settings, precision, cuda=cuda)


@contextmanager
def loading(base: BaseModel) -> Iterator[None]:
    """Turn what the libraries raise for files they cannot use into one sentence."""
    from safetensors import SafetensorError
    from torch import OutOfMemoryError

    try:
        yield
    except OutOfMemoryError as error:
        raise PipelineError(
            f"The GPU's memory is too small for {base.name}.", "Choose a smaller base model."
        ) from error
    except (OSError, ValueError, KeyError, RuntimeError, SafetensorError) as error:
        reason = " ".join(str(error).split())[:300]
        raise PipelineError(
            f"The base model in {base.path} cannot be loaded: {reason}",
            "It may be damaged, or of a kind that needs code of its own, which is never run.",
        ) from error


def _load_plain(
    base: BaseModel, settings: TrainSettings, precision: Precision, *, cuda: bool
) -> Any:
    from peft import LoraConfig, get_peft_model
    from transformers import AutoModelForCausalLM, set_seed

    model = AutoModelForCausalLM.from_pretrained(
        base.path,
        dtype=precision.dtype,
        device_map={"": "cuda:0"} if cuda else None,
        local_files_only=True,
        trust_remote_code=False,
    )
    set_seed(settings.seed)
    lora = LoraConfig(
        task_type="CAUSAL_LM",
        r=settings.rank,
        lora_alpha=settings.alpha,
        lora_dropout=settings.dropout,
        target_modules=linear_names(model),
        base_model_name_or_path=str(base.path),
    )
    return get_peft_model(model, lora, autocast_adapter_dtype=True)


def _load_unsloth(base: BaseModel, settings: TrainSettings, precision: Precision) -> Any:
    from unsloth import FastLanguageModel

    model, _ = FastLanguageModel.from_pretrained(
        model_name=str(base.path),
        # Scoring uses windows of its own length.
        max_seq_length=max(settings.sequence_length, WINDOW_TOKENS),
        dtype=precision.dtype,
        load_in_4bit=False,
    )
    return FastLanguageModel.get_peft_model(
        model,
        r=settings.rank,
        lora_alpha=settings.alpha,
        lora_dropout=settings.dropout,
        target_modules=linear_names(model),
        bias="none",
        use_gradient_checkpointing="unsloth",
        random_state=settings.seed,
    )


def linear_names(model: Any) -> list[str]:
    """The last parts of the names of all linear layers but the output head: `q_proj`, ..."""
    import torch
    from transformers.pytorch_utils import Conv1D  # GPT-2's name for a linear layer

    head = model.get_output_embeddings()
    return sorted(
        {
            name.rpartition(".")[2]
            for name, module in model.named_modules()
            if isinstance(module, torch.nn.Linear | Conv1D) and module is not head
        }
    )

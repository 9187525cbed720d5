"""The optimizer and its schedule: which tensors decay, at which rate each learns."""

import importlib.util
from typing import TYPE_CHECKING, Any

from pipeline.errors import UsageError
from pipeline.training.schedules import factor
from pipeline.training.settings import TrainSettings

if TYPE_CHECKING:
    import torch
    from torch.optim.lr_scheduler import LambdaLR

EPSILON = 1e-8

# What PEFT calls tensors that are no factors of a matrix: DoRA's magnitudes (those of embeddings
# and convolutions have more than one dimension), and the rows of new tokens.
_NOT_DECAYED = ("lora_magnitude_vector", "trainable_tokens_delta")
_B_FACTORS = ("lora_B", "lora_embedding_B")


def check_optimizer(settings: TrainSettings) -> None:
    """Raise UsageError if the optimizer asked for is not installed. Imports nothing heavy."""
    if settings.optimizer == "adamw-8bit" and importlib.util.find_spec("bitsandbytes") is None:
        raise UsageError(
            "--optimizer adamw-8bit needs the package bitsandbytes, which is not installed.",
            "Run `pip install bitsandbytes`, or use --optimizer adamw or adafactor.",
        )


def parameter_groups(
    model: Any, weight_decay: float, *, learning_rate: float | None = None, ratio: float = 1.0
) -> list[dict[str, Any]]:
    """The trainable tensors of a model in groups for an optimizer, in the model's order.

    Weights are decayed where they are matrices. Not: norms, biases and all else of one dimension;
    DoRA's magnitudes; embeddings, whose rows would shrink with every step in which the text does
    not have their token (an output head that shares their weights included).

    Args:
        learning_rate: the peak rate, needed with a `ratio`.
        ratio: how many times faster the B factors of LoRA learn than the A factors (LoRA+, Hayou
            et al. 2024).
    """
    import torch

    embeddings = {
        id(module.weight) for module in model.modules() if isinstance(module, torch.nn.Embedding)
    }
    groups: dict[tuple[bool, bool], list[Any]] = {}
    for name, tensor in model.named_parameters():  # names a shared tensor once
        if not tensor.requires_grad:
            continue
        parts = name.split(".")
        decays = (
            tensor.ndim > 1
            and id(tensor) not in embeddings
            and not any(part in _NOT_DECAYED for part in parts)
        )
        is_fast = ratio != 1.0 and any(part in _B_FACTORS for part in parts)
        groups.setdefault((decays, is_fast), []).append(tensor)
    found = []
    for (decays, is_fast), tensors in groups.items():
        group = {"params": tensors, "weight_decay": weight_decay if decays else 0.0}
        if is_fast:
            if learning_rate is None:
                raise ValueError("a ratio of learning rates needs a learning rate")
            group["lr"] = learning_rate * ratio
        found.append(group)
    return found


def make_optimizer(
    model: Any, settings: TrainSettings, *, ratio: float = 1.0
) -> "torch.optim.Optimizer":
    """The optimizer that `settings` name, on what `model` trains; `ratio` as above.

    Raises UsageError as `check_optimizer` does.
    """
    import torch

    rate = settings.peak_learning_rate
    groups = parameter_groups(model, settings.weight_decay, learning_rate=rate, ratio=ratio)
    tensors = [tensor for group in groups for tensor in group["params"]]
    if settings.optimizer == "adafactor":
        from transformers.optimization import Adafactor

        # At a rate of our own, as the schedule is ours; it takes no betas.
        return Adafactor(groups, lr=rate, scale_parameter=False, relative_step=False)  # type: ignore[no-any-return, unused-ignore]
    betas = (settings.beta1, settings.beta2)
    if settings.optimizer == "adamw-8bit":
        check_optimizer(settings)
        return _adamw_8bit(model, groups, rate, betas)
    # One kernel for all tensors, with no temporary copies of them: 3 to 6 times as fast on a CPU as
    # the others, which differ in the last digit alone.
    fused = all(tensor.device.type in ("cpu", "cuda") for tensor in tensors)
    return torch.optim.AdamW(groups, lr=rate, betas=betas, eps=EPSILON, fused=fused)


def make_scheduler(
    optimizer: "torch.optim.Optimizer", settings: TrainSettings, total_steps: int
) -> "LambdaLR":
    """The schedule that `settings` name, of each group's own peak rate.

    The optimizer has the rate of the first step at once.
    """
    from torch.optim.lr_scheduler import LambdaLR

    def of_peak(step: int) -> float:
        return factor(settings.scheduler, step, total_steps, settings.warmup, settings.decay)

    return LambdaLR(optimizer, of_peak)


def _adamw_8bit(
    model: Any, groups: list[dict[str, Any]], rate: float, betas: tuple[float, float]
) -> "torch.optim.Optimizer":
    """States in 8 bits, by blocks (Dettmers et al. 2022), but those of embeddings, which would be
    unstable."""
    import bitsandbytes as bnb
    import torch

    optimizer = bnb.optim.AdamW8bit(groups, lr=rate, betas=betas, eps=EPSILON)
    manager = bnb.optim.GlobalOptimManager.get_instance()
    for module in model.modules():
        if isinstance(module, torch.nn.Embedding):
            manager.register_module_override(module, "weight", {"optim_bits": 32})
    return optimizer  # type: ignore[no-any-return, unused-ignore]

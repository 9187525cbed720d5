"""The state of a training run between two steps, as files without pickles.

What the next step depends on is the trained weights, the optimizer's and the scheduler's state,
the scaler's (float16), and the state of every source of random numbers; how far the run has come
is in `Progress`. Tensors are in safetensors, the rest in JSON.
"""

import json
import random
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from pipeline.errors import PipelineError
from pipeline.files import write_json

if TYPE_CHECKING:
    import torch

WEIGHTS = "weights.safetensors"
OPTIMIZER = "optimizer.safetensors"
RANDOM = "random.safetensors"
STATE = "state.json"


@dataclass(frozen=True)
class Progress:
    """How far a run has come: optimizer steps, sequences of its order, tokens, positions, and of a
    series the segment (see `segments.Cursor`). Seconds are those of all its sessions: `seconds` of
    training, those of scoring, and the total from the loading of the model on."""

    step: int = 0
    sequences: int = 0
    tokens: int = 0
    positions: int = 0
    seconds: float = 0.0
    cursor: Mapping[str, Any] | None = None
    scoring_seconds: float = 0.0
    total_seconds: float = 0.0


@dataclass(frozen=True)
class Parts:
    """What a run's state lies in: the very objects that the trainer works with."""

    model: Any
    optimizer: "torch.optim.Optimizer"
    scheduler: Any
    scaler: Any = None


def save_state(folder: Path, parts: Parts, progress: Progress) -> None:
    """Write the state into `folder`."""
    from safetensors.torch import save_file

    save_file(trained_tensors(parts.model), folder / WEIGHTS)
    tensors, numbers = _flat(parts.optimizer.state_dict())
    save_file(tensors, folder / OPTIMIZER)
    randomness, more = _random_state()
    save_file(randomness, folder / RANDOM)
    state = {
        "progress": asdict(progress),
        "optimizer": numbers,
        "scheduler": _plain(parts.scheduler.state_dict()),
        "scaler": parts.scaler.state_dict() if parts.scaler is not None else None,
        "random": more,
    }
    write_json(folder / STATE, state)


def load_progress(folder: Path) -> Progress:
    """How far the run had come whose state is in `folder`. Raises PipelineError."""
    try:
        return Progress(**_read(folder)["progress"])
    except (KeyError, TypeError) as error:
        raise PipelineError(
            f"{folder / STATE} does not say how far the run had come.",
            "Was it made by another version? --resume never starts anew.",
        ) from error


def load_state(folder: Path, parts: Parts) -> Progress:
    """Put everything back as it was, but for the random numbers (see `load_random`).

    Raises PipelineError: the state is of another model, another optimizer, or damaged.
    """
    from safetensors import SafetensorError
    from safetensors.torch import load_file

    state = _read(folder)
    try:
        load_trained(parts.model, load_file(folder / WEIGHTS))
        optimizer = _nested(load_file(folder / OPTIMIZER), state["optimizer"])
        parts.optimizer.load_state_dict(optimizer)
        parts.scheduler.load_state_dict(parts.scheduler.state_dict() | state["scheduler"])
        _take_rates(parts)
        return Progress(**state["progress"])
    except (SafetensorError, OSError, KeyError, TypeError, ValueError, RuntimeError) as error:
        reason = " ".join(str(error).split())[:200]
        raise PipelineError(
            f"The state in {folder} does not fit this run: {reason}",
            "It is of another model or other settings: --resume never starts anew.",
        ) from error


def _take_rates(parts: Parts) -> None:
    """Let the next step have the rate of the schedule as it is now: the run may have been made
    longer."""
    scheduler = parts.scheduler
    pairs = zip(scheduler.base_lrs, scheduler.lr_lambdas, strict=True)
    scheduler._last_lr = [base * factor(scheduler.last_epoch) for base, factor in pairs]
    groups = parts.optimizer.param_groups
    for group, rate in zip(groups, scheduler._last_lr, strict=True):
        group["lr"] = rate


def load_scaler(folder: Path, scaler: Any) -> None:
    """Put the scale of a loss in float16 back."""
    state = _read(folder)["scaler"]
    if state is not None:
        scaler.load_state_dict(state)


def _read(folder: Path) -> dict[str, Any]:
    try:
        state: dict[str, Any] = json.loads((folder / STATE).read_bytes())
    except (OSError, ValueError) as error:
        raise PipelineError(f"{folder / STATE} cannot be read: {error}.") from error
    return state


# --- weights --------------------------------------------------------------------------------------


def trained_parts(model: Any) -> dict[str, "torch.Tensor"]:
    """What training changes in a model, by name, and not a copy of it: the parameters that have a
    gradient, and the statistics that layers keep (BatchNorm).
    """
    from torch.nn.modules.batchnorm import _NormBase

    found: dict[str, torch.Tensor] = {
        name: parameter for name, parameter in model.named_parameters() if parameter.requires_grad
    }
    for prefix, module in model.named_modules():
        if isinstance(module, _NormBase):
            found.update(module.named_buffers(prefix, recurse=False))
    return found


def trained_tensors(model: Any) -> dict[str, "torch.Tensor"]:
    """Copies of what training changes in a model, by name, on the CPU."""
    return {
        name: tensor.detach().to("cpu", copy=True).contiguous()
        for name, tensor in trained_parts(model).items()
    }


def load_trained(model: Any, tensors: Mapping[str, "torch.Tensor"]) -> None:
    """Put back what training changes, in place and exactly.

    Raises ValueError unless names, shapes and types are those of the model's own.
    """
    import torch

    own = trained_parts(model)
    if own.keys() != tensors.keys():
        other = sorted(own.keys() ^ tensors.keys())[0]
        raise ValueError(f"one of the two has no {other}")
    with torch.no_grad():
        for name, tensor in tensors.items():
            if own[name].shape != tensor.shape or own[name].dtype != tensor.dtype:
                raise ValueError(f"{name} has another shape or type")
            own[name].copy_(tensor)


# --- the optimizer --------------------------------------------------------------------------------


def _flat(state: Mapping[str, Any]) -> tuple[dict[str, "torch.Tensor"], dict[str, Any]]:
    """An optimizer's state as tensors named "parameter.key", and everything else as JSON has it."""
    import torch

    tensors: dict[str, torch.Tensor] = {}
    numbers: dict[str, dict[str, Any]] = {}
    for parameter, values in state["state"].items():
        numbers[str(parameter)] = {}
        for key, value in values.items():
            if isinstance(value, torch.Tensor):
                tensors[f"{parameter}.{key}"] = value.detach().to("cpu", copy=True).contiguous()
            else:
                numbers[str(parameter)][key] = _plain(value)
    return tensors, {"state": numbers, "groups": _plain(state["param_groups"])}


def _nested(tensors: Mapping[str, "torch.Tensor"], numbers: Mapping[str, Any]) -> dict[str, Any]:
    state: dict[int, dict[str, Any]] = {int(k): dict(v) for k, v in numbers["state"].items()}
    for name, tensor in tensors.items():
        parameter, _, key = name.partition(".")
        state[int(parameter)][key] = tensor
    return {"state": state, "param_groups": numbers["groups"]}


def _plain(value: Any) -> Any:
    """Values as JSON has them; functions, which a scheduler keeps, are left out."""
    if isinstance(value, Mapping):
        return {str(k): _plain(v) for k, v in value.items() if not callable(v)}
    if isinstance(value, list | tuple):
        return [_plain(v) for v in value if not callable(v)]
    if hasattr(value, "item"):
        return value.item()
    return value


# --- random numbers -------------------------------------------------------------------------------


def _random_state() -> tuple[dict[str, "torch.Tensor"], dict[str, Any]]:
    import numpy as np
    import torch

    tensors = {"torch": torch.get_rng_state()}
    if torch.cuda.is_available():
        for device, state in enumerate(torch.cuda.get_rng_state_all()):
            tensors[f"cuda.{device}"] = state
    name, keys, position, has_gauss, gauss = np.random.get_state(legacy=True)  # type: ignore[misc]
    tensors["numpy"] = torch.from_numpy(np.asarray(keys).astype("int64"))
    version, internal, following = random.getstate()
    tensors["python"] = torch.tensor(internal, dtype=torch.int64)
    more = {
        "numpy": [str(name), int(position), int(has_gauss), float(gauss)],
        "python": [version, following],
    }
    return tensors, more


def load_random(folder: Path) -> None:
    """Put every source of random numbers back to where it was when the state was saved."""
    import torch
    from numpy import random as numpy_random
    from safetensors.torch import load_file

    tensors, more = load_file(folder / RANDOM), _read(folder)["random"]
    torch.set_rng_state(tensors["torch"])
    devices = [tensors[f"cuda.{n}"] for n in range(len(tensors)) if f"cuda.{n}" in tensors]
    if devices and torch.cuda.device_count() == len(devices):
        torch.cuda.set_rng_state_all(devices)
    name, position, has_gauss, gauss = more["numpy"]
    keys = tensors["numpy"].numpy().astype("uint32")
    numpy_random.set_state((name, keys, position, has_gauss, gauss))
    version, following = more["python"]
    random.setstate((version, tuple(tensors["python"].tolist()), following))

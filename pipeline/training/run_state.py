"""The state of a training run between two steps, as files without pickles.

What the next step depends on is the trained weights, the optimizer's and the scheduler's state,
the scaler's (float16), and the state of every source of random numbers; how far the run has come
is in `Progress`. Tensors are in safetensors, the rest in JSON.
"""

import random
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from pipeline.errors import PipelineError
from pipeline.files import write_json
from pipeline.training.state_check import check_progress, check_state, parse

if TYPE_CHECKING:
    import torch

WEIGHTS = "weights.safetensors"
OPTIMIZER = "optimizer.safetensors"
RANDOM = "random.safetensors"
STATE = "state.json"
_TICKS = ("last_epoch", "_step_count")  # of a schedule; the rest of it are settings


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
    return _progress(folder, _read(folder))


def check_saved(folder: Path) -> Progress:
    """The same once all of state.json makes sense, so far as that is known without the model.
    Raises PipelineError."""
    state = _read(folder)
    progress = _progress(folder, state)
    try:
        check_state(state)
    except ValueError as error:
        raise PipelineError(f"{folder / STATE} makes no sense: {error}.") from error
    return progress


def _progress(folder: Path, state: Any) -> Progress:
    progress: Any = state.get("progress") if isinstance(state, dict) else None
    try:
        check_progress(progress)
    except ValueError as error:
        raise PipelineError(
            f"{folder / STATE} does not say how far the run had come: {error}.",
            "Was it made by another version? --resume never starts anew.",
        ) from error
    return Progress(**progress)


def load_state(folder: Path, parts: Parts) -> Progress:
    """Put everything back as it was, but for the random numbers (see `load_random`).

    Only what a run changes is taken: its settings are those of `parts`, whatever a file says.

    Raises PipelineError: the state is of another model, another optimizer, or damaged.
    """
    from safetensors.torch import load_file

    state = _read(folder)
    with _fitting(folder):
        check_state(state)
        load_trained(parts.model, load_file(folder / WEIGHTS))
        _load_optimizer(parts.optimizer, load_file(folder / OPTIMIZER), state["optimizer"])
        ticks = {name: state["scheduler"][name] for name in _TICKS}
        parts.scheduler.load_state_dict(parts.scheduler.state_dict() | ticks)
        _take_rates(parts)
    return _progress(folder, state)


@contextmanager
def _fitting(folder: Path) -> Iterator[None]:
    """Whatever goes wrong with a state that is loaded becomes one sentence."""
    from safetensors import SafetensorError

    try:
        yield
    except (
        SafetensorError, OSError, LookupError, TypeError, ValueError, ArithmeticError,
        AttributeError, RuntimeError,
    ) as error:  # fmt: skip
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
    """Put the scale of a loss in float16 back. Raises PipelineError."""
    state = _read(folder)
    with _fitting(folder):
        if state["scaler"] is not None:
            scaler.load_state_dict(state["scaler"])


def _read(folder: Path) -> Any:
    try:
        return parse((folder / STATE).read_bytes())
    except (OSError, ValueError) as error:
        raise PipelineError(f"{folder / STATE} cannot be read: {error}.") from error


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
    """An optimizer's state as tensors named "parameter.key", and everything else as JSON has it.

    bitsandbytes keeps its tensors in a dict within that, whose are named "parameter.dict.key".
    """
    import torch

    tensors: dict[str, torch.Tensor] = {}
    numbers: dict[str, dict[str, Any]] = {}
    for parameter, values in state["state"].items():
        numbers[str(parameter)] = {}
        for key, value in _in_one_level(values):
            if isinstance(value, torch.Tensor):
                tensors[f"{parameter}.{key}"] = value.detach().to("cpu", copy=True).contiguous()
            else:
                numbers[str(parameter)][key] = _plain(value)
    return tensors, {"state": numbers, "groups": _plain(state["param_groups"])}


def _in_one_level(values: Mapping[str, Any]) -> Iterator[tuple[str, Any]]:
    for key, value in values.items():
        if isinstance(value, Mapping):
            yield from ((f"{key}.{inner}", item) for inner, item in value.items())
        else:
            yield key, value


def _nested(
    tensors: Mapping[str, "torch.Tensor"], numbers: Mapping[str, Any]
) -> dict[int, dict[str, Any]]:
    """What `_flat` made flat: by parameter. Raises ValueError if a parameter counts no steps."""
    flat = [(f"{number}.{key}", n) for number, kept in numbers.items() for key, n in kept.items()]
    state: dict[int, dict[str, Any]] = {int(number): {} for number in numbers}
    for name, value in [*flat, *tensors.items()]:
        parameter, _, path = name.partition(".")
        outer, _, key = path.rpartition(".")
        kept = state[int(parameter)]
        # Within their dict they stay what they are; outside, loading would give floats the
        # parameter's type.
        (kept.setdefault(outer, {}) if outer else kept)[key] = value
    for number, kept in state.items():
        if kept and "step" not in kept:
            raise ValueError(f"the optimizer has no step for parameter {number}")
    return state


def _load_optimizer(
    optimizer: "torch.optim.Optimizer",
    tensors: Mapping[str, "torch.Tensor"],
    numbers: Mapping[str, Any],
) -> None:
    groups = optimizer.state_dict()["param_groups"]
    sizes, saved = ([len(group["params"]) for group in of] for of in (groups, numbers["groups"]))
    if sizes != saved:
        raise ValueError(f"its optimizer has groups of {saved} tensors, and this one of {sizes}")
    state = _nested(tensors, numbers["state"])
    optimizer.load_state_dict({"state": state, "param_groups": groups})


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
    """Put every source of random numbers back to where it was when the state was saved.

    Raises PipelineError: what was saved is no state of theirs.
    """
    import torch
    from numpy import random as numpy_random
    from safetensors.torch import load_file

    state = _read(folder)
    with _fitting(folder):
        tensors, more = load_file(folder / RANDOM), state["random"]
        torch.set_rng_state(tensors["torch"])
        devices = [tensors[f"cuda.{n}"] for n in range(len(tensors)) if f"cuda.{n}" in tensors]
        if devices and torch.cuda.device_count() == len(devices):
            torch.cuda.set_rng_state_all(devices)
        name, position, has_gauss, gauss = more["numpy"]
        keys = tensors["numpy"].numpy().astype("uint32")
        numpy_random.set_state((name, keys, position, has_gauss, gauss))
        version, following = more["python"]
        random.setstate((version, tuple(tensors["python"].tolist()), following))

"""Write a whole model tensor by tensor: what `save_pretrained` would write, in little memory.

    tensors = saved_tensors(model)              # of a model without data; None: it cannot be done
    write_rounded(model, stored, folder, torch.bfloat16, SHARD_SIZE)

transformers has a model as a whole in memory when it saves it, and once more in 16 bits.
"""

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from threading import Lock
from typing import TYPE_CHECKING, Any

from pipeline.errors import PipelineError
from pipeline.tensor_files import (
    DTYPES,
    FLOATS,
    INDEX,
    SINGLE,
    Pieces,
    Planned,
    Stored,
    as_matrix,
    write_folder,
)

if TYPE_CHECKING:
    import torch

SLICE = 2_000_000  # numbers worked on at a time


@dataclass(frozen=True)
class Saved:
    """A tensor of a model's files: `own` is the model's tensor that it is, or is `cut` from."""

    own: str
    shape: tuple[int, ...]
    cut: bool


def saved_tensors(model: Any) -> dict[str, Saved] | None:
    """The tensors that `save_pretrained` would write of a model without data, by their names in
    the files. Of weights that are tied there is one; a stack of experts is cut into each of them.

    None for an architecture of which several parameters are stored together.
    """
    from transformers.core_model_loading import revert_weight_conversion

    own = own_tensors(model)
    by_tensor = {id(tensor): name for name, tensor in own.items()}
    saved: dict[str, Saved] = {}
    try:
        whole = revert_weight_conversion(model, dict(own))
        for name, tensor in own.items():
            for made, part in revert_weight_conversion(model, {name: tensor}).items():
                saved[made] = Saved(name, tuple(part.shape), id(part) not in by_tensor)
    # Whatever the library's rules make of one parameter where they take several.
    except (ValueError, RuntimeError, KeyError, IndexError, TypeError, NotImplementedError):
        return None
    shapes = {name: tuple(tensor.shape) for name, tensor in whole.items()}
    if shapes != {name: one.shape for name, one in saved.items()}:
        return None
    return saved


def own_tensors(model: Any) -> dict[str, "torch.Tensor"]:
    """What a model's files hold, by its name in the model: one of tied weights, the main one."""
    tied = set(getattr(model, "all_tied_weights_keys", None) or ())
    left_out = tied | set(model._keys_to_ignore_on_save or ())
    return {name: tensor for name, tensor in model.state_dict().items() if name not in left_out}


def write_whole(
    model: Any, folder: Path, tensors: Sequence[Planned], pieces: Pieces, shard_size: int
) -> None:
    """Write config.json, generation_config.json and the weights of a model into `folder`.

    `pieces` makes the data of a tensor, as `write_folder` takes it. The model's own data, if it has
    any, are not written.
    """
    # Without tensors it writes everything else, as it does for any model.
    model.save_pretrained(folder, state_dict={})
    for name in (SINGLE, INDEX):
        (folder / name).unlink(missing_ok=True)
    # In the order of safetensors itself, so that the files are those that it would write.
    in_order = sorted(tensors, key=lambda tensor: tensor.name)
    write_folder(folder, in_order, pieces, shard_size=shard_size)


def write_rounded(
    model: Any, stored: Mapping[str, Stored], folder: Path, dtype: "torch.dtype", shard_size: int
) -> None:
    """Write the model, which has no data, with the `stored` weights in `dtype`.

    `stored` are all of its parameters by their names in the model, of tied ones any, and
    `saved_tensors` must know it. The stacks of experts of a layer are in memory at a time.

    Raises:
        PipelineError: weights are not finite numbers in `dtype`.
        ValueError: a tensor of the model is not among them.
    """
    sources: dict[str, Stored] = {}
    others = {main: other for other, main in (model.all_tied_weights_keys or {}).items()}
    saved = saved_tensors(model) or {}
    for name, one in saved.items():
        found = stored.get(one.own) or stored.get(others.get(one.own, one.own))
        if found is None:
            raise ValueError(f"there is no {one.own}")
        sources[name] = found
    kind = kind_of(dtype)
    stacks = _Stacks(model, stored, dtype)

    def pieces(tensor: Planned) -> Iterator[Callable[[], "torch.Tensor"]]:
        if saved[tensor.name].cut:
            yield partial(stacks.take, saved[tensor.name].own, tensor.name)
            return
        source = sources[tensor.name]
        for first, last in slices(tensor.shape):
            yield partial(_rounded, source, first, last, dtype if tensor.kind == kind else None)

    planned = [
        Planned(name, kind if source.kind in FLOATS else source.kind, saved[name].shape)
        for name, source in sources.items()
    ]
    write_whole(model.to(dtype), folder, planned, pieces, shard_size)


class _Stacks:
    """Parameters that are stored in parts, in `dtype`: taken apart by transformers when the first
    part is asked for, and each part is given up when it is taken. For use from threads."""

    def __init__(self, model: Any, stored: Mapping[str, Stored], dtype: "torch.dtype") -> None:
        self._model, self._stored, self._dtype = model, stored, dtype
        self._parts: dict[str, torch.Tensor] = {}
        self._lock = Lock()

    def take(self, own: str, part: str) -> "torch.Tensor":
        with self._lock:
            if part not in self._parts:
                self._parts |= self._cut(own)
            return self._parts.pop(part)

    def _cut(self, own: str) -> dict[str, "torch.Tensor"]:
        import torch
        from transformers.core_model_loading import revert_weight_conversion

        source = self._stored[own]
        whole = torch.empty(as_matrix(source.shape), dtype=self._dtype)
        for first, last in slices(source.shape):
            whole[first:last] = _rounded(source, first, last, self._dtype)
        made = revert_weight_conversion(self._model, {own: whole.reshape(source.shape)})
        return dict(made)


def slices(shape: Sequence[int]) -> Iterator[tuple[int, int]]:
    """The rows of a tensor, a bearable number at a time: first, and before which to end."""
    rows, columns = as_matrix(shape)
    step = max(1, SLICE // max(1, columns))
    for first in range(0, rows, step):
        yield first, min(first + step, rows)


def kind_of(dtype: "torch.dtype") -> str:
    """What safetensors calls a type of numbers."""
    return next(kind for kind, name in DTYPES.items() if f"torch.{name}" == str(dtype))


def check_finite(numbers: "torch.Tensor", name: str) -> None:
    """Raise PipelineError unless all the numbers of a tensor are finite."""
    if not numbers.isfinite().all():
        raise PipelineError(
            f"The weights of {name} are not finite numbers in {numbers.dtype}.",
            "Train again with a lower learning rate.",
        )


def _rounded(source: Stored, first: int, last: int, dtype: "torch.dtype | None") -> "torch.Tensor":
    numbers = source.rows(first, last)
    if dtype is not None:
        numbers = numbers.to(dtype)
        check_finite(numbers, source.name)
    return numbers

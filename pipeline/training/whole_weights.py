"""Write a whole model tensor by tensor: what `save_pretrained` would write, in little memory.

    names = saved_names(model)                  # of a model without data; None: it cannot be done
    write_rounded(model, stored, folder, torch.bfloat16, SHARD_SIZE)

transformers has a model as a whole in memory when it saves it, and once more in 16 bits.
"""

from collections.abc import Callable, Iterator, Mapping, Sequence
from functools import partial
from pathlib import Path
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


def saved_names(model: Any) -> dict[str, str] | None:
    """The tensors that `save_pretrained` would write of a model without data: the name that each
    has in a file -> its name in the model. Of weights that are tied there is one.

    None for an architecture of which parameters are stored in parts or together.
    """
    from transformers.conversion_mapping import get_model_conversion_mapping
    from transformers.core_model_loading import WeightConverter, revert_weight_conversion

    rules = get_model_conversion_mapping(model, add_legacy=False)
    if any(isinstance(rule, WeightConverter) for rule in rules):
        return None
    own = own_tensors(model)
    in_file = revert_weight_conversion(model, dict(own))
    by_tensor = {id(tensor): name for name, tensor in own.items()}
    if {id(tensor) for tensor in in_file.values()} != by_tensor.keys():
        return None
    return {name: by_tensor[id(tensor)] for name, tensor in in_file.items()}


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
    `saved_names` must know it.

    Raises:
        PipelineError: weights are not finite numbers in `dtype`.
        ValueError: a tensor of the model is not among them.
    """
    sources: dict[str, Stored] = {}
    others = {main: other for other, main in (model.all_tied_weights_keys or {}).items()}
    for name, own in (saved_names(model) or {}).items():
        found = stored.get(own) or stored.get(others.get(own, own))
        if found is None:
            raise ValueError(f"there is no {own}")
        sources[name] = found
    kind = kind_of(dtype)

    def pieces(tensor: Planned) -> Iterator[Callable[[], "torch.Tensor"]]:
        source = sources[tensor.name]
        for first, last in slices(tensor.shape):
            yield partial(_rounded, source, first, last, dtype if tensor.kind == kind else None)

    planned = [
        Planned(name, kind if source.kind in FLOATS else source.kind, source.shape)
        for name, source in sources.items()
    ]
    write_whole(model.to(dtype), folder, planned, pieces, shard_size)


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

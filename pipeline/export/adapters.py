"""What an adapter changes in its base model, parameter by parameter.

PEFT itself says so: it builds its layers around a model without data, and what it would expect in
the adapter's file must be there, no tensor less and none more.
"""

import warnings
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from pipeline.errors import PipelineError
from pipeline.export.adapter_files import Adapter, not_understood
from pipeline.export.names import Homes, empty_model
from pipeline.tensor_files import first_line

PREFIX = "base_model.model."
PARTS = ("weight", "bias")


@dataclass(frozen=True)
class LowRank:
    """A LoRA or DoRA update; `a`, `b` and `magnitude` are names in the adapter's file.

    The update of a matrix is scale * (B @ A), transposed where the base keeps its matrix so
    (GPT-2's Conv1D, embeddings). With `experts` above 1 the parameter is a stack of matrices.
    """

    a: str
    b: str
    scale: float
    transposed: bool
    magnitude: str | None = None
    experts: int = 1


@dataclass(frozen=True)
class Change:
    """What happens to one parameter, in this order: another tensor in its place, an update of low
    rank, rows in place of its own (`rows` is the name of the tensor, `indices` says which)."""

    whole: str | None = None
    low_rank: LowRank | None = None
    rows: str | None = None
    indices: tuple[int, ...] = ()

    def tensors(self) -> list[str]:
        """Names of the adapter's tensors that it needs."""
        low_rank = self.low_rank
        parts = (low_rank.a, low_rank.b, low_rank.magnitude) if low_rank else ()
        return [name for name in (self.whole, *parts, self.rows) if name]


def vocabulary_of(adapter: Adapter, homes: Homes) -> int | None:
    """Rows of the embedding that the adapter was trained with, where they are more than the
    base's; else None."""
    rows = []
    for name, axes in zip(_ends(homes.model), ((1, 0), (0, 0)), strict=True):
        key = f"{PREFIX}{name}"
        for found, axis in (
            (f"{key}.lora_embedding_A", axes[0]),
            (f"{key}.lora_B.weight", axes[1]),
            *((whole, 0) for whole in _wholes(key, "weight")),
        ):
            if found in adapter.tensors:
                rows.append(adapter.tensors[found].shape[axis])
    indices = adapter.settings.trainable_token_indices or []
    lists = indices.values() if isinstance(indices, dict) else [indices]
    rows.extend(max(some) + 1 for some in lists if some)
    base = homes.shapes[f"{_ends(homes.model)[0]}.weight"][0]
    return max(rows) if rows and max(rows) > base else None


def _ends(model: Any) -> tuple[str, str]:
    """Names of the modules at which token ids enter and leave the model."""
    ends = (model.get_input_embeddings(), model.get_output_embeddings())
    names = {id(module): name for name, module in model.named_modules()}
    return names.get(id(ends[0]), ""), names.get(id(ends[1]), "")


def _wholes(module: str, part: str) -> tuple[str, ...]:
    """Names under which PEFT saves an embedding as a whole, if the vocabulary has grown."""
    return (
        f"{module}.{part}",
        f"{module}.base_layer.{part}",
        f"{module}.token_adapter.base_layer.{part}",
    )


def find_changes(
    adapter: Adapter, base_dir: Path, homes: Homes, vocabulary: int | None
) -> tuple[dict[str, Change], dict[str, tuple[int, ...]]]:
    """(what the adapter changes, by parameter; the shapes of the parameters with it)

    Raises:
        PipelineError: the adapter does not fit the base, or has a layer of a kind that cannot be
            merged here.
    """
    model = empty_model(base_dir, vocabulary)
    shapes = {name: tuple(tensor.shape) for name, tensor in model.state_dict().items()}
    ends = _ends(model)
    wrapped = _wrapped(model, adapter, base_dir)
    _check_tensors(wrapped, adapter, base_dir, ends)
    changes: dict[str, Change] = {}
    for end in ends:
        for part in PARTS:
            for key in _wholes(f"{PREFIX}{end}", part):
                if end and key in adapter.tensors:
                    changes[f"{end}.{part}"] = Change(whole=key)
    for parameter, change in _changes(wrapped, adapter.folder):
        before = changes.get(parameter)
        changes[parameter] = _joined(before, change) if before else change
    if adapter.settings.ensure_weight_tying:
        _refuse_tied_updates(changes, homes, adapter.folder)
    return changes, shapes


def _joined(before: Change, after: Change) -> Change:
    return replace(
        before,
        whole=after.whole or before.whole,
        low_rank=after.low_rank or before.low_rank,
        rows=after.rows or before.rows,
        indices=after.indices or before.indices,
    )


def _wrapped(model: Any, adapter: Adapter, base_dir: Path) -> Any:
    """The empty model with PEFT's layers around its own."""
    from peft import PeftModel

    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            return PeftModel(model, adapter.settings, low_cpu_mem_usage=True)
    except (ValueError, TypeError, RuntimeError, KeyError, AttributeError, IndexError) as error:
        raise _does_not_fit(adapter.folder, base_dir, first_line(error)) from error


def _does_not_fit(adapter_dir: Path, base_dir: Path, why: str) -> PipelineError:
    return PipelineError(
        f"The adapter in {adapter_dir} does not fit the base model in {base_dir}: {why}.",
        "Give the base model that the adapter was trained on.",
    )


def _check_tensors(wrapped: Any, adapter: Adapter, base_dir: Path, ends: tuple[str, str]) -> None:
    """Raise PipelineError unless the file holds what PEFT would save, neither more nor less."""
    from peft import get_peft_model_state_dict

    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        expected = get_peft_model_state_dict(wrapped, save_embedding_layers=False)
    shapes = {key: tuple(tensor.shape) for key, tensor in expected.items()}
    given = {
        key: stored.shape
        for key, stored in adapter.tensors.items()
        if key in shapes or key not in _extra(ends)
    }
    missing = sorted(shapes.keys() - given.keys())
    surplus = sorted(given.keys() - shapes.keys())
    if missing:
        why = f"it lacks {len(missing)} of {len(shapes)} tensors, such as {missing[0]}"
        raise _does_not_fit(adapter.folder, base_dir, why)
    if surplus:
        why = f"{len(surplus)} of its tensors have no place there, such as {surplus[0]}"
        raise _does_not_fit(adapter.folder, base_dir, why)
    for key, shape in shapes.items():
        if given[key] != shape:
            why = f"{key} has the shape {list(given[key])} and not {list(shape)}"
            raise _does_not_fit(adapter.folder, base_dir, why)


def _extra(ends: tuple[str, str]) -> set[str]:
    """Names of what PEFT saves besides when it is told to save embeddings: the whole of them, and
    copies of what is elsewhere."""
    names = set()
    for end in ends:
        module = f"{PREFIX}{end}"
        for part in PARTS if end else ():
            names |= {*_wholes(module, part)}
        for copied in ("delta", "original"):
            names.add(f"{module}.token_adapter.trainable_tokens_{copied}")
    return names


def _changes(wrapped: Any, folder: Path) -> Iterator[tuple[str, Change]]:
    """(parameter, change) for every layer that PEFT put around one of the model's."""
    from peft.tuners.tuners_utils import BaseTunerLayer
    from peft.utils.other import ModulesToSaveWrapper, TrainableTokensWrapper

    for path, module in wrapped.named_modules():
        name = path.removeprefix(PREFIX)
        if isinstance(module, ModulesToSaveWrapper):
            for part in module.original_module.state_dict():
                source = _tied_source(wrapped, module) or path
                yield f"{name}.{part}", Change(whole=f"{source}.{part}")
        elif isinstance(module, TrainableTokensWrapper):
            yield f"{name}.weight", _trained_tokens(wrapped, path, module.token_adapter)
        elif isinstance(module, BaseTunerLayer) and ".token_adapter" not in path:
            yield _low_rank(path, module, folder)


def _tied_source(wrapped: Any, module: Any) -> str | None:
    """The path of the module whose saved copy this one shares, if it does."""
    shared = module.modules_to_save["default"]
    for path, other in wrapped.named_modules():
        if other is module:
            return None
        copies = getattr(other, "modules_to_save", None)
        if copies is not None and "default" in copies and _share(copies["default"], shared):
            return str(path)
    return None


def _share(one: Any, other: Any) -> bool:
    return one is other or getattr(one, "weight", one) is getattr(other, "weight", other)


def _trained_tokens(wrapped: Any, path: str, layer: Any) -> Change:
    owner = layer.tied_adapter or layer
    if owner is not layer:
        path = next(p for p, module in wrapped.named_modules() if module is owner)
        path = path.removesuffix(".token_adapter")
    key = f"{path}.token_adapter.trainable_tokens_delta"
    return Change(rows=key, indices=tuple(owner.token_indices["default"]))


def _low_rank(path: str, layer: Any, folder: Path) -> tuple[str, Change]:
    from peft.tuners.lora import layer as lora
    from peft.tuners.lora import variants

    module = path.removeprefix(PREFIX).replace(".base_layer", "")
    variant = layer.lora_variant.get("default")
    dora = isinstance(variant, variants.DoraLinearVariant | variants.DoraEmbeddingVariant)
    magnitude = f"{path}.lora_magnitude_vector" if dora else None
    kind = type(layer)
    if kind not in (lora.Linear, lora.Embedding, lora.ParamWrapper) or (variant and not dora):
        raise PipelineError(
            f"The adapter in {folder} changes {module}, which is of a kind that cannot be merged"
            f" here ({type(layer.get_base_layer()).__name__}).",
            "Train without this module (--target-modules).",
        )
    scale = float(layer.scaling["default"])
    if kind is lora.Embedding:
        a, b = f"{path}.lora_embedding_A", f"{path}.lora_embedding_B"
        return f"{module}.weight", Change(low_rank=LowRank(a, b, scale, True, magnitude))
    a, b = f"{path}.lora_A.weight", f"{path}.lora_B.weight"
    if kind is lora.ParamWrapper:
        # Experts that lie the other way round (in, out) are the transposed ones.
        transposed = layer.num_experts > 1 and not layer._did_swap_in_out_features
        update = LowRank(a, b, scale, transposed, None, layer.num_experts)
        return f"{module}.{layer.parameter_name}", Change(low_rank=update)
    update = LowRank(a, b, scale, bool(layer.fan_in_fan_out), magnitude)
    return f"{module}.weight", Change(low_rank=update)


def _refuse_tied_updates(changes: Mapping[str, Change], homes: Homes, folder: Path) -> None:
    for pair in homes.tied.items():
        if any(name in changes and changes[name].low_rank for name in pair):
            raise not_understood(folder, "ensure_weight_tying", True)

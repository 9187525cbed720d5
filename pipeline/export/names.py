"""Which tensors of a checkpoint make up which parameter of the model that transformers builds.

The names differ for many architectures: a prefix is there or not, modules were renamed, and some
parameters are stored in parts (the experts of a mixture one by one) or together. transformers
knows all of this and does it when it loads; here its own rules are asked, over a model without
data.
"""

import copy
import re
import warnings
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from pipeline.errors import PipelineError
from pipeline.tensor_files import Source, first_line


@dataclass
class Group:
    """Tensors that transformers converts together, and the parameters that come of them.

    `targets` are the parameters, `keys` the checkpoint's names of the parts by the names that the
    conversion knows them by.
    """

    converter: Any
    first: str
    parts: list[tuple[str, str, str]] = field(default_factory=list)  # pattern, inner name, key
    targets: dict[str, tuple[int, ...]] = field(default_factory=dict)

    @property
    def keys(self) -> dict[str, str]:
        return {inner: key for _, inner, key in self.parts}

    def convert(self, model: Any, tensors: Mapping[str, Any]) -> dict[str, Any]:
        """The parameters, made of the tensors by key."""
        converter = copy.deepcopy(self.converter)
        for pattern, inner, key in self.parts:
            converter.add_tensor(self.first, inner, pattern, tensors[key])
        return _single(converter.convert(self.first, model=model, config=model.config))

    def revert(self, model: Any, parameters: Mapping[str, Any]) -> dict[str, Any]:
        """The tensors by key, made of the parameters."""
        reverse = self.converter.reverse_transform()
        first = None
        for name, tensor in sorted(parameters.items()):
            renamed, pattern = reverse.rename_source_key(name)
            first = first or renamed
            reverse.add_tensor(first, name, pattern, tensor)
        made = _single(reverse.convert(first, model=model, config=model.config))
        return {self.keys[inner]: tensor for inner, tensor in made.items()}


@dataclass(frozen=True)
class Homes:
    """`direct`: the checkpoint's key of each parameter that is stored as it is; `groups` the
    others. `tied`: parameters that share the weights of another."""

    model: Any
    direct: dict[str, str]
    groups: list[Group]
    tied: dict[str, str]
    shapes: dict[str, tuple[int, ...]]

    def group_of(self, parameter: str) -> Group | None:
        """The group that makes this parameter."""
        return next((group for group in self.groups if parameter in group.targets), None)

    def has(self, parameter: str) -> bool:
        """Whether the checkpoint holds this parameter itself."""
        return parameter in self.direct or self.group_of(parameter) is not None


def empty_model(folder: Path, vocabulary: int | None = None) -> Any:
    """The causal language model that `folder`/config.json describes, without data.

    Args:
        vocabulary: rows of its embedding, where they are not those of the configuration.

    Raises:
        PipelineError: transformers does not know it, or it needs code of its own.
    """
    import torch
    from transformers import AutoConfig, AutoModelForCausalLM

    try:
        with warnings.catch_warnings(), torch.device("meta"):
            warnings.simplefilter("ignore")
            # False, not nothing: else it asks at the terminal whether to run the model's own code.
            config = AutoConfig.from_pretrained(
                folder, local_files_only=True, trust_remote_code=False
            )
            if hasattr(config, "quantization_config"):
                del config.quantization_config
            if vocabulary is not None:
                config.get_text_config().vocab_size = vocabulary
            return AutoModelForCausalLM.from_config(
                config, dtype=torch.float32, trust_remote_code=False
            )
    # Whatever a configuration can make of the library's hundreds of models.
    except (OSError, ValueError, RuntimeError, KeyError, TypeError, AttributeError) as error:
        raise PipelineError(
            f"The base model in {folder} cannot be loaded: {first_line(error)}."
        ) from error


def find_homes(
    model: Any, tensors: Mapping[str, Source], folder: Path, what: str = "base model"
) -> Homes:
    """Match the checkpoint's tensors with the parameters of the (empty) model.

    `what` is what messages call the checkpoint.

    Raises:
        PipelineError: a parameter has no tensor, or one of another shape.
    """
    from transformers.conversion_mapping import get_model_conversion_mapping
    from transformers.core_model_loading import WeightConverter, WeightRenaming, dot_natural_key

    rules = get_model_conversion_mapping(model)
    renamings = [rule for rule in rules if isinstance(rule, WeightRenaming)]
    converters = [rule for rule in rules if isinstance(rule, WeightConverter)]
    expected = model.state_dict()
    direct: dict[str, str] = {}
    groups: dict[str, Group] = {}
    for key in sorted(tensors, key=dot_natural_key):
        name, pattern, inner = _renamed(key, renamings, converters, model, expected)
        if name not in expected:
            continue  # kept as it is: nothing that an adapter can reach
        if pattern is None:
            direct[name] = key
            continue
        converter = next(rule for rule in converters if pattern in rule.source_patterns)
        group = groups.setdefault(name, Group(converter, name))
        group.parts.append((pattern, inner, key))
    homes = Homes(
        model,
        direct,
        list(groups.values()),
        dict(getattr(model, "all_tied_weights_keys", None) or {}),
        {name: tuple(tensor.shape) for name, tensor in expected.items()},
    )
    _find_targets(homes, tensors, f"{what} in {folder}")
    _check(homes, tensors, f"{what} in {folder}")
    return homes


def _renamed(
    key: str, renamings: list[Any], converters: list[Any], model: Any, expected: dict[str, Any]
) -> tuple[str, str | None, str]:
    """(parameter, pattern of the converter that takes the key, name that the converter sees)"""
    from transformers.core_model_loading import rename_source_key

    prefix = model.base_model_prefix
    inner = rename_source_key(key, renamings, [])[0]
    name, pattern = rename_source_key(key, renamings, converters, prefix, expected)
    if name not in expected and key in expected:
        name, pattern = rename_source_key(key, [], [], prefix, expected)
    return name, pattern, inner


def _find_targets(homes: Homes, tensors: Mapping[str, Source], place: str) -> None:
    """Convert every group without data, to learn what comes of it."""
    import torch

    for group in homes.groups:
        empty = {key: torch.empty(tensors[key].shape, device="meta") for key in group.keys.values()}
        try:
            made = group.convert(homes.model, empty)
        except (ValueError, RuntimeError, KeyError, IndexError) as error:
            raise _unfit(group.first, place) from error
        group.targets.update({name: tuple(tensor.shape) for name, tensor in made.items()})


def _check(homes: Homes, tensors: Mapping[str, Source], place: str) -> None:
    found = {name: tensors[key].shape for name, key in homes.direct.items()}
    for group in homes.groups:
        found |= group.targets
    wanted = {name for name, _ in homes.model.named_parameters(remove_duplicate=False)}
    optional = homes.model._keys_to_ignore_on_load_missing or []
    partner = homes.tied | {source: target for target, source in homes.tied.items()}
    for name in sorted(wanted):
        if name in found:
            if found[name] != homes.shapes[name]:
                raise PipelineError(
                    f"The tensor of {name} in the {place} has the shape"
                    f" {list(found[name])} where its config.json tells"
                    f" {list(homes.shapes[name])}.",
                    "Copy the model again.",
                )
        elif partner.get(name) not in found and not any(re.search(p, name) for p in optional):
            raise _unfit(name, place)


def _unfit(name: str, place: str) -> PipelineError:
    return PipelineError(
        f"The {place} is not whole: it lacks the tensor of {name}.",
        "Copy the model again.",
    )


def _single(made: Mapping[str, Any]) -> dict[str, Any]:
    return {name: value[0] if isinstance(value, list) else value for name, value in made.items()}

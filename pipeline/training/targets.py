"""Which layers of a model get an adapter, whatever its architecture calls them.

    find_targets(model, ())                      every linear layer but the output head
    find_targets(model, ("attention",))          those of one group: see GROUPS
    find_targets(model, ("q_proj", "v_proj"))    by the last part, or parts, of their names

Left out unless they are named: the output head and the embedding; the routers of a mixture of
experts, since a step that improves the few rows of one moves whole texts to other experts, and
nothing here balances them again; everything outside the text decoder, such as a picture encoder,
which a text never passes through. Experts that a model keeps as one three-dimensional parameter
are no linear layers: they stay as they are.
"""

import difflib
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any

from pipeline.errors import PipelineError, UsageError

GROUPS = ("all-linear", "attention", "mlp")
ROUTERS = ("router", "gate", "shared_expert_gate", "gate_network", "routing")
_ATTENTION = ("attention", "attn")
_MLP = ("mlp", "feedforward", "ffn", "expert", "moe")
_MLP_LAYERS = ("fc1", "fc2", "fc_in", "fc_out")  # of OPT and others, without a module of their own


@dataclass(frozen=True)
class Targets:
    """Names as PEFT wants them: a module is meant whose name is one, or ends in "." and one.

    `linear` layers get a low-rank adapter. `whole` ones (norms, embeddings) are trained as they
    are and saved with the adapter, as LongLoRA does (Chen et al. 2024).
    """

    linear: list[str]
    whole: list[str]


def find_targets(model: Any, wanted: Sequence[str] = ()) -> Targets:
    """The modules of `model` that are meant; `model` may be on the meta device.

    Args:
        wanted: groups, or names by their last parts; an entry may hold several, separated by
            commas. None means "all-linear".

    Raises:
        UsageError: a name that no layer has, with the nearest, or that of something that can take
            no adapter.
        PipelineError: the model has no linear layers.
    """
    names = [name.strip() for entry in wanted for name in entry.split(",") if name.strip()]
    linear = linear_layers(model)
    if not linear:
        raise PipelineError(f"{_kind(model)} has no linear layers that an adapter could go on.")
    whole = _whole_layers(model)
    chosen: set[str] = set()
    for name in names or ["all-linear"]:
        chosen |= _group(model, linear, name) if name in GROUPS else _named(model, whole, name)
    every = [name for name, _ in model.named_modules()]
    if not chosen - whole:
        raise UsageError(
            f"--target-modules {','.join(names)} names no linear layer, and an adapter needs one.",
            f"Add one of {', '.join(GROUPS)}.",
        )
    return Targets(
        linear=_shortest(chosen - whole, every), whole=_shortest(chosen & whole, every, dots=False)
    )


def linear_layers(model: Any) -> list[str]:
    """The full names of the linear layers of the text decoder, without head and routers."""
    decoder = _decoder(model)
    head = model.get_output_embeddings()
    return [
        name
        for name, module in model.named_modules()
        if _is_linear(module)
        and module is not head
        and any(module is inner for inner in decoder)
        and name.rpartition(".")[2] not in ROUTERS
    ]


def has_fused_experts(model: Any) -> bool:
    """Whether the model keeps experts as three-dimensional parameters, which no adapter reaches."""
    return any(
        parameter.ndim == 3 and "expert" in name.lower()
        for name, parameter in model.named_parameters()
    )


def is_transposed(model: Any) -> bool:
    """Whether linear layers keep their weights as (in, out), as GPT-2's do."""
    from transformers.pytorch_utils import Conv1D

    return any(isinstance(module, Conv1D) for module in model.modules())


def _decoder(model: Any) -> list[Any]:
    """All modules that a text passes through; of a model without further parts, all."""
    decoder = model.get_decoder() if hasattr(model, "get_decoder") else None
    return list((decoder if decoder is not None else model).modules())


def _is_linear(module: Any) -> bool:
    import torch
    from transformers.pytorch_utils import Conv1D  # GPT-2's name for a linear layer

    return isinstance(module, torch.nn.Linear | Conv1D)


def _whole_layers(model: Any) -> set[str]:
    """Norms and embeddings. Norms have classes of their own in every architecture."""
    import torch

    return {
        name
        for name, module in model.named_modules()
        if isinstance(module, torch.nn.Embedding)
        or ("norm" in type(module).__name__.lower() and not list(module.children()))
    }


def _group(model: Any, linear: list[str], group: str) -> set[str]:
    if group == "all-linear":
        return set(linear)
    chosen = {name for name in linear if _group_of(model, name) == group}
    if not chosen:
        raise UsageError(
            f"--target-modules {group}: {_kind(model)} has no layers that are known to be of it.",
            f"Its linear layers: {', '.join(_last_parts(linear))}.",
        )
    return chosen


def _group_of(model: Any, name: str) -> str | None:
    """By the classes around a layer: every architecture has one for attention."""
    parts = name.split(".")
    around = [type(model.get_submodule(".".join(parts[:i]))) for i in range(1, len(parts))]
    classes = [cls.__name__.lower() for cls in around]
    if any(word in cls for cls in classes for word in _ATTENTION):
        return "attention"
    if any(word in cls for cls in classes for word in _MLP) or parts[-1] in _MLP_LAYERS:
        return "mlp"
    return None


def _named(model: Any, whole: set[str], name: str) -> set[str]:
    modules = dict(model.named_modules())
    found = {full for full in modules if full == name or full.endswith(f".{name}")}
    if not found:
        able = {full for full, module in modules.items() if _is_linear(module)} | whole
        raise UsageError(
            f"--target-modules {name}: {_kind(model)} has no layer of that name.", _hint(name, able)
        )
    unable = [full for full in sorted(found) if not _is_linear(modules[full]) and full not in whole]
    if unable:
        raise UsageError(
            f"--target-modules {name}: {unable[0]} is a {type(modules[unable[0]]).__name__}, which "
            "can take no adapter.",
            _hint(name, set(linear_layers(model))),
        )
    return found


def _hint(name: str, able: set[str]) -> str:
    known = _last_parts(able)
    near = difflib.get_close_matches(name.rpartition(".")[2], [*known, *GROUPS], n=1)
    choice = f"Did you mean {near[0]}? " if near else ""
    return f"{choice}It has {', '.join(known)}; {', '.join(GROUPS)} mean groups of them."


def _last_parts(names: Iterable[str]) -> list[str]:
    return sorted({name.rpartition(".")[2] for name in names})


def _shortest(chosen: set[str], every: Sequence[str], *, dots: bool = True) -> list[str]:
    """The shortest ends of names that mean all of `chosen` and nothing else in the model.

    `c_proj` where all of that name are meant, `attn.c_proj` where only those of attention are.
    Without `dots`, as PEFT looks for whole layers, an end need not begin with a part of the name:
    "norm" means "input_layernorm", too.
    """
    ends: dict[str, list[str]] = {}
    for name in every:
        parts = name.split(".")
        for i in range(len(parts)):
            ends.setdefault(".".join(parts[i:]), []).append(name)
    found = set()
    for name in chosen:
        parts = name.split(".")
        for i in reversed(range(len(parts))):
            end = ".".join(parts[i:])
            meant = ends[end]
            if not dots:
                meant = [other for other in every if other.endswith(end)]
            if chosen.issuperset(meant):
                found.add(end)
                break
        else:
            found.add(name)
    return sorted(found)


def _kind(model: Any) -> str:
    return str(model.config.model_type)

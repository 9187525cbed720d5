"""Longer contexts: rotary positions (Su et al. 2021) stretched to more tokens than were trained.

    change = rope_change(config, "yarn:4", sequence_length=8192)
    change.apply(config)

"linear" divides all positions (Chen et al. 2023), "dynamic" changes the base frequency as a text
grows, "yarn" stretches slow frequencies only (Peng et al. 2023), "llama3" does so with the bounds
of Llama 3.1. "auto" stretches as far as --sequence-length needs, by YaRN, or further in the way
that the base model is stretched already; it changes nothing where the sequences fit.
"""

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from pipeline.errors import UsageError

KINDS = ("linear", "dynamic", "yarn", "llama3")
AUTO = "auto"
AUTO_KIND = "yarn"
# Bounds between frequencies that are stretched and those that are not, as Llama 3.1 has them.
_LLAMA3 = {"low_freq_factor": 1.0, "high_freq_factor": 4.0}
_ORIGINAL = "original_max_position_embeddings"


@dataclass(frozen=True)
class RopeChange:
    """What becomes of a configuration: its `rope_parameters` and `max_position_embeddings`.

    `head_dim` is set where it was None, which not all code of transformers expects. `context` is
    the number of tokens that the model sees then: with "dynamic" it is more than
    `max_position_embeddings`, which means the context trained on there.
    """

    kind: str
    factor: float
    parameters: dict[str, Any]
    max_position_embeddings: int
    context: int
    head_dim: int | None = None

    def __str__(self) -> str:
        return f"{self.kind} by {self.factor:g}, to {self.context} tokens"

    def apply(self, config: Any) -> None:
        """Change a model's configuration, before the model is made."""
        text = config.get_text_config(decoder=True)
        text.rope_parameters = _copy(self.parameters)
        text.max_position_embeddings = self.max_position_embeddings
        if self.head_dim is not None:
            text.head_dim = self.head_dim

    def as_dict(self) -> dict[str, Any]:
        """Keys of config.json, for a file beside the adapter, so that a merged model gets them."""
        changed: dict[str, Any] = {
            "rope_parameters": _copy(self.parameters),
            "max_position_embeddings": self.max_position_embeddings,
        }
        return changed if self.head_dim is None else {**changed, "head_dim": self.head_dim}


def parse_scaling(text: str) -> tuple[str, float | None]:
    """The kind and the factor that --rope-scaling means; ("auto", None) for auto.

    Raises UsageError.
    """
    kind, colon, number = text.strip().partition(":")
    if kind == AUTO and not colon:
        return AUTO, None
    if kind not in KINDS:
        raise UsageError(
            f"--rope-scaling {text!r} is unknown.", f"Give auto, or one of {_examples()}."
        )
    try:
        factor = float(number)
    except ValueError:
        factor = math.nan
    if not 1 < factor < math.inf:
        raise UsageError(
            f"--rope-scaling {text!r} needs a factor above 1.", f"Give one of {_examples()}."
        )
    return kind, factor


def rope_change(config: Any, scaling: str | None, sequence_length: int) -> RopeChange | None:
    """What `scaling` means for a model of this configuration; None where nothing changes.

    Raises:
        UsageError: it is unknown, or this model cannot take it.
    """
    if scaling is None:
        return None
    kind, factor = parse_scaling(scaling)
    text = config.get_text_config(decoder=True)
    context = context_of(text)
    if kind == AUTO and (context is None or sequence_length <= context):
        return None
    current = _stretchable(text, scaling)
    if context is None:
        raise UsageError(f"--rope-scaling {scaling}: {text.model_type} does not say its context.")
    old = str(current.get("rope_type", "default"))
    if kind == AUTO:
        kind = old if old in KINDS else AUTO_KIND
    if old not in ("default", kind):
        raise UsageError(
            f"--rope-scaling {scaling}: {text.model_type} is stretched already, by {old}.",
            "Give auto." if old in KINDS else "Take a base model with a longer context.",
        )
    return _change(text, current, kind, factor or sequence_length / context, context)


def context_of(config: Any) -> int | None:
    """How many tokens a model of this configuration sees; None if it does not say."""
    text = config.get_text_config(decoder=True)
    longest = getattr(text, "max_position_embeddings", None)
    if not isinstance(longest, int):
        return None
    current = _current(text)
    if current and current.get("rope_type") == "dynamic":
        return int(longest * current["factor"])
    return longest


def _change(
    config: Any, current: Mapping[str, Any], kind: str, factor: float, context: int
) -> RopeChange:
    """`factor` is on top of what the model is stretched by already; `current` is of that kind."""
    already = float(current.get("factor", 1.0)) if current.get("rope_type") == kind else 1.0
    original = int(current.get(_ORIGINAL) or config.max_position_embeddings)
    new = {
        **{key: value for key, value in current.items() if key != "type"},
        "rope_type": kind,
        "factor": factor * already,
    }
    if kind in ("yarn", "llama3"):
        new[_ORIGINAL] = original
    if kind == "yarn":
        new.pop("attention_factor", None)  # follows from the factor
    if kind == "llama3":
        new = {**_LLAMA3, **new}
    longest = math.floor(context * factor + 1e-6)  # (n / context) * context may be just below n
    return RopeChange(
        kind=kind,
        factor=factor,
        parameters=_put(config.rope_parameters, new),
        # Of "dynamic" the code in transformers takes this for the context trained on.
        max_position_embeddings=config.max_position_embeddings if kind == "dynamic" else longest,
        context=longest,
        head_dim=_missing_head_dim(config),
    )


def _missing_head_dim(config: Any) -> int | None:
    if getattr(config, "head_dim", 0) is not None:
        return None
    return int(config.hidden_size // config.num_attention_heads)


def _stretchable(config: Any, scaling: str) -> dict[str, Any]:
    current = _current(config)
    if current is None or current.get("rope_theta") is None or getattr(config, "alibi", False):
        raise UsageError(
            f"--rope-scaling {scaling}: {config.model_type} has no rotary positions to stretch.",
            "Take a base model with rotary positions, such as a Llama, or a longer context.",
        )
    if "mrope_section" in current:
        raise UsageError(
            f"--rope-scaling {scaling}: the positions of {config.model_type} have several "
            "dimensions, which cannot be stretched.",
            "Take a base model of texts only.",
        )
    return current


def _current(config: Any) -> dict[str, Any] | None:
    """The parameters of layers that look at the whole context: those with a window need no more."""
    parameters = getattr(config, "rope_parameters", None)
    if not parameters:
        return None
    if _is_nested(parameters):
        return parameters.get("full_attention")
    return dict(parameters)


def _put(parameters: Mapping[str, Any], new: dict[str, Any]) -> dict[str, Any]:
    if _is_nested(parameters):
        return {**_copy(parameters), "full_attention": new}
    return new


def _is_nested(parameters: Mapping[str, Any]) -> bool:
    """Whether there are parameters for each kind of layer, as Gemma 3 has them."""
    return "rope_type" not in parameters and any(isinstance(v, dict) for v in parameters.values())


def _copy(parameters: Mapping[str, Any]) -> dict[str, Any]:
    return {k: dict(v) if isinstance(v, Mapping) else v for k, v in parameters.items()}


def _examples() -> str:
    return ", ".join(f"{kind}:2" for kind in KINDS)

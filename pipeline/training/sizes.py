"""The sizes of a model that its memory depends on, read off a model without weights."""

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import Any

from pipeline.training.settings import TrainSettings
from pipeline.training.targets import find_targets, linear_layers

FLOAT = 4  # bytes of a weight that is trained, whatever the rest is kept in


@dataclass(frozen=True)
class Sizes:
    """What memory depends on in a model: numbers of weights, and widths in numbers.

    `linear` are the weights of linear layers without the output head, `adapted` and `adapted_in`,
    `adapted_out` the layers that get an adapter and the sums of their widths, `whole` the weights
    of layers trained beside it, `factored` the rows and columns of all matrices, `norms` the widths
    of all norms.
    """

    weights: int
    linear: int
    largest: int
    factored: int
    embedding: int
    vocabulary: int
    hidden: int
    intermediate: int
    attention: int
    heads: int
    layers: int
    norms: int
    adapted_in: int
    adapted_out: int
    whole: int
    attention_dropout: bool
    simple_activation: bool


def sizes_of(model: Any, settings: TrainSettings) -> Sizes:
    """Measure a causal language model of transformers, which may be on the meta device.

    Raises as `find_targets` does.
    """
    config = model.config.get_text_config()
    heads = config.num_attention_heads
    head = getattr(config, "head_dim", None) or config.hidden_size // heads
    modules = dict(model.named_modules())
    shapes = {name: tuple(tensor.shape) for name, tensor in model.named_parameters()}
    numbers = {name: tensor.numel() for name, tensor in model.named_parameters()}
    # Of a full training they tell what an adapter would need.
    wanted = () if settings.trains_everything else settings.target_modules
    targets = find_targets(model, wanted)
    widths = [_in_out(m) for name, m in modules.items() if _is_one_of(name, targets.linear)]
    layers = [m for name, m in modules.items() if _is_one_of(name, targets.whole)]
    rows = [shape for shape in shapes.values() if len(shape) > 1]
    vocabulary, hidden = model.get_input_embeddings().weight.shape
    return Sizes(
        weights=sum(numbers.values()),
        linear=sum(modules[name].weight.numel() for name in linear_layers(model)),
        largest=max(numbers.values()),
        factored=sum(shape[0] + shape[-1] for shape in rows),
        embedding=vocabulary * hidden,
        vocabulary=vocabulary,
        hidden=config.hidden_size,
        intermediate=_intermediate(config),
        attention=heads * head,
        heads=heads,
        layers=config.num_hidden_layers,
        norms=sum(_norm_widths(modules.values(), head, heads, config.hidden_size)),
        adapted_in=sum(width for width, _ in widths),
        adapted_out=sum(width for _, width in widths),
        whole=sum(tensor.numel() for layer in layers for tensor in layer.parameters()),
        attention_dropout=bool(
            getattr(config, "attention_dropout", 0) or getattr(config, "attn_pdrop", 0)
        ),
        simple_activation=_activation(config) in ("silu", "swish", "gelu", "relu"),
    )


def _is_one_of(name: str, targets: list[str]) -> bool:
    return any(name == target or name.endswith(f".{target}") for target in targets)


def _in_out(module: Any) -> tuple[int, int]:
    rows, columns = module.weight.shape  # of GPT-2's the other way round: what counts is the sum
    if hasattr(module, "in_features"):
        return int(module.in_features), int(module.out_features)
    return int(rows), int(columns)


def _intermediate(config: Any) -> int:
    """The width of the MLP; of a mixture of experts those together that a token passes through."""
    width = None
    for name in ("intermediate_size", "n_inner", "ffn_dim", "ffn_hidden_size"):
        width = width or getattr(config, name, None)
    if isinstance(width, list | tuple):
        width = max(width)
    width = int(width or 4 * config.hidden_size)
    experts = getattr(config, "num_experts_per_tok", None)
    if experts:
        shared = getattr(config, "shared_expert_intermediate_size", None) or 0
        return int(experts * (getattr(config, "moe_intermediate_size", None) or width) + shared)
    return width


def _activation(config: Any) -> str:
    """The name of the MLP's activation. Those that torch has keep their input and nothing else."""
    for name in ("hidden_act", "hidden_activation", "activation_function"):
        if isinstance(value := getattr(config, name, None), str):
            return value
    return ""


def _norm_widths(modules: Iterable[Any], head: int, heads: int, hidden: int) -> Iterator[int]:
    for module in modules:
        weight = getattr(module, "weight", None)
        if "norm" not in type(module).__name__.lower() or weight is None or weight.ndim != 1:
            continue
        width = weight.shape[0]
        # Some models have norms of queries and keys, one for all heads.
        yield width * heads if width == head and width != hidden else width

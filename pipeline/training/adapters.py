"""New adapters on a loaded model, and new rows for new tokens."""

import math
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

from pipeline.corpus.new_tokens import NewToken
from pipeline.errors import UsageError
from pipeline.training.base_model import BaseModel
from pipeline.training.methods import METHODS
from pipeline.training.settings import TrainSettings
from pipeline.training.targets import Targets, find_targets, is_transposed

if TYPE_CHECKING:
    import torch


def add_adapter(
    model: Any, base: BaseModel, settings: TrainSettings, new_tokens: Iterable[NewToken] = ()
) -> Any:
    """Put a new adapter on `model`, which is frozen, and return the two as PEFT's model.

    LoRA (Hu et al. 2021), with DoRA's magnitudes if the method is that. Rows of new tokens are
    trained and saved with it. The adapter changes nothing yet.
    """
    from peft import LoraConfig, get_peft_model

    targets = find_targets(model, settings.target_modules)
    lora = LoraConfig(
        task_type="CAUSAL_LM",
        r=settings.rank,
        lora_alpha=settings.lora_alpha,
        lora_dropout=settings.dropout,
        target_modules=targets.linear,
        modules_to_save=targets.whole or None,
        use_rslora=settings.rslora,
        use_dora=METHODS[settings.method].dora,
        fan_in_fan_out=is_transposed(model),
        trainable_token_indices=_trained_rows(model, [token.id for token in new_tokens]),
        # An embedding that is the output head, too, stays so when it is trained.
        ensure_weight_tying=bool(targets.whole) and len(_tables(model)) == 1,
        base_model_name_or_path=str(base.path),
    )
    adapted = get_peft_model(model, lora, autocast_adapter_dtype=True)
    finish_adapter(adapted, settings.seed)
    _show_no_bias(adapted.get_output_embeddings())
    return adapted


def check_tables(model: Any, targets: Targets) -> None:
    """Raise UsageError if new tokens cannot get rows of their own in the embedding and the head of
    `model`, which may be on the meta device.
    """
    head = model.get_output_embeddings()
    tables = (model.get_input_embeddings(), head)
    for name, module in model.named_modules():
        if any(module is table for table in tables) and _is_target(name, targets):
            raise UsageError(
                f"--extra-tokens trains rows of {name}, and --target-modules all of it.",
                f"Leave {name.rpartition('.')[2]} out of --target-modules.",
            )
    if getattr(head, "bias", None) is not None:
        raise UsageError(
            f"--extra-tokens: the output head of {model.config.model_type} has a bias, which PEFT "
            "leaves out where it trains rows.",
            "Take --method full, or another base model.",
        )


def _is_target(name: str, targets: Targets) -> bool:
    linear = any(f".{name}".endswith(f".{end}") for end in targets.linear)
    return linear or any(name.endswith(end) for end in targets.whole)


def _show_no_bias(head: Any) -> None:
    """PEFT's wrapper around a head whose rows are trained shows its weight and not that it has no
    bias, which TRL's loss asks for; `check_tables` sees to it that it has none.
    """
    if head is not None and not hasattr(head, "bias"):
        head.bias = None


def finish_adapter(model: Any, seed: int) -> None:
    """Make what is trained float32, and draw the adapter's first factors with `seed`.

    As PEFT does, uniformly with a bound of 1 / sqrt(in), but in an order of our own and on the
    CPU: the same seed gives the same adapter with every engine and on every device.
    """
    import torch

    generator = torch.Generator().manual_seed(seed)
    for name, parameter in sorted(model.named_parameters()):
        if not parameter.requires_grad:
            continue
        # Steps of a thousandth of a weight would be lost in bfloat16, which has eight bits.
        parameter.data = parameter.data.to(torch.float32)
        if ".lora_A." in name:
            bound = 1 / math.sqrt(parameter.shape[1])
            drawn = torch.empty(parameter.shape).uniform_(-bound, bound, generator=generator)
            parameter.data.copy_(drawn)


def add_token_rows(model: Any, new_tokens: Iterable[NewToken], size: int) -> None:
    """Give each new token a row in the embedding and in the head, of `size` rows at least.

    It starts as the mean of the tokens that it was spelled with: what the model knows of it. Rows
    that the base had in reserve are remembered for `without_rows`.
    """
    import torch

    new_tokens = list(new_tokens)
    if not new_tokens:
        return
    own = model.get_input_embeddings().weight.shape[0]
    if own < size:
        model.resize_token_embeddings(size, mean_resizing=False)
    reserve = [token.id for token in new_tokens if token.id < own]
    with torch.no_grad():
        model.rows_in_reserve = [(t, reserve, t[reserve].clone()) for t in _tables(model)]
        for table in _tables(model):
            for token in new_tokens:
                pieces = table[list(token.pieces)].to(torch.float32)
                table[token.id] = pieces.mean(dim=0).to(table.dtype)


@contextmanager
def without_rows(model: Any, first: int) -> Iterator[None]:
    """Let the model write and be scored as before `add_token_rows`, adapters aside: without the
    rows from `first` on (the base's own number of them), and with what it had in reserve below.

    Their logits are cut off where the head gives them, rather than made low: some models squash
    logits after that, and a low one would then have a share of the probability again.
    """
    import torch

    def cut(module: Any, given: Any, logits: "torch.Tensor") -> "torch.Tensor":
        return logits[..., :first]

    def swap() -> None:
        with torch.no_grad():
            for table, ids, rows in getattr(model, "rows_in_reserve", ()):
                now = table[ids].clone()
                table[ids] = rows
                rows.copy_(now)

    hook = model.get_output_embeddings().register_forward_hook(cut)
    swap()
    try:
        yield
    finally:
        swap()
        hook.remove()


def _tables(model: Any) -> "list[torch.Tensor]":
    """The weights with a row for each token: one where embedding and head are tied."""
    table = model.get_input_embeddings().weight
    head = model.get_output_embeddings()
    if head is None or head.weight is table:
        return [table]
    return [table, head.weight]


def _trained_rows(model: Any, ids: list[int]) -> dict[str, list[int]] | None:
    """What PEFT trains of whole tables, by their names; of a tied pair it is told one."""
    if not ids:
        return None
    ends = (model.get_input_embeddings(), model.get_output_embeddings())
    tables = ends[: len(_tables(model))]
    return {name: ids for name, module in model.named_modules() if any(module is t for t in tables)}

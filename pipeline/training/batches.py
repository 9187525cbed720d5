"""How rows become batches: which are put together, where their labels are, what is padding.

Rows of several documents in one sequence are kept apart by their positions, which begin anew with
each row. Without an attention mask and without a cache, transformers derives from them a mask in
which no row sees another, on every attention implementation (with flash-attn it hands the
boundaries down); `check_isolation` asks the model at hand.
"""

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from pipeline.corpus.token_store import TokenStore
from pipeline.corpus.tokens import pack
from pipeline.errors import PipelineError

if TYPE_CHECKING:
    import torch
    from datasets import Dataset

IGNORED = -100  # the label that torch's cross entropy leaves out
TOKENS = "n_tokens"  # in a batch: how many of its positions are tokens and not padding
_PROBE = 8  # tokens of each of the rows that isolation is tried with


def sequences_of(
    lengths: Sequence[int], capacity: int, groups: Sequence[str | None], *, packing: bool
) -> list[list[int]]:
    """The rows of each sequence by their numbers; every row is in exactly one, whole.

    With `packing`, as many rows of the same group as fit into `capacity` tokens; without, one. In
    the order of each sequence's first row, so that rows of full length stay as they are.
    """
    if not packing:
        return [[row] for row in range(len(lengths))]
    members: dict[str | None, list[int]] = {}
    for row, group in enumerate(groups):
        members.setdefault(group, []).append(row)
    found = [
        sorted(rows[i] for i in bin_)
        for rows in members.values()
        for bin_ in pack([lengths[row] for row in rows], capacity)
    ]
    return sorted(found)


class Sequences:
    """Reads sequences of rows of a store from the disk when asked for them."""

    def __init__(self, store: TokenStore, sequences: Sequence[Sequence[int]]) -> None:
        self._store = store
        self._sequences = sequences

    def __call__(self, batch: dict[str, list[int]]) -> dict[str, Any]:
        """For the numbers of some sequences under "index", the rows of each under "rows":
        (ids, which are trained on or None)."""
        found = [[self._store.row(row) for row in self._sequences[i]] for i in batch["index"]]
        return {"rows": found}

    def as_dataset(self, order: Sequence[int] | None = None) -> "Dataset":
        """The sequences, or those of `order`, as a data set of `datasets`, which trl wants."""
        from datasets import Dataset

        order = range(len(self._sequences)) if order is None else order
        return Dataset.from_dict({"index": list(order)}).with_transform(self)


class Collator:
    """Puts sequences side by side, and says exactly which tokens are trained.

    Padding is always on the right and known by lengths, never by its id: where the pad token is
    the end token too, the end of every document is still trained. The first label of every row is
    ignored. (The model shifts labels, so the first of a sequence is never used; but one inside a
    sequence would have a document predict the next.)

    With `packed`, positions tell rows apart and there is no attention mask: padding is behind
    everything, where nothing sees it. Without, there is one, and no positions.
    """

    def __init__(self, pad_id: int, *, packed: bool) -> None:
        self.pad_id = pad_id
        self.packed = packed

    def __call__(self, sequences: list[dict[str, Any]]) -> dict[str, Any]:
        """Return `input_ids`, `labels`, and `position_ids` or `attention_mask`, each of
        (sequences, longest) integers, and the number of tokens.
        """
        import torch

        totals = [sum(len(ids) for ids, _ in each["rows"]) for each in sequences]
        ids = torch.full((len(sequences), max(totals)), self.pad_id, dtype=torch.long)
        labels = torch.full_like(ids, IGNORED)
        positions = torch.arange(ids.shape[1]).repeat(len(sequences), 1)
        mask = torch.zeros_like(ids)
        for i, (sequence, total) in enumerate(zip(sequences, totals, strict=True)):
            start = 0
            for row, trained in sequence["rows"]:
                end = start + len(row)
                ids[i, start:end] = torch.as_tensor(row.astype("int64"))
                labels[i, start + 1 : end] = ids[i, start + 1 : end]
                if trained is not None:
                    labels[i, start:end][torch.as_tensor(~trained)] = IGNORED
                positions[i, start:] = torch.arange(ids.shape[1] - start)
                start = end
            mask[i, :total] = 1
        place = {"position_ids": positions} if self.packed else {"attention_mask": mask}
        return {"input_ids": ids, "labels": labels, **place, TOKENS: sum(totals)}


def check_isolation(model: Any, autocast: "torch.dtype | None" = None) -> None:
    """Raise PipelineError if this model lets a row see the row before it in its sequence.

    Recurrent layers do, and so do models whose code knows nothing of packed sequences.
    """
    import torch

    device = next(model.parameters()).device
    vocabulary = model.get_input_embeddings().weight.shape[0]
    first = torch.arange(3 * _PROBE, device=device) % vocabulary
    one, other, row = first.split(_PROBE)
    positions = torch.arange(_PROBE, device=device).repeat(1, 2)
    was_training = model.training
    model.eval()
    try:
        with (
            torch.no_grad(),
            torch.autocast(device.type, autocast, enabled=autocast is not None),
        ):
            seen = [
                model(
                    input_ids=torch.cat([before, row])[None], position_ids=positions,
                    use_cache=False,
                ).logits[0, _PROBE:].float()
                for before in (one, other)
            ]  # fmt: skip
    finally:
        model.train(was_training)
    difference, spread = seen[0] - seen[1], max(seen[0].std().item(), 1e-6)
    leaks = difference.abs().max().item() > 1e-3 * spread
    if getattr(model, "is_loaded_in_8bit", False):
        # LLM.int8 chooses its outlying columns by the whole batch, which moves the result a little.
        leaks = difference.std().item() > 0.25 * spread
    if leaks:
        raise PipelineError(
            f"{type(model).__name__} cannot keep documents apart that share a sequence.",
            "Add --no-packing.",
        )

"""The rows that a model is trained on, from which sources, and how they become batches."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from pipeline.console import progress, warn
from pipeline.corpus.tokens import blocks, document_ids
from pipeline.errors import PipelineError, UsageError
from pipeline.scoring.bits import HasText
from pipeline.settings import nearest
from pipeline.training.mixture import Schedule, Shares

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase

IGNORED = -100  # the label that torch's cross entropy leaves out


@dataclass
class TrainingData:
    """Rows of token ids, each from one document, and what they were made of."""

    rows: list[list[int]] = field(default_factory=list)
    collections: list[str | None] = field(default_factory=list)  # of each row, its source's name
    documents: int = 0
    characters: int = 0
    tokens: int = 0
    empty: list[str] = field(default_factory=list)  # ids of documents without any text

    @property
    def predicted(self) -> int:
        """Tokens that are trained: all but the first of each row, which has nothing before it."""
        return self.tokens - len(self.rows)


def training_data(
    tokenizer: "PreTrainedTokenizerBase", documents: Iterable[HasText], length: int
) -> TrainingData:
    """Turn whole documents into rows of at most `length` tokens; every token is in one row.

    Raises:
        PipelineError: there is no text at all.
    """
    data = TrainingData()
    with progress("Tokenizing", unit="documents") as advance:
        for document in documents:
            advance()
            if not document.text.strip():
                data.empty.append(document.id)
                continue
            ids = document_ids(tokenizer, document.text)
            rows = blocks(ids, length)
            data.rows += rows
            data.collections += [collection_of(document)] * len(rows)
            data.documents += 1
            data.characters += len(document.text)
            data.tokens += len(ids)
    if data.empty:
        warn(f"Empty and not trained on: {', '.join(data.empty[:5])} ({len(data.empty)} in all).")
    if not data.rows:
        raise PipelineError(
            "There is no text to train on.",
            "The training split is empty: add books, or lower the validation share.",
        )
    if sum(map(len, data.rows)) != data.tokens:  # the promise of this module, held at run time
        raise PipelineError(
            f"{data.tokens} tokens went in and {sum(map(len, data.rows))} came out.",
            "This is a fault of the program: please report it.",
        )
    return data


def choose_schedule(
    documents: Sequence[HasText], held_out: Sequence[HasText], changes: Mapping[int, Shares]
) -> Schedule | None:
    """The shares of the sources in training: `changes` by step, else the documents' own weights.

    `changes` are those of `--mix`. Where they begin later than step 0, the documents' own weights
    hold until then. None if nothing is weighted. A weight of 0 keeps a document out of training
    and is no share: a source without a weight beside it is as unweighted as if it were alone.

    Raises:
        UsageError: `changes` name a source that is not there or held out entirely, or leave one
            out.
        PipelineError: some documents have a weight and others none, or a source has two weights.
    """
    stages = dict(changes)
    if 0 not in stages:
        weights = _own_weights(documents)
        if any(weights.values()):
            stages[0] = weights
        elif stages:
            raise UsageError(
                f"--mix says what to train on from step {min(stages)} on, but not before.",
                "Add --mix NAME=WEIGHT,... without a step.",
            )
    if changes:
        _check_names(stages, documents, held_out)
    return Schedule.of(list(stages.items())) if stages else None


def trained_on(documents: Iterable[HasText], schedule: Schedule | None) -> list[HasText]:
    """The documents that have a share at any time; without a schedule all but those of weight 0."""
    if schedule is None:
        return [document for document in documents if _weight_of(document) != 0]
    return [document for document in documents if collection_of(document) in schedule.names]


def collection_of(document: HasText) -> str | None:
    """The name of the source that the document came from, if it is known."""
    name: str | None = getattr(document, "collection", None)
    return name


def _weight_of(document: HasText) -> float | None:
    weight: float | None = getattr(document, "weight", None)
    return weight


def _own_weights(documents: Iterable[HasText]) -> dict[str, float]:
    """The weight of each source in the documents, {} if none but 0 is given."""
    weights: dict[str, float] = {}
    unweighted: HasText | None = None
    for document in documents:
        name, weight = collection_of(document), _weight_of(document)
        if weight is None:
            unweighted = unweighted or document
        elif name is None:
            raise PipelineError(f"Document {document.id!r} has a weight, but names no source.")
        elif weights.setdefault(name, weight) != weight:
            raise PipelineError(
                f"The source {name!r} has two weights, {weights[name]} and {weight} (document "
                f"{document.id!r}).",
                "Give one for all with --mix.",
            )
    if unweighted is not None and any(weights.values()):
        name = collection_of(unweighted)
        what = f"The source {name!r}" if name else f"Document {unweighted.id!r}"
        raise PipelineError(
            f"{what} has no weight, but other sources have.",
            "Give every --source a weight, or none.",
        )
    return weights


def _check_names(
    stages: Mapping[int, Shares], documents: Sequence[HasText], held_out: Sequence[HasText]
) -> None:
    trained = {collection_of(document): document for document in documents}
    if None in trained:
        raise UsageError(
            f"--mix cannot be used: document {trained[None].id!r} does not say which source it "
            "is from.",
            "Name the sources in stage 1: --source NAME=WEIGHT.",
        )
    known = {name for document in (*documents, *held_out) if (name := collection_of(document))}
    for shares in stages.values():
        for name, share in shares.items():
            if name not in known:
                raise UsageError(
                    f"--mix names {name!r}, but no source is called so.", nearest(name, known)
                )
            if share and name not in trained:
                raise UsageError(f"--mix gives {name!r} a share, but all of it is held out.")
    named = {name for shares in stages.values() for name in shares}
    for missing in sorted(filter(None, trained.keys() - named)):
        raise UsageError(
            f"--mix does not name {missing!r}.", "Give it a share, or 0 to leave it out."
        )


class BlockCollator:
    """Pads rows to the longest of the batch, and says exactly which tokens are trained.

    Padding is known by the mask, never by its id: where the pad token is the end token too, the
    end of every document is still trained. Labels at the first position of a row are ignored as
    well. (The model shifts labels, so that they are never used; but the loss is averaged over all
    labels that are not ignored.)
    """

    def __init__(self, pad_id: int) -> None:
        self.pad_id = pad_id

    def __call__(self, rows: list[dict[str, Any]]) -> dict[str, Any]:
        """Return `input_ids`, `attention_mask` and `labels`, each of (rows, longest) integers."""
        import torch

        longest = max(len(row["input_ids"]) for row in rows)
        ids = torch.full((len(rows), longest), self.pad_id, dtype=torch.long)
        mask = torch.zeros_like(ids)
        labels = torch.full_like(ids, IGNORED)
        for i, row in enumerate(rows):
            n = len(row["input_ids"])
            ids[i, :n] = torch.as_tensor(row["input_ids"])
            mask[i, :n] = 1
            labels[i, 1:n] = ids[i, 1:n]
        return {"input_ids": ids, "attention_mask": mask, "labels": labels}

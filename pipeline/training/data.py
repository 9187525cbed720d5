"""The rows that a model is trained on, and how they become batches."""

from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from pipeline.console import progress, warn
from pipeline.corpus.tokens import blocks, document_ids
from pipeline.errors import PipelineError
from pipeline.scoring.bits import HasText

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase

IGNORED = -100  # the label that torch's cross entropy leaves out


@dataclass
class TrainingData:
    """Rows of token ids, each from one document, and what they were made of."""

    rows: list[list[int]] = field(default_factory=list)
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
            data.rows += blocks(ids, length)
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

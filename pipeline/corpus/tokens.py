"""From a document's text to the rows of token ids that a model is trained on.

A document becomes one sequence, `[BOS] text [EOS]`, with BOS only where the tokenizer's own
convention puts one. The sequence is then cut into blocks; nothing is added at the cuts and nothing
is dropped, so that the blocks of a document, joined, are the document.
"""

from collections.abc import Sequence
from itertools import pairwise
from typing import TYPE_CHECKING

from pipeline.errors import PipelineError

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase

MINIMUM_BLOCK = 3  # below it, an odd token could not be moved to a neighbour


def prefix_ids(tokenizer: "PreTrainedTokenizerBase") -> list[int]:
    """The special tokens that this tokenizer puts before a text: usually `[BOS]` or nothing."""
    encoded = tokenizer("a", return_special_tokens_mask=True)
    ids, special = encoded["input_ids"], encoded["special_tokens_mask"]
    return list(ids[: special.index(0)]) if 0 in special else []


def document_ids(tokenizer: "PreTrainedTokenizerBase", text: str) -> list[int]:
    """The ids of a whole document: its text, then exactly one EOS, and BOS as the model expects.

    Text that happens to spell a special token ("</s>" in a book about markup) is encoded as plain
    characters, so that no end token stands anywhere but at the end. Nothing is truncated, however
    long the document.

    Raises:
        PipelineError: the tokenizer has no end token, so a model could not learn to stop.
    """
    if tokenizer.eos_token_id is None:
        raise PipelineError(
            f"The tokenizer in {tokenizer.name_or_path} names no end token (eos_token).",
            "Set eos_token in its tokenizer_config.json, or take another base model.",
        )
    encoded = tokenizer(
        text, add_special_tokens=False, split_special_tokens=True, truncation=False, verbose=False
    )
    return [*prefix_ids(tokenizer), *encoded["input_ids"], tokenizer.eos_token_id]


def blocks(ids: Sequence[int], length: int) -> list[list[int]]:
    """Cut `ids` into blocks of `length` tokens; joined again, they are `ids`.

    The last block may be shorter. A block of one token would have nothing to predict, so if one
    is left over, its neighbour gives it a second token (no block ever exceeds `length`).

    Raises:
        PipelineError: `length` is below 3.
    """
    if length < MINIMUM_BLOCK:
        raise PipelineError(f"The sequence length must be at least {MINIMUM_BLOCK}, not {length}.")
    starts = list(range(0, len(ids), length))
    if len(starts) > 1 and len(ids) - starts[-1] == 1:
        starts[-1] -= 1
    return [list(ids[start:end]) for start, end in pairwise([*starts, len(ids)])]

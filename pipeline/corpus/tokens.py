"""From a document's text to the rows of token ids that a model is trained on.

A document becomes one sequence, `[BOS] text [EOS]`, with BOS only where the tokenizer's own
convention puts one. The sequence is then cut into blocks; nothing is added at the cuts and nothing
is dropped, so that the blocks of a document, joined, are the document. Blocks that are shorter than
the model's context are packed into bins, whole.

Here also is what must be known of a tokenizer: what identifies it, and with what to pad.
"""

import json
import re
from collections import deque
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from pipeline.errors import PipelineError
from pipeline.files import fingerprint, sha256_bytes, sha256_file

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase

MINIMUM_BLOCK = 3  # below it, an odd token could not be moved to a neighbour

# Tokens that vocabularies hold in reserve; no text is ever encoded to them.
_FOR_PADDING = re.compile(r"<\|?(finetune_right_)?pad(_id)?\|?>|\[PAD\]|<\|endofpad\|>", re.I)
_RESERVED = re.compile(
    r"<\|?(reserved(_special)?(_token)?_?\d+|unused_?\d+|extra_?\d+|dummy_?\d+|special_?\d+"
    r"|placeholder_?\d+)\|?>|\[unused_?\d+\]",
    re.I,
)


def prefix_ids(tokenizer: "PreTrainedTokenizerBase") -> list[int]:
    """The special tokens that this tokenizer puts before a text: usually `[BOS]` or nothing."""
    encoded = tokenizer("a", return_special_tokens_mask=True)
    ids, special = encoded["input_ids"], encoded["special_tokens_mask"]
    return list(ids[: special.index(0)]) if 0 in special else []


def end_id(tokenizer: "PreTrainedTokenizerBase") -> int:
    """The id of the end token.

    Raises:
        PipelineError: the tokenizer has no end token, so a model could not learn to stop.
    """
    if tokenizer.eos_token_id is None:
        raise PipelineError(
            f"The tokenizer in {tokenizer.name_or_path} names no end token (eos_token).",
            "Set eos_token in its tokenizer_config.json, or take another base model.",
        )
    return int(tokenizer.eos_token_id)


def plain_ids(tokenizer: "PreTrainedTokenizerBase", text: str) -> list[int]:
    """The ids of a text and nothing else.

    What happens to spell a special token ("</s>" in a book about markup) is encoded as plain
    characters. Nothing is truncated, however long the text.
    """
    encoded = tokenizer(
        text,
        add_special_tokens=False,
        split_special_tokens=True,
        truncation=False,
        verbose=False,
        return_attention_mask=False,  # lists that nobody reads, a sixth of the time
        return_token_type_ids=False,
    )
    ids = list(encoded["input_ids"])
    end = tokenizer.eos_token
    if end and tokenizer.eos_token_id in ids and end in text:
        # Unigram models have their special tokens among the pieces that they look for.
        middle = text.index(end) + 1
        return plain_ids(tokenizer, text[:middle]) + plain_ids(tokenizer, text[middle:])
    return ids


def document_ids(tokenizer: "PreTrainedTokenizerBase", text: str) -> list[int]:
    """The ids of a whole document: its text, then exactly one EOS, and BOS as the model expects.

    No end token stands anywhere but at the end, since `plain_ids` reads none out of the text.

    Raises:
        PipelineError: the tokenizer has no end token, so a model could not learn to stop.
    """
    end = end_id(tokenizer)
    return [*prefix_ids(tokenizer), *plain_ids(tokenizer, text), end]


# --- rows -----------------------------------------------------------------------------------------


def blocks(ids: Sequence[int], length: int, overlap: int = 0) -> list[list[int]]:
    """Cut `ids` into blocks of `length` tokens, each beginning with `overlap` tokens of the last.

    Without overlap the blocks, joined, are `ids`. See `block_spans` for which tokens are trained.

    Raises:
        PipelineError: `length` is below 3, or `overlap` is not below `length`.
    """
    return [list(ids[start:end]) for start, _, end in block_spans(len(ids), length, overlap)]


def block_spans(n: int, length: int, overlap: int = 0) -> list[tuple[int, int, int]]:
    """Where to cut `n` tokens: (start, fresh, end) of each block.

    The tokens from start to fresh repeat the end of the block before: they are context and not
    trained on. Those from fresh to end stand in no other block. With an overlap, each token but the
    very first is therefore trained on exactly once; without, the first of each block is not, as
    nothing precedes it.

    The last block may be shorter. Without overlap, a block of one token would have nothing to
    predict, so if one is left over, its neighbour gives it a second token (no block ever exceeds
    `length`). A document of a single token is a block of one.

    Raises:
        PipelineError: `length` is below 3, or `overlap` is not below `length`.
    """
    if length < MINIMUM_BLOCK:
        raise PipelineError(f"The sequence length must be at least {MINIMUM_BLOCK}, not {length}.")
    if not 0 <= overlap < length:
        raise PipelineError(
            f"The overlap must be from 0 to {length - 1} tokens, not {overlap}.",
            f"It must be below the sequence length, {length}.",
        )
    ends = list(range(length, n, length - overlap)) if n else []
    if not overlap and ends and n - ends[-1] == 1:
        ends[-1] -= 1
    fresh = [0, *ends] if n else []
    starts = [max(0, first - overlap) for first in fresh]
    return list(zip(starts, fresh, [*ends, n], strict=False))


def pack(lengths: Sequence[int], capacity: int) -> list[list[int]]:
    """Put rows into bins of at most `capacity` tokens: the indexes of each bin's rows.

    Best fit decreasing: the longest rows first, each into the fullest bin that still takes it. It
    needs at most 11/9 of the fewest possible bins and a few (Johnson 1973), and in practice hardly
    ever one too many. Every row is in exactly one bin, whole. Equal lengths give equal bins.

    Raises:
        PipelineError: a row is longer than a bin, or has no tokens.
    """
    if lengths and not 0 < min(lengths) <= max(lengths) <= capacity:
        raise PipelineError(
            f"Rows of {min(lengths)} to {max(lengths)} tokens cannot be packed into {capacity}.",
            "This is a fault of the program: please report it.",
        )
    bins: list[list[int]] = []
    waiting: dict[int, deque[int]] = {}  # bins by the room that is left in them
    rooms = 0  # as bits: where a bin with so much room is waiting
    for row in sorted(range(len(lengths)), key=lambda row: (-lengths[row], row)):
        length = int(lengths[row])
        fitting = rooms >> length
        if fitting:
            room = length + (fitting & -fitting).bit_length() - 1  # the lowest bit
            bin_ = waiting[room].popleft()
            bins[bin_].append(row)
            if not waiting[room]:
                rooms ^= 1 << room
        else:
            room, bin_ = capacity, len(bins)
            bins.append([row])
        left = room - length
        if left:
            waiting.setdefault(left, deque()).append(bin_)
            rooms |= 1 << left
    return bins


# --- tokenizers -----------------------------------------------------------------------------------


def tokenizer_fingerprint(tokenizer: "PreTrainedTokenizerBase") -> str:
    """A short hash of everything that decides which ids a text gets, and a chat.

    That is what tokenizer.json says (but for how to pad and truncate, which calls change), the
    special tokens and the chat template. Where there is no tokenizer.json, the vocabulary and the
    file that it came from.
    """
    if tokenizer.is_fast:
        backend = json.loads(tokenizer.backend_tokenizer.to_str())
        rules = {k: v for k, v in backend.items() if k not in ("padding", "truncation")}
    else:
        file = Path(getattr(tokenizer, "vocab_file", None) or "")
        rules = {"vocabulary": tokenizer.get_vocab()}
        rules["file"] = sha256_file(file) if file.is_file() else None
    return fingerprint(
        {
            "rules": sha256_bytes(json.dumps(rules, sort_keys=True).encode()),
            "class": type(tokenizer).__name__,
            "special": tokenizer.special_tokens_map,
            "prefix": prefix_ids(tokenizer),
            "template": tokenizer.chat_template,
        }
    )


def choose_pad(tokenizer: "PreTrainedTokenizerBase") -> tuple[int, str]:
    """With which token to fill up short rows, and why: (its id, a clause to show).

    The tokenizer's own pad token (0 is an id like any other), else one that the vocabulary holds in
    reserve, else the end token. Whatever it is, what is padding must be told by the lengths of
    rows and never by this id, or the end of documents could be taken for padding.

    Raises:
        PipelineError: there is none of these.
    """
    if tokenizer.pad_token_id is not None:
        return int(tokenizer.pad_token_id), f"the tokenizer's own, {tokenizer.pad_token}"
    used = {int(token) for token in tokenizer.all_special_ids if token is not None}
    named = {tokenizer.bos_token_id, tokenizer.eos_token_id, tokenizer.unk_token_id}
    special = {i for i, token in tokenizer.added_tokens_decoder.items() if token.special} | used
    spelled = {i: str(tokenizer.convert_ids_to_tokens(i)) for i in sorted(special - named)}
    for pattern, why in ((_FOR_PADDING, "made for it"), (_RESERVED, "held in reserve")):
        for token, text in spelled.items():
            if pattern.fullmatch(text):
                return token, f"{text}, {why}, as the tokenizer names none"
    end = end_id(tokenizer)
    return end, f"the end token {tokenizer.eos_token}, as the tokenizer has none to spare"

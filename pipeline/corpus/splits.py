"""What is held out: whole documents, or the tail of the only one.

Chunks of one book never stand on both sides, or the validation loss would measure memory.
"""

import hashlib
from collections.abc import Sequence
from statistics import median_low

from pipeline.errors import PipelineError

DEFAULT_FRACTION = 0.05
DEFAULT_SEED = 0


def check_fraction(fraction: float) -> None:
    """Raise PipelineError unless 0 <= fraction < 1."""
    if not 0 <= fraction < 1:
        raise PipelineError(
            f"The validation fraction is {fraction}.",
            "Give a number from 0 (nothing is held out) to below 1, such as 0.05.",
        )


def validation_ids(
    documents: Sequence[tuple[str, int]],
    fraction: float = DEFAULT_FRACTION,
    seed: int = DEFAULT_SEED,
) -> set[str]:
    """The ids of the documents to hold out, of `documents` as (id, size in characters).

    They are taken in the order of a hash of seed and id until they hold `fraction` of all
    characters, so the choice depends neither on the order of `documents` nor, but for the last few
    taken, on which others there are. A document that alone is larger than what is to be held out is
    passed over, so the result holds less than twice that. If less than a quarter of it comes
    together so (a shelf of a few books, and perhaps a poem), one of the large ones is held out too:
    the first that is not larger than their median.

    At least one document is held out where there are two or more, and never all of them; of a
    single one, or with fraction 0, none is (see `tail_split`). PipelineError if ids repeat.
    """
    check_fraction(fraction)
    sizes = dict(documents)
    if len(sizes) < len(documents):
        raise PipelineError("Two documents have the same id, so they cannot be told apart.")
    if fraction == 0 or len(sizes) < 2:
        return set()
    wanted = fraction * sum(sizes.values())
    order = sorted(sizes, key=lambda document_id: (_rank(seed, document_id), document_id))
    chosen: set[str] = set()
    held_out = 0
    for document_id in order:
        if chosen and (held_out >= wanted or len(chosen) == len(sizes) - 1):
            break
        if sizes[document_id] <= wanted:
            chosen.add(document_id)
            held_out += sizes[document_id]
    large = [document_id for document_id in order if sizes[document_id] > wanted]
    if held_out < wanted / 4 and len(chosen) < len(sizes) - 1:
        middle = median_low(sizes[document_id] for document_id in large)
        chosen.add(next(document_id for document_id in large if sizes[document_id] <= middle))
    return chosen


def tail_split(
    chunks: Sequence[str], fraction: float = DEFAULT_FRACTION
) -> tuple[list[str], list[str]]:
    """Split the chunks of a single document into (training, validation): its tail is held out.

    The tail is the fewest chunks that hold `fraction` of the characters: at least one chunk of two
    or more, never all. One chunk cannot be split: it is trained on.
    """
    check_fraction(fraction)
    wanted = fraction * sum(map(len, chunks))
    cut = len(chunks)
    held_out = 0
    while cut > 1 and held_out < wanted:
        cut -= 1
        held_out += len(chunks[cut])
    return list(chunks[:cut]), list(chunks[cut:])


def chance(data: bytes) -> float:
    """A number from 0 to below 1 that looks drawn at random, and is the same for equal bytes."""
    return int.from_bytes(hashlib.sha256(data).digest()[:8], "big") / 2**64


def _rank(seed: int, document_id: str) -> bytes:
    return hashlib.sha256(f"{seed}\0{document_id}".encode(errors="surrogatepass")).digest()

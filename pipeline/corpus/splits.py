"""What is held out: whole documents with all their editions, or the tail of the only one.

Chunks of one work never stand on both sides, or the validation loss would measure memory.
"""

import hashlib
from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from statistics import median_low

from pipeline.errors import PipelineError

DEFAULT_FRACTION = 0.05
DEFAULT_SEED = 0


@dataclass(frozen=True)
class Candidate:
    """A document that may be held out: its size in characters or bytes, its work, its source.

    `weight` is the source's: 0 is for evaluation only, None is not weighted.
    """

    id: str
    size: int
    work: str
    collection: str | None = None
    weight: float | None = None


@dataclass
class HeldOut:
    """What `hold_out` chose. `drawn_in` maps each document that is held out only because an
    edition of its work is for evaluation to that edition's id."""

    ids: set[str] = field(default_factory=set)
    drawn_in: dict[str, str] = field(default_factory=dict)


def hold_out(documents: Sequence[Candidate], fraction: float, seed: int) -> HeldOut:
    """Choose whole works to hold out: those of sources of weight 0, or a share of all.

    A work of which one edition is for evaluation only is held out with all its editions: trained
    on another one, a model would be scored on what it has read. Where sources have weights the
    share is taken of each, so that none is held out whole.
    """
    evaluation: dict[str, str] = {}  # work -> an edition that is for evaluation
    for document in documents:
        if document.weight == 0:
            evaluation.setdefault(document.work, document.id)
    chosen = HeldOut()
    if evaluation:
        for document in documents:
            if document.work in evaluation:
                chosen.ids.add(document.id)
                if document.weight != 0:
                    chosen.drawn_in[document.id] = evaluation[document.work]
        return chosen
    source: dict[str, str] = {}  # of each work: that of its first edition
    shares: dict[str, list[Candidate]] = defaultdict(list)
    for document in documents:
        own = str(document.collection) if document.weight else ""
        shares[source.setdefault(document.work, own)].append(document)
    for share in shares.values():
        sizes = [(document.id, document.size) for document in share]
        works = {document.id: document.work for document in share}
        chosen.ids |= validation_ids(sizes, fraction, seed, works)
    return chosen


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
    works: Mapping[str, str] | None = None,
) -> set[str]:
    """The ids of the documents to hold out, of `documents` as (id, size in characters).

    Documents that `works` maps to the same work are held out together or not at all, and count as
    one here; what it does not map is a work of its own. They are taken in the order of a hash of
    seed and work until they hold `fraction` of all characters, so the choice depends neither on the
    order of `documents` nor, but for the last few taken, on which others there are. A work that
    alone is larger than what is to be held out is passed over, so the result holds less than twice
    that. If less than a quarter of it comes together so (a shelf of a few books, and perhaps a
    poem), one of the large ones is held out too: the first that is not larger than their median.

    At least one work is held out where there are two or more, and never all of them; of a single
    one, or with fraction 0, none is (see `tail_split`). PipelineError if ids repeat.
    """
    check_fraction(fraction)
    if len(dict(documents)) < len(documents):
        raise PipelineError("Two documents have the same id, so they cannot be told apart.")
    works = works or {}
    sizes: dict[str, int] = defaultdict(int)
    for document_id, size in documents:
        sizes[works.get(document_id, document_id)] += size
    chosen = _chosen(sizes, fraction, seed)
    return {document_id for document_id, _ in documents
            if works.get(document_id, document_id) in chosen}  # fmt: skip


def _chosen(sizes: Mapping[str, int], fraction: float, seed: int) -> set[str]:
    """The works to hold out, of `sizes` by work: see `validation_ids`."""
    if fraction == 0 or len(sizes) < 2:
        return set()
    wanted = fraction * sum(sizes.values())
    order = sorted(sizes, key=lambda work: (_rank(seed, work), work))
    chosen: set[str] = set()
    held_out = 0
    for work in order:
        if chosen and (held_out >= wanted or len(chosen) == len(sizes) - 1):
            break
        if sizes[work] <= wanted:
            chosen.add(work)
            held_out += sizes[work]
    large = [work for work in order if sizes[work] > wanted]
    if held_out < wanted / 4 and len(chosen) < len(sizes) - 1:
        middle = median_low(sizes[work] for work in large)
        chosen.add(next(work for work in large if sizes[work] <= middle))
    return chosen


def tail_split(
    chunks: Sequence[str], fraction: float = DEFAULT_FRACTION
) -> tuple[list[str], list[str]]:
    """Split the chunks of a single document into (training, validation): its tail is held out.

    The tail is the fewest chunks that hold `fraction` of the characters: at least one chunk of two
    or more, never all. One chunk cannot be split: it is trained on.
    """
    cut = tail_start([len(chunk) for chunk in chunks], fraction)
    return list(chunks[:cut]), list(chunks[cut:])


def tail_start(sizes: Sequence[int], fraction: float) -> int:
    """The number of the first chunk that `tail_split` holds out, by the sizes of all."""
    check_fraction(fraction)
    wanted = fraction * sum(sizes)
    cut = len(sizes)
    held_out = 0
    while cut > 1 and held_out < wanted:
        cut -= 1
        held_out += sizes[cut]
    return cut


def chance(data: bytes) -> float:
    """A number from 0 to below 1 that looks drawn at random, and is the same for equal bytes."""
    return int.from_bytes(hashlib.sha256(data).digest()[:8], "big") / 2**64


def _rank(seed: int, work: str) -> bytes:
    return hashlib.sha256(f"{seed}\0{work}".encode(errors="surrogatepass")).digest()

"""Which documents make a shard: groups that an edited, added or dropped document hardly changes.

A group ends with a document that a hash of its own id chooses, once the group holds a quarter of
the target: so the groups after it do not depend on what is in it, and only the file that a changed
document is in has to be made, and sent, again.
"""

from collections.abc import Sequence
from dataclasses import dataclass

from pipeline.corpus.chunk_jobs import TRAIN, VALIDATION, Cutting, ShardJob, Text
from pipeline.corpus.splits import Candidate, chance, hold_out

SHARD_TEXT = 32_000_000  # bytes of text in a shard, on average
MOST_SHARDS = 256  # of a split, about: for more text shards are larger

_MAXIMUM = 2.5  # times the target; only a document that is longer makes a larger shard


@dataclass(frozen=True)
class ShardPlan:
    """The shards to be made, and what a person should know of the split."""

    shards: list[ShardJob]
    warnings: list[str]


def plan_shards(texts: Sequence[Text], cutting: Cutting, fraction: float, seed: int) -> ShardPlan:
    """Hold works out (see `splits.hold_out`), and say which texts make a file of which split.

    Of a single text the end is held out, a share of `fraction`.
    """
    held_out = hold_out([_candidate(text) for text in texts], fraction, seed)
    warnings = [
        f"{document} is the same work as {edition}, which is for evaluation only: it is held out, "
        "too." for document, edition in held_out.drawn_in.items()
    ]  # fmt: skip
    if fraction and texts and not held_out.ids:
        if len(texts) == 1:
            return ShardPlan([ShardJob((texts[0],), TRAIN, 0, 1, cutting, tail=fraction)], warnings)
        warnings.append("All documents are editions of one work: none can be held out.")
    target = shard_text(sum(text.size for text in texts))
    shards = []
    for split in (TRAIN, VALIDATION):
        mine = [text for text in texts if (text.id in held_out.ids) == (split == VALIDATION)]
        groups = group_documents(mine, target)
        for number, group in enumerate(groups):
            shards.append(ShardJob(tuple(group), split, number, len(groups), cutting))
    return ShardPlan(shards, warnings)


def _candidate(text: Text) -> Candidate:
    about = text.about
    return Candidate(text.id, text.size, about.work or text.id, about.collection, about.weight)


def shard_text(total: int) -> int:
    """The size to aim at, in bytes of text, for the shards of `total` bytes.

    It doubles from time to time as a corpus grows, and not at every document.
    """
    target = SHARD_TEXT
    while total > MOST_SHARDS * target:
        target *= 2
    return target


def group_documents(documents: Sequence[Text], target: int) -> list[list[Text]]:
    """The documents in groups of about `target` bytes, in the order given."""
    groups: list[list[Text]] = []
    group: list[Text] = []
    size = 0
    for document in documents:
        if group and size + document.size > _MAXIMUM * target:
            groups.append(group)
            group, size = [], 0
        group.append(document)
        size += document.size
        if size >= target / 4 and _ends_group(document, target):
            groups.append(group)
            group, size = [], 0
    return [*groups, group] if group else groups


def _ends_group(document: Text, target: int) -> bool:
    """Whether a group that holds enough ends with this document: the chance grows with its size,
    so that three quarters of the target are added on average."""
    drawn = chance(b"shard\0" + document.id.encode(errors="surrogatepass"))
    return drawn < document.size / (0.75 * target)

"""Which samples are held out of a dataset without a validation split: whole works."""

from collections.abc import Sequence

from pipeline.corpus.splits import validation_ids
from pipeline.files import fingerprint
from pipeline.training.data import Sample

HELD_OUT_SHARE = 0.1


def choose_held_out(samples: Sequence[Sample], seed: int, eos: str) -> set[int]:
    """The numbers of the samples to hold out: works with all editions, and equal texts together.

    Never one without text: a model cannot be scored on it.
    """
    works = _works(samples, eos)
    sizes = [
        (str(i), len(str(sample.content))) for i, sample in enumerate(samples)
        if sample.kind != "text" or sample.text.strip()
    ]  # fmt: skip
    return {int(i) for i in validation_ids(sizes, HELD_OUT_SHARE, seed, works)}


def _works(samples: Sequence[Sample], eos: str) -> dict[str, str]:
    """A name for each sample, by its number, that all samples have that must stay together."""
    joined: dict[str, str] = {}  # each name to another of the same work, or to itself

    def find(name: str) -> str:
        while joined.setdefault(name, name) != name:
            joined[name] = joined[joined[name]]
            name = joined[name]
        return name

    first: dict[str, str] = {}
    for i, sample in enumerate(samples):
        if sample.kind != "text":
            names = [fingerprint(sample.content)]
        elif sample.work and eos == "chunk":  # many a book has a chunk with nothing but "PART I"
            names = [sample.work]
        else:
            names = [sample.work or sample.id, fingerprint(sample.content)]
        first[str(i)] = names[0]
        for name in names[1:]:
            joined[find(name)] = find(names[0])
    return {i: find(name) for i, name in first.items()}

"""Passages that two texts share, found in samples: is what is held out in the training text?

A passage is 56 letters in a row, about 13 English words, whatever stands between them: line ends,
case, quotation marks, dashes and italics make no difference. Of all passages of a text one in
one or two thousand is sampled, by a hash of its first letters, so that a passage that is in two
texts is sampled in both or in neither. A novel has some hundred of them, 8 bytes each.
"""

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from pipeline.files import atomic_path

if TYPE_CHECKING:
    from numpy import uint64
    from numpy.typing import NDArray

FORMAT = 2  # of a file of passages: raise it when other passages are sampled

_LETTERS = 56
_REACH = 104  # bytes that hold as many letters, in any prose
_BLOCK = 250_000  # bytes that are looked at at a time
_MOST_HELD = 4_000_000  # passages of held-out text in memory
_WORST_SHARE, _FEWEST = 0.1, 3  # of a document's passages, from which on it is named

# What is no letter becomes 0: ASCII, and the bytes of curly quotes, dashes and ellipses.
_MARKS = {byte for mark in "“”‘’–—…" for byte in mark.encode()}
_LOWER = bytes(
    0 if byte in _MARKS or (byte < 128 and not chr(byte).isalpha()) else
    byte + 32 if byte <= ord("Z") else byte
    for byte in range(256)
)  # fmt: skip


def sample_passages(data: bytes) -> "NDArray[uint64]":
    """Hashes of the sampled passages of a text in UTF-8: sorted, each once."""
    import numpy as np

    found = [np.empty(0, np.uint64)]
    for start in range(0, len(data), _BLOCK):
        block = data[start : start + _BLOCK + _REACH - 1].translate(_LOWER)
        if len(block) >= _REACH:
            windows = _windows(np.frombuffer(block, np.uint8))
            found.append(_hashes(windows))
    return np.unique(np.concatenate(found))


def _windows(block: Any) -> Any:
    """The bytes in which the sampled passages of a block lie, a row for each."""
    import numpy as np

    # A few bytes choose where one begins: of letters that have two bytes each the odd ones tell
    # more. Arithmetic is that of bytes, without products, for its speed.
    starts = len(block) - _REACH + 1
    drawn = block[:starts] ^ block[3 : 3 + starts]
    drawn += block[5 : 5 + starts]
    drawn ^= block[7 : 7 + starts]
    drawn += block[1 : 1 + starts]
    begins = np.flatnonzero(drawn == 103)  # in all scripts a usual sum
    begins = begins[(block[begins + 1] ^ block[begins + 2]) & 1 == 1]
    for place in range(4):
        begins = begins[block[begins + place] != 0]
    return np.lib.stride_tricks.sliding_window_view(block, _REACH)[begins]


def _hashes(windows: Any) -> "NDArray[uint64]":
    """A hash of the first letters of each row; none of a row with too few letters."""
    import numpy as np

    is_letter = windows != 0
    letters = windows[is_letter]
    counts = is_letter.sum(1)
    begins = (counts.cumsum() - counts)[counts >= _LETTERS]
    eights = np.ascontiguousarray(letters[begins[:, None] + np.arange(_LETTERS)]).view("<u8")
    hashes = np.zeros(len(begins), np.uint64)
    for column in eights.T:
        hashes ^= column
        hashes *= np.uint64(0x9E3779B97F4A7C15)
        hashes ^= hashes >> np.uint64(29)
    return hashes


def save_passages(path: Path, samples: Sequence["NDArray[uint64]"]) -> None:
    """Keep the passages of several documents in one file."""
    import numpy as np

    with atomic_path(path) as temporary, temporary.open("wb") as file:
        sizes = np.array([len(sample) for sample in samples], np.int64)
        np.savez(file, sizes=sizes, passages=np.concatenate([np.empty(0, np.uint64), *samples]))


def load_passages(path: Path) -> list["NDArray[uint64]"] | None:
    """What `save_passages` kept; None if it is not there, or is damaged."""
    import zipfile

    import numpy as np

    try:
        with path.open("rb") as file, np.load(file) as kept:
            return _split(kept["passages"], kept["sizes"])
    except (OSError, ValueError, KeyError, zipfile.BadZipFile):
        return None


def _split(values: Any, sizes: Any) -> list[Any]:
    """The values of each document."""
    ends = sizes.cumsum()
    return [values[end - size : end] for size, end in zip(sizes, ends, strict=True)]


@dataclass(frozen=True)
class Leak:
    """A held-out document: which share of its passages is in training text, and where most are."""

    document_id: str
    share: float
    other: str


@dataclass(frozen=True)
class Contamination:
    """How many sampled passages the held-out text has, how many of them the training text has too,
    and the documents that have most of these."""

    passages: int
    in_training: int
    leaks: list[Leak]

    def as_json(self) -> dict[str, Any]:
        """As it stands in `stage.json`."""
        return {
            "passages": self.passages,
            "in_training": self.in_training,
            "share": round(self.in_training / max(self.passages, 1), 5),
            "documents": [
                {"document_id": leak.document_id, "share": round(leak.share, 3), "with": leak.other}
                for leak in self.leaks
            ],
        }


Samples = Iterable[tuple[str, "NDArray[uint64]"]]


def find_contamination(held_out: Samples, training: Samples) -> Contamination:
    """Compare the passages of held-out documents with those of training documents, which come one
    by one. Documents are named of which a tenth of all passages is in training text."""
    import numpy as np

    names, samples = [], []
    for name, sample in held_out:
        names.append(name)
        samples.append(sample)
    _thin_out(samples)
    sizes = np.array([len(sample) for sample in samples], np.int64)
    passages = np.concatenate([np.empty(0, np.uint64), *samples])
    known = np.unique(passages)
    first_in = np.full(len(known), -1, np.int64)
    others: list[str] = []
    for name, sample in training:
        if len(known):
            places = np.minimum(np.searchsorted(known, sample), len(known) - 1)
            places = places[known[places] == sample]
            first_in[places[first_in[places] < 0]] = len(others)
        others.append(name)
    found = first_in[np.searchsorted(known, passages)] if len(known) else passages.astype(np.int64)
    leaks = list(_leaks(names, _split(found, sizes), others))
    return Contamination(len(found), int(np.count_nonzero(found >= 0)), leaks)


def _thin_out(samples: list["NDArray[uint64]"]) -> None:
    """Keep fewer of very many passages, the same ones in each document."""
    import numpy as np

    while sum(map(len, samples)) > _MOST_HELD:
        limit = max(int(sample.max()) for sample in samples if len(sample)) // 2
        samples[:] = [sample[sample <= np.uint64(limit)] for sample in samples]


def _leaks(names: list[str], found: Sequence[Any], others: list[str]) -> Iterator[Leak]:
    """The documents with too large a share of passages in training text, the worst first."""
    import numpy as np

    leaks = []
    for name, mine in zip(names, found, strict=True):
        shared = mine[mine >= 0]
        if len(shared) >= _FEWEST and len(shared) >= _WORST_SHARE * len(mine):
            other = others[int(np.bincount(shared).argmax())]
            leaks.append(Leak(name, len(shared) / len(mine), other))
    yield from sorted(leaks, key=lambda leak: (-leak.share, leak.document_id))

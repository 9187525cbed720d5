"""A text as a few hundred numbers, from which it is told how much text two books share.

A text is read as its letters and digits alone, folded: without case, accents, spaces and
punctuation, so that wraps, italics, quotes, hyphens and encodings play no role. Every window of
`WINDOW` letters (four or five words) is hashed; the windows of a text are a set, and the share of
one text's windows that another has as well is how much of it the other contains (Broder, "On the
resemblance and containment of documents", 1997).

A sketch keeps the hashes that are below a limit, as FracMinHash does (Irber and others,
"Lightweight compositional analysis of metagenomes with FracMinHash", 2022): a fixed share of all
windows instead of a fixed number of them. Whatever the sizes of two texts, the share of the one's
kept hashes that the other has is then an unbiased estimate of containment; with a fixed number
(bottom-k), an excerpt vanishes among the hashes of an omnibus. One share is too coarse for a page
or too costly for a shelf, so the share halves as texts grow: `level` l keeps one window of 2**l.
A limit lies below the next, so the hashes of a high level are among those of every lower one, and
two texts are compared at the higher of their levels. A short text keeps every window, a text of
any length at least one of 2**`TOP_LEVEL`, so that an excerpt of about 1,500 words is found in an
omnibus of any size. A novel takes 1 to 3 KB.

All arithmetic is on integers modulo 2**64: equal on every machine and in every version.
"""

import hashlib
import struct
import unicodedata
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache
from itertools import pairwise
from typing import Any

WINDOW = 20  # letters
TOP_LEVEL = 9  # one window of 512
MOST_HASHES = 512  # below the top level; more, and the level rises

_BLOCK = 1 << 14  # windows hashed at a time, so that they stay in the processor's cache
_BASE = 0x9E3779B97F4A7C15  # odd, so that it has an inverse modulo 2**64
_MIXER = 0xD6E8FEB86659FD93
_FINGERPRINT_SHIFT = 64 - TOP_LEVEL - 32  # the 32 bits after those that choose
_HEADER = struct.Struct("<BBQQ16s")
_COUNT = struct.Struct("<I")
_VERSION = 1
_ALL_PAIRS = 12  # texts that share a hash and are paired each with each
_HUBS, _NEIGHBOURS = 4, 2  # for one of more: the first few, and the next few
_PART = 2_000_000  # hashes sorted at a time
_BATCH = 500  # sketches read at a time
_UNKNOWN = 0xFFFFFFFF
_LETTERS = {"æ": "a", "œ": "o", "ø": "o", "ß": "s", "ς": "σ"}


@dataclass(frozen=True)
class Sketch:
    """What is kept of a text.

    - `letters`: how many letters and digits it has.
    - `accented`: how many of them are not in ASCII.
    - `digest`: a hash of them all: equal for texts that differ in nothing else.
    - `level`: one window of 2**level is kept.
    - `counts`: how many of the hashes are of TOP_LEVEL, how many of the level below, ... down to
      `level`.
    - `hashes`: 32 bits of each, little-endian, those of the top level first, each level sorted.
    """

    letters: int
    accented: int
    digest: bytes
    level: int
    counts: tuple[int, ...]
    hashes: bytes

    def count(self, level: int) -> int:
        """How many hashes are kept of `level` (at least the text's own) or above."""
        return sum(self.counts[: TOP_LEVEL + 1 - level])

    def array(self, level: int = 0) -> Any:
        """The hashes of `level` or above as an array of numpy; read only."""
        import numpy as np

        return np.frombuffer(self.hashes, "<u4", self.count(max(level, self.level)))

    def to_bytes(self) -> bytes:
        """The sketch as bytes, 4 for a hash and about 50 more."""
        head = _HEADER.pack(_VERSION, self.level, self.letters, self.accented, self.digest)
        return head + b"".join(map(_COUNT.pack, self.counts)) + self.hashes

    @classmethod
    def from_bytes(cls, data: bytes) -> "Sketch":
        """The sketch that `to_bytes` wrote. Raises ValueError for anything else."""
        if len(data) < _HEADER.size:
            raise ValueError("too short for a sketch")
        version, level, letters, accented, digest = _HEADER.unpack_from(data)
        if version != _VERSION or level > TOP_LEVEL:
            raise ValueError("a sketch of another version")
        start = _HEADER.size + _COUNT.size * (TOP_LEVEL + 1 - level)
        if len(data) < start:
            raise ValueError("too short for a sketch")
        counts = tuple(count for (count,) in _COUNT.iter_unpack(data[_HEADER.size : start]))
        if len(data) - start != 4 * sum(counts):
            raise ValueError("a broken sketch")
        return cls(letters, accented, digest, level, counts, data[start:])


def sketch(text: str) -> Sketch:
    """The sketch of a text, at about 100 MB/s."""
    import numpy as np

    letters, accented = _fold(text)
    windows = max(0, letters.size + 1 - WINDOW)
    level = min(TOP_LEVEL, max(0, (windows // MOST_HASHES).bit_length() - 1))
    hashes = _hashes(letters, level)
    if level and hashes.size < MOST_HASHES // 2:  # a text that repeats itself
        level = 0
        hashes = _hashes(letters, level)
    while level < TOP_LEVEL and hashes.size > MOST_HASHES:
        level += 1
        hashes = hashes[hashes < np.uint64(1 << (64 - level))]
    digest = hashlib.blake2b(letters.tobytes(), digest_size=16).digest()
    counts, kept = _by_level(hashes, level)
    return Sketch(int(letters.size), accented, digest, level, counts, kept)


def shared_hashes(one: Sketch, other: Sketch) -> tuple[int, int, int]:
    """How many hashes two texts share, and how many each has, at the higher of their levels."""
    import numpy as np

    level = max(one.level, other.level)
    first, second = one.array(level), other.array(level)
    shared = np.intersect1d(first, second, assume_unique=True)
    return int(shared.size), int(first.size), int(second.size)


def fold_letters(text: str) -> str:
    """The letters and digits of a text, without case and accents.

    What editions in seven bits write otherwise is made one: ae, oe, ue and ss stand for a, o, u
    and s, as do their umlauts and ligatures and the sharp s.
    """
    letters, _ = _fold(text)
    return letters.tobytes().decode("latin-1" if letters.itemsize == 1 else "utf-32-le")


def _fold(text: str) -> tuple[Any, int]:
    """The folded letters as an array, and how many of them are not in ASCII as the text has them.

    The array is of bytes if they suffice, else of 32 bits.
    """
    import numpy as np

    if text.isascii():
        letters = np.frombuffer(text.encode("ascii").translate(*_ascii_folding()), np.uint8)
        accented = 0
    else:
        letters, accented = _fold_any(text)
    before, here = letters[:-1], letters[1:]
    drop = (here == ord("e")) & ((before == ord("a")) | (before == ord("o")) | (before == ord("u")))
    drop |= (here == ord("s")) & (before == ord("s"))
    if drop.any():
        letters = letters[np.append(True, ~drop)]
    return letters, accented


@cache
def _ascii_folding() -> tuple[bytes, bytes]:
    """What bytes become, and those that are dropped."""
    return bytes(range(256)).lower(), bytes(i for i in range(128) if not chr(i).isalnum())


def _fold_any(text: str) -> tuple[Any, int]:
    import numpy as np

    codes = np.frombuffer(text.encode("utf-32-le", "replace"), "<u4")
    table = _table()
    folded = table.take(codes, mode="clip")
    if int(folded.max()) == _UNKNOWN:
        for page in np.unique(codes[folded == _UNKNOWN] >> 8).tolist():
            start = page << 8
            table[start : start + 256] = [_fold_character(chr(start + i)) for i in range(256)]
        folded = table.take(codes)
    is_letter = folded != 0
    accented = int(np.count_nonzero(is_letter & (codes > 0x7F)))
    letters = folded[is_letter]
    if not letters.size or int(letters.max()) < 256:
        letters = letters.astype(np.uint8)
    return letters, accented


@cache
def _table() -> Any:
    """What every character becomes (0: dropped), filled in by pages of 256 as they are met."""
    import numpy as np

    return np.full(0x110000, _UNKNOWN, "<u4")


def _fold_character(character: str) -> int:
    """The code of a letter or digit without case and accents; 0 for anything else."""
    small = character.lower()
    if small in _LETTERS:
        return ord(_LETTERS[small])
    plain = unicodedata.normalize("NFKD", small).lower()
    bare = [letter for letter in plain if not unicodedata.combining(letter)]
    if len(bare) == 1 and bare[0].isalnum():
        return ord(_LETTERS.get(bare[0], bare[0]))
    return ord(small[0]) if character.isalnum() else 0


# --- hashes ---------------------------------------------------------------------------------------


def _hashes(letters: Any, level: int) -> Any:
    """The hashes of `level` and above of all windows, sorted, each once."""
    import numpy as np

    powers, inverses = _powers()
    limit = np.uint64((1 << (64 - level)) - 1)
    found = []
    for start in range(0, max(0, letters.size + 1 - WINDOW), _BLOCK):
        block = letters[start : start + _BLOCK + WINDOW - 1].astype(np.uint64)
        # Sums of letter * BASE**place; the difference of two, shifted back, is that of a window.
        sums = np.zeros(block.size + 1, np.uint64)
        np.cumsum(block * powers[: block.size], out=sums[1:])
        hashes = sums[WINDOW:] - sums[:-WINDOW]
        hashes *= inverses[: hashes.size]
        hashes ^= hashes >> np.uint64(32)
        hashes *= np.uint64(_MIXER)
        found.append(hashes[hashes <= limit])
    return np.unique(np.concatenate(found)) if found else np.zeros(0, np.uint64)


@cache
def _powers() -> tuple[Any, Any]:
    """The powers of _BASE and of its inverse, modulo 2**64."""
    import numpy as np

    powers, inverses = (
        np.array([1] + [base] * (_BLOCK + WINDOW), np.uint64).cumprod()
        for base in (_BASE, pow(_BASE, -1, 1 << 64))
    )
    return powers, inverses


def _by_level(hashes: Any, level: int) -> tuple[tuple[int, ...], bytes]:
    """How many of the sorted `hashes` are of each level, the top one first, and 32 bits of each."""
    import numpy as np

    limits = [1 << (64 - above) for above in range(TOP_LEVEL, level, -1)]
    ends = [0, *np.searchsorted(hashes, np.array(limits, np.uint64)).tolist(), hashes.size]
    short = (hashes >> np.uint64(_FINGERPRINT_SHIFT)).astype("<u4")
    groups = [np.unique(short[a:b]) for a, b in pairwise(ends)]
    return tuple(int(group.size) for group in groups), b"".join(map(bytes, groups))


# --- an index -------------------------------------------------------------------------------------


def candidate_pairs(sketches: Sequence[Sketch], share: float, least: int) -> list[tuple[int, int]]:
    """The pairs, by number, that may share as much as `share` of the hashes of one of them.

    No fewer than `least` hashes, at any rate. Hashes that many texts share (common phrases) pair
    each of these only with the first few and the next few, so the work grows with the hashes and
    not with their square; the numbers should therefore go from the best text to the worst. The
    hashes are sorted part by part, a part being those with the same last bits, so that not all are
    in memory a second time. Pairs that fall behind what is needed are forgotten early.
    """
    if len(sketches) < 2:
        return []
    import numpy as np

    total = sum(len(sketch.hashes) for sketch in sketches) // 4
    parts = 1 << (total // _PART).bit_length()
    most = np.array(
        [[sketch.count(max(level, sketch.level)) for level in range(TOP_LEVEL + 1)]
         for sketch in sketches], np.int32,
    ).reshape(-1, TOP_LEVEL + 1)  # fmt: skip
    levels = np.array([sketch.level for sketch in sketches], np.int8)
    keys, counts = np.zeros(0, np.uint64), np.zeros(0, np.int32)
    for part in range(parts):
        fresh = _pairs_of(_postings(sketches, part, parts))
        keys, counts = _added(keys, counts, fresh)
        one, other = (keys >> np.uint64(32)).astype(np.uint32), keys.astype(np.uint32)
        level = np.maximum(levels[one], levels[other])
        needed = share * np.minimum(most[one, level], most[other, level])
        done = (part + 1) / parts
        needed = np.maximum(needed, least) if part + 1 == parts else needed * done / 2
        hopeful = (counts >= needed) & (one != other)
        keys, counts = keys[hopeful], counts[hopeful]
    return [(int(key) >> 32, int(key) & 0xFFFFFFFF) for key in keys]


def _postings(sketches: Sequence[Sketch], part: int, parts: int) -> Any:
    """The hashes of a part, each above the number of its sketch, sorted."""
    import numpy as np

    found = []
    for first in range(0, len(sketches), _BATCH):
        some = sketches[first : first + _BATCH]
        hashes = np.frombuffer(b"".join(sketch.hashes for sketch in some), "<u4")
        sizes = [len(sketch.hashes) // 4 for sketch in some]
        numbers = np.repeat(np.arange(first, first + len(some), dtype=np.uint64), sizes)
        if parts > 1:
            here = np.flatnonzero(hashes & np.uint32(parts - 1) == part)
            hashes, numbers = hashes[here], numbers[here]
        found.append((hashes.astype(np.uint64) << np.uint64(32)) | numbers)
    postings = np.concatenate(found) if found else np.zeros(0, np.uint64)
    postings.sort()
    return postings


def _pairs_of(postings: Any) -> Any:
    """The pairs of texts that share a hash, as (lower number << 32 | higher), once per hash."""
    import numpy as np

    half = np.uint64(32)
    same = np.zeros(postings.size + 1, bool)
    same[1:-1] = (postings[1:] ^ postings[:-1]) >> half == 0
    postings = postings[same[1:] | same[:-1]]  # what only one text has is of no interest
    texts, hashes = postings & np.uint64(0xFFFFFFFF), postings >> half
    starts = np.flatnonzero(np.append(True, hashes[1:] != hashes[:-1])[: hashes.size])
    lengths = np.diff(np.append(starts, hashes.size))
    start, many = np.repeat(starts, lengths), np.repeat(lengths > _ALL_PAIRS, lengths)
    place = np.arange(hashes.size) - start
    found = []
    for back in range(1, _ALL_PAIRS):
        later = np.flatnonzero((place >= back) & (~many | (back <= _NEIGHBOURS)))
        found.append((texts[later - back] << half) | texts[later])
    for hub in range(_HUBS):
        later = np.flatnonzero(many & (place > hub + _NEIGHBOURS))
        found.append((texts[start[later] + hub] << half) | texts[later])
    return np.concatenate(found)


def _added(keys: Any, counts: Any, fresh: Any) -> tuple[Any, Any]:
    """`counts` of `keys` with one more for each of `fresh`."""
    import numpy as np

    fresh.sort()
    every = np.concatenate([keys, fresh])
    order = np.argsort(every, kind="stable")
    every = every[order]
    times = np.concatenate([counts, np.ones(fresh.size, np.int32)])[order]
    starts = np.flatnonzero(np.append(True, every[1:] != every[:-1])[: every.size])
    return every[starts], np.add.reduceat(times, starts) if starts.size else times

"""Rows of logits at chosen places of a text: kept in a file, and compared with another model's.

A file holds float32 numbers and nothing else, row after row, each as wide as the vocabulary. It
never leaves the machine, nor the run. numpy is imported here: import this module late.
"""

from collections.abc import Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from types import TracebackType
from typing import Any

import numpy as np
import numpy.typing as npt

Row = npt.NDArray[np.float32]


@dataclass
class Rows:
    """What a model says at each place, in order.

    Attributes:
        tops: the likeliest token.
        nats: the cost of the token that stands there.
        kls: the divergence, in nats, of this model from the one that it is compared with; empty
            if it is compared with none.
        furthest: the largest difference between any two logits of the two.
    """

    tops: list[int] = field(default_factory=list)
    nats: list[float] = field(default_factory=list)
    kls: list[float] = field(default_factory=list)
    furthest: float = 0.0

    def add(self, other: "Rows") -> None:
        """Append what follows."""
        self.tops += other.tops
        self.nats += other.nats
        self.kls += other.kls
        self.furthest = max(self.furthest, other.furthest)

    def as_dict(self) -> dict[str, Any]:
        """The same as plain values, to be sent from one process to another."""
        return asdict(self)


class RowFile:
    """Looks at rows one after the other; a context manager.

    Args:
        path: the file, or None to keep nothing and compare with nothing.
        compare: it is there; what comes is compared with what is in it.
        write: what comes is written into it, in place of what was there.
    """

    def __init__(self, path: Path | None, *, compare: bool = False, write: bool = False) -> None:
        self._compare, self._write = compare, write
        mode = "r+b" if compare and write else "rb" if compare else "wb"
        self._file = path.open(mode) if path else None

    def __enter__(self) -> "RowFile":
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        if self._file:
            self._file.close()

    def take(self, rows: Sequence[Row], targets: Sequence[int]) -> Rows:
        """Look at the next rows; `targets` are the tokens that stand there.

        Raises ValueError if the file ends before, or was made with another vocabulary.
        """
        found = Rows()
        for row, target in zip(rows, targets, strict=True):
            said = log_softmax(row)
            found.tops.append(int(row.argmax()))
            found.nats.append(-float(said[target]))
            if self._file is None:
                continue
            at = self._file.tell()
            if self._compare:
                other = np.frombuffer(self._file.read(row.nbytes), np.float32)
                if other.shape != row.shape:
                    raise ValueError(f"a row of {len(other):,} logits instead of {len(row):,}")
                found.kls.append(divergence(log_softmax(other), said))
                found.furthest = max(found.furthest, float(np.abs(other - row).max()))
            if self._write:
                self._file.seek(at)
                self._file.write(np.ascontiguousarray(row, np.float32).tobytes())
        return found


def log_softmax(row: Row) -> npt.NDArray[np.float64]:
    """The logarithms of the probabilities, in float64."""
    wide = row.astype(np.float64)
    wide -= wide.max()
    wide -= np.log(np.exp(wide).sum())
    return wide


def divergence(reference: npt.NDArray[np.float64], other: npt.NDArray[np.float64]) -> float:
    """Kullback-Leibler divergence in nats: what it costs to believe `other` for `reference`."""
    shares = np.exp(reference)
    likely = shares > 0  # what the reference holds for impossible costs nothing
    return float((shares[likely] * (reference[likely] - other[likely])).sum())

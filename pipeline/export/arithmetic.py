"""The arithmetic of a merge: one tensor, slice by slice, within a limit of memory."""

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from functools import partial
from math import isfinite
from typing import TYPE_CHECKING

from pipeline.ahead import IN_FLIGHT
from pipeline.errors import PipelineError
from pipeline.export.adapters import Change, LowRank
from pipeline.tensor_files import DTYPES, Source, Stored, as_matrix, item_size, n_bytes

if TYPE_CHECKING:
    import torch

# Numbers worked on at a time, whatever the limit: more would only leave the processor's caches.
SLICE = 2_000_000


class NotFinite(Exception):
    """A merged tensor holds numbers that are not finite."""


class TooLarge(NotFinite):
    """A merged tensor holds numbers that are larger than its type can hold: `largest` is one."""

    def __init__(self, name: str, kind: str, largest: float) -> None:
        super().__init__(name)
        self.name, self.kind, self.largest = name, kind, largest

    def as_error(self) -> PipelineError:
        """The sentence about it."""
        import torch

        most = torch.finfo(getattr(torch, DTYPES[self.kind])).max
        return PipelineError(
            f"The weights of {self.name} go up to {self.largest:,.0f}, and {DTYPES[self.kind]}"
            f" holds no number beyond {most:,.0f}.",
            "Write the model in bfloat16 or float32: pipeline merge --dtype bfloat16.",
        )


@dataclass(frozen=True)
class Job:
    """One tensor to be made: `source` (absent where the adapter brings a whole tensor), what
    changes, and how the result looks. Rows beyond the source's are those that `change` brings, or
    zeros.
    """

    name: str
    source: Source
    change: Change
    kind: str
    shape: tuple[int, ...]

    @property
    def size(self) -> int:
        """Bytes of the result."""
        return n_bytes(self.kind, self.shape)

    @property
    def is_copy(self) -> bool:
        """Whether the result is the base's tensor as it lies there."""
        look = (self.kind, self.shape)
        return self.change == Change() and look == (self.source.kind, self.source.shape)

    def memory(self, adapter: Mapping[str, Stored]) -> tuple[int, int]:
        """(bytes needed throughout, bytes for each row of a slice, for all slices in work)"""
        columns = as_matrix(self.shape)[1]
        held = 0
        for name in self.change.tensors():
            if name != self.change.whole:
                rows, width = as_matrix(adapter[name].shape)
                held += rows * width * (4 + item_size(adapter[name].kind))
        if self.change.low_rank and self.change.low_rank.magnitude:
            held += 16 * max(as_matrix(self.shape))  # norms and factors
        # As it is stored (twice over where it is unpacked), in float32, its update, the result.
        unpacking = 12 if self.source.overhead else item_size(self.source.kind)
        # Those of the next tensor are loaded while the last slices of this one are in work.
        fixed = 2 * (held + self.source.overhead)
        return fixed, IN_FLIGHT * columns * (unpacking + 4 + 4 + item_size(self.kind))

    def slice_rows(self, adapter: Mapping[str, Stored], limit: int) -> int:
        """How many rows to work on at a time.

        Raises:
            PipelineError: not even one row fits into `limit` bytes.
        """
        fixed, each = self.memory(adapter)
        least = fixed + each
        if least > limit:
            raise PipelineError(
                f"Merging {self.name} needs {_megabytes(least)} of memory, more than the"
                f" {_megabytes(limit)} allowed.",
                "Raise --max-memory.",
            )
        columns = as_matrix(self.shape)[1]
        return max(1, min(SLICE // max(1, columns), (limit - fixed) // max(1, each)))


def work_memory(job: Job, adapter: Mapping[str, Stored], limit: int) -> int:
    """About how many bytes `pieces` has in memory at a time."""
    fixed, each = job.memory(adapter)
    return fixed + each * min(job.slice_rows(adapter, limit), as_matrix(job.shape)[0])


def _megabytes(n: int) -> str:
    return f"{n / 1e6:,.1f} MB"


def pieces(
    job: Job, adapter: Mapping[str, Stored], limit: int
) -> Iterator[Callable[[], "torch.Tensor"]]:
    """The tasks that make the rows of the merged tensor, slice by slice and in order.

    Each number is computed in float32 and rounded once. A task raises NotFinite if what comes out
    is no number, or too large for the type; only what is copied from the base is not looked at.

    Raises:
        PipelineError: one slice needs more than `limit` bytes.
    """
    step = job.slice_rows(adapter, limit)
    if job.is_copy:
        for first, last in _ranges(job, step):
            yield partial(job.source.rows, first, last)
        return
    work = _Work(job, adapter, step)
    for first, last in _ranges(job, step):
        yield partial(work.merged, first, last)


def check_finite(numbers: "torch.Tensor", name: str) -> None:
    """Raise NotFinite, with the name of the tensor, unless all numbers are finite."""
    if not numbers.is_floating_point() or numbers.element_size() < 2 or not numbers.numel():
        return
    # Not isfinite(): that takes seventy times as long. NaN is the least and the largest.
    low, high = numbers.aminmax()
    if not (isfinite(low.item()) and isfinite(high.item())):
        raise NotFinite(name)


def rounded(numbers: "torch.Tensor", name: str, kind: str) -> "torch.Tensor":
    """`numbers` in the type `kind`. Raises NotFinite, with the name of the tensor, for one that is
    no number, and TooLarge for one that the type cannot hold."""
    import torch

    made = numbers.to(getattr(torch, DTYPES[kind]))
    try:
        check_finite(made, name)
    except NotFinite:
        check_finite(numbers, name)
        raise TooLarge(name, kind, numbers.abs().max().item()) from None
    return made


def _ranges(job: Job, step: int) -> Iterator[tuple[int, int]]:
    """Slices of rows; none reaches from one expert's matrix into the next."""
    rows = as_matrix(job.shape)[0]
    low_rank = job.change.low_rank
    block = rows // low_rank.experts if low_rank else rows
    for start in range(0, rows, max(1, block)):
        for first in range(start, start + block, step):
            yield first, min(first + step, start + block)


class _Work:
    """The tensors of the adapter that one job needs, in memory."""

    def __init__(self, job: Job, adapter: Mapping[str, Stored], step: int) -> None:
        self._job = job
        self._stored_rows = min(as_matrix(job.shape)[0], as_matrix(job.source.shape)[0])
        self._update: Callable[[int, int], torch.Tensor] | None = None
        self._row_factor: torch.Tensor | None = None
        self._magnitude: torch.Tensor | None = None
        self._column_factor: torch.Tensor | None = None
        self._load_rows(adapter)
        low_rank = job.change.low_rank
        if low_rank is None:
            return
        self._update = _update(low_rank, job.shape, adapter)
        if low_rank.magnitude:
            magnitude = adapter[low_rank.magnitude].whole().float().view(-1)
            if low_rank.transposed:
                self._column_factor = magnitude / self._column_norms(step)
            else:
                self._magnitude = magnitude

    def _load_rows(self, adapter: Mapping[str, Stored]) -> None:
        import torch

        change = self._job.change
        if change.rows:
            order = torch.tensor(change.indices).argsort()
            self._indices = torch.tensor(change.indices)[order]
            self._rows = adapter[change.rows].whole().float()[order]

    def merged(self, first: int, last: int) -> "torch.Tensor":
        """The merged rows, rounded."""
        return rounded(self._rows_of(first, last), self._job.name, self._job.kind)

    def _rows_of(self, first: int, last: int) -> "torch.Tensor":
        import torch

        merged = self._updated(first, last)
        if self._magnitude is not None:
            norms = torch.linalg.norm(merged, dim=1)
            merged.mul_((self._magnitude[first:last] / norms)[:, None])
        if self._column_factor is not None:
            merged.mul_(self._column_factor)
        if self._job.change.rows:
            edges = torch.searchsorted(self._indices, torch.tensor([first, last]))
            start, end = edges.tolist()
            merged[self._indices[start:end] - first] = self._rows[start:end]
        return merged

    def _updated(self, first: int, last: int) -> "torch.Tensor":
        """The source's rows and their update; zeros for rows beyond the source's."""
        import torch

        merged = self._job.source.rows(first, max(first, min(last, self._stored_rows))).float()
        if len(merged) < last - first:
            more = torch.zeros(last - first - len(merged), merged.shape[1])
            merged = torch.cat([merged, more])
        if self._update is not None:
            merged.add_(self._update(first, last))
        return merged

    def _column_norms(self, step: int) -> "torch.Tensor":
        """The norm of each column, which takes a first pass over all rows."""
        import torch

        squares = torch.zeros(self._job.shape[-1], dtype=torch.float64)
        for first, last in _ranges(self._job, step):
            squares += self._updated(first, last).square_().sum(dim=0, dtype=torch.float64)
        return squares.sqrt_().float()


def _update(
    low_rank: LowRank, shape: tuple[int, ...], adapter: Mapping[str, Stored]
) -> Callable[[int, int], "torch.Tensor"]:
    """A function that computes rows of the update, as PEFT does: (B @ A) * scale in float32."""
    a = adapter[low_rank.a].whole().float()
    b = adapter[low_rank.b].whole().float()
    experts = low_rank.experts
    block = as_matrix(shape)[0] // experts
    # Of a stack, A holds the experts one after the other and B number by number in turn.
    many_a = a.reshape(experts, -1, a.shape[-1])
    many_b = b.reshape(b.shape[0], -1, experts).permute(2, 0, 1)

    def rows(first: int, last: int) -> "torch.Tensor":
        expert = first // block
        first, last = first - expert * block, last - expert * block
        if low_rank.transposed:
            left, right = many_a[expert, :, first:last].T, many_b[expert].T
        else:
            left, right = many_b[expert, first:last], many_a[expert]
        return (left @ right).mul_(low_rank.scale)

    return rows

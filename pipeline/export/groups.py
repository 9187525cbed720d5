"""Merge into parameters that a checkpoint stores in parts, such as the experts of a mixture.

The parts are put together as transformers does it when it loads, merged, and taken apart again, so
the merged checkpoint has the form of the base's. All parts of a group are in memory at once.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from pipeline.errors import PipelineError
from pipeline.export.adapters import Change
from pipeline.export.arithmetic import Job, pieces, rounded
from pipeline.export.names import Group
from pipeline.tensor_files import DTYPES, Source, Stored, as_matrix, n_bytes

if TYPE_CHECKING:
    import torch


@dataclass(frozen=True)
class InMemory:
    """A tensor in memory, read as if it were in a file."""

    tensor: "torch.Tensor"
    kind: str
    overhead: int = 0

    @property
    def shape(self) -> tuple[int, ...]:
        return tuple(self.tensor.shape)

    def rows(self, first: int, last: int) -> "torch.Tensor":
        """See `Source`; a copy, since the work is done in place."""
        return self.tensor.reshape(as_matrix(self.shape))[first:last].clone()


@dataclass
class GroupWork:
    """A group with what changes in it; the merged parts are kept until they are taken."""

    group: Group
    model: Any
    tensors: Mapping[str, Source]
    changes: Mapping[str, Change]
    kind: str
    _made: dict[str, "torch.Tensor"] = field(default_factory=dict)

    def _jobs(self, parameters: Mapping[str, Source]) -> dict[str, Job]:
        return {
            name: Job(name, parameters[name], change, self.kind, parameters[name].shape)
            for name, change in self.changes.items()
        }

    def memory(self, adapter: Mapping[str, Stored]) -> int:
        """About the most bytes that it takes: the parts, the parameters, and one in work."""
        import torch

        held = sum(
            n_bytes(self.tensors[key].kind, self.tensors[key].shape)
            for key in self.group.keys.values()
        )
        empty = {
            name: InMemory(torch.empty(shape, device="meta"), self.kind)
            for name, shape in self.group.targets.items()
        }
        most = 0
        for job in self._jobs(empty).values():
            fixed, each = job.memory(adapter)
            most = max(most, fixed + each)
        return 3 * held + most

    def check(self, adapter: Mapping[str, Stored], limit: int) -> None:
        """Raise PipelineError if it takes more than `limit` bytes, or cannot be taken apart."""
        import torch

        needed = self.memory(adapter)
        if needed > limit:
            raise PipelineError(
                f"Merging {self.group.first}, whose parts are merged together, needs"
                f" {needed / 1e9:,.2f} GB of memory, more than the {limit / 1e9:,.2f} GB allowed.",
                "Raise --max-memory.",
            )
        empty = {name: torch.empty(s, device="meta") for name, s in self.group.targets.items()}
        try:
            made = self.group.revert(self.model, empty)
        except (ValueError, RuntimeError, KeyError, IndexError, NotImplementedError):
            made = {}
        for key in self.group.keys.values():
            if key not in made or tuple(made[key].shape) != self.tensors[key].shape:
                raise PipelineError(
                    f"The adapter changes {self.group.first}, which this base model stores in"
                    " parts that cannot be merged here.",
                    "Train without this parameter (--target-modules).",
                )

    def take(self, key: str, adapter: Mapping[str, Stored], limit: int) -> "torch.Tensor":
        """The merged tensor `key`, which is given up here."""
        if key not in self._made:
            self._made = self._merge(adapter, limit - self.memory(adapter))
        return self._made.pop(key)

    def _merge(self, adapter: Mapping[str, Stored], spare: int) -> dict[str, "torch.Tensor"]:
        import torch

        dtype = getattr(torch, DTYPES[self.kind])
        loaded = {}
        for key in self.group.keys.values():
            source = self.tensors[key]
            loaded[key] = source.rows(0, as_matrix(source.shape)[0]).reshape(source.shape)
        parameters = self.group.convert(self.model, loaded)
        loaded.clear()
        by_dtype = {getattr(torch, name): kind for kind, name in DTYPES.items()}
        sources = {name: InMemory(t, by_dtype[t.dtype]) for name, t in parameters.items()}
        for name, job in self._jobs(sources).items():
            fixed, each = job.memory(adapter)
            merged = torch.empty(as_matrix(job.shape), dtype=dtype)
            at = 0
            for task in pieces(job, adapter, fixed + each + max(0, spare)):
                piece = task()
                merged[at : at + len(piece)] = piece
                at += len(piece)
            parameters[name] = merged.reshape(job.shape)
        parameters = {name: rounded(tensor, name, self.kind) for name, tensor in parameters.items()}
        return self.group.revert(self.model, parameters)

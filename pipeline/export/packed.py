"""Weights that bitsandbytes stored in four bits, read as 16-bit numbers.

Each number is one of sixteen, times a scale that it shares with its block; the scales may be
stored in eight bits in the same way ("double quantization").
"""

import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from pipeline.errors import PipelineError
from pipeline.tensor_files import Source, Stored, as_matrix

if TYPE_CHECKING:
    import torch

STATE = ".quant_state.bitsandbytes__"
PARTS = (".absmax", ".quant_map", ".nested_absmax", ".nested_quant_map")
KINDS = {"bfloat16": "BF16", "float16": "F16", "float32": "F32"}


@dataclass(frozen=True)
class Scales:
    """The scales of a tensor's blocks; with `values` and `outer` where they are stored in eight
    bits: then each is one of `values`, times a scale of its own block, plus `offset`."""

    stored: Stored
    values: "torch.Tensor | None" = None
    outer: "torch.Tensor | None" = None
    block: int = 1
    offset: float = 0.0

    def between(self, first: int, last: int) -> "torch.Tensor":
        """The scales from `first` to before `last`, in float32."""
        import torch

        scales = self.stored.rows(first, last).view(-1)
        if self.values is None or self.outer is None:
            return scales.float()
        blocks = torch.arange(first, last, dtype=torch.int32) // self.block
        return self.values[scales.int()] * self.outer[blocks] + self.offset


@dataclass(frozen=True)
class FourBit:
    """A four-bit tensor; its rows are those that bitsandbytes itself would compute with."""

    packed: Stored
    kind: str
    shape: tuple[int, ...]
    block: int  # numbers that share a scale
    values: "torch.Tensor"  # the two numbers that each byte stands for
    scales: Scales

    @property
    def overhead(self) -> int:
        """What a slice needs besides its numbers: the blocks that it has parts of."""
        return 32 * self.block

    def rows(self, first: int, last: int) -> "torch.Tensor":
        """See `Source`."""
        import torch

        columns = as_matrix(self.shape)[1]
        start, end = first * columns, last * columns
        # Whole blocks around what is wanted: so two numbers of one byte are never parted.
        begin = start // self.block
        until = -(-end // self.block)
        packed = self.packed.rows(
            begin * self.block // 2,
            min(until * self.block // 2, as_matrix(self.packed.shape)[0]),
        )
        numbers = self.values[packed.view(-1).int()].view(-1)
        if len(numbers) < (until - begin) * self.block:  # the last block may be shorter
            rest = torch.zeros((until - begin) * self.block - len(numbers))
            numbers = torch.cat([numbers, rest])
        numbers.view(-1, self.block).mul_(self.scales.between(begin, until)[:, None])
        cut = numbers[start - begin * self.block : end - begin * self.block]
        return cut.view(last - first, columns).to(getattr(torch, _dtype_name(self.kind)))


def unpacked(tensors: Mapping[str, Stored], folder: Path) -> dict[str, Source]:
    """The tensors with each four-bit one and its parts as one readable tensor.

    Raises:
        PipelineError: parts of one are missing or make no sense.
    """
    states = {key.partition(STATE)[0]: key for key in tensors if STATE in key}
    found: dict[str, Source] = {}
    for key, stored in tensors.items():
        if STATE in key or _is_part(key, states):
            continue
        found[key] = stored
        if key in states:
            try:
                found[key] = _four_bit(key, states[key], tensors)
            except (KeyError, ValueError, TypeError, RuntimeError) as error:
                raise PipelineError(
                    f"The four-bit tensor {key!r} of the base model in {folder} is damaged or not"
                    " whole.",
                    "Copy the model again, or give its 16-bit original with --merge-base.",
                ) from error
    return found


def _is_part(key: str, states: Mapping[str, str]) -> bool:
    return any(key.endswith(part) and key.removesuffix(part) in states for part in PARTS)


def _four_bit(key: str, state_key: str, tensors: Mapping[str, Stored]) -> FourBit:
    import torch

    state: dict[str, Any] = json.loads(bytes(tensors[state_key].whole().tolist()))
    packed = tensors[key]
    shape = tuple(int(length) for length in state["shape"])
    rows, columns = as_matrix(shape)
    block = int(state["blocksize"])
    scales = Scales(tensors[f"{key}.absmax"])
    if "nested_blocksize" in state:
        scales = Scales(
            scales.stored,
            tensors[f"{key}.nested_quant_map"].whole().float().view(-1),
            tensors[f"{key}.nested_absmax"].whole().float().view(-1),
            int(state["nested_blocksize"]),
            float(state["nested_offset"]),
        )
    code = tensors[f"{key}.quant_map"].whole().float().view(-1)
    if (
        len(code) != 16
        or block < 2
        or block % 2
        or packed.kind != "U8"
        or as_matrix(packed.shape) != ((rows * columns + 1) // 2, 1)
        or as_matrix(scales.stored.shape) != (-(-rows * columns // block), 1)
        or not _fit(scales)
    ):
        raise ValueError("parts that do not fit together")
    byte = torch.arange(256)
    values = torch.stack([code[byte >> 4], code[byte & 15]], dim=1)
    return FourBit(packed, KINDS[state["dtype"]], shape, block, values, scales)


def _fit(scales: Scales) -> bool:
    """Whether scales are of the right type, and those in eight bits have all they need."""
    if scales.values is None or scales.outer is None:
        return scales.stored.kind in KINDS.values()
    blocks = -(-as_matrix(scales.stored.shape)[0] // max(1, scales.block))
    return scales.stored.kind == "U8" and len(scales.values) == 256 and len(scales.outer) == blocks


def _dtype_name(kind: str) -> str:
    return next(name for name, short in KINDS.items() if short == kind)

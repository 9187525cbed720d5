"""How much is proven, and how far from the trained model an export may be."""

import math
from dataclasses import dataclass
from typing import Any

from pipeline.errors import UsageError
from pipeline.export.llama import thread_count
from pipeline.export.quantizations import QUANTIZATIONS

MODES = ("full", "quick", "none")
LONG = 300.0  # seconds that a full proof may take without being asked for
_SPEED = 4e10  # operations per second and core, about
_ROOM = 1.3  # how much more memory a model takes while it is loaded and used


@dataclass(frozen=True)
class Bounds:
    """How far from the trained model an export may be. None: what is usual for the type.

    Attributes:
        bits: bits per byte by which a GGUF may differ from the merged model.
        divergence: nats per token by which the merged model may differ from base and adapter.
        tokens: texts of the proof that llama.cpp may split in another way than the training.
    """

    bits: float | None = None
    divergence: float | None = None
    tokens: int = 0

    def given(self) -> dict[str, Any]:
        """The bounds by the names of their options."""
        return {
            "max_bits_lost": self.bits, "max_merge_divergence": self.divergence,
            "max_token_differences": self.tokens,
        }  # fmt: skip

    def check(self) -> None:
        """Raise UsageError for a bound that is none."""
        for name, value in (("bits-lost", self.bits), ("merge-divergence", self.divergence)):
            if value is not None and not 0 <= value < math.inf:
                raise UsageError(f"--max-{name} must be 0 or more, not {value}.")
        if self.tokens < 0:
            raise UsageError(f"--max-token-differences must be 0 or more, not {self.tokens}.")

    def bits_of(self, kind: str) -> float:
        """Bits per byte by which a GGUF of this type may differ."""
        if self.bits is not None:
            return self.bits
        if kind == "q8_0":
            return 0.005
        size = QUANTIZATIONS[kind].bits
        # Below 8 bits losses are the type's own; only a broken file loses so much.
        return 0.001 if size >= 16 else 0.5 if size >= 4 else 2.0

    def divergence_of(self, wide: bool) -> float:
        """Nats per token by which merging may change the model, by what it was computed in."""
        if self.divergence is not None:
            return self.divergence
        return 0.002 if wide else 0.02


def check_mode(wanted: str | None) -> None:
    """Raise UsageError if there is no such proof."""
    if wanted is not None and wanted not in MODES:
        raise UsageError(f"--proof {wanted!r} is unknown.", f"Known: {', '.join(MODES)}.")


def choose_mode(wanted: str | None, parameters: int, tokens: int, files: int) -> str:
    """The mode as asked; else full if that takes no more than about five minutes, or quick."""
    seconds = 2 * parameters * tokens * (files + 1.5) / (_SPEED * thread_count())
    return wanted or ("full" if seconds <= LONG else "quick")


def fits(size: int) -> bool:
    """Whether a model of so many bytes can be held, on the GPU if there is one."""
    import psutil  # type: ignore[import-untyped]
    import torch

    room = psutil.virtual_memory().available
    if torch.cuda.is_available():
        room = min(room, torch.cuda.mem_get_info()[0])
    return size * _ROOM + 2**30 <= room

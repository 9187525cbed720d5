"""What type of numbers a merged model is written in: 16 bits of the base's kind, if not told."""

from collections.abc import Mapping
from typing import Any

from pipeline.export.companions import text_part
from pipeline.tensor_files import DTYPES, FLOATS, Source, as_matrix

# The types that can be asked for, as people call them.
WANTED = {DTYPES[kind]: kind for kind in ("BF16", "F16", "F32")}


def target_kind(config: dict[str, Any], tensors: Mapping[str, Source]) -> str:
    """F16 if the base is float16, else BF16."""
    told = [
        part.get(name) for part in (config, text_part(config)) for name in ("dtype", "torch_dtype")
    ]
    named = next((str(dtype).removeprefix("torch.") for dtype in told if dtype), None)
    if named is None:
        sizes = _numbers(tensors)
        named = "float16" if sizes["F16"] > sizes["BF16"] + sizes["F32"] else "bfloat16"
    return "F16" if named in ("float16", "half") else "BF16"


def _numbers(tensors: Mapping[str, Source]) -> dict[str, int]:
    """How many numbers there are of each floating type."""
    counts = dict.fromkeys(FLOATS, 0)
    for source in tensors.values():
        if source.kind in counts:
            rows, columns = as_matrix(source.shape)
            counts[source.kind] += rows * columns
    return counts


class Kinds:
    """What type each tensor is written in: `dtype`, one of WANTED, or what suits the base."""

    def __init__(
        self, config: dict[str, Any], tensors: Mapping[str, Source], dtype: str | None = None
    ) -> None:
        self.target = WANTED[dtype] if dtype else target_kind(config, tensors)
        counts = _numbers(tensors)
        # Among 16-bit matrices, the few that are float32 are so on purpose.
        self._keep_wide = counts["F16"] + counts["BF16"] > counts["F32"]

    def of(self, source: Source, changed: bool) -> str:
        if source.kind not in FLOATS:
            return source.kind
        if source.kind == "F32" and self._keep_wide and not changed:
            return "F32"
        return self.target

"""The proof of a GGUF adapter: on its base it scores text as the trained model does."""

import math
import time
from pathlib import Path
from typing import Any

from pipeline.errors import PipelineError
from pipeline.export.as_adapter import score_with_adapter
from pipeline.export.proof import Load
from pipeline.export.proof_bounds import Bounds, fits
from pipeline.export.proof_logits import ask_model
from pipeline.export.proof_subject import Subject
from pipeline.export.proof_tokens import check_reading


def prove_adapter(
    adapter: Path, base: Path, subject: Subject, load: Load, *, parameters: int, mode: str,
    bounds: Bounds, logits: Path, log: Path,
) -> dict[str, Any]:  # fmt: skip
    """What proof.json records of the adapter GGUF `adapter` on its base in 16 bits, a GGUF.

    Args:
        load: loads what was trained, of so many `parameters`.
        logits: a file that is not there.

    Raises PipelineError: the two do not load, read text in another way than the training, or are
    too far from what was trained.
    """
    if not fits(2 * parameters):
        return unproven_adapter(adapter, "there is not the memory to load the trained model")
    start = time.monotonic()
    wide = fits(4 * parameters)
    reading = check_reading(base, subject.reading, log, allowed=bounds.tokens)
    windows = subject.sample.windows
    with load(wide) as (model, autocast):
        nats, _ = ask_model(
            model, subject.sample, autocast=autocast, what="the trained model", path=logits,
            write=False,
        )  # fmt: skip
    wanted = subject.bits(nats)
    found = subject.bits(
        score_with_adapter(
            base, adapter, [w.ids for w in windows], log, masks=[w.mask for w in windows]
        )
    )
    allowed = bounds.bits_of("f16") + (0 if wide else 0.02)
    if not abs(found - wanted) <= allowed or not math.isfinite(found):
        raise PipelineError(
            f"{adapter.name} is not the adapter that was trained: on its base it needs"
            f" {found:.4f} bits per byte of the text, what was trained {wanted:.4f}; a difference"
            f" of {allowed:g} is allowed (log: {log}).",
            "--max-bits-lost allows more. Earlier files and the adapter are as they were.",
        )
    facts = {
        "bytes": adapter.stat().st_size, "quantization": "f16", "bits_per_byte": found,
        "bits_per_byte_difference": found - wanted, "checks": reading.as_checks(),
    }  # fmt: skip
    return {
        "proof": mode,
        "proven": True,
        "text": subject.told(),
        "bounds": bounds.given(),
        "seconds": round(time.monotonic() - start, 1),
        "adapter": facts,
    }


def unproven_adapter(adapter: Path, why: str) -> dict[str, Any]:
    """What is recorded of one that nothing was compared with."""
    facts = {"bytes": adapter.stat().st_size, "quantization": "f16", "bits_per_byte": None}
    return {"proof": "none", "proven": False, "why": why, "adapter": facts}

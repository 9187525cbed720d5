"""The best weights that a run has kept, as others find them who only look."""

import math
from collections.abc import Sequence
from pathlib import Path

from pipeline.console import warn
from pipeline.errors import PipelineError
from pipeline.files import read_json_object
from pipeline.training import best, checkpoints
from pipeline.training.checkpointing import BEST


def kept_best(run: Path) -> tuple[list[tuple[float, int, str, Path]], list[Path]]:
    """(bits per byte, step, sha256, file) of the best weights that are told of, the best first;
    files that tell of some and make no sense."""
    places = [(place / best.MARKER, place / best.WEIGHTS) for place in (run / BEST).glob("step-*")]
    places += [
        (path / f"{best.PREFIX}{best.MARKER}", path / f"{best.PREFIX}{best.WEIGHTS}")
        for path in checkpoints.listed(run)
    ]
    found: list[tuple[float, int, str, Path]] = []
    damaged: list[Path] = []
    for marker, weights in places:
        if not marker.is_file():
            continue
        try:
            values = read_json_object(marker)
        except FileNotFoundError:
            continue
        except (PipelineError, OSError, RecursionError):
            values = {}
        bits, step, digest = (values.get(key) for key in ("bits_per_byte", "step", "sha256"))
        is_score = isinstance(bits, float) and math.isfinite(bits)
        if is_score and type(step) is int and isinstance(digest, str) and weights.is_file():
            found.append((float(bits or 0), step, digest, weights))
        else:
            warn(f"{marker} is damaged, or has no weights beside it. It is passed over.")
            damaged.append(marker)
    return sorted(found), damaged


def no_best(run: Path, damaged: Sequence[Path]) -> PipelineError:
    """The sentence for a run of which no best weights can be used."""
    if damaged:
        return PipelineError(
            f"The best weights of the run in {run} are damaged:"
            f" {damaged[0]} is not what was saved.",
            "Take --checkpoint latest, or a step.",
        )
    return PipelineError(
        f"The run in {run} has kept no best weights.",
        "It was trained with --no-keep-best, or not yet scored: take --checkpoint latest.",
    )

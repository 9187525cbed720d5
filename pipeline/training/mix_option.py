"""What `--mix` says: the shares of the sources, and from which step on they hold."""

import math
import re
from collections.abc import Sequence

from pipeline.errors import UsageError


def parse_mix(values: Sequence[str]) -> dict[int, dict[str, float]]:
    """Read `--mix`: the weights of the sources by the number of steps after which they hold.

    `novels=0.7,letters=0.3` holds from the start on, `500:novels=0.2,letters=0.8` once 500 steps
    are done. Weights are ratios and need not sum to 1.

    Raises:
        UsageError: a value has another form, a weight is no number from 0 on, all weights are 0,
            or a source or a step is given twice.
    """
    changes: dict[int, dict[str, float]] = {}
    for value in values:
        match = re.fullmatch(r"(?:([0-9]{1,9}):)?(.*)", value, re.DOTALL)
        step = int(match[1]) if match and match[1] else 0
        if step in changes:
            raise UsageError(f"--mix is given twice for step {step}: {value!r} is the second.")
        changes[step] = _weights(value, match[2] if match else value)
    return changes


def _weights(value: str, text: str) -> dict[str, float]:
    weights: dict[str, float] = {}
    for part in text.split(","):
        name, equals, number = (piece.strip() for piece in part.rpartition("="))
        try:
            weight = float(number)
        except ValueError:
            weight = math.nan
        if not (name and equals and 0 <= weight < math.inf):
            raise UsageError(
                f"--mix {value!r} must be NAME=WEIGHT,NAME=WEIGHT; {part.strip()!r} is not.",
                "For example --mix novels=0.7,letters=0.3, or from step 500 on: "
                "--mix 500:novels=0.2,letters=0.8.",
            )
        if name in weights:
            raise UsageError(f"--mix {value!r} names {name!r} twice.")
        weights[name] = weight
    if not any(weights.values()):
        raise UsageError(f"--mix {value!r} has no weight above 0: nothing would be trained on.")
    return weights

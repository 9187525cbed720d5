"""The learning rate over a run, as a factor of its peak.

All begin with a linear warm-up, in which the first step learns already, and the last step of a run
still learns: both are where transformers' schedules are if asked one step later, with one step
more of warm-up and of the run. After the warm-up:

- "constant": the peak.
- "linear": straight down to nothing.
- "cosine": down along half a cosine (Loshchilov and Hutter 2017).
- "wsd": the peak, then down as 1 - sqrt(share of the decay that is done) in the last steps. Hu et
  al. 2024 (MiniCPM) have the schedule; of its decays Hägele et al. 2024 found this one better than
  a linear one.
"""

import math

from pipeline.errors import UsageError

SCHEDULES = ("cosine", "linear", "constant", "wsd")


def warmup_steps(warmup: float, total: int) -> int:
    """The steps of the warm-up: `warmup` itself, or below 1 that share of `total` steps."""
    return _up(warmup * total if warmup < 1 else warmup)


def decay_steps(decay: float, warmup: float, total: int) -> int:
    """The steps at the end in which the rate of "wsd" falls: of what the warm-up leaves, at most
    the share `decay` of `total` steps.
    """
    return min(_up(decay * total), max(0, total - warmup_steps(warmup, total)))


def factor(name: str, step: int, total: int, warmup: float, decay: float) -> float:
    """What the peak learning rate is multiplied with in the step that follows `step` done ones.

    Args:
        name: one of `SCHEDULES`.
        step: from 0 on; from `total` on the answer is that for the step after the last.
        total: steps of the run.
        warmup: below 1 a share of the steps, from 1 on their number.
        decay: the share of the steps in which "wsd" falls; the others do not look at it.

    Raises UsageError for an unknown name.
    """
    if name not in SCHEDULES:
        raise UsageError(f"--scheduler {name!r} is unknown.", f"Known: {', '.join(SCHEDULES)}.")
    rising = warmup_steps(warmup, total)
    if step < rising:
        return (step + 1) / (rising + 1)
    left = max(0, total - step)
    if name == "constant":
        return 1.0
    if name == "wsd":
        falling = decay_steps(decay, warmup, total)
        return 1.0 - math.sqrt(1.0 - left / falling) if left < falling else 1.0
    share = left / max(1, total - rising)  # of the descent, what is still to come
    return share if name == "linear" else 0.5 * (1.0 - math.cos(math.pi * share))


def _up(steps: float) -> int:
    """Up to a whole number, as transformers does; but 0.07 * 100 is 7 and not 7.000000000000001."""
    return math.ceil(round(steps, 6))

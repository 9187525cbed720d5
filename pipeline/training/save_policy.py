"""When a run is saved, and which of its checkpoints stay.

    policy = make_policy(save_minutes=15, keep_last=2, keep_every="100:until=1000,500")
    saver = Saver(policy, steps=5000, started_at=0, now=clock())
    if reason := saver.due(step, clock()):
        ...
        saver.saved(step, clock(), seconds)
    for old in doomed(steps, policy, best=400, last_good=step): ...

Everything here is arithmetic on steps and on seconds that the caller's clock gives. Of several
processes that train together one has to decide for all: their clocks differ.
"""

import math
import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from pipeline.errors import UsageError
from pipeline.training.checkpoints import Checkpoint

SAVE_MINUTES = 15.0
LEAST_SHARE = 50  # a save for the minutes waits for so many times the seconds that the last took
KEEP_LAST = 2  # should the newest turn out to be broken, there is another one

END, KEEP, STEPS, MINUTES = "end", "keep", "steps", "minutes"

_STAGE = re.compile(r"([0-9]{1,12})(?:\s*:\s*until\s*=\s*([0-9]{1,12}))?")
_EXAMPLE = (
    "For example --keep-every 500, or --keep-every 100:until=1000,500 for every 100th step up to "
    "step 1000 and every 500th after it."
)


@dataclass(frozen=True)
class KeepStage:
    """Checkpoints of every `every`-th step stay, up to and including step `until` (None: always).

    Steps are counted from the start of the run, whatever stage they are in.
    """

    every: int
    until: int | None = None


@dataclass(frozen=True)
class SavePolicy:
    """When to save and what to keep.

    - `save_steps`: a checkpoint every so many steps; None for none.
    - `save_minutes`: one when the last is so old, and `LEAST_SHARE` times as old as it took, so
      that saving costs no more than 2 % of the time; None or 0 for none.
    - `keep_last`: so many of the newest stay; at least one.
    - `keep_every`: the stages of the permanent ones, which are made whether or not anything else
      is due, and stay.
    """

    save_steps: int | None = None
    save_minutes: float | None = SAVE_MINUTES
    keep_last: int = KEEP_LAST
    keep_every: tuple[KeepStage, ...] = ()

    def check(self) -> None:
        """Raise UsageError, naming the option, for the first setting that makes no sense."""
        if self.save_steps is not None and self.save_steps < 1:
            raise UsageError(f"--save-steps {self.save_steps} must be 1 or more.")
        if self.save_minutes is not None and not 0 <= self.save_minutes < math.inf:
            raise UsageError(
                f"--save-minutes {self.save_minutes} must be a number from 0 on.",
                "0 switches it off.",
            )
        if self.keep_last < 1:
            raise UsageError(
                f"--keep-last {self.keep_last} must be 1 or more.",
                "Without a checkpoint nothing can be continued.",
            )
        _check_stages(self.keep_every)

    def is_permanent(self, step: int) -> bool:
        """Whether the checkpoint of `step` stays for good."""
        for stage in self.keep_every:
            if stage.until is None or step <= stage.until:
                return step % stage.every == 0
        return False


def make_policy(
    save_steps: int | None = None,
    save_minutes: float | None = SAVE_MINUTES,
    keep_last: int = KEEP_LAST,
    keep_every: str | None = None,
) -> SavePolicy:
    """The policy that the options of these names ask for. Raises UsageError."""
    stages = parse_keep_every(keep_every) if keep_every is not None else ()
    policy = SavePolicy(save_steps, save_minutes, keep_last, stages)
    policy.check()
    return policy


def parse_keep_every(text: str) -> tuple[KeepStage, ...]:
    """Read `--keep-every`: "500", or stages such as "100:until=1000,500".

    Raises UsageError: another form, steps that do not rise, or a stage that keeps nothing.
    """
    stages = []
    for part in text.split(","):
        match = _STAGE.fullmatch(part.strip())
        if match is None:
            raise UsageError(
                f"--keep-every {text!r} must be STEPS, or STEPS:until=STEP,STEPS; "
                f"{part.strip()!r} is not.",
                _EXAMPLE,
            )
        stages.append(KeepStage(int(match[1]), int(match[2]) if match[2] else None))
    _check_stages(stages)
    return tuple(stages)


def _check_stages(stages: Sequence[KeepStage]) -> None:
    begun = 0  # the last step of the stage before
    for number, stage in enumerate(stages, 1):
        name = f"{stage.every}" + ("" if stage.until is None else f":until={stage.until}")
        if stage.every < 1:
            raise UsageError(f"--keep-every {name} must be 1 step or more.", _EXAMPLE)
        if stage.until is None:
            if number < len(stages):
                raise UsageError(
                    f"--keep-every {name} never ends, so that what follows it never begins.",
                    _EXAMPLE,
                )
        elif stage.until <= begun:
            raise UsageError(
                f"--keep-every {name} ends before it begins, after step {begun}.", _EXAMPLE
            )
        elif stage.until // stage.every == begun // stage.every:
            raise UsageError(
                f"--keep-every {name} keeps nothing: from step {begun + 1} to {stage.until} there "
                f"is no multiple of {stage.every}.",
                _EXAMPLE,
            )
        begun = stage.until or begun


class Saver:
    """Says at which steps of a run a checkpoint is due.

    `started_at` is the step that this session began with, of which there is nothing new to save;
    `now` are seconds of a clock that never goes back, the same one in every call.
    """

    def __init__(self, policy: SavePolicy, steps: int, started_at: int, now: float) -> None:
        self._policy = policy
        self._steps = steps
        self._saved_step = started_at
        self._saved_at = now
        self._took = 0.0

    def due(self, step: int, now: float) -> str | None:
        """Why there has to be a checkpoint after `step`, or None if there has not.

        END: the run is over. KEEP: it stays for good. STEPS, MINUTES: it is time.
        """
        policy = self._policy
        if step <= self._saved_step:
            return None
        if step >= self._steps:
            return END
        if policy.is_permanent(step):
            return KEEP
        if policy.save_steps and step % policy.save_steps == 0:
            return STEPS
        if policy.save_minutes:
            wait = max(policy.save_minutes * 60, LEAST_SHARE * self._took)
            return MINUTES if now - self._saved_at >= wait else None
        return None

    def saved(self, step: int, now: float, seconds: float = 0.0) -> None:
        """The checkpoint of `step` is written, for whatever reason, which took so many seconds; the
        minutes begin anew."""
        self._saved_step = step
        self._saved_at = now
        self._took = seconds


def doomed(
    steps: Iterable[int], policy: SavePolicy, *, best: int | None, last_good: int | None
) -> list[int]:
    """Of a run's checkpoints, those that may be deleted now, the oldest first.

    What stays: the newest `keep_last`, of whatever kind; the permanent ones; the best; and the
    last good one, which is the newest that is known to be whole: just after a save, the one that
    was written. Ask after a save, never before it.
    """
    found = sorted(set(steps))
    kept = {*found[-max(1, policy.keep_last) :], best, last_good}
    return [step for step in found if step not in kept and not policy.is_permanent(step)]


def doomed_of_run(
    found: Iterable[Checkpoint],
    run: str,
    policy: SavePolicy,
    *,
    best: int | None,
    last_good: int | None,
) -> list[Checkpoint]:
    """The same for checkpoints of which some may be another run's (`about["run"]` says whose):
    those neither count nor go."""
    own = {one.step: one for one in found if one.about.get("run") == run}
    return [own[step] for step in doomed(own, policy, best=best, last_good=last_good)]


def most_kept(policy: SavePolicy, steps: int) -> int:
    """How many checkpoints a run of `steps` steps has at most, between a save and the deletions
    after it: what the disk must have room for."""
    permanent, begun = 0, 0
    for stage in policy.keep_every:
        end = steps if stage.until is None else min(stage.until, steps)
        permanent += max(0, end // stage.every - begun // stage.every)
        begun = max(begun, end)
    return min(steps, permanent + policy.keep_last + 1 + 2)  # the new one; the best, the last good


def round_ends(step: int, started_at: int, steps_per_round: int | None) -> bool:
    """Whether a round that began after step `started_at` is over after `step`; None never ends."""
    return steps_per_round is not None and step - started_at >= steps_per_round

"""The folders of several runs, side by side: which others there are, and what becomes of them."""

from collections.abc import Iterator
from pathlib import Path

from pipeline.console import say, warn
from pipeline.errors import UsageError
from pipeline.training import checkpoints
from pipeline.training.checkpoints import Checkpoint
from pipeline.training.identity import Identity, compare

ASIDE = "set-aside-"
GIVEN_UP = "GIVEN_UP"  # a file in the folder of a run that somebody started anew beside
LONGER = "Make it longer, or start anew with --resume never."


def set_run_aside(folder: Path) -> None:
    """Move what there is of the run in `folder` out of the way, and give up unfinished others."""
    for other in _others(folder):
        if is_unfinished(other):
            (other.path.parent / GIVEN_UP).touch()
    if not folder.exists():
        return
    taken = [path.name.split("-")[2] for path in folder.parent.glob(f"{ASIDE}*")]
    n = 1 + max((int(number) for number in taken if number.isdigit()), default=0)
    aside = folder.with_name(f"{ASIDE}{n}-{folder.name}")
    folder.replace(aside)
    say(f"Starting anew: the checkpoints of this run are in {aside} now.")


def of_others(
    folder: Path, identity: Identity, steps: int, allow_changed: bool
) -> Checkpoint | None:
    """What the run in `folder`, with this identity and so many steps, goes on with of another run
    beside it; None if there is none.

    Raises UsageError if there is an unfinished one that it may not be gone on with.
    """
    others = [(other, compare(other, identity)) for other in _others(folder)]
    fitting = [
        other for other, changes in others
        if allow_changed and changes.harmless and other.step <= steps
    ]  # fmt: skip
    if fitting:
        return max(fitting, key=lambda other: other.step)
    for other, changes in others:
        is_longer = allow_changed and changes.harmless  # else it would fit
        if is_unfinished(other):
            raise UsageError(
                f"{other.path} is of a run that is not finished, with other settings: {changes}.",
                LONGER if is_longer else changes.way_out,
            )
        if changes.grew and changes.harmless and not allow_changed:
            say(
                f"{other.path} is of the same series before it grew; --allow-changed goes on "
                "with it, this starts anew."
            )
    if allow_changed and others:
        other, changes = max(others, key=lambda found: found[0].saved)
        why = "is of a later step" if changes.harmless else "differs in more"
        warn(f"Nothing to go on from: {other.path} {why}, {changes}.")
    return None


def _others(own: Path) -> Iterator[Checkpoint]:
    """The newest checkpoint of each other run beside `own` that was not given up."""
    if not own.parent.is_dir():
        return
    for folder in sorted(own.parent.iterdir()):
        gone = folder.name.startswith(ASIDE) or (folder / GIVEN_UP).exists()
        if not folder.is_dir() or folder == own or gone:
            continue
        other = next(checkpoints.whole(folder), None)
        if other is not None:
            yield other


def is_unfinished(checkpoint: Checkpoint) -> bool:
    """Whether a checkpoint is of before the last step of its run."""
    steps = checkpoint.about.get("steps")
    return isinstance(steps, int) and checkpoint.step < steps

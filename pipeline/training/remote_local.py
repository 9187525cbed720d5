"""The checkpoints here that are to be somewhere else: those of the latest run."""

from pathlib import Path

from pipeline.training import checkpoints
from pipeline.training.checkpoints import Checkpoint
from pipeline.training.run_folders import ASIDE, GIVEN_UP


def latest_run(root: Path, *, hashes: bool = True) -> list[Checkpoint]:
    """The whole checkpoints of the run below `root` that was saved last, the newest first.

    Runs that were set aside or given up are none. Without `hashes` only the sizes of the files are
    looked at.
    """
    newest = [
        found
        for folder in root.glob("*")
        if not folder.name.startswith(ASIDE) and not (folder / GIVEN_UP).exists()
        if (found := next(checkpoints.whole(folder, hashes=False), None)) is not None
    ]
    if not newest:
        return []
    latest = max(newest, key=lambda one: (one.saved, one.step))
    return list(checkpoints.whole(latest.path.parent, hashes=hashes))


def run_of_checkpoint(one: Checkpoint) -> str:
    """The id of the run that a checkpoint is of."""
    return str(one.about.get("run") or one.path.parent.name)


def is_last(one: Checkpoint) -> bool:
    """Whether a checkpoint is the last of its run."""
    steps = one.about.get("steps")
    return isinstance(steps, int) and one.step >= steps

"""Checkpoints that no run needs any more: told at the end of a run, with what they take.

Nothing of them is deleted unasked: each is hours of somebody's work.
"""

import os
import shlex
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from pipeline.console import megabytes
from pipeline.training import checkpoints
from pipeline.training.attempts import SET_ASIDE
from pipeline.training.run_folders import ASIDE, GIVEN_UP

WORTH_TELLING = 100_000_000  # bytes, in all
_MOST_NAMED = 5


@dataclass(frozen=True)
class Leftover:
    """A folder that could go: why, and how much that would bring (bytes)."""

    path: Path
    why: str
    size: int


def leftovers(root: Path, run: str) -> list[Leftover]:
    """What lies in `root`, the folder of all runs' checkpoints, and is of no use to `run`.

    Runs that were set aside or given up when somebody started anew, other runs that are finished,
    broken checkpoints, and whole ones that somebody went back behind. Other runs that can be gone
    on with are not among them.
    """
    folders = sorted(path for path in root.iterdir() if path.is_dir()) if root.is_dir() else []
    return [
        Leftover(path, why, _size(path)) for folder in folders for path, why in _found(folder, run)
    ]


def _found(folder: Path, run: str) -> Iterator[tuple[Path, str]]:
    if folder.name.startswith(ASIDE):
        yield folder, "set aside"
    elif folder.name != run and (folder / GIVEN_UP).exists():
        yield folder, "given up"
    elif folder.name != run and _is_finished(folder):
        yield folder, "finished"
    else:
        for path in sorted(folder.glob(f"{checkpoints.BROKEN}*")):
            yield path, "broken"
        for path in sorted(folder.glob(f"{SET_ASIDE}*")):
            yield path, "whole, set aside"


def _is_finished(folder: Path) -> bool:
    newest = next(checkpoints.whole(folder, hashes=False), None)
    steps = newest.about.get("steps") if newest else None
    return newest is not None and isinstance(steps, int) and newest.step >= steps > 0


def _size(folder: Path) -> int:
    found = 0
    for place, _, names in os.walk(folder):
        for name in names:
            try:
                found += (Path(place) / name).lstat().st_size
            except OSError:  # it went away meanwhile
                continue
    return found


def told(root: Path, run: str) -> str | None:
    """A line about them, with how to delete them; None if that would bring little."""
    found = sorted(leftovers(root, run), key=lambda one: one.size, reverse=True)
    size = sum(one.size for one in found)
    if size < WORTH_TELLING:
        return None
    named = found[:_MOST_NAMED]
    kinds = ", ".join(f"{one.path.name} ({one.why}, {megabytes(one.size)})" for one in named)
    more = f" and {len(found) - len(named)} more" if len(found) > len(named) else ""
    paths = " ".join(shlex.quote(str(one.path)) for one in named)
    return (
        f"Checkpoints that this run does not need take {megabytes(size)} in {root}: {kinds}{more}. "
        f"If nobody is to go on with them: rm -r {paths}"
    )

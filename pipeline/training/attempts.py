"""Attempts: what tells the checkpoints of a run that was begun anew from those it left behind.

    attempt = local_attempt(folder)                       # with what the remote says: max(...)
    set_others_aside(folder, attempt)
    attempt = attempt.next(found)                         # --resume PATH, never, or --force

Whoever goes back in a run (to an older checkpoint, or to its start) begins another attempt at it.
The same command goes on with that one from then on, although the one before may have come further:
here, at a remote, and on every other machine that takes turns there.
"""

import re
import secrets
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass, field
from functools import total_ordering
from pathlib import Path
from typing import Any

from pipeline.console import warn
from pipeline.errors import PipelineError
from pipeline.files import read_json_object, write_json
from pipeline.training import checkpoints
from pipeline.training.checkpoints import Broken, Checkpoint

ATTEMPT = "attempt"  # in what a checkpoint, a session and a registry say of themselves
FILE = "attempt.json"  # in the folder of a run
SET_ASIDE = "set-aside-step-"
_LARGEST = 10**9
_MOST_LEFT = 200  # earlier attempts: nobody goes back as often
_ID = re.compile(r"[0-9a-f]{16}")


@total_ordering
@dataclass(frozen=True)
class Attempt:
    """One attempt at a run; the greatest is the one that counts.

    `left` has the attempts before it whose checkpoints it goes on with, and up to which step. The
    first attempt has no id.
    """

    number: int = 0
    id: str = ""
    left: Mapping[str, int] = field(default_factory=dict)

    def __lt__(self, other: "Attempt") -> bool:
        return (self.number, self.id) < (other.number, other.id)

    def __eq__(self, other: object) -> bool:
        same = isinstance(other, Attempt) and (self.number, self.id) == (other.number, other.id)
        return bool(same)

    def __hash__(self) -> int:
        return hash((self.number, self.id))

    def holds(self, attempt: "Attempt", step: int) -> bool:
        """Whether a checkpoint of `attempt` is one that this attempt goes on with."""
        return attempt.id == self.id or step <= self.left.get(attempt.id, -1)

    def next(self, found: Checkpoint | None) -> "Attempt":
        """One after this, which begins with `found`; with nothing if that is None."""
        left: dict[str, int] = {}
        if found is not None:
            of = attempt_of(found.about)
            left = {name: min(step, found.step) for name, step in of.left.items()}
            left[of.id] = found.step
        newest = list(left.items())[-_MOST_LEFT:]
        return Attempt(min(self.number + 1, _LARGEST), secrets.token_hex(8), dict(newest))

    def as_dict(self) -> dict[str, Any]:
        """What is written; `read_attempt` reads it."""
        return {"number": self.number, "id": self.id, "left": dict(self.left)}

    def noted(self) -> dict[str, Any]:
        """The same under its name, to be added to what something says of itself; the first attempt
        needs no word."""
        return {ATTEMPT: self.as_dict()} if self.number else {}


FIRST = Attempt()


def read_attempt(value: Any) -> Attempt:
    """An attempt as it was written; FIRST for anything else, as a remote may say anything."""
    match value:
        case {"number": int(number), "id": str(name), "left": dict(left)}:
            is_fit = 0 < number <= _LARGEST and _ID.fullmatch(name) and len(left) <= _MOST_LEFT
            if is_fit and all(_is_left(key, step) for key, step in left.items()):
                return Attempt(number, name, left)
    return FIRST


def _is_left(key: Any, step: Any) -> bool:
    is_name = isinstance(key, str) and (not key or _ID.fullmatch(key) is not None)
    return is_name and type(step) is int and 0 <= step < 2**53


def attempt_of(about: Mapping[str, Any]) -> Attempt:
    """The attempt that a checkpoint is of, by what it says of itself."""
    return read_attempt(about.get(ATTEMPT))


def local_attempt(folder: Path) -> Attempt:
    """The attempt that counts in the folder of a run, by all that lies there."""
    found = FIRST
    with suppress(PipelineError, OSError):  # not there, or damaged: the checkpoints say it as well
        found = read_attempt(read_json_object(folder / FILE))
    for path in checkpoints.listed(folder):
        with suppress(Broken):
            found = max(found, attempt_of(checkpoints.read_record(path)["about"]))
    return found


def note_attempt(folder: Path, attempt: Attempt) -> None:
    """Write into the folder of a run which attempt counts there."""
    if attempt.number:
        folder.mkdir(parents=True, exist_ok=True)
        write_json(folder / FILE, attempt.as_dict())


def set_others_aside(folder: Path, attempt: Attempt) -> None:
    """Set aside the checkpoints in `folder` that `attempt` does not go on with, and say so."""
    moved = []
    for path in checkpoints.listed(folder):
        try:
            about = checkpoints.read_record(path)["about"]
        except Broken:
            continue  # told by who looks for the newest
        if not attempt.holds(attempt_of(about), checkpoints.step_of(path)):
            moved.append(set_aside(path))
    if moved:
        names = ", ".join(f"{path.parent.name}/{path.name}" for path in moved)
        warn(
            f"The run was begun anew at an earlier step, so what had come after that in {folder} "
            f"is set aside, as {names}. --resume PATH goes on with it all the same."
        )


def set_aside(path: Path) -> Path:
    """Put a whole checkpoint out of the way, into a folder `set-aside-step-...` beside it, where
    it keeps its own name, so that --resume PATH can still go on with it."""
    for n in range(1, 1000):
        name = f"{SET_ASIDE}{path.name.removeprefix('step-')}" + (f"-{n}" if n > 1 else "")
        folder = path.with_name(name)
        if not (folder / path.name).exists():
            folder.mkdir(exist_ok=True)
            return path.replace(folder / path.name)
    raise PipelineError(
        f"{path.parent} is full of checkpoints that were set aside.", "Delete some."
    )

"""What the folder of a run says of its copies elsewhere, for `pipeline status`."""

from contextlib import suppress
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from pipeline.console import warn
from pipeline.errors import PipelineError
from pipeline.files import read_json_object, write_json
from pipeline.training.remote_outcome import Outcome

COPIED = "copied.json"  # which checkpoint arrived elsewhere last
OWED = "not-copied.json"  # the last one of a run, which never did


@dataclass(frozen=True)
class CopyNote:
    """A checkpoint by its step, and an address without credentials; `at` is when it arrived."""

    step: int
    url: str
    at: str = ""


def note_copy(run: Path, step: int, url: str) -> None:
    """Remember in the folder of a run that the checkpoint of a step has arrived at `url`; for
    those who send several, the newest first, that of the latest step stays."""
    before = read_copied(run)
    if before is not None and before.url == url and before.step > step:
        return
    at = datetime.now(UTC).isoformat(timespec="seconds")
    try:
        write_json(run / COPIED, {"step": step, "url": url, "at": at})
        if (owed := read_owed(run)) is not None and owed.step <= step:
            (run / OWED).unlink(missing_ok=True)
    except OSError as error:  # the copy is there all the same
        warn(f"{run / COPIED} was not written: {error}.")


def never_arrived(run: Path, outcome: Outcome) -> PipelineError:
    """Remember in the folder of a run that its last checkpoint never arrived. Returns the error."""
    with suppress(OSError):  # it only serves to be shown
        write_json(run / OWED, {"step": outcome.last, "url": outcome.url})
    return PipelineError(
        f"{outcome}.",
        f"Here it is safe, in {run}. The same command tries again, `pipeline sync up "
        f"{outcome.url}` sends it by hand, and without --sync-to nothing is to be sent.",
    )


def read_copied(run: Path) -> CopyNote | None:
    """Which checkpoint of a run arrived elsewhere last; None if none did."""
    match _read(run / COPIED):
        case {"step": int(step), "url": str(url), "at": str(at)}:
            return CopyNote(step, url, at)
    return None


def read_owed(run: Path) -> CopyNote | None:
    """Which checkpoint of a run should be elsewhere and is not; None if there is none."""
    match _read(run / OWED):
        case {"step": int(step), "url": str(url)}:
            return CopyNote(step, url)
    return None


def _read(path: Path) -> dict[str, Any]:
    with suppress(PipelineError, OSError):
        return read_json_object(path)
    return {}

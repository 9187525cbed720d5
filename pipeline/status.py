"""Where the chain stands: one line per stage, read from the records and the files alone."""

from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

from pipeline.files import read_json_object
from pipeline.records import Record
from pipeline.workspace import STAGES, Condition, Workspace

if TYPE_CHECKING:
    from pipeline.training.checkpoints import Checkpoint

COUNT_WORDS = ("documents", "chunks", "records", "tokens", "steps", "files")
STYLES = {"fresh": "green", "edited": "cyan", "stale": "yellow", "partial": "yellow"}


@dataclass
class StageStatus:
    """One stage's place in the table."""

    name: str
    directory: str
    condition: Condition
    record: Record | None


def survey(workspace: Workspace) -> list[StageStatus]:
    """Examine all stages in order; a stage after one that will change is stale itself."""
    stages: list[StageStatus] = []
    changing: str | None = None
    for spec in STAGES.values():
        record = workspace.record(spec.name)
        condition = workspace.examine(spec.name)
        if changing and condition.holds:
            condition.state = "stale"
            condition.why = [f"{changing} is to run first"]
        if not condition.holds:
            changing = changing or spec.name
        stages.append(StageStatus(spec.name, spec.directory, condition, record))
    return stages


def table(stages: list[StageStatus]) -> dict[str, Any]:
    """Columns and rows for `printing.print_table`."""
    rows = []
    for stage in stages:
        state = stage.condition.state
        record = stage.record
        rows.append(
            {
                "stage": stage.name,
                "directory": stage.directory,
                "state": (state, STYLES.get(state, "dim")),
                "made": made(record) if record else "",
                "size": size(record) if record else "",
                "when": when(record.end) if record else "",
                "why": why(stage.condition),
            }
        )
    return {"columns": list(rows[0]), "rows": rows, "long": ("made", "why")}


def unfinished_run(workspace: Workspace) -> str | None:
    """How far the last training has come, and what is to be done; None if there is none, or if it
    is done and neither its copies nor what was pushed are worth a word."""
    from pipeline.training.command_line import command_of
    from pipeline.training.copy_notes import read_owed
    from pipeline.training.remote_local import latest_run

    found = latest_run(workspace.directory("train") / "checkpoints", hashes=False)
    if not found:
        return None
    newest, run = found[0], found[0].path.parent
    steps = newest.about.get("steps")
    steps = steps if type(steps) is int else 0
    command = command_of(newest.about)
    again = f": {command}" if command else "."
    where = f"({when(newest.saved)}, {newest.path})"
    elsewhere = f"{copy_of(run)}{push_of(run)}"
    owed = read_owed(run)
    missing = f"; the copy of step {owed.step:,} never arrived at {owed.url}" if owed else ""
    if newest.step < steps:
        return (
            f"Training: {newest.step:,} of {steps:,} steps are done and saved {where}"
            f"{segment_of(newest.about.get('cursor'))}{elsewhere}{missing}; the same command goes "
            f"on with the other {steps - newest.step:,}{again}"
        )
    if not results_are_there(workspace, newest):
        return (
            f"Training: all {steps:,} steps are saved {where}{elsewhere}{missing}, the results are "
            f"not written: the same command finishes it{again}"
        )
    if owed:
        return (
            f"Training: done, all {steps:,} steps{elsewhere}{missing}: the same command sends it, "
            f"as does pipeline sync up {owed.url}"
        )
    return f"Training: done, all {steps:,} steps{elsewhere}." if elsewhere else None


def results_are_there(workspace: Workspace, last: "Checkpoint") -> bool:
    """Whether what a finished run came to is in the stage's directory."""
    record = workspace.record("train")
    if record is None or record.status != "complete":
        return False
    of = record.counts.get("run")
    if of is not None and of != last.path.parent.name:
        return False
    try:
        return datetime.fromisoformat(record.end) >= datetime.fromisoformat(last.saved)
    except (ValueError, TypeError):  # a checkpoint may say anything
        return True


def copy_of(run: Path) -> str:
    """Which checkpoint of a run arrived elsewhere last, where and when; nothing if none did."""
    from pipeline.training.copy_notes import read_copied

    copied = read_copied(run)
    if copied is None:
        return ""
    return f"; last copy: step {copied.step:,} at {copied.url} ({when(copied.at)})"


def push_of(run: Path) -> str:
    """Which weights of a run were pushed last, where and when; nothing if none were."""
    from pipeline.training.publishing_best import PUSHED

    match read_json_object(run / PUSHED) if (run / PUSHED).is_file() else {}:
        case {"step": int(step), "url": str(url), "at": str(at)}:
            return f"; the best weights, of step {step:,}, pushed to {url} ({when(at)})"
    return ""


def segment_of(cursor: Any) -> str:
    """Where in a series a run is, by the cursor in its checkpoint; nothing if there is none."""
    match cursor:
        case {
            "segment": str(name), "number": int(number), "of": int(of),
            "sequences": int(sequences), "size": int(size),
        }:  # fmt: skip
            read = f"{sequences:,} of its {size:,} sequences read"
            return f", in segment {name} ({number:,} of {of:,}; {read})"
    return ""


def made(record: Record) -> str:
    """What the stage made, in a few words."""
    counted = [(record.counts[word], word) for word in COUNT_WORDS if word in record.counts]
    # Of a directory of records only, "0 documents, 0 chunks" would say nothing.
    counted = [each for each in counted if each[0]] or counted
    parts = [f"{number:,} {word[:-1] if number == 1 else word}" for number, word in counted]
    return ", ".join(parts[:2])


def when(end: str) -> str:
    """A time of the record in the user's own time: the hour if it was today, else the date."""
    try:
        then = datetime.fromisoformat(end).astimezone()
    except (ValueError, OverflowError):  # none, or what a remote made up
        return ""
    today = then.date() == datetime.now(then.tzinfo).date()
    return then.strftime("%H:%M" if today else "%Y-%m-%d")


def size(record: Record) -> str:
    """The size of all outputs, with a unit that suits it."""
    amount = float(sum(output.size for output in record.outputs.values()))
    for unit in ("B", "KB", "MB"):
        if amount < 1000:
            return f"{amount:.0f} {unit}" if unit == "B" else f"{amount:.1f} {unit}"
        amount /= 1000
    return f"{amount:.1f} GB"


def why(condition: Condition) -> str:
    """The reasons for a state, the first two of them, and what a person did."""
    parts = list(condition.why[:2])
    if len(condition.why) > 2:
        parts.append(f"and {len(condition.why) - 2} more")
    for word, names in (
        ("edited", condition.edited),
        ("deleted", condition.deleted),
        ("added", condition.added),
    ):
        if names:
            more = f" and {len(names) - 1} more" if len(names) > 1 else ""
            parts.append(f"{word} by hand: {names[0]}{more}")
    return "; ".join(parts)

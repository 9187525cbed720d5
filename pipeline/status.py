"""Where the chain stands: one line per stage, read from the records and the files alone."""

from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Any

from pipeline.files import read_json_object
from pipeline.records import Record
from pipeline.workspace import STAGES, Condition, Workspace

COUNT_WORDS = ("documents", "chunks", "tokens", "steps", "files")
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
    """Columns and rows for `console.print_table`."""
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
    """How far a training has come that was stopped, in a sentence; None if there is none."""
    from pipeline.training import checkpoints
    from pipeline.training.checkpointing import ASIDE, GIVEN_UP

    found = [
        checkpoint
        for folder in (workspace.directory("train") / "checkpoints").glob("*")
        if not folder.name.startswith(ASIDE) and not (folder / GIVEN_UP).exists()
        if (checkpoint := next(checkpoints.whole(folder, hashes=False), None)) is not None
    ]
    if not found:
        return None
    newest = max(found, key=lambda checkpoint: checkpoint.saved)
    steps = newest.about.get("steps", 0)
    if newest.step >= steps:
        return None
    return (
        f"Training: {newest.step:,} of {steps:,} steps are done and saved ({when(newest.saved)}, "
        f"{newest.path}){segment_of(newest.about.get('cursor'))}{copy_of(newest.path.parent)}"
        f"{push_of(newest.path.parent)}; the "
        f"same command goes on with the other {steps - newest.step:,}."
    )


def copy_of(run: Path) -> str:
    """Which checkpoint of a run arrived elsewhere last, where and when; nothing if none did."""
    from pipeline.training.checkpointing import COPIED

    match read_json_object(run / COPIED) if (run / COPIED).is_file() else {}:
        case {"step": int(step), "url": str(url), "at": str(at)}:
            return f", that of step {step:,} copied to {url} ({when(at)})"
    return ""


def push_of(run: Path) -> str:
    """Which weights of a run were pushed last, where and when; nothing if none were."""
    from pipeline.training.publishing_best import PUSHED

    match read_json_object(run / PUSHED) if (run / PUSHED).is_file() else {}:
        case {"step": int(step), "url": str(url), "at": str(at)}:
            return f", the best weights, of step {step:,}, pushed to {url} ({when(at)})"
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
    counted = ((record.counts[word], word) for word in COUNT_WORDS if word in record.counts)
    parts = [f"{number:,} {word[:-1] if number == 1 else word}" for number, word in counted]
    return ", ".join(parts[:2])


def when(end: str) -> str:
    """A time of the record in the user's own time: the hour if it was today, else the date."""
    if not end:
        return ""
    then = datetime.fromisoformat(end).astimezone()
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

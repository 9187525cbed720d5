"""Copies of a run's checkpoints by hand: send them, fetch the newest, list them, verify them."""

import random
import time
from collections.abc import Callable
from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, TypeVar

import typer

from pipeline import console
from pipeline.command import DEFAULT_DATA_DIR, DataDir
from pipeline.errors import PipelineError
from pipeline.workspace import Workspace

if TYPE_CHECKING:
    from pipeline.training.remote_run import RemoteRun

T = TypeVar("T")


class Action(StrEnum):
    """What to do with the copies."""

    UP = "up"
    DOWN = "down"
    LIST = "list"
    VERIFY = "verify"


def sync(
    action: Annotated[
        Action,
        typer.Argument(
            help="up: send what is not there. down: fetch the newest. list: show what is there. "
            "verify: read all of it, and compare."
        ),
    ],
    url: Annotated[
        str, typer.Argument(help="Where the copies are: a folder, s3://, gs://, hf://, ...")
    ],
    data_dir: DataDir = DEFAULT_DATA_DIR,
    step: Annotated[
        int | None, typer.Option(min=0, help="Only the checkpoint of this step.")
    ] = None,
) -> None:
    """Copy the checkpoints of stage 6 to another place and back, by hand.

    `pipeline train --sync-to` does so by itself. Only complete checkpoints count, here and there;
    nothing is overwritten, and a machine that trains meanwhile goes on undisturbed.
    """
    root = Workspace(data_dir).directory("train") / "checkpoints"
    if action is Action.UP:
        send(root, url, step)
    elif action is Action.DOWN:
        fetch_newest(root, url, step)
    elif action is Action.LIST:
        show(url, step)
    else:
        verify(url, step)


def send(root: Path, url: str, step: int | None) -> None:
    """Send the whole checkpoints of the latest run in `root` whose step is not there yet.

    Raises PipelineError.
    """
    from pipeline.training import checkpoints
    from pipeline.training.remote_copies import RemoteCopies

    runs = [found for folder in root.glob("*") if (found := list(checkpoints.whole(folder)))]
    latest = max(runs, key=lambda run: run[0].saved, default=[])
    found = [one for one in latest if step in (None, one.step)]
    if not found:
        raise PipelineError(
            f"{root} has no whole checkpoint{_of(step)}.", "`pipeline train` makes them."
        )
    run = str(found[0].about.get("run") or found[0].path.parent.name)
    with RemoteCopies(url, run=run, keep=lambda _: (), by_hand=True) as copies:
        there = copies.steps()
        missing = [one for one in found if one.step not in there]
        for one in missing:
            copies.offer(one)
        outcome = copies.finish()
    if not outcome.ok or outcome.count < len(missing):
        raise PipelineError(
            f"{len(missing) - outcome.count} of {len(missing)} checkpoints did not arrive: "
            f"{outcome.reason}",
            "Run the same command again: what has arrived is not sent again.",
        )
    console.say(f"sync: {len(missing)} checkpoints sent, {len(found) - len(missing)} were there")


def fetch_newest(root: Path, url: str, step: int | None) -> None:
    """Fetch the newest complete checkpoint (or that of `step`) into the folder of its run in
    `root`, unless there is a newer one here.

    Raises PipelineError.
    """
    from pipeline.training.checkpoints import Broken
    from pipeline.training.remote_fetch import fetch, newer

    run = _remote_run(url)
    folder = root / _name_of(run)
    if step is None:
        found = newer(run, folder)
        if found is None:
            raise PipelineError(f"There is no complete checkpoint at {run.folder.shown}.")
    else:
        remote = next((one for one in run.complete() if one.step == step), None)
        if remote is None:
            raise PipelineError(
                f"There is no complete checkpoint of step {step} at {run.folder.shown}.",
                f"`pipeline sync list {run.folder.shown}` shows what there is.",
            )
        try:
            found = fetch(run, remote, folder)
        except Broken as reason:
            raise PipelineError(
                f"The copy {run.folder.shown}/{remote.name} is broken: {reason}.",
                "Take another step.",
            ) from reason
    run.folder.close()
    console.say(f"sync: the checkpoint of step {found.step} is in {found.path}")


def show(url: str, step: int | None) -> None:
    """Print a table of the checkpoints at `url`."""
    run = _remote_run(url)
    complete = {one.name: one for one in run.complete() if step in (None, one.step)}
    others = [*run.marked(), *run.partial()]
    partial = [name for name in others if name not in complete and step in (None, name.step)]
    rows: list[dict[str, str | tuple[str, str]]] = [
        {
            "step": str(one.step),
            "size": console.megabytes(one.size),
            "saved": one.saved,
            "session": one.name.by.session,
            "state": "complete",
        }
        for one in complete.values()
    ]
    rows += [
        {
            "step": str(name.step), "size": "", "saved": "", "session": name.by.session,
            "state": ("incomplete, never used", "yellow"),
        }
        for name in partial
    ]  # fmt: skip
    run.folder.close()
    if not rows:
        raise PipelineError(f"There is no checkpoint{_of(step)} at {run.folder.shown}.")
    console.print_table({"columns": ["step", "size", "saved", "session", "state"], "rows": rows})


def verify(url: str, step: int | None) -> None:
    """Read every complete checkpoint at `url` in full. Raises PipelineError if one is broken."""
    from pipeline.training.checkpoints import Broken
    from pipeline.training.remote_fetch import check

    run = _remote_run(url)
    good, broken = 0, []
    for one in run.complete():
        if step not in (None, one.step):
            continue
        try:
            check(run, one)
        except Broken as reason:
            broken.append(one.step)
            console.warn(f"The copy {run.folder.shown}/{one.name} is broken: {reason}.")
        else:
            good += 1
    run.folder.close()
    if broken:
        raise PipelineError(
            f"{len(broken)} of {good + len(broken)} checkpoints at {run.folder.shown} are broken.",
            "They are never used. Delete their folders, and send the checkpoints again.",
        )
    if not good:
        raise PipelineError(f"There is no complete checkpoint{_of(step)} at {run.folder.shown}.")
    console.say(f"sync: {good} checkpoints at {run.folder.shown} are as they were written")


def _remote_run(url: str) -> "RemoteRun":
    from pipeline.storage.writing import persist, remote_folder
    from pipeline.training.remote_run import RemoteRun

    def ask(question: Callable[[], T]) -> T:
        return persist(question, tries=5, sleep=time.sleep, jitter=random.random)

    run = RemoteRun(remote_folder(url), ask)
    run.look()
    return run


def _name_of(run: "RemoteRun") -> str:
    """The name of the run there, and of its folder here. Raises PipelineError: there is none."""
    name = run.run_there()
    if name is None:
        raise PipelineError(f"There is no complete checkpoint at {run.folder.shown}.")
    return name


def _of(step: int | None) -> str:
    return "" if step is None else f" of step {step}"

"""Copies of a run's checkpoints by hand: send them, once or as they come; fetch, list, verify."""

import random
import time
from collections.abc import Callable
from enum import StrEnum
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, TypeVar

import typer

from pipeline import console
from pipeline.command import DEFAULT_DATA_DIR, DataDir
from pipeline.errors import PipelineError, UsageError
from pipeline.printing import print_table
from pipeline.workspace import Workspace

if TYPE_CHECKING:
    from pipeline.training.remote_run import RemoteRun

T = TypeVar("T")
ABANDONED = ("complete, left behind", "yellow")


class Action(StrEnum):
    """What to do with the copies."""

    UP = "up"
    DOWN = "down"
    LIST = "list"
    VERIFY = "verify"
    WATCH = "watch"


def sync(
    action: Annotated[
        Action,
        typer.Argument(
            help="up: send what is not there. down: fetch the newest. list: show what is there. "
            "verify: read all of it, and compare. watch: send, and go on sending what comes."
        ),
    ],
    url: Annotated[
        str,
        typer.Argument(help="Where the copies are: a folder, s3://, gs://, hf://, sftp://, ..."),
    ],
    data_dir: DataDir = DEFAULT_DATA_DIR,
    step: Annotated[
        int | None, typer.Option(min=0, help="Only the checkpoint of this step.")
    ] = None,
    every: Annotated[
        float | None,
        typer.Option(min=0.1, help="Of watch: seconds between two looks.  [default: 60]"),
    ] = None,
    until_done: Annotated[
        bool,
        typer.Option(
            "--until-done",
            help="Of watch: end once the run has ended and its last checkpoint is there.",
        ),
    ] = False,
) -> None:
    """Copy the checkpoints of stage 6 to another place and back, by hand.

    `pipeline train --sync-to` does so by itself. Only complete checkpoints count, here and there;
    nothing is overwritten, and a machine that trains meanwhile goes on undisturbed.
    """
    workspace = Workspace(data_dir)
    root = workspace.directory("train") / "checkpoints"
    _check_options(action, step, every, until_done)
    if action is Action.WATCH:
        watch(workspace, root, url, every, until_done)
    elif action is Action.UP:
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
    from pipeline.training.attempts import attempt_of, local_attempt
    from pipeline.training.copy_notes import note_copy
    from pipeline.training.remote_copies import RemoteCopies
    from pipeline.training.remote_lineage import descends
    from pipeline.training.remote_local import latest_run, run_of_checkpoint

    latest = latest_run(root)
    found = [one for one in latest if step in (None, one.step)]
    if not found:
        raise PipelineError(
            f"{root} has no whole checkpoint{_of(step)}.", "`pipeline train` makes them."
        )
    run = latest[0].path.parent
    with RemoteCopies(
        url, run=run_of_checkpoint(latest[0]), keep=lambda _: (), by_hand=True,
        follows=descends(latest[0]), on_arrival=partial(note_copy, run),
    ) as copies:  # fmt: skip
        # By hand this only goes into the registry; a machine that trains is not stopped by it.
        copies.announce(max(copies.attempt, local_attempt(run)))
        there = copies.there()
        found = [one for one in found if copies.attempt.holds(attempt_of(one.about), one.step)]
        if not found:
            raise PipelineError(
                f"What is in {run} is of an attempt at the run that was left "
                f"behind at {copies.shown}: it was begun anew on another machine.",
                "Give an address of its own.",
            )
        missing = [one for one in found if (one.step, attempt_of(one.about)) not in there]
        for one in missing:
            copies.offer(one)
        outcome = copies.finish()
    if not outcome.ok or outcome.count < len(missing):
        raise PipelineError(
            f"{len(missing) - outcome.count} of {console.many(len(missing), 'checkpoint')} did not "
            f"arrive: {outcome.reason}",
            "Run the same command again: what has arrived is not sent again.",
        )
    sent = console.many(len(missing), "checkpoint")
    console.say(f"sync: {sent} sent, {len(found) - len(missing)} there already")


def watch(
    workspace: Workspace, root: Path, url: str, every: float | None, until_done: bool
) -> None:
    """Send the whole checkpoints of the latest run in `root`, and those that come, until Ctrl-C.

    With `until_done`, until that run has ended and its last one is there. Raises PipelineError.
    """
    from pipeline.training.remote_watch import EVERY, Watch

    Watch(
        root, url, every=EVERY if every is None else every, until_done=until_done,
        is_training=lambda: is_at_work(workspace, "train"),
    ).follow()  # fmt: skip


def is_at_work(workspace: Workspace, stage: str) -> bool:
    """Whether another process has the stage's directory open for work."""
    from filelock import FileLock, Timeout

    path = workspace.cache / f"{stage}.lock"
    if not path.exists():
        return False
    lock = FileLock(path)
    try:
        lock.acquire(timeout=0)
    except Timeout:
        return True
    except OSError:  # a directory that only others can write to
        return False
    lock.release()
    return False


def _check_options(action: Action, step: int | None, every: float | None, until_done: bool) -> None:
    if action is Action.WATCH and step is not None:
        raise UsageError("`pipeline sync watch` sends every checkpoint, and takes no --step.")
    if action is not Action.WATCH and (every is not None or until_done):
        option = "--until-done" if until_done else "--every"
        raise UsageError(f"{option} belongs to `pipeline sync watch`, not to {action}.")


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
        all_there = [*run.held(), *run.complete()]  # of what was left behind only if asked for
        remote = next((one for one in all_there if one.step == step), None)
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
    abandoned = set(run.abandoned())
    others = [*run.marked(), *run.partial()]
    partial = [name for name in others if name not in complete and step in (None, name.step)]
    rows: list[dict[str, str | tuple[str, str]]] = [
        {
            "step": str(one.step),
            "size": console.megabytes(one.size),
            "saved": one.saved,
            "session": one.name.by.session,
            "state": "complete" if one.name not in abandoned else ABANDONED,
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
    print_table({"columns": ["step", "size", "saved", "session", "state"], "rows": rows})


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
            f"{len(broken)} of {console.many(good + len(broken), 'checkpoint')} at "
            f"{run.folder.shown} {'is' if len(broken) == 1 else 'are'} broken.",
            "They are never used. Delete their folders, and send the checkpoints again.",
        )
    if not good:
        raise PipelineError(f"There is no complete checkpoint{_of(step)} at {run.folder.shown}.")
    there = f"at {run.folder.shown}"
    whole = console.many(good, f"checkpoint {there} is", f"checkpoints {there} are")
    console.say(f"sync: {whole} as written")


def _remote_run(url: str) -> "RemoteRun":
    from pipeline.storage.writing import persist, remote_folder
    from pipeline.training.remote_run import RemoteRun

    def ask(question: Callable[[], T]) -> T:
        return persist(question, tries=5, sleep=time.sleep, jitter=random.random)

    run = RemoteRun(remote_folder(url), ask)
    run.look()
    run.attempt = run.told_attempt()
    return run


def _name_of(run: "RemoteRun") -> str:
    """The name of the run there, and of its folder here. Raises PipelineError: there is none."""
    name = run.run_there()
    if name is None:
        raise PipelineError(f"There is no complete checkpoint at {run.folder.shown}.")
    return name


def _of(step: int | None) -> str:
    return "" if step is None else f" of step {step}"

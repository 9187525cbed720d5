"""Fetching checkpoints from a remote: whole and verified, or not at all."""

import os
import shutil
import tempfile
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path

from pipeline.console import megabytes, warn
from pipeline.errors import PipelineError
from pipeline.files import TEMPORARY_PREFIX, FileFact, sha256_file, sync
from pipeline.storage.writing import Trouble
from pipeline.training import checkpoints
from pipeline.training.attempts import local_attempt, set_others_aside
from pipeline.training.checkpoints import COMPLETE, Broken, Checkpoint
from pipeline.training.remote_lineage import Follows, accepts
from pipeline.training.remote_registry import Name, RemoteCheckpoint
from pipeline.training.remote_run import RemoteRun, run_of
from pipeline.training.remote_upload import is_abandoned

FETCHING = f"{TEMPORARY_PREFIX}fetching-"
_TRIES = 3  # for a file that comes damaged


class Damaged(Trouble):
    """What came is not what was asked for."""


def newer(run: RemoteRun, folder: Path, follows: Follows | None = None) -> Checkpoint | None:
    """The newest complete checkpoint, local or remote; a remote one that is newer is downloaded.

    A broken one is passed over with a word, and the next older one is taken. What is of an attempt
    that was left behind is not taken, and set aside if it is here. One of another run is
    only taken if this run goes on with it, as `follows` says; it is in that run's own folder in the
    end, beside `folder`. `run.look` comes first. Raises PipelineError.
    """
    _tidy(folder)
    run.attempt = max(run.attempt, local_attempt(folder))
    set_others_aside(folder, run.attempt)
    local = checkpoints.newest(folder)
    for remote in run.held():
        if local is not None and remote.step <= local.step:
            break
        other = run_of(remote.marker)
        try:
            if run.run is None or other in (None, run.run):
                return fetch(run, remote, folder)
            if accepts(run, follows)(remote):
                return _of_ancestor(run, remote, folder.parent / str(other), follows)
        except Broken as reason:
            warn(
                f"The copy {run.folder.shown}/{remote.name} is broken: {reason}. It is not used; "
                "the next older one is."
            )
    return local


def _of_ancestor(
    run: RemoteRun, remote: RemoteCheckpoint, folder: Path, follows: Follows | None
) -> Checkpoint:
    """A checkpoint of a run that this one goes on with; a later one of it that never arrived, if
    there is one here."""
    _tidy(folder)
    local = checkpoints.newest(folder)
    is_later = local is not None and local.step > remote.step
    if local is not None and is_later and follows is not None and follows(local):
        return local
    return fetch(run, remote, folder)


def fetch(run: RemoteRun, remote: RemoteCheckpoint, folder: Path) -> Checkpoint:
    """Download a checkpoint into `folder`. One of the same step is replaced, unless it is the same.

    Raises:
        Broken: what comes is not what the marker says, however often it is asked for.
        PipelineError: the remote cannot be reached, or the disk is full.
    """
    final = folder / checkpoints.name_of(remote.step)
    with suppress(Broken):
        if final.is_dir() and (final / COMPLETE).read_bytes() == remote.marker:
            return checkpoints.verify(final)
    try:
        return _fetched(run, remote, final)
    except Damaged as damaged:
        again = run.read_again(remote.name)  # it may have been the marker that came damaged
        if again is None or again.marker == remote.marker:
            raise Broken(damaged.message) from damaged
        return fetch(run, again, folder)


def check(run: RemoteRun, remote: RemoteCheckpoint) -> None:
    """Read every file of a checkpoint. Raises Broken if one is not as it was written."""
    try:
        for fact in remote.files:
            _repeat(run, lambda: _check_file(run, remote.name, fact))  # noqa: B023
    except Damaged as damaged:
        raise Broken(damaged.message) from damaged


def _repeat(run: RemoteRun, question: Callable[[], None]) -> None:
    """Ask; again, but not often, where what comes is damaged: it may be so on the disk there."""
    for left in reversed(range(_TRIES)):
        try:
            return run.ask(question)
        except Damaged:
            if not left:
                raise
    return None


def _check_file(run: RemoteRun, name: Name, fact: FileFact) -> None:
    if run.folder.sha256(f"{name}/{fact.path}", fact.size) != fact.sha256:
        raise Damaged(f"{fact.path} is not as it was written")


def _fetched(run: RemoteRun, remote: RemoteCheckpoint, final: Path) -> Checkpoint:
    folder = final.parent
    folder.mkdir(parents=True, exist_ok=True)
    if (room := shutil.disk_usage(folder).free) < remote.size:
        raise PipelineError(
            f"There is no room in {folder} for the checkpoint of step {remote.step}: it takes "
            f"{megabytes(remote.size)}, and {megabytes(room)} are free.", "Make room there."
        )  # fmt: skip
    outer = Path(tempfile.mkdtemp(prefix=FETCHING, dir=folder))
    try:
        temporary = outer / final.name
        temporary.mkdir()
        for fact in remote.files:
            _repeat(run, lambda: _fetch_file(run, remote.name, fact, temporary))  # noqa: B023
        (temporary / COMPLETE).write_bytes(remote.marker)
        for path in (*temporary.iterdir(), temporary):
            sync(path)
        checkpoints.verify(temporary, hashes=False, state=True)  # each file was hashed as it came
        if final.exists():
            checkpoints.remove(final)
        temporary.replace(final)
        sync(folder)
    finally:
        shutil.rmtree(outer, ignore_errors=True)
    return checkpoints.verify(final, hashes=False)


def _fetch_file(run: RemoteRun, name: Name, fact: FileFact, folder: Path) -> None:
    path = folder / fact.path
    try:
        run.folder.download(f"{name}/{fact.path}", path, fact.size)
    except Trouble as trouble:
        if trouble.missing:
            raise Damaged(f"{fact.path} is missing") from trouble
        raise
    except OSError as error:
        raise PipelineError(
            f"{path} cannot be written: {error.strerror or error}.", "Make room there."
        ) from error
    if path.stat().st_size != fact.size or sha256_file(path) != fact.sha256:
        raise Damaged(f"{fact.path} is not as it was written")


def _tidy(folder: Path) -> None:
    """Delete downloads and copies that a killed process left."""
    for entry in os.scandir(folder) if folder.is_dir() else ():
        if entry.name.startswith(FETCHING) or is_abandoned(entry.name):
            shutil.rmtree(entry.path, ignore_errors=True)

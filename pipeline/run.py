"""A stage at work: it finds out what is left to do, writes outputs whole, and leaves its record.

    with open_run(workspace, "chunk", version=1, settings=..., inputs=...) as run:
        if run.is_fresh:
            return
        ...
        run.adopt(folder)           # or run.write(name, data, key), a file at a time
        run.counts["chunks"] = 148

Killed at any moment, the next run continues: every write is announced in a journal before the
file gets its name, and the record is written last.
"""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from pipeline.console import say, warn
from pipeline.errors import PipelineError, Stopped
from pipeline.files import (
    FileFact,
    encode_listing,
    fingerprint,
    remove_temporary,
    write_bytes,
)
from pipeline.outputs import Outputs
from pipeline.records import JOURNAL, RECORD, Record
from pipeline.workspace import Condition, Workspace, as_settings

# Files that only make sense together with those beside them.
WHOLE = (".parquet", ".gguf", ".safetensors")


@contextmanager
def open_run(
    workspace: Workspace,
    stage: str,
    *,
    version: int,
    settings: dict[str, Any],
    inputs: Sequence[Path] = (),
    force: bool = False,
    overwrite_edited: bool = False,
    restore_deleted: bool = False,
    unfinished: bool = False,
) -> Iterator["StageRun"]:
    """Open a stage's directory for work; its record is complete when the block ends well.

    `version` is that of the stage's code: raise it when the same input would give another output.
    `settings` are those that shape the output; `unfinished` says that something was left to do
    although the record is complete. On an exception the record says `partial`.

    Raises PipelineError if another process works in the same directory, and Stopped in place of
    KeyboardInterrupt where the stage can go on from what is saved.
    """
    from filelock import FileLock, Timeout

    try:
        workspace.cache.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise PipelineError(
            f"{workspace.root} cannot be written to: {error.strerror}.",
            "Name another directory with --data-dir.",
        ) from error
    lock = FileLock(workspace.cache / f"{stage}.lock")
    try:
        lock.acquire(timeout=0)
    except Timeout:
        raise PipelineError(
            f"Another `pipeline {stage}` is at work in {workspace.root}.",
            "Wait until it has ended.",
        ) from None
    try:
        run = StageRun(
            workspace, stage, version, as_settings(settings),
            workspace.facts(inputs),
            force, overwrite_edited, restore_deleted, unfinished,
        )  # fmt: skip
        yield from run._work()
    finally:
        workspace.hashes.save()
        lock.release()


class StageRun(Outputs):
    """One run of one stage. Made by `open_run`. `writes`: whether it leaves anything behind."""

    writes = True

    def __init__(
        self,
        workspace: Workspace,
        stage: str,
        version: int,
        settings: dict[str, Any],
        inputs: list[FileFact],
        force: bool,
        overwrite_edited: bool,
        restore_deleted: bool,
        unfinished: bool,
    ) -> None:
        before = workspace.record(stage)
        super().__init__(
            workspace, stage, before, force=force, overwrite_edited=overwrite_edited,
            restore_deleted=restore_deleted,
        )  # fmt: skip
        self.inputs = inputs
        self.counts: dict[str, Any] = {}
        self._version = version
        self._settings = settings
        self._start = ""
        self._begun = ""  # when this run's record was first written
        self._before = before
        self.condition: Condition = workspace.examine(
            stage, settings=settings, inputs=inputs, version=version, record=before
        )
        asked = force or unfinished or (overwrite_edited and bool(self.condition.edited))
        asked = asked or (restore_deleted and bool(self.condition.deleted))
        self.is_fresh = self.condition.holds and not asked

    def key(self, *parts: Any) -> str:
        """What a file is made from: the code's version, the settings, and `parts` (its input)."""
        return fingerprint([self.stage.name, self._version, self._settings, *parts])

    @property
    def has_left_all_as_it_was(self) -> bool:
        """Whether an earlier run was complete, and this one has not written anything yet."""
        return self._before is not None and self._before.status == "complete" and not self._begun

    @property
    def was_complete(self) -> bool:
        """Whether all was up to date before this run, which has not written anything yet."""
        return self.condition.holds and not self._begun

    def report(self, text: str) -> None:
        """Print the line that sums the stage up."""
        say(f"{self.stage.name}: {text}" + (" (up to date)" if self.is_fresh else ""))

    def _work(self) -> Iterator["StageRun"]:
        """Yield the run, with the record written before and after."""
        for name in self.condition.edited:
            if not self.overwrites_edited:
                say(f"{self.directory / name} was edited by hand: kept.")
        if self.is_fresh or self._is_kept_whole():
            if self.is_fresh:  # of a run that was killed when its record said all already
                (self.directory / JOURNAL).unlink(missing_ok=True)
            self.is_fresh = True
            self.counts = dict(self._before.counts) if self._before else {}
            yield self
            return
        self._refuse_unknown_files()
        self.directory.mkdir(parents=True, exist_ok=True)
        remove_temporary(self.directory)
        self._start = _now()
        # What was complete stays so until something is written: a run that fails before that, by
        # a mistyped option or for want of a network, leaves all as it was.
        if self._before is None or self._before.status != "complete":
            self._begin()
        try:
            yield self
        except KeyboardInterrupt:
            if self._begun:
                self._save("partial")
            raise self._stopped() from None
        except BaseException:
            if self._begun:
                self._save_after_failure()
            raise
        self._begin()
        self._remove_unwanted()
        self._save("complete")

    def _begin(self) -> None:
        """Let the record say that this run is at work."""
        if not self._begun:
            self._begun = self._start
            self._save("running")

    def _is_kept_whole(self) -> bool:
        """Whether a hand-edited file that only makes sense with its siblings bars a new run."""
        edited = [name for name in self.condition.edited if name.endswith(WHOLE)]
        if not edited or self.overwrites_edited:
            return False
        if self.condition.state == "partial":
            raise PipelineError(
                f"{self.directory} is unfinished, and {edited[0]} in it was changed by hand.",
                f"`pipeline {self.stage.name} --overwrite-edited` makes it anew; move the file "
                "away first to keep it.",
            )
        self.warn(
            f"{self.directory / edited[0]} was changed by hand, so {self.directory} is kept as it "
            f"is, although {self.condition.why[0] if self.condition.why else 'it is unfinished'}. "
            f"`pipeline {self.stage.name} --overwrite-edited` makes it anew."
        )
        return True

    def _refuse_unknown_files(self) -> None:
        """Files of a stage's kind that no record explains may be a person's work of hours."""
        if self.stage.curated or self._before is not None or self.overwrites_edited:
            return
        found = self.workspace.files(self.stage.name, ("*", "data/*"))
        if found:
            raise PipelineError(
                f"{found[0]} is there already, and no record says where it came from.",
                f"Move {self.directory} away, or replace what is in it with "
                f"`pipeline {self.stage.name} --overwrite-edited`.",
            )

    def _stopped(self) -> PipelineError:
        if self.stage.resumable:
            return Stopped(
                f"Stopped. What was finished is in {self.directory}.",
                "Run the same command again to continue.",
            )
        return PipelineError(
            f"Stopped before {self.stage.milestone} was finished; nothing of this run was kept.",
            "The same command starts this stage again.",
        )

    def _save_after_failure(self) -> None:
        try:
            self._save("partial")
        except OSError as error:  # the disk may be full: what failed first is what matters
            warn(f"The record of {self.directory} could not be written: {error}.")

    def _save(self, status: str) -> None:
        more = [f"And {self._more_warnings} more."] if self._more_warnings else []
        record = Record(
            stage=self.stage.name,
            status=status,
            version=self._version,
            settings=self._settings,
            inputs=self.inputs,
            outputs=dict(sorted(self._outputs.items())),
            counts=self.counts,
            warnings=self.warnings + more,
            start=self._start,
            end="" if status == "running" else _now(),
        )
        write_bytes(self.directory / RECORD, encode_listing(record.as_json()))
        (self.directory / JOURNAL).unlink(missing_ok=True)


def _now() -> str:
    return datetime.now(UTC).isoformat(timespec="seconds")

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

import shutil
import tempfile
from collections.abc import Collection, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace as replace_fields
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from pipeline.console import say, warn
from pipeline.errors import PipelineError, Stopped
from pipeline.files import (
    TEMPORARY_PREFIX,
    FileFact,
    encode_json,
    fingerprint,
    remove_temporary,
    replace,
    sha256_bytes,
    sha256_file,
    temporary_beside,
    write_json,
)
from pipeline.records import JOURNAL, RECORD, Output, Record
from pipeline.workspace import STAGES, Condition, Workspace, as_settings, is_document

SHOWN_WARNINGS, KEPT_WARNINGS = 50, 1000

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
            [workspace.fact(path) for path in inputs],
            force, overwrite_edited, restore_deleted, unfinished,
        )  # fmt: skip
        yield from run._work()
    finally:
        workspace.hashes.save()
        lock.release()


class StageRun:
    """One run of one stage. Made by `open_run`."""

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
        self.workspace = workspace
        self.stage = STAGES[stage]
        self.directory = workspace.directory(stage)
        self.inputs = inputs
        self.counts: dict[str, Any] = {}
        self.warnings: list[str] = []
        self._version = version
        self._settings = settings
        self._force = force
        self._overwrite_edited = overwrite_edited
        self._restore_deleted = restore_deleted
        self._touched: set[str] = set()
        self._start = ""
        self._begun = ""  # when this run's record was first written
        self._more_warnings = 0
        self._before = workspace.record(stage)
        self.condition: Condition = workspace.examine(
            stage, settings=settings, inputs=inputs, version=version
        )
        asked = force or unfinished or (overwrite_edited and bool(self.condition.edited))
        asked = asked or (restore_deleted and bool(self.condition.deleted))
        self.is_fresh = self.condition.holds and not asked
        self._outputs = dict(self._before.outputs) if self._before else {}

    def key(self, *parts: Any) -> str:
        """What a file is made from: the code's version, the settings, and `parts` (its input)."""
        return fingerprint([self.stage.name, self._version, self._settings, *parts])

    def plan(self, name: str, key: str) -> str:
        """What is to be done about the output `name`, made from `key`.

        `write`: it is not there or was made from something else. `current`: it is there.
        `edited` and `deleted`: a person's hand, to be left alone.
        """
        output = self._outputs.get(name)
        if output is None:
            return "write"
        if not (self.directory / name).is_file():
            stays = is_document(self.stage, name) and not self._restore_deleted
            plan = "deleted" if stays else "write"
        elif self.workspace.is_edited(self.directory, output):
            plan = "write" if self._overwrite_edited else "edited"
        else:
            plan = "current" if output.key == key and not self._force else "write"
        if plan != "write":
            self._touched.add(name)
        if plan in {"edited", "deleted"} and output.key != key:
            # It was made from something else. Should the former content come back, by an undo in
            # an editor, it is the person's all the same, and not a fresh output.
            self._outputs[name] = replace_fields(output, key=key, sha256="", known=set())
        return plan

    def row(self, name: str) -> dict[str, Any] | None:
        """What was noted about an output when it was written."""
        output = self._outputs.get(name)
        return output.row if output else None

    @property
    def was_complete(self) -> bool:
        """Whether all was up to date before this run, which has not written anything yet."""
        return self.condition.holds and not self._begun

    def is_edited(self, name: str) -> bool:
        """Whether a person changed an output since it was written."""
        output = self._outputs.get(name)
        return output is not None and self.workspace.is_edited(self.directory, output)

    def notes(self) -> dict[str, dict[str, Any]]:
        """What was noted about all outputs, of this run and earlier ones, by name."""
        return {
            name: output.row for name, output in self._outputs.items() if output.row is not None
        }

    def rows(self) -> dict[str, dict[str, Any]]:
        """The notes of all outputs that this run wants or a person edited, by name."""
        return {
            name: output.row
            for name, output in sorted(self._outputs.items())
            if output.row is not None
            and (self.directory / name).is_file()
            and (name in self._touched or self.workspace.is_edited(self.directory, output))
        }

    def write(
        self,
        name: str,
        data: bytes,
        key: str = "",
        row: dict[str, Any] | None = None,
        *,
        merged: bool = False,
    ) -> bool:
        """Write an output, whole, unless a person's file stands there. True if it was written.

        `merged`: what a person wrote there is in `data`.
        """
        if merged and name in self._outputs and (self.directory / name).is_file():
            self._outputs[name].known.add(sha256_file(self.directory / name))
        with temporary_beside(self.directory / name) as temporary:
            temporary.write_bytes(data)
            output = Output(name, len(data), sha256_bytes(data), key, row)
            return self._place(output, temporary)

    def take(
        self, name: str, source: Path, key: str = "", row: dict[str, Any] | None = None
    ) -> bool:
        """Make a finished file the output `name`, as `write` does for bytes."""
        return self._place(
            Output(name, source.stat().st_size, sha256_file(source), key, row), source
        )

    def adopt(self, folder: Path) -> None:
        """Make the finished files of `folder` the outputs; what was there and is not, goes."""
        for source in sorted(path for path in folder.rglob("*") if path.is_file()):
            self.take(source.relative_to(folder).as_posix(), source)

    @contextmanager
    def scratch(self) -> Iterator[Path]:
        """A folder to build outputs in, on the same file system, gone afterwards."""
        folder = Path(tempfile.mkdtemp(prefix=TEMPORARY_PREFIX, dir=self.directory))
        try:
            yield folder
        finally:
            shutil.rmtree(folder, ignore_errors=True)

    def carry_on(self, but: Collection[str] = ()) -> list[str]:
        """Keep the outputs of earlier runs that this run did not ask for, those in `but` apart;
        returns their names."""
        kept = [
            name for name in self._outputs
            if name not in self._touched and name not in but and (self.directory / name).is_file()
        ]  # fmt: skip
        self._touched |= set(self._outputs) - set(but)
        return sorted(kept)

    def report(self, text: str) -> None:
        """Print the line that sums the stage up."""
        say(f"{self.stage.name}: {text}" + (" (up to date)" if self.is_fresh else ""))

    def warn(self, text: str) -> None:
        """Keep a warning in the record, and show it unless there were very many before it."""
        if len(self.warnings) == KEPT_WARNINGS:
            self._more_warnings += 1
            return
        self.warnings.append(text)
        if len(self.warnings) <= SHOWN_WARNINGS:
            warn(text)
        elif len(self.warnings) == SHOWN_WARNINGS + 1:
            warn(f"There are more warnings; {self.directory / RECORD} will have them.")

    def _place(self, output: Output, temporary: Path) -> bool:
        """Give a finished file its name. False if a person's file stands there."""
        self._touched.add(output.name)
        path = self.directory / output.name
        known = self._outputs.get(output.name)
        if known is not None:
            output.known |= known.known
        output.known.add(output.sha256)
        edited = path.is_file() and self.workspace.is_edited(self.directory, output)
        if edited and not self._overwrite_edited:
            self.warn(
                f"{path} was changed by hand and is kept as it is (--overwrite-edited replaces it)."
            )
            return False
        self._begin()
        self._note(output, written=False)
        try:
            replace(temporary, path)
            self._note(output, written=True)
        except BaseException:  # stopped between rename and note, the file is ours all the same
            if path.is_file() and sha256_file(path) == output.sha256:
                self._outputs[output.name] = output
            raise
        self._outputs[output.name] = output
        return True

    def _note(self, output: Output, written: bool) -> None:
        line = encode_json({**output.as_json(), "written": written}) + b"\n"
        with (self.directory / JOURNAL).open("ab") as journal:
            journal.write(line)

    def _work(self) -> Iterator["StageRun"]:
        """Yield the run, with the record written before and after."""
        for name in self.condition.edited:
            if not self._overwrite_edited:
                say(f"{self.directory / name} was edited by hand: kept.")
        if self.is_fresh or self._is_kept_whole():
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
        if not edited or self._overwrite_edited:
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
        if self.stage.curated or self._before is not None or self._overwrite_edited:
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

    def _remove_unwanted(self) -> None:
        """Delete outputs of earlier runs whose input is gone; keep those that a person changed."""
        for name in sorted(set(self._outputs) - self._touched):
            output = self._outputs[name]
            if self.workspace.is_edited(self.directory, output) and not self._overwrite_edited:
                self.warn(f"{self.directory / name} is no longer made, but was edited: kept.")
                continue
            (self.directory / name).unlink(missing_ok=True)
            del self._outputs[name]

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
        write_json(self.directory / RECORD, record.as_json())
        (self.directory / JOURNAL).unlink(missing_ok=True)


def _now() -> str:
    return datetime.now(UTC).isoformat(timespec="seconds")

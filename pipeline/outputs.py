"""The outputs of a stage at work: what is to be done about each, and how one is written.

Every write is announced in a journal before the file gets its name, and confirmed after, a few
together, so that a run that was killed never takes its own file for a person's edit.
"""

import shutil
import tempfile
from collections.abc import Collection, Iterator
from contextlib import contextmanager
from dataclasses import replace as replace_fields
from pathlib import Path
from typing import Any

from pipeline.console import warn
from pipeline.files import (
    TEMPORARY_PREFIX,
    encode_json,
    rename,
    sha256_bytes,
    sha256_file,
    sync,
    temporary_beside,
)
from pipeline.records import JOURNAL, RECORD, Output, Record
from pipeline.workspace import STAGES, Workspace, is_document

SHOWN_WARNINGS, KEPT_WARNINGS = 50, 1000
_CONFIRMED_TOGETHER = 16  # outputs: the disk takes as long for the names of all as for one


class Outputs:
    """The files of one numbered directory while its stage runs; the base of `StageRun`.

    `before` is the record of the run before, if there was one.
    """

    def __init__(
        self,
        workspace: Workspace,
        stage: str,
        before: Record | None,
        *,
        force: bool,
        overwrite_edited: bool,
        restore_deleted: bool,
    ) -> None:
        self.workspace = workspace
        self.stage = STAGES[stage]
        self.directory = workspace.directory(stage)
        self.warnings: list[str] = []
        self._more_warnings = 0
        self._force = force
        self.overwrites_edited = overwrite_edited  # and takes away what a person edited
        self._restore_deleted = restore_deleted
        self._touched: set[str] = set()
        self._outputs = dict(before.outputs) if before else {}
        self._unconfirmed: list[tuple[Output, bytes]] = []  # with what the journal says of each

    def _begin(self) -> None:
        """Called before the first output is written."""
        raise NotImplementedError

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
            plan = "write" if self.overwrites_edited else "edited"
        else:
            plan = "current" if output.key == key and not self._force else "write"
        if plan != "write":
            self._touched.add(name)
        if plan in {"edited", "deleted"} and output.key != key:
            # It was made from something else. Should the former content come back, by an undo in
            # an editor, it is the person's all the same, and not a fresh output.
            self._outputs[name] = replace_fields(output, key=key, sha256="", known=set())
        return plan

    def has(self, name: str, key: str) -> bool:
        """Whether the output `name` is there, made from `key`; then it stays, edited or not."""
        output = self._outputs.get(name)
        if output is None or output.key != key:
            return False  # not asked of plan(), which lets an edited output stand for any key
        return self.plan(name, key) in {"current", "edited"}

    def leave_to_person(self, name: str, key: str, row: dict[str, Any]) -> None:
        """Note a file that a person put where the output `name` would be: from now on it is
        treated like an output that was edited."""
        self._touched.add(name)
        self._begin()
        self._outputs[name] = Output(name, 0, "", key, row)
        self._note(_journal_line(self._outputs[name], written=True))

    def claim(self, name: str) -> None:
        """Take a file that a person put in the place of an output for this run's own: it goes at
        the end unless it is written. For runs that overwrite what was edited."""
        self._outputs[name] = Output(name, 0, "")

    def withdraw(self, name: str) -> None:
        """No longer want an output that this run had planned: it goes at the end."""
        self._touched.discard(name)

    def row(self, name: str) -> dict[str, Any] | None:
        """What was noted about an output when it was written."""
        output = self._outputs.get(name)
        return output.row if output else None

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
        sha256: str | None = None,
    ) -> bool:
        """Write an output, whole, unless a person's file stands there. True if it was written.

        `merged`: what a person wrote there is in `data`. `sha256` is that of `data`, if known.
        """
        if merged:
            self._know_what_is_there(name)
        with temporary_beside(self.directory / name) as temporary:
            temporary.write_bytes(data)
            output = Output(name, len(data), sha256 or sha256_bytes(data), key, row)
            return self._place(output, temporary)

    def _know_what_is_there(self, name: str) -> None:
        if name in self._outputs and (self.directory / name).is_file():
            self._outputs[name].known.add(sha256_file(self.directory / name))

    def take(
        self,
        name: str,
        source: Path,
        key: str = "",
        row: dict[str, Any] | None = None,
        *,
        merged: bool = False,
        sha256: str | None = None,
    ) -> bool:
        """Make a finished file the output `name`, as `write` does for bytes."""
        if merged:
            self._know_what_is_there(name)
        sha256 = sha256 or sha256_file(source)
        return self._place(Output(name, source.stat().st_size, sha256, key, row), source)

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
        if edited and not self.overwrites_edited:
            self.warn(
                f"{path} was changed by hand and is kept as it is (--overwrite-edited replaces it)."
            )
            return False
        self._begin()
        line = _journal_line(output, written=False)
        self._note(line)
        try:
            rename(temporary, path)
        except BaseException:  # stopped after the rename, the file is ours all the same
            if path.is_file() and sha256_file(path) == output.sha256:
                self._outputs[output.name] = output
            raise
        self._outputs[output.name] = output
        self._unconfirmed.append((output, line))
        if len(self._unconfirmed) >= _CONFIRMED_TOGETHER:
            self._confirm()
        return True

    def _note(self, *lines: bytes) -> None:
        with (self.directory / JOURNAL).open("ab") as journal:
            journal.write(b"".join(lines))

    def _confirm(self) -> None:
        """Note the outputs that were given their names, once these are on the disk."""
        if not self._unconfirmed:
            return
        for folder in {(self.directory / output.name).parent for output, _ in self._unconfirmed}:
            sync(folder)
        self._note(*(_as_written(line) for _, line in self._unconfirmed))
        self._unconfirmed = []

    def _remove_unwanted(self) -> None:
        """Delete outputs of earlier runs whose input is gone; keep those that a person changed."""
        self._confirm()
        for name in sorted(set(self._outputs) - self._touched):
            output = self._outputs[name]
            if self.workspace.is_edited(self.directory, output) and not self.overwrites_edited:
                self.warn(f"{self.directory / name} is no longer made, but was edited: kept.")
                continue
            (self.directory / name).unlink(missing_ok=True)
            del self._outputs[name]


_ANNOUNCED, _WRITTEN = b'"written": false}\n', b'"written": true}\n'


def _journal_line(output: Output, *, written: bool) -> bytes:
    """What the journal says of an output, that it is about to be written or that it was."""
    return encode_json({**output.as_json(), "written": written}) + b"\n"


def _as_written(line: bytes) -> bytes:
    """The line of an output that was announced, now that it is written."""
    return line.removesuffix(_ANNOUNCED) + _WRITTEN

"""A run of a stage that only notes what it would do: nothing in the workspace is written."""

import shutil
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from pipeline.records import Output
from pipeline.run import StageRun
from pipeline.workspace import Workspace, as_settings


class DryRun(StageRun):
    """Looks like a run to those who work with it. `written` are the outputs it would write, and
    `removed` those that it would take away, known once the work is done."""

    writes = False

    def __init__(
        self,
        workspace: Workspace,
        stage: str,
        *,
        version: int,
        settings: dict[str, Any],
        inputs: Sequence[Path],
        force: bool,
        overwrite_edited: bool,
        restore_deleted: bool,
        unfinished: bool = False,
    ) -> None:
        super().__init__(
            workspace, stage, version, as_settings(settings),
            workspace.facts(inputs),
            force, overwrite_edited, restore_deleted, unfinished,
        )  # fmt: skip
        self.written: list[str] = []

    @property
    def removed(self) -> list[str]:
        """The outputs of earlier runs that would go."""
        return [
            name
            for name in sorted(set(self._outputs) - self._touched)
            if (self.directory / name).is_file()
            and (self.overwrites_edited or not self.is_edited(name))
        ]

    @contextmanager
    def scratch(self) -> Iterator[Path]:
        """A folder outside of the workspace."""
        folder = Path(tempfile.mkdtemp())
        try:
            yield folder
        finally:
            shutil.rmtree(folder, ignore_errors=True)

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
        return self._place(Output(name, len(data), "", key, row), Path())

    def _place(self, output: Output, temporary: Path) -> bool:
        self._touched.add(output.name)
        path = self.directory / output.name
        known = self._outputs.get(output.name)
        is_theirs = path.is_file() and (known is None or self.is_edited(output.name))
        if is_theirs and not self.overwrites_edited:
            return False
        self.written.append(output.name)
        return True

    def _note(self, *lines: bytes) -> None:
        """No journal is kept."""

    def _begin(self) -> None:
        """Nothing is begun."""

"""The files of stage 7 that are done, each kept as soon as it is proven.

    finished = Finished(run, key, ["q4_k_m", "q8_0"])
    for kind in finished.left:                     # what no earlier run made from the same
        ...
        finished.add(path, kind, facts, report)
    finished.tell()

`proof.json` beside them is whole at any moment, and tells only of files that are there. What it
says is kept with each file in the stage's record, so that it can be written without making anything
again.
"""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from pipeline.files import encode_json, fingerprint
from pipeline.run import StageRun

PROOF = "proof.json"
ADAPTER = "adapter"  # in place of a type: the adapter alone, and no whole model


class Finished:
    """What is there of the `kinds` that are asked for. `key` says what they are made from, and how
    they are proven; a file of another key, or one that a person changed, is not finished."""

    def __init__(self, run: StageRun, key: str, kinds: Sequence[str]) -> None:
        self._run, self._key, self._kinds = run, key, list(kinds)
        self._is_told = False  # whether this run has written proof.json
        self._rows: dict[str, tuple[str, dict[str, Any]]] = {}  # of each kind: name, and all of it
        for name, row in run.notes().items():
            kind = row.get("kind")
            if kind in self._kinds and run.has(name, self._key_of(kind)):
                self._rows[kind] = (name, row)

    def _key_of(self, kind: str) -> str:
        return fingerprint([self._key, kind])

    @property
    def left(self) -> list[str]:
        """The kinds that are still to be made."""
        return [kind for kind in self._kinds if kind not in self._rows]

    @property
    def files(self) -> dict[str, dict[str, Any]]:
        """What was found out about each file, by name; in the order in which they are wanted."""
        rows = [self._rows[kind] for kind in self._kinds if kind in self._rows]
        return {name: row["facts"] for name, row in rows}

    @property
    def mode(self) -> str | None:
        """How much was proven of those that are there. One proof.json speaks of one mode."""
        return next((str(row["report"]["proof"]) for _, row in self._rows.values()), None)

    def add(
        self, path: Path, kind: str, facts: Mapping[str, Any], report: Mapping[str, Any]
    ) -> None:
        """Give a proven file its final name, and tell of it.

        Args:
            facts: what was found out about it.
            report: what proof.json says besides the files.
        """
        report = {name: value for name, value in report.items() if name != "files"}
        row = {"kind": kind, "facts": dict(facts), "report": report}
        if not self._is_told and (self._run.directory / PROOF).is_file():
            self._write(report)  # that of a run before may tell of another file of this name
        if self._run.take(path.name, path, self._key_of(kind), row):
            self._rows[kind] = (path.name, row)
            self._write(report)

    def tell(self) -> None:
        """Write proof.json as it stays, with the report of the file that was made last."""
        for _, row in [*self._rows.values()][-1:]:  # none where a person's file stands in its place
            self._write(row["report"], is_last=True)

    def _write(self, report: Mapping[str, Any], *, is_last: bool = False) -> None:
        run = self._run
        self._is_told = True
        if run.is_edited(PROOF) and not run.overwrites_edited and not is_last:
            return  # it stays as it is, which is said once
        files = self.files
        alone = files.pop(self._rows[ADAPTER][0]) if ADAPTER in self._rows else None
        told = {**report, "files": files, **({ADAPTER: alone} if alone else {})}
        run.write(PROOF, encode_json(told, indent=2) + b"\n")

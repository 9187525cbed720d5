"""What a stage leaves about its work: `stage.json`, and a journal while it is still at it."""

import json
import os
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from pipeline.files import FileFact

RECORD = "stage.json"
JOURNAL = ".journal.jsonl"


@dataclass
class Output:
    """A file that a stage wrote: its name in the directory and everything known of it.

    `key` says what it was made from (see `StageRun.key`), `row` what the stage noted about it,
    `known` every hash that the stage gave it or was about to give it.
    """

    name: str
    size: int
    sha256: str
    key: str = ""
    row: dict[str, Any] | None = None
    known: set[str] = field(default_factory=set)

    def as_json(self) -> dict[str, Any]:
        value: dict[str, Any] = {"path": self.name, "size": self.size, "sha256": self.sha256}
        if self.key:
            value["key"] = self.key
        if self.row is not None:
            value["row"] = self.row
        return value

    @classmethod
    def from_json(cls, value: dict[str, Any]) -> "Output":
        """Read back what `as_json` wrote. Raises KeyError or TypeError on anything else."""
        sha256 = str(value["sha256"])
        return cls(
            str(value["path"]), int(value["size"]), sha256,
            str(value.get("key", "")), value.get("row"), {sha256},
        )  # fmt: skip


@dataclass
class Record:
    """What `stage.json` says of the last run of a stage."""

    stage: str
    status: str
    version: int
    settings: dict[str, Any]
    inputs: list[FileFact]
    outputs: dict[str, Output]
    counts: dict[str, Any] = field(default_factory=dict)
    warnings: list[str] = field(default_factory=list)
    start: str = ""
    end: str = ""

    def as_json(self) -> dict[str, Any]:
        return {
            "stage": self.stage,
            "status": self.status,
            "version": self.version,
            "start": self.start,
            "end": self.end,
            "settings": self.settings,
            "counts": self.counts,
            "warnings": self.warnings,
            "inputs": [fact.as_json() for fact in self.inputs],
            "outputs": [output.as_json() for output in self.outputs.values()],
        }

    @classmethod
    def from_json(cls, value: dict[str, Any]) -> "Record":
        """Read back what `as_json` wrote. Raises KeyError, TypeError or ValueError otherwise."""
        outputs = [Output.from_json(item) for item in value["outputs"]]
        return cls(
            stage=str(value["stage"]),
            status=str(value["status"]),
            version=int(value["version"]),
            settings=dict(value["settings"]),
            inputs=[FileFact(str(i["path"]), int(i["size"]), i["sha256"]) for i in value["inputs"]],
            outputs={output.name: output for output in outputs},
            counts=dict(value["counts"]),
            warnings=list(value["warnings"]),
            start=str(value["start"]),
            end=str(value["end"]),
        )


def read_journal(path: Path) -> list[tuple[Output, bool]]:
    """The outputs that a stopped run noted, each with whether it was seen to be written.

    A line that was cut short is no line.
    """
    if not path.is_file():
        return []
    lines = []
    for line in path.read_text("utf-8", errors="replace").split("\n"):
        try:
            value = json.loads(line)
            output, is_written = Output.from_json(value), bool(value["written"])
        except (ValueError, KeyError, TypeError, AttributeError):
            continue
        if is_inside(output.name):
            lines.append((output, is_written))
    return lines


def is_inside(name: str) -> bool:
    """Whether a name from a record stays inside its directory."""
    path = Path(name)
    if os.name == "nt" and ("\\" in name or ":" in name):
        return False
    return bool(name) and not path.is_absolute() and ".." not in path.parts

"""What the tests of stage 1 look at: the names and rows of a `1_raw`."""

import json
from pathlib import Path
from typing import Any


def names(data: Path) -> list[str]:
    """The documents of `1_raw`, sorted."""
    kept = ("stage.json", "catalog.jsonl", "refused.jsonl", "quarantine.jsonl")
    found = (path.name for path in (data / "1_raw").iterdir())
    return sorted(name for name in found if name not in kept and not name.startswith("."))


def rows(data: Path, name: str = "catalog.jsonl") -> list[dict[str, Any]]:
    """The rows of a list in `1_raw`; none if it is not there."""
    path = data / "1_raw" / name
    lines = path.read_text("utf-8").split("\n") if path.is_file() else []
    return [json.loads(line) for line in lines if line]


def text(data: Path, name: str) -> str:
    """The text of a document, line ends as they are."""
    return (data / "1_raw" / name).read_bytes().decode()


def counts(data: Path) -> dict[str, Any]:
    """The counts of the stage's record."""
    record = json.loads((data / "1_raw" / "stage.json").read_text("utf-8"))
    return dict(record["counts"])

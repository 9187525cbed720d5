"""A model's folder under its final name: whole, or as it was before.

A former one is replaced only if nobody changed it, which its record tells: the files with their
sizes and sha256.
"""

import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from pipeline.errors import PipelineError, UsageError
from pipeline.files import FileFact, read_json_object, sha256_file, sync, write_json

RECORD = "merge.json"
VERSION = 1
ELSEWHERE = "Name another folder with --output."


def check_target(folder: Path, *, overwrite_edited: bool) -> None:
    """Raise PipelineError unless a model may be put at `folder`: nothing is there, or a former one.

    What is not of the former one is never deleted, whatever is asked for.
    """
    if folder.exists() and not folder.is_dir():
        raise PipelineError(f"{folder} is a file.", ELSEWHERE)
    if os.path.ismount(folder):
        raise UsageError(f"{folder} is a file system of its own.", "Name a folder in it.")
    if not folder.exists() or not any(folder.iterdir()):
        return
    facts = _recorded(folder)
    if facts is None:
        raise PipelineError(
            f"{folder} is not empty, and no model that `pipeline merge` made.", ELSEWHERE
        )
    strange = sorted(path.name for path in folder.iterdir() if path.name not in {*facts, RECORD})
    if strange:
        raise PipelineError(
            f"{folder / strange[0]} is not of the model that `pipeline merge` made there.",
            f"Move it elsewhere, or name another folder with --output ({len(strange)} in all).",
        )
    edited = [name for name, fact in facts.items() if _is_edited(folder / name, fact)]
    if edited and not overwrite_edited:
        raise PipelineError(
            f"{folder / edited[0]} was changed by hand since `pipeline merge` made it.",
            "--overwrite-edited replaces the model all the same; --output names another folder.",
        )


def _recorded(folder: Path) -> dict[str, FileFact] | None:
    """The files of the model that was made there, by name; None if there is no such record."""
    path = folder / RECORD
    try:
        values = read_json_object(path)
        files = [FileFact(f["path"], f["size"], f["sha256"]) for f in values["files"]]
        return {fact.path: fact for fact in files}
    except (PipelineError, OSError, KeyError, TypeError, RecursionError):
        return None


def _is_edited(path: Path, fact: FileFact) -> bool:
    """Whether a file is other than it was; one that was deleted can be made again."""
    if not path.is_file():
        return path.exists()
    return path.stat().st_size != fact.size or sha256_file(path) != fact.sha256


def finish(folder: Path, about: Mapping[str, Any]) -> None:
    """Write the record of the model in `folder`, and have everything on the disk."""
    files = [
        FileFact(path.name, path.stat().st_size, sha256_file(path)).as_json()
        for path in sorted(folder.iterdir())
    ]
    write_json(folder / RECORD, {"version": VERSION, **about, "files": files})
    for path in folder.iterdir():
        sync(path)
    sync(folder)


def put_in_place(made: Path, folder: Path, aside: Path) -> None:
    """Give the finished model `made` its name. A former one is moved to `aside`, on the same disk,
    where it may be deleted."""
    try:
        if folder.exists():
            folder.rename(aside)
        made.rename(folder)
    except BaseException:
        if aside.exists() and not folder.exists():
            aside.rename(folder)
        raise
    sync(folder.parent)

"""Checkpoints: whole, or none at all.

    checkpoint = write(folder, step=120, files=lambda path: ..., about={...})
    found = newest(folder)        # verified; what is broken is set aside with a word

A checkpoint is a directory `step-00000120`. It is written under a temporary name; its last file,
COMPLETE.json, has the size and the sha256 of every other one; then everything is forced to the disk
and the directory gets its name. Whatever is missing, too short or changed is found out before
anything of it is loaded.
"""

import os
import re
import shutil
import tempfile
from collections.abc import Callable, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from pipeline.console import warn
from pipeline.errors import PipelineError
from pipeline.files import TEMPORARY_PREFIX, is_disk_full, sha256_file, sync, write_json
from pipeline.training.run_state import STATE, check_saved
from pipeline.training.state_check import check_about, is_count, parse, time_of

COMPLETE = "COMPLETE.json"
VERSION = 1
BROKEN = "broken-"
_AT_A_TIME = 4  # files: weights, optimizer, the best weights, and the small ones
_NAME = re.compile(r"step-([0-9]{8,})")
_FILE = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,99}")  # no way out of the directory


class Broken(Exception):
    """A checkpoint that cannot be used; the text says why, as a clause."""


@dataclass(frozen=True)
class Checkpoint:
    """A checkpoint that was whole when it was looked at."""

    path: Path
    step: int
    size: int  # bytes, of all files
    about: Mapping[str, Any]  # what `write` was told
    saved: str  # when, in ISO 8601

    @property
    def name(self) -> str:
        """The name of its directory."""
        return self.path.name


def name_of(step: int) -> str:
    """The name of the checkpoint of a step; names sort as steps do."""
    return f"step-{step:08}"


def write(
    folder: Path, step: int, files: Callable[[Path], object], about: Mapping[str, Any]
) -> Checkpoint:
    """Make the checkpoint of `step` in `folder`; `files` writes what belongs to it.

    One that is there already, of the same step, is replaced, and is there until it is.

    Raises:
        PipelineError: the disk is full, or cannot be written to. Nothing is left behind.
    """
    final = folder / name_of(step)
    folder.mkdir(parents=True, exist_ok=True)
    temporary = Path(tempfile.mkdtemp(prefix=f"{TEMPORARY_PREFIX}{final.name}-", dir=folder))
    try:
        files(temporary)
        facts = _facts(temporary)
        record = {
            "version": VERSION,
            "step": step,
            "files": facts,
            "saved": datetime.now(UTC).isoformat(timespec="seconds"),
            "about": dict(about),
        }
        write_json(temporary / COMPLETE, record)
        sync(temporary)
        old = _move_away(final)
        temporary.replace(final)
        sync(folder)
        if old is not None:
            shutil.rmtree(old, ignore_errors=True)
    except Exception as error:
        if not isinstance(error, OSError) and not is_disk_full(error):
            raise
        missing = getattr(error, "strerror", None) or str(error)
        missing = "the disk is full" if is_disk_full(error) else missing
        raise PipelineError(
            f"The checkpoint of step {step} could not be written to {folder}: {missing}.",
            "Make room; the checkpoints before it are as they were.",
        ) from error
    finally:
        shutil.rmtree(temporary, ignore_errors=True)
    return verify(final, hashes=False)


def _facts(folder: Path) -> dict[str, dict[str, Any]]:
    """Size and hash of each file, by name, all of them on the disk; several at a time, as training
    waits and has left its cores."""
    paths = sorted(folder.iterdir())
    pool = ThreadPoolExecutor(_AT_A_TIME)
    try:
        return dict(zip([path.name for path in paths], pool.map(_fact, paths), strict=True))
    finally:
        pool.shutdown(cancel_futures=True)  # a second signal stops at once


def _fact(path: Path) -> dict[str, Any]:
    fact = {"size": path.stat().st_size, "sha256": sha256_file(path)}
    sync(path)
    return fact


def _move_away(path: Path) -> Path | None:
    if not path.exists():
        return None
    old = Path(tempfile.mkdtemp(prefix=f"{TEMPORARY_PREFIX}old-", dir=path.parent))
    path.replace(old)
    return old


def verify(path: Path, *, hashes: bool = True, state: bool | None = None) -> Checkpoint:
    """The checkpoint in `path`, once all its files are there as they were written.

    `hashes`: every file is read. `state`: how far the run had come must make sense, which matters
    where it is to be gone on with; by default, where the hashes do.

    Raises Broken: it is not whole, not what it says, or of a version that is not known.
    """
    try:
        return _verified(path, read_record(path), hashes, state)
    except FileNotFoundError as error:  # a run that is at work deletes old ones
        raise Broken("it was deleted meanwhile") from error


def _verified(path: Path, record: dict[str, Any], hashes: bool, state: bool | None) -> Checkpoint:
    # What a file manager or a file system leaves of its own is not read.
    found = {entry.name for entry in os.scandir(path) if not entry.name.startswith(".")}
    found -= {COMPLETE, "desktop.ini"}
    if extra := sorted(found - record["files"].keys()):
        raise Broken(f"{extra[0]} does not belong to it")
    for name, fact in record["files"].items():
        file = path / name
        if name not in found or file.is_symlink() or not file.is_file():
            raise Broken(f"{name} is missing")
        if (size := file.stat().st_size) != fact["size"]:
            raise Broken(f"{name} has {size:,} bytes and not {fact['size']:,}")
        if hashes and sha256_file(file) != fact["sha256"]:
            raise Broken(f"{name} is not as it was written")
    if hashes if state is None else state:
        _check_state(path, record)
    size = sum(fact["size"] for fact in record["files"].values())
    return Checkpoint(path, record["step"], size, record["about"], time_of(record.get("saved")))


def _check_state(path: Path, record: dict[str, Any]) -> None:
    if STATE not in record["files"]:
        return
    try:
        progress = check_saved(path)
    except PipelineError as error:
        raise Broken(error.message.removeprefix(f"{path}{os.sep}").removesuffix(".")) from error
    if progress.step != record["step"]:
        raise Broken(f"{STATE} is of step {progress.step}")


def read_record(path: Path) -> dict[str, Any]:
    """COMPLETE.json of a checkpoint, with nothing in it that is not as it should be.

    Raises Broken.
    """
    match = _NAME.fullmatch(path.name)
    try:
        record = parse((path / COMPLETE).read_bytes())
    except FileNotFoundError:
        raise Broken(f"{COMPLETE} is missing") from None
    except (OSError, ValueError) as error:
        raise Broken(f"{COMPLETE} cannot be read") from error
    if not isinstance(record, dict) or record.get("version") != VERSION:
        raise Broken(f"{COMPLETE} is of another version")
    step = record.get("step")
    if not match or not is_count(step) or step != int(match[1]):
        raise Broken(f"{COMPLETE} is of step {str(step)[:40]}")
    files, about = record.get("files"), record.get("about")
    if not isinstance(files, dict) or not files or not isinstance(about, dict):
        raise Broken(f"{COMPLETE} names no files")
    for name, fact in files.items():
        if not _FILE.fullmatch(name) or not _is_fact(fact):
            raise Broken(f"{COMPLETE} has {name!r}, which is no file of a checkpoint")
    try:
        check_about(about)
    except ValueError as error:
        raise Broken(f"{COMPLETE} makes no sense: {error}") from error
    return record


def _is_fact(fact: Any) -> bool:
    return (
        isinstance(fact, dict)
        and is_count(fact.get("size"))
        and isinstance(fact.get("sha256"), str)
        and re.fullmatch(r"[0-9a-f]{64}", fact["sha256"]) is not None
    )


def listed(folder: Path) -> list[Path]:
    """The directories in `folder` that are named as checkpoints are, the newest first."""
    if not folder.is_dir():
        return []
    found = [entry for entry in folder.iterdir() if _NAME.fullmatch(entry.name) and entry.is_dir()]
    return sorted(found, key=step_of, reverse=True)


def step_of(path: Path) -> int:
    """The step of a directory that is named as checkpoints are."""
    return int(path.name.removeprefix("step-"))


def whole(folder: Path, *, hashes: bool = True) -> Iterator[Checkpoint]:
    """The checkpoints in `folder` that are whole, the newest first. Nothing is changed."""
    for path in listed(folder):
        try:
            yield verify(path, hashes=hashes)
        except Broken:
            continue


def newest(folder: Path) -> Checkpoint | None:
    """The newest checkpoint that is whole, or None.

    Broken ones that are newer are set aside under another name, and it is said why.
    """
    for path in listed(folder):
        try:
            return verify(path)
        except Broken as reason:
            aside = set_aside(path)
            warn(
                f"The checkpoint {path} is broken: {reason}. It is now {aside.name}, and not used."
            )
    return None


def set_aside(path: Path) -> Path:
    """Rename a broken checkpoint, so that it is neither used nor in the way."""
    for n in range(1, 1000):
        aside = path.with_name(f"{BROKEN}{path.name}" + (f"-{n}" if n > 1 else ""))
        if not aside.exists():
            path.replace(aside)
            return aside
    raise PipelineError(f"{path.parent} is full of broken checkpoints.", "Delete them.")


def remove(path: Path) -> None:
    """Delete a checkpoint: first its name goes, so that no half of it is ever taken for one."""
    doomed = Path(tempfile.mkdtemp(prefix=f"{TEMPORARY_PREFIX}gone-", dir=path.parent))
    path.replace(doomed)
    shutil.rmtree(doomed)

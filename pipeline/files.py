"""Files that are whole or not there: atomic writes, content hashes, and a cache of these."""

import codecs
import errno
import hashlib
import json
import os
import shutil
import time
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from pipeline.errors import PipelineError

TEMPORARY_PREFIX = ".tmp-"
# A file younger than this when it was hashed may change again within the same clock tick, so its
# hash is not remembered (git calls such an entry racy).
RACY_SECONDS = 2.0
_HASHED_TOGETHER = 2  # files: more are no faster, as a disk or memory gives no more
NO_SPACE = {errno.ENOSPC, errno.EDQUOT, errno.EFBIG}


@dataclass(frozen=True)
class FileFact:
    """What identifies a file's content: a POSIX path, its size in bytes, its sha256 in hex."""

    path: str
    size: int
    sha256: str

    def as_json(self) -> dict[str, Any]:
        return {"path": self.path, "size": self.size, "sha256": self.sha256}


def sha256_bytes(data: bytes) -> str:
    """The sha256 of `data`, in hex."""
    return hashlib.sha256(data).hexdigest()


def sha256_file(path: Path) -> str:
    """The sha256 of a file's content, in hex."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def fingerprint(value: Any) -> str:
    """A short hash of anything that JSON can express, independent of the order of keys."""
    text = json.dumps(value, sort_keys=True, ensure_ascii=False, default=str)
    return sha256_bytes(text.encode("utf-8", "surrogatepass"))[:32]


def sync(path: Path) -> None:
    """Make sure that what was written to the file or directory `path` is on the disk."""
    if os.name == "nt" and path.is_dir():
        return  # Windows cannot open a directory
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def rename(temporary: Path, final: Path) -> None:
    """Rename a finished file to its final name, on the disk before it bears that name. The name is
    on the disk after `sync(final.parent)`."""
    final.parent.mkdir(parents=True, exist_ok=True)
    sync(temporary)
    temporary.replace(final)


def replace(temporary: Path, final: Path) -> None:
    """Rename a finished file to its final name, both on the disk."""
    rename(temporary, final)
    sync(final.parent)


@contextmanager
def temporary_beside(path: Path) -> Iterator[Path]:
    """Yield a temporary path in the directory of `path`; what is left there is deleted."""
    path.parent.mkdir(parents=True, exist_ok=True)
    unique = f"{os.getpid()}-{sha256_bytes(os.fsencode(path.name))[:8]}"
    temporary = path.parent / f"{TEMPORARY_PREFIX}{unique}"
    try:
        yield temporary
    finally:
        temporary.unlink(missing_ok=True)


@contextmanager
def atomic_path(path: Path) -> Iterator[Path]:
    """Yield a temporary path; it becomes `path` if the block ends well."""
    with temporary_beside(path) as temporary:
        yield temporary
        replace(temporary, path)


def link_or_copy(source: Path, target: Path) -> None:
    """The same file under another name where the disk can do that (no room taken), else a copy."""
    try:
        os.link(source, target)
    except OSError:
        shutil.copyfile(source, target)


def write_bytes(path: Path, data: bytes) -> None:
    """Write `data` to `path`, atomically."""
    with atomic_path(path) as temporary:
        temporary.write_bytes(data)


def write_json(path: Path, value: Any) -> None:
    """Write `value` as indented JSON, atomically."""
    write_bytes(path, encode_json(value, indent=2) + b"\n")


def encode_listing(value: dict[str, Any]) -> bytes:
    """An object as JSON in UTF-8: a line for each entry of its lists, the rest indented.

    Lists of thousands are read by people more easily so, and are written six times as fast: Python
    indents by itself, and leaves a line to C.
    """
    parts = []
    for name, item in value.items():
        if item and isinstance(item, list):
            lines = b",\n    ".join(encode_json(entry) for entry in item)
            shown = b"[\n    " + lines + b"\n  ]"
        else:
            shown = encode_json(item, indent=2).replace(b"\n", b"\n  ")
        parts.append(b"  " + encode_json(name) + b": " + shown)
    return b"{\n" + b",\n".join(parts) + b"\n}\n"


def json_lines(rows: list[dict[str, Any]]) -> bytes:
    """One JSON object a line, as UTF-8."""
    return b"".join(encode_json(row) + b"\n" for row in rows)


def encode_json(value: Any, indent: int | None = None) -> bytes:
    """`value` as JSON in UTF-8; escaped where a file name holds bytes that are no UTF-8."""
    try:
        return json.dumps(value, indent=indent, ensure_ascii=False).encode()
    except UnicodeEncodeError:
        return json.dumps(value, indent=indent).encode()


def read_jsonl(path: Path) -> list[dict[str, Any]]:
    """Read a file of one JSON object a line.

    Raises PipelineError naming file and line for a line that is no UTF-8, or no JSON object.
    """
    rows = []
    data = path.read_bytes().removeprefix(codecs.BOM_UTF8)  # some editors put it there
    # Not splitlines(): a title may hold a character that only Python takes for a line end.
    for number, line in enumerate(data.split(b"\n"), 1):
        if not line.strip():
            continue
        try:
            row = json.loads(line.decode("utf-8"))
        except UnicodeDecodeError as error:
            raise PipelineError(
                f"{path}:{number} is not UTF-8 text.", "Save the file as UTF-8."
            ) from error
        except (ValueError, RecursionError):
            row = None
        if not isinstance(row, dict):
            raise PipelineError(f"{path}:{number} is not a JSON object.")
        rows.append(row)
    return rows


def read_json_object(path: Path) -> dict[str, Any]:
    """Read a file that holds one JSON object. Raises PipelineError if it does not."""
    try:
        values = json.loads(path.read_text("utf-8"))
    except ValueError as error:
        raise PipelineError(f"{path} is damaged: it is not JSON.") from error
    if not isinstance(values, dict):
        raise PipelineError(f"{path} is damaged: it does not hold settings.")
    return values


def remove_temporary(directory: Path) -> None:
    """Delete what a killed process left unfinished in `directory` and below."""
    for path in sorted(directory.rglob(TEMPORARY_PREFIX + "*")):
        if path.is_dir() and not path.is_symlink():
            shutil.rmtree(path)
        else:
            path.unlink(missing_ok=True)


def is_disk_full(error: BaseException) -> bool:
    """Whether an exception, of whatever library, means that the disk is full."""
    if isinstance(error, OSError) and error.errno in NO_SPACE:
        return True
    return "No space left on device" in str(error) or "File too large" in str(error)


class HashCache:
    """Hashes of files, remembered by (size, times, inode), so that looking twice is cheap."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._dirty = False
        self._known: dict[str, list[Any]] = {}
        with suppress(FileNotFoundError, ValueError):  # a broken cache is an empty one
            known = json.loads(path.read_text("utf-8"))
            self._known = known if isinstance(known, dict) else {}

    def facts(self, files: Sequence[tuple[Path, str]]) -> list[FileFact]:
        """The fact of each file, called by its name, in order; several are hashed at a time."""
        pool = ThreadPoolExecutor(_HASHED_TOGETHER)
        try:
            return list(pool.map(lambda file: self.fact(*file), files))
        finally:
            pool.shutdown(cancel_futures=True)

    def fact(self, path: Path, name: str) -> FileFact:
        """The fact of the file `path`, called `name`; hashed only if it may have changed."""
        stat = path.stat()
        key = str(path.absolute())
        signature = [stat.st_size, stat.st_mtime_ns, stat.st_ctime_ns, stat.st_ino]
        known = self._known.get(key)
        if isinstance(known, list) and known[:-1] == signature:
            return FileFact(name, stat.st_size, known[-1])
        digest = sha256_file(path)
        if time.time() - max(stat.st_mtime, stat.st_ctime) > RACY_SECONDS:
            self._known[key] = [*signature, digest]
            self._dirty = True
        return FileFact(name, stat.st_size, digest)

    def save(self) -> None:
        """Keep what was learned. A read-only disk costs only time, so it is no error."""
        if not self._dirty:
            return
        with suppress(OSError):
            write_bytes(self._path, json.dumps(self._known).encode())
            self._dirty = False

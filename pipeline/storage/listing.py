"""What a pattern stands for, on the local disk and in remote stores; and reading local files."""

import asyncio
import os
import re
from collections.abc import Awaitable, Collection, Iterator
from pathlib import Path
from typing import BinaryIO

from pipeline.errors import PipelineError, UsageError
from pipeline.storage.remote import Remote, Trouble, changed, missing
from pipeline.storage.transfer import Patience
from pipeline.storage.urls import (
    Entry,
    canonical,
    expand_braces,
    fixed_part,
    glob_filter,
    has_glob,
    is_visible,
    redact,
    scheme,
)

_AT_ONCE = 32  # names of one pattern that are looked up at the same time
# hf:// names a repository by two or three parts, with a revision that may have more.
_HF_ROOT = re.compile(
    r"(?:(?:datasets|spaces|models)/)?[^/]+/[^/@]+(?:@(?:refs/(?:convert|pr)/[^/]+|[^/]+))?(?=/|$)"
)

Suffixes = Collection[str] | None


def _chosen(name: str, suffixes: Suffixes) -> bool:
    return suffixes is None or name.lower().endswith(tuple(s.lower() for s in suffixes))


def _in_order(entries: list[Entry]) -> list[Entry]:
    return sorted({entry.url: entry for entry in entries}.values(), key=lambda entry: entry.url)


def _nothing(pattern: str, suffixes: Suffixes) -> PipelineError:
    ending = f" that ends in {', '.join(sorted(suffixes))}" if suffixes else ""
    return PipelineError(
        f"{redact(pattern)} holds no file{ending}.", "Check the folder or the pattern."
    )


# --- local ----------------------------------------------------------------------------------------


def local(pattern: str, suffixes: Suffixes) -> list[Entry]:
    """The files that a local pattern stands for; see Storage.expand. Raises PipelineError."""
    whole = canonical(pattern)
    try:
        if Path(whole).exists():
            return _in_order(_local_one(whole, suffixes))
        if os.sep == "\\":
            whole = whole.replace("\\", "/")
        found = [entry for piece in expand_braces(whole) for entry in _local_one(piece, suffixes)]
    except OSError as error:
        raise PipelineError(
            f"{error.filename or pattern} cannot be read: {error.strerror}."
        ) from error
    return _in_order(found)


def _local_one(path: str, suffixes: Suffixes) -> list[Entry]:
    place = Path(path)
    if place.is_file():
        return [_local_entry(place)]
    if place.is_dir():
        names = [name for name in _walk(place, None) if is_visible(name)]
    elif has_glob(path):
        place = Path(fixed_part(path))
        wanted = glob_filter(path[len(fixed_part(path)) :])
        names = [name for name in _walk(place, wanted.pattern) if wanted.fullmatch(name)]
    elif place.exists():
        raise PipelineError(f"{path} is neither a file nor a folder.")
    else:
        raise missing(path)
    entries = [_local_entry(place / name) for name in names if _chosen(name, suffixes)]
    if not entries:
        raise _nothing(path, suffixes)
    return entries


def _walk(folder: Path, regex: str | None) -> Iterator[str]:
    """The files below a folder, relative to it, with "/". Links to folders are not followed."""
    hidden_too = regex is not None and r"\." in regex

    def fail(error: OSError) -> None:
        if not isinstance(error, FileNotFoundError):
            raise error

    for where, folders, names in os.walk(folder, onerror=fail):
        if not hidden_too:
            folders[:] = [name for name in folders if not name.startswith(".")]
        for name in names:
            path = Path(where, name)
            if path.is_file():  # and no pipe, on which reading would hang
                yield path.relative_to(folder).as_posix()


def _local_entry(path: Path) -> Entry:
    stat = path.stat()
    return Entry(str(path), stat.st_size, f"{stat.st_mtime_ns}-{stat.st_size}")


def open_local(entry: Entry) -> BinaryIO:
    """A local file, opened, if it is as it was listed. Raises PipelineError."""
    check_local(entry)
    try:
        return Path(entry.url).open("rb")
    except OSError as error:
        raise PipelineError(f"{entry.url} cannot be read: {error.strerror}.") from error


def read_local(entry: Entry) -> bytes:
    """The content of a local file, if it is as it was listed. Raises PipelineError."""
    with open_local(entry) as file:
        try:
            data = file.read()
        except OSError as error:
            raise PipelineError(f"{entry.url} cannot be read: {error.strerror}.") from error
    if entry.size is not None and len(data) != entry.size:
        raise changed(entry.url)
    return data


def check_local(entry: Entry) -> None:
    """Raises PipelineError if a local file is gone, or not as it was listed."""
    try:
        now = _local_entry(Path(entry.url))
    except FileNotFoundError as error:
        raise missing(entry.url) from error
    except OSError as error:
        raise PipelineError(f"{entry.url} cannot be read: {error.strerror}.") from error
    if entry.version not in (None, now.version):
        raise changed(entry.url)


# --- remote ---------------------------------------------------------------------------------------


async def remote(
    store: Remote, patience: Patience, pattern: str, suffixes: Suffixes
) -> list[Entry]:
    """The objects that a remote pattern stands for; see Storage.expand. Raises PipelineError."""
    pattern = canonical(pattern)
    odd = "{" in pattern or has_glob(_key(pattern))
    if odd and scheme(pattern) not in ("http", "https"):
        try:
            return [await patience.ask(lambda: store.stat(pattern))]
        except Trouble as trouble:  # no object has this very name, as one would expect
            if not trouble.reached:
                raise
    turns = asyncio.Semaphore(_AT_ONCE)

    async def one(piece: str) -> list[Entry]:
        async with turns:
            return await _remote_one(store, patience, piece, suffixes)

    async with asyncio.TaskGroup() as group:
        tasks = [group.create_task(_outcome(one(piece))) for piece in expand_braces(pattern)]
    found: list[Entry] = []
    for task in tasks:
        outcome = task.result()
        if isinstance(outcome, PipelineError):
            raise outcome
        found += outcome
    return _in_order(found)


async def _outcome(work: Awaitable[list[Entry]]) -> list[Entry] | PipelineError:
    """A group of tasks would wrap an error in a group of errors."""
    try:
        return await work
    except PipelineError as error:
        return error


async def _remote_one(
    store: Remote, patience: Patience, url: str, suffixes: Suffixes
) -> list[Entry]:
    """What one address without braces stands for."""
    if scheme(url) in ("http", "https"):
        if "*" in url.partition("?")[0]:
            raise UsageError(
                f"{redact(url)}: a web server has no list of its files, so * finds nothing.",
                "Name the files one by one; braces such as {1..9} do that.",
            )
        return [await patience.ask(lambda: store.stat(url))]
    key = _key(url)
    root = url[: len(url) - len(key)]
    if has_glob(root):
        raise UsageError(f"{redact(url)}: * and ? cannot stand in the first part of the name.")
    if has_glob(key):
        wanted = glob_filter(key)
        prefix = re.split(r"[*?\[]", key, maxsplit=1)[0]
        deep = "/" in key[len(prefix) :] or "**" in key
        listed = await patience.ask(lambda: store.list(root + prefix, deep))
        found = [entry for entry in listed if wanted.fullmatch(_key(entry.url))]
    elif key and not key.endswith("/"):
        try:
            return [await patience.ask(lambda: store.stat(url))]
        except Trouble as trouble:
            if not trouble.missing:
                raise
            found = await _folder(store, patience, root, key + "/")
            if not found:
                raise
    else:
        found = await _folder(store, patience, root, key)
    found = [entry for entry in found if _chosen(entry.url, suffixes)]
    if not found:
        raise _nothing(url, suffixes)
    return found


async def _folder(store: Remote, patience: Patience, root: str, key: str) -> list[Entry]:
    """All visible objects below a folder, whose key ends with "/" or is empty."""
    base = root if root.endswith("/") else root + "/"
    listed = await patience.ask(lambda: store.list(base + key, True))
    return [entry for entry in listed if is_visible(_key(entry.url)[len(key) :])]


def _key(url: str) -> str:
    """The part of an address that names an object within its bucket or repository."""
    rest = url.partition("://")[2]
    if scheme(url) == "hf" and (match := _HF_ROOT.match(rest)):
        return rest[match.end() + 1 :]
    return rest.partition("/")[2]

"""The files of a repository as the Hub lists them, and whether they are those on this disk."""

import hashlib
from collections.abc import Container, Iterable, Mapping, Sequence
from fnmatch import fnmatch
from pathlib import Path
from typing import TYPE_CHECKING, Any

from pipeline.errors import PipelineError

if TYPE_CHECKING:
    from huggingface_hub import HfApi
    from huggingface_hub.hf_api import RepoFile

Content = Path | bytes  # a file, or what would be written into one


def list_files(api: "HfApi", where: dict[str, Any]) -> list["RepoFile"]:
    """The files that the Hub lists for a repository, of all its folders."""
    from huggingface_hub.hf_api import RepoFile

    listed = api.list_repo_tree(**where, recursive=True)
    return [item for item in listed if isinstance(item, RepoFile)]


def stale_files(
    there: Iterable["RepoFile"], files: Container[str], patterns: Sequence[str]
) -> list[str]:
    """The paths of the repository that a push of `files` removes."""
    return [
        item.path for item in there
        if item.path not in files and any(fnmatch(item.path, pattern) for pattern in patterns)
    ]  # fmt: skip


def check_arrived(
    there: Iterable["RepoFile"], files: Mapping[str, Path], repo_id: str, way_out: str
) -> None:
    """Raise PipelineError unless the Hub lists each of `files` with its size and its hash."""
    by_path = {item.path: item for item in there}
    for name, path in files.items():
        item, size = by_path.get(name), path.stat().st_size
        if item is None or item.size != size:
            found = "missing" if item is None else f"{item.size:,} bytes"
            told = f"{size:,} bytes here, {found} there"
        elif not is_same(path, item):
            told = f"{size:,} bytes on both sides, but another content there"
        else:
            continue
        raise PipelineError(f"{name} in {repo_id} is not what was sent: {told}.", way_out)


def is_same(content: Content, there: "RepoFile") -> bool:
    """Whether a file of the Hub has this content, by its hash."""
    size = size_of(content)
    if size != there.size:
        return False
    if there.lfs is not None:
        return _hexdigest(content, hashlib.sha256()) == identity(there)
    return _hexdigest(content, hashlib.sha1(b"blob %d\0" % size)) == identity(there)  # as git does


def identity(there: "RepoFile") -> str:
    """The hash that tells a file of the Hub from one of another content."""
    return str(there.lfs.sha256 if there.lfs is not None else there.blob_id)


def size_of(content: Content) -> int:
    """The size in bytes."""
    return len(content) if isinstance(content, bytes) else content.stat().st_size


def _hexdigest(content: Content, digest: Any) -> str:
    if isinstance(content, bytes):
        digest.update(content)
    else:
        with content.open("rb") as file:
            while block := file.read(1 << 20):
                digest.update(block)
    return str(digest.hexdigest())

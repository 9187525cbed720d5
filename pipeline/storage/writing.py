"""Folders to write to, by address: `remote_folder` gives the right kind."""

import os
from collections.abc import Collection, Mapping, Sequence
from pathlib import Path
from typing import Any

from pipeline.errors import UsageError
from pipeline.storage.digests import Digests
from pipeline.storage.folders import SLOWEST, RemoteFolder, TooLarge, backoff, parsed, persist
from pipeline.storage.remote import Trouble

__all__ = [
    "Digests",
    "RemoteFolder",
    "TooLarge",
    "Trouble",
    "backoff",
    "persist",
    "remote_folder",
]


def remote_folder(url: str, timeout: float = 60.0) -> RemoteFolder:
    """The folder at a local path, s3://, gs://, hf:// or any address that fsspec knows.

    Nothing is asked of it yet. Raises UsageError for an address that cannot be written to.
    """
    return HubFolder(url, timeout) if parsed(url)[0] == "hf" else RemoteFolder(url, timeout)


class HubFolder(RemoteFolder):
    """A folder in a repository of the Hugging Face Hub.

    Every change is a commit, and commits an hour are limited: so files go in one. The Hub itself
    knows a large file by its sha256, and does not ask for it twice.
    """

    def groups(self, names: Sequence[str]) -> list[list[str]]:
        return [list(names)] if names else []

    def put(self, files: Mapping[str, Path | bytes]) -> None:
        from huggingface_hub import CommitOperationAdd

        sizes = [len(c) if isinstance(c, bytes) else c.stat().st_size for c in files.values()]
        shown = [self._show(name) for name in files]  # looks at the names, too

        def write(hub: HubFiles, root: str) -> None:
            operations = [
                CommitOperationAdd(
                    hub.path(f"{root}/{name}"),
                    content if isinstance(content, bytes) else str(content),
                )
                for name, content in files.items()
            ]
            hub.commit(operations, f"Add {', '.join(sorted(files))[:200]}")

        self._run(shown[0], write, sum(sizes))

    def copy(self, source: str, name: str, size: int) -> None:
        raise Trouble(f"{self._show(name)} is sent: the Hub takes no large file twice.")

    def delete(self, names: Collection[str]) -> None:
        from huggingface_hub import CommitOperationDelete

        shown = [self._show(name) for name in names]

        def gone(hub: HubFiles, root: str) -> None:
            there = hub.find(root)
            operations = [
                CommitOperationDelete(hub.path(f"{root}/{name}"), is_folder=False)
                for name in names
                if f"{root}/{name}" in there
            ]
            if operations:
                hub.commit(operations, f"Delete {', '.join(sorted(names))[:200]}")

        if shown:
            self._run(shown[0], gone, SLOWEST)

    def _connect(self) -> tuple[Any, str]:
        from huggingface_hub import HfFileSystem

        endpoint = os.environ.get("HF_ENDPOINT") or None
        hub = HfFileSystem(skip_instance_cache=True, use_listings_cache=False, endpoint=endpoint)
        root = self._address.partition("://")[2].rstrip("/")
        parts = root.split("/")
        if parts[0] not in ("datasets", "spaces", "buckets"):
            # Who syncs a first time need not make the repository by hand.
            repository = "/".join(parts[1:3] if parts[0] == "models" else parts[:2])
            hub._api.create_repo(repository.partition("@")[0], private=True, exist_ok=True)
        place = hub.resolve_path(root)
        if not hasattr(place, "path_in_repo"):
            raise UsageError(f"{self.shown} is no repository.", "Give hf://user/repository/folder.")
        return HubFiles(hub._api, place), place.unresolve()


class HubFiles:
    """The files of a repository, as much of a file system as RemoteFolder needs.

    huggingface_hub's own one asks for each folder by itself, and keeps the answers.
    """

    def __init__(self, api: Any, place: Any) -> None:
        self._api, self._place = api, place
        self._repository = {"repo_id": place.repo_id, "repo_type": place.repo_type}
        end = len(place.unresolve()) - len(place.path_in_repo)
        self._base = place.unresolve()[:end].rstrip("/")

    def path(self, name: str) -> str:
        """A path in the repository."""
        return name.removeprefix(self._base + "/")

    def commit(self, operations: list[Any], message: str) -> None:
        """Make one commit."""
        self._api.create_commit(
            operations=operations, commit_message=message, revision=self._place.revision,
            **self._repository,
        )  # fmt: skip

    def invalidate_cache(self) -> None:
        """There is none."""

    def find(self, below: str, detail: bool = True) -> dict[str, dict[str, Any]]:
        """All files below a folder, by their names."""
        listed = self._api.list_repo_tree(
            recursive=True, revision=self._place.revision, **self._repository
        )
        found = {
            f"{self._base}/{one.path}": {
                "type": "file", "size": one.size, "blob_id": one.blob_id, "lfs": one.lfs,
            }
            for one in listed if hasattr(one, "size")
        }  # fmt: skip
        return {name: info for name, info in found.items() if name.startswith(below + "/")}

    def info(self, name: str) -> dict[str, Any]:
        """One file. Raises FileNotFoundError."""
        found = self.find(name.rpartition("/")[0]).get(name)
        if found is None:
            raise FileNotFoundError(name)
        return found

    def open(self, name: str, mode: str = "rb", block_size: int = 0) -> "HubStream":
        """A file to read from its beginning."""
        from huggingface_hub import get_session, hf_hub_url

        url = hf_hub_url(
            filename=self.path(name), revision=self._place.revision, endpoint=self._api.endpoint,
            **self._repository,
        )  # fmt: skip
        client, headers = get_session(), self._api._build_hf_headers()
        request = client.build_request("GET", url, headers=headers)
        response = client.send(request, stream=True, follow_redirects=True)
        if response.is_error:
            response.close()
            response.raise_for_status()
        return HubStream(response)

    def cat_file(self, name: str, start: int, end: int) -> bytes:
        """The first `end` bytes of a file."""
        stream = self.open(name)
        try:
            return stream.read(end)
        finally:
            stream.close()


class HubStream:
    """The body of an answer, to be read piece by piece."""

    def __init__(self, response: Any) -> None:
        self._response = response
        self._pieces = response.iter_bytes()
        self._held = bytearray()

    def read(self, count: int) -> bytes:
        """The next bytes, `count` of them but at the end."""
        while len(self._held) < count and (piece := next(self._pieces, b"")):
            self._held += piece
        data = bytes(self._held[:count])
        del self._held[:count]
        return data

    def close(self) -> None:
        """Leave the rest."""
        self._response.close()

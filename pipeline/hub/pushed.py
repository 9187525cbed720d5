"""What was pushed from a data directory, and where: so that what others put there is seen.

A file of the repository that this data directory did not push, such as a card that somebody edited
on the Hub, is not replaced unasked. A file that it did push and no longer has is removed.
"""

import json
from collections.abc import Iterable, Mapping
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING

from pipeline.errors import PipelineError
from pipeline.files import write_json
from pipeline.hub.listing import Content, identity, is_same

if TYPE_CHECKING:
    from huggingface_hub.hf_api import RepoFile

SHOWN = 3  # files of another's making that are named


class Pushed:
    """The files that were pushed to a repository, each by all hashes that it ever had.

    They count on every branch, for a branch begins as another is. `path` is where this is kept,
    `repo_type` and `repo_id` say which repository, and `overwrite` that files of another's making
    may be replaced.
    """

    def __init__(self, path: Path, repo_type: str, repo_id: str, *, overwrite: bool) -> None:
        from huggingface_hub import constants

        self._path = path
        self._place = f"{constants.ENDPOINT} {repo_type} {repo_id}"
        self._repo_id = repo_id
        self._overwrite = overwrite

    def check(self, there: Iterable["RepoFile"], files: Mapping[str, Content]) -> list[str]:
        """The files of the repository that are ours and no longer among `files`.

        Raises PipelineError if a file of another's making would be replaced.
        """
        known = self._read().get(self._place, {})
        ours = {item.path for item in there if identity(item) in known.get(item.path, ())}
        if not self._overwrite:
            others = sorted(
                item.path for item in there
                if item.path in files and item.path not in ours
                and not is_same(files[item.path], item)
            )  # fmt: skip
            if others:
                self._refuse(others)
        return sorted(ours - files.keys())

    def _refuse(self, others: list[str]) -> None:
        named = ", ".join(others[:SHOWN]) + (", ..." if len(others) > SHOWN else "")
        one = len(others) == 1
        raise PipelineError(
            f"{named} in {self._repo_id} {'was' if one else 'were'} not pushed from here, or "
            f"{'was' if one else 'were'} changed since.",
            f"--overwrite-edited replaces {'it' if one else 'them'}; or take another --repo-id, or "
            "a branch of its own with --revision.",
        )

    def keep(self, there: Iterable["RepoFile"], files: Mapping[str, Content]) -> None:
        """Remember what the Hub lists of `files` as ours."""
        known = self._read()
        mine = known.setdefault(self._place, {})
        for item in there:
            hashes = mine.setdefault(item.path, []) if item.path in files else None
            if hashes is not None and identity(item) not in hashes:
                hashes.append(identity(item))
        write_json(self._path, known)

    def _read(self) -> dict[str, dict[str, list[str]]]:
        with suppress(
            OSError, ValueError, TypeError, AttributeError
        ):  # without it one is asked once more, and no more
            found = json.loads(self._path.read_text("utf-8"))
            if isinstance(found, dict):
                return {
                    place: {name: list(map(str, value)) for name, value in files.items()}
                    for place, files in found.items()
                }  # fmt: skip
        return {}

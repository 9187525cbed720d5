"""Fetch a dataset from the Hugging Face Hub into the Hub's own cache, and find it there again.

A commit never changes, so what is in the cache of one is not asked for again; and where the Hub
cannot be reached, what a branch stood for the last time is still there.
"""

import glob
import re
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from pipeline.console import few, megabytes, say, warn
from pipeline.errors import PipelineError
from pipeline.hub.client import repeatedly, talking_to_hub
from pipeline.hub.dataset_choice import OPTION, DataFile, FormatOf, choose_files
from pipeline.hub.listing import list_files

if TYPE_CHECKING:
    from huggingface_hub import HfApi
    from huggingface_hub.hf_api import RepoFile

CARD = "README.md"
_LISTED = 10  # configurations in a message


@dataclass(frozen=True)
class Fetched:
    """A dataset on this disk: the folder in the Hub's cache, the commit, and which of the files
    there belong to it."""

    folder: Path
    commit: str
    files: list[DataFile]

    @property
    def paths(self) -> list[Path]:
        """The files."""
        return [self.folder / file.name for file in self.files]


def fetch_dataset(
    repo_id: str,
    format_of: FormatOf,
    *,
    config: str | None = None,
    revision: str | None = None,
    endpoint: str | None = None,
    token: str | None = None,
    check_room: Callable[[str, int, Path], object] | None = None,
) -> Fetched:
    """Have the tables of a dataset in the Hub's cache; a public one needs no token.

    Where the Hub cannot be reached, or has trouble of its own, what was fetched of this revision
    before is taken, if all of it is there, and that is said.

    Args:
        format_of: the format of a table by its name, None for what is none.
        config: which of several, see `choose_files`.
        check_room: raises if there is no room; gets what it is for, the bytes that are to be
            fetched, and the folder.

    Raises PipelineError: as `choose_files` and `check_room` do; no such dataset or revision, none
    that this token may see, or no Hub. The token is in no message.
    """
    from huggingface_hub import HfApi, get_token
    from huggingface_hub.errors import (
        GatedRepoError,
        LocalEntryNotFoundError,
        RepositoryNotFoundError,
    )
    from huggingface_hub.utils import disable_progress_bars

    check_dataset_id(repo_id)
    disable_progress_bars()
    api = HfApi(endpoint=endpoint, token=token or get_token(), library_name="bookshelf-llm")
    with talking_to_hub(api, repo_id):
        trouble = None
        try:
            commit, trouble = _commit(api, repo_id, revision)
            cache = _Commit(api, repo_id, commit, offline=trouble is not None)
            folder, listed, card = cache.look()
            choice = choose_files(repo_id, listed, card, format_of, config)
            names = [file.name for file in choice.files]
            missing = [listed[name].size for name in names if not (folder / name).is_file()]
            if missing and trouble is None:
                if check_room:
                    check_room(f"the dataset {repo_id}", sum(missing), folder)
                say(f"Fetching {repo_id} from the Hub, {megabytes(sum(missing))} ...")
            folder = cache.get(names)
        except LocalEntryNotFoundError:
            if trouble is None:
                raise
            raise trouble from None
        except GatedRepoError:
            raise PipelineError(
                f"The dataset {repo_id} is gated: its owner wants you to accept terms.",
                f"Accept them at {api.endpoint}/datasets/{repo_id}, then run `hf auth login`.",
            ) from None
        except RepositoryNotFoundError:
            raise PipelineError(
                f"{api.endpoint} has no {repo_id} among its datasets, or it is hidden from you.",
                "Check its spelling; a private one needs `hf auth login`.",
            ) from None
    if trouble is not None:
        warn(
            f"{api.endpoint} cannot be reached, so {repo_id} is taken as it was fetched last: "
            f"commit {commit[:12]}."
        )
    if choice.config is not None and choice.others:
        others = few(choice.others, _LISTED)
        say(f"{repo_id}: taken is its default, {choice.config}; {OPTION} can be {others}.")
    return Fetched(folder, commit, choice.files)


def check_dataset_id(repo_id: str) -> None:
    """Raise PipelineError unless a dataset of the Hub can have this name: user/name, or a name
    alone, from before there were users."""
    from huggingface_hub.utils import HFValidationError, validate_repo_id

    try:
        validate_repo_id(repo_id)
    except HFValidationError:
        raise PipelineError(
            f"{repo_id!r} is no name for a dataset of the Hub.",
            "It is a user or organization, a slash, and a name: roneneldan/TinyStories.",
        ) from None


def _commit(api: "HfApi", repo_id: str, revision: str | None) -> tuple[str, Exception | None]:
    """The commit of a revision; where the Hub is out of reach the one of the last time, with why.

    Raises what the client raises.
    """
    import httpx
    from huggingface_hub.errors import RevisionResolutionError

    if revision and re.fullmatch("[0-9a-f]{40}", revision):
        return revision, None
    where: dict[str, Any] = {"repo_id": repo_id, "repo_type": "dataset", "revision": revision}
    try:
        repeatedly(lambda: api.repo_info(**where))
        return api.resolve_revision(**where).resolved, None
    except (httpx.HTTPError, ConnectionError) as error:
        if not _is_out_of_reach(error):
            raise
        try:
            last = api.resolve_revision(**where, local_files_only=True)
        except RevisionResolutionError:
            raise error from None
        return last.resolved, error


def _is_out_of_reach(error: Exception) -> bool:
    """Whether the Hub gave no answer, or one that says nothing of the repository."""
    response = getattr(error, "response", None)
    return response is None or response.status_code == 429 or response.status_code >= 500


@dataclass(frozen=True)
class _Commit:
    """A commit of a dataset, in the Hub's cache and, unless `offline`, on the Hub.

    Methods raise what the client raises: LocalEntryNotFoundError if offline and something of it is
    not in the cache.
    """

    api: "HfApi"
    repo_id: str
    commit: str
    offline: bool

    def look(self) -> tuple[Path, dict[str, "RepoFile"], str]:
        """The folder in the cache, all files of the commit, and the text of its card."""
        from huggingface_hub import get_cached_repo_tree
        from huggingface_hub.errors import CachedRepoTreeNotFoundError, LocalEntryNotFoundError

        folder = self.get([CARD])
        try:
            listed = get_cached_repo_tree(**self._where)
        except CachedRepoTreeNotFoundError as error:
            if self.offline:
                raise LocalEntryNotFoundError(str(error)) from error
            listed = list_files(self.api, self._where)
        card = folder / CARD
        text = card.read_text("utf-8", "replace") if card.is_file() else ""
        return folder, {file.path: file for file in listed}, text

    def get(self, names: Iterable[str]) -> Path:
        """Have these files in the cache, those of them that there are; the folder there."""
        patterns = [glob.escape(name) for name in names]
        return Path(
            self.api.snapshot_download(
                **self._where, allow_patterns=patterns, local_files_only=self.offline
            )
        )

    @property
    def _where(self) -> dict[str, Any]:
        return {"repo_id": self.repo_id, "repo_type": "dataset", "revision": self.commit}

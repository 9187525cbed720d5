"""What a push would do: created, sent, left as it is, removed. Nothing is sent or written."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from pipeline.console import many
from pipeline.errors import PipelineError
from pipeline.hub.client import (
    STALE,
    RepoType,
    check_repo_id,
    check_visibility,
    repeatedly,
    talking_to_hub,
)
from pipeline.hub.listing import Content, is_same, list_files, size_of, stale_files
from pipeline.hub.pushed import Pushed

if TYPE_CHECKING:
    from huggingface_hub import HfApi
    from huggingface_hub.hf_api import RepoFile


@dataclass
class PushPlan:
    """Files by path in the repository with their sizes in bytes; `not_compared` says why all of
    them seem to be sent, if the Hub could not be asked."""

    creates: list[str] = field(default_factory=list)
    sent: dict[str, int] = field(default_factory=dict)
    same: dict[str, int] = field(default_factory=dict)
    removed: list[str] = field(default_factory=list)
    not_compared: str | None = None

    def lines(self) -> list[str]:
        """For people, a line each."""
        lines = [f"not compared with the Hub: {self.not_compared}"] if self.not_compared else []
        lines += [f"would create {what}" for what in self.creates]
        lines += [f"would send {name} ({size:,} bytes)" for name, size in self.sent.items()]
        lines += [f"would skip {name} (it is there already)" for name in self.same]
        lines += [f"would remove {name}" for name in self.removed]
        return lines

    def summary(self) -> str:
        """In one line."""
        return (
            f"{many(len(self.sent), 'file')} to send ({sum(self.sent.values()):,} bytes), "
            f"{len(self.same):,} there already ({sum(self.same.values()):,} bytes), "
            f"{len(self.removed):,} to remove"
        )


def plan_push(
    files: Mapping[str, Content],
    repo_id: str,
    *,
    repo_type: RepoType,
    private: bool,
    revision: str | None = None,
    endpoint: str | None = None,
    token: str | None = None,
    stale: Sequence[str] | None = None,
    pushed: Pushed | None = None,
) -> PushPlan:
    """Compare `files` with the repository, as `push_folder` would make it hold them.

    Without a token the Hub shows public repositories only. Raises PipelineError if the name is
    none, if `private` is asked for and the repository is public, or if `pushed` finds that a file
    of another's making would be replaced.
    """
    from huggingface_hub import HfApi, get_token

    check_repo_id(repo_id)
    plan = PushPlan()
    given = token or get_token()
    api = HfApi(endpoint=endpoint, token=given or False, library_name="bookshelf-llm")
    where: dict[str, Any] = {"repo_id": repo_id, "repo_type": repo_type}
    try:
        is_private, there = _look(api, where, revision, plan)
    except PipelineError as error:
        plan.not_compared = error.message
        is_private, there = None, []
    if is_private is not None:
        check_visibility(is_private, private, repo_id)
    if any(what == "repository" for what in plan.creates):
        unseen = "" if given else ", or it is private: there is no token"
        plan.creates[0] = f"{'private' if private else 'public'} {repo_type} {repo_id}{unseen}"
    by_path = {item.path: item for item in there}
    for name, content in sorted(files.items()):
        is_there = name in by_path and is_same(content, by_path[name])
        (plan.same if is_there else plan.sent)[name] = size_of(content)
    plan.removed = stale_files(there, files, STALE[repo_type] if stale is None else stale)
    if pushed is not None:
        plan.removed += [name for name in pushed.check(there, files) if name not in plan.removed]
    return plan


def _look(
    api: "HfApi", where: dict[str, Any], revision: str | None, plan: PushPlan
) -> tuple[bool | None, list["RepoFile"]]:
    """Whether the repository is private, and its files; notes in the plan what is not there."""
    from huggingface_hub.errors import RepositoryNotFoundError, RevisionNotFoundError

    branch = revision or "main"
    with talking_to_hub(api, where["repo_id"]):
        try:
            is_private = repeatedly(lambda: api.repo_info(**where)).private
        except RepositoryNotFoundError:
            plan.creates = ["repository"] + ([f"branch {branch}"] if branch != "main" else [])
            return None, []
        try:
            return is_private, repeatedly(lambda: list_files(api, where | {"revision": branch}))
        except RevisionNotFoundError:
            plan.creates = [f"branch {branch}"]  # which begins as main is
            return is_private, repeatedly(lambda: list_files(api, where | {"revision": "main"}))

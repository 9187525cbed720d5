"""How a stage's directory becomes a repository of the Hub: the gate, a rehearsal, the push.

Datasets and models go the same way; what differs is in `Dataset` and `Model`.
"""

from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any, Protocol

from pipeline.console import many, warn
from pipeline.errors import PipelineError, UsageError
from pipeline.hub.client import RepoType, check_repo_id, files_to_push, find_token, push_folder
from pipeline.hub.gate import Judgement
from pipeline.hub.listing import Content, size_of
from pipeline.hub.plan import plan_push
from pipeline.hub.pushed import Pushed
from pipeline.hub.repository import as_they_stand
from pipeline.workspace import Workspace

PUSHED = "pushed.json"  # in the cache: what was pushed from this data directory


class Repository(Protocol):
    """What a stage is to publish: its files, and what the gate says of them."""

    @property
    def workspace(self) -> Workspace: ...
    @property
    def stage(self) -> str: ...
    @property
    def repo_type(self) -> RepoType: ...
    def planned(self) -> dict[str, Content]:
        """The files as the stage would write them, by their names in the repository."""

    def judgement(self, contents: Mapping[str, Content]) -> Judgement:
        """What the gate says of these files."""

    def held_back(self, judgement: Judgement) -> list[str]:
        """The list of what must not be published, a line each, with the file to mend."""


def check_target(
    repo_id: str | None, revision: str | None = None, *, dry_run: bool = False
) -> None:
    """Raise PipelineError if `repo_id` cannot name a repository, or there is no token for it, and
    UsageError for a branch of no repository."""
    if repo_id is not None:
        check_repo_id(repo_id)
        if not dry_run:
            find_token()
    elif revision is not None:
        raise UsageError(f"--revision {revision} is a branch of a repository: give --repo-id too.")


def rehearse(
    repository: Repository,
    repo_id: str | None,
    *,
    private: bool,
    revision: str | None,
    overwrite: bool = False,
) -> Iterator[str]:
    """What a push would do, in lines; nothing is written or sent.

    Raises PipelineError for what a push would refuse.
    """
    contents = as_they_stand(repository.workspace, repository.stage, repository.planned())
    if repo_id is None:
        for name, content in contents.items():
            yield f"would be there: {name} ({size_of(content):,} bytes)"
        files = "1 file" if len(contents) == 1 else f"{len(contents):,} files"
        size = sum(map(size_of, contents.values()))
        folder = repository.workspace.directory(repository.stage)
        yield (
            f"{files} ({size:,} bytes) would be in {folder}, and none would be sent, since no "
            "--repo-id user/name says where to; nothing was written"
        )
        return
    pass_gate(repository, contents)
    plan = plan_push(
        contents, repo_id, repo_type=repository.repo_type, private=private, revision=revision,
        pushed=pushed_to(repository, repo_id, overwrite=overwrite),
    )  # fmt: skip
    yield from plan.lines()
    yield f"{plan.summary()}; nothing was sent"


def push(
    repository: Repository,
    repo_id: str,
    *,
    private: bool,
    revision: str | None,
    overwrite: bool = False,
) -> str:
    """Pass the stage's directory through the gate and push it, in one commit; returns its address.

    `overwrite` replaces files of the repository that were not pushed from this data directory.

    Raises PipelineError if something must not be published, and as `push_folder` does.
    """
    folder = repository.workspace.directory(repository.stage)
    pass_gate(repository, dict(files_to_push(folder)))
    return push_folder(
        folder, repo_id, repo_type=repository.repo_type, private=private, revision=revision,
        pushed=pushed_to(repository, repo_id, overwrite=overwrite),
    )  # fmt: skip


def pushed_to(repository: Repository, repo_id: str, *, overwrite: bool) -> Pushed:
    """What was pushed to this repository from this data directory."""
    path = repository.workspace.cache / PUSHED
    return Pushed(path, repository.repo_type, repo_id, overwrite=overwrite)


def pass_gate(repository: Repository, contents: Mapping[str, Content]) -> None:
    """List what must not be published and raise PipelineError, if there is such."""
    judgement = repository.judgement(contents)
    if judgement.unknown:
        warn(
            f"The rights in {many(judgement.unknown, 'document')} are unknown: see to them first. "
            "`pipeline acquire --rights TEXT`, with the sources that it had, states them of all of "
            "its texts, and `rights` in 1_raw/catalog.jsonl of a single one."
        )
    if judgement.holds_back:
        for line in repository.held_back(judgement):
            warn(f"must not be published: {line}")
        raise PipelineError(*judgement.summary())


def lines_to_mend(
    workspace: Workspace, stage: str, rows: Iterable[Mapping[str, Any]], judgement: Judgement
) -> list[str]:
    """The lines of a judgement with the file to mend for each: of a document (`rows`) that in
    `2_preprocessed`, else one of the stage's own."""
    directory = workspace.directory("preprocess")
    files: dict[str, Path] = {
        str(row.get("document_id")): directory / str(row.get("file") or f"{name}.txt")
        for row in rows
        if (name := row.get("document_id"))
    }
    own = workspace.directory(stage)
    files |= {name: own / name for name in judgement.mentions if (own / name).is_file()}
    return judgement.lines(files, workspace.directory("acquire") / "catalog.jsonl")

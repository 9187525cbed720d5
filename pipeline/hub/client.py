"""Push a folder to the Hugging Face Hub as it stands.

`HfApi.upload_folder` of huggingface_hub 1.33 cuts a folder into several commits where hf_xet is
installed; a dataset half new and half old must never be seen, so everything goes into one commit
here. Files that are there already are not sent again (that is the Hub's own protocol), so after a
failure the same call goes on where it stopped.

Two things that huggingface_hub leaves open are set here: its requests wait for ever, and it repeats
some of them (pre-upload, LFS) but not others (repository, commit, listing).
"""

import json
import time
from collections.abc import Callable, Container, Iterator, Sequence
from contextlib import contextmanager
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, TypeVar

from pipeline.console import many, warn
from pipeline.errors import PipelineError
from pipeline.hub.listing import check_arrived, list_files, stale_files
from pipeline.hub.pushed import Pushed

if TYPE_CHECKING:
    import httpx
    from huggingface_hub import HfApi

RepoType = Literal["dataset", "model"]
Result = TypeVar("Result")

TOKENS_PAGE = "https://huggingface.co/settings/tokens"
NOT_PUSHED = ("stage.json",)  # the workspace's own record; hidden files are not pushed either
# Replaced as a whole at each push: shards of an earlier, longer version would add rows.
STALE: dict[str, tuple[str, ...]] = {
    "dataset": ("data/*.parquet", "books/*.parquet", "completion/*.parquet", "chat/*.parquet"),
    "model": (),
}
TIMEOUTS = {"connect": 15.0, "read": 180.0, "write": 180.0, "pool": 180.0}  # seconds without a byte
RETRY_WAITS = (1.0, 4.0)  # seconds before a request is repeated that the Hub's client does not
PASSING = (500, 502, 503, 504)  # trouble of the server
OVERTAKEN = (409, 412)  # somebody else committed meanwhile
AGAIN = "Run the same command again later: what arrived is not sent twice."


def find_token(token: str | None = None) -> str:
    """`token`, else HF_TOKEN, else what `hf auth login` stored; PipelineError if there is none."""
    from huggingface_hub import get_token

    found = (token or "").strip() or get_token()
    if not found:
        raise PipelineError("No Hugging Face token.", "Run `hf auth login` or set HF_TOKEN.")
    return found


def check_repo_id(repo_id: str) -> None:
    """Raise PipelineError unless `repo_id` can name a repository, as in user/name."""
    from huggingface_hub.utils import HFValidationError, validate_repo_id

    try:
        validate_repo_id(repo_id)
        is_valid = repo_id.count("/") == 1
    except HFValidationError:
        is_valid = False
    if not is_valid:
        raise PipelineError(
            f"{repo_id!r} is no name for a repository.",
            "It is your user name or organization, a slash, and a name of letters, digits, "
            "single `-` or `.`, or `_`: your-name/horror-novel-chunks.",
        )


def files_to_push(folder: Path) -> dict[str, Path]:
    """What `push_folder` would send: path in the repository -> file. PipelineError if nothing."""
    if not folder.is_dir():
        raise PipelineError(f"{folder} is not a folder.", "Run the stage that writes it first.")
    files = {
        path.relative_to(folder).as_posix(): path
        for path in sorted(folder.rglob("*"))
        if path.is_file() and not any(p.startswith(".") for p in path.relative_to(folder).parts)
    }
    for name in NOT_PUSHED:
        files.pop(name, None)
    if not files:
        raise PipelineError(f"{folder} has no files to push.", "Run the stage that fills it first.")
    return files


def push_folder(
    folder: Path,
    repo_id: str,
    *,
    repo_type: RepoType,
    private: bool,
    revision: str | None = None,
    endpoint: str | None = None,
    token: str | None = None,
    message: str | None = None,
    stale: Sequence[str] | None = None,
    pushed: Pushed | None = None,
) -> str:
    """Make the repository hold the files of `folder`, in one commit; returns its address.

    The repository (private or public) and the branch `revision` are made if they are not there.
    Files of the repository that match the patterns `stale` (by default `STALE`) and are not in
    `folder` are removed, and so are those that `pushed` knows as our own of an earlier push. At the
    end the sizes and hashes that the Hub lists are compared with those of the files.

    Raises PipelineError, with the way out: before any work if the repository's name is none, the
    folder empty or no token there is; if `private` is asked for and the repository is public; if
    `pushed` finds that a file of another's making would be replaced; if the Hub refuses or cannot
    be reached. The token is in no message.
    """
    from huggingface_hub import HfApi

    check_repo_id(repo_id)
    files = files_to_push(folder)
    api = HfApi(endpoint=endpoint, token=find_token(token), library_name="bookshelf-llm")
    where: dict[str, Any] = {"repo_id": repo_id, "repo_type": repo_type}
    patterns = STALE[repo_type] if stale is None else stale
    summary = message or f"Upload {many(len(files), 'file')}"
    with talking_to_hub(api, repo_id):
        _make_repo(api, where, private)
        if revision and revision != "main":
            repeatedly(lambda: api.create_branch(**where, branch=revision, exist_ok=True))
        where["revision"] = revision or "main"

        def commit() -> None:
            # All anew for each try: a commit whose answer was lost is then seen to be there, and
            # one that somebody made meanwhile is taken into account.
            there = list_files(api, where)
            removed = stale_files(there, files, patterns)
            if pushed is not None:
                removed += [name for name in pushed.check(there, files) if name not in removed]
            operations = _operations(files, removed)
            api.create_commit(**where, operations=operations, commit_message=summary)

        repeatedly(commit, passing=(*PASSING, *OVERTAKEN))
        there = repeatedly(lambda: list_files(api, where))
    check_arrived(there, files, repo_id, AGAIN)
    if pushed is not None:
        pushed.keep(there, files)
    address = f"{api.endpoint}/{'datasets/' if repo_type == 'dataset' else ''}{repo_id}"
    return address + (f"/tree/{revision}" if revision and revision != "main" else "")


def _make_repo(api: "HfApi", where: dict[str, Any], private: bool) -> None:
    """Make the repository unless it is there; PipelineError if it is public and must not be."""
    from huggingface_hub.errors import RepositoryNotFoundError

    # First a look: who may write to a repository of an organization may not always make one.
    try:
        there = repeatedly(lambda: api.repo_info(**where))
    except RepositoryNotFoundError:
        repeatedly(lambda: api.create_repo(**where, private=private, exist_ok=True))
        there = repeatedly(lambda: api.repo_info(**where))
    check_visibility(there.private, private, where["repo_id"])


def check_visibility(is_private: bool | None, private: bool, repo_id: str) -> None:
    """Raise PipelineError if a repository that is to be private is public."""
    if private and is_private is False:
        raise PipelineError(
            f"{repo_id} is there already, and public, but was to be private.",
            "Make it private in its settings on the Hub, or take another name.",
        )
    if is_private and not private:
        warn(f"{repo_id} is there already, and private: it stays so.")


def _operations(files: dict[str, Path], removed: Sequence[str]) -> list[Any]:
    from huggingface_hub import CommitOperationAdd, CommitOperationDelete

    additions = [
        CommitOperationAdd(path_in_repo=name, path_or_fileobj=path) for name, path in files.items()
    ]
    return [*additions, *(CommitOperationDelete(path_in_repo=path) for path in removed)]


def repeatedly(request: Callable[[], Result], passing: Container[int] = PASSING) -> Result:
    """`request()`, again after a moment if it failed in a way that may pass: on the line, or with
    one of the statuses `passing`."""
    import httpx

    for wait in RETRY_WAITS:
        try:
            return request()
        except (httpx.HTTPError, RuntimeError) as error:
            failure = _http_failure(error)
            if failure is None or not _may_pass(failure, passing):
                raise
            time.sleep(wait)
    return request()


def _may_pass(error: "httpx.HTTPError", statuses: Container[int]) -> bool:
    """Whether to repeat the request: trouble of the server or the line, not repeated so far."""
    import httpx

    response = getattr(error, "response", None)
    if response is None:
        passing = isinstance(error, httpx.TransportError)
        request = error.request
    else:
        passing = response.status_code in statuses
        request = response.request  # huggingface_hub's own errors lose theirs
    # huggingface_hub has already tried these six times.
    path = request.url.path
    repeated = request.method == "PUT" or "/preupload/" in path or "/info/lfs/" in path
    return passing and not repeated


def _http_failure(error: BaseException | None) -> "httpx.HTTPError | None":
    """The HTTP error that `error` is or was caused by: an LFS upload wraps its own."""
    import httpx

    while error is not None and not isinstance(error, httpx.HTTPError):
        error = error.__cause__
    return error


@contextmanager
def talking_to_hub(api: "HfApi", repo_id: str) -> Iterator[None]:
    """Talk to the Hub with time limits; whatever goes wrong becomes a PipelineError."""
    import httpx

    _limit_waiting()
    try:
        yield
    except (httpx.HTTPError, OSError, ValueError, RuntimeError) as error:
        # `from None`: what the Hub answered may repeat the token, and a traceback would show it.
        raise _explained(error, api, repo_id) from None


@cache
def _limit_waiting() -> None:
    """Have the library wait for an answer no longer than TIMEOUTS, from now on. Once: each change
    closes the client that all threads share."""
    import httpx
    from huggingface_hub import set_client_factory
    from huggingface_hub.utils._http import default_client_factory

    def limit(request: httpx.Request) -> None:
        limits = request.extensions.setdefault("timeout", {})
        for phase, seconds in TIMEOUTS.items():
            if limits.get(phase) is None:
                limits[phase] = seconds

    def client() -> httpx.Client:
        made = default_client_factory()
        hooks = made.event_hooks
        made.event_hooks = {**hooks, "request": [*hooks["request"], limit]}
        return made

    set_client_factory(client)


class Unreachable(PipelineError):
    """There is no way to the Hub, or nobody there who answers."""


def _explained(error: Exception, api: "HfApi", repo_id: str) -> PipelineError:
    """The error as one sentence with a way out, without the token."""
    import httpx

    failure = _http_failure(error)
    if isinstance(error, json.JSONDecodeError):
        error, failure = ValueError("its answer was no JSON"), None
    elif isinstance(error, ValueError) and not isinstance(error, httpx.HTTPError):
        failure = None  # what the client found wrong, such as bad metadata, says more
    response = getattr(failure, "response", None)
    said = getattr(failure, "server_message", None) or str(failure or error)
    words = _without(api.token, said)
    if response is not None:
        return _refusal(response.status_code, words, api.endpoint, repo_id, response.headers)
    if failure is not None or isinstance(error, ConnectionError | TimeoutError):
        return Unreachable(
            f"{api.endpoint} cannot be reached: {words}.", f"Check the network. {AGAIN}"
        )
    return PipelineError(f"Talking to {api.endpoint} about {repo_id} failed: {words}.", AGAIN)


def _refusal(
    status: int, words: str, endpoint: str, repo_id: str, headers: "httpx.Headers"
) -> PipelineError:
    """What an HTTP status means to the user."""
    said = f"(HTTP {status}: {words})"
    if status == 401:
        return PipelineError(
            f"The Hub does not accept the token for {repo_id} {said}.",
            f"Make a new one with write access at {TOKENS_PAGE}, then run `hf auth login`.",
        )
    if status == 403:
        return PipelineError(
            f"This token may not write to {repo_id} {said}.",
            f"Take a name under your own user or organization, and a token with write access "
            f"({TOKENS_PAGE}).",
        )
    if status == 404:
        return PipelineError(
            f"{endpoint} has no {repo_id}, or it is hidden from this token {said}.",
            "Check the name, the revision and who may see it.",
        )
    if status in (409, 412):
        return PipelineError(
            f"{repo_id} was changed from elsewhere at the same time {said}.", AGAIN
        )
    if status == 429:
        wait = headers.get("Retry-After")
        pause = f"{wait} seconds" if wait and wait.isdigit() else "some minutes"
        return PipelineError(f"The Hub gets too many requests {said}.", f"Wait {pause}. {AGAIN}")
    if status >= 500:
        return PipelineError(f"The Hub has trouble of its own {said}.", AGAIN)
    return PipelineError(f"The Hub refused {repo_id} {said}.")


def _without(token: Any, text: str) -> str:
    """`text` on one line of bearable length, without the token."""
    if isinstance(token, str) and token:
        text = text.replace(token, "***")
    line = " ".join(text.split()).rstrip(".") or "no reason given"
    return line if len(line) <= 300 else line[:299] + "…"

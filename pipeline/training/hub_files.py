"""Files of the Hugging Face Hub: fetched into the Hub's own cache, and its errors as sentences."""

import re
from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial
from pathlib import Path

from pipeline.errors import PipelineError
from pipeline.files import is_disk_full
from pipeline.training.libraries import quiet_libraries

# Endings of files, which no repository's name has: `Llama-3.1-8B` ends with none.
_FILE = re.compile(
    r".\.(txt|md|epub|html?|json|jsonl|csv|tsv|parquet|ya?ml|safetensors|bin|pt|pth|gguf|zip|gz|zst)$",
    re.IGNORECASE,
)


def names_file(spec: str) -> bool:
    """Whether `spec`, of which nothing is there, can only have been meant as a file."""
    return _FILE.search(spec) is not None


def download(
    what: str,
    repo_id: str,
    revision: str | None,
    endpoint: str | None,
    patterns: list[str],
    otherwise: str,
) -> Path:
    """The folder with the files of a repository that match `patterns`; its name is the commit.

    Raises PipelineError as `hub_errors` does.
    """
    import httpx
    from huggingface_hub import snapshot_download

    quiet_libraries()
    fetch = partial(
        snapshot_download, repo_id, revision=revision, allow_patterns=patterns, endpoint=endpoint
    )
    with hub_errors(what, repo_id, revision, otherwise):
        try:
            return Path(fetch())
        except (httpx.TransportError, ConnectionError):
            # The client looks for a branch on this disk then, but not for a commit of which an
            # earlier version of it noted no list of files.
            return Path(fetch(local_files_only=True))


@contextmanager
def hub_errors(what: str, repo_id: str, revision: str | None, otherwise: str) -> Iterator[None]:
    """Turn what the Hub's client raises into one sentence each.

    Args:
        what: what the repository holds, such as "base model".
        otherwise: what to do where there is no network, to end the hint with.
    """
    import httpx
    from huggingface_hub import errors

    named = f"{what} {repo_id}"
    try:
        yield
    except errors.GatedRepoError as error:
        raise PipelineError(
            f"The {named} is gated: its owner wants you to accept terms.",
            f"Accept them at https://huggingface.co/{repo_id}, then run `hf auth login`.",
        ) from error
    except errors.RevisionNotFoundError as error:
        raise PipelineError(f"The {named} has no revision {revision}.") from error
    except (errors.RepositoryNotFoundError, errors.HFValidationError) as error:
        raise PipelineError(
            f"The {named} is neither a directory here nor on the Hub.",
            "Check its spelling; a private one needs `hf auth login`.",
        ) from error
    except (errors.LocalEntryNotFoundError, httpx.TransportError, ConnectionError) as error:
        # OfflineModeIsEnabled is a ConnectionError; LocalEntryNotFoundError means "not cached".
        raise PipelineError(
            f"The {named} is not on this machine, and the Hub cannot be reached.",
            f"Check the network, or {otherwise}. If a folder is meant: there is none called "
            f"{repo_id} here.",
        ) from error
    except errors.HfHubHTTPError as error:
        raise PipelineError(
            f"The Hub refused the {named}: {error.response.status_code}."
        ) from error
    except OSError as error:
        if is_disk_full(error):
            raise PipelineError(f"The disk is full: no room for {repo_id}.") from error
        raise

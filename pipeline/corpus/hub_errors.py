"""What the Hugging Face Hub and `datasets` raise, as sentences with a way out and no token."""

import re
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from pipeline.errors import PipelineError


@contextmanager
def explained(dataset: str, revision: str | None, token: object) -> Iterator[None]:
    """Whatever the libraries raise becomes a PipelineError without the token."""
    import httpx
    import pyarrow as pa
    from datasets.exceptions import DatasetsError

    kinds = (httpx.HTTPError, DatasetsError, pa.ArrowException, OSError)
    try:
        yield
    # RuntimeError and below: what `datasets` raises for data that it cannot make rows of.
    except (*kinds, RuntimeError, ValueError, TypeError, LookupError, AttributeError) as error:
        # `from None`: an answer of the Hub may repeat the token, and a traceback would show it.
        raise _sentence(error, dataset, revision, token) from None


def _sentence(
    error: BaseException, dataset: str, revision: str | None, token: object
) -> PipelineError:
    """The error as one sentence with a way out."""
    import httpx
    from huggingface_hub import errors

    chain = _chain(error)
    said = _without(token, str(error))
    # `datasets` replaces some of these by errors of its own that have nothing but words.
    if any(isinstance(e, errors.GatedRepoError) or " is a gated dataset" in str(e) for e in chain):
        return PipelineError(
            f"The dataset {dataset} is gated: its owners want to know who reads it.",
            f"Ask for access at https://huggingface.co/datasets/{dataset}, then run "
            "`hf auth login` or set HF_TOKEN.",
        )
    if any(isinstance(e, errors.RevisionNotFoundError) for e in chain):
        return PipelineError(
            f"The dataset {dataset} has no revision {revision!r}.",
            "Give a branch, a tag or a commit that it has, or leave --revision out.",
        )
    if any(isinstance(e, errors.RepositoryNotFoundError) for e in chain):
        return PipelineError(
            f"The Hub has no dataset {dataset}, or it is hidden from you.",
            "Check the name; for a private one run `hf auth login` or set HF_TOKEN.",
        )
    for e in chain:
        response = getattr(e, "response", None)
        if isinstance(e, httpx.HTTPError) and response is not None:
            return _refusal(response, dataset, said)
    if any("scripts are no longer supported" in str(e) for e in chain):
        return script_refused(dataset)
    offline = (errors.OfflineModeIsEnabled, httpx.TransportError, ConnectionError, TimeoutError)
    if any(isinstance(e, offline) for e in chain):
        return PipelineError(
            f"The Hub cannot be reached for the dataset {dataset}: {said}.",
            "Check the network (and that HF_HUB_OFFLINE is not set), then run the command again.",
        )
    if any(type(e).__name__ in ("DataFilesNotFoundError", "EmptyDatasetError") for e in chain):
        return PipelineError(
            f"The dataset {dataset} has no data files of a known kind.",
            "Known are Parquet, JSON lines, CSV, text and Arrow.",
        )
    return PipelineError(
        f"The dataset {dataset} cannot be read: {said}.",
        "Its files may be damaged or of different columns; another --revision or --subset may do.",
    )


def _refusal(response: Any, dataset: str, said: str) -> PipelineError:
    """What an HTTP status of the Hub means to the user."""
    status = response.status_code
    if status in (401, 403):
        return PipelineError(
            f"The Hub does not let you read the dataset {dataset} (HTTP {status}).",
            f"See https://huggingface.co/datasets/{dataset}; renew the token with "
            "`hf auth login` or HF_TOKEN.",
        )
    if status == 429:
        wait = response.headers.get("Retry-After", "")
        pause = f"{wait} seconds" if wait.isdigit() else "some minutes"
        return PipelineError(
            f"The Hub gets too many requests from here (HTTP 429, dataset {dataset}).",
            f"Wait {pause} and run the command again; with a token more is allowed.",
        )
    if status >= 500:
        return PipelineError(
            f"The Hub has trouble of its own with the dataset {dataset} (HTTP {status}).",
            "Run the command again later.",
        )
    return PipelineError(f"The Hub refused the dataset {dataset} (HTTP {status}: {said}).")


def script_refused(dataset: str) -> PipelineError:
    """The error for a dataset that has code of its own."""
    return PipelineError(
        f"The dataset {dataset} is a program that makes the data, and programs of datasets are "
        "not run here.",
        "Many such datasets have a branch of plain files: try --revision refs/convert/parquet.",
    )


def _chain(error: BaseException | None) -> list[BaseException]:
    """The error and what it came from."""
    chain: list[BaseException] = []
    while error is not None and error not in chain:
        chain.append(error)
        error = error.__cause__ or error.__context__
    return chain


def _without(token: object, text: str) -> str:
    """`text` on one line of bearable length, without tokens and signed addresses."""
    if isinstance(token, str) and token:
        text = text.replace(token, "***")
    text = re.sub(r"\bhf_\w{8,}", "***", text)
    text = re.sub(r"(https?://)[^\s/@]*@", r"\1", text)
    text = re.sub(r"(https?://[^\s?]*)\?[^\s'\")]*", r"\1", text)
    line = " ".join(text.split()).rstrip(".") or "no reason given"
    return line if len(line) <= 300 else line[:299] + "…"

"""Rows of a dataset of the Hugging Face Hub, or of one on this disk, read through `datasets`.

A dataset is not trusted. Its code is never run: loading scripts are refused, and pictures and
sound are not decoded. Its card can name data files anywhere, on this disk too; only files of the
dataset itself are read.
"""

import logging
import os
import re
import time
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

from pipeline.corpus.hub_errors import explained, script_refused
from pipeline.errors import PipelineError, UsageError

if TYPE_CHECKING:
    from huggingface_hub import HfApi

ASK_TIMEOUT = 30.0  # seconds that the Hub may take for a question about a dataset
RETRY_WAITS = (1.0, 4.0)  # seconds before a question is asked again that found trouble
STREAM_RETRIES = 5  # times that a broken stream is taken up again; 20 by default
RATE_LIMIT_WAIT = 30.0  # seconds before that after "too many requests"; 60 by default

_PASSING = (500, 502, 503, 504)
_HUB_ID = re.compile(r"[\w-][\w.-]*(/[\w-][\w.-]*)?", re.ASCII)
_FILE_SUFFIXES = {
    ".txt", ".md", ".jsonl", ".json", ".csv", ".tsv", ".parquet", ".arrow", ".epub", ".html",
    ".htm", ".gz", ".bz2", ".xz", ".zst", ".zip", ".tar", ".py",
}  # fmt: skip
# One word that `datasets` takes for a format and not for a dataset.
_FORMATS = {
    "arrow", "audiofolder", "cache", "csv", "eval", "generator", "hdf5", "imagefolder", "json",
    "lance", "niftifolder", "pandas", "parquet", "pdffolder", "spark", "sql", "text",
    "videofolder", "webdataset", "xml", "buckets",
}  # fmt: skip
_PACKED = {"zip", "tar", "gzip", "bz2", "xz", "zstd", "lz4"}  # what a data file may be inside of
_SAVED = ("dataset_dict.json", "state.json")  # what save_to_disk leaves


def is_dataset_id(source: str) -> bool:
    """Whether `source` can be the id of a dataset of the Hub: user/name, or an old name alone.

    What is on this disk is none, nor is what ends as a file does: a misspelt path is no dataset.
    """
    if not _HUB_ID.fullmatch(source) or "--" in source or ".." in source or len(source) > 96:
        return False
    if source.partition("/")[0] in _FORMATS or Path(source).suffix.lower() in _FILE_SUFFIXES:
        return False
    return not Path(source).exists()


def resolve_revision(dataset: str, revision: str | None = None, *, token: str | None = None) -> str:
    """The commit (40 hex digits) that a branch or tag of a dataset of the Hub stands for now.

    Raises PipelineError: no such dataset or revision, gated, no network, too many requests.
    """
    return _resolve(dataset, revision, token)[1]


def read_hub_rows(
    dataset: str,
    *,
    split: str = "train",
    revision: str | None = None,
    config: str | None = None,
    streaming: bool = True,
    cache: Path,
    token: str | None = None,
) -> Iterator[tuple[int, dict[str, Any]]]:
    """The rows of one split of a dataset, each with its number from 0, as the Hub's viewer counts.

    Args:
        dataset: an id of the Hub, or a folder: of data files, or as `save_to_disk` leaves it.
        split: its name, such as "train"; no slice.
        revision: branch, tag or commit, for the Hub; best what `resolve_revision` gave.
        config: which of several subsets.
        streaming: read as the rows are wanted, with flat memory and no disk; else download and
            convert everything to `cache` first.
        cache: folder for what `datasets` keeps.
        token: for private and gated datasets; else HF_TOKEN or what `hf auth login` stored.

    Raises PipelineError, with the way out: what `resolve_revision` raises; an unknown split or
    config; a loading script; files outside of the dataset; damaged data. Tokens are in no message.
    """
    found_token = _token(token)
    _configure()
    if Path(dataset).expanduser().is_dir():
        folder = Path(dataset).expanduser().absolute()
        if any((folder / name).is_file() for name in _SAVED):
            rows = _saved(folder, split)
        else:
            if (folder / f"{folder.name}.py").is_file():
                raise script_refused(dataset)
            rows = _built(str(folder), dataset, None, split, config, streaming, cache, None)
    else:
        # A commit keeps all parts of one run at one version, and it spares `datasets` questions.
        name, commit = _resolve(dataset, revision, token)
        rows = _built(name, dataset, commit, split, config, streaming, cache, found_token)
    return _numbered(rows, dataset, revision, found_token)


def _numbered(
    rows: Any, dataset: str, revision: str | None, token: str | None
) -> Iterator[tuple[int, dict[str, Any]]]:
    with explained(dataset, revision, token):
        yield from enumerate(rows)


def _resolve(dataset: str, revision: str | None, token: str | None) -> tuple[str, str]:
    """The name that a dataset of the Hub bears today, and the commit of a revision."""
    from huggingface_hub import HfApi

    if not is_dataset_id(dataset):
        raise UsageError(
            f"{dataset!r} is neither a folder nor the id of a dataset of the Hub.",
            "An id is a user or organization, a slash, and a name: roneneldan/TinyStories.",
        )
    api = HfApi(token=_token(token), library_name="bookshelf-llm")
    with explained(dataset, revision, api.token):
        info = _asked(api, dataset, revision)
    # A dataset that was renamed, or has a name from before there were users, is sent elsewhere.
    name, commit = str(info.id), str(info.sha)
    if not _HUB_ID.fullmatch(name) or not re.fullmatch("[0-9a-f]{40}", commit):
        raise PipelineError(
            f"{api.endpoint} does not answer as the Hub does about the dataset {dataset}.",
            "Check HF_ENDPOINT.",
        )
    if f"{name.rpartition('/')[2]}.py" in [file.rfilename for file in info.siblings or ()]:
        raise script_refused(dataset)
    return name, commit


# --- opening --------------------------------------------------------------------------------------


def _saved(folder: Path, split: str) -> Any:
    """The rows of a dataset that `save_to_disk` left; memory-mapped."""
    import datasets

    with explained(str(folder), None, None):
        saved = datasets.load_from_disk(str(folder))
        if isinstance(saved, datasets.DatasetDict):
            _check_split(str(folder), split, list(saved))
            saved = saved[split]
        return saved.to_iterable_dataset().decode(False)


def _built(
    path: str,
    shown: str,
    commit: str | None,
    split: str,
    config: str | None,
    streaming: bool,
    cache: Path,
    token: str | None,
) -> Any:
    """The rows of a folder of data files, here or on the Hub."""
    import datasets

    download = datasets.DownloadConfig(
        cache_dir=str(cache / "downloads"), token=token, disable_tqdm=True, max_retries=2
    )
    with explained(shown, commit, token):
        where: dict[str, Any] = {"revision": commit, "download_config": download}
        try:
            builder = datasets.load_dataset_builder(
                path, config, token=token, cache_dir=str(cache / "datasets"), **where
            )
        except ValueError:  # among others, for a configuration that has to be chosen better
            names = datasets.get_dataset_config_names(path, **where)
            if config is not None or len(names) > 1:
                _check_config(shown, config, names)
            raise
        if config is not None:  # a name that is not there may stand for one made on the spot
            _check_config(shown, config, list(builder.builder_configs) or ["default"])
        files = builder.config.data_files or {}
        _check_files(shown, files, f"hf://datasets/{path}@{commit}" if commit else path)
        _check_split(shown, split, [str(name) for name in files])
        if streaming:
            return builder.as_streaming_dataset(split=split).decode(False)
        builder.download_and_prepare(download_config=download)
        return builder.as_dataset(split=split).to_iterable_dataset().decode(False)


def _check_config(shown: str, config: str | None, there: list[str]) -> None:
    """PipelineError unless `config` is among those that are there, or none has to be chosen."""
    if config not in there:
        what = "several configurations" if config is None else f"no configuration {config!r}"
        raise PipelineError(
            f"The dataset {shown} has {what}; choose from: {', '.join(there)}.",
            "Name one with --subset.",
        )


def _check_split(shown: str, split: str, there: list[str]) -> None:
    if split not in there:
        raise PipelineError(
            f"The dataset {shown} has no split {split!r}; it has: {', '.join(there) or 'none'}.",
            "Choose one of these with --split.",
        )


def _check_files(shown: str, files: Any, root: str) -> None:
    """PipelineError unless all data files lie in the dataset: its card may name any."""
    for name in (str(name) for names in files.values() for name in names):
        # What is packed has a hop before its place: zip://*.json::hf://datasets/...
        *hops, place = name.split("::")
        if "://" not in place:
            place = os.path.abspath(place)  # noqa: PTH100  (links stay: the Hub's cache has them)
        inside = place.removeprefix(root.rstrip("/\\"))
        is_inside = inside != place and inside[:1] in ("/", "\\")
        is_inside &= all(hop.partition("://")[0] in _PACKED for hop in hops)
        if not is_inside or ".." in re.split(r"[/\\]", inside):
            raise PipelineError(
                f"The card of the dataset {shown} names a data file outside of the dataset.",
                "It is not read. Check who made this dataset.",
            )


# --- the library's manners ------------------------------------------------------------------------


def _configure() -> None:
    """Only our own progress shows, and `datasets` gives up in minutes and not in half an hour."""
    import datasets
    import huggingface_hub.utils

    datasets.disable_progress_bars()
    datasets.logging.set_verbosity_error()
    huggingface_hub.utils.disable_progress_bars()
    for name in ("huggingface_hub", "fsspec", "httpx"):
        logging.getLogger(name).setLevel(logging.ERROR)
    datasets.config.STREAMING_READ_MAX_RETRIES = STREAM_RETRIES
    datasets.config.STREAMING_OPEN_MAX_RETRIES = STREAM_RETRIES
    datasets.config.STREAMING_READ_RATE_LIMIT_RETRY_INTERVAL = RATE_LIMIT_WAIT


def _token(token: str | None) -> str | None:
    """`token`, else HF_TOKEN, else what `hf auth login` stored, else None."""
    from huggingface_hub import get_token

    return (token or "").strip() or get_token()


def _asked(api: "HfApi", dataset: str, revision: str | None) -> Any:
    """What the Hub says about a dataset, asked again where the trouble may pass."""
    import httpx

    for wait in RETRY_WAITS:
        try:
            return api.dataset_info(dataset, revision=revision, timeout=ASK_TIMEOUT)
        except httpx.TimeoutException:
            time.sleep(wait)
        except httpx.HTTPError as error:
            if getattr(getattr(error, "response", None), "status_code", None) not in _PASSING:
                raise
            time.sleep(wait)
    return api.dataset_info(dataset, revision=revision, timeout=ASK_TIMEOUT)

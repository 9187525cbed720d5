"""Adapters from the Hub and from a URL: the files of known names, and no others.

Weights in pickles and code are left where they are. Each file is looked into before the folder
bears its name.
"""

import shutil
from pathlib import Path
from typing import Any

from pipeline.console import say, warn
from pipeline.errors import PipelineError, UsageError
from pipeline.files import (
    fingerprint,
    is_disk_full,
    link_or_copy,
    read_json_object,
    sha256_file,
)
from pipeline.storage.door import Storage
from pipeline.storage.remote import Trouble
from pipeline.storage.urls import Entry, redact
from pipeline.training.base_model import may_be_on_hub
from pipeline.training.hub_files import download
from pipeline.training.saving import ADAPTER, ADAPTER_CONFIG, BASE_CHANGES
from pipeline.training.scored_models import check_adapter
from pipeline.training.scratch import scratch_folder

NEEDED = (ADAPTER_CONFIG, ADAPTER)
OBJECTS = (
    BASE_CHANGES, "tokenizer.json", "tokenizer_config.json", "special_tokens_map.json",
    "added_tokens.json", "vocab.json", "evaluation.json",
)  # fmt: skip
OTHERS = ("tokenizer.model", "merges.txt", "chat_template.jinja", "windows.json")
FILES = (*NEEDED, *OBJECTS, *OTHERS)
LARGEST = 256 * 2**20  # bytes of a file besides the weights


def fetch_hub(repo_id: str, revision: str | None, endpoint: str | None = None) -> Path:
    """The folder, in the Hub's own cache, with the adapter's files at that revision.

    Its name is the commit. Raises PipelineError: there is no such adapter, or it cannot be had.
    """
    if not may_be_on_hub(repo_id):
        raise PipelineError(
            f"The adapter {repo_id!r} is not there.", "Give a folder, a Hub id, or a URL."
        )
    say(f"Fetching the adapter {repo_id} from the Hub (kept in the Hub's own cache) ...")
    folder = download("adapter", repo_id, revision, endpoint, list(FILES), "give a folder")
    _look_into(folder, repo_id)
    return folder


def fetch_url(url: str, cache: Path) -> Path:
    """A folder in `cache` with the adapter whose files lie below `url` (http, s3://, gs://, hf://).

    `url` is their folder, or one of the two files that each adapter has. The folder here is named
    by the content, so the same adapter is there once.

    Raises PipelineError: a file is missing, too large, or not what its name says.
    """
    place = url.rstrip("/")
    for name in NEEDED:
        place = place.removesuffix(f"/{name}")
    if any(sign in place for sign in "?#*[]{}"):
        raise UsageError(
            f"{redact(url)} cannot name the folder of an adapter.",
            f"Give the address of the folder in which its {ADAPTER_CONFIG} lies, without"
            " parameters or patterns.",
        )
    say(f"Fetching the adapter {redact(url)} ...")
    try:
        with scratch_folder(cache / "adapters") as temporary:
            return _fetch_into(temporary, place, cache, redact(url))
    except OSError as error:
        if is_disk_full(error):
            raise PipelineError(f"The disk is full: no room for {redact(url)}.") from error
        raise


def _fetch_into(temporary: Path, place: str, cache: Path, shown: str) -> Path:
    """The folder that the fetched files have in the end, beside `temporary`."""
    with Storage(cache=cache / "objects") as storage:
        denied = [name for name in FILES if not _take(storage, f"{place}/{name}", temporary / name)]
    if denied:
        warn(
            f"{redact(place)} denies access to {', '.join(denied)}, as some stores do for what they"
            " do not have: the adapter is used without."
        )
    _look_into(temporary, shown)
    content = [[path.name, sha256_file(path)] for path in sorted(temporary.iterdir())]
    final = temporary.with_name(fingerprint(content)[:16])
    if not final.is_dir():
        try:
            temporary.rename(final)
        except OSError:  # another process may have been faster
            if not final.is_dir():
                raise
    return final


def _take(storage: Storage, address: str, path: Path) -> bool:
    """Fetch a file if it is there. False if that cannot be known, as access to it is denied: S3
    says so of what is missing, where not everybody may list it."""
    if path.name not in NEEDED:
        try:
            if not storage.exists(address):
                return True
        except Trouble as trouble:
            if not trouble.denied:
                raise
            return False
    _fetch(storage, address, path)
    return True


def _fetch(storage: Storage, address: str, path: Path) -> None:
    found = storage.expand(address)
    if len(found) != 1 or not found[0].url.endswith(f"/{path.name}"):
        raise PipelineError(f"{redact(address)} is a folder, not a file.")
    entry = found[0]
    if path.name == ADAPTER:
        _check_room(entry, path)
        link_or_copy(storage.local_copy(entry), path)
        return
    with storage.open(entry) as source, path.open("wb") as target:
        left = LARGEST + 1
        while left > 0 and (data := source.read(min(left, 1 << 20))):
            target.write(data)
            left -= len(data)
    if left <= 0:
        raise PipelineError(
            f"{entry.shown} is larger than {LARGEST // 2**20} MB, which no {path.name} is."
        )


def _check_room(entry: Entry, path: Path) -> None:
    free = shutil.disk_usage(path.parent).free
    if entry.size is not None and entry.size > free:
        raise PipelineError(
            f"{entry.shown} has {entry.size / 1e9:,.2f} GB, and only {free / 1e9:,.2f} GB are free"
            f" in {path.parent.parent}: {(entry.size - free) / 1e9:,.2f} GB are missing.",
            "Make room, or use another --data-dir.",
        )


def _look_into(folder: Path, shown: str) -> None:
    """Raise PipelineError unless each file is what its name says."""
    for name in NEEDED:
        if not (folder / name).is_file():
            raise PipelineError(
                f"{shown} holds no adapter that can be used: {name} is missing.",
                "Weights in other formats (*.bin) can run code when loaded: convert them first.",
            )
    for name in (ADAPTER_CONFIG, *OBJECTS):
        if (folder / name).is_file():
            _read(folder / name, shown)
    check_adapter(folder)


def _read(path: Path, shown: str) -> dict[str, Any]:
    try:
        return read_json_object(path)
    except (PipelineError, RecursionError) as error:
        raise PipelineError(
            f"{path.name} of {shown} is no JSON object: is there an adapter at this address?"
        ) from error

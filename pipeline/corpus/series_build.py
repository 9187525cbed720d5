"""Building a series of segment lists: the keys of documents, shared out over JSON arrays."""

import gzip
import hashlib
import json
import re
from collections.abc import Iterable
from typing import Protocol

from pipeline.console import many
from pipeline.corpus.series import StorageLike
from pipeline.corpus.series_keys import canonical_url, key_trouble, root_of, segment_url, short
from pipeline.errors import PipelineError, UsageError
from pipeline.storage.urls import redact


class EntryLike(Protocol):
    """An object of a storage: its address, its size in bytes, and what changes when it does."""

    @property
    def url(self) -> str: ...
    @property
    def size(self) -> int | None: ...
    @property
    def version(self) -> str | None: ...


def build_series(
    documents: Iterable[str | EntryLike],
    pattern: str,
    segments: int,
    storage: StorageLike,
    *,
    base: str | None = None,
    seed: int | None = None,
    overwrite: bool = False,
    first: int = 1,
) -> list[str]:
    """Write the keys of `documents` as a series of lists of nearly equal length.

    Args:
        documents: addresses of objects below `base`, as strings or entries of the storage. One
            that comes twice is listed once; lists of this very series are left out.
        pattern: address of the lists; they are gzip where it ends in `.gz`.
        segments: how many lists, from 1 to the number of documents.
        storage: where the lists are written.
        base: as for `read_series`.
        seed: None for sorted keys, else for the order in which they are shuffled. Equal documents
            and seed give equal bytes.
        overwrite: whether lists that are there may be replaced.
        first: the first segment's number, 0 or 1.

    Returns the addresses of the lists, in order.

    Raises:
        UsageError: the pattern or a number makes no sense.
        PipelineError: nothing to list, more segments than documents, a document that is not below
            `base`, or lists in the way.
    """
    if first not in (0, 1) or segments < 1:
        raise UsageError("A series has one segment or more, and starts at number 0 or 1.")
    root = root_of(pattern, base)
    keys = _keys_to_list(documents, pattern, root)
    if segments > len(keys):
        raise PipelineError(
            f"{many(len(keys), 'document')} cannot fill {many(segments, 'segment')} of a series.",
            "Ask for fewer segments, or check where the documents are looked for.",
        )
    keys.sort(key=lambda key: key if seed is None else _shuffled(seed, key))
    urls = [segment_url(pattern, first + index) for index in range(segments)]
    replaced = _check_free(pattern, urls, storage, first, overwrite)
    size, longer = divmod(len(keys), segments)
    starts = [index * size + min(index, longer) for index in range(segments + 1)]
    if replaced:  # until all lists are new, reading stops at the first one
        storage.write(urls[0], b"")
    # The first list comes last: a series that was not finished has no beginning, and is refused.
    for index in reversed(range(segments)):
        data = _as_list(keys[starts[index] : starts[index + 1]])
        is_packed = urls[index].endswith(".gz")
        storage.write(urls[index], gzip.compress(data, mtime=0) if is_packed else data)
    return urls


def _keys_to_list(documents: Iterable[str | EntryLike], pattern: str, root: str) -> list[str]:
    """The documents' keys below `root`, each once."""
    parts = re.split(r"\{segment_number[^}]*\}", canonical_url(pattern))
    is_own_list = re.compile(r"\d+".join(map(re.escape, parts)))
    keys = set()
    for document in documents:
        url = canonical_url(document if isinstance(document, str) else document.url)
        if is_own_list.fullmatch(url):
            continue
        key = url.removeprefix(f"{root}/")
        if key == url:
            raise PipelineError(
                f"{redact(url)} is not below {redact(root)}, so no list there can name it.",
                "Give --base the bucket or folder that holds all the documents.",
            )
        if trouble := key_trouble(key, is_local="://" not in root):
            raise PipelineError(f"{short(url)} cannot be listed: it {trouble}.", "Rename it.")
        keys.add(key)
    return list(keys)


def _shuffled(seed: int, key: str) -> str:
    """Where `key` comes in a shuffled order: by its own hash, so that others do not move it."""
    return hashlib.sha256(f"{seed}:{key}".encode()).hexdigest()


def _check_free(
    pattern: str, urls: list[str], storage: StorageLike, first: int, overwrite: bool
) -> bool:
    """Whether lists are to be replaced; PipelineError if they may not be, or others would join."""
    end = first + len(urls)
    # Neighbours that reading would take for a part of this series, or for one after a gap.
    for number in [*range(first), end, end + 1]:
        url = segment_url(pattern, number)
        if storage.exists(url):
            raise PipelineError(
                f"{redact(url)} is there and would be taken for a part of the new series.",
                "Delete the old lists, or choose another pattern.",
            )
    taken = next((url for url in urls if storage.exists(url)), None)
    if taken and not overwrite:
        raise PipelineError(
            f"{redact(taken)} is there already.",
            "Choose another pattern, or replace the old lists with --overwrite.",
        )
    return taken is not None


def _as_list(keys: list[str]) -> bytes:
    """The keys as a JSON array with one key a line, so that two versions can be compared."""
    return json.dumps(keys, ensure_ascii=False, indent=0).encode() + b"\n"

"""Series of segment lists: which objects of a bucket, or files of a folder, make up a data set.

A series is a pattern such as `s3://bucket/lists/part_{segment_number}.json.gz`. Each segment is a
JSON array, gzip or not, of object keys. Segments are numbered from 0 or 1 and end at the first
number that is not there.

`series_build` writes such lists; `series_keys` has what may stand in them, which is not trusted.
"""

import gzip
import json
import zlib
from collections.abc import Collection, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from io import BytesIO
from typing import Any, Literal, Protocol

from pipeline.console import many, warn
from pipeline.corpus.series_keys import full_key, root_of, segment_url
from pipeline.errors import PipelineError, UsageError
from pipeline.storage.urls import redact

LARGEST_LIST = 512 * 2**20  # bytes of JSON in one segment: some five million keys

MissingKeys = Literal["fail", "skip", "unchecked"]

_LOOKUPS = 32  # keys looked up at the same time
_LOOKUP_BATCH = 4096  # keys handed to the threads at a time: a list may have millions


class StorageLike(Protocol):
    """What a series needs of `pipeline.storage.Storage`; `exists` is called from several threads.

    Each method raises PipelineError for what the storage refuses.
    """

    def exists(self, url: str) -> bool: ...
    def expand(self, pattern: str, suffixes: Collection[str] | None = None) -> Sequence[Any]: ...
    def read(self, entry: Any) -> bytes: ...
    def write(self, url: str, data: bytes) -> None: ...


@dataclass(frozen=True)
class Segment:
    """One list of a series: its number, and the full addresses of its objects in their order."""

    number: int
    keys: list[str]


def read_series(
    pattern: str,
    storage: StorageLike,
    *,
    missing_keys: MissingKeys = "fail",
    base: str | None = None,
    first: int | None = None,
) -> Iterator[Segment]:
    """The segments of a series in order; a key that was listed before is left out, with a warning.

    Args:
        pattern: address of the lists, with `{segment_number}`.
        storage: where lists and objects are.
        missing_keys: what to do about a key whose object is not there: "fail", "skip" (with a
            warning), or "unchecked" for callers that find out when they read it.
        base: what keys are relative to. By default the bucket for s3:// and gs://, else the folder
            of the lists.
        first: the first segment's number; by default 0 if there is such a segment, else 1.

    Raises:
        UsageError: the pattern or `missing_keys` makes no sense.
        PipelineError: no segment is there, one is missing between others, one is damaged or is no
            list of keys, a key points out of `base`, or (with "fail") to nothing.
    """
    if missing_keys not in ("fail", "skip", "unchecked"):
        raise UsageError(f"missing_keys {missing_keys!r} is not one of fail, skip, unchecked.")
    root = root_of(pattern, base)
    numbers = _numbers(pattern, storage, first)
    # A generator of its own, so that the checks above happen at the call and not at the first item.
    return _segments(pattern, numbers, storage, root, missing_keys)


def _numbers(pattern: str, storage: StorageLike, first: int | None) -> range:
    """The numbers of the segments that are there; PipelineError if none, or if one is missing."""
    candidates = (0, 1) if first is None else (first,)
    there = (n for n in candidates if storage.exists(segment_url(pattern, n)))
    start = next(there, None)
    if start is None:
        names = " nor ".join(redact(segment_url(pattern, n)) for n in candidates)
        raise PipelineError(
            f"The series {redact(pattern)} has no segments: there is "
            f"{'neither ' if first is None else 'no '}{names}.",
            "Check the pattern, and who may read the lists.",
        )
    end = start + 1
    while storage.exists(segment_url(pattern, end)):
        end += 1
    if storage.exists(segment_url(pattern, end + 1)):
        raise PipelineError(
            f"The series {redact(pattern)} has a gap: segment {end} is missing and segment "
            f"{end + 1} is there.",
            "Put the missing list in its place, or build the series again.",
        )
    return range(start, end)


def _segments(
    pattern: str, numbers: range, storage: StorageLike, root: str, missing_keys: MissingKeys
) -> Iterator[Segment]:
    seen: set[str] = set()
    doubled = missing = 0
    for number in numbers:
        url = segment_url(pattern, number)
        listed = _read_list(url, storage)
        if not listed:
            warn(f"{redact(url)} is an empty list.")
        keys = []
        for position, item in enumerate(listed, 1):
            key = full_key(item, root, f"item {position} of {redact(url)}")
            if key in seen:
                doubled += 1
            else:
                seen.add(key)
                keys.append(key)
        if missing_keys != "unchecked":
            before = len(keys)
            keys = _existing(keys, storage, url, missing_keys)
            missing += before - len(keys)
        yield Segment(number, keys)
    if missing:
        what = many(missing, "key points", "keys point")
        warn(f"{redact(pattern)}: {what} to nothing, skipped.")
    if doubled:
        what = many(doubled, "key was", "keys were")
        warn(f"{redact(pattern)}: {what} listed before: each is taken once.")


def _read_list(url: str, storage: StorageLike) -> list[Any]:
    """The array that a segment holds; PipelineError if it is none."""
    entries = storage.expand(url)
    if len(entries) != 1:
        raise PipelineError(f"{redact(url)} is not one file.")
    entry = entries[0]
    if (entry.size or 0) > LARGEST_LIST:
        raise PipelineError(f"The list {redact(url)} is larger than {LARGEST_LIST // 2**20} MB.")
    data = _unpacked(storage.read(entry), url)
    try:
        value = json.loads(data)
    except (ValueError, RecursionError) as error:
        what = f"is not JSON ({error})" if data.strip() else "is an empty file"
        raise PipelineError(
            f"The list {redact(url)} {what}.", "A segment is a JSON array of object keys."
        ) from error
    if not isinstance(value, list):
        raise PipelineError(
            f"The list {redact(url)} holds no JSON array.",
            'A segment is an array of object keys, such as ["books/1.txt", "books/2.txt"].',
        )
    return value


def _unpacked(data: bytes, url: str) -> bytes:
    """`data`, out of its gzip if it is in one, and no more of it than a list may have."""
    if not data.startswith(b"\x1f\x8b"):
        return data
    try:
        with gzip.GzipFile(fileobj=BytesIO(data)) as file:
            plain = file.read(LARGEST_LIST + 1)
    except (OSError, EOFError, zlib.error) as error:
        raise PipelineError(f"The list {redact(url)} is damaged gzip: {error}.") from error
    if len(plain) > LARGEST_LIST:
        raise PipelineError(
            f"The list {redact(url)} unpacks to more than {LARGEST_LIST // 2**20} MB."
        )
    return plain


def _existing(
    keys: list[str], storage: StorageLike, url: str, missing_keys: MissingKeys
) -> list[str]:
    """The keys whose object is there; PipelineError for the first that is not, unless skipped."""
    with ThreadPoolExecutor(_LOOKUPS) as pool:
        there = [storage.exists(key) for key in keys[:1]]  # alone: it may open the connection
        for start in range(1, len(keys), _LOOKUP_BATCH):
            there += pool.map(storage.exists, keys[start : start + _LOOKUP_BATCH])
    if missing_keys == "fail" and not all(there):
        lost = keys[there.index(False)]
        raise PipelineError(
            f"{redact(lost)}, listed in {redact(url)}, is not there "
            f"({there.count(False):,} of its {len(keys):,} keys are missing).",
            "Build the series again, or leave out what is missing with --missing-keys skip.",
        )
    return [key for key, is_there in zip(keys, there, strict=True) if is_there]

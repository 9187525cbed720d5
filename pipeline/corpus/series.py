"""Series of segment lists: which objects of a bucket, or files of a folder, make up a data set.

A series is a pattern such as `s3://bucket/lists/part_{segment_number}.json.gz`. Each segment is a
JSON array, gzip or not, of object keys. Segments are numbered from 0 or 1 and end at the first
number that is not there.

Whoever may write to the bucket may write the lists, so a key is not trusted: it can name an object
of the bucket (or a file of the folder) and nothing else.
"""

import gzip
import hashlib
import json
import re
import unicodedata
import zlib
from collections.abc import Collection, Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from io import BytesIO
from pathlib import Path, PureWindowsPath
from typing import Any, Literal, Protocol

from pipeline.console import warn
from pipeline.errors import PipelineError, UsageError
from pipeline.urls import canonical, redact, scheme

EXAMPLE = "s3://bucket/lists/part_{segment_number}.json.gz"
LARGEST_LIST = 512 * 2**20  # bytes of JSON in one segment: some five million keys

MissingKeys = Literal["fail", "skip", "unchecked"]

_PLACEHOLDER = re.compile(r"\{segment_number(?::0(?P<width>[1-9])d?)?\}")
_BUCKETS = ("s3", "gs")  # where keys are counted from the bucket, by custom
_LOOKUPS = 32  # keys looked up at the same time
_LOOKUP_BATCH = 4096  # keys handed to the threads at a time: a list may have millions


class EntryLike(Protocol):
    """An object of a storage: its address, its size in bytes, and what changes when it does."""

    @property
    def url(self) -> str: ...
    @property
    def size(self) -> int | None: ...
    @property
    def version(self) -> str | None: ...


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


def segment_url(pattern: str, number: int) -> str:
    """The address of a segment: `pattern` with its number in place of `{segment_number}`.

    `{segment_number:05}` (or `:05d`) pads with zeros. Raises UsageError for a pattern without the
    placeholder, or with other braces.
    """
    found = list(_PLACEHOLDER.finditer(pattern))
    rest = _PLACEHOLDER.sub("", pattern)
    if not found or "{" in rest or "}" in rest:
        what = "has braces other than" if found else "has no"
        raise UsageError(
            f"The series {redact(pattern)!r} {what} {{segment_number}}.",
            f"It stands where the number of the list goes: {EXAMPLE}",
        )
    return _PLACEHOLDER.sub(lambda match: f"{number:0{match['width'] or 1}d}", pattern)


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
    root = _root(pattern, base)
    numbers = _numbers(pattern, storage, first)
    # A generator of its own, so that the checks above happen at the call and not at the first item.
    return _segments(pattern, numbers, storage, root, missing_keys)


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
    root = _root(pattern, base)
    keys = _keys_to_list(documents, pattern, root)
    if segments > len(keys):
        raise PipelineError(
            f"{len(keys):,} documents do not fill {segments:,} segments of a series.",
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


# --- reading --------------------------------------------------------------------------------------


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
            key = _full(item, root, f"item {position} of {redact(url)}")
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
        warn(f"{missing:,} keys of {redact(pattern)} point to nothing and were skipped.")
    if doubled:
        warn(f"{doubled:,} keys of {redact(pattern)} were listed before: each is taken once.")


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


# --- keys -----------------------------------------------------------------------------------------


def _root(pattern: str, base: str | None) -> str:
    """What keys are relative to, without a slash at its end: an address or an absolute path."""
    url = segment_url(pattern, 0)
    if base is not None:
        root = _canonical(base)
    elif scheme(url) in _BUCKETS:
        root = "/".join(_canonical(url).split("/")[:3])
    else:
        root = _canonical(url).rpartition("/")[0]
    return root.rstrip("/")


def _canonical(url: str) -> str:
    """The one spelling of an address, as a storage lists it; of a local path with slashes."""
    url = canonical(url)
    return url if "://" in url else Path(url).as_posix()


def _full(item: object, root: str, place: str) -> str:
    """The address of a listed key; PipelineError if it is none, or leads out of `root`."""
    if not isinstance(item, str):
        raise PipelineError(
            f"There is no key but {type(item).__name__} at {place}.",
            "A segment is a JSON array of strings.",
        )
    key = item.removeprefix(f"{root}/") if "://" in item else item
    if trouble := _trouble(key, is_local="://" not in root):
        raise PipelineError(
            f"The key {_short(item)} {trouble}, at {place}.",
            f"Keys are relative to {redact(root)}; remove it.",
        )
    return f"{root}/{key}"


def _trouble(key: str, *, is_local: bool) -> str | None:
    """What is wrong with a key, if anything is."""
    if not key or key.endswith("/"):
        return "names no object"
    if any(unicodedata.category(character) in ("Cc", "Cs") for character in key):
        return "has control characters"
    if "\\" in key:
        return "has a backslash"
    if "://" in key or "::" in key:  # fsspec reads `a::b` as one address inside another
        return "is an address elsewhere"
    if key.startswith("/") or (is_local and PureWindowsPath(key).drive):
        return "is absolute"
    if {".", ".."} & set(key.split("/")):
        return "has `.` or `..` in its path"
    if is_local and "//" in key:
        return "has an empty name in its path"
    return None


def _keys_to_list(documents: Iterable[str | EntryLike], pattern: str, root: str) -> list[str]:
    """The documents' keys below `root`, each once."""
    parts = re.split(r"\{segment_number[^}]*\}", _canonical(pattern))
    is_own_list = re.compile(r"\d+".join(map(re.escape, parts)))
    keys = set()
    for document in documents:
        url = _canonical(document if isinstance(document, str) else document.url)
        if is_own_list.fullmatch(url):
            continue
        key = url.removeprefix(f"{root}/")
        if key == url:
            raise PipelineError(
                f"{redact(url)} is not below {redact(root)}, so no list there can name it.",
                "Give --base the bucket or folder that holds all the documents.",
            )
        if trouble := _trouble(key, is_local="://" not in root):
            raise PipelineError(f"{_short(url)} cannot be listed: it {trouble}.", "Rename it.")
        keys.add(key)
    return list(keys)


def _shuffled(seed: int, key: str) -> str:
    """Where `key` comes in a shuffled order: by its own hash, so that others do not move it."""
    return hashlib.sha256(f"{seed}:{key}".encode()).hexdigest()


# --- writing --------------------------------------------------------------------------------------


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


# --- words ----------------------------------------------------------------------------------------


def _short(text: str) -> str:
    """A key as it may be shown: without a secret, on one line, of bearable length."""
    line = repr(redact(text))
    return line if len(line) <= 120 else f"{line[:110]}…{line[-9:]}"

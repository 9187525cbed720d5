"""The names of a series: addresses of its segments, and the keys that stand in them.

Whoever may write to the bucket may write the lists, so a key is not trusted: it can name an object
of the bucket (or a file of the folder) and nothing else.
"""

import re
import unicodedata
from pathlib import Path, PureWindowsPath

from pipeline.errors import PipelineError, UsageError
from pipeline.storage.urls import canonical, redact, scheme

EXAMPLE = "s3://bucket/lists/part_{segment_number}.json.gz"

_PLACEHOLDER = re.compile(r"\{segment_number(?::0(?P<width>[1-9])d?)?\}")
_BUCKETS = ("s3", "gs")  # where keys are counted from the bucket, by custom


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


def root_of(pattern: str, base: str | None) -> str:
    """What keys are relative to, without a slash at its end: an address or an absolute path."""
    url = segment_url(pattern, 0)
    if base is not None:
        root = canonical_url(base)
    elif scheme(url) in _BUCKETS:
        root = "/".join(canonical_url(url).split("/")[:3])
    else:
        root = canonical_url(url).rpartition("/")[0]
    return root.rstrip("/")


def canonical_url(url: str) -> str:
    """The one spelling of an address, as a storage lists it; of a local path with slashes."""
    url = canonical(url)
    return url if "://" in url else Path(url).as_posix()


def full_key(item: object, root: str, place: str) -> str:
    """The address of a listed key; PipelineError if it is none, or leads out of `root`."""
    if not isinstance(item, str):
        raise PipelineError(
            f"There is no key but {type(item).__name__} at {place}.",
            "A segment is a JSON array of strings.",
        )
    key = item.removeprefix(f"{root}/") if "://" in item else item
    if trouble := key_trouble(key, is_local="://" not in root):
        raise PipelineError(
            f"The key {short(item)} {trouble}, at {place}.",
            f"Keys are relative to {redact(root)}; remove it.",
        )
    return f"{root}/{key}"


def key_trouble(key: str, *, is_local: bool) -> str | None:
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


def short(text: str) -> str:
    """A key as it may be shown: without a secret, on one line, of bearable length."""
    line = repr(redact(text))
    return line if len(line) <= 120 else f"{line[:110]}…{line[-9:]}"

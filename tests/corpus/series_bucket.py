"""A bucket that is a folder, with a series of lists in it."""

import gzip
import json
import tempfile
from collections.abc import Collection, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from pipeline.corpus.series import Segment, read_series
from pipeline.corpus.series_keys import segment_url

PATTERN = "s3://bucket/lists/part_{segment_number}.json.gz"


@dataclass(frozen=True)
class Entry:
    url: str
    size: int | None
    version: str | None = None


class Bucket:
    """A storage whose `s3://bucket/` is a folder; local paths are themselves."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.written: list[str] = []

    def path(self, url: str) -> Path:
        assert url.startswith("s3://bucket/") or "://" not in url, url
        return self.folder / url.removeprefix("s3://bucket/")

    def exists(self, url: str) -> bool:
        return self.path(url).is_file()

    def expand(self, pattern: str, suffixes: Collection[str] | None = None) -> list[Entry]:
        return [Entry(pattern, self.path(pattern).stat().st_size)]

    def read(self, entry: Any) -> bytes:
        return self.path(entry.url).read_bytes()

    def write(self, url: str, data: bytes) -> None:
        self.written.append(url)
        self.path(url).parent.mkdir(parents=True, exist_ok=True)
        self.path(url).write_bytes(data)


def put(bucket: Bucket, number: int, value: object, pattern: str = PATTERN) -> None:
    bucket.write(segment_url(pattern, number), gzip.compress(json.dumps(value).encode()))


def read(bucket: Bucket, pattern: str = PATTERN, **options: Any) -> list[Segment]:
    return list(read_series(pattern, bucket, **{"missing_keys": "unchecked", **options}))


def keys(segments: list[Segment]) -> list[str]:
    return [key for segment in segments for key in segment.keys]


@contextmanager
def local_bucket() -> Iterator[Bucket]:
    """A bucket of its own for each example of a property."""
    with tempfile.TemporaryDirectory() as folder:
        yield Bucket(Path(folder))

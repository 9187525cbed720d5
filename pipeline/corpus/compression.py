"""Compressed files as streams: flat memory, read to the very end, and damage is told of.

The standard library ignores what follows the first stream of a bz2 or xz file if it does not look
like another one, so a flipped bit there would lose the rest of a file without a word. These two
are therefore unpacked here, stream by stream. zstd comes from pyarrow, which is installed anyway.
"""

import bz2
import gzip
import io
import lzma
import zlib
from collections.abc import Callable
from typing import Any, BinaryIO, cast

from pipeline.errors import PipelineError

SUFFIXES = (".gz", ".bz2", ".xz", ".zst")

_CHUNK = 256 * 1024  # bytes read at once
_XZ_MEMORY = 256 * 1024 * 1024  # bytes; `xz -9` needs 65 MB, a hostile file may ask for 4 GB


class DamagedFile(PipelineError):
    """A file that cannot be unpacked to its end. `name` is the file and `reason` says why;
    `after` is the last place that could be read, such as "line 12"."""

    def __init__(self, name: str, reason: str, after: str | None = None) -> None:
        place = f" after {after}" if after else ""
        super().__init__(f"{name} is damaged{place}: {reason}.", "Fetch or write the file again.")
        self.name = name
        self.reason = reason


def is_compressed(name: str) -> bool:
    """Whether the name of a file says that it is compressed."""
    return bool(_suffix(name))


def plain_name(name: str) -> str:
    """`name` without the suffix of its compression: "x.jsonl.gz" -> "x.jsonl"."""
    return name[: len(name) - len(_suffix(name))]


def decompressed(stream: BinaryIO, name: str) -> BinaryIO:
    """The unpacked bytes of `stream`; `stream` itself if `name` has no suffix of a compression.

    Members of a gzip file, streams of bz2 and xz, and frames of zstd are read one after the other,
    to the last. Closing the result closes `stream`. Reading raises DamagedFile, a PipelineError,
    if the bytes are cut off or damaged; what `stream` itself raises is passed on.
    """
    suffix = _suffix(name)
    if not suffix:
        return stream
    return cast(BinaryIO, io.BufferedReader(_Unpacked(stream, name, suffix), _CHUNK))


def _suffix(name: str) -> str:
    lower = name.lower()
    return next((suffix for suffix in SUFFIXES if lower.endswith(suffix)), "")


class _Source:
    """The packed bytes. Remembers what went wrong in reading them, so that a broken connection
    is not taken for a damaged file, whatever the unpacking library makes of the exception."""

    closed = False  # pyarrow asks

    def __init__(self, stream: BinaryIO) -> None:
        self._stream = stream
        self.failure: Exception | None = None
        self.is_empty = True

    def read(self, size: int = -1) -> bytes:
        try:
            data = self._stream.read(size) or b""
        except Exception as error:
            self.failure = error
            raise
        self.is_empty = self.is_empty and not data
        return data

    def readable(self) -> bool:
        return True

    def close(self) -> None:
        """Nothing: whoever made the stream closes it."""


class _Unpacked(io.RawIOBase):
    """The unpacked bytes, its errors turned into ours."""

    def __init__(self, stream: BinaryIO, name: str, suffix: str) -> None:
        super().__init__()
        self._stream = stream
        self._name = name
        self._source = _Source(stream)
        self._inner = _open(self._source, suffix)

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: Any) -> int:
        try:
            data = self._inner.read(len(buffer))
        except (EOFError, OSError, zlib.error, lzma.LZMAError) as error:
            if self._source.failure is not None:
                raise self._source.failure from None
            raise DamagedFile(self._name, _reason(error)) from error
        if not data and self._source.is_empty:
            raise DamagedFile(self._name, "it is empty")
        buffer[: len(data)] = data
        return len(data)

    def close(self) -> None:
        if not self.closed:
            super().close()
            try:
                self._inner.close()
            finally:
                self._stream.close()


def _open(source: _Source, suffix: str) -> Any:
    """Something with `read(size)` and `close()`."""
    if suffix == ".gz":
        return gzip.GzipFile(fileobj=cast(BinaryIO, source), mode="rb")
    if suffix == ".bz2":
        return _Streams(source, bz2.BZ2Decompressor)
    if suffix == ".xz":
        return _Streams(source, lambda: lzma.LZMADecompressor(lzma.FORMAT_XZ, memlimit=_XZ_MEMORY))
    import pyarrow as pa

    return pa.CompressedInputStream(pa.PythonFile(source, mode="r"), "zstd")


class _Streams:
    """bz2 or xz streams, one after the other; zeros between and after them are padding."""

    def __init__(
        self, source: _Source, start: Callable[[], bz2.BZ2Decompressor | lzma.LZMADecompressor]
    ) -> None:
        self._source = source
        self._start = start
        self._unpacker = start()

    def read(self, size: int) -> bytes:
        """1 to `size` bytes; none at the end. Raises EOFError within a stream."""
        while True:
            packed = b""
            if self._unpacker.eof:
                packed = self._next_stream()
                if not packed:
                    return b""
                self._unpacker = self._start()
            elif self._unpacker.needs_input:
                packed = self._source.read(_CHUNK)
                if not packed:
                    raise EOFError
            data = self._unpacker.decompress(packed, size)
            if data:
                return data

    def _next_stream(self) -> bytes:
        """The first bytes of the next stream; none if there is no other."""
        packed = self._unpacker.unused_data.lstrip(b"\0")
        while not packed:
            chunk = self._source.read(_CHUNK)
            if not chunk:
                return b""
            packed = chunk.lstrip(b"\0")
        return packed

    def close(self) -> None:
        """Nothing to give back."""


def _reason(error: Exception) -> str:
    said = str(error).splitlines()[0].rstrip(".") if str(error) else ""
    if isinstance(error, EOFError) or "Truncated" in said:
        return "its compressed data is cut off"
    return f"its compressed data is not whole ({said})"

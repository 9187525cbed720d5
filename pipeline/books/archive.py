"""Books out of Project Gutenberg's weekly archive of all texts, read as a stream.

The archive is a zip of some 10 GB that holds one tar of `cache/epub/N/pgN.txt` files. It is read
forward once, from a file or from the network, and stops at the last book wanted: neither the
disk nor the memory ever holds it. Python's zipfile wants to seek, so the zip's local headers are
read here; the tar inside is tarfile's. A .tar or .tar.gz of the same files will do as well.
"""

import re
import struct
import tarfile
import zlib
from collections.abc import Callable, Collection, Iterator
from contextlib import closing
from http.client import HTTPException
from typing import BinaryIO, Protocol, Self

from pipeline.console import say, warn
from pipeline.errors import PipelineError
from pipeline.storage.urls import redact

LARGEST_MEMBER = 64 * 1024 * 1024  # bytes; the largest plain text of the catalogue has some 30 MB

_MEMBER = re.compile(r"(?:\./)?cache/epub/([1-9][0-9]{0,8})/pg\1\.txt")
_CHUNK = 64 * 1024  # bytes read at once
_WHERE_FROM = "Give the weekly archive of all texts (txt-files.tar.zip) with --archive."
_BROKEN_OFF = "What was read so far is kept; give a whole copy of the archive with --archive."


def read_archive(
    stream: BinaryIO,
    name: str,
    wanted: Collection[int],
    on_bytes: Callable[[int], None] | None = None,
) -> Iterator[tuple[int, bytes]]:
    """The numbers and bytes of the books `wanted` that the archive has, in the archive's order.

    `stream` is read forward and need not be seekable; it is left open, and not read beyond the
    last book wanted. `name`, a path or an address, is for messages. `on_bytes` is told how many
    bytes of the archive each read took. Only regular files of exactly the name
    `cache/epub/N/pgN.txt` count, the first of several; one above 64 MB is passed over with a word.

    Raises PipelineError that names the archive and says how far it was read: if it is damaged,
    breaks off, is encrypted or is no such archive. Books that came before that are whole.
    """
    left = set(wanted)
    if not left:
        return
    source = _Source(stream, redact(name), on_bytes)
    try:
        yield from _books(source, left)
    except (tarfile.TarError, zlib.error, ValueError, OverflowError) as error:
        raise source.failure(f"is damaged ({error})", _BROKEN_OFF) from error


def _books(source: "_Source", left: set[int]) -> Iterator[tuple[int, bytes]]:
    tar = _open_inner(source)
    strange = 0
    with closing(
        tarfile.open(mode="r|", fileobj=tar, tarinfo=_Entry, bufsize=_CHUNK)  # type: ignore[call-overload]
    ) as members:
        while (member := members.next()) is not None:
            members.members.clear()  # tarfile remembers every member, and there are 75,000
            match = _MEMBER.fullmatch(member.name)
            if match is None or member.type not in (tarfile.REGTYPE, tarfile.AREGTYPE):
                strange += not member.isdir()
                continue
            number = int(match[1])
            if number not in left:
                continue
            left.remove(number)
            if member.size > LARGEST_MEMBER:
                size = f"{member.size / 2**20:,.0f} MB"
                warn(f"Book {number} is passed over: its file in {source.name} has {size}.")
            else:
                text = members.extractfile(member).read()
                source.found += 1
                yield number, text
            if not left:
                return
    tar.finish()
    if strange:
        say(f"{strange:,} entries of {source.name} are no texts of books and were passed over.")


class _Entry(tarfile.TarInfo):
    """A tar header that is refused where tarfile would take the damage for the archive's end, or
    would read any amount into memory for the sake of a name."""

    _LONGEST_NAME = 1024 * 1024  # bytes of extended headers
    _EXTENDED = (
        tarfile.XHDTYPE, tarfile.XGLTYPE, tarfile.SOLARIS_XHDTYPE,
        tarfile.GNUTYPE_LONGNAME, tarfile.GNUTYPE_LONGLINK,
    )  # fmt: skip

    @classmethod
    def frombuf(cls, buf: bytes | bytearray, encoding: str, errors: str) -> Self:
        entry = super().frombuf(buf, encoding, errors)
        too_long = entry.type in cls._EXTENDED and entry.size > cls._LONGEST_NAME
        if too_long or entry.size < 0 or entry.type == tarfile.GNUTYPE_SPARSE:
            raise tarfile.ReadError("a header makes no sense")
        return entry

    @classmethod
    def fromtarfile(cls, archive: tarfile.TarFile) -> Self:
        try:
            return super().fromtarfile(archive)
        except tarfile.EOFHeaderError:  # type: ignore[attr-defined]
            raise
        except tarfile.HeaderError as error:
            raise tarfile.ReadError(str(error)) from error


# --- the bytes of the archive, and what is packed in them ----------------------------------------


class _Source:
    """The archive's bytes, counted; what was read too far can be put back."""

    def __init__(self, stream: BinaryIO, name: str, on_bytes: Callable[[int], None] | None) -> None:
        self.name = name
        self.found = 0  # books
        self._stream = stream
        self._on_bytes = on_bytes
        self._count = 0
        self._back = b""

    def read(self, size: int) -> bytes:
        """At most `size` bytes, none at the end."""
        if self._back:
            data, self._back = self._back[:size], self._back[size:]
            return data
        try:
            data = self._stream.read(size) or b""
        except (OSError, EOFError, HTTPException) as error:
            raise self.failure(
                f"cannot be read on ({type(error).__name__})", _BROKEN_OFF
            ) from error
        self._count += len(data)
        if self._on_bytes is not None and data:
            self._on_bytes(len(data))
        return data

    def exactly(self, size: int) -> bytes:
        """`size` bytes; raises PipelineError if there are fewer."""
        data = b""
        while len(data) < size:
            more = self.read(size - len(data))
            if not more:
                raise self.broken_off()
            data += more
        return data

    def put_back(self, data: bytes) -> None:
        self._back = data + self._back

    def failure(self, what: str, hint: str | None = None) -> PipelineError:
        books = "1 book" if self.found == 1 else f"{self.found:,} books"
        return PipelineError(f"{self.name} {what}: read {self._count:,} bytes and {books}.", hint)

    def broken_off(self) -> PipelineError:
        return self.failure("breaks off", _BROKEN_OFF)


class _Packed(Protocol):
    """The tar, unpacked as it is read."""

    def read(self, size: int) -> bytes: ...

    def finish(self) -> None:
        """Read the rest and check it; raises PipelineError if it is damaged."""


class _Inflated:
    """A deflated stream; `window` is zlib's `wbits` (negative for a zip, 31 for gzip)."""

    def __init__(self, source: _Source, window: int, crc: int | None = None, late: bool = False):
        self._source = source
        self._engine = zlib.decompressobj(window)
        self._promised = crc
        self.late = late  # the checksum stands behind the data
        self._sum = 0

    def read(self, size: int) -> bytes:
        engine = self._engine
        while True:
            if engine.eof:
                return b""
            packed = engine.unconsumed_tail or self._source.read(_CHUNK)
            data = engine.decompress(packed, size)
            if not (data or packed or engine.eof):
                raise self._source.broken_off()
            self._source.put_back(engine.unused_data)
            self._sum = zlib.crc32(data, self._sum)
            if data:
                return data

    def finish(self) -> None:
        while self.read(_CHUNK):
            pass
        if self.late:
            first = self._source.exactly(4)
            start = self._source.exactly(4) if first == _DESCRIPTOR else first
            self._promised = int.from_bytes(start, "little")
        _check_sum(self._source, self._promised, self._sum)


class _Stored:
    """Bytes that are not packed: `size` of them, or, with None, as many as are asked for
    (a tar says itself where it ends)."""

    def __init__(self, source: _Source, size: int | None, crc: int | None) -> None:
        self.late = False
        self._source = source
        self._left = size
        self._promised = crc
        self._sum = 0

    def read(self, size: int) -> bytes:
        if self._left is not None:
            size = min(size, self._left)
        if not size:
            return b""
        data = self._source.read(size)
        if not data:
            raise self._source.broken_off()
        self._sum = zlib.crc32(data, self._sum)
        if self._left is not None:
            self._left -= len(data)
        return data

    def finish(self) -> None:
        if self._left is None:
            return
        while self.read(_CHUNK):
            pass
        _check_sum(self._source, self._promised, self._sum)


def _check_sum(source: _Source, promised: int | None, found: int) -> None:
    if promised is not None and promised != found:
        raise source.failure("is damaged (its checksum does not fit)", _BROKEN_OFF)


# --- which kind of archive, and the zip's headers -------------------------------------------------

_LOCAL = b"PK\x03\x04"
_CENTRAL = (b"PK\x01\x02", b"PK\x05\x06", b"PK\x06\x06")
_DESCRIPTOR = b"PK\x07\x08"
_ENCRYPTED = 0x0001 | 0x0040 | 0x2000
_SIZES_FOLLOW = 0x0008
_IN_ZIP64 = 0xFFFFFFFF
_ZIP64 = 0x0001  # the extra field that has sizes above 4 GB
_TAR_HEADER = 512


def _open_inner(source: _Source) -> _Packed:
    """The tar in the archive, whatever it is packed in."""
    start = source.read(_TAR_HEADER)
    while 0 < len(start) < _TAR_HEADER and (more := source.read(_TAR_HEADER - len(start))):
        start += more
    source.put_back(start)
    if start.startswith(_LOCAL):
        return _tar_of_zip(source)
    if start.startswith(_CENTRAL):
        raise source.failure("is an empty zip", _WHERE_FROM)
    if start.startswith(b"\x1f\x8b"):
        return _Inflated(source, 31)
    if start[257:262] == b"ustar":
        return _Stored(source, None, None)
    raise source.failure("is not a zip or tar archive", _WHERE_FROM)


def _tar_of_zip(source: _Source) -> _Packed:
    """The first member of the zip that is called *.tar; those before it are read over."""
    while True:
        signature = source.exactly(4)
        if signature in _CENTRAL:
            raise source.failure("holds no .tar file", _WHERE_FROM)
        if signature != _LOCAL:
            raise source.failure("is damaged (no header where one should be)", _BROKEN_OFF)
        is_tar, member = _zip_member(source)
        if is_tar:
            return member
        member.finish()
        if member.late:
            _skip_sizes(source)


def _skip_sizes(source: _Source) -> None:
    """Reads over the two sizes behind a member: of 4 bytes each, or of 8, which only what
    follows tells."""
    sizes = source.exactly(12)
    if sizes[8:] in (_LOCAL, *_CENTRAL):
        source.put_back(sizes[8:])
    else:
        source.exactly(4)


def _zip_member(source: _Source) -> tuple[bool, _Inflated | _Stored]:
    """The member whose local header comes next, and whether it is a tar by its name."""
    fields = struct.unpack("<HHHHHLLLHH", source.exactly(26))
    _, flags, method, _, _, crc, packed, _, name_length, extra_length = fields
    name = source.exactly(name_length)
    extra = source.exactly(extra_length)
    is_tar = name.lower().endswith(b".tar")
    if flags & _ENCRYPTED:
        raise source.failure("is encrypted", _WHERE_FROM)
    late = bool(flags & _SIZES_FOLLOW)
    if method == zlib.DEFLATED:
        return is_tar, _Inflated(source, -zlib.MAX_WBITS, None if late else crc, late)
    if method != 0 or (late and not is_tar):
        raise source.failure(
            f"is packed in a way that cannot be read as a stream (method {method})", _WHERE_FROM
        )
    if late:
        return is_tar, _Stored(source, None, None)
    return is_tar, _Stored(source, _zip64_size(extra) if packed == _IN_ZIP64 else packed, crc)


def _zip64_size(extra: bytes) -> int:
    """The packed size among a local header's extra fields. Raises ValueError if it is missing."""
    while len(extra) >= 4:
        kind, length = struct.unpack_from("<HH", extra)
        if kind == _ZIP64 and length >= 16 and len(extra) >= 20:
            return int(struct.unpack_from("<Q", extra, 12)[0])
        extra = extra[4 + length :]
    raise ValueError("a size is missing")

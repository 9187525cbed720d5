"""Compressed streams: read to the last byte, and no damage goes unnoticed."""

import bz2
import gzip
import io
import lzma
import tracemalloc
import zlib
from collections.abc import Callable
from contextlib import suppress
from typing import Any

import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pipeline.corpus.compression import (
    SUFFIXES,
    DamagedFile,
    decompressed,
    is_compressed,
    plain_name,
)
from pipeline.errors import PipelineError

PACK: dict[str, Callable[[bytes], bytes]] = {
    ".gz": lambda data: gzip.compress(data, mtime=0),
    ".bz2": bz2.compress,
    ".xz": lzma.compress,
    ".zst": lambda data: pa.Codec("zstd").compress(data, asbytes=True),
}
every_suffix = pytest.mark.parametrize("suffix", SUFFIXES)


def unpack(data: bytes, suffix: str) -> bytes:
    with decompressed(io.BytesIO(data), "file" + suffix) as stream:
        return stream.read()


def lines(count: int) -> bytes:
    """Text that does not compress to nothing."""
    return b"".join(b"line %d %x\n" % (i, i * i * 104729 % 999_983) for i in range(count))


def test_a_name_loses_the_suffix_of_its_compression_only() -> None:
    assert plain_name("a/x.jsonl.gz") == "a/x.jsonl"
    assert plain_name("X.CSV.ZST") == "X.CSV"
    assert plain_name("x.gz.csv") == "x.gz.csv"
    assert is_compressed("x.txt.XZ")
    assert not is_compressed("x.txt")


def test_what_is_not_compressed_is_passed_through() -> None:
    stream = io.BytesIO(b"plain")
    assert decompressed(stream, "x.txt") is stream


@every_suffix
@given(parts=st.lists(st.binary(max_size=300), min_size=1, max_size=4))
@settings(deadline=None, max_examples=25)
def test_concatenated_members_are_read_to_the_end(suffix: str, parts: list[bytes]) -> None:
    packed = b"".join(map(PACK[suffix], parts))
    assert unpack(packed, suffix) == b"".join(parts)


@every_suffix
def test_many_megabytes_come_back_whole(suffix: str) -> None:
    data = lines(100_000)
    assert unpack(PACK[suffix](data) * 2, suffix) == data * 2


@every_suffix
def test_a_file_cut_off_anywhere_is_an_error_and_not_a_shorter_file(suffix: str) -> None:
    packed = PACK[suffix](lines(30))
    for length in range(len(packed)):
        with pytest.raises(PipelineError, match=rf"file\{suffix} is damaged"):
            unpack(packed[:length], suffix)


@every_suffix
def test_a_second_member_cut_off_anywhere_is_an_error(suffix: str) -> None:
    packed = PACK[suffix](lines(30))
    for length in range(1, len(packed)):
        with pytest.raises(DamagedFile):
            unpack(packed + packed[:length], suffix)


@every_suffix
def test_what_follows_the_compressed_data_is_not_dropped_silently(suffix: str) -> None:
    packed = PACK[suffix](lines(30))
    spoilt = bytearray(packed)
    spoilt[1] ^= 1  # the second member's first bytes: it no longer looks like one
    with pytest.raises(DamagedFile):
        unpack(packed + bytes(spoilt), suffix)


@pytest.mark.parametrize("suffix", [".gz", ".bz2", ".xz"])
def test_zeros_after_the_data_are_padding(suffix: str) -> None:
    assert unpack(PACK[suffix](b"text") + bytes(512), suffix) == b"text"


@pytest.mark.parametrize("suffix", [".gz", ".bz2", ".xz"])
def test_a_flipped_bit_is_an_error_or_harmless(suffix: str) -> None:
    """These formats carry checksums; zstd files need not."""
    data = lines(30)
    packed = PACK[suffix](data)
    for bit in range(0, len(packed) * 8, 7):
        spoilt = bytearray(packed)
        spoilt[bit // 8] ^= 1 << bit % 8
        with suppress(DamagedFile):
            assert unpack(bytes(spoilt), suffix) == data


@every_suffix
@given(data=st.binary(max_size=200))
@settings(deadline=None, max_examples=50)
def test_any_bytes_are_unpacked_or_refused_with_a_sentence(suffix: str, data: bytes) -> None:
    try:
        unpack(data, suffix)
    except DamagedFile as error:
        assert error.message.startswith(f"file{suffix} is damaged: ")
        assert error.message.count("\n") == 0


class Broken(io.RawIOBase):
    """A connection that breaks after a while."""

    def __init__(self, data: bytes, error: Exception) -> None:
        super().__init__()
        self._data = io.BytesIO(data)
        self._error = error

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: Any) -> int:
        count = self._data.readinto(buffer)
        if not count:
            raise self._error
        return count


@every_suffix
@pytest.mark.parametrize("error", [PipelineError("s3://b/k: the line is dead."), OSError("dead")])
def test_a_broken_connection_is_not_taken_for_a_damaged_file(suffix: str, error: Exception) -> None:
    packed = PACK[suffix](lines(30))
    with (
        decompressed(Broken(packed[:-20], error), "x" + suffix) as stream,  # type: ignore[arg-type]
        pytest.raises(type(error), match="dead") as caught,
    ):
        stream.read()
    assert caught.value is error


@every_suffix
def test_closing_closes_what_was_given(suffix: str) -> None:
    source = io.BytesIO(PACK[suffix](b"text"))
    with decompressed(source, "x" + suffix) as stream:
        assert stream.read(2) == b"te"
    assert source.closed


@every_suffix
def test_memory_stays_flat_however_much_comes_out(suffix: str) -> None:
    source = io.BytesIO(PACK[suffix](bytes(2**26)))
    tracemalloc.start()
    try:
        before = pa.total_allocated_bytes()
        with decompressed(source, "x" + suffix) as stream:
            count = sum(map(len, iter(lambda: stream.read(2**16), b"")))
            assert pa.total_allocated_bytes() - before < 8 * 2**20
        assert count == 2**26
        assert tracemalloc.get_traced_memory()[1] < 16 * 2**20  # xz keeps 8 MB
    finally:
        tracemalloc.stop()


def test_an_xz_file_that_wants_gigabytes_is_refused() -> None:
    packed = bytearray(lzma.compress(b"x", preset=0))
    # One byte of the block's header is the dictionary's size; a checksum ends the header.
    header = packed[12 : 12 + (packed[12] + 1) * 4]
    header[header.index(b"\x21\x01") + 2] = 40  # 4 GB
    header[-4:] = zlib.crc32(header[:-4]).to_bytes(4, "little")
    packed[12 : 12 + len(header)] = header
    with pytest.raises(DamagedFile, match=r"[Mm]emory"):
        unpack(bytes(packed), ".xz")

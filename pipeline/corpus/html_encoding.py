"""Which encoding a web page is written in, whatever it says of itself."""

import codecs
import re

_BYTE_ORDER_MARKS = (
    (codecs.BOM_UTF8, "utf-8"),
    (codecs.BOM_UTF16_LE, "utf-16-le"),
    (codecs.BOM_UTF16_BE, "utf-16-be"),
)
_LABEL = re.compile(
    rb"""<meta\b[^>]{0,200}?charset\s*=\s*["']?\s*([\w.:-]{1,40})"""
    rb"""|<\?xml\b[^>]{0,200}?encoding\s*=\s*["']([\w.:-]{1,40})""",
    re.I,
)
_WITHIN = 4096  # bytes: where a page says its encoding
_WESTERN = {"ascii", "iso8859-1", "cp1252", "utf-8"}
# Python calls more things an encoding than text is written in: rot13, punycode, unicode_escape, ...
_REAL = re.compile(r"(?:iso8859|cp\d|koi8|mac|euc|gb|big5|shift_jis|iso2022|tis|johab|hz|utf-16)")


def decode_html(data: bytes) -> str:
    """Reads the bytes of a page as text; never raises.

    A byte order mark decides, then what the page says of itself, then UTF-8, then Windows-1252.
    Latin-1 and its kin are believed only where the bytes are no UTF-8: that label is often wrong.
    """
    for mark, encoding in _BYTE_ORDER_MARKS:
        if data.startswith(mark):
            return data[len(mark) :].decode(encoding, errors="replace")
    for sign, encoding in ((b"<\0", "utf-16-le"), (b"\0<", "utf-16-be")):
        if data.startswith(sign):
            return data.decode(encoding, errors="replace")
    for candidate in (_declared(data), "utf-8", "cp1252"):
        if candidate:
            try:
                return data.decode(candidate)
            except UnicodeError:
                continue
    # Mostly UTF-8 with a broken byte, or Windows-1252 with one that it leaves undefined?
    as_utf8, as_windows = (data.decode(e, errors="replace") for e in ("utf-8", "cp1252"))
    return min(as_utf8, as_windows, key=lambda text: text.count("�"))


def _declared(data: bytes) -> str | None:
    """The encoding that the page names, if it is one to be believed."""
    match = _LABEL.search(data, 0, _WITHIN)
    if match is None:
        return None
    try:
        encoding = codecs.lookup((match[1] or match[2]).decode("ascii")).name
    except (LookupError, UnicodeError):
        return None
    # "UTF-16" in a label that was found byte by byte is wrong.
    believed = _REAL.match(encoding) and encoding not in _WESTERN and "utf-16" not in encoding
    return encoding if believed else None

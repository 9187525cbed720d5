"""Is it a text at all? Catalogues hold web pages, directory listings and archives named *.txt."""

import re


class Rejected(Exception):
    """The file holds no text that could be used; `reason` is a phrase that says why.

    `characters_in` is how long the file is: in characters, or in bytes where it is no text.
    """

    def __init__(self, reason: str, characters_in: int = 0) -> None:
        super().__init__(reason, characters_in)
        self.reason = reason
        self.characters_in = characters_in


_HTML = re.compile(
    r"\s*(?:<\?xml[^>]{0,200}>\s*)?(?:<!--.{0,2000}?-->\s*)?<(?:!doctype\s+html|html|head|body)\b",
    re.I | re.S,
)
_TAG = re.compile(
    r"</?(?:html|head|body|div|p|a|br|span|table|tr|td|script|link|meta|li|ul)\b[^>]{0,300}>", re.I
)
# "-rw-r--r-- 1 ...", as FTP lists files, and "name.txt 04-Feb-2001 10:00 12K", as web servers do.
_LISTING_LINE = re.compile(
    r"^(?:[-dl](?:[r-][w-][xsStT-]){3}\+?\s+\d+\s.*"
    r"|.*\s\d\d-[A-Za-z]{3}-\d{4}\s+\d\d:\d\d\s+[\d.KMG-]+\s*)$",
    re.M,
)
_LISTING_STARTS = frozenset("-dl")
_INDEX = re.compile(r"\s*(?:<[^>]*>\s*)*(?:index of|directory listing for) /", re.I)
_CONTROLS = bytes([*range(0x09), *range(0x0E, 0x1A), *range(0x1B, 0x20), 0x7F])
_OTHER_CONTROL = re.compile("[\x80-\x84\x86-\x9f\ufffd]")
_PADDING = "\x1a\x00 \n\t\x0c\ufeff"  # what empty files of old systems are filled with
_KINDS = {
    "PK\x03\x04": "a zip archive",
    "%PDF-": "a PDF file",
    "\x1f\u2039": "a gzip archive",  # \x1f\x8b, read as Windows-1252
    "{\\rtf": "an RTF file",
}
_SAMPLE = 50_000  # characters: enough to see what kind of file it is


def check_is_text(text: str) -> None:
    """Raises Rejected for what is no plain text of words: nothing, other kinds of files, a web
    page, a directory listing."""
    sample = text[:_SAMPLE]
    if not text.strip(_PADDING):
        raise Rejected("it is empty")
    for start, kind in _KINDS.items():
        if sample.startswith(start):
            raise Rejected(f"it is {kind}, not a text")
    if _has_controls(sample):
        raise Rejected("it is not text")
    if _HTML.match(sample) or _is_mostly_tags(sample):
        raise Rejected("it is a web page (HTML), not a text")
    if _INDEX.match(sample) or _is_listing(sample):
        raise Rejected("it is a directory listing, not a text")
    if not any(character.isalpha() for character in text):
        raise Rejected("it has no words")


def _is_mostly_tags(text: str) -> bool:
    if text.count("<") < 10:
        return False
    return sum(map(len, _TAG.findall(text))) > 0.05 * len(text)


def _has_controls(text: str) -> bool:
    """Whether more than one in a hundred characters is a control character."""
    most = 0.01 * len(text)
    data = text.encode("utf-8", "surrogatepass")
    count = len(data) - len(data.translate(None, _CONTROLS))
    # How those begin that are not ASCII: no need to look closer where this is rare.
    candidates = data.count(b"\xc2") + data.count(b"\xef\xbf\xbd")
    if count + candidates <= most:
        return False
    return count + len(_OTHER_CONTROL.findall(text)) > most


def _is_listing(text: str) -> bool:
    lines = text.split("\n")
    most = 0.5 * len(lines)
    # Each line of a listing has a time in it, or begins as these do: no need to look closer.
    candidates = text.count(":") + len([line for line in lines if line[:1] in _LISTING_STARTS])
    return candidates > most and len(_LISTING_LINE.findall(text)) > most

"""Is it a text at all? Catalogues hold web pages, directory listings and archives named *.txt."""

import re


class Rejected(Exception):
    """The file holds no text that could be used; `reason` is a phrase that says why."""

    def __init__(self, reason: str) -> None:
        super().__init__(reason)
        self.reason = reason


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
_INDEX = re.compile(r"\s*(?:<[^>]*>\s*)*(?:index of|directory listing for) /", re.I)
_CONTROL = re.compile("[\x00-\x08\x0e-\x19\x1b-\x1f\x7f-\x84\x86-\x9f\ufffd]")
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
    if len(_CONTROL.findall(sample)) > 0.01 * len(sample):
        raise Rejected("it is not text")
    if _HTML.match(sample) or _is_mostly_tags(sample):
        raise Rejected("it is a web page (HTML), not a text")
    if _INDEX.match(sample) or len(_LISTING_LINE.findall(sample)) > 0.5 * (sample.count("\n") + 1):
        raise Rejected("it is a directory listing, not a text")
    if not any(character.isalpha() for character in text):
        raise Rejected("it has no words")


def _is_mostly_tags(text: str) -> bool:
    if text.count("<") < 10:
        return False
    return sum(map(len, _TAG.findall(text))) > 0.05 * len(text)

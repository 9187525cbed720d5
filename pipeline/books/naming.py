"""File names that are safe on every system, made from any title."""

import re
import unicodedata

# Names that Windows keeps for devices, with whatever suffix.
_DEVICES = {"con", "prn", "aux", "nul"} | {f"{p}{n}" for p in ("com", "lpt") for n in range(10)}

LONGEST_STEM = 80  # characters, so that a name fits every file system with room to spare

# Letters that Unicode does not decompose into a base letter and a mark.
_SPELLED_OUT = str.maketrans(
    {
        "ß": "ss",
        "æ": "ae",
        "œ": "oe",
        "ø": "o",
        "ð": "d",
        "þ": "th",
        "ł": "l",
        "đ": "d",
        "ı": "i",
        "&": " and ",
        "'": "",
        "’": "",
        "ʼ": "",
    }
)


def slug(text: str, longest: int = LONGEST_STEM) -> str:
    """`text` as lower-case words of [a-z0-9] joined by hyphens, at most `longest` characters,
    cut between words where possible. Empty if the text has no Latin letter and no digit."""
    plain = unicodedata.normalize("NFKD", text.casefold().translate(_SPELLED_OUT))
    ascii_only = "".join(c for c in plain if not unicodedata.combining(c))
    words = re.sub(r"[^a-z0-9]+", "-", ascii_only).strip("-")
    if len(words) <= longest:
        return words
    cut = words[: longest + 1].rpartition("-")[0] or words[:longest]
    return cut.strip("-")


def file_name(id: str | int, title: str) -> str:
    """ "<id>-<slug of the title>.txt", from [a-z0-9-] alone, never empty, never a name that some
    system reserves (a Windows device such as `con` cannot stand before a hyphen).

    A title in another script than Latin leaves nothing; the word "untitled" stands in for it.
    """
    number = slug(str(id), longest=24) or "book"
    title_slug = slug(title, longest=LONGEST_STEM - len(number) - 1) or "untitled"
    return f"{number}-{title_slug}.txt"


def safe_stem(text: str, longest: int = LONGEST_STEM) -> str:
    """`text` as the beginning of a file name: never empty, never a Windows device."""
    stem = slug(text, longest) or "text"
    return f"{stem}-text" if stem in _DEVICES else stem

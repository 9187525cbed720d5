"""What a Project Gutenberg header says of its book: title, author, language."""

import re

_FIELD = re.compile(
    r"^ {0,3}(title|author|language)[ \t]*:[ \t]*(\S.*(?:\n[ \t]+\S.*)*)", re.I | re.M
)
_FIELD_BLOCK = re.compile(
    r"^ {0,3}(?:release date|posting date|language|author)[ \t]*:", re.I | re.M
)
_FIRST_LINE = re.compile(
    r"^[\W_]*(?:this is )?(?:the )?(?:\w+ )?project gutenberg(?:'s|’s)?,?"
    r"(?: (?:e-?text|e-?book))?,?(?: of)?[ ,]+"
    r"(\S.*(?:(?<![*.])\n(?!\n|[ \t]*[#(*]|.*[\[#@]).+){0,2})",
    re.I | re.M,
)
# "by Emily Bronte", on a line of its own below the title.
_BY_LINE = re.compile(
    r"^[ \t*_]*[Bb][Yy]"
    r"(?:[ \t]+(?:[A-Z][\w.'’-]*|de|la|du|von|van|der)){1,6}[ \t*_.,]*$",
    re.M,
)
_NEAR = 3000  # characters of a header in which its by-line stands; the small print comes after

_CODES = {
    "afrikaans": "af", "catalan": "ca", "chinese": "zh", "czech": "cs", "danish": "da",
    "dutch": "nl", "english": "en", "esperanto": "eo", "finnish": "fi", "french": "fr",
    "german": "de", "greek": "el", "hebrew": "he", "hungarian": "hu", "icelandic": "is",
    "irish": "ga", "italian": "it", "japanese": "ja", "korean": "ko", "latin": "la",
    "norwegian": "no", "polish": "pl", "portuguese": "pt", "romanian": "ro", "russian": "ru",
    "spanish": "es", "swedish": "sv", "tagalog": "tl", "welsh": "cy", "yiddish": "yi",
}  # fmt: skip


def read_header(text: str, title_page: str = "") -> dict[str, str]:
    """The fields `title`, `author` and `language` (an ISO 639-1 code) that a header gives, in full:
    a title may go on over indented lines. Headers without fields name both in their first line,
    or the author in a line "by ..." there or on the title page below."""
    found: dict[str, str] = {}
    if _FIELD_BLOCK.search(text):
        for name, value in _FIELD.findall(text):
            found.setdefault(name.lower(), " ".join(value.split()))
    if "title" not in found and (first := _FIRST_LINE.search(text)):
        words = " ".join(first.group(1).split()).strip(" *_,.")
        title, _, author = words.partition(", by ")
        if not author:
            title, _, author = words.rpartition(" by ")
        found["title"] = (title or author).strip(' ,*"')
        if title and author:
            found.setdefault("author", author.strip(" ,.*"))
    if "author" not in found:
        by_line = _BY_LINE.search(text[:_NEAR]) or _BY_LINE.search(title_page)
        if by_line:
            found["author"] = by_line.group().strip(" \t*_.,")[2:].strip()
    language = found.pop("language", "").lower()
    if language in _CODES:
        found["language"] = _CODES[language]
    return {name: value for name, value in found.items() if value}

"""What headings and titles look like in lists of books: for the rules that find such lists."""

import re

# Without one of these a list of books may be the author's own, of the works he read.
PRICE = re.compile(
    r"[$£]\s?\d|\b\d+s\.|\b\d+\s?/[-\d]|\b\d+\s?cents\b|\bnet\b|\bcloth\b|post-?\s?(?:paid|free)|"
    r"\bgilt\b|paper\s+covers?|\bprice\b",
    re.I,
)
_LONGEST_TITLE = 75  # characters of a line that names a book
# What stands below a list that ends: the book, or another part of it.
END = re.compile(
    r"[\s_*=]*(?:chapter|book\s+(?:i|one|the\s+first)\b|part\s+(?:i|one|the\s+first)\b|preface|introduction|prologue|"
    r"foreword|contents|notes?\b|footnotes?\b|index\b|appendix|glossary|dedication|list\s+of\s+"
    r"illustrations|transcriber|the\s+end\b|to\s+(?:my|the\s+reader)|[ivxl]+\.?$|\[)",
    re.I,
)
RULE_ABOVE = re.compile(r"[*_=~\-–— ]+")


def with_rule_above(text: str, start: int) -> int:
    """Where the row of asterisks or dashes begins that parts a list from the book, if any."""
    above = text[max(0, start - 100) : start].rstrip("\n")
    line = above[above.rfind("\n") + 1 :]
    return text.rindex(line, 0, start) if RULE_ABOVE.fullmatch(line) else start


def is_heading(line: str) -> bool:
    """Whether a line can be one: short, and no end of a sentence."""
    if len(line) > _LONGEST_TITLE or line.endswith((",", ";")):
        return False
    return line.isupper() or not line.endswith((".", "!", "?")) or "same" in line.lower()


def are_titles(lines: list[str]) -> bool:
    """Whether each of the lines names a book, or its price."""
    return all(_is_title(line) for line in lines)


def _is_title(line: str) -> bool:
    """Whether a line names a book: short, and its longer words have capitals."""
    if PRICE.search(line):
        return True
    if len(line) > _LONGEST_TITLE or line.endswith(("?", ",", ";", ":")):
        return False
    if line.startswith(('"', "'", "“", "‘", "«", "—", "--")):
        return False
    long = [word for word in re.findall(r"[^\W\d_]+", line) if len(word) > 3]
    return not line[:1].islower() and 5 * sum(word[0].isupper() for word in long) >= 3 * len(long)

"""Small words on names, marks and lines that the modules of stage 1 share."""

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from pipeline.files import fingerprint

SAMPLE = "the sample library"  # the place of its tales


def lines_of(path: Path) -> Iterator[tuple[bytes, dict[str, Any] | None]]:
    """The lines of a list that a person may have edited, each with the row in it, if it is one."""
    for line in path.read_bytes().splitlines() if path.is_file() else ():
        try:
            row = json.loads(line)
        except ValueError:
            row = None
        yield line, row if isinstance(row, dict) else None


def mark_of(origin: str) -> str:
    """Eight characters that stand for where a document came from."""
    return fingerprint(origin)[:8]


def bare(name: str) -> str:
    """A file name of `1_raw` without its suffixes."""
    return name[: name.index(".")] if "." in name else name


def suffix_of(name: str) -> str:
    """`.txt`, `.chat.jsonl`, ... of a file name of `1_raw`."""
    return name[len(bare(name)) :]


def one_line(text: str) -> str:
    """`text` without line ends, for a list of one line each."""
    return " ".join(plain(text).split("\n"))


def plain(value: Any) -> Any:
    """`value` without the halves of characters that no UTF-8 file can hold."""
    if isinstance(value, str):
        return value.encode("utf-8", "replace").decode("utf-8")
    if isinstance(value, dict):
        return {plain(key): plain(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [plain(item) for item in value]
    return value

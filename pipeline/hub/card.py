"""The card of a dataset repository: its README.md, YAML front matter and Markdown.

In the front matter strangers' titles are values that huggingface_hub's own classes write as YAML;
in the tables nothing of them is markup (see `markdown`).
"""

import re
from collections.abc import Collection, Iterable, Mapping, Sequence
from typing import Any

from pipeline.hub.books import BOOKS_FILE, Book
from pipeline.hub.dataset_sections import (
    CHUNKS,
    about_chunks,
    about_contents,
    about_making,
    about_records,
    about_rights,
    about_sources,
)
from pipeline.hub.markdown import cell, one_line

LICENSE_OF_PUBLIC_DOMAIN = {
    "license": "other",
    "license_name": "public-domain",
    "license_link": "https://creativecommons.org/publicdomain/mark/1.0/",
}
LICENSE_UNKNOWN = {"license": "unknown"}
PLACEHOLDER_REPO_ID = "your-name/your-dataset"
CHUNKS_FOLDER = "data"

_REPO_ID = re.compile(r"[\w.-]+/[\w.-]+", re.ASCII)
_LANGUAGE_CODE = re.compile(r"[a-z]{2,3}")
# Names that file headers give, for those languages that most books in the public domain are in.
_LANGUAGES = {
    "chinese": "zh",
    "danish": "da",
    "dutch": "nl",
    "english": "en",
    "finnish": "fi",
    "french": "fr",
    "german": "de",
    "greek": "el",
    "italian": "it",
    "latin": "la",
    "polish": "pl",
    "portuguese": "pt",
    "russian": "ru",
    "spanish": "es",
    "swedish": "sv",
}


def dataset_card(
    *,
    pretty_name: str,
    books: Sequence[Book],
    rows: Mapping[str, int],
    records: Mapping[str, Mapping[str, int]] | None = None,
    repo_id: str | None = None,
    license: str | Mapping[str, str] | None = None,
    columns: Collection[str] | None = None,
    examples: Mapping[str, Mapping[str, object]] | None = None,
    overlap: bool = False,
    settings: Mapping[str, Mapping[str, object]] | None = None,
    counts: Mapping[str, object] | None = None,
) -> str:
    """The README.md of a repository with the files `data/SPLIT-*.parquet` and the table of books.

    `rows` are the chunks in each split, `records` the records in each split of the folders that
    hold some (`completion`, `chat`), `examples` a row to show of each of these, `columns` those
    that a chunk has (all by default), `overlap` whether chunks repeat text of the one before.
    `settings` (by stage) and `counts` are what is told about the making, in their order. `license`
    is a Hub identifier, or a mapping of front matter keys; without one it is "other" (public
    domain) where the rights of every book begin with "public domain", else "unknown", since a card
    must not promise what nobody checked.
    """
    from huggingface_hub import DatasetCard, DatasetCardData

    parts = {CHUNKS_FOLDER: rows, **(records or {})}
    name = one_line(pretty_name) or "Books"
    total = sum(sum(splits.values()) for splits in parts.values())
    data = DatasetCardData(
        **_license(license, books),  # type: ignore[arg-type]
        language=language_codes(book.language for book in books) or None,
        pretty_name=name,
        size_categories=[size_category(total)],
        task_categories=["text-generation"],
        configs=configs(parts, with_books=bool(books)),
    )
    shown_id = repo_id if repo_id and is_repo_id(repo_id) else PLACEHOLDER_REPO_ID
    kinds = {
        CHUNKS if folder == CHUNKS_FOLDER else folder: splits
        for folder, splits in parts.items() if any(splits.values())
    } or {CHUNKS: rows}  # fmt: skip
    body = [
        f"# {cell(name)}",
        *about_contents(shown_id, books, kinds),
        *about_chunks(kinds, columns, overlap),
        *about_records(kinds, examples or {}),
        *about_sources(shown_id, books),
        *about_making(kinds, settings or {}, counts or {}),
        *about_rights(books),
    ]
    return str(DatasetCard(f"---\n{data.to_yaml()}\n---\n\n" + "\n\n".join(body) + "\n"))


def configs(
    parts: Mapping[str, Mapping[str, int]], *, with_books: bool = True
) -> list[dict[str, Any]]:
    """The configurations as the front matter names them: `chunks` (folder `data`), each kind of
    records, `books`. The first is what `load_dataset` takes if none is named."""
    found: list[dict[str, Any]] = [
        {
            "config_name": CHUNKS if folder == CHUNKS_FOLDER else folder,
            "data_files": [
                {"split": split, "path": f"{folder}/{split}-*.parquet"}
                for split, number in splits.items()
                if number
            ],
        }
        for folder, splits in parts.items()
        if any(splits.values())
    ]
    if with_books:
        files = [{"split": "train", "path": BOOKS_FILE}]  # what a table without splits has
        found.append({"config_name": "books", "data_files": files})
    if found:
        found[0] = {"config_name": found[0]["config_name"], "default": True, **found[0]}
    return found


def is_repo_id(name: str) -> bool:
    """Whether `name` looks like a repository's: user/name, of plain letters."""
    return _REPO_ID.fullmatch(name) is not None


def size_category(rows: int) -> str:
    """The Hub's name for a number of rows, such as 1K<n<10K."""
    names = ["1K", "10K", "100K", "1M", "10M", "100M", "1B", "10B", "100B", "1T"]
    for power, name in enumerate(names):
        if rows < 10 ** (power + 3):
            return f"n<{name}" if power == 0 else f"{names[power - 1]}<n<{name}"
    return "n>1T"


def language_codes(languages: Iterable[str | None]) -> list[str]:
    """The ISO 639 codes among `languages`, sorted; English names of common ones are translated."""
    known = {(language or "").strip().lower() for language in languages}
    codes = {_LANGUAGES.get(language, language) for language in known}
    return sorted(code for code in codes if _LANGUAGE_CODE.fullmatch(code))


def _license(license: str | Mapping[str, str] | None, books: Sequence[Book]) -> Mapping[str, str]:
    if isinstance(license, str):
        return {"license": license}
    if license is not None:
        return license
    free = [(book.rights or "").strip().lower().startswith("public domain") for book in books]
    return LICENSE_OF_PUBLIC_DOMAIN if free and all(free) else LICENSE_UNKNOWN

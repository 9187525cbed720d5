"""The card of a dataset repository: its README.md, YAML front matter and Markdown.

In the front matter strangers' titles are values that huggingface_hub's own classes write as YAML;
in the tables nothing of them is markup (see `markdown`).
"""

import re
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from pipeline.console import many
from pipeline.hub.markdown import Markdown, cell, code_names, link, one_line, table

LICENSE_OF_PUBLIC_DOMAIN = {
    "license": "other",
    "license_name": "public-domain",
    "license_link": "https://creativecommons.org/publicdomain/mark/1.0/",
}
LICENSE_UNKNOWN = {"license": "unknown"}
PLACEHOLDER_REPO_ID = "your-name/your-dataset"
MOST_BOOKS_SHOWN = 500
FIRST_BOOKS = 100  # so many are shown where there are more than that
BOOKS_FILE = "books/books.parquet"
CHUNKS_FOLDER = "data"
LARGEST_FACT = 500  # characters of a setting that the card shows

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


@dataclass(frozen=True)
class Book:
    """A row of the table of books. `source` is shown as a link if it is a plain http(s) address."""

    id: str
    title: str | None = None
    authors: Sequence[str] = ()
    language: str | None = None
    source: str | None = None
    rights: str | None = None
    characters: int = 0
    chunks: int = 0
    split: str = "train"


def dataset_card(
    *,
    pretty_name: str,
    books: Sequence[Book],
    rows: Mapping[str, int],
    records: Mapping[str, Mapping[str, int]] | None = None,
    repo_id: str | None = None,
    license: str | Mapping[str, str] | None = None,
    columns: Collection[str] | None = None,
    overlap: bool = False,
    settings: Mapping[str, Mapping[str, object]] | None = None,
    counts: Mapping[str, object] | None = None,
) -> str:
    """The README.md of a repository with the files `data/SPLIT-*.parquet` and the table of books.

    `rows` are the chunks in each split, `records` the records in each split of the folders that
    hold some (`completion`, `chat`), `columns` those that a chunk has (all by default), `overlap`
    whether chunks repeat text of the one before. `settings` (by stage) and `counts` are what is
    told about the making, in their order. `license` is a Hub identifier, or a mapping of front
    matter keys; without one it is "other" (public domain) where the rights of every book begin
    with "public domain", else "unknown", since a card must not promise what nobody checked.
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
    body = [
        f"# {cell(name)}",
        *_about_chunks(shown_id, books, rows, columns, overlap),
        *_about_records(shown_id, records or {}),
        *_about_books(shown_id, books),
        *_about_making(settings or {}, counts or {}),
        "## Rights",
        "What is known about the rights in each book stands in the table above. A work that is in "
        "the public domain in one country may be protected in another: check before you use it.",
    ]
    return str(DatasetCard(f"---\n{data.to_yaml()}\n---\n\n" + "\n\n".join(body) + "\n"))


def configs(
    parts: Mapping[str, Mapping[str, int]], *, with_books: bool = True
) -> list[dict[str, Any]]:
    """The configurations as the front matter names them: `chunks` (folder `data`), each kind of
    records, `books`. The first is what `load_dataset` takes if none is named."""
    found: list[dict[str, Any]] = [
        {
            "config_name": "chunks" if folder == CHUNKS_FOLDER else folder,
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


_COLUMNS = (
    ("text", "the chunk; what separates it from the next one is at its end"),
    ("document_id", "which document"),
    ("chunk", "number of the chunk in its document, from 0"),
    ("char_start char_end", "its place in the document, in characters"),
    ("is_last", "whether the document ends here"),
    ("overlap", "how many characters at the start of `text` repeat the end of the chunk before"),
    ("tokens", "tokens of `text`, where a tokenizer was given"),
    ("title authors language source rights", "of the document, as far as known"),
    ("work", "the same for all editions and parts of one work; they are never split"),
    ("split", "the split that the document is in"),
    ("collection weight", "where the document was taken from; its share in training, if set"),
)
_BOOK_COLUMNS = (
    "id", "title", "authors", "language", "characters", "chunks", "split", "rights", "source",
)  # fmt: skip
_RECORDS = {
    "completion": "a `prompt` and the `completion` that follows it, with nothing between them",
    "chat": "`messages`, a list of turns with `role` and `content`",
}


def _about_chunks(
    repo_id: str,
    books: Sequence[Book],
    rows: Mapping[str, int],
    columns: Collection[str] | None,
    overlap: bool,
) -> Iterator[str]:
    """What is in the dataset, how to load it, and what a row is."""
    characters = sum(book.characters for book in books if book.chunks)
    texts = sum(bool(book.chunks) for book in books)
    yield (
        f"{many(texts, 'book')}, {many(characters, 'character')}, cut into "
        f"{many(sum(rows.values()), 'chunk')} ({_sizes(rows) or 'no rows'}), for training and "
        "fine-tuning text-completion models."
    )
    yield "## Load it"
    code = f'from datasets import load_dataset\n\ndataset = load_dataset("{repo_id}")'
    yield f"```python\n{code}\n```"
    yield "## What a row is"
    yield (
        "Chunks follow paragraphs, then sentences. The chunks of a document, joined in order, are "
        "the document, character for character:"
    )
    piece = 'row["text"][row["overlap"]:]' if overlap else 'row["text"]'
    yield (
        '```python\nbook = [row for row in dataset["train"] if row["document_id"] == some_id]\n'
        f'text = "".join({piece} for row in sorted(book, key=lambda row: row["chunk"]))\n```'
    )
    described = (
        ([name for name in names.split() if columns is None or name in columns], meaning)
        for names, meaning in _COLUMNS
    )
    yield table(
        ("column", "meaning"),
        ((code_names(names), Markdown(meaning)) for names, meaning in described if names),
    )


def _about_records(repo_id: str, records: Mapping[str, Mapping[str, int]]) -> Iterator[str]:
    """The section on records, where there are some."""
    for kind, splits in records.items():
        yield f"## Records: {kind}"
        yield (
            f"{_sizes(splits)}. A row is {_RECORDS[kind]}.\n\n"
            f'```python\nrecords = load_dataset("{repo_id}", "{kind}")\n```'
        )


def _about_books(repo_id: str, books: Sequence[Book]) -> Iterator[str]:
    """The table of books; the first of them where there are very many."""
    yield "## The books"
    shown = books if len(books) <= MOST_BOOKS_SHOWN else books[:FIRST_BOOKS]
    if len(shown) < len(books):
        yield (
            f"The first {len(shown)} of {len(books):,}; all are in [{BOOKS_FILE}]({BOOKS_FILE})."
        )
    yield table(_BOOK_COLUMNS, (_book_row(book) for book in shown))
    yield (
        "The same table, with more about each book, can be loaded as well (it has no text):\n\n"
        f'```python\nbooks = load_dataset("{repo_id}", "books", split="train")\n```'
    )


def _book_row(book: Book) -> tuple[object, ...]:
    return (
        Markdown(cell(book.id)), one_line(book.title or "") or "untitled", ", ".join(book.authors),
        book.language or "", book.characters, book.chunks, book.split, book.rights or "unknown",
        link(book.source or ""),
    )  # fmt: skip


def _about_making(
    settings: Mapping[str, Mapping[str, object]], counts: Mapping[str, object]
) -> Iterator[str]:
    """Settings of the stages, and what became of every character."""
    yield "## How it was made"
    yield (
        "The texts were cleaned and cut with these settings. Whole documents are held out for "
        "validation, so no book is on both sides (of a single document, the end is held out)."
    )
    told = [
        (stage, name, _short(value))
        for stage, values in settings.items()
        for name, value in values.items()
    ]
    if told:
        yield table(("stage", "setting", "value"), told)
    if counts:
        yield table(("count", "value"), counts.items())


def _short(value: object) -> str:
    text = one_line(str(value))
    return text if len(text) <= LARGEST_FACT else f"{text[: LARGEST_FACT - 1]}…"


def _sizes(splits: Mapping[str, int]) -> str:
    return " and ".join(f"{number:,} in `{split}`" for split, number in splits.items() if number)

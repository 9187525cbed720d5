"""The card of a dataset repository: its README.md, YAML front matter and Markdown.

Titles and authors come from strangers' catalogues. In the front matter they are values that
huggingface_hub's own classes write as YAML; in a table every character that means something to
Markdown or HTML becomes an entity. So no title ends a cell, a row or the front matter.
"""

import re
import unicodedata
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

LICENSE_OF_PUBLIC_DOMAIN = {
    "license": "other",
    "license_name": "public-domain",
    "license_link": "https://creativecommons.org/publicdomain/mark/1.0/",
}
LICENSE_UNKNOWN = {"license": "unknown"}
PLACEHOLDER_REPO_ID = "your-name/your-dataset"

_REPO_ID = re.compile(r"[\w.-]+/[\w.-]+", re.ASCII)
_LANGUAGE_CODE = re.compile(r"[a-z]{2,3}")
# A bracket or an underscore inside a word needs no escape where [ and ] have one.
_MARKUP = re.compile(r"[\\`*{}\[\]<>#|~$&@]|(?<!\w)_|_(?!\w)|(?<=:)//|(?<=www)\.")
_SAFE_LINK = re.compile(r"https?://[\w.-]+(?::\d+)?(?:/[\w./~%?=&,:+-]*)?", re.ASCII)
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
    settings: Mapping[str, object] | None = None,
    counts: Mapping[str, object] | None = None,
) -> str:
    """The README.md of a repository with the files `data/SPLIT-*.parquet`.

    `rows` are the chunks in each split, `records` the records in each split of the folders that
    hold some (`completion`, `chat`), `settings` and `counts` what is told about the making, in
    their order. `license` is a Hub identifier, or a mapping of front matter keys; without one it is
    "other" (public domain) where the rights of every book begin with "public domain", else
    "unknown", since a card must not promise what nobody checked.
    """
    from huggingface_hub import DatasetCard, DatasetCardData

    parts = {"data": rows, **(records or {})}
    name = one_line(pretty_name) or "Books"
    total = sum(sum(splits.values()) for splits in parts.values())
    data = DatasetCardData(
        **_license(license, books),  # type: ignore[arg-type]
        language=language_codes(book.language for book in books) or None,
        pretty_name=name,
        size_categories=[size_category(total)],
        task_categories=["text-generation"],
        configs=[
            {
                "config_name": "default" if place == "data" else place,
                "data_files": [
                    {"split": split, "path": f"{place}/{split}-*.parquet"}
                    for split, number in splits.items()
                    if number
                ],
            }
            for place, splits in parts.items()
            if any(splits.values())
        ],
    )
    body = _body(name, books, rows, records or {}, repo_id, settings or {}, counts or {})
    return str(DatasetCard(f"---\n{data.to_yaml()}\n---\n\n{body}"))


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


def one_line(text: str) -> str:
    """`text` on one line: white space runs are one space, what cannot be seen is left out.

    That is control, format (such as the marks that turn the reading direction), surrogate and
    private characters.
    """
    visible = (" " if c.isspace() else c for c in text if _is_visible(c))
    return " ".join("".join(visible).split())


def _is_visible(character: str) -> bool:
    return character.isspace() or unicodedata.category(character)[0] != "C"


def cell(value: object) -> str:
    """`value` as the text of one table cell, in which nothing is markup."""
    return _MARKUP.sub(lambda m: "".join(f"&#{ord(c)};" for c in m[0]), one_line(str(value)))


def _license(license: str | Mapping[str, str] | None, books: Sequence[Book]) -> Mapping[str, str]:
    if isinstance(license, str):
        return {"license": license}
    if license is not None:
        return license
    free = [(book.rights or "").strip().lower().startswith("public domain") for book in books]
    return LICENSE_OF_PUBLIC_DOMAIN if free and all(free) else LICENSE_UNKNOWN


class Markdown(str):
    """Text that is Markdown already, and safe."""

    __slots__ = ()


_COLUMNS = tuple(
    (Markdown(", ".join(f"`{name}`" for name in names.split())), meaning)
    for names, meaning in (
        ("text", "the chunk; what separates it from the next one is at its end"),
        ("document_id", "which document"),
        ("chunk", "number of the chunk in its document, from 0"),
        ("char_start char_end", "its place in the document, in characters"),
        ("is_last", "whether the document ends here"),
        ("title authors language source", "of the document, as far as known"),
        ("collection weight", "where the document was taken from; its share in training, if set"),
    )
)
_BOOK_COLUMNS = (
    "id", "title", "authors", "language", "characters", "chunks", "split", "rights", "source",
)  # fmt: skip


def _body(
    name: str,
    books: Sequence[Book],
    rows: Mapping[str, int],
    records: Mapping[str, Mapping[str, int]],
    repo_id: str | None,
    settings: Mapping[str, object],
    counts: Mapping[str, object],
) -> str:
    shown_id = repo_id if repo_id and _REPO_ID.fullmatch(repo_id) else PLACEHOLDER_REPO_ID
    sizes = " and ".join(f"{number:,} in `{split}`" for split, number in rows.items() if number)
    characters = sum(book.characters for book in books if book.chunks)
    texts = sum(bool(book.chunks) for book in books)
    amount = f"{texts:,} book{'' if texts == 1 else 's'}, {characters:,} characters"
    parts = [
        f"# {cell(name)}",
        f"{amount}, cut into {sum(rows.values()):,} chunks ({sizes or 'no rows'}), for training "
        "and fine-tuning text-completion models.",
        "## Load it",
        "```python\nfrom datasets import load_dataset\n\n"
        f'dataset = load_dataset("{shown_id}")\n```',
        "## What a row is",
        "Chunks follow paragraphs, then sentences. The chunks of a document, joined in order, are "
        "the document, character for character:",
        '```python\nbook = [row for row in dataset["train"] if row["document_id"] == some_id]\n'
        'text = "".join(row["text"] for row in sorted(book, key=lambda row: row["chunk"]))\n```',
        _table(("column", "meaning"), _COLUMNS),
        *_about_records(shown_id, records),
        "## The books",
        _table(_BOOK_COLUMNS, (_book_row(book) for book in books)),
        "## How it was made",
        "The texts were cleaned and cut with these settings. Whole documents are held out for "
        "validation, so no book is on both sides (of a single document, the end is held out).",
    ]
    if settings:
        parts.append(_table(("setting", "value"), settings.items()))
    if counts:
        parts.append(_table(("count", "value"), ((k, _number(v)) for k, v in counts.items())))
    parts += [
        "## Rights",
        "What is known about the rights in each book stands in the table above. A work that is in "
        "the public domain in one country may be protected in another: check before you use it.",
    ]
    return "\n\n".join(parts) + "\n"


_RECORDS = {
    "completion": "a `prompt` and the `completion` that is to follow it",
    "chat": "`messages`, a list of turns with `role` and `content`",
}


def _about_records(repo_id: str, records: Mapping[str, Mapping[str, int]]) -> Iterable[str]:
    """The section on records, where there are some."""
    for kind, splits in records.items():
        sizes = " and ".join(f"{number:,} in `{split}`" for split, number in splits.items())
        yield f"## Records: {kind}"
        yield (
            f"{sizes}. A row is {_RECORDS[kind]}.\n\n"
            f'```python\nrecords = load_dataset("{repo_id}", "{kind}")\n```'
        )


def _book_row(book: Book) -> tuple[object, ...]:
    source = book.source or ""
    # A link is the one thing that is put into a cell as it is, so only plain addresses are.
    link = Markdown(f"<{source}>") if _SAFE_LINK.fullmatch(source) else source
    title = one_line(book.title or "") or "untitled"
    return (
        book.id, title, ", ".join(book.authors), book.language or "", f"{book.characters:,}",
        f"{book.chunks:,}", book.split, book.rights or "unknown", link,
    )  # fmt: skip


def _table(header: Sequence[str], rows: Iterable[Iterable[object]]) -> str:
    """A Markdown table."""
    lines = ["| " + " | ".join(header) + " |", "|" + " --- |" * len(header)]
    for row in rows:
        cells = (value if isinstance(value, Markdown) else cell(value) for value in row)
        lines.append("| " + " | ".join(cells) + " |")
    return "\n".join(lines)


def _number(value: Any) -> str:
    plain = isinstance(value, int) and not isinstance(value, bool)
    return f"{value:,}" if plain else str(value)

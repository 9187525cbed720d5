"""The sections of a dataset card: what is there, what a row is, where it is from, how it was made.

A dataset holds texts cut into chunks, records (prompts with completions, chats), or both; a card
speaks of what is there and of nothing else. Rows are shown as JSON between fences, which nothing in
them can end.
"""

import json
from collections.abc import Collection, Iterator, Mapping, Sequence

from pipeline.console import many
from pipeline.hub.books import BOOKS_FILE, FIRST_BOOKS, MOST_BOOKS_SHOWN, TEXT, Book
from pipeline.hub.markdown import Markdown, cell, code_block, code_names, link, one_line, table

CHUNKS = "chunks"  # the configuration of the texts
LARGEST_FACT = 500  # characters of a setting that the card shows
LONGEST_SHOWN = 300  # characters of a text in the row that is shown
MOST_TURNS = 6

Parts = Mapping[str, Mapping[str, int]]  # configuration -> split -> rows

_CHUNK_COLUMNS = (
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
_RECORD_COLUMNS = (
    ("prompt", "what the model is given"),
    ("completion", "what it is to write after that; nothing stands between the two"),
    ("messages", "the turns of a chat, in order: a list of `role` (`system`, `user`, `assistant` "
                 "or `tool`) and `content`"),
    ("document_id record", "which file the record is from, and its number there, from 1"),
    ("language source rights", "of that file, as far as known"),
    ("split", "the split that the record is in"),
    ("collection weight", "where the file was taken from; its share in training, if set"),
)  # fmt: skip
_NOUNS = {
    TEXT: ("book", "books"),
    "completion": ("prompt with its completion", "prompts with their completions"),
    "chat": ("chat", "chats"),
}
_RECORDS = {
    "completion": "A prompt and the completion that is to follow it. What a model is to learn is "
    "the completion.",
    "chat": "A chat, as a list of turns. What a model is to learn are the turns of the "
    "`assistant`; a chat template puts them together.",
}


def about_contents(repo_id: str, books: Sequence[Book], parts: Parts) -> Iterator[str]:
    """What is in the dataset, in all and by kind, and how to load it."""
    if len(parts) > 1:
        total = sum(sum(splits.values()) for splits in parts.values())
        yield (
            f"{total:,} rows of {len(parts)} kinds, for training and fine-tuning language models. "
            "Each kind is a configuration of its own:"
        )
        splits = list(dict.fromkeys(split for found in parts.values() for split in found))
        yield table(
            ("configuration", "what it holds", *(f"rows in `{split}`" for split in splits)),
            (
                (code_names([name]), _held(name, books, found), *(found.get(s, 0) for s in splits))
                for name, found in parts.items()
            ),
        )
    else:
        for name, found in parts.items():
            what = "text-completion" if name == CHUNKS else "language"
            yield (
                f"{_held(name, books, found)} ({_sizes(found) or 'no rows'}), for training and "
                f"fine-tuning {what} models."
            )
    yield "## Load it"
    loads = [f'dataset = load_dataset("{repo_id}")']
    if len(parts) > 1:
        loads = [f'{name} = load_dataset("{repo_id}", "{name}")' for name in parts]
    code = "\n".join(["from datasets import load_dataset", "", *loads])
    yield f"```python\n{code}\n```"


def _held(name: str, books: Sequence[Book], splits: Mapping[str, int]) -> str:
    """What a configuration holds: how much of what, from how many texts or files."""
    of_kind = [book for book in books if book.kind == (TEXT if name == CHUNKS else name)]
    characters = sum(book.characters for book in of_kind)
    rows = sum(splits.values())
    if name == CHUNKS:
        empty = sum(not book.chunks for book in of_kind)
        without = f" ({empty:,} of them without text)" if empty else ""
        return (
            f"{many(len(of_kind), *_NOUNS[TEXT])}{without}, {characters:,} characters, cut into "
            f"{many(rows, 'chunk')}"
        )
    size = f", {characters:,} characters" if of_kind else ""
    files = f", from {many(len(of_kind), 'file')}" if of_kind else ""
    return f"{many(rows, *_NOUNS[name])}{size}{files}"


def about_chunks(
    parts: Parts, columns: Collection[str] | None, overlap: bool
) -> Iterator[str]:  # fmt: skip
    """What a row of the chunks is, where there are some."""
    if CHUNKS not in parts:
        return
    yield _heading(CHUNKS, parts)
    yield (
        "Chunks follow paragraphs, then sentences. The chunks of a document, joined in order, are "
        "the document, character for character:"
    )
    loaded = "dataset" if len(parts) == 1 else CHUNKS
    piece = 'row["text"][row["overlap"]:]' if overlap else 'row["text"]'
    yield (
        f'```python\nbook = [row for row in {loaded}["train"] if row["document_id"] == some_id]\n'
        f'text = "".join({piece} for row in sorted(book, key=lambda row: row["chunk"]))\n```'
    )
    yield _columns(_CHUNK_COLUMNS, columns)


def about_records(parts: Parts, examples: Mapping[str, Mapping[str, object]]) -> Iterator[str]:
    """What a row of each kind of records is, with one of them."""
    for kind in parts:
        if kind == CHUNKS:
            continue
        yield _heading(kind, parts)
        yield _RECORDS[kind]
        row = examples.get(kind)
        if row is not None:
            shown, is_cut = _shortened(row)
            cut = f"; long texts are cut, and of a chat {MOST_TURNS} turns are shown"
            yield f"One of them{cut if is_cut else ''}:"
            yield code_block(json.dumps(shown, indent=2, ensure_ascii=False, default=str), "json")
        # Of a row that cannot be shown: those that every record of this kind has.
        known = {"prompt", "completion"} if kind == "completion" else {"messages"}
        known |= {"document_id", "record", "split"}
        yield _columns(_RECORD_COLUMNS, known if row is None else row.keys())


def _heading(name: str, parts: Parts) -> str:
    return "## What a row is" if len(parts) == 1 else f"## What a row of `{name}` is"


def _columns(described: Sequence[tuple[str, str]], there: Collection[str] | None) -> str:
    """The table of the columns that are there; of all if that is not known."""
    rows = (
        ([name for name in names.split() if there is None or name in there], meaning)
        for names, meaning in described
    )
    return table(
        ("column", "meaning"),
        ((code_names(names), Markdown(meaning)) for names, meaning in rows if names),
    )


def _shortened(row: Mapping[str, object]) -> tuple[dict[str, object], bool]:
    """A row as it is shown, without what is unknown, and whether something of it is cut."""
    shown: dict[str, object] = {}
    for name, value in row.items():
        if isinstance(value, list):
            turns = [turn for turn in value[:MOST_TURNS] if isinstance(turn, Mapping)]
            shown[name] = [{key: _cut(str(text)) for key, text in turn.items()} for turn in turns]
        elif value is not None:
            shown[name] = _cut(value) if isinstance(value, str) else value
    return shown, shown != {name: value for name, value in row.items() if value is not None}


def _cut(text: str) -> str:
    return text if len(text) <= LONGEST_SHOWN else f"{text[:LONGEST_SHOWN]}…"


_BOOK_COLUMNS = (
    "id", "title", "authors", "language", "characters", "chunks", "split", "rights", "source",
)  # fmt: skip
_FILE_COLUMNS = (
    "id", "title", "kind", "language", "characters", "records", "split", "rights", "source",
)  # fmt: skip


def about_sources(repo_id: str, books: Sequence[Book]) -> Iterator[str]:
    """The tables of books and of files of records; the first of them where there are very many."""
    texts = [book for book in books if book.kind == TEXT]
    files = [book for book in books if book.kind != TEXT]
    if texts or not files:
        yield "## The books"
        yield from _first_of(texts)
        yield table(_BOOK_COLUMNS, (_book_row(book) for book in _shown(texts)))
    if files:
        yield "## The files of records"
        yield from _first_of(files)
        yield table(_FILE_COLUMNS, (_file_row(book) for book in _shown(files)))
    if not books:
        return
    same = "The same table, with more about each book, can be loaded as well (it has no text):"
    if files:
        of_all = "Both tables in one" if texts else "The same table"
        same = (
            f"{of_all}, of {many(len(books), 'row')} with more about each, can be loaded "
            "as well (without the texts; the column `kind` says what a row is about):"
        )
    yield f'{same}\n\n```python\nbooks = load_dataset("{repo_id}", "books", split="train")\n```'


def _shown(books: Sequence[Book]) -> Sequence[Book]:
    return books if len(books) <= MOST_BOOKS_SHOWN else books[:FIRST_BOOKS]


def _first_of(books: Sequence[Book]) -> Iterator[str]:
    if len(_shown(books)) < len(books):
        yield (
            f"The first {len(_shown(books))} of {len(books):,}; all are in "
            f"[{BOOKS_FILE}]({BOOKS_FILE})."
        )


def _book_row(book: Book) -> tuple[object, ...]:
    return (
        Markdown(cell(book.id)), one_line(book.title or "") or "untitled", ", ".join(book.authors),
        book.language or "", book.characters, book.chunks, book.split, book.rights or "unknown",
        link(book.source or ""),
    )  # fmt: skip


def _file_row(book: Book) -> tuple[object, ...]:
    return (
        Markdown(cell(book.id)), one_line(book.title or ""), book.kind, book.language or "",
        book.characters, book.records, book.split, book.rights or "unknown",
        link(book.source or ""),
    )  # fmt: skip


def about_making(
    parts: Parts, settings: Mapping[str, Mapping[str, object]], counts: Mapping[str, object]
) -> Iterator[str]:
    """Settings of the stages, and what became of every character."""
    yield "## How it was made"
    if CHUNKS in parts or not parts:
        yield (
            "The texts were cleaned and cut with these settings. Whole documents are held out for "
            "validation, so no book is on both sides (of a single document, the end is held out)."
        )
    if any(name != CHUNKS for name in parts):
        yield (
            "The texts of records are as they came, neither cleaned nor cut. Which records are "
            "held out for validation follows from their content, so equal ones are on one side."
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


def about_rights(books: Sequence[Book]) -> Iterator[str]:
    """What a reader has to look after."""
    files = sum(book.kind != TEXT for book in books)
    each = "book" if not files else ("file" if files == len(books) else "book and file")
    where = "tables" if 0 < files < len(books) else "table"
    yield "## Rights"
    yield (
        f"What is known about the rights in each {each} stands in the {where} above. A work that "
        "is in the public domain in one country may be protected in another: check before you use "
        "it."
    )


def _short(value: object) -> str:
    text = one_line(str(value))
    return text if len(text) <= LARGEST_FACT else f"{text[: LARGEST_FACT - 1]}…"


def _sizes(splits: Mapping[str, int]) -> str:
    return " and ".join(f"{number:,} in `{split}`" for split, number in splits.items() if number)

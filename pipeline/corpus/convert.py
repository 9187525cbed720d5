"""Texts and records from one format into another, in a stream: `pipeline convert`.

    with Storage() as storage:
        examples = Sources(storage, read_text, [".txt"]).examples("training-data/3_chunks")
        written = write_examples(examples, Path("books.csv.gz"))

An example is `{"text": ..., "about": {"title": ...}}`, `{"prompt", "completion"}` or `{"messages"}`
(see `examples`). Chunks are put together again: a document is one example.
"""

import json
import re
from collections.abc import Callable, Collection, Iterable, Iterator, Sequence
from dataclasses import dataclass
from itertools import chain
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast

from pipeline.console import many, progress, warn
from pipeline.corpus.compression import is_compressed, plain_name
from pipeline.corpus.documents import find_splits, read_documents
from pipeline.corpus.example_files import FORMATS, open_writer, suffix_of
from pipeline.corpus.examples import (
    ABOUT_COLUMNS,
    BadExample,
    ColumnNames,
    Shape,
    as_example,
    shape_of,
)
from pipeline.corpus.tables import BadRow, column_names, read_rows, table_format
from pipeline.errors import PipelineError, UsageError
from pipeline.files import atomic_path

if TYPE_CHECKING:
    from pipeline.storage import Entry, Storage

Example = dict[str, Any]
ReadText = Callable[[bytes, str], Example]

_OUR_CHUNKS = {"text", "document_id", "chunk", "char_start"}
_NOT_DATA = re.compile(  # what stages, and people, put beside the data
    r"(?:stage|proof)\.json|(?:catalog|refused|report|documents|duplicates|quarantine)\.jsonl"
    r"|(?:readme|licen[cs]e|changelog|notice)(?:\.\w+)?",
    re.IGNORECASE,
)
_NAMED = 3  # files that a warning names
_COLUMNS: dict[Shape, tuple[str, ...]] = {
    "text": (*ABOUT_COLUMNS, "text"),
    "completion": ("prompt", "completion"),
    "chat": ("messages",),
}


@dataclass(frozen=True)
class Written:
    """What was written: examples, and the characters of their texts."""

    examples: int
    characters: int


# --- reading --------------------------------------------------------------------------------------


class Sources:
    """Reads examples out of files, folders, patterns and addresses.

    `read_text` makes the example of a file that is a document (it may raise PipelineError), and
    `suffixes` are those of such files in folders.
    """

    def __init__(
        self,
        storage: "Storage",
        read_text: ReadText,
        suffixes: Collection[str],
        text_column: str | None = None,
    ) -> None:
        self._storage = storage
        self._read_text = read_text
        self._suffixes = tuple(suffixes)
        self._names = ColumnNames(text=text_column)

    def examples(self, source: str) -> Iterator[Example]:
        """Every example of `source`, in order, a few in memory at a time.

        Raises PipelineError naming file and place for what is not there or cannot be read.
        """
        entries = self._storage.expand(source)
        if Path(source).expanduser().is_dir():
            entries = self._in_folder(Path(source).expanduser(), entries)
        tables = [entry for entry in entries if table_format(entry.name)]
        texts = [entry for entry in entries if not table_format(entry.name)]
        chunks, others = self._sort(tables)
        if chunks:
            yield from _documents(chunks)
        for entry in others:
            yield from self._table(entry)
        for entry, body in self._storage.read_many(texts):
            if isinstance(body, PipelineError):
                raise body
            yield self._read_text(body, entry.name)

    def _in_folder(self, folder: Path, entries: Sequence["Entry"]) -> list["Entry"]:
        """The data among the files of a folder: its Parquet files, else its texts or tables."""
        is_stage = (folder / "stage.json").is_file()
        data = [
            entry for entry in entries
            if not _NOT_DATA.fullmatch(entry.name)
            and not (is_stage and Path(entry.url).parent.name == "rejected")
            and not _is_table_of_books(Path(entry.url))
        ]  # fmt: skip
        parquet = [entry for entry in data if table_format(entry.name) == "parquet"]
        tables = [entry for entry in data if table_format(entry.name)]
        texts = [e for e in data if plain_name(e.name.lower()).endswith(self._suffixes)]
        found = parquet or texts or tables
        if not found:
            raise PipelineError(
                f"{folder} has no texts and no tables in it.",
                "Name a file or a pattern to have it whatever its suffix is.",
            )
        kept = {entry.url for entry in found}
        left = sorted({e.name for e in (*texts, *tables) if e.url not in kept})
        if left:
            kind = "file of another kind is", "files of another kind are"
            names = ", ".join(left[:_NAMED]) + (", ..." if len(left) > _NAMED else "")
            warn(
                f"{folder}: {many(len(left), *kind)} left alone ({names}). Name a file, or a "
                "pattern, to have it."
            )
        return found

    def _sort(self, tables: Sequence["Entry"]) -> tuple[list[Path], list["Entry"]]:
        """The Parquet files of chunks of ours, which are documents in pieces, and the others."""
        chunks: list[Path] = []
        others: list[Entry] = []
        for entry in tables:
            is_parquet = entry.name.lower().endswith(".parquet")
            if self._names.text is None and is_parquet and set(self._columns(entry)) >= _OUR_CHUNKS:
                chunks.append(self._storage.local_copy(entry))
            else:
                others.append(entry)
        return list(chain(*find_splits(chunks))), others

    def _columns(self, entry: "Entry") -> list[str]:
        storage = self._storage
        return column_names(
            lambda: storage.open(entry), lambda: storage.local_copy(entry), entry.name
        )

    def _table(self, entry: "Entry") -> Iterator[Example]:
        columns = self._columns(entry)
        shape = shape_of(columns, self._names, entry.shown) if columns else None
        if columns and shape is None:
            raise PipelineError(
                f"{entry.shown} has no column that is known to hold texts; its columns are: "
                f"{', '.join(columns[:20])}.",
                "Name it with --text-column.",
            )
        storage = self._storage
        for row in read_rows(
            lambda: storage.open(entry), lambda: storage.local_copy(entry), entry.name
        ):
            if isinstance(row, BadRow):
                raise PipelineError(f"{entry.shown}, {row.where}: {row.reason}.")
            try:
                yield as_example(row.value, cast(Shape, shape), self._names)
            except BadExample as error:
                raise PipelineError(f"{entry.shown}, {row.where}: {error.reason}.") from error


def _is_table_of_books(path: Path) -> bool:
    """Whether this is the table about the documents of a dataset of ours, which has no texts."""
    root = path.parent.parent
    return path.parts[-2:] == ("books", "books.parquet") and any(
        (root / folder).is_dir() for folder in ("data", "completion", "chat")
    )


def _documents(paths: Sequence[Path]) -> Iterator[Example]:
    """The documents of files of chunks, whole again."""
    for document in read_documents(paths):
        about = {
            "id": document.id, "title": document.title, "authors": list(document.authors),
            "language": document.language, "source": document.source,
        }  # fmt: skip
        yield {"text": document.text, "about": {k: v for k, v in about.items() if v}}


# --- writing --------------------------------------------------------------------------------------


def check_target(target: Path, eos: str | None = None, *, overwrite: bool = False) -> None:
    """Raise UsageError for a target that cannot be written, before anything is read."""
    suffix = suffix_of(target)
    if suffix not in FORMATS:
        raise UsageError(
            f"{target} has no suffix that says which format it is to have.",
            f"Known are {', '.join(FORMATS)}, and these with .gz, .bz2, .xz or .zst after them.",
        )
    if suffix == ".parquet" and is_compressed(target.name):
        raise UsageError(f"{target}: Parquet is compressed in itself.", "End the name in .parquet.")
    if eos is not None and suffix != ".txt":
        raise UsageError("--eos is for .txt only: other formats tell where a text ends.")
    if target.is_dir():
        raise UsageError(f"{target} is a directory.", "Name a file in it.")
    if target.exists() and not overwrite:
        raise UsageError(f"{target} is there already.", "--overwrite replaces it.")


def write_examples(
    examples: Iterable[Example], target: Path, *, eos: str | None = None, only_text: bool = False
) -> Written:
    """Write `examples`, all of one shape, as the format and compression that `target` names.

    `eos` is what follows each text in a .txt. `only_text` leaves out title, authors and the like.
    The file is whole or not there.

    Raises PipelineError if there is no example, two shapes of them, or records for a .txt; and
    whatever `examples` raises.
    """
    check_target(target, eos, overwrite=True)
    coming = iter(examples)
    first = next(coming, None)
    if first is None:
        raise PipelineError(f"There is nothing to write into {target}.", "The source is empty.")
    shape = _shape(first)
    columns = ("text",) if only_text and shape == "text" else _COLUMNS[shape]
    count = characters = with_eos = 0
    with (
        atomic_path(target) as temporary,
        open_writer(temporary, target, shape, columns, eos) as writer,
        progress("convert", None, "examples") as advance,
    ):
        for example in chain([first], coming):
            if _shape(example) != shape:
                raise PipelineError(
                    f"Example {count + 1} is a {_shape(example)} and those before it are of the "
                    f"kind {shape}.",
                    "Convert them one by one, with a pattern such as '3_chunks/train-*.parquet'.",
                )
            writer.write(_row(example, columns))
            size = len(example["text"]) if shape == "text" else len(json.dumps(example))
            with_eos += bool(eos) and str(eos) in example["text"]
            count += 1
            characters += size
            advance(size=size)
    if with_eos:
        hold = many(with_eos, "text itself holds", "texts themselves hold")
        warn(f"{hold} {eos!r}: a trainer will take it for the end.")
    return Written(count, characters)


def _shape(example: Example) -> Shape:
    if "messages" in example:
        return "chat"
    return "text" if "text" in example else "completion"


def _row(example: Example, columns: Sequence[str]) -> dict[str, Any]:
    values = {**example.get("about", {}), **example}
    return {name: values.get(name) for name in columns}

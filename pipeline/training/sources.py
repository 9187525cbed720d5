"""What a dataset holds, and its samples: ours, or tables of anybody's.

A dataset is a folder (`data`, `completion` and `chat` in it are read, where one is there, else
all Parquet files below it, else all tables), or files: Parquet,
JSON lines, JSON, CSV, plain or compressed.
"""

import re
from collections.abc import Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any, get_args

from pipeline.console import say
from pipeline.corpus.documents import read_documents
from pipeline.corpus.examples import (
    COMPLETION_COLUMNS,
    MESSAGES_COLUMNS,
    PROMPT_COLUMNS,
    TEXT_COLUMNS,
    BadExample,
    ColumnNames,
    Shape,
    as_example,
    shape_of,
    wanted_columns,
)
from pipeline.corpus.shards import find_splits
from pipeline.corpus.splits import validation_ids
from pipeline.corpus.statistics import columns_of, read_parts
from pipeline.corpus.tables import BadRow, column_names, read_rows, table_format
from pipeline.errors import PipelineError, UsageError
from pipeline.files import fingerprint, link_or_copy
from pipeline.storage.door import Storage
from pipeline.storage.urls import LOCAL, redact, scheme
from pipeline.training.data import Sample, as_sample

FOLDERS = ("data", "completion", "chat")
KINDS = ("auto", *get_args(Shape))
HELD_OUT_SHARE = 0.1  # of a dataset without a validation split

_WORDS = {
    "text": "texts",
    "completion": "prompts with completions",
    "chat": "chats",
}
_ABOUT = {"document_id", "record", "id", "collection", "weight"}


def is_address(spec: str) -> bool:
    """Whether `spec` is a URL or a pattern of files, rather than a path or a Hub id."""
    return scheme(spec) != LOCAL or (re.search(r"[*?\[{]", spec) is not None)


def files_in(place: Path) -> list[Path]:
    """The tables of a dataset: the file `place`, or those of the folder `place`.

    Raises PipelineError if there is none.
    """
    if place.is_file():
        return [place]
    ours = [path for name in FOLDERS for path in sorted((place / name).glob("*.parquet"))]
    tables = [
        path for path in sorted(place.rglob("*"))
        if path.is_file() and table_format(path.name) and not _is_hidden(path, place)
    ]  # fmt: skip
    if not tables:
        raise PipelineError(f"{place} has no Parquet, JSON or CSV files in it.")
    return ours or [path for path in tables if path.suffix == ".parquet"] or tables


def _is_hidden(path: Path, place: Path) -> bool:
    return any(part.startswith(".") for part in path.relative_to(place).parts)


def files_at(pattern: str, cache: Path) -> list[Path]:
    """The tables that a URL or a pattern stands for, with copies in `cache` of what is remote.

    Raises PipelineError if there is none, or one cannot be had.
    """
    with Storage(cache=cache / "objects") as storage:
        entries = [entry for entry in storage.expand(pattern) if table_format(entry.name)]
        if not entries:
            raise PipelineError(f"{redact(pattern)} names no Parquet, JSON or CSV file.")
        found = []
        for entry in entries:
            if scheme(entry.url) == LOCAL:
                found.append(Path(entry.url))
                continue
            # Under its own name, which tells the format and the split.
            folder = cache / "datasets" / fingerprint([entry.url, entry.version])[:16]
            parent = entry.url.rstrip("/").rpartition("/")[0].rpartition("/")[2]
            path = folder / (re.sub(r"[^\w.-]", "_", parent) or "_") / entry.name
            if not path.exists():
                path.parent.mkdir(parents=True, exist_ok=True)
                link_or_copy(storage.local_copy(entry), path)
            found.append(path)
    return found


def choose_kind(files: Sequence[Path], wanted: str = "auto") -> tuple[Shape, list[Path]]:
    """The kind of samples to train on, and which of the files hold them.

    "auto" takes the only kind that there is. Raises UsageError if there are several, PipelineError
    if there is none of those wanted.
    """
    if wanted not in KINDS:
        raise UsageError(f"--kind {wanted!r} is unknown.", f"Known: {', '.join(KINDS)}.")
    found: dict[Shape, list[Path]] = {}
    columns: list[str] = []
    for path in files:
        columns = _columns(path)
        shape = shape_of(columns, ColumnNames(), str(path))
        if wanted != "auto" and _can_be(wanted, columns):
            shape = wanted  # type: ignore[assignment]
        if shape is not None:
            found.setdefault(shape, []).append(path)
    for kind, paths in found.items():
        if wanted == kind or (wanted == "auto" and len(found) == 1):
            return kind, paths
    if wanted == "auto" and found:
        held = " and ".join(_WORDS[kind] for kind in sorted(found))
        raise UsageError(
            f"The dataset holds {held}, and one run trains on one kind.",
            f"Choose: --kind {' or --kind '.join(sorted(found))}.",
        )
    held = " and ".join(_WORDS[kind] for kind in found) or f"the columns {', '.join(columns)}"
    raise PipelineError(
        f"The dataset has no {_WORDS.get(wanted, 'examples')}; it has {held}.",
        "Columns are found by name: text; prompt and completion; or messages.",
    )


def _columns(path: Path) -> list[str]:
    if path.suffix.lower() == ".parquet":
        return columns_of(path)[0]
    return column_names(lambda: path.open("rb"), lambda: path, str(path))


def _can_be(kind: str, columns: Sequence[str]) -> bool:
    wanted: dict[str, list[Sequence[str]]] = {
        "text": [TEXT_COLUMNS],
        "completion": [PROMPT_COLUMNS, COMPLETION_COLUMNS],
        "chat": [MESSAGES_COLUMNS],
    }
    return all(set(names) & set(columns) for names in wanted[kind])


def read_samples(
    files: Sequence[Path], kind: Shape, seed: int, *, eos: str = "document"
) -> tuple[list[Sample], list[Sample]]:
    """The samples to train on and those held out.

    What has the weight 0 is for evaluation only, wherever it stands. A dataset without anything
    held out gets a validation split here, of whole documents, or of records. With `eos` "chunk"
    each chunk to train on is a document of its own.

    Raises PipelineError if nothing is left to score a model on, naming file and row of what is no
    sample.
    """
    train_files, validation_files = find_splits(files)
    training = list(_read(train_files, kind, eos))
    held_out = list(_read(validation_files, kind, "document"))
    held_out += [sample for sample in training if sample.weight == 0]
    training = [sample for sample in training if sample.weight != 0]
    noun = "documents" if kind == "text" else "records"
    if not held_out:
        chosen = _held_out(training, seed, eos)
        held_out = [sample for i, sample in enumerate(training) if i in chosen]
        training = [sample for i, sample in enumerate(training) if i not in chosen]
        if held_out:
            say(f"The dataset has no validation split: {len(held_out)} {noun} are held out.")
    if not held_out:
        raise PipelineError(
            f"The dataset holds no {'text' if kind == 'text' else 'record'} out to score the "
            "model on.",
            f"Add {noun}, or run `pipeline chunk` with a --validation-fraction above 0.",
        )
    return training, held_out


def _held_out(samples: Sequence[Sample], seed: int, eos: str) -> set[int]:
    """The numbers of the samples to hold out: whole documents, and equal records together."""
    sizes = [(str(i), len(str(sample.content))) for i, sample in enumerate(samples)]
    works = {}
    for i, sample in enumerate(samples):
        if sample.kind != "text":
            works[str(i)] = fingerprint(sample.content)
        else:  # of chunks the name of their document stands before the last #
            works[str(i)] = sample.id.rpartition("#")[0] if eos == "chunk" else sample.id
    return {int(i) for i in validation_ids(sizes, HELD_OUT_SHARE, seed, works)}


def _read(files: Sequence[Path], kind: Shape, eos: str) -> Iterator[Sample]:
    if kind != "text":
        yield from _records(files, kind)
        return
    tables = [path for path in files if path.suffix.lower() == ".parquet"]
    if eos == "chunk":
        texts: Iterator[Sample] = _chunks(tables)
    else:
        texts = map(as_sample, read_documents(tables))
    others = _records([path for path in files if path not in tables], kind)
    for samples in (texts, others):
        yield from map(_without_last_newline, samples)


def _chunks(tables: Sequence[Path]) -> Iterator[Sample]:
    """Each chunk as a document."""
    for part in read_parts(tables):
        for number, text in zip(part.chunks, part.texts, strict=True):
            name = f"{part.document_id}#{number}"
            about = part.about
            yield Sample(name, {"text": text}, about.get("collection"), about.get("weight"))


def _without_last_newline(sample: Sample) -> Sample:
    """The document as a model is to know it: its last word, then the end token.

    A text file ends with a line end. Trained on, it would teach the model that the end comes after
    a line end, and as a paragraph break begins with one too, it would stop at half its paragraphs.
    """
    return replace(sample, content={"text": sample.text.rstrip("\n")})


def _records(files: Sequence[Path], kind: Shape) -> Iterator[Sample]:
    """The rows of tables as samples."""
    names = ColumnNames()
    columns = wanted_columns(names) | _ABOUT
    for path in files:
        for row in read_rows(lambda p=path: p.open("rb"), lambda p=path: p, str(path), columns):  # type: ignore[misc]
            if isinstance(row, BadRow):
                raise PipelineError(f"{path}, {row.where}: {row.reason.rstrip('.')}.")
            try:
                content = as_example(row.value, kind, names)
            except BadExample as error:
                raise PipelineError(
                    f"{path}, {row.where}: {error.reason.rstrip('.')}.", "Mend or remove the row."
                ) from error
            content.pop("about", None)
            yield Sample(_name(row.value, path, row.place), content, *_source(row.value))


def _name(row: dict[str, Any], path: Path, place: int) -> str:
    if row.get("document_id") is not None and row.get("record") is not None:
        return f"{row['document_id']}#{row['record']}"
    named = row.get("id")
    return str(named) if isinstance(named, str | int) else f"{path.name}#{place}"


def _source(row: dict[str, Any]) -> tuple[str | None, float | None]:
    """The name of a row's source and its weight: many a foreign table has a `weight` of its own."""
    name, weight = row.get("collection"), row.get("weight")
    if not isinstance(name, str):
        return None, None
    if not isinstance(weight, int | float) or isinstance(weight, bool) or weight != weight:
        return name, None
    return name, float(weight)


def read_template(name: str | None) -> str | None:
    """A chat template: "plain", the text of a file, or None. Raises UsageError if there is none."""
    if name is None or name == "plain":
        return name
    try:
        return Path(name).expanduser().read_text("utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise UsageError(
            f"--chat-template {name} cannot be read as text.", "Give plain, or a file in Jinja."
        ) from error

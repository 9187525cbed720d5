"""What a dataset holds, and its samples: ours, or tables of anybody's.

A dataset is a folder (`data`, `completion` and `chat` in it are read, where one is there, else
all tables below it), or files: Parquet, JSON lines, JSON, CSV, plain or compressed.
"""

import os
import re
from collections import defaultdict
from collections.abc import Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any, get_args

from pipeline.console import few, say
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
from pipeline.corpus.statistics import columns_of, read_parts
from pipeline.corpus.tables import BadRow, column_names, read_rows, table_format
from pipeline.errors import PipelineError, UsageError
from pipeline.files import fingerprint, link_or_copy
from pipeline.storage.door import Storage
from pipeline.storage.urls import LOCAL, redact, scheme
from pipeline.training.data import Sample, as_sample
from pipeline.training.works import choose_held_out

FOLDERS = ("data", "completion", "chat")
KINDS = ("auto", *get_args(Shape))

_WORDS = {
    "text": "texts",
    "completion": "prompts with completions",
    "chat": "chats",
}
_ABOUT = {"document_id", "record", "id", "collection", "weight", "work"}
_CHUNKED = {"document_id", "chunk", "char_start"}
# Written by the library `datasets` beside the tables; no table itself.
_DESCRIPTIONS = {"dataset_infos.json", "dataset_info.json", "dataset_dict.json", "state.json"}


def is_address(spec: str) -> bool:
    """Whether `spec` is a URL or a pattern of files, rather than a path or a Hub id."""
    return scheme(spec) != LOCAL or (re.search(r"[*?\[{]", spec) is not None)


def table_format_of(name: str) -> str | None:
    """The format of a table of a dataset by its name or path; None if it is no table, or only
    describes those beside it."""
    return None if name.rpartition("/")[2] in _DESCRIPTIONS else table_format(name)


def files_in(place: Path) -> list[Path]:
    """The tables of a dataset: the file `place`, or those of the folder `place`.

    Raises PipelineError if there is none.
    """
    if place.is_file():
        return [place]
    ours = [path for name in FOLDERS for path in sorted((place / name).glob("*.parquet"))]
    tables = [
        path for path in sorted(place.rglob("*"))
        if path.is_file() and table_format_of(path.name) and not _is_hidden(path, place)
    ]  # fmt: skip
    if not tables:
        raise PipelineError(f"{place} has no Parquet, JSON or CSV files in it.")
    return ours or tables


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


def check_kind(wanted: str) -> None:
    """Raise UsageError unless `wanted` is a kind of samples, or "auto"."""
    if wanted not in KINDS:
        raise UsageError(f"--kind {wanted!r} is unknown.", f"Known: {', '.join(KINDS)}.")


def choose_kind(files: Sequence[Path], wanted: str = "auto") -> tuple[Shape, list[Path]]:
    """The kind of samples to train on, and which of the files hold them.

    "auto" takes the only kind that there is; with another, it is said which files are left out.
    Raises UsageError if there are several, PipelineError if there is none of those wanted, or if
    some files have a kind and another has none.
    """
    check_kind(wanted)
    found: dict[Shape, list[Path]] = {}
    columns: list[str] = []
    unknown: dict[Path, list[str]] = {}
    for path in files:
        columns = _columns(path)
        shape = shape_of(columns, ColumnNames(), str(path))
        if wanted != "auto" and _can_be(wanted, columns):
            shape = wanted  # type: ignore[assignment]
        if shape is not None:
            found.setdefault(shape, []).append(path)
        elif columns:  # without any there is nothing in it that would be left out
            unknown[path] = columns
    if found:
        _refuse_unknown(unknown)
    for kind, paths in found.items():
        if wanted == kind or (wanted == "auto" and len(found) == 1):
            _say_left_out(kind, found)
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


def _refuse_unknown(files: dict[Path, list[str]]) -> None:
    for path, columns in files.items():
        raise PipelineError(
            f"{path} is no table to train on: its columns are {', '.join(columns)}.",
            "Remove it, or name the files to train on with a pattern: 'FOLDER/*.parquet'.",
        )


def _say_left_out(kind: Shape, found: dict[Shape, list[Path]]) -> None:
    for other, paths in found.items():
        if other != kind:
            names = few([path.name for path in paths])
            say(f"--kind {kind} leaves out {_WORDS[other]}: {names}.")


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
    held out, or with nothing else, gets a validation split here, of whole works, or of records.
    With `eos` "chunk" each chunk to train on is a document of its own.

    Raises PipelineError if nothing is left to score a model on, naming file and row of what is no
    sample.
    """
    train_files, validation_files = split_files(files)
    training = list(samples_in(train_files, kind, eos))
    held_out = list(samples_in(validation_files, kind, "document"))
    held_out += [sample for sample in training if sample.weight == 0]
    training = [sample for sample in training if sample.weight != 0]
    noun = "document" if kind == "text" else "record"
    if not held_out:
        chosen = choose_held_out(training, seed, eos)
        held_out = [sample for i, sample in enumerate(training) if i in chosen]
        training = [sample for i, sample in enumerate(training) if i not in chosen]
        if held_out:
            many = f"1 {noun} is" if len(held_out) == 1 else f"{len(held_out):,} {noun}s are"
            say(f"The dataset has no validation split: {many} held out.")
    if not held_out:
        raise PipelineError(
            f"The dataset holds no {'text' if kind == 'text' else 'record'} out to score the "
            "model on.",
            f"Add {noun}s, or run `pipeline chunk` with a --validation-fraction above 0.",
        )
    return training, held_out


def split_files(files: Sequence[Path]) -> tuple[list[Path], list[Path]]:
    """The files to train on and those held out, by their names and those of their folders.

    Folders that all files lie in tell nothing, and where all would be held out, none is.
    """
    if len({path.parent for path in files}) > 1:
        files = sorted(files)
    common = os.path.commonpath([path.parent for path in files]) if files else ""
    sides: dict[bool, list[Path]] = {False: [], True: []}
    for path in files:
        sides[_is_held_out(path.relative_to(common))].append(path)
    return (sides[False], sides[True]) if sides[False] else (sides[True], [])


def _is_held_out(path: Path) -> bool:
    folders = path.parts[:-1] or ("",)
    return any(find_splits([Path(folder, path.name)])[1] for folder in folders)


def samples_in(files: Sequence[Path], kind: Shape, eos: str) -> Iterator[Sample]:
    if kind != "text":
        yield from _records(files, kind)
        return
    readers = defaultdict[str, list[Path]](list)
    for path in files:
        readers[_reader_of(path, eos)].append(path)
    yield from map(_without_last_newline, _chunks(readers["chunks"]))
    documents = read_documents(readers["documents"], null_is_empty=True)
    yield from map(_without_last_newline, map(as_sample, documents))
    yield from map(_without_last_newline, _records(readers["records"], kind))


def _reader_of(path: Path, eos: str) -> str:
    """How the texts of a table are read: as chunks, documents joined of them, or rows."""
    columns = set(_columns(path)) if path.suffix.lower() == ".parquet" else set()
    if "text" not in columns:
        return "records"
    return "chunks" if eos == "chunk" and columns >= _CHUNKED else "documents"


def _chunks(tables: Sequence[Path]) -> Iterator[Sample]:
    """Each chunk as a document, of the work that its document is of."""
    for part in read_parts(tables):
        about = part.about
        work = about.get("work") or part.document_id
        for number, text in zip(part.chunks, part.texts, strict=True):
            name = f"{part.document_id}#{number}"
            yield Sample(name, {"text": text}, about.get("collection"), about.get("weight"), work)


def _without_last_newline(sample: Sample) -> Sample:
    """The document as a model is to know it: its last word, then the end token.

    A text file ends with a line end. Trained on, it would teach the model that the end comes after
    a line end, and as a paragraph break begins with one too, it would stop at half its paragraphs.
    """
    text = sample.text.rstrip("\n")
    return replace(sample, content={"text": text}, end_newlines=len(sample.text) - len(text))


def _records(files: Sequence[Path], kind: Shape) -> Iterator[Sample]:
    """The rows of tables as samples."""
    names = ColumnNames()
    columns = wanted_columns(names) | _ABOUT
    for path in files:
        for row in read_rows(lambda p=path: p.open("rb"), lambda p=path: p, str(path), columns):  # type: ignore[misc]
            if isinstance(row, BadRow):
                raise PipelineError(f"{path}, {row.where}: {row.reason.rstrip('.')}.")
            try:
                content = _blank(row.value, kind) or as_example(row.value, kind, names)
            except BadExample as error:
                raise PipelineError(
                    f"{path}, {row.where}: {error.reason.rstrip('.')}.", "Mend or remove the row."
                ) from error
            content.pop("about", None)
            work = row.value.get("work") if kind == "text" else None
            yield Sample(
                _name(row.value, path, row.place), content, *_source(row.value),
                work if isinstance(work, str) and work else None,
            )  # fmt: skip


def _blank(row: dict[str, Any], kind: Shape) -> dict[str, Any] | None:
    """The content of a row whose text is null or blank, which is an empty document."""
    column = next((name for name in TEXT_COLUMNS if name in row), None)
    if kind != "text" or column is None:
        return None
    value = row[column]
    if value is None or value != value:  # not-a-number: how pandas writes null
        return {"text": ""}
    return {"text": value} if isinstance(value, str) and not value.strip() else None


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


def check_template(name: str | None) -> None:
    """Raise UsageError if a chat template cannot be read, or is no Jinja."""
    from jinja2 import TemplateSyntaxError
    from jinja2.sandbox import ImmutableSandboxedEnvironment

    source = read_template(name)
    if source is None or source == "plain":
        return
    # The marks of what the assistant writes are no tags of Jinja's own.
    plain = re.sub(r"\{%[-+]?\s*(end)?generation\s*[-+]?%\}", "", source)
    try:
        ImmutableSandboxedEnvironment(extensions=["jinja2.ext.loopcontrols"]).compile(plain)
    except TemplateSyntaxError as error:  # also for filters that there are not
        raise UsageError(
            f"--chat-template {name} is no Jinja template: line {error.lineno}: {error.message}"
        ) from error

"""The work of stage 3 on one shard: read its documents, cut them, write one Parquet file.

A job depends on nothing but itself, so that any process can do it, and equal jobs give equal
bytes. Memory holds one document and one row group.
"""

from codecs import BOM_UTF8
from collections.abc import Mapping
from dataclasses import dataclass, field
from itertools import pairwise
from math import isfinite
from pathlib import Path
from typing import Any

from pipeline.corpus.chunking import (
    CHARACTERS,
    Measure,
    chunk_ends,
    overlap_starts,
)
from pipeline.corpus.passages import sample_passages, save_passages
from pipeline.corpus.sentences import DEFAULT_LANGUAGE
from pipeline.corpus.shards import Chunks, ShardWriter
from pipeline.corpus.splits import tail_start
from pipeline.corpus.tokenizing import TokenPlaces
from pipeline.errors import PipelineError
from pipeline.files import fingerprint

TRAIN, VALIDATION = "train", "validation"
REPORT = "2_preprocessed/report.jsonl"  # as messages name it
_TEXT_FIELDS = ("title", "language", "source", "rights", "work", "collection")
_NO_LIMIT = 2**62  # a job's split is one file


@dataclass(frozen=True)
class Cutting:
    """How documents are cut: sizes in characters, or in tokens of the tokenizer in a file.

    `tokenizer_name` says which tokenizer that is, whatever the file is called.
    """

    target: int
    minimum: int
    overlap: int = 0
    tokenizer: Path | None = None
    tokenizer_name: str | None = None

    @property
    def identity(self) -> list[Any]:
        """What the chunks depend on."""
        return [self.target, self.minimum, self.overlap, self.tokenizer_name]


@dataclass(frozen=True)
class About:
    """What the columns say of a document."""

    title: str | None = None
    authors: tuple[str, ...] = ()
    language: str | None = None
    source: str | None = None
    rights: str | None = None
    work: str | None = None
    collection: str | None = None
    weight: float | None = None

    @classmethod
    def of(cls, row: Mapping[str, Any], document_id: str) -> "About":
        """From a row of stage 2's report; its authors may be one string, which is one author.

        Raises PipelineError naming file and field for a value of a kind that it cannot have.
        """
        texts = {name: row.get(name) for name in _TEXT_FIELDS}
        for name, value in texts.items():
            if value is not None and not isinstance(value, str):
                raise _bad_field(row, name, "a text")
        weight = row.get("weight")
        is_number = isinstance(weight, int | float) and not isinstance(weight, bool)
        if weight is not None and not (is_number and isfinite(weight)):
            raise _bad_field(row, "weight", "a number")
        authors = row.get("authors") or ()
        authors = [authors] if isinstance(authors, str) else authors
        if not isinstance(authors, list | tuple) or any(not isinstance(a, str) for a in authors):
            raise _bad_field(row, "authors", "a list of texts")
        return cls(
            **texts | {"work": texts["work"] or document_id},
            authors=tuple(authors),
            weight=None if weight is None else float(weight),
        )


def _bad_field(row: Mapping[str, Any], name: str, wanted: str) -> PipelineError:
    value = ascii(row.get(name))
    return PipelineError(
        f'{REPORT}: "{name}" of {row.get("file")} is {value[:60]}, which is not {wanted}.',
        "Mend the line in an editor, or run `pipeline preprocess --force`.",
    )


@dataclass(frozen=True)
class Text:
    """A document: its file, that file's size and sha256, and what is known of it."""

    path: Path
    size: int
    sha256: str
    about: About

    @property
    def id(self) -> str:
        return self.path.stem


@dataclass(frozen=True)
class ShardJob:
    """A shard to be made, the `number`-th of `count` of its split.

    `tail` is for the only document of all: the share of it that is held out, at its end.
    """

    texts: tuple[Text, ...]
    split: str
    number: int
    count: int
    cutting: Cutting
    tail: float = 0.0

    @property
    def size(self) -> int:
        """Bytes of text."""
        return sum(text.size for text in self.texts)

    def key(self, version: int) -> str:
        """What the file depends on; `version` is that of the code."""
        documents = [[text.path.name, text.sha256, vars(text.about)] for text in self.texts]
        return fingerprint([version, self.cutting.identity, self.split, self.tail, documents])

    def passages_key(self, version: int) -> str:
        """What its passages depend on."""
        return fingerprint([version, [text.sha256 for text in self.texts]])


@dataclass(frozen=True)
class Place:
    """Where a job leaves what it makes: files in an empty folder, passages in a file of their own.
    None: not wanted."""

    folder: Path | None
    passages: Path | None


@dataclass
class Made:
    """What a job made: its file for each split, and a row for each document."""

    files: dict[str, Path] = field(default_factory=dict)
    rows: list[dict[str, Any]] = field(default_factory=list)


def make_shard(work: tuple[ShardJob, Place]) -> Made:
    """Do a job. Raises PipelineError naming file and line for what is not UTF-8."""
    job, place = work
    samples = []
    made = Made()
    writers = _writers(job, place.folder)
    try:
        for text in job.texts:
            data = text.path.read_bytes()
            if place.passages:
                samples.append(sample_passages(data))
            if writers:
                made.rows.append(_write(job, text, data, writers))
            del data
        for split, writer in writers.items():
            for path in writer.close():
                made.files[split] = path
    except BaseException:
        for writer in writers.values():
            writer.discard()
        raise
    if place.passages:
        save_passages(place.passages, samples)
    return made


def _writers(job: ShardJob, folder: Path | None) -> dict[str, ShardWriter]:
    if folder is None:
        return {}
    splits = (TRAIN, VALIDATION) if job.tail else (job.split,)
    folder.mkdir()
    return {split: ShardWriter(folder, split, shard_bytes=_NO_LIMIT) for split in splits}


def _write(
    job: ShardJob, text: Text, data: bytes, writers: dict[str, ShardWriter]
) -> dict[str, Any]:
    """Write a document into its split or splits; returns its row."""
    cutting = job.cutting
    decoded = decode(data, text.path)
    if b"\r" in data or data.startswith(BOM_UTF8):
        data = decoded.encode()
    measure: Measure = CHARACTERS
    if cutting.tokenizer:
        measure = TokenPlaces(decoded, cutting.tokenizer)
    ends, begins = _cut(decoded, text.about.language, cutting, measure)
    characters = len(decoded)
    del decoded  # it is written from its bytes
    numbers = {job.split: range(len(ends))}
    if job.tail:
        cut = tail_start([b - a for a, b in pairwise([0, *ends])], job.tail)
        numbers = {TRAIN: range(cut), VALIDATION: range(cut, len(ends))}
        if 0 < cut < len(ends):  # what is held out does not begin with what is trained on
            begins[cut] = ends[cut - 1]
    row: dict[str, Any] = {
        "file": text.path.name,
        "characters": characters,
        "chunks": len(ends),
        "held_out": len(numbers.get(VALIDATION, ())),
        TRAIN: 0,
        VALIDATION: 0,
        "tokens": measure.units(characters) if cutting.tokenizer else None,
    }
    for split, writer in writers.items():
        mine = slice(numbers[split].start, numbers[split].stop)
        tokens = None
        if cutting.tokenizer:
            places = zip(begins[mine], ends[mine], strict=True)
            tokens = [measure.units(end) - measure.units(begin) for begin, end in places]
        about = vars(text.about) | {"split": split}
        chunks = Chunks(text.id, data, begins[mine], ends[mine], mine.start, tokens, about)
        row[split] = sum(chunks.ends) - sum(chunks.begins) - sum(chunks.overlaps())
        writer.write_document(chunks)
    return row


def _cut(
    text: str, language: str | None, cutting: Cutting, measure: Measure
) -> tuple[list[int], list[int]]:
    """Where the chunks end, and where they begin: before the end of the one before, if they
    overlap. What a chunk repeats counts among its size."""
    code = (language or DEFAULT_LANGUAGE).lower().partition("-")[0]
    target, minimum = cutting.target - cutting.overlap, max(1, cutting.minimum - cutting.overlap)
    ends = chunk_ends(text, target, minimum, code, measure)
    if not cutting.overlap:
        return ends, [0, *ends[:-1]]
    return ends, overlap_starts(text, ends, cutting.overlap, code, measure)


def decode(data: bytes, path: Path) -> str:
    """A cleaned text, perhaps edited by hand: UTF-8, any line ends.

    Raises PipelineError naming file and line for what is not UTF-8.
    """
    try:
        text = data.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        line = data[: error.start].count(b"\n") + 1
        raise PipelineError(
            f"{path}:{line} is not UTF-8 text.", "Save the file as UTF-8 in your editor."
        ) from error
    return text.replace("\r\n", "\n").replace("\r", "\n") if "\r" in text else text

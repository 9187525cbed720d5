"""One pass over the Parquet files, and everything that is told about them."""

import json
import random
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from pipeline.console import progress
from pipeline.corpus.documents import find_splits
from pipeline.corpus.record_files import KINDS
from pipeline.corpus.statistics import (
    SPLITS,
    Distribution,
    Part,
    columns_of,
    parquet_files,
    read_parts,
)
from pipeline.errors import PipelineError, UsageError
from pipeline.inspection.lengths import Counter, Sized, TextTokenizer, Training, training_length
from pipeline.inspection.search import PhraseSearch, Search, TokenSearch
from pipeline.records import RECORD
from pipeline.training.settings import TrainSettings
from pipeline.workspace import Workspace

DOCUMENTS = "documents.jsonl"
SHOWN = 80  # characters on each side of a boundary


@dataclass(frozen=True)
class Wanted:
    """What a person asks for; see `pipeline inspect --help`."""

    tokenizer: str | None = None
    search: str | None = None
    search_ids: str | None = None
    hits: int = 5
    samples: int = 3
    training: TrainSettings = field(default_factory=TrainSettings)


@dataclass(frozen=True)
class Boundary:
    """The end of a chunk and the beginning of the next one, at `place` in the document."""

    document_id: str
    title: str | None
    chunk: int
    place: int
    before: str
    after: str


@dataclass
class DocumentFigures:
    """What is told of one document."""

    title: str | None
    authors: list[str]
    language: str | None
    source: str | None
    work: str | None
    collection: str | None
    chunks: int = 0
    tokens: int = 0
    characters: dict[str, int] = field(default_factory=dict)  # in each split

    @property
    def total(self) -> int:
        """Characters in all."""
        return sum(self.characters.values())

    @property
    def split(self) -> str:
        """Where it is, such as "train"; "train and validation" for one whose end is held out."""
        return " and ".join(split for split in SPLITS if split in self.characters)


@dataclass
class Inspection:
    """All that was found. Sizes are characters but where tokens are named."""

    place: Path
    settings: dict[str, Any]  # of stage 3, as far as its record is there
    ledger: dict[str, Any] | None
    accounts: Path | None  # where stage 3 accounts for each document
    contamination: dict[str, Any] | None  # held-out passages that stand in training too
    documents: dict[str, DocumentFigures] = field(default_factory=dict)
    chunk_sizes: dict[str, Distribution] = field(
        default_factory=lambda: {split: Distribution() for split in SPLITS}
    )
    chunk_tokens: dict[str, Distribution] = field(
        default_factory=lambda: {split: Distribution() for split in SPLITS}
    )
    tokens: str = "estimate"  # how they were counted; see lengths.Counter
    tokenizer: str | None = None
    boundaries: list[Boundary] = field(default_factory=list)
    searches: list[Search] = field(default_factory=list)
    records: dict[str, dict[str, int]] = field(default_factory=dict)
    training: Training | None = None
    no_training: str = ""  # why there is none

    @property
    def unit(self) -> str:
        """What stage 3 measured chunks in: "characters" or "tokens"."""
        return "tokens" if self.settings.get("tokenizer") else "characters"

    def sizes(self) -> Distribution:
        """The sizes of the chunks of both splits."""
        return Distribution.joined(self.chunk_sizes.values())

    def token_counts(self) -> Distribution:
        """The tokens of the chunks of both splits."""
        return Distribution.joined(self.chunk_tokens.values())


def check(wanted: Wanted, plot: Path | None = None) -> None:
    """Raise UsageError for options that make no sense, before anything is read."""
    wanted.training.check()
    if wanted.search_ids is not None and wanted.tokenizer is None:
        raise UsageError("--search-ids needs --tokenizer: ids are a tokenizer's own.")
    if plot is not None and plot.suffix.lower() != ".png":
        raise UsageError(f"--plot {plot} is to end in .png.")


def inspect_chunks(workspace: Workspace, place: Path | None, wanted: Wanted) -> Inspection:
    """Read `place` (a Parquet file or a folder of them; the data directory's chunks if None).

    One document is in memory at a time, and a few figures of each.

    Raises PipelineError if there is nothing to read, or it is damaged; UsageError for options
    that make no sense.
    """
    place = place or default_place(workspace)
    texts, records = sort_files(parquet_files(place))
    tokenizer = None
    if wanted.tokenizer is not None:
        tokenizer = TextTokenizer(wanted.tokenizer, workspace.cache / "base")
    searches: list[Search] = []
    if wanted.search is not None:
        searches.append(PhraseSearch(wanted.search, wanted.hits))
    if wanted.search_ids is not None and tokenizer is not None:
        searches.append(TokenSearch(wanted.search_ids, wanted.hits, tokenizer))
    made = Made.of(place, workspace)
    found = Inspection(
        place, made.settings, made.ledger, made.documents, made.contamination,
        tokenizer=wanted.tokenizer,        searches=searches, records=records,
    )  # fmt: skip
    counter = Counter(tokenizer)
    sized = list(_survey(texts, found, counter, Samples(wanted.samples)))
    found.tokens = counter.basis
    try:
        found.training = training_length(sized, wanted.training)
    except PipelineError as error:
        found.no_training = str(error)
    return found


def default_place(workspace: Workspace) -> Path:
    """The chunks of the data directory, or the dataset if they are not there any more."""
    for stage in ("chunk", "upload"):
        directory = workspace.directory(stage)
        if any(directory.rglob("*.parquet")):
            return directory
    raise PipelineError(
        f"{workspace.directory('chunk')} has no chunks to look at.",
        "Run `pipeline chunk` first, or name a folder of Parquet files.",
    )


def sort_files(paths: Sequence[Path]) -> tuple[list[Path], dict[str, dict[str, int]]]:
    """The files of texts, and how many records the others hold, by their kind and split.

    Raises PipelineError naming the columns if there is neither.
    """
    texts = []
    records: dict[str, dict[str, int]] = {}
    strange: list[tuple[Path, list[str]]] = []
    for path in paths:
        columns, rows = columns_of(path)
        kind = KINDS[1] if "messages" in columns else KINDS[0]
        if "text" in columns:
            texts.append(path)
        elif "messages" in columns or {"prompt", "completion"} <= set(columns):
            split = SPLITS[bool(find_splits([path])[1])]
            of_kind = records.setdefault(kind, dict.fromkeys(SPLITS, 0))
            of_kind[split] += rows
        else:
            strange.append((path, columns))
    if strange and not texts and not records:
        path, columns = strange[0]
        raise PipelineError(
            f"{path} has no column `text`; its columns are: {', '.join(columns[:20]) or 'none'}.",
            "`pipeline convert FILE out.parquet --text-column NAME` makes one that has.",
        )
    return texts, records


@dataclass(frozen=True)
class Made:
    """What stage 3 left about its work beside the files, as far as it is there."""

    settings: dict[str, Any] = field(default_factory=dict)
    ledger: dict[str, Any] | None = None
    contamination: dict[str, Any] | None = None
    documents: Path | None = None

    @classmethod
    def of(cls, place: Path, workspace: Workspace) -> "Made":
        """Look beside `place`; for the dataset that stage 4 made of the chunks, beside these."""
        folder = (place if place.is_dir() else place.parent).absolute()
        if folder.is_relative_to(workspace.directory("upload").absolute()):
            folder = workspace.directory("chunk")
        try:
            record = json.loads((folder / RECORD).read_text("utf-8"))
            if record["stage"] != "chunk":
                return cls()
            settings, counts = dict(record["settings"]), dict(record["counts"])
        except (OSError, ValueError, LookupError, TypeError, AttributeError):
            return cls()  # anybody's folder, or a record that `pipeline status` complains of
        ledger, passages = counts.get("ledger"), counts.get("contamination")
        whole = isinstance(ledger, dict) and isinstance(ledger.get("total"), dict)
        counted = isinstance(passages, dict) and {"passages", "in_training"} <= passages.keys()
        rows = folder / DOCUMENTS
        return cls(
            settings, ledger if whole else None, passages if counted else None,
            rows if rows.is_file() else None,
        )  # fmt: skip


class Samples:
    """Boundaries between chunks, `most` of all that come, each as likely as any other.

    The same chunks give the same samples.
    """

    def __init__(self, most: int) -> None:
        self._most = most
        self._random = random.Random(0)
        self._seen = 0
        self._chosen: dict[int, tuple[int, Boundary]] = {}

    def look(self, part: Part) -> None:
        """Draw among the boundaries of a document."""
        for row in range(1, len(part.texts)):
            place = self._seen if self._seen < self._most else self._random.randint(0, self._seen)
            self._seen += 1
            if place < self._most:
                self._chosen[place] = (self._seen, _boundary(part, row))

    def chosen(self) -> list[Boundary]:
        """In the order in which they came."""
        return [boundary for _, boundary in sorted(self._chosen.values(), key=lambda b: b[0])]


def _boundary(part: Part, row: int) -> Boundary:
    repeated = len(part.texts[row]) - part.sizes[row]
    return Boundary(
        part.document_id, part.about.get("title"), part.chunks[row], part.starts[row],
        part.texts[row - 1][-SHOWN:], part.texts[row][repeated:][:SHOWN],
    )  # fmt: skip


def _survey(
    texts: Sequence[Path], found: Inspection, counter: Counter, samples: Samples
) -> Iterator[Sized]:
    """Take every document into `found`; yields its length."""
    with progress("inspect", None, "documents") as advance:
        for part in read_parts(texts):
            advance(note=part.document_id, size=sum(part.sizes))
            encoded = counter.encode(part)
            chunks = counter.chunks(part, encoded)
            tokens = counter.document(part, chunks, encoded)
            for size, count in zip(part.texts, chunks, strict=True):
                found.chunk_sizes[part.split].add(len(size))
                found.chunk_tokens[part.split].add(count)
            _take(found, part, tokens)
            samples.look(part)
            for search in found.searches:
                search.look(part, encoded)
            if any(not text.isspace() for text in part.texts if text):
                yield Sized(
                    part.document_id, part.split, sum(part.sizes), tokens,
                    part.about.get("collection"), part.about.get("weight"),
                )  # fmt: skip
    found.boundaries = samples.chosen()


def _take(found: Inspection, part: Part, tokens: int) -> None:
    about = part.about
    figures = found.documents.setdefault(
        part.document_id,
        DocumentFigures(
            about.get("title"), list(about.get("authors") or []), about.get("language"),
            about.get("source"), about.get("work"), about.get("collection"),
        ),
    )  # fmt: skip
    figures.chunks += len(part.texts)
    figures.tokens += tokens
    before = figures.characters.get(part.split, 0)
    figures.characters[part.split] = before + sum(part.sizes)

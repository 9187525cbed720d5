"""The dataset repository as it is to be: its files, its card, and what the gate says of them."""

import re
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any, ClassVar

from pipeline.files import fingerprint
from pipeline.hub.books import BOOKS_FILE, TEXT, Book, books_parquet
from pipeline.hub.card import CHUNKS_FOLDER, LICENSE_UNKNOWN, configs, dataset_card
from pipeline.hub.client import RepoType
from pipeline.hub.gate import Judgement, judge
from pipeline.hub.listing import Content
from pipeline.hub.making import ledger_rows, shown_settings
from pipeline.hub.publishing import lines_to_mend
from pipeline.hub.repository import scan_all
from pipeline.hub.scanning import FindMentions, Found, Scan, join_scans, scan_text
from pipeline.workspace import Workspace

VERSION = 5  # of stage 4, and of what the gate finds: raise it when either changes
CARD = "README.md"
TOLD_STAGES = ("acquire", "preprocess", "chunk")  # of which the card tells the settings
NAMES = {
    CHUNKS_FOLDER: "Books in chunks",
    "completion": "Prompts with completions",
    "chat": "Chats",
}
LOOKED_AT = 100  # rows among which one to show is looked for
OF_TEXTS = ("chunk_size", "minimum_size", "overlap", "tokenizer")  # settings of stage 3
# Lines of the card's tables: settings and counts, and where a book is from at the end of its row.
_TOLD = re.compile(rf"\| (?:(?:{'|'.join(TOLD_STAGES)}) \||characters ).*")
_SOURCE = re.compile(r"(?<=\|) [^|]*https?://[^|]*\|$")


@dataclass
class Dataset:
    """`parts` are the Parquet files of stage 3: folder of the repository -> split -> files.

    `rows` are those of `documents.jsonl`, `settings` the options of stage 4, `known` what the gate
    found in files earlier.
    """

    workspace: Workspace
    parts: Mapping[str, Mapping[str, Sequence[Path]]]
    rows: Sequence[Mapping[str, Any]]
    settings: Mapping[str, Any]
    find_mentions: FindMentions
    known: dict[str, Scan] = field(default_factory=dict)
    stage = "upload"
    repo_type: ClassVar[RepoType] = "dataset"

    def __post_init__(self) -> None:
        records = {stage: self.workspace.record(stage) for stage in TOLD_STAGES}
        settings = {stage: record.settings for stage, record in records.items() if record}
        counts = {stage: record.counts for stage, record in records.items() if record}
        removed = counts.get("preprocess", {}).get("removed", {})
        has_texts, has_records = CHUNKS_FOLDER in self.parts, self.parts.keys() > {CHUNKS_FOLDER}
        held = "chunks and records" if has_texts and has_records else "chunks"
        held = held if has_texts or not self.parts else "records"
        self.ledger = ledger_rows(counts.get("chunk", {}).get("ledger", {}), removed, held)
        self.made_with = shown_settings(settings)
        if self.parts and not has_texts:  # stages 2 and 3 clean and cut no record
            self.made_with.pop("preprocess", None)
            for name in OF_TEXTS:
                self.made_with.get("chunk", {}).pop(name, None)

    @property
    def mark(self) -> str:
        """What the card tells about the stages before, in short."""
        return fingerprint([self.made_with, self.ledger])

    @property
    def parquet(self) -> dict[str, Path]:
        """Name in the repository -> file of stage 3: `data/train-...` and `chat/train-...`."""
        return {
            f"{folder}/{path.name.removeprefix(f'{folder}-')}": path
            for folder, splits in self.parts.items()
            for paths in splits.values()
            for path in paths
        }

    def amounts(self) -> dict[str, dict[str, int]]:
        """Rows by folder and split, out of the files' footers."""
        import pyarrow.parquet as pq

        return {
            folder: {
                split: sum(pq.read_metadata(path).num_rows for path in paths)
                for split, paths in splits.items()
            }
            for folder, splits in self.parts.items()
        }

    def contents(self, judgement: Judgement) -> dict[str, Content]:
        """All files, by their names in the repository."""
        table = {BOOKS_FILE: books_parquet(self.rows)} if self.rows else {}
        return {**self.parquet, **table, CARD: self.card(judgement).encode()}

    def card(self, judgement: Judgement) -> str:
        """The text of the card."""
        import pyarrow.parquet as pq

        records = self.amounts()
        chunks = records.pop(CHUNKS_FOLDER, {})
        licence = self.settings["licence"]
        if licence is None and (judgement.unknown or judgement.protected):
            licence = LICENSE_UNKNOWN  # also where it is a file that says so, and not its row
        first = next((path for paths in self.parts.get(CHUNKS_FOLDER, {}).values()
                      for path in paths), None)  # fmt: skip
        books = [as_book(row) for row in self.rows]
        noun = "books" if all(book.kind == TEXT for book in books) else "sources"
        unknown = {f"{noun} whose rights are unknown": judgement.unknown}
        return dataset_card(
            pretty_name=self.name,
            books=books,
            rows=chunks,
            records=records,
            repo_id=self.settings["repo_id"],
            license=licence,
            columns=pq.read_schema(first).names if first else None,
            examples=self.examples(),
            overlap=bool(self.made_with.get("chunk", {}).get("overlap")),
            settings=self.made_with,
            counts=self.ledger | (unknown if judgement.unknown else {}),
        )

    @property
    def name(self) -> str:
        """What the card calls the dataset: as the user wants it, else by what is in it."""
        if self.settings["dataset_name"] is not None:
            return str(self.settings["dataset_name"])
        first, *others = [NAMES[folder] for folder in self.parts] or [NAMES[CHUNKS_FOLDER]]
        words = [first, *map(str.lower, others)]
        last = f"and {words[-1]}" if words[1:] else first
        return (", " if words[2:] else " ").join([*words[:-1], last])

    def examples(self) -> dict[str, dict[str, Any]]:
        """Of each kind of records a row to show: the first that the gate has nothing against."""
        import pyarrow.parquet as pq

        found: dict[str, dict[str, Any]] = {}
        for folder, splits in self.parts.items():
            paths = [path for paths in splits.values() for path in paths]
            if folder == CHUNKS_FOLDER or not paths:
                continue
            batch = next(pq.ParquetFile(paths[0]).iter_batches(LOOKED_AT), None)
            rows = batch.to_pylist() if batch is not None else []
            row = next((row for row in rows if not self.find_mentions(_text_of(row))), None)
            if row is not None:
                found[folder] = row
        return found

    def planned(self) -> dict[str, Content]:
        """All files as the stage would write them now."""
        return self.contents(self.judgement(dict(self.parquet)))

    def missed_by(self, card: str) -> list[str]:
        """The configurations that a card, edited by hand, does not name as they should be."""
        from huggingface_hub import DatasetCard
        from yaml import YAMLError

        wanted = configs(self.amounts(), with_books=bool(self.rows))
        try:
            named = DatasetCard(card).data.to_dict().get("configs") or []
        except (ValueError, TypeError, AttributeError, YAMLError):
            named = []
        files = [each.get("data_files") for each in named if isinstance(each, dict)]
        return [each["config_name"] for each in wanted if each["data_files"] not in files]

    def judgement(self, contents: Mapping[str, Content]) -> Judgement:
        """What the gate says of these files; those that have not changed are not read again."""
        scans = scan_all(self.workspace, contents, self.find_mentions, self.known)
        scan = join_scans(scans)
        judgement = self._judge(scan.found, scan.about)
        texts = {
            name: content for name, content in contents.items()
            if isinstance(content, Path) and content.suffix != ".parquet"
        }  # fmt: skip
        found = self._found_in_texts(texts, judgement)
        return self._judge(scan.found | found, scan.about) if found else judgement

    def _judge(self, found: Mapping[str, Found], about: Sequence[Mapping[str, Any]]) -> Judgement:
        return judge(
            found, [*self.rows, *about], self.find_mentions,
            allow_mentions=self.settings["allow_mentions"],
            publish_copyrighted=self.settings["publish_copyrighted"],
        )  # fmt: skip

    def _found_in_texts(self, texts: Mapping[str, Path], judgement: Judgement) -> dict[str, Found]:
        """References in the name of the dataset, and in files that are no Parquet.

        Of the card only what a person wrote counts: where books come from is no part of them.
        """
        found = {"--dataset-name": Found()}
        found["--dataset-name"].add((m.line, m.quote) for m in self.find_mentions(self.name))
        if CARD in texts:
            ours = set(self.card(judgement).splitlines())
        for name, path in texts.items():
            shown = partial(_by_hand, ours=ours) if name == CARD else str
            found[name] = scan_text(path, self.find_mentions, shown)
        return {name: each for name, each in found.items() if each.count}

    def held_back(self, judgement: Judgement) -> list[str]:
        """The list of what must not be published, with the file to mend for each."""
        return lines_to_mend(self.workspace, self.stage, self.rows, judgement)


def _text_of(value: Any) -> str:
    """All text in a row, of whatever depth."""
    if isinstance(value, Mapping):
        value = list(value.values())
    return "\n".join(map(_text_of, value)) if isinstance(value, list) else str(value)


def _by_hand(line: str, ours: Collection[str]) -> str:
    """A line of the card without what this program wrote, also for an earlier card."""
    if line.rstrip("\r\n") in ours:
        return "\n"
    return _SOURCE.sub("", _TOLD.sub("", line.rstrip("\r\n"))) + "\n"


def as_book(row: Mapping[str, Any]) -> Book:
    """A row of `documents.jsonl` as the card shows it."""
    return Book(
        id=str(row.get("document_id")), title=row.get("title"), authors=row.get("authors") or [],
        language=row.get("language"), source=row.get("source"), rights=row.get("rights"),
        characters=row.get("characters") or 0, chunks=row.get("chunks") or 0,
        split=row.get("split") or "", kind=row.get("kind") or TEXT,
        records=row.get("records") or 0,
    )  # fmt: skip

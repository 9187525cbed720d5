"""How much of what a model wrote stands word for word in the text that it was trained on."""

import os
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from pipeline import console
from pipeline.corpus.documents import find_splits
from pipeline.corpus.statistics import columns_of, parquet_files, read_parts
from pipeline.corpus.table_rows import BadRow
from pipeline.corpus.tables import read_rows
from pipeline.errors import PipelineError
from pipeline.files import FileFact
from pipeline.scoring.overlap import Overlap, longest_overlap
from pipeline.storage.urls import redact
from pipeline.training.sources import split_files
from pipeline.workspace import Workspace

_SHOWN = 160  # characters of a copied stretch
_ROWS = 256  # records that are searched as one text: each alone would be slow


@dataclass(frozen=True)
class Copied:
    """The longest stretches of a sample that stand in the training text, and in which book."""

    characters: Overlap
    words: Overlap
    titles: tuple[str | None, str | None]

    def told(self) -> str:
        """In a few words: `34 characters, 6 words (Frankenstein)`."""
        by_characters, by_words = self.titles
        if by_characters is None:
            return "none"
        count = f"{self.characters.length:,} characters"
        words = f"{self.words.length:,} word{'' if self.words.length == 1 else 's'}"
        if by_words in (None, by_characters):
            return f"{count}, {words} ({by_characters})"
        return f"{count} ({by_characters}), {words} ({by_words})"

    def quoted(self) -> str:
        """The stretch itself, on one line."""
        line = " ".join(self.characters.text.split())
        return line if len(line) <= _SHOWN else line[: _SHOWN - 1] + "…"

    def as_dict(self) -> dict[str, Any]:
        """Plain values, for JSON."""
        found = {"characters": self.characters, "words": self.words}
        return {
            unit: {"length": overlap.length, "text": overlap.text,
                   "document": overlap.document, "title": title}
            for (unit, overlap), title in zip(found.items(), self.titles, strict=True)
        }  # fmt: skip


@dataclass
class TrainingText:
    """The text that a data directory's model was trained on: without what is held out.

    `place` is the folder that all of its files lie in.
    """

    place: Path
    files: list[Path]
    _titles: dict[str, str] = field(default_factory=dict)

    @classmethod
    def of(cls, workspace: Workspace) -> "TrainingText | None":
        """That of the dataset which the run was given, else of stage 4's, else of the chunks.

        None if there is none on this disk that can be searched; where the run was given another
        dataset a warning says why, for what lies in `4_dataset` is not what it was trained on.
        """
        record = workspace.record("train")
        dataset = record.settings.get("dataset") if record else None
        if record is not None and dataset:
            return cls._given(workspace, redact(str(dataset)), record.inputs)
        for stage in ("upload", "chunk"):
            folder = workspace.directory(stage)
            if any(folder.rglob("*.parquet")):
                files, _ = find_splits(parquet_files(folder))
                if files:
                    return cls(folder, files)
        return None

    @classmethod
    def _given(
        cls, workspace: Workspace, name: str, facts: Sequence[FileFact]
    ) -> "TrainingText | None":
        paths = [workspace.root / fact.path for fact in facts]
        sizes = [fact.size for fact in facts]
        changed = [p for p, size in zip(paths, sizes, strict=True) if _size(p) != size]
        unreadable = [path for path in paths if path.suffix != ".parquet"]
        if changed or unreadable or not paths:
            why = "is not on this disk as it was then" if changed else "is no Parquet"
            console.warn(f"The model was trained on {name}, which {why}: it is not searched.")
            return None
        place = Path(os.path.commonpath([path.parent for path in paths]))
        return cls(place, split_files(paths)[0])

    def copied(self, samples: Sequence[str]) -> list[Copied]:
        """For each sample what stands in this text.

        Raises PipelineError for a file that is damaged.
        """
        with console.progress("Searching the training text", 2, "passes") as advance:
            characters = longest_overlap(samples, self._documents())
            advance()
            words = longest_overlap(samples, self._documents(), "words")
            advance()
        pairs = zip(characters, words, strict=True)
        return [Copied(a, b, (self._title(a.document), self._title(b.document))) for a, b in pairs]

    def _title(self, document: str | None) -> str | None:
        return None if document is None else self._titles.get(document, document)

    def _documents(self) -> Iterator[tuple[str, str]]:
        texts = [path for path in self.files if "text" in columns_of(path)[0]]
        for part in read_parts(texts):
            title = part.about.get("title")
            if title:
                self._titles[part.document_id] = title
            yield part.document_id, part.text
        for path in self.files:
            if path not in texts:
                yield from self._records(path)

    def _records(self, path: Path) -> Iterator[tuple[str, str]]:
        """Completions and chats, of which the model learned to write what they answer."""
        name = path.relative_to(self.place).as_posix()
        columns = ("completion", "messages")
        texts: list[str] = []
        for row in read_rows(lambda: path.open("rb"), lambda: path, str(path), columns):
            if isinstance(row, BadRow):
                raise PipelineError(f"{path}, {row.where}: {row.reason}.")
            texts += _answers(row.value)
            if len(texts) >= _ROWS:
                # A character that no sample has keeps a stretch within one record.
                yield name, "\0".join(texts)
                texts = []
        yield name, "\0".join(texts)


def _size(path: Path) -> int | None:
    return path.stat().st_size if path.is_file() else None


def _answers(record: dict[str, Any]) -> list[str]:
    messages = record.get("messages")
    if isinstance(messages, list):
        return [
            m["content"] for m in messages
            if isinstance(m, dict) and m.get("role") == "assistant"
            and isinstance(m.get("content"), str)
        ]  # fmt: skip
    completion = record.get("completion")
    return [completion] if isinstance(completion, str) else []

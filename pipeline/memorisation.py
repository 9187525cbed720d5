"""How much of what a model wrote stands word for word in the text that it was trained on."""

import os
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from pipeline import console
from pipeline.corpus.documents import find_splits
from pipeline.corpus.statistics import columns_of, read_parts
from pipeline.files import FileFact
from pipeline.scoring.overlap import Overlap, longest_overlap
from pipeline.storage.urls import redact
from pipeline.training.sources import choose_kind, files_in, samples_in, split_files
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

    `place` is the folder that all of its files lie in, `kind` that of the samples, as --kind has
    it.
    """

    place: Path
    files: list[Path]
    kind: str = "auto"
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
            kind = str(record.settings.get("kind", "auto"))
            return cls._given(workspace, redact(str(dataset)), record.inputs, kind)
        for stage in ("upload", "chunk"):
            folder = workspace.directory(stage)
            if any(folder.rglob("*.parquet")):
                files, _ = find_splits(files_in(folder))
                if files:
                    return cls(folder, files)
        return None

    @classmethod
    def _given(
        cls, workspace: Workspace, name: str, facts: Sequence[FileFact], kind: str
    ) -> "TrainingText | None":
        paths = [workspace.root / fact.path for fact in facts]
        sizes = [fact.size for fact in facts]
        if not paths or any(_size(p) != size for p, size in zip(paths, sizes, strict=True)):
            console.warn(
                f"The model was trained on {name}, which is not on this disk as it was then: it is"
                " not searched."
            )
            return None
        place = Path(os.path.commonpath([path.parent for path in paths]))
        kind, tables = choose_kind(paths, kind)
        return cls(place, split_files(tables)[0], kind)

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
        parquet = [path for path in self.files if path.suffix == ".parquet"]
        texts = [path for path in parquet if "text" in columns_of(path)[0]]
        for part in read_parts(texts):
            title = part.about.get("title")
            if title:
                self._titles[part.document_id] = title
            yield part.document_id, part.text
        for path in self.files:
            if path not in texts:
                yield from self._records(path)

    def _records(self, path: Path) -> Iterator[tuple[str, str]]:
        """Completions and chats, of which the model learned to write what they answer, and texts in
        tables of anybody's."""
        name = path.relative_to(self.place).as_posix()
        kind, _ = choose_kind([path], self.kind)
        texts: list[str] = []
        for sample in samples_in([path], kind, "document"):
            texts += _learned(sample.content)
            if len(texts) >= _ROWS:
                # A character that no sample has keeps a stretch within one record.
                yield name, "\0".join(texts)
                texts = []
        yield name, "\0".join(texts)


def _size(path: Path) -> int | None:
    return path.stat().st_size if path.is_file() else None


def _learned(content: Mapping[str, Any]) -> list[str]:
    """Of a sample the texts that a model learns to write."""
    if "messages" in content:
        return [turn["content"] for turn in content["messages"] if turn["role"] == "assistant"]
    return [content.get("completion", content.get("text", ""))]

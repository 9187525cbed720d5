"""The numbered directories: what is in them, what made it, and whether it still holds.

Every stage writes one directory and, last, a `stage.json` in it: settings, inputs, outputs with
their hashes, counts. From these four states follow. A stage is *fresh* when its settings and the
content of its inputs are what the record says and its outputs are all there; *stale* when they are
not; *edited* when a person changed an output since; *partial* when it was stopped half-way.

A person's hand goes first: a file whose hash is not one that the stage wrote is never overwritten
or removed unless asked (`--overwrite-edited`), and a document that a person deleted stays deleted
(`--restore-deleted`).

The writing half, a stage at work, is `pipeline/run.py`.
"""

import json
import os
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from fnmatch import fnmatchcase
from pathlib import Path
from typing import Any

from pipeline.errors import PipelineError
from pipeline.files import FileFact, HashCache
from pipeline.records import JOURNAL, RECORD, Output, Record, is_inside, read_journal

CACHE = ".cache"
# A text each, or many records each: prompts with their completions, or chats.
RECORD_SUFFIXES = (".completion.jsonl", ".chat.jsonl")
DOCUMENTS = ("*.txt", *(f"*{suffix}" for suffix in RECORD_SUFFIXES))


@dataclass(frozen=True)
class Stage:
    """One room of the house. `reads` is the stage before it; `takes` are the files it wants, and
    `also` those of rooms further back, by stage, where there are any."""

    name: str
    directory: str
    reads: str | None
    takes: tuple[str, ...]
    milestone: str
    curated: bool = False  # one file per document, where people edit and delete
    resumable: bool = False  # what was finished before a stop is not done again
    also: tuple[tuple[str, tuple[str, ...]], ...] = ()

    @property
    def rooms(self) -> tuple[tuple[str, tuple[str, ...]], ...]:
        """All stages that it reads, with the files it wants of each."""
        return ((self.reads, self.takes), *self.also) if self.reads else ()


STAGES = {
    stage.name: stage
    for stage in (
        Stage("acquire", "1_raw", None, (), "a directory of text files", True, True),
        Stage(
            "preprocess", "2_preprocessed", "acquire", (*DOCUMENTS, "catalog.jsonl"),
            "a directory of cleaned text files", True, True,
        ),
        Stage(
            "chunk", "3_chunks", "preprocess", (*DOCUMENTS, "report.jsonl"),
            "Parquet files of chunks", resumable=True,
        ),
        Stage(
            "upload", "4_dataset", "chunk", ("*.parquet", "documents.jsonl"),
            "a dataset repository",
        ),
        Stage(
            "train", "6_adapter", "upload",
            ("data/*.parquet", "completion/*.parquet", "chat/*.parquet"),
            "an adapter, or a whole model", resumable=True,
        ),
        Stage(
            "quantize", "7_gguf", "train",
            ("*.safetensors", "adapter_config.json", "base_changes.json", "config.json",
             "tokenizer.json", "run.yaml", "evaluation.json", "windows.json"),
            "a quantized GGUF model", resumable=True,
        ),
        Stage(
            "modelfile", "8_ollama", "quantize", ("*.gguf", "proof.json"),
            "a Modelfile beside its GGUF, and a first answer",
        ),
        Stage(
            "publish", "9_model", "modelfile", ("Modelfile",), "a model repository",
            resumable=True,
            also=(
                ("quantize", ("*.gguf", "proof.json")),
                ("train",
                 ("*.safetensors", "*.json", "tokenizer*", "chat_template.jinja", "run.yaml",
                  "loss.png")),
            ),
        ),
    )
}  # fmt: skip


@dataclass
class Condition:
    """What an examination of a stage found. `state` is one word of the module's docstring,
    or `missing` when the stage never ran."""

    state: str
    why: list[str] = field(default_factory=list)
    edited: list[str] = field(default_factory=list)
    deleted: list[str] = field(default_factory=list)
    added: list[str] = field(default_factory=list)

    @property
    def holds(self) -> bool:
        """Whether there is nothing to do: fresh, or fresh but for a person's hand."""
        return self.state in {"fresh", "edited"}


class Workspace:
    """A data directory with its numbered directories.

    Raises PipelineError if `root` is there and is not a directory.
    """

    def __init__(self, root: Path) -> None:
        root = root.expanduser()
        if root.exists() and not root.is_dir():
            raise PipelineError(
                f"{root} is a file, but the data directory must be a directory.",
                "Name another with --data-dir.",
            )
        self.root = root
        self.hashes = HashCache(root / CACHE / "hashes.json")

    def directory(self, stage: str) -> Path:
        """The numbered directory that the stage writes."""
        return self.root / STAGES[stage].directory

    @property
    def cache(self) -> Path:
        """Where things are kept that can be made again at any time."""
        return self.root / CACHE

    def record(self, stage: str) -> Record | None:
        """The stage's record, with what a stopped run journalled; None if it never ran.

        Raises PipelineError if the record is there and cannot be read.
        """
        path = self.directory(stage) / RECORD
        try:
            record = Record.from_json(json.loads(path.read_text("utf-8")))
        except FileNotFoundError:
            return None
        except (ValueError, KeyError, TypeError, AttributeError) as error:
            raise PipelineError(
                f"{path} is not a stage record that can be read.",
                "Move the directory away and run the stage again.",
            ) from error
        unsafe = next((name for name in record.outputs if not is_inside(name)), None)
        if unsafe is not None:
            raise PipelineError(f"{path} names a file outside its directory: {unsafe!r}.")
        for output, is_written in read_journal(self.directory(stage) / JOURNAL):
            self._replay(record, output, is_written)
        return record

    def _replay(self, record: Record, output: Output, is_written: bool) -> None:
        """Take a journal line into the record.

        A write is announced before the file gets its name and confirmed after. One that was only
        announced counts if the file has the announced content, for then the rename did happen.
        """
        path = self.directory(record.stage) / output.name
        earlier = record.outputs.get(output.name)
        if earlier is not None:
            output.known |= earlier.known
        happened = path.is_file() and self.hashes.fact(path, "").sha256 == output.sha256
        if is_written or happened:
            record.outputs[output.name] = output
        elif earlier is not None:
            earlier.known |= output.known

    def files(self, stage: str, patterns: Iterable[str] = ("*",)) -> list[Path]:
        """The visible files of a numbered directory whose names match, sorted by name.

        A pattern without `/` means the directory itself, not its folders.
        """
        directory = self.directory(stage)
        found = []
        for pattern in patterns:
            found += [
                path for path in directory.glob(pattern)
                if path.is_file() and path.name != RECORD and not path.name.startswith(".")
            ]  # fmt: skip
        return sorted(set(found))

    def fact(self, path: Path) -> FileFact:
        """The fact of a file, named relative to the data directory if it lies in it."""
        return self.hashes.fact(path, self._name(path))

    def facts(self, paths: Sequence[Path]) -> list[FileFact]:
        """The facts of several files, sooner than one by one."""
        return self.hashes.facts([(path, self._name(path)) for path in paths])

    def _name(self, path: Path) -> str:
        # Not resolve(): a symbolic link keeps the name that the user gave it.
        absolute, root = os.path.abspath(path), os.path.abspath(self.root)  # noqa: PTH100
        return Path(absolute.removeprefix(os.path.join(root, ""))).as_posix()  # noqa: PTH118

    def inputs(self, stage: str) -> list[Path]:
        """What the stage would read now, sorted.

        Raises PipelineError if the stage before it has not run, or was stopped half-way, or if one
        of its files is gone that is no document that a person may delete.
        """
        files: list[Path] = []
        for before, takes in STAGES[stage].rooms:
            found = self._of_room(before, takes)
            if not found and before == STAGES[stage].reads:
                raise PipelineError(
                    f"{self.directory(before)} has nothing to {stage}.",
                    f"Run `pipeline {before}` first.",
                )
            files += found
        return files

    def _of_room(self, stage: str, takes: tuple[str, ...]) -> list[Path]:
        """The files of a stage's directory that another one takes. Raises PipelineError if they
        are not all there."""
        record = self.record(stage)
        if record is not None and record.status != "complete":
            raise PipelineError(
                f"{self.directory(stage)} is unfinished.", f"Run `pipeline {stage}` again first."
            )
        for name in sorted(record.outputs) if record is not None else ():
            path = self.directory(stage) / name
            is_wanted = is_taken(takes, name) and not is_document(STAGES[stage], name)
            if is_wanted and not path.is_file():
                raise PipelineError(f"{path} is missing.", f"Run `pipeline {stage}` again first.")
        return self.files(stage, takes)

    def examine(
        self,
        stage: str,
        *,
        settings: dict[str, Any] | None = None,
        inputs: list[FileFact] | None = None,
        version: int | None = None,
        record: Record | None = None,
    ) -> Condition:
        """Compare the stage's record with what is there now.

        What is not given is not compared, except `inputs` of a stage that reads another one.
        `record` is the stage's, where it has been read already.
        """
        spec = STAGES[stage]
        record = record or self.record(stage)
        if record is None:
            return Condition("missing", ["it has not run"])
        found = self._hand(stage, record)
        if record.status != "complete":
            return Condition("partial", ["it was stopped half-way"], **found)
        why = []
        if version is not None and version != record.version:
            why.append("the stage's code has changed")
        if settings is not None:
            why += differences(record.settings, as_settings(settings))
        if inputs is None and spec.reads:
            inputs = self.facts(self._sources(spec, record))
        if inputs is not None:
            why += changed_inputs(record.inputs, inputs)
        why += [f"{n} is missing" for n in found["deleted"] if not is_document(spec, n)]
        found["deleted"] = [name for name in found["deleted"] if is_document(spec, name)]
        if why:
            return Condition("stale", why, **found)
        return Condition("edited" if any(found.values()) else "fresh", **found)

    def _sources(self, spec: Stage, record: Record) -> list[Path]:
        """The files that the stage would read now; those of its record if they lay elsewhere."""
        # A checkpoint lies in the directory of stage 6, but is none of the files that it hands on.
        rooms = {
            (Path(STAGES[stage].directory) / pattern).parent
            for stage, takes in spec.rooms for pattern in takes
        }  # fmt: skip
        if all(Path(fact.path).parent in rooms for fact in record.inputs):
            return [path for stage, takes in spec.rooms for path in self.files(stage, takes)]
        return [path for fact in record.inputs if (path := self.root / fact.path).is_file()]

    def is_edited(self, directory: Path, output: Output) -> bool:
        """Whether the file's content is none that the stage gave it. False if it is not there."""
        path = directory / output.name
        return path.is_file() and self.hashes.fact(path, output.name).sha256 not in output.known

    def _hand(self, stage: str, record: Record) -> dict[str, list[str]]:
        """What a person did to the outputs since the stage wrote them."""
        directory = self.directory(stage)
        outputs = record.outputs.values()
        present = {path.name for path in self.files(stage, DOCUMENTS)}
        curated = STAGES[stage].curated
        return {
            "edited": [o.name for o in outputs if self.is_edited(directory, o)],
            "deleted": [o.name for o in outputs if not (directory / o.name).is_file()],
            "added": sorted(present - set(record.outputs)) if curated else [],
        }


def is_document(stage: Stage, name: str) -> bool:
    """Whether an output is a document that a person may delete, rather than an account of them."""
    return stage.curated and name.endswith((".txt", *RECORD_SUFFIXES)) and "/" not in name


def is_taken(takes: Iterable[str], name: str) -> bool:
    """Whether a stage that takes these wants a file of this name; `*` does not mean folders."""
    return any(
        name.count("/") == pattern.count("/") and fnmatchcase(name, pattern) for pattern in takes
    )


def as_settings(settings: dict[str, Any]) -> dict[str, Any]:
    """Settings as they look after a round trip through JSON, so that they can be compared."""
    value: dict[str, Any] = json.loads(json.dumps(settings, default=str))
    return value


def differences(before: dict[str, Any], now: dict[str, Any]) -> list[str]:
    """Name every setting that differs."""
    names = sorted(before.keys() | now.keys())
    return [
        f"--{name.replace('_', '-')} was {before.get(name)!r}, is {now.get(name)!r}"
        for name in names
        if before.get(name) != now.get(name)
    ]


def changed_inputs(before: list[FileFact], now: list[FileFact]) -> list[str]:
    """Say how the inputs differ, by content; the first three are named."""
    old = {fact.path: fact.sha256 for fact in before}
    new = {fact.path: fact.sha256 for fact in now}
    why = []
    for verb, names in (
        ("is new", sorted(new.keys() - old.keys())),
        ("is gone", sorted(old.keys() - new.keys())),
        ("has changed", sorted(name for name in old.keys() & new.keys() if old[name] != new[name])),
    ):
        why += [f"{name} {verb}" for name in names[:3]]
        if len(names) > 3:
            why.append(f"and {len(names) - 3} more: {verb}")
    return why

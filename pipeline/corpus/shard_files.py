"""The Parquet files of stage 3: those that still hold are kept, the others are made.

A file's record says what it was made from (its key), how many files were made with it, and what
`documents.jsonl` says of its documents. So a file is found again by its content, also where it
bears another number now, and a stage that was stopped goes on with what is missing.
"""

from collections.abc import Iterator, Mapping, Sequence
from importlib import import_module
from pathlib import Path
from typing import Any

from pipeline.console import progress
from pipeline.corpus.chunk_jobs import TRAIN, VALIDATION, Place, ShardJob, make_shard
from pipeline.corpus.passages import (
    FORMAT,
    Contamination,
    find_contamination,
    load_passages,
    sample_passages,
)
from pipeline.corpus.record_shards import write_record_files
from pipeline.files import FileFact, fingerprint, link_or_copy
from pipeline.parallel import Workers, default_jobs
from pipeline.run import StageRun

# Bytes, without those of the largest shard, that this process does before another has started.
SMALL_WORK = 40_000_000
_IMPORTS = ("numpy", "pyarrow.parquet", "nltk.tokenize.punkt")

Rows = list[dict[str, Any]]


class MadeFiles:
    """The files that earlier runs made and nobody changed, by what they were made from."""

    def __init__(self, run: StageRun, *, force: bool) -> None:
        self._run = run
        self._rows: dict[str, Rows] = {}
        names: dict[str, list[str]] = {}
        wanted: dict[str, int] = {}
        for name, note in sorted(run.notes().items()):
            key = str(note.get("key"))
            usable = (run.directory / name).is_file() and not run.is_edited(name)
            if usable and not force:
                names.setdefault(key, []).append(name)
                wanted[key] = note.get("files", 0)
                self._rows.setdefault(key, []).extend(note.get("documents", []))
        self._names = {key: found for key, found in names.items() if len(found) == wanted[key]}

    def names(self, key: str) -> list[str]:
        """The files that were made from `key`; none if one of them is missing."""
        return self._names.get(key, [])

    def rows(self, key: str) -> Rows:
        """The rows of the documents in them."""
        return self._rows[key]

    def keep(self, key: str) -> bool:
        """Whether they are there; then they stay as they are."""
        plans = {self._run.plan(name, key) for name in self.names(key)}
        return plans == {"current"}


def take_files(run: StageRun, key: str, files: dict[str, Path], rows: Rows) -> None:
    """Make finished files, by their names, outputs of the stage."""
    for number, (name, path) in enumerate(files.items()):
        note = {"key": key, "files": len(files), "documents": [] if number else rows}
        run.take(name, path, key, note)


def make_records(
    run: StageRun,
    folder: Path,
    files: Sequence[tuple[Path, FileFact]],
    about: Mapping[str, Mapping[str, Any]],
    made: MadeFiles,
    version: int,
    fraction: float,
    seed: int,
) -> Rows:
    """Make the Parquet files of records, or keep them; returns a row for each of `files`.

    `about` is what is known of each file, by its name.
    """
    if not files:
        return []
    known = [[fact.path, fact.sha256, about.get(path.name)] for path, fact in files]
    key = fingerprint([version, "records", known, fraction, seed])
    if made.keep(key):
        return made.rows(key)
    place = folder / "records"
    place.mkdir()
    rows = write_record_files(place, [path for path, _ in files], about, fraction, seed)
    take_files(run, key, {path.name: path for path in sorted(place.iterdir())}, rows)
    return rows


class ShardFiles:
    """The shards of both splits: `make` makes what is not there yet."""

    def __init__(
        self, run: StageRun, shards: Sequence[ShardJob], version: int, made: MadeFiles
    ) -> None:
        self._run = run
        self._shards = shards
        self._keys = {id(shard): shard.key(version) for shard in shards}
        self._made = made
        self._cache = run.workspace.cache / "passages"
        splits = {shard.split for shard in shards if not shard.tail}
        self._is_compared = splits == {TRAIN, VALIDATION}

    def make(self, folder: Path, jobs: int | None) -> Rows:
        """Make or keep every shard; returns the rows of their documents.

        `folder` is for what is unfinished, `jobs` says how many processes may work.
        """
        moved = folder / "moved"
        moved.mkdir()
        rows: Rows = []
        renamed: list[tuple[str, dict[str, Path]]] = []
        work: list[tuple[ShardJob, Place]] = []
        for number, shard in enumerate(self._shards):
            key = self._keys[id(shard)]
            names = {_name(shard, name.partition("-")[0]): name for name in self._made.names(key)}
            place = Place(folder / f"{number:05}", self._wanted_passages(shard))
            if names and all(new == old for new, old in names.items()) and self._made.keep(key):
                place = Place(None, place.passages)
            elif names:
                # Linked before any file is replaced: it may have a name that another one gets.
                for new, old in names.items():
                    link_or_copy(self._run.directory / old, moved / new)
                renamed.append((key, {new: moved / new for new in names}))
                place = Place(None, place.passages)
            if place.folder is None:
                rows += self._made.rows(key)
            if place.folder or place.passages:
                work.append((shard, place))
        for key, files in renamed:
            take_files(self._run, key, files, self._made.rows(key))
        return rows + self._do(work, jobs)

    def _do(self, work: list[tuple[ShardJob, Place]], jobs: int | None) -> Rows:
        rows: Rows = []
        work.sort(key=lambda each: -each[0].size)  # so that the last ones to be made are small
        others = sum(shard.size for shard, _ in work[1:])
        jobs = 1 if others <= SMALL_WORK else min(jobs or default_jobs(), len(work))
        if any(place.passages for _, place in work):
            self._cache.mkdir(parents=True, exist_ok=True)
        documents = sum(len(shard.texts) for shard, _ in work)
        # Workers first: a process with one thread, without a progress bar's, starts others sooner.
        shown = progress("chunk", documents, "texts")
        with Workers(jobs, imports=_IMPORTS) as workers, shown as advance:
            results = workers.map(make_shard, work)
            import_module("numpy")  # for the comparison that follows; others work meanwhile
            for (shard, _), made in zip(work, results, strict=True):
                advance(len(shard.texts), note=shard.texts[-1].path.name, size=shard.size)
                files = {_name(shard, split): path for split, path in made.files.items()}
                take_files(self._run, self._keys[id(shard)], files, made.rows)
                rows += made.rows
        return rows

    def contamination(self) -> Contamination | None:
        """How much of the held-out text the training text has too; None where there is only one of
        the two, or both are parts of one document. To be asked after `make`."""
        in_use = {self._passages(shard).name for shard in self._shards}
        for path in sorted(self._cache.glob("*.npz")):
            if path.name not in in_use:
                path.unlink(missing_ok=True)
        if not self._is_compared:
            return None
        return find_contamination(self._samples(VALIDATION), self._samples(TRAIN))

    def _samples(self, split: str) -> Iterator[tuple[str, Any]]:
        """The passages of each document of a split."""
        for shard in self._shards:
            if shard.split == split:
                samples = load_passages(self._passages(shard))
                if samples is None or len(samples) != len(shard.texts):
                    samples = [sample_passages(text.path.read_bytes()) for text in shard.texts]
                yield from zip([text.id for text in shard.texts], samples, strict=True)

    def _passages(self, shard: ShardJob) -> Path:
        return self._cache / f"{shard.passages_key(FORMAT)}.npz"

    def _wanted_passages(self, shard: ShardJob) -> Path | None:
        """Where the passages of a shard go, if they are needed and not there."""
        path = self._passages(shard)
        return path if self._is_compared and not path.is_file() else None


def _name(shard: ShardJob, split: str) -> str:
    return f"{split}-{shard.number:05}-of-{shard.count:05}.parquet"

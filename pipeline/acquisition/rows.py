"""Rows of tables and Hub datasets into `1_raw`: a text is a document, a record a line."""

from collections.abc import Callable, Collection, Generator, Iterable, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from pipeline.acquisition.documents import stem
from pipeline.acquisition.entries import retrieved_at, shown_source, version_of
from pipeline.acquisition.labels import mark_of
from pipeline.acquisition.options import DOCUMENTS, RECORDS, Job, Options
from pipeline.console import progress, say
from pipeline.corpus.examples import (
    BadExample,
    Joins,
    Shape,
    as_example,
    pair_of,
    shape_of,
    wanted_columns,
)
from pipeline.corpus.hub_rows import read_hub_rows, resolve_revision
from pipeline.corpus.tables import BadRow, Row, column_names, read_rows
from pipeline.errors import PipelineError, UsageError
from pipeline.files import encode_json, fingerprint
from pipeline.storage import Entry

SKIPPED = "bad records skipped"


@dataclass(frozen=True)
class Table:
    """One table on its way into `1_raw`.

    `label` names it in messages, `stem` in file names; `origin` and `version` say what it is,
    `about` is what the catalogue says of everything from it.
    """

    label: str
    stem: str
    origin: str
    version: object
    about: dict[str, Any]
    columns: Callable[[], list[str]] = list


def take_table(job: Job, entry: Entry, *, is_named: bool) -> None:
    """Bring in the rows of a JSON, CSV or Parquet file, compressed or not.

    `is_named`: the user named this file, so that it must hold texts or records. In a folder there
    may be other tables too, which are refused one by one.
    """
    if job.sampler.is_full or not job.register.is_new(entry.url):
        return
    register, storage = job.register, job.storage
    about = {"source": shown_source(entry), "retrieved_at": retrieved_at(entry), **job.about}
    table = Table(
        entry.shown, stem(entry.name), entry.url, version_of(register.run.workspace, entry), about,
        lambda: column_names(
            lambda: storage.open(entry), lambda: storage.local_copy(entry), entry.name
        ),
    )  # fmt: skip
    columns = wanted_columns(job.options.names)
    rows = read_rows(
        lambda: storage.open(entry), lambda: storage.local_copy(entry), entry.name, columns
    )
    try:
        take_rows(job, table, rows)
    except UnknownShape as error:
        if is_named:
            raise
        job.left_unread(table.origin)
        reason = error.message.removeprefix(f"{table.label} ")
        job.refuse(entry.shown, f"it {reason}", table.origin, counted=False)


def take_hub_dataset(job: Job, files: Sequence[Entry]) -> None:
    """Bring in a split of a dataset of the Hugging Face Hub, or of one that was saved to disk,
    which has `files`."""
    source, options = job.source, job.options
    workspace = job.register.run.workspace
    revision, address = options.revision, Path(source.place).name
    if not Path(source.place).exists():
        address = f"https://huggingface.co/datasets/{source.place}"
        try:
            revision = resolve_revision(source.place, options.revision)
        except PipelineError as error:
            if options.revision is None:
                error.message = (
                    f"There is no file or folder {source.place} here, and: {error.message}"
                )
            raise
    about = {
        "source": address,
        "retrieved_at": datetime.now(UTC).isoformat(timespec="seconds"),
        "revision": revision, **job.about,
    }  # fmt: skip
    rows = read_hub_rows(
        source.place, split=options.split, revision=revision, config=options.subset,
        streaming=options.streaming, cache=workspace.cache / "hub",
    )  # fmt: skip
    numbered = (Row(place, value, "row") for place, value in rows)
    part = "-".join(filter(None, (options.subset, options.split)))
    contents = [workspace.fact(Path(entry.url)).sha256 for entry in files]
    table = Table(
        f"{source.place} ({part})", f"{source.collection}-{part}", source.identity,
        [source.place, revision, part, contents], about,
    )  # fmt: skip
    take_rows(job, table, numbered)


def take_rows(job: Job, table: Table, rows: Generator[Row | BadRow]) -> None:
    """Bring in the rows of one table: what they hold is known by the columns of the first."""
    register, options, sampler = job.register, job.options, job.sampler
    seen_ids: set[str] = set()
    unknown: PipelineError | None = None
    shape: Shape | None = None
    writer: RecordWriter | None = None
    with ExitStack() as stack:
        stack.callback(rows.close)
        register.reads(table.label, table.origin)
        advance = stack.enter_context(progress(f"acquire {table.stem}", None, "rows"))
        for row in rows:
            advance()
            if isinstance(row, BadRow):
                bad_record(job, table, row, row.reason, row.raw)
                continue
            if shape is None:
                try:
                    shape = recognised(table, row, options)
                except UsageError:
                    raise
                except PipelineError as error:
                    if options.on_bad_record == "fail":
                        raise
                    unknown = unknown or error  # the next row may tell
                    bad_record(job, table, row, "it has no known column", shown_row(row))
                    continue
                if shape != "text":
                    writer = stack.enter_context(RecordWriter(job, table, shape, row.value))
                    if not writer.is_wanted:
                        register.unread(table.label)
                        return
            try:
                example = as_example(row.value, shape, options.names)
            except BadExample as error:
                bad_record(job, table, row, error.reason, shown_row(row))
                continue
            if sampler.is_full:
                register.count("sources stopped at --limit")
                break
            if not sampler.takes():
                register.count("not sampled")
            elif writer is not None:
                writer.add(example)
            else:
                add_text(job, table, row.place, example, seen_ids)
        if shape is None and unknown is not None:
            raise unknown
        if writer is not None:
            writer.finish()


class UnknownShape(PipelineError):
    """Nothing is recognised in a table."""


def recognised(table: Table, row: Row, options: Options) -> Shape:
    """What a table holds, by its columns. Raises UnknownShape, with their names, for nothing."""
    try:
        shape = shape_of(row.value.keys(), options.names, table.label)
    except UsageError:
        raise
    except PipelineError:  # a named column is not there: say which are, beyond those that were read
        shape_of(table.columns() or row.value.keys(), options.names, table.label)
        raise
    if shape is not None:
        return shape
    columns = ", ".join((table.columns() or list(row.value))[:20]) or "none"
    raise UnknownShape(
        f"{table.label} has no column that is known to hold text; its columns are: {columns}.",
        "Name it with --text-column, or --prompt-column and --completion-column.",
    )


def bad_record(job: Job, table: Table, row: Row | BadRow, reason: str, raw: str) -> None:
    """Do about a bad record what --on-bad-record says."""
    register, options = job.register, job.options
    job.left_unread(table.origin)  # the text that the row held before is not gone, but spoiled
    if options.on_bad_record == "fail":
        raise PipelineError(
            f"{place_of(table, row)}: {reason.rstrip('.')}.",
            "Mend it, or go on without such records: --on-bad-record skip, or quarantine.",
        )
    if options.on_bad_record == "quarantine":
        register.quarantine(table.label, row.where, reason, raw)
    else:
        register.count(SKIPPED)
        register.run.warn(f"{place_of(table, row)} was skipped: {reason.rstrip('.')}.")


def place_of(table: Table, row: Row | BadRow) -> str:
    """Where a row is, as messages have it: "x.jsonl:12", or "x.parquet, row 12"."""
    return f"{table.label}:{row.place}" if row.unit == "line" else f"{table.label}, {row.where}"


def shown_row(row: Row) -> str:
    """A row as a line of JSON."""
    try:
        return encode_json(row.value).decode("utf-8", "replace")
    except (TypeError, ValueError):
        return repr(row.value)


def add_text(
    job: Job, table: Table, place: int, example: dict[str, Any], seen_ids: set[str]
) -> None:
    """Write the text of a row as a document; it is known by its id, if no row before has it."""
    register, options = job.register, job.options
    about: dict[str, Any] = example.get("about") or {}
    own = str(about.get("id") or f"{place:06}")
    if own in seen_ids:
        own = f"{own}-{place:06}"
    seen_ids.add(own)
    data = example["text"].encode()
    name = register.name(f"{table.stem}-{own}", f"{table.origin}#{own}")
    key = fingerprint([DOCUMENTS, example["text"], about, options.rights])
    is_of = {"table": mark_of(table.origin)}
    if not register.wants(name, key):
        register.describe(name, job.about | is_of)
        return
    row = {
        "id": name.removesuffix(".txt"), "title": about.get("title"),
        "authors": listed(about.get("authors")), "languages": listed(about.get("language")),
        "subjects": [], "rights": about.get("rights") or options.rights, **table.about,
        "row": place, "origin": mark_of(f"{table.origin}#{own}"), **is_of,
    }  # fmt: skip
    if about.get("source"):
        row["source"] = about["source"]
    register.add(name, data, key, row)


def listed(value: Any) -> list[str]:
    """A value that may be one word, several, or none."""
    if not value:
        return []
    several = isinstance(value, Iterable) and not isinstance(value, str)
    return [str(item) for item in (value if several else [value])]


class RecordWriter:
    """Writes the records of one table as one file of `1_raw`, in a stream."""

    def __init__(self, job: Job, table: Table, shape: str, columns: Collection[str]) -> None:
        register, options, sampler = job.register, job.options, job.sampler
        suffix = f".{shape}.jsonl"
        self._job, self._register, self._origin = job, register, table.origin
        self._name = register.name(table.stem, table.origin, suffix)
        self._key = fingerprint(
            [RECORDS, table.version, options.rights, options.on_bad_record, sampler.state,
             vars(options.names)]
        )  # fmt: skip
        self._row: dict[str, Any] = {
            "id": self._name.removesuffix(suffix), "kind": shape, "title": None, "authors": [],
            "languages": [], "subjects": [], "rights": options.rights, **table.about,
            "origin": mark_of(table.origin),
        }  # fmt: skip
        self._path = register.folder / self._name
        self._records = 0
        self._label = table.label
        self._joins = Joins() if shape == "completion" else None
        self._pair = pair_of(columns, options.names)
        self._sampler, self._seen = sampler, sampler.seen
        self.is_wanted = register.wants(self._name, self._key)
        if not self.is_wanted:
            register.describe(self._name, job.about)
            there = register.run.row(self._name) or {}
            sampler.skip(int(there.get("rows", 0)), int(there.get("records", 0)))
        self._file = self._path.open("wb")

    def __enter__(self) -> "RecordWriter":
        return self

    def __exit__(self, *_: object) -> None:
        self._file.close()

    def add(self, example: dict[str, Any]) -> None:
        """Write one record."""
        self._file.write(encode_json(example) + b"\n")
        self._records += 1
        if self._joins is not None:
            self._joins.see(example)

    def finish(self) -> None:
        """Make the file an output, unless no record came."""
        self._file.close()
        if not self._records:
            self._job.refuse(self._name, "it has no records", self._origin)
            return
        self._row |= {"records": self._records, "rows": self._sampler.seen - self._seen}
        self._register.add_file(self._name, self._path, self._key, self._row)
        if self._joins is not None:
            self._tell(self._joins)

    def _tell(self, joins: Joins) -> None:
        if warning := joins.warning(self._label):
            self._register.run.warn(warning)
        if self._pair and joins.parted:
            say(
                f"{self._label}: an empty line parts {' and '.join(self._pair)} in "
                f"{joins.parted:,} of {joins.records:,} records."
            )

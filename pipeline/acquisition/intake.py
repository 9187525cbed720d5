"""Sources into `1_raw`: files and objects as documents, rows of tables as documents or records.

A document is a file of its own (`my-novel.txt`). Records stay together, one file for each table
that they came from (`letters.completion.jsonl`, `support.chat.jsonl`).
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from pipeline.acquisition.documents import Refused, as_document, stem
from pipeline.acquisition.entries import (
    MAGIC,
    find,
    is_local,
    is_named,
    parted,
    retrieved_at,
    shown_source,
    sort_out,
    version_of,
)
from pipeline.acquisition.labels import mark_of
from pipeline.acquisition.options import DOCUMENTS, Job, Options, Sampler, is_part, limits
from pipeline.acquisition.register import Register
from pipeline.acquisition.rows import take_hub_dataset, take_table
from pipeline.acquisition.sources import Source
from pipeline.console import progress
from pipeline.corpus.series import read_series
from pipeline.errors import PipelineError
from pipeline.files import fingerprint, sha256_bytes
from pipeline.storage import Entry

if TYPE_CHECKING:
    from pipeline.storage import Storage


def take_sources(
    register: Register,
    sources: Sequence[Source],
    storage: "Storage",
    options: Options,
    listed: Mapping[str, list[Entry]],
) -> None:
    """Bring every source into `1_raw`. `listed` holds the files of those that are on this disk.

    Raises PipelineError for a source that is not there or holds nothing, and for a bad record
    if `options` say so.
    """
    shares = limits(options.limit, len(sources))
    # What is held out comes first: a text that two sources name is then held out.
    ordered = sorted(zip(sources, shares, strict=True), key=lambda pair: pair[0].weight != 0)
    for source, share in ordered:
        job = Job(register, source, storage, options, Sampler(share, options.fraction))
        if is_part(share, options.fraction):
            job.read_in_part()
        if source.kind == "hub":
            take_hub_dataset(job, listed.get(source.place, []))
        elif source.kind == "series":
            take_series(job)
        else:
            entries = listed.get(source.place) or find(storage, source)
            documents, tables = sort_out(source.place, entries)
            taken = {entry.url for entry in (*documents, *tables)}
            for entry in entries:
                if entry.url not in taken:
                    job.left_unread(entry.url)
            take_documents(job, documents)
            named = is_named(source.place, entries)
            for entry in tables:
                take_table(job, entry, is_named=named)


def take_series(job: Job) -> None:
    """Bring in the documents of a series, segment by segment, to its end."""
    series = read_series(
        job.source.place, job.storage, missing_keys="unchecked", base=job.options.series_base
    )  # an object that is not there shows when it is read
    for segment in series:
        job.register.count("segments")
        part = replace(job, segment=segment.number)
        documents, tables = parted([Entry(url) for url in segment.keys])
        take_documents(part, documents)
        for entry in tables:
            take_listed_table(part, entry)


def take_listed_table(job: Job, entry: Entry) -> None:
    """Bring in a table that a series lists, or do about a missing one what the user chose."""
    try:
        if not any(sign in entry.url for sign in MAGIC):  # else it would be taken for a pattern
            (entry,) = job.storage.expand(entry.url)  # with its version, to know it again
        elif not job.storage.exists(entry.url):
            raise PipelineError(f"{entry.shown} does not exist.")
    except PipelineError as error:
        missing(job, entry, error)
    else:
        take_table(job, entry, is_named=True)


def missing(job: Job, entry: Entry, error: PipelineError, *, counted: bool = False) -> None:
    """Refuse what cannot be had; in a series this may end the stage."""
    if job.segment is not None and job.options.missing_keys == "fail":
        error.hint = "--missing-keys skip goes on without the objects that are not there."
        raise error
    job.left_unread(entry.url)
    reason = error.message.replace(entry.shown, "it", 1)
    job.refuse(entry.shown, reason, entry.url, missed=True, counted=counted)


@dataclass(frozen=True)
class Due:
    """A document that is to be read: its file name, what it is made from, and whether an earlier
    version is there already."""

    entry: Entry
    name: str
    key: str
    is_there: bool


def take_documents(job: Job, entries: Sequence[Entry]) -> None:
    """Bring in files or objects that are a document each; those that are there are not read."""
    wanted = choose(job, entries)
    if not wanted:
        return
    bodies = job.storage.read_many(one.entry for one in wanted)
    with progress(f"acquire {job.source.collection}", len(wanted), "texts") as advance:
        for one, (_, body) in zip(wanted, bodies, strict=True):
            advance(note=one.name, size=len(body) if isinstance(body, bytes) else 0)
            take_body(job, one, body)


def choose(job: Job, entries: Sequence[Entry]) -> list[Due]:
    """The documents that are to be read."""
    register, options = job.register, job.options
    wanted = []
    for entry in entries:
        if not register.is_new(entry.url):
            continue
        if not job.sampler.takes():
            register.count("not sampled")
            continue
        name = register.name(stem(entry.name), entry.url)
        key = fingerprint([DOCUMENTS, version_of(register.run.workspace, entry), options.rights])
        plan = register.plan(name, key)
        register.describe(name, job.about)
        # Where a server does not tell versions apart, only reading shows what has changed.
        unknown = options.refresh and entry.version is None and not is_local(entry)
        if plan == "write" or (plan == "current" and unknown):
            wanted.append(Due(entry, name, key, plan == "current"))
    return wanted


def take_body(job: Job, one: Due, body: bytes | PipelineError) -> None:
    """Write one document, or refuse it."""
    register, entry = job.register, one.entry
    if isinstance(body, PipelineError):
        missing(job, entry, body, counted=not one.is_there)
        return
    try:
        document = as_document(body, entry.name)
    except Refused as refusal:
        job.refuse(entry.shown, refusal.reason, entry.url, counted=not one.is_there)
        return
    if one.is_there:
        before = (register.run.row(one.name) or {}).get("sha256")
        same = before == sha256_bytes(document.data)
        register.count("not changed" if same else "renewed")
        if same:
            return
    row = {
        "id": one.name.removesuffix(".txt"), "title": document.title, "authors": document.authors,
        "languages": document.languages, "subjects": [],
        "rights": job.options.rights or document.rights, "source": shown_source(entry),
        "origin": mark_of(entry.url), **job.about, "retrieved_at": retrieved_at(entry),
    }  # fmt: skip
    register.add(one.name, document.data, one.key, row)

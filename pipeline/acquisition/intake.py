"""Sources into `1_raw`: files and objects as documents, rows of tables as documents or records.

A document is a file of its own (`my-novel.txt`). Records stay together, one file for each table
that they came from (`letters.completion.jsonl`, `support.chat.jsonl`).
"""

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

from pipeline.acquisition.documents import Refused, as_document, stem
from pipeline.acquisition.entries import (
    find,
    is_named,
    retrieved_at,
    shown_source,
    sort_out,
    version_of,
)
from pipeline.acquisition.options import VERSION, Options, Sampler, limits
from pipeline.acquisition.register import Register, origin_mark
from pipeline.acquisition.rows import take_hub_dataset, take_table
from pipeline.acquisition.sources import Source
from pipeline.console import Advance, progress
from pipeline.corpus.series import read_series
from pipeline.errors import PipelineError
from pipeline.files import fingerprint
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
    for source, share in zip(sources, shares, strict=True):
        register.weights[source.collection] = source.weight
        sampler = Sampler(share, options.fraction)
        if source.kind == "hub":
            take_hub_dataset(register, source, options, sampler)
        elif source.kind == "series":
            take_series(register, source, storage, options, sampler)
        else:
            entries = listed.get(source.place) or find(storage, source.place)
            documents, tables = sort_out(source.place, entries)
            named = is_named(source.place, entries)
            take_documents(register, source, storage, documents, options, sampler)
            for entry in tables:
                take_table(register, source, storage, entry, options, sampler, is_named=named)


def take_documents(
    register: Register,
    source: Source,
    storage: "Storage",
    entries: Sequence[Entry],
    options: Options,
    sampler: Sampler,
    *,
    segment: int | None = None,
) -> None:
    """Bring in files or objects that are a document each; those that are there are not read."""
    wanted: list[tuple[Entry, str, str]] = []
    for entry in entries:
        if not sampler.takes():
            register.count("not sampled")
            continue
        name = register.name(stem(entry.name), entry.url)
        key = fingerprint([VERSION, version_of(register.run.workspace, entry), options.rights])
        if register.wants(name, key):
            wanted.append((entry, name, key))
    if not wanted:
        return
    bodies = storage.read_many(entry for entry, _, _ in wanted)
    with progress(f"acquire {source.collection}", len(wanted), "texts") as advance:
        for (entry, name, key), (_, body) in zip(wanted, bodies, strict=True):
            take_body(register, source, options, entry, name, key, body, advance, segment)


def take_body(
    register: Register,
    source: Source,
    options: Options,
    entry: Entry,
    name: str,
    key: str,
    body: bytes | PipelineError,
    advance: Advance,
    segment: int | None,
) -> None:
    """Write one document, or refuse it."""
    if isinstance(body, PipelineError):
        advance(note=name)
        if segment is not None and options.missing_keys == "fail":
            body.hint = "--missing-keys skip goes on without the objects that are not there."
            raise body
        register.refuse(entry.shown, body.message.replace(entry.shown, "it", 1), missed=True)
        return
    advance(note=name, size=len(body))
    try:
        document = as_document(body, entry.name)
    except Refused as refusal:
        register.refuse(entry.shown, refusal.reason)
        return
    row = {
        "id": name.removesuffix(".txt"), "title": document.title, "authors": document.authors,
        "languages": document.languages, "subjects": [],
        "rights": options.rights or document.rights, "source": shown_source(entry),
        "origin": origin_mark(entry.url), "collection": source.collection,
        "weight": source.weight, "segment": segment, "retrieved_at": retrieved_at(entry),
    }  # fmt: skip
    register.add(name, document.data, key, row)


def take_series(
    register: Register, source: Source, storage: "Storage", options: Options, sampler: Sampler
) -> None:
    """Bring in the documents of a series, segment by segment, to its end."""
    segments = 0
    series = read_series(
        source.place, storage, missing_keys="unchecked", base=options.series_base
    )  # an object that is not there shows when it is read
    for segment in series:
        segments += 1
        entries = [Entry(url, None, None) for url in segment.keys]
        take_documents(register, source, storage, entries, options, sampler, segment=segment.number)
    register.count("segments", segments)

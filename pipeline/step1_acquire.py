"""Stage 1: bring books, or any text of your own, into `1_raw`, one file per document.

    pipeline acquire                                  the sample library that ships with this
    pipeline acquire --source ~/my-novels             a folder, or a file, or a pattern
    pipeline acquire --source 's3://bucket/train.{1..32}.jsonl.gz' --text-column body
    pipeline acquire --topic horror --num-records 40  Project Gutenberg, through Gutendex

Texts are kept byte for byte; `catalog.jsonl` says where each one came from, `refused.jsonl` what
was left out and why.
"""

from enum import StrEnum
from functools import partial
from pathlib import Path
from typing import Annotated

from typer import Option

from pipeline.acquisition.choices import (
    check_numbers,
    check_together,
    is_to_be_asked_again,
    options_of,
    settings_of,
)
from pipeline.acquisition.entries import on_this_disk
from pipeline.acquisition.intake import take_sources
from pipeline.acquisition.labels import SAMPLE
from pipeline.acquisition.options import VERSION, Options, Sampler
from pipeline.acquisition.register import open_register
from pipeline.acquisition.shelf import Wanted, fetch_books, parse_ids
from pipeline.acquisition.sources import Source, parse_sources, parts_of_datasets
from pipeline.acquisition.summary import reasons, summary
from pipeline.books.gutendex import DEFAULT_URL
from pipeline.books.sample import sample_library
from pipeline.command import DEFAULT_DATA_DIR, DataDir, Force, OverwriteEdited, RestoreDeleted
from pipeline.command import run_script as run_script
from pipeline.console import many, say, warn
from pipeline.corpus.examples import ColumnNames
from pipeline.errors import PipelineError, Stopped, UsageError
from pipeline.run import open_run
from pipeline.workspace import DOCUMENTS, Workspace

SAMPLE_LIBRARY = Source(str(sample_library()), "sample-library", "files", alias=SAMPLE)
SAMPLE_RIGHTS = "public domain (CC0 1.0), written for this sample library"
own = partial(Option, rich_help_panel="Your own texts")
rows = partial(Option, rich_help_panel="Tables and records")
books = partial(Option, rich_help_panel="Books of Project Gutenberg")


class Sort(StrEnum):
    ASCENDING = "ascending"
    DESCENDING = "descending"
    POPULAR = "popular"


class OnBadRecord(StrEnum):
    FAIL = "fail"
    SKIP = "skip"
    QUARANTINE = "quarantine"


class MissingKeys(StrEnum):
    FAIL = "fail"
    SKIP = "skip"


def acquire(
    data_dir: DataDir = DEFAULT_DATA_DIR,
    source: Annotated[
        list[str] | None,
        own(
            help="Where text is: a file, folder, pattern, s3://, gs://, hf:// or https:// address, "
            "or a Hub dataset (user/name). May be repeated, each with a share of the trained "
            "tokens (=0.3; =0 is for evaluation only)."
        ),
    ] = None,
    series: Annotated[
        list[str] | None,
        own(help="Lists of object keys: 's3://bucket/lists/part_{segment_number}.json.gz'."),
    ] = None,
    series_base: Annotated[
        str | None,
        own(help="What its keys are relative to (default: the bucket, or the lists' folder)."),
    ] = None,
    missing_keys: Annotated[
        MissingKeys, own(help="What to do where an object of a series is not there.")
    ] = MissingKeys.FAIL,
    limit: Annotated[int | None, own(min=1, help="At most so many texts of all sources.")] = None,
    fraction: Annotated[
        float, own(min=0.0, max=1.0, help="Share of the texts of each source.")
    ] = 1.0,
    rights: Annotated[
        str | None, own(help="What the dataset's card is to say of the rights in these texts.")
    ] = None,
    text_column: Annotated[str | None, rows(help="Column or key of a table's text.")] = None,
    prompt_column: Annotated[str | None, rows(help="That of the prompt of a record.")] = None,
    completion_column: Annotated[str | None, rows(help="That of its completion.")] = None,
    messages_column: Annotated[str | None, rows(help="That of a chat.")] = None,
    on_bad_record: Annotated[
        OnBadRecord, rows(help="What to do about a row that cannot be used.")
    ] = OnBadRecord.FAIL,
    split: Annotated[str, rows(help="Split of a Hub dataset.")] = "train",
    subset: Annotated[
        str | None, rows(help="Subset (configuration) of a Hub dataset that has several.")
    ] = None,
    revision: Annotated[str | None, rows(help="Commit, tag or branch of a Hub dataset.")] = None,
    streaming: Annotated[bool, rows(help="Read a Hub dataset without storing all of it.")] = True,
    topic: Annotated[
        str | None, books(help="Books whose subject or bookshelf has this word.")
    ] = None,
    search: Annotated[str | None, books(help="Books with these words in title or author.")] = None,
    ids: Annotated[
        str | None, books(help="Books of these numbers, separated by commas: 84,345.")
    ] = None,
    languages: Annotated[
        str | None,
        books(help="Language codes of the books, separated by commas (default: en; any by --ids)."),
    ] = None,
    author_year_start: Annotated[
        int | None, books(help="Books by authors alive in or after this year.")
    ] = None,
    author_year_end: Annotated[
        int | None, books(help="Books by authors alive in or before this year.")
    ] = None,
    copyright: Annotated[
        str | None,
        books(help="false (public domain in the USA, the default), true, null (unknown), several."),
    ] = None,
    allow_copyrighted: Annotated[
        bool, books("--allow-copyrighted", help="Take books under copyright as well.")
    ] = False,
    sort: Annotated[
        Sort, books(help="Order of the books: by number, or the most read first.")
    ] = Sort.ASCENDING,
    num_records: Annotated[int, books(min=1, help="How many books to fetch.")] = 20,
    mirror: Annotated[
        list[str] | None,
        books(help="A mirror of Project Gutenberg to download from. May be repeated, in order."),
    ] = None,
    archive: Annotated[
        str | None,
        books(help="Take the books out of the weekly archive of all texts: a file or address."),
    ] = None,
    gutendex_url: Annotated[
        str, books(help="A server that speaks the Gutendex protocol.")
    ] = DEFAULT_URL,
    pause: Annotated[
        float, books(min=0, help="Seconds between two downloads from the main site.")
    ] = 2.0,
    refresh: Annotated[
        bool, Option("--refresh", help="Ask whether what is there has changed where it came from.")
    ] = False,
    cache_size: Annotated[
        float, own(min=0, help="Gigabytes of disk for copies of remote files.")
    ] = 4.0,
    force: Force = False,
    overwrite_edited: OverwriteEdited = False,
    restore_deleted: RestoreDeleted = False,
) -> None:
    """Bring texts into `1_raw`: your own, from any place, books by topic, or the sample library.

    Without --source, --series, --topic, --search or --ids the sample library is taken: twelve
    short gothic tales. A second run fetches only what is not there yet. Texts of other sources
    stay; what a source no longer has goes, unless you edited it.
    """
    workspace = Workspace(data_dir)
    wanted = Wanted(
        topic, search, parse_ids(ids), languages, author_year_start, author_year_end, copyright,
        allow_copyrighted, str(sort), num_records, gutendex_url, tuple(mirror or ()), archive,
        pause, refresh,
    )  # fmt: skip
    check_numbers(fraction=fraction, pause=pause, cache_size=cache_size)
    given = bool(source or series)
    there = bool(workspace.files("acquire", DOCUMENTS))
    sources = parse_sources(source or [], series or [], alone=not wanted.is_anything and not there)
    sources = parts_of_datasets(sources, split, subset)
    check_together(sources, wanted)
    if not given and not wanted.is_anything:
        if keep_what_is_there(workspace, again=refresh or force or restore_deleted):
            return
        sources, rights = [SAMPLE_LIBRARY], SAMPLE_RIGHTS
        say("No --source, --series, --topic, --search or --ids: taking the sample library.")
    options = Options(
        rights=rights, on_bad_record=str(on_bad_record), missing_keys=str(missing_keys),
        names=ColumnNames(text_column, prompt_column, completion_column, messages_column),
        series_base=series_base, limit=limit, fraction=fraction, split=split,
        subset=subset, revision=revision, streaming=streaming, refresh=refresh,
    )  # fmt: skip
    from pipeline.storage import Storage  # brings asyncio along

    with Storage(workspace.cache / "remote", int(cache_size * 1e9)) as storage:
        listed = on_this_disk(sources, storage, workspace)
        files = [Path(entry.url) for entries in listed.values() for entry in entries]
        settings = settings_of(sources if given else [], wanted, options)
        run = None
        try:
            with open_run(
                workspace, "acquire", version=VERSION, settings=settings, inputs=files,
                force=force, overwrite_edited=overwrite_edited, restore_deleted=restore_deleted,
                unfinished=refresh or is_to_be_asked_again(workspace, wanted),
            ) as run:  # fmt: skip
                if not run.is_fresh:
                    with open_register(run) as register:
                        sources = register.claim(
                            sources, [entry.url for found in listed.values() for entry in found],
                            with_books=wanted.is_anything,
                        )  # fmt: skip
                        take_sources(register, sources, storage, options, listed)
                        if wanted.is_anything:
                            fetch_books(register, wanted, storage, Sampler(limit, fraction))
        except PipelineError as error:
            # All that is asked for is there, but for what could not be had before either.
            again = refresh or force or overwrite_edited or restore_deleted
            if run is None or again or isinstance(error, Stopped) or not run.was_complete:
                raise
            warn(f"{error.message} What is in {run.directory} stands as it is.")
            return
    remote = any(source.place not in listed for source in sources) or wanted.is_anything
    run.report(summary(run, asks_again=run.is_fresh and remote))
    for line in reasons(run):
        say(line)


def keep_what_is_there(workspace: Workspace, *, again: bool) -> bool:
    """Whether `1_raw` holds other texts than the sample library, which is then not for it.

    Raises PipelineError if an earlier run was stopped, and UsageError if all is to be asked for
    `again`: only the options of that run can tell what.
    """
    record = workspace.record("acquire")
    texts = workspace.files("acquire", DOCUMENTS)
    asked = record is not None and bool(record.settings.get("source") or "topic" in record.settings)
    if asked and record is not None and (record.status != "complete" or again):
        how = f"Run `pipeline acquire` with the options that it had: {options_of(record.settings)}."
        if again:
            raise UsageError("Nothing is named that could be fetched again.", how)
        raise PipelineError(f"{workspace.directory('acquire')} is unfinished.", how)
    if asked or (record is None and texts):
        what = "document of 1_raw stands", "documents of 1_raw stand"
        say(f"acquire: nothing asked for, so the {many(len(texts), *what)} (up to date)")
        return True
    return False


if __name__ == "__main__":
    run_script(acquire)

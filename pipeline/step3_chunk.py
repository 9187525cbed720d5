"""Stage 3: cut the documents of `2_preprocessed` into the chunks of `3_chunks`.

    pipeline chunk
    pipeline chunk --chunk-size 4000 --minimum-size 3000
    pipeline chunk --tokenizer HuggingFaceTB/SmolLM2-135M --chunk-size 2048 --overlap 128

Chunks follow paragraphs, then sentences; joined again they are the document, byte for byte. Whole
works are held out for validation, so that no book is on both sides in any edition.
"""

from dataclasses import replace
from operator import itemgetter
from pathlib import Path
from typing import Annotated, Any

from typer import Option

from pipeline.chunk_inputs import (
    REPORT,
    Report,
    check_names,
    check_overlap,
    chunk_size_of,
    facts,
    minimum_of,
    read_report,
    read_texts,
    warn_of_unread,
)
from pipeline.command import DEFAULT_DATA_DIR, DataDir, Force, Jobs, OverwriteEdited
from pipeline.command import run_script as run_script
from pipeline.console import many
from pipeline.corpus.chunk_jobs import TRAIN, VALIDATION, Cutting, ShardJob
from pipeline.corpus.chunking import DEFAULT_TARGET
from pipeline.corpus.ledger import document_line, make_ledger
from pipeline.corpus.shard_files import MadeFiles, Rows, ShardFiles, make_records
from pipeline.corpus.shard_plan import plan_shards
from pipeline.corpus.tokenizing import DEFAULT_TOKENS, find_tokenizer, tokenizer_file
from pipeline.errors import PipelineError
from pipeline.files import json_lines
from pipeline.records import RECORD
from pipeline.run import StageRun, open_run
from pipeline.workspace import Workspace

VERSION = 3
DOCUMENTS = "documents.jsonl"
SHOWN_LEAKS = 10


def chunk(
    data_dir: DataDir = DEFAULT_DATA_DIR,
    chunk_size: Annotated[
        int | None,
        Option(
            min=1,
            help=f"Characters a chunk should have at the most (default: {DEFAULT_TARGET}); "
            f"with --tokenizer: tokens (default: {DEFAULT_TOKENS}).",
        ),
    ] = None,
    minimum_size: Annotated[
        int | None,
        Option(min=1, help="What it should have at the least (default: 6/7 of the most)."),
    ] = None,
    overlap: Annotated[
        int,
        Option(min=0, help="How much of the end of the chunk before a chunk repeats."),
    ] = 0,
    tokenizer: Annotated[
        str | None,
        Option(help="Measure in its tokens: a folder, a tokenizer.json, or an id of the Hub."),
    ] = None,
    validation_fraction: Annotated[
        float,
        Option(min=0.0, max=0.5, help="Share of the text held out, in whole documents."),
    ] = 0.1,
    split_seed: Annotated[int, Option(help="Chooses which documents are held out.")] = 0,
    jobs: Jobs = None,
    force: Force = False,
    overwrite_edited: OverwriteEdited = False,
) -> None:
    """Cut the documents into chunks and hold some documents out for validation.

    Writes Parquet files that any tool can read (text, document, place in it, title, authors) and
    `documents.jsonl`, one line a document. Records stay whole, in Parquet files of their own. Only
    files whose documents have changed are made again.
    """
    size = chunk_size_of(chunk_size, tokenizer)
    minimum = minimum_of(size, minimum_size)
    check_overlap(overlap, size)
    workspace = Workspace(data_dir)
    inputs = workspace.inputs("chunk")
    if not any(path.name != REPORT for path in inputs):
        raise PipelineError(
            f"{workspace.directory('preprocess')} has no texts.", "Run `pipeline preprocess` first."
        )
    check_names(inputs)
    warn_of_unread(workspace, inputs)
    found = find_tokenizer(tokenizer) if tokenizer is not None else None
    cutting = Cutting(size, minimum, overlap, tokenizer_name=found.name if found else None)
    settings = {
        "chunk_size": size,
        "minimum_size": minimum,
        "overlap": overlap,
        "tokenizer": cutting.tokenizer_name,
        "validation_fraction": validation_fraction,
        "split_seed": split_seed,
    }
    with open_run(
        workspace, "chunk", version=VERSION, settings=settings, inputs=inputs, force=force,
        overwrite_edited=overwrite_edited,
    ) as run:  # fmt: skip
        if not run.is_fresh:
            about, made = read_report(inputs), MadeFiles(run, force=force)
            with run.scratch() as folder:
                if found:
                    cutting = replace(cutting, tokenizer=tokenizer_file(found, folder))
                texts = read_texts(run, inputs, about)
                plan = plan_shards(texts, cutting, validation_fraction, split_seed)
                for warning in plan.warnings:
                    run.warn(warning)
                records = facts(run, inputs, ".jsonl")
                if not records and all(shard.split == VALIDATION for shard in plan.shards):
                    raise nothing_to_train_on(run)
                rows = make_chunks(run, folder, plan.shards, made, jobs)
                rows += make_records(
                    run, folder, records, about, made, VERSION, validation_fraction, split_seed
                )
            finish(run, rows, about, settings)
    report(run)


def make_chunks(
    run: StageRun, folder: Path, shards: list[ShardJob], made: MadeFiles, jobs: int | None
) -> Rows:
    """Make the shards, and look for held-out text in them; returns a row for each document."""
    files = ShardFiles(run, shards, VERSION, made)
    rows = files.make(folder, jobs)
    contamination = files.contamination()
    if contamination:
        run.counts["contamination"] = contamination.as_json()
        for leak in contamination.leaks[:SHOWN_LEAKS]:
            run.warn(
                f"{leak.document_id} is held out, but {leak.share:.0%} of its passages are in the "
                f"text to train on, most of them in {leak.other}."
            )
        if len(contamination.leaks) > SHOWN_LEAKS:
            more = len(contamination.leaks) - SHOWN_LEAKS
            run.warn(f"So are passages of {more} more: {run.directory / RECORD} has them.")
    return rows


def finish(run: StageRun, rows: Rows, about: Report, settings: dict[str, Any]) -> None:
    """Write `documents.jsonl`, the counts and the ledger.

    Raises PipelineError if nothing is left to train on, or if the ledger does not add up.
    """
    rows = sorted(rows, key=itemgetter("file"))
    texts = [row for row in rows if "kind" not in row]
    records = [row for row in rows if "kind" in row]
    run.counts = {"documents": len(texts)} | run.counts
    for unit, prefix, some in (("chunks", "", texts), ("records", "records_", records)):
        number, held_out = (sum(row[key] for row in some) for key in (unit, "held_out"))
        run.counts[unit] = number
        run.counts |= {f"{prefix}{TRAIN}": number - held_out, f"{prefix}{VALIDATION}": held_out}
        if settings["validation_fraction"] and number:
            warn_of_split(run, some, held_out)
    if not run.counts[TRAIN] and not run.counts[f"records_{TRAIN}"]:
        raise nothing_to_train_on(run)
    run.counts["characters"] = sum(row["characters"] for row in texts)
    if settings["tokenizer"]:
        run.counts["tokens"] = sum(row["tokens"] for row in texts)
    lines = [document_line(row, about.get(row["file"])) for row in texts + records]
    run.counts["ledger"] = make_ledger(about.values(), lines)
    run.write(DOCUMENTS, json_lines(lines))


def warn_of_split(run: StageRun, some: Rows, held_out: int) -> None:
    """Say what is held out of a single document; of several it was said when they were divided."""
    if len(some) == 1 and held_out and "kind" not in some[0]:
        run.warn(f"{some[0]['file']} is the only document: its end is held out for validation.")
    elif not held_out and (len(some) == 1 or "kind" in some[0]):
        run.warn("There is too little text to hold any out: a model could not be scored on it.")


def nothing_to_train_on(run: StageRun) -> PipelineError:
    """The error where all that there is is held out."""
    return PipelineError(
        f"No text is left to train on in {run.workspace.directory('preprocess')}.",
        "All that is there is held out: look at the weights of the sources.",
    )


def report(run: StageRun) -> None:
    """Print the line that sums the stage up."""
    counts = run.counts
    parts = []
    if counts["documents"]:
        tokens = f", {many(counts['tokens'], 'token')}" if "tokens" in counts else ""
        parts.append(
            f"{many(counts['documents'], 'document')}, {many(counts['chunks'], 'chunk')}{tokens} "
            f"({counts['train']} to train on, {counts['validation']} held out)"
        )
    if counts.get("records"):
        parts.append(
            f"{many(counts['records'], 'record')} ({counts['records_train']:,} to train on, "
            f"{counts['records_validation']:,} held out)"
        )
    run.report(f"{' and '.join(parts)} in {run.directory}")


if __name__ == "__main__":
    run_script(chunk)

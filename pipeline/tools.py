"""Commands beside the stages: a look at where things stand and at what is in the data, other
formats."""

import json
import shlex
import shutil
import sys
from pathlib import Path
from typing import Annotated, Any

import typer

from pipeline import console
from pipeline.command import DEFAULT_DATA_DIR, DataDir
from pipeline.errors import PipelineError
from pipeline.printing import print_table
from pipeline.workspace import Workspace


def status(data_dir: DataDir = DEFAULT_DATA_DIR) -> None:
    """Show every stage: its state and why, what it made, when, and the command to run next.

    A stage is fresh, stale (its input changed), edited (by hand, which is kept), partial (stopped
    half-way) or missing. What settings a stage is to have is known only when it runs.
    """
    from pipeline.status import survey, table, unfinished_run

    workspace = Workspace(data_dir)
    stages = survey(workspace)
    print_table(table(stages))
    if training := unfinished_run(workspace):
        typer.echo(training)
    following = next((stage.name for stage in stages if not stage.condition.holds), None)
    place = "" if data_dir == DEFAULT_DATA_DIR else f" --data-dir {shlex.quote(str(data_dir))}"
    workspace.hashes.save()
    if following is None and training:
        return  # it has said which command goes on
    if following is None:
        typer.echo(f'Everything is up to date. Try it: pipeline generate "It was late"{place}')
    else:
        typer.echo(f"Next: pipeline {following}{place}")
    if following == "train":
        from pipeline.train_inputs import kinds_to_choose

        if choice := kinds_to_choose(workspace):
            typer.echo(choice)


def inspect_data(
    data: Annotated[
        Path | None,
        typer.Argument(help="A Parquet file, or a folder of them (default: `3_chunks`)."),
    ] = None,
    data_dir: DataDir = DEFAULT_DATA_DIR,
    tokenizer: Annotated[
        str | None,
        typer.Option(help="Count tokens with this model's: a folder, Hub id or smollm2-135m."),
    ] = None,
    search: Annotated[
        str | None, typer.Option(help="A phrase to look for, whatever its line ends and capitals.")
    ] = None,
    search_ids: Annotated[
        str | None, typer.Option(help='Token ids to look for, such as "12 34 56".')
    ] = None,
    hits: Annotated[int, typer.Option(min=0, help="Hits to show.")] = 5,
    samples: Annotated[int, typer.Option(min=0, help="Boundaries of chunks to show.")] = 3,
    documents: Annotated[bool, typer.Option("--documents", help="List every document.")] = False,
    epochs: Annotated[float, typer.Option(help="Passes over the data to count steps for.")] = 1.0,
    batch_size: Annotated[int, typer.Option(min=1, help="Sequences in one step.")] = 1,
    sequence_length: Annotated[
        int, typer.Option(min=8, help="Tokens the model sees at once.")
    ] = 1024,
    plot: Annotated[
        Path | None, typer.Option(help="Draw the sizes of chunks and documents into this PNG.")
    ] = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print one JSON object.")] = False,
) -> None:
    """Show what is in the chunks: sizes, tokens, training steps, boundaries, the ledger, a phrase.

    Reads `3_chunks`, the dataset, or anybody's Parquet files with a column `text`. Changes nothing.
    """
    from pipeline import inspection
    from pipeline.training.settings import TrainSettings

    settings = TrainSettings(
        epochs=epochs, batch_size=batch_size, sequence_length=sequence_length,
    )  # fmt: skip
    wanted = inspection.Wanted(tokenizer, search, search_ids, hits, samples, settings)
    inspection.check(wanted, plot)
    found = inspection.inspect_chunks(Workspace(data_dir), data, wanted)
    if as_json:
        report = inspection.as_json(found, settings, documents=documents)
        typer.echo(json.dumps(report, ensure_ascii=False, indent=2))
    else:
        width = shutil.get_terminal_size().columns if sys.stdout.isatty() else 100
        for section in inspection.sections(found, settings, documents=documents, width=width):
            if isinstance(section, str):
                typer.echo(section)
            else:
                print_table(section)
    if plot is not None:
        inspection.draw(found, plot)
        console.say(f"inspect: drawn into {plot}")


def convert_data(
    source: Annotated[
        str, typer.Argument(help="A file, folder, pattern or address: texts, tables or chunks.")
    ],
    target: Annotated[
        Path,
        typer.Argument(help="A .jsonl, .csv, .tsv, .parquet or .txt; also with .gz, .xz, .zst."),
    ],
    text_column: Annotated[
        str | None, typer.Option(help="The column that holds the text (default: text, ...).")
    ] = None,
    eos: Annotated[
        str | None, typer.Option(help="In a .txt: what follows each text, as <|endoftext|>.")
    ] = None,
    only_text: Annotated[
        bool, typer.Option("--only-text", help="Leave out title, authors and the like.")
    ] = False,
    overwrite: Annotated[
        bool, typer.Option("--overwrite", help="Replace a file that is there.")
    ] = False,
) -> None:
    """Write texts or records in another format, for other tools. The stages need no conversion.

    Chunks (`3_chunks`, `4_dataset`) are put together again: one text for each document.
    """
    from pipeline.acquisition.documents import DOCUMENT_SUFFIXES
    from pipeline.corpus.convert import Sources, check_target, write_examples
    from pipeline.storage import Storage

    check_target(target, eos, overwrite=overwrite)
    with Storage() as storage:
        examples = Sources(storage, read_text, DOCUMENT_SUFFIXES, text_column).examples(source)
        written = write_examples(examples, target, eos=eos, only_text=only_text)
    console.say(
        f"convert: {console.many(written.examples, 'example')}, "
        f"{console.many(written.characters, 'character')} in {target}"
    )


def read_text(data: bytes, name: str) -> dict[str, Any]:
    """A text, e-book or web page as an example. Raises PipelineError for what is none."""
    from pipeline.acquisition.documents import Refused, as_document, stem
    from pipeline.books.decoding import decode

    try:
        document = as_document(data, name)
    except Refused as refusal:
        raise PipelineError(f"{name}: {refusal.reason}.") from refusal
    about = {
        "id": stem(name), "title": document.title, "authors": document.authors,
        "language": next(iter(document.languages), None), "rights": document.rights,
    }  # fmt: skip
    known = {key: value for key, value in about.items() if value}
    return {"text": decode(document.data).text, "about": known}


def build(
    documents: Annotated[
        str, typer.Argument(help="Where the documents are: a prefix, folder or pattern.")
    ],
    to: Annotated[
        str, typer.Option(help="The lists: 's3://bucket/lists/part_{segment_number}.json.gz'.")
    ],
    segments: Annotated[int, typer.Option(min=1, help="How many lists.")] = 1,
    base: Annotated[
        str | None,
        typer.Option(help="What keys are relative to (default: the bucket, or the lists' folder)."),
    ] = None,
    shuffle_seed: Annotated[
        int | None, typer.Option(help="Shuffle the documents by this seed (default: sorted).")
    ] = None,
    overwrite: Annotated[
        bool, typer.Option("--overwrite", help="Replace lists that are there.")
    ] = False,
) -> None:
    """Make a series: lists of the documents below a prefix, for `pipeline acquire --series`.

    Large corpora are trained segment by segment; each list is one segment.
    """
    from pipeline.corpus.series_build import build_series
    from pipeline.storage import Storage

    with Storage() as storage:
        found = storage.expand(documents)
        lists = build_series(
            found, to, segments, storage, base=base, seed=shuffle_seed, overwrite=overwrite
        )
    console.say(
        f"series: {console.many(len(found), 'document')} in {console.many(len(lists), 'segment')}"
    )
    for url in lists:
        typer.echo(url)

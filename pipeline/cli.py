"""The `pipeline` command: every stage by its name, the whole chain, and a look at where it stands.

pipeline all --source my-books        everything that is not up to date, in order
pipeline chunk --chunk-size 4000      one stage
pipeline status                       what is done, what is stale, what to run next
pipeline generate "It was a dark"     the finished model goes on
"""

import inspect
import shlex
from dataclasses import fields
from pathlib import Path
from typing import Annotated, Any

import typer

from pipeline import console
from pipeline.command import (
    DEFAULT_DATA_DIR,
    DataDir,
    StageFunction,
    add_stage,
    as_command,
    make_app,
    merge_parameters,
    stage_options,
    unwrapped,
    values_of,
)
from pipeline.corpus.series_build import build_series
from pipeline.errors import PipelineError, UsageError
from pipeline.export.llama import complete
from pipeline.status import survey, table
from pipeline.step1_acquire import acquire
from pipeline.step2_preprocess import check_rules, preprocess
from pipeline.step3_chunk import chunk, minimum_of
from pipeline.step4_upload import check_target, upload
from pipeline.step6_train import train
from pipeline.step7_quantize import chosen_kinds, quantize
from pipeline.step8_modelfile import SAMPLE, modelfile
from pipeline.training.base_model import check_base_model
from pipeline.training.settings import TrainSettings
from pipeline.workspace import Workspace

STAGE_FUNCTIONS: tuple[StageFunction, ...] = (
    acquire,
    preprocess,
    chunk,
    upload,
    train,
    quantize,
    modelfile,
)


def all_stages(**values: Any) -> None:
    """Run every stage that is not up to date, in order: books in, a model that answers out.

    Takes the options of all stages. It stops at the first failure; the same command continues
    there. With no options at all it makes a small model from the sample library.
    """
    check_options(values)
    for function in STAGE_FUNCTIONS:
        try:
            function(**values_of(function, values))
        except UsageError:
            raise  # the same command would not continue
        except PipelineError as error:
            if function is STAGE_FUNCTIONS[0]:
                raise
            name = function.__name__
            way_out = f"The stages before `{name}` are done: the same command continues there."
            error.hint = f"{error.hint} {way_out}" if error.hint else way_out
            raise
    sample = Workspace(values["data_dir"]).directory("modelfile") / SAMPLE
    typer.echo("\n" + sample.read_text("utf-8").rstrip())


def check_options(values: dict[str, Any]) -> None:
    """Raise UsageError or PipelineError for what a later stage would only refuse hours from now."""
    check_rules(values["skip_rule"])
    minimum_of(values["chunk_size"], values["minimum_size"])
    check_target(values["repo_id"])
    wanted = values_of(train, values)
    names = {field.name for field in fields(TrainSettings)} & wanted.keys()
    given = {name: wanted[name] for name in names if wanted[name] is not None}
    TrainSettings(**given).check()
    check_base_model(values["base_model"], values["train_revision"])
    chosen_kinds(values["quantization"])


def status(data_dir: DataDir = DEFAULT_DATA_DIR) -> None:
    """Show every stage: its state and why, what it made, when, and the command to run next.

    A stage is fresh, stale (its input changed), edited (by hand, which is kept), partial (stopped
    half-way) or missing. What settings a stage is to have is known only when it runs.
    """
    workspace = Workspace(data_dir)
    stages = survey(workspace)
    console.print_table(table(stages))
    following = next((stage.name for stage in stages if not stage.condition.holds), None)
    place = "" if data_dir == DEFAULT_DATA_DIR else f" --data-dir {shlex.quote(str(data_dir))}"
    if following is None:
        typer.echo(f'Everything is up to date. Try it: pipeline generate "It was late"{place}')
    else:
        typer.echo(f"Next: pipeline {following}{place}")
    workspace.hashes.save()


def generate(
    prompt: Annotated[str, typer.Argument(help="The text to go on from.")],
    data_dir: DataDir = DEFAULT_DATA_DIR,
    gguf: Annotated[
        Path | None, typer.Option(help="Another GGUF than that of the data directory.")
    ] = None,
    max_tokens: Annotated[int, typer.Option(min=1, help="Tokens to write at the most.")] = 200,
    temperature: Annotated[
        float, typer.Option(min=0, help="0 always takes the likeliest word; 1 dares more.")
    ] = 0.6,
    seed: Annotated[int, typer.Option(help="Same seed, same text.")] = 0,
) -> None:
    """Complete a prompt with the finished model. It continues the text; it does not answer it."""
    workspace = Workspace(data_dir)
    model = gguf or next(iter(workspace.files("modelfile", ["*.gguf"])), None)
    if model is None:
        raise PipelineError(
            f"{workspace.directory('modelfile')} has no GGUF yet.", "Run `pipeline all` first."
        )
    typer.echo(prompt, nl=False)
    complete(
        model,
        prompt,
        max_tokens=max_tokens,
        temperature=temperature,
        seed=seed,
        on_text=lambda text: typer.echo(text, nl=False),
    )
    typer.echo()


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
    from pipeline.storage import Storage

    with Storage() as storage:
        found = storage.expand(documents)
        lists = build_series(
            found, to, segments, storage, base=base, seed=shuffle_seed, overwrite=overwrite
        )
    console.say(f"series: {len(found):,} documents in {len(lists):,} segments")
    for url in lists:
        typer.echo(url)


def make_pipeline() -> typer.Typer:
    """The whole command-line interface."""
    app = make_app()
    known = {function.__name__: stage_options(function) for function in STAGE_FUNCTIONS}
    for function in STAGE_FUNCTIONS:
        add_stage(app, function, known)
    app.command("all")(as_command(all_stages, merge_parameters(STAGE_FUNCTIONS), known))
    for helper in (status, generate):
        parameters = dict(inspect.signature(helper).parameters)
        app.command(helper.__name__)(as_command(helper, parameters, known))
    series = make_app()
    series.command("build")(as_command(build, dict(inspect.signature(build).parameters), known))
    series.callback(help="Series of segment lists, for corpora in object storage.")(lambda: None)
    app.add_typer(series, name="series")
    app.callback(help=unwrapped(root.__doc__))(root)
    return app


def root() -> None:
    """From a shelf of books to a text-completion language model that runs on your machine.

    Seven stages pass files through numbered directories (training-data/1_raw, 2_preprocessed,
    ...). Run them one by one, or `pipeline all`; stop anywhere, look, change files by hand, go on.

    Every option can also be set in the environment (--max-steps of train is
    PIPELINE_TRAIN_MAX_STEPS) or in a settings file (--config, or pipeline.yaml in the data
    directory); the command line goes first, then the environment, then the file. A variable of an
    option that may be repeated holds words, or a JSON list: PIPELINE_ACQUIRE_SOURCE='["my books"]'.
    """


def main() -> None:
    """Entry point of the `pipeline` command."""
    make_pipeline()()


if __name__ == "__main__":
    main()

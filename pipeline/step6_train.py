"""Stage 6: train a LoRA adapter on `4_dataset` and score it on the books held out.

    pipeline train                                         SmolLM2-135M, one pass over the data
    pipeline train --base-model meta-llama/Llama-3.1-8B --epochs 2
    pipeline train --dataset your-name/horror-novel-chunks --max-steps 500
    pipeline train --mix novels=0.7,letters=0.3 --mix 500:novels=0.2,letters=0.8
    pipeline train --dataset chats.jsonl --show 3

Whole documents are put together again from their chunks, tokenized with one end token each and cut
into blocks, so nothing is lost. Of prompts with completions, and of chats, only what the model has
to write is trained on. `6_adapter` gets the adapter, `metrics.jsonl`, `loss.png`, and
`evaluation.json`: bits per byte of the held-out text before and after.
"""

import sys
from pathlib import Path
from typing import Annotated, Any

from typer import Option

from pipeline.command import DEFAULT_DATA_DIR, DataDir, Force, Jobs, OverwriteEdited
from pipeline.command import run_script as run_script
from pipeline.console import printable
from pipeline.corpus.hub_rows import is_dataset_id
from pipeline.errors import PipelineError, UsageError
from pipeline.files import fingerprint
from pipeline.hub.client import fetch_dataset
from pipeline.parallel import default_jobs
from pipeline.run import StageRun, open_run
from pipeline.training.base_model import (
    DEFAULT_BASE_MODEL,
    check_base_model,
    resolve_base_model,
)
from pipeline.training.settings import DEFAULT_PROMPT, TrainSettings
from pipeline.training.sources import (
    check_kind,
    check_template,
    choose_kind,
    files_at,
    files_in,
    is_address,
    read_samples,
    read_template,
)
from pipeline.training.trainer import show as show_training
from pipeline.training.trainer import train as train_adapter
from pipeline.workspace import Workspace

VERSION = 3
DATA = "Data"
LENGTH = "Length"
LEARNING = "Learning"
SCORING = "Scoring"


def train(
    data_dir: DataDir = DEFAULT_DATA_DIR,
    base_model: Annotated[
        str,
        Option(help="A Hub id, a folder, a .gguf file, or smollm2-135m (comes with `make setup`)."),
    ] = DEFAULT_BASE_MODEL,
    revision: Annotated[
        str | None, Option(help="Branch, tag or commit of a base model from the Hub.")
    ] = None,
    dataset: Annotated[
        str | None,
        Option(
            help="In place of 4_dataset: a folder, a Parquet, JSONL or CSV file, a glob or URL of "
            "such, or a Hub dataset id.",
            rich_help_panel=DATA,
        ),
    ] = None,
    dataset_revision: Annotated[
        str | None,
        Option(help="Branch, tag or commit of a dataset from the Hub.", rich_help_panel=DATA),
    ] = None,
    kind: Annotated[
        str,
        Option(
            help="text, completion (prompts with completions) or chat; auto takes the only kind "
            "that there is.",
            rich_help_panel=DATA,
        ),
    ] = "auto",
    overlong: Annotated[
        str,
        Option(
            help="Records longer than a sequence: split (nothing is lost), truncate or drop.",
            rich_help_panel=DATA,
        ),
    ] = TrainSettings.overlong,
    stride: Annotated[
        int,
        Option(min=0, help="Tokens that a block repeats as context.", rich_help_panel=DATA),
    ] = 0,
    packing: Annotated[
        bool,
        Option(
            help="Let short documents share a sequence, without seeing each other.",
            rich_help_panel=DATA,
        ),
    ] = True,
    chat_template: Annotated[
        str | None,
        Option(
            help="plain, or a file in Jinja (default: the tokenizer's own).", rich_help_panel=DATA
        ),
    ] = None,
    eos: Annotated[
        str,
        Option(
            help="End token after each document, or chunk (each one a document then).",
            rich_help_panel=DATA,
        ),
    ] = "document",
    show: Annotated[
        int,
        Option(
            min=0,
            help="Print so many sequences with what is trained on marked, and stop.",
            rich_help_panel=DATA,
        ),
    ] = 0,
    engine: Annotated[
        str, Option(help="auto (unsloth where there is a GPU and it is installed), unsloth or trl.")
    ] = "auto",
    max_steps: Annotated[
        int | None, Option(min=1, help="Optimizer steps.", rich_help_panel=LENGTH)
    ] = None,
    epochs: Annotated[
        float | None,
        Option(help="Passes over the data (default: one).", rich_help_panel=LENGTH),
    ] = None,
    sequence_length: Annotated[
        int, Option(min=8, help="Tokens the model sees at once.", rich_help_panel=LENGTH)
    ] = 1024,
    batch_size: Annotated[
        int, Option(min=1, help="Sequences computed together.", rich_help_panel=LENGTH)
    ] = 1,
    gradient_accumulation: Annotated[
        int, Option(min=1, help="Batches summed up for one step.", rich_help_panel=LENGTH)
    ] = 1,
    learning_rate: Annotated[
        float,
        Option(
            help="2e-4 suits runs of thousands of steps; runs of some dozens learn more at 1e-3.",
            rich_help_panel=LEARNING,
        ),
    ] = 2e-4,
    scheduler: Annotated[
        str, Option(help="cosine, linear or constant.", rich_help_panel=LEARNING)
    ] = "cosine",
    warmup: Annotated[
        float,
        Option(help="Share of the steps (below 1) or steps.", rich_help_panel=LEARNING),
    ] = 0.05,
    weight_decay: Annotated[float, Option(rich_help_panel=LEARNING)] = 0.0,
    rank: Annotated[
        int, Option(min=1, help="Width of the adapter's matrices.", rich_help_panel=LEARNING)
    ] = 16,
    alpha: Annotated[
        int,
        Option(min=1, help="The adapter counts alpha / rank times.", rich_help_panel=LEARNING),
    ] = 32,
    dropout: Annotated[
        float, Option(help="Of the adapter, from 0 to below 1.", rich_help_panel=LEARNING)
    ] = 0.0,
    mix: Annotated[
        list[str] | None,
        Option(
            help="Shares of sources: novels=0.7,letters=0.3; from step 500 on: 500:novels=1,...",
            rich_help_panel=LEARNING,
        ),
    ] = None,
    seed: Annotated[int, Option(min=0, help="Same seed, same run.", rich_help_panel=LEARNING)] = 42,
    eval_tokens: Annotated[
        int, Option(min=1, help="Held-out tokens to score.", rich_help_panel=SCORING)
    ] = TrainSettings.eval_tokens,
    sample_prompt: Annotated[
        str, Option(help="What base and tuned model are to go on from.", rich_help_panel=SCORING)
    ] = DEFAULT_PROMPT,
    sample_tokens: Annotated[
        int, Option(min=1, help="How far they go on.", rich_help_panel=SCORING)
    ] = TrainSettings.sample_tokens,
    jobs: Jobs = None,
    force: Force = False,
    overwrite_edited: OverwriteEdited = False,
) -> None:
    """Train a LoRA adapter on the dataset; score it on what is held out before and after.

    Runs on a GPU (with unsloth, if installed) or on the CPU. The default base model, SmolLM2-135M,
    is small enough for a laptop; for a real writer rent a GPU and take one of 7 or 8 billion
    parameters.
    """
    settings = TrainSettings(
        engine=engine, max_steps=max_steps, epochs=epochs, sequence_length=sequence_length,
        batch_size=batch_size, gradient_accumulation=gradient_accumulation,
        learning_rate=learning_rate, scheduler=scheduler, warmup=warmup,
        weight_decay=weight_decay, rank=rank, alpha=alpha, dropout=dropout, seed=seed,
        eval_tokens=eval_tokens, sample_prompt=sample_prompt, sample_tokens=sample_tokens,
        mix=tuple(mix or ()), packing=packing, stride=stride, overlong=overlong,  # type: ignore[arg-type]
        chat_template=read_template(chat_template), eos=eos,
    )  # fmt: skip
    settings.check()
    workspace = Workspace(data_dir)
    inputs = dataset_files(workspace, dataset, dataset_revision)
    chosen_kind, tables = choose_kind(inputs, kind)
    base_model = absolute(base_model)
    check_base_model(base_model, revision)
    chosen = settings.as_dict() | {
        "base_model": base_model, "base_files": base_files(workspace, base_model),
        "revision": revision, "dataset": dataset and absolute(dataset),
        "dataset_revision": dataset_revision, "kind": chosen_kind,
    }  # fmt: skip
    work: dict[str, Any] = {
        "tokens_dir": workspace.cache / "tokens", "jobs": jobs or default_jobs()
    }  # fmt: skip
    if show:
        training, held_out = read_samples(tables, chosen_kind, seed, eos=eos)
        base = resolve_base_model(base_model, workspace.cache / "base", revision)
        print_examples(show_training(settings, training, held_out, base, show, **work))
        return
    with open_run(
        workspace, "train", version=VERSION, settings=chosen, inputs=inputs, force=force,
        overwrite_edited=overwrite_edited,
    ) as run:  # fmt: skip
        if not run.is_fresh:
            training, held_out = read_samples(tables, chosen_kind, seed, eos=eos)
            base = resolve_base_model(base_model, workspace.cache / "base", revision)
            settings.check_against(base.path)
            with run.scratch() as folder:
                result = train_adapter(settings, training, held_out, base, folder, **work)
                run.adopt(folder)
            run.counts |= {
                "steps": result.steps,
                "tokens": result.tokens,
                "ledger": result.ledger,
                "bits_per_byte": {
                    "base": result.base.bits_per_byte,
                    "adapter": result.adapter.bits_per_byte,
                },
            }
    report(run)


def absolute(name: str) -> str:
    """A path as it can be found from anywhere; a Hub id or another name stays as it is."""
    path = Path(name).expanduser()
    return str(path.resolve()) if path.exists() else name


def base_files(workspace: Workspace, base_model: str) -> str | None:
    """A fingerprint of a base model on this disk, so that other weights are noticed.

    Sizes of the weights and the content of the configuration: hashing 16 GB takes too long for a
    look. None for a model from elsewhere, whose revision says which it is.
    """
    path = Path(base_model)
    if not path.exists():
        return None
    files = sorted(path.glob("*.*")) if path.is_dir() else [path]
    sizes = [(file.name, file.stat().st_size) for file in files if file.is_file()]
    configs = [workspace.fact(file).sha256 for file in files if file.suffix == ".json"]
    return fingerprint([sizes, configs])


def dataset_files(
    workspace: Workspace, dataset: str | None, revision: str | None = None
) -> list[Path]:
    """The tables to train on, on this disk.

    Raises PipelineError if there are none, UsageError for a revision of something local.
    """
    check_dataset(dataset, revision)
    if dataset is None:
        return workspace.inputs("train")
    place = Path(dataset).expanduser()
    if place.exists():
        return files_in(place)
    if is_address(dataset):
        return files_at(dataset, workspace.cache)
    return files_in(fetch_dataset(dataset, revision=revision))


def check_dataset(dataset: str | None, revision: str | None) -> None:
    """Raise PipelineError if --dataset names nothing that there can be, UsageError for a revision
    of something local.
    """
    is_there = dataset is not None and Path(dataset).expanduser().exists()
    if revision and (dataset is None or is_there or is_address(dataset)):
        raise UsageError("--dataset-revision is for a dataset from the Hub.")
    if dataset is None or is_there or is_address(dataset) or is_dataset_id(dataset):
        return
    raise PipelineError(
        f"--dataset {dataset} is not there.",
        "Give a folder, a file, a glob, a URL, or a Hub id such as roneneldan/TinyStories.",
    )


def check_data_options(
    data_dir: Path, dataset: str | None, revision: str | None, kind: str, chat_template: str | None
) -> None:
    """Raise UsageError or PipelineError for what can be refused before there is any dataset.

    Of a dataset on this disk it is found out whether it holds samples of `kind`; nothing is
    downloaded.
    """
    check_kind(kind)
    if chat_template is not None and kind not in ("auto", "chat"):
        raise UsageError(f"--chat-template is for chats, and --kind is {kind}.")
    check_template(chat_template)
    place = Path(dataset).expanduser() if dataset else None
    if place and not place.exists() and place.resolve().is_relative_to(data_dir.resolve()):
        return  # an earlier stage may make it
    check_dataset(dataset, revision)
    if place and place.exists() and not place.resolve().is_relative_to(data_dir.resolve()):
        choose_kind(files_in(place), kind)


def print_examples(examples: list[list[tuple[str, bool]]]) -> None:
    """Print sequences to stdout with what is trained on in green, or in brackets off a terminal."""
    from rich.console import Console
    from rich.text import Text

    drawn = Console(file=sys.stdout, highlight=False, soft_wrap=True)
    for number, example in enumerate(examples, 1):
        drawn.print(Text(f"--- sequence {number}", style="dim"))
        text = Text()
        for stretch, is_trained in example:
            clean = printable(stretch)
            if drawn.is_terminal:
                text.append(clean, style="green" if is_trained else "dim")
            else:
                text.append(f"⟦{clean}⟧" if is_trained else clean)
        drawn.print(text)


def report(run: StageRun) -> None:
    """Print the line that sums the stage up."""
    bits = run.counts["bits_per_byte"]
    run.report(
        f"{run.counts['steps']} steps, {run.counts['tokens']:,} tokens, adapter in "
        f"{run.directory}; held-out bits per byte {bits['base']:.4f} before, "
        f"{bits['adapter']:.4f} after"
    )


if __name__ == "__main__":
    run_script(train)

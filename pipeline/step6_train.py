"""Stage 6: train a LoRA adapter on `4_dataset` and score it on the books held out.

    pipeline train                                         SmolLM2-135M, one pass over the data
    pipeline train --base-model meta-llama/Llama-3.1-8B --epochs 2
    pipeline train --dataset your-name/horror-novel-chunks --max-steps 500
    pipeline train --mix novels=0.7,letters=0.3 --mix 500:novels=0.2,letters=0.8

Whole documents are put together again from their chunks, tokenized with one end token each and cut
into blocks, so nothing is lost. `6_adapter` gets the adapter, `metrics.jsonl`, `loss.png`, and
`evaluation.json`: bits per byte of the held-out text before and after.
"""

from dataclasses import replace
from pathlib import Path
from typing import Annotated

from typer import Option

from pipeline.command import DEFAULT_DATA_DIR, DataDir, Force, OverwriteEdited
from pipeline.command import run_script as run_script
from pipeline.console import say, warn
from pipeline.corpus.record_files import KINDS
from pipeline.corpus.shards import Document, find_splits, read_documents
from pipeline.corpus.splits import validation_ids
from pipeline.errors import PipelineError
from pipeline.files import fingerprint
from pipeline.hub.client import fetch_dataset
from pipeline.run import StageRun, open_run
from pipeline.training.base_model import (
    DEFAULT_BASE_MODEL,
    check_base_model,
    resolve_base_model,
)
from pipeline.training.settings import DEFAULT_PROMPT, TrainSettings
from pipeline.training.trainer import train as train_adapter
from pipeline.workspace import Workspace

VERSION = 1
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
        Option(help="A folder of Parquet files or a Hub dataset id, in place of 4_dataset."),
    ] = None,
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
    force: Force = False,
    overwrite_edited: OverwriteEdited = False,
) -> None:
    """Train a LoRA adapter on the dataset; score it on the held-out books before and after.

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
        mix=tuple(mix or ()),
    )  # fmt: skip
    settings.check()
    workspace = Workspace(data_dir)
    inputs = parquet_files(workspace, dataset)
    base_model = absolute(base_model)
    check_base_model(base_model, revision)
    chosen = settings.as_dict() | {
        "base_model": base_model, "base_files": base_files(workspace, base_model),
        "revision": revision, "dataset": dataset and absolute(dataset),
    }  # fmt: skip
    with open_run(
        workspace, "train", version=VERSION, settings=chosen, inputs=inputs, force=force,
        overwrite_edited=overwrite_edited,
    ) as run:  # fmt: skip
        if not run.is_fresh:
            training, held_out = read_splits(inputs, seed)
            base = resolve_base_model(base_model, workspace.cache / "base", revision)
            settings.check_against(base.path)
            with run.scratch() as folder:
                result = train_adapter(settings, training, held_out, base, folder)
                run.adopt(folder)
            run.counts |= {
                "steps": result.steps,
                "tokens": result.tokens,
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


def parquet_files(workspace: Workspace, dataset: str | None) -> list[Path]:
    """The Parquet files to train on. Raises PipelineError if there are none."""
    if dataset is None:
        records = workspace.files("upload", [f"{kind}/*.parquet" for kind in KINDS])
        if records and not workspace.files("upload", ["data/*.parquet"]):
            raise PipelineError(
                f"{workspace.directory('upload')} holds records (prompts with completions, or "
                "chats) and no texts; only texts can be trained on so far.",
                f"{records[0].parent} can be given to any trainer that takes such records.",
            )
        if records:
            warn(f"The records in {records[0].parent} are not trained on, only the texts.")
        return workspace.inputs("train")
    folder = Path(dataset).expanduser()
    if not folder.exists():
        folder = fetch_dataset(dataset)
    files = [folder] if folder.is_file() else sorted(folder.rglob("*.parquet"))
    if not files:
        raise PipelineError(f"--dataset {dataset} has no Parquet files in it.")
    return files


def read_splits(files: list[Path], seed: int) -> tuple[list[Document], list[Document]]:
    """The documents to train on and those held out.

    What has the weight 0 is for evaluation only, wherever it stands. A dataset without anything
    held out gets a validation split here, of whole documents.
    """
    train_files, validation_files = find_splits(files)
    training = [without_last_newline(document) for document in read_documents(train_files)]
    held_out = [without_last_newline(document) for document in read_documents(validation_files)]
    held_out += [document for document in training if document.weight == 0]
    training = [document for document in training if document.weight != 0]
    if not held_out:
        chosen = validation_ids([(d.id, len(d.text)) for d in training], 0.1, seed)
        held_out = [document for document in training if document.id in chosen]
        training = [document for document in training if document.id not in chosen]
        if held_out:
            say(f"The dataset has no validation split: {len(held_out)} documents are held out.")
    if not held_out:
        raise PipelineError(
            "The dataset holds no text out to score the model on.",
            "Add a document, or run `pipeline chunk` with a --validation-fraction above 0.",
        )
    return training, held_out


def without_last_newline(document: Document) -> Document:
    """The document as a model is to know it: its last word, then the end token.

    A text file ends with a line end. Trained on, it would teach the model that the end comes after
    a line end, and as a paragraph break begins with one too, it would stop at half its paragraphs.
    """
    return replace(document, text=document.text.rstrip("\n"))


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

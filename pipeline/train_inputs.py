"""What `pipeline train` is pointed at: the files of a dataset, and of a base model."""

import sys
from pathlib import Path

from pipeline.console import printable
from pipeline.corpus.hub_rows import is_dataset_id
from pipeline.errors import PipelineError, UsageError
from pipeline.files import fingerprint
from pipeline.hub.client import fetch_dataset
from pipeline.training.sources import (
    check_kind,
    check_template,
    choose_kind,
    files_at,
    files_in,
    is_address,
)
from pipeline.workspace import Workspace


def absolute(name: str) -> str:
    """A path as it can be found from anywhere; a Hub id or another name stays as it is."""
    path = Path(name).expanduser()
    return str(path.resolve()) if path.exists() else name


def base_files(workspace: Workspace, base_model: str) -> str | None:
    """A fingerprint of a base model on this disk, so that other weights are noticed.

    Hashes are kept with sizes and times, so that 16 GB are read once. None for a model from
    elsewhere, whose revision says which it is.
    """
    path = Path(base_model)
    if not path.exists():
        return None
    files = sorted(path.glob("*.*")) if path.is_dir() else [path]
    kinds = (".json", ".safetensors", ".gguf", ".model", ".jinja")
    hashes = [(f.name, workspace.fact(f).sha256) for f in files if f.suffix in kinds]
    return fingerprint(hashes)


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

"""What `pipeline train` is pointed at: the files of a dataset, and of a base model."""

import sys
from collections.abc import Sequence
from pathlib import Path

from pipeline.console import few, printable, say, warn
from pipeline.corpus.examples import Shape
from pipeline.corpus.hub_rows import is_dataset_id
from pipeline.corpus.shards import find_splits
from pipeline.errors import PipelineError, UsageError
from pipeline.files import fingerprint, link_or_copy
from pipeline.hub.client import Unreachable
from pipeline.hub.dataset_choice import OPTION, ending
from pipeline.hub.fetching import Fetched, fetch_dataset
from pipeline.training.base_weights import check_download_room
from pipeline.training.sources import (
    KINDS,
    check_kind,
    check_template,
    choose_kind,
    files_at,
    files_in,
    is_address,
    split_files,
    table_format_of,
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
    workspace: Workspace,
    dataset: str | None,
    revision: str | None = None,
    config: str | None = None,
) -> list[Path]:
    """The tables to train on, on this disk.

    Raises PipelineError if there are none, UsageError for a revision or a configuration of
    something local, or if a dataset has several and none is named.
    """
    check_dataset(dataset, revision, config)
    if dataset is None:
        return workspace.inputs("train")
    place = Path(dataset).expanduser()
    if place.exists():
        return files_in(place)
    if is_address(dataset):
        return files_at(dataset, workspace.cache)
    try:
        fetched = fetch_dataset(
            dataset, table_format_of, config=config, revision=revision,
            check_room=check_download_room,
        )  # fmt: skip
    except Unreachable as error:
        raise PipelineError(
            f"--dataset {dataset} is no file or folder here, nor was it fetched whole before; "
            f"{error.message}",
            "Check the path, or the network.",
        ) from error
    return _in_splits(dataset, fetched, workspace.cache / "datasets")


def _in_splits(dataset: str, fetched: Fetched, cache: Path) -> list[Path]:
    """The files of a dataset of the Hub, of which it is said what is held out.

    Which these are is told by their names everywhere; files of which the card says something else
    get other names in `cache`.
    """
    paths = fetched.paths
    by_name = set(split_files(paths)[1])
    told = [
        path in by_name if file.held_out is None else file.held_out
        for file, path in zip(fetched.files, paths, strict=True)
    ]
    named = f"{dataset} (commit {fetched.commit[:12]})"
    names = {side: [f.name for f, t in zip(fetched.files, told, strict=True) if t is side]
             for side in (False, True)}  # fmt: skip
    if all(told) or not find_splits([Path(file.name) for file in fetched.files])[0]:
        warn(f"{named} has only what is there to be scored on, which is trained on now.")
        return paths
    held = f"; held out: {few(names[True])}" if names[True] else ""
    say(f"{named}: to train on: {few(names[False])}{held}.")
    if told == [path in by_name for path in paths]:
        return paths
    about = [dataset, fetched.commit, [file.name for file in fetched.files], told]
    folder = cache / fingerprint(about)[:16]
    folder.mkdir(parents=True, exist_ok=True)
    found = []
    for number, (path, held_out) in enumerate(zip(paths, told, strict=True)):
        split = "validation" if held_out else "train"
        found.append(folder / f"{split}-{number:05d}{ending(path.name, table_format_of)}")
        if not found[-1].exists():
            link_or_copy(path.resolve(), found[-1])
    return found


def check_dataset(dataset: str | None, revision: str | None, config: str | None = None) -> None:
    """Raise PipelineError if --dataset names nothing that there can be, UsageError for a revision
    or a configuration of something local.
    """
    is_there = dataset is not None and Path(dataset).expanduser().exists()
    is_elsewhere = dataset is None or is_there or is_address(dataset)
    for option, value in (("--dataset-revision", revision), (OPTION, config)):
        if value and is_elsewhere:
            raise UsageError(f"{option} is for a dataset from the Hub.")
    if dataset is None or is_elsewhere or is_dataset_id(dataset):
        return
    raise PipelineError(
        f"--dataset {dataset} is not there.",
        "Give a folder, a file, a glob, a URL, or a Hub id such as roneneldan/TinyStories.",
    )


def check_data_options(
    data_dir: Path,
    dataset: str | None,
    revision: str | None,
    kind: str,
    chat_template: str | None,
    config: str | None = None,
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
    check_dataset(dataset, revision, config)
    if place and place.exists() and not place.resolve().is_relative_to(data_dir.resolve()):
        kind_to_train(Workspace(data_dir), dataset, files_in(place), kind)


def kind_to_train(
    workspace: Workspace, dataset: str | None, files: Sequence[Path], kind: str
) -> tuple[Shape, list[Path]]:
    """The kind of samples to train on, and the files that hold them, as `choose_kind` does it; of
    several kinds, where none is asked for, that of the last run on the same dataset.

    So what `status` finds up to date is not refused. Raises as `choose_kind` does.
    """
    try:
        return choose_kind(files, kind)
    except UsageError:
        record = workspace.record("train")
        last = record.settings.get("kind") if record else None
        is_same = record is not None and record.settings.get("dataset") == (
            absolute(dataset) if dataset else None
        )
        if kind != "auto" or last not in KINDS or not is_same:
            raise
        try:
            chosen = choose_kind(files, str(last))
        except PipelineError:  # it is no longer among them
            last = None
        if last is None:
            raise
        say(f"The dataset holds several kinds: --kind {last}, as in the last run.")
        return chosen


def kinds_to_choose(workspace: Workspace) -> str | None:
    """What there is to choose before `4_dataset` can be trained on; None if there is nothing."""
    try:
        kind_to_train(workspace, None, workspace.inputs("train"), "auto")
    except UsageError as error:
        return f"{error.message} {error.hint}"
    except PipelineError:  # which says itself when it is run
        return None
    return None


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

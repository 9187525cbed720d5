"""Stage 4: make `4_dataset`, the exact dataset repository, and push it if asked to.

    pipeline upload                                          builds it on this disk
    pipeline upload --repo-id your-name/horror-chunks --private

`4_dataset` holds the Parquet files and a card that lists the books; `datasets.load_dataset` reads
the directory as it stands. You can edit the card (README.md): your text is kept.
"""

import shutil
from pathlib import Path
from typing import Annotated, Any

from typer import Option

from pipeline.command import DEFAULT_DATA_DIR, DataDir, Force, OverwriteEdited
from pipeline.command import run_script as run_script
from pipeline.corpus.record_files import KINDS
from pipeline.corpus.shards import find_splits
from pipeline.files import read_jsonl
from pipeline.hub.card import Book, dataset_card
from pipeline.hub.client import check_repo_id, find_token, push_folder
from pipeline.run import StageRun, open_run
from pipeline.workspace import Workspace

VERSION = 2
CARD = "README.md"
DOCUMENTS = "documents.jsonl"


def upload(
    data_dir: DataDir = DEFAULT_DATA_DIR,
    repo_id: Annotated[
        str | None, Option(help="Push to this dataset of the Hugging Face Hub: user/name.")
    ] = None,
    private: Annotated[
        bool, Option("--private/--public", help="Whether a new repository is private.")
    ] = True,
    dataset_name: Annotated[
        str, Option(help="What the card calls the dataset.")
    ] = "Books in chunks",
    licence: Annotated[
        str | None,
        Option(help="Licence as the Hub spells it (default: by the books' rights)."),
    ] = None,
    force: Force = False,
    overwrite_edited: OverwriteEdited = False,
) -> None:
    """Build the dataset repository on disk: Parquet files and a card. With --repo-id, push it.

    Without --repo-id nothing leaves this machine. The token for pushing comes from `hf auth login`
    or HF_TOKEN.
    """
    check_target(repo_id)
    workspace = Workspace(data_dir)
    inputs = workspace.inputs("upload")
    settings = {"repo_id": repo_id, "dataset_name": dataset_name, "licence": licence}
    with open_run(
        workspace, "upload", version=VERSION, settings=settings, inputs=inputs, force=force,
        overwrite_edited=overwrite_edited,
    ) as run:  # fmt: skip
        if not run.is_fresh:
            with run.scratch() as folder:
                build(run, folder, inputs, settings)
                run.adopt(folder)
    url = None
    if repo_id is not None:
        url = push_folder(run.directory, repo_id, repo_type="dataset", private=private)
    report(run, url)


def check_target(repo_id: str | None) -> None:
    """Raise PipelineError if `repo_id` cannot name a repository, or there is no token for it."""
    if repo_id is not None:
        check_repo_id(repo_id)
        find_token()


def build(run: StageRun, folder: Path, inputs: list[Path], settings: dict[str, Any]) -> None:
    """Put the Parquet files and the card into `folder`: chunks in `data`, records in a folder for
    each kind."""
    parquet = [path for path in inputs if path.suffix == ".parquet"]
    rows = [row for path in inputs if path.name == DOCUMENTS for row in read_jsonl(path)]
    amounts: dict[str, dict[str, int]] = {}
    for place in ("data", *KINDS):
        mine = [path for path in parquet if place_of(path) == place]
        if not mine:
            continue
        (folder / place).mkdir()
        for path in mine:
            shutil.copyfile(path, folder / place / path.name.removeprefix(f"{place}-"))
        train, held_out = find_splits(mine)
        amounts[place] = {"train": count_rows(train), "validation": count_rows(held_out)}
    chunks = amounts.pop("data", {})
    books = [
        Book(
            id=row["document_id"], title=row.get("title"), authors=row.get("authors") or [],
            language=row.get("language"), source=row.get("source"), rights=row.get("rights"),
            characters=row.get("characters", 0), chunks=row.get("chunks", 0),
            split=row.get("split", "train"),
        )
        for row in rows
    ]  # fmt: skip
    card = dataset_card(
        pretty_name=settings["dataset_name"],
        books=books,
        rows=chunks,
        records=amounts,
        repo_id=settings["repo_id"],
        license=settings["licence"],
        settings=made_with(run.workspace),
    )
    (folder / CARD).write_text(card, "utf-8")
    records = sum(sum(splits.values()) for splits in amounts.values())
    run.counts |= {
        "documents": len(books), "chunks": sum(chunks.values()), "records": records,
    }  # fmt: skip


def place_of(path: Path) -> str:
    """The folder of the repository that a Parquet file of `3_chunks` goes to."""
    return next((kind for kind in KINDS if path.name.startswith(f"{kind}-")), "data")


def count_rows(paths: list[Path]) -> int:
    """Rows of Parquet files, by their footers."""
    import pyarrow.parquet as pq

    return sum(pq.read_metadata(path).num_rows for path in paths)


def made_with(workspace: Workspace) -> dict[str, Any]:
    """The settings of stage 3, as far as its record is there."""
    record = workspace.record("chunk")
    return record.settings if record else {}


def report(run: StageRun, url: str | None) -> None:
    """Print the line that sums the stage up, and where the dataset is."""
    records = f", {run.counts['records']:,} records" if run.counts.get("records") else ""
    run.report(
        f"{run.counts['documents']} documents, {run.counts['chunks']} chunks{records} in "
        f"{run.directory}, "
        + (f"pushed to {url}" if url else "not pushed (give --repo-id user/name to push)")
    )


if __name__ == "__main__":
    run_script(upload)

"""Stage 4: make `4_dataset`, the exact dataset repository, and push it if asked to.

    pipeline upload                                          builds it on this disk
    pipeline upload --repo-id your-name/horror-chunks --dry-run
    pipeline upload --repo-id your-name/horror-chunks --private

`4_dataset` holds the Parquet files, a table of the books and a card; `datasets.load_dataset` reads
the directory as it stands. You can edit the card (README.md): your text is kept. Before anything is
sent, the publish gate looks for what must not be published, and lists it.
"""

from pathlib import Path
from typing import Annotated, Any

from typer import Option, echo

from pipeline.books.mentions import find_mentions
from pipeline.command import DEFAULT_DATA_DIR, DataDir, Force, OverwriteEdited
from pipeline.command import run_script as run_script
from pipeline.console import many
from pipeline.corpus.record_files import KINDS
from pipeline.corpus.shards import find_splits
from pipeline.errors import UsageError
from pipeline.files import read_jsonl
from pipeline.hub.books import TEXT
from pipeline.hub.card import CHUNKS_FOLDER
from pipeline.hub.dataset import CARD, VERSION, Dataset, as_book
from pipeline.hub.publishing import check_target, push, rehearse
from pipeline.hub.repository import known_scans, put
from pipeline.run import StageRun, open_run
from pipeline.settings import nearest
from pipeline.workspace import Workspace

DOCUMENTS = "documents.jsonl"
MOST_NAMED = 1000  # documents among which the one most like a mistyped name is looked for


def upload(
    data_dir: DataDir = DEFAULT_DATA_DIR,
    repo_id: Annotated[
        str | None, Option(help="Push to this dataset of the Hugging Face Hub: user/name.")
    ] = None,
    private: Annotated[
        bool, Option("--private/--public", help="Whether a new repository is private.")
    ] = True,
    revision: Annotated[
        str | None, Option(help="Push to this branch, made if it is not there (default: main).")
    ] = None,
    dry_run: Annotated[
        bool, Option(help="Say what would be created, sent, skipped and removed; do nothing.")
    ] = False,
    dataset_name: Annotated[
        str | None,
        Option(help="What the card calls the dataset (default: by what is in it)."),
    ] = None,
    licence: Annotated[
        str | None,
        Option(help="Licence as the Hub spells it (default: by the books' rights)."),
    ] = None,
    allow_mentions: Annotated[
        list[str] | None,
        Option(help="A document whose author really names Project Gutenberg; may be repeated."),
    ] = None,
    publish_copyrighted: Annotated[
        bool,
        Option("--publish-copyrighted", help="Push texts under copyright: the rights are yours."),
    ] = False,
    force: Force = False,
    overwrite_edited: OverwriteEdited = False,
) -> None:
    """Build the dataset repository on disk: Parquet files and a card. With --repo-id, push it.

    Without --repo-id nothing leaves this machine. The token for pushing comes from `hf auth login`
    or HF_TOKEN. Nothing is pushed that names Project Gutenberg or is marked as under copyright.
    """
    check_target(repo_id, revision, dry_run=dry_run)
    workspace = Workspace(data_dir)
    inputs = workspace.inputs("upload")
    settings = {
        "repo_id": repo_id, "dataset_name": dataset_name, "licence": licence,
        "allow_mentions": sorted(allow_mentions or []), "publish_copyrighted": publish_copyrighted,
    }  # fmt: skip
    dataset = dataset_of(workspace, inputs, settings)
    if dry_run:
        for line in rehearse(
            dataset, repo_id, private=private, revision=revision, overwrite=overwrite_edited
        ):
            echo(line)
        return
    with open_run(
        workspace, "upload", version=VERSION, settings=settings, inputs=inputs, force=force,
        overwrite_edited=overwrite_edited, unfinished=is_told_otherwise(dataset),
    ) as run:  # fmt: skip
        if not run.is_fresh:
            build(run, dataset)
    url = None
    if repo_id is not None:
        url = push(dataset, repo_id, private=private, revision=revision, overwrite=overwrite_edited)
    report(run, url)


def dataset_of(workspace: Workspace, inputs: list[Path], settings: dict[str, Any]) -> Dataset:
    """What the repository is to hold. Raises UsageError if --allow-mentions names no document."""
    parts = {}
    for folder in (CHUNKS_FOLDER, *KINDS):
        mine = [path for path in inputs if path.suffix == ".parquet" and place_of(path) == folder]
        if mine:
            train, held_out = find_splits(mine)
            parts[folder] = {"train": train, "validation": held_out}
    rows = [row for path in inputs if path.name == DOCUMENTS for row in read_jsonl(path)]
    known = [str(row.get("document_id")) for row in rows]
    for name in settings["allow_mentions"]:
        # A file that a person wrote or edited there can be allowed as well, such as the card.
        is_file = (workspace.directory("upload") / name).is_file()
        if known and name not in known and not is_file:
            hint = nearest(name, known) if len(known) <= MOST_NAMED else None
            raise UsageError(f"--allow-mentions {name}: there is no such document.", hint)
    scans = known_scans(workspace, "upload", VERSION)
    return Dataset(workspace, parts, rows, settings, find_mentions, scans)


def is_told_otherwise(dataset: Dataset) -> bool:
    """Whether the card of the last run tells other settings than the stages before now have."""
    record = dataset.workspace.record("upload")
    return record is not None and record.counts.get("made_with") != dataset.mark


def build(run: StageRun, dataset: Dataset) -> None:
    """Write what is new or changed into `4_dataset`; warn of what could not be published."""
    judgement = dataset.judgement(dict(dataset.parquet))
    put(run, dataset.contents(judgement), dataset.known, VERSION)
    check_card(run, dataset)
    amounts = dataset.amounts()
    chunks = sum(amounts.pop(CHUNKS_FOLDER, {}).values())
    run.counts |= {
        "documents": sum(as_book(row).kind == TEXT for row in dataset.rows), "chunks": chunks,
        "records": sum(sum(splits.values()) for splits in amounts.values()),
        "gate": judgement.counts(), "made_with": dataset.mark,
    }  # fmt: skip
    for line in dataset.held_back(judgement):
        run.warn(f"must not be published: {line}")


def check_card(run: StageRun, dataset: Dataset) -> None:
    """Warn if a card that a person edited no longer tells what is in the repository."""
    path = run.directory / CARD
    if run.is_edited(CARD):
        missed = dataset.missed_by(path.read_text("utf-8", errors="replace"))
        if missed:
            run.warn(
                f"{path} was edited by hand, and its first lines do not name the files of: "
                f"{', '.join(missed)}. --overwrite-edited writes it anew."
            )


def place_of(path: Path) -> str:
    """The folder of the repository that a Parquet file of `3_chunks` goes to."""
    return next((kind for kind in KINDS if path.name.startswith(f"{kind}-")), CHUNKS_FOLDER)


def report(run: StageRun, url: str | None) -> None:
    """Print the line that sums the stage up, and where the dataset is."""
    nouns = ("document", "chunk", "record")
    amounts = [many(number, noun) for noun in nouns if (number := run.counts.get(f"{noun}s"))]
    run.report(
        f"{', '.join(amounts) or 'nothing'} in {run.directory}, "
        + (f"pushed to {url}" if url else "not pushed (`upload --repo-id user/name` does that)")
    )


if __name__ == "__main__":
    run_script(upload)

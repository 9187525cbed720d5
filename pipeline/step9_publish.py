"""Stage 9: make `9_model`, the exact model repository, and push it if asked to.

    pipeline publish                                         builds it on this disk
    pipeline publish --repo-id your-name/horror-tales --dry-run
    pipeline publish --repo-id your-name/horror-tales --include adapter

`9_model` holds the GGUFs, the Modelfile, and a card with the books, scores, proof and samples, and
how all this can be made again. You can edit the card (README.md): your text is kept. Before
anything is sent, the publish gate looks for what must not be published, and lists it.
"""

from collections.abc import Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Annotated, Any

from typer import Option, echo

from pipeline.books.cleaning import RULES
from pipeline.books.mentions import find_mentions
from pipeline.command import DEFAULT_DATA_DIR, DataDir, Force, OverwriteEdited
from pipeline.command import run_script as run_script
from pipeline.console import many, warn
from pipeline.corpus.table_words import table_words
from pipeline.errors import PipelineError, UsageError
from pipeline.export.merge import merge_adapter
from pipeline.export.modelfile import parse_modelfile
from pipeline.files import fingerprint
from pipeline.hub.dataset import VERSION as GATE_VERSION
from pipeline.hub.listing import Content
from pipeline.hub.model import CARD, MODELFILE, Model
from pipeline.hub.model_files import check_current, remove_empty_parts
from pipeline.hub.publishing import check_target, push, rehearse
from pipeline.hub.repository import known_scans, put, put_made
from pipeline.hub.told import ADAPTER, MERGED
from pipeline.memorisation import TrainingText
from pipeline.quantize_inputs import set_chat_template
from pipeline.run import StageRun, open_run
from pipeline.settings import nearest
from pipeline.training.adapter_sources import base_for
from pipeline.training.base_model import resolve_base_model
from pipeline.training.libraries import quiet_libraries
from pipeline.workspace import Workspace

VERSION = 1
PARTS = (ADAPTER, MERGED)


def publish(
    data_dir: DataDir = DEFAULT_DATA_DIR,
    repo_id: Annotated[
        str | None, Option(help="Push to this model of the Hugging Face Hub: user/name.")
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
    include: Annotated[
        list[str] | None,
        Option(
            help="Beside the GGUFs: adapter (for PEFT), merged (16 bits, for transformers); may be "
            "repeated."
        ),
    ] = None,
    title: Annotated[
        str | None, Option(help="What the card calls the model (default: as stage 7 named it).")
    ] = None,
    licence: Annotated[
        str | None, Option(help="Licence as the Hub spells it (default: that of the base model).")
    ] = None,
    allow_mentions: Annotated[
        list[str] | None,
        Option(help="A document or file that may name Project Gutenberg; may be repeated."),
    ] = None,
    publish_copyrighted: Annotated[
        bool,
        Option(
            "--publish-copyrighted",
            help="Push a model of texts under copyright: the rights are yours.",
        ),
    ] = False,
    force: Force = False,
    overwrite_edited: OverwriteEdited = False,
) -> None:
    """Build the model repository on disk: GGUFs, Modelfile, a card. With --repo-id, push it.

    Without --repo-id nothing leaves this machine. The token for pushing comes from `hf auth login`
    or HF_TOKEN. All goes in one commit; after a failure the same command goes on.
    """
    check_target(repo_id, revision, dry_run=dry_run)
    settings = {
        "repo_id": repo_id, "revision": revision, "include": chosen_parts(include),
        "title": title, "licence": licence, "allow_mentions": sorted(allow_mentions or []),
        "publish_copyrighted": publish_copyrighted,
    }  # fmt: skip
    workspace = Workspace(data_dir)
    inputs = workspace.inputs("publish")
    check_current(workspace)
    model = model_of(workspace, settings)
    model.check_parts()
    if dry_run:
        check_allowed(model)
        for line in rehearsed(model, repo_id, private, revision, overwrite_edited):
            echo(line)
        return
    with open_run(
        workspace, "publish", version=VERSION, settings=settings, inputs=inputs, force=force,
        overwrite_edited=overwrite_edited, unfinished=is_told_otherwise(model),
    ) as run:  # fmt: skip
        if not run.is_fresh:
            check_allowed(model)
            build(run, model)
    remove_empty_parts(workspace.directory("publish"))
    url = None
    if repo_id is not None:
        url = push(model, repo_id, private=private, revision=revision, overwrite=overwrite_edited)
    report(run, url)


def chosen_parts(include: list[str] | None) -> list[str]:
    """The parts to include, each once. Raises UsageError for one that there is not."""
    for part in include or ():
        if part not in PARTS:
            raise UsageError(f"--include {part}: there is no such part.", nearest(part, PARTS))
    return sorted(set(include or ()))


def model_of(workspace: Workspace, settings: dict[str, Any]) -> Model:
    """What the repository is to hold."""
    rules = [rule.name for rule in RULES if rule.on]
    return Model(
        workspace, settings, find_mentions, table_words, rules, partial(copied, workspace),
        merged=merged_files(workspace), known=known_scans(workspace, "upload", GATE_VERSION),
    )  # fmt: skip


def merged_files(workspace: Workspace) -> dict[str, Path]:
    """The merged model's files that are there."""
    folder = workspace.directory("publish") / MERGED
    return {path.name: path for path in sorted(folder.glob("*")) if path.is_file()}


def copied(workspace: Workspace, samples: Sequence[str]) -> list[Mapping[str, Any]] | None:
    """The longest stretches of each sample that stand in the training text; None, with a warning,
    if that cannot be told."""
    try:
        text = TrainingText.of(workspace)
        return [each.as_dict() for each in text.copied(samples)] if text else None
    except PipelineError as error:
        warn(f"What the samples have from the training text was not measured: {error.message}")
        return None


def check_allowed(model: Model) -> None:
    """Raise UsageError if --allow-mentions names no document and no file."""
    known = [str(row.get("document_id")) for row in model.rows] + list(model.searched.found)
    directory = model.workspace.directory("publish")
    for name in model.settings["allow_mentions"]:
        if known and name not in known and name != CARD and not (directory / name).is_file():
            raise UsageError(
                f"--allow-mentions {name}: there is no such document.", nearest(name, known[:1000])
            )


def is_told_otherwise(model: Model) -> bool:
    """Whether the card of the last run tells other settings than the stages before now have."""
    record = model.workspace.record("publish")
    return record is not None and record.counts.get("made_with") != model.mark


def rehearsed(
    model: Model, repo_id: str | None, private: bool, revision: str | None, overwrite: bool
) -> list[str]:
    """What a push would do, in lines. Raises PipelineError for what a push would refuse."""
    lines = rehearse(model, repo_id, private=private, revision=revision, overwrite=overwrite)
    if MERGED in model.settings["include"] and not model.merged:
        return [f"would make {MERGED}/, the merged model (not counted below)", *lines]
    return list(lines)


def build(run: StageRun, model: Model) -> None:
    """Write what is new or changed into `9_model`; warn of what could not be published."""
    if MERGED in model.settings["include"]:
        put_made(run, MERGED, merge_key(run), partial(merge, run.workspace, model))
        model.merged = merged_files(run.workspace)
    contents = model.contents()
    written = {name: c for name, c in contents.items() if not name.startswith(f"{MERGED}/")}
    put(run, written, {}, VERSION)
    warn_of_modelfile(run, contents.get(MODELFILE))
    judgement = model.judgement(contents)
    run.counts |= {
        "files": len(contents), "documents": len(model.books), "gate": judgement.counts(),
        "made_with": model.mark,
    }  # fmt: skip
    for line in model.held_back(judgement):
        run.warn(f"must not be published: {line}")
    if model.searched.gap:
        run.warn(f"{model.searched.gap} searched by the publish gate: see to that yourself.")


def warn_of_modelfile(run: StageRun, content: Content | None) -> None:
    """Warn of a Modelfile that Ollama would refuse, as one that was edited by hand may be."""
    if isinstance(content, Path):
        try:
            parse_modelfile(content.read_text("utf-8"))
        except (PipelineError, UnicodeDecodeError) as error:
            why = error.message if isinstance(error, PipelineError) else "It is no UTF-8 text."
            run.warn(f"{content}: {why}")


def merge_key(run: StageRun) -> str:
    """What the merged model is made from."""
    weights = [(fact.path, fact.sha256) for fact in run.inputs if fact.path.startswith("6_")]
    return fingerprint([VERSION, weights, *bases_given(run.workspace)])


def bases_given(workspace: Workspace) -> tuple[str | None, str | None]:
    """What stage 7 was told to merge into, and to take for the adapter's base; None for what it
    found out by itself."""
    record = workspace.record("quantize")
    settings = record.settings if record else {}
    return settings.get("merge_base"), settings.get("adapter_base")


def merge(workspace: Workspace, model: Model, folder: Path) -> None:
    """Write the merged model into `folder`, as stage 7 merged it."""
    original, given = bases_given(workspace)
    adapter = workspace.directory("train")
    name, revision = (given, None) if given else base_for(adapter)
    chat = model.evaluation.get("chat")
    quiet_libraries()
    merge_adapter(
        resolve_base_model(name, workspace.cache / "base", revision).path,
        adapter,
        folder,
        keep_chat_template=bool(chat),
        merge_base=resolve_base_model(original, workspace.cache / "base").path
        if original
        else None,
    )
    if chat:
        set_chat_template(folder, chat["template"])


def report(run: StageRun, url: str | None) -> None:
    """Print the line that sums the stage up, and where the model is."""
    size = sum(path.stat().st_size for path in run.directory.rglob("*") if path.is_file())
    run.report(
        f"{many(run.counts['files'], 'file')}, {size / 1e6:,.0f} MB in {run.directory}, "
        + (f"pushed to {url}" if url else "not pushed (`publish --repo-id user/name` does that)")
    )


if __name__ == "__main__":
    run_script(publish)

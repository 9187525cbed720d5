"""Stage 2: clean every text of `1_raw` into `2_preprocessed`.

    pipeline preprocess
    pipeline preprocess --skip-rule italics --no-unwrap

Headers, licences and credits go, hard-wrapped prose becomes paragraphs, verse keeps its lines.
What was removed, by which rule, is in `report.jsonl`; what is no book is in `rejected/`, with the
reason. This is the directory to clean by hand: your edits are kept.
"""

from collections import Counter
from pathlib import Path
from typing import Annotated, Any

from typer import Option

from pipeline.books.cleaning import RULES, Rule
from pipeline.books.document import CleanDocument, Rejected, clean_document
from pipeline.command import DEFAULT_DATA_DIR, DataDir, Force, OverwriteEdited, RestoreDeleted
from pipeline.command import run_script as run_script
from pipeline.console import progress
from pipeline.corpus.record_files import bare_name, characters, kind_of, read_records
from pipeline.errors import PipelineError, UsageError
from pipeline.files import encode_json, json_lines, read_jsonl
from pipeline.run import StageRun, open_run
from pipeline.settings import nearest
from pipeline.workspace import Workspace

VERSION = 2
RULE_NAMES = tuple(rule.name for rule in RULES)
CATALOG = "catalog.jsonl"
REPORT = "report.jsonl"
FROM_CATALOG = (
    "title", "authors", "languages", "rights", "source", "collection", "weight", "segment",
)  # fmt: skip
LISTS = ("refused.jsonl", "quarantine.jsonl")


def preprocess(
    data_dir: DataDir = DEFAULT_DATA_DIR,
    unwrap: Annotated[
        bool, Option(help="Join hard-wrapped lines of prose; verse keeps its lines.")
    ] = True,
    skip_rule: Annotated[
        list[str] | None,
        Option(help=f"A rule not to apply; may be repeated. Rules: {', '.join(RULE_NAMES)}."),
    ] = None,
    force: Force = False,
    overwrite_edited: OverwriteEdited = False,
    restore_deleted: RestoreDeleted = False,
) -> None:
    """Clean the texts of `1_raw` into `2_preprocessed`, where you can go on by hand.

    Only texts that are new or changed are cleaned again. A file whose body cannot be told from
    its boilerplate is rejected by name, never passed through. Records are checked, not cleaned.
    """
    check_rules(skip_rule)
    workspace = Workspace(data_dir)
    inputs = workspace.inputs("preprocess")
    texts = [path for path in inputs if path.name != CATALOG]
    skipped = sorted(skip_rule or [])
    settings = {"unwrap": unwrap, "skip_rule": skipped}
    with open_run(
        workspace, "preprocess", version=VERSION, settings=settings, inputs=inputs, force=force,
        overwrite_edited=overwrite_edited, restore_deleted=restore_deleted,
    ) as run:  # fmt: skip
        if not run.is_fresh:
            warn_of_others(run)
            catalog = read_catalog(inputs)
            rules = tuple(rule for rule in RULES if rule.name not in skipped)
            with progress("preprocess", len(texts), "texts") as advance:
                for path in texts:
                    advance(note=path.name)
                    known = catalog.get(path.name, {})
                    if path.suffix == ".txt":
                        clean_one(run, path, known, rules, unwrap)
                    else:
                        pass_records(run, path, known)
            finish(run, len(texts))
    report(run)


def check_rules(skip_rule: list[str] | None) -> None:
    """Raise UsageError for the first name that is not a cleaning rule's."""
    for rule in skip_rule or []:
        if rule not in RULE_NAMES:
            raise UsageError(f"--skip-rule {rule}: no such rule.", nearest(rule, RULE_NAMES))


def warn_of_others(run: StageRun) -> None:
    """Name the files of `1_raw` that are not read, such as a `.md` put there by hand."""
    for path in run.workspace.files("acquire"):
        known = path.suffix == ".txt" or kind_of(path.name) or path.name in (CATALOG, *LISTS)
        if not known:
            run.warn(f"{path} is no .txt file and no file of records: left out.")


def read_catalog(inputs: list[Path]) -> dict[str, dict[str, Any]]:
    """What stage 1 knows of each file, by file name."""
    rows = [row for path in inputs if path.name == CATALOG for row in read_jsonl(path)]
    return {str(row.get("file")): row for row in rows}


def clean_one(
    run: StageRun, path: Path, known: dict[str, Any], rules: tuple[Rule, ...], unwrap: bool
) -> None:
    """Clean one text, unless what was made of it earlier still holds."""
    name, rejected = path.name, f"rejected/{path.name}"
    about = {key: known.get(key) for key in FROM_CATALOG}
    key = run.key(run.workspace.fact(path).sha256, about)
    if run.plan(name, key) != "write" or run.plan(rejected, key) == "current":
        return
    row: dict[str, Any] = {"file": name, "document_id": path.stem}
    try:
        document = clean_document(path.read_bytes(), unwrap=unwrap, rules=rules)
    except Rejected as rejection:
        run.warn(f"{name} was rejected: {rejection.reason}.")
        row |= {"verdict": "rejected", "reason": rejection.reason, "source": about["source"]}
        text = f"{path} was rejected: {rejection.reason}.\n"
        run.write(rejected, text.encode(), key, row)
        return
    for warning in document.warnings:
        run.warn(f"{name}: {warning}.")
    run.write(name, document.text.encode(), key, row | describe(document, about))


def pass_records(run: StageRun, path: Path, known: dict[str, Any]) -> None:
    """Check and normalise the records of one file; nothing is cut from them.

    Raises PipelineError naming file and line for what is no record.
    """
    about = {key: known.get(key) for key in FROM_CATALOG}
    key = run.key(run.workspace.fact(path).sha256, about)
    if run.plan(path.name, key) != "write":
        return
    records = size = 0
    with run.scratch() as folder:
        with (folder / path.name).open("wb") as file:
            for record in read_records(path):
                file.write(encode_json(record) + b"\n")
                records += 1
                size += characters(record)
        row: dict[str, Any] = {
            "file": path.name, "document_id": bare_name(path.name), "verdict": "kept",
            "kind": kind_of(path.name), "records": records,
            "characters_in": size, "characters_out": size, "removed": {}, "warnings": [],
        }  # fmt: skip
        run.take(path.name, folder / path.name, key, row | from_catalog(about))


def from_catalog(about: dict[str, Any]) -> dict[str, Any]:
    """What the report repeats of the catalogue."""
    row = {key: about[key] for key in FROM_CATALOG if key != "languages"}
    return row | {"authors": about["authors"] or [], "language": (about["languages"] or [None])[0]}


def describe(document: CleanDocument, about: dict[str, Any]) -> dict[str, Any]:
    """The report's row of a cleaned document. The catalogue knows better than the header does."""
    return from_catalog(about) | {
        "verdict": "kept",
        "title": about["title"] or document.title,
        "authors": about["authors"] or ([document.author] if document.author else []),
        "language": (about["languages"] or [document.language])[0],
        "encoding": document.encoding,
        "characters_in": document.characters_in,
        "characters_out": document.characters_out,
        "removed": document.removed,
        "warnings": document.warnings,
    }


def finish(run: StageRun, texts: int) -> None:
    """Write the report and the counts. Raises PipelineError if no text was kept."""
    rows = list(run.rows().values())
    verdicts = Counter(row["verdict"] for row in rows)
    removed: Counter[str] = Counter()
    for row in rows:
        for rule, removal in row.get("removed", {}).items():
            removed[rule] += removal["characters"]
    run.counts |= {
        "texts": texts,
        "documents": verdicts["kept"],
        "rejected": verdicts["rejected"],
        "records": sum(row.get("records", 0) for row in rows),
        "characters_in": sum(row.get("characters_in", 0) for row in rows),
        "characters_out": sum(row.get("characters_out", 0) for row in rows),
        "removed": dict(removed.most_common()),
    }
    run.write(REPORT, json_lines(rows))
    if not verdicts["kept"]:
        raise PipelineError(
            f"None of the {texts} texts could be used.",
            f"The reasons are in {run.directory / 'rejected'}.",
        )


def report(run: StageRun) -> None:
    """Print the line that sums the stage up."""
    counts = run.counts
    text = f"{counts['documents']} texts cleaned into {run.directory}, "
    text += f"{counts['characters_in']:,} characters in, {counts['characters_out']:,} out"
    if counts["rejected"]:
        text += f"; {counts['rejected']} rejected"
    for word, names in (("edited", run.condition.edited), ("deleted", run.condition.deleted)):
        if names:
            text += f"; {len(names)} {word} by hand"
    run.report(text)


if __name__ == "__main__":
    run_script(preprocess)

"""Stage 2: clean every text of `1_raw` into `2_preprocessed`.

    pipeline preprocess
    pipeline preprocess --skip-rule italics --no-unwrap --keep-languages en
    pipeline preprocess --show frankenstein | less
    pipeline preprocess --dry-run

Headers, licences and credits go, hard-wrapped prose becomes paragraphs, verse keeps its lines.
What was removed, by which rule, is in `report.jsonl`. What is no book, too short, in a language
that was not asked for, or a duplicate (`duplicates.jsonl`), has a sentence in `rejected/` instead.
This is the directory to clean by hand: your edits are kept, and what you deleted stays deleted.
"""

import sys
from pathlib import Path
from typing import Annotated, Any

from typer import Option

from pipeline.books.cleaning import RULES, choose_rules
from pipeline.books.quality import Limits
from pipeline.command import (
    DEFAULT_DATA_DIR,
    DataDir,
    Force,
    Jobs,
    OverwriteEdited,
    RestoreDeleted,
)
from pipeline.command import run_script as run_script
from pipeline.console import say
from pipeline.corpus.record_files import kind_of
from pipeline.errors import PipelineError, UsageError
from pipeline.files import read_jsonl
from pipeline.parallel import default_jobs
from pipeline.preprocessing.dry_run import DryRun
from pipeline.preprocessing.recipe import DUPLICATES, Recipe, Task, facts_of, read_languages
from pipeline.preprocessing.records import pass_records
from pipeline.preprocessing.report import (
    count,
    planned,
    reasons,
    report_rows,
    summary,
    write_reports,
)
from pipeline.preprocessing.show import find_text, show_text
from pipeline.preprocessing.sketch_cache import open_sketches
from pipeline.preprocessing.texts import (
    apply_duplicates,
    clean_texts,
    compare_texts,
    has_to_choose_again,
)
from pipeline.printing import print_diff, print_table
from pipeline.run import StageRun, open_run
from pipeline.settings import nearest
from pipeline.workspace import Workspace

VERSION = 5
CATALOG = "catalog.jsonl"
LISTS = ("refused.jsonl", "quarantine.jsonl")
_ON = ", ".join(rule.name for rule in RULES if rule.on)
_OFF = ", ".join(rule.name for rule in RULES if not rule.on) or "none"


def preprocess(
    data_dir: DataDir = DEFAULT_DATA_DIR,
    unwrap: Annotated[
        bool, Option(help="Join hard-wrapped lines of prose; verse keeps its lines.")
    ] = True,
    skip_rule: Annotated[
        list[str] | None, Option(help=f"A rule not to apply; may be repeated. Rules: {_ON}.")
    ] = None,
    with_rule: Annotated[
        list[str] | None, Option(help=f"A rule that is off otherwise; may be repeated: {_OFF}.")
    ] = None,
    keep_languages: Annotated[
        str | None, Option(help="Keep only texts in these, such as `en,fr` (default: all).")
    ] = None,
    quality: Annotated[
        bool, Option(help="Leave out texts that are too short, or hardly words.")
    ] = True,
    minimum_words: Annotated[
        int, Option(min=0, help="Fewest words of a text that is kept.")
    ] = Limits.minimum_words,
    duplicates: Annotated[
        str,
        Option(help="drop: of several copies or editions one is kept; keep: all are; off."),
    ] = "drop",
    show: Annotated[
        str | None,
        Option(
            metavar="BOOK",
            help="Only show what is cut from one text, and by which rule: its file name, id, or a "
            "part of its title.",
        ),
    ] = None,
    show_all: Annotated[
        bool,
        Option("--all", help="With --show, on a terminal: every place, and long cuts whole."),
    ] = False,
    dry_run: Annotated[
        bool, Option("--dry-run", help="Only say what would be done; nothing is written.")
    ] = False,
    jobs: Jobs = None,
    force: Force = False,
    overwrite_edited: OverwriteEdited = False,
    restore_deleted: RestoreDeleted = False,
) -> None:
    """Clean the texts of `1_raw` into `2_preprocessed`, where you can go on by hand.

    Only texts that are new or changed are cleaned again. A file whose body cannot be told from
    its boilerplate is rejected by name, never passed through. Of several editions of the same
    text one is kept. Records are checked, not cleaned.
    """
    check_duplicates(duplicates)
    if show_all and show is None:
        raise UsageError("--all says how much --show prints: name a book.", "--show BOOK --all")
    recipe = Recipe(
        unwrap,
        tuple(sorted(set(skip_rule or ()))),
        tuple(sorted(set(with_rule or ()))),
        read_languages(keep_languages),
        Limits(minimum_words=minimum_words) if quality else None,
        duplicates=duplicates,
    )
    settings = {
        "unwrap": unwrap,
        "rules": [rule.name for rule in recipe.rules],
        "languages": list(recipe.languages),
        "quality": quality,
        "minimum_words": minimum_words if quality else 0,
        "duplicates": duplicates,
    }
    workspace = Workspace(data_dir)
    inputs = workspace.inputs("preprocess")
    if show is not None:
        catalog = read_catalog(inputs)
        path = find_text(show, catalog, inputs)
        task = Task(path, facts_of(catalog.get(path.name, {})), recipe)
        whole = show_all or not sys.stdout.isatty()
        print_diff(show_text(task, workspace.directory("preprocess"), whole=whole))
        return
    given: dict[str, Any] = {
        "version": VERSION, "settings": settings, "inputs": inputs, "force": force,
        "overwrite_edited": overwrite_edited, "restore_deleted": restore_deleted,
        "unfinished": has_to_choose_again(workspace),
    }  # fmt: skip
    jobs = jobs or default_jobs()
    if dry_run:
        only_look(DryRun(workspace, "preprocess", **given), inputs, recipe, jobs)
        return
    with open_run(workspace, "preprocess", **given) as run:
        if not run.is_fresh:
            finish(run, work(run, inputs, recipe, jobs))
    run.report(summary(run))
    for line in reasons(run) if not run.is_fresh else ():
        say(line)


def check_rules(skip_rule: list[str] | None, with_rule: list[str] | None = None) -> None:
    """Raise UsageError for the first name that is not a cleaning rule's."""
    choose_rules(skip_rule or (), with_rule or ())


def check_duplicates(duplicates: str) -> None:
    """Raise UsageError for what is no way to treat duplicates."""
    if duplicates not in DUPLICATES:
        raise UsageError(
            f"--duplicates {duplicates!r} is unknown.", nearest(duplicates, DUPLICATES)
        )


def work(run: StageRun, inputs: list[Path], recipe: Recipe, jobs: int) -> list[dict[str, Any]]:
    """Clean, compare and write all that needs it; returns the rows of the report."""
    warn_of_others(run)
    catalog = read_catalog(inputs)
    paths = [path for path in inputs if path.suffix == ".txt"]
    records = [
        pass_records(run, path, catalog.get(path.name, {})) for path in inputs if kind_of(path.name)
    ]
    with open_sketches(
        run.workspace.cache, wanted=recipe.duplicates != "off", read_only=isinstance(run, DryRun)
    ) as cache:
        texts = clean_texts(run, paths, catalog, recipe, cache, jobs)
        found = compare_texts(texts, cache, drop=recipe.duplicates == "drop")
        apply_duplicates(run, texts, found, cache, jobs)
    rows = report_rows(texts, records, found.works)
    run.counts |= count(rows)
    write_reports(run, rows, found)
    return rows


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


def finish(run: StageRun, rows: list[dict[str, Any]]) -> None:
    """Raise PipelineError if no text was kept."""
    if not any(row["verdict"] == "kept" for row in rows):
        raise PipelineError(
            "The only text could not be used."
            if len(rows) == 1
            else f"None of the {len(rows):,} texts could be used.",
            f"The reasons are in {run.directory / 'rejected'}.",
        )


def only_look(run: DryRun, inputs: list[Path], recipe: Recipe, jobs: int) -> None:
    """Do all the work, write nothing, and print what would be written, left out, and why."""
    if run.is_fresh:
        record = run.workspace.record("preprocess")
        run.counts = dict(record.counts) if record else {}
    else:
        print_table(planned(run, work(run, inputs, recipe, jobs)))
    run.report(summary(run) + "; nothing was written")


if __name__ == "__main__":
    run_script(preprocess)

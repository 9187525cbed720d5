"""`pipeline evaluate`: any number of models scored on the same held-out text, in one table.

pipeline evaluate                                 base, adapter and each GGUF of the workspace
pipeline evaluate gpt2 my-adapter model-Q4_K_M.gguf --by-source
pipeline evaluate gpt2 --dataset letters.txt --tokens 50000 --json
"""

import json
import time
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Annotated, Any

import typer

from pipeline import console
from pipeline.command import DEFAULT_DATA_DIR, DataDir
from pipeline.errors import PipelineError, UsageError
from pipeline.evaluated_text import text_of_dataset, text_of_run
from pipeline.export import llama
from pipeline.export.header import read_header
from pipeline.files import write_json
from pipeline.printing import print_table
from pipeline.scoring.bits import EVAL_TOKENS, Score, nats_of, total
from pipeline.scoring.stretches import Speller, speller_of
from pipeline.training.evaluation import by_group, scores_by_source
from pipeline.training.saving import ADAPTER_CONFIG
from pipeline.training.scored_models import (
    Candidate,
    find_candidate,
    free_memory,
    holds_model,
    load_for_scoring,
)
from pipeline.training.yardstick import Yardstick
from pipeline.workspace import Workspace

PER_TOKEN = "Perplexity is per token: it says nothing between models whose tokenizers differ."


@dataclass(frozen=True)
class Row:
    """How one model did. `seconds` are those of scoring alone."""

    candidate: Candidate
    score: Score
    by_source: dict[str, Score]
    seconds: float

    @property
    def tokens_per_second(self) -> float:
        return self.score.tokens / max(self.seconds, 1e-9)

    def as_dict(self) -> dict[str, Any]:
        return {
            "model": self.candidate.name,
            "kind": self.candidate.kind,
            "place": self.candidate.place,
            **_figures(self.score),
            "tokens_per_second": round(self.tokens_per_second, 1),
            "by_source": {name: _figures(score) for name, score in self.by_source.items()},
        }


def _figures(score: Score) -> dict[str, Any]:
    return {
        "tokens": score.tokens, "bytes": score.n_bytes, "bits_per_byte": score.bits_per_byte,
        "loss": score.loss, "perplexity": score.perplexity,
    }  # fmt: skip


def evaluate_models(
    models: Annotated[
        list[str] | None,
        typer.Argument(
            help="Folders of models or adapters, *.gguf files, Hub ids, smollm2-135m (default: "
            "base, adapter and GGUFs of the data directory)."
        ),
    ] = None,
    data_dir: DataDir = DEFAULT_DATA_DIR,
    dataset: Annotated[
        str | None,
        typer.Option(
            help="In place of what stage 6 held out: a text, Parquet, JSONL or CSV file, a folder, "
            "glob or URL of such, or a Hub dataset id. What it holds out itself, else all of it."
        ),
    ] = None,
    dataset_revision: Annotated[
        str | None, typer.Option(help="Branch, tag or commit of a dataset from the Hub.")
    ] = None,
    dataset_config: Annotated[
        str | None,
        typer.Option(help="A dataset of the Hub that has several: a configuration or a folder."),
    ] = None,
    kind: Annotated[
        str, typer.Option(help="text, completion, chat, or auto: the only kind that there is.")
    ] = "auto",
    tokens: Annotated[
        int | None,
        typer.Option(
            min=1,
            help="How much to score, evenly from all texts as far as that goes (default: as stage "
            f"6 did, else {EVAL_TOKENS}).",
        ),
    ] = None,
    by_source: Annotated[
        bool, typer.Option("--by-source", help="Also the bits per byte of each source of texts.")
    ] = False,
    as_json: Annotated[bool, typer.Option("--json", help="Print one JSON object.")] = False,
    out: Annotated[Path | None, typer.Option(help="Write the same JSON into this file.")] = None,
) -> None:
    """Score models and adapters on the same held-out text: bits per byte, the lower the better.

    Whatever a model's tokenizer, it is scored on exactly the same bytes, and its bits are divided
    by them. GGUFs are scored by llama.cpp.
    """
    workspace = Workspace(data_dir)
    candidates = chosen_models(workspace, models or [])
    if dataset is None:
        if dataset_revision or dataset_config or kind != "auto":
            raise UsageError("--dataset-revision, --dataset-config and --kind go with --dataset.")
        yardstick = text_of_run(workspace, tokens)
    else:
        yardstick = text_of_dataset(
            workspace, dataset, dataset_revision, kind, tokens, dataset_config
        )
    rows = []
    for candidate in candidates:
        rows.append(scored(candidate, yardstick, workspace.cache / "base", by_source=by_source))
        bits = rows[-1].score.bits_per_byte
        console.say(f"evaluate: {candidate.name}: {bits:.4f} bits per byte")
    report = as_report(rows, yardstick)
    if out is not None:
        write_json(out, report)
    if as_json:
        typer.echo(json.dumps(report, ensure_ascii=False, indent=2))
    else:
        print_rows(rows, yardstick)
    if out is not None:
        console.say(f"evaluate: written into {out}")


def chosen_models(workspace: Workspace, names: Sequence[str]) -> list[Candidate]:
    """The models of these names, or those of the workspace: base, adapter, and each GGUF.

    All are looked at before the first is loaded. Raises PipelineError for what is no model.
    """
    found = [find_candidate(name) for name in names] or _models_of(workspace)
    for candidate in found:
        if candidate.kind == "gguf":
            read_header(Path(candidate.place))  # refuses what is not whole
    counts = Counter(candidate.name for candidate in found)
    return [replace(c, name=c.place) if counts[c.name] > 1 else c for c in found]


def _models_of(workspace: Workspace) -> list[Candidate]:
    folder = workspace.directory("train")
    found = []
    if holds_model(folder) or (folder / ADAPTER_CONFIG).is_file():
        tuned = find_candidate(str(folder))
        base, revision = tuned.base, tuned.revision
        record = workspace.record("train")
        if base is None and record is not None and not record.settings.get("from_scratch"):
            base, revision = record.settings["base_model"], record.settings["revision"]
        if base is not None:
            found.append(find_candidate(base, revision=revision))
        found.append(tuned)
    found += [find_candidate(str(path)) for path in workspace.files("quantize", ["*.gguf"])]
    if not found:
        raise PipelineError(
            f"{workspace.root} holds no model to score.",
            "Run `pipeline train` first, or name a model: pipeline evaluate smollm2-135m",
        )
    return found


def scored(
    candidate: Candidate, yardstick: Yardstick, cache: Path, *, by_source: bool = False
) -> Row:
    """Score one model. Raises PipelineError, naming it, if it cannot be."""
    sources = yardstick.sources if by_source else {}
    score = _scored_gguf if candidate.kind == "gguf" else _scored_model
    try:
        return score(candidate, yardstick, cache, sources)
    except PipelineError as error:
        raise PipelineError(f"{candidate.name}: {error.message}", error.hint) from error
    finally:
        free_memory()


def _scored_model(
    candidate: Candidate, yardstick: Yardstick, cache: Path, sources: Mapping[str, str | None]
) -> Row:
    loaded = load_for_scoring(candidate, cache)
    speller = speller_of(loaded.tokenizer)
    windows = yardstick.windows(speller, loaded.context, loaded.tokenizer)
    tokens = sum(window.predicted for window in windows)
    start = time.perf_counter()
    with console.progress(f"Scoring {candidate.name}", tokens, "tokens") as advance:
        nats = nats_of(loaded.model, windows, autocast=loaded.autocast, on_window=advance)
    seconds = time.perf_counter() - start
    return Row(candidate, total(windows, nats), scores_by_source(windows, nats, sources), seconds)


def _scored_gguf(
    candidate: Candidate, yardstick: Yardstick, cache: Path, sources: Mapping[str, str | None]
) -> Row:
    path = Path(candidate.place)
    start = time.perf_counter()
    about = llama.info(path)
    loading = time.perf_counter() - start
    windows = yardstick.windows(speller_of_gguf(path, about), about["trained_context"])
    # llama.cpp gives one sum for all windows it is asked about.
    groups = by_group(windows, sources)
    start = time.perf_counter()
    nats = {
        name: llama.score(
            path, [window.ids for window in group], None, masks=[window.mask for window in group]
        )
        for name, group in groups.items()
    }
    seconds = time.perf_counter() - start - loading * len(groups)
    found = {name: total(group, [nats[name]]) for name, group in groups.items()}
    score = total(windows, list(nats.values()))
    return Row(candidate, score, found if len(found) > 1 else {}, max(seconds, 1e-3))


def speller_of_gguf(path: Path, about: Mapping[str, Any]) -> Speller:
    """The tokenizer in a GGUF, which is llama.cpp's own; `about` is what `llama.info` said."""
    bos, eos = about["bos"], about["eos"]
    start = bos if bos >= 0 else eos
    return Speller(
        lambda texts: llama.tokenize(path, texts),
        (bos,) if about["adds_bos"] and bos >= 0 else (),
        start if start >= 0 else None,
    )


def as_report(rows: Sequence[Row], yardstick: Yardstick) -> dict[str, Any]:
    """What `--json` prints and `--out` keeps."""
    return {
        "data": {"kind": yardstick.kind, "documents": yardstick.documents,
                 "bytes": rows[0].score.n_bytes},
        "models": [row.as_dict() for row in rows],
    }  # fmt: skip


def print_rows(rows: Sequence[Row], yardstick: Yardstick) -> None:
    """Print the table, one of the sources where they were asked for, and what it was about."""
    print_table(
        {
            "columns": ["model", "kind", "tokens", "bits per byte", "perplexity", "tokens/s"],
            "long": ["model"],
            "rows": [_cells(row) for row in rows],
        }
    )
    if rows[0].by_source:
        names = list(rows[0].by_source)
        print_table(
            {
                "columns": ["bits per byte of", *names],
                "long": ["bits per byte of"],
                "rows": [
                    {"bits per byte of": row.candidate.name}
                    | {name: f"{row.by_source[name].bits_per_byte:.4f}" for name in names}
                    for row in rows
                ],
            }
        )
    documents, there = len(yardstick.documents), len(yardstick.sources)
    noun = yardstick.noun + ("" if there == 1 else "s")
    of = f"{documents:,}" + (f" of {there:,}" if documents < there else "")
    typer.echo(f"{rows[0].score.n_bytes:,} bytes of {of} {noun}. {PER_TOKEN}")


def _cells(row: Row) -> dict[str, str]:
    perplexity = row.score.perplexity
    return {
        "model": row.candidate.name,
        "kind": row.candidate.kind,
        "tokens": f"{row.score.tokens:,}",
        "bits per byte": f"{row.score.bits_per_byte:.4f}",
        "perplexity": "-" if perplexity is None else f"{perplexity:,.2f}",
        "tokens/s": f"{row.tokens_per_second:,.0f}",
    }

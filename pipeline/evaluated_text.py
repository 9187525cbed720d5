"""The text that `pipeline evaluate` scores models on: what stage 6 held out, or any dataset."""

import json
from pathlib import Path
from typing import Any

from pipeline.acquisition.documents import (
    MARKDOWN_SUFFIXES,
    TEXT_SUFFIXES,
    Refused,
    as_document,
    stem,
)
from pipeline.books.decoding import decode
from pipeline.corpus.examples import Shape
from pipeline.corpus.token_cache import load_tokenizer
from pipeline.errors import PipelineError, UsageError
from pipeline.scoring.bits import EVAL_TOKENS, MINIMUM_SHARE, WINDOW_TOKENS, load_windows
from pipeline.train_inputs import dataset_files
from pipeline.training.data import Sample
from pipeline.training.held_out import held_out_windows, read_to_score
from pipeline.training.sources import check_kind, choose_kind, read_samples
from pipeline.training.yardstick import Reference, Yardstick
from pipeline.workspace import Workspace

_TEXTS = (*TEXT_SUFFIXES, *MARKDOWN_SUFFIXES)
WINDOWS = "windows.json"
EVALUATION = "evaluation.json"
# Tokens of each text at least, where somebody says how much is to be scored: to take all from the
# first few would say little of the others, though so short a start says little by itself.
LEAST = 32
_SEED = 42  # of the split, where no run has drawn one


def text_of_run(workspace: Workspace, tokens: int | None) -> Yardstick:
    """What stage 6 held out and scored; where it has not run yet, what it would hold out.

    `tokens` says how much of it, if not as much as stage 6 took.

    Raises PipelineError if the dataset is gone, holds nothing out, or is not what was trained on.
    """
    record = workspace.record("train")
    settings: dict[str, Any] = record.settings if record else {}
    files = dataset_files(
        workspace, *(settings.get(f"dataset{name}") for name in ("", "_revision", "_config"))
    )
    kind, tables = choose_kind(files, settings.get("kind", "auto"))
    _, held_out = read_samples(
        tables, kind, settings.get("seed", _SEED), eos=settings.get("eos", "document")
    )
    folder = workspace.directory("train")
    template = _template(folder)
    reference = None
    if (folder / WINDOWS).is_file() and (folder / "tokenizer.json").is_file():
        tokenizer = load_tokenizer(folder)
        windows = load_windows(folder / WINDOWS)
        if tokens not in (None, settings.get("eval_tokens")):
            windows = held_out_windows(
                tokenizer,
                held_out,
                kind,
                template,
                length=WINDOW_TOKENS,
                max_tokens=tokens or 0,
                least=LEAST,
            )
        reference = Reference(tokenizer, windows)
    return Yardstick(
        held_out, kind, tokens=tokens or EVAL_TOKENS, least=_least(tokens), template=template,
        reference=reference,
    )  # fmt: skip


def _least(tokens: int | None) -> int:
    """How much of each text is scored at least; `tokens` is how much in all was asked for."""
    return MINIMUM_SHARE if tokens is None else LEAST


def _template(folder: Path) -> str | None:
    """The chat template that the model in stage 6's folder was trained with."""
    try:
        evaluation = json.loads((folder / EVALUATION).read_text("utf-8"))
        template = evaluation.get("chat", {}).get("template")
    except FileNotFoundError:
        return None
    except (OSError, ValueError, AttributeError, RecursionError) as error:
        raise PipelineError(
            f"{folder / EVALUATION} is damaged.", "Run `pipeline train` again."
        ) from error
    return template if isinstance(template, str) else None


def text_of_dataset(
    workspace: Workspace,
    dataset: str,
    revision: str | None,
    kind: str,
    tokens: int | None,
    config: str | None = None,
) -> Yardstick:
    """A dataset as stage 6 takes it, or a text file or a folder of such: what it holds out itself,
    else all of it; `tokens` of it (None: as many as stage 6 takes by default).

    Raises PipelineError if it is not there or has nothing to score, UsageError for a kind that it
    does not have.
    """
    check_kind(kind)
    texts = _text_files(Path(dataset).expanduser())
    if texts:
        if kind not in ("auto", "text"):
            raise UsageError(f"--dataset {dataset} holds texts, and --kind is {kind}.")
        if revision or config:
            raise UsageError(
                "--dataset-revision and --dataset-config are for a dataset from the Hub."
            )
        samples = [_as_sample(path) for path in texts]
        return Yardstick(samples, "text", tokens=tokens or EVAL_TOKENS, least=_least(tokens))
    shape: Shape
    shape, tables = choose_kind(dataset_files(workspace, dataset, revision, config), kind)
    samples = read_to_score(tables, shape)
    return Yardstick(samples, shape, tokens=tokens or EVAL_TOKENS, least=_least(tokens))


def _text_files(place: Path) -> list[Path]:
    """The text file `place`, or those of a folder that holds nothing but texts."""
    if place.is_file() and place.name.lower().endswith((*_TEXTS, ".epub")):
        return [place]
    if not place.is_dir():
        return []
    files = [path for path in sorted(place.iterdir()) if not path.name.startswith(".")]
    tables = [path for path in files if path.is_dir() or path.suffix in (".parquet", ".csv")]
    return [] if tables else [path for path in files if path.name.lower().endswith(_TEXTS)]


def _as_sample(path: Path) -> Sample:
    try:
        document = as_document(path.read_bytes(), path.name)
    except Refused as refusal:
        raise PipelineError(f"{path} cannot be scored on: {refusal.reason}.") from refusal
    except OSError as error:
        raise PipelineError(f"{path} cannot be read: {error.strerror}.") from error
    return Sample(stem(path.name), {"text": decode(document.data).text.rstrip("\n")})

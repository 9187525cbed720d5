"""What `pipeline chunk` is pointed at: the texts and records of `2_preprocessed`, what stage 2 says
of them, and how large the chunks are to be."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from pipeline.console import many, warn
from pipeline.corpus.chunk_jobs import About, Text, decode
from pipeline.corpus.chunking import DEFAULT_TARGET
from pipeline.corpus.record_files import bare_name, kind_of
from pipeline.corpus.tokenizing import DEFAULT_TOKENS
from pipeline.errors import PipelineError, UsageError
from pipeline.files import FileFact, read_jsonl
from pipeline.run import StageRun
from pipeline.workspace import RECORD_SUFFIXES, Workspace

REPORT = "report.jsonl"
SHOWN_UNREAD = 3

Report = dict[str, dict[str, Any]]


def chunk_size_of(chunk_size: int | None, tokenizer: str | None) -> int:
    """The size that is meant: in tokens if there is a tokenizer, else in characters."""
    if chunk_size is not None:
        return chunk_size
    return DEFAULT_TARGET if tokenizer is None else DEFAULT_TOKENS


def minimum_of(chunk_size: int, minimum_size: int | None) -> int:
    """The least size of a chunk. Raises UsageError if it is above the most."""
    minimum = chunk_size * 6 // 7 if minimum_size is None else minimum_size
    if minimum > chunk_size:
        raise UsageError(f"--minimum-size {minimum} is above --chunk-size {chunk_size}.")
    return max(minimum, 1)


def check_overlap(overlap: int, chunk_size: int) -> None:
    """Raise UsageError if chunks would repeat more than they bring."""
    if 2 * overlap > chunk_size:
        raise UsageError(
            f"--overlap {overlap} is more than half of --chunk-size {chunk_size}.",
            f"Give at most {chunk_size // 2}.",
        )


def check_names(inputs: Sequence[Path]) -> None:
    """Raise PipelineError for a name that is not UTF-8, and for two files of one document."""
    texts = {path.stem: path for path in inputs if path.suffix == ".txt"}
    for path in inputs:
        try:
            path.name.encode()
        except UnicodeEncodeError as error:
            raise PipelineError(
                f"The name of {path.name!a} is not UTF-8.", "Rename the file."
            ) from error
        other = texts.get(bare_name(path.name)) if kind_of(path.name) else None
        if other is not None:
            raise PipelineError(
                f"{other} and {path} would be one document: {other.stem}.", "Rename one of them."
            )


def warn_of_unread(workspace: Workspace, inputs: Sequence[Path]) -> None:
    """Warn of texts and records that lie elsewhere or are named otherwise than stage 2 does it."""
    directory, read = workspace.directory("preprocess"), set(inputs)
    unread = [
        ascii(name.as_posix())[1:-1]
        for path in sorted(directory.rglob("*"))
        if path.name.lower().endswith((".txt", *RECORD_SUFFIXES))
        and path not in read
        and (name := path.relative_to(directory)).parts[0] != "rejected"
        and not any(part.startswith(".") for part in name.parts)
        and path.is_file()
    ]
    if unread:
        shown = ", ".join(unread[:SHOWN_UNREAD]) + (", ..." if len(unread) > SHOWN_UNREAD else "")
        files = f"file in {directory} is", f"files in {directory} are"
        warn(
            f"{many(len(unread), *files)} not read ({shown}): texts end in .txt, in small "
            "letters, and lie in the directory itself."
        )


def read_report(inputs: Sequence[Path]) -> Report:
    """What stage 2 says of each file, by file name.

    Raises PipelineError naming file and field for what it cannot say.
    """
    rows = [row for path in inputs if path.name == REPORT for row in read_jsonl(path)]
    for row in rows:
        About.of(row, "")
        if isinstance(row.get("authors"), str):
            row["authors"] = [row["authors"]]
    return {str(row.get("file")): row for row in rows}


def facts(run: StageRun, inputs: Sequence[Path], suffix: str) -> list[tuple[Path, FileFact]]:
    """The documents among the inputs whose names end so, each with its size and hash."""
    pairs = zip(inputs, run.inputs, strict=True)
    return [(path, fact) for path, fact in pairs
            if path.name.endswith(suffix) and path.name != REPORT]  # fmt: skip


def read_texts(run: StageRun, inputs: Sequence[Path], about: Report) -> list[Text]:
    """The texts that have something in them, not yet read."""
    texts = []
    for path, fact in facts(run, inputs, ".txt"):
        if fact.size < 1000 and not decode(path.read_bytes(), path).strip():
            run.warn(f"{path} is empty: left out.")
            continue
        known = About.of(about.get(path.name, {}), path.stem)
        texts.append(Text(path, fact.size, fact.sha256, known))
    return texts

"""Stage 3: cut the documents of `2_preprocessed` into the chunks of `3_chunks`.

    pipeline chunk
    pipeline chunk --chunk-size 4000 --minimum-size 3000

Chunks follow paragraphs, then sentences; joined again they are the document, byte for byte. Whole
documents are held out for validation, so that no book is on both sides.
"""

from collections.abc import Iterator
from pathlib import Path
from typing import Annotated, Any

from typer import Option

from pipeline.command import DEFAULT_DATA_DIR, DataDir, Force, OverwriteEdited
from pipeline.command import run_script as run_script
from pipeline.console import progress
from pipeline.corpus.chunking import chunk_text
from pipeline.corpus.record_files import kind_of
from pipeline.corpus.record_shards import write_record_files
from pipeline.corpus.shards import Chunk, ShardWriter
from pipeline.corpus.splits import tail_split, validation_ids
from pipeline.errors import PipelineError, UsageError
from pipeline.files import read_jsonl, write_jsonl
from pipeline.run import StageRun, open_run
from pipeline.workspace import Workspace

VERSION = 2
REPORT = "report.jsonl"


def chunk(
    data_dir: DataDir = DEFAULT_DATA_DIR,
    chunk_size: Annotated[
        int, Option(min=1, help="Characters a chunk should have at the most.")
    ] = 7000,
    minimum_size: Annotated[
        int | None,
        Option(min=1, help="Characters it should have at the least (default: 6/7 of the most)."),
    ] = None,
    validation_fraction: Annotated[
        float,
        Option(min=0.0, max=0.5, help="Share of the text held out, in whole documents."),
    ] = 0.1,
    split_seed: Annotated[int, Option(help="Chooses which documents are held out.")] = 0,
    force: Force = False,
    overwrite_edited: OverwriteEdited = False,
) -> None:
    """Cut the documents into chunks and hold some documents out for validation.

    Writes Parquet files that any tool can read (text, document, place in it, title, authors) and
    `documents.jsonl`, one line a document. Records stay whole, in Parquet files of their own.
    """
    minimum = minimum_of(chunk_size, minimum_size)
    workspace = Workspace(data_dir)
    inputs = workspace.inputs("chunk")
    documents = [path for path in inputs if path.suffix == ".txt" or kind_of(path.name)]
    if not documents:
        raise PipelineError(
            f"{workspace.directory('preprocess')} has no texts.", "Run `pipeline preprocess` first."
        )
    settings = {
        "chunk_size": chunk_size,
        "minimum_size": minimum,
        "validation_fraction": validation_fraction,
        "split_seed": split_seed,
    }
    with open_run(
        workspace, "chunk", version=VERSION, settings=settings, inputs=inputs, force=force,
        overwrite_edited=overwrite_edited,
    ) as run:  # fmt: skip
        if not run.is_fresh:
            about = {row["file"]: row for path in inputs if path.name == REPORT
                     for row in read_jsonl(path)}  # fmt: skip
            with run.scratch() as folder:
                texts = [path for path in documents if path.suffix == ".txt"]
                rows = write_chunks(run, folder, texts, about, settings)
                records, counts = write_record_files(
                    folder, documents, about, validation_fraction, split_seed
                )
                rows += [row | passed_on(about.get(row["file"], {})) for row in records]
                run.counts |= counts
                check_counts(run, settings)
                write_jsonl(folder / "documents.jsonl", rows)
                run.adopt(folder)
    report(run)


def minimum_of(chunk_size: int, minimum_size: int | None) -> int:
    """The least size of a chunk. Raises UsageError if it is above the most."""
    minimum = chunk_size * 6 // 7 if minimum_size is None else minimum_size
    if minimum > chunk_size:
        raise UsageError(f"--minimum-size {minimum} is above --chunk-size {chunk_size}.")
    return max(minimum, 1)


def write_chunks(
    run: StageRun,
    folder: Path,
    texts: list[Path],
    about: dict[str, dict[str, Any]],
    settings: dict[str, Any],
) -> list[dict[str, Any]]:
    """Write the shards of both splits; returns a row for each document."""
    fraction, seed = settings["validation_fraction"], settings["split_seed"]
    blank = [path for path in texts if path.stat().st_size < 1000 and not read_text(path).strip()]
    for path in blank:
        run.warn(f"{path} is empty: left out.")
    texts = [path for path in texts if path not in blank]
    held_out = held_out_ids(texts, about, fraction, seed)
    evaluation = any(about.get(path.name, {}).get("weight") == 0 for path in texts)
    rows: list[dict[str, Any]] = []
    counts = {"documents": 0, "chunks": 0, "train": 0, "validation": 0, "characters": 0}
    with (
        ShardWriter(folder, "train") as train,
        ShardWriter(folder, "validation") as validation,
        progress("chunk", len(texts), "texts") as advance,
    ):
        for path in texts:
            advance(note=path.name)
            text = read_text(path)
            pieces = chunk_text(text, settings["chunk_size"], settings["minimum_size"])
            for_training = 0 if path.stem in held_out else len(pieces)
            if len(texts) == 1 and fraction and not evaluation:
                run.warn(f"{path.name} is the only document: its end is held out for validation.")
                for_training = len(tail_split(pieces, fraction)[0])
            known = about.get(path.name, {})
            chunks = list(as_chunks(path.stem, pieces, known))
            train.write_document(chunks[:for_training])
            validation.write_document(chunks[for_training:])
            rows.append(describe(path.stem, text, chunks, for_training, known))
            counts["documents"] += 1
            counts["chunks"] += len(chunks)
            counts["train"] += for_training
            counts["validation"] += len(chunks) - for_training
            counts["characters"] += len(text)
    run.counts |= counts
    return rows


def held_out_ids(
    texts: list[Path], about: dict[str, dict[str, Any]], fraction: float, seed: int
) -> set[str]:
    """The documents to hold out: those of sources of weight 0, or a share of all of them.

    Where sources have weights the share is taken of each, so that none is held out whole.
    """
    sizes: dict[str, list[tuple[str, int]]] = {}
    evaluation: set[str] = set()
    for path in texts:
        known = about.get(path.name, {})
        if known.get("weight") == 0:
            evaluation.add(path.stem)
        group = str(known.get("collection")) if known.get("weight") else ""
        sizes.setdefault(group, []).append((path.stem, path.stat().st_size))
    if evaluation:
        return evaluation
    return set().union(*(validation_ids(group, fraction, seed) for group in sizes.values()))


def check_counts(run: StageRun, settings: dict[str, Any]) -> None:
    """Raise PipelineError if nothing is left to train on; warn if nothing is held out."""
    counts = run.counts
    if not counts["train"] and not counts["records_train"]:
        raise PipelineError(
            f"No text is left to train on in {run.workspace.directory('preprocess')}.",
            "All that is there is held out: look at the weights of the sources.",
        )
    for held_out, all_of_them in (("validation", "chunks"), ("records_validation", "records")):
        if settings["validation_fraction"] and counts[all_of_them] and not counts[held_out]:
            run.warn("There is too little text to hold any out: a model could not be scored on it.")


def passed_on(known: dict[str, Any]) -> dict[str, Any]:
    """What `documents.jsonl` repeats of the report."""
    names = ("title", "language", "source", "rights", "collection", "weight", "segment")
    return {"authors": known.get("authors") or []} | {name: known.get(name) for name in names}


def describe(
    document: str, text: str, chunks: list[Chunk], for_training: int, known: dict[str, Any]
) -> dict[str, Any]:
    """The row of `documents.jsonl` for one document."""
    parts = (("train", for_training), ("validation", len(chunks) - for_training))
    return {
        "document_id": document,
        **passed_on(known),
        "characters": len(text),
        "chunks": len(chunks),
        "split": " and ".join(name for name, number in parts if number),
    }


def as_chunks(document: str, pieces: list[str], known: dict[str, Any]) -> Iterator[Chunk]:
    """The chunks of one document with their places in it."""
    start = 0
    for number, piece in enumerate(pieces):
        yield Chunk(
            text=piece,
            document_id=document,
            chunk=number,
            char_start=start,
            char_end=start + len(piece),
            is_last=number == len(pieces) - 1,
            title=known.get("title"),
            authors=list(known.get("authors") or []),
            language=known.get("language"),
            source=known.get("source"),
            collection=known.get("collection"),
            weight=known.get("weight"),
        )
        start += len(piece)


def read_text(path: Path) -> str:
    """A cleaned text, perhaps edited by hand: UTF-8, any line ends.

    Raises PipelineError naming file and line for what is not UTF-8.
    """
    data = path.read_bytes()
    try:
        text = data.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        line = data[: error.start].count(b"\n") + 1
        raise PipelineError(
            f"{path}:{line} is not UTF-8 text.", "Save the file as UTF-8 in your editor."
        ) from error
    return text.replace("\r\n", "\n").replace("\r", "\n")


def report(run: StageRun) -> None:
    """Print the line that sums the stage up."""
    counts = run.counts
    parts = []
    if counts["documents"]:
        parts.append(
            f"{counts['documents']} documents, {counts['chunks']} chunks "
            f"({counts['train']} to train on, {counts['validation']} held out)"
        )
    if counts.get("records"):
        parts.append(
            f"{counts['records']:,} records ({counts['records_train']:,} to train on, "
            f"{counts['records_validation']:,} held out)"
        )
    run.report(f"{' and '.join(parts)} in {run.directory}")


if __name__ == "__main__":
    run_script(chunk)

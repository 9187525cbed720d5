"""Stage 1: bring books, or any text of your own, into `1_raw`, one file per document.

    pipeline acquire                                  the sample library that ships with this
    pipeline acquire --source ~/my-novels             a folder (or a file) of .txt and .md
    pipeline acquire --topic horror --num-records 40  Project Gutenberg, through Gutendex

Files are kept byte for byte; `catalog.jsonl` says where each one came from.
"""

from collections.abc import Iterable
from datetime import UTC, datetime
from pathlib import Path
from typing import Annotated, Any

from typer import Option

from pipeline.books.gutendex import DEFAULT_URL, Book, DownloadRefused, GutendexClient
from pipeline.books.naming import file_name, slug
from pipeline.books.sample import sample_library
from pipeline.command import DEFAULT_DATA_DIR, DataDir, Force, OverwriteEdited, RestoreDeleted
from pipeline.command import run_script as run_script
from pipeline.console import progress, say
from pipeline.errors import PipelineError
from pipeline.files import fingerprint, json_lines, sha256_bytes
from pipeline.run import StageRun, open_run
from pipeline.workspace import Workspace

VERSION = 1
MISSED = "not fetched"
SUFFIXES = (".txt", ".md")
SAMPLE_RIGHTS = "public domain (CC0 1.0), written for this sample library"


def acquire(
    data_dir: DataDir = DEFAULT_DATA_DIR,
    source: Annotated[
        list[str] | None,
        Option(help="A .txt or .md file, or a folder of them. May be repeated."),
    ] = None,
    rights: Annotated[
        str | None,
        Option(help="What the dataset's card is to say of the rights in the texts of --source."),
    ] = None,
    topic: Annotated[
        str | None, Option(help="Books whose subject or bookshelf has this word.")
    ] = None,
    search: Annotated[str | None, Option(help="Books with these words in title or author.")] = None,
    languages: Annotated[
        str, Option(help="Language codes of the books, separated by commas.")
    ] = "en",
    num_records: Annotated[int, Option(min=1, help="How many books to fetch.")] = 20,
    gutendex_url: Annotated[
        str, Option(help="A server that speaks the Gutendex protocol.")
    ] = DEFAULT_URL,
    pause: Annotated[float, Option(min=0, help="Seconds to wait between two downloads.")] = 2.0,
    force: Force = False,
    overwrite_edited: OverwriteEdited = False,
    restore_deleted: RestoreDeleted = False,
) -> None:
    """Bring texts into `1_raw`: your own files, books by topic, or the sample library.

    Without --source, --topic or --search, the sample library is taken: twelve short gothic tales.
    A second run fetches only what is not there yet. Files of earlier runs stay.
    """
    workspace = Workspace(data_dir)
    wants_books = topic is not None or search is not None
    roots = [Path(item).expanduser() for item in source or []]
    if not roots and not wants_books and keep_what_is_there(workspace):
        return
    if not roots and not wants_books:
        roots, rights = [sample_library()], SAMPLE_RIGHTS
        say("No --source, --topic or --search: taking the sample library.")
    files = list_files(roots)
    unfinished = bool(wants_books and missed(workspace))
    settings: dict[str, Any] = {"source": sorted(map(str, source or [])), "rights": rights}
    if wants_books:
        settings |= {
            "topic": topic, "search": search, "languages": languages,
            "num_records": num_records, "gutendex_url": gutendex_url,
        }  # fmt: skip
    with open_run(
        workspace, "acquire", version=VERSION, settings=settings, inputs=files, force=force,
        overwrite_edited=overwrite_edited, restore_deleted=restore_deleted,
        unfinished=unfinished,
    ) as run:  # fmt: skip
        if not run.is_fresh:
            take_files(run, files, rights)
            if wants_books:
                client = GutendexClient(gutendex_url, pause=pause)
                books = client.search(
                    topic=topic, search=search, languages=languages, limit=num_records
                )
                fetch_books(run, client, books, num_records)
            finish(run)
    report(run)


def keep_what_is_there(workspace: Workspace) -> bool:
    """Whether `1_raw` holds other texts than the sample library, which is then not for it.

    Raises PipelineError if an earlier run was stopped: only its options can tell what is missing.
    """
    record = workspace.record("acquire")
    texts = workspace.files("acquire", ("*.txt",))
    asked = record is not None and (record.settings["source"] or "num_records" in record.settings)
    if asked and record is not None and record.status != "complete":
        raise PipelineError(
            f"{workspace.directory('acquire')} is unfinished.",
            "Run `pipeline acquire` again with its --source, --topic or --search.",
        )
    if asked or (record is None and texts):
        say(
            f"acquire: nothing asked for, so the {len(texts)} documents of 1_raw stand (up to date)"
        )
        return True
    return False


def missed(workspace: Workspace) -> int:
    """How many books could not be fetched last time, and may be there now."""
    record = workspace.record("acquire")
    return int(record.counts.get(MISSED, 0)) if record else 0


def list_files(roots: Iterable[Path]) -> list[Path]:
    """The text files named by, or found below, `roots`: sorted, hidden ones left out.

    Raises PipelineError for what is not there and for a folder without text files.
    """
    files: list[Path] = []
    for root in roots:
        if not root.exists():
            raise PipelineError(f"--source {root} is not there.", "Check the path.")
        if root.is_file():
            if root.suffix.lower() not in SUFFIXES:
                raise PipelineError(f"--source {root} is not a .txt or .md file.")
            files.append(root)
            continue
        found = [
            path for path in sorted(root.rglob("*"))
            if path.is_file() and path.suffix.lower() in SUFFIXES
            and not any(part.startswith(".") for part in path.relative_to(root).parts)
        ]  # fmt: skip
        if not found:
            raise PipelineError(f"--source {root} has no .txt or .md files in it.")
        files += found
    return list(dict.fromkeys(files))


def take_files(run: StageRun, files: list[Path], rights: str | None) -> None:
    """Copy local files into `1_raw`, each under a safe name of its own; empty ones are refused."""
    taken: set[str] = set()
    with progress("acquire", len(files), "files") as advance:
        for path in sorted(files):
            fact = run.workspace.fact(path)
            origin = fingerprint(fact.path)[:8]
            name = f"{slug(path.stem) or 'text'}.txt"
            if name in taken or (run.row(name) or {}).get("origin", origin) != origin:
                # Two folders, in this run or an earlier one, hold files of one name.
                name = f"{name[:-4]}-{origin}.txt"
            taken.add(name)
            advance(note=name)
            key = fingerprint([VERSION, fact.sha256, rights])
            plan = run.plan(name, key)
            count(run, plan)
            if plan != "write":
                continue
            data = path.read_bytes()
            if not data.strip():
                refuse(run, str(path), "it is empty")
                continue
            modified = datetime.fromtimestamp(path.stat().st_mtime, UTC)
            row: dict[str, Any] = {
                "id": name[:-4], "title": None, "authors": [], "languages": [], "subjects": [],
                "rights": rights, "source": plain(path.name), "origin": origin,
                "retrieved_at": modified.isoformat(timespec="seconds"),
            }  # fmt: skip
            run.write(name, data, key, finished(row, name, data))


def fetch_books(run: StageRun, client: GutendexClient, books: Iterable[Book], wanted: int) -> None:
    """Download the books that are not there yet; refused ones are named, not fatal."""
    found = 0
    with progress("acquire", wanted, "books") as advance:
        for found, book in enumerate(books, 1):  # noqa: B007 - counted for afterwards
            name = file_name(book.id, book.title)
            advance(note=name)
            plan = run.plan(name, book.text_url)
            count(run, plan)
            if plan != "write":
                continue
            if book.copyright:
                refuse(run, f"{book.title} ({book.id})", "it is under copyright")
                continue
            try:
                data = client.download(book)
            except DownloadRefused as refusal:
                refuse(run, f"{book.title} ({book.id})", refusal.reason)
                run.counts[MISSED] = run.counts.get(MISSED, 0) + 1
                continue
            row = {
                "id": str(book.id), "title": plain(book.title),
                "authors": [plain(author) for author in book.authors],
                "languages": book.languages, "subjects": book.subjects,
                "rights": "public domain in the USA" if book.copyright is False else "unknown",
                "source": book.text_url,
                "retrieved_at": datetime.now(UTC).isoformat(timespec="seconds"),
            }  # fmt: skip
            run.write(name, data, book.text_url, finished(row, name, data))
    if not found:
        raise PipelineError(
            "No books were found for what was asked.",
            "Try another --topic (horror, poetry, adventure, ...), --search or --languages.",
        )


def plain(text: str) -> str:
    """`text` without the halves of characters that no UTF-8 file can hold."""
    return text.encode("utf-8", "replace").decode("utf-8")


def finished(row: dict[str, Any], name: str, data: bytes) -> dict[str, Any]:
    """A catalogue row with the facts of its file."""
    return {**row, "bytes": len(data), "sha256": sha256_bytes(data), "file": name}


def count(run: StageRun, plan: str) -> None:
    """Count what a plan means to the user."""
    word = "new" if plan == "write" else "deleted by hand" if plan == "deleted" else "already there"
    run.counts[word] = run.counts.get(word, 0) + 1


def refuse(run: StageRun, what: str, reason: str) -> None:
    """Leave a text out, with a word."""
    run.counts["new"] -= 1
    run.counts["refused"] = run.counts.get("refused", 0) + 1
    run.warn(f"{what} was left out: {reason}.")


def finish(run: StageRun) -> None:
    """Write the catalogue. Raises PipelineError if there is nothing to put into it."""
    earlier = [name for name in run.carry_on() if name.endswith(".txt")]
    if earlier:
        run.counts["of earlier runs"] = len(earlier)
    rows = list(run.rows().values())
    counts = run.counts
    if not any(counts.get(word) for word in ("new", "already there", "deleted by hand")):
        raise PipelineError(
            f"There is no text in what was asked for: {counts.get('refused', 0)} left out.",
            "The reasons are above.",
        )
    run.counts["documents"] = len(rows)
    run.counts["bytes"] = sum(row["bytes"] for row in rows)
    run.write("catalog.jsonl", json_lines(rows))


def report(run: StageRun) -> None:
    """Print the line that sums the stage up."""
    counts = run.counts
    text = f"{counts['documents']} documents, {counts['bytes']:,} bytes in {run.directory}"
    words = ("new", "already there", "of earlier runs", "deleted by hand", "refused")
    parts = [f"{counts[word]} {word}" for word in words if counts.get(word)]
    run.report(text if run.is_fresh else f"{text} ({', '.join(parts)})")


if __name__ == "__main__":
    run_script(acquire)

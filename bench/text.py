"""Stages 2 and 3 beside the plain way, on real books, in one run.

    python -m bench.text FOLDER [--megabytes 200] [--plain-megabytes 20] [--books 1000]

FOLDER holds text files; they are repeated to so many megabytes. The plain way is what everybody
writes first: NLTK's Punkt over each whole text, sentences joined with spaces up to 7,000
characters, pandas to Parquet; it cleans nothing. It gets a part of the texts, since it is slow;
what is compared are megabytes per second. Our stages run as commands, as a user runs them, and
their memory is that of all their processes together (proportional set size).

Then, for so many books: how long the same commands take when nothing has changed, and when one
book was edited by hand.
"""

import argparse
import itertools
import os
import shutil
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager, nullcontext
from pathlib import Path
from statistics import median

import psutil

MEGABYTE = 1_000_000
CHUNK = 7_000
ROUNDS = 3
PLAIN = "plain way"


def repeat_books(books: list[Path], folder: Path, *, size: int = 0, count: int = 0) -> int:
    """Copy books into a new folder until there are `size` bytes or `count` of them.

    Returns the bytes. The copies are duplicates of one another: for the search for duplicates the
    hardest case, and `--duplicates keep` cleans and chunks them all the same.
    """
    folder.mkdir(parents=True)
    done = 0
    for number, book in enumerate(itertools.cycle(books)):
        if (size and done >= size) or (count and number >= count):
            return done
        data = book.read_bytes()
        (folder / f"{number:05}-{book.name}").write_bytes(data)
        done += len(data)
    return done


def plain_way(folder: Path, target: Path) -> None:
    """Sentences joined with spaces, one pandas table."""
    import pandas as pd
    import punkt
    from nltk.tokenize.punkt import PunktParameters, PunktSentenceTokenizer

    trained = punkt.load_model("english")
    parameters = PunktParameters()
    parameters.abbrev_types = set(trained.abbrev_types)
    parameters.collocations = set(trained.collocations)
    parameters.sent_starters = set(trained.sent_starters)
    parameters.ortho_context.update(trained.ortho_context)
    tokenizer = PunktSentenceTokenizer()
    tokenizer._params = parameters
    rows = []
    for path in sorted(folder.iterdir()):
        chunk = ""
        for sentence in tokenizer.tokenize(path.read_text("utf-8", errors="replace")):
            if len(chunk) + len(sentence) > CHUNK:
                rows.append({"text": chunk, "source": path.name})
                chunk = ""
            chunk += " " + sentence
        rows.append({"text": chunk, "source": path.name})
    pd.DataFrame(rows).to_parquet(target)


@contextmanager
def memory_of(process: psutil.Process) -> Iterator[list[int]]:
    """Watch a process and its children; the list's one number is their peak in bytes."""
    peak = [0]
    done = threading.Event()

    def watch() -> None:
        while not done.wait(0.05):
            peak[0] = max(peak[0], sum(map(proportional, family(process))))

    thread = threading.Thread(target=watch)
    thread.start()
    try:
        yield peak
    finally:
        done.set()
        thread.join()


def family(process: psutil.Process) -> list[psutil.Process]:
    """A process and its children, as far as they are still there."""
    try:
        return [process, *process.children(recursive=True)]
    except psutil.NoSuchProcess:
        return []


def proportional(process: psutil.Process) -> int:
    """The memory of a process; pages that several share count in parts (Linux), else whole."""
    try:
        info = process.memory_full_info()
        return int(getattr(info, "pss", 0) or info.uss)
    except psutil.Error:
        return 0


def stage(data: Path, name: str, *options: str, watch: bool = False) -> tuple[float, int]:
    """Run a stage as a command; its seconds, and if it is watched its peak memory in bytes: to look
    at that takes time that the stage would have."""
    command = [sys.executable, "-m", "pipeline.cli", name, "--data-dir", str(data), "--quiet"]
    peak = [0]
    start = time.perf_counter()
    with subprocess.Popen([*command, *options], stderr=subprocess.DEVNULL) as process:
        with memory_of(psutil.Process(process.pid)) if watch else nullcontext(peak) as peak:
            code = process.wait()
        seconds = time.perf_counter() - start
    if code:
        raise SystemExit(f"{' '.join([*command, *options])} ended with {code}")
    return seconds, peak[0]


def both(data: Path, *preprocess: str, jobs: int, watch: bool = False) -> tuple[float, int]:
    """Seconds, and peak memory if watched, of stages 2 and 3, from the raw texts on."""
    for made in ("2_preprocessed", "3_chunks", ".cache"):
        shutil.rmtree(data / made, ignore_errors=True)
    os.sync()  # what was written before is not written at the cost of this
    clean, clean_peak = stage(data, "preprocess", "--jobs", str(jobs), *preprocess, watch=watch)
    chunk, chunk_peak = stage(data, "chunk", "--jobs", str(jobs), watch=watch)
    return clean + chunk, max(clean_peak, chunk_peak)


def say(text: str) -> None:
    """Print one line, now."""
    sys.stdout.write(text + "\n")
    sys.stdout.flush()


def race(books: list[Path], work: Path, megabytes: int, plain_megabytes: int) -> None:
    """Throughputs and their ratios: medians of rounds in which all ways have their turn."""
    plain_size = repeat_books(books, work / "plain", size=plain_megabytes * MEGABYTE)
    data = work / "race"
    size = repeat_books(books, data / "1_raw", size=megabytes * MEGABYTE)
    ways = {
        "clean, chunk": (["--duplicates", "off"], 1),
        "clean, duplicates, chunk": (["--duplicates", "keep"], 1),
        "clean, chunk, 2 processes": (["--duplicates", "off"], 2),
    }
    speeds: dict[str, list[float]] = {PLAIN: [], **{name: [] for name in ways}}
    for _ in range(ROUNDS):
        os.sync()
        start = time.perf_counter()
        plain_way(work / "plain", work / "plain.parquet")
        speeds[PLAIN].append(plain_size / MEGABYTE / (time.perf_counter() - start))
        for name, (options, jobs) in ways.items():
            speeds[name].append(size / MEGABYTE / both(data, *options, jobs=jobs)[0])
    for name, found in speeds.items():
        options, jobs = ways.get(name, ([], 0))
        peak = both(data, *options, jobs=jobs, watch=True)[1] if jobs else 0
        memory = f", {peak / MEGABYTE:5.0f} MB of memory" if jobs else ""
        say(f"{name:<32} {median(found):8.2f} MB/s{memory}")
    plain, one, with_duplicates, two = (median(each) for each in speeds.values())
    say(f"clean, chunk / plain way: {one / plain:.1f}")
    say(f"clean, duplicates, chunk / plain way: {with_duplicates / plain:.1f}")
    say(f"2 processes / 1: {two / one:.2f}")


def again(books: list[Path], work: Path, count: int) -> None:
    """What a second run costs: nothing changed, one book edited."""
    data = work / "again"
    size = repeat_books(books, data / "1_raw", count=count) / MEGABYTE
    seconds, _ = both(data, "--duplicates", "keep", jobs=os.cpu_count() or 1)
    say(f"{count} books ({size:.0f} MB): {seconds:.1f} s")
    for what in ("nothing changed", "one book edited"):
        if what != "nothing changed":
            text = sorted((data / "2_preprocessed").glob("*.txt"))[count // 2]
            text.write_text(text.read_text("utf-8") + "\nA line more.\n", "utf-8")
        first, _ = stage(data, "preprocess", "--duplicates", "keep")
        second, _ = stage(data, "chunk")
        say(f"{what}: {first:.2f} s + {second:.2f} s")


def main() -> None:
    """Read the options and run both parts."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n")[0])
    parser.add_argument("folder", type=Path)
    parser.add_argument("--megabytes", type=int, default=200)
    parser.add_argument("--plain-megabytes", type=int, default=20)
    parser.add_argument("--books", type=int, default=1000)
    options = parser.parse_args()
    books = [path for path in sorted(options.folder.glob("*.txt")) if path.stat().st_size > 1000]
    with tempfile.TemporaryDirectory(prefix="bench-text-") as folder:
        work = Path(folder)
        if options.megabytes:
            race(books, work, options.megabytes, options.plain_megabytes)
        if options.books:
            again(books, work, options.books)


if __name__ == "__main__":
    main()

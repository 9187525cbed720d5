"""Stage 1 beside the plain way, on one loopback server with latency, in one run.

    python -m bench.acquire [--requests 200] [--latency 0.05] [--runs 3]

The plain way is a loop of `requests.get` that writes each body to a file, without pauses, retries
or checks. The servers run in a process of their own. Printed are medians and ratios (plain / ours).

- *books*: catalogue pages and texts of a small Gutendex. One connection and one request at a time
  on both sides: politeness is not raced against, and the pause (for the main site) does not apply.
- *objects*: small objects of an S3 server (any HTTP server will do for unsigned GETs), fetched
  concurrently by `Storage.read_many`, and by the whole stage with its writes and records.
"""

import argparse
import os
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import requests

from bench.table import print_ratios
from pipeline.console import set_quiet
from pipeline.step1_acquire import acquire
from pipeline.storage import Storage

SIZE = 20_000  # bytes of a text


def plain_books(url: str, books: int, folder: Path) -> None:
    """The loop that everybody writes first."""
    found: list[tuple[int, str]] = []
    page: str | None = f"{url}/books/?topic=horror&mime_type=text%2Fplain&sort=ascending"
    while page and len(found) < books:
        answer = requests.get(page, timeout=30).json()
        found += [
            (book["id"], book["formats"]["text/plain; charset=utf-8"]) for book in answer["results"]
        ]
        page = answer["next"]
    for id, address in found[:books]:
        (folder / f"{id}.txt").write_bytes(requests.get(address, timeout=30).content)


def our_books(url: str, books: int, folder: Path) -> None:
    """The stage, with its checks, hashes, records and journal."""
    acquire(folder, topic="horror", num_records=books, gutendex_url=url)


def plain_objects(url: str, objects: int, folder: Path) -> None:
    """One object after the other."""
    for n in range(objects):
        body = requests.get(f"{url}/library/tales/{n:04}.txt", timeout=30).content
        (folder / f"{n}.txt").write_bytes(body)


def our_fetching(objects: int, folder: Path) -> None:
    """The concurrent fetch alone, beside a loop that also writes."""
    with Storage() as storage:
        entries = storage.expand("s3://library/tales/")
        assert len(entries) == objects
        for entry, body in storage.read_many(entries):
            assert isinstance(body, bytes), body
            (folder / entry.name).write_bytes(body)


def our_objects(folder: Path) -> None:
    """The whole stage on the same objects."""
    acquire(folder, source=["s3://library/tales/"])


def seconds(work: Callable[[Path], None]) -> float:
    """How long `work` takes in a new folder."""
    folder = Path(tempfile.mkdtemp(prefix="bench-acquire-"))
    try:
        start = time.perf_counter()
        work(folder)
        return time.perf_counter() - start
    finally:
        shutil.rmtree(folder)


def main() -> None:
    """Start the servers, race, print."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n")[0])
    parser.add_argument("--requests", type=int, default=200)
    parser.add_argument("--latency", type=float, default=0.05)
    parser.add_argument("--runs", type=int, default=3)
    options = parser.parse_args()
    set_quiet(True)
    command = [sys.executable, "-m", "bench.servers", str(options.requests), str(SIZE),
               str(options.latency)]  # fmt: skip
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE) as servers:
        assert servers.stdin and servers.stdout
        gutendex, s3 = servers.stdout.readline().decode().split()
        os.environ |= {"AWS_ENDPOINT_URL": s3, "AWS_EC2_METADATA_DISABLED": "true"}
        os.environ |= dict.fromkeys(("AWS_CONFIG_FILE", "AWS_SHARED_CREDENTIALS_FILE"), os.devnull)
        for name in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY", "AWS_PROFILE"):
            os.environ.pop(name, None)
        number = options.requests
        races: dict[str, Callable[[Path], None]] = {
            "books, plain": lambda folder: plain_books(gutendex, number, folder),
            "books, stage 1": lambda folder: our_books(gutendex, number, folder),
            "objects, plain": lambda folder: plain_objects(s3, number, folder),
            "objects, fetched": lambda folder: our_fetching(number, folder),
            "objects, stage 1": our_objects,
        }
        times: dict[str, list[float]] = {name: [] for name in races}
        for _ in range(options.runs):
            for name, work in races.items():
                times[name].append(seconds(work))
        servers.stdin.close()
    medians = {name: statistics.median(values) for name, values in times.items()}
    print_ratios(
        medians,
        [("books, plain", "books, stage 1"), ("objects, plain", "objects, fetched"),
         ("objects, plain", "objects, stage 1")],
    )  # fmt: skip


if __name__ == "__main__":
    main()

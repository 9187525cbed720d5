"""What is sent again when one book of a published dataset is dropped, beside pandas' Parquet.

    python -m bench.republish FOLDER [--books 60] [--drops 5]

The texts of FOLDER (more books than it has are copies with their letters exchanged, so that no two
have text in common) go through stages 3 and 4, are pushed to a small Hub on loopback, lose one book
and are pushed again; each drop starts from the full shelf. The plain way is the same rows through
`DataFrame.to_parquet` as pandas does it by default.

Printed are means over the drops: the size of the dataset, what is sent again where a file is the
unit (Git LFS), and what is new where a chunk is (Xet, which the Hub uses): told by the Hub's own
client (hf_xet), storing into a folder. Sizes are exact, so nothing here depends on the machine.
"""

import argparse
import contextlib
import io
import os
import random
import shutil
import statistics
import string
import sys
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from pipeline.errors import UsageError

NAME = "ada/books"


@dataclass
class Sent:
    """One drop: bytes of the dataset without the book, sent again by file, and new by chunk."""

    size: int
    by_file: int
    by_chunk: int

    @property
    def kept(self) -> float:
        """The share of the dataset that was there already, where chunks are the unit."""
        return 1 - self.by_chunk / self.size


def shelf(folder: Path, books: int) -> dict[str, str]:
    """`books` texts, by name: those of the folder, and copies with other letters."""
    texts = {
        path.stem: path.read_bytes().decode("utf-8", "replace").replace("\r\n", "\n")
        for path in sorted(folder.glob("*.txt"))
    }
    if not texts:
        raise UsageError(f"{folder} has no .txt files.")
    originals = list(texts.items())
    while len(texts) < books:
        copy, which = divmod(len(texts), len(originals))
        name, text = originals[which]
        letters = random.Random(copy).sample(string.ascii_lowercase, 26)
        exchanged = str.maketrans(string.ascii_lowercase, "".join(letters))
        texts[f"{name}-{copy}"] = text.translate(exchanged)
    return dict(list(texts.items())[:books])


def stages(texts: dict[str, str], data: Path) -> Path:
    """The texts through stages 3 and 4; returns the dataset's folder."""
    from pipeline.step3_chunk import chunk
    from pipeline.step4_upload import upload

    (data / "2_preprocessed").mkdir(parents=True)
    for name, text in texts.items():
        (data / "2_preprocessed" / f"{name}.txt").write_text(text, "utf-8")
    with contextlib.redirect_stderr(io.StringIO()):  # what the gate says of uncleaned texts
        chunk(data)
        upload(data)
    return data / "4_dataset"


def plain(dataset: Path, folder: Path) -> Path:
    """The rows of a dataset as pandas writes them by default: a file for each split."""
    import pandas as pd
    import pyarrow.parquet as pq

    (folder / "data").mkdir(parents=True)
    for split in ("train", "validation"):
        shards = sorted((dataset / "data").glob(f"{split}-*.parquet"))
        # Rows of plain Python: a frame read from Parquet remembers where row groups ended.
        rows = [row for shard in shards for row in pq.read_table(shard).to_pylist()]
        if rows:
            pd.DataFrame(rows).to_parquet(folder / "data" / f"{split}.parquet", index=False)
    return folder


def sent_by_file(before: Path, after: Path) -> int:
    """Bytes of large files that a second push sends, counted by the Hub that gets them."""
    from pipeline.hub.client import push_folder
    from tests.hub_server import TOKEN, HubServer

    with HubServer() as hub:
        there: set[str] = set()
        for folder in (before, after):
            there = set(hub.lfs)
            push_folder(
                folder, NAME, repo_type="dataset", private=True, endpoint=hub.url, token=TOKEN
            )
        return sum(len(hub.lfs[oid]) for oid in hub.lfs.keys() - there)


def new_by_chunk(before: Path, after: Path) -> int:
    """Bytes of the chunks that a store which holds `before` has not seen yet."""
    import hf_xet  # type: ignore[import-not-found, import-untyped, unused-ignore]

    new = 0
    with tempfile.TemporaryDirectory() as store:
        for folder in (before, after):
            commit = hf_xet.XetSession().new_upload_commit(endpoint=f"local://{store}")
            for path in sorted(folder.rglob("*.parquet")):
                commit.start_upload_file(str(path))
            new = commit.wait_to_finish().dedup_metrics.new_bytes
    return int(new)


def size_of(folder: Path) -> int:
    """Bytes of the Parquet files."""
    return sum(path.stat().st_size for path in folder.rglob("*.parquet"))


def measure(texts: dict[str, str], drops: int, place: Path) -> dict[str, list[Sent]]:
    """Drop `drops` books, one at a time, evenly over the shelf."""
    found: dict[str, list[Sent]] = {"pandas": [], "stages 3 and 4": []}
    full = stages(texts, place / "full")
    plain_full = plain(full, place / "full-plain")
    names = list(texts)
    for number in range(drops):
        gone = names[(2 * number + 1) * len(names) // (2 * drops)]
        work = place / f"drop-{number}"
        less = stages({name: text for name, text in texts.items() if name != gone}, work)
        for label, before, after in (
            ("pandas", plain_full, plain(less, work / "plain")),
            ("stages 3 and 4", full, less),
        ):
            sent = Sent(size_of(after), sent_by_file(before, after), new_by_chunk(before, after))
            found[label].append(sent)
        shutil.rmtree(work)
    return found


def print_table(found: dict[str, list[Sent]]) -> None:
    """Means over the drops, as a Markdown table."""
    head = ("way", "dataset (MB)", "sent again by file (MB)", "new by chunk (MB)", "reusable",
            "least reusable")  # fmt: skip
    rows = [head, ("---",) * len(head)]
    for label, sents in found.items():
        rows.append(
            (
                label,
                *(f"{mean([value / 1e6 for value in values]):.2f}" for values in (
                    [s.size for s in sents], [s.by_file for s in sents],
                    [s.by_chunk for s in sents])),
                f"{mean([s.kept for s in sents]):.1%}",
                f"{min(s.kept for s in sents):.1%}",
            )
        )  # fmt: skip
    for row in rows:
        sys.stdout.write(f"| {' | '.join(row)} |\n")


def mean(values: Sequence[float]) -> float:
    """The arithmetic mean."""
    return statistics.fmean(values)


def main() -> None:
    """Build, push, drop, push, print."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n")[0])
    parser.add_argument("folder", type=Path)
    parser.add_argument("--books", type=int, default=60)
    parser.add_argument("--drops", type=int, default=5)
    options = parser.parse_args()
    os.environ |= {"HF_HUB_DISABLE_XET": "1", "HF_HUB_DISABLE_TELEMETRY": "1"}
    os.environ["HF_HUB_DISABLE_PROGRESS_BARS"] = "1"
    texts = shelf(options.folder, options.books)
    characters = sum(map(len, texts.values()))
    sys.stdout.write(f"{len(texts)} books, {characters / 1e6:.1f} million characters, "
                     f"{options.drops} drops of one book\n\n")  # fmt: skip
    with tempfile.TemporaryDirectory(prefix="bench-republish-") as place:
        print_table(measure(texts, options.drops, Path(place)))


if __name__ == "__main__":
    main()

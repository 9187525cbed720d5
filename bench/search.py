"""Which of the trainer's settings matter: one changed at a time, same books, same tokens.

    python -m bench.search FOLDER [--tokens 63000] [--only "rank 16"]

FOLDER and what is done with it are those of `bench.learning`: stages 2 and 3 for the texts, stage 6
for each row of the table, all scored by the same code on exactly the same windows of two books that
none of them has seen. All rows take 40 minutes on two quiet cores; each is printed when it is done.
"""

import argparse
import shutil
import tempfile
from pathlib import Path
from typing import Any

from bench.learning import chunked, make_parser, ours, scores
from bench.table import print_table
from bench.text import say

# The windows on which all are scored are those of the first.
CHANGES: dict[str, dict[str, Any]] = {
    "nothing": {},
    "another seed": {"seed": 7},
    "drawn from all texts alike": {"order": "random"},
    "learning rate 2e-4": {"learning_rate": 2e-4},
    "learning rate 8e-4": {"learning_rate": 8e-4},
    "rank 16": {"rank": 16},
    "rank 16, learning rate 8e-4": {"rank": 16, "learning_rate": 8e-4},
    "alpha 64, the rank itself": {"alpha": 64},
    "schedule cosine": {"scheduler": "cosine"},
    "beta2 0.999": {"beta2": 0.999},
    "weight decay 0.1": {"weight_decay": 0.1},
    "dropout 0.1": {"dropout": 0.1},
    "2 sequences a step": {"batch_size": 2},
    "sequences of 512": {"sequence_length": 512},
}


def search(options: argparse.Namespace, work: Path) -> None:
    """Train and score each row, then print all of them by what they gain."""
    from pipeline.scoring.bits import load_windows
    from pipeline.training.base_model import resolve_base_model

    base = resolve_base_model(options.base_model, options.models or work / "models")
    shard = chunked(options.folder, options.train, work / "train")
    held_out = chunked(options.folder, options.held_out, work / "held-out")
    names = ["nothing", *(name for name in options.only or CHANGES if name != "nothing")]
    gains: dict[str, float] = {}
    for number, name in enumerate(names):
        folder = work / str(number)
        # Only the first is scored by the stage itself, which makes the windows for all.
        unscored = {"eval_tokens": 512, "keep_best": False} if number else {}
        side = ours(base, shard, held_out, options.tokens, folder, **unscored, **CHANGES[name])
        windows = load_windows(work / "0" / "windows.json")
        found = scores(base, windows, {name: folder})
        gains[name] = found["base"] - found[name]
        say(f"{name}: {gains[name]:.4f} ({side.steps} steps, {side.seconds:,.0f} s)")
        if number:
            shutil.rmtree(folder)
    rows = sorted(gains.items(), key=lambda row: -row[1])
    print_table(["what is changed", "gain"], [[name, f"{gain:.4f}"] for name, gain in rows])


def main() -> None:
    """Read the options and search."""
    parser = make_parser(__doc__ or "")
    parser.add_argument("--only", nargs="+", choices=list(CHANGES), help="rows besides `nothing`")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="bench-search-") as work:
        search(options, Path(work))


if __name__ == "__main__":
    main()

"""What our defaults learn beside the recipe in common use: same books, same tokens, one run.

    python -m bench.learning FOLDER [--tokens 63000]

FOLDER holds text files as Project Gutenberg serves them. Stages 2 and 3 clean and cut them, for
both sides. Ours is stage 6 with its defaults: only the length is set. The recipe is a plain TRL
script (`bench/plain_trl.py`) in a process of its own: chunks of 7,000 characters as rows, which get
an end token each, TRL's defaults for packing, and the settings below.

Both adapters and the base are then scored by the same code on exactly the same windows of two books
that neither has seen. The default takes ten minutes on two quiet cores.
"""

import argparse
import json
import math
import shutil
import subprocess
import sys
import tempfile
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from bench.table import print_table
from bench.text import say, stage
from pipeline.errors import UsageError

if TYPE_CHECKING:
    from pipeline.scoring.bits import Window
    from pipeline.training.base_model import BaseModel

# Gothic prose, all but what is held out.
TRAIN = (
    "84", "209", "696", "10007", "345", "174-modern", "768-old_wuthr10", "8492", "20387", "389",
)  # fmt: skip
HELD_OUT = ("43-modern", "932")
EVAL_TOKENS = 12_288
LENGTH, ROWS, ACCUMULATED = 1024, 2, 4
RECIPE: dict[str, Any] = {
    "packing": True,
    "max_length": LENGTH,
    "per_device_train_batch_size": ROWS,
    "gradient_accumulation_steps": ACCUMULATED,
    "learning_rate": 2e-5,
    "lr_scheduler_type": "linear",
    "warmup_steps": 0.05,  # below 1 it is a share
    "weight_decay": 0.1,
}
RECIPE_LORA: dict[str, Any] = {"r": 16, "lora_alpha": 16, "target_modules": "all-linear"}


@dataclass(frozen=True)
class Side:
    """What a side did, and where its adapter is."""

    adapter: Path
    steps: int
    tokens: int
    seconds: float


def chunked(folder: Path, names: list[str], data: Path) -> Path:
    """Clean and chunk these texts of `folder`; the Parquet file of the chunks."""
    raw = data / "1_raw"
    raw.mkdir(parents=True)
    for name in names:
        path = folder / f"{name}.txt"
        if not path.is_file():
            raise UsageError(f"{path} is not there.", "Name others with --train and --held-out.")
        shutil.copyfile(path, raw / path.name)
    stage(data, "preprocess")
    stage(data, "chunk", "--validation-fraction", "0")
    (shard,) = (data / "3_chunks").glob("*.parquet")
    return shard


def write_rows(shard: Path, rows: Path) -> Path:
    """The chunks as a plain script is given them: JSONL, one `text` a row."""
    import pyarrow.parquet as pq

    texts = pq.read_table(shard, columns=["text"]).column("text").to_pylist()
    rows.write_text("".join(json.dumps({"text": text}) + "\n" for text in texts), "utf-8")
    return rows


def recipe(base: "BaseModel", shard: Path, tokens: int, work: Path) -> Side:
    """Train as most do; `tokens` are rounded up to whole steps."""
    rows, folder = write_rows(shard, work / "rows.jsonl"), work / "recipe"
    steps = math.ceil(tokens / (LENGTH * ROWS * ACCUMULATED))
    told = run_plain(
        {
            "model": str(base.path),
            "rows": str(rows),
            "output": str(folder),
            "sft": RECIPE | {"max_steps": steps},
            "lora": RECIPE_LORA,
        },
        work / "recipe.json",
    )
    return Side(folder, int(told["steps"]), int(told["tokens"]), told["seconds"])


def run_plain(job: dict[str, Any], path: Path) -> dict[str, float]:
    """Run `bench.plain_trl` in a process of its own; what it tells."""
    path.write_text(json.dumps(job), "utf-8")
    command = [sys.executable, "-m", "bench.plain_trl", str(path)]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode:
        raise SystemExit(f"{' '.join(command)} failed:\n{done.stderr[-2000:]}")
    told: dict[str, float] = json.loads(done.stdout.splitlines()[-1])
    return told


def ours(
    base: "BaseModel", shard: Path, held_out: Path, tokens: int, folder: Path, **changed: Any
) -> Side:
    """Stage 6 with its defaults, or with some `changed`. How much is scored, and how often, changes
    nothing it learns."""
    from pipeline.corpus.documents import read_documents
    from pipeline.training.trainer import TrainSettings, train

    scored: dict[str, Any] = {"eval_tokens": EVAL_TOKENS, "eval_every": 0, "sample_tokens": 1}
    settings = TrainSettings(tokens=tokens, **(scored | changed))
    result = train(settings, read_documents([shard]), read_documents([held_out]), base, folder)
    return Side(folder, result.steps, result.tokens, result.summary.seconds)


def scores(
    base: "BaseModel", windows: "list[Window]", adapters: dict[str, Path]
) -> dict[str, float]:
    """Bits per byte of the base ("base") and of each adapter, on the same windows."""
    from peft import PeftModel
    from transformers import AutoModelForCausalLM

    from pipeline.scoring.bits import score_model
    from pipeline.training.engine import Machine, choose_precision

    precision = choose_precision(Machine.detect())
    model = AutoModelForCausalLM.from_pretrained(base.path, dtype=precision.dtype)
    found = {"base": score_model(model, windows).bits_per_byte}
    for name, folder in adapters.items():
        adapted = PeftModel.from_pretrained(model, folder)
        found[name] = score_model(adapted, windows, autocast=precision.autocast).bits_per_byte
        model = adapted.unload()
    return found


def compare(folder: Path, options: argparse.Namespace, work: Path) -> None:
    """Train both, score both, print one table."""
    from pipeline.scoring.bits import load_windows
    from pipeline.training.base_model import resolve_base_model

    base = resolve_base_model(options.base_model, options.models or work / "models")
    shard = chunked(folder, options.train, work / "train")
    held_out = chunked(folder, options.held_out, work / "held-out")
    sides = {
        "our defaults": ours(base, shard, held_out, options.tokens, work / "ours"),
        "recipe in common use": recipe(base, shard, options.tokens, work),
    }
    windows = load_windows(work / "ours" / "windows.json")
    found = scores(base, windows, {name: side.adapter for name, side in sides.items()})
    rows = [["base", f"{found['base']:.4f}", "", "", "", "", ""]]
    for name, side in sides.items():
        rows.append([
            name, f"{found[name]:.4f}", f"{found['base'] - found[name]:.4f}", f"{side.steps:,}",
            f"{side.tokens:,}", f"{side.tokens / side.seconds:,.0f}", f"{side.seconds:,.0f}",
        ])  # fmt: skip
    head = ["", "bits per byte", "gain", "steps", "tokens", "tokens/s", "seconds"]
    say(f"Held out: {sum(w.predicted for w in windows):,} tokens of {', '.join(options.held_out)}.")
    print_table(head, rows)


def make_parser(about: str) -> argparse.ArgumentParser:
    """The options that this and `bench.search` share."""
    parser = argparse.ArgumentParser(description=about.split("\n")[0])
    parser.add_argument("folder", type=Path)
    parser.add_argument("--tokens", type=int, default=63_000)
    parser.add_argument("--train", nargs="+", default=list(TRAIN))
    parser.add_argument("--held-out", nargs="+", default=list(HELD_OUT))
    parser.add_argument("--base-model", default="smollm2-135m")
    parser.add_argument("--models", type=Path, help="where converted base models are kept")
    return parser


def main() -> None:
    """Read the options and compare."""
    options = make_parser(__doc__ or "").parse_args()
    with tempfile.TemporaryDirectory(prefix="bench-learning-") as work:
        compare(options.folder, options, Path(work))


if __name__ == "__main__":
    main()

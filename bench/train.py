"""Stage 6 beside a plain TRL script: real tokens per second and peak memory, in one run.

    python -m bench.train FOLDER [--steps 1] [--repeats 3]

FOLDER holds text files as Project Gutenberg serves them; stages 2 and 3 clean and cut them for both
sides. The plain script (`bench/plain_trl.py`) names the model, the rows and LoRA of rank 16 on all
linear layers; everything else is TRL's default. Ours is stage 6 with its defaults and as many
tokens per optimizer step. Then both again with the same memory-saving settings: the base in
bfloat16, activations kept on both sides, or computed again on both.

Every run is a process of its own; the sides take turns, and the medians are printed. How fast this
machine multiplies matrices is measured between the runs, and how much of that a side reaches is
printed as its share: the floating point operations that the model's mathematics takes, whatever a
side really computes.
"""

import argparse
import json
import resource
import statistics
import subprocess
import sys
import tempfile
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from bench.learning import HELD_OUT, LENGTH, RECIPE_LORA, TRAIN, chunked, run_plain, write_rows
from bench.table import print_table
from bench.text import say

BATCH_ROWS = 8  # TRL's default
DEFAULTS, OURS = "TRL's defaults", "our defaults"
KEPT, OURS_AGAIN = "TRL, bfloat16, activations kept", "ours, activations computed again"
AGAIN = "TRL, bfloat16, activations computed again"
BFLOAT16 = {"model_init_kwargs": {"dtype": "bfloat16"}}
PLAIN: Mapping[str, dict[str, Any]] = {
    DEFAULTS: {},
    AGAIN: BFLOAT16,
    KEPT: {**BFLOAT16, "gradient_checkpointing": False},
}
STAGE: Mapping[str, dict[str, Any]] = {OURS: {}, OURS_AGAIN: {"gradient_checkpointing": True}}
PAIRS = ((DEFAULTS, OURS), (KEPT, OURS), (AGAIN, OURS_AGAIN))


@dataclass
class Runs:
    """What the runs of one side came to."""

    speeds: list[float]  # real tokens per second
    peaks: list[float]  # bytes

    @property
    def speed(self) -> float:
        """The median."""
        return statistics.median(self.speeds)

    @property
    def peak(self) -> float:
        """The median."""
        return statistics.median(self.peaks)


def stage6(job: dict[str, Any]) -> dict[str, float]:
    """Run stage 6's trainer in this process; what it took."""
    from pipeline.corpus.documents import read_documents
    from pipeline.training.base_model import resolve_base_model
    from pipeline.training.trainer import TrainSettings, train

    # What is scored and written before and after is no training: as little of it as there can be.
    settings = TrainSettings(
        max_steps=job["steps"], batch_tokens=BATCH_ROWS * LENGTH, eval_tokens=LENGTH, eval_every=0,
        sample_tokens=1, keep_best=False, **job["settings"],
    )  # fmt: skip
    base = resolve_base_model(job["model"], Path(job["models"]))
    shards = [read_documents([Path(job[name])]) for name in ("train", "held_out")]
    result = train(settings, shards[0], shards[1], base, Path(job["output"]))
    return {
        "seconds": result.summary.seconds,
        "tokens": result.tokens,
        "steps": result.steps,
        "memory": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024,
    }


def run_stage6(job: dict[str, Any], path: Path) -> dict[str, float]:
    """Run `stage6` in a process of its own; what it tells."""
    path.write_text(json.dumps(job), "utf-8")
    command = [sys.executable, "-m", "bench.train", "--job", str(path)]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode:
        raise SystemExit(f"{' '.join(command)} failed:\n{done.stderr[-2000:]}")
    told: dict[str, float] = json.loads(done.stdout.splitlines()[-1])
    return told


def machine_rate() -> float:
    """Floating point operations per second of matrix products in the format that is trained in."""
    from pipeline.training.engine import Machine, choose_precision
    from pipeline.training.flops import matmul_rate

    return matmul_rate("cpu", choose_precision(Machine.detect()).dtype)


def arithmetic(model: Path) -> float:
    """Floating point operations per token, of a base with LoRA of rank 16 on all linear layers."""
    from peft import LoraConfig, get_peft_model
    from transformers import AutoModelForCausalLM

    from pipeline.training.flops import flops_per_token

    loaded = AutoModelForCausalLM.from_pretrained(model)
    adapted = get_peft_model(loaded, LoraConfig(task_type="CAUSAL_LM", **RECIPE_LORA))
    return flops_per_token(adapted, LENGTH)


def race(folder: Path, options: argparse.Namespace, work: Path) -> None:
    """Let the sides take turns; print medians and ratios."""
    from pipeline.training.base_model import resolve_base_model

    models = options.models or work / "models"
    base = resolve_base_model(options.base_model, models)
    shard = chunked(folder, list(TRAIN), work / "train")
    held_out = chunked(folder, list(HELD_OUT), work / "held-out")
    rows = write_rows(shard, work / "rows.jsonl")
    plain = {"model": str(base.path), "rows": str(rows), "output": str(work / "plain")}
    ours = {
        "model": options.base_model, "models": str(models), "train": str(shard),
        "held_out": str(held_out), "output": str(work / "ours"), "steps": options.steps,
    }  # fmt: skip
    runs = {name: Runs([], []) for name in (*PLAIN, *STAGE)}
    rates = []
    for _ in range(options.repeats):
        rates.append(machine_rate())
        for name in runs:
            if name in PLAIN:
                sft = {"max_steps": options.steps, **PLAIN[name]}
                told = run_plain({**plain, "sft": sft, "lora": RECIPE_LORA}, work / "job.json")
            else:
                told = run_stage6({**ours, "settings": STAGE[name]}, work / "job.json")
            runs[name].speeds.append(told["tokens"] / told["seconds"])
            runs[name].peaks.append(told["memory"])
            say(f"{name}: {told['tokens']:,.0f} tokens in {told['seconds']:.1f} s")
    report(runs, statistics.median(rates), arithmetic(base.path))


def report(runs: dict[str, Runs], rate: float, flops: float) -> None:
    """Print the medians, then the ratios of the pairs."""
    say(f"This machine multiplies at {rate / 1e9:,.0f} GFLOP/s; a token takes {flops / 1e9:.2f}.")
    head = ["", "tokens/s", "share of the machine", "peak memory"]
    print_table(
        head,
        [
            [name, f"{side.speed:,.0f}", f"{side.speed * flops / rate:.0%}", gigabytes(side.peak)]
            for name, side in runs.items()
        ],
    )
    for one, other in PAIRS:
        speed = runs[other].speed / runs[one].speed
        memory = runs[other].peak / runs[one].peak
        say(f"{other} / {one}: {speed:.2f} times the speed, {memory:.2f} times the memory")


def gigabytes(n: float) -> str:
    """As people read it."""
    return f"{n / 1e9:.2f} GB"


def main() -> None:
    """Read the options and race; or, of a process of its own, run one job."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n")[0])
    parser.add_argument("folder", type=Path, nargs="?", default=Path())
    parser.add_argument("--steps", type=int, default=1)
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--base-model", default="smollm2-135m")
    parser.add_argument("--models", type=Path, help="where converted base models are kept")
    parser.add_argument("--job", type=Path, help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.job:
        told = stage6(json.loads(options.job.read_text("utf-8")))
        sys.stdout.write(json.dumps(told) + "\n")
        return
    with tempfile.TemporaryDirectory(prefix="bench-train-") as work:
        race(options.folder, options, Path(work))


if __name__ == "__main__":
    main()

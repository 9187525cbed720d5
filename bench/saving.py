"""What saving costs: seconds of a checkpoint, beside the training that it interrupts.

    python -m bench.saving [--repeats 5]

A model of SmolLM2-135M's sizes with random weights; one real step, so that there are an optimizer's
states and a pace to compare with; then checkpoints as stage 6 makes them, with hashes, the best
weights so far, everything forced to the disk, an older one deleted, and a copy on its way to a
folder (`--sync-to`) that is made in the background. The time is that in which training waits. By
default a checkpoint is made every 15 minutes, or less often if it takes more than 18 seconds; the
worst that can be asked for is one after every step.
"""

import argparse
import statistics
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from bench.table import print_table
from pipeline.console import set_quiet
from pipeline.scoring.bits import Score
from pipeline.training.best import Best
from pipeline.training.checkpointing import RunCheckpoints
from pipeline.training.evaluation import Evaluation
from pipeline.training.optimizer import make_optimizer, make_scheduler
from pipeline.training.remote_copies import RemoteCopies
from pipeline.training.run_state import Parts, Progress
from pipeline.training.save_policy import KEEP_LAST, SAVE_MINUTES, SavePolicy
from pipeline.training.settings import TrainSettings

METHODS = ("lora", "full")
SIZES: dict[str, Any] = {
    "vocab_size": 49_152, "hidden_size": 576, "intermediate_size": 1536, "num_hidden_layers": 30,
    "num_attention_heads": 9, "num_key_value_heads": 3, "tie_word_embeddings": True,
}  # fmt: skip


@dataclass(frozen=True)
class Costs:
    """Seconds of a step, and of each save; bytes of one."""

    step: float
    saves: list[float]
    size: int

    @property
    def save(self) -> float:
        """The median."""
        return statistics.median(self.saves)


def parts_of(method: str, settings: TrainSettings) -> Parts:
    """A model that is trained so, with its optimizer and schedule."""
    import torch
    from peft import LoraConfig, get_peft_model
    from transformers import LlamaConfig, LlamaForCausalLM

    torch.manual_seed(0)
    model: Any = LlamaForCausalLM(LlamaConfig(**SIZES))
    if method == "lora":
        lora = LoraConfig(r=settings.rank, target_modules="all-linear", task_type="CAUSAL_LM")
        model = get_peft_model(model, lora)
    optimizer = make_optimizer(model, settings)
    return Parts(model, optimizer, make_scheduler(optimizer, settings, 1000))


def one_step(parts: Parts, settings: TrainSettings) -> float:
    """Do a step on one sequence of the default length. Returns the seconds of a default step."""
    import torch

    start = time.perf_counter()
    ids = torch.randint(SIZES["vocab_size"], (1, settings.sequence_length))
    with torch.autocast("cpu", torch.bfloat16):
        loss = parts.model(input_ids=ids, labels=ids, use_cache=False).loss
    loss.backward()
    seconds = (time.perf_counter() - start) * settings.sequences_per_step
    start = time.perf_counter()
    parts.optimizer.step()
    parts.scheduler.step()
    parts.optimizer.zero_grad()
    return seconds + time.perf_counter() - start


@contextmanager
def saving(work: Path) -> Iterator[RunCheckpoints]:
    """Checkpoints in `work`, with copies."""
    saves = RunCheckpoints(work / "checkpoints", {}, SavePolicy(), 10**6)
    with RemoteCopies(str(work / "copies")) as copies:
        saves.remote = copies
        saves.find("never")
        yield saves


def measure(method: str, repeats: int, work: Path) -> Costs:
    """Do a step, and save again and again."""
    settings = TrainSettings(method=method)
    parts = parts_of(method, settings)
    seconds, size, times = one_step(parts, settings), 0, []
    with saving(work) as saves:
        best = Best(saves.best)
        best.offer(parts.model, Evaluation(0, Score(1.0, 1, 1), {}, [], 0.0))
        for step in range(1, repeats + KEEP_LAST + 1):  # the first ones delete nothing
            start = time.perf_counter()
            saves.save(parts, Progress(step), "steps", work, best)
            times.append(time.perf_counter() - start)
            size = saves.last.size if saves.last else 0
            saves.finish(600)
    return Costs(seconds, times[KEEP_LAST:], size)


def report(found: dict[str, Costs]) -> None:
    """Print the table."""
    head = ["method", "checkpoint", "a save", f"share, every {SAVE_MINUTES:.0f} min", "a step",
            "share, every step"]  # fmt: skip
    print_table(
        head,
        [
            [
                method, f"{costs.size / 1e6:,.0f} MB", f"{costs.save:.2f} s",
                f"{costs.save / (SAVE_MINUTES * 60 + costs.save):.3%}", f"{costs.step:.1f} s",
                f"{costs.save / (costs.step + costs.save):.1%}",
            ]
            for method, costs in found.items()
        ],
    )  # fmt: skip


def main() -> None:
    """Read the options and measure."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n")[0])
    parser.add_argument("--methods", nargs="+", choices=METHODS, default=METHODS)
    parser.add_argument("--repeats", type=int, default=5)
    parser.add_argument("--work", type=Path, help="a folder on the disk that is meant")
    options = parser.parse_args()
    set_quiet(True)
    found = {}
    for method in options.methods:
        with tempfile.TemporaryDirectory(prefix="bench-saving-", dir=options.work) as work:
            found[method] = measure(method, options.repeats, Path(work))
    report(found)


if __name__ == "__main__":
    main()

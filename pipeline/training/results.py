"""What a training run came to, and the reports that it leaves behind."""

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from pipeline.errors import PipelineError
from pipeline.scoring.bits import Score, save_windows
from pipeline.training.data import NOUNS
from pipeline.training.evaluation import Evaluation
from pipeline.training.libraries import versions
from pipeline.training.loop import Fitted
from pipeline.training.metrics import HeldOut, Point
from pipeline.training.monitor import Summary
from pipeline.training.picture import plot_loss
from pipeline.training.preparation import Prepared
from pipeline.training.sample_prompts import told_prompts

METRICS = "metrics.jsonl"
PICTURE = "loss.png"
RUN = "run.yaml"
EVALUATION = "evaluation.json"
WINDOWS = "windows.json"


@dataclass(frozen=True)
class TrainResult:
    """What a run came to: scores before and after, those on the way, and what it took."""

    run: Prepared
    before: Evaluation
    after: Evaluation
    fitted: Fitted
    summary: Summary
    points: list[Point]
    held_out: list[HeldOut]
    checkpoints: Path | None = None  # the folder of the run's own ones
    unsent: PipelineError | None = None  # its last one never arrived where copies are to go

    @property
    def documents(self) -> int:
        """Documents, or records, that were trained on."""
        return self.run.data.examples

    @property
    def sequences(self) -> int:
        """What the data were put into."""
        return len(self.run.data.sequences)

    @property
    def steps(self) -> int:
        """Optimizer steps that were done."""
        return self.run.length.steps

    @property
    def epochs(self) -> float:
        """Passes over the data."""
        return self.run.length.epochs

    @property
    def tokens(self) -> int:
        """Tokens seen, counted; a row seen twice counts twice."""
        return self.fitted.tokens

    @property
    def positions(self) -> int:
        """The same with padding."""
        return self.fitted.positions

    @property
    def base(self) -> Score:
        """What the base model pays for the held-out text."""
        return self.before.score

    @property
    def adapter(self) -> Score:
        """What the trained model pays for it."""
        return self.after.score

    @property
    def samples(self) -> dict[str, str]:
        """What each wrote after the first prompt: "base" and "adapter"."""
        return {"base": self.before.samples[0], "adapter": self.after.samples[0]}

    @property
    def ledger(self) -> dict[str, Any]:
        """Where every token went."""
        return self.run.data.ledger


def save_reports(result: TrainResult, folder: Path) -> None:
    """Write the picture, the scores, the windows they were measured on, and the run's record."""
    _save_picture(result, folder / PICTURE)
    save_windows(folder / WINDOWS, result.run.held_out)
    text = json.dumps(_evaluation(result), indent=2, ensure_ascii=False) + "\n"
    (folder / EVALUATION).write_text(text, "utf-8")
    _save_run(result, folder / RUN)


def _save_picture(result: TrainResult, path: Path) -> None:
    run = result.run
    name = run.base.name.rpartition("/")[2]
    noun = NOUNS[run.data.kind] + "s"
    title = f"{name} on {run.data.examples} {noun}, {result.tokens:,} tokens"
    plot_loss(result.points, result.held_out, title, path)


def _evaluation(result: TrainResult) -> dict[str, Any]:
    run, settings = result.run, result.run.settings
    found = {"base": result.before, "adapter": result.after}
    return {
        "kind": run.data.kind,
        "held_out": {
            "documents": list(dict.fromkeys(window.document for window in run.held_out)),
            "bytes": result.base.n_bytes,
            "tokens": result.base.tokens,
        },
        "bits_per_byte": {name: one.score.bits_per_byte for name, one in found.items()},
        "loss": {name: one.score.loss for name, one in found.items()},
        "perplexity": {name: one.score.perplexity for name, one in found.items()},
        "by_source": {
            name: {source: score.bits_per_byte for source, score in one.by_source.items()}
            for name, one in found.items()
        },
        "step": result.after.step,
        "windows": {
            "length": max(len(window.ids) for window in run.held_out),
            "count": len(run.held_out),
        },
        **told_prompts(run.asked, run.tokenizer, settings.chat_template),
        **({"chat": run.chat} if run.chat else {}),
        "samples": result.samples,
        "all_samples": {name: one.samples for name, one in found.items()},
        "base_model": run.base.as_dict(),
        "sequence_length": settings.sequence_length,
        "settings": settings.as_dict(),
    }


def _save_run(result: TrainResult, path: Path) -> None:
    import yaml

    prepared, summary = result.run, result.summary
    run = {
        "base_model": {**prepared.base.as_dict(), "path": str(prepared.base.path)},
        "settings": prepared.settings.as_dict(),
        "length": {"steps": result.steps, "epochs": round(result.epochs, 4)},
        "data": {
            **result.ledger, "packed": prepared.data.packed, "padding": prepared.padding[1],
            "new_tokens": [token.text for token in prepared.extended.new],
        },
        "trained": {
            "tokens": result.tokens,
            "real_share_of_positions": round(result.tokens / result.positions, 4),
            **summary.as_dict(),
        },
        "engine": {"name": prepared.engine.name, "why": prepared.engine.reason},
        "precision": {"name": prepared.precision.name, "why": prepared.precision.reason},
        "versions": versions(
            "torch", "transformers", "trl", "peft", "tokenizers", "bitsandbytes", "unsloth"
        ),
    }  # fmt: skip
    if prepared.mixture:
        run["mixture"] = prepared.mixture.as_dict(prepared.order)
    path.write_text(yaml.safe_dump(run, sort_keys=False, allow_unicode=True), "utf-8")

"""What a training run came to, and the files that it leaves behind."""

import json
import math
import shutil
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from pipeline.scoring.bits import Score, Window, save_windows
from pipeline.training.base_model import BaseModel
from pipeline.training.data import NOUNS
from pipeline.training.dataset import TrainingData
from pipeline.training.engine import Engine, Precision
from pipeline.training.libraries import versions
from pipeline.training.metrics import HeldOut, Point, plot_loss
from pipeline.training.settings import TrainSettings

ADAPTER = "adapter_model.safetensors"
ADAPTER_CONFIG = "adapter_config.json"
METRICS = "metrics.jsonl"
PICTURE = "loss.png"
RUN = "run.yaml"
EVALUATION = "evaluation.json"
WINDOWS = "windows.json"
TOKENIZER_FILES = (
    "tokenizer*",
    "special_tokens_map.json",
    "added_tokens.json",
    "vocab.*",
    "merges.txt",
    "chat_template*",
)


@dataclass(frozen=True)
class TrainResult:
    """What a run came to."""

    documents: int  # or records
    sequences: int
    steps: int
    epochs: float
    tokens: int  # seen, counted; a row seen twice counts twice
    positions: int  # the same with padding
    seconds: float  # of training alone
    base: Score
    adapter: Score
    samples: dict[str, str]  # "base" and "adapter"
    engine: Engine
    precision: Precision
    padding: str  # which token, and why
    chat: dict[str, Any] | None  # of the template, for a model of chats
    ledger: dict[str, Any]  # where every token went

    @property
    def tokens_per_second(self) -> float:
        """Over the whole of training."""
        return self.tokens / max(self.seconds, 1e-9)


def save_adapter(model: Any, base: BaseModel, folder: Path) -> None:
    """Write the adapter as PEFT does, and the base model's tokenizer beside it."""
    for peft_config in model.peft_config.values():
        peft_config.base_model_name_or_path = str(base.path)
    model.save_pretrained(folder, save_embedding_layers=False)
    (folder / "README.md").unlink(missing_ok=True)  # PEFT's form to be filled in
    (folder / ADAPTER).chmod(0o644)
    # PEFT writes a set, in an order that differs from run to run.
    config_path = folder / ADAPTER_CONFIG
    config = json.loads(config_path.read_text("utf-8"))
    config["target_modules"].sort()
    config_path.write_text(json.dumps(config, indent=2) + "\n", "utf-8")
    # The base's own files, not what the loaded tokenizer would save: nothing of it was changed.
    for pattern in TOKENIZER_FILES:
        for path in base.path.glob(pattern):
            shutil.copyfile(path, folder / path.name)


def save_reports(
    result: TrainResult,
    data: TrainingData,
    points: list[Point],
    held_out: Sequence[Window],
    settings: TrainSettings,
    base: BaseModel,
    folder: Path,
) -> None:
    """Write the picture, the scores, the windows they were measured on, and the run's record."""
    _save_picture(result, data, points, base, folder / PICTURE)
    save_windows(folder / WINDOWS, held_out)
    evaluation = _evaluation(result, data, held_out, settings, base)
    text = json.dumps(evaluation, indent=2, ensure_ascii=False) + "\n"
    (folder / EVALUATION).write_text(text, "utf-8")
    _save_run(result, data, settings, base, folder / RUN)


def _save_picture(
    result: TrainResult, data: TrainingData, points: list[Point], base: BaseModel, path: Path
) -> None:
    held_out = [
        HeldOut(0, result.base.loss, result.base.bits_per_byte),
        HeldOut(result.steps, result.adapter.loss, result.adapter.bits_per_byte),
    ]
    name = base.name.rpartition("/")[2]
    noun = NOUNS[data.kind] + "s"
    title = f"{name} on {result.documents} {noun}, {result.tokens:,} tokens"
    plot_loss(points, held_out, title, path)


def _evaluation(
    result: TrainResult,
    data: TrainingData,
    held_out: Sequence[Window],
    settings: TrainSettings,
    base: BaseModel,
) -> dict[str, Any]:
    scores = {"base": result.base, "adapter": result.adapter}
    return {
        "kind": data.kind,
        "held_out": {
            "documents": list(dict.fromkeys(window.document for window in held_out)),
            "bytes": result.base.n_bytes,
            "tokens": result.base.tokens,
        },
        "bits_per_byte": {name: score.bits_per_byte for name, score in scores.items()},
        "loss": {name: score.loss for name, score in scores.items()},
        "perplexity": {name: _perplexity(score.loss) for name, score in scores.items()},
        "windows": {
            "length": max(len(window.ids) for window in held_out),
            "count": len(held_out),
        },
        "prompt": settings.sample_prompt,
        **({"chat": result.chat} if result.chat else {}),
        "samples": result.samples,
        "base_model": base.as_dict(),
        "sequence_length": settings.sequence_length,
        "settings": settings.as_dict(),
    }


def _perplexity(loss: float) -> float | None:
    """Per token; None where it exceeds what a float can hold."""
    return math.exp(loss) if loss < 700 else None


def _save_run(
    result: TrainResult, data: TrainingData, settings: TrainSettings, base: BaseModel, path: Path
) -> None:
    import yaml

    run = {
        "base_model": {**base.as_dict(), "path": str(base.path)},
        "settings": settings.as_dict(),
        "length": {"steps": result.steps, "epochs": round(result.epochs, 4)},
        "data": {**result.ledger, "packed": data.packed, "padding": result.padding},
        "trained": {
            "tokens": result.tokens,
            "real_share_of_positions": round(result.tokens / result.positions, 4),
            "seconds": round(result.seconds, 1),
            "tokens_per_second": round(result.tokens_per_second, 1),
        },
        "engine": {"name": result.engine.name, "why": result.engine.reason},
        "precision": {"name": result.precision.name, "why": result.precision.reason},
        "versions": versions("torch", "transformers", "trl", "peft", "tokenizers", "unsloth"),
    }
    path.write_text(yaml.safe_dump(run, sort_keys=False, allow_unicode=True), "utf-8")

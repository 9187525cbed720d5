"""Both engines learn the same from the same data. Needs a GPU and unsloth."""

import importlib.util
import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import torch

from tests.tiny_models import smollm2

STEPS = 20
REASON = "needs a CUDA GPU and unsloth"
HAVE_BOTH = torch.cuda.is_available() and importlib.util.find_spec("unsloth") is not None

# A process for each engine: unsloth changes transformers for good when it is imported.
RUN = """
import json, sys
from pathlib import Path
engine, folder, base, settings = sys.argv[1:]
if engine == "unsloth":
    import unsloth
from pipeline.training.base_model import BaseModel
from pipeline.training.trainer import TrainSettings, train
from tests.tiny_models import documents
path = Path(base)
model = BaseModel(path, path.name, "made by a test", None, None)
settings = TrainSettings(engine=engine, **json.loads(settings))
train(settings, documents(12, 30), documents(13)[12:], model, Path(folder))
"""


@pytest.mark.gpu
@pytest.mark.slow
@pytest.mark.skipif(not HAVE_BOTH, reason=REASON)
@pytest.mark.parametrize("method", ["lora", "qlora"])
def test_both_engines_have_the_same_loss_curve(method: str, tmp_path: Path) -> None:
    base = smollm2(tmp_path / "base").path
    settings = {
        "method": method, "max_steps": STEPS, "sequence_length": 256, "batch_size": 2, "rank": 8,
        "micro_batch_size": 2, "packing": False, "eval_tokens": 500, "eval_every": 0,
        "sample_tokens": 4, "seed": 3,
    }  # fmt: skip
    losses = {name: _losses(name, tmp_path / name, base, settings) for name in ("unsloth", "trl")}
    ours, theirs = losses["trl"], losses["unsloth"]
    assert len(ours) == len(theirs) == STEPS
    # The new adapter changes nothing: the first loss is the base's, whatever the kernels.
    assert theirs[0] == pytest.approx(ours[0], rel=0.01)
    for mine, other in zip(ours, theirs, strict=True):
        assert other == pytest.approx(mine, rel=0.04)
    assert ours[-1] < 0.9 * ours[0]


def _losses(engine: str, folder: Path, base: Path, settings: dict[str, Any]) -> list[float]:
    arguments = [engine, str(folder), str(base), json.dumps(settings)]
    root = Path(__file__).resolve().parents[2]
    done = subprocess.run(
        [sys.executable, "-c", RUN, *arguments], capture_output=True, text=True, check=False,
        cwd=root, env={**os.environ, "PYTHONPATH": str(root)}, timeout=500,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr[-3000:]
    lines = (folder / "metrics.jsonl").read_text("utf-8").splitlines()
    return [record["loss"] for record in map(json.loads, lines) if "loss" in record]

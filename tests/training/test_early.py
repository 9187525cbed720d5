"""What needs neither data nor a base model is refused before either is looked at."""

import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from pipeline.errors import PipelineError, UsageError
from pipeline.training import early
from pipeline.training.early import check_early
from pipeline.training.engine import Machine
from pipeline.training.settings import TrainSettings

CPU = Machine(cuda=False, bf16=False, unsloth=False)
OLD_GPU = Machine(cuda=True, bf16=False, unsloth=False, device_name="T4", gpus=1)


@pytest.mark.parametrize(
    ("machine", "options", "message"),
    [
        (CPU, {"rope_scaling": "foo"}, "--rope-scaling 'foo' is unknown"),
        (CPU, {"batch_tokens": 100}, "--batch-tokens 100 is less than one sequence"),
        (CPU, {"batch_size": 3, "micro_batch_size": 2}, "--batch-size 3 is no multiple"),
        (CPU, {"engine": "unsloth"}, "--engine unsloth cannot be used: no GPU here"),
        (OLD_GPU, {"engine": "unsloth"}, "unsloth is not installed"),
        (CPU, {"precision": "fp16"}, "--precision fp16 needs a GPU"),
        (OLD_GPU, {"precision": "bf16"}, "the T4 has no bfloat16"),
        (CPU, {"split_model": True}, "this machine has no GPU"),
        (OLD_GPU, {"split_model": True}, "this machine has one GPU"),
        (CPU, {"from_scratch": "x.json", "method": "qlora"}, "--method qlora does not"),
    ],
)
def test_what_cannot_be_done_is_refused_by_its_name(
    monkeypatch: pytest.MonkeyPatch, machine: Machine, options: dict[str, Any], message: str
) -> None:
    monkeypatch.setattr(early.Machine, "detect", lambda: machine)
    with pytest.raises(UsageError, match=message):
        check_early(TrainSettings(**options), "auto")


def test_what_is_not_installed_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("pipeline.training.reporters._is_installed", lambda name: False)
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    with pytest.raises(PipelineError, match="--report-to wandb needs a package"):
        check_early(TrainSettings(report_to=("wandb",)), "auto")
    with pytest.raises(UsageError, match="--optimizer adamw-8bit needs the package bitsandbytes"):
        check_early(TrainSettings(optimizer="adamw-8bit"), "auto")


def test_a_run_goes_on_by_itself_or_anew_or_from_a_path_that_is_there(tmp_path: Path) -> None:
    for resume in ("auto", "never", str(tmp_path)):
        check_early(TrainSettings(), resume)
    for resume in ("nver", "", str(tmp_path / "step-4")):
        with pytest.raises(UsageError, match=r"--resume '.*' is not there"):
            check_early(TrainSettings(), resume)


def test_a_model_that_cannot_be_made_from_nothing(tmp_path: Path) -> None:
    path = tmp_path / "model.yaml"
    path.write_text(
        "model_type: llama\nhidden_size: 64\nintermediate_size: 64\nnum_hidden_layers: 1\n"
        "num_attention_heads: 2\nmax_position_embeddings: 32\n"
    )
    check_early(TrainSettings(from_scratch=str(path), sequence_length=32), "auto")
    stretched = TrainSettings(from_scratch=str(path), sequence_length=64, rope_scaling="auto")
    check_early(stretched, "auto")
    with pytest.raises(UsageError, match="--sequence-length 64 exceeds the 32 tokens"):
        check_early(TrainSettings(from_scratch=str(path), sequence_length=64), "auto")
    path.write_text("model_type: lama\n")
    with pytest.raises(UsageError, match=r"model\.yaml: model_type 'lama'"):
        check_early(TrainSettings(from_scratch=str(path)), "auto")


def test_the_defaults_import_nothing_heavy() -> None:
    code = (
        "import sys\n"
        "from pipeline.training.early import check_early\n"
        "from pipeline.training.settings import TrainSettings\n"
        "check_early(TrainSettings(report_to=('tensorboard',)), 'auto')\n"
        "print(sorted({'torch', 'transformers', 'numpy', 'bitsandbytes'} & set(sys.modules)))"
    )
    result = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=True
    )
    assert result.stdout.strip() == "[]"

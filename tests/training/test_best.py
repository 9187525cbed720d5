"""The best weights of a run: kept whole, put back bit for bit, and nothing else touched."""

import json
import random
import subprocess
import sys
import textwrap
from pathlib import Path
from typing import Any

import pytest
import torch
from peft import LoraConfig, get_peft_model
from transformers import AutoModelForCausalLM

from pipeline.errors import PipelineError
from pipeline.scoring.bits import Score
from pipeline.training.base_model import BaseModel
from pipeline.training.best import MARKER, PREFIX, WEIGHTS, Best, take_from
from pipeline.training.evaluation import Evaluation
from tests.chain import ROOT, environment
from tests.tiny_models import tiny_llama


@pytest.fixture(scope="module")
def base(tmp_path_factory: pytest.TempPathFactory) -> BaseModel:
    return tiny_llama(tmp_path_factory.mktemp("tiny") / "model")


def adapted(base: BaseModel, rank: int = 4) -> Any:
    model = AutoModelForCausalLM.from_pretrained(base.path)
    return get_peft_model(
        model, LoraConfig(task_type="CAUSAL_LM", r=rank, target_modules=["q_proj"])
    )


class Little(torch.nn.Module):
    """Weights that are trained and frozen, in several formats, tied, and with statistics."""

    def __init__(self) -> None:
        super().__init__()
        self.embedding = torch.nn.Embedding(5, 3)
        self.head = torch.nn.Linear(3, 5, bias=False)
        self.head.weight = self.embedding.weight
        self.norm = torch.nn.BatchNorm1d(3)
        self.small = torch.nn.Linear(3, 3, dtype=torch.bfloat16)
        self.frozen = torch.nn.Linear(3, 3).requires_grad_(False)


def evaluation(step: int, nats: float) -> Evaluation:
    return Evaluation(step, Score(nats, 10, 10), {}, [], 0.0)


def shake(model: Any, seed: int) -> dict[str, torch.Tensor]:
    """Change what is trained, and return a copy of everything."""
    torch.manual_seed(seed)
    with torch.no_grad():
        for parameter in model.parameters():
            if parameter.requires_grad:
                parameter.normal_()
        for name, buffer in model.named_buffers():
            if "running" in name:
                buffer.normal_()
    return {name: tensor.clone() for name, tensor in model.state_dict().items()}


def equal(model: Any, expected: dict[str, torch.Tensor]) -> bool:
    return all(torch.equal(tensor, expected[name]) for name, tensor in model.state_dict().items())


@pytest.mark.parametrize("make", [adapted, lambda base: Little()], ids=["adapter", "whole"])
def test_the_best_weights_come_back_bit_for_bit(make: Any, base: BaseModel, tmp_path: Path) -> None:
    model = make(base)
    best = Best(tmp_path / "best")
    kept = {}
    for step, nats in ((0, 9.0), (10, 4.0), (20, 7.0), (30, 4.0)):
        weights = shake(model, step)
        kept[step] = weights
        assert best.offer(model, evaluation(step, nats)) == (step in (0, 10))
    assert best.step == 10, "of two that are as good the earlier is kept"
    assert best.bits_per_byte == evaluation(10, 4.0).score.bits_per_byte
    best.restore(model)
    assert equal(model, kept[10])
    assert not equal(model, kept[30])


def test_only_what_is_trained_is_kept(base: BaseModel, tmp_path: Path) -> None:
    from safetensors.torch import load_file

    Best(tmp_path).offer(adapted(base), evaluation(0, 1.0))
    (path,) = tmp_path.rglob(WEIGHTS)
    assert all(".lora_" in name for name in load_file(path))
    Best(tmp_path / "little").offer(Little(), evaluation(0, 1.0))
    (path,) = (tmp_path / "little").rglob(WEIGHTS)
    names = set(load_file(path))
    assert "embedding.weight" in names
    assert not names & {"head.weight", "frozen.weight"}, "tied weights once, frozen ones never"
    assert "norm.running_mean" in names


def test_another_process_goes_on_from_what_was_kept(tmp_path: Path) -> None:
    model = Little()
    expected = shake(model, 1)
    Best(tmp_path).offer(model, evaluation(5, 4.0))
    shake(model, 2)
    best = Best(tmp_path)
    assert (best.step, best.bits_per_byte) == (5, evaluation(5, 4.0).score.bits_per_byte)
    assert not best.offer(model, evaluation(6, 5.0))
    best.restore(model)
    assert equal(model, expected)


def test_one_set_of_weights_is_on_the_disk_and_nothing_unfinished(tmp_path: Path) -> None:
    best = Best(tmp_path)
    (tmp_path / ".tmp-left-by-a-killed-process").mkdir()
    for step in range(3):
        best.offer(Little(), evaluation(step, 9.0 - step))
    (place,) = tmp_path.iterdir()
    assert {path.name for path in place.iterdir()} == {WEIGHTS, MARKER}
    assert json.loads((place / MARKER).read_text())["step"] == 2


def test_of_two_that_a_killed_process_left_the_better_is_taken(tmp_path: Path) -> None:
    model = Little()
    worse, better = tmp_path / "worse", tmp_path / "better"
    Best(worse).offer(model, evaluation(1, 5.0))
    expected = shake(model, 1)
    Best(better).offer(model, evaluation(2, 4.0))
    (place,) = worse.iterdir()
    place.rename(better / place.name)
    best = Best(better)
    assert best.step == 2
    assert len(list(better.iterdir())) == 1
    shake(model, 2)
    best.restore(model)
    assert equal(model, expected)


def test_without_any_there_is_nothing_to_go_back_to(tmp_path: Path) -> None:
    best = Best(tmp_path / "best")
    assert (best.step, best.bits_per_byte) == (None, None)
    with pytest.raises(PipelineError, match="no weights to go back to"):
        best.restore(Little())


def test_weights_of_another_model_are_refused_and_change_nothing(
    base: BaseModel, tmp_path: Path
) -> None:
    best = Best(tmp_path)
    best.offer(adapted(base, rank=4), evaluation(0, 1.0))
    other = adapted(base, rank=8)
    before = shake(other, 3)
    with pytest.raises(PipelineError, match="not of the model that is being trained"):
        best.restore(other)
    assert equal(other, before)


def flip(path: Path) -> None:
    data = bytearray(path.read_bytes())
    data[len(data) // 2] ^= 1
    path.write_bytes(data)


@pytest.mark.parametrize(
    "harm",
    [flip, Path.unlink, lambda path: path.write_bytes(path.read_bytes()[:-9]),
     lambda path: path.write_bytes(b"\xff" * 50), lambda path: path.write_bytes(b"")],
    ids=["a bit", "gone", "cut short", "rubbish", "empty"],
)  # fmt: skip
def test_damaged_weights_are_an_error_and_change_nothing(harm: Any, tmp_path: Path) -> None:
    model = Little()
    best = Best(tmp_path)
    best.offer(model, evaluation(0, 1.0))
    (path,) = tmp_path.rglob(WEIGHTS)
    harm(path)
    before = shake(model, 3)
    with pytest.raises(PipelineError, match="best weights of the run are damaged"):
        best.restore(model)
    assert equal(model, before)


@pytest.mark.parametrize(
    "marker",
    ["", "[]", "{", "null", "[" * 100_000, '{"step": 1}', '{"step": true, "bits_per_byte": 1.0, '
     '"sha256": "a"}', '{"step": 1, "bits_per_byte": NaN, "sha256": "a"}'],
)  # fmt: skip
def test_a_marker_that_makes_no_sense_is_an_error(marker: str, tmp_path: Path) -> None:
    Best(tmp_path).offer(Little(), evaluation(0, 1.0))
    (path,) = tmp_path.rglob(MARKER)
    path.write_text(marker)
    with pytest.raises(PipelineError, match="best weights of the run are damaged"):
        Best(tmp_path)


def test_killed_at_any_moment_the_best_so_far_is_there(tmp_path: Path) -> None:
    script = """
        import sys
        from pathlib import Path
        from torch.nn import Linear
        from pipeline.scoring.bits import Score
        from pipeline.training.best import Best
        from pipeline.training.evaluation import Evaluation
        best, model = Best(Path(sys.argv[1])), Linear(3, 3)
        for step in range(100_000):
            best.offer(model, Evaluation(step, Score(1e9 - step, 10, 10), {}, [], 0.0))
            if step == 3:
                print("begun", flush=True)
    """
    child = subprocess.Popen(
        [sys.executable, "-c", textwrap.dedent(script), str(tmp_path)], cwd=ROOT,
        env=environment(), stdout=subprocess.PIPE,
    )  # fmt: skip
    assert child.stdout
    child.stdout.readline()
    with pytest.raises(subprocess.TimeoutExpired):
        child.wait(0.05 + random.Random(1).random() / 10)
    child.kill()
    child.communicate()
    best = Best(tmp_path)
    assert best.step is not None
    assert best.step > 0
    best.restore(torch.nn.Linear(3, 3))


@pytest.mark.parametrize(
    "marker",
    [
        {"step": 1, "bits_per_byte": 1.0, "sha256": "/../../x"},
        {"step": "1", "bits_per_byte": 1.0, "sha256": "0" * 64},
        {"step": -1, "bits_per_byte": 1.0, "sha256": "0" * 64},
        {"step": 1},
    ],
)
def test_what_a_checkpoint_from_elsewhere_says_of_its_best_weights_is_not_trusted(
    tmp_path: Path, marker: dict[str, Any]
) -> None:
    checkpoint, run = tmp_path / "step-00000001", tmp_path / "run"
    checkpoint.mkdir()
    (checkpoint / f"{PREFIX}{WEIGHTS}").write_bytes(b"x")
    (checkpoint / f"{PREFIX}{MARKER}").write_text(json.dumps(marker))
    with pytest.raises(PipelineError, match="not what was saved") as error:
        take_from(checkpoint, run / "best")
    assert "--resume never" in str(error.value.hint)
    assert not run.exists()
    assert sorted(path.name for path in tmp_path.rglob(WEIGHTS)) == []

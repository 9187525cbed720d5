"""A run that was stopped and gone on with is the straight run, to the last bit."""

import dataclasses
import json
import os
import signal
import subprocess
import sys
import time
from collections import Counter
from pathlib import Path
from typing import Any

import pytest

from pipeline.errors import PipelineError, Stopped, UsageError
from pipeline.scoring import bits
from pipeline.training import checkpoints, evaluation
from pipeline.training.base_model import BaseModel
from pipeline.training.batches import Sequences
from pipeline.training.metrics import read_held_out, read_metrics
from pipeline.training.requests import SAVE, STOP
from pipeline.training.run_folders import GIVEN_UP
from pipeline.training.trainer import TrainResult, TrainSettings, train
from tests.tiny_models import documents, tiny_llama

SETTINGS = TrainSettings(
    epochs=2, learning_rate=1e-2, rank=4, dropout=0.1, sequence_length=64, batch_size=4,
    micro_batch_size=2, eval_tokens=600, sample_tokens=2, eval_every=5, save_minutes=0,
)  # fmt: skip
CORPUS, HELD_OUT = documents(4), documents(6)[4:]


@pytest.fixture(scope="module")
def base(tmp_path_factory: pytest.TempPathFactory) -> BaseModel:
    return tiny_llama(tmp_path_factory.mktemp("tiny") / "model")


def run(base: BaseModel, place: Path, settings: TrainSettings, **options: Any) -> TrainResult:
    """A session of a run whose checkpoints are in `place`, into a folder of its own."""
    out = place / f"session-{len(list(place.glob('session-*'))) if place.is_dir() else 0}"
    return train(
        settings, CORPUS, HELD_OUT, base, out, checkpoints_dir=place / "checkpoints", **options
    )


def outcome(place: Path) -> dict[str, Any]:
    """What must be the same, of the last session: weights, losses, scores."""
    folder = sorted(place.glob("session-*"), key=lambda path: path.stat().st_mtime)[-1]
    points = read_metrics(folder / "metrics.jsonl")
    return {
        "weights": (folder / "adapter_model.safetensors").read_bytes(),
        "losses": [(p.step, p.loss, p.learning_rate, p.tokens, p.grad_norm) for p in points],
        "held out": read_held_out(folder / "metrics.jsonl"),
        "evaluation": json.loads((folder / "evaluation.json").read_text()),
    }


@pytest.fixture(scope="module")
def straight(base: BaseModel, tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    place = tmp_path_factory.mktemp("straight")
    result = run(base, place, SETTINGS)
    assert result.steps > 12
    return outcome(place)


@pytest.mark.parametrize("steps_per_round", [1, 5, 7])
def test_rounds_make_one_long_run(
    base: BaseModel, tmp_path: Path, straight: dict[str, Any], steps_per_round: int
) -> None:
    settings = dataclasses.replace(SETTINGS, steps_per_round=steps_per_round)
    for _ in range(3 if steps_per_round == 1 else 1):
        with pytest.raises(Stopped, match=r"Stopped after step \d+ of \d+ \(round\), and saved"):
            run(base, tmp_path, settings)
    run(base, tmp_path, SETTINGS)
    assert outcome(tmp_path) == straight


def test_what_is_asked_of_by_a_file_is_saved_and_stopped(
    base: BaseModel, tmp_path: Path, straight: dict[str, Any]
) -> None:
    (tmp_path / STOP).touch()
    with pytest.raises(Stopped, match="after step 1 of"):
        run(base, tmp_path, SETTINGS)
    assert not (tmp_path / STOP).exists()
    run(base, tmp_path, SETTINGS)
    assert outcome(tmp_path) == straight


def test_a_session_that_goes_on_reads_no_sequence_of_an_earlier_one(
    base: BaseModel, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    read: list[int] = []
    sequences = Sequences.__call__

    def noted(self: Sequences, batch: dict[str, list[int]]) -> dict[str, Any]:
        read.extend(batch["index"])
        return sequences(self, batch)

    monkeypatch.setattr(Sequences, "__call__", noted)
    settings = dataclasses.replace(SETTINGS, eval_every=0)
    with pytest.raises(Stopped, match="after step 8 of 23"):
        run(base, tmp_path, dataclasses.replace(settings, steps_per_round=8))
    # TRL looks at the first of those it is given; and a loader may read ahead of what is trained.
    first = read[1:][: 8 * SETTINGS.sequences_per_step]
    read.clear()
    result = run(base, tmp_path, settings)
    rest = read[1:]
    assert len(rest) == 2 * result.sequences - len(first), "the rest of two epochs, and no more"
    assert set(Counter(first + rest).values()) == {2}


def test_a_path_to_an_older_checkpoint_goes_on_from_there_and_what_is_newer_is_kept(
    base: BaseModel, tmp_path: Path, straight: dict[str, Any], capfd: pytest.CaptureFixture[str]
) -> None:
    tmp_path.joinpath(SAVE).touch()
    settings = dataclasses.replace(SETTINGS, steps_per_round=6, save_steps=2, keep_last=4)
    with pytest.raises(Stopped, match="after step 6 of"):
        run(base, tmp_path, settings)
    assert f"Saved step 1 of 23 (the file {SAVE})" in capfd.readouterr().err, "and training went on"
    assert not tmp_path.joinpath(SAVE).exists()
    older = newest_of(tmp_path, 2)
    with pytest.raises(Stopped, match="after step 3 of"):
        run(base, tmp_path, dataclasses.replace(settings, steps_per_round=1), resume=str(older))
    said = capfd.readouterr().err
    assert "set-aside-step-00000006/step-00000006" in said and "broken" not in said
    run(base, tmp_path, SETTINGS)
    assert "Going on from step 3 of 23" in capfd.readouterr().err, "and not from the 6th"
    assert outcome(tmp_path) == straight
    checkpoints.verify(older.parent / "set-aside-step-00000006" / "step-00000006")


def test_a_broken_checkpoint_costs_only_the_steps_since_the_one_before(
    base: BaseModel, tmp_path: Path, straight: dict[str, Any], capfd: pytest.CaptureFixture[str]
) -> None:
    settings = dataclasses.replace(SETTINGS, steps_per_round=9, save_steps=4)
    with pytest.raises(Stopped):
        run(base, tmp_path, settings)
    (folder,) = (tmp_path / "checkpoints").iterdir()
    newest, older = checkpoints.listed(folder)[:2]
    (newest / "optimizer.safetensors").unlink()
    run(base, tmp_path, SETTINGS)
    assert "optimizer.safetensors is missing" in capfd.readouterr().err
    assert outcome(tmp_path) == straight
    assert older.name == "step-00000008"


def test_another_run_is_refused_with_what_differs(base: BaseModel, tmp_path: Path) -> None:
    with pytest.raises(Stopped):
        run(base, tmp_path, dataclasses.replace(SETTINGS, steps_per_round=2))
    other = dataclasses.replace(SETTINGS, learning_rate=2e-2)
    with pytest.raises(UsageError, match=r"not finished.*learning_rate 0\.01, now 0\.02") as error:
        run(base, tmp_path, other)
    assert "--resume never" in (error.value.hint or "")
    first = next((tmp_path / "checkpoints").iterdir())
    before = sorted(path.name for path in first.glob("step-*"))
    run(base, tmp_path, other, resume="never")
    assert sorted(path.name for path in first.glob("step-*")) == before, (
        "another run's are not touched"
    )
    (given,) = checkpoints.listed(first)
    with pytest.raises(UsageError, match=r"is of a run with other settings: learning_rate"):
        run(base, tmp_path, other, resume=str(given))
    with pytest.raises(PipelineError, match=r"--resume .*nowhere: "):
        run(base, tmp_path, SETTINGS, resume=str(tmp_path / "nowhere"))
    assert (first / GIVEN_UP).exists()
    with pytest.raises(Stopped, match="after step 4 of"):
        run(base, tmp_path, dataclasses.replace(SETTINGS, steps_per_round=2))
    assert not (first / GIVEN_UP).exists(), "somebody goes on with it"


def test_a_run_may_be_made_longer_where_that_is_allowed(base: BaseModel, tmp_path: Path) -> None:
    short = dataclasses.replace(SETTINGS, epochs=None, max_steps=4)
    run(base, tmp_path, short)
    longer = dataclasses.replace(short, max_steps=8)
    result = run(base, tmp_path, longer, allow_changed=True)
    assert [point.step for point in result.points] == list(range(1, 9))
    with pytest.raises(UsageError, match="is of step 4, and the run is to have 3"):
        run(
            base, tmp_path / "other", dataclasses.replace(short, max_steps=3),
            resume=str(newest_of(tmp_path, 4)), allow_changed=True,
        )  # fmt: skip


def test_a_run_is_not_made_shorter_than_what_is_done_of_it(
    base: BaseModel, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    longer = dataclasses.replace(SETTINGS, epochs=None, max_steps=4, eval_every=0)
    shorter = dataclasses.replace(longer, max_steps=2)
    with pytest.raises(Stopped):
        run(base, tmp_path, dataclasses.replace(longer, steps_per_round=3))
    with pytest.raises(UsageError, match="max_steps 4, now 2") as error:
        run(base, tmp_path, shorter)
    assert "--allow-changed" in str(error.value.hint)
    with pytest.raises(UsageError, match="max_steps 4, now 2") as error:
        run(base, tmp_path, shorter, allow_changed=True)
    assert error.value.hint == "Make it longer, or start anew with --resume never."
    run(base, tmp_path, longer)
    run(base, tmp_path, shorter, allow_changed=True)
    assert "is of a later step, max_steps 4, now 2." in capfd.readouterr().err


def newest_of(place: Path, step: int) -> Path:
    return next((place / "checkpoints").glob(f"*/step-{step:08}"))


def test_a_run_that_was_killed_after_its_last_step_is_only_finished(
    base: BaseModel, tmp_path: Path, straight: dict[str, Any]
) -> None:
    run(base, tmp_path, SETTINGS)
    (tmp_path / "session-0" / "adapter_model.safetensors").unlink()
    result = run(base, tmp_path, SETTINGS)
    assert outcome(tmp_path) == straight
    assert result.tokens == result.points[-1].tokens


def test_never_starts_anew(base: BaseModel, tmp_path: Path, straight: dict[str, Any]) -> None:
    with pytest.raises(Stopped):
        run(base, tmp_path, dataclasses.replace(SETTINGS, steps_per_round=3))
    run(base, tmp_path, SETTINGS, resume="never")
    assert outcome(tmp_path) == straight
    assert list((tmp_path / "checkpoints").glob("set-aside-*"))


def test_nan_ends_the_run_and_names_the_last_good_checkpoint(
    base: BaseModel, tmp_path: Path
) -> None:
    settings = dataclasses.replace(
        SETTINGS, learning_rate=1e30, scheduler="linear", warmup=0, save_steps=1, eval_every=0
    )
    with pytest.raises(PipelineError, match=r"Training broke .*last good weights: .*step-0"):
        run(base, tmp_path, settings)


def signalled_in_evaluation(number: int, monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """Send SIGTERM after the first window of the n-th evaluation. Returns the windows scored in
    each, which grows."""
    scored: list[int] = []

    def nats_of(*args: Any, on_window: Any, **rest: Any) -> Any:
        scored.append(0)

        def counted(tokens: int) -> None:
            on_window(tokens)
            scored[-1] += 1
            if len(scored) == number and scored[-1] == 1:
                os.kill(os.getpid(), signal.SIGTERM)

        return bits.nats_of(*args, on_window=counted, **rest)

    monkeypatch.setattr(evaluation, "nats_of", nats_of)
    return scored


# The first evaluation is of the base; then there is one after every fifth step, and at the end.
@pytest.mark.parametrize(("number", "step"), [(2, 5), (6, 23)])
def test_a_signal_in_an_evaluation_does_not_wait_for_its_end_which_is_made_up_for(
    base: BaseModel,
    tmp_path: Path,
    straight: dict[str, Any],
    monkeypatch: pytest.MonkeyPatch,
    number: int,
    step: int,
) -> None:
    scored = signalled_in_evaluation(number, monkeypatch)
    with pytest.raises(Stopped, match=rf"after step {step} of 23 \(SIGTERM\), and saved"):
        run(base, tmp_path, SETTINGS)
    assert scored == [2] * (number - 1) + [1]
    # The one that is made up for is broken off as well: nothing was lost by that.
    scored = signalled_in_evaluation(1, monkeypatch) if step < 23 else []
    if scored:
        with pytest.raises(Stopped, match=rf"after step {step} of 23"):
            run(base, tmp_path, SETTINGS)
    monkeypatch.undo()
    run(base, tmp_path, SETTINGS)
    assert outcome(tmp_path) == straight


KILLED = """
import sys
from pathlib import Path
from tests.training import test_resume as t
t.run(t.BaseModel(Path(sys.argv[1]), "model", "made by a test", None, None), Path(sys.argv[2]),
      t.dataclasses.replace(t.SETTINGS, save_steps=2))
"""


@pytest.mark.slow
@pytest.mark.parametrize(
    ("number", "code"), [(signal.SIGTERM, 1), (signal.SIGINT, 1), (signal.SIGKILL, -9)]
)
def test_a_signal_ends_a_real_process_and_nothing_that_was_saved_is_lost(
    base: BaseModel, tmp_path: Path, straight: dict[str, Any], number: int, code: int
) -> None:
    command = [sys.executable, "-c", KILLED, str(base.path), str(tmp_path)]
    process = subprocess.Popen(
        command, env={**os.environ, "OMP_NUM_THREADS": "1"}, stderr=subprocess.PIPE, text=True
    )
    deadline = time.monotonic() + 120
    while not list(tmp_path.glob("checkpoints/*/step-*")) and time.monotonic() < deadline:
        time.sleep(0.02)
    process.send_signal(number)
    _, said = process.communicate(timeout=120)
    assert process.returncode == code, said
    if number != signal.SIGKILL:
        assert "Stopped: Stopped after step" in said
    again = subprocess.run(command, capture_output=True, text=True, check=False, timeout=300)
    assert again.returncode == 0, again.stderr
    assert "Going on from step" in again.stderr
    assert outcome(tmp_path)["weights"] == straight["weights"]
    assert outcome(tmp_path)["losses"] == straight["losses"]

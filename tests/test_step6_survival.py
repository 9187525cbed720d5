"""Stage 6 where something fails at its end, and where it is started again and again."""

import json
from collections.abc import Iterator
from functools import partial
from pathlib import Path
from typing import Any

import pytest

from pipeline.errors import PipelineError, Stopped
from pipeline.status import unfinished_run
from pipeline.step6_train import train
from pipeline.storage.folders import RemoteFolder
from pipeline.storage.remote import Trouble
from pipeline.training import supervisor
from pipeline.training.metrics import read_metrics
from pipeline.training.remote_copies import RemoteCopies
from pipeline.training.requests import SUPERVISED
from pipeline.training.supervisor import Ended
from pipeline.workspace import Workspace
from tests.chaos_session import OPTIONS, Inputs, prepare
from tests.tiny_models import on_one_thread, without_pictures

SHORT: dict[str, Any] = {**OPTIONS, "max_steps": 4, "eval_every": 0}


@pytest.fixture(scope="module")
def inputs(tmp_path_factory: pytest.TempPathFactory) -> Inputs:
    return prepare(tmp_path_factory.mktemp("inputs"))


@pytest.fixture(autouse=True)
def quick(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    without_pictures(monkeypatch)
    copies = partial(RemoteCopies, sleep=lambda seconds: None)
    monkeypatch.setattr("pipeline.training.trainer.RemoteCopies", copies)
    monkeypatch.setattr("pipeline.training.remote_last.RemoteCopies", copies)
    with on_one_thread():
        yield


def test_a_remote_that_is_down_at_the_end_takes_nothing_away_and_is_tried_again(
    inputs: Inputs, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: Any
) -> None:
    data, url = tmp_path / "data", str(tmp_path / "copies")
    put = RemoteFolder.put

    def down_at_the_end(self: RemoteFolder, files: Any) -> None:
        if any("step-00000004" in name for name in files):
            raise Trouble("the remote is gone.", passes=True)
        put(self, files)

    def session() -> None:
        train(
            data, base_model=str(inputs.base), dataset=str(inputs.dataset), sync_to=url,
            **SHORT, save_steps=2,
        )  # fmt: skip

    monkeypatch.setattr(RemoteFolder, "put", down_at_the_end)
    with pytest.raises(PipelineError, match=r"last checkpoint \(step 4\) never arrived") as error:
        session()
    assert error.value.exit_code == 1
    assert f"pipeline sync up {url}" in (error.value.hint or "")
    assert "without --sync-to" in (error.value.hint or "")
    assert "train: 4 steps" in capfd.readouterr().err, "the summary comes first"
    weights = (data / "6_adapter" / "adapter_model.safetensors").read_bytes()
    record = Workspace(data).record("train")
    assert record is not None and record.status == "complete" and record.counts["steps"] == 4
    assert f"the copy of step 4 never arrived at {url}" in str(unfinished_run(Workspace(data)))

    def not_again(*args: Any, **rest: Any) -> None:
        raise AssertionError("it was trained again")

    monkeypatch.setattr("pipeline.step6_train.train_model", not_again)
    with pytest.raises(PipelineError, match=r"last checkpoint \(step 4\) never arrived"):
        session()
    monkeypatch.setattr(RemoteFolder, "put", put)
    session()
    assert len(list(Path(url).glob("step-00000004-*/COMPLETE.json"))) == 1
    assert f"last copy: step 4 at {url}" in str(unfinished_run(Workspace(data)))
    assert "never arrived" not in str(unfinished_run(Workspace(data)))
    assert (data / "6_adapter" / "adapter_model.safetensors").read_bytes() == weights
    before = sorted(Path(url).rglob("*"))
    session()
    assert sorted(Path(url).rglob("*")) == before, "it is not even asked any more"


def test_until_done_trains_a_run_of_rounds_to_its_end(
    inputs: Inputs, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    data = tmp_path / "data"
    command: dict[str, Any] = {
        "data_dir": data, "base_model": str(inputs.base), "dataset": str(inputs.dataset),
        "steps_per_round": 2, **SHORT,
    }  # fmt: skip
    codes: list[int] = []

    def child(words: Any, stop_file: Any, reached: Any) -> Ended:
        """The same command in this process, as it would run in one of its own."""
        with monkeypatch.context() as patch:
            patch.setenv(SUPERVISED, "1")
            try:
                train(**command, until_done=True)
                codes.append(0)
            except Stopped as stopped:
                codes.append(stopped.exit_code)
        return Ended(codes[-1], "", reached(), False)

    monkeypatch.setattr(supervisor, "run_child", child)
    train(**command, until_done=True)
    assert codes == [33, 0]
    folder = data / "6_adapter"
    assert [point.step for point in read_metrics(folder / "metrics.jsonl")] == [1, 2, 3, 4]
    saved = [
        json.loads(path.read_text())["about"]["reason"]
        for path in sorted(folder.glob("checkpoints/*/step-*/COMPLETE.json"))
    ]
    assert saved == ["round", "end"]

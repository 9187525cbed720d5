"""Figures go to TensorBoard, wandb or trackio for those who ask, and nobody is ever asked."""

import builtins
import importlib
import importlib.util
import json
import os
import sys
from pathlib import Path
from types import ModuleType, SimpleNamespace
from typing import Any

import pytest

from pipeline.errors import PipelineError, UsageError
from pipeline.training.reporters import make_reporters

SETTINGS = {
    "rank": 16,
    "learning_rate": 1e-3,
    "tokens": None,
    "sample_prompts": ["“The door”"],
    "dataset": "https://me:secret-word@example.org/books",
}


@pytest.fixture(autouse=True)
def nobody_is_asked(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """No accounts in the environment, and whoever asks a question fails the test."""

    def asked(*_: Any) -> str:
        raise AssertionError("a question was asked")

    monkeypatch.setattr(builtins, "input", asked)
    for name in [n for n in os.environ if n.startswith(("WANDB_", "TRACKIO_"))]:
        monkeypatch.delenv(name)
    monkeypatch.setenv("WANDB_SILENT", "")  # so that what is set during a test goes again
    monkeypatch.delenv("WANDB_SILENT")
    monkeypatch.setenv("NETRC", str(tmp_path / "netrc"))


class Run:
    """A run as wandb and trackio have it."""

    def __init__(self) -> None:
        self.logged: list[tuple[dict[str, float], int]] = []
        self.finished = False

    def log(self, values: dict[str, float], step: int) -> None:
        self.logged.append((values, step))

    def finish(self) -> None:
        self.finished = True


class Service(ModuleType):
    """The module `wandb` or `trackio`, as far as we know it."""

    def __init__(self, name: str) -> None:
        super().__init__(name)
        self.run = Run()
        self.told: dict[str, Any] = {}
        self.Settings = SimpleNamespace

    def init(self, **told: Any) -> Run:
        sys.stdout.write("* a greeting\n")
        self.told = told
        folder = Path(told["dir"]) / "wandb" if "dir" in told else None
        if folder:
            (folder / "offline-run-1").mkdir(parents=True)
            (folder / "latest-run").symlink_to("offline-run-1")
        return self.run

    def log(self, values: dict[str, float], step: int) -> None:
        self.run.log(values, step)

    def finish(self) -> None:
        self.run.finish()


@pytest.fixture
def service(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> Service:
    module = Service(request.param)
    monkeypatch.setitem(sys.modules, request.param, module)
    return module


def report(name: str, folder: Path) -> None:
    (reporter,) = make_reporters([name], run_name="a run")
    reporter.start(SETTINGS, folder)
    reporter.log(1, {"train/loss": 3.5, "train/learning_rate": 1e-3})
    reporter.log(2, {"train/loss": 3.0})
    reporter.finish()


def test_no_name_no_reporter_and_a_name_twice_is_one() -> None:
    assert make_reporters([]) == []
    assert [r.name for r in make_reporters(["tensorboard", "tensorboard"])] == ["tensorboard"]


def test_an_unknown_name_is_wrong_usage() -> None:
    with pytest.raises(UsageError, match=r"--report-to 'mlflow' is unknown.*wandb"):
        make_reporters(["mlflow"])


@pytest.mark.parametrize("name", ["tensorboard", "wandb", "trackio"])
def test_what_is_not_installed_is_named_with_the_way_to_install_it(
    name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    find = importlib.util.find_spec
    monkeypatch.setattr(
        importlib.util, "find_spec", lambda n, *a: None if n == name else find(n, *a)
    )
    monkeypatch.delitem(sys.modules, name, raising=False)
    with pytest.raises(PipelineError, match=f"`pip install {name}`"):
        make_reporters([name])


def test_tensorboard_gets_every_figure(tmp_path: Path) -> None:
    reader = "tensorboard.backend.event_processing.event_accumulator"
    pytest.importorskip("tensorboard")
    EventAccumulator = importlib.import_module(reader).EventAccumulator

    report("tensorboard", tmp_path)
    events = EventAccumulator(str(tmp_path / "tensorboard"))
    events.Reload()
    assert [(e.step, e.value) for e in events.Scalars("train/loss")] == [(1, 3.5), (2, 3.0)]
    assert events.Scalars("train/learning_rate")[0].value == pytest.approx(1e-3)
    (text,) = events.Tensors("settings/text_summary")
    shown = text.tensor_proto.string_val[0].decode()
    assert json.loads(shown.removeprefix("```\n").removesuffix("\n```"))["rank"] == 16
    assert "secret-word" not in shown


@pytest.mark.parametrize("service", ["wandb", "trackio"], indirect=True)
def test_services_get_every_figure_and_no_secret(
    service: Service, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    report(service.__name__, tmp_path)
    assert service.run.logged == [
        ({"train/loss": 3.5, "train/learning_rate": 1e-3}, 1),
        ({"train/loss": 3.0}, 2),
    ]
    assert service.run.finished
    assert service.told["project"] == "bookshelf-llm"
    assert service.told["name"] == "a run"
    config = service.told["config"]
    assert (config["rank"], config["learning_rate"], config["tokens"]) == (16, 1e-3, None)
    assert "secret-word" not in str(config)
    assert capsys.readouterr().out == "", "stdout is for results"


@pytest.mark.parametrize("service", ["trackio"], indirect=True)
@pytest.mark.parametrize(("folder", "run_name"), [("gothic", "gothic"), (".tmp-x1", None)])
def test_a_run_is_called_like_its_folder_unless_that_is_temporary(
    service: Service, folder: str, run_name: str | None, tmp_path: Path
) -> None:
    (reporter,) = make_reporters(["trackio"], tmp_path / folder)
    reporter.start(SETTINGS, tmp_path / folder)
    assert service.told["name"] == run_name


@pytest.mark.parametrize("service", ["wandb"], indirect=True)
@pytest.mark.parametrize(
    ("variables", "mode"),
    [
        ({}, "offline"),
        ({"WANDB_API_KEY": "0" * 40}, "online"),
        ({"WANDB_API_KEY": "0" * 40, "WANDB_MODE": "offline"}, "offline"),
        ({"WANDB_MODE": "disabled"}, "disabled"),
    ],
)
def test_wandb_works_offline_without_a_key(
    service: Service,
    variables: dict[str, str],
    mode: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    for name, value in variables.items():
        monkeypatch.setenv(name, value)
    report("wandb", tmp_path)
    assert service.told["mode"] == mode
    assert service.told["settings"].silent
    assert os.environ["WANDB_SILENT"] == "true"


@pytest.mark.parametrize("service", ["wandb"], indirect=True)
@pytest.mark.parametrize(
    ("host", "mode"),
    [("api.wandb.ai", "online"), ("example.org", "offline"), ("\udc80", "offline")],
)
def test_wandb_finds_the_key_of_its_own_login(
    service: Service, host: str, mode: str, tmp_path: Path
) -> None:
    text = f"machine {host}\n  login user\n  password 0123456789\n"
    path = tmp_path / "netrc"
    path.write_text(text, errors="surrogateescape")
    path.chmod(0o600)
    report("wandb", tmp_path)
    assert service.told["mode"] == mode
    assert "0123456789" not in str(service.told)


@pytest.mark.parametrize("service", ["wandb"], indirect=True)
def test_wandb_leaves_its_files_in_the_folder_and_no_links_that_break_when_it_moves(
    service: Service, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("WANDB_PROJECT", "my-project")
    report("wandb", tmp_path)
    assert service.told["project"] == "my-project"
    assert [path.name for path in (tmp_path / "wandb").iterdir()] == ["offline-run-1"]

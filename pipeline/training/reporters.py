"""Where else the figures of a run go, for those who ask: TensorBoard, Weights & Biases, trackio.

None of them is needed, none is imported unless it is named, and none asks anything: without a key
Weights & Biases works offline, and trackio keeps its figures on this disk unless its own variables
(TRACKIO_SPACE_ID, ...) say otherwise.
"""

import importlib
import importlib.util
import io
import logging
import netrc
import os
import sys
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager, redirect_stdout
from pathlib import Path
from typing import Any, Protocol
from urllib.parse import urlsplit

from pipeline.console import say, warn
from pipeline.errors import PipelineError, UsageError
from pipeline.files import encode_json
from pipeline.training.run_log import TRAIN_LOG, redact

PROJECT = "bookshelf-llm"

_WANDB_URL = "https://api.wandb.ai"

_logger = logging.getLogger(__name__)


class Reporter(Protocol):
    """Takes the figures of a run. `name` is for messages."""

    name: str

    def start(self, settings: Mapping[str, Any], folder: Path) -> None:
        """The run begins; it leaves its files in `folder`."""

    def log(self, step: int, values: Mapping[str, float]) -> None:
        """Keep the values of a step. Names have a group: `train/loss`, `held_out/loss`."""

    def finish(self) -> None:
        """The run is over, well or not."""


class Reporters:
    """All reporters of a run. One that does not start is an error; one that fails later is left
    out, loudly: the figures are in metrics.jsonl all the same, and training is worth more."""

    def __init__(self, reporters: Sequence[Reporter]) -> None:
        self._reporters = list(reporters)

    @contextmanager
    def started(self, settings: Mapping[str, Any], folder: Path) -> Iterator[None]:
        """Start all, and finish at the end those that were.

        Raises:
            PipelineError: one does not start.
        """
        with ExitStack() as stack:
            for reporter in self._reporters:
                _start(reporter, settings, folder)
                stack.callback(_finish, reporter)
            yield

    def log(self, step: int, values: Mapping[str, float]) -> None:
        """Give all the values of a step."""
        for reporter in list(self._reporters):
            try:
                reporter.log(step, values)
            except Exception:
                _logger.exception("%s takes no more", reporter.name)
                self._reporters.remove(reporter)
                warn(f"{reporter.name} takes no more figures ({TRAIN_LOG} says why); we go on.")


def _start(reporter: Reporter, settings: Mapping[str, Any], folder: Path) -> None:
    try:
        reporter.start(settings, folder)
    except Exception as error:
        _logger.exception("%s does not start", reporter.name)
        reason = " ".join(redact(str(error)).split())[:300]
        raise PipelineError(
            f"--report-to {reporter.name} does not start: {reason or type(error).__name__}.",
            "Leave it out, or mend that; metrics.jsonl has the same figures.",
        ) from error


def _finish(reporter: Reporter) -> None:
    try:
        reporter.finish()
    except Exception:
        _logger.exception("%s does not end", reporter.name)
        warn(f"{reporter.name} did not end well; {TRAIN_LOG} says why.")


def make_reporters(
    names: Sequence[str],
    folder: Path | None = None,
    *,
    project: str = PROJECT,
    run_name: str | None = None,
) -> list[Reporter]:
    """The reporters of these names, each once; nothing is imported or started yet.

    Args:
        folder: of the run; gives it its name, unless it is a temporary one.
        project: the project's name, where WANDB_PROJECT or TRACKIO_PROJECT does not give one.
        run_name: what the run is to be called there, in place of the folder's name.

    Raises:
        UsageError: a name is unknown.
        PipelineError: what it needs is not installed.
    """
    if run_name is None and folder is not None and not folder.name.startswith("."):
        run_name = folder.name
    reporters: list[Reporter] = []
    for name in dict.fromkeys(names):
        if name not in _KINDS:
            known = ", ".join(_KINDS)
            raise UsageError(f"--report-to {name!r} is unknown.", f"Known: {known}.")
        if not _is_installed(name):
            raise PipelineError(
                f"--report-to {name} needs a package that is not installed.",
                f"Install it with `pip install {name}`, or leave the option out: metrics.jsonl "
                "has the same figures.",
            )
        reporters.append(_KINDS[name](project, run_name))
    return reporters


def _is_installed(name: str) -> bool:
    return name in sys.modules or importlib.util.find_spec(name) is not None


class TensorBoard:
    """Event files in the folder `tensorboard` of the run."""

    name = "tensorboard"

    def __init__(self, project: str, run_name: str | None) -> None:
        self._writer: Any = None

    def start(self, settings: Mapping[str, Any], folder: Path) -> None:
        from torch.utils.tensorboard import SummaryWriter

        self._writer = SummaryWriter(str(folder / "tensorboard"))
        text = encode_json(_plain(settings), indent=2).decode()
        self._writer.add_text("settings", "```\n" + text + "\n```")

    def log(self, step: int, values: Mapping[str, float]) -> None:
        for name, value in values.items():
            self._writer.add_scalar(name, value, step)

    def finish(self) -> None:
        if self._writer is not None:
            self._writer.close()


class WeightsAndBiases:
    """A run of wandb: by WANDB_MODE if that is set; else online where a key is, offline where none
    is. Entity, tags and group are those of its own variables."""

    name = "wandb"

    def __init__(self, project: str, run_name: str | None) -> None:
        self._project, self._run_name = project, run_name
        self._run: Any = None

    def start(self, settings: Mapping[str, Any], folder: Path) -> None:
        os.environ.setdefault("WANDB_SILENT", "true")
        wandb = importlib.import_module("wandb")
        mode = os.environ.get("WANDB_MODE") or ("online" if _has_wandb_key() else "offline")
        place = Path(os.environ.get("WANDB_DIR") or folder)
        place.mkdir(parents=True, exist_ok=True)
        self._folder = folder / "wandb"
        with _hushed():
            self._run = wandb.init(
                project=os.environ.get("WANDB_PROJECT") or self._project,
                name=os.environ.get("WANDB_NAME") or self._run_name,
                dir=str(place),
                config=_plain(settings),
                mode=mode,
                # Neither the sources, nor the command line, nor what is printed is their business.
                settings=wandb.Settings(
                    silent=True, console="off", disable_git=True, disable_code=True
                ),
            )
        if mode == "offline":
            say(
                "wandb works offline; `wandb sync FOLDER` sends what it keeps, if you ever want to."
            )

    def log(self, step: int, values: Mapping[str, float]) -> None:
        self._run.log(dict(values), step=step)

    def finish(self) -> None:
        if self._run is None:
            return
        self._run.finish()
        # Short cuts to the logs of the latest run; the folder of a run is moved when it is done.
        for path in self._folder.glob("*"):
            if path.is_symlink():
                path.unlink()


class Trackio:
    """A run of trackio, which keeps it in its own folder: `trackio show`."""

    name = "trackio"

    def __init__(self, project: str, run_name: str | None) -> None:
        self._project, self._run_name = project, run_name
        self._module: Any = None

    def start(self, settings: Mapping[str, Any], folder: Path) -> None:
        with _hushed():
            trackio = importlib.import_module("trackio")
            trackio.init(
                project=os.environ.get("TRACKIO_PROJECT") or self._project,
                name=self._run_name,
                config=_plain(settings),
                embed=False,
            )
        self._module = trackio
        say("trackio keeps the figures of this run; `trackio show` draws them.")

    def log(self, step: int, values: Mapping[str, float]) -> None:
        self._module.log(dict(values), step=step)

    def finish(self) -> None:
        if self._module is not None:
            with _hushed():
                self._module.finish()


@contextmanager
def _hushed() -> Iterator[None]:
    """Put what a library prints into the log: stdout is for results."""
    printed = io.StringIO()
    try:
        with redirect_stdout(printed):
            yield
    finally:
        if printed.getvalue():
            _logger.debug("%s", printed.getvalue().strip())


_KINDS: dict[str, Any] = {kind.name: kind for kind in (TensorBoard, WeightsAndBiases, Trackio)}


def _plain(settings: Mapping[str, Any]) -> dict[str, Any]:
    """The settings as these libraries take them, without secrets (an address may hold one)."""
    plain: dict[str, Any] = {}
    for name, value in settings.items():
        if isinstance(value, Mapping):
            plain[name] = _plain(value)
        elif value is None or isinstance(value, bool | int | float):
            plain[name] = value
        else:
            plain[name] = redact(str(value))
    return plain


def _has_wandb_key() -> bool:
    """Whether there is an account to send to: a variable, or the file where `wandb login` puts
    it. The key itself is not looked at."""
    if os.environ.get("WANDB_API_KEY") or os.environ.get("WANDB_IDENTITY_TOKEN_FILE"):
        return True
    host = urlsplit(os.environ.get("WANDB_BASE_URL") or _WANDB_URL).netloc
    path = Path(os.environ.get("NETRC") or "~/.netrc").expanduser()
    try:
        return netrc.netrc(path).authenticators(host) is not None
    except (OSError, UnicodeDecodeError, netrc.NetrcParseError):
        return False

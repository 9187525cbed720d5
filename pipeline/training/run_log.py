"""train.log: all that was said, and what the libraries had to say for themselves.

What they say goes into the file from INFO on; on the screen still only what showed before, in our
own form, so that it does not tear the progress bar. No secret gets into the file: values of
variables named TOKEN, KEY, SECRET or PASSWORD, known forms of tokens, and what addresses hold of
passwords and signatures are struck out.
"""

import logging
import os
import platform
import re
import warnings
from collections.abc import Iterator, Mapping
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import IO, Any

from pipeline.console import heard_by, printable, warn
from pipeline.errors import PipelineError
from pipeline.storage.urls import redact as redact_address
from pipeline.training.libraries import versions

TRAIN_LOG = "train.log"
LOGGER = "pipeline.training"

LIBRARIES = (
    "transformers", "trl", "peft", "accelerate", "bitsandbytes", "datasets", "huggingface_hub",
    "unsloth", "unsloth_zoo", "torch", "safetensors", "tokenizers",
)  # fmt: skip

_HIDDEN = "***"
_SECRET_NAME = re.compile(r"TOKEN|KEY|SECRET|PASSWORD|PASSWD|CREDENTIAL", re.IGNORECASE)
_SHORTEST_SECRET = 8
_HARMLESS = re.compile(r"[\d.,_-]*|true|false", re.IGNORECASE)  # TOKENIZERS_PARALLELISM=false
_TOKEN = re.compile(
    r"\b(?:hf_|hf_oauth_|api_org_|gh[pousr]_|github_pat_|sk-|wandb_v1_|glpat-|xox[a-z]-)"
    r"[\w-]{12,}|\b(?:AKIA|ASIA)[A-Z0-9]{12,}|\beyJ[\w-]{10,}\.[\w.-]+"
)
_CREDENTIAL = re.compile(
    r"\b(Bearer|Authorization:\s*Basic|api_key[\"']?[=:]|token[\"']?=)(\s*[\"']?)"
    r"(?=[\w.+/=~-]*\d)[\w.+/=~-]{8,}",  # with a digit: a torch bearer is no credential
    re.IGNORECASE,
)
_ADDRESS = re.compile(r"\b[a-z][a-z0-9+.-]*://[^\s\"'<>]+", re.IGNORECASE)

_LEVELS = {"info": logging.INFO, "warning": logging.WARNING, "error": logging.ERROR}

_open_logs: set[Path] = set()


def redact(text: str) -> str:
    """`text` without what may be a secret."""
    for name, value in os.environ.items():
        if (
            len(value) >= _SHORTEST_SECRET
            and _SECRET_NAME.search(name)
            and not _HARMLESS.fullmatch(value)
        ):
            text = text.replace(value, _HIDDEN)
    text = _TOKEN.sub(_HIDDEN, text)
    text = _CREDENTIAL.sub(rf"\1\2{_HIDDEN}", text)
    return _ADDRESS.sub(lambda match: redact_address(match.group()), text)


@contextmanager
def run_log(path: Path, settings: Mapping[str, Any] | None = None) -> Iterator[None]:
    """Keep the log `path` while the block runs; what is in the file already stays.

    It begins with versions, the machine and `settings`, and ends with the error, if one ends the
    block. Where the same log is open already, the inner block changes nothing.

    Raises PipelineError: the file cannot be written.
    """
    path = path.resolve()
    if path in _open_logs:
        yield
        return
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        file = path.open("a", encoding="utf-8", errors="backslashreplace")
    except OSError as error:
        raise PipelineError(f"The log {path} cannot be written: {error}.") from error
    _open_logs.add(path)
    own = logging.getLogger(LOGGER)
    try:
        with file, ExitStack() as stack:
            _connect(stack, own, file)
            own.info("%s", _header(settings))
            try:
                yield
            except PipelineError as error:
                own.error("%s", error)
                raise
            except BaseException as error:
                own.error("%s", type(error).__name__, exc_info=error)
                raise
    finally:
        _open_logs.discard(path)


def _connect(stack: ExitStack, own: logging.Logger, file: IO[str]) -> None:
    handler = logging.StreamHandler(file)
    handler.setFormatter(_Redacting("%(asctime)s %(levelname)-7s %(name)s: %(message)s"))
    screen = _ToScreen()
    stack.enter_context(_handled(own, logging.DEBUG, [handler]))
    for name in LIBRARIES:
        logger = logging.getLogger(name)
        shown = logger.level or logging.WARNING
        at_least = _AtLeast(max(shown, logging.WARNING), screen)
        # Parts of torch have handlers of their own, to the screen, for what its level lets pass.
        level = logging.WARNING if name == "torch" else min(shown, logging.INFO)
        stack.enter_context(_handled(logger, level, [handler, at_least]))

    def listen(kind: str, text: str) -> None:
        if not screen.is_showing:  # else it is a library's, and in the file as such
            own.log(_LEVELS[kind], "%s", text)

    stack.enter_context(heard_by(listen))
    stack.enter_context(_python_warnings(own))


class _Redacting(logging.Formatter):
    def format(self, record: logging.LogRecord) -> str:
        return printable(redact(super().format(record)))


class _ToScreen:
    """Shows what a library shows by itself, as ours."""

    is_showing = False

    def show(self, record: logging.LogRecord) -> None:
        self.is_showing = True
        try:
            warn(f"{record.name.partition('.')[0]}: {record.getMessage()}")
        finally:
            self.is_showing = False


class _AtLeast(logging.Handler):
    def __init__(self, level: int, screen: _ToScreen) -> None:
        super().__init__(level)
        self._screen = screen

    def emit(self, record: logging.LogRecord) -> None:
        self._screen.show(record)


@contextmanager
def _handled(logger: logging.Logger, level: int, handlers: list[logging.Handler]) -> Iterator[None]:
    """Let these handlers, and no others, have the records of `logger` from `level` on."""
    before = logger.level, logger.propagate, logger.handlers
    logger.setLevel(level)
    logger.propagate, logger.handlers = False, handlers
    try:
        yield
    finally:
        logger.setLevel(before[0])
        logger.propagate, logger.handlers = before[1:]


@contextmanager
def _python_warnings(own: logging.Logger) -> Iterator[None]:
    """Put what Python's `warnings` shows into the log, too."""
    before = warnings.showwarning

    def show(message: Any, category: Any, filename: str, lineno: int, *rest: Any) -> None:
        own.debug("%s (%s:%d): %s", category.__name__, filename, lineno, message)
        before(message, category, filename, lineno, *rest)

    warnings.showwarning = show  # type: ignore[assignment]
    try:
        yield
    finally:
        if warnings.showwarning is show:
            warnings.showwarning = before


def _header(settings: Mapping[str, Any] | None) -> str:
    import yaml

    about = {
        "python": platform.python_version(),
        "system": platform.platform(),
        "processors": os.cpu_count(),
        "versions": versions(*LIBRARIES),
        "settings": dict(settings or {}),
    }
    return "started\n" + yaml.safe_dump(about, sort_keys=False, allow_unicode=True).rstrip()

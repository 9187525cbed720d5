"""How a command ends: an exception becomes one sentence and an exit code, SIGTERM an interrupt."""

import os
import signal
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType

import typer

from pipeline import console
from pipeline.errors import EXIT_DONE, EXIT_FAILED, PipelineError
from pipeline.files import is_disk_full


@contextmanager
def errors_as_sentences(debug: bool) -> Iterator[None]:
    """Turn exceptions into one sentence and an exit code; `debug` shows the traceback as well."""
    try:
        yield
    except (typer.Exit, typer.Abort, SystemExit):
        raise
    except PipelineError as error:
        _leave(error, error.message, error.hint, error.exit_code, debug)
    except BrokenPipeError:  # who reads our output, such as `head`, has seen enough
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        raise typer.Exit(EXIT_DONE) from None
    except KeyboardInterrupt as error:
        _leave(error, "Stopped.", None, EXIT_FAILED, debug)
    except Exception as error:  # noqa: BLE001 - the outermost edge: whatever it is becomes a sentence
        message, hint = _sentence(error)
        _leave(error, message, hint, EXIT_FAILED, debug)


def _leave(error: BaseException, message: str, hint: str | None, code: int, debug: bool) -> None:
    if debug:
        import traceback

        sys.stderr.write("".join(traceback.format_exception(error)))
    console.fail(message, hint)
    raise typer.Exit(code) from error


def _sentence(error: Exception) -> tuple[str, str | None]:
    if is_disk_full(error):
        where = getattr(error, "filename", None)
        return (
            f"The disk is full{f' (writing {where})' if where else ''}.",
            "Make room, or name another place with --data-dir, and run the same command again: "
            "what was finished is kept.",
        )
    if isinstance(error, OSError) and error.strerror:
        where = f": {error.filename}" if error.filename else ""
        return f"{error.strerror}{where}.", None
    name = type(error).__name__
    return (
        f"Unexpected {name}: {' '.join(str(error).split()) or 'no message'}",
        "This is a fault in the program; --debug shows where.",
    )


@contextmanager
def terminate_like_interrupt() -> Iterator[None]:
    """Let SIGTERM end a stage as Ctrl-C does: the record is written, the exit code is right."""

    def interrupt(number: int, frame: FrameType | None) -> None:
        raise KeyboardInterrupt

    try:
        before = signal.signal(signal.SIGTERM, interrupt)
    except ValueError:  # not in the main thread, where no signal arrives either
        yield
        return
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, before)

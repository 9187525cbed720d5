"""Where prompts come from: a file, what is piped in, or a person at a terminal."""

import os
import signal
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from types import FrameType

from pipeline import console
from pipeline.errors import EXIT_FAILED, PipelineError, UsageError

SEPARATOR = "---"  # on a line of its own, between the prompts of a file
_ASKING = "> "


def read_prompts(path: Path) -> list[str]:
    """The prompts of a file: all of it is one, unless lines that hold only `---` part it.

    The line break at the end of a prompt is no part of it.

    Raises PipelineError if it cannot be read, is no UTF-8 text, or holds no prompt.
    """
    try:
        text = path.expanduser().read_text("utf-8-sig")
    except UnicodeDecodeError as error:
        raise PipelineError(f"{path} is no UTF-8 text.", "Save it as UTF-8.") from error
    except OSError as error:
        raise PipelineError(f"{path} cannot be read: {error.strerror}.") from error
    return split_prompts(text, str(path))


def piped_prompts() -> list[str]:
    """The same of standard input. Raises UsageError if nothing comes."""
    data = sys.stdin.buffer.read() if hasattr(sys.stdin, "buffer") else sys.stdin.read().encode()
    try:
        text = data.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        raise PipelineError("What is piped in is no UTF-8 text.") from error
    if not text.strip():
        raise UsageError(
            "There is no prompt to go on from.", 'Give one: pipeline generate "It was late"'
        )
    return split_prompts(text, "What is piped in")


def split_prompts(text: str, where: str) -> list[str]:
    """The prompts in a text. Raises PipelineError, naming `where`, if there is none."""
    parts: list[list[str]] = [[]]
    for line in text.splitlines(keepends=True):
        if line.strip() == SEPARATOR:
            parts.append([])
        else:
            parts[-1].append(line)
    prompts = ["".join(part).removesuffix("\n").removesuffix("\r") for part in parts]
    found = [prompt for prompt in prompts if prompt.strip()]
    if not found:
        raise PipelineError(f"{where} holds no prompt.", "Write words for the model to go on from.")
    return found


def is_piped() -> bool:
    """Whether something other than a terminal is at standard input."""
    return sys.stdin is None or not sys.stdin.isatty()


def ask_again_and_again(answer: Callable[[str], object]) -> None:
    """Ask for prompts until Ctrl-D, and have each answered.

    Ctrl-C ends an answer, or clears the line, and nothing else; what is wrong with a prompt is
    said. Lines can be edited where Python has readline.
    """
    with suppress(ImportError):  # on Windows, whose own terminal edits lines
        import readline  # noqa: F401 - it changes what `input` does
    with _ended_by_sigterm():
        for prompt in _lines():
            try:
                answer(prompt)
            except KeyboardInterrupt:
                console.say("\n(stopped)")
            except PipelineError as error:
                console.fail(error.message, error.hint)


def _lines() -> Iterator[str]:
    while True:
        try:
            # With stdout elsewhere `input` would ask there.
            if sys.stdout.isatty():
                line = input(_ASKING)
            else:
                sys.stderr.write(_ASKING)
                sys.stderr.flush()
                line = input()
        except KeyboardInterrupt:
            console.say("\n(Ctrl-D ends)")
            continue
        except EOFError:
            sys.stderr.write("\n")
            return
        if line.strip():
            yield line


@contextmanager
def _ended_by_sigterm() -> Iterator[None]:
    """Let SIGTERM end the loop, though elsewhere it does what Ctrl-C does."""

    def leave(number: int, frame: FrameType | None) -> None:
        raise SystemExit(EXIT_FAILED)

    before = signal.signal(signal.SIGTERM, leave)
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, before)


class TextOut:
    """Text for standard output, piece by piece, as it is.

    On a terminal without control characters: what a model writes must not move the cursor. With
    `silent` nothing is written.
    """

    def __init__(self, *, silent: bool = False) -> None:
        self._silent = silent
        self._shown = console.printable if sys.stdout.isatty() else str
        self._last = ""

    def __call__(self, text: str) -> None:
        if self._silent or not text:
            return
        sys.stdout.write(self._shown(text))
        sys.stdout.flush()
        self._last = text[-1]

    def end(self) -> None:
        """End the line, if it is not ended."""
        if self._last not in ("", "\n"):
            self("\n")


def refuse_existing(path: Path, *, overwrite: bool) -> None:
    """Raise UsageError if there is something at `path` that is not to be replaced."""
    if path.is_dir():
        raise UsageError(f"--output {path} is a directory.", "Name a file in it.")
    if os.path.lexists(path) and not overwrite:
        raise UsageError(f"{path} is there already.", "Name another --output, or add --overwrite.")

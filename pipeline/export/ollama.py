"""Talk to the program `ollama`: register a model with it, ask it, publish it.

Arguments reach the program as they are, never through a shell. A prompt goes in by its standard
input, which Ollama takes for the prompt to the letter; as an argument, one that begins with a
hyphen would be an option. What goes wrong ends as one sentence with Ollama's own reason.
"""

import codecs
import os
import queue
import re
import shlex
import shutil
import subprocess
import tempfile
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import BinaryIO, NamedTuple

from pipeline.console import printable
from pipeline.errors import PipelineError, UsageError

MODELFILE = "Modelfile"
SERVICE_KEY = Path("/usr/share/ollama/.ollama/id_ed25519")  # where Ollama is a system service
REGISTRY = "https://ollama.com"

# Seconds. A large model takes minutes to load before the first word comes.
SILENCE_LIMIT = 600.0
START_LIMIT = 600.0
SLOWEST_DISK, SLOWEST_LINE = 5e6, 50e3  # bytes a second

# Ollama's own rule (types/model/name.go): the first of a part is a letter, a digit or _.
_PART = "[A-Za-z0-9_][A-Za-z0-9_.-]{0,79}"
_NAME = re.compile(
    "(?:(?:(?P<host>[A-Za-z0-9_][A-Za-z0-9_.:-]{0,349})/)?"
    f"(?P<namespace>[A-Za-z0-9_][A-Za-z0-9_-]{{0,79}})/)?(?P<model>{_PART})(?::(?P<tag>{_PART}))?"
)
_ESCAPES = re.compile(r"\x1b\[[0-9;?]*[A-Za-z]")
_SPINNER = "⠋⠙⠹⠸⠼⠴⠦⠧⠇⠏ "
_SECRETS = re.compile(r"(?<=://)[^/\s@]+@|[A-Za-z0-9+]{32,}=*")
_TAIL = 100_000  # bytes of what it said that are searched for the reason
_WAYS_OUT = (
    (
        re.compile(r"could not connect|connection refused|is it running|not responding", re.I),
        "Start Ollama (its app, or `ollama serve`), and run the same command again.",
    ),
    (
        re.compile(r"authori[sz]ed|access denied|sign(ed)? in|ollama key|namespace", re.I),
        "Run `ollama signin`; the part of the name before the slash must be your name at"
        f" {REGISTRY}.",
    ),
    (
        re.compile(r"no space left|disk quota", re.I),
        "Ollama keeps a copy of each model: free some space, or move it with OLLAMA_MODELS.",
    ),
    (
        re.compile(r"pull model manifest|file does not exist|not found", re.I),
        "`ollama list` shows the models that Ollama has; `ollama pull` gets one.",
    ),
    (
        re.compile(r"unsupported|unknown model architecture|newer version", re.I),
        "A newer Ollama may know this kind of model.",
    ),
)


class ModelName(NamedTuple):
    """A model's name as Ollama understands it; what was not given is empty."""

    host: str
    namespace: str
    model: str
    tag: str

    def __str__(self) -> str:
        parts = [part for part in (self.host, self.namespace, self.model) if part]
        return "/".join(parts) + (f":{self.tag}" if self.tag else "")

    @property
    def full(self) -> str:
        """With its tag: never the name of a file beside a Modelfile, which would go first."""
        return str(self._replace(tag=self.tag or "latest"))


class Wish(NamedTuple):
    """What Ollama is asked to do with a finished model."""

    name: ModelName
    prompt: str | None
    push: bool


def parse_name(text: str, option: str) -> ModelName:
    """Read a name by Ollama's own rule. Raises UsageError, with `option`, for what is none."""
    match = _NAME.fullmatch(text)
    if match is None:
        raise UsageError(
            f"{option} {text[:100]!r} is not a name that Ollama takes.",
            "A name looks like tales, user/tales or user/tales:q4; each part has at most 80"
            " letters, digits, hyphens, dots and underscores.",
        )
    return ModelName(*(match[part] or "" for part in ModelName._fields))


def suggested_name(title: str) -> str:
    """A name that Ollama takes, made of a model's title."""
    kept = re.sub(r"[^a-z0-9]+", "-", title.lower()).strip("-")[:60].strip("-")
    return kept or "my-model"


def check_wish(create: str | None, prompt: str | None, push: bool) -> Wish | None:
    """What is asked of Ollama, checked before any work; None for nothing.

    Raises:
        UsageError: a name that is none, no name for what needs one, an empty prompt.
        PipelineError: there is no key to publish with, though there is an Ollama.
    """
    if create is None:
        if prompt is not None or push:
            option = "--run" if prompt is not None else "--push"
            raise UsageError(f"{option} needs --create: the name that the model gets in Ollama.")
        return None
    name = parse_name(create, "--create")
    if prompt is not None and not prompt.strip():
        raise UsageError("--run takes the text to go on from, and this one is empty.")
    if push:
        if name.namespace in ("", "library"):
            raise UsageError(
                f"--push needs a name with your own before the slash, not {create!r}.",
                f"It is that of your account at {REGISTRY}: --create you/{name.model}",
            )
        if find_program() is not None:
            check_key()
    if prompt is not None:  # half characters, of names of files that are no UTF-8
        prompt = prompt.encode("utf-8", "replace").decode()
    return Wish(name, prompt, push)


def find_program() -> str | None:
    """Where the program `ollama` is on this machine."""
    return shutil.which("ollama")


def check_key() -> None:
    """Raise PipelineError if Ollama has no key to sign with what it publishes.

    Only whether there is one is looked at. An Ollama on another machine (`OLLAMA_HOST`) has its
    own, there.
    """
    key = Path.home() / ".ollama" / "id_ed25519"
    if os.environ.get("OLLAMA_HOST") or _is_there(key) or _is_there(SERVICE_KEY):
        return
    raise PipelineError(
        f"Ollama cannot publish: its key {key} is not there.",
        "Ollama makes it when it starts (`ollama serve`); then run `ollama signin`.",
    )


def _is_there(key: Path) -> bool:
    try:
        return key.is_file() and key.stat().st_size > 0
    except PermissionError:  # it is the service's, and not for us to read
        return True


def commands(wish: Wish, folder: Path) -> list[str]:
    """The shell commands that do what `fulfil` does, one a line, to be run in this order."""
    name, target = str(wish.name), str(folder)
    lines = [
        ["cd", f"./{target}" if target.startswith("-") else target],
        ["ollama", "create", name, "-f", MODELFILE],
    ]
    if wish.prompt is not None:
        hyphen = ["--"] if wish.prompt.startswith("-") else []
        lines.append(["ollama", "run", name, *hyphen, wish.prompt])
    if wish.push:
        lines.append(["ollama", "push", name])
    return [shlex.join(line) for line in lines]


def create(program: str, name: ModelName, folder: Path, *, limit: float | None = None) -> None:
    """Register the model of a folder with a Modelfile. Ollama takes a copy of its files.

    `limit` is in seconds; None gives it time for the size of the files.

    Raises:
        PipelineError: Ollama refused, crashed, could not be started, or took too long.
    """
    limit = START_LIMIT + _bytes(folder) / SLOWEST_DISK if limit is None else limit
    _run([program, "create", str(name), "-f", MODELFILE], folder, limit)


def push(program: str, name: ModelName, folder: Path, *, limit: float | None = None) -> None:
    """Publish a registered model. Arguments and errors are those of `create`."""
    limit = START_LIMIT + _bytes(folder) / SLOWEST_LINE if limit is None else limit
    _run([program, "push", str(name)], folder, limit)


def ask(
    program: str,
    name: ModelName,
    prompt: str,
    folder: Path,
    on_text: Callable[[str], None],
    *,
    silence: float = SILENCE_LIMIT,
) -> None:
    """Let a registered model answer, or go on from, a prompt; `on_text` gets it piece by piece.

    Raises:
        PipelineError: as for `create`; `silence` is how many seconds may pass without a word.
    """
    command = [program, "run", "--nowordwrap", str(name)]
    _run(command, folder, silence, given=prompt, on_text=on_text)


def _bytes(folder: Path) -> int:
    return sum(path.stat().st_size for path in folder.glob("*.gguf"))


def _run(
    command: list[str],
    folder: Path,
    limit: float,
    *,
    given: str = "",
    on_text: Callable[[str], None] | None = None,
) -> None:
    """Run a command to its end. `limit` is in seconds: for all of it, or, where somebody listens
    to what it says, for each silence."""
    shown = shlex.join(["ollama", *command[1:]])
    with tempfile.TemporaryFile() as typed, tempfile.TemporaryFile() as said:
        typed.write(given.encode())
        typed.seek(0)
        try:
            child = subprocess.Popen(
                command, cwd=folder, stdin=typed, stdout=subprocess.PIPE if on_text else said,
                stderr=said, bufsize=0, env={**os.environ, "TERM": "dumb", "NO_COLOR": "1"},
            )  # fmt: skip
        except OSError as error:
            raise PipelineError(f"{command[0]} could not be started: {error.strerror}.") from error
        with _ended(child):
            in_time = _follow(child, limit, on_text)
        if not in_time:
            what = "said nothing for" if on_text else "was not done after"
            raise PipelineError(
                f"`{shown}` {what} {limit:,.0f} seconds and was ended.",
                "Is Ollama well? `ollama ps` tells; then run the same command again.",
            )
        if child.returncode:
            raise _failure(shown, child.returncode, said)


@contextmanager
def _ended(child: "subprocess.Popen[bytes]") -> Iterator[None]:
    """Whatever happens inside, the child is gone afterwards and its pipe is closed."""
    try:
        yield
    finally:
        if child.poll() is None:
            child.kill()
        child.wait()
        if child.stdout is not None:
            child.stdout.close()


def _follow(
    child: "subprocess.Popen[bytes]", limit: float, on_text: Callable[[str], None] | None
) -> bool:
    """Wait for the child's end, and pass on what it says. False when it takes too long."""
    try:
        if child.stdout is not None and on_text is not None:
            pieces: queue.SimpleQueue[bytes] = queue.SimpleQueue()
            arguments = (child.stdout.fileno(), pieces)
            threading.Thread(target=_read, args=arguments, daemon=True).start()
            decoder = codecs.getincrementaldecoder("utf-8")("replace")
            while piece := pieces.get(timeout=limit):
                on_text(decoder.decode(piece))
        child.wait(limit)
    except (queue.Empty, subprocess.TimeoutExpired):
        return False
    return True


def _read(descriptor: int, pieces: "queue.SimpleQueue[bytes]") -> None:
    """Put what comes into the queue; an empty piece is the end."""
    piece = b"-"
    while piece:
        try:
            piece = os.read(descriptor, 65536)
        except OSError:  # given up, and closed
            piece = b""
        pieces.put(piece)


def _failure(shown: str, returncode: int, said: BinaryIO) -> PipelineError:
    why = _reason(said)
    ended = f"was ended by signal {-returncode}" if returncode < 0 else "failed"
    hint = next((way for pattern, way in _WAYS_OUT if pattern.search(why)), None)
    detail = why.rstrip(".") or f"exit status {returncode}"
    return PipelineError(f"`{shown}` {ended}: {detail}.", hint)


def _reason(said: BinaryIO) -> str:
    """What Ollama gave as the error, else the last line that it said; without secrets."""
    said.seek(max(0, said.seek(0, os.SEEK_END) - _TAIL))
    text = _ESCAPES.sub("", said.read().decode("utf-8", "replace"))
    lines = [line.strip(_SPINNER) for line in re.split(r"[\r\n]+", text)]
    lines = [line for line in lines if line]
    errors = [line for line in lines if line.lower().startswith("error:")]
    best = (errors or lines)[-1:]
    told = _SECRETS.sub("...", printable("".join(best)))
    told = re.sub(r"^error:\s*", "", told, flags=re.IGNORECASE)
    return told if len(told) <= 300 else told[:297] + "..."

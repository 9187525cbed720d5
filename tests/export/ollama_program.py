"""A small program that behaves as the documented command line of Ollama does, for tests.

    ollama create NAME -f FILE    reads the Modelfile by its grammar; its files must be there
    ollama run NAME               takes the prompt from standard input, and goes on
    ollama push NAME              wants a namespace

It keeps what it was asked, and what it registered, in files beside itself. `OLLAMA_TEST` says what
goes wrong: one of `FAULTS`, or `hang`.
"""

import json
import os
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

FAULTS = {
    "down": "could not connect to ollama server, run 'ollama serve' to start it",
    "unauthorized": "you are not authorized to push to this namespace, create the model under a"
    " namespace you own",
    "key": "unauthorized: key ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIJdDrNG9n7o8Kq3Z is unknown",
    "odd": "400 Bad Request: \x1b[31munsupported\x07 architecture",
}
ANSWER = "and the sea said nothing — ☃\n"


def install(folder: Path) -> Path:
    """Make the program in `folder`, which belongs in front of PATH."""
    folder.mkdir(exist_ok=True)
    program = folder / "ollama"
    root = Path(__file__).parents[2]
    program.write_text(
        f"#!{sys.executable} -SE\n"
        f"import sys; sys.path.insert(0, {str(root)!r})\n"
        "from tests.export.ollama_program import main\n"
        "main(sys.argv)\n"
    )
    program.chmod(0o755)
    return program


def asked(folder: Path) -> list[dict[str, Any]]:
    """What the program in `folder` was called with: `arguments`, `folder` and `input`."""
    log = folder / "asked.jsonl"
    return [json.loads(line) for line in log.read_text().splitlines()] if log.exists() else []


def main(arguments: Sequence[str]) -> None:
    home, (_, command, *rest) = Path(arguments[0]).parent, arguments
    given = sys.stdin.read()
    call = {"arguments": arguments[1:], "folder": os.getcwd(), "input": given}  # noqa: PTH109
    with (home / "asked.jsonl").open("a") as log:
        log.write(json.dumps(call) + "\n")
    fault = os.environ.get("OLLAMA_TEST", "")
    sys.stderr.write("\x1b[?25l⠋ transferring model data\r⠙ transferring model data\r\n")
    if fault == "hang":
        time.sleep(60)
    if fault:
        _refuse(FAULTS[fault])
    models = home / "models.json"
    known = json.loads(models.read_text()) if models.exists() else {}
    if command == "create":
        name, _, file = rest
        known[name] = _created(Path(file))
        models.write_text(json.dumps(known))
        sys.stderr.write("success\n")
    elif (name := next(word for word in rest if word != "--nowordwrap")) not in known:
        _refuse("pull model manifest: file does not exist")
    elif command == "run":
        sys.stdout.buffer.write(ANSWER.encode())
    elif command == "push" and "/" not in name:
        _refuse(FAULTS["unauthorized"])


def _created(file: Path) -> list[tuple[str, str]]:
    from tests.export.ollama_grammar import Refused, read

    try:
        found = read(file.read_text("utf-8"))
    except (Refused, OSError) as error:
        _refuse(str(error))
    for name, value in found:
        if name in ("from", "adapter") and value.startswith("./") and not Path(value).is_file():
            _refuse(f"no such file {value}")
    return found


def _refuse(why: str) -> None:
    sys.stderr.write(f"Error: {why}\n")
    sys.exit(1)

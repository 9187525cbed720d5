"""Helpers for the end-to-end tests: the real command in a real process, and what it left."""

import json
import os
import signal
import subprocess
import sys
import textwrap
from pathlib import Path
from typing import Any

from typer.testing import CliRunner

ROOT = Path(__file__).parents[1]
DIRECTORIES = {
    "acquire": "1_raw",
    "preprocess": "2_preprocessed",
    "chunk": "3_chunks",
    "upload": "4_dataset",
    "train": "6_adapter",
    "quantize": "7_gguf",
    "modelfile": "8_ollama",
    "publish": "9_model",
}


def environment(**extra: str) -> dict[str, str]:
    """This process's environment without settings of the pipeline or tokens, and offline."""
    kept = {k: v for k, v in os.environ.items() if not k.startswith(("PIPELINE_", "HF_"))}
    return kept | {"HF_HUB_OFFLINE": "1"} | extra


def pipeline(
    *arguments: object, code: int | None = 0, timeout: float = 400, **env: str
) -> subprocess.CompletedProcess[str]:
    """Run `pipeline ...` as a user does; `code` is the exit code it must have."""
    result = subprocess.run(
        [sys.executable, "-m", "pipeline.cli", *map(str, arguments)],
        capture_output=True, text=True, cwd=ROOT, env=environment(**env), timeout=timeout,
        check=False,
    )  # fmt: skip
    assert code is None or result.returncode == code, result.stdout + result.stderr
    return result


def in_process(*arguments: object, code: int | None = 0) -> subprocess.CompletedProcess[str]:
    """The same in this process, which has loaded the libraries already.

    For what does not depend on the process: options, sentences and exit codes. Libraries that read
    the environment when they are loaded have read it, so this is not surely offline.
    """
    from pipeline.cli import make_pipeline

    names = [name for name in os.environ if name.startswith(("PIPELINE_", "HF_"))]
    environ = {**dict.fromkeys(names), "HF_HUB_OFFLINE": "1"}
    words = [str(argument) for argument in arguments]
    result = CliRunner().invoke(make_pipeline(), words, env=environ)
    assert code is None or result.exit_code == code, result.output
    return subprocess.CompletedProcess(words, result.exit_code, result.stdout, result.stderr)


def records(data: Path) -> dict[str, bytes]:
    """The stage records below a data directory, by stage."""
    paths = {stage: data / directory / "stage.json" for stage, directory in DIRECTORIES.items()}
    return {stage: path.read_bytes() for stage, path in paths.items() if path.exists()}


def ran(before: dict[str, bytes], after: dict[str, bytes]) -> list[str]:
    """The stages whose record was written anew."""
    return [stage for stage in DIRECTORIES if before.get(stage) != after.get(stage)]


def contents(directory: Path) -> dict[str, bytes]:
    """All files of a numbered directory but its record, by name; times of retrieval left out."""
    found = {}
    for path in sorted(directory.rglob("*")):
        name = path.relative_to(directory).as_posix()
        if path.is_file() and name != "stage.json":
            found[name] = path.read_bytes()
    if "catalog.jsonl" in found:
        rows = [json.loads(line) for line in found["catalog.jsonl"].decode().splitlines()]
        kept: list[dict[str, Any]] = [
            {key: value for key, value in row.items() if key != "retrieved_at"} for row in rows
        ]
        found["catalog.jsonl"] = json.dumps(kept).encode()
    return found


KILLER = """
    import os, signal, sys
    from pipeline import outputs

    left, rename = int(sys.argv.pop(1)), outputs.rename

    def replace(temporary, final):
        global left
        left -= 1
        if left == 0:
            os.kill(os.getpid(), signal.SIGKILL)
        rename(temporary, final)
        if left == -1:
            os.kill(os.getpid(), signal.SIGKILL)

    outputs.rename = replace
    from pipeline.cli import main
    main()
"""


def killed_at(write: int, *arguments: object, **env: str) -> None:
    """Run the command and SIGKILL it at its n-th write of an output."""
    script = textwrap.dedent(KILLER)
    result = subprocess.run(
        [sys.executable, "-c", script, str(write), *map(str, arguments)],
        capture_output=True, cwd=ROOT, env=environment(**env), timeout=100, check=False,
    )  # fmt: skip
    assert result.returncode == -signal.SIGKILL, result.stderr.decode()

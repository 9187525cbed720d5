"""One session of a run that is to be killed: stage 6 in a process forked from one that has
imported everything, on a remote that may lie, watched by `chaos_moments`.
"""

import json
import os
import random
import signal
import sys
import tempfile
import time
import traceback
from collections.abc import Iterator, MutableMapping
from contextlib import ExitStack
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any

from tests.chaos_moments import Strike, Watch, install

STEPS = 12
OPTIONS: dict[str, Any] = {
    "chat_template": "plain", "sequence_length": 64, "batch_size": 4, "micro_batch_size": 2,
    "dropout": 0.1, "rank": 4, "learning_rate": 1e-2, "max_steps": STEPS, "eval_tokens": 120,
    "sample_tokens": 2, "save_minutes": 0, "eval_every": 4, "jobs": 1,
}  # fmt: skip
PATIENCE = 120.0  # seconds for a session
FROZEN, HUNG, CRASHED = 98, 99, 70  # exit codes of our own


class Stored(MutableMapping[str, bytes]):
    """Objects of a remote as files, so that they outlive the process."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        folder.mkdir(parents=True, exist_ok=True)

    def __getitem__(self, name: str) -> bytes:
        try:
            return (self._folder / name).read_bytes()
        except OSError as error:
            raise KeyError(name) from error

    def __setitem__(self, name: str, data: bytes) -> None:
        path = self._folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        descriptor, temporary = tempfile.mkstemp(dir=self._folder.parent)
        with os.fdopen(descriptor, "wb") as file:
            file.write(data)
        Path(temporary).replace(path)  # a store has an object whole or not at all

    def __delitem__(self, name: str) -> None:
        try:
            (self._folder / name).unlink()
        except OSError as error:
            raise KeyError(name) from error

    def __iter__(self) -> Iterator[str]:
        found = [path for path in self._folder.rglob("*") if path.is_file()]
        return iter([path.relative_to(self._folder).as_posix() for path in found])

    def __len__(self) -> int:
        return len(list(iter(self)))


@dataclass(frozen=True)
class Inputs:
    """What every run begins with."""

    base: Path
    dataset: Path


@dataclass(frozen=True)
class Plan:
    """A session: where it trains, how it saves, and what is done to it.

    `notes` is a path without an ending: its journal and what it says lie there.
    """

    data: Path
    notes: Path
    inputs: Inputs
    strike: Strike | None = None
    url: str | None = None
    store: Path | None = None  # of a remote that lies
    lies: dict[str, Any] = field(default_factory=dict)
    seed: int = 0
    options: dict[str, Any] = field(default_factory=dict)

    def journal(self) -> list[dict[str, Any]]:
        """What the session did, in lines."""
        path = self.notes.with_suffix(".jsonl")
        return [json.loads(line) for line in path.read_text().splitlines()] if path.exists() else []

    def said(self) -> str:
        """What it said."""
        return self.notes.with_suffix(".txt").read_text()


def start(plan: Plan) -> int:
    """Fork a session. Returns its process id."""
    plan.notes.parent.mkdir(parents=True, exist_ok=True)
    pid = os.fork()
    if not pid:
        code = CRASHED
        try:
            said = plan.notes.with_suffix(".txt")
            file = os.open(said, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o644)
            os.dup2(file, 1)
            os.dup2(file, 2)
            code = _session(plan)
        finally:
            sys.stderr.flush()
            os._exit(code)
    return pid


def wait(pid: int, rng: random.Random, *, freeze: bool = False) -> int:
    """Wait for a session's end. Returns its exit code, or minus the signal's number.

    One that was stopped is killed a little later, or with `freeze` left as it is: FROZEN.
    """
    deadline = time.monotonic() + PATIENCE
    while True:
        done, status = os.waitpid(pid, os.WNOHANG | os.WUNTRACED)
        if done and os.WIFSTOPPED(status):
            if freeze:
                return FROZEN
            time.sleep(rng.uniform(0, 0.05))
            os.kill(pid, signal.SIGKILL)
        elif done:
            return os.waitstatus_to_exitcode(status)
        elif time.monotonic() > deadline:
            os.kill(pid, signal.SIGKILL)
            os.waitpid(pid, 0)
            return HUNG
        else:
            time.sleep(0.005)


def _session(plan: Plan) -> int:
    """Train, in this process. Returns the exit code."""
    from pipeline.endings import terminate_like_interrupt
    from pipeline.errors import PipelineError, Stopped
    from pipeline.step6_train import train
    from pipeline.training import trainer
    from tests.lying_remote import lying

    watch = Watch(plan.notes.with_suffix(".jsonl"), plan.strike)
    install(watch)
    quick = partial(
        trainer.RemoteCopies, sleep=lambda seconds: time.sleep(min(seconds, 5) / 500), timeout=10
    )
    trainer.RemoteCopies = quick  # type: ignore[assignment, misc]
    try:
        with ExitStack() as stack:
            stack.enter_context(terminate_like_interrupt())
            if plan.store is not None:
                objects = Stored(plan.store)
                stack.enter_context(lying(objects=objects, seed=plan.seed, **plan.lies))
            stack.enter_context(watch.phase("start"))
            train(
                plan.data, base_model=str(plan.inputs.base), dataset=str(plan.inputs.dataset),
                sync_to=plan.url, **OPTIONS, **plan.options,
            )  # fmt: skip
    except Stopped as stopped:
        watch.note(stopped=stopped.message)
        return stopped.exit_code
    except PipelineError as error:
        watch.note(refused=error.message)
        return error.exit_code
    except KeyboardInterrupt:
        watch.note(refused="Stopped.")
        return 1
    except BaseException:  # noqa: BLE001 - whatever else it is, it is a fault that must be told
        traceback.print_exc()
        watch.note(crashed=traceback.format_exc().strip().splitlines()[-1])
        return CRASHED
    return 0


def outcome(data: Path) -> dict[str, Any]:
    """What must be the same at the end of a run, however often it was killed."""
    from pipeline.training.metrics import read_held_out, read_metrics

    folder = data / "6_adapter"
    points = read_metrics(folder / "metrics.jsonl")
    return {
        "weights": (folder / "adapter_model.safetensors").read_bytes(),
        "losses": [(p.step, p.loss, p.learning_rate, p.tokens, p.grad_norm) for p in points],
        "scores": read_held_out(folder / "metrics.jsonl"),
    }


def prepare(work: Path) -> Inputs:
    """A model and a dataset to train on: chats of several lengths, several to a packed row."""
    from tests.tiny_models import tiny_llama

    base = tiny_llama(work / "model")
    rows = [
        {"messages": [
            {"role": "user", "content": f"Who is there, {n}?"},
            {"role": "assistant", "content": "The sea, and nobody else. " * (1 + n % 4)},
        ]} for n in range(40)
    ]  # fmt: skip
    dataset = work / "chats.jsonl"
    dataset.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return Inputs(base.path, dataset)


def import_everything() -> None:
    """What each session would have to import; forked from here, it need not."""
    import gc

    import torch

    torch.set_num_threads(1)
    for name in (
        "transformers", "trl", "peft", "datasets", "matplotlib.pyplot", "pipeline.step6_train",
        "tests.tiny_models", "tests.lying_remote", "filelock", "rich.console", "boto3", "s3fs",
        "transformers.models.llama.modeling_llama", "torch._dynamo",
    ):  # fmt: skip
        __import__(name)
    gc.collect()
    gc.freeze()  # else every collection in a fork would copy all of it

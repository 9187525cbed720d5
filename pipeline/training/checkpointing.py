"""The checkpoints of a run: which run it is, whether one can be gone on with, when one is made.

Those of a run lie in a folder of their own, named by everything that decides what comes out of it.
So the same command finds them again, and another never touches them.
"""

import shutil
import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from pipeline.console import megabytes, say, warn
from pipeline.errors import PipelineError, UsageError
from pipeline.files import fingerprint
from pipeline.training import checkpoints
from pipeline.training.best import Best, take_from
from pipeline.training.checkpoints import Broken, Checkpoint
from pipeline.training.libraries import versions
from pipeline.training.remote_copies import RemoteCopies
from pipeline.training.requests import Request, Requests
from pipeline.training.run_state import Parts, Progress, load_progress, save_state
from pipeline.training.save_policy import SavePolicy, Saver, doomed_of_run, round_ends
from pipeline.training.settings import TrainSettings

BEST = "best"
ASIDE = "set-aside-"
GIVEN_UP = "GIVEN_UP"  # a file in the folder of a run that somebody started anew beside
LIBRARIES = ("torch", "transformers", "trl", "peft", "accelerate", "bitsandbytes")
METRICS_FILES = ("metrics.jsonl", "evaluations.jsonl")

# What may change in the middle of a run: how long it is, how often it is scored, and how much is
# computed at a time.
HARMLESS = frozenset(
    {"max_steps", "epochs", "tokens", "eval_every", "sample_tokens", "sample_prompts", "keep_best",
     "micro_batch_size", "gradient_checkpointing"}
)  # fmt: skip

Identity = Mapping[str, Any]


@dataclass(frozen=True)
class Due:
    """What is to be done after a step: the reason for a checkpoint, if there is one."""

    reason: str | None
    ends: bool
    request: Request | None


@dataclass
class RunCheckpoints:
    """The checkpoints of one run.

    `identity` says what decides the outcome, by name. `steps_per_round` ends a session after so
    many steps.
    """

    root: Path
    identity: Identity
    policy: SavePolicy
    steps: int
    steps_per_round: int | None = None
    clock: Callable[[], float] = time.monotonic
    remote: RemoteCopies | None = None  # entered
    found: Checkpoint | None = None  # where this session goes on
    last: Checkpoint | None = None
    saver: Saver = field(init=False)

    @property
    def run(self) -> str:
        """The name of the run, and of its folder."""
        return fingerprint(dict(self.identity))[:16]

    @property
    def folder(self) -> Path:
        """Where its checkpoints lie."""
        return self.root / self.run

    @property
    def best(self) -> Path:
        """Where its best weights lie."""
        return self.folder / BEST

    def find(self, resume: str, *, allow_changed: bool = False) -> None:
        """Look for what to go on from: "auto", the newest whole checkpoint of this very run;
        "unfinished", the same, unless it is the last; "never", none; or a path.

        With `allow_changed`, one of a run that differs only in what is harmless will do: how long
        it is, and how it is scored.

        Raises UsageError: the checkpoint is of other settings, or an unfinished run is; says what
        differs. Raises PipelineError: it is broken.
        """
        if resume == "never":
            self._set_aside()
        elif resume in ("auto", "unfinished"):
            self.found = checkpoints.newest(self.folder)
            if self.remote is not None:
                self.found = self.remote.newer(self.folder) or self.found
            if resume == "unfinished" and self.found and not _is_unfinished(self.found):
                self._set_aside()
                self.found = None
            elif self.found is None:
                self.found = self._of_others(allow_changed)
        else:
            self.found = self._given(Path(resume).expanduser(), allow_changed)
        if self.found and self.found.step > self.steps:
            raise UsageError(
                f"{self.found.path} is of step {self.found.step}, and the run is to have "
                f"{self.steps}.",
                "Make it longer, or start anew with --resume never.",
            )
        if self.found:
            take_from(self.found.path, self.best)
        else:
            shutil.rmtree(self.best, ignore_errors=True)
        done = self.found.step if self.found else 0
        self.last = self.found
        self.saver = Saver(self.policy, self.steps, done, self.clock())
        if self.found:
            say(f"Going on from step {done} of {self.steps}: {self.found.path}.")
            before, now = self.found.about.get("versions", {}), versions(*LIBRARIES)
            if changes := differences(before, now):
                told = "; ".join(changes.values())
                warn(f"Not exactly as before, as the libraries are others: {told}.")

    def progress(self) -> Progress | None:
        """How far the run had come that this session goes on with."""
        return load_progress(self.found.path) if self.found else None

    @classmethod
    def of(
        cls,
        root: Path,
        identity: Identity,
        settings: TrainSettings,
        steps: int,
    ) -> "RunCheckpoints":
        """Those of a run with these settings."""
        return cls(root, identity, settings.save_policy(), steps, settings.steps_per_round)

    def carry_over(self, folder: Path) -> None:
        """Put the metrics of the run so far into `folder`."""
        for name in METRICS_FILES:
            if self.found and (self.found.path / name).is_file():
                shutil.copyfile(self.found.path / name, folder / name)

    def due(self, step: int, requests: Requests) -> "Due":
        """Whether a checkpoint is to be made after `step`, and whether the session ends."""
        request = requests.poll(self.root.parent)
        started = self.found.step if self.found else 0
        is_over = step >= self.steps
        round_is_over = round_ends(step, started, self.steps_per_round) and not is_over
        reason = self.saver.due(step, self.clock())
        if request is not None:
            reason = reason or request.why
        if round_is_over:
            reason = reason or "round"
        ends = not is_over and (round_is_over or (request is not None and request.stops))
        return Due(reason, ends, request)

    def save(
        self, parts: Parts, progress: Progress, reason: str, metrics: Path, best: Best | None
    ) -> None:
        """Make a checkpoint, send it on its way, and delete those that it makes superfluous.

        `metrics` is the folder with the run's metrics. Raises PipelineError if the disk is full.
        """
        start = time.perf_counter()

        def files(folder: Path) -> None:
            save_state(folder, parts, progress)
            if best is not None:
                best.copy_to(folder)
            for name in METRICS_FILES:
                if (metrics / name).is_file():
                    shutil.copyfile(metrics / name, folder / name)

        about = {
            "run": self.run, "steps": self.steps, "reason": reason,
            "identity": dict(self.identity), "versions": versions(*LIBRARIES),
        }  # fmt: skip
        self.last = checkpoints.write(self.folder, progress.step, files, about)
        self.saver.saved(progress.step, self.clock())
        if self.remote is not None:
            self.remote.offer(self.last)
        kept = checkpoints.whole(self.folder, hashes=False)
        for old in doomed_of_run(
            kept, self.run, self.policy, best=None, last_good=progress.step
        ):  # fmt: skip
            try:
                checkpoints.remove(old.path)
            except OSError as error:  # it costs room, and no training
                warn(f"{old.path} cannot be deleted: {error}.")
        seconds = time.perf_counter() - start
        say(
            f"Saved step {progress.step} of {self.steps} ({reason}): {megabytes(self.last.size)} "
            f"in {seconds:.1f} s, {self.last.path}."
        )

    def keep_log(self, log: Path) -> None:
        """Add the log of a session that did not end well to that of the run."""
        if log.is_file():
            self.folder.mkdir(parents=True, exist_ok=True)
            with (self.folder / log.name).open("ab") as file:
                file.write(log.read_bytes())

    def finish(self, timeout: float) -> None:
        """Wait until the last checkpoint has arrived at the remote.

        Raises PipelineError if it does not.
        """
        if self.remote is None:
            return
        outcome = self.remote.finish(timeout)
        if not outcome.ok:
            raise PipelineError(
                f"{outcome}.", f"Here it is safe, in {self.folder}: `pipeline sync up` sends it."
            )
        say(f"{outcome}.")

    def _given(self, path: Path, allow_changed: bool) -> Checkpoint:
        try:
            found = checkpoints.verify(path)
        except (Broken, OSError) as error:
            raise PipelineError(f"--resume {path}: {error}.", "Choose another one.") from error
        changes = self._changes(found)
        if changes and not (allow_changed and changes.keys() <= HARMLESS):
            raise UsageError(
                f"--resume {path} is of a run with other settings: {'; '.join(changes.values())}.",
                _way_out(changes),
            )
        for newer in checkpoints.listed(self.folder):
            if newer != found.path and int(newer.name.removeprefix("step-")) > found.step:
                warn(f"{newer} is newer: it is set aside, as {checkpoints.set_aside(newer).name}.")
        return found

    def _set_aside(self) -> None:
        """Move what there is of this very run out of the way, and give up unfinished others."""
        for other in self._others():
            if _is_unfinished(other):
                (other.path.parent / GIVEN_UP).touch()
        if not self.folder.exists():
            return
        taken = [path.name.split("-")[2] for path in self.root.glob(f"{ASIDE}*")]
        n = 1 + max((int(number) for number in taken if number.isdigit()), default=0)
        aside = self.root / f"{ASIDE}{n}-{self.run}"
        self.folder.replace(aside)
        say(f"Starting anew: the checkpoints of this run are in {aside} now.")

    def _of_others(self, allow_changed: bool) -> Checkpoint | None:
        """What to go on from of another run in the same place; None if there is none.

        Raises UsageError if there is an unfinished one that it may not be gone on with.
        """
        others = [(other, self._changes(other)) for other in self._others()]
        fitting = [
            other for other, changes in others
            if allow_changed and changes.keys() <= HARMLESS and other.step <= self.steps
        ]  # fmt: skip
        if fitting:
            return max(fitting, key=lambda other: other.step)
        for other, changes in others:
            if _is_unfinished(other):
                raise UsageError(
                    f"{other.path} is of a run that is not finished, with other settings: "
                    f"{'; '.join(changes.values())}.",
                    _way_out(changes),
                )
        if allow_changed and others:
            other, changes = max(others, key=lambda found: found[0].saved)
            told = "; ".join(changes.values())
            warn(f"Nothing to go on from: {other.path} differs in more, {told}.")
        return None

    def _others(self) -> Iterator[Checkpoint]:
        """The newest checkpoint of each other run that was not given up."""
        if not self.root.is_dir():
            return
        for folder in sorted(self.root.iterdir()):
            gone = folder.name.startswith(ASIDE) or (folder / GIVEN_UP).exists()
            if not folder.is_dir() or folder == self.folder or gone:
                continue
            other = next(checkpoints.whole(folder), None)
            if other is not None:
                yield other

    def _changes(self, other: Checkpoint) -> dict[str, str]:
        return differences(other.about.get("identity", {}), self.identity)


def _is_unfinished(checkpoint: Checkpoint) -> bool:
    return bool(checkpoint.step < checkpoint.about.get("steps", 0))


def _way_out(changes: Mapping[str, str]) -> str:
    add = "add --allow-changed" if changes.keys() <= HARMLESS else "set them as they were"
    return f"To go on with it, {add}; to start anew, --resume never."


def differences(before: Identity, now: Identity) -> dict[str, str]:
    """What differs between two runs, by name: "learning_rate 0.001, now 0.002"."""
    found = {}
    for name in sorted({*before, *now}):
        old, new = before.get(name), now.get(name)
        if old != new:
            shown = [str(value)[:60] for value in (old, new)]
            found[name] = f"{name} {shown[0]}, now {shown[1]}"
    return found

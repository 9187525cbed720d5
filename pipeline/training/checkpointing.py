"""The checkpoints of a run: which run it is, whether one can be gone on with, when one is made.

Those of a run lie in a folder of their own, named by everything that decides what comes out of it.
So the same command finds them again, and another never touches them.
"""

import shutil
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path

from pipeline.console import megabytes, say, warn
from pipeline.errors import PipelineError, UsageError
from pipeline.files import fingerprint, json_lines, read_jsonl, write_bytes, write_json
from pipeline.training import checkpoints
from pipeline.training.best import Best, take_from
from pipeline.training.checkpoints import Broken, Checkpoint
from pipeline.training.identity import Identity, compare, differences
from pipeline.training.libraries import versions
from pipeline.training.metrics import HELD_OUT
from pipeline.training.remote_copies import RemoteCopies
from pipeline.training.remote_lineage import FOLLOWS, ancestors
from pipeline.training.requests import Request, Requests
from pipeline.training.run_state import Parts, Progress, load_progress, save_state
from pipeline.training.save_policy import SavePolicy, Saver, doomed_of_run, round_ends
from pipeline.training.segments import Segments
from pipeline.training.settings import TrainSettings

BEST = "best"
ASIDE = "set-aside-"
COPIED = "copied.json"  # in the folder of a run: which checkpoint arrived elsewhere last
GIVEN_UP = "GIVEN_UP"  # a file in the folder of a run that somebody started anew beside
LIBRARIES = ("torch", "transformers", "trl", "peft", "accelerate", "bitsandbytes")
METRICS = "metrics.jsonl"
_LONGER = "Make it longer, or start anew with --resume never."
METRICS_FILES = (METRICS, "evaluations.jsonl")


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
    many steps, `segments_per_round` at the end of a segment. `sequences` are those of the whole
    run: where they are given, `steps` are counted again once it is known where the session goes on,
    as a series that has grown may do so after a step that was not full.
    """

    root: Path
    identity: Identity
    policy: SavePolicy
    steps: int
    steps_per_round: int | None = None
    clock: Callable[[], float] = time.monotonic
    remote: RemoteCopies | None = None  # entered
    sequences: int | None = None
    sequences_per_step: int = 1
    segments: Segments | None = None
    segments_per_round: int | None = None
    scores_anew: bool = False  # what is held out is not what the earlier sessions were scored on
    found: Checkpoint | None = None  # where this session goes on
    last: Checkpoint | None = None
    saver: Saver = field(init=False)
    _segments_end: int | None = None  # the step at which this session ends for its segments

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

    def note_copy(self, step: int, url: str) -> None:
        """Remember that the checkpoint of a step has arrived at `url`, for `pipeline status`."""
        at = datetime.now(UTC).isoformat(timespec="seconds")
        try:
            write_json(self.folder / COPIED, {"step": step, "url": url, "at": at})
        except OSError as error:  # the copy is there all the same
            warn(f"{self.folder / COPIED} was not written: {error}.")

    def find(self, resume: str, *, allow_changed: bool = False) -> None:
        """Look for what to go on from: "auto", the newest whole checkpoint of this very run;
        "unfinished", the same, unless it is the last; "never", none; or a path.

        With `allow_changed`, one of a run that differs only in what is harmless will do: how long
        it is, and how it is scored; or one of a series that has only got more segments at its end
        since then. Name, number of sequences and content of each segment are compared, in order.

        Raises UsageError: the checkpoint is of other settings, or an unfinished run is; says what
        differs. Raises PipelineError: it is broken.
        """
        if resume == "never":
            self._set_aside()
        elif resume in ("auto", "unfinished"):
            self.found = checkpoints.newest(self.folder)
            if self.remote is not None:
                self.found = self.remote.newer(self.folder) or self.found
            own = self.found is not None and self.found.path.parent == self.folder
            if resume == "unfinished" and self.found and own and not _is_unfinished(self.found):
                self._set_aside()
                self.found = None
            elif self.found is None:
                self.found = self._of_others(allow_changed)
        else:
            self.found = self._given(Path(resume).expanduser(), allow_changed)
        progress = self._go_on_from(self.found) if self.found else Progress()
        if self.found and self.found.step > self.steps:
            raise UsageError(
                f"{self.found.path} is of step {self.found.step}, and the run is to have "
                f"{self.steps}.",
                _LONGER,
            )
        if self.found and not self.scores_anew:
            take_from(self.found.path, self.best)
        else:
            shutil.rmtree(self.best, ignore_errors=True)
        (self.folder / GIVEN_UP).unlink(missing_ok=True)  # somebody goes on with it after all
        done = self.found.step if self.found else 0
        self.last = self.found
        self.saver = Saver(self.policy, self.steps, done, self.clock())
        if self.segments and self.segments_per_round:
            left = self.segments.end(progress.sequences, self.segments_per_round)
            left -= progress.sequences
            self._segments_end = done - (-left // self.sequences_per_step)
        if self.found:
            say(f"Going on from step {done} of {self.steps}: {self.found.path}.")
            before, now = self.found.about.get("versions", {}), versions(*LIBRARIES)
            if changes := differences(before, now):
                told = "; ".join(changes.values())
                warn(f"Not exactly as before, as the libraries are others: {told}.")

    def _go_on_from(self, found: Checkpoint) -> Progress:
        """How far the run has come, and what follows from that for its steps and scores."""
        progress, changes = load_progress(found.path), compare(found, self.identity)
        missing = found.step * self.sequences_per_step - progress.sequences
        if self.sequences is not None and missing > 0 and progress.sequences < self.sequences:
            if changes and not changes.grew:
                raise UsageError(
                    f"The last step of the run in {found.path} was not a full one, so it cannot be "
                    "made longer.",
                    "Start anew with --resume never.",
                )
            left = self.sequences - progress.sequences
            self.steps = found.step - (-left // self.sequences_per_step)
        if changes.grew:
            say(f"The series has grown: {changes.told['segments']}.")
        self.scores_anew = "held_out" in changes
        if self.scores_anew:
            say("Other texts are held out now, so the model is scored anew from here on.")
        return progress

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
        *,
        sequences: int | None = None,
        segments: Segments | None = None,
    ) -> "RunCheckpoints":
        """Those of a run with these settings, and of so many sequences."""
        return cls(
            root, identity, settings.save_policy(), steps, settings.steps_per_round,
            sequences=sequences, sequences_per_step=settings.sequences_per_step,
            segments=segments, segments_per_round=settings.segments_per_round,
        )  # fmt: skip

    def carry_over(self, folder: Path) -> None:
        """Put the metrics of the run so far into `folder`; scores only if they still hold."""
        for name in METRICS_FILES:
            if self.found and (self.found.path / name).is_file():
                if not self.scores_anew:
                    shutil.copyfile(self.found.path / name, folder / name)
                elif name == METRICS:
                    rows = read_jsonl(self.found.path / name)
                    kept = [row for row in rows if HELD_OUT not in row]
                    write_bytes(folder / name, json_lines(kept))

    def due(self, step: int, requests: Requests) -> "Due":
        """Whether a checkpoint is to be made after `step`, and whether the session ends."""
        request = requests.poll(self.root.parent)
        started = self.found.step if self.found else 0
        is_over = step >= self.steps
        round_is_over = round_ends(step, started, self.steps_per_round) and not is_over
        segment_is_over = self._segments_end is not None and step >= self._segments_end
        reason = self.saver.due(step, self.clock())
        if request is not None:
            reason = reason or request.why
        if round_is_over or (segment_is_over and not is_over):
            reason = reason or ("round" if round_is_over else "end of a segment")
            round_is_over = True
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
        if left := ancestors(self.found, self.run):
            about[FOLLOWS] = left
        if progress.cursor is not None:
            about["cursor"] = dict(progress.cursor)
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
        changes = compare(found, self.identity)
        if changes and not (allow_changed and changes.harmless):
            raise UsageError(
                f"--resume {path} is of a run with other settings: {changes}.", changes.way_out
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
        others = [(other, compare(other, self.identity)) for other in self._others()]
        fitting = [
            other for other, changes in others
            if allow_changed and changes.harmless and other.step <= self.steps
        ]  # fmt: skip
        if fitting:
            return max(fitting, key=lambda other: other.step)
        for other, changes in others:
            is_longer = allow_changed and changes.harmless  # else it would fit
            if _is_unfinished(other):
                raise UsageError(
                    f"{other.path} is of a run that is not finished, with other settings: "
                    f"{changes}.",
                    _LONGER if is_longer else changes.way_out,
                )
            if changes.grew and changes.harmless and not allow_changed:
                say(
                    f"{other.path} is of the same series before it grew; --allow-changed goes on "
                    "with it, this starts anew."
                )
        if allow_changed and others:
            other, changes = max(others, key=lambda found: found[0].saved)
            why = "is of a later step" if changes.harmless else "differs in more"
            warn(f"Nothing to go on from: {other.path} {why}, {changes}.")
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


def _is_unfinished(checkpoint: Checkpoint) -> bool:
    return bool(checkpoint.step < checkpoint.about.get("steps", 0))

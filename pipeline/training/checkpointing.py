"""The checkpoints of a run: which run it is, whether one can be gone on with, when one is made.

Those of a run lie in a folder of their own, named by everything that decides what comes out of it.
So the same command finds them again, and another never touches them.
"""

import shutil
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path

from pipeline.console import megabytes, say, warn
from pipeline.errors import PipelineError, UsageError
from pipeline.files import fingerprint, json_lines, read_jsonl, write_bytes
from pipeline.training import checkpoints
from pipeline.training.attempts import (
    FIRST,
    SET_ASIDE,
    Attempt,
    attempt_of,
    local_attempt,
    note_attempt,
    set_others_aside,
)
from pipeline.training.best import Best, take_from
from pipeline.training.checkpoints import Broken, Checkpoint
from pipeline.training.command_line import COMMAND
from pipeline.training.copy_notes import COPIED, OWED, never_arrived, note_copy
from pipeline.training.identity import Identity, compare, differences
from pipeline.training.libraries import versions
from pipeline.training.metrics import HELD_OUT
from pipeline.training.remote_copies import RemoteCopies
from pipeline.training.remote_lineage import FOLLOWS, ancestors
from pipeline.training.requests import Request, Requests
from pipeline.training.run_folders import GIVEN_UP, LONGER, is_unfinished, of_others, set_run_aside
from pipeline.training.run_state import Parts, Progress, load_progress, save_state
from pipeline.training.save_policy import SavePolicy, Saver, doomed_of_run, round_ends
from pipeline.training.segments import Segments
from pipeline.training.settings import TrainSettings

BEST = "best"
KEYWORDS = ("auto", "unfinished", "never")  # for --resume, beside a path
LIBRARIES = ("torch", "transformers", "trl", "peft", "accelerate", "bitsandbytes")
METRICS = "metrics.jsonl"
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
    command: Sequence[str] = ()  # of this process, for `pipeline status` to tell
    attempt: Attempt = FIRST  # the one that counts
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
        note_copy(self.folder, step, url)

    def find(self, resume: str, *, allow_changed: bool = False) -> None:
        """Look for what to go on from: "auto", the newest whole checkpoint of this very run;
        "unfinished", the same, unless it is the last; "never", none; or a path.

        With `allow_changed`, one of a run that differs only in what is harmless will do: how long
        it is, and how it is scored; or one of a series that has only got more segments at its end
        since then. Name, number of sequences and content of each segment are compared, in order.

        Raises UsageError: the checkpoint is of other settings, or an unfinished run is; says what
        differs. Raises PipelineError: it is broken.
        """
        there = self.remote.attempt if self.remote else FIRST
        self.attempt = max(local_attempt(self.folder), there)
        if resume == "never":
            self._start_anew()
        elif resume in ("auto", "unfinished"):
            self.found = self._newest()
            own = self.found is not None and self.found.path.parent == self.folder
            if resume == "unfinished" and self.found and own and not is_unfinished(self.found):
                self._start_anew()
                self.found = None
            elif self.found is None:
                self.found = of_others(self.folder, self.identity, self.steps, allow_changed)
        else:
            self.found = self._given(Path(resume).expanduser(), allow_changed)
        progress = self._go_on_from(self.found) if self.found else Progress()
        if self.found and self.found.step > self.steps:
            raise UsageError(
                f"{self.found.path} is of step {self.found.step}, and the run is to have "
                f"{self.steps}.",
                LONGER,
            )
        if self.found and resume not in KEYWORDS:
            self.found = self._gone_back_to(self.found)
        if self.found:  # of another run, it may be of a later attempt
            self.attempt = max(self.attempt, attempt_of(self.found.about))
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

    def _newest(self) -> Checkpoint | None:
        """The newest whole checkpoint of the attempt that counts, local or remote. Each of its
        files is hashed once."""
        note_attempt(self.folder, self.attempt)
        if self.remote is None:
            set_others_aside(self.folder, self.attempt)
            return checkpoints.newest(self.folder)
        if self.remote.attempt != self.attempt:
            self.remote.announce(self.attempt)
        return self.remote.newer(self.folder)

    def _begin_attempt(self, found: Checkpoint | None) -> None:
        """Go back in the run to `found`, or to its start, and leave what came after it behind: a
        kill at any moment from here on changes no more what the same command goes on with."""
        attempt = self.attempt.next(found)
        if self.remote is not None:
            self.remote.announce(attempt)
        for name in (COPIED, OWED):  # they are of what is left behind
            (self.folder / name).unlink(missing_ok=True)
        self.attempt = attempt

    def _start_anew(self) -> None:
        self._begin_attempt(None)
        set_run_aside(self.folder)
        note_attempt(self.folder, self.attempt)

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
        command: Sequence[str] = (),
    ) -> "RunCheckpoints":
        """Those of a run with these settings, and of so many sequences."""
        return cls(
            root, identity, settings.save_policy(), steps, settings.steps_per_round,
            sequences=sequences, sequences_per_step=settings.sequences_per_step,
            segments=segments, segments_per_round=settings.segments_per_round, command=command,
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
            **self.attempt.noted(),
        }  # fmt: skip
        if self.command:
            about[COMMAND] = list(self.command)
        if left := ancestors(self.found, self.run):
            about[FOLLOWS] = left
        if progress.cursor is not None:
            about["cursor"] = dict(progress.cursor)
        began = self.clock()
        self.last = checkpoints.write(self.folder, progress.step, files, about)
        now = self.clock()
        self.saver.saved(progress.step, now, now - began)
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
        """Wait until the last checkpoint has arrived at the remote, or until Ctrl-C.

        Raises PipelineError if it does not arrive.
        """
        if self.remote is None:
            return
        try:
            outcome = self.remote.finish(timeout)
        except KeyboardInterrupt:
            outcome = self.remote.finish(0)
        if not outcome.ok:
            raise never_arrived(self.folder, outcome)
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
        return found

    def _gone_back_to(self, found: Checkpoint) -> Checkpoint:
        """Make `found` what the run goes on with from now on, whatever is newer, here or there."""
        here = [path for path in checkpoints.listed(self.folder) if path.name != found.name]
        later = [path for path in here if checkpoints.step_of(path) > found.step]
        there = self.remote.newest() if self.remote else None
        is_held = self.attempt.holds(attempt_of(found.about), found.step)
        if later or not is_held or (there is not None and there.step > found.step):
            self._begin_attempt(found)
        elif self.remote and self.remote.attempt != self.attempt:
            self.remote.announce(self.attempt)
        note_attempt(self.folder, self.attempt)
        set_others_aside(self.folder, self.attempt)
        if SET_ASIDE in found.path.parent.name and found.path.parent.parent == self.folder:
            back = self.folder / found.name
            if not back.exists():  # so that it is found again should this be killed
                found = replace(found, path=found.path.replace(back))
        return found

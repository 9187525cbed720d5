"""Two machines by turns, through the trainer, with moto's S3 between them.

A ends a round, and is killed in an upload of the next. B, with an empty disk, goes on from the
remote. A comes back, begins where B ended, and falls asleep in an upload; B goes on meanwhile. A
wakes up: whatever it does then, nothing of B's is changed. B ends the run, with the weights of the
straight one.
"""

import json
import os
import random
import signal
from pathlib import Path
from typing import Any

from pipeline.training.checkpoints import COMPLETE
from pipeline.training.copy_notes import COPIED
from tests.chaos_moments import Strike
from tests.chaos_s3 import objects
from tests.chaos_session import FROZEN, Inputs, Plan, outcome, start, wait

RUN = "turns"


class Turns:
    """The two machines and what they share."""

    def __init__(self, work: Path, inputs: Inputs, s3: str) -> None:
        self._place, self._inputs, self._s3 = work / RUN, inputs, s3
        self._rng, self._count = random.Random(0), 0

    def data(self, machine: str) -> Path:
        """The disk of a machine."""
        return self._place / machine

    def there(self) -> dict[str, Any]:
        """The copies' files at the remote."""
        return {name: fact for name, fact in objects(self._s3, RUN).items() if "/step-" in name}

    def plan(self, machine: str, strike: Strike | None = None, **options: Any) -> Plan:
        """A session of a machine."""
        self._count += 1
        return Plan(
            self.data(machine), self._place / f"{self._count}-{machine}", self._inputs,
            strike=strike, url=f"s3://bucket/{RUN}", options={"save_steps": 1, **options},
        )  # fmt: skip

    def play(self, plan: Plan, code: int) -> list[dict[str, Any]]:
        """Play a session that must end so. Returns its journal."""
        found = wait(start(plan), self._rng)
        _check(found == code, f"{plan.notes} ended with {found}:\n{plan.said()}")
        return plan.journal()


def _check(is_so: bool, wrong: str) -> None:
    if not is_so:
        raise AssertionError(wrong)


def _first(journal: list[dict[str, Any]]) -> int:
    return int(next(line["resumed"] for line in journal if "resumed" in line))


def _last(journal: list[dict[str, Any]], what: str) -> int:
    return max([int(line[what]) for line in journal if what in line], default=0)


def play_turns(work: Path, inputs: Inputs, straight: dict[str, Any], s3: str) -> str:
    """Play it; says what came of it. Raises AssertionError."""
    turns = Turns(work, inputs, s3)
    # Short rounds: however slow the remote is, A is killed long before the run's last step.
    arrived = _last(turns.play(turns.plan("a", steps_per_round=2), 33), "arrived")
    _check(arrived == 2, f"A's first round ended, and only {arrived} of 2 had arrived")
    killed = Strike("upload", 8, 0.0, signal.SIGKILL)
    a = turns.play(turns.plan("a", killed, steps_per_round=2), -signal.SIGKILL)
    arrived = max(arrived, _last(a, "arrived"))
    # Farther than A had come: only then is there something for A to fetch.
    further = _last(a, "saved") - arrived + 1
    b = turns.play(turns.plan("b", steps_per_round=further), 33)
    _check(_first(b) >= arrived, f"B began after step {_first(b)}, and {arrived} had arrived")
    asleep = turns.plan("a", Strike("upload", 8, 0.0, signal.SIGSTOP))
    pid = start(asleep)
    try:
        _check(wait(pid, turns._rng, freeze=True) == FROZEN, "A did not fall asleep")
        back = _first(asleep.journal())
        _check(back == _last(b, "saved"), f"A began after {back}, not where B had ended")
        b = turns.play(turns.plan("b", steps_per_round=1), 33)
        before = turns.there()
        os.kill(pid, signal.SIGCONT)
        code = wait(pid, turns._rng)
    except BaseException:
        os.kill(pid, signal.SIGKILL)
        raise
    refused = [line["refused"] for line in asleep.journal() if "refused" in line]
    _check(code == 1 and "Another machine continues" in "".join(refused), f"A: {code} {refused}")
    after = turns.there()
    changed = [name for name in before if after.get(name) != before[name]]
    _check(not changed, f"A changed what was there: {changed}")
    # What was under way when it fell asleep may have arrived, but makes no checkpoint.
    marked = [name for name in after.keys() - before.keys() if name.endswith(COMPLETE)]
    _check(not marked, f"A wrote {marked} although B owns the run")
    notes = [json.loads(path.read_text()) for path in turns.data("b").rglob(COPIED)]
    _check([n["step"] for n in notes] == [_last(b, "arrived")], f"B noted as copied: {notes}")
    b = turns.play(turns.plan("b"), 0)
    _check(outcome(turns.data("b")) == straight, "B's end is not the straight run's")
    return (
        f"two machines by turns: A was killed after step {_last(a, 'saved')} ({arrived} had "
        f"arrived), B went on, A came back at {back} and slept, B went on to {_first(b)}, A woke "
        "up and changed nothing there, B ended: equal"
    )

"""Chaos: training runs that are killed again and again, and what becomes of them.

    python -m tests.chaos --runs 40      prints what was done and what came of it

Each run trains a tiny model by the stage itself, in one real process after another: a server that
has imported everything forks them. They are killed at random moments, files are damaged between
them, machines vanish, the remote fails and lies. In the end the weights must be the straight
run's, bit for bit, and no session may begin before what was last saved.
"""

import argparse
import os
import random
import shutil
import signal
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Mapping
from contextlib import ExitStack
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from tests.chaos_moments import Strike
from tests.chaos_s3 import s3_server
from tests.chaos_session import HUNG, Inputs, Plan, import_everything, outcome, prepare, start, wait
from tests.chaos_turns import play_turns

KEPT = 2
MOST_SESSIONS = 40

# The phases that are aimed at, and about how many events each has in a session.
AIMS = {
    "start": 150, "step": 60, "evaluation": 12, "save": 90, "delete": 40, "upload": 60,
    "delete there": 20, "download": 20, "end": 30,
}  # fmt: skip
WEIGHTS = {"step": 6, "save": 6, "upload": 5, "delete": 4, "delete there": 3, "evaluation": 2}
SIGNALS = {signal.SIGKILL: 5, signal.SIGTERM: 3, signal.SIGSTOP: 2}
# The first strikes of the first runs, so that each kind is there in the smallest play, too. By
# their order these runs have a remote that lies, a folder, none, and S3.
FIRST = (
    Strike("upload", 20, 0.0, signal.SIGKILL), Strike("delete", 3, 0.0, signal.SIGKILL),
    Strike("step", 7, 0.0, signal.SIGTERM), Strike("save", 20, 0.0, signal.SIGSTOP),
)  # fmt: skip
LIES = {
    "fail": 0.15, "drop": 0.1, "cut": 0.1, "flip": 0.1, "misread": 0.05, "length": 0.02,
    "keeps_deleted": 0.2, "lag": 1,
}  # fmt: skip


# --- damage ---------------------------------------------------------------------------------------


def damage(path: Path, rng: random.Random) -> str:
    """Truncate a file, flip a bit of it, or delete it; says which."""
    data = path.read_bytes()
    kind = rng.choice(["truncated", "bit-flipped", "missing"]) if data else "missing"
    if kind == "missing":
        path.unlink()
    elif kind == "truncated":
        path.write_bytes(data[: rng.randrange(len(data))])
    else:
        at = rng.randrange(len(data))
        path.write_bytes(data[:at] + bytes([data[at] ^ 1 << rng.randrange(8)]) + data[at + 1 :])
    return kind


def _any_file(folder: Path, rng: random.Random) -> Path | None:
    files = sorted(path for path in folder.rglob("*") if path.is_file()) if folder else []
    return rng.choice(files) if files else None


def _step(folder: Path) -> int:
    return int(folder.name.split("-")[1])


# --- one run --------------------------------------------------------------------------------------


class Failed(Exception):
    """Something is not as it must be."""


@dataclass
class Totals:
    """What was done to all runs, and what came of it."""

    sessions: int = 0
    kills: Counter[tuple[str, str]] = field(default_factory=Counter)
    damages: Counter[str] = field(default_factory=Counter)
    refusals: Counter[str] = field(default_factory=Counter)
    remotes: Counter[str] = field(default_factory=Counter)
    equal: int = 0
    turns: str = "two machines by turns: not played"
    failed: list[str] = field(default_factory=list)


class Run:
    """One run: sessions, and between them misfortunes, until it ends."""

    def __init__(
        self, number: int, seed: int, work: Path, inputs: Inputs, totals: Totals,
        remote: str | None,
    ) -> None:  # fmt: skip
        self.number, self.rng = number, random.Random(f"{seed}-{number}")
        self.place, self.totals, self.inputs = work / f"run-{number}", totals, inputs
        self.machine, self.count = 0, 0
        self.kills = self.rng.randint(2, 5)
        self.saved: set[int] = set()  # on the disk of this machine, and as it was written
        self.arrived: set[int] = set()  # at the remote, likewise
        self.remote = remote
        self.url = {
            "file": (self.place / "remote").as_uri(), "lying": "lying://bucket/run",
            "s3": f"s3://bucket/run-{number}", None: None,
        }[remote]  # fmt: skip
        self.lies = {
            name: LIES[name] for name in self.rng.sample(sorted(LIES), self.rng.randint(1, 3))
        }
        self.options = {
            "save_steps": self.rng.choice([1, 1, 2]), "keep_last": KEPT,
            "keep_every": self.rng.choice([None, None, "5"]),
        }  # fmt: skip
        totals.remotes[remote or "none"] += 1

    @property
    def data(self) -> Path:
        return self.place / f"machine-{self.machine}"

    def play(self, straight: dict[str, Any]) -> None:
        """Play it to its end, which must be the straight run's. Raises Failed."""
        while self.session() != 0:
            if self.count >= MOST_SESSIONS:
                raise Failed(f"it did not end in {MOST_SESSIONS} sessions")
            if self.kills > 0 and self.rng.random() < 0.7:
                self.misfortune()
        if (found := outcome(self.data)) != straight:
            wrong = [name for name in found if found[name] != straight[name]]
            raise Failed(f"{', '.join(wrong)} are not the straight run's")
        litter = [p.name for p in (self.data / "6_adapter").rglob(".tmp-*")]
        if litter:
            raise Failed(f"it left {litter[0]}")
        self.totals.equal += 1
        shutil.rmtree(self.place)

    def session(self) -> int:
        """One session. Returns its exit code."""
        self.count += 1
        self.totals.sessions += 1
        store = self.place / "remote" if self.remote == "lying" else None
        plan = Plan(
            self.data, self.place / f"session-{self.count}", self.inputs,
            strike=self.choose_strike() if self.kills > 0 else None, url=self.url, store=store,
            lies=self.lies if store else {}, seed=self.rng.randrange(10**6), options=self.options,
        )  # fmt: skip
        expected = max([0, *sorted(self.saved)[-KEPT:], *sorted(self.arrived)[-KEPT:]])
        code = wait(start(plan), self.rng)
        self.read(plan.journal(), expected)
        if code == HUNG:
            raise Failed("it hung")
        return code

    def choose_strike(self) -> Strike:
        """Where to strike, when, and with what."""
        if self.count == 1 and self.number < len(FIRST):
            return FIRST[self.number]
        rng = self.rng
        phase = rng.choices(list(AIMS), [WEIGHTS.get(name, 1) for name in AIMS])[0]
        number = rng.choices(list(SIGNALS), list(SIGNALS.values()))[0]
        impatient = number == signal.SIGTERM and rng.random() < 0.3
        return Strike(
            phase, 1 + int(rng.random() ** 2 * AIMS[phase]),
            rng.choice([0.0, rng.uniform(0, 0.02), rng.uniform(0, 0.2)]), number,
            rng.uniform(0, 0.3) if impatient else None,
        )  # fmt: skip

    def read(self, journal: list[dict[str, Any]], expected: int) -> None:
        """Take note of what a session did. Raises Failed if it lost work, or crashed."""
        for line in journal:
            match line:
                case {"resumed": step}:
                    if step < expected:
                        raise Failed(f"it began after step {step}, and {expected} was saved")
                    self.saved = {saved for saved in self.saved if saved <= step}
                case {"saved": step}:
                    self.saved.add(step)
                case {"arrived": step}:
                    self.arrived.add(step)
                case {"struck": name, "phase": phase}:
                    self.totals.kills[phase, name] += 1
                    self.kills -= 1
                case {"refused": why}:
                    self.totals.refusals[kind_of(why)] += 1
                case {"crashed": why}:
                    raise Failed(f"a session crashed: {why}")

    # --- between two sessions ---------------------------------------------------------------------

    def misfortune(self) -> None:
        """Damage something, here or there, or lose the whole machine."""
        what = [self.damage_here, self.damage_here, self.damage_best]
        if self.remote is not None:
            what += [self.vanish]
        if self.remote in ("file", "lying"):
            what += [self.damage_there, self.damage_registry]
        self.rng.choice(what)()

    def damage_here(self) -> None:
        """Damage the newest checkpoint of this machine."""
        folders = sorted(self.data.glob("6_adapter/checkpoints/*/step-*"))
        if folders and (path := _any_file(folders[-1], self.rng)):
            self.saved.discard(_step(folders[-1]))
            self.tell("marker" if path.name == "COMPLETE.json" else "checkpoint", path)

    def damage_best(self) -> None:
        """Damage the best weights so far."""
        for best in self.data.glob("6_adapter/checkpoints/*/best"):
            if path := _any_file(best, self.rng):
                self.tell("best weights", path)

    def damage_there(self) -> None:
        """Damage the newest copy."""
        folders = sorted((self.place / "remote").rglob("step-*"))
        if folders and (path := _any_file(folders[-1], self.rng)):
            self.arrived.discard(_step(folders[-1]))
            self.tell("copy", path)

    def damage_registry(self) -> None:
        """Damage the registry, or what a session says of itself."""
        files = [p for p in (self.place / "remote").rglob("*.json") if "step-" not in p.parent.name]
        if files:
            self.tell("registry", self.rng.choice(sorted(files)))

    def vanish(self) -> None:
        """The next session is on another machine, with an empty disk."""
        self.machine += 1
        self.saved.clear()
        self.totals.damages["machine lost"] += 1

    def tell(self, what: str, path: Path) -> None:
        self.totals.damages[f"{what} {damage(path, self.rng)}"] += 1


def kind_of(message: str) -> str:
    """A refusal without its paths and numbers."""
    words = [
        word for word in message.split() if "/" not in word and not any(map(str.isdigit, word))
    ]
    return " ".join(words[:9])


# --- all runs -------------------------------------------------------------------------------------


def play(runs: int, seed: int, work: Path, s3: str | None) -> Totals:
    """Play all runs; with the address of an S3 server, some against it, and machines by turns."""
    inputs, totals = prepare(work), Totals()
    plan = Plan(work / "straight", work / "straight-run", inputs)
    if wait(start(plan), random.Random(seed)) != 0:
        raise SystemExit(plan.said())
    straight = outcome(plan.data)
    remotes = ["lying", "file", None, *(["s3"] if s3 else [])]
    for number in range(runs):
        run = Run(number, seed, work, inputs, totals, remotes[number % len(remotes)])
        try:
            run.play(straight)
        except Failed as failed:
            totals.failed.append(f"{run.place}, session {run.count}: {failed}")
    if s3:
        try:
            totals.turns = play_turns(work, inputs, straight, s3)
        except AssertionError as failed:
            totals.failed.append(f"two machines by turns: {failed}")
    return totals


def report(totals: Totals, runs: int, seconds: float) -> str:
    """What was done, and what came of it."""
    signals: Counter[str] = Counter()
    for (_, name), count in totals.kills.items():
        signals[name] += count
    lines = [
        f"{runs} runs, {totals.sessions} sessions, {totals.kills.total()} kills, "
        f"{totals.damages.total()} damages, {seconds:.0f} s",
        f"equal to the straight run: {totals.equal}",
        f"kills: {_listed(signals)}",
    ]
    for phase in sorted({phase for phase, _ in totals.kills}):
        hits = {name: n for (where, name), n in totals.kills.items() if where == phase}
        lines.append(f"  in {phase}: {_listed(hits)}")
    for name, counts in (
        ("remotes", totals.remotes), ("damages", totals.damages),
        ("sessions that ended with a refusal", totals.refusals),
    ):  # fmt: skip
        lines.append(f"{name}: {_listed(counts)}")
    return "\n".join([*lines, totals.turns, *(f"FAILED: {text}" for text in totals.failed)])


def _listed(counts: Mapping[str, int]) -> str:
    return ", ".join(f"{name} {count}" for name, count in sorted(counts.items())) or "none"


def main() -> int:
    """Play; see the module."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--runs", type=int, default=40)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--work", type=Path, help="a folder, kept (default: a temporary one)")
    parser.add_argument("--no-s3", action="store_true", help="without moto's S3")
    given = parser.parse_args()
    began = time.monotonic()
    os.environ.update({"HF_HUB_OFFLINE": "1", "OMP_NUM_THREADS": "1", "MPLBACKEND": "agg"})
    work = given.work or Path(tempfile.mkdtemp(prefix="chaos-"))
    work.mkdir(parents=True, exist_ok=True)
    with ExitStack() as stack:
        s3 = None if given.no_s3 else stack.enter_context(s3_server(failing=0.02))
        import_everything()
        totals = play(given.runs, given.seed, work.resolve(), s3)
    sys.stdout.write(report(totals, given.runs, time.monotonic() - began) + "\n")
    if not given.work and not totals.failed:
        shutil.rmtree(work)
    return 1 if totals.failed else 0


if __name__ == "__main__":
    sys.exit(main())

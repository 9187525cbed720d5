"""What came into `1_raw`, what stood there already, what was refused and why."""

import json
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import IO, Any

from pipeline.books.naming import safe_stem
from pipeline.errors import PipelineError
from pipeline.files import encode_json, fingerprint, json_lines, sha256_bytes, sha256_file
from pipeline.run import StageRun

CATALOG = "catalog.jsonl"
REFUSED = "refused.jsonl"
QUARANTINE = "quarantine.jsonl"
MISSED = "not fetched"  # refused for now, and asked for again next time
SUMMED_UP = (
    "fetched", "already there", "of earlier runs", "deleted by hand", "refused", "renewed",
    "not changed", "bad records skipped", "quarantined", "not sampled",
)  # fmt: skip
SHOWN = 20  # refusals that are shown one by one; all of them are in the file


@contextmanager
def open_register(run: StageRun) -> Iterator["Register"]:
    """A register for one run of stage 1; its catalogue is written when the block ends well."""
    with run.scratch() as folder:
        register = Register(run, folder)
        try:
            yield register
            register.finish()
        finally:
            register.close()


class Register:
    """Gives documents their names, writes them, and keeps the accounts. See `open_register`.

    `weights` are those of this run's sources, by collection.
    """

    def __init__(self, run: StageRun, folder: Path) -> None:
        self.run = run
        self.folder = folder
        self.weights: dict[str, float | None] = {}
        self._taken: set[str] = set()
        self._marks = {name: str(row.get("origin")) for name, row in run.notes().items()}
        self._names = {(mark, suffix_of(name)): name for name, mark in self._marks.items()}
        self._refusals: list[dict[str, str]] = []
        self._quarantine: IO[bytes] | None = None

    # --- documents ------------------------------------------------------------------------------

    def name(self, stem: str, origin: str, suffix: str = ".txt") -> str:
        """A file name for what came from `origin`: safe, of no other document, and the one that it
        got in an earlier run (a book's title changes in its catalogue)."""
        mark = origin_mark(origin)
        name = self._names.get((mark, suffix)) or f"{safe_stem(stem)}{suffix}"
        if name in self._taken or self._marks.get(name, mark) != mark:
            # Two folders, in this run or an earlier one, hold files of one name.
            name = f"{safe_stem(stem, longest=70)}-{mark}{suffix}"
        self._taken.add(name)
        return name

    def plan(self, name: str, key: str) -> str:
        """What is to be done about the document (see `StageRun.plan`); counts it."""
        plan = self.run.plan(name, key)
        words = {"write": "fetched", "deleted": "deleted by hand"}
        self.count(words.get(plan, "already there"))
        return plan

    def wants(self, name: str, key: str) -> bool:
        """Whether the document is still to be had; counts it."""
        return self.plan(name, key) == "write"

    def add(self, name: str, data: bytes, key: str, row: dict[str, Any]) -> None:
        """Write a document and its row of the catalogue."""
        facts = {"bytes": len(data), "sha256": sha256_bytes(data), "file": name}
        self.run.write(name, data, key, plain(row | facts))

    def add_file(self, name: str, path: Path, key: str, row: dict[str, Any]) -> None:
        """Take a finished file of `folder` as a document."""
        facts = {"bytes": path.stat().st_size, "sha256": sha256_file(path), "file": name}
        self.run.take(name, path, key, plain(row | facts))

    # --- what is not taken ----------------------------------------------------------------------

    def count(self, word: str, n: int = 1) -> None:
        """Add to one of the run's counts."""
        self.run.counts[word] = self.run.counts.get(word, 0) + n

    def refuse(self, what: str, reason: str, *, missed: bool = False, counted: bool = True) -> None:
        """Leave a text out, with a word. `missed`: it may be there next time. `counted`: `wants`
        has counted it as fetched."""
        if counted:
            self.count("fetched", -1)
        self.count("refused")
        if missed:
            self.count(MISSED)
        what, reason = plain(what), plain(reason).rstrip(".")
        self._refusals.append({"what": what, "reason": reason})
        if len(self._refusals) <= SHOWN:
            self.run.warn(f"{what} was left out: {reason}.")

    def quarantine(self, file: str, place: str, reason: str, raw: str) -> None:
        """Keep a bad record aside, for a person to mend."""
        self.count("quarantined")
        if self._quarantine is None:
            self._quarantine = (self.folder / QUARANTINE).open("wb")
        row = {"file": file, "place": place, "reason": reason, "raw": raw}
        self._quarantine.write(encode_json(plain(row)) + b"\n")

    # --- the end --------------------------------------------------------------------------------

    def finish(self) -> None:
        """Write the catalogue and the lists of what was left out.

        Raises PipelineError if there is nothing to put into the catalogue.
        """
        self.close()
        run, counts = self.run, self.run.counts
        if len(self._refusals) > SHOWN:
            run.warn(
                f"{len(self._refusals) - SHOWN} more were left out: see {run.directory / REFUSED}."
            )
        if self._refusals:
            run.write(REFUSED, json_lines(self._refusals))
        if self._quarantine is not None:
            run.take(QUARANTINE, self.folder / QUARANTINE)
        earlier = run.carry_on(but=(REFUSED, QUARANTINE))
        if documents := [name for name in earlier if name != CATALOG]:
            counts["of earlier runs"] = len(documents)
        rows = list(run.rows().values())
        if not any(counts.get(word) for word in ("fetched", "already there", "deleted by hand")):
            raise PipelineError(
                "There is no text in what was asked for: "
                f"{counts.get('refused', 0) + counts.get('quarantined', 0)} left out.",
                "The reasons are above.",
            )
        for row in rows:
            row["weight"] = self.weights.get(row.get("collection") or "", row.get("weight"))
        counts["documents"] = len(rows)
        counts["bytes"] = sum(row["bytes"] for row in rows)
        run.write(CATALOG, json_lines(rows))

    def close(self) -> None:
        """Close what is open."""
        if self._quarantine is not None:
            self._quarantine.close()


def origin_mark(origin: str) -> str:
    """Eight characters that stand for where a document came from."""
    return fingerprint(origin)[:8]


def suffix_of(name: str) -> str:
    """`.txt`, `.chat.jsonl`, ... of a file name of `1_raw`."""
    return name[name.index(".") :]


def plain(value: Any) -> Any:
    """`value` without the halves of characters that no UTF-8 file can hold."""
    if isinstance(value, str):
        return value.encode("utf-8", "replace").decode("utf-8")
    if isinstance(value, dict):
        return {plain(key): plain(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [plain(item) for item in value]
    return value


def summary(run: StageRun) -> str:
    """The line that sums the stage up: what there is, what came, what was refused and why."""
    counts = run.counts
    text = f"{counts['documents']:,} documents, {counts['bytes']:,} bytes in {run.directory}"
    if counts.get("records"):
        text += f", {counts['records']:,} records among them"
    if run.is_fresh:
        return text
    parts = [f"{counts[word]:,} {word}" for word in SUMMED_UP if counts.get(word)]
    text += f" ({', '.join(parts)})"
    for word, name in (("refused", REFUSED), ("quarantined", QUARANTINE)):
        if counts.get(word):
            text += f"; {run.directory / name} says why"
    return text


def reasons(run: StageRun) -> list[str]:
    """The lines under the summary: how often each reason for a refusal was met."""
    path = run.directory / REFUSED
    if run.is_fresh or not run.counts.get("refused") or not path.is_file():
        return []
    tally: dict[str, int] = {}
    for line in path.read_text("utf-8").splitlines():
        reason = json.loads(line)["reason"]
        tally[reason] = tally.get(reason, 0) + 1
    ranked = sorted(tally.items(), key=lambda item: -item[1])
    lines = [f"  {n:,} refused: {reason}" for reason, n in ranked[:5]]
    return lines + ([f"  and {len(ranked) - 5:,} other reasons"] if len(ranked) > 5 else [])

"""How sending copies went: what the summary says, and whether the command may end well."""

from dataclasses import dataclass

from pipeline.console import megabytes


@dataclass(frozen=True)
class Outcome:
    """How it went. `ok`: the last checkpoint that was offered has arrived."""

    ok: bool
    url: str  # without credentials
    last: int | None  # step of the newest checkpoint that was offered
    arrived: int | None  # step of the newest one that arrived
    count: int  # checkpoints that arrived
    sent: int  # bytes
    failures: int  # tries that failed
    reason: str | None  # why the last one never arrived, or what remained undone

    def __str__(self) -> str:
        tries = f"; {self.failures} tries failed" if self.failures else ""
        if not self.ok:
            reason = (self.reason or "there was no time").rstrip(".")
            return (
                f"The last checkpoint (step {self.last}) never arrived at {self.url}: "
                f"{reason}{tries}"
            )
        if self.last is None:
            return f"No checkpoint was to be copied to {self.url}"
        done = f"{self.count} checkpoints, {megabytes(self.sent)}, the last of step {self.arrived}"
        rest = f"; {self.reason}" if self.reason else ""
        return f"Copied to {self.url}: {done}{tries}{rest}"

"""What stage 1 says at its end: what there is, what came, what was refused and why."""

from pipeline.acquisition.labels import lines_of
from pipeline.acquisition.register import BEFORE, GONE, LEFT, QUARANTINE, REFUSED
from pipeline.console import many
from pipeline.run import StageRun

SHORT = "fewer than asked for"
SUMMED_UP = (
    "fetched", "already there", "of earlier runs", "deleted by hand", LEFT,
    "refused", BEFORE, "renewed", "not changed", GONE, "bad records skipped", "quarantined",
    "not sampled", "named twice", "sources stopped at --limit", SHORT,
)  # fmt: skip
_OF_ONE = {  # where a word would tell of several
    GONE: "gone from its source",
    "bad records skipped": "bad record skipped",
    "sources stopped at --limit": "source stopped at --limit",
}
_REASONS = 5  # that are shown; all of them are in the file


def summary(run: StageRun, *, asks_again: bool = False) -> str:
    """The line that sums the stage up. `asks_again`: nobody was asked whether there is more."""
    counts = run.counts
    text = f"{many(counts['documents'], 'document')}, {many(counts['bytes'], 'byte')}"
    text += f" in {run.directory}"
    if counts.get("records"):
        text += f", {many(counts['records'], 'record')} among them"
    if asks_again:
        text += "; --refresh asks whether anything is new"
    if run.is_fresh:
        return text
    found = [word for word in SUMMED_UP if counts.get(word)]
    parts = [many(counts[word], _OF_ONE.get(word, word), word) for word in found]
    text += f" ({', '.join(parts)})"
    refused = counts.get("refused") or counts.get(BEFORE)
    for count, name in ((refused, REFUSED), (counts.get("quarantined"), QUARANTINE)):
        if count:
            text += f"; {run.directory / name} says why"
    return text


def reasons(run: StageRun) -> list[str]:
    """The lines under the summary: how often each reason for a refusal was met, in this run and in
    earlier ones whose sources it did not look at."""
    if run.is_fresh or not (run.counts.get("refused") or run.counts.get(BEFORE)):
        return []
    tally: dict[str, int] = {}
    for _, row in lines_of(run.directory / REFUSED):
        if row and "reason" in row:
            reason = str(row["reason"])
            tally[reason] = tally.get(reason, 0) + 1
    ranked = sorted(tally.items(), key=lambda item: -item[1])
    lines = [f"  {n:,} refused: {reason}" for reason, n in ranked[:_REASONS]]
    more = len(ranked) - _REASONS
    return lines + ([f"  and {many(more, 'other reason')}"] if more > 0 else [])

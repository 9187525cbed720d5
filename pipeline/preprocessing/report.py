"""What stage 2 says of its work: the report, the table of duplicates, counts, the summary."""

import re
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from typing import Any

from pipeline.books.duplicates import Duplicates
from pipeline.console import many
from pipeline.files import json_lines
from pipeline.preprocessing.dry_run import DryRun
from pipeline.preprocessing.texts import REJECTED, Text
from pipeline.run import StageRun

REPORT, PAIRS = "report.jsonl", "duplicates.jsonl"
_FIGURE = re.compile(r"\d[\d.,]*(?: ?%)?")
_QUOTE = re.compile(r'"[^"]*"')
_SHOWN_REASONS = 5


def report_rows(
    texts: Sequence[Text], records: Sequence[dict[str, Any]], works: Mapping[str, str]
) -> list[dict[str, Any]]:
    """A row for each document that came from `1_raw`, in the order of their names."""
    names = _names_of_works(texts, works)
    rows = list(records)
    for text in texts:
        if "verdict" not in text.row:
            continue  # put there by hand: stage 3 counts it as such
        row = {"file": text.name, "document_id": text.id} | text.row
        if text.state == "deleted":
            row |= {"verdict": "deleted", "reason": "deleted by hand"}
            row |= {"characters_out": 0, "removed": {}}
        if text.id in works:
            row["work"] = names.get(works[text.id], works[text.id])
        rows.append(row)
    return sorted(rows, key=lambda row: str(row["file"]))


def _names_of_works(texts: Sequence[Text], works: Mapping[str, str]) -> dict[str, str]:
    """Works bear the name of a text that was put in by hand, if they have one: it has no row that
    could say which work it belongs to."""
    names: dict[str, str] = {}
    for text in texts:
        if "verdict" not in text.row and text.id in works:
            names.setdefault(works[text.id], text.id)
    return names


def write_reports(run: StageRun, rows: Sequence[dict[str, Any]], found: Duplicates) -> None:
    """Write the report and the table of duplicates."""
    run.write(REPORT, json_lines(list(rows)))
    run.write(PAIRS, json_lines([asdict(pair) for pair in found.pairs]))


def count(rows: Sequence[dict[str, Any]]) -> dict[str, Any]:
    """The counts of the stage's record; reasons are counted without their figures."""
    verdicts = Counter(row["verdict"] for row in rows)
    removed: Counter[str] = Counter()
    for row in rows:
        for rule, removal in row.get("removed", {}).items():
            removed[rule] += removal["characters"]
    languages = Counter(str(row.get("language")) for row in rows if row["verdict"] == "kept")
    return {
        "texts": len(rows),
        "documents": verdicts["kept"],
        "rejected": verdicts["rejected"],
        "duplicates": verdicts["duplicate"],
        "deleted": verdicts["deleted"],
        "records": sum(row.get("records", 0) for row in rows),
        "characters_in": sum(row.get("characters_in", 0) for row in rows),
        "characters_out": sum(row.get("characters_out", 0) for row in rows),
        "mentions": sum(row.get("mentions", 0) for row in rows if row["verdict"] == "kept"),
        "removed": dict(removed.most_common()),
        "reasons": dict(_reasons(rows).most_common()),
        "languages": dict(languages.most_common()),
    }


def _reasons(rows: Sequence[dict[str, Any]]) -> Counter[str]:
    """How often each reason was met: those that differ in figures only under the first of them."""
    reasons: Counter[str] = Counter()
    first: dict[str, str] = {}
    for row in rows:
        if row["verdict"] == "rejected":
            reason = _QUOTE.sub('"..."', str(row.get("reason")))
            reasons[first.setdefault(_FIGURE.sub("N", reason), reason)] += 1
    return reasons


def summary(run: StageRun) -> str:
    """The line that sums the stage up."""
    counts = run.counts
    text = f"{many(counts['documents'], 'text')} cleaned into {run.directory}, "
    text += f"{many(counts['characters_in'], 'character')} in, {counts['characters_out']:,} out"
    if counts.get("rejected"):
        text += f"; {counts['rejected']:,} rejected"
    if counts.get("duplicates"):
        text += f"; {many(counts['duplicates'], 'duplicate')} left out"
    edited = 0 if run.overwrites_edited else len(run.condition.edited)
    # What was found at the start may have been restored since.
    deleted = len(run.condition.deleted) if run.is_fresh else counts.get("deleted", 0)
    for word, number in (("edited", edited), ("deleted", deleted)):
        if number:
            text += f"; {number} {word} by hand"
    if counts.get("mentions"):
        mentions = "mention of Project Gutenberg is", "mentions of Project Gutenberg are"
        text += f"; {many(counts['mentions'], *mentions)} left"
    return text


def reasons(run: StageRun) -> list[str]:
    """The lines under the summary: how often each reason for leaving a text out was met."""
    found = list(run.counts.get("reasons", {}).items())
    lines = [_told(reason, number) for reason, number in found[:_SHOWN_REASONS]]
    if len(found) > _SHOWN_REASONS:
        lines.append(f"  and {len(found) - _SHOWN_REASONS} other reasons")
    if found:
        lines.append(f"  {run.directory / REJECTED} has a sentence for each.")
    return lines


def _told(reason: str, number: int) -> str:
    varies = number > 1 and _FIGURE.search(reason)
    return f"  {number:,} rejected{', such as one because' if varies else ':'} {reason}"


def planned(run: DryRun, rows: Sequence[dict[str, Any]]) -> dict[str, Any]:
    """What a run would do, as a table for `printing.print_table`: a row for each file."""
    lines = []
    written = set(run.written)
    for row in rows:
        name, verdict = str(row["file"]), row["verdict"]
        if verdict == "kept":
            what = "written" if name in written else "left as it is"
        else:
            what = {"duplicate": "dropped"}.get(verdict, verdict)
        lines.append({"file": name, "would be": what, "why": row.get("reason") or ""})
    for name in run.removed:
        if name not in {row["file"] for row in rows} and not name.startswith(f"{REJECTED}/"):
            lines.append({"file": name, "would be": "removed", "why": "its source is gone"})
    return {"columns": ["file", "would be", "why"], "rows": lines, "long": ("why",)}

"""The ledger of stage 3, shown, and held against what the Parquet files really hold."""

from collections.abc import Iterator
from typing import Any

from pipeline.corpus.statistics import SPLITS
from pipeline.files import read_jsonl
from pipeline.inspection.survey import Inspection
from pipeline.inspection.tables import Section, aligned, visible

_WHOLE = {
    "rejected": "rejected documents", "duplicate": "duplicate documents",
    "deleted": "documents deleted by hand",
}  # fmt: skip


def ledger_total(found: Inspection) -> dict[str, Any] | None:
    """The sums of all documents as stage 3 wrote them, with `agrees` and `complaints`."""
    if found.ledger is None:
        return None
    wrong = complaints(found)
    return {**found.ledger["total"], "agrees": not wrong, "complaints": wrong}


def complaints(found: Inspection) -> list[str]:
    """What does not agree, a clause each; none if every sum is exact."""
    total = found.ledger["total"] if found.ledger else {}
    removed = _removed(total)
    left = _count(total, "characters_in") - sum(removed.values()) + _count(total, "by_hand")
    in_chunks = _count(total, "in_chunks")
    wrong = []
    if left != in_chunks:
        wrong.append(
            f"{left:,} characters should be in chunks, by the rules, and {in_chunks:,} are"
        )
    parts = sum(_count(total, split) for split in SPLITS)
    if parts != in_chunks:
        wrong.append(f"train and validation are {parts:,} characters, the chunks {in_chunks:,}")
    for split in () if found.records else SPLITS:  # records are in the ledger too
        there = sum(d.characters.get(split, 0) for d in found.documents.values())
        if there != _count(total, split):
            wrong.append(
                f"the files hold {there:,} characters in {split}, the ledger "
                f"{_count(total, split):,}"
            )
    return wrong


def ledger_section(found: Inspection) -> Iterator[Section]:
    """The ledger as a table, and whether it agrees."""
    total = found.ledger["total"] if found.ledger else {}
    characters_in = _count(total, "characters_in")
    removed = _removed(total)
    rows = [_row("characters in", characters_in, characters_in)]
    for rule, count in sorted(removed.items(), key=lambda item: -item[1]):
        if count:
            rows.append(_row(f"  {_WHOLE.get(rule, rule)}", -count, characters_in))
    if by_hand := _count(total, "by_hand"):
        rows.append(_row("  changed by hand", by_hand, characters_in))
    rows.append(_row("in chunks", _count(total, "in_chunks"), characters_in))
    rows += [_row(f"  {split}", _count(total, split), characters_in) for split in SPLITS]
    yield "\nLedger: what became of every character"
    yield aligned(["", "characters", "share"], rows)
    wrong = complaints(found)
    yield "The sums agree." if not wrong else f"The sums do not agree: {'; '.join(wrong)}."


def document_accounts(found: Inspection) -> list[dict[str, Any]]:
    """What stage 3 says of each document's characters: in, removed, by hand, in each split.

    None if it left no account. Raises PipelineError if that is damaged.
    """
    names = ("characters_in", "removed", "by_hand", *SPLITS)
    rows = read_jsonl(found.accounts) if found.accounts else []
    accounts = []
    for row in rows:
        if names[0] in row:
            figures = {name: _count(row, name) for name in names}
            left = figures["characters_in"] - figures["removed"] + figures["by_hand"]
            agrees = left == sum(figures[split] for split in SPLITS)
            accounts.append(
                {"document_id": str(row.get("document_id")), **figures, "agrees": agrees}
            )
    return accounts


def accounts_section(found: Inspection) -> Iterator[Section]:
    """The ledger of each document as a table."""
    accounts = document_accounts(found)
    if accounts:
        columns = ["document", "in", "removed", "by hand", *SPLITS, "sums"]
        rows = []
        for account in accounts:
            name, *figures, agrees = account.values()
            counts = (f"{-n if at == 1 else n:,}" for at, n in enumerate(figures))
            rows.append([visible(name), *counts, "agree" if agrees else "do not"])
        yield "\nLedger of each document"
        yield aligned(columns, rows, words=("document", "sums"))


def _row(what: str, count: int, whole: int) -> list[str]:
    share = count / whole if whole else 0
    return [what, f"{count:,}", f"{share:.2%}" if abs(share) >= 0.00005 else ""]


def _removed(total: dict[str, Any]) -> dict[str, int]:
    removed = total.get("removed")
    return {rule: _count(removed, rule) for rule in removed} if isinstance(removed, dict) else {}


def _count(values: dict[str, Any], name: str) -> int:
    value = values.get(name)
    return value if isinstance(value, int) else 0

"""The ledger: what became of every character that stage 2 read, exact to the character.

For each document, and for all of them,

    characters in - removed + by hand == in chunks == train + validation

What was removed has a name: a cleaning rule of stage 2, or `rejected`, `duplicate`, `deleted` for
a document that was left out whole. `by hand` is what a person added to a cleaned text, or took
away from it (then it is negative); a document that only a person made is by hand as a whole.
"""

from collections import Counter
from collections.abc import Iterable, Mapping
from typing import Any

from pipeline.corpus.record_files import bare_name
from pipeline.errors import PipelineError

DELETED = "deleted"
LEFT_OUT = ("rejected", "duplicate", DELETED)

_PASSED_ON = ("title", "language", "source", "rights", "collection", "weight", "segment")
_SUMS = ("characters_in", "by_hand", "train", "validation")
_AGAIN = "Run `pipeline preprocess --force`, then this stage again."

Row = Mapping[str, Any]


def file_of(row: Row) -> str:
    """The name of the file in `2_preprocessed` that a row of either stage is about."""
    return str(row.get("file") or f"{row.get('document_id')}.txt")


def removed_by_rule(row: Row | None) -> dict[str, int]:
    """The characters that each rule removed of a document, by its row in stage 2's report.

    Of a document that was left out, all of them, by the verdict.
    """
    if row is None:
        return {}
    if row.get("verdict") in LEFT_OUT:
        return {str(row["verdict"]): int(row.get("characters_in") or 0)}
    rules = (row.get("removed") or {}).items()
    return {str(rule): int(each["characters"]) for rule, each in rules if each["characters"]}


def account(row: Row | None, characters: int) -> dict[str, int]:
    """What a document's line in `documents.jsonl` says of its way: `characters_in`, `removed` (the
    sum) and `by_hand`.

    `row` is the document's in stage 2's report, None for one that a person put there; `characters`
    is its length now. Raises PipelineError if the row's own figures do not add up.
    """
    characters_in = int((row or {}).get("characters_in") or 0)
    removed = sum(removed_by_rule(row).values())
    made = 0 if row is None or row.get("verdict") in LEFT_OUT else row.get("characters_out")
    made = characters_in - removed if made is None else int(made)
    if characters_in - removed != made:
        raise PipelineError(
            f"The report of stage 2 does not add up for {file_of(row or {})}: {characters_in} "
            f"characters, less {removed} removed, are not {made}.",
            _AGAIN,
        )
    return {"characters_in": characters_in, "removed": removed, "by_hand": characters - made}


def document_line(made: Row, row: Row | None) -> dict[str, Any]:
    """A document's line in `documents.jsonl`: what stage 3 `made` of it, and what stage 2 says in
    its `row` of the report."""
    about = row or {}
    file = str(made["file"])
    document = bare_name(file) if "kind" in made else file.removesuffix(".txt")
    return {
        "document_id": document,
        "authors": about.get("authors") or [],
        **{name: about.get(name) for name in _PASSED_ON},
        "work": about.get("work") or document,
        **account(row, made["characters"]),
        "tokens": None,
        **{name: value for name, value in made.items() if name != "held_out"},
        "split": " and ".join(split for split in ("train", "validation") if made[split]),
    }


def make_ledger(report_rows: Iterable[Row], document_rows: Iterable[Row]) -> dict[str, Any]:
    """The ledger of stages 2 and 3, by their rows in `report.jsonl` and `documents.jsonl`.

    Its `total` has the number of documents in chunks, `characters_in`, `removed` by rule,
    `by_hand`, `in_chunks`, `train` and `validation`.

    Raises PipelineError, naming the document, if anything is not exact.
    """
    reported = {file_of(row): row for row in report_rows}
    sums = dict.fromkeys(_SUMS, 0)
    removed: Counter[str] = Counter()
    documents = in_chunks = 0
    for line in document_rows:
        row = reported.pop(file_of(line), None)
        _check(line, row)
        removed.update(removed_by_rule(row))
        for name in _SUMS:
            sums[name] += line[name]
        documents += 1
        in_chunks += line["characters"]
    for row in reported.values():  # not in chunks: left out by stage 2, or taken away by a person
        gone = account(row, 0)
        removed.update(removed_by_rule(row))
        removed[DELETED] -= gone["by_hand"]
        sums["characters_in"] += gone["characters_in"]
    total = {
        "documents": documents,
        "characters_in": sums["characters_in"],
        "removed": {rule: n for rule, n in sorted(removed.items(), key=_most_first) if n},
        "by_hand": sums["by_hand"],
        "in_chunks": in_chunks,
        "train": sums["train"],
        "validation": sums["validation"],
    }
    _check_total(total)
    return {"total": total}


def _check(line: Row, row: Row | None) -> None:
    """Raise PipelineError unless a document's line is exact."""
    expected = account(row, line["characters"])
    left = line["characters_in"] - line["removed"] + line["by_hand"]
    split = line["train"] + line["validation"]
    same = all(line[name] == value for name, value in expected.items())
    if not (same and left == line["characters"] == split):
        raise PipelineError(
            f"The ledger does not add up for {file_of(line)}: {line['characters_in']} characters "
            f"in, {line['removed']} removed, {line['by_hand']} by hand; {line['characters']} in "
            f"chunks, of which {line['train']} to train on and {line['validation']} held out.",
            _AGAIN,
        )


def _most_first(item: tuple[str, int]) -> tuple[int, str]:
    return -item[1], item[0]


def _check_total(total: Row) -> None:
    left = total["characters_in"] - sum(total["removed"].values()) + total["by_hand"]
    if not left == total["in_chunks"] == total["train"] + total["validation"]:
        raise PipelineError(f"The ledger does not add up: {dict(total)}.", _AGAIN)

"""The ledger: no character is lost or made up, whatever people and rules do."""

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pipeline.corpus.ledger import account, document_line, file_of, make_ledger
from pipeline.errors import PipelineError

CHARACTERS = st.integers(0, 10**7)
REMOVED = st.dictionaries(
    st.sampled_from(["boilerplate", "unwrap", "italics", "whitespace"]),
    st.integers(-50, 10**6),
    max_size=4,
)


@st.composite
def shelves(draw: st.DrawFn) -> tuple[list[dict[str, Any]], list[dict[str, Any]]]:
    """A report of stage 2, and what stage 3 made after a person has been there."""
    rows, made = [], []
    for number in range(draw(st.integers(0, 8))):
        kind = draw(st.sampled_from(["text", "records"]))
        name = f"{number}.txt" if kind == "text" else f"{number}.chat.jsonl"
        verdict = draw(st.sampled_from(["kept", "kept", "rejected", "duplicate", "deleted", None]))
        row: dict[str, Any] = {"file": name, "verdict": verdict}
        out = draw(CHARACTERS)
        if verdict == "kept":
            removed = draw(REMOVED)
            row |= {
                "removed": {rule: {"count": 1, "characters": n} for rule, n in removed.items()},
                "characters_in": out + sum(removed.values()),
                "characters_out": out,
            }
        elif draw(st.booleans()):  # older reports have no length of what was rejected
            row["characters_in"] = out
        if verdict:
            rows.append(row)
        # A person may edit what was kept, delete it, or put there what was left out.
        now = draw(st.sampled_from([None, out, out + 7, max(0, out - 1000), 0]))
        if now is not None:
            train = draw(st.integers(0, now))
            line = {"file": name, "characters": now, "train": train, "validation": now - train}
            made.append(line if kind == "text" else line | {"kind": "chat", "records": 3})
    return rows, made


def lines_of(rows: list[dict[str, Any]], made: list[dict[str, Any]]) -> list[dict[str, Any]]:
    report = {row["file"]: row for row in rows}
    return [document_line(each, report.get(each["file"])) for each in made]


@given(shelves())
def test_the_sums_are_exact_for_each_document_and_in_all(
    shelf: tuple[list[dict[str, Any]], list[dict[str, Any]]],
) -> None:
    rows, made = shelf
    lines = lines_of(rows, made)
    for line in lines:
        left = line["characters_in"] - line["removed"] + line["by_hand"]
        assert left == line["characters"] == line["train"] + line["validation"]
    total = make_ledger(rows, lines)["total"]
    left = total["characters_in"] - sum(total["removed"].values()) + total["by_hand"]
    assert left == total["in_chunks"] == total["train"] + total["validation"]
    assert total["in_chunks"] == sum(each["characters"] for each in made)
    assert total["characters_in"] == sum(row.get("characters_in", 0) for row in rows)
    assert total["documents"] == len(made)


@given(shelves(), st.data())
def test_a_line_that_is_not_exact_is_an_error_that_names_the_document(
    shelf: tuple[list[dict[str, Any]], list[dict[str, Any]]], data: st.DataObject
) -> None:
    rows, made = shelf
    lines = lines_of(rows, made)
    if not lines:
        return
    number = data.draw(st.integers(0, len(lines) - 1))
    fields = ["characters_in", "removed", "by_hand", "characters", "train", "validation"]
    field = data.draw(st.sampled_from(fields))
    lines[number] = lines[number] | {field: lines[number][field] + data.draw(st.integers(1, 9))}
    with pytest.raises(PipelineError) as caught:
        make_ledger(rows, lines)
    assert file_of(lines[number]) in caught.value.message


KEPT: dict[str, Any] = {
    "file": "84.txt",
    "verdict": "kept",
    "characters_in": 1000,
    "characters_out": 700,
    "removed": {"boilerplate": {"count": 2, "characters": 290}, "unwrap": {"characters": 10}},
}


def line(characters: int, row: dict[str, Any] | None) -> dict[str, Any]:
    made = {"file": "84.txt", "characters": characters, "train": characters, "validation": 0}
    return document_line(made, row)


def test_what_each_rule_removed_and_what_was_left_out_have_their_names() -> None:
    rows: list[dict[str, Any]] = [
        KEPT,
        {"file": "1.txt", "verdict": "rejected", "characters_in": 50},
        {"file": "2.txt", "verdict": "duplicate", "characters_in": 60, "removed": {}},
        {"file": "3.txt", "verdict": "deleted", "characters_in": 70},
        {"file": "4.txt", "verdict": "rejected"},
    ]
    assert make_ledger(rows, [line(700, KEPT)]) == {
        "total": {
            "documents": 1, "characters_in": 1180,
            "removed": {"boilerplate": 290, "deleted": 70, "duplicate": 60, "rejected": 50,
                        "unwrap": 10},
            "by_hand": 0, "in_chunks": 700, "train": 700, "validation": 0,
        }
    }  # fmt: skip


def test_an_edit_is_by_hand_and_a_deletion_takes_what_was_left() -> None:
    assert line(650, KEPT)["by_hand"] == -50
    assert line(900, KEPT)["by_hand"] == 200
    total = make_ledger([KEPT], [])["total"]
    assert total["removed"] == {"deleted": 700, "boilerplate": 290, "unwrap": 10}
    assert (total["characters_in"], total["by_hand"], total["in_chunks"]) == (1000, 0, 0)


def test_what_only_a_person_put_there_is_by_hand_as_a_whole() -> None:
    added = line(300, None)
    assert (added["characters_in"], added["removed"], added["by_hand"]) == (0, 0, 300)
    rejected = {"file": "84.txt", "verdict": "rejected", "characters_in": 1000}
    mended = line(300, rejected)
    assert (mended["characters_in"], mended["removed"], mended["by_hand"]) == (1000, 1000, 300)
    assert make_ledger([rejected], [mended])["total"]["removed"] == {"rejected": 1000}


def test_a_report_that_does_not_add_up_is_named() -> None:
    with pytest.raises(PipelineError, match=r"does not add up for 84\.txt: 1000 characters, less"):
        account(KEPT | {"characters_out": 701}, 700)
    with pytest.raises(PipelineError, match=r"does not add up for 84\.txt"):
        make_ledger([KEPT | {"characters_out": 701}], [])


def test_the_line_of_a_document_repeats_what_is_known_of_it() -> None:
    row = KEPT | {"title": "The Vampyre", "authors": ["J. Polidori"], "work": "84", "weight": 0.5}
    made = line(700, row)
    assert made["document_id"] == "84"
    assert (made["title"], made["authors"], made["work"]) == (
        "The Vampyre",
        ["J. Polidori"],
        "84",
    )
    assert made["split"] == "train"
    records = document_line(
        {"file": "qa.chat.jsonl", "kind": "chat", "characters": 9, "train": 5, "validation": 4},
        None,
    )
    assert (records["document_id"], records["work"]) == ("qa", "qa")
    assert records["split"] == "train and validation"

"""The publish gate: what it holds back, and what it lets through."""

from pathlib import Path
from typing import Any

import pytest

from pipeline.hub import gate
from pipeline.hub.gate import judge, state_of_rights
from tests.hub.test_scanning import NAME, find, scan, write


@pytest.mark.parametrize(
    ("rights", "state"),
    [
        ("under copyright in the USA", "protected"),
        ("Copyright (c) 2021 A. Author", "protected"),
        ("© A. Author. All rights reserved.", "protected"),
        ("Copyrighted. Read the notice inside.", "protected"),
        ("public domain in the USA", "stated"),
        ("Not copyrighted in the USA", "stated"),
        ("no longer in copyright", "stated"),
        ("Copyright 2020 A. Author, CC BY 4.0", "stated"),
        ("MIT License", "stated"),
        ("BSD 3-Clause License", "stated"),
        ("Public domain in the USA.", "stated"),
        ("CC-BY-SA 4.0", "stated"),
        ("no known copyright restrictions", "stated"),
        ("https://creativecommons.org/publicdomain/mark/1.0/", "stated"),
        ("© 2003 MIT Press. All rights reserved.", "protected"),
        ("This book is NOT in the public domain: under copyright.", "protected"),
        ("Not public domain. Copyrighted.", "protected"),
        ("In copyright; public domain in Australia", "protected"),
        ("© 2001, mit freundlicher Genehmigung", "protected"),
        ("copyright", "protected"),
        ("Copyright Jane Doe", "protected"),
        ("Copyright (C) by Stephen King", "protected"),
        ("(C)2003", "protected"),
        ("Alle Rechte vorbehalten", "protected"),
        ("Tous droits réservés", "protected"),
        ("Tous droits re\u0301serve\u0301s", "protected"),
        ("in-copyright", "protected"),
        ("http://rightsstatements.org/vocab/InC/1.0/", "protected"),
        ("N/A", "unknown"),
        ("?", "unknown"),
        ("unknown.", "unknown"),
        ("Unknown rights", "unknown"),
        ("MIT", "unknown"),
        ("my own letters", "unknown"),
        ("unknown", "unknown"),
        ("", "unknown"),
        (None, "unknown"),
    ],
)
def test_rights_are_judged_by_their_words(rights: str | None, state: str) -> None:
    assert state_of_rights({"rights": rights}) == state


def test_a_mark_goes_before_words() -> None:
    assert state_of_rights({"copyright": True, "rights": "public domain"}) == "protected"
    assert state_of_rights({"copyright": False, "rights": None}) == "stated"


ROWS: list[dict[str, Any]] = [
    {"document_id": "84", "title": "Frankenstein", "rights": "public domain in the USA"},
    {"document_id": "new", "title": "A New Book", "rights": "under copyright in the USA"},
    {"document_id": "odd", "title": f"The {NAME} eBook of Odd Things", "rights": None},
]


def test_what_is_held_back_is_listed_with_the_file_to_mend(tmp_path: Path) -> None:
    path = write(tmp_path / "a.parquet", ("84", [f"x\n{NAME} made this.\n\n"] * 5))
    judgement = judge(scan(path).found, ROWS, find)
    assert judgement.holds_back
    ids = [row["document_id"] for row in ROWS]
    files = {id: Path(f"2_preprocessed/{id}.txt") for id in ids}
    lines = judgement.lines(files, Path("1_raw/catalog.jsonl"))
    assert lines[0] == f"2_preprocessed/84.txt:2: {NAME} made this."
    assert lines[3] == "2_preprocessed/84.txt: and 2 more places"
    assert lines[4] == f"1_raw/catalog.jsonl: odd: The {NAME} eBook of Odd Things"
    assert lines[5] == "2_preprocessed/new.txt: marked as under copyright"
    message, hint = judgement.summary()
    assert "2 texts (84, odd) refer to Project Gutenberg" in message
    assert "1 text (new) is marked as under copyright" in message
    assert "--allow-mentions" in hint
    assert "--publish-copyrighted" in hint
    assert judgement.counts()["rights_unknown"] == 1


def test_what_is_allowed_is_let_through_and_noted(tmp_path: Path) -> None:
    path = write(tmp_path / "a.parquet", ("84", [f"{NAME} "]))
    found = scan(path).found
    judgement = judge(
        found, ROWS, find, allow_mentions=["84", "odd"], publish_copyrighted=True
    )  # fmt: skip
    assert not judgement.holds_back
    assert judgement.counts() == {
        "mentions": 0, "documents_with_mentions": 0, "mentions_allowed_in": ["84", "odd"],
        "under_copyright": 0, "under_copyright_allowed": 1, "rights_unknown": 1,
    }  # fmt: skip


def test_a_document_is_judged_by_all_that_is_said_of_it() -> None:
    rows = [{"document_id": id, "rights": rights} for id, rights in (
        ("both", None), ("both", "CC0"), ("new", "public domain"), ("new", "© A. Author"),
        ("bare", ""),
    )]  # fmt: skip
    judgement = judge({}, rows, find)
    assert judgement.protected == ["new"]
    assert judgement.unknown == 1


def test_a_reference_in_the_name_of_a_document_is_held_back() -> None:
    assert judge({}, [{"document_id": f"{NAME} 84"}], find).names == {f"{NAME} 84": f"{NAME} 84"}


def test_a_very_long_list_is_cut() -> None:
    rows = [{"document_id": str(n), "rights": "under copyright"} for n in range(50)]
    lines = judge({}, rows, find).lines({}, Path("catalog.jsonl"))
    assert len(lines) == gate.SHOWN_DOCUMENTS + 1
    assert lines[-1] == "and 30 more documents"

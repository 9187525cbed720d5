"""Rows of tables: texts become documents, records stay records; a bad row is never silent."""

import json
from pathlib import Path
from typing import Any

import pytest

from pipeline.errors import PipelineError
from pipeline.step1_acquire import MissingKeys, OnBadRecord, acquire
from tests.acquisition.data import counts, names, rows, text

PAIRS = [
    {"prompt": "Who?", "completion": " The ghost."},
    {"prompt": "Why?", "completion": " Fear."},
]
CHAT = {"messages": [{"role": "user", "content": "Boo"}, {"role": "assistant", "content": "Ah!"}]}


def jsonl(path: Path, *values: Any) -> str:
    lines = (value if isinstance(value, str) else json.dumps(value) for value in values)
    path.write_text("".join(f"{line}\n" for line in lines))
    return str(path)


def test_each_text_of_a_table_is_a_document(tmp_path: Path) -> None:
    source = jsonl(
        tmp_path / "tales.jsonl",
        {"text": "One.", "title": "First", "author": "A"},
        {"text": "Two.", "id": "../x"},
    )
    acquire(tmp_path / "data", source=[source])
    assert names(tmp_path / "data") == ["tales-000001.txt", "tales-x.txt"]
    assert text(tmp_path / "data", "tales-000001.txt") == "One."
    first, second = rows(tmp_path / "data")
    assert (first["title"], first["source"], first["row"]) == ("First", "tales.jsonl", 1)
    assert second["row"] == 2


def test_the_column_of_the_text_can_be_named(tmp_path: Path) -> None:
    (tmp_path / "x.csv").write_text('nr,story\n007,"Two\nlines, and a comma."\n')
    acquire(tmp_path / "data", source=[str(tmp_path / "x.csv")], text_column="story")
    assert text(tmp_path / "data", "x-000002.txt") == "Two\nlines, and a comma."


@pytest.mark.parametrize("column", ["nothing", None])
def test_a_table_without_the_column_is_refused_with_its_columns(
    tmp_path: Path, column: str | None
) -> None:
    (tmp_path / "x.csv").write_text("nr,story\n7,A.\n")
    with pytest.raises(PipelineError, match=r"x\.csv .*nr, story") as error:
        acquire(tmp_path / "data", source=[str(tmp_path / "x.csv")], text_column=column)
    assert column or "--text-column" in str(error.value)


def test_a_renamed_row_is_known_again_by_its_id(tmp_path: Path) -> None:
    source = jsonl(tmp_path / "x.jsonl", {"id": "a", "text": "One."}, {"id": "b", "text": "Two."})
    acquire(tmp_path / "data", source=[source])
    jsonl(tmp_path / "x.jsonl", {"id": "b", "text": "Two."}, {"id": "a", "text": "One, changed."})
    acquire(tmp_path / "data", source=[source])
    assert names(tmp_path / "data") == ["x-a.txt", "x-b.txt"]
    assert text(tmp_path / "data", "x-a.txt") == "One, changed."
    assert counts(tmp_path / "data")["already there"] == 1


def test_prompts_and_completions_stay_together_as_records(tmp_path: Path) -> None:
    source = jsonl(tmp_path / "qa.jsonl", *PAIRS)
    acquire(tmp_path / "data", source=[source])
    assert names(tmp_path / "data") == ["qa.completion.jsonl"]
    kept = [
        json.loads(line) for line in text(tmp_path / "data", "qa.completion.jsonl").splitlines()
    ]
    assert kept == PAIRS
    (row,) = rows(tmp_path / "data")
    assert (row["kind"], row["records"]) == ("completion", 2)


@pytest.mark.parametrize(
    ("row", "options"),
    [
        ({"prompt": "P", "generation": " C"}, {}),
        ({"instruction": "P", "response": " C"}, {}),
        ({"question": "P", "output": " C"}, {}),
        ({"q": "P", "a": " C"}, {"prompt_column": "q", "completion_column": "a"}),
    ],
)
def test_other_names_of_prompt_and_completion_are_known_or_named(
    tmp_path: Path, row: dict[str, str], options: dict[str, Any]
) -> None:
    acquire(tmp_path / "data", source=[jsonl(tmp_path / "x.jsonl", row)], **options)
    kept = json.loads(text(tmp_path / "data", "x.completion.jsonl"))
    assert kept == {"prompt": "P", "completion": " C"}


def test_a_table_of_questions_and_answers_is_told_to_be_parted(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    table = tmp_path / "qa.csv"
    table.write_text("question,answer\nWhat is the capital of France?,Paris\nWho?, You\n")
    acquire(tmp_path / "data", source=[str(table)])
    kept = text(tmp_path / "data", "qa.completion.jsonl").splitlines()
    assert [json.loads(line)["completion"] for line in kept] == ["\n\nParis", " You"]
    said = " ".join(capsys.readouterr().err.split())
    assert f"{table}: an empty line parts question and answer in 1 of 2 records." in said


def test_of_prompts_that_meet_their_completions_one_is_warned_once_a_file(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    bare = {"prompt": "What is the capital of France?", "completion": "Paris"}
    source = jsonl(tmp_path / "x.jsonl", bare, *PAIRS, bare)
    acquire(tmp_path / "data", source=[source])
    kept = text(tmp_path / "data", "x.completion.jsonl").splitlines()
    assert json.loads(kept[0]) == bare, "an exact text stays exact"
    said = " ".join(capsys.readouterr().err.split())
    assert said.count("stands no white space") == 1
    assert f"{source}: between prompt and completion of 2 of 4 records" in said


def test_chats_stay_chats(tmp_path: Path) -> None:
    acquire(tmp_path / "data", source=[jsonl(tmp_path / "talk.jsonl", CHAT)])
    assert json.loads(text(tmp_path / "data", "talk.chat.jsonl")) == CHAT


BAD = [
    ('{"prompt": "no end', "JSON"),
    ({"prompt": "Who?"}, "completion"),
    ({"prompt": "Who?", "completion": None}, "completion"),
    ({"prompt": "Who?", "completion": 7}, "completion"),
    ({"prompt": "Who?", "completion": " "}, "completion"),
    ("[1, 2]", "object"),
]


@pytest.mark.parametrize(("bad", "word"), BAD)
def test_a_bad_record_stops_the_stage_with_file_and_line(
    tmp_path: Path, bad: Any, word: str
) -> None:
    source = jsonl(tmp_path / "qa.jsonl", PAIRS[0], bad)
    with pytest.raises(PipelineError, match=rf"qa\.jsonl:2: .*{word}") as error:
        acquire(tmp_path / "data", source=[source])
    assert "--on-bad-record" in str(error.value)
    assert names(tmp_path / "data") == []


@pytest.mark.parametrize(("bad", "word"), BAD)
def test_bad_records_can_be_skipped_and_are_counted(
    tmp_path: Path, bad: Any, word: str, capsys: pytest.CaptureFixture[str]
) -> None:
    source = jsonl(tmp_path / "qa.jsonl", PAIRS[0], bad, PAIRS[1])
    acquire(tmp_path / "data", source=[source], on_bad_record=OnBadRecord.SKIP)
    assert text(tmp_path / "data", "qa.completion.jsonl").count("\n") == 2
    assert counts(tmp_path / "data")["bad records skipped"] == 1
    assert word in capsys.readouterr().err


def test_bad_records_can_be_put_into_quarantine(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    source = jsonl(tmp_path / "qa.jsonl", PAIRS[0], '{"prompt": "x"', PAIRS[1])
    acquire(tmp_path / "data", source=[source], on_bad_record=OnBadRecord.QUARANTINE)
    (row,) = rows(tmp_path / "data", "quarantine.jsonl")
    assert row["file"].endswith("qa.jsonl")
    assert (row["place"], row["raw"]) == ("line 2", '{"prompt": "x"')
    assert "1 quarantined" in capsys.readouterr().err


def test_a_row_without_text_is_a_bad_record_too(tmp_path: Path) -> None:
    (tmp_path / "x.csv").write_text("text,n\nA.,1\n,2\n")
    with pytest.raises(PipelineError, match=r"x\.csv:3"):
        acquire(tmp_path / "data", source=[str(tmp_path / "x.csv")])


def test_texts_records_and_chats_come_together_from_several_tables(tmp_path: Path) -> None:
    jsonl(tmp_path / "a.jsonl", *PAIRS)
    jsonl(tmp_path / "b.jsonl", CHAT)
    jsonl(tmp_path / "c.jsonl", {"text": "T."})
    acquire(tmp_path / "data", source=[str(tmp_path / "*.jsonl")])
    assert names(tmp_path / "data") == ["a.completion.jsonl", "b.chat.jsonl", "c-000001.txt"]


def test_limit_and_fraction_hold_for_rows(tmp_path: Path) -> None:
    source = jsonl(tmp_path / "x.jsonl", *({"text": f"Number {n}."} for n in range(10)))
    acquire(tmp_path / "few", source=[source], limit=3)
    assert len(names(tmp_path / "few")) == 3
    acquire(tmp_path / "some", source=[source], fraction=0.2)
    assert [row["row"] for row in rows(tmp_path / "some")] == [1, 6]


def test_records_that_were_edited_by_hand_are_kept(tmp_path: Path) -> None:
    source = jsonl(tmp_path / "qa.jsonl", *PAIRS)
    acquire(tmp_path / "data", source=[source])
    mine = '{"prompt": "Mine", "completion": " and mine."}\n'
    (tmp_path / "data" / "1_raw" / "qa.completion.jsonl").write_text(mine)
    jsonl(tmp_path / "qa.jsonl", *PAIRS, PAIRS[0])
    acquire(tmp_path / "data", source=[source])
    assert text(tmp_path / "data", "qa.completion.jsonl") == mine


def test_a_series_of_local_lists_is_read_to_its_end(tmp_path: Path) -> None:
    for n in (1, 2):
        (tmp_path / f"doc{n}").write_text(f"Document {n}.\n")
        (tmp_path / f"part_{n}.json").write_text(json.dumps([f"doc{n}", "gone"][: 3 - n]))
    pattern = str(tmp_path / "part_{segment_number}.json")
    with pytest.raises(PipelineError, match=r"gone.*does not exist") as error:
        acquire(tmp_path / "data", series=[pattern])
    assert "--missing-keys skip" in str(error.value)
    acquire(tmp_path / "data", series=[pattern], missing_keys=MissingKeys.SKIP)
    assert {row["file"]: row["segment"] for row in rows(tmp_path / "data")} == {
        "doc1.txt": 1, "doc2.txt": 2,
    }  # fmt: skip


def test_a_listed_table_whose_name_looks_like_a_pattern_is_one_table(tmp_path: Path) -> None:
    jsonl(tmp_path / "a[1].jsonl", {"text": "One."})
    jsonl(tmp_path / "a1.jsonl", {"text": "Two."})
    (tmp_path / "part_1.json").write_text(json.dumps(["a[1].jsonl"]))
    acquire(tmp_path / "data", series=[str(tmp_path / "part_{segment_number}.json")])
    assert [text(tmp_path / "data", name) for name in names(tmp_path / "data")] == ["One."]

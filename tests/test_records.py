"""Records and weighted sources on their way through the stages: nothing lost, nothing mixed up."""

import json
import random
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq
import pytest

from pipeline.corpus.record_files import read_records
from pipeline.errors import PipelineError
from pipeline.step1_acquire import acquire
from pipeline.step2_preprocess import preprocess
from pipeline.step3_chunk import chunk
from pipeline.step4_upload import upload
from pipeline.training.sources import choose_kind, read_samples

PAIRS = [{"prompt": f"Question {n}?", "completion": f" Answer {n}.\r\n"} for n in range(200)]
CHATS = [
    {"messages": [{"role": "user", "content": f"Hello {n}"},
                  {"role": "assistant", "content": "Boo!"}]}
    for n in range(50)
]  # fmt: skip


WORDS = (
    "the harbour and winter of a lantern in brother was silence with garden letter morning to "
    "window stranger whisper not journey river candle for shadow promise"
)


def tale(name: str) -> str:
    """Three hundred sentences that no other tale has."""
    rng = random.Random(name)
    words = WORDS.split()
    return "\n\n".join(f"The {' '.join(rng.choices(words, k=14))}." for _ in range(300)) + "\n"


def jsonl(path: Path, rows: list[dict[str, Any]]) -> str:
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return str(path)


def prepare(data: Path, *sources: str) -> None:
    """Stages 1 to 4."""
    acquire(data, source=list(sources))
    preprocess(data)
    chunk(data)
    upload(data)


def read(data: Path, pattern: str) -> list[dict[str, Any]]:
    """The rows of Parquet files in `4_dataset`."""
    paths = sorted((data / "4_dataset").glob(pattern))
    return [row for path in paths for row in pq.read_table(path).to_pylist()]


def test_records_come_through_whole_and_each_on_one_side(tmp_path: Path) -> None:
    data = tmp_path / "data"
    prepare(
        data, jsonl(tmp_path / "qa.jsonl", PAIRS), jsonl(tmp_path / "talk.jsonl", CHATS)
    )  # fmt: skip
    sides = [read(data, f"completion/{split}-*.parquet") for split in ("train", "validation")]
    assert all(sides)
    assert 5 < len(sides[1]) < 40, "a tenth is held out"
    both = sorted(sides[0] + sides[1], key=lambda row: row["record"])
    assert [(row["prompt"], row["completion"]) for row in both] == [
        (row["prompt"], row["completion"].replace("\r\n", "\n")) for row in PAIRS
    ]
    chats = read(data, "chat/*.parquet")
    assert sorted(str(row["messages"]) for row in chats) == sorted(
        str(c["messages"]) for c in CHATS
    )


def test_the_dataset_library_reads_them_as_the_card_says(tmp_path: Path) -> None:
    from datasets import load_dataset

    data = tmp_path / "data"
    (tmp_path / "tale.txt").write_text(tale("long ago"))
    prepare(data, jsonl(tmp_path / "qa.jsonl", PAIRS), str(tmp_path / "tale.txt"))
    cache = str(tmp_path / "cache")
    folder = str(data / "4_dataset")
    records = load_dataset(folder, "completion", cache_dir=cache)
    assert sum(len(part) for part in records.values()) == len(PAIRS)
    chunks = load_dataset(folder, cache_dir=cache)
    assert "text" in chunks["train"].column_names


def test_equal_records_are_on_the_same_side(tmp_path: Path) -> None:
    data = tmp_path / "data"
    prepare(data, jsonl(tmp_path / "qa.jsonl", PAIRS * 2))
    held_out = {row["prompt"] for row in read(data, "completion/validation-*.parquet")}
    trained = {row["prompt"] for row in read(data, "completion/train-*.parquet")}
    assert held_out
    assert not held_out & trained


def test_a_line_that_was_spoiled_by_hand_is_named(tmp_path: Path) -> None:
    data = tmp_path / "data"
    acquire(data, source=[jsonl(tmp_path / "qa.jsonl", PAIRS)])
    preprocess(data)
    path = data / "2_preprocessed" / "qa.completion.jsonl"
    lines = path.read_text().splitlines()
    path.write_text("\n".join([*lines[:2], '{"prompt": "P"}', *lines[3:]]))
    with pytest.raises(PipelineError, match=r"qa\.completion\.jsonl:3: "):
        chunk(data)


def test_a_line_too_deep_for_json_is_named(tmp_path: Path) -> None:
    path = tmp_path / "qa.completion.jsonl"
    path.write_text('{"prompt": "P", "completion": "C"}\n' + "[" * 200_000 + "\n")
    with pytest.raises(PipelineError, match=r"qa\.completion\.jsonl:2: it is not JSON"):
        list(read_records(path))


def test_records_that_a_person_mended_are_used(tmp_path: Path) -> None:
    data = tmp_path / "data"
    prepare(data, jsonl(tmp_path / "qa.jsonl", PAIRS))
    path = data / "2_preprocessed" / "qa.completion.jsonl"
    path.write_text(path.read_text().replace("Question 7?", "Question seven?"))
    preprocess(data)
    chunk(data)
    upload(data)
    assert "Question seven?" in {row["prompt"] for row in read(data, "completion/*.parquet")}


def folder(path: Path, texts: int) -> Path:
    path.mkdir()
    for n in range(texts):
        (path / f"{path.name}{n}.txt").write_text(tale(f"{path.name} {n}"))
    return path


def documents(data: Path) -> tuple[list[Any], list[Any]]:
    kind, files = choose_kind(sorted((data / "4_dataset" / "data").glob("*.parquet")))
    return read_samples(files, kind, seed=0)


def test_weights_reach_the_training_and_no_source_is_held_out_whole(tmp_path: Path) -> None:
    data = tmp_path / "data"
    novels, letters = folder(tmp_path / "novels", 6), folder(tmp_path / "letters", 1)
    prepare(data, f"{novels}=0.7", f"{letters}=0.3")
    training, held_out = documents(data)
    weights = {document.collection: document.weight for document in training}
    assert weights == {"novels": 0.7, "letters": 0.3}
    assert {document.collection for document in held_out} == {"novels"}


def test_a_source_of_weight_0_is_for_evaluation_only(tmp_path: Path) -> None:
    data = tmp_path / "data"
    novels, letters = folder(tmp_path / "novels", 6), folder(tmp_path / "letters", 2)
    prepare(data, str(novels), f"{letters}=0")
    training, held_out = documents(data)
    assert {document.collection for document in held_out} == {"letters"}
    assert len(training) == 6
    assert {document.weight for document in training} == {None}


def test_a_new_weight_needs_no_new_reading_of_the_source(tmp_path: Path) -> None:
    data = tmp_path / "data"
    novels, letters = folder(tmp_path / "novels", 3), folder(tmp_path / "letters", 3)
    prepare(data, f"{novels}=0.7", f"{letters}=0.3")
    prepare(data, f"{novels}=0.5", f"{letters}=0.5")
    record = json.loads((data / "1_raw" / "stage.json").read_text())
    assert record["counts"]["already there"] == 6
    assert {document.weight for document in documents(data)[0]} == {0.5}

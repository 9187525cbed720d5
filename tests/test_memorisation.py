"""The text that a model is searched against is the one that it was trained on."""

import json
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from pipeline.files import sha256_file
from pipeline.memorisation import TrainingText
from pipeline.workspace import Workspace

LEARNED = "The lamp went out, and something moved in the passage behind us."
OTHER = "A wholly different text, which lies in the data directory by chance."


@pytest.fixture
def data(tmp_path: Path) -> Path:
    """A data directory whose model was trained on a dataset of its own, `theirs`."""
    data = tmp_path / "data"
    table(data / "4_dataset" / "data" / "train-00000-of-00001.parquet", OTHER)
    table(tmp_path / "theirs" / "train.parquet", LEARNED)
    table(tmp_path / "theirs" / "test.parquet", LEARNED)
    trained_on(data, *sorted((tmp_path / "theirs").iterdir()))
    return data


def table(path: Path, text: str) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    rows = {"text": [text], "document_id": [path.stem], "title": [path.parent.name]}
    pq.write_table(pa.table(rows), path)


def trained_on(data: Path, *files: Path, dataset: str | None = "org/theirs") -> None:
    (data / "6_adapter").mkdir(exist_ok=True)
    inputs = [
        {"path": str(path), "size": path.stat().st_size, "sha256": sha256_file(path)}
        for path in files
    ]
    record = {
        "stage": "train", "status": "complete", "version": 1, "settings": {"dataset": dataset},
        "counts": {}, "warnings": [], "inputs": inputs, "outputs": [], "start": "", "end": "",
    }  # fmt: skip
    (data / "6_adapter" / "stage.json").write_text(json.dumps(record))


def copied(data: Path) -> str:
    text = TrainingText.of(Workspace(data))
    assert text is not None
    (found,) = text.copied([f"It said: {LEARNED}"])
    return found.told()


def test_a_dataset_that_the_run_was_given_is_searched_and_not_what_lies_beside(data: Path) -> None:
    assert copied(data) == f"{len(LEARNED)} characters, {len(LEARNED.split())} words (theirs)"
    text = TrainingText.of(Workspace(data))
    assert text is not None
    assert [path.name for path in text.files] == ["train.parquet"], "nothing that was held out"
    trained_on(data, dataset=None)
    assert str(len(LEARNED)) not in copied(data)


@pytest.mark.parametrize(
    ("name", "content"),
    [
        ("lines.jsonl", json.dumps({"body": LEARNED}) + "\n"),
        ("rows.csv", f'instruction,output\nSay it.,"{LEARNED}"\n'),
        ("chats.json", json.dumps([{"conversations": [
            {"from": "human", "value": OTHER}, {"from": "gpt", "value": LEARNED}]}])),
    ],
)  # fmt: skip
def test_tables_of_any_format_are_searched_for_what_the_model_learned_to_write(
    name: str, content: str, data: Path, tmp_path: Path
) -> None:
    (tmp_path / name).write_text(content)
    trained_on(data, tmp_path / name)
    assert copied(data) == f"{len(LEARNED)} characters, {len(LEARNED.split())} words ({name})"
    text = TrainingText.of(Workspace(data))
    assert text is not None
    (asked,) = text.copied([OTHER])
    assert asked.characters.length < len(OTHER), "what the user says is nothing that it learned"


def test_a_dataset_that_is_not_at_hand_is_named_and_nothing_else_is_searched(
    data: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    trained_on(data, tmp_path / "theirs" / "train.parquet", dataset="https://ada:s3cret@x.org/a")
    table(tmp_path / "theirs" / "train.parquet", LEARNED + OTHER)
    assert TrainingText.of(Workspace(data)) is None
    said = capsys.readouterr().err
    assert "which is not on this disk as it was then: it is not searched" in said
    assert "s3cret" not in said

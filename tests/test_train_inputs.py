"""What `--dataset` is pointed at becomes files, of which it is known what is held out."""

import json
from pathlib import Path
from typing import Any

import huggingface_hub.constants
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from pipeline import train_inputs
from pipeline.errors import PipelineError, UsageError
from pipeline.hub.client import Unreachable
from pipeline.records import Record
from pipeline.train_inputs import check_dataset, dataset_files, kind_to_train, kinds_to_choose
from pipeline.training.sources import choose_kind, read_samples
from pipeline.workspace import Workspace
from tests.hub_server import TOKEN, HubServer


@pytest.fixture
def tales(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Any:
    """A dataset of the Hub, empty as yet: path -> (content, whether it is LFS)."""
    with HubServer() as hub:
        template = hub.url + "/{repo_id}/resolve/{revision}/{filename}"
        monkeypatch.setattr(huggingface_hub.constants, "ENDPOINT", hub.url)
        monkeypatch.setattr(huggingface_hub.constants, "HUGGINGFACE_CO_URL_TEMPLATE", template)
        monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_CACHE", str(tmp_path / "cache"))
        monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_DISABLE_XET", True)
        monkeypatch.setenv("HF_TOKEN", TOKEN)
        yield hub.add_repo("dataset", "ada/tales").branches


def rows(*texts: str) -> tuple[bytes, bool]:
    return "".join(json.dumps({"text": text}) + "\n" for text in texts).encode(), False


def card(*files: tuple[str, str]) -> tuple[bytes, bool]:
    lines = "".join(f"  - split: {split}\n    path: {path}\n" for split, path in files)
    return f"---\nconfigs:\n- config_name: all\n  data_files:\n{lines}---\n".encode(), False


def sides(tmp_path: Path, **options: Any) -> tuple[set[str], set[str]]:
    """The texts to train on, and those held out."""
    kind, tables = choose_kind(dataset_files(Workspace(tmp_path / "data"), "ada/tales", **options))
    training, held_out = read_samples(tables, kind, 0)
    return {sample.text for sample in training}, {sample.text for sample in held_out}


def test_the_splits_of_a_hub_dataset_are_told_by_names_as_in_a_folder(
    tales: Any, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    tales["main"] |= {
        "train/a.jsonl": rows("one", "two"), "test/b.jsonl": rows("three"),
        "validation/c.jsonl": rows("four"),
    }  # fmt: skip
    assert sides(tmp_path) == ({"one", "two"}, {"three", "four"})
    said = capfd.readouterr().err
    assert "to train on: train/a.jsonl; held out: test/b.jsonl, validation/c.jsonl." in said


def test_what_the_card_says_of_splits_counts_more_than_names(tales: Any, tmp_path: Path) -> None:
    tales["main"] |= {
        "README.md": card(("train", "test-suite.jsonl"), ("test", "b.test.train.jsonl")),
        "test-suite.jsonl": rows("one"), "b.test.train.jsonl": rows("two"),
    }  # fmt: skip
    assert sides(tmp_path) == ({"one"}, {"two"})
    assert sides(tmp_path) == ({"one"}, {"two"}), "the second time as well"


def test_a_dataset_that_is_all_there_to_be_scored_on_is_trained_on_with_a_warning(
    tales: Any, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    tales["main"]["data/test-0.jsonl"] = rows(*map(str, range(20)))
    for readme in (None, card(("test", "data/test-0.jsonl"))):
        if readme:
            tales["main"]["README.md"] = readme
        training, held_out = sides(tmp_path)
        assert len(training) > len(held_out) > 0
        said = capfd.readouterr().err
        assert "has only what is there to be scored on, which is trained on now" in said


def test_a_revision_and_a_configuration_are_of_the_hub(tales: Any, tmp_path: Path) -> None:
    tales["main"] |= {"en/a.jsonl": rows(*"abcd"), "fr/a.jsonl": rows(*"efgh")}
    tales["v2"] = {"en/a.jsonl": rows(*"ijkl"), "fr/a.jsonl": rows(*"mnop")}
    with pytest.raises(UsageError, match=r"several folders.*: en, fr\."):
        sides(tmp_path)
    training, held_out = sides(tmp_path, config="fr")
    assert training | held_out == set("efgh")
    training, held_out = sides(tmp_path, revision="v2", config="en")
    assert training | held_out == set("ijkl")
    for place in (None, str(tmp_path), "s3://bucket/x.jsonl"):
        with pytest.raises(UsageError, match="--dataset-config is for a dataset from the Hub"):
            check_dataset(place, None, "en")
        with pytest.raises(UsageError, match="--dataset-revision is for a dataset from the Hub"):
            check_dataset(place, "v2")
    check_dataset("imdb", "v2", "plain_text")


def test_what_describes_the_tables_is_no_table(tales: Any, tmp_path: Path) -> None:
    tales["main"] |= {"dataset_infos.json": (b"{}", False), "README.md": (b"", False)}
    with pytest.raises(PipelineError, match=r"ada/tales holds no Parquet, JSON or CSV files"):
        sides(tmp_path)
    tales["main"]["a.jsonl"] = rows(*"abcd")
    assert sum(map(len, sides(tmp_path))) == 4


def test_a_dataset_that_is_nowhere_is_told_as_what_it_may_have_been_meant(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def unreachable(*_: object, **__: object) -> None:
        raise Unreachable("https://huggingface.co cannot be reached: no route.")

    monkeypatch.setattr(train_inputs, "fetch_dataset", unreachable)
    with pytest.raises(PipelineError, match=r"--dataset x/y is no file or folder here.*no route"):
        dataset_files(Workspace(tmp_path), "x/y")


def mixed(data: Path, last_kind: str | None, dataset: str | None = None) -> Workspace:
    """A data directory with texts and chats, and the record of a run that took one kind."""
    for folder, row in (
        ("data", {"text": "It was late."}),
        ("chat", {"messages": [{"role": "user", "content": "Hi"},
                               {"role": "assistant", "content": "Boo!"}]}),
    ):  # fmt: skip
        path = data / "4_dataset" / folder / "train-00000-of-00001.parquet"
        path.parent.mkdir(parents=True)
        pq.write_table(pa.Table.from_pylist([row]), path)
    if last_kind:
        settings = {"kind": last_kind, "dataset": dataset}
        record = Record("train", "complete", 1, settings, inputs=[], outputs={})
        (data / "6_adapter").mkdir()
        (data / "6_adapter" / "stage.json").write_text(json.dumps(record.as_json()))
    return Workspace(data)


def test_of_several_kinds_that_of_the_last_run_is_taken_and_said(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    workspace = mixed(tmp_path, "chat")
    files = workspace.inputs("train")
    kind, tables = kind_to_train(workspace, None, files, "auto")
    assert (kind, [path.parent.name for path in tables]) == ("chat", ["chat"])
    assert "--kind chat, as in the last run" in capsys.readouterr().err
    assert kind_to_train(workspace, None, files, "text")[0] == "text", "what is asked for wins"
    assert kinds_to_choose(workspace) is None


@pytest.mark.parametrize(
    ("last_kind", "dataset"), [(None, None), ("chat", "other/data"), ("completion", None)]
)
def test_of_several_kinds_one_must_be_chosen_where_no_run_has_done_so(
    tmp_path: Path, last_kind: str | None, dataset: str | None
) -> None:
    workspace = mixed(tmp_path, last_kind, dataset)
    with pytest.raises(UsageError, match="The dataset holds chats and texts"):
        kind_to_train(workspace, None, workspace.inputs("train"), "auto")
    assert "Choose: --kind chat or --kind text" in (kinds_to_choose(workspace) or "")

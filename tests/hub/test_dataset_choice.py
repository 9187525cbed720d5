"""Of the files of a repository one dataset is taken, and never several at once."""

from typing import Any

import pytest
import yaml

from pipeline.corpus.tables import table_format
from pipeline.errors import PipelineError, UsageError
from pipeline.hub.card import configs as own_configs
from pipeline.hub.dataset_choice import Choice, DataFile, choose_files, is_held_out

WIKITEXT = [f"wikitext-{size}-raw-v1/{split}-00000-of-00001.parquet"
            for size in (2, 103) for split in ("train", "validation", "test")]  # fmt: skip


def choose(names: list[str], card: str = "", wanted: str | None = None) -> Choice:
    return choose_files(
        "ada/tales", [".gitattributes", "README.md", *names], card, table_format, wanted
    )


def taken(names: list[str], card: str = "", wanted: str | None = None) -> list[str]:
    return [file.name for file in choose(names, card, wanted).files]


def card_of(configs: Any) -> str:
    return f"---\n{yaml.safe_dump({'configs': configs})}---\n# Tales\n"


@pytest.mark.parametrize(
    "names",
    [
        ["databricks-dolly-15k.jsonl"],
        ["a.csv", "b.csv"],
        ["test.json", "train.json"],
        ["x/test/a.jsonl.gz", "x/train/a.jsonl.gz"],
        ["data/test-00000-of-00001.parquet", "data/train-00000-of-00001.parquet"],
        ["test/a.tsv", "train/a.tsv"],
        ["tales/one.parquet"],
    ],
)
def test_the_only_dataset_of_a_repository_is_taken_whole(names: list[str]) -> None:
    assert taken([*names, "loader.py", ".hidden/x.jsonl"]) == names


def test_what_this_pipeline_makes_is_taken_without_the_table_of_books() -> None:
    made = ["chat/chat-train-00000-of-00001.parquet", "data/train-00000-of-00001.parquet"]
    names = [*made, "books/books.parquet", "documents.jsonl"]
    card = card_of(own_configs({"data": {"train": 1}, "chat": {"chat-train": 1}}))
    assert "chunks" in card
    for text in (card, ""):
        assert taken(names, text) == made
    assert taken(names, card, "chunks") == [made[1]]
    assert taken(names, "", "chat") == [made[0]]


@pytest.mark.parametrize(
    ("names", "card", "told", "ways_out"),
    [
        (WIKITEXT, "", "several folders", ["wikitext-103-raw-v1", "wikitext-2-raw-v1"]),
        (["data/en/a.csv", "data/fr/a.csv"], "", "several folders", ["en", "data/fr/*.csv"]),
        (["a.jsonl", "more/b.jsonl"], "", "several folders.*its top level", ["more", "*.jsonl"]),
        (["data/a.parquet", "fr/a.parquet"], "", "several folders", ["fr", "data/*"]),
        (["a.csv", "a.parquet"], "", "files of several kinds", ["**/*.csv", "**/*.parquet"]),
        (["a.json", "a.jsonl.gz"], "", "several kinds", ["**/*.json", "**/*.jsonl.gz"]),
        (["a.csv", "b.csv"], card_of([{"config_name": "one", "data_files": "a.csv"},
                                      {"config_name": "two", "data_files": "b.csv"}]),
         "several configurations", ["one", "two"]),
    ],
)  # fmt: skip
def test_of_several_none_is_taken_unasked_and_every_way_out_leads_to_one(
    names: list[str], card: str, told: str, ways_out: list[str]
) -> None:
    with pytest.raises(UsageError, match=told) as caught:
        choose(names, card)
    assert "--dataset-config" in str(caught.value.hint)
    assert any(way in str(caught.value.hint) for way in ways_out)
    for way in ways_out:
        assert 0 < len(taken(names, card, way)) < len(names)


def test_a_configuration_is_one_of_the_card_before_it_is_a_folder_or_a_pattern() -> None:
    configs = [
        {"config_name": "en", "data_files": [{"split": "train", "path": ["x/a-*", "./b.csv"]},
                                             {"split": "test", "path": "c.csv"}]},
        {"config_name": "default", "data_files": {"train": "fr/**"}},
        {"config_name": "below", "data_dir": "fr"},
        {"config_name": "inside", "data_dir": "x", "data_files": "a-2.csv"},
        {"config_name": "no files"},
    ]  # fmt: skip
    names = ["b.csv", "c.csv", "en/z.csv", "fr/deep/d.csv", "x/a-1.csv", "x/a-2.csv", "x/y.csv"]
    card = card_of(configs)
    found = choose(names, card)
    assert (found.config, found.others) == ("default", ("en", "below", "inside"))
    assert found.files == [DataFile("fr/deep/d.csv", False)], "what `load_dataset` takes"
    assert choose(names, card, "en").files == [
        DataFile("b.csv", False), DataFile("c.csv", True),
        DataFile("x/a-1.csv", False), DataFile("x/a-2.csv", False),
    ]  # fmt: skip
    assert choose(names, card, "below").files == [DataFile("fr/deep/d.csv")]
    assert taken(names, card, "inside") == ["x/a-2.csv"]
    assert taken(names, card, "x/") == ["x/a-1.csv", "x/a-2.csv", "x/y.csv"]
    assert taken(names, card, "**/a*.csv") == ["x/a-1.csv", "x/a-2.csv"]
    assert taken(names, card, "b.csv") == ["b.csv"]
    with pytest.raises(UsageError, match="no --dataset-config 'de'; choose from: en, default"):
        choose(names, card, "de")


def test_a_file_in_two_splits_is_held_out_if_it_is_in_one() -> None:
    files = [{"split": "test", "path": "b.csv"}, {"split": "train", "path": "*.csv"}]
    for order in (files, files[::-1]):
        card = card_of([{"config_name": "all", "data_files": order}])
        assert choose(["a.csv", "b.csv"], card).files == [
            DataFile("a.csv", False), DataFile("b.csv", True)
        ]  # fmt: skip
    assert is_held_out("validation_sft")
    assert not is_held_out("train_sft")


@pytest.mark.parametrize(
    "configs",
    [
        None, 7, ["x"], [{"config_name": 3, "data_files": "a.csv"}],
        [{"config_name": "x", "data_files": [None, 5, {"split": 1}]}],
        [{"config_name": "x", "data_files": {"train": None}, "data_dir": 9}],
    ],
)  # fmt: skip
def test_a_card_that_makes_no_sense_tells_nothing(configs: Any) -> None:
    assert taken(["a.csv"], card_of(configs)) == ["a.csv"]
    assert taken(["a.csv"], "---\nconfigs: [\n---\n") == ["a.csv"]


@pytest.mark.parametrize("path", ["../../etc/passwd.csv", "/a.csv", "hf://x/y/a.csv", "[z-a].csv"])
def test_a_card_names_files_of_its_own_repository_only(path: str) -> None:
    card = card_of([{"config_name": "x", "data_files": path}])
    with pytest.raises(PipelineError, match=r"The configuration x .* names no Parquet, JSON"):
        choose(["a.csv"], card)


def test_a_repository_without_tables_says_what_it_has_instead() -> None:
    with pytest.raises(PipelineError, match=r"ada/tales holds no Parquet, .*, only \.txt, \.zip\."):
        choose(["a.txt", "b.zip", "LICENSE"])

"""How a model can be made again: options that exist, and a hash that anybody can compute."""

import subprocess
from pathlib import Path
from typing import Any

import yaml

from pipeline.cli import KnownOptions
from pipeline.files import FileFact, sha256_file
from pipeline.hub.provenance import (
    OPTIONS,
    RENAMED,
    command_of,
    data_command,
    data_hash,
    missing_of,
    missing_texts,
    product_version,
    settings_file,
    settings_of,
)
from pipeline.settings import load_settings

RULES = ["italics", "hyphens"]


def test_every_name_is_an_option_of_its_stage() -> None:
    known = KnownOptions()
    for stage, names in OPTIONS.items():
        changed = RENAMED.get(stage, {}).values()
        assert {name.replace("_", "-") for name in (*names, *changed)} <= known[stage], stage


def test_what_was_recorded_can_be_given_again(tmp_path: Path) -> None:
    records: dict[str, dict[str, Any]] = {
        "acquire": {"source": ["/home/ada/my books", "https://ada:secret@example.org/a.txt"],
                    "rights": "CC0", "names": {"text": None}, "limit": None},
        "preprocess": {"unwrap": False, "languages": ["en"], "rules": ["italics", "verse"]},
        "chunk": {"chunk_size": 7000},
        "train": {"method": "full", "rank": 64, "base_model": "/models/llama", "dataset": None,
                  "extra_tokens": ["Cthulhu"], "sample_prompts": ["I: /a/b"]},
    }  # fmt: skip
    sections = settings_of(records, RULES)
    path = tmp_path / "settings.yaml"
    path.write_text(settings_file(sections))
    assert load_settings(path, KnownOptions()) == {
        "": {},
        "acquire": {"source": ["my books", "https://***@example.org/a.txt"], "rights": "CC0"},
        "preprocess": {"unwrap": False, "keep_languages": ["en"], "skip_rule": ["hyphens"],
                       "with_rule": ["verse"]},
        "chunk": {"chunk_size": 7000},
        "train": {"base_model": "llama", "method": "full", "sample_prompt": ["I: /a/b"]},
    }  # fmt: skip
    assert command_of(sections) == "pipeline all --config settings.yaml"
    assert "--extra-tokens" in missing_of(records["train"])[0]


def test_a_model_of_a_dataset_from_elsewhere_does_not_need_the_books() -> None:
    records: dict[str, dict[str, Any]] = {
        "acquire": {"topic": "horror"}, "train": {"dataset": "ada/books", "rank": 8},
        "quantize": {"quantization": ["q8_0"]},
    }  # fmt: skip
    sections = settings_of(records, RULES)
    assert list(sections) == ["train", "quantize"]
    assert command_of(sections) == (
        "pipeline train --config settings.yaml && pipeline quantize --config settings.yaml"
    )
    assert list(yaml.safe_load(settings_file(sections))) == ["train", "quantize"]


def test_the_hash_of_the_data_is_what_the_command_prints(tmp_path: Path) -> None:
    folder = tmp_path / "4_dataset" / "data"
    folder.mkdir(parents=True)
    facts = []
    for name in ("validation-0.parquet", "train-1.parquet", "train-0.parquet"):
        path = folder / name
        path.write_text(name)
        facts.append(FileFact(f"4_dataset/data/{name}", 1, sha256_file(path)))
    printed = subprocess.run(
        ["sh", "-c", data_command(facts)], cwd=folder.parent, capture_output=True, text=True,
        check=True,
    ).stdout  # fmt: skip
    assert data_hash(facts) == (printed.split()[0], 3)
    assert data_hash([]) is None


def test_the_version_is_that_of_the_package() -> None:
    assert product_version()[0].isdigit()


def test_texts_that_no_settings_bring_again_are_told() -> None:
    acquire = {"source": ["/home/ada/my books", "https://example.org/a.txt"]}
    assert missing_texts(acquire, 0) == [
        'the files of the source "my books", which lay on a local disk'
    ]
    assert missing_texts({"topic": "horror"}, 0) == []
    (told,) = missing_texts({"ids": [84]}, 3)
    assert told.startswith("3 documents of earlier runs of stage 1")

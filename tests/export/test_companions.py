"""The files beside the weights are the base's, with what training changed."""

import json
from pathlib import Path
from typing import Any

import pytest
from transformers import AutoConfig, AutoTokenizer

from pipeline.errors import PipelineError
from pipeline.export.companions import BaseChanges, read_base_changes, write_config
from pipeline.export.merge import merge_adapter
from tests.export.architectures import save_model
from tests.export.conftest import save_adapter
from tests.tiny_models import tiny_tokenizer

YARN = {"rope_type": "yarn", "factor": 4.0, "original_max_position_embeddings": 512}


def written(folder: Path, config: dict[str, Any], **settings: Any) -> dict[str, Any]:
    chosen: dict[str, Any] = {
        "dtype": "bfloat16", "changes": BaseChanges(), "untied": False, "vocabulary": None
    }  # fmt: skip
    write_config(folder, config, **(chosen | settings))
    found: dict[str, Any] = json.loads((folder / "config.json").read_text("utf-8"))
    return found


def test_nothing_but_the_type_is_changed_without_need(tmp_path: Path) -> None:
    config = {"model_type": "llama", "torch_dtype": "float32", "odd": [1, {"é": None}]}
    assert written(tmp_path, config) == config | {"torch_dtype": "bfloat16"}


def test_packed_base_becomes_a_plain_model(tmp_path: Path) -> None:
    config = {"dtype": "bfloat16", "quantization_config": {"load_in_4bit": True}}
    assert written(tmp_path, config) == {"dtype": "bfloat16"}


def test_older_and_newer_forms_of_rope_are_both_replaced(tmp_path: Path) -> None:
    changes = BaseChanges(rope_parameters=YARN, max_position_embeddings=2048)
    old = {"dtype": "x", "rope_theta": 5e5, "rope_scaling": {"rope_type": "linear", "factor": 2}}
    new = {"dtype": "x", "rope_parameters": {"rope_theta": 1e4, "rope_type": "default"}}
    expected = {"dtype": "bfloat16", "max_position_embeddings": 2048}
    found = written(tmp_path, old, changes=changes)
    assert found == expected | {"rope_parameters": YARN | {"rope_theta": 5e5}}
    assert written(tmp_path, new, changes=changes) == expected | {"rope_parameters": YARN}


def test_text_part_of_a_model_with_several_parts_is_what_changes(tmp_path: Path) -> None:
    config = {"dtype": "float32", "text_config": {"vocab_size": 5, "rope_theta": 1.0}}
    changes = BaseChanges(max_position_embeddings=64)
    found = written(tmp_path, config, changes=changes, vocabulary=9, untied=True)
    assert found["text_config"] == {
        "vocab_size": 9, "rope_theta": 1.0, "tie_word_embeddings": False,
        "max_position_embeddings": 64,
    }  # fmt: skip
    assert found["tie_word_embeddings"] is False
    assert "vocab_size" not in found


def test_no_file_means_no_changes(tmp_path: Path) -> None:
    assert read_base_changes(tmp_path) == BaseChanges()


def test_empty_values_mean_no_changes(tmp_path: Path) -> None:
    text = '{"rope_parameters": null, "max_position_embeddings": null, "extra_tokens": []}'
    (tmp_path / "base_changes.json").write_text(text, "utf-8")
    assert read_base_changes(tmp_path) == BaseChanges()


@pytest.mark.parametrize(
    "values",
    [{"rope_parameters": 4}, {"max_position_embeddings": "long"}, {"extra_tokens": "<a>"},
     {"extra_tokens": [1]}, {"hidden_size": 9}],
)  # fmt: skip
def test_changes_that_make_no_sense_are_refused(values: dict[str, Any], tmp_path: Path) -> None:
    (tmp_path / "base_changes.json").write_text(json.dumps(values), "utf-8")
    with pytest.raises(PipelineError, match=r"base_changes\.json (tells of|is damaged)"):
        read_base_changes(tmp_path)


def test_merged_model_has_the_rope_it_was_trained_with(tmp_path: Path) -> None:
    base = save_model("llama", tmp_path / "base")
    adapter = save_adapter(base, tmp_path / "adapter")
    changes = {"rope_parameters": YARN, "max_position_embeddings": 2048, "head_dim": 8}
    (adapter / "base_changes.json").write_text(json.dumps(changes), "utf-8")
    merge_adapter(base, adapter, tmp_path / "merged")
    config = AutoConfig.from_pretrained(tmp_path / "merged")
    assert config.rope_parameters["rope_type"] == "yarn"
    assert config.rope_parameters["rope_theta"] == 10_000
    assert config.max_position_embeddings == 2048
    assert config.head_dim == 8


def test_new_tokens_come_with_the_tokenizer_of_the_adapter(tmp_path: Path) -> None:
    base = save_model("llama-tied", tmp_path / "base")
    tokenizer = tiny_tokenizer()
    tokenizer.save_pretrained(base)
    adapter = save_adapter(base, tmp_path / "adapter", trainable_token_indices=[98])
    changes = {"extra_tokens": ["<lamp>"]}
    (adapter / "base_changes.json").write_text(json.dumps(changes), "utf-8")
    with pytest.raises(PipelineError, match=r"new tokens, but its tokenizer is not there"):
        merge_adapter(base, adapter, tmp_path / "merged")
    tokenizer.add_tokens(["<lamp>"])
    tokenizer.save_pretrained(adapter)
    merge_adapter(base, adapter, tmp_path / "merged")
    found = AutoTokenizer.from_pretrained(tmp_path / "merged")
    assert found.tokenize("the <lamp> went out").count("<lamp>") == 1

"""Every token that ends a text is found, wherever the model's files tell it."""

import json
from pathlib import Path
from typing import Any

import pytest

from pipeline.errors import PipelineError
from pipeline.export.stop_tokens import end_tokens


def write(directory: Path, **files: Any) -> Path:
    for name, content in files.items():
        (directory / f"{name}.json").write_text(json.dumps(content), "utf-8")
    return directory


def tokenizer(*special: str, plain: tuple[str, ...] = ()) -> dict[str, Any]:
    added = [{"id": i, "content": text, "special": True} for i, text in enumerate(special)]
    added += [{"id": 50 + i, "content": text, "special": False} for i, text in enumerate(plain)]
    return {"model": {"vocab": {"word": 90, "</s>": 91}}, "added_tokens": added}


def test_smollm2_ends_with_two_tokens(base: Path) -> None:
    assert end_tokens(base) == ["<|im_end|>", "<|endoftext|>"]


def test_eos_comes_first_then_the_configurations_then_the_well_known(tmp_path: Path) -> None:
    write(
        tmp_path,
        tokenizer=tokenizer("<|begin_of_text|>", "<|end_of_text|>", "<|eot_id|>", "<|odd|>"),
        tokenizer_config={"eos_token": {"content": "<|end_of_text|>", "lstrip": False}},
        generation_config={"eos_token_id": [1, 3]},
        config={"eos_token_id": 1},
    )
    assert end_tokens(tmp_path) == ["<|end_of_text|>", "<|odd|>", "<|eot_id|>"]


def test_well_known_names_count_only_as_special_tokens(tmp_path: Path) -> None:
    write(tmp_path, tokenizer=tokenizer("<s>", plain=("<|im_end|>",)))
    assert end_tokens(tmp_path) == []


def test_eos_may_be_told_by_the_special_tokens_map_or_an_id_alone(tmp_path: Path) -> None:
    write(tmp_path, tokenizer=tokenizer("<s>"), config={"eos_token_id": 91})
    assert end_tokens(tmp_path) == ["</s>"]
    write(tmp_path, special_tokens_map={"eos_token": "<eos>"})
    assert end_tokens(tmp_path) == ["<eos>", "</s>"]


def test_unigram_vocabularies_and_added_tokens_of_the_config_are_read(tmp_path: Path) -> None:
    write(
        tmp_path,
        tokenizer={"model": {"vocab": [["<pad>", 0.0], ["</s>", 0.0]]}, "added_tokens": []},
        tokenizer_config={"added_tokens_decoder": {"7": {"content": "<EOT>", "special": True}}},
        config={"eos_token_id": 1},
    )
    assert end_tokens(tmp_path) == ["</s>", "<EOT>"]


def test_an_unknown_id_is_passed_over(tmp_path: Path) -> None:
    write(tmp_path, tokenizer=tokenizer("<s>"), config={"eos_token_id": [None, 123456]})
    assert end_tokens(tmp_path) == []


def test_no_tokenizer_and_damaged_files_are_refused(tmp_path: Path) -> None:
    with pytest.raises(PipelineError, match="no tokenizer in"):
        end_tokens(tmp_path)
    write(tmp_path, tokenizer=tokenizer("<s>"), config=["not", "settings"])
    with pytest.raises(PipelineError, match=r"config\.json is damaged"):
        end_tokens(tmp_path)
    (tmp_path / "config.json").write_text('{"eos', "utf-8")
    with pytest.raises(PipelineError, match=r"config\.json is damaged: it is not JSON"):
        end_tokens(tmp_path)

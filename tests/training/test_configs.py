"""--from-scratch: a model of one's own, with the base's vocabulary."""

import dataclasses
import json
from pathlib import Path
from typing import Any

import pytest
import yaml
from transformers import LlamaConfig

from pipeline.errors import PipelineError, UsageError
from pipeline.training.configs import meta_model, new_config, read_config, run_config, run_context
from pipeline.training.settings import TrainSettings
from tests.tiny_models import tiny_tokenizer
from tests.training.architectures import KINDS, tiny_base, tiny_config

SHORT: dict[str, Any] = {
    "model_type": "llama", "hidden_size": 32, "intermediate_size": 64, "num_hidden_layers": 2,
    "num_attention_heads": 4,
}  # fmt: skip


def written(path: Path, values: Any) -> Path:
    text = values if isinstance(values, str) else yaml.safe_dump(values)
    path.write_text(text, "utf-8")
    return path


def test_the_vocabulary_and_its_special_tokens_are_the_tokenizers(tmp_path: Path) -> None:
    tokenizer = tiny_tokenizer()
    lies = {"vocab_size": 5, "bos_token_id": 77, "eos_token_id": 78, "pad_token_id": 4}
    config = new_config(written(tmp_path / "new.yaml", {**SHORT, **lies}), 64, tokenizer)
    assert config.vocab_size == len(tokenizer)
    assert config.bos_token_id == tokenizer.bos_token_id
    assert config.eos_token_id == tokenizer.eos_token_id
    assert config.pad_token_id == tokenizer.pad_token_id
    assert config.hidden_size == 32


def test_an_end_token_that_pads_too_can_still_be_learned(tmp_path: Path) -> None:
    # Embeddings leave the row of the pad token as it is.
    tokenizer = tiny_tokenizer(pad="</s>")
    assert tokenizer.pad_token_id == tokenizer.eos_token_id
    config = new_config(written(tmp_path / "new.yaml", SHORT), 64, tokenizer)
    assert config.pad_token_id is None
    assert config.eos_token_id == tokenizer.eos_token_id


@pytest.mark.parametrize("kind", KINDS)
def test_a_published_config_is_as_good_as_a_short_one(kind: str, tmp_path: Path) -> None:
    base = tiny_base(tmp_path / kind, kind)
    tokenizer = tiny_tokenizer()
    config = new_config(base.path / "config.json", 64, tokenizer)
    found, expected = meta_model(config), meta_model(tiny_config(kind, vocab_size=len(tokenizer)))
    assert [(n, p.shape) for n, p in found.named_parameters()] == [
        (n, p.shape) for n, p in expected.named_parameters()
    ]


def test_a_new_model_sees_as_much_as_its_file_says_or_as_a_sequence_has(tmp_path: Path) -> None:
    path = written(tmp_path / "new.yaml", SHORT)
    assert new_config(path, 64).max_position_embeddings == 1024  # what scores are measured on
    assert new_config(path, 5000).max_position_embeddings == 5000
    path = written(path, {**SHORT, "max_position_embeddings": 128})
    assert new_config(path, 5000).max_position_embeddings == 128
    gpt2 = {"model_type": "gpt2", "n_embd": 8, "n_head": 2, "n_layer": 1, "n_positions": 99}
    assert new_config(written(path, gpt2), 5000).max_position_embeddings == 99


def test_a_run_takes_the_new_models_context_and_not_the_bases(tmp_path: Path) -> None:
    base = tiny_base(tmp_path / "base")
    path = written(tmp_path / "new.json", json.dumps({**SHORT, "max_position_embeddings": 128}))
    settings = TrainSettings(from_scratch=str(path), sequence_length=128)
    assert run_context(settings, base.path) == 128
    longer = dataclasses.replace(settings, rope_scaling="linear:2")
    assert run_context(longer, base.path) == 256
    # Without a tokenizer, sizes are near enough to estimate memory by.
    assert run_config(longer, base.path)[0].vocab_size == 450
    config, change = run_config(longer, base.path, tiny_tokenizer())
    assert config.vocab_size == len(tiny_tokenizer())
    assert change is not None
    assert config.rope_parameters["rope_type"] == "linear"


@pytest.mark.parametrize(
    ("values", "reason"),
    [
        ("", "it has no settings with names"),
        ("- llama", "it has no settings with names"),
        ("1: 2", "it has no settings with names"),
        ("{", "it is neither YAML nor JSON"),
        ("[" * 2000, "it is neither YAML nor JSON"),
        ("a: [" * 500, "it is neither YAML nor JSON"),
        ("a: !!python/object/apply:os.system [ls]", "it is neither YAML nor JSON"),
        ({"hidden_size": 8}, "it has no model_type"),
        ({**SHORT, "auto_map": {"AutoConfig": "x.Y"}}, "a model with auto_map cannot be made"),
        ({**SHORT, "quantization_config": {}}, "a model with quantization_config cannot be made"),
        ({**SHORT, "num_attention_heads": 5}, "cannot be used"),
        ({**SHORT, "num_attention_heads": 0}, "cannot be used"),
        ({**SHORT, "hidden_size": "large"}, "cannot be used"),
        ({**SHORT, "hidden_size": -8}, "cannot be used"),
        ({**SHORT, "hidden_act": "sing"}, "cannot be used"),
    ],
)
def test_a_file_that_is_no_model_is_refused_in_one_sentence(
    values: Any, reason: str, tmp_path: Path
) -> None:
    path = written(tmp_path / "new.yaml", values)
    with pytest.raises(UsageError) as caught:
        new_config(path, 64)
    message = str(caught.value.args[0])
    assert message.startswith(f"--from-scratch {path}")
    assert reason in message
    assert "\n" not in message


@pytest.mark.parametrize(
    ("values", "hint"),
    [
        ({**SHORT, "model_type": "lama"}, "Did you mean llama?"),
        ({**SHORT, "model_type": "vit"}, None),
        ({**SHORT, "model_type": ["llama"]}, None),
        ({**SHORT, "num_hiden_layers": 3}, "Did you mean num_hidden_layers?"),
    ],
)
def test_a_name_that_is_nearly_right_is_refused_with_the_right_one(
    values: Any, hint: str | None, tmp_path: Path
) -> None:
    values = {
        k: v for k, v in values.items() if k != "num_hidden_layers" or "hiden" not in str(values)
    }
    with pytest.raises(UsageError) as caught:
        new_config(written(tmp_path / "new.yaml", values), 64)
    assert hint is None or caught.value.hint == hint


def test_numbers_are_numbers_however_they_are_written(tmp_path: Path) -> None:
    for text in ("1e-06", "1.0e-6", "0.000001"):
        lines = [*(f"{key}: {value}" for key, value in SHORT.items()), f"rms_norm_eps: {text}"]
        assert new_config(written(tmp_path / "new.yaml", "\n".join(lines)), 64).rms_norm_eps == 1e-6


def test_a_file_that_is_not_there_is_refused(tmp_path: Path) -> None:
    for path in (tmp_path / "none.yaml", tmp_path):
        with pytest.raises(UsageError, match="cannot be read"):
            new_config(path, 64)


def test_what_a_published_config_says_of_its_weights_does_not_count(tmp_path: Path) -> None:
    values = LlamaConfig(**{**SHORT, "dtype": "float16"}).to_dict() | {"architectures": ["Other"]}
    config = new_config(written(tmp_path / "new.json", json.dumps(values)), 64)
    assert config.dtype is None
    assert config.architectures is None


def test_a_base_without_a_configuration_is_refused(tmp_path: Path) -> None:
    with pytest.raises(PipelineError, match=r"config.json cannot be used"):
        read_config(tmp_path)
    (tmp_path / "config.json").write_text("{", "utf-8")
    with pytest.raises(PipelineError, match=r"config.json cannot be used"):
        read_config(tmp_path)

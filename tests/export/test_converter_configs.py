"""Architectures that the pinned converter reads only with help: converted for real, and asked."""

import json
from pathlib import Path

import pytest
import torch
from transformers import AutoModelForCausalLM

from pipeline.errors import PipelineError
from pipeline.export.converter_configs import bridged, check_config
from pipeline.export.gguf import convert
from pipeline.export.llama import measure
from tests.export.architectures import CONFIGS
from tests.tiny_models import TALE, smollm2_tokenizer

NAMES = ("gpt2", "gpt-neox")


@pytest.mark.parametrize("name", NAMES)
def test_a_converted_model_expects_what_it_expected_before(name: str, tmp_path: Path) -> None:
    tokenizer = smollm2_tokenizer()
    config = CONFIGS[name]()
    config.vocab_size = len(tokenizer)
    torch.manual_seed(0)
    model = AutoModelForCausalLM.from_config(config, dtype=torch.float32).eval()
    folder = tmp_path / "model"
    model.save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    ids = tokenizer(TALE)["input_ids"][:60]
    with torch.inference_mode():
        scores = model(input_ids=torch.tensor([ids])).logits[0, :-1].log_softmax(-1)
    wanted = -scores[range(len(ids) - 1), ids[1:]].sum().item()
    path, log = tmp_path / "model.gguf", tmp_path / "log"
    convert(folder, path, log, "f32")
    measured = measure(path, [ids], log)
    assert measured.nats == pytest.approx(wanted, rel=1e-4)


@pytest.mark.parametrize(
    ("config", "what"),
    [
        ({"model_type": "gpt2", "n_embd": 32, "n_inner": 64}, "n_inner is 64 with n_embd 32"),
        ({"model_type": "gpt_neox", "rotary_emb_base": 5000}, "a base of 5000"),
        (
            {"model_type": "phi", "hidden_size": 32, "intermediate_size": 48},
            "intermediate_size is 48",
        ),
        ({"model_type": "phi", "rope_theta": 500.0}, "phi with the usual RoPE .* a base of 500"),
        ({"model_type": "gemma2", "rope_parameters": {"rope_theta": None}}, "a base of None"),
        ({"model_type": "stablelm", "rope_scaling": {"type": "linear"}}, "the type linear"),
        (
            {"model_type": "gpt_neox", "rope_parameters": {"rope_type": "yarn", "factor": 2}},
            "the type yarn",
        ),
    ],
)
def test_what_would_be_written_otherwise_is_refused(
    config: dict[str, object], what: str, tmp_path: Path
) -> None:
    (tmp_path / "config.json").write_text(json.dumps(config))
    with pytest.raises(PipelineError, match=what):
        check_config(tmp_path)


@pytest.mark.parametrize("name", CONFIGS)
def test_the_usual_configurations_are_taken(name: str, tmp_path: Path) -> None:
    config = CONFIGS[name]()
    if name == "phi":  # the others may be of any width inside
        config.intermediate_size = 4 * config.hidden_size
    config.save_pretrained(tmp_path)
    check_config(tmp_path)


def test_what_a_configuration_says_itself_stays() -> None:
    own = {"model_type": "gpt2", "n_ctx": 5, "n_positions": 9}
    assert bridged(dict(own)) == own
    assert bridged({"model_type": "llama"}) == {"model_type": "llama"}

"""A GGUF of a model of chats: scored on the answers alone, prompted with token ids."""

import json
from pathlib import Path

import pytest
import torch
from transformers import AutoModelForCausalLM

from pipeline.errors import PipelineError
from pipeline.export.llama import complete, score, tokenize
from pipeline.scoring.bits import Window, score_model
from pipeline.step7_quantize import sample_prompt, set_chat_template

IDS = list(range(100, 700, 2))
MASK = [i % 7 == 3 for i in range(len(IDS))]


def test_masked_windows_cost_what_they_cost_the_hugging_face_model(
    plain_gguf: Path, merged: Path
) -> None:
    model = AutoModelForCausalLM.from_pretrained(merged, dtype=torch.float32)
    plain, masked = Window("a", IDS, 1), Window("b", IDS, 1, MASK)
    expected = score_model(model, [plain, masked])
    nats = score(plain_gguf, [IDS, IDS], None, masks=[None, MASK])
    assert expected.tokens == len(IDS) - 1 + sum(MASK)
    assert nats / expected.tokens == pytest.approx(expected.loss, abs=0.01)
    only = score(plain_gguf, [IDS], None, masks=[MASK])
    assert only / sum(MASK) == pytest.approx(score_model(model, [masked]).loss, abs=0.01)


def test_a_mask_that_leaves_nothing_is_an_error(plain_gguf: Path) -> None:
    with pytest.raises(PipelineError, match="no token to score"):
        score(plain_gguf, [[5, 6]], None, masks=[[True, False]])


def test_a_prompt_of_token_ids_is_taken_as_it_is(plain_gguf: Path) -> None:
    (ids,) = tokenize(plain_gguf, ["<|im_start|>user"], special=True)
    by_ids = complete(plain_gguf, ids, max_tokens=3, temperature=0)
    assert by_ids.prompt_tokens == len(ids)
    assert complete(plain_gguf, "<|im_start|>user", max_tokens=1).prompt_tokens > len(ids)
    with pytest.raises(PipelineError, match="The prompt holds token ids outside"):
        complete(plain_gguf, [49152], max_tokens=1)


def test_the_prompt_of_stage_7_is_the_one_of_training() -> None:
    assert sample_prompt({"prompt": "It was late."}) == "It was late."
    assert sample_prompt({"prompt": "Who?", "chat": {"prompt_ids": [1, 2]}}) == [1, 2]


def test_the_template_of_training_takes_the_place_of_any_other(tmp_path: Path) -> None:
    config = tmp_path / "tokenizer_config.json"
    config.write_text(json.dumps({"eos_token": "</s>", "chat_template": "old"}))
    (tmp_path / "chat_template.json").write_text("{}")
    set_chat_template(tmp_path, "new")
    assert json.loads(config.read_text()) == {"eos_token": "</s>"}
    assert (tmp_path / "chat_template.jinja").read_text() == "new"
    assert not (tmp_path / "chat_template.json").exists()

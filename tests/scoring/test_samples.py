"""Completions: seeded, without the prompt, ending at the end token."""

from typing import Any

import pytest
import torch
from transformers import AutoModelForCausalLM, AutoTokenizer

from pipeline.scoring.samples import complete
from tests.tiny_models import tiny_llama

Parts = tuple[Any, Any]  # a model and its tokenizer

PROMPT = "The lamp went out."


@pytest.fixture(scope="module", params=["<pad>", "</s>", None], ids=["pad", "pad=eos", "no pad"])
def parts(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Parts:
    directory = tmp_path_factory.mktemp("tiny") / "model"
    base = tiny_llama(directory, pad=request.param, pad_is_first=True)
    model = AutoModelForCausalLM.from_pretrained(base.path, dtype=torch.float32)
    return model, AutoTokenizer.from_pretrained(base.path)


def test_the_same_seed_gives_the_same_text_and_another_seed_another(parts: Parts) -> None:
    first = complete(*parts, PROMPT, max_new_tokens=20, temperature=1.0, seed=1)
    assert complete(*parts, PROMPT, max_new_tokens=20, temperature=1.0, seed=1) == first
    assert complete(*parts, PROMPT, max_new_tokens=20, temperature=1.0, seed=2) != first


def test_torchs_own_random_state_is_left_alone(parts: Parts) -> None:
    torch.manual_seed(5)
    expected = torch.rand(3)
    torch.manual_seed(5)
    complete(*parts, PROMPT, max_new_tokens=5)
    assert torch.equal(torch.rand(3), expected)


def test_without_temperature_it_is_the_likeliest_text(parts: Parts) -> None:
    model, tokenizer = parts
    text = complete(model, tokenizer, PROMPT, max_new_tokens=1, temperature=0, repetition_penalty=1)
    ids = tokenizer(PROMPT, return_tensors="pt")["input_ids"]
    with torch.no_grad():
        likeliest = model(ids).logits[0, -1].argmax()
    assert text == tokenizer.decode([likeliest], skip_special_tokens=True)


def test_the_prompt_is_not_in_the_completion_and_the_end_token_ends_it(parts: Parts) -> None:
    model, tokenizer = parts
    weight = model.lm_head.weight.detach().clone()
    try:
        with torch.no_grad():  # every state of the model now points at the end token
            model.lm_head.weight.zero_()
        model.lm_head.bias = torch.nn.Parameter(torch.zeros(len(tokenizer)))
        with torch.no_grad():
            model.lm_head.bias[tokenizer.eos_token_id] = 50.0
        assert complete(model, tokenizer, PROMPT, max_new_tokens=20) == ""
    finally:
        model.lm_head.bias = None
        with torch.no_grad():
            model.lm_head.weight.copy_(weight)


def test_the_model_keeps_its_mode(parts: Parts) -> None:
    model, _ = parts
    model.train()
    complete(*parts, PROMPT, max_new_tokens=2)
    assert model.training
    model.eval()


def test_a_prompt_of_token_ids_is_taken_as_it_is(parts: Parts) -> None:
    model, tokenizer = parts
    ids = [5, tokenizer.eos_token_id, 7]
    seen: list[list[int]] = []
    generate = model.generate

    def watched(**given: Any) -> Any:
        seen.append(given["input_ids"][0].tolist())
        return generate(**given)

    model.generate = watched
    try:
        complete(model, tokenizer, ids, max_new_tokens=2)
    finally:
        del model.generate
    assert seen == [ids]

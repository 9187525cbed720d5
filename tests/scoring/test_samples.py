"""Completions: seeded, without the prompt, ending at the end token."""

from typing import Any

import pytest
import torch
from transformers import AutoModelForCausalLM, AutoTokenizer

from pipeline.scoring.samples import complete, complete_all
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


def test_prompts_together_are_continued_as_each_would_be_alone(parts: Parts) -> None:
    prompts = [PROMPT, "A", "In the morning — it was the 3rd of November — the door stood open."]
    together = complete_all(
        *parts, prompts, max_new_tokens=24, temperature=1.0, seed=3, together=True
    )
    alone = [
        complete(*parts, prompt, max_new_tokens=24, temperature=1.0, seed=3 + i)
        for i, prompt in enumerate(prompts)
    ]
    assert together == alone
    assert len(set(together)) == 3


def test_a_row_that_ends_early_does_not_write_what_the_others_still_do(parts: Parts) -> None:
    model, tokenizer = parts
    prompts = [[5, 6, 7], [8, 9]]
    first = complete(model, tokenizer, prompts[0], max_new_tokens=1, temperature=0)
    (drawn,) = tokenizer(first, add_special_tokens=False)["input_ids"]
    kept = model.generation_config.eos_token_id
    model.generation_config.eos_token_id = [drawn]  # so the first ends at once
    try:
        together = complete_all(
            model, tokenizer, prompts, max_new_tokens=12, temperature=0, together=True
        )
    finally:
        model.generation_config.eos_token_id = kept
    assert together[0] == ""
    assert together[1]


def test_a_model_that_sees_padding_gets_prompts_one_by_one(parts: Parts) -> None:
    model, tokenizer = parts
    batches: list[int] = []
    forward, generate = model.forward, model.generate

    def sees_padding(**given: Any) -> Any:
        return forward(**{**given, "attention_mask": None, "position_ids": None})

    def watched(**given: Any) -> Any:
        batches.append(len(given["input_ids"]))
        return generate(**given)

    model.forward, model.generate = sees_padding, watched
    try:
        complete_all(model, tokenizer, [PROMPT, "A"], max_new_tokens=2, together=True)
        del model.forward
        complete_all(model, tokenizer, [PROMPT, "A"], max_new_tokens=2, together=True)
        complete_all(model, tokenizer, [PROMPT, "A"], max_new_tokens=2)
    finally:
        del model.generate
    assert batches == [1, 1, 2, 1, 1], "and on a CPU nobody gains by more at once"


def test_draws_are_shared_out_as_the_model_says_among_the_likeliest(parts: Parts) -> None:
    from pipeline.scoring.samples import _draw

    logits = torch.log(torch.tensor([0.05, 0.6, 0.05, 0.3]))
    source = torch.Generator().manual_seed(1)
    drawn = [_draw(logits, 1.0, 0.85, source) for _ in range(3000)]
    assert set(drawn) == {1, 3}, "0.6 and 0.3 make up the 0.85"
    assert drawn.count(1) / 3000 == pytest.approx(2 / 3, abs=0.03)
    cold = [_draw(logits, 0.25, 1.0, source) for _ in range(3000)]
    assert cold.count(1) / 3000 == pytest.approx(0.6**4 / (0.6**4 + 0.3**4), abs=0.03)


def test_what_was_written_is_less_likely_to_be_written_again() -> None:
    from pipeline.scoring.samples import _chooser

    ids = torch.tensor([[0, 0, 1], [2, 0, 1]])
    scores = torch.tensor([[2.0, 2.1, 2.05], [2.0, 2.1, 2.05]])
    # The zeros of the first row are padding, and no words that were said.
    chosen = _chooser([2, 0], [1, 1], 0.0, 1.0, 1.5)(ids, scores)
    assert chosen.argmax(-1).tolist() == [2, 1]
    assert torch.isneginf(chosen).sum() == 4
    negative = _chooser([0], [1], 0.0, 1.0, 2.0)(torch.tensor([[0]]), torch.tensor([[-1.0, -1.5]]))
    assert negative.argmax(-1).tolist() == [1]

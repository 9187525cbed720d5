"""An evaluation says what the model is worth, writes it down, and leaves the model as it was."""

import json
import math
from pathlib import Path
from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from peft import LoraConfig, get_peft_model
from transformers import AutoModelForCausalLM, AutoTokenizer

from pipeline.errors import PipelineError
from pipeline.scoring.bits import Score, Window, score_model, windows
from pipeline.scoring.samples import complete
from pipeline.training.evaluation import (
    EVALUATIONS,
    NO_SOURCE,
    Evaluation,
    Evaluator,
    Interrupted,
    append_evaluation,
    read_evaluations,
    scores_by_source,
)
from tests.tiny_models import documents, tiny_llama

PROMPTS = ["The lamp went out.", "In the morning — it was the 3rd — the door stood", "A line"]
SOURCES = {"tale-0": "novels", "tale-1": "letters", "tale-2": "novels"}

Parts = tuple[Any, Any]


@pytest.fixture(scope="module")
def parts(tmp_path_factory: pytest.TempPathFactory) -> Parts:
    """A model with an untrained adapter, with dropout, and its tokenizer."""
    base = tiny_llama(tmp_path_factory.mktemp("tiny") / "model")
    model = AutoModelForCausalLM.from_pretrained(base.path, dtype=torch.float32)
    torch.manual_seed(0)
    lora = LoraConfig(task_type="CAUSAL_LM", r=4, lora_dropout=0.5, target_modules="all-linear")
    return get_peft_model(model, lora), AutoTokenizer.from_pretrained(base.path)


def held_out(tokenizer: Any) -> list[Window]:
    # 3 * 256 tokens let in all three; 100 tokens a window leave a partial one at the end of each.
    return windows(tokenizer, documents(3), length=100, max_tokens=768)


def evaluator(parts: Parts, folder: Path, **given: Any) -> Evaluator:
    chosen: dict[str, Any] = {
        "held_out": held_out(parts[1]), "sources": SOURCES, "prompts": PROMPTS,
        "sample_tokens": 6, "seed": 7, "autocast": None, "folder": folder, **given,
    }  # fmt: skip
    return Evaluator(parts[1], **chosen)


def test_the_score_counts_every_token_the_last_partial_window_too(
    parts: Parts, tmp_path: Path
) -> None:
    cut = held_out(parts[1])
    assert len({len(window.ids) for window in cut}) > 1, "some windows are partial"
    evaluation = evaluator(parts, tmp_path).evaluate(parts[0], 3, "adapter")
    assert evaluation.score == score_model(parts[0], cut)
    assert evaluation.score.tokens == sum(len(window.ids) - 1 for window in cut)
    assert (evaluation.step, len(evaluation.samples)) == (3, 3)
    assert evaluation.seconds > 0


def test_an_untrained_adapter_scores_exactly_what_its_base_does(
    parts: Parts, tmp_path: Path
) -> None:
    model, _ = parts
    ours = evaluator(parts, tmp_path)
    adapted = ours.evaluate(model, 0, "adapter")
    with model.disable_adapter():
        base = ours.evaluate(model, 0, "base")
    assert (adapted.score, adapted.samples) == (base.score, base.samples)


def test_the_scores_of_the_sources_add_up_to_the_whole(parts: Parts, tmp_path: Path) -> None:
    evaluation = evaluator(parts, tmp_path).evaluate(parts[0], 0, "base")
    assert set(evaluation.by_source) == {"novels", "letters"}
    found = list(evaluation.by_source.values())
    assert sum(score.tokens for score in found) == evaluation.score.tokens
    assert sum(score.n_bytes for score in found) == evaluation.score.n_bytes
    assert sum(score.nats for score in found) == pytest.approx(evaluation.score.nats)
    novels = [w for w in held_out(parts[1]) if SOURCES[w.document] == "novels"]
    assert evaluation.by_source["novels"] == score_model(parts[0], novels)


def test_one_source_is_no_table_and_a_document_without_one_is_named_so(parts: Parts) -> None:
    cut = held_out(parts[1])
    nats = [1.0] * len(cut)
    assert scores_by_source(cut, nats, {}) == {}
    assert scores_by_source(cut, nats, dict.fromkeys(SOURCES, "novels")) == {}
    assert set(scores_by_source(cut, nats, {"tale-1": "letters"})) == {"letters", NO_SOURCE}


@given(st.lists(st.tuples(st.sampled_from("abc"), st.integers(1, 9), st.floats(0, 50)), min_size=1))
@settings(max_examples=50)
def test_sources_are_weighted_by_tokens_and_not_averaged(
    rows: list[tuple[str, int, float]],
) -> None:
    cut = [Window(name, list(range(n + 1)), n) for name, n, _ in rows]
    nats = [cost for _, _, cost in rows]
    found = scores_by_source(cut, nats, {name: name for name in "abc"})
    for name, score in found.items():
        mine = [(n, cost) for own, n, cost in rows if own == name]
        expected = sum(cost for _, cost in mine) / sum(n for n, _ in mine)
        assert score.loss == pytest.approx(expected)


def test_the_model_and_torchs_random_state_are_left_as_they_were(
    parts: Parts, tmp_path: Path
) -> None:
    model, _ = parts
    model.train()
    frozen = next(m for m in model.modules() if isinstance(m, torch.nn.Dropout))
    frozen.eval()  # a part that was switched off by itself stays so
    weight = next(p for p in model.parameters() if p.requires_grad)
    weight.grad = torch.ones_like(weight)
    modes = [module.training for module in model.modules()]
    before = {name: p.detach().clone() for name, p in model.named_parameters()}
    torch.manual_seed(5)
    expected = torch.rand(3)
    torch.manual_seed(5)

    evaluator(parts, tmp_path).evaluate(model, 0, "base")

    assert torch.equal(torch.rand(3), expected)
    assert [module.training for module in model.modules()] == modes
    assert torch.equal(weight.grad, torch.ones_like(weight))
    assert all(torch.equal(before[name], p) for name, p in model.named_parameters())
    weight.grad = None
    model.eval()


@pytest.mark.parametrize("calls", [0, 3, 15], ids=["at once", "in the windows", "in a sample"])
def test_one_that_is_asked_to_end_ends_before_the_next_window_or_token(
    parts: Parts, tmp_path: Path, calls: int
) -> None:
    model, _ = parts
    model.train()
    asked: list[int] = []

    def stop() -> bool:
        asked.append(len(asked))
        return len(asked) > calls

    with pytest.raises(Interrupted):
        evaluator(parts, tmp_path).evaluate(model, 3, "adapter", stop)
    assert len(asked) == calls + 1
    assert not (tmp_path / EVALUATIONS).exists()
    assert model.training and not model.get_input_embeddings()._forward_pre_hooks
    model.eval()


def test_the_same_seed_gives_the_same_evaluation_each_time(parts: Parts, tmp_path: Path) -> None:
    ours = evaluator(parts, tmp_path)
    first, second = (ours.evaluate(parts[0], 0, "base") for _ in range(2))
    assert (first.score, first.samples) == (second.score, second.samples)
    other = evaluator(parts, tmp_path, seed=8).evaluate(parts[0], 0, "base")
    assert other.samples != first.samples


def test_each_prompt_is_continued_as_it_would_be_alone(parts: Parts, tmp_path: Path) -> None:
    model, tokenizer = parts
    together = evaluator(parts, tmp_path, sample_tokens=20).evaluate(model, 0, "base").samples
    alone = [
        complete(model, tokenizer, prompt, max_new_tokens=20, seed=7 + i)
        for i, prompt in enumerate(PROMPTS)
    ]
    assert together == alone


def test_each_evaluation_is_a_line_of_the_file(parts: Parts, tmp_path: Path) -> None:
    ours = evaluator(parts, tmp_path)
    found = [ours.evaluate(parts[0], 0, "base"), ours.evaluate(parts[0], 10, "adapter")]
    rows = [json.loads(line) for line in (tmp_path / EVALUATIONS).read_text().splitlines()]
    assert [(row["step"], row["what"]) for row in rows] == [(0, "base"), (10, "adapter")]
    for row, evaluation in zip(rows, found, strict=True):
        assert row["bits_per_byte"] == evaluation.score.bits_per_byte
        assert row["perplexity"] == pytest.approx(math.exp(row["loss"]))
        assert row["samples"] == evaluation.samples
        assert row["by_source"]["letters"]["loss"] == evaluation.by_source["letters"].loss
    assert read_evaluations(tmp_path / EVALUATIONS) == rows


def test_a_line_that_was_cut_short_is_passed_over_and_the_next_is_whole(tmp_path: Path) -> None:
    path = tmp_path / EVALUATIONS
    assert read_evaluations(path) == []
    one = Evaluation(4, Score(8.0, 4, 6), {}, ["a\u2028“b”"], 1.0)
    append_evaluation(path, one, "adapter")
    path.write_bytes(path.read_bytes() + b'{"step": 8, "wh')
    append_evaluation(path, Evaluation(8, Score(7.0, 4, 6), {}, [], 1.0), "adapter")
    append_evaluation(path, Evaluation(4, Score(6.0, 4, 6), {}, [], 1.0), "adapter")
    rows = read_evaluations(path)
    assert [(row["step"], row["loss"]) for row in rows] == [(8, 1.75), (4, 1.5)], "the later counts"


@pytest.mark.parametrize("nothing", [[], [Window("a", [5], 1)]], ids=["no windows", "no tokens"])
def test_nothing_held_out_is_an_error_and_never_zero(
    parts: Parts, tmp_path: Path, nothing: list[Window]
) -> None:
    with pytest.raises(PipelineError, match="no held-out text"):
        evaluator(parts, tmp_path, held_out=nothing)


def test_a_model_that_broke_is_an_error_and_no_line(parts: Parts, tmp_path: Path) -> None:
    model, _ = parts
    norm = model.base_model.model.model.norm.weight
    kept = norm.detach().clone()
    try:
        with torch.no_grad():
            norm.fill_(math.inf)
        with pytest.raises(PipelineError, match="loss on the held-out text"):
            evaluator(parts, tmp_path).evaluate(model, 0, "adapter")
    finally:
        with torch.no_grad():
            norm.copy_(kept)
    assert not (tmp_path / EVALUATIONS).exists()

"""Rows hold every token of every document; batches train exactly the real ones."""

from dataclasses import dataclass
from pathlib import Path

import pytest
import torch
from transformers import AutoModelForCausalLM, AutoTokenizer

from pipeline.errors import PipelineError, UsageError
from pipeline.training.data import (
    IGNORED,
    BlockCollator,
    choose_schedule,
    trained_on,
    training_data,
)
from tests.tiny_models import TALE, Document, documents, tiny_llama, tiny_tokenizer


def test_rows_joined_are_the_documents_and_no_row_holds_two() -> None:
    tokenizer = tiny_tokenizer(adds_bos=True)
    corpus = documents(3)
    data = training_data(tokenizer, corpus, 50)

    texts, row_ids = [], []
    for row in data.rows:
        assert tokenizer.bos_token_id not in row[1:]
        assert tokenizer.eos_token_id not in row[:-1]
        row_ids += row
        if row[-1] == tokenizer.eos_token_id:
            texts.append(tokenizer.decode(row_ids, skip_special_tokens=True))
            row_ids = []
    assert texts == [document.text for document in corpus]
    assert data.documents == 3
    assert data.characters == sum(len(document.text) for document in corpus)
    assert data.tokens == sum(map(len, data.rows))
    assert data.predicted == sum(len(row) - 1 for row in data.rows)


def test_documents_without_text_are_left_out_and_named(capfd: pytest.CaptureFixture[str]) -> None:
    data = training_data(tiny_tokenizer(), [Document("a", TALE), Document("b", " \n")], 50)
    assert data.empty == ["b"]
    assert data.documents == 1
    assert "not trained on: b (1 in all)" in capfd.readouterr().err


@pytest.mark.parametrize("corpus", [[], [Document("a", "\n")]])
def test_nothing_to_train_on_is_an_error(corpus: list[Document]) -> None:
    with pytest.raises(PipelineError, match="no text to train on"):
        training_data(tiny_tokenizer(), corpus, 50)


@dataclass(frozen=True)
class Sourced:
    """A document that says which source it is from."""

    id: str
    collection: str | None = None
    weight: float | None = None
    text: str = TALE


NOVELS = [Sourced("1", "novels", 0.6), Sourced("2", "novels", 0.6)]
LETTERS = [Sourced("3", "letters", 0.2)]
TEST_SET = [Sourced("4", "test set", 0.0)]
PLAIN = [Sourced("5", "plain"), Sourced("6", "simple")]


def test_each_row_knows_the_source_of_its_document() -> None:
    data = training_data(tiny_tokenizer(), [*NOVELS, Document("a", TALE), *LETTERS], 50)
    n = len(data.rows) // 4
    assert n > 1
    assert data.collections == ["novels"] * 2 * n + [None] * n + ["letters"] * n


def test_the_weights_of_the_documents_are_the_shares_of_their_sources() -> None:
    schedule = choose_schedule([*NOVELS, *LETTERS], TEST_SET, {})
    assert schedule is not None
    assert schedule.at(0) == pytest.approx({"novels": 0.75, "letters": 0.25})
    assert trained_on([*NOVELS, *TEST_SET, *LETTERS], schedule) == [*NOVELS, *LETTERS]


@pytest.mark.parametrize("corpus", [[Document("a", TALE)], PLAIN, [*PLAIN, *TEST_SET], TEST_SET])
def test_without_any_weight_above_0_there_is_no_schedule(corpus: list[Document]) -> None:
    assert choose_schedule(corpus, [], {}) is None
    assert trained_on(corpus, None) == [document for document in corpus if document.id != "4"]


@pytest.mark.parametrize(
    ("corpus", "message"),
    [
        ([*NOVELS, *PLAIN], "The source 'plain' has no weight, but other sources have. Give every"),
        ([*PLAIN[1:], *NOVELS], "The source 'simple' has no weight"),
        ([*NOVELS, Document("a", TALE)], "Document 'a' has no weight"),
        ([*NOVELS, Sourced("9", "novels", 0.5)], "'novels' has two weights, 0.6 and 0.5"),
        ([*NOVELS, Sourced("9", "novels", 0.0)], "'novels' has two weights, 0.6 and 0.0"),
        ([*NOVELS, Sourced("9", None, 0.5)], "Document '9' has a weight, but names no source"),
        ([Sourced("9", "odd", -0.5)], "weight of 'odd' must be 0 or above"),
    ],
)
def test_weights_that_do_not_fit_together_are_refused(corpus: list[Sourced], message: str) -> None:
    with pytest.raises(PipelineError) as caught:
        choose_schedule(corpus, [], {})
    assert message in str(caught.value)


def test_a_mix_takes_the_place_of_the_weights_there_are() -> None:
    for corpus in ([*NOVELS, *LETTERS], [*NOVELS, Sourced("3", "letters")]):
        schedule = choose_schedule(
            corpus, TEST_SET, {0: {"novels": 0, "letters": 1, "test set": 0}}
        )
        assert schedule is not None
        assert schedule.stages == ((0, {"letters": 1.0}),)
        assert trained_on(corpus, schedule) == corpus[2:]


def test_a_mix_for_later_follows_the_weights_there_are() -> None:
    schedule = choose_schedule([*NOVELS, *LETTERS], [], {500: {"letters": 1.0}})
    assert schedule is not None
    assert schedule.at(499) == pytest.approx({"novels": 0.75, "letters": 0.25})
    assert schedule.at(500) == {"letters": 1.0}
    with pytest.raises(UsageError, match="from step 500 on, but not before"):
        choose_schedule(PLAIN, [], {500: {"plain": 1.0, "simple": 1.0}})


@pytest.mark.parametrize(
    ("mix", "message"),
    [
        ({"novel": 1.0, "letters": 1.0}, "names 'novel', but no source is called so. Did you mean"),
        ({"novels": 1.0}, "does not name 'letters'. Give it a share, or 0"),
        ({"novels": 1.0, "letters": 1.0, "test set": 1.0}, "'test set' a share, but all of it is"),
    ],
)
def test_a_mix_of_other_sources_than_there_are_is_refused(
    mix: dict[str, float], message: str
) -> None:
    with pytest.raises(UsageError) as caught:
        choose_schedule([*NOVELS, *LETTERS], TEST_SET, {0: mix})
    assert message in str(caught.value)


def test_a_mix_of_documents_that_name_no_source_is_refused() -> None:
    with pytest.raises(UsageError, match="document 'a' does not say which source"):
        choose_schedule([*NOVELS, Document("a", TALE)], [], {0: {"novels": 1.0}})


@pytest.mark.parametrize("pad_id", [0, 2])
def test_padding_is_never_trained_and_the_end_token_always_is(pad_id: int) -> None:
    eos = 2  # with pad_id 2, the pad token is the end token
    batch = BlockCollator(pad_id)(
        [{"input_ids": [5, 6, 7, 8, eos]}, {"input_ids": [0, 6, eos]}, {"input_ids": [5, 9]}]
    )
    assert batch["input_ids"].tolist() == [
        [5, 6, 7, 8, eos],
        [0, 6, eos, pad_id, pad_id],
        [5, 9, pad_id, pad_id, pad_id],
    ]
    assert batch["attention_mask"].tolist() == [[1, 1, 1, 1, 1], [1, 1, 1, 0, 0], [1, 1, 0, 0, 0]]
    assert batch["labels"].tolist() == [
        [IGNORED, 6, 7, 8, eos],
        [IGNORED, 6, eos, IGNORED, IGNORED],
        [IGNORED, 9, IGNORED, IGNORED, IGNORED],
    ]


def test_a_row_in_a_batch_costs_what_it_costs_alone(tmp_path: Path) -> None:
    base = tiny_llama(tmp_path / "model", pad="</s>")
    model = AutoModelForCausalLM.from_pretrained(base.path, dtype=torch.float32)
    tokenizer = AutoTokenizer.from_pretrained(base.path)
    rows = [{"input_ids": row} for row in training_data(tokenizer, documents(2, 1), 40).rows]
    collate = BlockCollator(tokenizer.pad_token_id)

    def nats(batch: dict[str, torch.Tensor]) -> float:
        trained = (batch["labels"] != IGNORED).sum()
        with torch.no_grad():
            return (model(**batch).loss * trained).item()

    assert len({len(row["input_ids"]) for row in rows}) > 1
    alone = sum(nats(collate([row])) for row in rows)
    assert nats(collate(rows)) == pytest.approx(alone, rel=1e-5)

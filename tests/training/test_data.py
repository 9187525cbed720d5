"""Rows hold every token of every document; batches train exactly the real ones."""

from pathlib import Path

import pytest
import torch
from transformers import AutoModelForCausalLM, AutoTokenizer

from pipeline.errors import PipelineError
from pipeline.training.data import IGNORED, BlockCollator, training_data
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

"""Every token of every sample is in one sequence, or it is said where it went."""

import dataclasses
from pathlib import Path
from typing import Any

import pytest

from pipeline.corpus.tokens import document_ids
from pipeline.errors import PipelineError
from pipeline.training.data import Sample, as_sample
from pipeline.training.dataset import TrainingData, add_sources, show_examples, training_data
from pipeline.training.settings import TrainSettings
from tests.tiny_models import TALE, documents, tiny_tokenizer

TOKENIZER = tiny_tokenizer(adds_bos=True)


@pytest.fixture(scope="module")
def tokenizer(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("tokenizer")
    TOKENIZER.save_pretrained(folder)
    return folder


def pairs(n: int, words: int = 3) -> list[Sample]:
    return [
        Sample(f"pair-{i}", {"prompt": f"Who is it, {i}? ", "completion": "the sea " * words})
        for i in range(n)
    ]


def texts(n: int, paragraphs: int = 3, collection: str | None = None) -> list[Sample]:
    return [Sample(d.id, {"text": d.text}, collection) for d in documents(n, paragraphs)]


def build(
    samples: list[Sample], tokenizer: Path, folder: Path, *, packing: bool = True,
    weighted: bool = False, **settings: Any,
) -> TrainingData:  # fmt: skip
    chosen = TrainSettings(**{"sequence_length": 50, **settings})
    return training_data(
        samples, tokenizer, chosen, folder / "tokens", packing=packing, weighted=weighted
    )


def rows(data: TrainingData) -> list[list[int]]:
    return [data.store.row(row)[0].tolist() for each in data.sequences for row in each]


def test_rows_joined_are_the_documents_and_no_row_holds_two(
    tokenizer: Path, tmp_path: Path
) -> None:
    corpus = texts(3)
    data = build(corpus, tokenizer, tmp_path, packing=False)
    ids = [token for row in rows(data) for token in row]
    assert ids == [token for s in corpus for token in document_ids(TOKENIZER, s.text)]
    for row in rows(data):
        assert TOKENIZER.bos_token_id not in row[1:]
        assert TOKENIZER.eos_token_id not in row[:-1]
    assert data.lengths == [len(row) for row in rows(data)]


def test_packing_changes_which_rows_are_together_and_nothing_else(
    tokenizer: Path, tmp_path: Path
) -> None:
    data = build(pairs(40), tokenizer, tmp_path)
    apart = build(pairs(40), tokenizer, tmp_path, packing=False)
    assert sorted(rows(data)) == sorted(rows(apart))
    assert len(data.sequences) <= len(apart.sequences) / 2
    assert all(length <= 50 for length in data.lengths)


def test_prompts_that_meet_their_completions_are_told_before_they_are_trained_on(
    tokenizer: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    build(pairs(3), tokenizer, tmp_path / "apart")
    assert "no white space" not in capsys.readouterr().err
    bare = Sample("bare", {"prompt": "Who is it?", "completion": "the sea"})
    build([*pairs(3), bare], tokenizer, tmp_path / "bare")
    said = " ".join(capsys.readouterr().err.split())
    assert "The training data: between prompt and completion of 1 of 4 records" in said


def test_rows_of_weighted_sources_never_share_a_sequence(tokenizer: Path, tmp_path: Path) -> None:
    mixed = [
        Sample(f"{name}{i}", {"text": f"{name} {i}"}, name) for i in range(9) for name in ("a", "b")
    ]
    data = build(mixed, tokenizer, tmp_path, weighted=True)
    names = data.store.collections()
    assert all(len({names[row] for row in each}) == 1 for each in data.sequences)
    assert data.collections == [names[each[0]] for each in data.sequences]
    together = build(mixed, tokenizer, tmp_path)
    assert any(len({names[row] for row in each}) == 2 for each in together.sequences)


def test_the_account_of_texts_comes_out_even(tokenizer: Path, tmp_path: Path) -> None:
    corpus = texts(60, 1)
    data = build(corpus, tokenizer, tmp_path, sequence_length=512, micro_batch_size=2)
    ledger = data.ledger
    tokens = sum(len(document_ids(TOKENIZER, s.text)) for s in corpus)
    assert ledger["kind"] == "text"
    assert ledger["examples"] == 60
    assert ledger["characters"] == sum(len(s.text) for s in corpus)
    assert ledger["tokens"] == ledger["in_rows"] == sum(data.lengths) == tokens
    assert ledger["trained"] == tokens - 60
    assert ledger["dropped"] == {}
    assert 60 == ledger["rows"] > ledger["sequences"] == len(data.sequences)
    assert ledger["real_share"] >= 0.97
    assert data.trained == data.lengths


def test_the_share_of_padding_is_none_one_by_one_and_else_at_most_what_is_said(
    tokenizer: Path, tmp_path: Path
) -> None:
    chosen = TrainSettings(sequence_length=50)

    def share(n: int | None, *, one_by_one: bool) -> float:
        settings = dataclasses.replace(chosen, micro_batch_size=n)
        data = training_data(
            pairs(9), tokenizer, settings, tmp_path / "tokens", packing=True, one_by_one=one_by_one
        )
        worst = data.tokens / (len(data.sequences) * max(data.lengths))
        assert worst < 0.99
        return float(data.ledger["real_share"] / round(worst, 4))

    assert share(None, one_by_one=False) == share(4, one_by_one=True) == 1
    assert share(None, one_by_one=True) == share(1, one_by_one=False) > 1


@pytest.mark.parametrize("stride", [5, 20])
def test_blocks_with_a_stride_repeat_tokens_and_train_each_once(
    tokenizer: Path, tmp_path: Path, stride: int
) -> None:
    data = build(texts(2), tokenizer, tmp_path, stride=stride)
    ledger = data.ledger
    assert ledger["repeated"] > 0
    assert ledger["in_rows"] == ledger["tokens"] + ledger["repeated"]
    assert ledger["trained"] == sum(data.trained) == ledger["tokens"] - 2


@pytest.mark.parametrize(
    ("overlong", "dropped"),
    [
        ("split", set()),
        ("truncate", {"cut off the ends of long records"}),
        ("drop", {"in records longer than a sequence"}),
    ],
)
def test_what_becomes_of_long_records_is_chosen_and_counted(
    tokenizer: Path, tmp_path: Path, capfd: pytest.CaptureFixture[str], overlong: str,
    dropped: set[str],
) -> None:  # fmt: skip
    data = build([*pairs(5), *pairs(1, 60)], tokenizer, tmp_path, overlong=overlong)
    ledger = data.ledger
    assert ledger["dropped"].keys() == dropped
    lost = sum(ledger["dropped"].values())
    assert ledger["in_rows"] + lost == ledger["tokens"] + ledger["repeated"]
    said = capfd.readouterr().err
    assert ("Not trained on" in said) == bool(dropped)
    for reason in dropped:
        assert f"{lost:,} tokens {reason}, such as pair-0" in said


def test_a_row_of_one_token_is_left_out_as_it_has_nothing_to_predict(
    tmp_path: Path, tokenizer: Path
) -> None:
    plain = tiny_tokenizer(adds_bos=False)
    plain.add_special_tokens({"additional_special_tokens": ["<odd>"]})
    plain.backend_tokenizer.normalizer = None
    plain.save_pretrained(tmp_path / "plain")
    from tokenizers import normalizers

    plain.backend_tokenizer.normalizer = normalizers.Replace("zzz", "")
    plain.save_pretrained(tmp_path / "plain")
    corpus = [Sample("a", {"text": "zzz"}), Sample("b", {"text": TALE})]
    data = build(corpus, tmp_path / "plain", tmp_path)
    assert all(len(row) > 1 for row in rows(data))
    assert data.ledger["dropped"] == {"in pieces without a token to train on": 1}
    assert data.ledger["in_rows"] == data.ledger["tokens"] - 1


def test_samples_without_text_are_left_out_and_named(
    tokenizer: Path, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    data = build([Sample("a", {"text": TALE}), Sample("b", {"text": " \n"})], tokenizer, tmp_path)
    assert data.examples == 1
    assert data.ledger["empty_examples"] == ["b"]
    assert "not trained on: b (1 in all)" in capfd.readouterr().err


@pytest.mark.parametrize(
    ("samples", "settings", "message"),
    [
        ([], {}, "There is no text to train on"),
        ([Sample("a", {"text": "\n"})], {}, "There is no text to train on"),
        (pairs(3, 60), {"overlong": "drop"}, "All 3 records are longer than --sequence-length 50"),
        (
            [Sample("a", {"prompt": TALE, "completion": "x"})], {"overlong": "truncate"},
            "The only record has no token to train on",
        ),
    ],
)  # fmt: skip
def test_nothing_to_train_on_is_one_sentence(
    tokenizer: Path, tmp_path: Path, samples: list[Sample], settings: dict[str, Any], message: str
) -> None:
    with pytest.raises(PipelineError, match=message):
        build(samples, tokenizer, tmp_path, **settings)


def test_examples_are_shown_with_what_is_trained_on(tokenizer: Path, tmp_path: Path) -> None:
    data = build(pairs(3), tokenizer, tmp_path)
    first = show_examples(data, TOKENIZER, 1)[0]
    assert [trained for _, trained in first[:3]] == [False, True, False]
    assert first[0][0] == "<s>Who is it, 0? "
    assert first[1][0] == "the sea the sea the sea </s>"
    assert len(show_examples(data, TOKENIZER, 99)) == len(data.sequences)


def test_any_document_will_do(tokenizer: Path, tmp_path: Path) -> None:
    assert build([as_sample(d) for d in documents(2)], tokenizer, tmp_path).examples == 2


def test_every_character_that_was_read_is_in_the_ledger(tokenizer: Path, tmp_path: Path) -> None:
    corpus = [dataclasses.replace(sample, end_newlines=2) for sample in texts(6)]
    ledger = build(corpus[:3], tokenizer, tmp_path).ledger
    add_sources(ledger, corpus, corpus[3:4], corpus[4:])
    size = sum(len(sample.text) for sample in corpus)
    assert ledger["characters_in"] == size + 12
    assert ledger["end_newlines"] == 12
    assert ledger["held_out"] == {"characters": len(corpus[3].text), "examples": 1}
    assert ledger["without_share"]["examples"] == 2
    with pytest.raises(PipelineError, match=r"6 examples of .* characters went in, and 5 of"):
        add_sources(ledger, corpus, corpus[3:4], corpus[5:])


def test_what_there_is_nothing_of_is_named_by_its_kind(tokenizer: Path, tmp_path: Path) -> None:
    with pytest.raises(PipelineError, match="There is no record to train on"):
        training_data([], tokenizer, TrainSettings(), tmp_path / "tokens", kind="chat")

"""Samples of any kind, and the shares that their sources have in training."""

from dataclasses import dataclass

import pytest

from pipeline.corpus import documents as read_back
from pipeline.errors import PipelineError, UsageError
from pipeline.training.data import Sample, as_sample, choose_schedule, kind_of, trained_on
from tests.tiny_models import TALE, Document

TEXT = Sample("1", {"text": TALE})
PAIR = Sample("2", {"prompt": "2 + 2 =", "completion": " 4"})
CHAT = Sample("3", {"messages": [{"role": "user", "content": "Who?"}]})


@pytest.mark.parametrize(("sample", "kind"), [(TEXT, "text"), (PAIR, "completion"), (CHAT, "chat")])
def test_what_a_sample_is_follows_from_its_content(sample: Sample, kind: str) -> None:
    assert kind_of([sample, sample]) == kind
    with pytest.raises(PipelineError, match=r"cannot train on .* and .* at once"):
        kind_of([sample, CHAT if sample is not CHAT else TEXT])


def test_a_document_is_a_sample_with_its_source_and_weight() -> None:
    assert as_sample(Sourced("7", "novels", 0.5)) == Sample("7", {"text": TALE}, "novels", 0.5)
    assert as_sample(Document("8", "Who?")) == Sample("8", {"text": "Who?"})
    assert as_sample(PAIR) is PAIR
    edition = read_back.Document("9", "Who?", work="7")
    assert as_sample(edition).work == "7"


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

"""How sequences are drawn: evenly from the texts where not all can be read, else at random."""

from dataclasses import replace
from pathlib import Path

import pytest

from pipeline.errors import UsageError
from pipeline.training.base_model import BaseModel
from pipeline.training.data import Sample
from pipeline.training.order import draw_order
from pipeline.training.preparation import Prepared, choose, prepare
from pipeline.training.trainer import TrainSettings
from tests.tiny_models import TALE, Document, tiny_llama

SETTINGS = TrainSettings(
    sequence_length=64, batch_size=1, micro_batch_size=1, eval_tokens=100, sample_tokens=2
)
HELD_OUT = [Document("held-out", TALE)]
SHELF = [Document("long", TALE * 12), Document("short", TALE * 4), Document("middle", TALE * 8)]


@pytest.fixture(scope="module")
def base(tmp_path_factory: pytest.TempPathFactory) -> BaseModel:
    return tiny_llama(tmp_path_factory.mktemp("tiny") / "model")


def prepared(base: BaseModel, folder: Path, shelf: list[Document], **settings: object) -> Prepared:
    chosen = replace(SETTINGS, **settings)  # type: ignore[arg-type]
    return prepare(chosen, choose(chosen, shelf, HELD_OUT, base), base, folder / "tokens", 1)


def test_a_run_shorter_than_an_epoch_reads_as_much_of_each_text(
    base: BaseModel, tmp_path: Path
) -> None:
    run = prepared(base, tmp_path, SHELF, max_steps=6)

    read = [run.data.collections[number] for number in run.order]
    assert run.drawn == "even"
    assert [sorted(map(str, read[at : at + 3])) for at in (0, 3)] == 2 * [
        ["long", "middle", "short"]
    ]


def test_editions_of_a_work_are_one_text(base: BaseModel, tmp_path: Path) -> None:
    editions = [Sample(f"edition-{n}", {"text": TALE * 4}, work="tale") for n in range(3)]
    others = [Sample("other", {"text": TALE * 4})]

    run = prepared(base, tmp_path, [*editions, *others], max_steps=6)  # type: ignore[list-item]

    read = [run.data.collections[number] for number in run.order]
    assert read.count("tale") == read.count("other") == 3


@pytest.mark.parametrize(
    ("settings", "shelf"),
    [({"epochs": 1}, SHELF), ({"max_steps": 9, "order": "random"}, SHELF),
     ({"max_steps": 3}, SHELF[:1])],
)  # fmt: skip
def test_else_all_sequences_are_alike(
    base: BaseModel, tmp_path: Path, settings: dict[str, object], shelf: list[Document]
) -> None:
    run = prepared(base, tmp_path, shelf, **settings)

    assert run.drawn == "random"
    assert run.order == draw_order(len(run.data.sequences), len(run.order), SETTINGS.seed)


def test_a_run_of_several_epochs_is_even_if_that_is_asked_for(
    base: BaseModel, tmp_path: Path
) -> None:
    run = prepared(base, tmp_path, SHELF, epochs=2, order="even")

    assert run.drawn == "even"
    assert sorted(run.order) == sorted(2 * list(range(len(run.data.sequences))))


def test_what_cannot_be_drawn_evenly_is_refused(base: BaseModel) -> None:
    even = replace(SETTINGS, order="even")
    records = [Sample("r", {"prompt": "Who?", "completion": "The sea."})]
    weighted = [Sample(f"w{n}", {"text": TALE}, f"source {n}", 1.0 + n) for n in range(2)]

    with pytest.raises(UsageError, match="--order even cannot be used: there are no texts"):
        choose(even, records, records, base)
    with pytest.raises(UsageError, match="--order even cannot be used: the sources have weights"):
        choose(even, weighted, HELD_OUT, base)

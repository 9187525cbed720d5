"""Which documents make a shard: hardly any changes when one document does."""

import random
from pathlib import Path

import pytest

from pipeline.corpus.chunk_jobs import TRAIN, VALIDATION, About, Cutting, Text
from pipeline.corpus.shard_plan import MOST_SHARDS, group_documents, plan_shards, shard_text

TARGET = 3_000_000


def text(name: str, size: int, **about: object) -> Text:
    return Text(Path(f"{name}.txt"), size, f"hash of {name}", About(**about))  # type: ignore[arg-type]


def shelf(count: int, seed: int = 0) -> list[Text]:
    rng = random.Random(seed)
    names = sorted(f"{rng.randint(1, 10**6)}-book-{number}" for number in range(count))
    return [text(name, rng.randint(20_000, 700_000)) for name in names]


def test_all_documents_are_in_groups_in_their_order() -> None:
    documents = shelf(500)
    groups = group_documents(documents, TARGET)
    assert [document for group in groups for document in group] == documents
    assert group_documents([], TARGET) == []


def test_groups_have_the_size_on_average_and_none_is_much_larger() -> None:
    sizes = [sum(d.size for d in group) for group in group_documents(shelf(4000), TARGET)]
    assert 0.7 * TARGET < sum(sizes) / len(sizes) < 1.3 * TARGET
    assert max(sizes) <= 2.5 * TARGET
    assert min(sizes[:-1]) >= TARGET / 4


def test_a_document_that_is_larger_than_a_group_is_one_of_its_own() -> None:
    documents = [text("a", 1000), text("b", 50 * TARGET), text("c", 1000)]
    assert group_documents(documents, TARGET)[1] == [documents[1]]


def test_a_dropped_document_changes_its_own_group_and_seldom_another() -> None:
    documents = shelf(600)
    before = {tuple(group) for group in group_documents(documents, TARGET)}
    changed = []
    for number in range(len(documents)):
        less = documents[:number] + documents[number + 1 :]
        changed.append(sum(tuple(g) not in before for g in group_documents(less, TARGET)))
    assert sum(changed) < 1.3 * len(changed)
    assert sum(number <= 1 for number in changed) > 0.8 * len(changed)


def test_an_edited_document_changes_its_own_group_only() -> None:
    documents = shelf(600)
    before = group_documents(documents, TARGET)
    others = 0
    for number, document in enumerate(documents):
        edited = [*documents]
        edited[number] = text(document.id, document.size + 30)
        after = group_documents(edited, TARGET)
        others += sum(group not in before for group in after) - 1
    assert others <= 2, "an edit that crosses the size at which a group may end"


def test_there_are_never_more_than_some_hundred_shards() -> None:
    for total in (10**6, 10**9, 10**11, 10**13):
        assert total / shard_text(total) <= MOST_SHARDS
    assert shard_text(10**9) == shard_text(2 * 10**9), "a growing corpus keeps its shards"


CUTTING = Cutting(7000, 6000)


def test_a_small_shelf_is_one_shard_for_each_split() -> None:
    plan = plan_shards(shelf(20), CUTTING, 0.1, 0)
    assert [(job.split, job.number, job.count) for job in plan.shards] == [
        (TRAIN, 0, 1),
        (VALIDATION, 0, 1),
    ]
    assert plan.warnings == []


def test_a_single_document_is_one_job_for_both_splits() -> None:
    plan = plan_shards(shelf(1), CUTTING, 0.1, 0)
    assert [job.tail for job in plan.shards] == [0.1]
    assert plan.warnings == []  # whether its end can be held out shows when it is cut
    assert [job.tail for job in plan_shards(shelf(1), CUTTING, 0, 0).shards] == [0]


def test_editions_of_a_single_work_and_of_what_is_for_evaluation_are_named() -> None:
    one_work = [text("a", 100, work="a"), text("b", 100, work="a")]
    assert "editions of one work" in plan_shards(one_work, CUTTING, 0.1, 0).warnings[0]
    mixed = [text("a", 9, work="a"), text("b", 9, work="a", weight=0.0), text("c", 9, work="c")]
    plan = plan_shards(mixed, CUTTING, 0.1, 0)
    assert plan.warnings[0].startswith("a is the same work as b")
    assert [[t.id for t in job.texts] for job in plan.shards] == [["c"], ["a", "b"]]


@pytest.mark.parametrize(
    "change",
    [
        {"sha256": "another"},
        {"about": About(title="Another")},
        {"path": Path("another.txt")},
    ],
)
def test_a_shard_is_made_again_if_a_document_or_what_is_known_of_it_changes(
    change: dict[str, object],
) -> None:
    from dataclasses import replace

    documents = shelf(3)
    keys = []
    for some in (documents, [replace(documents[0], **change), *documents[1:]]):  # type: ignore[arg-type]
        (job,) = plan_shards(some, CUTTING, 0, 0).shards
        keys.append(job.key(1))
    assert keys[0] != keys[1]


def test_a_shards_key_does_not_depend_on_its_number_or_where_the_tokenizer_lies() -> None:
    from dataclasses import replace

    (job,) = plan_shards(shelf(3), CUTTING, 0, 0).shards
    cutting = replace(CUTTING, tokenizer=Path("elsewhere"))
    assert replace(job, number=3, count=9, cutting=cutting).key(1) == job.key(1)
    assert job.key(2) != job.key(1)
    named = replace(job, cutting=replace(CUTTING, tokenizer_name="tiny (ab12)"))
    assert named.key(1) != job.key(1)

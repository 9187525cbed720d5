"""Ends that a GGUF has lost, and those that it may have lost by chance."""

import math

import pytest

from pipeline.export.logit_rows import Rows
from pipeline.export.proof_ends import before_end, compare_ends
from pipeline.export.proof_logits import Sample
from pipeline.export.proof_subject import Subject
from pipeline.export.proof_tokens import Trained
from pipeline.scoring.bits import Window

END, OTHER = 0, 7


def subject(ends: int, kind: str = "text") -> Subject:
    """A window of three places, and as many short texts with an end as asked for."""
    tail = Window("", [5, 6, END], 0, [False] * 3)
    sample = Sample(
        [Window("a", [1, 2, 3, 4], 9), *[tail] * ends],
        [[1, 2, 3], *[[2]] * ends],
        [(1 + i, 2) for i in range(ends)],
    )
    reading = Trained([], [], {}, [], [], None, END, None, str)
    return Subject(sample, reading, {"kind": kind})


def rows(*ends: tuple[int, float]) -> Rows:
    """What a model says: at each end the likeliest token, and the probability of the end."""
    nats = [1.0] * 3 + [-math.log(probability) for _, probability in ends]
    return Rows([9, 9, 9, *(top for top, _ in ends)], nats)


@pytest.mark.parametrize(
    ("merged", "gguf", "lost"),
    [
        ([(END, 0.9), (END, 0.8)], [(END, 0.9), (OTHER, 0.1)], False),
        ([(END, 0.9), (END, 0.8)], [(OTHER, 0.45), (OTHER, 0.45)], True),
        ([(END, 0.9), (OTHER, 0.1)], [(OTHER, 0.01), (OTHER, 0.1)], True),
        ([(END, 0.5), (OTHER, 0.1)], [(OTHER, 0.4), (OTHER, 0.1)], False),
        ([(END, 0.5), (OTHER, 0.1)], [(OTHER, 0.1), (END, 0.4)], False),
        ([(OTHER, 0.4), (OTHER, 0.1)], [(OTHER, 0.01), (OTHER, 0.01)], False),
    ],
)
def test_an_end_of_documents_is_lost_if_it_is_never_found_again_and_not_by_chance(
    merged: list[tuple[int, float]], gguf: list[tuple[int, float]], lost: bool
) -> None:
    assert compare_ends(subject(2), rows(*merged), rows(*gguf)).are_lost == lost


@pytest.mark.parametrize(("found", "lost"), [(2, False), (1, True)])
def test_of_records_half_of_the_ends_have_to_be_found_again(found: int, lost: bool) -> None:
    gguf = rows(*[(END, 0.9)] * found, *[(OTHER, 0.1)] * (4 - found))
    ends = compare_ends(subject(4, "completion"), rows(*[(END, 0.9)] * 4), gguf)
    assert ends.are_lost == lost
    assert ends.told()["gguf_ends"] == found


def test_that_ends_could_not_be_judged_is_told() -> None:
    none = compare_ends(subject(0), rows(), rows())
    assert none.told()["left_out"] == "no ends of documents are known"
    assert none.told()["probability"] is None
    never = compare_ends(subject(1), rows((OTHER, 0.1)), rows((END, 0.25)))
    assert never.told()["left_out"] == "the merged model ends at none of 1 documents"
    assert never.told()["probability"] == pytest.approx(0.25)
    some = compare_ends(subject(1), rows((END, 0.9)), rows((END, 0.9)))
    assert "left_out" not in some.told()


def test_what_stands_before_an_end_is_the_text_without_it() -> None:
    found = compare_ends(subject(2), rows((END, 0.9), (END, 0.9)), rows((OTHER, 0.1), (END, 0.9)))
    assert before_end(subject(2), found.gguf[0]) == [5, 6]

"""Sampling settings, and where a text has to stop."""

from dataclasses import replace
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pipeline.errors import UsageError
from pipeline.scoring.sampling import SEEDS, Answer, Sampling, StopFinder
from pipeline.scoring.speed import speed_figures, speed_table

LETTERS = st.text("ab \n", max_size=8)


def shown(pieces: list[str], stops: list[str]) -> str:
    finder = StopFinder(stops)
    return "".join([finder.add(piece) for piece in pieces] + [finder.end()])


@given(st.lists(LETTERS, max_size=6), st.text("ab \n", min_size=1, max_size=4))
@settings(max_examples=80, deadline=None)
def test_a_text_in_pieces_ends_where_the_whole_one_has_its_first_stop_text(
    pieces: list[str], stop: str
) -> None:
    text = "".join(pieces)
    assert shown(pieces, [stop]) == text.partition(stop)[0]
    assert shown(pieces, []) == text
    several = shown(pieces, [stop, "b\n", "aaa"])
    assert text.startswith(several)
    assert not any(one in several for one in (stop, "b\n", "aaa"))


def test_only_what_may_become_a_stop_text_is_held_back() -> None:
    finder = StopFinder(["<end>"])
    assert finder.add("It was late. <e") == "It was late. "
    assert finder.add("lf>") == "<elf>"


@pytest.mark.parametrize(
    ("wrong", "option"),
    [
        ({"temperature": -0.1}, "--temperature"),
        ({"temperature": float("nan")}, "--temperature"),
        ({"temperature": float("inf")}, "--temperature"),
        ({"top_k": -1}, "--top-k"),
        ({"top_p": 1.1}, "--top-p"),
        ({"min_p": -1}, "--min-p"),
        ({"repeat_penalty": 0.0}, "--repeat-penalty"),
        ({"repeat_last_n": -2}, "--repeat-last-n"),
        ({"max_tokens": 0}, "--max-tokens"),
        ({"seed": SEEDS}, "--seed"),
        ({"stop": ("",)}, "--stop"),
    ],
)
def test_a_setting_that_makes_no_sense_is_named(wrong: dict[str, Any], option: str) -> None:
    Sampling().check()
    with pytest.raises(UsageError, match=option):
        replace(Sampling(), **wrong).check()


def test_each_sample_has_the_next_seed_and_the_last_one_comes_before_the_first() -> None:
    last = Sampling(seed=SEEDS - 1)
    assert [last.numbered(n).seed for n in range(3)] == [SEEDS - 1, 0, 1]
    last.numbered(1).check()


def test_the_first_token_belongs_to_the_prompt_in_what_is_told_of_speed() -> None:
    answer = Answer("", 11, 2.0, "stop", 30, 0.5)
    assert answer.tokens_per_second == 5
    assert answer.prompt_tokens_per_second == 60
    assert replace(answer, tokens=1, seconds=0.0).tokens_per_second == 0


def test_speeds_are_told_with_mean_and_deviation() -> None:
    (row,) = speed_table({"tokens/s": [10.0, 14.0]})["rows"]
    assert row == {
        "measured": "tokens/s", "runs": "2", "mean": "12.0", "std": "2.828", "min": "10.0",
        "max": "14.0",
    }  # fmt: skip
    assert speed_figures({"s": [3.0]})["s"] == {
        "mean": 3, "std": 0, "min": 3, "max": 3, "runs": [3.0]
    }  # fmt: skip

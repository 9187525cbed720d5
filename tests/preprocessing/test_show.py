"""The difference between two texts, line by line, with the numbers of the file's lines."""

import time
from pathlib import Path

from hypothesis import given, settings
from hypothesis import strategies as st

from pipeline.preprocessing.recipe import Recipe, Task, facts_of
from pipeline.preprocessing.show import Change, compare, show_text

LINES = st.lists(st.sampled_from(["", "a", "b", "A line.", "Another line."]), max_size=30)


@given(LINES, LINES)
@settings(max_examples=300, deadline=None)
def test_the_changes_make_the_one_text_of_the_other(before: list[str], after: list[str]) -> None:
    changes, origins = compare("\n".join(before), "\n".join(after), range(1, len(before) + 2))
    old, new = "\n".join(before).split("\n"), "\n".join(after).split("\n")
    made: list[str] = []
    place = 0
    for change in changes:
        start = min(change.line - 1, len(old)) if change.before else None
        if start is not None:
            made += old[place:start]
            assert tuple(old[start : start + len(change.before)]) == change.before
            place = start + len(change.before)
            made += change.after
    if all(change.before for change in changes):
        assert made + old[place:] == new
    assert len(origins) == len(new)


def test_a_cut_is_told_with_the_number_of_its_first_line() -> None:
    changes, origins = compare("one\ntwo\nthree\nfour", "one\nfour", [11, 12, 13, 14])
    assert changes == [Change(12, ("two", "three"), ())]
    assert origins == [11, 14]


def test_numbers_stay_those_of_the_file_from_step_to_step() -> None:
    _, origins = compare("head\n\none\n_two_\nthree", "one\n_two_\nthree", range(1, 6))
    changes, _ = compare("one\n_two_\nthree", "one\ntwo\nthree", origins)
    assert changes == [Change(4, ("_two_",), ("two",))]


def test_a_book_of_which_every_second_line_changed_is_compared_fast() -> None:
    lines = [f"This is line {number} of _many_." for number in range(20_000)]
    changed = [
        line.replace("_", "") if number % 2 else line for number, line in enumerate(lines)
    ]  # fmt: skip
    began = time.process_time()
    changes, _ = compare("\n".join(lines), "\n".join(changed), range(1, 20_001))
    assert len(changes) == 10_000
    compare("\n" * 20_000, "a\n" * 20_000, range(1, 20_002))
    assert time.process_time() - began < 5


def test_all_is_told_or_what_is_left_out_is_counted_with_the_option(tmp_path: Path) -> None:
    path = tmp_path / "a.txt"
    note = "\n".join(f"Note line {number}." for number in range(20))
    path.write_text(
        f"A tale.\n\n[Illustration: {note}]\n\n"
        + "".join(
            f"He did _not_ go in year {number}.\nShe went in {number}.\n" for number in range(30)
        )
    )
    task = Task(path, facts_of({}), Recipe())
    told = [line for _, line in show_text(task, tmp_path)]
    assert not any("more" in line for line in told)
    assert all(f"- He did _not_ go in year {number}." in told for number in range(30))
    assert sum(line.startswith("- ") and "Note line" in line for line in told) == 20
    short = [line for _, line in show_text(task, tmp_path, whole=False)]
    assert "  ... and 18 more places; --all shows them" in short
    assert any("more lines; --all shows them" in line for line in short)
    assert len(short) < len(told)

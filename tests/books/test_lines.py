"""The lines of a text, looked at together as they are one by one."""

from itertools import pairwise

from hypothesis import given, settings
from hypothesis import strategies as st

from pipeline.books.lines import (
    CAPITAL,
    NEUTRAL,
    SMALL,
    STOPS,
    Page,
    fills,
    indent_of,
    start_of,
)

WORDS = st.sampled_from(
    [
        *("the", "of", "Word", "I", "I'm", "A", "“I", "_I_", "--so", "so--", "—", "-", "end."),
        *("12", "XII.", "é", "Éa", "ß", "中文", "𝓐b", "ⓐ", "Ⅳ", "ǅ", "\xa0", "\x0b", "\x1c"),
        *("  ", "   ", "\t", "\n", "\n ", "\n\n", "\n   ", "\n\n\n", "x" * 70),
    ]
)
TEXTS = st.lists(WORDS, max_size=60).map(" ".join) | st.text("aZ1 “-.\n", max_size=80)


def numbers(page: Page) -> list[int]:
    return list(range(len(page.starts)))


def lines_of(page: Page) -> list[str]:
    return [page.line(number) for number in numbers(page)]


@given(TEXTS)
@settings(deadline=None, max_examples=150)
def test_the_lines_of_a_page_are_those_of_the_text_that_are_not_empty(text: str) -> None:
    page = Page(text)
    lines = text.expandtabs(8).split("\n")
    if any(line.endswith(" ") for line in lines):
        lines = [line.rstrip() for line in lines]
    assert lines_of(page) == [line for line in lines if line]
    assert page.indents.tolist() == list(map(indent_of, lines_of(page)))
    blocks = page.blocks()
    assert all(line for block in blocks for line in block)
    assert "\n\n".join("\n".join(block) for block in blocks) == squeezed(lines)


def squeezed(lines: list[str]) -> str:
    """With one empty line for several."""
    kept = [line for line, after in pairwise([*lines, ""]) if line or after]
    return "\n".join(kept).strip("\n")


@given(TEXTS, st.integers(1, 80))
@settings(deadline=None, max_examples=150)
def test_together_lines_are_found_to_be_what_each_is_by_itself(text: str, width: int) -> None:
    import numpy as np

    page = Page(text)
    lines, every = lines_of(page), np.array(numbers(page), int)
    assert page.starts_of(every).tolist() == list(map(start_of, lines))
    assert page.stop_at(every).tolist() == [line.endswith(STOPS) for line in lines]
    assert page.fill(every[:-1], width).tolist() == [
        fills(line, following, width) for line, following in pairwise(lines)
    ]
    assert page.hang_at(every, frozenset({"the", "of"})).tolist() == [
        line.split(" ")[-1] in {"the", "of"} for line in lines
    ]


def test_what_a_line_starts_with() -> None:
    page = Page("and so\n“He said\nI went\n12 men\nTHE END\n--and\n  Indented\n中文\n")
    expected = [SMALL, CAPITAL, NEUTRAL, NEUTRAL, NEUTRAL, SMALL, CAPITAL, NEUTRAL]
    import numpy as np

    assert page.starts_of(np.arange(8)).tolist() == expected


def test_a_page_of_nothing_has_no_lines() -> None:
    for text in ("", "\n", " \n \n"):
        assert Page(text).blocks() == []


def test_an_indent_may_be_as_deep_as_one_likes() -> None:
    assert Page(" " * 5000 + "a\n\nb").indents.tolist() == [5000, 0]


def test_halves_of_characters_stay_apart() -> None:
    text = "a \ud83d\ude00 b"
    assert Page(text).line(0) == text
    assert len(Page(text).codes) == len(text) + 3

"""What is found fast is what the plain patterns find."""

import re

from hypothesis import given, settings
from hypothesis import strategies as st

from pipeline.books.cleaning_table import LineTable, places_of
from pipeline.books.searching import bracket_pairs, closed_brackets, occurrences, substitute

MARKED = st.text(alphabet="aBé—😀0 *_=[]\n", max_size=80)


@given(MARKED)
@settings(max_examples=200, deadline=None)
def test_the_lines_that_open_with_a_character_are_found(text: str) -> None:
    starts = [match.start() for match in re.finditer(r"^ *(?=[*—0])", text, re.M)]
    assert LineTable(text).opened(characters="*—0") == starts


@given(st.lists(st.sampled_from(["Index", "  INDEX", "_*index", "x", "", "the"])).map("\n".join))
@settings(max_examples=100, deadline=None)
def test_the_lines_that_open_with_a_word_are_among_those_found(text: str) -> None:
    starts = {match.start() for match in re.finditer(r"^[ _*=]*index", text, re.M | re.I)}
    assert starts <= set(LineTable(text).opened(("index",)))


@given(MARKED, st.integers(1, 40))
@settings(max_examples=200, deadline=None)
def test_brackets_are_closed_as_a_pass_over_the_whole_text_closes_them(
    text: str, longest: int
) -> None:
    starts = occurrences(text, "[")[::2]
    pairs = [span for span in bracket_pairs(text, longest) if span[0] in starts]
    assert sorted(closed_brackets(text, starts, longest)) == sorted(pairs)


@given(MARKED)
@settings(max_examples=200, deadline=None)
def test_substituting_at_the_places_is_substituting_everywhere(text: str) -> None:
    pattern = re.compile(r"\[(\w*)\]?")
    marked = substitute(pattern, occurrences(text, "["), lambda match: f"<{match[1]}>", text)
    assert marked == pattern.subn(r"<\1>", text)


@given(st.text(alphabet="[{* \n—𝄞a"))
@settings(max_examples=100, deadline=None)
def test_the_places_of_characters_are_found_in_order(text: str) -> None:
    assert places_of(text, "[—*") == [at for at, each in enumerate(text) if each in "[—*"]

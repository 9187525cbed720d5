"""Looking through a whole text: its rare words, its paragraphs, white space at its lines' ends."""

import re

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from pipeline.books import boilerplate_patterns as pg
from pipeline.books.outline import Outline, fold

PIECES = st.sampled_from(
    [
        *(needle for needle in pg.NEEDLES),
        *(
            "gutenberggutenberg",
            "GUTENBERG",
            "boo\u212amarks",
            "pr\u0130nt!",
            "Etext",
            "rints",
            "gu",
        ),
        *("\n", "\n\n", " ", "  \n", "\t\n", "\u00a0\n", "\x85", "\u3000\n", "?\n", "“é”", "𝒳"),
    ]
)
TEXTS = st.lists(PIECES, max_size=60).map("".join)


@given(TEXTS)
@example("")
@example("g")
@settings(deadline=None)
def test_words_are_found_where_a_plain_search_finds_them(text: str) -> None:
    folded = fold(text)
    expected = {
        word: [match.start() for match in re.finditer(re.escape(word), folded)]
        for word in pg.NEEDLES
    }
    assert Outline(text).places(pg.NEEDLES) == expected


def test_words_are_found_among_many_places_that_look_like_them() -> None:
    text = "should be native, " * 200 + "Should Be NAMED" + " would be named" * 200
    outline = Outline(text)
    assert outline.places(("should be named",)) == {"should be named": [3600]}
    assert outline.places(("be named", "should be named"))["should be named"] == [3600]


def test_a_word_that_is_too_long_to_be_looked_for_is_an_error() -> None:
    with pytest.raises(ValueError, match="41 letters"):
        Outline("text").places(("x" * 41,))


@given(TEXTS)
@example("\n")
@settings(deadline=None)
def test_paragraphs_are_the_lines_between_empty_lines(text: str) -> None:
    expected = [match.span() for match in re.finditer(r"[^\n]+(?:\n[^\n]+)*", text)]
    assert Outline(text).paragraphs == expected


@given(TEXTS)
@example(" ")
@example("one \n" * 50)
@settings(deadline=None)
def test_tidied_lines_end_in_no_white_space(text: str) -> None:
    lines = text.split("\n")
    outline = Outline(text)
    assert outline.tidied().text == "\n".join(line.rstrip() for line in lines)
    assert outline.loose_lines == [n for n, line in enumerate(lines) if line != line.rstrip()]


@given(st.text(st.characters(exclude_categories=["Cs"])))
@settings(deadline=None)
def test_folding_keeps_every_character_in_its_place(text: str) -> None:
    assert len(fold(text)) == len(text)

"""Any header of any year, any text, any footer of any year: the text comes out, and only it."""

import random
import re
import textwrap
from collections.abc import Callable

import pytest

from pipeline.books.boilerplate import NotABook, strip_boilerplate
from pipeline.books.document import clean_document
from pipeline.books.mentions import find_mentions
from tests.books.wrappings import BODIES, FOOTERS, HEADERS, PLAY, PROSE, book, fill

# What people who make files put above a text, which is for a cleaning rule to take.
CREDITS = re.compile(
    r"Produced\s+by\s+A\.\s+Volunteer(\s+and\s+the\s+Online\s+Distributed\s+Proofreading\s+Team\s+at\s+\S+)?"
    r"|Copyright \(C\) 2007 by A\. Author\."
)
# A footer that says nothing is told by its header; without one neither can be.
HEADED = [name for name in HEADERS if name != "none"]
ENDED = [name for name in FOOTERS if name not in ("no footer", "Australia")]
NAMING = [name for name in ENDED if name != "Canada"]  # whose last line names nothing


def words(text: str) -> str:
    return " ".join(re.findall(r"\w+", text))


def body_of(text: str) -> str:
    return words(CREDITS.sub("", strip_boilerplate(text).body))


def several(body: str, times: int) -> str:
    return "\n\n".join([body] * times)


@pytest.mark.parametrize("header", HEADED)
@pytest.mark.parametrize("name", BODIES)
def test_any_header_and_any_footer_go_and_the_text_stays(header: str, name: str) -> None:
    body = several(BODIES[name], 12)
    for footer in FOOTERS:
        assert body_of(book(header, body, footer)) == words(body), footer


@pytest.mark.parametrize("footer", NAMING)
@pytest.mark.parametrize("name", BODIES)
def test_a_text_without_a_header_is_told_by_its_footer(footer: str, name: str) -> None:
    body = several(BODIES[name], 3)
    assert body_of(book("none", body, footer)) == words(body)


@pytest.mark.parametrize("header", HEADED)
def test_a_text_shorter_than_any_wrapping_stays_or_is_rejected_by_name(header: str) -> None:
    rejected = []
    for footer in FOOTERS:
        try:
            assert body_of(book(header, PROSE, footer)) == words(PROSE), footer
        except NotABook as error:
            rejected.append(footer)
            assert "nothing is left" in error.reason
    # Between two notices of a file's name, or two of the project's, a page might be either's.
    assert set(rejected) <= {"no END marker, but the name of the file", "Australia"}


def _indented(text: str) -> str:
    return "\n".join(f"    {line}" for line in text.split("\n"))


def _wrapped(width: int) -> Callable[[str], str]:
    def wrap(text: str) -> str:
        paragraphs = re.split(r"\n\n+", text)
        return "\n\n".join(textwrap.fill(" ".join(p.split()), width) for p in paragraphs)

    return wrap


def _doubled(text: str) -> str:
    return f"{text}\n\n\n{text}"


SPOILT = {
    "indented": _indented,
    "wrapped narrowly": _wrapped(50),
    "wrapped widely": _wrapped(100),
    "a line for each paragraph": _wrapped(100_000),
    "doubled": _doubled,
}


@pytest.mark.parametrize("how", SPOILT)
@pytest.mark.parametrize("header", HEADED[:-2])
def test_wrapping_of_another_shape_is_known_as_well(how: str, header: str) -> None:
    spoil = SPOILT[how]
    body = several(BODIES["prose"], 8)
    for footer in NAMING:
        text = "\n\n\n".join([spoil(fill(HEADERS[header])), body, spoil(fill(FOOTERS[footer]))])
        assert body_of(text) == words(body), footer


@pytest.mark.parametrize("footer", ENDED)
def test_a_footer_that_was_cut_off_anywhere_goes(footer: str) -> None:
    choice = random.Random(footer)
    body = several(BODIES["verse"], 8)
    whole = fill(FOOTERS[footer])
    for header in ("1995", "2005", "2022, indented"):
        for _ in range(4):
            part = whole[: choice.randrange(len(whole) // 2, len(whole) + 1)]
            text = f"{fill(HEADERS[header])}\n\n\n{body}\n\n\n{part}"
            left = body_of(text).removeprefix(words(body)).strip()
            assert left == "" or footer == "Canada", part[-80:]


def test_several_texts_in_one_file_each_with_its_own_wrapping() -> None:
    choice = random.Random(2)
    for _ in range(60):
        names = [choice.choice(["prose", "verse", "Finnish", "play"]) for _ in range(3)]
        bodies = [several(BODIES[name], 10) for name in names]
        files = [book(choice.choice(HEADED[:-2]), body, choice.choice(NAMING)) for body in bodies]
        assert body_of("\n\n\n\n".join(files)) == " ".join(words(body) for body in bodies)


# --- notices within a text ------------------------------------------------------------------------

COPYRIGHT = (
    "<<THIS ELECTRONIC VERSION OF THE COMPLETE WORKS OF WILLIAM\n"
    "SHAKESPEARE IS COPYRIGHT 1990-1993 BY WORLD LIBRARY, INC., AND IS\n"
    "PROVIDED BY PROJECT GUTENBERG ETEXT OF ILLINOIS BENEDICTINE COLLEGE\n"
    "WITH PERMISSION.  ELECTRONIC AND MACHINE READABLE COPIES MAY BE\n"
    "DISTRIBUTED SO LONG AS SUCH COPIES (1) ARE FOR YOUR OR OTHERS\n"
    "PERSONAL USE ONLY.>>"
)
LONG = several(PROSE, 12)


@pytest.mark.parametrize("gap", ["\n", "\n\n", "\n\n\n"])
def test_a_notice_between_scenes_goes_and_the_lines_beside_it_stay(gap: str) -> None:
    text = gap.join([several(PLAY, 8), COPYRIGHT] * 5 + [PROSE])
    body = gap.join([several(PLAY, 8)] * 5 + [PROSE])
    assert body_of(book("1995", text, "1995")) == words(body)


def test_a_list_of_bookmarks_goes_with_the_note_that_announces_it() -> None:
    note = (
        "[NOTE: There is a short list of bookmarks, or pointers, at the end of the\n"
        "file for those who may wish to sample the author's ideas before making an\n"
        "entire meal of them. D.W.]"
    )
    marks = (
        "ETEXT EDITOR'S BOOKMARKS:\n\n"
        "     A man's most dangerous moment\n     Advantages of not being heard\n"
        "     All that he said, I had already thought\n     No one lit it"
    )
    text = f"{note}\n\n\n{LONG}\n\n\n{marks}\n\n\n{LONG}\n\n\n{marks}"
    assert body_of(book("2003, with a START marker", text, "2003")) == words(f"{LONG} {LONG}")


@pytest.mark.parametrize("indent", ["", "    "])
def test_where_a_magazine_story_came_from_goes_with_its_heading(indent: str) -> None:
    note = (
        f"{indent}Transcriber's Note:\n\n"
        f"{indent}This etext was produced from Amazing Stories March 1960. Extensive\n"
        f"{indent}research did not uncover any evidence that the U.S. copyright on\n"
        f"{indent}this publication was renewed."
    )
    assert body_of(book("2005", f"{note}\n\n\n{LONG}", "2005")) == words(LONG)


def test_a_heading_right_below_a_notice_stays() -> None:
    note = "This etext was prepared from the 1890 Macmillan edition by A. Volunteer."
    text = f"{fill(HEADERS['2022, indented'])}\n\n{note}\n{LONG}"
    assert body_of(text) == words(LONG)


def test_a_book_about_the_project_keeps_its_own_words() -> None:
    own = (
        "In 1971, Michael Hart created Project Gutenberg with the goal of making available\n"
        "for free, and electronically, literary works belonging to public domain.  The\n"
        "first eBook was the Declaration, and the etexts that followed were in ASCII."
    )
    text = several(f"CHAPTER\n\n{own}\n\n{PROSE}", 20) + f"\n\n{own}"
    for header, footer in (("2022, indented", "2022, indented"), ("1995", "1995")):
        stripped = strip_boilerplate(book(header, text, footer))
        assert words(stripped.body) == words(text)
        assert "speaks of Project Gutenberg (21 times)" in stripped.warnings[-1]


def test_what_somebody_says_of_the_project_stays() -> None:
    said = (
        "I gave the e-books away on the day they came out, and the people of Project\n"
        "Gutenberg put a version on their site, and you know what? It sold."
    )
    text = f"{LONG}\n\n{said}\n\n{LONG}"
    assert body_of(book("2022, indented", text, "2022, indented")) == words(text)


@pytest.mark.parametrize("header", HEADED)
def test_cleaning_leaves_no_mention(header: str) -> None:
    for footer in FOOTERS:
        document = clean_document(book(header, LONG, footer).encode())
        assert find_mentions(document.text) == [], footer


@pytest.mark.parametrize(
    "last", ["[End of the First Volume]", "THE END", "* * *", "[The end of the story.]", "FINIS"]
)
def test_the_authors_own_end_stays(last: str) -> None:
    for header, footer in (("1995", "no footer"), ("2005", "2005"), ("2022, indented", "1991")):
        text = f"{LONG}\n\n{last}"
        assert body_of(book(header, text, footer)) == words(text)

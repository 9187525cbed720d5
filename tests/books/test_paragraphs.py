"""Unwrapping prose, and leaving alone what is no prose."""

import re

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pipeline.books.boilerplate import strip_boilerplate
from pipeline.books.decoding import decode
from pipeline.books.document import clean_document
from pipeline.books.paragraphs import reflow
from tests.books.corpus import Truth, book_params

PROSE = (
    "It was on a dreary night of November that I beheld the accomplishment\n"
    "of my toils. With an anxiety that almost amounted to agony, I collected\n"
    "the instruments of life around me, that I might infuse a spark of being\n"
    "into the lifeless thing that lay at my feet. It was already one in the\n"
    "morning.\n\n"
) * 6
VERSE = (
    "We rest; a dream has power to poison sleep.\n"
    "  We rise; one wandering thought pollutes the day.\n"
    "We feel, conceive, or reason; laugh or weep,\n"
    "  Embrace fond woe, or cast our cares away."
)


def around(block: str) -> str:
    """What becomes of a block that stands in a novel."""
    return (
        reflow(f"{PROSE}{block}\n\n{PROSE}")
        .removeprefix(reflow(PROSE).rstrip() + "\n\n")
        .removesuffix("\n\n" + reflow(PROSE))
    )


def words(text: str) -> list[str]:
    return re.findall(r"\w+", text)


def test_a_paragraph_of_prose_becomes_one_line() -> None:
    assert reflow(PROSE).count("\n") == 6 + 5
    assert reflow(PROSE).startswith("It was on a dreary night of November that I beheld the")


def test_verse_in_a_novel_keeps_its_lines_and_their_indents() -> None:
    assert around(VERSE) == VERSE
    indented = "\n".join("     " + line for line in VERSE.split("\n"))
    assert around(indented) == VERSE


def test_a_verse_of_two_lines_is_verse() -> None:
    couplet = "We thought her dying whilst she slept,\n    And sleeping when she died."
    assert around(couplet) == couplet


def test_a_paragraph_that_happens_to_have_capitals_is_prose() -> None:
    block = (
        "“I am not laughing, Dorian; at least I am not laughing at you,” said he.\n"
        "Lord Henry looked at Basil for a long while in silence, and then went to\n"
        "Paris."
    )
    assert around(block) == block.replace("\n", " ")


@pytest.mark.parametrize(
    "block",
    [
        "CHAPTER I.\nDown the Rabbit-Hole",
        "Frankenstein, or the Modern Prometheus\nby Mary Wollstonecraft (Godwin) Shelley",
        "Your affectionate brother,\nRobert Walton",
        "LONDON:\nHENRY COLBURN AND RICHARD BENTLEY,\nNEW BURLINGTON STREET.\n1831.",
        "12 oranges      4d.\n3 lemons        1d.\n1 pineapple     2s. 6d.",
        "HAMLET:\nMy lord?\n(Exit.)",
    ],
)
def test_titles_signatures_lists_and_stage_directions_stay_line_by_line(block: str) -> None:
    assert around(block) == block


def test_a_centred_title_page_loses_its_indents() -> None:
    block = "                   THE\n            CASTLE OF OTRANTO."
    assert around(block) == "THE\nCASTLE OF OTRANTO."


def test_a_shape_keeps_its_shape() -> None:
    block = (
        "     Fury said to a\n         mouse, That he\n        met in the\n"
        "       house,\n    Let us both"
    )
    assert around(block) == "\n".join(line[4:] for line in block.split("\n"))


def test_a_narrow_quotation_is_prose() -> None:
    block = (
        "     The letter was found upon the table, where it had\n"
        "     been left that morning by somebody who had not been\n"
        "     seen to come in, and whom nobody had seen go out\n"
        "     again, and it was not signed."
    )
    assert "\n" not in around(block)


def test_verse_below_prose_in_one_block_is_told_apart() -> None:
    block = (
        "He lifted up his voice, which was none of the best, and sang to us while\n"
        "the kettle was coming to the boil, and beat the time upon the table-top:\n"
        "    The king sits in Dunfermline town,\n"
        "    Drinking the blood-red wine;\n"
        "    O where shall I get a skeely skipper\n"
        "    To sail this ship of mine?"
    )
    prose, verse = around(block).split("\n\n")
    assert "\n" not in prose
    assert verse.count("\n") == 3


def test_paragraphs_told_by_indents_alone_are_parted() -> None:
    block = (
        "   The Time Traveller was expounding a recondite matter to us, and his\n"
        "grey eyes shone and twinkled, and his usually pale face was flushed.\n"
        "   “You must follow me carefully,” he said to us, after he had looked at\n"
        "the fire for as long as it takes to fill a pipe.\n"
        "   The Psychologist filled one."
    )
    assert around(block).count("\n\n") == 2


def test_the_speeches_of_a_play_are_parted() -> None:
    block = (
        "HIGGINS. I tell you that the thing cannot be done in the time that there\n"
        "is left to us, and I shall not try to do it.\n"
        "PICKERING. Come, come, sir! You have done a great deal more than that in\n"
        "a great deal less."
    )
    first, second = around(block).split("\n\n")
    assert first.startswith("HIGGINS.") and second.startswith("PICKERING.")


def test_verse_that_ran_over_the_page_is_whole_again() -> None:
    stanza = (
        "  Not physiognomy alone nor brain alone is worthy for the Muse, I say\n"
        "      the Form complete is worthier far,\n"
        "  The Female equally with the Male I sing.\n\n"
    )
    first, second = reflow(stanza * 5).split("\n\n")[0].split("\n")
    assert first.endswith("for the Muse, I say the Form complete is worthier far,")
    assert second == "The Female equally with the Male I sing."


def test_a_refrain_is_no_overrun() -> None:
    stanza = (
        "Ah, distinctly I remember, it was in the bleak December, and the cold,\n"
        "For the rare and radiant maiden whom the angels name Lenore, so they say--\n"
        "                                  Nameless here for evermore.\n\n"
    )
    assert reflow(stanza * 5).split("\n\n")[0].count("\n") == 2


@pytest.mark.parametrize(
    ("broken", "joined"),
    [
        ("the hedge-\ncutters came", "the hedge-cutters came"),
        ("a purpose--\na point", "a purpose--a point"),
        ("a purpose\n--a point", "a purpose--a point"),
        ("a purpose—\na point", "a purpose—a point"),
        ("he said -\nand went", "he said - and went"),
        ("two- \nor threefold", "two- or threefold"),
        ("Haupt-\nund Nebensache", "Haupt- und Nebensache"),
        ("the end\nof it", "the end of it"),
    ],
)
def test_a_wrap_at_a_hyphen_or_a_dash(broken: str, joined: str) -> None:
    head, tail = broken.split("\n")
    line = "and so it went on for the better part of that very long winter, when "
    rest = "and nobody was to be seen in the lane for days on end, as\nit seemed."
    text = f"{line[len(head) :]}{head}\n{tail} {rest}"
    assert joined in around(text)


def test_a_text_that_is_not_wrapped_has_a_paragraph_in_each_line() -> None:
    long = "This is a paragraph of a text whose editor does not wrap its lines. " * 8
    text = f"{long}\n{long}\n{long}\n\n{VERSE}\n"
    flowed = reflow(text)
    assert flowed.count("\n\n") == 3
    assert flowed.endswith(VERSE + "\n")


@pytest.mark.parametrize("truth", book_params)
def test_no_word_of_any_book_is_lost_or_moved(truth: Truth) -> None:
    body = strip_boilerplate(decode(truth.path.read_bytes()).text).body
    assert words(reflow(body)) == words(body)


PROSE_BOOKS = re.compile(r"(345|84|42324|209|174|43|42|36|389|768|10007|22367)[.-]|^9000")
VERSE_BOOKS = re.compile(r"(2229|1322)[.-]")


@pytest.mark.parametrize("truth", book_params)
def test_prose_is_unwrapped_and_verse_is_not(truth: Truth) -> None:
    """Of the paragraphs of four lines and more: in novels, nearly all become one line; in books
    of verse, nearly none."""
    raw = truth.path.read_bytes()
    wrapped = clean_document(raw, unwrap=False).text.split("\n\n")
    flowed = set(clean_document(raw).text.split("\n"))
    long = [block for block in wrapped if block.count("\n") >= 3]
    joined = sum(1 for block in long if " ".join(block.replace("-\n", "-").split()) in flowed)
    if PROSE_BOOKS.search(truth.path.name):
        assert joined > 0.85 * len(long)  # the rest: a dash at a line's end, or verse
    if VERSE_BOOKS.search(truth.path.name):
        assert joined < 0.02 * len(long)


LINES = st.lists(
    st.text(alphabet="abcABC  ,.-—\"'", max_size=90)
    | st.sampled_from(["", "   Word", "--", "* * *"]),
    max_size=60,
)


@given(LINES.map("\n".join))
@settings(deadline=None, max_examples=300)
def test_reflow_keeps_the_words_of_any_text(text: str) -> None:
    flowed = reflow(text)
    assert "".join(words(flowed)) == "".join(words(text))
    assert "\n\n\n" not in flowed
    assert flowed == "" or (flowed.endswith("\n") and not flowed.endswith("\n\n"))


def test_nothing_becomes_nothing() -> None:
    assert reflow("") == reflow("\n \n") == ""

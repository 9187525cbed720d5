"""Unwrapping prose, and leaving alone what is no prose."""

import re
import textwrap

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pipeline.books.layout import Layout
from pipeline.books.paragraphs import reflow
from tests.books.corpus import Truth, book_params, still_wrapped

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


def test_one_long_line_in_a_wrapped_text_changes_nothing_around_it() -> None:
    assert around("An address: " + "https://example.org/" * 40).count("\n") == 0
    assert reflow(f"{'word ' * 200}\n\n{PROSE}").count("\n") == 2 + 6 + 5


def paragraphs_of(text: str) -> list[str]:
    return reflow(text).rstrip("\n").split("\n\n")


SENTENCES = (
    "The whole of that winter was spent at the house by the river, and none of us went out of it "
    "but to look at the ice, of which my brother, who had read a great deal about the sea, would "
    "tell us in the evenings that it went on for ever. Sometimes there came a letter from those "
    "that we had left behind us in the town, and he read that too. Nobody spoke of going back."
)
TALE = [SENTENCES, "“Who is there?” said my brother.", "“Nobody.”", SENTENCES * 2] * 12


def laid_out(width: int, indent: str = "", between: str = "\n\n") -> str:
    return between.join(textwrap.fill(each, width, initial_indent=indent) for each in TALE) + "\n"


@pytest.mark.parametrize("width", [50, 55, 65, 72, 90, 115, 140])
def test_any_width_is_unwrapped(width: int) -> None:
    assert paragraphs_of(laid_out(width)) == TALE


@pytest.mark.parametrize("indent", ["  ", "   ", "     "])
def test_paragraphs_that_only_indents_part_are_parted_throughout_a_text(indent: str) -> None:
    assert paragraphs_of(laid_out(70, indent, between="\n")) == TALE


def test_paragraphs_that_nothing_parts_but_their_last_lines_are_parted_there() -> None:
    found = paragraphs_of(laid_out(70, between="\n"))
    assert len(set(found) & set(TALE)) == len(set(TALE))


def test_an_empty_line_after_every_line_is_no_end_of_a_paragraph() -> None:
    indented = laid_out(66, "   ", between="\n").replace("\n", "\n\n")
    assert paragraphs_of(indented) == TALE
    flush = laid_out(66, between="\n\n\n").replace("\n", "\n\n")
    assert paragraphs_of(flush) == TALE


def test_a_long_poem_without_empty_lines_stays_line_by_line() -> None:
    poem = "\n".join([*VERSE.split("\n"), "It is the same: for, be it joy or sorrow,"] * 40)
    assert reflow(poem) == poem + "\n"


def test_short_verse_in_small_letters_is_no_prose() -> None:
    runo = (
        "Mieleni minun tekevi,\naivoni ajattelevi\nlähteäni laulamahan,\nsaa'ani sanelemahan,\n"
        "sukuvirttä suoltamahan,\nlajivirttä laulamahan.\n\n"
    )
    assert reflow(runo * 20) == (runo * 20).rstrip("\n") + "\n"


def test_the_name_of_who_speaks_stands_above_prose_and_verse_alike() -> None:
    prose = "FAUST (laut):\n" + PROSE.split("\n\n")[0]
    assert around(prose) == "FAUST (laut):\n" + reflow(PROSE).split("\n")[0]
    verse = "FAUST:\n" + VERSE
    assert around(verse) == verse
    assert around("XII.\n" + PROSE.split("\n\n")[0]).startswith("XII.\nIt was on a dreary night")


def test_a_heading_too_long_for_a_line_is_one_line() -> None:
    heading = (
        "LETTER FROM SISTER AGATHA OF THE HOSPITAL OF SAINT JOSEPH AND\nSAINT MARY, TO A FRIEND"
    )
    assert around(heading) == heading.replace("\n", " ")


def test_whose_words_a_quotation_is_stands_below_it() -> None:
    quotation = (
        "     But who shall dwell in these worlds if they be inhabited at all? Or\n"
        "     are we or they the lords of the world, and how are all these things\n"
        "     made for man?\n"
        "                                                     Kepler, as quoted."
    )
    prose, name = around(quotation).split("\n")
    assert prose.endswith("made for man?") and name == "Kepler, as quoted."


def test_numbered_verses_of_scripture_are_parted() -> None:
    block = (
        "1:1 In the beginning God created the heaven and the earth, and nobody\n"
        "was there.\n"
        "1:2 And the earth was without form, and void; and darkness was upon the\n"
        "face of the deep, in the year\n1831 and after.\n"
        "1:3 And God said, Let there be light: and there was light, as we all of\n"
        "us know."
    )
    assert [verse[:3] for verse in around(block).split("\n\n")] == ["1:1", "1:2", "1:3"]


def test_the_entries_of_a_dictionary_are_parted() -> None:
    block = (
        "ABASEMENT, n. A decent and customary mental attitude in the presence of\n"
        "    wealth or power, peculiarly appropriate in an employee when addressing\n"
        "    an employer.\n"
        "ABATIS, n. Rubbish in front of a fort, to prevent the rubbish outside of\n"
        "    it from molesting the rubbish inside."
    )
    first, second = re.split("\n+", around(block))
    assert first.endswith("an employer.") and second.startswith("ABATIS")


@pytest.mark.parametrize(
    "block",
    [
        "Aldous, the smith, his house, and what he paid for it, 112, 113, 245\n"
        "Ballads, old and new, and where they are to be bought and sold, 17\n"
        "Castles, 9, 10, 11",
        "The first chapter, in which nothing happens at all . . . . . . . . . .  9\n"
        "The second chapter, in which nothing goes on happening  . . . . . . . 21",
        "2 cups of flour\n1 cup of sugar, and a little more\nbutter, as large as an egg\n3 eggs",
    ],
)
def test_indexes_contents_and_lists_of_ingredients_stay_line_by_line(block: str) -> None:
    assert re.sub(" +", " ", around(block)) == re.sub(" +", " ", block)


def test_a_line_that_starts_with_i_or_a_figure_speaks_for_no_verse() -> None:
    block = (
        "“I had been told of it by the porter, who knew it from the cook, and then\n"
        "I went away. It was the third time that I went there since the spring of\n"
        "1831, and\nI never returned.”"
    )
    assert "\n" not in around(block)


def test_a_layout_can_be_given_for_an_excerpt() -> None:
    excerpt = PROSE.split("\n\n")[0] + "\n"
    layout = Layout(width=72, wrapped=False)
    assert reflow(excerpt, layout) == excerpt
    assert reflow(excerpt) != excerpt


HELEN = (
    "“This word--‘Helen’--was written on the back of it.\n"
    "Didn’t I tell you her name was Helen? Yes; Helen Vaughan.”"
)


def test_sentences_that_end_with_their_lines_are_prose_where_prose_stands_round_them() -> None:
    assert around(HELEN) == HELEN.replace("\n", " ")


@pytest.mark.parametrize(
    ("announced", "block"),
    [
        (PROSE.rstrip()[:-1] + ":", HELEN),
        (PROSE, "\n".join("     " + line for line in HELEN.split("\n"))),
        (PROSE, HELEN.replace("\n", "\n“")),
        (PROSE, HELEN.removesuffix(".”")),
    ],
    ids=["announced", "indented", "each with a quotation mark", "no end of a sentence"],
)
def test_such_sentences_are_lines_where_something_sets_them_apart(
    announced: str, block: str
) -> None:
    lines = textwrap.dedent(block)
    assert lines in reflow(f"{PROSE}{announced.rstrip()}\n\n{block}\n\n{PROSE}")


def test_an_indented_verse_that_was_announced_is_verse_though_it_might_be_prose() -> None:
    verse = (
        "“Take of the bark of the birch, as dry as the sun can make it,\n"
        "some of the boughs of the pine at the river-side.\n"
        "Then but a spark of the flint, for the kettle to boil for supper,\n"
        "and in the light of the fire the hunters’ faces will glow.”"
    )
    indented = "\n".join("    " + line for line in verse.split("\n"))
    assert verse in reflow(f"{PROSE}And this is what she sang to us:\n\n{indented}\n\n{PROSE}")


def among_verse(block: str) -> str:
    """What becomes of a block that stands in a book of verse."""
    return reflow(f"{VERSE}\n\n" * 30 + f"{block}\n\n" + f"{VERSE}\n\n" * 30).split("\n\n")[30]


@pytest.mark.parametrize(
    "block",
    [
        "In einem hochgewölbten, engen gotischen Zimmer Faust,\n"
        "unruhig auf seinem Sessel am Pulte.",
        "[To be recited and followed at once by the song of the\nStar Spangled Banner.]",
        "THE FIRST BOOK, IN WHICH THE AUTHOR SPEAKS OF HIS\nTRAVELS AND HIS FRIENDS",
        "In some States there is a provision for the children to vote on\n"
        "Arbor Day, and in some of them there is none. In these the pupils\nmay choose.",
    ],
)
def test_what_is_said_between_verses_is_prose(block: str) -> None:
    assert among_verse(block) == block.replace("\n", " ")


@pytest.mark.parametrize(
    "block",
    [
        "From Nebraska, from Arkansas,\nCentral inland race are we, with the continental\n"
        "     blood intervein'd,\nAll the hands of comrades clasping.",
        "(The moth and the fish-eggs are in their place,\n"
        "The bright suns I see, and those I cannot see, are in their place.)",
        "THE\nPRELUDE",
    ],
)
def test_verse_among_verses_stays_verse(block: str) -> None:
    assert among_verse(block) == block


def test_verse_in_small_letters_is_told_by_its_stops_whatever_its_width() -> None:
    stanzas = (
        "and all the bells were ringing over the water,\n"
        "the slow ships came with their burden out of the morning,\n"
        "bearing the corn and the wine, and the words of the dead men,\n"
        "so that the women stood on the quays and were silent,\n"
        "and never a letter had come of them, never a token.\n\n"
        "when shall the winter be over, and when will the swallows\n"
        "come to the eaves of the houses that stand by the harbour?\n"
        "nobody knows, said the children, but something is moving,\n"
        "songs that her mother had sung, and the mother before her.\n\n"
    )
    assert reflow(stanzas * 20) == (stanzas * 20).rstrip("\n") + "\n"


@pytest.mark.parametrize("truth", book_params)
def test_no_word_of_any_book_is_lost_or_moved(truth: Truth) -> None:
    wrapped = still_wrapped(truth.path)
    assert words(reflow(wrapped)) == words(wrapped)


PROSE_BOOKS = re.compile(r"(345|84|42324|209|174|43|42|36|389|768|10007|22367)[.-]|^9000")
VERSE_BOOKS = re.compile(r"(2229|1322)[.-]")


@pytest.mark.parametrize("truth", book_params)
def test_prose_is_unwrapped_and_verse_is_not(truth: Truth) -> None:
    """Of the paragraphs of four lines and more: in novels, nearly all become one line; in books
    of verse, nearly none."""
    wrapped = still_wrapped(truth.path)
    flowed = set(reflow(wrapped).split("\n"))
    long = [block for block in wrapped.split("\n\n") if block.count("\n") >= 3]
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
@settings(deadline=None, max_examples=150)
def test_reflow_keeps_the_words_of_any_text(text: str) -> None:
    flowed = reflow(text)
    assert "".join(words(flowed)) == "".join(words(text))
    assert "\n\n\n" not in flowed
    assert flowed == "" or (flowed.endswith("\n") and not flowed.endswith("\n\n"))


def test_nothing_becomes_nothing() -> None:
    assert reflow("") == reflow("\n \n") == ""

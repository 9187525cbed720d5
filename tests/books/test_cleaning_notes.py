"""Footnotes, sidenotes, indexes and advertisements: delimited things go, lookalikes stay."""

import pytest

from pipeline.books.cleaning import RULES

BY_NAME = {rule.name: rule for rule in RULES}
PROSE = (
    "I had been told that the house was empty, and so I went in without\n"
    "knocking, and sat down upon the stairs to wait for the rain to stop.\n\n"
)
BOOK = PROSE * 60


def apply(rule: str, text: str) -> str:
    changed, count = BY_NAME[rule].apply(text)
    assert bool(count) == (changed != text)
    assert BY_NAME[rule].apply(changed)[0] == changed  # a second time it finds nothing more
    return changed


@pytest.mark.parametrize(
    ("before", "after"),
    [
        ("A.[1]\n\n[Footnote 1: So [they] say.\n\nAnd more.]\n\nB.", "A.[1]\n\n\n\nB."),
        ("the[1]\n\n[Footnote 1: Note.]\n\ncat", "the[1]\ncat"),
        ("A[1][2]\n\nFOOTNOTES:\n\n[1] One.\n\n[2] Two.\n\nB.", "A[1][2]\n\n\n\nB."),
        ("A[A] b.\n\n  [A] A note\n  of two lines.\n\nB.", "A[A] b.\n\n\n\nB."),
        ("A[FN#1] b[FN#2].\n\n[FN#1] One.\n[FN#2] Two.\n\nB.", "A[FN#1] b[FN#2].\n\n\n\nB."),
        (
            "A[1] b[2].\n\nNOTES\n\n[1] One.\n\nIt goes on.\n\n[2] Two.\n\nB.",
            "A[1] b[2].\n\n\n\nB.",
        ),
        (
            "A[1] b[2].\n\n[1] One.\n\n  It goes on.\n\n[2] Two.\n\nB.",
            "A[1] b[2].\n\n\n\nB.",
        ),
        (
            "A[1] b[2] c[3] d[4].\n\n[1] O.\n\nIt goes on.\n\n[2] T.\n\n[3] U.\n\n[4] V.\n\nB.",
            "A[1] b[2] c[3] d[4].\n\n\n\nB.",
        ),
        ("A[1].\n\n[1] One.\n\nB[1].\n\n[1] Again.\n\nC.", "A[1].\n\n\n\nB[1].\n\n\n\nC."),
        ("An isle{*2}.\n\n{*2} On tides.\n\nB.", "An isle{*2}.\n\n\n\nB."),
        ("Men* have.\n\n* See Watson.\n\nB.", "Men have.\n\n\n\nB."),
        ("Men† have.\n\n† See Watson.\n\nB.", "Men have.\n\n\n\nB."),
        ("Sana[1].\n\nViiteselitykset:\n\n[1] Glen.\n\nB.", "Sana[1].\n\n\n\nB."),
    ],
)
def test_a_footnote_goes_whole(before: str, after: str) -> None:
    assert apply("footnotes", before) == after


@pytest.mark.parametrize("notes", ["[1] One.\n\n{}[2] Two.", "[7] One.\n\n{}[8] Two."])
def test_what_stands_between_the_notes_of_a_page_stays(notes: str) -> None:
    one, two = notes[:3], notes[-8:-5]
    text = f"He spoke of Troy{one} and Rome{two} to all.\n\n{notes.format(PROSE)}\n\n{PROSE}"
    assert apply("footnotes", text).split()[-2 * len(PROSE.split()) :] == (PROSE * 2).split()


@pytest.mark.parametrize(
    "text",
    [
        "[1] In the beginning.\n\n[2] And then.",  # numbered paragraphs, with no marks
        "[Footnote 1: never closed\n\nThe story goes on.",
        "[Footnote 1: not closed\n\nThe story.\n\n[Footnote 2: nor this\n\nA word",
        "NOTES\n\nThe story goes on.",
        "A list* of things:\n\n* one\n\n* two",
        "A *very* big thing.\n\n* one",
        "the ring[3]\n[3]    50 High o'er his head\n[4]       To many races",
        "* * *\n\nA new scene* begins.\n\n* * *",
        "HAMLET. [_Aside_] A little more than kin.\n\n[_Exeunt._]\n\n[Enclosure]",
    ],
)
def test_what_only_looks_like_a_footnote_stays(text: str) -> None:
    assert apply("footnotes", text) == text


@pytest.mark.parametrize(
    ("before", "after"),
    [
        ("The king\n\n[Sidenote: He goes]\n\nwent.", "The king\nwent."),
        ("In [Sidenote: 1066] this year.", "In this year."),
        ("[Sidenote: War] He fought.", "He fought."),
        ("[Sidenote: War]\nHe fought.", "He fought."),
        ("He fought\n[Sidenote: long\nago]\nand won.", "He fought\nand won."),
        ("A.\n\n[Sidenote: x]\n\nB.", "A.\n\n\n\nB."),
        (
            "[Sidelong] he [side: left] [Sidenote: open",
            "[Sidelong] he [side: left] [Sidenote: open",
        ),
    ],
)
def test_a_sidenote_goes_and_the_text_closes_up(before: str, after: str) -> None:
    assert apply("sidenotes", before) == after


ENTRIES = (
    "Abbot, the, 12, 14-16\nAbel, 3\n  his brother, 4\nAcorns, see Oak\n\n"
    "Bacon, 33\nBadger, 7, 9;\n  its habits, 12;\n  its home, 13\nBears, 1 _n._\n\n"
    "Cats, 5, 6, 7\nCoal, 8\nCows, 9\n\nDogs, 55\nDucks, 4\n"
)
LETTERED = "\n\n".join(
    f"{letter}\n\n{letter}pples, 12\n\n{letter}zaleas, 14, _15_" for letter in "ABCDEFGH"
)


@pytest.mark.parametrize("heading", ["INDEX", "Index.", "INDEX OF NAMES", "_GENERAL INDEX_"])
@pytest.mark.parametrize("entries", [ENTRIES, LETTERED])
def test_an_index_goes_and_what_follows_it_stays(heading: str, entries: str) -> None:
    text = f"{BOOK}{heading}\n\n{entries}\n\n\nVOLUME II\n\n{PROSE}"
    assert apply("indexes", text).split() == f"{BOOK} VOLUME II {PROSE}".split()


@pytest.mark.parametrize(
    "below",
    [
        PROSE * 3,
        "The first, 1\n\nOf the last, 2\n\nAnd then, 3\n\n" * 5,  # in no order
        "Abel\nBacon\nCats\nDogs\nDucks\nEels\nFish\nGoats\nHens\nIbis\nJays\nKites\n",
        "Abel, 1\nBacon, 2\nCats, 3\n",  # too few
    ],
)
def test_what_is_no_index_stays(below: str) -> None:
    text = f"{BOOK}INDEX\n\n{below}\n\n{PROSE}"
    assert apply("indexes", text) == text


TITLES = {
    "in lines": "The Lamp\nThe Stair\nThe Door on the Left",
    "in paragraphs": "THE LAMP\n\nTHE STAIR\n\nTHE DOOR",
    "priced": "THE LAMP. 6s.\n\nTHE STAIR. Crown 8vo, cloth, 3s. 6d.\n\nTHE DOOR. 2s. net.",
}
PRICED = (
    "NEW NOVELS\n\nTHE LAMP. By A. Author. Crown 8vo, 6s.\n\n“A wonderful book.”--_Daily News_.\n\n"
    "THE STAIR. By B. Author. Cloth, 3s. 6d.\n\nA tale of the sea that nobody will put down\n"
    "before the end of it has come.\n\nTHE DOOR. Cloth, 2s. net."
)


@pytest.mark.parametrize("titles", TITLES)
@pytest.mark.parametrize(
    "heading", ["BY THE SAME AUTHOR", "Other Books by A. Author", "ALSO BY A. AUTHOR"]
)
def test_a_list_of_the_authors_books_goes_from_either_end(heading: str, titles: str) -> None:
    listed = f"{heading}\n\n{TITLES[titles]}"
    front = f"{listed}\n\n\n\nTHE HOUSE\n\nBY\n\nA. AUTHOR\n\n\n{BOOK}"
    assert apply("advertisements", front).split() == front.split()[len(listed.split()) :]
    back = f"{BOOK}* * *\n\n{listed}\n"
    assert apply("advertisements", back).split() == BOOK.split()


@pytest.mark.parametrize("gap", ["\n", "\n\n"], ids=["right below", "apart"])
def test_a_line_alone_below_a_list_in_lines_is_no_title_of_it(gap: str) -> None:
    listed = f"BY THE SAME AUTHOR{gap}{TITLES['in lines']}"
    story = f"A WINTER NIGHT\n\n{BOOK}"
    assert apply("advertisements", f"{listed}\n\n{story}").split() == story.split()
    groups = f"{listed}\n\nPLAYS\n\nThe Cup\nThe Ring"
    assert apply("advertisements", f"{groups}\n\n{story}").split() == story.split()


@pytest.mark.parametrize("heading", ["ADVERTISEMENTS", "A SELECTION FROM THE CATALOGUE OF SMITH"])
def test_a_publishers_list_goes_as_far_as_its_prices(heading: str) -> None:
    text = f"{BOOK}THE END\n\n{heading}\n\n\n{PRICED}\n\nNOTES\n\n{PROSE}"
    assert apply("advertisements", text).split() == f"{BOOK} THE END NOTES {PROSE}".split()


@pytest.mark.parametrize(
    "text",
    [
        f"ADVERTISEMENT\n\nThe author begs to say that this edition is new.\n\n{BOOK}",
        f"{BOOK}Stories by the fire.\n\nHe went.\n\nShe came.\n\nThey stayed.\n",
        f"{BOOK}LIST OF BOOKS CONSULTED\n\nHume. History. 8vo.\n\nGibbon. Rome. 8vo.\n\n{PROSE}",
        f"{BOOK}New books by the dozen\nwere what he wanted, and at no price.\n\n{PROSE}",
        f"{BOOK}BY THE SAME AUTHOR\n\n{PROSE}",
        f"{BOOK * 4}{PRICED}\n\n{BOOK * 12}",  # in the middle
    ],
)
def test_what_is_no_advertisement_stays(text: str) -> None:
    assert apply("advertisements", text) == text

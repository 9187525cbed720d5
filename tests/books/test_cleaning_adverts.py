"""Booksellers' offers below the end of a work go; what belongs to the work stays everywhere."""

import pytest

from pipeline.books.cleaning_adverts import remove_advertisements

PROSE = (
    "It was late in the year, and the road by the river was under water, so that we went round\n"
    "by the mill and came to the village after dark, where nobody expected us any more.\n\n"
)
BOOK = PROSE * 40
END = "                    THE END\n\n"
RULE = "       *       *       *       *       *\n\n"
BLURB = (
    "A girl from the city buys a ranch which becomes the centre of war. Her loyal friend\n"
    "rescues her. A surprising climax brings the story to a close.\n\n"
)
SOLD = "May be had wherever books are sold.    Ask for Grosset & Dunlap's list\n\n"
IMPRINT = "GROSSET & DUNLAP, _Publishers_, NEW YORK\n"
TITLES = "THE LAMP\n\nTHE STAIR\n\nTHE DOOR\n\nTHE WINDOW\n\nTHE CELLAR\n\n"
OFFERS = {
    "titles": f"DETECTIVE STORIES BY A. AUTHOR\n\n{SOLD}\n{TITLES}{IMPRINT}",
    "blurbs": f"ANN AUTHOR'S NOVELS\n\n{SOLD}THE LAMP\n\n{BLURB}THE STAIR\n\n{BLURB}{IMPRINT}",
    "no imprint": f"STORIES OF RARE CHARM BY A. AUTHOR\n{SOLD}THE LAMP\n\n{BLURB}",
    "several": f"A. AUTHOR'S NOVELS\n{SOLD}{TITLES}{IMPRINT}\n\n\n\nB'S TALES\n{SOLD}{TITLES}",
    "dealer": "Good Fiction Worth Reading\n\n_AT MODERATE PRICES_\n\nAsk Your Dealer for a "
    "Complete List of\nA. L. Burt Company's Popular Fiction\n\n"
    "Abner Daniel. By Will N. Harben.\nAgatha Webb. By Anna K. Green.\n",
    "series": "THE TOM QUICK SERIES\n\nBy VICTOR AUTHOR\n\n12mo. CLOTH. PRICE PER VOLUME, 50 CENTS."
    f"\n\n{TITLES}",
    "Tauchnitz": "Collection of British Authors\n\nTauchnitz Edition.\n\nAdams: Tales, 1 v.\n",
    "wrapper": "_There's More to Follow!_\n\nMore stories of the sort you like, in the list on\n"
    "the _reverse side_ of the wrapper of this book.\n\nIt is a _selected_ list.\n\n"
    "The Grosset & Dunlap list is good.\n\n_Look on the Other Side of the Wrapper!_\n\n"
    "_In case the wrapper is lost write to the publishers for a complete\ncatalog_\n",
}


@pytest.mark.parametrize("parted_by", [END, END + RULE, RULE, "FINIS.\n\n", "\n\n\n"])
@pytest.mark.parametrize("kind", OFFERS)
def test_what_a_bookseller_offers_below_the_end_goes(kind: str, parted_by: str) -> None:
    text = f"{BOOK}{parted_by}{OFFERS[kind]}"
    kept = f"{BOOK}{parted_by}".replace(RULE, "").split()
    assert remove_advertisements(text)[0].split() == kept


def test_no_rule_is_left_at_the_end() -> None:
    text = f"{BOOK}{END}{RULE}{OFFERS['wrapper']}\n{RULE}{OFFERS['titles']}\n{RULE}"
    assert remove_advertisements(text)[0].split() == f"{BOOK}{END}".split()


BELOW = {
    "an appendix": f"APPENDIX\n\n{PROSE * 3}",
    "a glossary": "GLOSSARY\n\nAbbot, a head of monks.\n\nBell, a thing that rings.\n",
    "notes": f"NOTES\n\nPage 12. The edition of 1812, bound in cloth.\n\n{PROSE}",
    "books that were read": "BOOKS CONSULTED\n\nSmith's History. 8vo.\n\nThe Lamp. London, 1812.\n",
    "a bibliography": "BOOKS ON BEES\n\n12mo, cloth, illustrated.\n\nLangstroth.\n",
    "a second tale": f"THE STORIES OF MY AUNT\n\n{PROSE * 4}",
    "letters": f"LETTERS\n\nTo his sister\n\n{PROSE}Yours,\n\nJOHN\n",
    "verse": "THE LAMP\n\nThe lamp is out,\nThe door is shut,\n\nAnd nobody is there.\n",
}


@pytest.mark.parametrize("below", BELOW)
def test_what_the_author_put_below_the_end_stays(below: str) -> None:
    text = f"{BOOK}{END}{BELOW[below]}"
    assert remove_advertisements(text) == (text, 0)
    mixed = f"{BOOK}{END}{BELOW[below]}\n\n\n{OFFERS['titles']}"
    assert remove_advertisements(mixed)[0].split() == text.split()


@pytest.mark.parametrize(
    "below", ["an appendix", "a glossary", "notes", "a second tale", "letters"]
)
def test_what_follows_an_offer_stays(below: str) -> None:
    text = f"{BOOK}{END}{OFFERS['titles']}\n\n\n\n{BELOW[below]}"
    assert remove_advertisements(text)[0].split() == f"{BOOK}{END}{BELOW[below]}".split()


@pytest.mark.parametrize(
    "told",
    [
        f"THE SHOP\n\nAsk for the list, he said.\n\n{PROSE}",
        f"The booksellers said this.\n\n{SOLD}{PROSE}",
        f"THE SIGN\n\n{SOLD}{PROSE}",
        f"\n\n\nCHAPTER XL\n\nTHE SIGN\n\n{SOLD}{PROSE}",
    ],
)
def test_an_offer_within_the_story_stays(told: str) -> None:
    text = f"{BOOK}{told}{PROSE * 3}"
    assert remove_advertisements(text) == (text, 0)


def test_the_page_of_everymans_library_goes_and_the_title_below_stays() -> None:
    page = (
        "THE PUBLISHERS OF _EVERYMAN'S LIBRARY_ WILL BE PLEASED TO SEND\nFREELY TO ALL APPLICANTS "
        "A LIST OF THE VOLUMES\n\nTRAVEL\nSCIENCE\n\nROMANCE\n\n"
        "IN FOUR STYLES OF BINDING: CLOTH, FLAT BACK; QUARTER PIGSKIN\n\n"
    )
    title = "LONDON: J. M. DENT\n\nTHE LAMP\n\n"
    text = f"{page}{title}{BOOK}"
    assert remove_advertisements(text)[0].split() == f"{title}{BOOK}".split()

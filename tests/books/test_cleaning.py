"""Each cleaning rule: what it takes, and what it leaves alone."""

import time

import pytest

from pipeline.books.cleaning import DEFAULT_RULES, RULES, Removal, Rule, choose_rules, clean
from pipeline.errors import UsageError

BY_NAME = {rule.name: rule for rule in RULES}
PROSE = (
    "I had been told that the house was empty, and so I went in without\n"
    "knocking, and sat down upon the stairs to wait for the rain to stop.\n\n"
)


def apply(rule: str, text: str) -> str:
    """What one rule makes of a text, within a body that is long enough for any share."""
    changed, _ = BY_NAME[rule].apply(text)
    return changed


def test_rules_have_names_of_their_own_that_can_be_typed() -> None:
    assert len(BY_NAME) == len(RULES)
    assert all(name.replace("-", "").isalpha() and name.islower() for name in BY_NAME)


@pytest.mark.parametrize("rule", BY_NAME)
def test_a_plain_text_is_left_alone_by_every_rule(rule: str) -> None:
    assert BY_NAME[rule].apply(PROSE * 5) == (PROSE * 5, 0)


@pytest.mark.parametrize(
    ("rule", "before", "after"),
    [
        ("characters", "\u200fa\u202a b\u202c\u200e", "a b"),
        ("characters", "a\u00a0b\u2009c\td\u200be\u00adf\ufeff\x1a", "a b c   def"),
        ("mojibake", "It was â€œnaÃ¯veâ€\u009d, he said.", "It was “naïve”, he said."),
        ("mojibake", "Â£5 for the cafÃ©", "£5 for the café"),
        ("mojibake", "paÃ\u00ads, voilÃ\u00a0, dÃ©jÃ\u00a0", "país, voilà, déjà"),
        ("mojibake", "groÃŸe\nÃ–l\nÃ‰TÃ‰", "große\nÖl\nÉTÉ"),  # one that is sure, and so the others
        ("mojibake", "Hello,Â\u00a0world", "Hello,\u00a0world"),
        (
            "mojibake",
            "A IRMÃ—disse\nas ORFÃ» e a MANHÃ\u00a0!",
            "A IRMÃ—disse\nas ORFÃ» e a MANHÃ\u00a0!",
        ),
        ("mojibake", "Il prit le châle; là-bas, ÂGE D'OR", "Il prit le châle; là-bas, ÂGE D'OR"),
        ("illustrations", "a.\n\n[Illustration]\n\nB", "a.\n\n\n\nB"),
        ("illustrations", "the\n\n[Illustration]\n\ncat", "the\ncat"),
        ("illustrations", "[Illustration: A [small]\n\nhouse, of\ntwo storeys.]\nb", "b"),
        ("illustrations", "[Frontispiece] [Picture: A cat]", ""),
        ("illustrations", "[Music] plays. [Blank Page]", "plays."),
        (
            "illustrations",
            "[Illustration: open\n\n[Illustration: b]\nc]",
            "[Illustration: open\n\nc]",
        ),
        ("illustrations", "[Illustration: never closed", "[Illustration: never closed"),
        ("illustrations", "[Illustrious] men [aside]", "[Illustrious] men [aside]"),
        ("page-numbers", "the [Pg 12] cat and the[Pg 13] dog", "the cat and the dog"),
        ("page-numbers", "{12}It was so. [p. xiv]", "It was so. "),
        ("page-numbers", "a word that is\n\n[p.xxiv] well known", "a word that is\nwell known"),
        ("page-numbers", "An end.\n\n[Page 7]\n\nA beginning.", "An end.\n\n\n\n\nA beginning."),
        ("page-numbers", "a\n\n[7]\n\nB", "a\n\n[7]\n\nB"),
        ("page-numbers", "C_{2}H and the x^{2} of {mix}", "C_{2}H and the x^{2} of {mix}"),
        ("page-numbers", "{Grendel's mother} [1865] {mild}", "{Grendel's mother} [1865] {mild}"),
        ("note-marks", "a word[12] and[A] one.[FN#3]", "a word and one."),
        ("note-marks", "one\n[12] So they say.\n[13] Or not.", "one\n\nSo they say.\n\nOr not."),
        ("note-marks", "20 [1]That reaved", "20 That reaved"),
        ("note-marks", "an island{*2} there\n\n{*2} On tides.", "an island there\n\n\nOn tides."),
        (
            "note-marks",
            "“[T]he end” and [sic] a [1865] date",
            "“[T]he end” and [sic] a [1865] date",
        ),
        ("note-marks", "[I]  The Pilot", "[I]  The Pilot"),
        ("italics", "_It_ is _very_, “_quite_,” so_", "It is very, “quite,” so"),
        ("italics", "_one line\nand the next_", "one line\nand the next"),
        ("italics", "_un_happy and every_body_", "unhappy and everybody"),
        ("italics", "snake_case_name and ____ a rule", "snake_case_name and ____ a rule"),
        ("scene-breaks", "a\n\n   *       *       *\n\nb", "a\n\n* * *\n\nb"),
        ("scene-breaks", "a\n*****\nb", "a\n\n* * *\n\nb"),
        ("scene-breaks", "a\n\n-------\n\nb", "a\n\n* * *\n\nb"),
        ("scene-breaks", "a\n\n * * * *\n  * * *\n * * * *\n\nb", "a\n\n* * *\n\nb"),
        ("scene-breaks", "a\n\n* one thing\n\nb", "a\n\n* one thing\n\nb"),
        ("double-spaces", "One.  Two!   Three;  four", "One. Two! Three; four"),
        ("double-spaces", "  indented   columns", "  indented   columns"),
    ],
)
def test_a_rule_takes_what_it_is_for(rule: str, before: str, after: str) -> None:
    assert apply(rule, before) == after


@pytest.mark.parametrize(
    "credit",
    [
        "Produced by Suzanne Shell, Sjaani and PG Distributed Proofreaders",
        "Produced by David Starner and the Online\nDistributed Proofreading Team at http://pgdp.net",
        "Transcribed from the 1901 Cassell and Company edition by David Price,\nemail a@b.org",
        "This etext was prepared by Dianne Bean.",
        "E-text prepared by Juliet Sutherland and the Team",
        "Scanned and proofed by David Price",
        "This book prepared by:\nBrandi Weed\nbrandi@primenet.com",
        "Credit\n\n\nTranscribed by David Price, email a@b.org",
        "[Chapters 1-6:  mostly scanned by David Meltzer,\nMeltzer@cat.edu, proofread.]\n\n"
        "Frankenstein, continued (Chapters 20-24)\nScanned by Judy Boss (boss@cwis.edu)\n"
        "Proofread by Christy Phillips (caphilli@hawk.edu)",
        "Note: Images of the original pages are available through\n      the Internet Archive.",
    ],
)
def test_credits_next_to_the_start_go(credit: str) -> None:
    rest = "\n\n\n\nTHE LAMP\n\nBy A. AUTHOR\n\n" + PROSE
    assert apply("credits", credit + rest).split() == rest.split()


def test_a_credit_below_the_title_takes_only_its_own_line() -> None:
    text = "The Lamp by A. Author\nScanned and proofed by David Price, email a@b.org\n\n" + PROSE
    assert apply("credits", text).startswith("The Lamp by A. Author\n\n\nI had")


@pytest.mark.parametrize(
    "line",
    [
        "Translated by David Wyllie",
        "Edited by Henry Morley",
        "Printed by R. Clay, Sons, and Taylor",
        "With illustrations by the author",
    ],
)
def test_the_people_of_the_printed_book_stay(line: str) -> None:
    text = f"THE LAMP\n\n{line}\n\n{PROSE}"
    assert apply("credits", text) == text


def test_what_was_produced_by_somebody_in_the_story_stays() -> None:
    text = PROSE * 10 + "Produced by a conjuror, it would have been a rabbit.\n\n" + PROSE * 10
    assert apply("credits", text) == text


SPELLING = "The spelling of the original has been retained."
NOTES = {
    "in brackets": f"{PROSE}[Transcriber's Note: {SPELLING}\n\nAnd [more] of it.]\n\n{PROSE * 4}",
    "in a paragraph": f"TRANSCRIBER'S NOTE: {SPELLING}\n\n\n\n{PROSE * 5}",
    "under a heading": f"Transcriber’s notes:\n\n {SPELLING}\n\n {SPELLING}\n\n\n\n{PROSE * 5}",
    "in two paragraphs above a rule": (
        f"Transcribers Note: {SPELLING}\n\nThroughout this text _ stands for italics.\n\n"
        f"---------------\n\n{PROSE * 5}"
    ),
    "of a file": f"[This text is for readers that cannot show Unicode.]\n\n{PROSE * 5}",
    "in a box": (
        f"{PROSE}+------------+\n| Transcriber's Note: |\n| {SPELLING} |\n+------------+\n\n"
        f"{PROSE * 4}"
    ),
    "at the end": (
        f"{PROSE * 5}\n\nTypographical errors corrected by the etext transcriber:\n\n"
        f"hte=> the {{pg 12}}\n\n\n\nadn=> and"
    ),
}


@pytest.mark.parametrize("kind", NOTES)
def test_a_transcribers_note_goes_and_the_text_round_it_stays(kind: str) -> None:
    left = apply("transcriber-notes", NOTES[kind]).replace("---------------", "")
    assert left.split() == (PROSE * 5).split()


AFTER_A_NOTE = {
    "another tale": f"\n\n\n\n\nTHE ROAD\n\nby Jane Roe\n\n{PROSE * 3}",
    "an appendix": f"\n\nAPPENDIX\n\n{PROSE}",
    "a chapter": f"\n\nCHAPTER XX. The Road\n\n{PROSE}",
    "a rule": f"\n\n* * * * *\n\n{PROSE}",
}


@pytest.mark.parametrize("after", AFTER_A_NOTE)
@pytest.mark.parametrize(
    "note",
    ["Spelling has been kept.", "It was printed in _Tales_, May 1931.\n\nErrors were corrected."],
)
def test_a_note_near_the_end_takes_nothing_of_what_comes_after_it(note: str, after: str) -> None:
    text = f"{PROSE * 20}TRANSCRIBER'S NOTE:\n\n{note}{AFTER_A_NOTE[after]}"
    left = apply("transcriber-notes", text)
    assert left.split() == f"{PROSE * 20}{AFTER_A_NOTE[after]}".split()


def test_a_note_at_the_end_goes_with_all_its_parts() -> None:
    note = (
        "Transcriber's Notes\n\nThe cover image is in the public domain.\n\n\n\n"
        "Page 12: teh -> the.\n\nChapter IV: on => in.\n\n\n\nInconsistent hyphens were retained.\n"
    )
    assert apply("transcriber-notes", PROSE * 20 + note).split() == (PROSE * 20).split()


def test_an_editors_note_in_the_story_stays() -> None:
    text = f"{PROSE}[EDITOR'S NOTE.--Mr. Castaigne died yesterday.]\n\n{PROSE}"
    assert apply("transcriber-notes", text) == text


CONTENTS = {
    "chapters with titles": "CONTENTS\n\nI. The Lamp\nII. The Stair\nIII. The Door",
    "chapters alone": " Contents\n\n CHAPTER I.\n CHAPTER II.\n CHAPTER III.\n CHAPTER IV.",
    "with page numbers": (
        "CONTENTS\n\n                    PAGE\n\nTHE LAMP               1\n\n"
        "THE STAIR, AND WHAT CAME DOWN IT      49\n\nTHE DOOR              73"
    ),
    "one empty line between": "CONTENTS\n\n\n\nLetter 1\n\nLetter 2\n\nLetter 3\n\nChapter 1",
    "titles": "Contents\n\n\n STORY OF THE DOOR\n\n SEARCH FOR MR. HYDE\n\n THE LAST NIGHT",
    "of plates": "LIST OF ILLUSTRATIONS\n\nThe House  _Frontispiece_\n\nA Lamp   17\n\nA Door   30",
    "in parts": (
        "SISÄLLYS:\n\nI OSA\n\n     I. Kirja.\n    II. Kevät.\n\n"
        "II OSA\n\n     I. Sam.\n    II. Mökki."
    ),
    "in parts with gaps": (
        "CONTENTS.\n\nEPOCH THE FIRST, 1703.\nJONATHAN WILD.\n\n"
        "CHAPTER I. The Widow and her Child             1\n       II. The Old Mint     13\n\n\n"
        "EPOCH THE SECOND, 1715.\nTHAMES DARRELL.\n\n"
        "CHAPTER I. The Idle Apprentice                75\n       II. Thames Darrell    88\n"
        "      III. Jonathan Wild's House in the Old  201\n              Bailey"
    ),
}


@pytest.mark.parametrize("kind", CONTENTS)
@pytest.mark.parametrize("chapter", ["I\n\nTHE LAMP", "I OSA", "THE ADVENTURES OF A LAMP"])
def test_a_contents_list_goes_and_the_first_chapter_stays(kind: str, chapter: str) -> None:
    rest = f"\n\n\n\n\n{chapter}\n\n{PROSE}"
    text = f"THE BOOK\n\n{CONTENTS[kind]}{rest}"
    assert apply("contents", text).split() == f"THE BOOK {rest}".split()


def test_a_contents_list_ends_where_its_first_entry_comes_again() -> None:
    text = f"CONTENTS\n\nTHE LAMP\n\nTHE STAIR\n\nTHE DOOR\n\nTHE LAMP\n\n{PROSE}"
    assert apply("contents", text).split() == f"THE LAMP {PROSE}".split()


@pytest.mark.parametrize(
    "below",
    [
        "To my mother",
        "All that we see or seem\nIs but a dream within a dream.",
        "Is all that we see or seem\nBut a dream within a dream?\nI stand amid the roar",
        "PROLOGUE",
        "THE ADVENTURES OF A LAMP",
    ],
)
@pytest.mark.parametrize("numbers", [("I. ", "II. ", "III. "), ("", "", "")])
def test_what_stands_right_below_a_contents_list_stays(
    below: str, numbers: tuple[str, str, str]
) -> None:
    titles = zip(numbers, ("The Road", "The House", "The End"), strict=True)
    entries = "\n".join(number + title for number, title in titles)
    rest = f"{below}\n\n{PROSE}"
    assert apply("contents", f"CONTENTS\n\n{entries}\n\n{rest}").split() == rest.split()


@pytest.mark.parametrize(
    "text",
    [
        f"CONTENTS\n\n{PROSE}",
        f"The contents of the box were these.\n\n{PROSE}",
        "CONTENTS\n\n“Who is there?”\n\n“I am.”\n\n“Come in, then.”\n\n" + PROSE,
    ],
)
def test_what_is_no_contents_list_stays(text: str) -> None:
    assert apply("contents", text) == text


@pytest.mark.parametrize(
    ("skip", "extra", "there", "missing"),
    [
        ((), (), "italics", "dashes"),
        ((), ("dashes",), "dashes", "-"),
        (("italics",), (), "markup", "italics"),
        (("dashes",), ("dashes",), "italics", "dashes"),
    ],
)
def test_rules_can_be_switched(
    skip: tuple[str, ...], extra: tuple[str, ...], there: str, missing: str
) -> None:
    chosen = choose_rules(skip, extra)
    names = [rule.name for rule in chosen]
    assert there in names and missing not in names
    assert names == [rule.name for rule in RULES if rule.name in names]


@pytest.mark.parametrize("option", ["--skip-rule", "--with-rule"])
def test_a_rule_that_does_not_exist_is_refused_with_the_nearest(option: str) -> None:
    with pytest.raises(UsageError, match=f"{option} footnots") as caught:
        choose_rules(*([["footnots"], []] if option == "--skip-rule" else [[], ["footnots"]]))
    assert "'footnotes'" in str(caught.value.hint)


def test_the_rules_that_are_off_are_not_applied_unasked() -> None:
    assert clean("One--two.").text == "One--two."
    assert clean("One--two.", choose_rules(extra=["dashes"])).text == "One—two."
    assert [rule.name for rule in RULES if rule not in DEFAULT_RULES] == ["dashes"]


@pytest.mark.parametrize("rule", RULES, ids=lambda rule: rule.name)
def test_no_rule_takes_more_than_its_share(rule: Rule) -> None:
    assert rule.largest_share <= 0.35
    greedy = Rule(rule.name, lambda text: (text[: len(text) // 2], 1), rule.largest_share)
    assert clean(PROSE * 50, [greedy]).text == PROSE * 50


def test_what_was_removed_is_counted() -> None:
    cleaned = clean(f"{PROSE * 4}A _word_ here.[1]\n\n[Illustration: x]\n\n{PROSE}")
    assert cleaned.removed == {
        "illustrations": Removal(1, 17),
        "note-marks": Removal(1, 3),
        "italics": Removal(1, 2),
    }


def test_a_rule_that_would_take_too_much_is_not_applied() -> None:
    greedy = Rule("greedy", lambda text: (text[: len(text) // 2], 7), largest_share=0.4)
    modest = Rule("modest", lambda text: (text[1:], 1))
    cleaned = clean(PROSE * 50, [greedy, modest])
    assert cleaned.text == (PROSE * 50)[1:]
    assert list(cleaned.removed) == ["modest"]
    (warning,) = cleaned.warnings
    assert 'rule "greedy" was not applied' in warning


@pytest.mark.parametrize("heading", ["Contents", "INDEX"])
def test_thousands_of_headings_in_a_row_take_no_time(heading: str) -> None:
    text = f"{heading}\n" * 20_000 + "\nSome words, page 12\n"
    start = time.process_time()
    clean(text, [rule for rule in RULES if rule.name in ("contents", "indexes")])
    assert time.process_time() - start < 3


@pytest.mark.parametrize(
    "opening",
    [
        "Transcriber's notes lay upon the desk, and she read them aloud.",
        "Proofreader's comments were cruel, and he wept at them.",
        "Printer's error corrected by the transcriber was all he wrote.",
    ],
)
def test_a_story_about_notes_near_its_end_stays(opening: str) -> None:
    text = f"{PROSE * 9}\n\n{opening}\n\n{PROSE * 2}"
    assert apply("transcriber-notes", text) == text


def test_a_note_near_the_end_takes_only_what_speaks_as_notes_do() -> None:
    note = "Transcriber's note: the spelling was kept.\n\nPage 12: teh -> the.\n\n"
    left = apply("transcriber-notes", f"{PROSE * 9}\n\n{note}{PROSE}")
    assert "spelling" not in left
    assert left.endswith(PROSE)


def test_thousands_of_indexes_take_no_time() -> None:
    text = "".join(f"INDEX\n\n{letter}ord, 12\n\n" for letter in "ZYXWVU" * 2000)
    start = time.process_time()
    apply("indexes", text)
    assert time.process_time() - start < 3

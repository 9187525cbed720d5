"""What is a text worth learning from, and what is junk."""

import base64
import random
from dataclasses import asdict

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pipeline.books.decoding import decode
from pipeline.books.quality import Limits, Quality, complaint, find_fault, measure
from tests.books.corpus import Truth, book_params
from tests.books.test_languages import PASSAGES

_RANDOM = random.Random(125)
_BYTES = _RANDOM.randbytes(6000)


def _lines(pieces: list[str], width: int) -> str:
    text = "".join(pieces)
    return "\n".join(text[start : start + width] for start in range(0, len(text), width))


def _failed_scan() -> str:
    """What a scanner makes of a stained page: specks, broken letters, a word here and there."""
    specks = ["^", "~", "|", "\\", ".;", "'l,i", "tlie_", "1I|l", "J3t", "*;", "of", "rn", "ii)",
              "<", "f^l'", "c0", "l", "the", "{", "-^", "aml", "}i", "■", "xl", "•"]  # fmt: skip
    return "\n".join(" ".join(_RANDOM.choices(specks, k=12)) for _ in range(200))


def _hex_dump() -> str:
    rows = []
    for start in range(0, 4000, 16):
        some = _BYTES[start : start + 16]
        shown = "".join(chr(byte) if 32 <= byte < 127 else "." for byte in some)
        rows.append(f"{start:08x}  {some.hex(' ')}  |{shown}|")
    return "\n".join(rows)


def _letters_at_random() -> str:
    alphabet = "abcdefghijklmnopqrstuvwxyz"
    words = ["".join(_RANDOM.choices(alphabet, k=_RANDOM.randint(3, 9))) for _ in range(900)]
    return _lines([" ".join(words)], 70)


JUNK = {
    "a table of numbers": "\n".join(
        f"{1800 + i}  {i * 7919 % 9973}.{i % 100:02}  {i * i % 8887}" for i in range(400)
    ),
    "prices with names": "\n".join(f"No. {i}  {i * 7919 % 9973} lb.  {i}/6" for i in range(400)),
    "a hex dump": _hex_dump(),
    "hex without spaces": _lines([_BYTES.hex()], 64),
    "base64": _lines([base64.b64encode(_BYTES).decode()], 76),
    "base64 in one line": base64.b64encode(_BYTES).decode(),
    "base85": _lines([base64.b85encode(_BYTES).decode()], 76),
    "one line over and over": "All work and no play makes Jack a dull boy.\n" * 1000,
    "one sentence over and over": "All work and no play makes Jack a dull boy. " * 1000,
    "file names": "\n".join(f"{i % 7}-images/IMG_{i:04}.jpg" for i in range(900)),
    "paths": "\n".join(
        f"/usr/lib/python3/site-packages/{name}_{i}.py" for i in range(200) for name in "abcd"
    ),
    "other file names": "\n".join(
        f"{a}-{b}.html" for a in ["index", "chapter", "cover", "notes"] for b in "abcdefghijklmnop"
    ),
    "a failed scan": _failed_scan(),
    "letters at random": _letters_at_random(),
    "single letters": " ".join(_RANDOM.choices("lrtfcjnmhb", k=900)),
    "symbols": "=-=-=+*#%&|<>\n" * 40 + "a few words of text\n",
    "nothing": "",
    "almost nothing": "The End.\n",
    "a title": "THE HISTORY\n\nof ENGLAND\n",
}


@pytest.mark.parametrize("kind", JUNK)
def test_junk_is_left_out_for_a_reason(kind: str) -> None:
    said = complaint(measure(JUNK[kind]), None, Limits())
    assert said is not None
    assert any(character.isdigit() for character in said), "a figure, and the limit"


@pytest.mark.parametrize("language", PASSAGES)
def test_a_page_of_a_book_in_any_language_is_fine(language: str) -> None:
    limits = Limits(minimum_words=30)  # these are less than pages
    quality = measure(PASSAGES[language])
    assert complaint(quality, language, limits) is None
    assert quality.wordlike_share > 0.9
    assert complaint(measure(PASSAGES[language].upper()), language, limits) is None


@pytest.mark.parametrize("truth", book_params)
def test_real_books_stay_far_from_the_limits(truth: Truth) -> None:
    quality = measure(decode(truth.path.read_bytes()).text)  # cleaning makes it only better
    assert complaint(quality, "en") is None
    limits = Limits()
    assert quality.words > 10 * limits.minimum_words
    assert quality.symbol_share < limits.maximum_symbol_share / 5
    assert quality.digit_share < limits.maximum_digit_share / 5
    assert quality.repeated_line_share < limits.maximum_repeated_lines / 5
    assert quality.wordlike_share > 0.9


def test_verse_with_a_refrain_is_no_line_over_and_over() -> None:
    verse = PASSAGES["fi"].splitlines()
    song = "\n".join(line for row in verse for line in (row, "Hei laulahan, hei laulahan!"))
    assert complaint(measure(song), "fi", Limits(minimum_words=30)) is None


def test_a_play_in_which_names_stand_on_lines_of_their_own_is_fine() -> None:
    speeches = PASSAGES["en"].split(". ")
    play = "\n\n".join(f"{'MRS. BENNET' if i % 2 else 'MR. BENNET'}.\n{speech}."
                       for i, speech in enumerate(speeches))  # fmt: skip
    assert complaint(measure(play), "en") is None


def test_a_cookery_book_and_an_almanac_have_figures_and_are_fine() -> None:
    recipe = "Take 2 lbs. of flour, 3 eggs, 1/2 pint of milk; boil it for 20 minutes at 180°. "
    pages = [recipe.replace("2 lbs", f"{i} lbs").replace("eggs", word)
             for i, word in enumerate(PASSAGES["en"].split())]  # fmt: skip
    assert complaint(measure("\n".join(pages)), "en") is None


# --- each measure ---------------------------------------------------------------------------------


def test_shares_are_of_what_they_say() -> None:
    quality = measure("ab cd #1")
    assert quality.characters == 8
    assert (quality.symbol_share, quality.digit_share) == (1 / 6, 1 / 6)
    assert quality.words == 3
    assert quality.wordlike_share == 1 / 3, "cd has no vowel, #1 is a number"


def test_lines_are_repeated_from_the_second_time_on() -> None:
    assert measure("one\ntwo\none\n").repeated_line_share == pytest.approx(3 / 9)
    assert measure("one\n\n\n\ntwo\n").repeated_line_share == 0


@pytest.mark.parametrize(
    ("text", "words"),
    [("One two, three -- four.", 4), ("吾輩は猫である", 3), ("", 0), ("* * *", 0), ("don't", 1)],
)
def test_words_are_counted_in_any_script(text: str, words: int) -> None:
    assert measure(text).words == words


def test_of_a_long_text_about_as_many_words_are_counted_as_it_has() -> None:
    text = " ".join(PASSAGES.values()) * 20
    in_full = sum(measure(line).words for line in text.splitlines())
    assert measure(text).words == pytest.approx(in_full, rel=0.1)


@pytest.mark.parametrize(
    "word", ["o’clock", "l’homme", "to-day", "Anglo-Saxon", "MacGregor", "O'Brien", "_never_",
             "(he)", "„Ungeziefer“", "Angstschweiß", "epäjärjestelmällisyydellänsäkään", "œuvre",
             "I", "à", "naïve", "ΛΌΓΟΣ", "हिन्दी", "ภาษาไทย", "العربية", "Dostoyevsky,", "Łódź"],
)  # fmt: skip
def test_these_have_the_form_of_words(word: str) -> None:
    assert measure(word).wordlike_share == 1


@pytest.mark.parametrize(
    "word", ["1865", "a1b2", "IMG_0001.JPG", "x.docx", "TWFuIGlz", "brrrr", "xkqz", "tlw|ch", "q",
             "a/b", "Ã©tÃ©", "wordслово", "www.x.org", "f" * 60, "bcdfghk"],
)  # fmt: skip
def test_these_have_not(word: str) -> None:
    assert measure(word).wordlike_share == 0


@settings(max_examples=60, deadline=None)
@given(st.text(max_size=300))
def test_any_text_has_measures_within_their_bounds(text: str) -> None:
    quality = measure(text)
    assert quality == measure(text)
    for name, value in asdict(quality).items():
        assert value >= 0
        assert value <= 1 or name in ("characters", "words")


# --- what is said ---------------------------------------------------------------------------------

GOOD = Quality(5000, 900, 0.01, 0.01, 0.01, 0.98)


def test_a_language_that_is_not_wanted_is_named() -> None:
    said = complaint(GOOD, "fr", Limits(), ["en", "de"])
    assert said == "its language is fr, and de or en is wanted"
    said = complaint(GOOD, None, Limits(), ["en"])
    assert said == "its language cannot be told, and en is wanted"
    assert complaint(GOOD, "en", Limits(), ["en"]) is None
    assert complaint(GOOD, None, Limits()) is None, "no language is asked for"


@pytest.mark.parametrize(
    ("name", "limits", "said"),
    [
        ("words", Limits(minimum_words=1000), "it has 900 words, and at least 1000 are wanted"),
        ("symbols", Limits(maximum_symbol_share=0), "1% of it are symbols, at most 0% may be"),
        ("digits", Limits(maximum_digit_share=0), "1% of it are digits, at most 0% may be"),
        ("repeated_lines", Limits(maximum_repeated_lines=0),
         "1% of it repeats earlier lines, at most 0% may"),
        ("wordlike", Limits(minimum_wordlike=0.99),
         "98% of its words look like words, at least 99% must"),
    ],
)  # fmt: skip
def test_every_limit_has_its_clause_and_a_name_to_count_by(
    name: str, limits: Limits, said: str
) -> None:
    assert find_fault(GOOD, "en", limits) == (name, said)
    assert complaint(GOOD, "en", limits) == said


def test_measures_are_written_with_four_digits() -> None:
    written = Quality(10, 2, 1 / 3, 0.0, 0.0, 2 / 3).as_dict()
    assert written == {
        "characters": 10, "words": 2, "symbol_share": 0.3333, "digit_share": 0.0,
        "repeated_line_share": 0.0, "wordlike_share": 0.6667,
    }  # fmt: skip


def test_a_short_note_is_a_text_like_any_other() -> None:
    note = "Ring 555-1234 at 10:30 or 11:45 & ask for No. 7."

    assert complaint(measure(note), None, Limits()) is None

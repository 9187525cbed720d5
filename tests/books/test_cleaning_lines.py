"""Numbers of pages and lines, broken words, markup and dashes; and the laws for every rule."""

import re
import time

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pipeline.books.boilerplate import strip_boilerplate, tidy_lines
from pipeline.books.cleaning import RULES, Rule, clean
from pipeline.books.cleaning_lines import remove_bare_page_numbers
from pipeline.books.decoding import decode
from tests.books.corpus import Truth, book_params

BY_NAME = {rule.name: rule for rule in RULES}


def apply(rule: str, text: str) -> str:
    return BY_NAME[rule].apply(text)[0]


def verse(lines: int, step: int, *, first: bool, offset: int = 0) -> tuple[str, str]:
    """Verse with a number at every `step` lines, before or behind the line, and without."""
    numbered, plain = [], []
    for number in range(1, lines + 1):
        line = "Of arms I sing, and of the man" if number % 2 else "And of the sea he came from"
        mark = str(number + offset) if number % step == 0 else ""
        numbered.append(f"{mark:>6} {line}" if first else f"{line}      {mark}".rstrip())
        plain.append(f"{'':>6} {line}" if first else line)
    return "\n".join(numbered) + "\n", "\n".join(plain) + "\n"


@pytest.mark.parametrize("step", [5, 10])
@pytest.mark.parametrize("first", [True, False], ids=["before", "behind"])
def test_the_numbers_of_verse_go(step: int, first: bool) -> None:
    numbered, plain = verse(60, step, first=first)
    assert apply("line-numbers", numbered) == plain
    twice = numbered + "\nBOOK II\n\n" + numbered
    assert apply("line-numbers", twice) == plain + "\nBOOK II\n\n" + plain


@pytest.mark.parametrize(
    "text",
    [
        "".join(f"{number} pears\n" for number in range(1, 60)),
        "".join(f"Pears      {number}\n" for number in range(1, 60)),
        "".join(f"Pears      {number}\n" for number in range(5, 100, 5)),
        "".join(f"{number} And it was so.\n\n" for number in range(1, 60)),
        "He was born in   10\nand in   20\nhe was dead, and in   30\nhe came back.\n",
        verse(60, 5, first=False, offset=3)[0],
    ],
)
def test_other_numbers_stay(text: str) -> None:
    assert apply("line-numbers", text) == text


SENTENCE = "and there the road went on beside the water for a long while, as roads do,\n"
PAGE = SENTENCE * 12


def paged(form: str, gap: str, count: int = 30, page: str = PAGE, first: int = 1) -> str:
    """Pages of one sentence, and between them numbers."""
    marks = [f"{gap}{form.format(first + number)}\n{gap}" for number in range(count)]
    return "It was late,\n" + "".join(page + mark for mark in marks) + page


@pytest.mark.parametrize("gap", ["", "\n", "\n\n"], ids=["in lines", "apart", "far apart"])
@pytest.mark.parametrize("form", ["{}", "- {} -", "—{}—", "|{}|", "Page {}", "p. {}", "        {}"])
def test_numbers_of_pages_go_and_the_sentences_they_parted_close_up(form: str, gap: str) -> None:
    text = paged(form, gap)
    assert remove_bare_page_numbers(text) == ("It was late,\n" + PAGE * 31, 30)


def test_numbers_of_pages_go_between_paragraphs_too_and_those_of_chapters_stay() -> None:
    page = f"{PAGE}End of it.\n"
    text = paged("{}", "\n") + "So.\n\n\n\n\n5\n\n\n" + paged("{}", "\n", 3, page, 31) + PAGE
    text += paged("{}", "\n", 12, first=34)
    changed, count = remove_bare_page_numbers(text)
    assert count == 45
    assert [line for line in changed.split("\n") if line.isdigit()] == ["5"]
    assert "End of it.\n\nand there" in changed


def test_a_second_volume_counts_anew() -> None:
    text = paged("{}", "\n") + "The end.\n\n\n\n\nVOLUME II\n\n\n" + paged("{}", "\n")
    changed, count = remove_bare_page_numbers(text)
    assert count == 60 and not re.search(r"\d", changed)


@pytest.mark.parametrize(
    "text",
    [
        paged("{}", "\n", 8),  # too few
        paged("{}", "\n", page=SENTENCE),  # verses of Scripture
        paged("{}", "\n", page=PAGE + "So it was.\n"),  # chapters, sonnets
        paged("{}", "\n\n\n", page="THE SEA\n\n" + PAGE.capitalize() + "So it was.\n"),
        paged("{}0", "\n"),  # every tenth line
        paged("Page {} of the record", "\n"),
        "".join(f"{PAGE}{year}\n{PAGE}" for year in (1848, 1812, 1870, 1871, 1866) * 6),
    ],
    ids=["few", "verses", "chapters", "poems", "lines", "words", "years"],
)
def test_numbers_that_count_no_pages_stay(text: str) -> None:
    assert remove_bare_page_numbers(text) == (text, 0)


@pytest.mark.parametrize("unit", ["1\n", "12\n\na,\n", "- 3 -\nb\n"])
def test_thousands_of_lonely_numbers_take_no_time(unit: str) -> None:
    began = time.process_time()
    remove_bare_page_numbers(unit * (200_000 // len(unit)))
    assert time.process_time() - began < 2


@pytest.mark.parametrize(
    ("before", "after"),
    [
        (
            "so vast a dis-\ntance from it. The distance",
            "so vast a distance\nfrom it. The distance",
        ),
        ("won-\nderful.\nIt is wonderful", "wonderful.\nIt is wonderful"),
        ("well-\nknown; wellknown, well-known", "well-\nknown; wellknown, well-known"),
        ("fore-\nhead", "fore-\nhead"),  # nowhere else in the book
        ("fore-\nhead, of foreheads", "fore-\nhead, of foreheads"),
        ("the man--\nkind mankind", "the man--\nkind mankind"),
        ("Anglo-\nSaxon, Anglosaxon", "Anglo-\nSaxon, Anglosaxon"),
        ("stay 19-\n20", "stay 19-\n20"),
    ],
)
def test_a_broken_word_is_joined_where_the_book_has_it_whole(before: str, after: str) -> None:
    assert apply("hyphens", before) == after


def test_many_broken_words_are_joined_by_the_same_rule_as_few() -> None:
    words = [f"{a}{b}{c}" for a in "abcdefgh" for b in "abcdefgh" for c in "xyz"]
    text = "".join(f"{word}-\nend\n" for word in words)
    known = " ".join(f"{word}end" for word in words[::2])
    joined = apply("hyphens", text + known)
    assert joined.count("-\n") == len(words) - len(words[::2])


@pytest.mark.parametrize(
    ("before", "after"),
    [
        ("=Bold= and =two\nlines=", "Bold and two\nlines"),
        ("a +spaced+ word, ~Small Caps.~--So", "a spaced word, Small Caps.--So"),
        ("an <i>old</i> <b class='x'>book</b><br>", "an old book"),
        ("caf&eacute;&nbsp;&mdash; A &amp; B", "café — A & B"),
        ("H_{2}O and M^{rs} C.", "H2O and Mrs C."),
        ("the word [Greek: logos] is", "the word logos is"),
        ("a man[oe]uvre of [AE]neas, [=a]b", "a manoeuvre of AEneas, ab"),
        ("*Bold* and “**very\nstrong**,” he said.", "Bold and “very\nstrong,” he said."),
        ("a word* there\n\n*A note on the word.*", "a word* there\n\n*A note on the word.*"),
        ("a word* there\n\n* A note.\n\n*Bold* it", "a word* there\n\n* A note.\n\n*Bold* it"),
        ("from *esti and *wer, B*** and d*mn", "from *esti and *wer, B*** and d*mn"),
        ("*12 Praise him * all ye lands*", "*12 Praise him * all ye lands*"),
        ("*one*\n\n* * *\n\n*****\n\ntwo", "one\n\n* * *\n\n*****\n\ntwo"),
        ("M^r B. hath y^e 18^th of his Maj^ty", "Mr B. hath ye 18th of his Majty"),
        ("x^2 and M^r", "x^2 and M^r"),
        ("a^n + b^n; n^th; word^1; A^n = 1", "a^n + b^n; n^th; word^1; A^n = 1"),
        ("a=b=c, x = y = z, =2nd July, 622", "a=b=c, x = y = z, =2nd July, 622"),
        ("2 +3+ 4 and 1 lb. =16 oz.= 1", "2 +3+ 4 and 1 lb. =16 oz.= 1"),
        ("=one\n\ntwo=", "=one\n\ntwo="),
        ("a < b > c, <i>never closed, <x>", "a < b > c, <i>never closed, <x>"),
        ("AT&T; Smith & Co; &c; this &and; that", "AT&T; Smith & Co; &c; this &and; that"),
        ("al[l] and inaccuraci[e]s [oe]", "al[l] and inaccuraci[e]s [oe]"),
        ("{1:1} In the beginning; {x}", "{1:1} In the beginning; {x}"),
    ],
)
def test_markup_goes_and_its_words_stay(before: str, after: str) -> None:
    assert apply("markup", before) == after


@pytest.mark.parametrize(
    ("before", "after"),
    [
        ("It came--so I heard--at noon.", "It came—so I heard—at noon."),
        ("Lord B---- said, 17--.", "Lord B—— said, 17—."),
        ("-- Kaksi -- kolme.", "— Kaksi — kolme."),
        ("a\n\n-----\n\nb", "a\n\n-----\n\nb"),
        ("+----+\n| -- |\n+----+", "+----+\n| -- |\n+----+"),
        ("rent--------24", "rent--------24"),
        ("well-known - yes", "well-known - yes"),
    ],
)
def test_double_hyphens_become_dashes(before: str, after: str) -> None:
    assert apply("dashes", before) == after


# --- laws -----------------------------------------------------------------------------------------

# Without a character of these no rule but those for lists finds anything.
PLAIN = st.text(alphabet="abcdefgh ABC.,;!?\n'", max_size=400)


@pytest.mark.parametrize("rule", RULES, ids=lambda rule: rule.name)
@given(text=PLAIN)
@settings(max_examples=40, deadline=None)
def test_a_text_without_marks_is_never_changed(rule: Rule, text: str) -> None:
    changed, count = rule.apply(text)
    if rule.name == "double-spaces":
        assert re.sub(" +", " ", changed) == re.sub(" +", " ", text)
    else:
        assert (changed, count) == (text, 0)


PIECES = st.sampled_from(
    [
        *("word", "Word.", "_it_", "=b=", "[1]", "[A]", "[1] Note", "[2] Note", "* note", "so*"),
        *("[Footnote 1: x", "[Sidenote: y", "[Illustration", "]", "{12}", "H_{2}", "&amp;", "<i>"),
        *(
            "</i>",
            "INDEX",
            "A, 1",
            "B, 2",
            "BY THE SAME AUTHOR",
            "NOTES",
            "--",
            "----",
            "won-\nder",
        ),
        *(
            "wonder",
            "+c d e+",
            "~",
            "=",
            "\n",
            "\n\n",
            "\n\n\n",
            "  ",
            "   10\n",
            "a,",
            "[Greek: x]",
        ),
    ]
)


@given(st.lists(PIECES, max_size=80).map(" ".join).map(lambda text: text.replace("\n ", "\n")))
@settings(max_examples=150, deadline=None)
def test_no_rule_adds_words(text: str) -> None:
    letters = re.sub(r"[\W_]+", "", text)
    for rule in RULES:
        changed, count = rule.apply(text)
        left = iter(letters)
        assert all(letter in left for letter in re.sub(r"[\W_]+", "", changed)), rule.name
        assert count >= 0 and (count or changed == text)


@pytest.mark.parametrize("truth", book_params)
def test_cleaning_a_real_body_twice_changes_nothing_more(truth: Truth) -> None:
    body = strip_boilerplate(tidy_lines(decode(truth.path.read_bytes()).text)).body
    for rule in RULES:
        body, _ = rule.apply(body)
        again, count = rule.apply(body)
        assert (again, count) == (body, 0), rule.name


UNITS = [
    *(
        "[1] ",
        "a[1] ",
        "a[1]\n\n[1] x\n\n",
        "[Footnote: [",
        "\n\n[Footnote 1: a\n\n",
        "[Sidenote: ",
    ),
    *(
        "a* b\n\n* c\n\n",
        "INDEX\n\n",
        "A, 12\n\n",
        "BY THE SAME AUTHOR\n\n",
        "NEW BOOKS\n\ncloth $1\n\n",
    ),
    *(
        "5 x\n",
        "x\na\nb\nc\nd     5\n",
        "won-\nder ",
        "a-\n",
        "=a ",
        "+aaa",
        "<i>",
        "&amp;",
        "_{1}",
    ),
    *("[Greek:" + " " * 1900, "--", "a--b", "---- \n", " " * 20_000 + "10\n", "a[oe"),
]


@pytest.mark.parametrize("unit", UNITS, ids=lambda unit: repr(unit[:12]))
def test_time_grows_with_the_text_and_no_faster(unit: str) -> None:
    text = "word\n\n" * 40 + unit * (200_000 // len(unit)) + "\n  10\n  20\n"
    began = time.process_time()
    clean(text, RULES)
    assert time.process_time() - began < 2

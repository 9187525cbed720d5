"""Sentences: exact, offline, and right on the dialogue of gothic novels."""

import socket
from pathlib import Path

import nltk
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pipeline.corpus import sentences
from pipeline.corpus.sentences import sentence_ends, split_sentences

HERE = Path(__file__).parent


def labelled(name: str) -> list[str]:
    """Paragraphs, one a line; ¦ stands where a careful reader says that a new sentence begins."""
    lines = (HERE / name).read_text("utf-8").splitlines()
    return [line for line in lines if line and not line.startswith("#")]


LINES = labelled("gothic_dialogue.txt")
HELD_OUT = labelled("gothic_dialogue_held_out.txt")


def expected(line: str) -> list[str]:
    return [piece.strip() for piece in line.split("¦")]


def found(line: str) -> list[str]:
    return [piece.strip() for piece in split_sentences(line.replace("¦", ""))]


def punkt_alone(lines: list[str]) -> list[str]:
    """The lines that Punkt splits right by itself."""
    punkt = sentences._tokenizer("english")
    plain = [line.replace("¦", "") for line in lines]
    return [
        line
        for line, text in zip(lines, plain, strict=True)
        if [text[a:b] for a, b in punkt.nltk.span_tokenize(text)] == expected(line)
    ]


@pytest.mark.parametrize("lines", [LINES, HELD_OUT], ids=["worked on", "held out"])
def test_gothic_dialogue_is_split_as_a_reader_would(lines: list[str]) -> None:
    wrong = [line for line in lines if found(line) != expected(line)]
    assert len(wrong) <= 0.05 * len(lines), "\n".join(wrong)


def test_the_labelled_lines_are_a_hundred_and_thirty_held_out() -> None:
    assert len(set(LINES)) == 100
    assert len(set(HELD_OUT) - set(LINES)) == 30


@pytest.mark.parametrize("lines", [LINES, HELD_OUT], ids=["worked on", "held out"])
def test_punkt_alone_would_get_few_of_these_lines_right(lines: list[str]) -> None:
    assert len(punkt_alone(lines)) < 0.5 * len(lines), "then no rule of our own would be needed"


@pytest.mark.parametrize(
    "line",
    [
        "“Stop!” he said.¦ He did not stop.",
        "“Stop!” Mina cried.¦ He did not stop.",
        "“Stop!” the old man cried out.",
        "“Stop!” the old sexton whispered.¦ He knew.",
        "“Stop!”¦ The old sexton whispered it.¦ He knew.",
        "“Stop!” Ludwig van der Meer cried.¦ He knew.",
        "“Stop!”¦ She cried it aloud.",
        "“Stop—”¦ He fell.¦ “Stop—” Edmund began once more.",
        "He waited… and waited…¦ No one came.",
        "He waited... and waited...¦ Then the bell rang.",
        "He waited.... ¦Bells rang.",
        "He waited. . . .¦ Then . . . the bell rang.",
        "“Edmund… Emily… where are you?”",
        "It was not I.¦ The key was in the lock.",
        "“Did you?”¦ “Not I.”¦ He laughed.",
        "He saw in chapter I. Lucy's name.",
        "She fell ill.¦ My aunt went to her.",
        "The coach left at 9 P.M.¦ The inn was dark.",
        "We met Mme. Roche and Lieut. Grey.¦ St. Oswin's bell rang.",
        "It was signed J. P. Crane.¦ I knew the hand.",
        "“So it was,” said I.¦ He went on.",
        "It was in No. 7 that he died.¦ In No. 8 they danced.",
        "See vol. 2.¦ Then see chap. 12 of the same.",
        "“Begone!”—¦The shape was gone.",
        "“Begone!”--¦The shape was gone.",
        "“It is he!”’ ¦There he ended.",
        "It rained... and rained.¦ Nobody came.",
    ],
)
def test_each_part_of_the_rule(line: str) -> None:
    assert found(line) == expected(line)


@settings(deadline=None)
@given(st.text() | st.text(alphabet='aB. !?”“’"—()\n\u0301MrSt0'))
def test_the_pieces_are_the_paragraph(paragraph: str) -> None:
    pieces = split_sentences(paragraph)
    assert "".join(pieces) == paragraph
    assert all(pieces)


@pytest.mark.parametrize("line", LINES + HELD_OUT)
def test_white_space_stays_at_the_end_of_a_piece(line: str) -> None:
    for piece in split_sentences(line.replace("¦", "")):
        assert piece == piece.lstrip()


def test_a_book_without_a_line_break_is_read_in_windows_and_loses_nothing() -> None:
    sentence = "The tide rose over the causeway, and Mr. Vane did not come back. "
    text = sentence * 2000
    assert len(text) > 5 * sentences._WINDOW
    assert split_sentences(text) == [sentence] * 2000


def test_text_that_never_ends_a_sentence_is_one_piece() -> None:
    text = "and the rain fell, " * 5000
    assert split_sentences(text) == [text]


def test_a_sentence_longer_than_a_window_hides_no_end_behind_it() -> None:
    # Windows end inside such a sentence, and the next one begins in its middle.
    long = "It went on, " + "and on, " * (sentences._WINDOW // 5) + "and stopped. "
    text = long + "Then it began again. " + long
    assert split_sentences(text) == [long, "Then it began again. ", long]


@pytest.mark.parametrize(
    ("language", "text"),
    [
        ("de", "Er kam z.B. am Abend des 3. Oktober zurück. Niemand sprach."),
        ("fr", "M. Delacroix ouvrit la porte. « Qui est là ? » demanda-t-il."),
        ("xx", "An unknown language is read as English. It is split all the same."),
    ],
)
def test_other_languages_have_models_of_their_own(language: str, text: str) -> None:
    assert len(split_sentences(text, language)) == 2


def test_an_opening_quote_goes_with_the_sentence_that_it_opens() -> None:
    assert split_sentences("Il se tut. « Encore ! » Il sortit.", "fr") == [
        "Il se tut. ",
        "« Encore ! » ",
        "Il sortit.",
    ]


# What Punkt looks at: words in and out of its tables, figures, white space of all kinds, marks.
WORDS = """
hello Word I J don't Mr Mrs St etc e.g U.S z.B bzw a No 12 3.14 xvi É Ä Σ жук 日本 ² _ the He said
. . . . ! ! ? ? .. ... … … , ; : - -- — – * @ " ' “ ” ‘ ’ « » ( ) [ ] { }
"""
SPACES = [*[" "] * 30, "\n", "\n", "\n\n", "\t", "\r\n", "\x1c", "\x85", "\u00a0"]
PIECES = [*WORDS.split(), *SPACES, ". . .", "x" * 50]
JUMBLED = st.lists(st.sampled_from(PIECES), max_size=60).map("".join)


@settings(deadline=None, max_examples=300)
@given(JUMBLED, st.sampled_from(["english", "german", "french", "russian"]))
def test_punkt_is_asked_less_and_says_the_same(text: str, model: str) -> None:
    punkt = sentences._tokenizer(model)
    assert list(punkt.starts(text)) == [start for start, _ in punkt.nltk.span_tokenize(text)][1:]


def test_punkt_says_the_same_of_books(shared_books: Path) -> None:
    punkt = sentences._tokenizer("english")
    for name in ("84.txt", "345-modern.txt", "1322.txt"):
        text = (shared_books / name).read_bytes().decode("utf-8", "replace")[50_000:120_000]
        assert list(punkt.starts(text)) == [a for a, _ in punkt.nltk.span_tokenize(text)][1:]


@settings(deadline=None, max_examples=300)
@given(JUMBLED, st.integers(0, 150), st.integers(0, 150))
def test_a_part_of_the_sentences_is_found_as_if_all_were(text: str, first: int, last: int) -> None:
    part = [end for end in sentence_ends(text) if first <= end <= last]
    assert sentence_ends(text, "en", first, last) == part


def test_nothing_is_downloaded(monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*_: object, **__: object) -> None:
        raise AssertionError("sentences need no network and no data of NLTK's")

    sentences._tokenizer.cache_clear()
    monkeypatch.setattr(nltk, "download", refuse)
    monkeypatch.setattr(nltk.data, "find", refuse)
    monkeypatch.setattr(socket.socket, "connect", refuse)
    assert sentence_ends("It rained. It stopped.") == [11]

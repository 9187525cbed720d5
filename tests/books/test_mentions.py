"""What names Project Gutenberg in a text is found, and nothing else."""

import time

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pipeline.books.mentions import find_mentions
from tests.books.wrappings import BODIES, FOOTERS, HEADERS, fill


@pytest.mark.parametrize(
    "text",
    [
        "Project Gutenberg",
        "PROJECT\nGUTENBERG",
        "the Project Gutenberg-tm License",
        "Project\u00a0Gutenberg™",
        "_Project_ _Gutenberg_",
        "Projekt Gutenberg-DE",
        "das Gutenberg Projekt",
        "le Projet Gutenberg",
        "el Proyecto Gutenberg",
        "il Progetto Gutenberg",
        "Проект Гутенберг",
        "古騰堡計劃",
        "see www.gutenberg.org/files",
        "http://gutenberg.net.au",
        "ccx074@pglaf.org",
        "the team at www.pgdp.net",
        "This etext was made",
        "two E-Texts",
        "Readable By Both Humans and By Computers",
        'the "Small Print!" above',
        "the Gutenberg Literary Archive Foundation",
    ],
)
def test_every_way_to_name_it_is_found(text: str) -> None:
    assert len(find_mentions(f"Some words before.\n{text}\nSome words after.")) >= 1


@pytest.mark.parametrize(
    "text",
    [
        "Johannes Gutenberg printed his Bible at Mainz.",
        "Herr Gutenberg's project was a press.",
        "Gutenberg, and the archives of Mainz",
        "the context, the pretext, the small print of a contract",
        "He was employed on a project.",
        "",
    ],
)
def test_other_words_are_left_in_peace(text: str) -> None:
    assert find_mentions(text) == []


def test_a_mention_says_where_it_is_and_what_stands_there() -> None:
    text = "One line.\n\nA third, that speaks of Project Gutenberg\nand goes on.\n"
    (mention,) = find_mentions(text)
    assert text[mention.start :].startswith("Project Gutenberg")
    assert mention.line == 3
    assert mention.quote == "A third, that speaks of Project Gutenberg and goes on."
    assert len(find_mentions(text * 3)) == 3


def test_all_wrapping_is_full_of_mentions_and_no_text_has_any() -> None:
    assert all(find_mentions(fill(text)) for name, text in HEADERS.items() if name != "none")
    assert [name for name, body in BODIES.items() if find_mentions(body)] == []


def test_footers_name_it() -> None:
    silent = {name for name, footer in FOOTERS.items() if not find_mentions(fill(footer))}
    assert silent == {"no footer", "Canada"}


@given(st.text(max_size=200), st.text(max_size=200))
@settings(max_examples=100, deadline=None)
def test_whatever_stands_round_it_the_place_is_right(before: str, after: str) -> None:
    text = f"{before}\nProject Gutenberg\n{after}"
    found = [mention for mention in find_mentions(text) if mention.start == len(before) + 1]
    assert [mention.line for mention in found] == [before.count("\n") + 2]


def test_a_long_text_is_searched_fast() -> None:
    text = "It was a dark night, and no print, text or project was at hand.\n" * 50_000
    began = time.process_time()
    assert find_mentions(text) == []
    assert time.process_time() - began < 1

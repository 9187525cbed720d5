"""File names that no system objects to."""

import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pipeline.books.naming import file_name, slug

SAFE = re.compile(r"[a-z0-9]+(?:-[a-z0-9]+)*-[a-z0-9]+(?:-[a-z0-9]+)*\.txt")
DEVICES = {
    "con",
    "prn",
    "aux",
    "nul",
    *(f"com{n}" for n in range(10)),
    *(f"lpt{n}" for n in range(10)),
}


@pytest.mark.parametrize(
    ("title", "name"),
    [
        ("Dracula", "84-dracula.txt"),
        ("Frankenstein; Or, The Modern Prometheus", "84-frankenstein-or-the-modern-prometheus.txt"),
        ("Faust: Der Tragödie erster Teil", "84-faust-der-tragodie-erster-teil.txt"),
        ("Œuvres complètes / Straße", "84-oeuvres-completes-strasse.txt"),
        ('He said "No"', "84-he-said-no.txt"),
        ("../../etc/passwd", "84-etc-passwd.txt"),
        ("C:\\con", "84-c-con.txt"),
        ("A tale 👻 of\nwonder\0", "84-a-tale-of-wonder.txt"),
        ("Alice's Adventures & more", "84-alices-adventures-and-more.txt"),
        ("战争与和平", "84-untitled.txt"),
        ("", "84-untitled.txt"),
    ],
)
def test_a_title_becomes_a_slug(title: str, name: str) -> None:
    assert file_name(84, title) == name


def test_a_long_title_is_cut_between_words() -> None:
    name = file_name(84, "word " * 100)
    assert len(name) <= 84
    assert name.endswith("word.txt")
    assert len(file_name(84, "a" * 300)) <= 84


@given(st.text() | st.integers(), st.text())
def test_any_name_is_safe(id: str | int, title: str) -> None:
    name = file_name(id, title)
    assert SAFE.fullmatch(name)
    assert len(name) <= 84
    assert name.split("-")[0] + "-" in name and name.removesuffix(".txt") not in DEVICES


@given(st.text())
def test_a_slug_of_a_slug_is_the_same(title: str) -> None:
    assert slug(slug(title)) == slug(title)

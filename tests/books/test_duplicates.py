"""Which texts are left out for the sake of which, and what is one work."""

import random
import time
from collections.abc import Callable
from functools import cache

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pipeline.books.document import clean_document
from pipeline.books.duplicates import (
    Duplicates,
    Entry,
    Pair,
    author_key,
    find_duplicates,
    title_key,
)
from pipeline.books.sketches import TOP_LEVEL, Sketch, sketch
from tests.books.test_sketches import words
from tests.conftest import NO_SHARED_BOOKS, SHARED_BOOKS


def entry(
    id: str,
    text: list[str],
    title: str | None = None,
    authors: tuple[str, ...] = (),
    fixed: bool = False,
) -> Entry:
    return Entry(id, sketch(" ".join(text)), title, authors, fixed)


def changed(text: list[str], share: float, seed: int = 0) -> list[str]:
    """`text` with that share of its words replaced by others."""
    source = random.Random(seed)
    others = words(len(text), 900 + seed)
    return [new if source.random() < share else old for old, new in zip(text, others, strict=True)]


def found(*entries: Entry) -> Duplicates:
    return find_duplicates(entries)


def only(result: Duplicates) -> Pair:
    (pair,) = result.pairs
    return pair


BOOK = words(8000, 1)
OTHER = words(8000, 2)
THIRD = words(8000, 3)


# --- relations ------------------------------------------------------------------------------------


def test_books_that_share_nothing_are_left_alone() -> None:
    result = found(entry("a", BOOK), entry("b", OTHER))
    assert (result.dropped, result.pairs) == ({}, [])
    assert result.works == {"a": "a", "b": "b"}


def test_equal_but_for_case_and_punctuation_is_exact() -> None:
    loud = [f"{word.upper()}," for word in BOOK]
    pair = only(found(entry("b", loud), entry("a", BOOK)))
    assert (pair.relation, pair.kept, pair.dropped) == ("exact", "a", "b")
    assert (pair.share, pair.share_of_kept) == (1.0, 1.0)


def test_of_three_equal_ones_one_stays() -> None:
    result = found(entry("c", BOOK), entry("a", BOOK), entry("b", BOOK))
    assert {id: pair.kept for id, pair in result.dropped.items()} == {"b": "a", "c": "a"}


@pytest.mark.parametrize("revised", [0.0005, 0.01, 0.04])
def test_a_revised_edition_is_near_and_the_longer_one_stays(revised: float) -> None:
    longer = [*changed(BOOK, revised), *words(20, 5)]
    pair = only(found(entry("a", BOOK), entry("b", longer)))
    assert (pair.relation, pair.kept, pair.dropped) == ("near", "b", "a")
    assert pair.share == pytest.approx((1 - revised) ** 5, abs=0.06)


@pytest.mark.parametrize("length", [700, 1500, 8000])
def test_an_excerpt_is_found_in_an_omnibus(length: int) -> None:
    omnibus = [*OTHER, *BOOK[:length], *words(60_000, 6)]
    result = found(entry("excerpt", BOOK[:length]), entry("omnibus", omnibus))
    pair = only(result)
    assert (pair.relation, pair.kept, pair.dropped) == ("contained", "omnibus", "excerpt")
    assert pair.share > 0.95
    assert pair.share_of_kept < 0.15
    assert pair.kept_letters > 7 * pair.other_letters
    assert result.works == {"excerpt": "omnibus", "omnibus": "omnibus"}


def test_a_page_is_found_in_a_chapter() -> None:
    assert found(entry("page", BOOK[500:750]), entry("chapter", BOOK[:3000])).dropped.keys() == {
        "page"
    }


def test_an_anthology_of_which_most_is_known_is_related_and_stays() -> None:
    anthology = [*BOOK[:4800], *OTHER[:3200]]
    result = found(entry("book", [*BOOK, *words(900, 7)]), entry("anthology", anthology))
    pair = only(result)
    assert (pair.relation, pair.dropped) == ("related", None)
    assert pair.share == pytest.approx(0.6, abs=0.05)
    assert result.works["anthology"] == result.works["book"]


def test_a_quotation_makes_no_work() -> None:
    result = found(entry("a", BOOK), entry("b", [*OTHER, *BOOK[:200]]))
    assert (result.pairs, result.works) == ([], {"a": "a", "b": "b"})


def test_what_only_several_cover_together_stays() -> None:
    both = [*BOOK[:4000], *OTHER[:4000]]
    result = found(entry("a", [*BOOK, *THIRD]), entry("b", [*OTHER, *words(9000, 8)]),
                   entry("both", both))  # fmt: skip
    assert result.dropped == {}
    assert {pair.relation for pair in result.pairs} == {"related"}
    assert len(set(result.works.values())) == 1


def test_volumes_that_an_omnibus_has_all_go() -> None:
    result = found(entry("1", BOOK), entry("2", OTHER), entry("all", [*BOOK, *OTHER]))
    assert {id: pair.kept for id, pair in result.dropped.items()} == {"1": "all", "2": "all"}
    assert set(result.works.values()) == {"all"}


# --- which one stays ------------------------------------------------------------------------------


def test_a_chain_ends_with_what_is_really_kept() -> None:
    tale, tales, works = BOOK[:2000], [*BOOK, *OTHER[:900]], [*THIRD, *BOOK, *OTHER]
    result = found(entry("a", tale), entry("b", tales), entry("c", works), entry("d", tale))
    assert {id: pair.kept for id, pair in result.dropped.items()} == {"a": "c", "b": "c", "d": "c"}
    assert {pair.relation for pair in result.pairs} == {"contained"}


def test_what_stands_only_in_a_dropped_text_stays() -> None:
    """x is the part of b that c does not have: with b gone, x is all there is of it."""
    c = [*BOOK, *THIRD]
    b = [*BOOK[:6400], *OTHER[:1600]]
    result = found(entry("b", b), entry("c", c), entry("x", OTHER[:1600]))
    assert result.dropped.keys() == {"b"}
    assert result.works["x"] == result.works["c"]


def test_a_fixed_text_stays_whatever_has_it_too() -> None:
    result = found(entry("excerpt", BOOK[:3000], fixed=True), entry("book", BOOK))
    assert result.dropped == {}
    assert only(result).relation == "contained"
    assert result.works["book"] == result.works["excerpt"]


def test_of_two_editions_the_fixed_one_stays() -> None:
    result = found(entry("a", [*BOOK, "more"]), entry("b", BOOK, fixed=True))
    assert {id: pair.kept for id, pair in result.dropped.items()} == {"a": "b"}
    both = found(entry("a", BOOK, fixed=True), entry("b", BOOK, fixed=True))
    assert both.dropped == {}
    assert only(both).relation == "exact"


def test_an_edition_in_seven_bits_goes_though_it_is_longer() -> None:
    accented = [word.replace("a", "ä").replace("u", "ü") for word in BOOK]
    plain = [word.replace("ä", "ae").replace("ü", "ue") for word in accented]
    result = found(entry("plain", [*plain, "and", "a", "note"]), entry("umlauts", accented))
    assert result.dropped.keys() == {"plain"}


def test_a_text_twice_in_a_file_is_no_larger() -> None:
    result = found(entry("twice", BOOK * 2), entry("whole", [*BOOK, *OTHER[:4000]]))
    assert result.dropped.keys() == {"twice"}


@pytest.mark.parametrize("text", ["", " * * *", "12", "a short line"])
def test_texts_too_short_to_compare_are_left_alone_unless_equal(text: str) -> None:
    result = found(Entry("a", sketch(text)), Entry("b", sketch("b" + text)), entry("c", BOOK))
    assert result.pairs == []
    equal = found(Entry("a", sketch(text)), Entry("b", sketch(text)))
    assert equal.dropped.keys() == ({"b"} if any(map(str.isalnum, text)) else set())


def test_nothing_is_compared_with_nothing() -> None:
    assert find_duplicates([]) == Duplicates({}, [], {})


def test_thresholds_can_be_set() -> None:
    anthology = [*BOOK[:4800], *OTHER[:3200]]
    entries = [entry("book", [*BOOK, *words(900, 7)]), entry("anthology", anthology)]
    assert find_duplicates(entries, covered=0.5).dropped.keys() == {"anthology"}
    assert find_duplicates(entries, related=0.9).pairs == []


# --- works by title -------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("one", "other"),
    [
        (
            "The Works of Edgar Allan Poe — Volume 2",
            "Works of Edgar Allan Poe, Vol. V",
        ),
        ("Les Misérables, v. 1/5", "Les Miserables"),
        ("Les misérables Tome III: Marius", "Les Misérables, Tome I: Fantine"),
        ("War and Peace, Book Two", "War and peace"),
        ("Frankenstein; Or, The Modern Prometheus", "Frankenstein, or the Modern Prometheus"),
        ("Ben-Hur: A Tale of the Christ", "Ben-Hur"),
        ("The First Volume", "The First Volume"),
        ("罪と罰", "罪と罰"),
    ],
)
def test_volumes_and_subtitles_make_no_other_title(one: str, other: str) -> None:
    assert title_key(one) == title_key(other) != ""


def test_titles_that_differ_are_told_apart() -> None:
    titles = ["Emma", "Dracula", "Dracula's Guest", "Henry IV", "Henry V", "Part of Me", "V."]
    assert len({title_key(title) for title in titles}) == len(titles)
    assert title_key(None) == title_key("") == ""


@pytest.mark.parametrize(
    ("one", "other"),
    [
        ("Mary Wollstonecraft Shelley", "Shelley, Mary Wollstonecraft, 1797-1851"),
        ("Mary Shelley", "Shelley, Mary Wollstonecraft"),
        ("Brontë, Emily", "Emily Bronte"),
        ("J. Sheridan Le Fanu", "Le Fanu, Joseph Sheridan"),
        ("Voltaire", "Voltaire"),
        ("Johann Wolfgang von Goethe", "Goethe, Johann Wolfgang von"),
    ],
)
def test_an_author_is_known_by_surname_and_initial(one: str, other: str) -> None:
    assert author_key(one) == author_key(other) != ""


@pytest.mark.parametrize("nobody", ["", "Anonymous", "Various", "Unknown", " , ", "1818-1883"])
def test_nobody_is_no_author(nobody: str) -> None:
    assert author_key(nobody) == ""


def test_volumes_of_one_work_belong_together() -> None:
    gibbon = ("Gibbon, Edward",)
    result = found(
        entry("1", BOOK, "Decline and Fall, Vol. 1", gibbon),
        entry("2", OTHER, "The Decline and Fall — Volume 2", ("Edward Gibbon",)),
        entry("3", THIRD, "Decline and Fall", ("Evelyn Waugh",)),
        entry("4", words(900, 11), "Decline and Fall"),
    )
    assert result.pairs == []
    assert result.works["1"] == result.works["2"]
    assert len(set(result.works.values())) == 3


# --- laws -----------------------------------------------------------------------------------------

_PIECES = [words(500, 30 + i) for i in range(5)]


@cache
def _made(choice: tuple[int, ...]) -> Sketch:
    return sketch(" ".join(word for piece in choice for word in _PIECES[piece]))


_choices = st.lists(st.integers(0, 4), min_size=1, max_size=4).map(tuple)
_libraries = st.lists(st.tuples(_choices, st.integers(0, 9)), max_size=9).map(
    lambda rows: [
        Entry(f"{i}", _made(choice), "T" if draw == 1 else None, ("A",), fixed=draw == 0)
        for i, (choice, draw) in enumerate(rows)
    ]
)


@settings(max_examples=80, deadline=None)
@given(_libraries, st.randoms(use_true_random=False))
def test_the_order_of_the_entries_plays_no_role(
    entries: list[Entry], source: random.Random
) -> None:
    shuffled = entries[:]
    source.shuffle(shuffled)
    assert find_duplicates(shuffled) == find_duplicates(entries)


@settings(max_examples=80, deadline=None)
@given(_libraries)
def test_what_is_dropped_points_to_what_is_kept_and_is_in_its_work(entries: list[Entry]) -> None:
    result = find_duplicates(entries)
    fixed = {entry.id for entry in entries if entry.fixed}
    assert result.works.keys() == {entry.id for entry in entries}
    assert not result.dropped.keys() & fixed
    for pair in result.pairs:
        assert pair.kept not in result.dropped
        assert result.works[pair.kept] == result.works[pair.other]
        assert pair.dropped in (None, pair.other)
    for id, pair in result.dropped.items():
        assert pair.other == id
        assert pair.share >= 0.7
    for work in result.works.values():
        assert result.works[work] == work
        assert work not in result.dropped


@settings(max_examples=80, deadline=None)
@given(_libraries)
def test_every_piece_of_text_is_still_there(entries: list[Entry]) -> None:
    """At a threshold that allows no loss, dropping loses none of the pieces."""
    result = find_duplicates(entries, covered=0.97)
    left = [entry for entry in entries if entry.id not in result.dropped]

    def hashes(some: list[Entry]) -> set[int]:
        return {int(one) for entry in some for one in entry.sketch.array(6)}

    lost = hashes(entries) - hashes(left)
    assert len(lost) <= 0.03 * len(hashes(entries))


# --- many -----------------------------------------------------------------------------------------


def _library(count: int, make: Callable[[random.Random, int], list[int]]) -> list[Entry]:
    """Sketches of novels out of hashes, without their texts."""
    import numpy as np

    entries = []
    for i in range(count):
        hashes = np.unique(np.array(make(random.Random(i), i), "<u4"))
        made = Sketch(512 * hashes.size, 0, i.to_bytes(16, "little"), TOP_LEVEL,
                      (int(hashes.size),), hashes.tobytes())  # fmt: skip
        entries.append(Entry(f"{i:05}", made))
    return entries


def _novel(source: random.Random, _: int) -> list[int]:
    return [source.getrandbits(32) for _ in range(400)]


def test_phrases_that_all_texts_share_cost_little_and_relate_none() -> None:
    phrases = list(range(20))
    entries = _library(1000, lambda source, i: [*_novel(source, i), *phrases])
    start = time.process_time()
    result = find_duplicates(entries)
    assert time.process_time() - start < 2
    assert result.pairs == []


def test_a_hundred_copies_are_one_in_spite_of_it() -> None:
    original = _novel(random.Random(99_999), 0)
    entries = _library(300, lambda source, i: (
        [one if source.random() < 0.95 else source.getrandbits(32) for one in original]
        if i % 3 == 0 else _novel(source, i)))  # fmt: skip
    result = find_duplicates(entries)
    assert len(result.dropped) == 99
    assert len({pair.kept for pair in result.pairs}) == 1
    assert len(set(result.works.values())) == 201


# --- real editions --------------------------------------------------------------------------------


def test_real_editions_are_found_and_nothing_else() -> None:
    if not SHARED_BOOKS.is_dir():
        pytest.skip(NO_SHARED_BOOKS)
    names = ["84-old_frank10", "42324", "2229", "2229-old_7fau110", "1-old_all11", "3-modern",
             "11-modern", "19033", "43-modern", "42-modern", "932", "1064", "10007"]  # fmt: skip
    entries = [
        Entry(name, sketch(clean_document((SHARED_BOOKS / f"{name}.txt").read_bytes()).text))
        for name in names
    ]
    result = find_duplicates(entries)
    assert {id: (pair.kept, pair.relation) for id, pair in result.dropped.items()} == {
        "84-old_frank10": ("42324", "near"),
        "2229-old_7fau110": ("2229", "near"),
        "3-modern": ("1-old_all11", "contained"),
        "19033": ("11-modern", "contained"),
        "43-modern": ("42-modern", "near"),
    }
    assert len(result.pairs) == 5

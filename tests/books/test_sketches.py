"""What a sketch does not see, and how well it tells what two texts share."""

import json
import os
import random
import subprocess
import sys

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pipeline.books.sample import sample_library
from pipeline.books.sketches import (
    MOST_HASHES,
    TOP_LEVEL,
    Sketch,
    fold_letters,
    shared_hashes,
    sketch,
)
from tests.books.test_languages import PASSAGES

TALE = sorted(sample_library().glob("*.txt"))[0].read_text("utf-8")


def words(count: int, seed: int) -> list[str]:
    """Words that no other seed has in this order."""
    source = random.Random(seed)
    return ["".join(source.choices("abcdefghiklmnoprstuvwy", k=source.randint(2, 8)))
            for _ in range(count)]  # fmt: skip


def text(count: int, seed: int) -> str:
    return " ".join(words(count, seed))


def share(one: str, other: str) -> float:
    """The estimated share of `one` that stands in `other`."""
    shared, ones, _ = shared_hashes(sketch(one), sketch(other))
    return shared / ones


# --- what plays no role ---------------------------------------------------------------------------


@pytest.mark.parametrize(
    "other",
    [
        TALE.upper(),
        TALE.replace("\n", " "),
        TALE.replace(" ", "\n"),
        TALE.replace(",", "").replace(".", " . ").replace('"', "”").replace("'", "’"),
        TALE.replace(" the ", " _the_ ").replace("-", "—"),
        TALE.replace("\n", "\r\n"),
    ],
    ids=["case", "unwrapped", "wrapped", "punctuation", "italics", "line ends"],
)
def test_how_a_text_is_set_plays_no_role(other: str) -> None:
    assert sketch(other) == sketch(TALE)


@settings(max_examples=60, deadline=None)
@given(st.lists(st.sampled_from(TALE.split()), max_size=80), st.data())
def test_neither_do_wraps_case_and_punctuation_between_any_words(
    some: list[str], data: st.DataObject
) -> None:
    gaps = st.sampled_from([" ", "\n", "\n\n", ", ", " -- ", "—", " “", "’ ", "_ _", "\u00a0", "…"])
    cased = [data.draw(st.sampled_from([word, word.upper(), word.title()])) for word in some]
    set_otherwise = "".join(word + data.draw(gaps) for word in cased)
    changed = sketch(set_otherwise)
    assert (changed.digest, changed.hashes) == (sketch(" ".join(some)).digest,
                                                sketch(" ".join(some)).hashes)  # fmt: skip


@pytest.mark.parametrize(
    ("one", "other"),
    [
        ("Mädchen, Öl, über, Straße, Ärger", "Maedchen, Oel, ueber, Strasse, Aerger"),
        ("cœur, Cæsar, naïve, façade", "coeur, Caesar, naive, facade"),
        ("é à ö", "e\u0301 a\u0300 o\u0308"),
        ("ΛΌΓΟΣ", "λογος"),
        ("ＡＢＣ", "abc"),
        ("to-day", "today"),
        ("word--word", "word word"),
        ("café “x” 𝔘", "CAFE 'X' U"),
    ],
)  # fmt: skip
def test_editions_in_seven_bits_and_other_spellings_of_letters_are_one(
    one: str, other: str
) -> None:
    assert fold_letters(one) == fold_letters(other)


@pytest.mark.parametrize("language", PASSAGES)
def test_every_script_keeps_letters_to_compare(language: str) -> None:
    passage = PASSAGES[language]
    letters = sum(map(str.isalnum, passage))
    assert 0.9 * letters < len(fold_letters(passage)) <= letters
    assert sketch(passage).count(0) > 0.7 * letters


def test_letters_that_differ_are_told_apart() -> None:
    assert sketch("one two").digest != sketch("one too").digest
    assert sketch("") == sketch(" * * * \n")


# --- what is shared -------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("some", "of"), [(300, 300), (300, 3000), (5000, 20_000), (40_000, 60_000)]
)
def test_a_part_is_wholly_contained_whatever_the_sizes(some: int, of: int) -> None:
    whole = words(of, 1)
    part = " ".join(whole[of - some :])
    assert share(part, " ".join(whole)) > 0.98
    assert share(" ".join(whole), part) == pytest.approx(some / of, abs=0.06)


@settings(max_examples=12, deadline=None)
@given(
    st.integers(1, 10_000), st.sampled_from([800, 6000, 25_000]),
    st.sampled_from([0.0, 0.2, 0.5, 0.8, 1.0]),
)  # fmt: skip
def test_the_estimate_of_containment_is_near_the_truth(seed: int, count: int, truth: float) -> None:
    ours = words(count, seed)
    common = int(count * truth)
    theirs = words(3 * count, seed + 20_000) + ours[:common] + words(count, seed + 40_000)
    hashes = shared_hashes(sketch(" ".join(ours)), sketch(" ".join(theirs)))[1]
    spread = (truth * (1 - truth) / hashes) ** 0.5
    assert share(" ".join(ours), " ".join(theirs)) == pytest.approx(truth, abs=5 * spread + 0.01)


def test_an_excerpt_of_1500_words_is_found_among_300000() -> None:
    whole = words(300_000, 3)
    shared, ours, _ = shared_hashes(sketch(" ".join(whole[70_000:71_500])), sketch(" ".join(whole)))
    assert ours >= 6
    assert shared >= ours - 1


def test_two_pages_are_compared_window_by_window() -> None:
    page = words(250, 4)
    changed = [*page[:125], "entirely", *page[126:]]
    first, second = sketch(" ".join(page)), sketch(" ".join(changed))
    assert first.level <= 2
    assert 0.9 < share(" ".join(page), " ".join(changed)) < 1.0
    assert first.digest != second.digest


def test_books_that_have_nothing_to_do_with_each_other_share_nothing() -> None:
    files = sorted(sample_library().glob("*.txt"))[:5]
    tales = [path.read_text("utf-8", errors="replace") for path in files]
    bodies = [tale[len(tale) // 3 : len(tale) // 2] for tale in tales]
    assert max(share(a, b) for a in bodies for b in bodies if a is not b) < 0.02


def test_a_line_over_and_over_is_a_small_set() -> None:
    refrain = sketch("All work and no play makes Jack a dull boy.\n" * 20_000)
    assert 20 < refrain.count(refrain.level) < 60
    assert share("All work and no play makes Jack a dull boy. " * 2,
                 "all work and no play makes jack a dull boy " * 9000) == 1  # fmt: skip


# --- size and form --------------------------------------------------------------------------------


@pytest.mark.parametrize("count", [10, 300, 3000, 20_000, 70_000])
def test_a_sketch_is_small(count: int) -> None:
    made = sketch(text(count, 5))
    kept = made.count(made.level)
    assert len(made.to_bytes()) < 4 * kept + 100
    assert kept <= max(MOST_HASHES, 1.3 * made.letters / 2**TOP_LEVEL)
    assert kept >= min(MOST_HASHES // 3, made.letters - 40)


@settings(max_examples=60, deadline=None)
@given(st.one_of(st.text(max_size=400), st.builds(text, st.integers(0, 4000), st.integers(0, 9))))
def test_a_sketch_comes_back_from_its_bytes(any_text: str) -> None:
    made = sketch(any_text)
    assert Sketch.from_bytes(made.to_bytes()) == made


@pytest.mark.parametrize(
    "data", [b"", b"x", b"\x01" * 20, sketch(TALE).to_bytes()[:-1],
             sketch(TALE).to_bytes() + b"1234", b"\x09" + sketch(TALE).to_bytes()[1:],
             sketch("").to_bytes()[:-4], sketch("").to_bytes()[:-3]],
)  # fmt: skip
def test_broken_bytes_are_no_sketch(data: bytes) -> None:
    with pytest.raises(ValueError, match="sketch"):
        Sketch.from_bytes(data)


def test_lone_surrogates_and_letters_beyond_the_basic_plane_are_taken() -> None:
    assert sketch("a\ud800b") == sketch("ab")
    assert sketch("𐎠𐎡" * 40).count(0) > 0


def test_sketches_are_equal_in_every_process() -> None:
    code = (
        "import json, sys; from pipeline.books.sketches import sketch;"
        "print(json.dumps([sketch(t).to_bytes().hex() for t in json.load(sys.stdin)]))"
    )
    texts = [TALE, PASSAGES["zh"], PASSAGES["fr"]]
    paths = os.pathsep.join(path for path in sys.path if path)
    told = subprocess.run(
        [sys.executable, "-c", code], input=json.dumps(texts), capture_output=True, text=True,
        env={**os.environ, "PYTHONHASHSEED": "7", "PYTHONPATH": paths}, check=True,
    ).stdout  # fmt: skip
    assert json.loads(told) == [sketch(one).to_bytes().hex() for one in texts]


def test_the_form_does_not_change_unnoticed() -> None:
    """Sketches are kept from run to run: a change of the arithmetic needs a new version."""
    made = sketch("It was the best of times, it was the worst of times, it was the age of wisdom.")
    assert made.digest.hex() == "88b2bdbca1f08a6c8182f03402978d64"
    assert made.hashes[:12].hex() == "d6b5ec4b987725182ed6ddff"

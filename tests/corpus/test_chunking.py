"""Chunks: nothing lost, sizes balanced, cuts at the best place there is."""

import random
import re
from bisect import bisect_left
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from pipeline.corpus import chunking
from pipeline.corpus.chunking import CHARACTERS, Measure, chunk_ends, chunk_text, overlap_starts
from pipeline.errors import PipelineError

WORDS = ("a", "the", "old", "bell", "sea", "fog", "rose", "and", "nobody", "came", "to", "midnight")


def prose(characters: int, seed: int = 0, paragraph: tuple[int, int] = (1, 9)) -> str:
    """English of a kind: sentences of 6 to 30 words in paragraphs, one empty line between them."""
    rng = random.Random(seed)
    paragraphs: list[str] = []
    size = 0
    while size < characters:
        lines = []
        for _ in range(rng.randint(*paragraph)):
            words = rng.choices(WORDS, k=rng.randint(6, 30))
            words[len(words) // 2] += ","
            lines.append(" ".join(words).capitalize() + rng.choice(".!?"))
        paragraphs.append(" ".join(lines))
        size += len(paragraphs[-1]) + 2
    return "\n\n".join(paragraphs)[:characters]


TEXTS = st.text() | st.text(alphabet="ab .,;—\n\n!?”\u0301\u200d👩🏽\r", max_size=300)


@settings(deadline=None)
@given(TEXTS, st.integers(1, 40), st.integers(1, 40))
def test_the_chunks_joined_are_the_text(text: str, one: int, other: int) -> None:
    target, minimum = max(one, other), min(one, other)
    chunks = chunk_text(text, target, minimum)
    assert "".join(chunks) == text
    assert all(0 < len(chunk) <= target for chunk in chunks)


@pytest.mark.parametrize("paragraph", [(1, 9), (1, 1), (3, 15), (40, 90)])
def test_sizes_are_in_bounds_whatever_the_length(paragraph: tuple[int, int]) -> None:
    for seed in range(40):
        characters = random.Random(seed).randint(7001, 250_000)
        text = prose(characters, seed, paragraph)
        chunks = chunk_text(text)
        sizes = [len(chunk) for chunk in chunks]
        assert "".join(chunks) == text
        assert max(sizes) <= 7000
        assert min(sizes) >= 3000, "a tail is shared out and not left over"
        if characters >= 80_000:
            assert min(sizes) >= 6000


def test_a_short_text_is_one_chunk_and_an_empty_one_none() -> None:
    assert chunk_text("Only this.") == ["Only this."]
    assert chunk_text(prose(7000)) == [prose(7000)]
    assert chunk_text("") == []


@pytest.mark.parametrize("characters", [7001, 8000, 10_000, 11_999])
def test_a_text_too_long_for_one_chunk_and_too_short_for_two_is_halved(characters: int) -> None:
    sizes = [len(chunk) for chunk in chunk_text(prose(characters, paragraph=(1, 3)))]
    assert len(sizes) == 2
    assert max(sizes) - min(sizes) < 1000


@pytest.mark.parametrize("characters", [12_500, 13_000, 19_500, 26_000, 40_000, 300_000])
def test_where_a_division_exists_all_sizes_are_in_bounds(characters: int) -> None:
    for seed in range(5):
        sizes = [len(chunk) for chunk in chunk_text(prose(characters, seed))]
        assert all(6000 <= size <= 7000 for size in sizes), sizes


def test_paragraphs_that_fit_are_not_split() -> None:
    text = prose(200_000, paragraph=(1, 3))
    for chunk in chunk_text(text)[:-1]:
        assert chunk.endswith("\n\n")


def test_a_paragraph_that_overflows_is_cut_between_sentences() -> None:
    text = prose(60_000, paragraph=(1000, 1000))
    assert "\n\n" not in text
    for chunk in chunk_text(text)[:-1]:
        assert re.search(r"[.!?] \Z", chunk)


def test_no_cut_comes_after_a_title_or_before_the_speaker() -> None:
    line = "“Who is there?” asked Mr. Harrow, and Mrs. St. Clair said nothing. "
    chunks = chunk_text(line * 1000)
    assert len(chunks) > 5
    assert all(chunk.endswith("said nothing. ") for chunk in chunks)


@pytest.mark.parametrize(
    ("unit", "end"),
    [
        ("the sea, the fog, the bell; the door, ", "bell; "),
        ("the sea, the fog, the bell—the door, ", "bell—"),
        ("the sea -- the fog, the bell, ", "-- "),
        ("the sea and the fog, the bell and ", "fog, "),
        ("the sea and the fog ", " "),
        ("海と霧、鐘", "、"),
        ("海と霧。鐘、扉、", "。"),
    ],
)
def test_a_sentence_that_overflows_is_cut_at_the_best_place(unit: str, end: str) -> None:
    chunks = chunk_text(unit * 1000)
    assert all(chunk.endswith(end) for chunk in chunks[:-1])


def test_verse_is_cut_at_the_end_of_a_line() -> None:
    # Sentences end in the middle of lines as often as at their end.
    stanza = "The bell is drowned. Who rang it then\nin fog and foam, that all we men\ngo mad?\n"
    for chunk in chunk_text(stanza * 500)[:-1]:
        assert chunk.endswith("go mad?\n")


@pytest.mark.parametrize(
    "character", ["e\u0301", "👩\u200d🚀", "👋🏽", "☝️", "नि", "a\u0308\u0323\u0301"]
)
def test_what_a_reader_sees_as_one_character_is_not_parted(character: str) -> None:
    for shift in range(len(character)):
        for chunk in chunk_text("x" * shift + character * 3000, 700, 600):
            assert len(chunk.lstrip("x")) % len(character) == 0


def test_a_character_longer_than_the_play_between_the_sizes_is_cut_all_the_same() -> None:
    text = "e" + "\u0301" * 20_000
    assert "".join(chunk_text(text)) == text


def test_a_windows_line_end_is_not_parted() -> None:
    for length in range(60, 72):
        chunks = chunk_text("x" * length + "\r\n" + "y" * 62, 70, 60)
        assert not any(chunk.startswith("\n") for chunk in chunks), chunks


def test_equal_sizes_mean_as_near_as_a_good_place_allows() -> None:
    chunks = chunk_text(prose(100_000), target=2000, minimum=2000)
    assert all(1500 <= len(chunk) <= 2000 for chunk in chunks)
    assert all(re.search(r"[.!?]\s+\Z", chunk) for chunk in chunks[:-1])


def test_each_text_gives_the_same_chunks_again() -> None:
    text = prose(100_000, seed=3)
    assert chunk_text(text) == chunk_text(text)


@pytest.mark.parametrize("unit", ["x", "x ", "Stop! ", "a. ", "\n", "\u0301"])
def test_the_work_grows_with_the_text_and_not_faster(
    unit: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    read = 0
    sentence_ends = chunking.sentence_ends

    def counting(text: str, *arguments: Any) -> list[int]:
        nonlocal read
        read += len(text)
        return sentence_ends(text, *arguments)

    monkeypatch.setattr(chunking, "sentence_ends", counting)
    text = unit * (200_000 // len(unit))
    chunk_text(text)
    assert read < 1.5 * len(text)


class Words:
    """Units that are words, each with the white space before it."""

    def __init__(self, text: str) -> None:
        self.starts = [match.start() for match in re.finditer(r"\s*\S+|\s+\Z", text)]
        self.length = len(text)

    def units(self, offset: int) -> int:
        return bisect_left(self.starts, offset)

    def place(self, unit: int) -> int:
        return self.starts[max(unit, 0)] if unit < len(self.starts) else self.length


class Thirds:
    """Units of which each character has three, as a byte-level tokenizer may have."""

    def __init__(self, text: str) -> None:
        self.length = len(text)

    def units(self, offset: int) -> int:
        return 3 * offset

    def place(self, unit: int) -> int:
        return min(max(unit, 0) // 3, self.length)


@settings(deadline=None)
@given(TEXTS, st.integers(1, 40), st.integers(1, 40), st.sampled_from([Words, Thirds]))
def test_in_any_unit_the_chunks_joined_are_the_text(
    text: str, one: int, other: int, unit: type[Words] | type[Thirds]
) -> None:
    target, minimum = max(one, other), min(one, other)
    measure = unit(text)
    ends = chunk_ends(text, target, minimum, measure=measure)
    assert ends == sorted(set(ends))
    assert ends[-1:] == ([len(text)] if text else [])
    if text and (unit is Words or target >= 3):
        sizes = [measure.units(b) - measure.units(a) for a, b in pairwise([0, *ends])]
        assert max(sizes) <= target


def test_sizes_in_other_units_are_in_bounds_and_cuts_at_the_same_kind_of_place() -> None:
    text = prose(300_000, paragraph=(1, 3))
    measure = Words(text)
    ends = chunk_ends(text, 1400, 1200, measure=measure)
    sizes = [measure.units(b) - measure.units(a) for a, b in pairwise([0, *ends])]
    assert all(1200 <= size <= 1400 for size in sizes), sizes
    assert all(text[:end].endswith("\n\n") for end in ends[:-1])


@settings(deadline=None)
@example("0\r0\r", 2, 0, Words)
@given(TEXTS, st.integers(2, 40), st.integers(0, 20), st.sampled_from([None, Words, Thirds]))
def test_an_overlap_is_the_end_of_the_chunk_before_and_no_longer_than_asked(
    text: str, target: int, overlap: int, unit: type[Words] | type[Thirds] | None
) -> None:
    measure: Measure = unit(text) if unit else CHARACTERS
    ends = chunk_ends(text, target, 1, measure=measure)
    starts = overlap_starts(text, ends, overlap, measure=measure)
    assert len(starts) == len(ends)
    for number, start in enumerate(starts):
        own = ends[number - 1] if number else 0
        before = ends[number - 2] if number > 1 else 0
        assert min(before, own) <= start <= own
        assert measure.units(own) - measure.units(start) <= overlap


def test_an_overlap_begins_with_a_sentence_else_with_a_word_else_with_a_character() -> None:
    text = prose(100_000)
    ends = chunk_ends(text, 7000, 6000)
    for start, end in zip(overlap_starts(text, ends, 600)[1:], ends, strict=False):
        assert text[start].isupper()
        assert re.search(r"[.!?]\s+\Z", text[:start])
        assert 300 <= end - start <= 600
    text = "the sea and the fog and the bell " * 3000
    ends = chunk_ends(text, 7000, 6000)
    for start, end in zip(overlap_starts(text, ends, 600)[1:], ends, strict=False):
        assert text[start - 1] == " "
        assert 590 <= end - start <= 600
    text = "e\u0301" * 10_000
    ends = chunk_ends(text, 7000, 6000)
    for start, end in zip(overlap_starts(text, ends, 601)[1:], ends, strict=False):
        assert text[start] == "e"
        assert end - start == 600


def test_an_overlap_that_finds_no_place_repeats_nothing() -> None:
    text = "e" + "\u0301" * 50
    ends = chunk_ends(text, 20, 17)
    assert overlap_starts(text, ends, 3) == [0, *ends[:-1]]


def test_without_an_overlap_chunks_begin_where_the_one_before_ends() -> None:
    text = prose(50_000)
    ends = chunk_ends(text, 7000, 6000)
    assert overlap_starts(text, ends, 0) == [0, *ends[:-1]]
    assert overlap_starts("", [], 100) == []


@pytest.mark.parametrize(
    ("target", "minimum", "sentence"),
    [
        (7000, 8000, r"minimum chunk size \(8000\) is above the chunk size \(7000\)"),
        (7000, 0, "cannot have a size of 0 characters"),
        (-1, -1, "cannot have a size of -1 characters"),
    ],
)
def test_sizes_that_make_no_sense_are_refused(target: int, minimum: int, sentence: str) -> None:
    with pytest.raises(PipelineError, match=sentence):
        chunk_text("text", target, minimum)


def test_real_books_are_cut_whole_and_to_size(shared_books: Path) -> None:
    below = total = 0
    for name in ("84.txt", "345-modern.txt", "768-old_wuthr10.txt", "1322.txt", "2229.txt"):
        text = (shared_books / name).read_bytes().decode("utf-8", "replace")
        chunks = chunk_text(text)
        assert "".join(chunks) == text
        below += sum(len(chunk) < 6000 for chunk in chunks)
        total += len(chunks)
    assert total > 300
    assert below < 0.02 * total

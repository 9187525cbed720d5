"""Passages: what is held out and in the training text is found, in whatever dress."""

import random
from pathlib import Path

from pipeline.corpus.passages import (
    find_contamination,
    load_passages,
    sample_passages,
    save_passages,
)
from tests.corpus.test_chunking import prose

VOWELS, CONSONANTS = "aeiou", "bcdfghklmnprstvw"


def book(seed: int, words: int = 20_000) -> str:
    """Prose of invented words, so that no two books have a line in common."""
    rng = random.Random(seed)
    syllables = [c + v for c in CONSONANTS for v in VOWELS]
    lines = []
    while words > 0:
        words -= 16
        line = ["".join(rng.choices(syllables, k=rng.randint(1, 4))) for _ in range(16)]
        lines.append(" ".join(line).capitalize() + ".")
    return "\n\n".join(lines)


def share(one: str, other: str) -> float:
    """The share of the sampled passages of `one` that `other` has."""
    mine, others = sample_passages(one.encode()), sample_passages(other.encode())
    assert len(mine) > 20
    return len(set(mine.tolist()) & set(others.tolist())) / len(mine)


def test_a_text_shares_all_with_itself_and_nothing_with_another() -> None:
    assert share(book(1), book(1)) == 1
    assert share(book(1), book(2)) == 0


def test_line_ends_quotes_dashes_case_and_italics_make_little_difference() -> None:
    one = book(1)
    assert share(one.upper(), one) == 1
    assert share(one.replace(" ", "\n"), one) == 1
    assert share(one.replace("\n\n", "\n"), one) > 0.8
    rng = random.Random(0)
    marks = ["“{}”", "_{}_", "{}—", "‘{},’", "{}"]
    dressed = " ".join(rng.choice(marks).format(w) if rng.random() < 0.1 else w
                       for w in one.split(" "))  # fmt: skip
    assert share(dressed, one) > 0.7


def test_letters_beyond_ascii_are_letters() -> None:
    alphabet = "абвгдежзиклмнопрстуфхцчшщыьэюя"
    rng = random.Random(0)
    words = ["".join(rng.choices(alphabet, k=rng.randint(2, 9))) for _ in range(30_000)]
    assert share(" ".join(words), " ".join(words)) == 1
    assert share(" ".join(words[:15_000]), " ".join(words[15_000:])) == 0


def test_one_passage_in_one_or_two_thousand_is_sampled() -> None:
    text = book(3, 100_000).encode()
    assert len(text) / 3000 < len(sample_passages(text)) < len(text) / 400


def test_what_is_shorter_than_a_passage_has_none() -> None:
    for text in (b"", b"Short.", b"-" * 5000, b" \n" * 5000):
        assert len(sample_passages(text)) == 0


def test_passages_are_kept_in_a_file_and_what_is_no_such_file_is_none(tmp_path: Path) -> None:
    samples = [sample_passages(book(n).encode()) for n in range(3)]
    samples.insert(1, sample_passages(b""))
    path = tmp_path / "kept.npz"
    save_passages(path, samples)
    kept = load_passages(path)
    assert kept is not None
    assert [sample.tolist() for sample in kept] == [sample.tolist() for sample in samples]
    assert load_passages(tmp_path / "none.npz") is None
    path.write_bytes(path.read_bytes()[:-40])
    assert load_passages(path) is None


def test_a_held_out_document_in_the_training_text_is_named_with_the_other() -> None:
    half = book(7)
    training = [(str(n), book(n)) for n in range(4)] + [("omnibus", book(5) + half + book(6))]
    held_out = [("new", book(8)), ("half", half + book(9)), ("edition", prose(3000) + book(2))]
    found = find_contamination(
        ((name, sample_passages(text.encode())) for name, text in held_out),
        ((name, sample_passages(text.encode())) for name, text in training),
    )
    assert [(leak.document_id, leak.other) for leak in found.leaks] == [
        ("edition", "2"),
        ("half", "omnibus"),
    ]
    assert found.leaks[0].share > 0.95
    assert 0.4 < found.leaks[1].share < 0.6
    assert found.as_json()["share"] == round(found.in_training / found.passages, 5)


def test_nothing_held_out_is_no_contamination() -> None:
    some = [("a", sample_passages(book(1).encode()))]
    assert find_contamination([], some).as_json()["share"] == 0
    assert find_contamination(some, []).in_training == 0
    assert find_contamination([("a", sample_passages(b""))], some).passages == 0

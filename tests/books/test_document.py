"""The laws of cleaning, on every file: the sample library always, real files if present."""

import functools
import itertools
import re
import time

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pipeline.books.cleaning import RULES
from pipeline.books.decoding import decode
from pipeline.books.document import NO_MARKERS, CleanDocument, Rejected, clean_document
from pipeline.books.mentions import find_mentions
from tests.books.corpus import SAMPLES, Truth, book_params, no_book_params, squeezed

WRAPPING = re.compile(
    r"project\s+gutenberg|gutenberg\.(?:org|net)|small print!|\be-?text\b|\[e-?book\s*#"
    r"|(?:start|end) of (?:the|this) project|readable by both humans|need your donations|pgdp\.net",
    re.I,
)
TALE = (
    "The rain had not left off when I came to the gate, and there was\n"
    "nobody in the road.  I knocked, and heard it go through the house.\n\n"
    "“Who is there?” said a voice, which I did not know, and which was\n"
    "in no hurry to be answered.\n"
)


@functools.cache
def cleaned(truth: Truth) -> CleanDocument:
    return clean_document(truth.path.read_bytes())


@pytest.mark.parametrize("truth", book_params)
def test_every_line_of_the_author_survives(truth: Truth) -> None:
    body = squeezed(cleaned(truth).text)
    assert truth.must_keep
    assert [line for line in truth.must_keep if squeezed(line) not in body] == []


@pytest.mark.parametrize("truth", book_params)
def test_nothing_of_the_wrapping_survives(truth: Truth) -> None:
    assert WRAPPING.findall(cleaned(truth).text) == []


@pytest.mark.parametrize("truth", book_params)
def test_no_letter_is_made_up_and_none_changes_its_place(truth: Truth) -> None:
    raw = iter(re.sub(r"[\W_]+", "", decode(truth.path.read_bytes()).text))
    assert all(letter in raw for letter in re.sub(r"[\W_]+", "", cleaned(truth).text))


@pytest.mark.parametrize("truth", book_params)
@pytest.mark.parametrize("unwrap", [True, False], ids=["unwrapped", "as wrapped"])
@pytest.mark.parametrize("strip", [True, False], ids=["stripped", "with header"])
def test_the_account_is_exact(truth: Truth, unwrap: bool, strip: bool) -> None:
    raw = truth.path.read_bytes()
    document = clean_document(raw, unwrap=unwrap, strip=strip)
    removed = sum(entry["characters"] for entry in document.removed.values())
    assert document.characters_in == len(decode(raw).text)
    assert document.characters_in - removed == document.characters_out == len(document.text)
    assert all(entry["count"] >= 0 for entry in document.removed.values())


@pytest.mark.parametrize("truth", book_params)
def test_the_text_has_the_form_that_the_next_stage_expects(truth: Truth) -> None:
    text = cleaned(truth).text
    assert text.endswith("\n") and not text.endswith("\n\n") and not text.startswith("\n")
    assert "\n\n\n" not in text and "\r" not in text and "\t" not in text and "\ufeff" not in text
    assert not re.search(r" \n", text)


@pytest.mark.parametrize("truth", book_params)
def test_cleaning_a_clean_text_changes_nothing(truth: Truth) -> None:
    document = cleaned(truth)
    again = clean_document(document.text.encode())
    assert again.text == document.text
    assert again.warnings == [NO_MARKERS]


@pytest.mark.parametrize("truth", no_book_params)
def test_files_that_are_no_books_are_rejected(truth: Truth) -> None:
    with pytest.raises(Rejected, match=r"web page|directory listing"):
        clean_document(truth.path.read_bytes())


@pytest.mark.parametrize("truth", [pytest.param(t, id=t.path.name) for t in SAMPLES])
def test_the_header_tells_title_author_and_language(truth: Truth) -> None:
    document = cleaned(truth)
    assert document.title and document.author
    assert document.language in ("en", None)
    words = set(re.findall(r"\w+", (document.title or "").lower()))
    assert words & set(truth.path.stem.split("-"))


def test_a_text_of_ones_own_passes_whole_with_a_warning() -> None:
    document = clean_document(TALE.encode())
    assert squeezed(document.text) == squeezed(TALE)
    assert document.warnings == [NO_MARKERS]
    assert document.text.count("\n") == 3  # two paragraphs and the empty line between them


def test_without_unwrapping_lines_stay_as_they_are() -> None:
    document = clean_document(TALE.encode(), unwrap=False, rules=())
    assert document.text == TALE


def test_paragraphs_of_a_double_spaced_text_are_told_by_its_wider_gaps() -> None:
    paragraph = [
        "The rain had not left off when I came to the gate, and there was",
        "nobody in the road.  I knocked, and heard it go through the house",
        "and through the yard behind it, where they kept the dogs at night.",
    ]
    raw = "\n\n\n\n".join(["\n\n".join(paragraph)] * 30)
    document = clean_document(raw.encode(), rules=())
    assert document.text == "\n\n".join([" ".join(" ".join(paragraph).split())] * 30) + "\n"
    removed = sum(entry["characters"] for entry in document.removed.values())
    assert document.characters_in - removed == document.characters_out
    as_wrapped = clean_document(raw.encode(), rules=(), unwrap=False)
    assert as_wrapped.text == "\n\n".join(paragraph * 30) + "\n"


def test_mentions_are_those_of_the_clean_text() -> None:
    raw = f"{TALE}\nIt is on gutenberg.org, they say.\n".replace("\n", "\r\n").encode()
    document = clean_document(raw, strip=False)
    assert document.mentions == find_mentions(document.text)
    assert [mention.line for mention in document.mentions] == [5]


@pytest.mark.parametrize("ends", ["\n", "\r\n"])
def test_a_text_full_of_times_and_control_characters_here_and_there_is_a_text(ends: str) -> None:
    text = f"{TALE}\n12:30 We left.\x07\n12:40 We came.\n".replace("\n", ends) * 20
    assert clean_document(text.encode()).text.startswith("The rain")
    with pytest.raises(Rejected, match="not text"):
        clean_document((text + "\x81\x07" * 100).encode())


def test_rules_can_be_left_out() -> None:
    raw = b"A _word_ here.[1]\n\n[Illustration]\n\nAnd an end."
    without = [rule for rule in RULES if rule.name not in ("italics", "illustrations")]
    assert (
        clean_document(raw, rules=without).text
        == "A _word_ here.\n\n[Illustration]\n\nAnd an end.\n"
    )


@pytest.mark.parametrize(
    ("raw", "reason"),
    [
        (b"", "empty"),
        (b" \r\n\x1a\x1a", "empty"),
        (b"\x00\x01\x02\xff" * 500, "not text"),
        (b"%PDF-1.4 something", "PDF"),
        (b"PK\x03\x04 something", "zip"),
        (b"<html><body><p>A page about a book</p></body></html>", "HTML"),
        (b"Index of /gutenberg/etext96\n\nParent directory\n", "listing"),
        (b"1234 5678 ... 90", "no words"),
        (b"I read it on Project Gutenberg, which I like.\n" * 9, "neither header nor footer"),
    ],
)
def test_what_is_no_book_is_rejected_with_its_reason(raw: bytes, reason: str) -> None:
    with pytest.raises(Rejected, match=reason) as caught:
        clean_document(raw)
    assert reason in caught.value.reason


def test_a_rejection_says_how_long_the_file_is() -> None:
    lost = "Ich fand es beim Project Gutenberg, für nichts.\r\n" * 9
    with pytest.raises(Rejected) as caught:
        clean_document(lost.encode("latin-1"))
    assert caught.value.characters_in == len(lost.replace("\r\n", "\n"))
    with pytest.raises(Rejected) as caught:
        clean_document(b"%PDF-1.4 \xff\xff")
    assert caught.value.characters_in == 11


def test_every_step_can_be_watched_and_the_last_ends_with_the_text() -> None:
    steps: list[tuple[str, str, str]] = []
    raw = "One  _word_ here. [1]\n\n\n\nAnd an\nend.   \n"
    document = clean_document(raw.encode(), watch=lambda *step: steps.append(step))
    assert {name for name, _, _ in steps} == set(document.removed)
    assert steps[0][1] == raw and steps[-1][2] == document.text
    for (_, _, after), (_, before, _) in itertools.pairwise(steps):
        assert after == before


@given(st.binary(max_size=2000))
@settings(deadline=None, max_examples=200)
def test_any_bytes_are_cleaned_or_rejected(raw: bytes) -> None:
    try:
        document = clean_document(raw)
    except Rejected as rejection:
        assert rejection.reason
        return
    assert document.text.strip()
    document.text.encode()


PIECES = st.sampled_from(
    [
        *("word", "Word", "_it_", "[1]", "{12}", "[Illustration: a", "]", "***", "-", "--"),
        *("\n", "\n\n", "  ", "\t", "\u00a0", "â€™", "CONTENTS", "I. One", "Produced by me"),
        *("Project Gutenberg", "etext", "Transcriber's Note:"),
        *("THE SMALL PRINT!", "*END*THE SMALL PRINT!*"),
        "*** START OF THE PROJECT GUTENBERG EBOOK X ***",
        "*** END OF THE PROJECT GUTENBERG EBOOK X ***",
    ]
)


@given(st.lists(PIECES, max_size=120).map(" ".join))
@settings(deadline=None, max_examples=300)
def test_any_muddle_of_markers_keeps_the_account(text: str) -> None:
    try:
        document = clean_document(text.encode())
    except Rejected:
        return
    removed = sum(entry["characters"] for entry in document.removed.values())
    assert document.characters_in - removed == len(document.text)
    assert "*** START OF" not in document.text


SIZE = 300_000
END_OF_ONE = "End of the Project Gutenberg Etext of B\n\n"
HOSTILE = {
    "asterisks": "*" * SIZE,
    "open brackets": "[" * SIZE,
    "closed brackets": "]" * SIZE,
    "spaces": " " * SIZE + "a",
    "lines of spaces": " \n" * SIZE + "a",
    "underscores": "_a" * SIZE,
    "hyphens": "word-\n" * (SIZE // 6),
    "note marks": "[1]" * (SIZE // 3),
    "page numbers": "a[Pg 1] " * (SIZE // 8),
    "unclosed illustrations": "[Illustration: " * (SIZE // 15),
    "names of the project": "project gutenberg " * (SIZE // 18),
    "START markers": "*** START OF THE PROJECT GUTENBERG EBOOK\n" * (SIZE // 40),
    "END markers": "*** END OF THE PROJECT GUTENBERG EBOOK\n\n" * (SIZE // 40),
    "headers of further texts": END_OF_ONE + "The Project Gutenberg Etext of A\n\n" * (SIZE // 35),
    "headers and footers": (END_OF_ONE + "The Project Gutenberg Etext of A\n\n") * (SIZE // 80),
    "last lines": "*" * SIZE + "\n" + " " * SIZE + "*",
    "double brackets": "\n<<" * (SIZE // 3) + "project gutenberg " * (SIZE // 18) + ">>",
    "bookmarks": "ETEXT EDITOR'S BOOKMARKS:\n\na\nb\nc\n\n" * (SIZE // 33),
    "small print": "*END*THE SMALL PRINT!*\n\n" * (SIZE // 24),
    "notes": "Transcriber's Note: so\n\n" * (SIZE // 24),
    "lists": "CONTENTS\n\nI. a\nII. b\nIII. c\n\n" * (SIZE // 30),
    "bracketed etexts": "[etext #1\n\n" * (SIZE // 11),
    "one long line": "word " * (SIZE // 5),
    "mojibake": "â€™" * (SIZE // 3),
}


@pytest.mark.parametrize("kind", HOSTILE)
def test_hostile_input_takes_no_longer_than_a_book(kind: str) -> None:
    header = "The Project Gutenberg EBook\n\n*** START OF THE PROJECT GUTENBERG EBOOK X ***\n\n"
    began = time.process_time()
    for text in (HOSTILE[kind], header + TALE * 5 + HOSTILE[kind] + TALE * 5):
        try:
            clean_document(text.encode())
        except Rejected:
            continue
    assert time.process_time() - began < 5

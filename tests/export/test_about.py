"""What a GGUF says of itself, out of texts that strangers wrote."""

from typing import Any

from hypothesis import given, settings
from hypothesis import strategies as st

from pipeline.export.about import LONGEST, MOST, about, clean, plain

ANYTHING = st.text(st.characters(codec=None, exclude_categories=()), max_size=700)


@settings(max_examples=80, deadline=None)
@given(ANYTHING)
def test_any_text_becomes_a_line_that_any_reader_can_show(text: str) -> None:
    line = plain(text)
    line.encode("utf-8")
    assert line.isprintable() and len(line) <= LONGEST
    assert line == line.strip() and plain(line) == line


def test_ordinary_texts_stay_as_they_are() -> None:
    for text in ('A "tiny" model', "{x} — “é” 猫", "Q&A: <b>100 %</b>", "a.b/c-d_e"):
        assert plain(text) == text
    assert plain("Line one\nline\ttwo\x00\ud800") == "Line one line two ?"
    assert plain(None) == plain(["a"]) == ""


def test_base_and_datasets_are_told_as_the_format_has_them() -> None:
    base = {
        "name": "org/Base-1B",
        "source": "Hugging Face Hub",
        "revision": "abc",
        "licence": "mit",
    }
    told = about(
        author="A. N. Other", licence="mit", base=base, tags=["books", "books"], languages=["en"],
        datasets=["me/my-books", {"name": "Letters\n", "url": "https://example.org", "x": 1}, "d"],
    )  # fmt: skip
    assert told == {
        "general.author": "A. N. Other",
        "general.license": "mit",
        "general.base_models": [
            {"name": "Base-1B", "version": "abc", "organization": "org",
             "repo_url": "https://huggingface.co/org/Base-1B"}
        ],
        "general.datasets": [
            {"name": "my-books", "organization": "me",
             "repo_url": "https://huggingface.co/datasets/me/my-books"},
            {"name": "Letters", "url": "https://example.org"},
            {"name": "d"},
        ],
        "general.tags": ["books"],
        "general.languages": ["en"],
    }  # fmt: skip
    assert about() == about(author="\x00", base={}, datasets=["\n", {}]) == {}


def test_lists_end_somewhere_and_cleaning_changes_nothing_twice() -> None:
    told = about(datasets=[{"name": f"Book {n}\x07"} for n in range(MOST + 50)])
    assert len(told["general.datasets"]) == MOST
    assert clean(told) == told
    raw: dict[str, Any] = {"general.author": "\n", "general.tags": ["a\x00b", ""], "n": 3}
    assert clean(raw) == {"general.tags": ["a b"], "n": 3}

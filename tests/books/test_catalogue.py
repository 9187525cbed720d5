"""Entries of the catalogue: what is a book, and where its plain text is."""

import json
from contextlib import suppress
from typing import Any
from urllib.parse import urlsplit

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pipeline.books.addresses import RequestFailed, host_of, web_address
from pipeline.books.catalogue import Book, as_book, text_urls


@pytest.mark.parametrize(
    ("formats", "found"),
    [
        ({"text/plain": "http://x/a", "text/plain; charset=utf-8": "http://x/b"},
         ["http://x/b", "http://x/a"]),
        ({"text/plain; charset=us-ascii": "http://x/a.zip", "text/plain": "http://x/b.txt"},
         ["http://x/b.txt", "http://x/a.zip"]),
        ({"text/plain; charset=iso-8859-1": "http://x/8", "text/plain; charset=us-ascii":
          "http://x/7"}, ["http://x/7", "http://x/8"]),
        ({"text/plain; charset=utf-8": "http://x/1-readme.txt"}, []),
        ({"text/plain": "http://x/a", "text/plain; charset=x": "http://x/a"}, ["http://x/a"]),
        ({"text/html": "http://x/a", "application/zip": "http://x/a.zip"}, []),
        ({"text/plain": "file:///etc/passwd"}, []),
        ({"text/plain": None}, []),
        ({"text/plain": "http://[bad/2.txt", "text/plain; charset=x": "http://x/2"},
         ["http://x/2"]),
        ({"text/plain": "http://\u2100.com/"}, []),
        ({"text/plain": "http://exa mple/x"}, []),
        ({"text/plain": "http://x/a\r\nHost: y"}, []),
        ({"text/plain": "http:///a.txt"}, []),
        ({"text/plain": "http://x:port/a.txt"}, []),
        ({"text/plain": "http://x/a\ud800"}, []),
        (None, []),
    ],
)  # fmt: skip
def test_plain_texts_are_tried_from_the_best_down(formats: Any, found: list[str]) -> None:
    assert text_urls(formats) == tuple(found)


@pytest.mark.parametrize(
    "entry",
    [None, [], {}, {"id": "1"}, {"id": 1}, {"id": 1, "formats": []},
     {"id": True, "formats": {"text/plain": "http://x/1"}},
     {"id": -1, "formats": {"text/plain": "http://x/1"}}],
)  # fmt: skip
def test_what_is_no_book_entry_is_passed_over(entry: Any) -> None:
    assert as_book(json.loads(json.dumps(entry))) is None


PIECES = st.sampled_from(["x", "/", ":", "@", "[", "]", "%", "?", "#", "\\", "..", "1", "\u2100"])


@settings(deadline=None, max_examples=300)
@given(st.lists(PIECES | st.characters(), max_size=9).map("".join))
def test_whatever_address_is_taken_can_be_asked_or_is_refused_in_a_sentence(rest: str) -> None:
    for url in text_urls({"text/plain": f"http://{rest}"}):
        assert urlsplit(url).hostname
        with suppress(RequestFailed):
            assert host_of(web_address(url))


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(),
    lambda inner: st.lists(inner) | st.dictionaries(st.text(), inner),
    max_leaves=5,
)


@settings(deadline=None)
@given(st.dictionaries(st.sampled_from(["title", "authors", "languages", "subjects"]), JSON))
def test_whatever_an_entry_says_it_is_read(fields: dict[str, Any]) -> None:
    book = as_book({**fields, "id": 7, "formats": {"text/plain": "http://x/7"}})
    assert book is not None
    assert isinstance(book.title, str)
    assert all(isinstance(word, str) for word in book.authors + book.languages + book.subjects)


def test_a_sparse_entry_is_a_book() -> None:
    book = as_book({"id": 1, "formats": {"text/plain": "http://x/1.txt"}, "authors": [None]})
    assert book == Book(1, "", [], [], [], None, ("http://x/1.txt",))
    assert book.text_url == "http://x/1.txt"

"""Reading bytes as text: the mark, else UTF-8, else Windows-1252."""

import codecs

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pipeline.books.decoding import decode

TEXT = "Zoöphagous — “naïve” café, Übung, Ærø, 1 £."


@pytest.mark.parametrize(
    ("raw", "encoding"),
    [
        (TEXT.encode(), "utf-8"),
        (codecs.BOM_UTF8 + TEXT.encode(), "utf-8"),
        (TEXT.encode("windows-1252"), "windows-1252"),
        (codecs.BOM_UTF16_LE + TEXT.encode("utf-16-le"), "utf-16-le"),
        (codecs.BOM_UTF16_BE + TEXT.encode("utf-16-be"), "utf-16-be"),
        (codecs.BOM_UTF32_LE + TEXT.encode("utf-32-le"), "utf-32-le"),
    ],
)
def test_the_bytes_tell_the_encoding(raw: bytes, encoding: str) -> None:
    assert decode(raw).text == TEXT
    assert decode(raw).encoding == encoding


def test_latin_1_is_read_as_its_superset() -> None:
    assert decode("déjà vu".encode("latin-1")).text == "déjà vu"


@pytest.mark.parametrize("end", ["\r\n", "\r", "\n", "\r\r\n", "\u2028"])
def test_every_line_end_becomes_one_newline(end: str) -> None:
    assert decode(f"one{end}two{end}".encode()).text == "one\ntwo\n"
    assert decode(f"one{end}{end}two".encode()).text.count("\n") == 2 or end == "\r"


def test_utf_8_that_was_cut_off_or_has_a_stray_byte_stays_utf_8() -> None:
    long = (TEXT * 20).encode()
    assert decode(long[:-3] + b"\xe2\x80").text.startswith(TEXT * 19)
    assert decode(long + b" \xe9t\xe9").text == TEXT * 20 + " été"


def test_bytes_that_windows_1252_leaves_undefined_are_read_all_the_same() -> None:
    assert decode(b"caf\xe9 \x81\x8d").text == "café \x81\x8d"


@given(st.binary())
def test_any_bytes_are_read(raw: bytes) -> None:
    text = decode(raw).text
    assert "\r" not in text
    text.encode()


@given(st.text(st.characters(exclude_categories=["Cs"], exclude_characters="\r\u2028\u2029\ufeff")))
def test_utf_8_comes_back_as_it_was(text: str) -> None:
    assert decode(text.encode()).text == text

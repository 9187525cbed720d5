"""The encoding of web pages, whatever they say of themselves."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pipeline.corpus.extract import extract_html
from pipeline.corpus.html_encoding import decode_html


@pytest.mark.parametrize(
    ("head", "encoding"),
    [
        ("", "utf-8"), ("", "windows-1252"), ("", "utf-8-sig"), ("", "utf-16"), ("", "utf-16-le"),
        ("<meta charset=iso-8859-1>", "windows-1252"),
        ("<meta charset=iso-8859-1>", "utf-8"),
        ('<meta http-equiv="Content-Type" content="text/html; charset=iso-8859-2">', "iso-8859-2"),
        ('<?xml version="1.0" encoding="macintosh"?>', "mac-roman"),
        ('<meta charset="utf-16">', "utf-8"),
        ('<meta charset="rot13">', "utf-8"),
        ('<meta charset="unicode_escape">', "windows-1252"),
        ('<meta charset="no-such">', "utf-8"),
    ],
)  # fmt: skip
def test_the_encoding_is_found(head: str, encoding: str) -> None:
    page = f"<html>{head}<p>Größe, Ärger, \\n: né</p>"
    assert extract_html(page.encode(encoding), "page.html") == "Größe, Ärger, \\n: né"


def test_a_page_in_japanese_of_old_is_read() -> None:
    for encoding in ("shift_jis", "iso-2022-jp", "euc-jp"):
        page = f"<meta charset={encoding}><p>吾輩は猫である</p>"
        assert extract_html(page.encode(encoding), "page.html") == "吾輩は猫である"


@given(st.binary(max_size=200))
def test_any_bytes_are_decoded(data: bytes) -> None:
    decode_html(data)

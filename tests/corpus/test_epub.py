"""Text out of EPUBs: all of the book, in the order of its spine, and nothing from elsewhere."""

import html
import io
import re
import zipfile
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pipeline.corpus import epub
from pipeline.corpus.epub import extract_epub
from pipeline.corpus.extract import Unreadable
from pipeline.corpus.page_facts import Extracted

WORD = st.text("abcdefghij&<>äß“漢", min_size=1, max_size=8)
PLAIN = st.lists(WORD, min_size=1, max_size=8).map(lambda words: html.escape("\n ".join(words)))
CONTAINER = (
    '<container xmlns="urn:oasis:names:tc:opendocument:xmlns:container"><rootfiles>'
    '<rootfile full-path="OEBPS/book.opf" media-type="application/oebps-package+xml"/>'
    "</rootfiles></container>"
)
METADATA = """<dc:title> The Third
 Tide </dc:title><dc:title>Second title</dc:title>
<dc:creator id="a">A. N. Other</dc:creator><dc:creator opf:role="trl">T. Ranslator</dc:creator>
<dc:creator id="e">E. Ditor</dc:creator><meta refines="#e" property="role">edt</meta>
<dc:language>en</dc:language><dc:rights>Public domain in the USA.</dc:rights>"""
NAV = "<html><body><h1>Contents</h1><nav><ol><li><a href='1.xhtml'>I</a></li></ol></nav></body>"


def page(text: str) -> str:
    return f'<html xmlns="http://www.w3.org/1999/xhtml"><head/><body>{text}</body></html>'


def opf(items: list[tuple[str, str]], metadata: str = METADATA, guide: str = "") -> str:
    """`items`: path, and attributes of either the item ("properties=...") or the itemref."""
    manifest = spine = ""
    for number, (path, attribute) in enumerate(items):
        item, ref = (attribute, "") if attribute.startswith("prop") else ("", attribute)
        manifest += (
            f'<item id="i{number}" href="{path}" media-type="application/xhtml+xml" {item}/>'
        )
        spine += f'<itemref idref="i{number}" {ref}/>'
    return (
        '<?xml version="1.0"?><package xmlns="http://www.idpf.org/2007/opf" '
        'xmlns:dc="http://purl.org/dc/elements/1.1/" xmlns:opf="http://www.idpf.org/2007/opf">'
        f"<metadata>{metadata}</metadata><manifest>{manifest}</manifest><spine>{spine}</spine>"
        f"<guide>{guide}</guide></package>"
    )


def make(package: str | None, files: dict[str, Any]) -> bytes:
    file = io.BytesIO()
    with zipfile.ZipFile(file, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("mimetype", "application/epub+zip")
        if package is not None:
            archive.writestr("META-INF/container.xml", CONTAINER)
            archive.writestr("OEBPS/book.opf", package)
        for name, data in files.items():
            archive.writestr(name, data)
    return file.getvalue()


def test_a_book_is_read_in_the_order_of_its_spine_with_its_particulars() -> None:
    package = opf([
        ("cover.xhtml", 'linear="no"'), ("nav.xhtml", 'properties="nav"'),
        ("notes.xhtml", 'linear="no"'),
        ("text/2.xhtml", ""), ("text/1%20a.xhtml", ""), ("text/2.xhtml", ""),
    ])  # fmt: skip
    files = {
        "OEBPS/cover.xhtml": page("<img src='c.jpg' alt='Cover'/>"),
        "OEBPS/nav.xhtml": NAV,
        "OEBPS/notes.xhtml": page("<p>A note.</p>"),
        "OEBPS/text/1 a.xhtml": page("<h2>I</h2><p>The sea.</p>"),
        "OEBPS/text/2.xhtml": page(
            "<p>Preface &#8212; &nbsp;short.<span epub:type='pagebreak'>7</span></p>"
        ),
        "OEBPS/unused.xhtml": page("<p>Unused.</p>"),
    }
    book = Extracted(
        "Preface — short.\n\nI\n\nThe sea.\n\nA note.",
        ("The Third Tide",), ("A. N. Other",), "en", "Public domain in the USA.",
    )  # fmt: skip
    data = make(package, files)
    assert extract_epub(data, "tide.epub") == book
    assert extract_epub(io.BytesIO(data), "tide.epub") == book


def test_a_book_may_say_nothing_of_itself() -> None:
    book = extract_epub(make(opf([("1.xhtml", "")], ""), {"OEBPS/1.xhtml": page("x")}), "x.epub")
    assert book == Extracted("x")


def test_a_page_of_contents_is_left_out_unless_the_book_is_in_it() -> None:
    links = "".join(f"<p><a href='1.xhtml#{n}'>Chapter {n}</a></p>" for n in range(50))
    guide = '<reference type="toc" href="toc.xhtml#top"/>'
    package = opf([("toc.xhtml", ""), ("1.xhtml", "")], guide=guide)
    one = {"OEBPS/1.xhtml": page("The text.")}
    assert (
        extract_epub(make(package, {"OEBPS/toc.xhtml": page(links), **one}), "x").text
        == "The text."
    )
    whole = page(links + "<p>The whole book.</p>" * 500)
    assert (
        "The whole book."
        in extract_epub(make(package, {"OEBPS/toc.xhtml": whole, **one}), "x").text
    )


def test_missing_chapters_are_told() -> None:
    package = opf(
        [("1.xhtml", ""), ("2.xhtml", ""), ("../../../etc/passwd", ""), ("file:///x", "")]
    )
    book = extract_epub(
        make(package, {"OEBPS/1.xhtml": page("one"), "../etc/passwd": "root"}), "x.epub"
    )
    assert (book.text, book.missing) == ("one", ("OEBPS/2.xhtml",))


@settings(max_examples=30, deadline=None)
@given(st.lists(st.lists(PLAIN, max_size=4), min_size=1, max_size=5))
def test_every_word_of_every_chapter_comes_out_in_order(chapters: list[list[str]]) -> None:
    package = opf([(f"{n}.xhtml", "") for n in range(len(chapters))])
    pages = [page("".join(f"<p>{text}</p>" for text in chapter)) for chapter in chapters]
    data = make(package, {f"OEBPS/{n}.xhtml": text for n, text in enumerate(pages)})
    words = [
        word for chapter in chapters for text in chapter for word in html.unescape(text).split()
    ]
    if words:
        assert extract_epub(data, "x.epub").text.split() == words
    else:
        with pytest.raises(Unreadable, match="no text"):
            extract_epub(data, "x.epub")


def encryption(algorithm: str) -> str:
    return (
        '<encryption xmlns="urn:oasis:names:tc:opendocument:xmlns:container" '
        'xmlns:enc="http://www.w3.org/2001/04/xmlenc#"><enc:EncryptedData>'
        f'<enc:EncryptionMethod Algorithm="{algorithm}"/></enc:EncryptedData></encryption>'
    )


ONE = opf([("1.xhtml", "")])


def one_with(name: str, data: str | bytes) -> bytes:
    return make(ONE, {"OEBPS/1.xhtml": page("Text."), name: data})


def test_scrambled_fonts_keep_nobody_from_reading() -> None:
    data = one_with("META-INF/encryption.xml", encryption("http://www.idpf.org/2008/embedding"))
    assert extract_epub(data, "x.epub").text == "Text."


def encrypted() -> bytes:
    data = bytearray(one_with("x", b""))
    for match in re.finditer(rb"PK\x03\x04|PK\x01\x02", bytes(data)):
        data[match.start() + (6 if data[match.start() + 2] == 3 else 8)] |= 1
    return bytes(data)


AES = "http://www.w3.org/2001/04/xmlenc#aes128-cbc"
LAUGHS = (
    '<!DOCTYPE p [<!ENTITY a "ha"><!ENTITY b "&a;&a;&a;&a;&a;&a;&a;&a;&a;&a;">'
    '<!ENTITY x SYSTEM "file:///etc/passwd">]>'
)


@pytest.mark.parametrize(
    ("data", "reason"),
    [
        (b"", "no zip archive"),
        (b"PK\x03\x04 broken", "no zip archive"),
        (make(None, {"a.txt": "x"}), "it is no EPUB (no META-INF/container.xml)"),
        (make(None, {"META-INF/container.xml": CONTAINER}), "it is no EPUB (no OEBPS/book.opf)"),
        (make(None, {"META-INF/container.xml": "<x/>"}), "names no package"),
        (make(None, {"META-INF/container.xml": b""}), "META-INF/container.xml is no XML"),
        (make(opf([]), {}), "no spine"),
        (make(ONE, {}), "it holds no text: 1 of its 1 parts are missing"),
        (make(ONE, {"OEBPS/1.xhtml": page("<img/>")}), "it holds no text"),
        (one_with("META-INF/encryption.xml", encryption(AES)), "it is protected by DRM"),
        (one_with("META-INF/rights.xml", "<rights/>"), "it is protected by DRM"),
        (encrypted(), "it is protected by a password"),
    ],
)
def test_what_is_no_readable_epub_says_why(data: bytes, reason: str) -> None:
    with pytest.raises(Unreadable) as error:
        extract_epub(data, "x.epub")
    assert reason in error.value.reason
    assert error.value.name.startswith("x.epub")


def test_entities_bring_in_neither_files_nor_a_flood() -> None:
    package = LAUGHS + opf([("1.xhtml", "")], "<dc:title>&b;&x;T</dc:title>").partition("?>")[2]
    book = extract_epub(make(package, {"OEBPS/1.xhtml": LAUGHS + page("&b; &x; text")}), "x.epub")
    assert "root:" not in book.text + str(book.title) and "haha" not in book.text + str(book.title)
    assert book.text.endswith("text")


def test_what_unpacks_to_too_much_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    bomb = make(ONE, {"OEBPS/1.xhtml": b" " * (epub.LARGEST_MEMBER + 1)})
    assert len(bomb) < 100_000
    with pytest.raises(Unreadable, match=r"unpacks to too much \(OEBPS/1.xhtml\)"):
        extract_epub(bomb, "x.epub")
    monkeypatch.setattr(epub, "LARGEST_BOOK", 5000)
    many = make(opf([(f"{n}.xhtml", "") for n in range(5)]),
                {f"OEBPS/{n}.xhtml": page("x" * 1000) for n in range(5)})  # fmt: skip
    with pytest.raises(Unreadable, match="unpacks to too much"):
        extract_epub(many, "x.epub")


def test_a_broken_byte_is_noticed() -> None:
    data = bytearray(make(ONE, {"OEBPS/1.xhtml": page("The sea came in. " * 5)}))
    data[data.index(b"OEBPS/1.xhtml") + 40] ^= 0xFF
    with pytest.raises(Unreadable, match=r"it is damaged \(OEBPS/1.xhtml\)"):
        extract_epub(bytes(data), "x.epub")

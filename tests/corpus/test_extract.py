"""Text out of web pages and EPUBs: what a reader would read, all of it, and in order."""

import html
import io
import re
import zipfile
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pipeline.corpus import epub
from pipeline.corpus.epub import Extracted, extract_epub
from pipeline.corpus.extract import Unreadable, decode_html, extract_html

BOOK = """<?xml version="1.0" encoding="utf-8"?>
<!DOCTYPE html>
<html><head><meta charset="utf-8"><title>The Third Tide</title><style>p{margin:1em}</style></head>
<body>
<!-- a comment -->
<nav><a href="/">Home</a> <a href="/search">Search</a></nav>
<div class="figcenter"><img src="cover.jpg" alt="The cover of the book"></div>
<h1>THE THIRD TIDE<br><small>A Tale</small></h1>
<hr class="chap">
<h2>CONTENTS</h2>
<table><tr><td>I.</td><td><a href="#c1">The   Harbour</a></td><td>1</td></tr>
<tr><td>II.</td><td><p><a href="#c2">The Sea &amp; the Shore</a></p></td><td></td></tr></table>
<h2><span class="pagenum"><a id="Page_1">[Pg 1]</a></span>CHAPTER I<br>The Harbour</h2>
<p><img src="t.jpg" alt="T" class="dropcap">he harbour lay
still in the <i>morning</i>; no&nbsp;ship
had come since the Wed<span class="pagenum">[2]</span>nes&shy;day.<a href="#f"><sup>1</sup></a></p>
<p>Then he sang:</p>
<div class="poem"><div class="stanza"><span>The tide is in,<br></span>
<span>The tide is out,<br></span></div>
<div class="stanza"><span>And none can win<br></span></div></div>
<div class="poetry"><div class="stanza"><div class="verse indent0">New line one,</div>
<div class="verse indent2">New line two.</div></div>
<div class="stanza"><div class="verse indent0">New line three.</div></div></div>
<p>He wrote <q>a <b>list</b></q>:</p>
<ul><li>salt</li><li><p>bread</p></li><li>rope<ol start="3"><li>thick</li><li>thin</li></ol></li>
</ul>
<pre>
  A  drawing
     of   a boat
</pre>
<dl><dt>Tide</dt><dd>The sea's breath.</dd></dl>
<div class="footnote"><p><a href="#x"><span class="label">[1]</span></a> A note.</p></div>
<script>var x = "<p>no</p>";</script>
<?pagebreak?>After the instruction.
</body></html>"""

READ = """THE THIRD TIDE
A Tale

CONTENTS

I.  The Harbour  1
II.  The Sea & the Shore

CHAPTER I
The Harbour

The harbour lay still in the morning; no ship had come since the Wednesday.[1]

Then he sang:

The tide is in,
The tide is out,

And none can win

New line one,
New line two.

New line three.

He wrote “a list”:

- salt
- bread
- rope
3. thick
4. thin

  A  drawing
     of   a boat

Tide
The sea's breath.

[1] A note.

After the instruction."""


def test_a_book_reads_like_a_book() -> None:
    assert extract_html(BOOK.encode(), "book.html") == READ
    assert extract_html(BOOK.replace("\n", "\r\n").encode(), "book.html") == READ


@pytest.mark.parametrize(
    ("page", "text"),
    [
        ("<p>a &amp;lt;b&amp;gt; &lt;c&gt; AT&T &hearts;", "a &lt;b&gt; <c> AT&T ♥"),
        ("<table><tr><td>&amp;amp;</table>", "&amp;"),
        ("<p>one<p>two", "one\n\ntwo"),
        ("x<div>one<div>two</div>three</div>y", "x\n\none\n\ntwo\n\nthree\n\ny"),
        ("<ul><li>a</ul>tail", "- a\n\ntail"),
        ("<ul><li></li><li>b</ul>", "- b"),
        ("<ol><li value='7'>a<li value='²'>b<li value='9999999999'>c</ol>", "7. a\n8. b\n9. c"),
        ("<ol start='\x01'><li>a</ol><ol start='5'><li value='x'>a</ol>", "1. a\n\n1. a"),
        ("<p>a<br><br>b", "a\n\nb"),
        ("a<hr>b", "a\n\nb"),
        ("<pre>a<b>  b</b>\n\n c &amp;lt;</pre>x", "a  b\n\n c &lt;\n\nx"),
        ("<table><tr><td>a<td>b<tr><td>c</table>d", "a  b\nc\n\nd"),
        ("<table><tr><td><p>one<p>two<td><p>three<p>four</table>", "one\n\ntwo\n\nthree\n\nfour"),
        ("<p>a<!-- x -->b<?x y?>c<![CDATA[d]]>e", "abce"),
        ("<p style='display:none'>no</p><p hidden>no</p><p style='margin-top:9999em'>yes", "yes"),
        ("<body hidden><p>yes", "yes"),
        ("<p>E = mc<sup>2</sup>", "E = mc2"),
        ("<p>line one\nline two", "line one line two"),
        ("<ruby>漢<rp>(</rp><rt>かん</rt><rp>)</rp></ruby>字", "漢字"),
        ("<span class='pagenum'>he wrote this himself</span>", "he wrote this himself"),
        ("<script/>a<i/>b<a id='x'/>c", "abc"),
        ("just\ntext", "just text"),
        ("a<b\x01x>b</b\x01x><x:y{z}>c", "abc"),
        ("a\x01b&#2;c\x0cd\ufdd0e\ufffff&#xD800;", "abc def\ufffd"),
    ],
)
def test_details_are_read_as_meant(page: str, text: str) -> None:
    assert extract_html(page.encode(), "page.html") == text


def test_a_table_as_wide_as_a_page_is_not_padded() -> None:
    page = "<table><tr><td>" + "w" * 100_000 + "</td><td>x</td></tr>" + "<tr><td>a<td>b" * 2000
    assert len(extract_html(page.encode(), "page.html")) < 200_000


WORD = st.text("abcdefghij&<>äß“漢", min_size=1, max_size=8)
PLAIN = st.lists(WORD, min_size=1, max_size=8).map(lambda words: html.escape("\n ".join(words)))
WRAPPERS = (
    "<p>{}</p>", "<div>{}</div>", "<h2>{}</h2>", "<p>{}", "<ul><li>{}</li></ul>", "<pre>{}</pre>",
    "<blockquote><p>{}</p></blockquote>", "<table><tr><td>{}</td><td>{}</td></tr></table>",
    "{}<br>", "<p><i>{}</i> <font><b>{}</b></font> {}</p>", "<!-- c -->{}<?pi?> {}",
    "<table><tr><td><p>{}</p><p>{}</p></td><td>{}</td></tr></table>", "<dl><dt>{}<dd>{}</dl>",
    "<div class='stanza'><div class='verse'>{}</div> {}</div>", "<section>{}<p>{}</p> {}</section>",
)  # fmt: skip


@settings(max_examples=150, deadline=None)
@given(st.data())
def test_every_word_comes_out_in_order(data: st.DataObject) -> None:
    pieces, words = [], []
    for wrapper in data.draw(st.lists(st.sampled_from(WRAPPERS), min_size=1, max_size=12)):
        texts = [data.draw(PLAIN) for _ in range(wrapper.count("{}"))]
        pieces.append(wrapper.format(*texts))
        words += [word for text in texts for word in html.unescape(text).split()]
    text = extract_html(" ".join(pieces).encode(), "page.html")
    assert [word for word in text.split() if word != "-"] == words
    assert "\n\n\n" not in text and text == text.strip()


# --- encodings ------------------------------------------------------------------------------------


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


@pytest.mark.parametrize(
    ("data", "reason"),
    [
        (b"", "it holds no text"),
        (b"<html><head><title>x</title></head><body> <img src=a></body></html>", "holds no text"),
        (b"%PDF-1.4\0\0\1\2", "it is not text"),
        (b"<ul><li>" * 300 + b"x", "nested too deeply"),
        (b"<b>" * 100_000 + b"x", "nested too deeply"),
    ],
)
def test_what_cannot_be_read_says_why(data: bytes, reason: str) -> None:
    with pytest.raises(Unreadable) as error:
        extract_html(data, "page.html")
    assert reason in error.value.reason
    assert str(error.value).startswith("page.html: it")


def test_tags_that_are_never_closed_lose_nothing() -> None:
    for tag in ("font", "div", "b"):
        page = "".join(f"<p><{tag}>paragraph {n}" for n in range(300))
        text = extract_html(page.encode(), "page.html")
        assert text.split("\n\n") == [f"paragraph {n}" for n in range(300)]


# --- EPUB -----------------------------------------------------------------------------------------

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
        "The Third Tide", ("A. N. Other",), "en", "Public domain in the USA.",
    )  # fmt: skip
    data = make(package, files)
    assert extract_epub(data, "tide.epub") == book
    assert extract_epub(io.BytesIO(data), "tide.epub") == book


def test_a_book_may_say_nothing_of_itself() -> None:
    book = extract_epub(make(opf([("1.xhtml", "")], ""), {"OEBPS/1.xhtml": page("x")}), "x.epub")
    assert book == Extracted("x", None, (), None, None)


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

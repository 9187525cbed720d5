"""Text out of web pages: what a reader would read, all of it, and in order."""

import html

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pipeline.corpus.extract import Unreadable, extract_html, read_page

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
        ("<p>a<footer>© The site <a href='/'>Home</a></footer>", "a"),
        ("<div><p>a</div><div role='contentinfo'>© The site</div>", "a"),
        ("<article><p>a<footer>Written in 1890.</footer></article>", "a\n\nWritten in 1890."),
        ("<blockquote>a<footer>The keeper</footer></blockquote>", "a\n\nThe keeper"),
        ("<p>a<aside>Beside.</aside>", "a\n\nBeside."),
        ("a<b\x01x>b</b\x01x><x:y{z}>c", "abc"),
        ("a\x01b&#2;c\x0cd\ufdd0e\ufffff&#xD800;", "abc def\ufffd"),
    ],
)
def test_details_are_read_as_meant(page: str, text: str) -> None:
    assert extract_html(page.encode(), "page.html") == text


@pytest.mark.parametrize(
    ("head", "body", "titles"),
    [
        ("<title>The Lamp | Tales</title>", "", ("The Lamp | Tales",)),
        ("<title>The Lamp | Tales</title>", "<h1>The\n<i>Lamp</i></h1>",
         ("The Lamp", "The Lamp | Tales")),
        ("<title>Tales</title>", "<h1>I</h1><h1>II</h1>", ("Tales",)),
        ("<meta property='og:title' content='The Lamp'><meta name='DC.Title' content='A Lamp'>",
         "", ("A Lamp", "The Lamp")),
        ("<title>Untitled</title>", "", ()),
        (f"<title>{'x' * 400}</title>", "<h1>\x1b[2J a\u202eb</h1>", ("[2J ab",)),
    ],
)  # fmt: skip
def test_a_page_may_say_its_title_in_several_places(
    head: str, body: str, titles: tuple[str, ...]
) -> None:
    page = f"<html><head>{head}</head><body>{body}<p>It was dark.</body></html>"
    assert read_page(page.encode(), "page.html").titles == titles


@pytest.mark.parametrize(
    ("head", "authors"),
    [
        ("<meta name='author' content='Jane  Doe'>", ("Jane Doe",)),
        ("<meta name=citation_author content=A><meta name=citation_author content=B>", ("A", "B")),
        ("<meta property='article:author' content='https://example.org/jane'>", ()),
        ("", ()),
    ],
)
def test_the_authors_of_a_page_are_those_of_its_metadata(
    head: str, authors: tuple[str, ...]
) -> None:
    assert read_page(f"<head>{head}</head><p>Dark.".encode(), "page.html").authors == authors


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

"""Markdown becomes what a reader of the page would read."""

import re
from itertools import pairwise

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from pipeline.corpus.extract import Unreadable
from pipeline.corpus.markdown import extract_markdown, split_front_matter


def plain(text: str) -> str:
    return extract_markdown(text, "page.md").text


@pytest.mark.parametrize(
    ("markdown", "text"),
    [
        ("# The Lamp #\n\nIt was *dark*.", "The Lamp\n\nIt was dark."),
        ("The Lamp\n========\n\nDark.", "The Lamp\n\nDark."),
        ("A soft\nwrapped line.  \nA hard\\\nbreak.", "A soft wrapped line.\nA hard\nbreak."),
        ('The [old *keeper*](http://x.example "K") slept.', "The old keeper slept."),
        ("The [keeper][k] slept.\n\n[k]: http://x.example", "The keeper slept."),
        ("Above.\n\n![The pier](pier.png)\n\nBelow.", "Above.\n\nBelow."),
        ("> She said:\n> no.\n>\n> > Never.", "She said: no.\n\nNever."),
        ("- rope\n- oil\n\n1. one\n2. two", "- rope\n- oil\n\n1. one\n2. two"),
        ("Dusk.\n\n***\n\nDawn.\n\n- - -\n\nNoon.", "Dusk.\n\n* * *\n\nDawn.\n\n* * *\n\nNoon."),
        ("Look:\n\n```c\nint  a[2];\n\n  b();\n```", "Look:\n\nint  a[2];\n\n  b();"),
        ("| a | b |\n|---|--:|\n| 1 | 2 |", "a  b\n1  2"),
        ("Salt &amp; oil, `x < y`, 2 * 3, snake_case, \\*stars\\*.",
         "Salt & oil, x < y, 2 * 3, snake_case, *stars*."),
        ("<div><b>Raw</b> page<!-- hidden --></div>\n\n<script>no()</script>", "Raw page"),
        ("~~Gone~~ and here.", "Gone and here."),
        ("A list<object> was\n\nhere, and a <select> too.",
         "A list<object> was\n\nhere, and a <select> too."),
        ("<title>\nTales\n\nOf <b>old</b>.", "<title> Tales\n\nOf old."),
        ("<!-- never ended\n\nDark.", "<!-- never ended\n\nDark."),
        ("<select><option>a</option></select>Dark.", "Dark."),
    ],
)  # fmt: skip
def test_marks_go_and_words_stay(markdown: str, text: str) -> None:
    assert plain(markdown) == text


def test_notes_stay_where_they_stood_with_their_numbers_as_those_of_plain_texts() -> None:
    markdown = (
        "Dark[^1] and cold[^b].\n\n[^1]: Not *so*\ndark.\n\n    At noon.\n[^b]: Ibid.\n\n"
        "[^never-used]: Stays.\n\n    code = a[^1]\n\n`b[^1]` and more."
    )
    assert plain(markdown) == (
        "Dark[1] and cold[b].\n\n[1] Not so dark.\nAt noon.\n\n[b] Ibid.\n\n"
        "[never-used] Stays.\ncode = a[1]\n\nb[^1] and more."
    )


# --- front matter ---------------------------------------------------------------------------------


YAML = """---
title: 'The  Lamp'
author: [Jane Doe, {name: J. Roe}]
lang: en
license: CC-BY
---
"""
OTHER_NAMES = """---  \ntitle: The Lamp
authors:
- Jane Doe
- J. Roe
language: en
rights: CC-BY
...
"""
TOML = """+++
title = "The Lamp"
author = ["Jane Doe", "J. Roe"]
lang = "en"
licence = "CC-BY"
+++
"""


@pytest.mark.parametrize("front_matter", [YAML, OTHER_NAMES, TOML])
def test_front_matter_says_what_the_text_is(front_matter: str) -> None:
    page = extract_markdown(f"{front_matter}\nIt was dark.\n\n---\n\nIt was late.", "page.md")
    assert page.text == "It was dark.\n\n* * *\n\nIt was late."
    assert (page.title, page.authors) == ("The Lamp", ("Jane Doe", "J. Roe"))
    assert (page.language, page.rights) == ("en", "CC-BY")


def test_a_page_without_front_matter_is_called_as_its_only_large_heading() -> None:
    assert extract_markdown("# The *Lamp*\n\nDark.\n\n## I", "page.md").title == "The Lamp"
    assert extract_markdown("# I\n\nDark.\n\n# II\n\nLate.", "page.md").title is None
    assert extract_markdown("---\ntitle: A\n---\n# B", "page.md").title == "A"


def test_the_lines_that_pandoc_reads_a_title_from() -> None:
    page = extract_markdown("% The Lamp\n% Jane Doe; J. Roe\n\nIt was dark.", "page.md")
    assert (page.text, page.title, page.authors) == (
        "It was dark.", "The Lamp", ("Jane Doe", "J. Roe"),
    )  # fmt: skip


@pytest.mark.parametrize(
    "text",
    [
        "---\n\nIt was dark.\n\n---\n\nIt was late.",  # scene breaks
        "---\nIt was dark.\n---\n",
        "---\ntitle: [never closed\n---\n",
        "---\ntitle: The Lamp\n",
        "--- \n",
        "+++\nno toml\n+++\n",
        "100 % dark",
    ],
)
def test_what_is_no_front_matter_is_text(text: str) -> None:
    assert split_front_matter(text) == ({}, text)


def test_front_matter_may_say_anything() -> None:
    names = "abcdefghi"
    bomb = [f"{b}: &{b} [*{a}, *{a}]" for a, b in pairwise(names)]
    about = [
        "a: &a [x, x]", *bomb, "title: *i", "author: {name: [3]}", r'rights: "a\nb\u0007"',
        f"lang: {'x' * 400}",
    ]  # fmt: skip
    merged = [f"{b}: &{b}2 {{<<: [{', '.join([f'*{a}2'] * 10)}]}}" for a, b in pairwise(names)]
    odd = ["n: !!int ''", "t: !!timestamp x", "d: 2020-99-99", "b: !!bool maybe"]
    about += ["a: &a2 {x: y}", *merged, *odd]
    page = extract_markdown("\n".join(["---", *about, "---", "Dark."]), "page.md")
    assert (page.text, page.title, page.authors, page.language) == ("Dark.", None, (), None)
    assert page.rights == "a b"


# --- whatever stands in it ------------------------------------------------------------------------


@pytest.mark.parametrize("text", ["", " \n\n", "---\ntitle: x\n---\n", "![](a.png)", "<!-- x -->"])
def test_a_page_without_text_is_refused(text: str) -> None:
    with pytest.raises(Unreadable, match="holds no text"):
        plain(text)


WORDS = st.lists(st.text("abcdefgh", min_size=1, max_size=8), min_size=1, max_size=6)
BLOCKS = st.sampled_from(
    ["{}", "# {}", "> {}", "- {}", "7. {}", "**{}**", "*{}*", "    {}", "```\n{}\n```", "[{}](/x)",
     "[^1]: {}", "| {} |\n|---|", "<p>{}</p>", "***\n\n{}", "> - > {}", "~~{}~~", "{}  \n{}"]
)  # fmt: skip


@settings(deadline=None)
@given(st.lists(st.tuples(BLOCKS, WORDS), min_size=1, max_size=8), st.sampled_from(["\n", "\r\n"]))
def test_every_word_is_there_in_its_order(blocks: list[tuple[str, list[str]]], end: str) -> None:
    written = [(form, " ".join(words)) for form, words in blocks]
    markdown = "\n\n".join(form.format(*[words] * form.count("{}")) for form, words in written)
    expected = [word for form, words in written for word in words.split() * form.count("{}")]
    assert re.findall("[a-h]+", plain(markdown.replace("\n", end))) == expected


@pytest.mark.parametrize("opening", ["> ", "* ", "1. ", "> - ", "[", "**", "<div>"])
def test_no_depth_loses_text(opening: str) -> None:
    assert plain(opening * 15 + "deep").endswith("deep")
    for depth in range(30, 120, 7):
        try:
            assert plain(opening * depth + "deep").endswith("deep")
        except Unreadable as error:
            assert "nested too deeply" in error.reason


@settings(deadline=None)
@given(st.text())
@example("[" * 3000)
@example("* a " * 1000)
@example("[^a]: " * 50 + "\n\n    x")
@example("\0\ufdd0---\n---\n")
def test_any_text_is_read_or_refused(text: str) -> None:
    try:
        found = plain(text)
    except Unreadable:
        return
    assert found.strip()

"""Telling a text from what Project Gutenberg put round it, whatever the year."""

import re

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pipeline.books.boilerplate import NotABook, strip_boilerplate, tidy_lines
from pipeline.books.decoding import decode
from tests.books.corpus import BOOKS, Truth

BODY = (
    "THE LAMP\n\n"
    "There was a lamp in the upper window, and it had been there, as far\n"
    "as anybody could tell me, every night for thirty years.\n\n"
    "I went up to see who lit it."
)
HEADER = (
    "The Project Gutenberg EBook of The Lamp, by A. Author\n\n"
    "This eBook is for the use of anyone anywhere at no cost and with\n"
    "almost no restrictions whatsoever.\n\n"
    "Title: The Lamp\n\nAuthor: A. Author\n\nRelease Date: May 5, 2005 [EBook #99999]\n\n"
    "Language: English\n\n"
)
START = "*** START OF THIS PROJECT GUTENBERG EBOOK THE LAMP ***"
END = "*** END OF THIS PROJECT GUTENBERG EBOOK THE LAMP ***"
LICENCE = (
    "***** This file should be named 99999-8.txt or 99999-8.zip *****\n"
    "This and all associated files of various formats will be found in:\n"
    "        http://www.gutenberg.org/9/9/9/9/99999/\n\n"
    "Updated editions will replace the previous one--the old editions\nwill be renamed.\n\n"
    "Creating the works from public domain print editions means that no\n"
    "one owns a United States copyright in these works.\n\n"
    "*** START: FULL LICENSE ***\n\nTHE FULL PROJECT GUTENBERG LICENSE\n" + "Terms.\n\n" * 20
)
SMALL_PRINT = (
    "***START**THE SMALL PRINT!**FOR PUBLIC DOMAIN ETEXTS**START***\n"
    'Why is this "Small Print!" statement here?  You know: lawyers.\n\n'
    + "Nothing here is about the book, and it goes on for some pages.\n\n" * 40
    + "*END*THE SMALL PRINT! FOR PUBLIC DOMAIN ETEXTS*Ver.04.29.93*END*"
)
OLD_HEADER = (
    "***The Project Gutenberg Etext of The Lamp, by A. Author***\n\n"
    "Copyright laws are changing all over the world, be sure to check\n"
    "the copyright laws for your country before posting these files!!\n\n"
    "**Welcome To The World of Free Plain Vanilla Electronic Texts**\n\n"
    "The Lamp\n\nby A. Author\n\nJuly, 1996  [Etext #99999]\n\n"
    "*****This file should be named lamp10.txt or lamp10.zip******\n\n"
    "Scanned by somebody who wrote a few words about how that was done.\n\n"
    "Information about Project Gutenberg (one page)\n\n"
)


def words(text: str) -> list[str]:
    return re.findall(r"\w+", text)


def assert_body(text: str, body: str = BODY) -> None:
    assert words(strip_boilerplate(text).body) == words(body)


@pytest.mark.parametrize(
    "start",
    [
        START,
        "*** START OF THE PROJECT GUTENBERG EBOOK THE LAMP ***",
        "***START OF THE PROJECT GUTENBERG EBOOK THE LAMP***",
        "***START OF THE PROJECT GUTENBERG EBOOK THE LAMP, OR THE UPPER\nWINDOW***",
        "            *** START OF THE PROJECT GUTENBERG EBOOK THE LAMP ***",
        "START OF THE PROJECT GUTENBERG EBOOK THE LAMP",
        "*** START OF THE PROJECT GUTENBERG EBOOK THE LAMP, AND OF MUCH THAT CAME OF IT",
        "*** START OF THE PROJECT GUTENBERG EBOOK, THE LAMP ***",
        "*** START OF THE COPYRIGHTED PROJECT GUTENBERG EBOOK THE LAMP ***",
        "** START OF THE PROJECT GUTENBERG ETEXT THE LAMP **",
        f"{START}\n{START}",
        f"{START}\n\n{OLD_HEADER}{SMALL_PRINT}",
        f"{SMALL_PRINT}\n\n{START}",
    ],
)
def test_every_kind_of_start_marker_is_known(start: str) -> None:
    assert_body(f"{HEADER}{start}\n\n\n{BODY}\n\n\n{END}\n\n{LICENCE}")


@pytest.mark.parametrize(
    "end",
    [
        END,
        f"            {END}",
        "***END OF THE PROJECT GUTENBERG EBOOK THE LAMP***",
        "*** END OF THE PROJECT GUTENBERG EBOOK THE LAMP, AND OF MUCH THAT CAME OF",
        "END OF THE PROJECT GUTENBERG EBOOK THE LAMP",
        f"End of the Project Gutenberg EBook of The Lamp, by A. Author\n\n{END}",
        f"End of Project Gutenberg's The Lamp, by\nA. Author\n\n{END}",
        f"End of this Project Gutenberg Etext of The Lamp\n{END}\n{END}",
        f"Ende dieses Projekt Gutenberg Etextes The Lamp\n\n\n\n\n{END}",
        f"Fin de Project Gutenberg's The Lamp\n\n{END}",
        "",
    ],
)
@pytest.mark.parametrize("gap", ["\n", "\n\n\n"], ids=["right below", "after a gap"])
def test_every_kind_of_end_is_known_and_the_last_line_stays(end: str, gap: str) -> None:
    gap = gap if end else "\n\n"
    assert_body(f"{HEADER}{START}\n\n{BODY}{gap}{end}\n\n{LICENCE}")


@pytest.mark.parametrize(
    "end",
    [
        "End of The Project Gutenberg Etext of The Lamp, by A. Author",
        "The End of the Project Gutenberg Etext of The Lamp",
        "***End***",
        "More information about this book is at the top of this file.",
        f"***\n\nMore information about this book is at the top of this file.\n\n{SMALL_PRINT}\n\n"
        "End of the Project Gutenberg Etext of The Lamp\nby A. Author",
        "",
    ],
)
def test_the_files_of_the_nineties_have_their_small_print_above(end: str) -> None:
    assert_body(f"{OLD_HEADER}{SMALL_PRINT}\n\n\n\n{BODY}\n\n{end}\n")


def test_a_header_of_2002_ends_with_a_sentence() -> None:
    header = (
        "The Project Gutenberg Etext of The Lamp\n\n"
        "Please do not remove this header information.\n\n"
        'The "legal small print" and other information about this book\n'
        "may now be found at the end of this file.  Please read this\n"
        "important information, as it gives you specific rights and\n"
        "tells you about restrictions in how the file may be used.\n\n"
    )
    assert_body(
        f"{header}\n\n{BODY}\n\nEnd of Project Gutenberg Etext of The Lamp\n\n{SMALL_PRINT}"
    )


def test_a_work_much_shorter_than_its_licence_keeps_its_body() -> None:
    short = (
        "Here lies one who asked for nothing, and he has it all to himself\n"
        "in this place, under this stone, for good."
    )
    assert_body(f"{HEADER}{START}\n\n{short}\n\n{END}\n\n{LICENCE * 5}", short)


def test_several_texts_in_one_file_keep_their_texts() -> None:
    second = BODY.replace("lamp", "bell").replace("LAMP", "BELL")
    parts = [
        f"{HEADER}{START}\n\n{BODY}\n\n{END}\n\n{LICENCE}",
        f"{OLD_HEADER}{SMALL_PRINT}\n\n{second}\n\nEnd of Project Gutenberg's The Bell\n",
    ]
    assert_body("\n\n".join(parts), f"{BODY} {second}")
    assert_body("\n\n".join(parts[::-1]), f"{second} {BODY}")


def test_the_headings_of_the_parts_of_a_collection_go() -> None:
    heading = "December, 1975  [Etext #6]\n\n\nThe Project Gutenberg Etext of The Bell\n\n"
    text = f"{OLD_HEADER}{SMALL_PRINT}\n\n{BODY * 20}\n\n\n\n{heading}\n\n{BODY * 20}\n"
    assert_body(text, BODY * 40)


def test_the_end_of_a_part_does_not_end_the_book() -> None:
    part = "End of this Project Gutenberg Etext of The Lamp, v1\nby A. Author"
    text = f"{OLD_HEADER}{SMALL_PRINT}\n\n{BODY * 40}\n\n{part}\n\n{BODY * 40}\n\n{part}\n"
    assert_body(text, BODY * 80)


def test_a_note_in_brackets_goes_as_a_whole() -> None:
    note = "[This text was first made for another site,\n\nand came to Project Gutenberg later.]"
    text = f"{HEADER}{START}\n\n{BODY}\n\n{note}\n\n{BODY}\n\n{END}\n"
    assert_body(text, f"{BODY} {BODY}")


def test_what_an_author_says_of_the_project_stays_with_a_warning() -> None:
    speech = (
        "I remember when I first heard of Project Gutenberg, in that winter when\n"
        "nobody went out and the whole town lived upon what it had read. " * 30
    )
    text = f"{HEADER}{START}\n\n{BODY * 30}\n\n{speech}\n\n{BODY * 30}\n\n{END}\n"
    stripped = strip_boilerplate(text)
    assert (
        words(speech)[:50]
        == words(stripped.body)[words(stripped.body).index("remember") - 1 :][:50]
    )
    assert "speaks of Project Gutenberg" in stripped.warnings[0]


def test_a_text_without_a_trace_of_the_project_is_its_own_body() -> None:
    stripped = strip_boilerplate(BODY)
    assert stripped.body == BODY
    assert not stripped.marked and stripped.removed == []


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        (f"{HEADER}{START}\n\n\n{END}\n\n{LICENCE}", "nothing is left"),
        (f"{BODY}\n\nShe found it on Project Gutenberg.\n\n{BODY}", "neither header nor footer"),
        (LICENCE, "nothing is left"),
    ],
)
def test_a_body_that_cannot_be_told_is_refused(text: str, reason: str) -> None:
    with pytest.raises(NotABook, match=reason):
        strip_boilerplate(text)


def test_a_missing_marker_is_warned_of() -> None:
    assert strip_boilerplate(f"{HEADER}{START}\n\n{BODY}").warnings == ["no END marker was found"]
    assert strip_boilerplate(f"{BODY}\n\n{END}").warnings == ["no header was found"]


def test_the_header_is_read() -> None:
    stripped = strip_boilerplate(f"{HEADER}{START}\n\n{BODY}\n\n{END}")
    assert (stripped.title, stripped.author, stripped.language) == ("The Lamp", "A. Author", "en")
    stripped = strip_boilerplate(f"{OLD_HEADER}{SMALL_PRINT}\n\n{BODY}")
    assert (stripped.title, stripped.author, stripped.language) == ("The Lamp", "A. Author", None)


def test_the_cuts_are_where_the_wrapping_was() -> None:
    text = f"{HEADER}{START}\n\n{BODY}\n\n{END}\n\n{LICENCE}"
    header, footer = strip_boilerplate(text).removed
    assert (header.kind, footer.kind) == ("header", "footer")
    assert text[: header.end].endswith(START) and text[footer.start :].startswith(END)


def _wrappings(truth: Truth) -> tuple[str, str] | None:
    """The header and the footer of a real file."""
    text = tidy_lines(decode(truth.path.read_bytes()).text)
    cuts = [cut for cut in strip_boilerplate(text).removed if cut.kind != "notice"]
    if len(cuts) != 2:
        return None
    return text[: cuts[0].end], text[cuts[1].start :]


WRAPPINGS = [pair for truth in BOOKS if (pair := _wrappings(truth))]


@pytest.mark.parametrize(
    "header", [pytest.param(h, id=str(n)) for n, (h, _) in enumerate(WRAPPINGS)]
)
@pytest.mark.parametrize("start_indent", [0, 12])
def test_any_real_header_goes_with_any_real_footer(header: str, start_indent: int) -> None:
    header = header.replace("*** START OF", " " * start_indent + "*** START OF")
    for _, footer in WRAPPINGS:
        assert_body(f"{header}\n\n\n{BODY}\n\n\n{footer}")


@given(st.text(alphabet=st.characters(exclude_categories=["Cs"]), max_size=400))
@settings(deadline=None)
def test_plain_text_is_never_emptied(text: str) -> None:
    assert strip_boilerplate(text).body == tidy_lines(text)


def test_what_somebody_says_in_the_text_is_no_end_marker() -> None:
    said = '"End of Project Gutenberg!" she cried, and closed the laptop. The rain fell.'
    start = "*** START OF THE PROJECT GUTENBERG EBOOK X ***"
    end = "*** END OF THE PROJECT GUTENBERG EBOOK X ***"
    prose = "The wind had not let up since Tuesday, and nobody went near the cellar door.\n\n" * 30
    body = strip_boilerplate(f"{start}\n\n{prose}{said}\n\n{prose}{end}\n").body
    assert said in body

"""The card: complete, and not to be broken by any title."""

import json
import re
from html import unescape

import pytest
import yaml
from huggingface_hub import DatasetCard
from hypothesis import given, settings
from hypothesis import strategies as st

from pipeline.hub.books import Book
from pipeline.hub.card import configs, dataset_card, language_codes, size_category
from pipeline.hub.markdown import one_line

HOSTILE = [
    "A | B || C",
    "Line one\nLine two\r\n\r\n| x | y |",
    "`code` ```block```",
    "<script>alert(1)</script><!-- x -->",
    "---\nlicense: mit\n---",
    "title: x\n- y: [z]",
    "# heading ## tail #",
    "[text](javascript:alert(1)) ![image](http://x/y.png)",
    "*bold* _italic_ ~~gone~~ $x^2$ &lt; \\| \\",
    "https://example.org www.example.org a@example.org",
    "right-to-left \u202e override, zero\u200bwidth, nul\0, next line\x85, line\u2028separator",
    "{{ jinja }} {% raw %}",
    "null",
    "x" * 300,
    "",
]
TITLES = st.text(max_size=40) | st.sampled_from(HOSTILE)
BOOKS = [
    Book("84", "Frankenstein", ["Mary Shelley"], "en", "https://example.org/84.txt",
         "public domain in the USA", 430_000, 64, "train"),
    Book("932", "The Fall of the House of Usher", ["E. A. Poe"], "English", "usher.txt",
         "Public domain", 41_000, 7, "validation"),
]  # fmt: skip


def card(books: list[Book] = BOOKS, name: str = "Gothic Tales", **more: object) -> str:
    rows = {"train": 64, "validation": 7}
    return dataset_card(**{"pretty_name": name, "books": books, "rows": rows, **more})  # type: ignore[arg-type]


def rows(text: str, heading: str) -> list[list[str]]:
    """The cells of each row of the first table under a heading, as a reader sees them."""
    section = text.split(f"\n## {heading}\n")[1].split("\n## ")[0]
    lines = [line for line in section.splitlines() if line.startswith("|")]
    return [[unescape(c.strip()) for c in re.split(r"\|", line)[1:-1]] for line in lines]


def test_the_front_matter_is_what_the_hub_reads() -> None:
    data = DatasetCard(card()).data.to_dict()
    assert data == {
        "language": ["en"],
        "license": "other",
        "license_name": "public-domain",
        "license_link": "https://creativecommons.org/publicdomain/mark/1.0/",
        "pretty_name": "Gothic Tales",
        "size_categories": ["n<1K"],
        "task_categories": ["text-generation"],
        "configs": [
            {
                "config_name": "chunks",
                "default": True,
                "data_files": [
                    {"split": "train", "path": "data/train-*.parquet"},
                    {"split": "validation", "path": "data/validation-*.parquet"},
                ],
            },
            {
                "config_name": "books",
                "data_files": [{"split": "train", "path": "books/books.parquet"}],
            },
        ],
    }


def test_the_books_stand_in_a_table_with_authors_sources_and_rights() -> None:
    header, _, first, second = rows(card(), "The books")
    assert header[:3] == ["id", "title", "authors"]
    assert first == [
        "84", "Frankenstein", "Mary Shelley", "en", "430,000", "64", "train",
        "public domain in the USA", "<https://example.org/84.txt>",
    ]  # fmt: skip
    assert second[-1] == "usher.txt", "what is no address is shown as text"


def test_it_says_how_it_was_made_and_how_to_load_it() -> None:
    text = card(
        repo_id="ada/books", settings={"chunk": {"chunk_size": 7000}},
        counts={"characters removed": 19800},
    )  # fmt: skip
    assert 'load_dataset("ada/books")' in text
    assert 'load_dataset("ada/books", "books", split="train")' in text
    assert ["chunk", "chunk_size", "7000"] in rows(text, "How it was made")
    assert "| characters removed | 19,800 |" in text


@settings(deadline=None, max_examples=50)
@given(TITLES, TITLES, TITLES, TITLES)
def test_no_title_breaks_the_card(name: str, title: str, author: str, source: str) -> None:
    book = Book(title, title, [author, author], title, source, title, split="train")
    text = card([book, BOOKS[0]], name, repo_id=source, settings={"chunk": {title: author}})
    plain = card([BOOKS[0], BOOKS[0]], "x", settings={"chunk": {"x": "y"}})

    data = DatasetCard(text).data.to_dict()
    assert data["pretty_name"] == (one_line(name) or "Books")
    assert set(data) - {"license_name", "license_link"} == set(
        DatasetCard(plain).data.to_dict()
    ) - {"license_name", "license_link"}

    table = rows(text, "The books")
    assert [len(row) for row in table] == [9, 9, 9, 9]
    assert table[2][1] == (one_line(title) or "untitled"), "and the reader sees the title itself"
    assert table[2][2] == one_line(f"{author}, {author}")

    body = DatasetCard(text).text
    assert body.count("\n") == DatasetCard(plain).text.count("\n"), "no line more than with plain"
    assert "<script" not in body
    assert "](" not in body


@pytest.mark.parametrize("title", HOSTILE)
def test_the_front_matter_ends_where_it_should(title: str) -> None:
    text = card(name=title)
    _, front, _ = text.split("\n---\n", 1)[0], *text.split("---\n", 2)[1:]
    assert yaml.safe_load(front)["pretty_name"] == (one_line(title) or "Books")
    assert text.count("\n---\n") == 1


def test_only_a_plain_address_is_a_link() -> None:
    for source in ("javascript:alert(1)", "https://x/>|<b>", "https://x/ y", "ftp://x/y"):
        shown = rows(card([Book("1", source=source)]), "The books")[2][-1]
        assert not shown.startswith("<")


@pytest.mark.parametrize(("books", "shown"), [(500, 500), (501, 100)])
def test_the_table_of_a_large_shelf_stays_readable(books: int, shown: int) -> None:
    text = card([Book(str(n), f"Tale {n}") for n in range(books)])
    assert len(rows(text, "The books")) == shown + 2
    assert ("[books/books.parquet](books/books.parquet)" in text) is (shown < books)
    assert (f"The first {shown} of {books}" in text) is (shown < books)


def test_only_columns_that_are_there_are_described() -> None:
    text = card(columns=["text", "char_start", "char_end", "title"])
    columns = [row[0] for row in rows(text, "What a row is")[2:]]
    assert columns == ["`text`", "`char_start`, `char_end`", "`title`"]


def test_chunks_that_overlap_are_joined_without_what_they_repeat() -> None:
    assert 'row["text"][row["overlap"]:]' in card(overlap=True)
    assert 'row["overlap"]' not in card()


def test_the_first_configuration_is_the_default_also_where_there_are_only_records() -> None:
    found = configs({"chat": {"train": 9, "validation": 0}})
    assert [(each["config_name"], each.get("default")) for each in found] == [
        ("chat", True), ("books", None),
    ]  # fmt: skip


def test_a_very_long_setting_is_cut() -> None:
    text = card(settings={"acquire": {"ids": ", ".join(map(str, range(1000)))}})
    assert rows(text, "How it was made")[2][2].endswith("…")
    assert len(rows(text, "How it was made")[2][2]) == 500


def test_nothing_is_promised_about_rights_that_nobody_knows() -> None:
    unknown = [*BOOKS, Book("x", "My diary")]
    assert DatasetCard(card(unknown)).data["license"] == "unknown"
    assert "license_name" not in DatasetCard(card(unknown)).data
    assert DatasetCard(card([])).data["license"] == "unknown"


def test_the_licence_can_be_chosen() -> None:
    assert DatasetCard(card(license="cc0-1.0")).data["license"] == "cc0-1.0"
    custom = {"license": "other", "license_name": "mine", "license_link": "LICENSE"}
    assert DatasetCard(card(license=custom)).data.to_dict().items() >= custom.items()


def test_a_name_that_is_a_trademark_is_not_used_in_prose() -> None:
    source = "https://www.gutenberg.org/ebooks/84"
    text = card([Book("84", "Frankenstein", source=source)])
    assert "gutenberg" not in text.replace(source, "").lower()


@pytest.mark.parametrize(
    ("rows_", "category"),
    [(0, "n<1K"), (999, "n<1K"), (1000, "1K<n<10K"), (123_456, "100K<n<1M"), (10**12, "n>1T")],
)
def test_size_categories_are_those_of_the_hub(rows_: int, category: str) -> None:
    assert size_category(rows_) == category


def test_languages_become_codes() -> None:
    assert language_codes(["en", "English", "German", None, "", "Klingon, old"]) == ["de", "en"]


def test_a_split_without_rows_is_not_promised() -> None:
    text = card(rows={"train": 3, "validation": 0})
    assert [f["split"] for f in DatasetCard(text).data["configs"][0]["data_files"]] == ["train"]


PAIR = {"prompt": "Who?", "completion": " Me.", "document_id": "mine", "record": 1, "rights": None}
RECORDS = {"completion": {"train": 18, "validation": 2}}
FILES = [Book("mine", characters=2404, split="train and validation", kind="completion", records=20)]


def headings(text: str) -> list[str]:
    return [line.removeprefix("## ") for line in text.splitlines() if line.startswith("## ")]


def test_a_card_of_records_speaks_of_records_only() -> None:
    text = card(FILES, rows={}, records=RECORDS, examples={"completion": PAIR})
    assert (
        "20 prompts with their completions, 2,404 characters, from 1 file (18 in `train` and 2 in "
        "`validation`), for training"
    ) in text
    assert headings(text) == [
        "Load it", "What a row is", "The files of records", "How it was made", "Rights",
    ]  # fmt: skip
    body = DatasetCard(text).text.split("## The files of records")[0]
    assert "book" not in body and "chunk" not in body
    columns = [row[0] for row in rows(text, "What a row is")[2:]]
    assert columns == ["`prompt`", "`completion`", "`document_id`, `record`", "`rights`"]
    assert rows(text, "The files of records")[2] == [
        "mine", "", "completion", "", "2,404", "20", "train and validation", "unknown", "",
    ]  # fmt: skip


def test_a_card_of_several_kinds_counts_each_by_itself() -> None:
    chat = Book("talks", characters=90, kind="chat", records=3)
    text = card([*BOOKS, *FILES, chat], records=RECORDS | {"chat": {"train": 3, "validation": 0}})
    assert "94 rows of 3 kinds" in text
    header, _, *kinds = table_of(text)
    assert header == ["configuration", "what it holds", "rows in `train`", "rows in `validation`"]
    assert kinds == [
        ["`chunks`", "2 books, 471,000 characters, cut into 71 chunks", "64", "7"],
        ["`completion`", "20 prompts with their completions, 2,404 characters, from 1 file",
         "18", "2"],
        ["`chat`", "3 chats, 90 characters, from 1 file", "3", "0"],
    ]  # fmt: skip
    assert 'chat = load_dataset("your-name/your-dataset", "chat")' in text
    assert 'for row in chunks["train"]' in text
    assert len(rows(text, "The books")) - 2 == 2, "as many as the card counts"
    assert len(rows(text, "The files of records")) - 2 == 2
    assert "of 4 rows" in text


def table_of(text: str) -> list[list[str]]:
    """The first table of a card."""
    return rows(text.replace("\n# ", "\n## The first\n", 1), "The first")


def test_the_row_that_is_shown_is_json_and_ends_no_fence() -> None:
    for hostile in HOSTILE:
        row = {"prompt": f"```\n---\n{hostile}", "completion": "x" * 400}
        text = card(FILES, rows={}, records=RECORDS, examples={"completion": row})
        fence, body = re.findall(r"(`{3,})json\n(.*?)\n\1\n", text, re.DOTALL)[0]
        assert len(fence) > 3 and text.count("\n---\n") == 1
        shown = json.loads(body)
        assert one_line(shown["prompt"]).startswith("``` ---")
        assert shown["completion"] == "x" * 300 + "…"
        assert "One of them; long texts are cut" in text


def test_of_a_long_chat_the_first_turns_are_shown() -> None:
    turns = [{"role": ("user", "assistant")[n % 2], "content": str(n)} for n in range(20)]
    talks = {"chat": {"train": 1, "validation": 0}}
    text = card([], rows={}, records=talks, examples={"chat": {"messages": turns}})
    body = re.findall(r"```json\n(.*?)\n```", text, re.DOTALL)[0]
    assert json.loads(body)["messages"] == turns[:6]
    assert "of a chat 6 turns are shown" in text

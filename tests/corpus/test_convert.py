"""`pipeline convert`: texts and records from any format into any other."""

import gzip
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from typer.testing import CliRunner

from pipeline.cli import make_pipeline
from pipeline.corpus.convert import Sources, Written, check_target, write_examples
from pipeline.corpus.examples import ABOUT_COLUMNS
from pipeline.errors import PipelineError, UsageError
from pipeline.storage import Storage
from pipeline.tools import read_text

TEXTS: list[dict[str, Any]] = [
    {"text": "The lamp went out.\n\n“Who is there?”\n", "about": {"id": "a", "title": "Lamp; sea"}},
    {"text": 'She said, "No."\tThen, nothing', "about": {"id": "b", "authors": ["A. B.", "C. D."]}},
    {"text": "Café"},
]
PAIRS: list[dict[str, Any]] = [
    {"prompt": "Who goes there?", "completion": " Nobody."},
    {"prompt": "And\nwho", "completion": " I"},
]
CHATS: list[dict[str, Any]] = [
    {
        "messages": [
            {"role": "user", "content": "Who?"},
            {"role": "assistant", "content": "“Nobody”, said the house."},
        ]
    }
]
SUFFIXES = [".jsonl", ".ndjson", ".csv", ".tsv", ".parquet"]
NAMES = [
    *(f"out{suffix}" for suffix in SUFFIXES),
    *(
        f"out{suffix}{packed}"
        for suffix in (".jsonl", ".csv")
        for packed in (".gz", ".bz2", ".xz", ".zst")
    ),
]


def examples(source: Path, text_column: str | None = None) -> list[dict[str, Any]]:
    with Storage() as storage:
        return list(
            Sources(storage, read_text, [".txt", ".epub"], text_column).examples(str(source))
        )


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("rows", [TEXTS, PAIRS, CHATS], ids=["texts", "pairs", "chats"])
def test_what_is_written_is_read_back(
    tmp_path: Path, rows: list[dict[str, Any]], name: str
) -> None:
    path = tmp_path / name
    assert write_examples(rows, path).examples == len(rows)
    found = examples(path)
    if (".csv" in name or ".tsv" in name) and rows is TEXTS:
        assert found[1]["about"].pop("authors") == "A. B.; C. D."
        rows = [rows[0], rows[1] | {"about": {"id": "b"}}, rows[2]]
    assert found == rows
    assert sorted(tmp_path.iterdir()) == [path], "no temporary file is left"


# Line ends "\r\n" become "\n" when a table is read, and no UTF-8 file holds surrogates; CSV has no
# place for NUL.
ANY_TEXT = (
    st.text(st.characters(exclude_categories=["Cs"], exclude_characters="\0\r"), max_size=60)
    | st.text("\"',;\t\n\\ ab", max_size=60)
).filter(lambda text: bool(text.strip()))


@settings(max_examples=40, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.lists(ANY_TEXT, min_size=1, max_size=5), st.sampled_from(SUFFIXES))
def test_texts_survive_whatever_is_in_them(tmp_path: Path, texts: list[str], suffix: str) -> None:
    path = tmp_path / f"out{suffix}"
    write_examples([{"text": text} for text in texts], path, only_text=True)
    assert [example["text"] for example in examples(path)] == texts


def test_equal_examples_give_equal_bytes(tmp_path: Path) -> None:
    for packed in (".gz", ".bz2", ".xz", ".zst"):
        one, two = tmp_path / f"one.csv{packed}", tmp_path / f"two.csv{packed}"
        write_examples(TEXTS, one)
        write_examples(TEXTS, two)
        assert one.read_bytes() == two.read_bytes()


def chunk_rows(name: str, texts: list[str], repeated: int = 0) -> list[dict[str, Any]]:
    rows = []
    start = 0
    for number, text in enumerate(texts):
        end = start + len(text)
        rows.append(
            {"text": text, "document_id": name, "chunk": number, "char_start": start,
             "char_end": end, "title": f"Book {name}", "authors": ["A. B."]}
        )  # fmt: skip
        start = end - repeated
    return rows


def test_chunks_are_documents_again_those_to_train_on_first(tmp_path: Path) -> None:
    folder = tmp_path / "4_dataset"
    (folder / "data").mkdir(parents=True)
    (folder / "README.md").write_text("# Books\n")
    rows = chunk_rows("1", ["One. ", "Two.\n"]) + chunk_rows("2", ["Three.\n"])
    pq.write_table(pa.Table.from_pylist(rows), folder / "data" / "train-0.parquet")
    held_out = chunk_rows("3", ["Four and", "and five."], repeated=3)
    pq.write_table(pa.Table.from_pylist(held_out), folder / "data" / "validation-0.parquet")
    found = examples(folder)
    assert [example["text"] for example in found] == ["One. Two.\n", "Three.\n", "Four and five."]
    assert found[0]["about"] == {"id": "1", "title": "Book 1", "authors": ["A. B."]}


def test_the_table_of_books_of_a_dataset_is_no_text(tmp_path: Path) -> None:
    for name in ("data/train-0", "books/books"):
        (tmp_path / name).parent.mkdir()
        rows = chunk_rows("1", ["One.\n"]) if "data" in name else [{"document_id": "1"}]
        pq.write_table(pa.Table.from_pylist(rows), tmp_path / f"{name}.parquet")
    assert [example["text"] for example in examples(tmp_path)] == ["One.\n"]
    (tmp_path / "data" / "train-0.parquet").unlink()
    (tmp_path / "data").rmdir()
    with pytest.raises(PipelineError, match="no column that is known to hold texts"):
        examples(tmp_path)


def test_texts_whose_names_begin_like_those_of_notices_are_read(tmp_path: Path) -> None:
    for name in ("License to Kill.txt", "notice-of-death.txt", "LICENSE", "Readme.txt"):
        (tmp_path / name).write_text("It was late.\n")
    ids = [example["about"]["id"] for example in examples(tmp_path)]
    assert ids == ["License to Kill", "notice-of-death"]


def test_what_is_left_alone_beside_the_texts_of_a_folder_is_named(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "a.txt").write_text("One.\n")
    examples(tmp_path)
    assert capsys.readouterr().err == ""
    (tmp_path / "b.chat.jsonl").write_text(json.dumps(CHATS[0]) + "\n")
    assert len(examples(tmp_path)) == 1
    assert "1 file of another kind is left alone (b.chat.jsonl)" in capsys.readouterr().err


def test_a_folder_of_texts_is_read_without_what_a_stage_wrote_beside_them(tmp_path: Path) -> None:
    (tmp_path / "b.txt").write_bytes("Café.\r\n".encode("windows-1252"))
    (tmp_path / "a.txt").write_text("One.\n")
    (tmp_path / "stage.json").write_text("{}")
    (tmp_path / "report.jsonl").write_text('{"text": "no"}\n')
    (tmp_path / "rejected").mkdir()
    (tmp_path / "rejected" / "c.txt").write_text("It is a web page.\n")
    assert [(e["about"]["id"], e["text"]) for e in examples(tmp_path)] == [
        ("a", "One.\n"), ("b", "Café.\n"),
    ]  # fmt: skip


def test_plain_text_ends_each_text_as_old_trainers_want(tmp_path: Path) -> None:
    path = tmp_path / "out.txt"
    write_examples(TEXTS, path, eos="<|endoftext|>")
    assert path.read_text("utf-8") == (
        "The lamp went out.\n\n“Who is there?”<|endoftext|>\n"
        'She said, "No."\tThen, nothing<|endoftext|>\n'
        "Café<|endoftext|>\n"
    )
    write_examples(TEXTS, path)
    assert path.read_text("utf-8") == (
        'The lamp went out.\n\n“Who is there?”\n\nShe said, "No."\tThen, nothing\n\nCafé\n'
    )


def test_a_text_that_holds_the_end_text_is_warned_of(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    write_examples([{"text": "a <EOS> b"}], tmp_path / "out.txt", eos="<EOS>")
    assert "1 text itself holds '<EOS>'" in capsys.readouterr().err


def test_a_csv_for_other_tools_has_all_columns_or_the_text_alone(tmp_path: Path) -> None:
    write_examples(TEXTS, tmp_path / "all.csv")
    header = (tmp_path / "all.csv").read_text("utf-8").splitlines()[0]
    assert header == ",".join(f'"{name}"' for name in (*ABOUT_COLUMNS, "text"))
    write_examples(TEXTS, tmp_path / "text.csv", only_text=True)
    assert (tmp_path / "text.csv").read_text("utf-8").startswith('"text"\n"The lamp')


def test_another_column_may_hold_the_text(tmp_path: Path) -> None:
    path = tmp_path / "in.jsonl"
    path.write_text('{"letter": "Dear Sir", "text": "no"}\n')
    assert examples(path, "letter")[0]["text"] == "Dear Sir"
    path.write_text('{"letter": "Dear Sir"}\n')
    with pytest.raises(PipelineError, match="its columns are: letter") as error:
        examples(path)
    assert error.value.hint == "Name it with --text-column."


def test_a_bad_row_is_named_and_leaves_no_file(tmp_path: Path) -> None:
    source, target = tmp_path / "in.jsonl", tmp_path / "out.csv"
    source.write_text('{"text": "one"}\n{"text": ""}\n')
    with pytest.raises(PipelineError, match=r"in\.jsonl, line 2: it has an empty 'text'"):
        write_examples(examples_lazily(source), target)
    assert list(tmp_path.iterdir()) == [source]


def examples_lazily(source: Path) -> Iterator[dict[str, Any]]:
    with Storage() as storage:
        yield from Sources(storage, read_text, [".txt"]).examples(str(source))


@pytest.mark.parametrize(
    ("name", "said"),
    [
        ("out.pdf", "no suffix that says"),
        ("out", "no suffix that says"),
        ("out.parquet.gz", "compressed in itself"),
        ("there.csv", "is there already"),
        ("folder.csv", "is a directory"),
    ],
)
def test_a_target_that_cannot_be_is_refused_before_anything_is_read(
    tmp_path: Path, name: str, said: str
) -> None:
    (tmp_path / "there.csv").write_text("mine")
    (tmp_path / "folder.csv").mkdir()
    with pytest.raises(UsageError, match=said):
        check_target(tmp_path / name)


def test_an_end_text_is_for_plain_text_only(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match=r"--eos is for \.txt only"):
        check_target(tmp_path / "out.csv", "<EOS>")


def test_records_are_no_plain_text_and_kinds_are_not_mixed(tmp_path: Path) -> None:
    with pytest.raises(PipelineError, match="cannot hold records"):
        write_examples(PAIRS, tmp_path / "out.txt")
    with pytest.raises(PipelineError, match="Example 3 is a completion") as error:
        write_examples([*TEXTS[:2], *PAIRS], tmp_path / "out.jsonl")
    assert "'3_chunks/train-*.parquet'" in str(error.value.hint)
    with pytest.raises(PipelineError, match="nothing to write"):
        write_examples([], tmp_path / "out.jsonl")
    assert list(tmp_path.iterdir()) == []


def test_memory_stays_flat_however_much_is_written(tmp_path: Path) -> None:
    import tracemalloc

    def stream(count: int) -> Iterator[dict[str, Any]]:
        return ({"text": f"{number} " * 20_000} for number in range(count))

    peaks = []
    for count in (100, 400):
        tracemalloc.start()
        written = write_examples(stream(count), tmp_path / "out.parquet")
        peaks.append(tracemalloc.get_traced_memory()[1])
        tracemalloc.stop()
        assert written == Written(count, sum(len(f"{n} ") * 20_000 for n in range(count)))
    assert peaks[1] < 2 * peaks[0] + 10_000_000


def test_the_command_converts_and_asks_before_it_replaces(tmp_path: Path) -> None:
    source, target = tmp_path / "in.txt", tmp_path / "out.jsonl.gz"
    source.write_text("The lamp went out.\n")
    runner = CliRunner()
    command = ["convert", str(source), str(target)]
    assert runner.invoke(make_pipeline(), command).exit_code == 0
    (row,) = gzip.decompress(target.read_bytes()).splitlines()
    assert json.loads(row) == {"id": "in", "text": "The lamp went out.\n"}
    assert runner.invoke(make_pipeline(), command).exit_code == 2
    assert runner.invoke(make_pipeline(), [*command, "--overwrite"]).exit_code == 0


def test_what_is_no_text_is_named(tmp_path: Path) -> None:
    source = tmp_path / "page.txt"
    source.write_text("<html><body>404</body></html>")
    with pytest.raises(PipelineError, match=r"page\.txt: "):
        examples(source)

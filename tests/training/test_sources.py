"""What a dataset holds is found by its columns, and every row of it becomes a sample."""

import csv
import json
import threading
from functools import partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from pipeline.errors import PipelineError, UsageError
from pipeline.training.sources import (
    check_template,
    choose_kind,
    files_at,
    files_in,
    is_address,
    read_samples,
    read_template,
    split_files,
)

TEXTS = [{"text": f"The lamp went out, {i}.\n"} for i in range(20)]
PAIRS = [{"prompt": f"Who, {i}?", "completion": f" The sea, {i}."} for i in range(20)]
CHATS: list[dict[str, Any]] = [
    {"messages": [{"role": "user", "content": f"Who, {i}?"},
                  {"role": "assistant", "content": "The sea."}]}
    for i in range(20)
]  # fmt: skip
ROWS: dict[str, list[dict[str, Any]]] = {"text": TEXTS, "completion": PAIRS, "chat": CHATS}


def parquet(path: Path, rows: list[dict[str, Any]]) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    pq.write_table(pa.Table.from_pylist(rows), path)
    return path


def jsonl(path: Path, rows: list[dict[str, Any]]) -> Path:
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return path


@pytest.mark.parametrize(
    ("kind", "suffix"),
    [
        *((kind, suffix) for kind in ROWS for suffix in ("parquet", "jsonl", "json")),
        ("text", "csv"),
        ("completion", "csv"),
    ],
)
def test_every_kind_is_read_from_every_table(tmp_path: Path, kind: str, suffix: str) -> None:
    rows = ROWS[kind]
    path = tmp_path / f"rows.{suffix}"
    if suffix == "parquet":
        parquet(path, rows)
    elif suffix == "json":
        path.write_text(json.dumps(rows))
    elif suffix == "jsonl":
        jsonl(path, rows)
    else:
        with path.open("w", newline="") as file:
            writer = csv.DictWriter(file, list(rows[0]))
            writer.writeheader()
            writer.writerows(rows)
    found, files = choose_kind(files_in(path))
    assert (found, files) == (kind, [path])
    training, held_out = read_samples(files, found, 0)
    assert 1 <= len(held_out) <= 3, "a tenth"
    contents = [sample.content for sample in (*training, *held_out)]
    expected = rows if kind != "text" else [{"text": row["text"].rstrip()} for row in rows]
    assert sorted(contents, key=str) == sorted(expected, key=str)


def test_of_a_folder_of_ours_books_are_not_read(tmp_path: Path) -> None:
    wanted = [
        parquet(tmp_path / "data" / "train-00000-of-00001.parquet", TEXTS),
        parquet(tmp_path / "chat" / "chat-train-00000-of-00001.parquet", CHATS),
    ]
    parquet(tmp_path / "books" / "books.parquet", [{"title": "Dracula"}])
    jsonl(tmp_path / "documents.jsonl", TEXTS)
    assert files_in(tmp_path) == wanted


def test_of_another_folder_all_tables_are_read(tmp_path: Path) -> None:
    lines = jsonl(tmp_path / "a.jsonl", TEXTS)
    (tmp_path / "README.md").write_text("no table")
    (tmp_path / "dataset_infos.json").write_text('{"default": {}}')
    assert files_in(tmp_path) == [lines]
    deep = parquet(tmp_path / "deep" / "b.parquet", TEXTS)
    assert files_in(tmp_path) == [lines, deep]
    (tmp_path / "empty").mkdir()
    with pytest.raises(PipelineError, match="has no Parquet, JSON or CSV files"):
        files_in(tmp_path / "empty")


def test_a_file_without_a_kind_beside_others_is_refused_by_name(tmp_path: Path) -> None:
    texts = parquet(tmp_path / "a.parquet", TEXTS)
    odd = jsonl(tmp_path / "b.jsonl", [{"story": "The lamp went out.", "stars": 5}])
    for wanted in ("auto", "text"):
        with pytest.raises(PipelineError, match=r"b\.jsonl is no table .* story, stars") as caught:
            choose_kind([texts, odd], wanted)
        assert "with a pattern" in str(caught.value.hint)
    assert choose_kind([texts, jsonl(odd, [])]) == ("text", [texts]), "nothing in it is left out"


def test_files_of_other_kinds_are_named_when_they_are_left_out(
    tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    texts = parquet(tmp_path / "tales.parquet", TEXTS)
    chats = jsonl(tmp_path / "talks.jsonl", CHATS)
    with pytest.raises(UsageError, match="The dataset holds chats and texts"):
        choose_kind(files_in(tmp_path))
    assert choose_kind([texts, chats], "chat") == ("chat", [chats])
    assert "--kind chat leaves out texts: tales.parquet." in capfd.readouterr().err


def test_several_kinds_are_refused_with_the_choice_and_one_can_be_chosen(tmp_path: Path) -> None:
    files = [parquet(tmp_path / f"{kind}.parquet", rows) for kind, rows in ROWS.items()]
    with pytest.raises(UsageError) as caught:
        choose_kind(files)
    assert "chats and prompts with completions and texts" in caught.value.message
    assert caught.value.hint == "Choose: --kind chat or --kind completion or --kind text."
    for kind, path in zip(ROWS, files, strict=True):
        assert choose_kind(files, kind) == (kind, [path])


def test_a_table_that_can_be_two_kinds_is_what_is_asked_for(tmp_path: Path) -> None:
    both = [{**chat, "text": "User: Who?"} for chat in CHATS]
    path = parquet(tmp_path / "both.parquet", both)
    assert choose_kind([path])[0] == "chat"
    assert choose_kind([path], "text")[0] == "text"


@pytest.mark.parametrize(
    ("rows", "wanted", "message"),
    [
        (TEXTS, "chat", "has no chats; it has texts"),
        ([{"title": "Dracula"}], "auto", "has no examples; it has the columns title"),
        (TEXTS, "poem", "--kind 'poem' is unknown"),
    ],
)
def test_a_kind_that_is_not_there_is_one_sentence(
    tmp_path: Path, rows: list[dict[str, Any]], wanted: str, message: str
) -> None:
    path = parquet(tmp_path / "rows.parquet", rows)
    with pytest.raises(PipelineError, match=message):
        choose_kind([path], wanted)


def test_what_is_held_out_is_told_by_file_names_and_weights(tmp_path: Path) -> None:
    about = {"document_id": "qa", "collection": "quiz", "weight": 0.5}
    rows = [{**pair, "record": i, **about} for i, pair in enumerate(PAIRS)]
    rows[3] |= {"collection": "test set", "weight": 0.0}
    files = [
        parquet(tmp_path / "completion-train-00000-of-00001.parquet", rows[:15]),
        parquet(tmp_path / "completion-validation-00000-of-00001.parquet", rows[15:]),
    ]
    training, held_out = read_samples(files, "completion", 0)
    assert {sample.id for sample in held_out} == {"qa#3", *(f"qa#{i}" for i in range(15, 20))}
    assert len(training) == 14
    assert {(sample.collection, sample.weight) for sample in training} == {("quiz", 0.5)}


def test_equal_records_are_on_the_same_side(tmp_path: Path) -> None:
    path = jsonl(tmp_path / "rows.jsonl", PAIRS * 3)
    training, held_out = read_samples([path], "completion", 0)
    contents = [{str(sample.content) for sample in side} for side in (training, held_out)]
    assert not contents[0] & contents[1]
    assert len(held_out) % 3 == 0


CHUNKS = [
    {"text": text, "document_id": name, "chunk": i, "char_start": start,
     "char_end": start + len(text)}
    for name in "abcdefgh" for i, (start, text) in enumerate([(0, "The lamp.\n"), (10, "Out.\n")])
]  # fmt: skip


def test_chunks_are_documents_again_or_with_eos_chunk_each_its_own(tmp_path: Path) -> None:
    train = parquet(tmp_path / "train.parquet", CHUNKS[:-2])
    held = parquet(tmp_path / "validation.parquet", CHUNKS[-2:])
    training, held_out = read_samples([train, held], "text", 0)
    assert {sample.text for sample in (*training, *held_out)} == {"The lamp.\nOut."}
    training, held_out = read_samples([train, held], "text", 0, eos="chunk")
    assert [sample.text for sample in training] == ["The lamp.", "Out."] * 7
    assert [sample.text for sample in held_out] == ["The lamp.\nOut."], "scored as ever"


def test_chunks_of_a_document_are_held_out_together(tmp_path: Path) -> None:
    path = parquet(tmp_path / "train.parquet", CHUNKS)
    training, held_out = read_samples([path], "text", 0, eos="chunk")
    names = [{sample.id.partition("#")[0] for sample in side} for side in (training, held_out)]
    assert names[1]
    assert not names[0] & names[1]


def editions(works: list[str | None], **columns: Any) -> list[dict[str, Any]]:
    return [
        {"text": f"A tale, {i}.\n", "document_id": str(i), "chunk": 0, "char_start": 0,
         "work": work, **columns}
        for i, work in enumerate(works)
    ]  # fmt: skip


@pytest.mark.parametrize("eos", ["document", "chunk"])
@pytest.mark.parametrize("seed", range(5))
def test_editions_of_a_work_are_held_out_together(tmp_path: Path, eos: str, seed: int) -> None:
    rows = editions([f"work {i // 3}" for i in range(30)])
    training, held_out = read_samples(
        [parquet(tmp_path / "a.parquet", rows)], "text", seed, eos=eos
    )
    works = [{sample.work for sample in side} for side in (training, held_out)]
    assert works[1]
    assert not works[0] & works[1]
    assert len(training) + len(held_out) == 30


@pytest.mark.parametrize("eos", ["document", "chunk"])
def test_a_dataset_of_a_single_work_holds_nothing_out(tmp_path: Path, eos: str) -> None:
    path = parquet(tmp_path / "a.parquet", editions(["Dracula"] * 8))
    with pytest.raises(PipelineError, match="The dataset holds no text out"):
        read_samples([path], "text", 0, eos=eos)


@pytest.mark.parametrize("eos", ["document", "chunk"])
@pytest.mark.parametrize("suffix", ["parquet", "jsonl"])
def test_equal_texts_are_on_the_same_side(tmp_path: Path, suffix: str, eos: str) -> None:
    path = tmp_path / f"rows.{suffix}"
    (parquet if suffix == "parquet" else jsonl)(path, TEXTS * 3)
    training, held_out = read_samples([path], "text", 0, eos=eos)
    assert len(held_out) >= 3
    assert not {s.text for s in training} & {s.text for s in held_out}


@pytest.mark.parametrize("name", ["dev/rows.jsonl", "test/rows.jsonl", "test-letters.jsonl"])
def test_a_dataset_that_looks_held_out_as_a_whole_is_trained_on(tmp_path: Path, name: str) -> None:
    path = tmp_path / name
    path.parent.mkdir(exist_ok=True)
    training, held_out = read_samples([jsonl(path, PAIRS)], "completion", 0)
    assert len(training) > len(held_out) > 0


def test_a_folder_that_all_files_lie_in_tells_no_split(tmp_path: Path) -> None:
    (tmp_path / "test").mkdir()
    one = jsonl(tmp_path / "test" / "letters.jsonl", PAIRS[:15])
    two = jsonl(tmp_path / "test" / "letters-validation.jsonl", PAIRS[15:])
    assert [len(side) for side in read_samples([one, two], "completion", 0)] == [15, 5]
    (tmp_path / "more").mkdir()
    three = jsonl(tmp_path / "more" / "a.jsonl", PAIRS)
    assert [len(side) for side in read_samples([one, three], "completion", 0)] == [20, 15]


@pytest.mark.parametrize(
    ("names", "held_out"),
    [
        (["train/en/a.jsonl", "test/en/a.jsonl", "test/fr/a.jsonl"], 2),
        (["data/train-0.jsonl", "data/test-0.jsonl", "data/validation-0.jsonl"], 2),
        (["dev/en/a.jsonl", "dev/fr/a.jsonl", "dev/fr/test.jsonl"], 1),
        (["x/a.jsonl", "x/y/val/z/b.jsonl"], 1),
        (["test/en/a.jsonl", "test/fr/a.jsonl"], 0),
    ],
)
def test_a_split_is_told_by_any_folder_that_not_all_files_lie_in(
    tmp_path: Path, names: list[str], held_out: int
) -> None:
    train, held = split_files([tmp_path / name for name in names])
    assert [len(train), len(held)] == [len(names) - held_out, held_out]
    assert not any({"test", "val", "validation"} & set(p.parts[len(tmp_path.parts):])
                   for p in train if held_out)  # fmt: skip


BLANKS: list[dict[str, Any]] = [*TEXTS, {"text": None}, {"text": " \n"}, {"text": ""}]


@pytest.mark.parametrize("eos", ["document", "chunk"])
@pytest.mark.parametrize("column", ["text", "content"])
@pytest.mark.parametrize("suffix", ["parquet", "jsonl", "csv"])
def test_the_same_rows_are_the_same_samples_in_every_format(
    tmp_path: Path, suffix: str, column: str, eos: str
) -> None:
    rows = [{column: row["text"]} for row in BLANKS]
    path = tmp_path / f"rows.{suffix}"
    if suffix == "csv":
        with path.open("w", newline="") as file:
            writer = csv.DictWriter(file, [column], quoting=csv.QUOTE_ALL)
            writer.writeheader()
            writer.writerows(rows)
    else:
        (parquet if suffix == "parquet" else jsonl)(path, rows)
    assert choose_kind([path]) == ("text", [path])
    training, held_out = read_samples([path], "text", 0, eos=eos)
    expected = sorted((row["text"] or "").rstrip("\n") for row in BLANKS)
    assert sorted(s.text for s in (*training, *held_out)) == expected
    assert held_out
    assert all(s.text.strip() for s in held_out), "nothing can be scored on an empty one"


def test_the_line_ends_taken_off_are_counted(tmp_path: Path) -> None:
    rows = [{"text": "A.\n\n"}, {"text": "B.\n"}, {"text": "\n"}, {"text": "C."}]
    training, held_out = read_samples([parquet(tmp_path / "a.parquet", rows)], "text", 0)
    counts = {s.text: s.end_newlines for s in (*training, *held_out)}
    assert counts == {"A.": 2, "B.": 1, "": 1, "C.": 0}


@pytest.mark.parametrize("kind", ROWS)
def test_a_dataset_of_which_nothing_can_be_held_out_is_one_sentence(
    tmp_path: Path, kind: str
) -> None:
    path = jsonl(tmp_path / "one.jsonl", ROWS[kind][:1])
    what = "text" if kind == "text" else "record"
    with pytest.raises(PipelineError, match=f"The dataset holds no {what} out"):
        read_samples([path], kind, 0)  # type: ignore[arg-type]


def test_a_row_that_is_no_example_is_named(tmp_path: Path) -> None:
    path = jsonl(tmp_path / "rows.jsonl", [*PAIRS, {"prompt": "Who?", "completion": ""}])
    with pytest.raises(PipelineError, match=r"rows\.jsonl, line 21: it has an empty 'completion'"):
        read_samples([path], "completion", 0)


def test_patterns_and_addresses_are_expanded(tmp_path: Path) -> None:
    one, two = (jsonl(tmp_path / f"{name}.jsonl", TEXTS) for name in ("a", "b"))
    (tmp_path / "c.txt").write_text("no table")
    assert files_at(str(tmp_path / "*"), tmp_path / "cache") == [one, two]
    assert files_at(f"file://{tmp_path}/{{a,b}}.jsonl", tmp_path / "cache") == [one, two]
    with pytest.raises(PipelineError, match="names no Parquet, JSON or CSV file"):
        files_at(str(tmp_path / "*.txt"), tmp_path / "cache")
    assert is_address("s3://bucket/x.jsonl")
    assert is_address("data/*.parquet")
    assert not is_address("user/name")


def test_a_remote_table_keeps_its_name(tmp_path: Path) -> None:
    (tmp_path / "web" / "validation").mkdir(parents=True)
    jsonl(tmp_path / "web" / "validation" / "a.jsonl", TEXTS)

    class Quiet(SimpleHTTPRequestHandler):
        def log_message(self, *arguments: object) -> None:
            """Keep the test's output clean."""

    handler = partial(Quiet, directory=str(tmp_path / "web"))
    with ThreadingHTTPServer(("127.0.0.1", 0), handler) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        url = f"http://127.0.0.1:{server.server_port}/validation/a.jsonl"
        (path,) = files_at(url, tmp_path / "cache")
        server.shutdown()
    assert (path.parent.name, path.name) == ("validation", "a.jsonl")
    assert choose_kind([path])[0] == "text"


def test_a_template_must_be_jinja(tmp_path: Path) -> None:
    path = tmp_path / "chat.jinja"
    path.write_text("{% for m in messages %}{%- generation %}{{ m.content }}{% endgeneration -%}\n"
                    "{% if m.last %}{% break %}{% endif %}{% endfor %}")  # fmt: skip
    for fine in (None, "plain", str(path)):
        check_template(fine)
    path.write_text("{% for m in messages %}\n{{ m.content | shout }}{% endfor %}")
    with pytest.raises(UsageError, match=r"chat\.jinja is no Jinja template: line 2: .*shout"):
        check_template(str(path))
    path.write_text("{% for m in messages %}")
    with pytest.raises(UsageError, match="is no Jinja template"):
        check_template(str(path))


def test_a_template_is_plain_or_a_file(tmp_path: Path) -> None:
    path = tmp_path / "chat.jinja"
    path.write_text("{{ messages }}")
    assert read_template(str(path)) == "{{ messages }}"
    assert read_template("plain") == "plain"
    assert read_template(None) is None
    with pytest.raises(UsageError, match=r"--chat-template .*none\.jinja cannot be read"):
        read_template(str(tmp_path / "none.jinja"))

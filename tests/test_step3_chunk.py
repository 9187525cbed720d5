"""Stage 3: documents in, chunks out; only what changed is made again; every character counted."""

import json
import os
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq
import pytest

from pipeline.books.sample import sample_library
from pipeline.corpus import chunk_jobs, shard_files, shard_plan
from pipeline.corpus.chunk_jobs import Made, Place, ShardJob, make_shard
from pipeline.corpus.shards import find_splits, read_documents
from pipeline.errors import PipelineError, Stopped, UsageError
from pipeline.step1_acquire import acquire
from pipeline.step2_preprocess import preprocess
from pipeline.step3_chunk import chunk
from tests.corpus.test_passages import book
from tests.corpus.test_tokenizing import count, save_tokenizer


def shelve(data: Path, texts: dict[str, str], **about: dict[str, Any]) -> Path:
    """A `2_preprocessed` as stage 2 leaves it; `about` is more of the report, by document."""
    folder = data / "2_preprocessed"
    folder.mkdir(parents=True, exist_ok=True)
    rows = []
    for name, text in texts.items():
        (folder / f"{name}.txt").write_text(text)
        row = {
            "file": f"{name}.txt", "document_id": name, "verdict": "kept",
            "characters_in": len(text) + 10, "characters_out": len(text),
            "removed": {"boilerplate": {"count": 1, "characters": 10}},
        }  # fmt: skip
        rows.append(row | about.get(name, {}))
    (folder / "report.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    return folder


def record(data: Path) -> dict[str, Any]:
    value: dict[str, Any] = json.loads((data / "3_chunks" / "stage.json").read_text())
    return value


def files(data: Path) -> dict[str, bytes]:
    folder = data / "3_chunks"
    return {path.name: path.read_bytes() for path in sorted(folder.glob("*")) if path.is_file()}


def rows(data: Path, split: str = "*") -> list[dict[str, Any]]:
    paths = sorted((data / "3_chunks").glob(f"{split}-*.parquet"))
    return [row for path in paths for row in pq.read_table(path).to_pylist()]


def lines(data: Path) -> dict[str, dict[str, Any]]:
    text = (data / "3_chunks" / "documents.jsonl").read_text()
    return {line["file"]: line for line in map(json.loads, text.splitlines())}


def documents(data: Path) -> dict[str, str]:
    """The documents, joined again from the chunks of both splits."""
    found: dict[str, str] = {}
    for paths in find_splits((data / "3_chunks").glob("*.parquet")):
        for document in read_documents(paths):
            found[document.id] = found.get(document.id, "") + document.text
    return found


SHELF = {f"{n:02}": book(n, 3000 + 100 * n) for n in range(12)}


@pytest.fixture
def small_shards(monkeypatch: pytest.MonkeyPatch) -> None:
    """A shelf of some books has several shards."""
    monkeypatch.setattr(shard_plan, "SHARD_TEXT", 60_000)


@pytest.fixture
def made(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """The first document of each shard that is made, as it is made."""
    names: list[str] = []

    def noting(work: tuple[ShardJob, Place]) -> Made:
        if work[1].folder:
            names.append(work[0].texts[0].id)
        return make_shard(work)

    monkeypatch.setattr(shard_files, "make_shard", noting)
    return names


def test_the_chunks_are_the_documents_and_say_all_that_is_known(tmp_path: Path) -> None:
    known = {"title": "T", "authors": ["A", "B"], "language": "en", "rights": "free", "work": "00",
             "source": "https://example.org", "collection": "novels", "weight": 0.5}  # fmt: skip
    shelve(tmp_path, SHELF, **{"03": known})
    chunk(tmp_path)
    assert documents(tmp_path) == SHELF
    (first, *_) = [row for row in rows(tmp_path) if row["document_id"] == "03"]
    assert known.items() <= first.items()
    assert (first["overlap"], first["tokens"], first["chunk"]) == (0, None, 0)
    (other, *_) = [row for row in rows(tmp_path) if row["document_id"] == "04"]
    assert (other["work"], other["title"], other["weight"]) == ("04", None, None)
    for split in ("train", "validation"):
        assert {row["split"] for row in rows(tmp_path, split)} == {split}
    assert lines(tmp_path)["03.txt"]["work"] == "00"
    counts = record(tmp_path)["counts"]
    assert (counts["documents"], counts["chunks"]) == (12, len(rows(tmp_path)))


def test_sentences_are_told_in_the_documents_own_language(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked = []
    chunk_ends = chunk_jobs.chunk_ends

    def asking(*arguments: Any) -> list[int]:
        asked.append(arguments[3])
        return chunk_ends(*arguments)

    monkeypatch.setattr(chunk_jobs, "chunk_ends", asking)
    shelve(tmp_path, {"a": "Eins.\n", "b": "One.\n", "c": "Um.\n"},
           a={"language": "de"}, c={"language": "pt-BR"})  # fmt: skip
    chunk(tmp_path, validation_fraction=0)
    assert asked == ["de", "en", "pt"]


@pytest.mark.usefixtures("small_shards")
def test_equal_inputs_give_equal_bytes_whatever_the_number_of_processes(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(shard_files, "SMALL_WORK", 0)
    for jobs in (1, 2):
        shelve(tmp_path / str(jobs), SHELF)
        chunk(tmp_path / str(jobs), jobs=jobs)
    one, two = (files(tmp_path / jobs) for jobs in "12")
    assert len(one) > 5
    del one["stage.json"], two["stage.json"]
    assert one == two


@pytest.mark.usefixtures("small_shards")
def test_an_edited_book_changes_its_own_shard_only(tmp_path: Path, made: list[str]) -> None:
    folder = shelve(tmp_path, SHELF)
    chunk(tmp_path)
    before, count = files(tmp_path), len(made)
    assert count > 4
    (folder / "05.txt").write_text("I was here. " + SHELF["05"])
    chunk(tmp_path)
    assert len(made) == count + 1
    changed = [name for name, data in files(tmp_path).items() if before.get(name) != data]
    assert len(changed) == 3, "a shard, documents.jsonl and stage.json"
    assert documents(tmp_path)["05"].startswith("I was here.")
    assert len(lines(tmp_path)) == 12


@pytest.mark.usefixtures("small_shards")
@pytest.mark.parametrize("change", ["drop", "add"])
def test_shards_that_only_have_another_number_now_are_not_made_again(
    tmp_path: Path, made: list[str], change: str
) -> None:
    shelve(tmp_path, SHELF)
    chunk(tmp_path, validation_fraction=0)
    before = files(tmp_path)
    made.clear()
    shelf = {name: text for name, text in SHELF.items() if name != made_first(before)}
    if change == "add":
        shelf = SHELF | {f"{n:03}": book(100 + n, 4000) for n in range(8)}
    shutil.rmtree(tmp_path / "2_preprocessed")
    shelve(tmp_path, shelf)
    chunk(tmp_path, validation_fraction=0)
    after = files(tmp_path)
    assert len(made) < len(before) - 2, "the others are there under another name"
    parquet = {name for name in after if name.endswith(".parquet")}
    assert parquet == {f"train-{n:05}-of-{len(parquet):05}.parquet" for n in range(len(parquet))}
    assert documents(tmp_path) == shelf
    assert set(lines(tmp_path)) == {f"{name}.txt" for name in shelf}
    fresh = tmp_path / "fresh"
    shelve(fresh, shelf)
    chunk(fresh, validation_fraction=0)
    del after["stage.json"]
    assert {k: v for k, v in files(fresh).items() if k != "stage.json"} == after


def made_first(before: dict[str, bytes]) -> str:
    """A document of the first shard."""
    lines = [json.loads(line) for line in before["documents.jsonl"].decode().splitlines()]
    return str(lines[0]["document_id"])


@pytest.mark.usefixtures("small_shards")
def test_a_stopped_run_goes_on_with_the_shards_that_are_missing(
    tmp_path: Path, made: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    shelve(tmp_path, SHELF)
    chunk(tmp_path)
    straight, number = files(tmp_path), len(made)
    shutil.rmtree(tmp_path / "3_chunks")
    make = shard_files.make_shard

    def stopping(work: tuple[ShardJob, Place]) -> Made:
        if len(made) == number + 3:
            raise KeyboardInterrupt
        return make(work)

    monkeypatch.setattr(shard_files, "make_shard", stopping)
    with pytest.raises(Stopped, match="What was finished is in"):
        chunk(tmp_path)
    assert record(tmp_path)["status"] == "partial"
    monkeypatch.setattr(shard_files, "make_shard", make)
    chunk(tmp_path)
    assert len(made) == 2 * number, "three before the stop, the others after it"
    finished = files(tmp_path)
    del straight["stage.json"], finished["stage.json"]
    assert finished == straight


@pytest.mark.usefixtures("small_shards")
def test_other_settings_and_force_make_all_again_and_another_split_only_what_it_moves(
    tmp_path: Path, made: list[str]
) -> None:
    shelve(tmp_path, SHELF)
    runs: list[Callable[[], None]] = [
        lambda: chunk(tmp_path),
        lambda: chunk(tmp_path),
        lambda: chunk(tmp_path, force=True),
        lambda: chunk(tmp_path, chunk_size=3000),
    ]
    numbers = []
    for run in runs:
        made.clear()
        run()
        numbers.append(len(made))
    assert numbers[0] == numbers[2] == numbers[3] > 4
    assert numbers[1] == 0
    made.clear()
    chunk(tmp_path, chunk_size=3000, split_seed=1)
    assert 0 < len(made) < numbers[0]
    assert documents(tmp_path) == SHELF


def test_records_that_have_not_changed_are_not_written_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = shelve(tmp_path, SHELF)
    pairs = [{"prompt": f"{n}?", "completion": f" {n}!"} for n in range(50)]
    (folder / "qa.completion.jsonl").write_text("".join(json.dumps(p) + "\n" for p in pairs))
    chunk(tmp_path)
    before = lines(tmp_path)["qa.completion.jsonl"]
    assert (before["records"], before["by_hand"]) == (50, before["characters"])
    (folder / "05.txt").write_text("Shorter.\n")

    def refusing(*_: Any) -> None:
        raise AssertionError("written again")

    monkeypatch.setattr(shard_files, "write_record_files", refusing)
    chunk(tmp_path)
    assert lines(tmp_path)["qa.completion.jsonl"] == before
    assert len(rows(tmp_path, "completion")) == 50
    assert {row["split"] for row in rows(tmp_path, "completion-train")} == {"train"}


def test_chunks_overlap_as_far_as_asked_and_joined_are_the_document(tmp_path: Path) -> None:
    shelve(tmp_path, SHELF)
    chunk(tmp_path, chunk_size=2000, minimum_size=1500, overlap=300)
    assert documents(tmp_path) == SHELF
    several = rows(tmp_path)
    joined = "".join(row["text"][row["overlap"] :] for row in several if row["document_id"] == "03")
    assert joined == SHELF["03"]
    assert max(len(row["text"]) for row in several) <= 2000
    assert all((row["overlap"] == 0) == (row["chunk"] == 0) for row in several)
    assert max(row["overlap"] for row in several) <= 300
    assert all(row["char_end"] - row["char_start"] == len(row["text"]) for row in several)
    counts = record(tmp_path)["counts"]
    assert counts["ledger"]["total"]["in_chunks"] == sum(map(len, SHELF.values()))


def test_what_is_held_out_of_a_single_text_does_not_begin_with_what_is_trained_on(
    tmp_path: Path,
) -> None:
    shelve(tmp_path, {"only": SHELF["11"]})
    chunk(tmp_path, chunk_size=2000, overlap=300)
    first = rows(tmp_path, "validation")[0]
    assert first["overlap"] == 0
    assert first["char_start"] == rows(tmp_path, "train")[-1]["char_end"]
    assert documents(tmp_path) == {"only": SHELF["11"]}
    line = lines(tmp_path)["only.txt"]
    assert line["split"] == "train and validation"
    assert line["train"] + line["validation"] == line["characters"]
    assert "contamination" not in record(tmp_path)["counts"]


@pytest.mark.parametrize(
    ("text", "said"), [(SHELF["11"], "its end is held out"), (SHELF["00"][:1500], "too little")]
)
def test_whether_something_is_held_out_of_a_single_text_is_said_once(
    tmp_path: Path, text: str, said: str
) -> None:
    shelve(tmp_path, {"only": text})
    chunk(tmp_path, chunk_size=2000)
    warnings = record(tmp_path)["warnings"]
    assert len(warnings) == 1
    assert said in warnings[0]


def test_sizes_in_tokens(tmp_path: Path, made: list[str]) -> None:
    shelve(tmp_path, SHELF)
    tokenizer = save_tokenizer(tmp_path / "tiny")
    chunk(tmp_path, tokenizer=str(tokenizer), chunk_size=500, overlap=40)
    assert documents(tmp_path) == SHELF
    several = rows(tmp_path)
    assert max(row["tokens"] for row in several) <= 500
    for row in several[::20]:
        assert abs(count(tokenizer / "tokenizer.json", row["text"]) - row["tokens"]) <= 2
    line = lines(tmp_path)["03.txt"]
    assert abs(line["tokens"] - count(tokenizer / "tokenizer.json", SHELF["03"])) <= 2
    tokens = [line["tokens"] for line in lines(tmp_path).values()]
    assert record(tmp_path)["counts"]["tokens"] == sum(tokens)
    made.clear()
    chunk(tmp_path, tokenizer=str(tokenizer), chunk_size=500, overlap=40)
    assert made == []
    save_tokenizer(tmp_path / "tiny", vocabulary=280)
    chunk(tmp_path, tokenizer=str(tokenizer), chunk_size=500, overlap=40)
    assert made, "the same name, but another tokenizer"
    assert lines(tmp_path)["03.txt"]["tokens"] > line["tokens"]


def test_sizes_that_make_no_sense_are_refused(tmp_path: Path) -> None:
    shelve(tmp_path, SHELF)
    with pytest.raises(UsageError, match="--overlap 4000 is more than half of --chunk-size 7000"):
        chunk(tmp_path, overlap=4000)
    with pytest.raises(UsageError, match="--minimum-size 8000 is above --chunk-size 7000"):
        chunk(tmp_path, minimum_size=8000)
    tokenizer = str(save_tokenizer(tmp_path / "tiny"))
    with pytest.raises(UsageError, match="--minimum-size 2000 is above --chunk-size 1536"):
        chunk(tmp_path, minimum_size=2000, tokenizer=tokenizer)


def test_editions_are_on_one_side_and_those_of_what_is_for_evaluation_are_named(
    tmp_path: Path,
) -> None:
    works = {f"{n:02}": {"work": f"{n // 2:02}"} for n in range(12)}
    shelve(tmp_path / "a", SHELF, **works)
    chunk(tmp_path / "a")
    sides = {(line["work"], line["split"]) for line in lines(tmp_path / "a").values()}
    assert len(sides) == 6
    works["04"]["weight"] = 0  # type: ignore[assignment]
    shelve(tmp_path / "b", SHELF, **works)
    chunk(tmp_path / "b")
    held_out = [name for name, x in lines(tmp_path / "b").items() if x["split"] == "validation"]
    assert held_out == ["04.txt", "05.txt"]
    assert record(tmp_path / "b")["warnings"][0].startswith("05 is the same work as 04, which")


def test_text_to_train_on_that_is_held_out_too_is_measured_and_named(tmp_path: Path) -> None:
    shelf = SHELF | {"copy": book(50) + "\n\n" + SHELF["07"]}
    shelve(tmp_path, shelf, **{"07": {"weight": 0}})
    chunk(tmp_path)
    found = record(tmp_path)["counts"]["contamination"]
    assert [(x["document_id"], x["with"]) for x in found["documents"]] == [("07", "copy")]
    assert found["share"] > 0.9
    assert any("07 is held out, but" in warning for warning in record(tmp_path)["warnings"])
    # The passages are kept beside the data, and made again where they are gone.
    (kept,) = {path.parent for path in (tmp_path / ".cache").rglob("*.npz")}
    shutil.rmtree(kept)
    (tmp_path / "2_preprocessed" / "01.txt").write_text("Another.\n")
    chunk(tmp_path)
    assert record(tmp_path)["counts"]["contamination"] == found


def test_an_empty_file_is_left_out_by_name_and_one_that_is_not_utf8_is_an_error(
    tmp_path: Path,
) -> None:
    folder = shelve(tmp_path, SHELF)
    (folder / "02.txt").write_text("\ufeff \u00a0\n")
    chunk(tmp_path)
    assert "02.txt" not in lines(tmp_path)
    assert record(tmp_path)["warnings"] == [f"{folder / '02.txt'} is empty: left out."]
    assert record(tmp_path)["counts"]["ledger"]["total"]["removed"]["deleted"] == len(SHELF["02"])
    (folder / "03.txt").write_bytes(b"one\ntw\xf6\n" + b"three\n" * 500)
    with pytest.raises(PipelineError, match=r"03\.txt:2 is not UTF-8 text"):
        chunk(tmp_path)


def test_nothing_to_train_on_is_said_before_anything_is_written(tmp_path: Path) -> None:
    shelve(tmp_path, {"a": "One.\n", "b": "Two.\n"}, a={"weight": 0}, b={"weight": 0})
    with pytest.raises(PipelineError, match="No text is left to train on"):
        chunk(tmp_path)
    assert not rows(tmp_path)


def test_every_character_of_real_books_is_accounted_for_whatever_a_person_does(
    tmp_path: Path, shared_books: Path
) -> None:
    books = [str(shared_books / name) for name in ("932.txt", "1064.txt")]
    data = tmp_path / "data"
    acquire(data, source=[*books, str(sample_library())])
    for name in ("114-modern.txt", "1064.txt"):  # a web page, and a book a second time
        shutil.copyfile(shared_books / name, data / "1_raw" / f"put-{name}")
    preprocess(data)
    clean = data / "2_preprocessed"
    names = sorted(path.name for path in clean.glob("*.txt"))
    edited, spoiled, deleted, *_ = (name for name in names if "1064" not in name)
    (clean / edited).write_text("Written by hand.\n\n" + (clean / edited).read_text()[50:])
    (clean / spoiled).write_bytes((clean / spoiled).read_bytes().replace(b"\n", b"\r\n"))
    (clean / deleted).unlink()
    (clean / "mine.txt").write_text("A tale of my own.\n")
    (clean / "put-114-modern.txt").write_text("What I made of the web page.\n")
    preprocess(data)
    chunk(data)
    total = record(data)["counts"]["ledger"]["total"]
    assert {"rejected", "deleted", "boilerplate"} <= total["removed"].keys()
    report = [json.loads(line) for line in (clean / "report.jsonl").read_text().splitlines()]
    texts = {path.name: path.read_text("utf-8") for path in clean.glob("*.txt")}
    assert total["in_chunks"] == sum(map(len, texts.values()))
    assert total["in_chunks"] == total["train"] + total["validation"]
    assert total["characters_in"] == sum(row.get("characters_in") or 0 for row in report)
    removed = sum(total["removed"].values())
    assert total["characters_in"] - removed + total["by_hand"] == total["in_chunks"]
    found = lines(data)
    assert found[edited]["by_hand"] == len("Written by hand.\n\n") - 50
    assert found[spoiled]["by_hand"] == 0
    assert found["mine.txt"]["by_hand"] == len("A tale of my own.\n")
    assert found["put-114-modern.txt"]["by_hand"] == len("What I made of the web page.\n")
    assert deleted not in found
    assert total["removed"]["deleted"] > 0
    assert documents(data) == {name.removesuffix(".txt"): text for name, text in texts.items()}


@pytest.mark.parametrize("name", [b"caf\xe9.txt", b"caf\xe9.chat.jsonl"])
def test_a_name_that_is_not_utf8_is_refused(tmp_path: Path, name: bytes) -> None:
    folder = shelve(tmp_path, {"a": "It was late.\n"})
    try:
        (folder / os.fsdecode(name)).write_text("x")
    except OSError:
        pytest.skip("this file system takes no such name")
    with pytest.raises(PipelineError, match=r"The name of 'caf.*' is not UTF-8") as error:
        chunk(tmp_path)
    assert error.value.hint == "Rename the file."
    str(error.value).encode()


@pytest.mark.parametrize(
    ("field", "value"),
    [("weight", "x"), ("weight", True), ("weight", float("nan")), ("title", ["a"]),
     ("authors", 7), ("authors", [None]), ("rights", {}), ("language", 1)],
)  # fmt: skip
def test_a_report_that_says_what_cannot_be_is_refused(
    tmp_path: Path, field: str, value: Any
) -> None:
    shelve(tmp_path, {"a": "It was late.\n", "b": "Dawn.\n"}, b={field: value})
    with pytest.raises(PipelineError, match=rf'report\.jsonl: "{field}" of b\.txt is '):
        chunk(tmp_path)


def test_authors_in_one_string_are_one_author(tmp_path: Path) -> None:
    shelve(tmp_path, {"a": book(1, 3000), "b": book(2, 3000)}, a={"authors": "Mary Shelley"})
    chunk(tmp_path)
    mine = [row["authors"] for row in rows(tmp_path) if row["document_id"] == "a"]
    assert mine[0] == ["Mary Shelley"]
    assert lines(tmp_path)["a.txt"]["authors"] == ["Mary Shelley"]


def test_texts_that_are_not_read_are_named(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    folder = shelve(tmp_path, {"a": book(1, 3000), "b": book(2, 3000)})
    for name in ("C.TXT", "more/d.txt", "rejected/e.txt", ".hidden/f.txt", "picture.png"):
        (folder / name).parent.mkdir(exist_ok=True)
        (folder / name).write_text("x")
    for _ in range(2):
        chunk(tmp_path)
        said = capsys.readouterr().err
        assert said.count("are not read (C.TXT, more/d.txt)") == 1
        assert "2 files in" in said


def test_a_text_and_records_of_one_name_are_refused(tmp_path: Path) -> None:
    folder = shelve(tmp_path, {"letters": "It was late.\n"})
    (folder / "letters.completion.jsonl").write_text('{"prompt": "a", "completion": "b"}\n')
    said = r"letters\.txt and .*letters\.completion\.jsonl would be one document"
    with pytest.raises(PipelineError, match=said):
        chunk(tmp_path)

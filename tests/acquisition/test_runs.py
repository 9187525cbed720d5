"""Stage 1 over several runs: what a mistake leaves alone, what goes, what stays with whom."""

import json
import os
from pathlib import Path
from typing import Any

import pytest

from pipeline.errors import PipelineError, UsageError
from pipeline.step1_acquire import OnBadRecord, acquire
from pipeline.step2_preprocess import preprocess
from tests.acquisition.data import counts, names, rows, text
from tests.gutendex_server import GutendexServer


def folder(path: Path, **files: str) -> str:
    path.mkdir(parents=True, exist_ok=True)
    for name, content in files.items():
        (path / f"{name}.txt").write_text(content)
    return str(path)


def jsonl(path: Path, *values: Any) -> str:
    path.write_text("".join(json.dumps(value) + "\n" for value in values))
    return str(path)


def snapshot(data: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in (data / "1_raw").iterdir() if path.is_file()}


# --- a run that fails -----------------------------------------------------------------------------


@pytest.mark.parametrize(
    "options",
    [
        {"topic": "horor"},
        {"topic": "horror", "copyright": "maybe"},
        {"topic": "horror", "mirror": ["pglaf.org"]},
        {"topic": "horror", "gutendex_url": "http://127.0.0.1:9"},
        {"source": ["not/there/at/all"]},
        {"source": ["a=1"]},
        {"fraction": 0.0, "topic": "horror"},
    ],
)
def test_a_mistake_leaves_what_was_complete_as_it_was(
    tmp_path: Path, options: dict[str, Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    data = tmp_path / "data"
    (tmp_path / "a").mkdir()
    monkeypatch.chdir(tmp_path)
    folder(tmp_path / "a", one="One.\n")
    with GutendexServer({1: ("A Book", b"Its text.\n")}) as server:
        acquire(data, topic="horror", num_records=1, gutendex_url=server.url)
        before = snapshot(data)
        with pytest.raises(PipelineError):
            acquire(data, **{"gutendex_url": server.url, **options})
    assert snapshot(data) == before
    preprocess(data, quality=False)


def test_a_book_that_is_refused_for_good_does_not_keep_the_stage_at_work(tmp_path: Path) -> None:
    books = {1: ("One", b"A text.\n"), 2: ("Page", b"<html><body>x</body></html>")}
    with GutendexServer(books) as server:
        for _ in range(2):  # it is doubted once
            acquire(tmp_path, topic="horror", num_records=2, gutendex_url=server.url)
        assert server.downloads == [1, 2, 2]
        acquire(tmp_path, topic="horror", num_records=2, gutendex_url=server.url)
        assert server.downloads == [1, 2, 2]
        server.books[2] = ("Page", b"A text after all.\n")
        acquire(tmp_path, topic="horror", num_records=2, gutendex_url=server.url, refresh=True)
    assert len(names(tmp_path)) == 2


def test_a_host_that_is_not_there_is_one_books_trouble(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    dead = {2: {"formats": {"text/plain": "http://127.0.0.1:9/2.txt"}}}
    books = {n: (f"Book {n}", f"Text {n}.\n".encode()) for n in range(1, 5)}
    with GutendexServer(books, entries=dead) as server:
        acquire(tmp_path, topic="horror", num_records=4, gutendex_url=server.url)
        assert len(names(tmp_path)) == 3
        assert "Book 2 (2)" in rows(tmp_path, "refused.jsonl")[0]["what"]
        url = server.url
    with pytest.raises(PipelineError):
        acquire(tmp_path, topic="horror", num_records=4, gutendex_url=url, force=True)
    capsys.readouterr()
    acquire(tmp_path, topic="horror", num_records=4, gutendex_url=url)
    assert "stands as it is" in capsys.readouterr().err, "no network, but all the rest is there"
    assert len(names(tmp_path)) == 3
    preprocess(tmp_path, quality=False)


def test_a_hostile_address_spoils_no_other_book(tmp_path: Path) -> None:
    odd = {2: {"formats": {"text/plain": "http://[bad/2.txt"}}}
    books = {n: (f"Book {n}", f"Text {n}.\n".encode()) for n in range(1, 4)}
    with GutendexServer(books, entries=odd) as server:
        acquire(tmp_path, topic="horror", num_records=3, gutendex_url=server.url)
    assert len(names(tmp_path)) == 2


# --- what is no longer there ----------------------------------------------------------------------


def test_the_sample_library_makes_room_for_a_persons_texts(tmp_path: Path) -> None:
    acquire(tmp_path / "data")
    mine = next((tmp_path / "data" / "1_raw").glob("900003*.txt"))
    mine.write_text("I made this tale my own.\n")
    acquire(tmp_path / "data", source=[folder(tmp_path / "a", x="My text.\n")])
    assert names(tmp_path / "data") == [mine.name, "x.txt"]


def test_a_file_or_row_that_left_its_source_leaves_the_corpus(tmp_path: Path) -> None:
    data, source = tmp_path / "data", folder(tmp_path / "a", one="One.\n", two="Two.\n")
    table = jsonl(tmp_path / "t.jsonl", {"text": "A."}, {"text": "B."}, {"text": "C."})
    acquire(data, source=[source, table])
    (tmp_path / "a" / "two.txt").rename(tmp_path / "a" / "deux.txt")
    jsonl(tmp_path / "t.jsonl", {"text": "B."}, {"text": "C."})
    acquire(data, source=[source, table])
    assert [text(data, name) for name in names(data)] == ["Two.\n", "One.\n", "B.", "C."]
    assert counts(data)["gone from their source"] == 2


@pytest.mark.parametrize("beside", ["list.csv", "scan.pdf", "stage.json"])
def test_a_text_that_left_a_folder_is_gone_whatever_else_is_left_alone_there(
    tmp_path: Path, beside: str
) -> None:
    data, source = tmp_path / "data", folder(tmp_path / "a", one="One.\n", two="Two.\n")
    (tmp_path / "a" / beside).write_text("file,title\none.txt,One\n")
    acquire(data, source=[source])
    (tmp_path / "a" / "two.txt").unlink()
    acquire(data, source=[source])
    assert names(data) == ["one.txt"]
    assert counts(data)["gone from their source"] == 1


def test_what_came_from_a_table_stays_while_that_is_left_alone_and_goes_with_it(
    tmp_path: Path,
) -> None:
    data, source = tmp_path / "data", tmp_path / "t"
    source.mkdir()
    jsonl(source / "texts.jsonl", {"text": "A."}, {"text": "B."})
    jsonl(source / "pairs.jsonl", {"prompt": "P", "completion": " C"})
    acquire(data, source=[str(source)])
    folder(source, one="One.\n", two="Two.\n")  # now the tables are left alone
    acquire(data, source=[str(source)])
    assert len(names(data)) == 5
    (source / "one.txt").unlink()
    acquire(data, source=[str(source)])
    assert "one.txt" not in names(data) and len(names(data)) == 4
    (source / "texts.jsonl").unlink()
    acquire(data, source=[str(source)])
    assert names(data) == ["pairs.completion.jsonl", "two.txt"]
    (source / "pairs.jsonl").unlink()
    acquire(data, source=[str(source)])
    assert names(data) == ["two.txt"]


def test_beside_a_table_that_is_not_understood_any_more_another_that_left_is_gone(
    tmp_path: Path,
) -> None:
    data, source = tmp_path / "data", tmp_path / "t"
    source.mkdir()
    for name in "xyz":
        jsonl(source / f"{name}.jsonl", {"text": f"{name}."})
    acquire(data, source=[str(source)])
    jsonl(source / "x.jsonl", {"words": "x."})
    (source / "y.jsonl").unlink()
    acquire(data, source=[str(source)])
    assert [text(data, name) for name in names(data)] == ["x.", "z."]


def test_a_file_that_cannot_be_used_any_more_is_refused_and_not_gone(tmp_path: Path) -> None:
    data, source = tmp_path / "data", folder(tmp_path / "a", one="One.\n", two="Two.\n")
    (tmp_path / "a" / "list.csv").write_text("file,title\none.txt,One\n")
    acquire(data, source=[source])
    (tmp_path / "a" / "two.txt").write_bytes(b"\0\1\2" * 99)
    acquire(data, source=[source])
    assert names(data) == ["one.txt", "two.txt"]
    assert "gone from their source" not in counts(data)
    assert text(data, "two.txt") == "Two.\n"


def test_a_text_about_a_folder_of_tables_stays_while_it_is_left_alone(tmp_path: Path) -> None:
    data, source = tmp_path / "data", folder(tmp_path / "a", README="What this is.\n")
    acquire(data, source=[source])
    jsonl(tmp_path / "a" / "t.jsonl", {"text": "A."})
    acquire(data, source=[source])
    assert names(data) == ["readme.txt", "t-000001.txt"]


def test_rows_of_a_catalogue_that_names_no_tables_stay_while_any_is_left_alone(
    tmp_path: Path,
) -> None:
    data, source = tmp_path / "data", tmp_path / "t"
    source.mkdir()
    jsonl(source / "x.jsonl", {"text": "A."})
    acquire(data, source=[str(source)])
    record = data / "1_raw" / "stage.json"
    old = json.loads(record.read_text())
    for output in old["outputs"]:
        output.get("row", {}).pop("table", None)
    record.write_text(json.dumps(old))
    folder(source, one="One.\n")
    acquire(data, source=[str(source)])
    assert len(names(data)) == 2


def test_a_trial_run_takes_nothing_away(tmp_path: Path) -> None:
    data, source = tmp_path / "data", folder(tmp_path / "a", one="One.\n", two="Two.\n")
    acquire(data, source=[source])
    acquire(data, source=[source], limit=1)
    assert len(names(data)) == 2


def test_a_quarantine_lasts_as_long_as_its_table_is_not_read_again(tmp_path: Path) -> None:
    data = tmp_path / "data"
    good = {"prompt": "P", "completion": " C"}
    first = jsonl(tmp_path / "a.jsonl", good, {"prompt": "alone"})
    acquire(data, source=[first], on_bad_record=OnBadRecord.QUARANTINE)
    second = jsonl(tmp_path / "b.jsonl", good, {"prompt": "lonely"})
    acquire(data, source=[first, second], on_bad_record=OnBadRecord.QUARANTINE)
    assert sorted(json.loads(row["raw"])["prompt"] for row in rows(data, "quarantine.jsonl")) == [
        "alone", "lonely",
    ]  # fmt: skip
    jsonl(tmp_path / "a.jsonl", good)
    acquire(data, source=[first, second], on_bad_record=OnBadRecord.QUARANTINE)
    assert len(rows(data, "quarantine.jsonl")) == 1


def test_a_refusal_lasts_as_long_as_its_source_is_not_looked_at_again(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    data = tmp_path / "data"
    a, b = folder(tmp_path / "a", one="One.\n", bad=""), folder(tmp_path / "b", two="Two.\n")

    def refused() -> list[str]:
        return [Path(row["what"]).name for row in rows(data, "refused.jsonl")]

    acquire(data, source=[a])
    assert refused() == ["bad.txt"]
    capsys.readouterr()
    acquire(data, source=[b])
    assert refused() == ["bad.txt"]
    assert counts(data)["refused in earlier runs"] == 1
    said = capsys.readouterr().err
    assert "1 refused in earlier runs" in said and "1 refused: it is empty" in said
    folder(tmp_path / "a", bad="Mended.\n")
    acquire(data, source=[a])
    assert not rows(data, "refused.jsonl")
    assert "refused in earlier runs" not in counts(data)


def test_a_refusal_goes_with_the_file_that_it_is_of(tmp_path: Path) -> None:
    data, a = tmp_path / "data", folder(tmp_path / "a", one="One.\n", bad="")
    acquire(data, source=[a])
    (tmp_path / "a" / "bad.txt").unlink()
    acquire(data, source=[a])
    assert not (data / "1_raw" / "refused.jsonl").exists()


def test_a_trial_run_forgets_no_refusal_of_what_it_does_not_reach(tmp_path: Path) -> None:
    data, a = tmp_path / "data", folder(tmp_path / "a", one="One.\n", two="")
    acquire(data, source=[a])
    acquire(data, source=[a], limit=1)
    assert len(rows(data, "refused.jsonl")) == 1


def test_a_refused_book_stays_in_the_list_until_it_is_asked_for_again(tmp_path: Path) -> None:
    with GutendexServer({1: ("A Book", b"Its text.\n"), 2: ("Another", b"More.\n")}) as server:
        acquire(tmp_path, ids="1,77", gutendex_url=server.url)
        acquire(tmp_path, ids="2", gutendex_url=server.url)
        assert [row["what"] for row in rows(tmp_path, "refused.jsonl")] == ["book 77"]
        server.books[77] = ("Late", b"It is there now.\n")
        acquire(tmp_path, ids="77", gutendex_url=server.url)
    assert not rows(tmp_path, "refused.jsonl")
    assert len(names(tmp_path)) == 3


# --- who is who -----------------------------------------------------------------------------------


def test_rows_of_one_id_are_all_kept(tmp_path: Path) -> None:
    data = tmp_path / "data"
    source = jsonl(tmp_path / "t.jsonl", *({"id": "same", "text": f"Text {n}."} for n in range(5)))
    for _ in range(2):
        acquire(data, source=[source], force=True)
        assert sorted(text(data, name) for name in names(data)) == [f"Text {n}." for n in range(5)]


def test_equal_stems_of_different_kinds_are_told_apart(tmp_path: Path) -> None:
    data = tmp_path / "data"
    (tmp_path / "s1").mkdir()
    (tmp_path / "s2").mkdir()
    pairs = jsonl(tmp_path / "s1" / "train.jsonl", {"prompt": "P", "completion": " C"})
    texts = jsonl(tmp_path / "s2" / "train.jsonl",
                  {"messages": [{"role": "user", "content": "a"},
                                {"role": "assistant", "content": "b"}]})  # fmt: skip
    acquire(data, source=[f"{pairs}=1", f"{texts}=0"])
    stems = {name.split(".")[0] for name in names(data)}
    assert len(stems) == 2
    assert {row["file"].split(".")[-2]: row["weight"] for row in rows(data)} == {
        "completion": 1.0, "chat": 0.0,
    }  # fmt: skip


def test_a_weight_stays_with_its_source(tmp_path: Path) -> None:
    data = tmp_path / "data"
    a, b = folder(tmp_path / "a/data", x="A.\n"), folder(tmp_path / "b/data", y="B.\n")
    acquire(data, source=[f"{a}=0.7", f"{b}=0.3"])
    acquire(data, source=[f"{b}=0.9"])
    assert {row["file"]: row["weight"] for row in rows(data)} == {"x.txt": 0.7, "y.txt": 0.9}
    assert len({row["collection"] for row in rows(data)}) == 2


def test_a_folder_called_gutenberg_is_not_the_catalogue(tmp_path: Path) -> None:
    data, mine = tmp_path / "data", folder(tmp_path / "gutenberg", x="Mine.\n")
    with GutendexServer({1: ("A Book", b"Its text.\n")}) as server:
        acquire(data, source=[f"{mine}=0"], ids="1", gutendex_url=server.url)
    assert {row["file"]: row["weight"] for row in rows(data)} == {
        "1-a-book.txt": None, "x.txt": 0.0,
    }  # fmt: skip


def test_texts_with_and_without_a_weight_do_not_come_together_in_two_runs(tmp_path: Path) -> None:
    data = tmp_path / "data"
    a, b = folder(tmp_path / "a", x="A.\n"), folder(tmp_path / "b", y="B.\n")
    acquire(data, source=[a])
    with pytest.raises(UsageError, match="from a, of an earlier run, have no weight"):
        acquire(data, source=[f"{b}=0.5"])
    acquire(data, source=[f"{a}=0.5", f"{b}=0.5"])
    assert names(data) == ["x.txt", "y.txt"]


def test_an_evaluation_set_may_lie_in_the_folder_that_it_is_taken_from(tmp_path: Path) -> None:
    data = tmp_path / "data"
    novels = folder(tmp_path / "novels", a="A.\n", b="B.\n")
    test = folder(tmp_path / "novels" / "test", t="T.\n")
    acquire(data, source=[novels, f"{test}=0"])
    assert {row["file"]: row["weight"] for row in rows(data)} == {
        "a.txt": None, "b.txt": None, "t.txt": 0.0,
    }  # fmt: skip


def test_one_file_named_in_two_ways_is_one_document(tmp_path: Path) -> None:
    folder(tmp_path / "f", t="T.\n")
    twice = [f"{tmp_path}/f/t.txt", f"{tmp_path}/f/../f/t.txt"]
    with pytest.raises(UsageError, match="names nothing that is not another source's"):
        acquire(tmp_path / "data", source=twice)


def test_the_pipelines_own_files_are_no_source(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder(tmp_path / "novels", a="A.\n", b="B.\n")
    monkeypatch.chdir(tmp_path / "novels")
    for _ in range(2):
        acquire(Path("training-data"), source=["."], force=True)
        assert names(Path("training-data")) == ["a.txt", "b.txt"]


# --- a person's hand ------------------------------------------------------------------------------


def test_a_catalogue_mended_by_hand_goes_on_growing(tmp_path: Path) -> None:
    data, source = tmp_path / "data", folder(tmp_path / "a", x="One.\n")
    acquire(data, source=[source])
    path = data / "1_raw" / "catalog.jsonl"
    row = json.loads(path.read_text())
    path.write_text(json.dumps(row | {"title": "My Title"}) + "\n")
    for name in ("y", "z"):
        folder(tmp_path / "a", **{name: f"{name}.\n"})
        acquire(data, source=[source])
    assert {row["file"]: row["title"] for row in rows(data)} == {
        "x.txt": "My Title", "y.txt": None, "z.txt": None,
    }  # fmt: skip


@pytest.mark.parametrize("option", ["force", "refresh", "restore_deleted"])
def test_doing_again_needs_the_options_that_say_what(tmp_path: Path, option: str) -> None:
    data, source = tmp_path / "data", folder(tmp_path / "a", x="One.\n")
    acquire(data, source=[source])
    with pytest.raises(UsageError, match="Nothing is named") as error:
        acquire(data, **{option: True})  # type: ignore[arg-type]
    assert f"--source {source}" in str(error.value)


def test_no_secret_is_written_down(tmp_path: Path) -> None:
    with GutendexServer({1: ("A Book", b"Its text.\n")}) as server:
        address = server.url.replace("http://", "http://bob:hunter2secret@")
        acquire(
            tmp_path, source=[f"{address}/files/1.txt?X-Amz-Signature=5ecre7"], ids="1",
            gutendex_url=address,
        )  # fmt: skip
    kept = [path.read_bytes() for path in tmp_path.rglob("*") if path.is_file()]
    assert kept
    assert not [data for data in kept if b"hunter2secret" in data or b"5ecre7" in data]


def test_a_saved_dataset_is_read_again_when_it_changes(tmp_path: Path) -> None:
    from datasets import Dataset

    saved = tmp_path / "saved"
    Dataset.from_list([{"text": "One."}]).save_to_disk(str(saved))
    acquire(tmp_path / "data", source=[str(saved)])
    for path in saved.iterdir():
        path.unlink()
    os.rmdir(saved)  # noqa: PTH106
    Dataset.from_list([{"text": "Two."}]).save_to_disk(str(saved))
    acquire(tmp_path / "data", source=[str(saved)])
    assert [text(tmp_path / "data", name) for name in names(tmp_path / "data")] == ["Two."]


def test_a_file_put_there_by_hand_is_kept_before_one_of_its_name(tmp_path: Path) -> None:
    data = tmp_path / "data"
    (data / "1_raw").mkdir(parents=True)
    (data / "1_raw" / "x.txt").write_text("Mine.\n")
    acquire(data, source=[folder(tmp_path / "a", x="Theirs.\n")])
    assert text(data, "x.txt") == "Mine.\n"
    assert counts(data)["kept as a person left them"] == 1


# --- what a second review found -------------------------------------------------------------------


def weights(data: Path) -> dict[str, Any]:
    return {row["file"]: row["weight"] for row in rows(data)}


def test_a_text_that_is_held_out_on_a_later_run_is_held_out(tmp_path: Path) -> None:
    data, source = tmp_path / "data", folder(tmp_path / "a", x="X.\n", y="Y.\n")
    acquire(data, source=[source])
    acquire(data, source=[source, f"{source}/y.txt=0"])
    assert weights(data) == {"x.txt": None, "y.txt": 0.0}
    assert counts(data)["already there"] == 2
    acquire(data, source=[source])
    assert weights(data) == {"x.txt": None, "y.txt": None}
    acquire(data, source=[f"{source}/*.txt=0.5", f"{folder(tmp_path / 'b', z='Z.')}=0.5"])
    assert weights(data) == {"x.txt": 0.5, "y.txt": 0.5, "z.txt": 0.5}


def test_two_folders_with_one_relative_pattern_are_two_sources(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    data = tmp_path / "data"
    for name in ("one", "two"):
        folder(tmp_path / name / "books", **{name: f"{name}.\n"})
        monkeypatch.chdir(tmp_path / name)
        acquire(data, source=["books/*.txt"])
    assert names(data) == ["one.txt", "two.txt"]


def test_tables_that_are_left_alone_or_not_understood_lose_nothing(tmp_path: Path) -> None:
    data, source = tmp_path / "data", tmp_path / "t"
    source.mkdir()
    jsonl(source / "x.jsonl", {"text": "A."}, {"text": "B."})
    jsonl(source / "y.jsonl", {"text": "C."})
    acquire(data, source=[str(source)])
    jsonl(source / "x.jsonl", {"words": "A."}, {"words": "B."})
    acquire(data, source=[str(source)])
    assert len(names(data)) == 3
    jsonl(source / "x.jsonl", {"text": "A."}, {"text": None})
    acquire(data, source=[str(source)], on_bad_record=OnBadRecord.SKIP)
    assert len(names(data)) == 3
    (source / "note.txt").write_text("A note.\n")
    acquire(data, source=[str(source)])
    assert len(names(data)) == 4


def test_weights_may_follow_the_sample_library(tmp_path: Path) -> None:
    data = tmp_path / "data"
    acquire(data)
    a, b = folder(tmp_path / "a", x="X.\n"), folder(tmp_path / "b", y="Y.\n")
    acquire(data, source=[f"{a}=0.7", f"{b}=0.3"])
    assert weights(data) == {"x.txt": 0.7, "y.txt": 0.3}


def test_a_source_without_text_leaves_what_was_complete_as_it_was(tmp_path: Path) -> None:
    data = tmp_path / "data"
    acquire(data)
    before = snapshot(data)
    (tmp_path / "empty.txt").write_text("")
    with pytest.raises(PipelineError, match="1 left out"):
        acquire(data, source=[str(tmp_path / "empty.txt")])
    assert snapshot(data) == before


def test_facts_in_the_catalogue_are_those_of_the_files(tmp_path: Path) -> None:
    data, source = tmp_path / "data", folder(tmp_path / "a", x="One.\n")
    acquire(data, source=[source])
    path = data / "1_raw" / "catalog.jsonl"
    path.write_text(json.dumps(json.loads(path.read_text()) | {"title": "Mine"}) + "\n")
    folder(tmp_path / "a", x="One, changed.\n")
    acquire(data, source=[source])
    (row,) = rows(data)
    assert (row["title"], row["bytes"]) == ("Mine", len("One, changed.\n"))


def test_lists_that_a_person_worked_on_stop_nothing_and_lose_nothing(tmp_path: Path) -> None:
    data = tmp_path / "data"
    good = {"prompt": "P", "completion": " C"}
    table = jsonl(tmp_path / "a.jsonl", good, {"prompt": "one"}, {"prompt": "two"})
    (tmp_path / "empty.txt").write_text("")
    sources = [table, str(tmp_path / "empty.txt")]
    acquire(data, source=sources, on_bad_record=OnBadRecord.QUARANTINE)
    for name in ("quarantine.jsonl", "refused.jsonl"):
        path = data / "1_raw" / name
        path.write_text("a note of my own\n" + path.read_text())
    jsonl(tmp_path / "a.jsonl", good, good, {"prompt": "three"})
    acquire(data, source=sources, on_bad_record=OnBadRecord.QUARANTINE)
    kept = (data / "1_raw" / "quarantine.jsonl").read_text().splitlines()
    assert kept[-1] == "a note of my own" or "a note of my own" in kept
    assert "a note of my own" in (data / "1_raw" / "refused.jsonl").read_text().splitlines()
    assert sum("three" in line for line in kept) == 1
    assert not [line for line in kept if "two" in line]


def test_a_first_row_without_text_is_a_bad_record_like_others(tmp_path: Path) -> None:
    data = tmp_path / "data"
    table = jsonl(tmp_path / "a.jsonl", {"note": "about this file"}, {"text": "One."})
    acquire(data, source=[table], on_bad_record=OnBadRecord.SKIP)
    assert [text(data, name) for name in names(data)] == ["One."]
    assert counts(data)["bad records skipped"] == 1
    with pytest.raises(PipelineError, match="its columns are: note"):
        acquire(tmp_path / "strict", source=[table])


def test_what_is_one_is_told_as_one(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    data, source = tmp_path / "data", folder(tmp_path / "a", one="O", two="Two.\n")
    acquire(data, source=[source])
    (tmp_path / "a" / "two.txt").unlink()
    capsys.readouterr()
    acquire(data, source=[source])
    said = capsys.readouterr().err
    assert "1 document, 1 byte in" in said
    assert "1 gone from its source" in said

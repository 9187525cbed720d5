"""Stage 1 over several runs: what comes in, what stays, what is never mixed in."""

import json
from pathlib import Path

import pytest

from pipeline.books.sample import sample_library
from pipeline.errors import PipelineError
from pipeline.step1_acquire import acquire
from tests.gutendex_server import Faults, GutendexServer


def names(data: Path) -> list[str]:
    return sorted(path.name for path in (data / "1_raw").glob("*.txt"))


def catalog(data: Path) -> list[dict[str, object]]:
    lines = (data / "1_raw" / "catalog.jsonl").read_text("utf-8").split("\n")
    return [json.loads(line) for line in lines if line]


def folder(path: Path, **files: str) -> str:
    path.mkdir()
    for name, text in files.items():
        (path / f"{name}.txt").write_text(text)
    return str(path)


def test_without_a_source_the_sample_library_is_taken_byte_for_byte(tmp_path: Path) -> None:
    acquire(tmp_path)
    for path in sample_library().glob("*.txt"):
        assert (tmp_path / "1_raw" / path.name).read_bytes() == path.read_bytes()
    assert all(str(row["rights"]).startswith("public domain") for row in catalog(tmp_path))


def test_a_persons_corpus_is_never_mixed_with_the_sample_library(tmp_path: Path) -> None:
    acquire(tmp_path / "data", source=[folder(tmp_path / "a", mine="My text.\n")])
    acquire(tmp_path / "data")
    assert names(tmp_path / "data") == ["mine.txt"]


def test_nor_are_texts_put_there_by_hand(tmp_path: Path) -> None:
    (tmp_path / "1_raw").mkdir()
    (tmp_path / "1_raw" / "mine.txt").write_text("My text.\n")
    acquire(tmp_path)
    assert names(tmp_path) == ["mine.txt"]


def test_sources_of_several_runs_add_up(tmp_path: Path) -> None:
    data = tmp_path / "data"
    acquire(data, source=[folder(tmp_path / "a", x="One.\n")])
    acquire(data, source=[folder(tmp_path / "b", y="Two.\n")])
    assert names(data) == ["x.txt", "y.txt"]
    assert len(catalog(data)) == 2


@pytest.mark.parametrize("at_once", [True, False])
def test_two_files_of_one_name_are_two_documents(tmp_path: Path, at_once: bool) -> None:
    data = tmp_path / "data"
    a, b = folder(tmp_path / "a", x="One.\n"), folder(tmp_path / "b", x="Two.\n")
    if at_once:
        acquire(data, source=[a, b])
    else:
        acquire(data, source=[a])
        acquire(data, source=[b])
    texts = {(data / "1_raw" / name).read_text() for name in names(data)}
    assert texts == {"One.\n", "Two.\n"}


def test_a_changed_source_is_taken_again(tmp_path: Path) -> None:
    data, source = tmp_path / "data", folder(tmp_path / "a", x="One.\n")
    acquire(data, source=[source])
    (tmp_path / "a" / "x.txt").write_text("Two.\n")
    acquire(data, source=[source])
    assert (data / "1_raw" / "x.txt").read_text() == "Two.\n"


def test_hostile_titles_stay_inside_the_directory(tmp_path: Path) -> None:
    titles = ["../../etc/passwd", "CON", "a/b\\c", "Sep \u2028 x", "\ud800half", "", "🕯" * 300]
    books = {n: (title, b"Some text of a book.\n") for n, title in enumerate(titles, 1)}
    with GutendexServer(books=books) as server:
        acquire(tmp_path, topic="horror", num_records=9, gutendex_url=server.url, pause=0)
    assert len(names(tmp_path)) == len(titles)
    assert len(catalog(tmp_path)) == len(titles)
    assert {path.name for path in tmp_path.iterdir()} == {"1_raw", ".cache"}


def test_a_book_that_could_not_be_had_is_asked_for_again(tmp_path: Path) -> None:
    with GutendexServer(faults=Faults(html=1)) as server:
        arguments = {"topic": "horror", "num_records": 3, "gutendex_url": server.url, "pause": 0}
        acquire(tmp_path, **arguments)  # type: ignore[arg-type]
        assert len(names(tmp_path)) == 2
        acquire(tmp_path, **arguments)  # type: ignore[arg-type]
        assert len(names(tmp_path)) == 3
        assert len(server.downloads) == 4, "the two that came are not fetched again"


def test_a_stopped_run_is_not_passed_over_without_its_options(tmp_path: Path) -> None:
    busy = Faults(too_many=99, retry_after="9999")
    with GutendexServer(faults=busy) as server, pytest.raises(PipelineError):
        acquire(tmp_path, topic="horror", gutendex_url=server.url, pause=0)
    with pytest.raises(PipelineError, match="unfinished"):
        acquire(tmp_path)

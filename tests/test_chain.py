"""The whole chain through the real command: what runs, what does not, and what survives."""

import json
import resource
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from pipeline import chain
from tests.chain import (
    DIRECTORIES,
    ROOT,
    contents,
    environment,
    in_process,
    killed_at,
    pipeline,
    ran,
    records,
)
from tests.gutendex_server import GutendexServer
from tests.tiny_models import tiny_llama_smollm

STAGES = list(DIRECTORIES)


@pytest.fixture(scope="module")
def tiny_base(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A real Llama, very small, with a real tokenizer."""
    return tiny_llama_smollm(tmp_path_factory.mktemp("base") / "tiny-llama").path


@pytest.fixture(scope="module")
def gutendex() -> Iterator[GutendexServer]:
    with GutendexServer() as server:
        yield server


@pytest.fixture(scope="module")
def options(tiny_base: Path, gutendex: GutendexServer) -> tuple[object, ...]:
    return (
        "--topic", "horror", "--num-records", 3, "--gutendex-url", gutendex.url, "--pause", 0,
        "--base-model", tiny_base, "--max-steps", 2, "--sequence-length", 64,
        "--eval-tokens", 256, "--sample-tokens", 8,
    )  # fmt: skip


@pytest.fixture(scope="module")
def finished(tmp_path_factory: pytest.TempPathFactory, options: tuple[object, ...]) -> Path:
    """A data directory in which the whole chain has run on books by topic."""
    data = tmp_path_factory.mktemp("finished") / "data"
    result = pipeline("all", "--data-dir", data, *options)
    assert "bits per byte" in result.stdout.lower()
    return data


@pytest.fixture(scope="module")
def straight(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A data directory in which stages 1 and 2 have run on the sample library, undisturbed."""
    data = tmp_path_factory.mktemp("straight") / "data"
    for stage in ("acquire", "preprocess"):
        in_process(stage, "--data-dir", data)
    return data


def copy_of(straight: Path, data: Path, *stages: str) -> None:
    """What these stages made, in another data directory."""
    for stage in stages:
        shutil.copytree(straight / DIRECTORIES[stage], data / DIRECTORIES[stage])


@pytest.fixture
def data(finished: Path, tmp_path: Path) -> Path:
    """A copy of the finished data directory, to do something to."""
    return Path(shutil.copytree(finished, tmp_path / "data"))


@pytest.mark.slow
def test_every_stage_reaches_its_milestone(finished: Path) -> None:
    assert len(list((finished / "1_raw").glob("*.txt"))) == 3
    assert len(list((finished / "2_preprocessed").glob("*.txt"))) == 3
    assert list((finished / "3_chunks").glob("train-*.parquet"))
    assert list((finished / "3_chunks").glob("validation-*.parquet"))
    assert (finished / "4_dataset" / "README.md").is_file()
    adapter = finished / "6_adapter"
    for name in ("adapter_model.safetensors", "metrics.jsonl", "loss.png", "evaluation.json"):
        assert (adapter / name).stat().st_size > 0, name
    assert len(list((finished / "7_gguf").glob("*-Q4_K_M.gguf"))) == 1
    assert (finished / "8_ollama" / "Modelfile").read_text().startswith("#")
    for directory in finished.glob("[0-9]_*"):
        assert json.loads((directory / "stage.json").read_text())["status"] == "complete"


@pytest.mark.slow
def test_books_by_topic_keep_where_they_come_from(finished: Path, gutendex: GutendexServer) -> None:
    catalog = (finished / "1_raw" / "catalog.jsonl").read_text("utf-8")
    rows = [json.loads(line) for line in catalog.splitlines()]
    assert len(rows) == 3
    assert all(row["source"].startswith(gutendex.url) and row["title"] for row in rows)


@pytest.mark.slow
def test_no_big_file_is_left_behind(finished: Path) -> None:
    left = {path.suffix for path in (finished / "7_gguf").rglob("*") if path.is_file()}
    assert left <= {".gguf", ".json", ".log"}


@pytest.mark.slow
def test_run_again_nothing_runs_and_it_takes_under_three_seconds(
    data: Path, options: tuple[object, ...], gutendex: GutendexServer
) -> None:
    pipeline("status", "--data-dir", data)  # the hashes of the copy are learnt here
    before, asked = records(data), len(gutendex.requests)
    seconds = []
    for _ in range(3):
        start = time.monotonic()
        result = pipeline("all", "--data-dir", data, *options)
        seconds.append(time.monotonic() - start)
    assert ran(before, records(data)) == []
    assert result.stderr.count("(up to date)") == len(chain.STAGE_FUNCTIONS)
    assert min(seconds) < 3, seconds
    assert len(gutendex.requests) == asked, "nothing needs the server any more"


@pytest.mark.slow
def test_a_hand_edit_reaches_the_chunks_and_runs_only_what_follows(
    data: Path, options: tuple[object, ...]
) -> None:
    edited = next((data / "2_preprocessed").glob("*.txt"))
    edited.write_text("I wrote this line by hand.\n\n" + edited.read_text())
    mine, before = edited.read_bytes(), records(data)
    status = pipeline("status", "--data-dir", data).stdout
    assert f"edited by hand: {edited.name}" in status
    assert "Next: pipeline chunk" in status
    pipeline("all", "--data-dir", data, *options)
    assert ran(before, records(data)) == STAGES[2:]
    assert edited.read_bytes() == mine
    import pyarrow.parquet as pq

    tables = [pq.read_table(path) for path in (data / "3_chunks").glob("*.parquet")]
    texts = [text for table in tables for text in table["text"].to_pylist()]
    assert any(text.startswith("I wrote this line by hand.") for text in texts)


@pytest.mark.slow
def test_another_chunk_size_runs_chunk_and_what_follows(
    data: Path, options: tuple[object, ...], monkeypatch: pytest.MonkeyPatch
) -> None:
    # That training and what follows run again, too, a hand edit has shown: here they would run.
    monkeypatch.setattr(chain, "STAGE_FUNCTIONS", chain.STAGE_FUNCTIONS[:4])
    before = records(data)
    in_process("all", "--data-dir", data, *options, "--chunk-size", 3000)
    assert ran(before, records(data)) == ["chunk", "upload"]
    assert "Next: pipeline train" in in_process("status", "--data-dir", data).stdout


@pytest.mark.slow
def test_a_deleted_output_is_made_again_and_what_follows_still_holds(
    data: Path, options: tuple[object, ...]
) -> None:
    chunks = contents(data / "3_chunks")
    next((data / "3_chunks").glob("train-*.parquet")).unlink()
    before = records(data)
    assert "is missing" in pipeline("status", "--data-dir", data).stdout
    pipeline("all", "--data-dir", data, *options)
    assert ran(before, records(data)) == ["chunk"]
    assert contents(data / "3_chunks") == chunks


@pytest.mark.slow
def test_a_deleted_book_stays_deleted(data: Path) -> None:
    gone = next((data / "2_preprocessed").glob("*.txt"))
    gone.unlink()
    assert "deleted by hand" in in_process("status", "--data-dir", data).stdout
    in_process("preprocess", "--data-dir", data)
    assert not gone.exists()
    in_process("chunk", "--data-dir", data)
    documents = (data / "3_chunks" / "documents.jsonl").read_text()
    assert gone.stem not in documents
    in_process("preprocess", "--data-dir", data, "--restore-deleted")
    assert gone.exists()


@pytest.mark.slow
def test_generate_completes_with_the_gguf(finished: Path) -> None:
    result = pipeline("generate", "It was a dark night", "--data-dir", finished, "--max-tokens", 5)
    assert result.stdout.startswith("It was a dark night")
    assert len(result.stdout) > len("It was a dark night\n")


def test_three_real_books_become_a_dataset(tmp_path: Path, shared_books: Path) -> None:
    books = [shared_books / name for name in ("932.txt", "1064.txt", "10007.txt")]
    in_process("acquire", *(f"--source={book}" for book in books), "--data-dir", tmp_path)
    for stage in ("preprocess", "chunk", "upload"):
        in_process(stage, "--data-dir", tmp_path)
    documents = (tmp_path / "3_chunks" / "documents.jsonl").read_text("utf-8")
    assert len(documents.splitlines()) == 3
    assert list((tmp_path / "4_dataset" / "data").glob("train-*.parquet"))
    assert "Project Gutenberg" not in (tmp_path / "4_dataset" / "README.md").read_text()


@pytest.mark.parametrize("write", [1, 3, 7])
def test_killed_while_acquiring_books_the_same_command_continues(
    tmp_path: Path, write: int
) -> None:
    with GutendexServer() as server:
        arguments = (
            "acquire", "--topic", "horror", "--num-records", 8, "--pause", 0,
            "--gutendex-url", server.url, "--data-dir",
        )  # fmt: skip
        pipeline(*arguments, tmp_path / "straight")
        killed_at(write, *arguments, tmp_path / "killed")
        asked = len(server.downloads)
        pipeline(*arguments, tmp_path / "killed")
        assert len(server.downloads) - asked == 8 - (write - 1), "nothing is fetched twice"
    assert contents(tmp_path / "killed" / "1_raw") == contents(tmp_path / "straight" / "1_raw")


@pytest.mark.parametrize("write", [1, 5, 13])
@pytest.mark.parametrize("stage", ["acquire", "preprocess"])
def test_killed_in_a_stage_that_works_by_document_the_same_command_continues(
    straight: Path, tmp_path: Path, stage: str, write: int
) -> None:
    if stage == "preprocess":
        copy_of(straight, tmp_path, "acquire")
    killed_at(write, stage, "--data-dir", tmp_path)
    pipeline(stage, "--data-dir", tmp_path)
    undisturbed = contents(straight / DIRECTORIES[stage])
    assert contents(tmp_path / DIRECTORIES[stage]) == undisturbed
    assert len(undisturbed) >= 13


@pytest.mark.parametrize("write", [1, 2])
def test_killed_while_chunking_the_same_command_continues(
    straight: Path, tmp_path: Path, write: int
) -> None:
    copy_of(straight, tmp_path, "acquire", "preprocess")
    killed_at(write, "chunk", "--data-dir", tmp_path)
    refusal = in_process("upload", "--data-dir", tmp_path, code=1).stderr
    assert "3_chunks is unfinished" in refusal
    assert "pipeline chunk" in refusal
    pipeline("chunk", "--data-dir", tmp_path)
    interrupted = contents(tmp_path / "3_chunks")
    in_process("chunk", "--data-dir", tmp_path, "--force")
    assert contents(tmp_path / "3_chunks") == interrupted


def test_ctrl_c_stops_with_everything_saved(tmp_path: Path) -> None:
    with GutendexServer(delay=1.0) as server:  # seven seconds are left after the first
        process = subprocess.Popen(
            [sys.executable, "-m", "pipeline.cli", "acquire", "--topic", "horror",
             "--num-records", "8", "--pause", "0", "--gutendex-url", server.url,
             "--data-dir", str(tmp_path)],
            cwd=ROOT, env=environment(), stderr=subprocess.PIPE, text=True,
        )  # fmt: skip
        deadline = time.monotonic() + 30
        while not list(tmp_path.glob("1_raw/*.txt")) and time.monotonic() < deadline:
            time.sleep(0.05)
        process.send_signal(signal.SIGINT)
        _, errors = process.communicate(timeout=30)
    assert process.returncode == 33, errors
    assert "Run the same command again" in errors
    assert "Traceback" not in errors


@pytest.mark.parametrize("stage", ["acquire", "preprocess", "chunk"])
def test_a_full_disk_is_one_sentence_and_leaves_nothing_half_written(
    straight: Path, tmp_path: Path, stage: str
) -> None:
    copy_of(straight, tmp_path, *STAGES[: STAGES.index(stage)])

    def small_files_only() -> None:
        resource.setrlimit(resource.RLIMIT_FSIZE, (5000, 5000))

    result = subprocess.run(
        [sys.executable, "-m", "pipeline.cli", stage, "--data-dir", str(tmp_path)],
        cwd=ROOT, env=environment(), capture_output=True, text=True, preexec_fn=small_files_only,
        check=False,
    )  # fmt: skip
    assert result.returncode == 1
    assert "The disk is full" in result.stderr
    assert "Traceback" not in result.stderr
    directory = tmp_path / DIRECTORIES[stage]
    assert not [p for p in directory.rglob("*") if p.suffix in {".txt", ".parquet"}]
    in_process(stage, "--data-dir", tmp_path)
    assert [p for p in directory.iterdir() if p.suffix in {".txt", ".parquet"}]

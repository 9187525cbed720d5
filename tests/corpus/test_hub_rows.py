"""Rows of Hub datasets, read through `datasets` from a Hub on loopback, and of local folders."""

import io
import os
import subprocess
import sys
from pathlib import Path

import pytest

from pipeline.corpus.hub_rows import is_dataset_id, read_hub_rows, resolve_revision
from pipeline.errors import UsageError
from tests.corpus.hub_datasets import DATASETS, PLAIN, TALES, card, lines, parquet, refusal, texts
from tests.datasets_server import TOKEN, DatasetsServer

# --- reading


@pytest.mark.parametrize("streaming", [True, False])
@pytest.mark.parametrize("name", ["ada/tales", "ada/lines"])
def test_all_rows_of_a_split_come_in_order_with_their_numbers(
    hub: DatasetsServer, cache: Path, name: str, streaming: bool
) -> None:
    for split in ("train", "test"):
        files = DATASETS[name]
        found = list(read_hub_rows(name, split=split, streaming=streaming, cache=cache))
        wanted = {
            ("ada/tales", "train"): TALES, ("ada/tales", "test"): TALES[:1],
            ("ada/lines", "train"): TALES[:20], ("ada/lines", "test"): TALES[20:],
        }[name, split]  # fmt: skip
        assert found == list(enumerate(wanted)), files.keys()


def test_nothing_but_the_rows_is_seen(
    hub: DatasetsServer, cache: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    for streaming in (True, False):
        texts("ada/tales", cache, streaming=streaming)
    assert capfd.readouterr() == ("", "")


@pytest.mark.parametrize("name", ["old_name", "ada/former"])
@pytest.mark.parametrize("streaming", [True, False])
def test_a_dataset_that_was_renamed_is_found_under_its_old_name(
    hub: DatasetsServer, cache: Path, name: str, streaming: bool
) -> None:
    hub.moved = {"old_name": "ada/plain", "ada/former": "ada/plain"}
    assert texts(name, cache, streaming=streaming) == ["a"]
    assert resolve_revision(name) == hub.commit("ada/plain")


def test_a_stream_leaves_no_data_on_the_disk(hub: DatasetsServer, cache: Path) -> None:
    texts("ada/tales", cache)
    assert not [p for p in cache.rglob("*") if p.suffix in (".arrow", ".parquet")]


def test_a_stream_that_is_left_early_does_not_fetch_the_rest(
    hub: DatasetsServer, cache: Path
) -> None:
    rows = [{"text": os.urandom(20_000).hex()} for _ in range(300)]
    shards = {f"data/train-{n:05}-of-00003.parquet": parquet(rows, 50) for n in range(3)}
    hub.datasets["ada/large"] = shards
    stream = read_hub_rows("ada/large", cache=cache)
    assert next(stream) == (0, rows[0])
    stream.close()  # type: ignore[attr-defined]
    assert hub.sent < 1.5 * len(shards["data/train-00000-of-00003.parquet"])


def test_a_configuration_is_chosen_by_name(hub: DatasetsServer, cache: Path) -> None:
    assert texts("ada/several", cache, config="first") == ["a"]
    assert texts("ada/several", cache, config="second") == ["b"]


def test_the_version_is_the_commit_of_the_revision(hub: DatasetsServer, cache: Path) -> None:
    before = resolve_revision("ada/plain")
    assert before == resolve_revision("ada/plain", "main") == hub.commit("ada/plain")
    assert texts("ada/plain", cache, revision=before) == ["a"]
    hub.datasets["ada/plain"]["train.jsonl"] = lines([{"text": "changed"}])
    assert resolve_revision("ada/plain") != before
    assert texts("ada/plain", cache) == ["changed"]
    assert texts("ada/plain", cache, streaming=False) == ["changed"]


def test_pictures_are_not_decoded(hub: DatasetsServer, cache: Path) -> None:
    import datasets

    features = datasets.Features({"text": datasets.Value("string"), "image": datasets.Image()})
    rows = [{"text": "a", "image": {"bytes": b"no picture", "path": None}}]
    file = io.BytesIO()
    datasets.Dataset.from_list(rows, features=features).to_parquet(file)
    hub.datasets["ada/pictures"] = {"train.parquet": file.getvalue()}
    for streaming in (True, False):
        assert texts("ada/pictures", cache, streaming=streaming) == ["a"]


# --- who may read


def test_a_private_dataset_is_read_with_the_token_given_or_found(
    hub: DatasetsServer, cache: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert texts("ada/private", cache, token=TOKEN) == ["a"]
    assert texts("ada/private", cache, token=TOKEN, streaming=False) == ["a"]
    monkeypatch.setenv("HF_TOKEN", TOKEN)
    assert texts("ada/private", cache) == ["a"]
    assert hub.tokens == {TOKEN}


# --- what is asked for is not there


def test_an_unknown_split_names_those_that_are_there(hub: DatasetsServer, cache: Path) -> None:
    assert (
        "ada/tales has no split 'dev'; it has: train, test."
        in refusal("ada/tales", cache, split="dev").message
    )
    assert "no split 'train[:1]'" in refusal("ada/tales", cache, split="train[:1]").message


def test_an_unknown_configuration_names_those_that_are_there(
    hub: DatasetsServer, cache: Path
) -> None:
    error = refusal("ada/several", cache, config="third")
    assert "no configuration 'third'; choose from: first, second" in error.message
    error = refusal("ada/several", cache)
    assert "several configurations; choose from: first, second" in error.message
    assert "--subset" in str(error.hint)
    assert "no configuration 'x'" in refusal("ada/tales", cache, config="x").message


# --- data that is not trusted


@pytest.mark.parametrize("streaming", [True, False])
def test_a_loading_script_is_refused_and_never_run(
    hub: DatasetsServer, cache: Path, tmp_path: Path, streaming: bool
) -> None:
    assert "is a program" in refusal("ada/script", cache, streaming=streaming).message
    folder = tmp_path / "script"
    folder.mkdir()
    (folder / "script.py").write_bytes(DATASETS["ada/script"]["script.py"])
    (folder / "train.jsonl").write_bytes(PLAIN["train.jsonl"])
    assert "is a program" in refusal(str(folder), cache, streaming=streaming).message


@pytest.mark.parametrize("streaming", [True, False])
def test_a_card_cannot_name_files_of_this_disk_or_of_other_places(
    hub: DatasetsServer, cache: Path, tmp_path: Path, streaming: bool
) -> None:
    secret = tmp_path / "secret.jsonl"
    secret.write_bytes(lines([{"text": "secret"}]))
    for path in (
        secret.as_posix(),
        secret.as_uri(),
        f"hf://datasets/ada/plain@{hub.commit('ada/plain')}/train.jsonl",
    ):
        hub.datasets["ada/hostile"] = {"README.md": card(path), "train.jsonl": lines(TALES)}
        error = refusal("ada/hostile", cache, streaming=streaming)
        assert "names a data file outside of the dataset" in error.message


def test_a_card_of_a_local_folder_cannot_name_files_beside_it(cache: Path, tmp_path: Path) -> None:
    (tmp_path / "secret.jsonl").write_bytes(lines([{"text": "secret"}]))
    folder = tmp_path / "folder"
    folder.mkdir()
    for path in ("../secret.jsonl", (tmp_path / "secret.jsonl").as_posix()):
        (folder / "README.md").write_bytes(card(path))
        assert "outside of the dataset" in refusal(str(folder), cache).message


# --- on this disk


@pytest.mark.parametrize("streaming", [True, False])
def test_a_local_folder_is_read_with_the_same_call(
    cache: Path, tmp_path: Path, streaming: bool
) -> None:
    for path, content in DATASETS["ada/tales"].items():
        (tmp_path / "tales" / path).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / "tales" / path).write_bytes(content)
    found = list(read_hub_rows(str(tmp_path / "tales"), cache=cache, streaming=streaming))
    assert found == list(enumerate(TALES))
    error = refusal(str(tmp_path / "tales"), cache, split="dev", streaming=streaming)
    assert "no split 'dev'; it has: train, test" in error.message


def test_a_saved_dataset_is_read_with_the_same_call(cache: Path, tmp_path: Path) -> None:
    import datasets

    datasets.disable_progress_bars()
    saved = datasets.Dataset.from_list(TALES)
    saved.save_to_disk(tmp_path / "one")
    assert list(read_hub_rows(str(tmp_path / "one"), cache=cache)) == list(enumerate(TALES))
    both = datasets.DatasetDict({"train": saved, "test": saved.select(range(2))})
    both.save_to_disk(tmp_path / "both")
    found = list(read_hub_rows(str(tmp_path / "both"), split="test", cache=cache))
    assert found == list(enumerate(TALES[:2]))
    assert "it has: train, test" in refusal(str(tmp_path / "both"), cache, split="dev").message


# --- names


@pytest.mark.parametrize("name", ["ada/tales", "squad", "roneneldan/TinyStories", "a-b/c_d.e"])
def test_what_can_be_a_dataset_of_the_hub(name: str) -> None:
    assert is_dataset_id(name)


@pytest.mark.parametrize(
    "name",
    [
        "", "ada/", "/ada", "a/b/c", "ada/tales@main", "../ada", "ada/..", ".", "./ada", "~/ada",
        "books.txt", "ada/books.jsonl.gz", "s3://bucket/a", "json", "parquet", "buckets/ada",
        "ada/ta les", "ada/tales\n", "*.txt", "a" * 97, "C:\\books", "ada/--tales", "été/x",
    ],
)  # fmt: skip
def test_what_cannot(name: str, cache: Path) -> None:
    assert not is_dataset_id(name)


def test_what_is_on_this_disk_is_no_dataset_of_the_hub(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "ada" / "tales").mkdir(parents=True)
    assert not is_dataset_id("ada/tales")
    assert is_dataset_id("ada/other")


def test_what_is_neither_is_an_error_of_usage(cache: Path) -> None:
    with pytest.raises(UsageError, match="neither a folder nor the id"):
        read_hub_rows("./no/such/folder", cache=cache)


# --- memory

MEASURE = """
import resource, sys
from pathlib import Path
from pipeline.corpus.hub_rows import read_hub_rows
rows = read_hub_rows(sys.argv[1], cache=Path(sys.argv[2]))
peak = lambda: resource.getrusage(resource.RUSAGE_SELF).ru_maxrss // 1024
for number, _ in rows:
    if number == 6_000:
        early = peak()
print(number + 1, peak() - early)
"""


@pytest.mark.slow
@pytest.mark.skipif(sys.platform != "linux", reason="counts memory as Linux does")
@pytest.mark.parametrize("kind", ["parquet", "jsonl"])
def test_memory_stays_flat_while_a_large_dataset_streams(
    hub: DatasetsServer, cache: Path, tmp_path: Path, kind: str
) -> None:
    rows = [{"text": f"{number} " + os.urandom(2_500).hex()} for number in range(4_000)]  # 20 MB
    shard = parquet(rows, 500) if kind == "parquet" else lines(rows)
    hub.datasets["ada/large"] = {f"data/train-{n:05}-of-00005.{kind}": shard for n in range(5)}
    environment = {**os.environ, "HF_ENDPOINT": hub.url, "HF_HOME": str(tmp_path / "home")}
    command = [sys.executable, "-c", MEASURE, "ada/large", str(cache)]
    done = subprocess.run(command, env=environment, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    count, growth = map(int, done.stdout.split())
    assert count == 20_000
    assert growth < 35  # MB, while 70 MB came

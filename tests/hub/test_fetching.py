"""Datasets are fetched from a Hub with its own client over real HTTP, and found again without."""

from pathlib import Path
from typing import Any

import huggingface_hub.constants
import pytest

from pipeline.corpus.tables import table_format
from pipeline.errors import PipelineError
from pipeline.hub.client import files_to_push, push_folder
from pipeline.hub.fetching import Fetched, fetch_dataset
from tests.hub_server import TOKEN, HubServer

pytestmark = pytest.mark.usefixtures("no_account")


def fill(hub: HubServer, name: str = "ada/tales", branch: str = "main", **files: bytes) -> None:
    """A dataset of files: `_` stands for `/`, `__` for `.`."""
    repo = hub.repos.get(("dataset", name)) or hub.add_repo("dataset", name)
    there = repo.branches.setdefault(branch, {})
    for key, content in files.items():
        there[key.replace("__", ".").replace("_", "/")] = (content, key.endswith("parquet"))


def fetch(hub: HubServer, name: str = "ada/tales", **options: Any) -> Fetched:
    return fetch_dataset(name, table_format, endpoint=hub.url, token=TOKEN, **options)


def contents(fetched: Fetched) -> dict[str, bytes]:
    return {
        file.name: path.read_bytes()
        for file, path in zip(fetched.files, fetched.paths, strict=True)
    }


def test_what_was_pushed_can_be_fetched(hub: HubServer, tmp_path: Path) -> None:
    folder = tmp_path / "4_dataset"
    for name in ("README.md", "data/train-0.parquet", "books/books.parquet"):
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_bytes(b"PAR1" + name.encode())
    push_folder(folder, "ada/tales", repo_type="dataset", private=True, endpoint=hub.url,
                token=TOKEN)  # fmt: skip
    fetched = fetch(hub)
    (path,) = fetched.paths
    assert path.read_bytes() == files_to_push(folder)["data/train-0.parquet"].read_bytes()
    assert not (fetched.folder / "books").exists()


def test_json_lines_and_csv_are_fetched_as_parquet_is(hub: HubServer) -> None:
    for name in ("dolly__jsonl", "dolly__csv", "dolly__json", "dolly__jsonl__gz"):
        fill(hub, f"ada/{name}", README__md=b"# Dolly", LICENSE=b"x", **{name: b"rows"})  # type: ignore[arg-type]
        assert contents(fetch(hub, f"ada/{name}")) == {name.replace("__", "."): b"rows"}
    assert not [path for path in hub.paths("GET") if "LICENSE" in path]


def test_a_configuration_is_fetched_alone(hub: HubServer) -> None:
    fill(hub, en_a__csv=b"en", fr_a__csv=b"fr")
    with pytest.raises(PipelineError, match="several folders"):
        fetch(hub)
    assert contents(fetch(hub, config="fr")) == {"fr/a.csv": b"fr"}
    assert not [path for path in hub.paths("GET") if "en/a.csv" in path]


def test_a_name_from_before_there_were_users_is_a_dataset(hub: HubServer) -> None:
    fill(hub, "ada/imdb", train__csv=b"rows")
    hub.moved["imdb"] = "ada/imdb"
    assert contents(fetch(hub, "imdb")) == {"train.csv": b"rows"}
    with pytest.raises(PipelineError, match="'a/b/c' is no name for a dataset"):
        fetch(hub, "a/b/c")


def test_a_revision_is_a_branch_or_a_commit(hub: HubServer) -> None:
    fill(hub, a__csv=b"old")
    fill(hub, branch="v2", a__csv=b"new")
    old, new = fetch(hub), fetch(hub, revision="v2")
    assert (contents(old), contents(new)) == ({"a.csv": b"old"}, {"a.csv": b"new"})
    fill(hub, a__csv=b"newest")
    assert contents(fetch(hub)) == {"a.csv": b"newest"}
    assert contents(fetch(hub, revision=old.commit)) == {"a.csv": b"old"}
    with pytest.raises(PipelineError, match="has no ada/tales, or it is hidden"):
        fetch(hub, revision="v9")


def test_a_commit_that_is_in_the_cache_is_not_asked_for_again(hub: HubServer) -> None:
    fill(hub, README__md=b"#", a__csv=b"a", b__csv=b"b")
    first = fetch(hub)
    asked = len(hub.requests)
    assert fetch(hub, revision=first.commit) == first
    assert len(hub.requests) == asked


@pytest.mark.parametrize("trouble", ["gone", "offline", "busy", "broken"])
def test_without_the_hub_a_branch_is_what_it_was_the_last_time(
    hub: HubServer, trouble: str, monkeypatch: pytest.MonkeyPatch,
    capfd: pytest.CaptureFixture[str],
) -> None:  # fmt: skip
    fill(hub, README__md=b"#", a__csv=b"a")
    fill(hub, branch="v2", a__csv=b"newer")
    first, branch = fetch(hub), fetch(hub, revision="v2")
    if trouble == "offline":
        monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_OFFLINE", True)
    elif trouble == "gone":
        hub.cut("", times=1000)
    else:
        hub.fail("", 429 if trouble == "busy" else 503, times=1000)
    assert fetch(hub) == first
    assert fetch(hub, revision="v2") == branch
    assert f"ada/tales is taken as it was fetched last: commit {first.commit[:12]}" in (
        capfd.readouterr().err
    )


def test_without_the_hub_half_a_dataset_is_none(hub: HubServer) -> None:
    fill(hub, en_a__csv=b"en", fr_a__csv=b"fr")
    english = fetch(hub, config="en")
    hub.cut("", times=1000)
    assert fetch(hub, config="en") == english
    for revision in (None, english.commit, "v2"):
        with pytest.raises(PipelineError, match="cannot be reached"):
            fetch(hub, config="fr", revision=revision)
    with pytest.raises(PipelineError, match="cannot be reached"):
        fetch(hub, "ada/never")


def test_what_is_no_longer_there_is_not_taken_from_the_cache(hub: HubServer) -> None:
    fill(hub, a__csv=b"a")
    fetch(hub)
    del hub.repos["dataset", "ada/tales"]
    with pytest.raises(PipelineError, match="has no ada/tales among its datasets"):
        fetch(hub)


def test_a_gated_dataset_says_what_to_do(hub: HubServer) -> None:
    fill(hub, a__csv=b"a")
    hub.fail("", 403, times=100, X_Error_Code="GatedRepo")
    with pytest.raises(PipelineError, match="ada/tales is gated") as caught:
        fetch(hub)
    assert TOKEN not in str(caught.value)


def test_the_disk_is_looked_at_before_the_download(hub: HubServer) -> None:
    fill(hub, a__csv=b"a" * 700, b__csv=b"b" * 50)

    def full(what: str, size: int, folder: Path) -> None:
        raise PipelineError(f"{what}: {size}")

    with pytest.raises(PipelineError, match="the dataset ada/tales: 750"):
        fetch(hub, check_room=full)
    assert not [path for path in hub.paths("GET") if "a.csv" in path]
    fetch(hub)
    fetch(hub, check_room=full)  # nothing is to be fetched any more

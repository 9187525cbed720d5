"""Texts from elsewhere: S3, the web, the Hub; what comes half, denied or late is never taken."""

import gzip
import json
from pathlib import Path

import pytest

from pipeline.errors import PipelineError
from pipeline.step1_acquire import MissingKeys, acquire
from tests.acquisition.data import counts, names, rows, text
from tests.datasets_server import DatasetsServer
from tests.s3_server import SECRET, S3Server


def fill(s3: S3Server, n: int = 5) -> None:
    for i in range(1, n + 1):
        s3.put("lib", f"tales/tale {i}.txt", f"Tale number {i}.\n".encode())


def bodies(s3: S3Server) -> list[str]:
    """Requests that fetched objects."""
    return [request.path for request in s3.asked("GET", ".txt")]


def test_the_texts_below_a_prefix_are_taken(s3: S3Server, tmp_path: Path) -> None:
    fill(s3)
    acquire(tmp_path, source=["s3://lib/tales/"])
    assert names(tmp_path) == [f"tale-{i}.txt" for i in range(1, 6)]
    assert rows(tmp_path)[0]["source"] == "s3://lib/tales/tale 1.txt"
    assert rows(tmp_path)[0]["collection"] == "tales"


@pytest.mark.usefixtures("s3_keys")
def test_private_objects_come_with_keys_which_are_nowhere_kept(
    s3: S3Server, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    s3.put("vault", "a.txt", b"A secret tale.\n", public=False)
    acquire(tmp_path, source=["s3://vault/a.txt"])
    assert text(tmp_path, "a.txt") == "A secret tale.\n"
    kept = [path.read_bytes() for path in tmp_path.rglob("*") if path.is_file()]
    assert not any(SECRET.encode() in data for data in kept)
    assert SECRET not in capsys.readouterr().err


def test_without_keys_a_private_object_is_refused_in_a_sentence(
    s3: S3Server, tmp_path: Path
) -> None:
    s3.put("vault", "a.txt", b"A secret tale.\n", public=False)
    with pytest.raises(PipelineError) as error:
        acquire(tmp_path, source=["s3://vault/a.txt"])
    assert "s3://vault/a.txt" in str(error.value)
    assert "AWS_ACCESS_KEY_ID" in str(error.value) or "credentials" in str(error.value)


@pytest.mark.parametrize(
    "place", ["s3://not-there/x.txt", "s3://lib/not-there.txt", "s3://lib/no/"]
)
def test_a_bucket_or_key_that_is_not_there_is_named(
    s3: S3Server, tmp_path: Path, place: str
) -> None:
    fill(s3)
    with pytest.raises(PipelineError, match=f"--source {place}"):
        acquire(tmp_path, source=[place])


def test_what_is_there_is_not_fetched_again(s3: S3Server, tmp_path: Path) -> None:
    fill(s3)
    acquire(tmp_path, source=["s3://lib/tales/"])
    before = len(s3.requests)
    acquire(tmp_path, source=["s3://lib/tales/"])
    assert len(s3.requests) == before, "an unchanged command asks nobody"
    s3.put("lib", "tales/tale 9.txt", b"One more.\n")
    s3.put("lib", "tales/tale 1.txt", b"Told anew.\n")
    fetched = len(bodies(s3))
    acquire(tmp_path, source=["s3://lib/tales/"], refresh=True)
    assert len(bodies(s3)) - fetched == 2, "only what is new or changed"
    assert text(tmp_path, "tale-1.txt") == "Told anew.\n"
    assert counts(tmp_path)["already there"] == 4


def test_an_object_that_breaks_off_is_resumed(s3: S3Server, tmp_path: Path) -> None:
    body = b"A long line of a tale.\n" * 5000
    s3.put("lib", "long.txt", body)
    s3.fail("long.txt", 1, cut=40_000)
    acquire(tmp_path, source=["s3://lib/long.txt"])
    assert text(tmp_path, "long.txt").encode() == body


def test_an_object_that_cannot_be_had_is_listed_and_asked_for_again(
    s3: S3Server, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("time.sleep", lambda seconds: None)
    fill(s3)
    s3.fail("tale 3.txt", 99, status=403, code="AccessDenied")
    acquire(tmp_path, source=["s3://lib/tales/"])
    assert len(names(tmp_path)) == 4
    (refused,) = rows(tmp_path, "refused.jsonl")
    assert refused["what"] == "s3://lib/tales/tale 3.txt"
    s3.heal()
    acquire(tmp_path, source=["s3://lib/tales/"])
    assert len(names(tmp_path)) == 5


def test_shards_of_rows_are_read_by_their_pattern(s3: S3Server, tmp_path: Path) -> None:
    for n in range(1, 4):
        lines = "".join(json.dumps({"body": f"Shard {n}, text {i}."}) + "\n" for i in range(2))
        s3.put("lib", f"train.{n}.jsonl.gz", gzip.compress(lines.encode()))
    acquire(tmp_path, source=["s3://lib/train.{1..3}.jsonl.gz"], text_column="body")
    assert len(names(tmp_path)) == 6
    assert text(tmp_path, "train-2-000001.txt") == "Shard 2, text 0."


def test_a_series_of_lists_is_read_segment_by_segment(s3: S3Server, tmp_path: Path) -> None:
    fill(s3, 4)
    for n, keys in ((1, [1, 2]), (2, [3, 4, 7])):
        listed = json.dumps([f"tales/tale {i}.txt" for i in keys]).encode()
        s3.put("lib", f"lists/part_{n}.json.gz", gzip.compress(listed))
    pattern = "s3://lib/lists/part_{segment_number}.json.gz"
    with pytest.raises(PipelineError, match=r"tale 7\.txt does not exist"):
        acquire(tmp_path, series=[pattern])
    acquire(tmp_path, series=[pattern], missing_keys=MissingKeys.SKIP)
    assert [row["segment"] for row in rows(tmp_path)] == [1, 1, 2, 2]
    assert counts(tmp_path)["segments"] == 2
    assert "tale 7" in rows(tmp_path, "refused.jsonl")[0]["what"]


def test_a_list_of_keys_leads_nowhere_else(s3: S3Server, tmp_path: Path) -> None:
    outside = tmp_path / "outside.txt"
    outside.write_text("Not to be read.\n")
    s3.put("lib", "part_1.json", json.dumps([f"file://{outside}"]).encode())
    with pytest.raises(PipelineError, match=r"part_1\.json"):
        acquire(tmp_path / "data", series=["s3://lib/part_{segment_number}.json"])


def test_a_dataset_of_the_hub_is_read_by_its_name(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    lines = [json.dumps({"text": f"Row {n}."}) for n in range(3)]
    files = {"data/train.jsonl": "\n".join(lines).encode(), "data/test.jsonl": lines[0].encode()}
    with DatasetsServer({"user/tales": files}) as hub:
        hub.use(monkeypatch, tmp_path / "home")
        acquire(tmp_path / "data", source=["user/tales"])
        commit = hub.commit("user/tales")
    assert len(names(tmp_path / "data")) == 3
    row = rows(tmp_path / "data")[0]
    assert row["source"] == "https://huggingface.co/datasets/user/tales"
    assert row["revision"] == commit
    assert text(tmp_path / "data", row["file"]) == "Row 0."


def test_a_name_that_is_no_path_and_no_dataset_is_told_as_both(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with DatasetsServer({}) as hub:
        hub.use(monkeypatch, tmp_path / "home")
        with pytest.raises(PipelineError, match="There is no file or folder my/novels here, and"):
            acquire(tmp_path / "data", source=["my/novels"])


def test_a_series_may_list_tables(s3: S3Server, tmp_path: Path) -> None:
    s3.put("lib", "rows.jsonl.gz", gzip.compress(b'{"text": "One."}\n{"text": "Two."}\n'))
    s3.put("lib", "part_1.json", json.dumps(["rows.jsonl.gz"]).encode())
    acquire(tmp_path, series=["s3://lib/part_{segment_number}.json"])
    assert [(row["row"], row["segment"]) for row in rows(tmp_path)] == [(1, 1), (2, 1)]


def test_refresh_sees_changes_where_no_version_is_told(s3: S3Server, tmp_path: Path) -> None:
    fill(s3, 2)
    s3.put("lib", "part_1.json", json.dumps(["tales/tale 1.txt", "tales/tale 2.txt"]).encode())
    acquire(tmp_path, series=["s3://lib/part_{segment_number}.json"])
    s3.put("lib", "tales/tale 2.txt", b"Told anew.\n")
    acquire(tmp_path, series=["s3://lib/part_{segment_number}.json"], refresh=True)
    assert text(tmp_path, "tale-2.txt") == "Told anew.\n"
    assert (counts(tmp_path)["renewed"], counts(tmp_path)["not changed"]) == (1, 1)


def test_another_split_comes_beside_the_first(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    files = {"train.jsonl": b'{"text": "To learn."}\n', "test.jsonl": b'{"text": "To test."}\n'}
    with DatasetsServer({"user/tales": files}) as hub:
        hub.use(monkeypatch, tmp_path / "home")
        for split in ("train", "test"):
            acquire(tmp_path / "data", source=["user/tales"], split=split)
    kept = {text(tmp_path / "data", name) for name in names(tmp_path / "data")}
    assert kept == {"To learn.", "To test."}


def test_a_subset_of_a_hub_dataset_is_a_set_of_its_own(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    configs = "".join(f"- config_name: {s}\n  data_files: {s}.jsonl\n" for s in "ab")
    card = f"---\nconfigs:\n{configs}---\n".encode()
    files = {"README.md": card, "a.jsonl": b'{"text": "A."}\n', "b.jsonl": b'{"text": "B."}\n'}
    with DatasetsServer({"user/tales": files}) as hub:
        hub.use(monkeypatch, tmp_path / "home")
        for subset in ("a", "b"):
            acquire(tmp_path / subset, source=["user/tales"], subset=subset)
    kept = [text(tmp_path / s, name) for s in ("a", "b") for name in names(tmp_path / s)]
    assert kept == ["A.", "B."]


def test_an_object_that_two_sources_name_is_one_text_and_held_out_if_either_says_so(
    s3: S3Server, tmp_path: Path
) -> None:
    fill(s3, 4)
    acquire(tmp_path, source=["s3://lib/tales/=1", "s3://lib/tales/tale {1..2}.txt=0"])
    assert [row["weight"] for row in rows(tmp_path)] == [0.0, 0.0, 1.0, 1.0]


def test_a_table_that_a_series_lists_may_be_missing_or_change(s3: S3Server, tmp_path: Path) -> None:
    s3.put("lib", "a.jsonl", b'{"prompt": "P", "completion": " C"}\n')
    s3.put("lib", "part_1.json", json.dumps(["a.jsonl", "gone.jsonl"]).encode())
    series = ["s3://lib/part_{segment_number}.json"]
    with pytest.raises(PipelineError, match=r"gone\.jsonl"):
        acquire(tmp_path, series=series)
    acquire(tmp_path, series=series, missing_keys=MissingKeys.SKIP)
    assert "gone.jsonl" in rows(tmp_path, "refused.jsonl")[0]["what"]
    s3.put("lib", "a.jsonl", b'{"prompt": "P", "completion": " another"}\n')
    acquire(tmp_path, series=series, missing_keys=MissingKeys.SKIP, refresh=True)
    assert "another" in text(tmp_path, "a.completion.jsonl")

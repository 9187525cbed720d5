"""Stage 4: the repository on disk, what is done again, what is refused, and the push."""

import json
import os
import socket
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import huggingface_hub.constants
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from huggingface_hub import DatasetCard

from pipeline.errors import PipelineError, UsageError
from pipeline.hub import client, repository
from pipeline.step4_upload import check_target, upload
from tests.hub_server import TOKEN, HubServer

DATASET = "dataset", "ada/books"
TALES = {"84-tale": ["It was late.\n\n", "Then it was later.\n"], "85-tale": ["Dawn came.\n"]}
HELD_OUT = {"932-house": ["A house fell.\n\n", "That was all.\n"]}
RIGHTS = "public domain in the USA"


@pytest.fixture(autouse=True)
def no_account(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """Nobody is logged in, Xet is off, and nothing waits."""
    for name in ("HF_TOKEN", "HUGGING_FACE_HUB_TOKEN", "HF_OIDC_RESOURCE"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setattr(huggingface_hub.constants, "HF_TOKEN_PATH", str(tmp_path / "no-token"))
    monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_DISABLE_XET", True)
    monkeypatch.setattr(client, "RETRY_WAITS", (0.0, 0.0))


@pytest.fixture
def hub(monkeypatch: pytest.MonkeyPatch) -> Iterator[HubServer]:
    """The Hub of this machine, on loopback, and a token for it."""
    with HubServer() as server:
        monkeypatch.setattr(huggingface_hub.constants, "ENDPOINT", server.url)
        monkeypatch.setenv("HF_TOKEN", TOKEN)
        yield server


@pytest.fixture
def data(tmp_path: Path) -> Path:
    """A data directory as stage 3 leaves it: three texts."""
    return chunked(tmp_path / "data", {"train": TALES, "validation": HELD_OUT})


def chunked(data: Path, splits: dict[str, dict[str, list[str]]], **about: Any) -> Path:
    """Write `3_chunks`: split -> document -> chunks; `about` is said of every document."""
    folder = data / "3_chunks"
    folder.mkdir(parents=True, exist_ok=True)
    rows = []
    for split, documents in splits.items():
        chunks = []
        for id, texts in documents.items():
            end = 0
            for number, text in enumerate(texts):
                end += len(text)
                chunks.append(
                    {"text": text, "document_id": id, "chunk": number,
                     "char_start": end - len(text), "char_end": end, "overlap": 0,
                     "is_last": number == len(texts) - 1, "title": id.title(),
                     "authors": ["A. Author"]}
                )  # fmt: skip
            rows.append(
                {"document_id": id, "title": id.title(), "authors": ["A. Author"],
                 "language": "en", "source": f"https://example.org/{id}", "rights": RIGHTS,
                 "work": id, "characters": end, "chunks": len(texts), "split": split, **about}
            )  # fmt: skip
        pq.write_table(pa.Table.from_pylist(chunks), folder / f"{split}-00000-of-00001.parquet")
    documents_file(data, rows)
    return data


def documents_file(data: Path, rows: list[dict[str, Any]]) -> None:
    lines = "".join(json.dumps(row) + "\n" for row in rows)
    (data / "3_chunks" / "documents.jsonl").write_text(lines)


def add_records(data: Path) -> None:
    """Records of both kinds beside the texts."""
    folder = data / "3_chunks"
    turns = [{"role": "user", "content": "Hi"}, {"role": "assistant", "content": "Boo!"}]
    pair = {"prompt": "Who?", "completion": " Me."}
    for kind, content in (("completion", pair), ("chat", {"messages": turns})):
        for split, count in (("train", 9), ("validation", 1)):
            rows = [{**content, "document_id": "mine", "record": n + 1} for n in range(count)]
            path = folder / f"{kind}-{split}-00000-of-00001.parquet"
            pq.write_table(pa.Table.from_pylist(rows), path)


def record(data: Path) -> dict[str, Any]:
    found: dict[str, Any] = json.loads((data / "4_dataset" / "stage.json").read_text())
    return found


def files(data: Path) -> list[str]:
    """What the directory shows."""
    folder = data / "4_dataset"
    names = [p.relative_to(folder).as_posix() for p in folder.rglob("*") if p.is_file()]
    return sorted(name for name in names if not name.startswith(".") and name != "stage.json")


def inodes(data: Path) -> dict[str, int]:
    return {name: (data / "4_dataset" / name).stat().st_ino for name in files(data)}


def test_the_directory_is_the_repository(data: Path) -> None:
    upload(data)
    assert files(data) == [
        "README.md", "books/books.parquet", "data/train-00000-of-00001.parquet",
        "data/validation-00000-of-00001.parquet",
    ]  # fmt: skip
    for path in (data / "3_chunks").glob("*.parquet"):
        copy = data / "4_dataset" / "data" / path.name
        assert copy.read_bytes() == path.read_bytes()
        assert copy.stat().st_ino != path.stat().st_ino, "an edit of one must not reach the other"


def test_the_dataset_library_loads_every_configuration_without_a_network(
    data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    import datasets

    def refuse(*_: object) -> None:
        raise AssertionError("loading from a directory needs no network")

    add_records(data)
    upload(data)
    monkeypatch.setattr(socket.socket, "connect", refuse)
    place, cache = str(data / "4_dataset"), str(tmp_path / "cache")
    assert datasets.get_dataset_config_names(place) == ["chunks", "completion", "chat", "books"]
    for name in (None, "chunks"):
        loaded = datasets.load_dataset(place, name, cache_dir=cache)
        rows = [row for split in loaded.values() for row in split]
        for id, texts in (TALES | HELD_OUT).items():
            mine = [row["text"] for row in rows if row["document_id"] == id]
            assert "".join(mine) == "".join(texts)
    for kind in ("completion", "chat"):
        loaded = datasets.load_dataset(place, kind, cache_dir=cache)
        assert {name: len(split) for name, split in loaded.items()} == {"train": 9, "validation": 1}
    books = datasets.load_dataset(place, "books", split="train", cache_dir=cache)
    assert books["document_id"] == list(TALES | HELD_OUT)
    assert books["split"] == ["train", "train", "validation"]
    assert books["rights"] == [RIGHTS] * 3


def test_the_card_says_how_the_texts_were_made(data: Path) -> None:
    common = {
        "status": "complete", "version": 1, "inputs": [], "outputs": [], "warnings": [],
        "start": "", "end": "",
    }  # fmt: skip
    total = {"characters_in": 99, "removed": {"boilerplate": 9}, "by_hand": 0, "in_chunks": 90}
    for stage, folder, settings, counts in (
        ("acquire", "1_raw", {"topic": "horror", "source": ["/home/ada/diary"]}, {}),
        ("preprocess", "2_preprocessed", {"unwrap": True}, {}),
        ("chunk", "3_chunks", {"chunk_size": 7000}, {"ledger": {"total": total}}),
    ):
        (data / folder).mkdir(exist_ok=True)
        value = common | {"stage": stage, "settings": settings, "counts": counts}
        (data / folder / "stage.json").write_text(json.dumps(value))
    upload(data)
    card = (data / "4_dataset" / "README.md").read_text()
    for line in (
        "| acquire | topic | horror |", "| preprocess | unwrap | True |",
        "| chunk | chunk_size | 7000 |", "| characters removed (boilerplate) | 9 |",
    ):  # fmt: skip
        assert line in card
    assert "diary" not in card
    path = data / "3_chunks" / "stage.json"
    path.write_text(path.read_text().replace("7000", "5000"))
    before = inodes(data)
    upload(data)
    assert "| chunk | chunk_size | 5000 |" in (data / "4_dataset" / "README.md").read_text()
    after = inodes(data)
    assert [name for name in after if after[name] != before[name]] == ["README.md"]


def test_a_card_of_records_shows_one_that_may_be_published(tmp_path: Path) -> None:
    folder = tmp_path / "data" / "3_chunks"
    folder.mkdir(parents=True)
    said = [" By Project Gutenberg.", " By me."]
    lines = [{"prompt": "Who?", "completion": text, "document_id": "mine"} for text in said]
    pq.write_table(pa.Table.from_pylist(lines), folder / "completion-train-00000-of-00001.parquet")
    known = {"document_id": "mine", "kind": "completion", "records": 2, "characters": 38}
    documents_file(tmp_path / "data", [known])

    upload(tmp_path / "data")
    card = (tmp_path / "data" / "4_dataset" / "README.md").read_text()
    assert "# Prompts with completions" in card
    assert '"completion": " By me."' in card
    assert "Gutenberg" not in card
    assert record(tmp_path / "data")["counts"]["records"] == 2
    assert record(tmp_path / "data")["counts"]["documents"] == 0


def test_a_dataset_of_several_kinds_is_called_by_all_of_them(data: Path) -> None:
    add_records(data)
    upload(data)
    card = (data / "4_dataset" / "README.md").read_text()
    assert "# Books in chunks, prompts with completions, and chats" in card
    assert "25 rows of 3 kinds" in card


def test_only_what_changed_is_written_again(data: Path) -> None:
    upload(data)
    before = inodes(data)
    upload(data, dataset_name="Other")
    after = inodes(data)
    assert [name for name in after if after[name] != before[name]] == ["README.md"]
    chunked(data, {"train": TALES, "validation": {"932-house": ["It stands again!\n"]}})
    upload(data, dataset_name="Other")
    last = inodes(data)
    changed = [name for name in last if last[name] != after[name]]
    assert changed == [
        "README.md", "books/books.parquet", "data/validation-00000-of-00001.parquet"
    ]  # fmt: skip


def test_shards_that_are_no_longer_made_go(data: Path) -> None:
    add_records(data)
    upload(data)
    for path in (data / "3_chunks").glob("chat-*"):
        path.unlink()
    upload(data)
    assert not [name for name in files(data) if name.startswith("chat/")]
    assert "config_name: chat" not in (data / "4_dataset" / "README.md").read_text()


def test_a_card_that_a_person_edited_is_kept(data: Path) -> None:
    upload(data)
    card = data / "4_dataset" / "README.md"
    mine = card.read_text().replace("# Books in chunks", "# My grandmother's tales")
    card.write_text(mine)
    chunked(data, {"train": TALES, "validation": {"932-house": ["It stands again!\n"]}})
    upload(data)
    assert card.read_text() == mine
    upload(data, overwrite_edited=True)
    assert "# Books in chunks" in card.read_text()


def test_an_edited_card_that_no_longer_fits_is_told(
    data: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    upload(data)
    card = data / "4_dataset" / "README.md"
    card.write_text(card.read_text() + "My words.\n")
    upload(data, dataset_name="Other")
    assert "do not name the files" not in capsys.readouterr().err
    add_records(data)
    upload(data, dataset_name="Other")
    assert "do not name the files of: completion, chat." in capsys.readouterr().err
    card.write_text("My words alone.\n")
    upload(data, dataset_name="Third")
    assert "do not name the files of: chunks, completion, chat, books" in capsys.readouterr().err


def test_what_has_not_changed_is_not_searched_again(
    data: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    searched = []
    real = repository.parts_of

    def noted(path: Path) -> Any:
        searched.append(path.name.split("-")[0])
        return real(path)

    monkeypatch.setattr(repository, "parts_of", noted)
    monkeypatch.setattr(repository, "default_jobs", lambda: 1)
    upload(data)
    upload(data)
    upload(data, dataset_name="Other")
    assert searched == ["train", "validation"]
    chunked(data, {"train": TALES, "validation": {"932-house": ["It stands again!\n"]}})
    upload(data, dataset_name="Other")
    assert searched == ["train", "validation", "validation"]


MENTION = {"84-tale": ["It was late.\n\n", "Produced by Project Gutenberg.\n"]}


def test_without_a_push_the_gate_only_warns(data: Path, capsys: pytest.CaptureFixture[str]) -> None:
    chunked(data, {"train": MENTION, "validation": HELD_OUT})
    upload(data)
    assert "2_preprocessed/84-tale.txt:3:" in capsys.readouterr().err
    assert record(data)["counts"]["gate"]["mentions"] == 1
    assert any("84-tale.txt:3" in warning for warning in record(data)["warnings"])


@pytest.mark.parametrize("dry_run", [False, True])
@pytest.mark.parametrize("built", [False, True])
def test_what_must_not_be_published_is_listed_and_nothing_is_sent(
    data: Path, hub: HubServer, capsys: pytest.CaptureFixture[str], dry_run: bool, built: bool
) -> None:
    chunked(data, {"train": MENTION, "validation": HELD_OUT})
    if built:
        upload(data, repo_id=None)
    capsys.readouterr()
    with pytest.raises(PipelineError, match=r"1 text \(84-tale\) refers to Project Gutenberg"):
        upload(data, repo_id="ada/books", dry_run=dry_run)
    assert "2_preprocessed/84-tale.txt:3:" in capsys.readouterr().err
    assert hub.requests == []


def test_an_authors_own_words_are_let_through_if_one_says_so(data: Path, hub: HubServer) -> None:
    chunked(data, {"train": MENTION, "validation": HELD_OUT})
    upload(data, repo_id="ada/books", allow_mentions=["84-tale"])
    assert DATASET in hub.repos
    assert record(data)["settings"]["allow_mentions"] == ["84-tale"]
    assert record(data)["counts"]["gate"]["mentions_allowed_in"] == ["84-tale"]
    with pytest.raises(UsageError, match="there is no such document") as caught:
        upload(data, allow_mentions=["84-tail"])
    assert "84-tale" in str(caught.value)


def test_a_book_under_copyright_is_refused_unless_the_rights_are_yours(
    data: Path, hub: HubServer
) -> None:
    chunked(
        data, {"train": TALES, "validation": HELD_OUT}, rights="under copyright in the USA"
    )  # fmt: skip
    with pytest.raises(PipelineError, match=r"3 texts .* are marked as under copyright"):
        upload(data, repo_id="ada/books")
    assert hub.requests == []
    upload(data, repo_id="ada/books", publish_copyrighted=True)
    assert record(data)["counts"]["gate"]["under_copyright_allowed"] == 3


def test_unknown_rights_are_counted_and_no_more(
    data: Path, hub: HubServer, capsys: pytest.CaptureFixture[str]
) -> None:
    chunked(data, {"train": TALES, "validation": HELD_OUT}, rights=None)
    upload(data, repo_id="ada/books")
    said = " ".join(capsys.readouterr().err.split())
    assert "The rights in 3 documents are unknown" in said
    assert "`pipeline acquire --rights TEXT`" in said
    assert "license: unknown" in (data / "4_dataset" / "README.md").read_text()


def test_a_shard_that_was_changed_by_hand_is_searched_as_it_stands(
    data: Path, hub: HubServer
) -> None:
    upload(data)
    chunked(data.parent / "other", {"train": MENTION})
    mine = (data.parent / "other" / "3_chunks" / "train-00000-of-00001.parquet").read_bytes()
    (data / "4_dataset" / "data" / "train-00000-of-00001.parquet").write_bytes(mine)
    for dry_run in (True, False):
        with pytest.raises(PipelineError, match="refers to Project Gutenberg"):
            upload(data, repo_id="ada/books", dry_run=dry_run)
    assert hub.requests == []


def test_a_file_that_a_person_put_there_is_searched_too(data: Path, hub: HubServer) -> None:
    upload(data)
    chunked(data.parent / "other", {"train": MENTION})
    mine = (data.parent / "other" / "3_chunks" / "train-00000-of-00001.parquet").read_bytes()
    (data / "4_dataset" / "extra.parquet").write_bytes(mine)
    for dry_run in (True, False):
        with pytest.raises(PipelineError, match="refers to Project Gutenberg"):
            upload(data, repo_id="ada/books", dry_run=dry_run)
    assert hub.requests == []


def test_rights_are_those_of_the_files_that_would_be_sent(
    data: Path, hub: HubServer, capsys: pytest.CaptureFixture[str]
) -> None:
    upload(data)
    row = {"text": "Mine.\n", "document_id": "new", "rights": "© 2003 A. Author"}
    mine = data / "4_dataset" / "extra.parquet"
    pq.write_table(pa.Table.from_pylist([row]), mine)
    for dry_run in (True, False):
        with pytest.raises(PipelineError, match=r"1 text \(new\) is marked as under copyright"):
            upload(data, repo_id="ada/books", dry_run=dry_run)
    assert hub.requests == []
    pq.write_table(pa.Table.from_pylist([row | {"rights": None}]), mine)
    capsys.readouterr()
    upload(data, repo_id="ada/books")
    assert "The rights in 1 document are unknown" in capsys.readouterr().err


@pytest.mark.parametrize("name", ["README.md", "notes.txt"])
def test_what_a_person_wrote_beside_the_data_is_searched_too(
    data: Path, hub: HubServer, capsys: pytest.CaptureFixture[str], name: str
) -> None:
    upload(data)
    path = data / "4_dataset" / name
    before = path.read_text() if path.is_file() else ""
    path.write_text(before + "Thanks to Project Gutenberg.\n")
    line = len(path.read_text().splitlines())
    for dry_run in (True, False):
        with pytest.raises(PipelineError, match="refers to Project Gutenberg"):
            upload(data, repo_id="ada/books", dry_run=dry_run)
        assert f"4_dataset/{name}:{line}: " in capsys.readouterr().err
    assert hub.requests == []
    upload(data, repo_id="ada/books", allow_mentions=[name])
    assert DATASET in hub.repos


def test_where_books_come_from_is_no_reference_in_a_card(data: Path, hub: HubServer) -> None:
    source = "https://www.gutenberg.org/ebooks/84"
    chunked(data, {"train": TALES, "validation": HELD_OUT}, source=source)
    upload(data, repo_id="ada/books")
    card = data / "4_dataset" / "README.md"
    assert source in card.read_text()
    card.write_text(card.read_text() + "My words.\n")
    chunked(data, {"train": TALES}, source=source)
    (data / "3_chunks" / "validation-00000-of-00001.parquet").unlink()
    upload(data, repo_id="ada/books")


def test_the_name_of_the_dataset_is_searched_too(data: Path, hub: HubServer) -> None:
    with pytest.raises(PipelineError, match="--dataset-name"):
        upload(data, repo_id="ada/books", dataset_name="Books of Project Gutenberg")
    assert hub.requests == []


def test_a_push_makes_the_repository_hold_the_directory(data: Path, hub: HubServer) -> None:
    upload(data, repo_id="ada/books", private=False)
    there = hub.files(*DATASET)
    del there[".gitattributes"]
    assert sorted(there) == files(data)
    assert all((data / "4_dataset" / name).read_bytes() == body for name, body in there.items())
    assert 'load_dataset("ada/books")' in there["README.md"].decode()
    assert not hub.repos[DATASET].private


def test_a_push_to_a_branch_leaves_main_alone(data: Path, hub: HubServer) -> None:
    upload(data, repo_id="ada/books", revision="v2")
    assert "README.md" in hub.files(*DATASET, branch="v2")
    assert list(hub.files(*DATASET)) == [".gitattributes"]
    with pytest.raises(UsageError, match="give --repo-id too"):
        upload(data, revision="v2")


def test_after_a_failure_the_same_command_continues(data: Path, hub: HubServer) -> None:
    hub.cut("/commit/", times=9)
    with pytest.raises(PipelineError, match="cannot be reached"):
        upload(data, repo_id="ada/books")
    sent = len(hub.paths("PUT"))
    hub.heal()
    upload(data, repo_id="ada/books")
    assert len(hub.paths("PUT")) == sent
    assert len(hub.repos[DATASET].commits) == 1


def test_a_dry_run_says_what_would_happen_and_writes_nothing(
    data: Path, hub: HubServer, capsys: pytest.CaptureFixture[str]
) -> None:
    upload(data, repo_id="ada/books", dry_run=True)
    shown = capsys.readouterr().out
    assert "would create private dataset ada/books" in shown
    assert "would send data/train-00000-of-00001.parquet (" in shown
    assert "4 files to send" in shown
    assert not (data / "4_dataset").exists()
    assert hub.repos == {}


def test_a_dry_run_knows_what_is_there_already(
    data: Path, hub: HubServer, capsys: pytest.CaptureFixture[str]
) -> None:
    add_records(data)
    upload(data, repo_id="ada/books")
    for path in (data / "3_chunks").glob("chat-*"):
        path.unlink()
    before, commits = record(data), len(hub.repos[DATASET].commits)
    capsys.readouterr()
    upload(data, repo_id="ada/books", dry_run=True)
    shown = capsys.readouterr().out
    assert "would skip data/train-00000-of-00001.parquet" in shown
    assert "would send README.md" in shown
    assert "would remove chat/train-00000-of-00001.parquet" in shown
    assert "1 file to send" in shown
    assert record(data) == before
    assert len(hub.repos[DATASET].commits) == commits
    upload(data, repo_id="ada/books", revision="v2", dry_run=True)
    assert "would create branch v2" in capsys.readouterr().out


def test_a_dry_run_needs_neither_token_nor_network(
    data: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(huggingface_hub.constants, "ENDPOINT", "http://127.0.0.1:9")
    upload(data, repo_id="ada/books", dry_run=True)
    shown = capsys.readouterr().out
    assert "not compared with the Hub: http://127.0.0.1:9 cannot be reached" in shown
    assert "4 files to send" in shown


def test_a_dry_run_without_a_repository_ends_with_what_it_comes_to(
    data: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    upload(data, dry_run=True)
    *files, last = capsys.readouterr().out.splitlines()
    assert [line.split(" (")[0] for line in files] == [
        "would be there: data/train-00000-of-00001.parquet",
        "would be there: data/validation-00000-of-00001.parquet",
        "would be there: books/books.parquet", "would be there: README.md",
    ]  # fmt: skip
    assert last.startswith("4 files (")
    assert "none would be sent, since no --repo-id" in last and "nothing was written" in last
    assert not (data / "4_dataset").exists()


def test_a_dry_run_without_a_token_looks_at_what_is_public(
    data: Path, hub: HubServer, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    upload(data, repo_id="ada/books", private=False)
    monkeypatch.delenv("HF_TOKEN")
    capsys.readouterr()
    upload(data, repo_id="ada/books", private=False, dry_run=True)
    assert "0 files to send (0 bytes), 4 there already" in capsys.readouterr().out
    upload(data, repo_id="ada/other", dry_run=True)
    assert "ada/other, or it is private: there is no token" in capsys.readouterr().out


def test_a_dry_run_refuses_what_a_push_would_refuse(data: Path, hub: HubServer) -> None:
    upload(data, repo_id="ada/books", private=False)
    with pytest.raises(PipelineError, match="there already, and public"):
        upload(data, repo_id="ada/books", private=True, dry_run=True)


def test_an_edited_card_is_what_a_dry_run_would_send(
    data: Path, hub: HubServer, capsys: pytest.CaptureFixture[str]
) -> None:
    upload(data, repo_id="ada/books")
    card = data / "4_dataset" / "README.md"
    card.write_text(card.read_text() + "My words.\n")
    os.utime(card, (1, 1))
    capsys.readouterr()
    upload(data, repo_id="ada/books", dry_run=True)
    assert f"would send README.md ({card.stat().st_size:,} bytes)" in capsys.readouterr().out


def test_without_a_token_a_push_is_refused_before_any_work(data: Path) -> None:
    with pytest.raises(PipelineError, match="No Hugging Face token"):
        check_target("ada/books")
    with pytest.raises(PipelineError, match="No Hugging Face token"):
        upload(data, repo_id="ada/books")
    assert not (data / "4_dataset").exists()


def test_documents_that_say_little_of_themselves_are_taken_all_the_same(data: Path) -> None:
    documents_file(data, [{"document_id": "84-tale"}, {"document_id": "<b>|\n---\n", "title": "|"}])
    upload(data)
    card = DatasetCard((data / "4_dataset" / "README.md").read_text())
    assert card.data["license"] == "unknown"
    documents_file(data, [])
    upload(data)
    assert "books/books.parquet" not in files(data)

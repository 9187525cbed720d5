"""Pushing to a Hub, with huggingface_hub's own client over real HTTP."""

import time
import traceback
from pathlib import Path

import huggingface_hub.constants
import pytest

from pipeline.errors import PipelineError
from pipeline.files import sha256_file
from pipeline.hub import client
from pipeline.hub.client import check_repo_id, files_to_push, find_token, push_folder
from tests.hub_server import TOKEN, HubServer

CARD = "---\nlicense: other\n---\n\n# Books\n"
PUSH = "dataset", "ada/books"


pytestmark = pytest.mark.usefixtures("no_account")


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A dataset as stage 4 leaves it: card, shards, the workspace's record."""
    folder = tmp_path / "4_dataset"
    (folder / "data").mkdir(parents=True)
    (folder / "README.md").write_text(CARD)
    (folder / "data" / "train-00000-of-00001.parquet").write_bytes(b"PAR1" + b"x" * 5000)
    (folder / "data" / "validation-00000-of-00001.parquet").write_bytes(b"PAR1" + b"y" * 500)
    (folder / "stage.json").write_text("{}")
    (folder / ".cache").mkdir()
    (folder / ".cache" / "secret").write_text("not for publication")
    return folder


def push(hub: HubServer, folder: Path, name: str = "ada/books", **options: object) -> str:
    arguments = {"repo_type": "dataset", "private": True, "endpoint": hub.url, "token": TOKEN}
    return push_folder(folder, name, **{**arguments, **options})  # type: ignore[arg-type]


def test_the_repository_holds_exactly_the_folder(hub: HubServer, folder: Path) -> None:
    url = push(hub, folder)
    assert url == f"{hub.url}/datasets/ada/books"
    there = hub.files(*PUSH)
    del there[".gitattributes"]
    assert there == {name: path.read_bytes() for name, path in files_to_push(folder).items()}
    assert sorted(there) == [
        "README.md",
        "data/train-00000-of-00001.parquet",
        "data/validation-00000-of-00001.parquet",
    ]


def test_one_push_is_one_commit_whatever_it_adds_and_removes(hub: HubServer, folder: Path) -> None:
    push(hub, folder)
    (folder / "data" / "train-00000-of-00001.parquet").rename(
        folder / "data" / "train-00000-of-00002.parquet"
    )
    (folder / "data" / "train-00001-of-00002.parquet").write_bytes(b"more")
    push(hub, folder)
    assert len(hub.repos[PUSH].commits) == 2
    assert "data/train-00000-of-00001.parquet" not in hub.files(*PUSH)
    assert "data/train-00001-of-00002.parquet" in hub.files(*PUSH)


def test_files_that_a_person_added_on_the_hub_stay(hub: HubServer, folder: Path) -> None:
    push(hub, folder)
    hub.repos[PUSH].branches["main"]["NOTES.md"] = (b"mine", False)
    push(hub, folder)
    assert hub.files(*PUSH)["NOTES.md"] == b"mine"


def test_what_is_there_already_is_not_sent_again(hub: HubServer, folder: Path) -> None:
    push(hub, folder)
    sent = len(hub.paths("PUT"))
    push(hub, folder)
    assert len(hub.paths("PUT")) == sent == 2
    assert len(hub.repos[PUSH].commits) == 1, "an unchanged folder makes no commit"
    (folder / "README.md").write_text(CARD + "new\n")
    push(hub, folder)
    assert len(hub.paths("PUT")) == sent
    operations = hub.repos[PUSH].commits[-1]["operations"]
    assert [line["value"]["path"] for line in operations] == ["README.md"]


@pytest.mark.parametrize("private", [True, False])
def test_the_repository_is_as_private_as_asked(hub: HubServer, folder: Path, private: bool) -> None:
    push(hub, folder, private=private)
    assert hub.repos[PUSH].private is private


def test_nothing_private_goes_into_a_public_repository(hub: HubServer, folder: Path) -> None:
    push(hub, folder, private=False)
    (folder / "README.md").write_text(CARD + "secret\n")
    with pytest.raises(PipelineError, match=r"there already, and public"):
        push(hub, folder, private=True)
    assert b"secret" not in hub.files(*PUSH)["README.md"]


def test_a_branch_is_made_and_main_left_alone(hub: HubServer, folder: Path) -> None:
    url = push(hub, folder, revision="v2")
    assert url.endswith("/datasets/ada/books/tree/v2")
    push(hub, folder, revision="v2")  # and once more, now that it is there
    assert "README.md" in hub.files(*PUSH, branch="v2")
    assert list(hub.files(*PUSH)) == [".gitattributes"]


def test_a_model_repository_keeps_its_other_files(hub: HubServer, tmp_path: Path) -> None:
    folder = tmp_path / "9_model"
    folder.mkdir()
    (folder / "books.Q4_K_M.gguf").write_bytes(b"GGUF" + bytes(2000))
    url = push(hub, folder, repo_type="model")
    (folder / "books.Q4_K_M.gguf").rename(folder / "books.Q8_0.gguf")
    push(hub, folder, repo_type="model")
    assert url == f"{hub.url}/ada/books"
    assert {"books.Q4_K_M.gguf", "books.Q8_0.gguf"} <= set(hub.files("model", "ada/books"))


def test_a_listing_of_many_pages_is_read_to_its_end(folder: Path) -> None:
    with HubServer(page_size=1) as hub:
        push(hub, folder)
        assert len(hub.files(*PUSH)) == 4


def test_without_a_token_nothing_is_begun(hub: HubServer, folder: Path) -> None:
    with pytest.raises(PipelineError) as caught:
        push(hub, folder, token=None)
    assert str(caught.value) == "No Hugging Face token. Run `hf auth login` or set HF_TOKEN."
    assert hub.requests == []


def test_the_token_comes_from_the_argument_then_the_environment_then_the_login(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    login = tmp_path / "token"
    login.write_text("hf_from_login\n")
    monkeypatch.setattr(huggingface_hub.constants, "HF_TOKEN_PATH", str(login))
    assert find_token() == "hf_from_login"
    monkeypatch.setenv("HF_TOKEN", "hf_from_environment")
    assert find_token() == "hf_from_environment"
    assert find_token(" hf_from_argument\n") == "hf_from_argument"


@pytest.mark.parametrize(
    "name",
    ["books", "", "ada/", "/books", "ada/bo oks", "ada/books/x", "ada/-b", "ada/b--c", "../x"],
)
def test_a_name_that_no_repository_can_have_is_refused(name: str) -> None:
    with pytest.raises(PipelineError, match="is no name for a repository"):
        check_repo_id(name)


def test_an_empty_or_missing_folder_is_refused_at_once(hub: HubServer, tmp_path: Path) -> None:
    with pytest.raises(PipelineError, match="is not a folder"):
        push(hub, tmp_path / "absent")
    (tmp_path / "stage.json").write_text("{}")
    with pytest.raises(PipelineError, match="no files to push"):
        push(hub, tmp_path)
    assert hub.requests == []


@pytest.mark.parametrize(
    ("part", "status", "sentence"),
    [
        ("/repos/create", 401, "does not accept the token"),
        ("/repos/create", 403, "may not write to ada/books"),
        ("/preupload/", 403, "may not write to ada/books"),
        ("/preupload/", 404, "has no ada/books"),
        ("/commit/", 409, "changed from elsewhere at the same time"),
        ("/commit/", 412, "changed from elsewhere at the same time"),
        ("/commit/", 429, "too many requests"),
        ("/preupload/", 429, "too many requests"),
        ("/repos/create", 500, "trouble of its own"),
        ("/preupload/", 503, "trouble of its own"),
        ("/lfs/", 500, "trouble of its own"),
        ("/commit/", 502, "trouble of its own"),
        ("/commit/", 400, "refused ada/books"),
    ],
)
def test_a_refusal_is_one_sentence_with_a_way_out(
    hub: HubServer, folder: Path, part: str, status: int, sentence: str
) -> None:
    hub.fail(part, status, times=100)
    with pytest.raises(PipelineError, match=sentence) as caught:
        push(hub, folder)
    assert "\n" not in str(caught.value)
    assert f"HTTP {status}" in caught.value.message


@pytest.mark.parametrize(
    ("part", "status", "times"),
    [("/preupload/", 503, 6), ("/commit/", 503, 3), ("/commit/", 409, 3), ("/commit/", 429, 1)],
)
def test_a_request_is_repeated_a_few_times_if_that_can_help(
    hub: HubServer, folder: Path, part: str, status: int, times: int
) -> None:
    hub.fail(part, status, times=100)
    with pytest.raises(PipelineError):
        push(hub, folder)
    assert len([path for path in hub.paths("POST") if part in path]) == times


def test_a_busy_hub_says_how_long_to_wait(hub: HubServer, folder: Path) -> None:
    hub.fail("/commit/", 429, times=100, Retry_After="77")
    with pytest.raises(PipelineError, match="Wait 77 seconds"):
        push(hub, folder)


@pytest.mark.parametrize("part", ["/repos/create", "/preupload/", "/lfs/", "/commit/", "/tree/"])
@pytest.mark.parametrize("trouble", ["status", "cut", "cut after"])
def test_trouble_that_passes_is_outlived(
    hub: HubServer, folder: Path, part: str, trouble: str
) -> None:
    if trouble == "status":
        hub.fail(part, 503)
    else:
        hub.cut(part, after=trouble == "cut after")
    push(hub, folder)
    assert set(files_to_push(folder)) <= set(hub.files(*PUSH))
    assert len(hub.repos[PUSH].commits) == 1, "a commit whose answer was lost is not made twice"


def test_after_a_network_failure_the_same_call_goes_on(hub: HubServer, folder: Path) -> None:
    hub.cut("/commit/", times=3)
    with pytest.raises(PipelineError, match="cannot be reached") as caught:
        push(hub, folder)
    assert "Run the same command again" in str(caught.value)
    sent = len(hub.paths("PUT"))
    push(hub, folder)
    assert len(hub.paths("PUT")) == sent, "the shards had arrived and are not sent again"
    assert len(hub.repos[PUSH].commits) == 1


def test_a_second_run_sends_only_what_did_not_arrive(
    hub: HubServer, folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    shards = {path.name: path for path in (folder / "data").iterdir()}
    unlucky = sha256_file(shards["validation-00000-of-00001.parquet"])
    hub.cut(f"/lfs/{unlucky}", times=100, midway=True)
    with pytest.raises(PipelineError, match="cannot be reached"):
        push(hub, folder)
    assert "README.md" not in hub.files(*PUSH), "nothing half new is seen"
    hub.heal()
    before = len(hub.requests)
    push(hub, folder)
    sent = [path for method, path in hub.requests[before:] if method == "PUT"]
    assert sent == [f"/lfs/{unlucky}"]
    assert set(files_to_push(folder)) <= set(hub.files(*PUSH))


def test_what_somebody_else_committed_meanwhile_stays(hub: HubServer, folder: Path) -> None:
    push(hub, folder)
    (folder / "README.md").write_text(CARD + "new\n")
    hub.fail("/commit/", 409, body=b'{"error": "A commit has happened since"}')
    hub.repos[PUSH].branches["main"]["NOTES.md"] = (b"theirs", False)
    push(hub, folder)
    assert hub.files(*PUSH)["NOTES.md"] == b"theirs"
    assert hub.files(*PUSH)["README.md"].endswith(b"new\n")
    assert len(hub.repos[PUSH].commits) == 2


def test_a_stale_shard_that_somebody_removed_meanwhile_is_no_trouble(
    hub: HubServer, folder: Path
) -> None:
    push(hub, folder)
    old = folder / "data" / "train-00000-of-00001.parquet"
    old.rename(folder / "data" / "train-00000-of-00002.parquet")
    hub.before_commit = lambda: hub.repos[PUSH].branches["main"].pop(f"data/{old.name}")
    push(hub, folder)
    assert "data/train-00000-of-00002.parquet" in hub.files(*PUSH)
    assert len(hub.repos[PUSH].commits) == 2


@pytest.mark.parametrize("folder_name", ["data", "books", "completion", "chat"])
def test_shards_of_an_earlier_version_go(hub: HubServer, folder: Path, folder_name: str) -> None:
    push(hub, folder)
    name = f"{folder_name}/train-00007-of-00008.parquet"
    hub.repos[PUSH].branches["main"][name] = (b"old", True)
    push(hub, folder)
    assert name not in hub.files(*PUSH)


def test_a_repository_of_somebody_else_is_not_written_to(hub: HubServer, folder: Path) -> None:
    for name in ("bert/books", "bert/private"):
        hub.add_repo("dataset", name, private=name.endswith("private"))
        with pytest.raises(PipelineError, match=f"may not write to {name}") as caught:
            push(hub, folder, name=name, private=False)
        assert "under your own user" in str(caught.value)
        assert list(hub.files("dataset", name)) == [".gitattributes"]
    assert hub.paths("PUT") == []


def test_a_protected_branch_is_named_in_the_hubs_own_words(hub: HubServer, folder: Path) -> None:
    body = b'{"error": "Branch v1 is protected: open a pull request"}'
    hub.fail("/commit/v1", 403, times=9, body=body)
    with pytest.raises(PipelineError, match="Branch v1 is protected: open a pull request"):
        push(hub, folder, revision="v1")


def test_a_hub_that_is_not_there_is_named(folder: Path) -> None:
    with HubServer() as hub:
        url = hub.url
    with pytest.raises(PipelineError, match=f"{url} cannot be reached"):
        push_folder(
            folder, "ada/books", repo_type="dataset", private=True, endpoint=url, token=TOKEN
        )


@pytest.mark.parametrize("part", ["/repos/create", "/commit/", "/tree/"])
def test_a_hub_that_never_answers_is_not_waited_for_for_ever(
    hub: HubServer, folder: Path, part: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(
        client, "TIMEOUTS", {"connect": 1.0, "read": 0.2, "write": 1.0, "pool": 1.0}
    )
    hub.hang(part, times=3)
    begun = time.monotonic()
    with pytest.raises(PipelineError, match="cannot be reached"):
        push(hub, folder)
    assert time.monotonic() - begun < 20, "the server holds each connection for 30 seconds"


def test_offline_mode_is_said(
    hub: HubServer, folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_OFFLINE", True)
    with pytest.raises(PipelineError, match="offline mode"):
        push(hub, folder)
    assert hub.requests == []


def test_a_card_that_the_hub_refuses_is_reported(hub: HubServer, folder: Path) -> None:
    (folder / "README.md").write_text("---\n- not\n- a mapping\n---\n")
    with pytest.raises(PipelineError, match=r"Invalid metadata in README\.md"):
        push(hub, folder)


def test_a_file_that_arrived_damaged_is_found(hub: HubServer, folder: Path) -> None:
    push(hub, folder)
    shard = "data/train-00000-of-00001.parquet"
    content = hub.files(*PUSH)[shard]
    hub.lfs[next(oid for oid, data in hub.lfs.items() if data == content)] = content[:-1]
    push(hub, folder, revision="again")  # no trouble: the branch starts with the good file
    with pytest.raises(PipelineError, match=rf"{shard} in ada/other is not what was sent"):
        push(hub, folder, name="ada/other")


def test_the_token_is_in_no_message(
    hub: HubServer,
    folder: Path,
    capfd: pytest.CaptureFixture[str],
    caplog: pytest.LogCaptureFixture,
) -> None:
    stolen = "hf_StolenTokenWithoutRights"
    echoes = [("/repos/create", 403), ("/commit/", 500), ("/preupload/", 429), ("/lfs/", 400)]
    shown = []
    with pytest.raises(PipelineError) as caught:
        push(hub, folder, token=stolen)  # the server repeats it in its refusal
    shown.append("".join(traceback.format_exception(caught.value)))
    for part, status in echoes:
        body = f'{{"error": "Bearer {TOKEN} may not do this"}}'.encode()
        hub.fail(part, status, times=20, body=body, X_Error_Message=f"no, {TOKEN}")
        with pytest.raises(PipelineError) as caught:
            push(hub, folder, name=f"ada/case-{status}")
        shown.append("".join(traceback.format_exception(caught.value)))
        hub.heal()
    everything = "\n".join([*shown, *capfd.readouterr(), caplog.text])
    assert "***" in everything
    assert TOKEN not in everything
    assert stolen not in everything

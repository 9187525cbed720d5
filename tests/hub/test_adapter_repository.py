"""The repository of a training under way: one commit each time, private, and nobody else's."""

import json
import re
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import huggingface_hub.constants
import pytest
import yaml

from pipeline.errors import PipelineError, UsageError
from pipeline.hub import client
from pipeline.hub.adapter_repository import AdapterRepository
from pipeline.hub.training_card import Texts, training_card
from pipeline.training.news import News
from tests import hub_server
from tests.hub_server import API, TOKEN, HubServer

NAME = "ada/tales"
BASE = {"name": "ada/base", "source": "Hugging Face Hub", "licence": "mit", "revision": "0123abc"}
BEST = News("run-1", 10, 40, 1.25, 2.0, 900, BASE, "lora")
SETTINGS = "train:\n  rank: 8\n"


def may_write(hub: HubServer, match: re.Match[str], query: dict[str, str], body: bytes) -> Any:
    hub.own(match)
    return {}


@contextmanager
def loopback(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Iterator[HubServer]:
    """The Hub of this machine, and a token for it."""
    route = ("GET", API + "/auth-check/write", may_write)
    monkeypatch.setattr(hub_server, "ROUTES", [route, *hub_server.ROUTES])
    monkeypatch.setattr(huggingface_hub.constants, "HF_TOKEN_PATH", str(tmp_path / "no-token"))
    monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_DISABLE_XET", True)
    monkeypatch.setattr(client, "RETRY_WAITS", (0.0, 0.0))
    with HubServer() as server:
        template = f"{server.url}/{{repo_id}}/resolve/{{revision}}/{{filename}}"
        monkeypatch.setattr(huggingface_hub.constants, "ENDPOINT", server.url)
        monkeypatch.setattr(huggingface_hub.constants, "HUGGINGFACE_CO_URL_TEMPLATE", template)
        monkeypatch.setenv("HF_TOKEN", TOKEN)
        yield server


@pytest.fixture
def hub(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Iterator[HubServer]:
    with loopback(monkeypatch, tmp_path) as server:
        yield server


def repository(machine: Path, **how: Any) -> AdapterRepository:
    return AdapterRepository(NAME, machine / "pushed.json", **how)


def opened(machine: Path, **how: Any) -> AdapterRepository:
    found = repository(machine, **how)
    found.open()
    return found


@pytest.fixture
def send(tmp_path: Path) -> Callable[[AdapterRepository, News], Path]:
    """Send weights that are named by their step."""

    def send(to: AdapterRepository, news: News) -> Path:
        folder = tmp_path / f"weights-{len(list(tmp_path.iterdir()))}"
        folder.mkdir()
        config = {"base_model_name_or_path": "/home/ada/base", "r": 8}
        for name, text in {
            "adapter_model.safetensors": f"\0weights of {news.step}",
            "adapter_config.json": json.dumps(config), "tokenizer.json": "{}",
            "chat_template.jinja": "x", "train.log": "of this disk", "metrics.jsonl": "{}",
        }.items():  # fmt: skip
            (folder / name).write_text(text)
        to.send(folder, news, SETTINGS, Texts(3, 1, 1))
        return folder

    return send


def test_weights_settings_tokenizer_and_card_are_one_commit_in_a_private_repository(
    hub: HubServer, tmp_path: Path, send: Callable[..., Path]
) -> None:
    tales = opened(tmp_path)
    assert tales.is_new and tales.is_private and tales.url == f"{hub.url}/{NAME}"
    assert tales.begin("run-1") is None
    send(tales, BEST)
    repo = hub.repos["model", NAME]
    assert repo.private
    (commit,) = repo.commits
    assert commit["header"]["summary"] == "Step 10 of 40, the best so far: 1.2500 bits per byte"
    files = hub.files("model", NAME)
    assert sorted(files) == [
        ".gitattributes", "README.md", "adapter_config.json", "adapter_model.safetensors",
        "push.json", "settings.yaml", "tokenizer.json",
    ], "no logs, and no chat template: the model goes on from texts"  # fmt: skip
    assert json.loads(files["adapter_config.json"])["base_model_name_or_path"] == "ada/base"
    assert not any(TOKEN.encode() in content for content in files.values())


def test_what_has_not_changed_is_not_sent_again(
    hub: HubServer, tmp_path: Path, send: Callable[..., Path]
) -> None:
    tales = opened(tmp_path)
    send(tales, BEST)
    puts = len(hub.paths("PUT"))
    send(tales, replace(BEST, finished=True))
    assert len(hub.paths("PUT")) == puts, "the weights are the same"
    commits = hub.repos["model", NAME].commits
    changed = sorted(line["value"]["path"] for line in commits[1]["operations"])
    assert changed == ["README.md", "push.json"]
    send(tales, replace(BEST, finished=True))
    assert len(commits) == 2, "no commit without a change"


def test_whoever_goes_on_with_the_run_goes_on_with_the_repository(
    hub: HubServer, tmp_path: Path, send: Callable[..., Path]
) -> None:
    send(opened(tmp_path / "a"), BEST)
    other = opened(tmp_path / "b")
    assert not other.is_new
    assert other.begin("run-1") == 10
    send(other, replace(BEST, step=20))
    assert b"step 20 of 40" in hub.files("model", NAME)["README.md"]
    with pytest.raises(UsageError, match=r"did not push to ada/tales: README\.md, adapter_model"):
        opened(tmp_path / "c").begin("run-2")
    assert opened(tmp_path / "b").begin("run-2") is None, "this machine's own may be replaced"
    assert opened(tmp_path / "c", overwrite=True).begin("run-2") is None


def test_a_card_that_somebody_edited_is_not_replaced(
    hub: HubServer, tmp_path: Path, send: Callable[..., Path]
) -> None:
    tales = opened(tmp_path)
    send(tales, BEST)
    hub.repos["model", NAME].branches["main"]["README.md"] = (b"My words.", False)
    with pytest.raises(PipelineError, match=r"did not push to ada/tales: README\.md") as caught:
        send(tales, replace(BEST, step=20))
    assert "--overwrite-edited" in (caught.value.hint or "")
    with pytest.raises(UsageError, match=r"README\.md"):
        opened(tmp_path / "b").begin("run-1")
    assert hub.files("model", NAME)["README.md"] == b"My words."


def test_a_large_file_that_a_person_put_beside_the_weights_stays(
    hub: HubServer, tmp_path: Path, send: Callable[..., Path]
) -> None:
    send(opened(tmp_path / "a"), BEST)
    hub.repos["model", NAME].branches["main"]["cover.png"] = (b"a picture", True)
    for machine, step in (("b", 20), ("b", 30)):
        again = opened(tmp_path / machine)
        again.begin("run-1")
        send(again, replace(BEST, step=step))
    files = hub.files("model", NAME)
    assert files["cover.png"] == b"a picture"
    assert b"step 30 of 40" in files["README.md"]


@pytest.mark.parametrize("mark", [b"{", b"[]", b'{"run": 3}', b'{"run": "run-1", "texts": 7}'])
def test_a_mark_from_elsewhere_is_not_trusted(hub: HubServer, tmp_path: Path, mark: bytes) -> None:
    main = hub.add_repo("model", NAME, private=True).branches["main"]
    main |= {"push.json": (mark, False), "README.md": (b"Mine.", False)}
    with pytest.raises(UsageError, match=r"README\.md"):
        opened(tmp_path).begin("run-1")


def test_a_published_model_is_not_replaced(hub: HubServer, tmp_path: Path) -> None:
    main = hub.add_repo("model", NAME, private=True).branches["main"]
    main["tales-Q4_K_M.gguf"] = (b"GGUF", True)
    with pytest.raises(UsageError, match=r"holds a published model \(tales-Q4_K_M\.gguf\)"):
        opened(tmp_path).begin("run-1")


def test_a_public_repository_is_refused_unless_that_is_said(
    hub: HubServer, tmp_path: Path, send: Callable[..., Path]
) -> None:
    hub.add_repo("model", NAME)
    with pytest.raises(UsageError, match="there already, and public") as caught:
        opened(tmp_path)
    assert "--push-public" in (caught.value.hint or "")
    send(opened(tmp_path, public=True), BEST)
    assert not opened(tmp_path, public=True).is_private


def test_a_repository_that_becomes_public_meanwhile_gets_nothing_more(
    hub: HubServer, tmp_path: Path, send: Callable[..., Path]
) -> None:
    tales = opened(tmp_path)
    hub.repos["model", NAME].private = False
    with pytest.raises(PipelineError, match="public, but was to be private"):
        send(tales, BEST)
    assert hub.repos["model", NAME].commits == []


def test_without_a_token_or_the_right_to_write_nothing_begins(
    hub: HubServer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    hub.add_repo("model", "eve/tales")
    with pytest.raises(PipelineError, match="This token may not write to eve/tales"):
        AdapterRepository("eve/tales", tmp_path / "known", public=True).open()
    with pytest.raises(PipelineError, match="may not write to eve/new"):
        AdapterRepository("eve/new", tmp_path / "known").open()
    monkeypatch.setenv("HF_TOKEN", "hf_AnotherTokenThatTheHubDoesNotKnow")
    with pytest.raises(PipelineError, match="does not accept the token") as caught:
        opened(tmp_path)
    assert "AnotherToken" not in str(caught.value)
    monkeypatch.delenv("HF_TOKEN")
    with pytest.raises(PipelineError, match=r"No Hugging Face token\. Run `hf auth login`"):
        repository(tmp_path).check()
    with pytest.raises(PipelineError, match="is no name for a repository"):
        AdapterRepository("tales", tmp_path / "known").check()


def front(card: str) -> dict[str, Any]:
    found: dict[str, Any] = yaml.safe_load(card.split("---")[1])
    return found


def test_the_card_says_what_it_is_how_far_it_is_and_what_nobody_checked() -> None:
    card = training_card(BEST, NAME, Texts(3, 1, 2, 1))
    for words in (
        "[ada/base](https://huggingface.co/ada/base) (0123abc), fine-tuned: an adapter",
        "**Training is under way.** These are the best weights so far, of step 10 of 40",
        "| before training | 2.0000 |", "| at step 10 | 1.2500 |", "## Not checked",
        "of 3 texts 1 are marked as under copyright, the rights in 2 are unknown, 1 refer to",
        "PeftModel.from_pretrained(base, 'ada/tales')",
    ):  # fmt: skip
        assert words in card, words
    about = front(card)
    assert (about["library_name"], about["base_model_relation"]) == ("peft", "adapter")
    assert "training-under-way" in about["tags"] and about["license"] == "mit"
    done = training_card(replace(BEST, finished=True), NAME, Texts())
    assert "**Training is finished.**" in done and "under way" not in done
    assert "nothing is known of the rights in the texts" in done
    assert "training-under-way" not in front(done)["tags"]


def test_the_card_of_a_whole_model_names_no_base_that_is_only_here() -> None:
    whole = replace(BEST, method="full", base={"name": "my | base", "source": "local directory"})
    card = training_card(whole, NAME, Texts())
    assert "my &#124; base, fine-tuned: every weight" in card
    assert "base_model" not in front(card) and front(card)["library_name"] == "transformers"
    new = training_card(replace(BEST, from_scratch=True), NAME, Texts())
    assert "trained from nothing" in new and "base_model" not in front(new)

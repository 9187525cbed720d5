"""Stage 9: the repository on disk, what is refused, and the push to a real client's Hub."""

import inspect
import json
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any, get_args

import huggingface_hub.constants
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import torch
import yaml
from huggingface_hub import ModelCard
from peft import PeftModel
from safetensors.torch import load_file
from transformers import AutoModelForCausalLM

from pipeline import outputs
from pipeline.cli import KnownOptions
from pipeline.command import merge_parameters
from pipeline.errors import PipelineError, Stopped, UsageError
from pipeline.files import sha256_file
from pipeline.hub import client
from pipeline.settings import load_settings
from pipeline.step4_upload import upload
from pipeline.step9_publish import publish
from tests.export.conftest import save_adapter
from tests.hub_server import TOKEN, HubServer
from tests.kills import contents, killed_until_it_ends
from tests.test_step4_upload import chunked
from tests.tiny_models import tiny_llama

MODEL = "model", "ada/tales"
GGUF = "tales-Q4_K_M.gguf"
TALES = {"84-tale": ["It was late.\n\n", "Then it was later in the house.\n"]}
HELD_OUT = {"932-house": ["A house fell.\n\n", "That was all.\n"]}
PROJECT = "Project Gutenberg"
SECRET = "hf_SecretOfThisTestThatNobodyMaySee"


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


@pytest.fixture(scope="module")
def finished(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A data directory as stages 3 to 8 leave it, with weights that are none."""
    return made(tmp_path_factory.mktemp("finished") / "data")


@pytest.fixture
def data(finished: Path, tmp_path: Path) -> Path:
    """A copy of it, to do something to."""
    return Path(shutil.copytree(finished, tmp_path / "data"))


def made(data: Path, tales: dict[str, list[str]] = TALES, **about: Any) -> Path:
    chunked(data, {"train": tales, "validation": HELD_OUT}, **about)
    record(data, "chunk", "3_chunks", iter(()), chunk_size=7000, tokenizer=None)
    upload(data)
    base = {"name": "ada/base", "source": "Hugging Face Hub", "licence": "apache-2.0",
            "revision": "0123abc"}  # fmt: skip
    evaluation = {
        "kind": "text", "held_out": {"documents": ["932-house"], "bytes": 28, "tokens": 9},
        "bits_per_byte": {"base": 2.0, "adapter": 1.5}, "base_model": base,
        "prompts": ["It was"], "prompt": "It was", "sequence_length": 64,
        "all_samples": {"base": [" nothing."], "adapter": [" later in the house of glass."]},
        "settings": {"method": "lora", "seed": 42, "from_scratch": None},
    }  # fmt: skip
    proof = {
        "name": "tales", "base_model": base, "end_tokens": ["</s>"], "context": 64,
        "evaluation": evaluation,
        "files": {GGUF: {"bits_per_byte": 1.51, "seed": 0, "sample": " dark.", "bytes": 904}},
    }  # fmt: skip
    config = {"base_model_name_or_path": "/home/ada/.cache/base", "r": 8}
    for folder, files in {
        "6_adapter": {
            "adapter_config.json": json.dumps(config), "adapter_model.safetensors": "\0weights",
            "tokenizer.json": "{}", "chat_template.jinja": "x",
            "evaluation.json": json.dumps(evaluation),
            "run.yaml": yaml.safe_dump({"length": {"steps": 50}, "versions": {"torch": "2.13"}}),
            "loss.png": "\0PNG",
        },
        "7_gguf": {GGUF: "GGUF" + 900 * "\0", "proof.json": json.dumps(proof)},
        "8_ollama": {"Modelfile": f"FROM ./{GGUF}\n", "sample.txt": "x"},
    }.items():  # fmt: skip
        (data / folder).mkdir()
        for name, content in files.items():
            (data / folder / name).write_text(content)
    record(data, "train", "6_adapter", (data / "4_dataset").glob("data/*.parquet"),
           base_model="ada/base", revision=None, dataset=None, method="lora", rank=8,
           extra_tokens=[], sample_prompts=["It was"], base_files=SECRET)  # fmt: skip
    record(data, "quantize", "7_gguf", (data / "6_adapter").glob("*.*"), quantization=["q4_k_m"])
    record(data, "modelfile", "8_ollama", (data / "7_gguf").glob("*.*"), temperature=0.6)
    return data


def record(data: Path, stage: str, folder: str, inputs: Iterator[Path], **settings: Any) -> None:
    facts = [
        {"path": path.relative_to(data).as_posix(), "size": path.stat().st_size,
         "sha256": sha256_file(path)}
        for path in sorted(inputs) if path.name != "stage.json"
    ]  # fmt: skip
    value = {
        "stage": stage, "status": "complete", "version": 1, "settings": settings, "counts": {},
        "warnings": [], "inputs": facts, "outputs": [], "start": "", "end": "",
    }  # fmt: skip
    (data / folder / "stage.json").write_text(json.dumps(value))


def change(path: Path, before: str, after: str) -> None:
    text = path.read_text()
    assert before in text
    path.write_text(text.replace(before, after))


def files(data: Path) -> list[str]:
    folder = data / "9_model"
    names = [p.relative_to(folder).as_posix() for p in folder.rglob("*") if p.is_file()]
    return sorted(name for name in names if not name.startswith(".") and name != "stage.json")


def card(data: Path) -> str:
    return (data / "9_model" / "README.md").read_text()


def test_the_directory_is_the_repository_and_weights_take_no_room_twice(data: Path) -> None:
    publish(data)
    assert files(data) == ["Modelfile", "README.md", "loss.png", "settings.yaml", GGUF]
    here, there = data / "9_model" / GGUF, data / "7_gguf" / GGUF
    assert here.stat().st_ino == there.stat().st_ino
    modelfile = data / "9_model" / "Modelfile"
    assert modelfile.stat().st_ino != (data / "8_ollama" / "Modelfile").stat().st_ino
    text = card(data)
    for words in ("| 84-tale | 84-Tale | A. Author | en | 46 | train |", "| base model | 2.0000 |",
                  "later in the house of glass", "pipeline all --config settings.yaml",
                  "| 1. trained model | 3 | 19 | 84-Tale | later in the |"):  # fmt: skip
        assert words in text
    assert SECRET not in text
    assert "/home/ada" not in text
    assert str(data) not in text


def test_the_settings_are_a_settings_file_that_every_stage_takes(data: Path) -> None:
    publish(data)
    sections = load_settings(data / "9_model" / "settings.yaml", KnownOptions())
    assert sections["train"] == {
        "base_model": "ada/base", "method": "lora", "rank": 8, "sample_prompt": ["It was"],
    }  # fmt: skip
    assert sections["quantize"] == {"quantization": ["q4_k_m"]}


def test_the_whole_chain_tells_the_dataset_from_the_model() -> None:
    merged = merge_parameters([upload, publish])
    assert {"upload_repo_id", "publish_repo_id", "publish_private", "title"} <= set(merged)
    options = [
        get_args(merged[f"{stage}_private"].annotation)[1] for stage in ("upload", "publish")
    ]
    assert [option.default for option in options] == [
        "--upload-private/--upload-public", "--publish-private/--publish-public",
    ]  # fmt: skip
    alone = get_args(inspect.signature(publish).parameters["private"].annotation)[1]
    assert alone.default == "--private/--public"


def test_nothing_is_done_again_until_something_changes(data: Path) -> None:
    publish(data)
    before = (data / "9_model" / "stage.json").read_bytes()
    publish(data)
    assert (data / "9_model" / "stage.json").read_bytes() == before
    publish(data, title="My tales")
    assert "# My tales" in card(data)
    edited = data / "9_model" / "README.md"
    edited.write_text(card(data) + "My words.\n")
    publish(data, title="Other tales")
    assert card(data).endswith("My words.\n")
    publish(data, title="Other tales", overwrite_edited=True)
    assert "My words" not in card(data)


def test_stopped_in_the_middle_the_same_command_continues(
    data: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    real, left = outputs.rename, 2

    def stopping(temporary: Path, final: Path) -> None:
        nonlocal left
        left -= 1
        if left < 0:
            raise KeyboardInterrupt
        real(temporary, final)

    with monkeypatch.context() as patch:
        patch.setattr(outputs, "rename", stopping)
        with pytest.raises(Stopped, match="What was finished is in"):
            publish(data)
    there = files(data)
    assert len(there) == 2
    before = {name: (data / "9_model" / name).stat().st_ino for name in there}
    publish(data)
    assert len(files(data)) == 5
    assert all((data / "9_model" / name).stat().st_ino == inode for name, inode in before.items())


def test_a_model_of_other_data_than_there_are_now_is_refused(data: Path) -> None:
    chunked(data, {"train": {"new": ["Wholly new.\n"]}, "validation": HELD_OUT})
    upload(data)
    with pytest.raises(PipelineError, match=r"6_adapter was not made from .*has changed") as caught:
        publish(data)
    assert "Run `pipeline train` first" in str(caught.value)


def test_a_modelfile_that_ollama_would_refuse_is_warned_of(data: Path) -> None:
    def warnings() -> list[str]:
        return json.loads((data / "9_model" / "stage.json").read_text())["warnings"]  # type: ignore[no-any-return]

    publish(data)
    assert warnings() == []
    change(data / "8_ollama" / "Modelfile", "\n", "\nby hand\n")
    publish(data)
    assert any("Ollama would refuse line 2 of the Modelfile" in line for line in warnings())


def test_the_adapter_names_its_base_and_not_a_folder_of_this_disk(data: Path) -> None:
    publish(data, include=["adapter"])
    config = json.loads((data / "9_model" / "adapter" / "adapter_config.json").read_text())
    assert config == {"base_model_name_or_path": "ada/base", "r": 8}
    assert [name for name in files(data) if name.startswith("adapter/")] == [
        "adapter/adapter_config.json", "adapter/adapter_model.safetensors",
        "adapter/tokenizer.json",
    ], "and it has no chat template: the model goes on from texts"  # fmt: skip
    publish(data)
    assert not [name for name in files(data) if name.startswith("adapter/")]
    with pytest.raises(UsageError, match="there is no such part"):
        publish(data, include=["adaptor"])
    (data / "6_adapter" / "adapter_config.json").unlink()
    with pytest.raises(PipelineError, match="has no adapter: the whole model was trained"):
        publish(data, include=["adapter"])


def test_a_part_that_is_not_of_the_model_in_the_ggufs_is_refused(tmp_path: Path) -> None:
    data = made(tmp_path / "data")
    path = data / "7_gguf" / "proof.json"
    proof = json.loads(path.read_text())
    proof["evaluation"]["bits_per_byte"]["adapter"] = 1.7
    path.write_text(json.dumps(proof | {"source": {"kind": "checkpoint"}}))
    record(data, "modelfile", "8_ollama", (data / "7_gguf").glob("*.*"), temperature=0.6)
    publish(data)
    assert "| trained model | 1.7000 |" in (data / "9_model" / "README.md").read_text()
    with pytest.raises(PipelineError, match="were not made from the result of stage 6"):
        publish(data, include=["adapter"])


@pytest.mark.slow
def test_killed_at_any_moment_the_same_command_ends_as_if_nothing_had_happened(
    data: Path, tmp_path: Path
) -> None:
    undisturbed = Path(shutil.copytree(data, tmp_path / "undisturbed"))
    publish(undisturbed, include=["adapter"])
    kills = killed_until_it_ends(
        data / "9_model", "publish", "--data-dir", data, "--include", "adapter"
    )
    assert kills > 3
    expected = contents(undisturbed / "9_model", "stage.json")
    assert {"README.md", GGUF, "adapter/adapter_model.safetensors"} <= set(expected)
    assert contents(data / "9_model", "stage.json") == expected


def test_included_parts_load_with_stock_libraries_and_are_made_once(
    data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    base = tiny_llama(tmp_path / "base").path
    adapter = data / "6_adapter"
    save_adapter(base, adapter)
    record(data, "train", "6_adapter", iter(()), base_model=str(base), revision=None)
    record(data, "quantize", "7_gguf", iter(()))
    publish(data, include=["adapter", "merged"])
    folder = data / "9_model"
    loaded = AutoModelForCausalLM.from_pretrained(base, dtype=torch.float32)
    before = loaded.get_input_embeddings().weight.shape
    tuned = PeftModel.from_pretrained(loaded, folder, subfolder="adapter")
    merged = AutoModelForCausalLM.from_pretrained(
        folder, subfolder="merged", dtype=torch.float32
    )  # fmt: skip
    assert merged.get_input_embeddings().weight.shape == before
    ids = torch.arange(10, 30)[None]
    with torch.no_grad():
        difference = (merged(ids).logits - tuned(ids).logits).abs().mean()
    assert difference < 0.05

    def never(*_: Any, **__: Any) -> None:
        raise AssertionError("it is there already")

    monkeypatch.setattr("pipeline.step9_publish.merge_adapter", never)
    publish(data, include=["adapter", "merged"], title="Other")
    assert "# Other" in card(data)
    publish(data)
    assert not [name for name in files(data) if name.startswith("merged/")]


def test_a_push_makes_the_repository_hold_the_directory_in_one_commit(
    data: Path, hub: HubServer
) -> None:
    publish(data, repo_id="ada/tales", private=False, include=["adapter"])
    there = hub.files(*MODEL)
    del there[".gitattributes"]
    assert sorted(there) == files(data)
    assert all((data / "9_model" / name).read_bytes() == body for name, body in there.items())
    assert len(hub.repos[MODEL].commits) == 1
    assert not hub.repos[MODEL].private
    assert ModelCard(there["README.md"].decode()).data["base_model"] == "ada/base"
    publish(data, repo_id="ada/tales", private=False)
    assert "adapter/adapter_config.json" not in hub.files(*MODEL), "ours, and no longer wanted"


def test_an_interrupted_push_continues(data: Path, hub: HubServer) -> None:
    hub.cut("/commit/", times=9)
    with pytest.raises(PipelineError, match="cannot be reached"):
        publish(data, repo_id="ada/tales")
    sent = len(hub.paths("PUT"))
    assert sent == 1
    hub.heal()
    publish(data, repo_id="ada/tales")
    assert len(hub.paths("PUT")) == sent
    assert len(hub.repos[MODEL].commits) == 1


def test_a_listing_that_lies_is_noticed(data: Path, hub: HubServer) -> None:
    class Rotten(dict[str, bytes]):
        """Keeps of each file another one of the same size."""

        def __getitem__(self, oid: str) -> bytes:
            return b"\1" * len(super().__getitem__(oid))

    hub.lfs = Rotten()
    with pytest.raises(PipelineError, match=rf"{GGUF} in ada/tales .* but another content there"):
        publish(data, repo_id="ada/tales")


def test_what_others_put_there_is_not_replaced_unasked(data: Path, hub: HubServer) -> None:
    hub.add_repo("model", "ada/tales", private=True)
    branch = hub.repos[MODEL].branches["main"]
    branch["README.md"], branch["theirs.txt"] = (b"Their card", False), (b"notes", False)
    for dry_run in (True, False):
        with pytest.raises(PipelineError, match=r"README\.md in ada/tales was not pushed from"):
            publish(data, repo_id="ada/tales", dry_run=dry_run)
    assert hub.files(*MODEL)["README.md"] == b"Their card"
    publish(data, repo_id="ada/tales", overwrite_edited=True)
    publish(data, repo_id="ada/tales", title="Now it is ours")
    assert b"# Now it is ours" in hub.files(*MODEL)["README.md"]
    assert hub.files(*MODEL)["theirs.txt"] == b"notes"
    publish(data, repo_id="ada/tales", title="On a branch", revision="v2")
    assert b"# On a branch" in hub.files(*MODEL, branch="v2")["README.md"]
    assert b"# Now it is ours" in hub.files(*MODEL)["README.md"]


def test_a_dry_run_says_what_would_happen_and_writes_nothing(
    data: Path, hub: HubServer, capsys: pytest.CaptureFixture[str]
) -> None:
    publish(data, repo_id="ada/tales", dry_run=True, include=["merged"])
    shown = capsys.readouterr().out
    assert "would make merged/" in shown
    assert "would create private model ada/tales" in shown
    assert f"would send {GGUF} (904 bytes)" in shown
    assert not (data / "9_model").exists()
    assert hub.repos == {}


@pytest.mark.parametrize("dry_run", [False, True])
def test_a_book_under_copyright_is_refused_unless_the_rights_are_yours(
    tmp_path: Path, hub: HubServer, dry_run: bool
) -> None:
    data = made(tmp_path / "data", rights="© 2003 A. Author")
    with pytest.raises(PipelineError, match="marked as under copyright"):
        publish(data, repo_id="ada/tales", dry_run=dry_run)
    assert hub.requests == []
    publish(data, repo_id="ada/tales", dry_run=dry_run, publish_copyrighted=True)
    assert (MODEL in hub.repos) is not dry_run


def test_rights_are_those_of_the_data_also_where_the_table_says_nothing(
    data: Path, hub: HubServer, tmp_path: Path
) -> None:
    elsewhere = tmp_path / "foreign.parquet"
    row = {"text": "Mine.\n", "document_id": "new", "rights": "© 2003 A. Author"}
    pq.write_table(pa.Table.from_pylist([row]), elsewhere)
    record(data, "train", "6_adapter", iter(()), base_model="b", revision=None,
           dataset=f"https://ada:{SECRET}@example.org/x.parquet")  # fmt: skip
    path = data / "6_adapter" / "stage.json"
    value = json.loads(path.read_text())
    value["inputs"] = [{"path": str(elsewhere), "size": 1, "sha256": "ab"}]
    path.write_text(json.dumps(value))
    with pytest.raises(PipelineError, match=r"1 text \(new\) is marked as under copyright"):
        publish(data, repo_id="ada/tales")
    assert "84-tale" not in card(data), "what lies in 4_dataset is not what was trained on"
    assert "Not measured" in card(data)
    for path in (data / "9_model").iterdir():
        assert SECRET.encode() not in path.read_bytes()


def test_the_texts_that_were_trained_on_are_searched_as_stage_4_searches_them(
    tmp_path: Path, hub: HubServer, capsys: pytest.CaptureFixture[str], monkeypatch: Any
) -> None:
    lines = ["It was late.\n\n", "Whoever reads this thanks Project Guten", "berg for it.\n"]
    data = made(tmp_path / "data", {"84-tale": lines})
    for dry_run in (True, False):
        with pytest.raises(PipelineError, match=rf"1 text \(84-tale\) refers to {PROJECT}"):
            publish(data, repo_id="ada/tales", dry_run=dry_run)
    assert "84-tale.txt:3: " in capsys.readouterr().err
    assert hub.requests == []
    publish(data, repo_id="ada/tales", allow_mentions=["84-tale"])
    assert MODEL in hub.repos
    assert "searched" not in card(data)

    def never(*_: Any, **__: Any) -> None:
        raise AssertionError("stage 4 has searched it already")

    monkeypatch.setattr("pipeline.hub.repository.scan_parquet", never)
    publish(data, title="Other", allow_mentions=["84-tale"])


@pytest.mark.parametrize(
    ("name", "content", "line"),
    [
        ("lines.jsonl", '{{"text": "Fine."}}\n{{"body": ["x", {{"y": "From {0}."}}]}}\n', 2),
        ("rows.csv", "prompt,completion\nSay it.,From {0}.\n", 2),
        ("chats.json", '[{{"conversations": [{{"from": "gpt", "value": "From {0}."}}]}}]', 1),
    ],
)
def test_training_texts_of_any_format_are_searched(
    name: str, content: str, line: int, data: Path, hub: HubServer, tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:  # fmt: skip
    (tmp_path / name).write_text(content.format(PROJECT))
    trained_on(data, str(tmp_path), tmp_path / name)
    publish(data)
    assert "searched for" not in card(data)
    with pytest.raises(PipelineError, match=rf"1 text \({name}\) refers to {PROJECT}"):
        publish(data, repo_id="ada/tales")
    assert f"{name}:{line}: " in " ".join(capsys.readouterr().err.split())
    assert hub.requests == []


def trained_on(data: Path, dataset: str, *files: Path) -> None:
    """The record of a run that was given these files."""
    record(data, "train", "6_adapter", iter(()), base_model="b", revision=None, dataset=dataset)
    path = data / "6_adapter" / "stage.json"
    value = json.loads(path.read_text())
    value["inputs"] = [
        {"path": str(file), "size": 1, "sha256": sha256_file(file) if file.exists() else "gone"}
        for file in files
    ]
    path.write_text(json.dumps(value))


@pytest.mark.parametrize(
    ("kind", "named", "unnamed"), [("text", "84-tale", "pairs"), ("completion", "pairs", "84-tale")]
)
def test_of_several_kinds_of_data_the_card_names_what_was_trained_on(
    kind: str, named: str, unnamed: str, data: Path
) -> None:
    folder = data / "4_dataset" / "completion"
    folder.mkdir()
    rows = {"document_id": ["pairs"], "prompt": ["Say it."], "completion": ["Said."]}
    pq.write_table(pa.table(rows), folder / "train-00000-of-00001.parquet")
    record(data, "train", "6_adapter", (data / "4_dataset").glob("[dc]*/*.parquet"),
           base_model="b", revision=None, dataset=None, kind=kind)  # fmt: skip
    publish(data)
    books = card(data).partition("## The books")[2].partition("\n## ")[0]
    assert named in books and unnamed not in books


def test_texts_that_lie_elsewhere_are_said_not_to_be_searched(data: Path, tmp_path: Path) -> None:
    own = next((data / "4_dataset").glob("data/train-*.parquet"))
    elsewhere = tmp_path / "theirs.parquet"
    trained_on(data, "someone/tales", own)
    publish(data)
    assert "> None of the texts that it was trained on was searched for" in card(data)
    (told,) = json.loads((data / "9_model" / "stage.json").read_text())["warnings"]
    assert "see to that yourself" in told
    shutil.copy(own, elsewhere)
    trained_on(data, str(elsewhere), elsewhere, tmp_path / "gone.parquet")
    publish(data)
    assert "> 1 of the 2 files of training texts was not searched for" in card(data)


def test_the_merged_model_is_made_on_the_base_that_stage_7_was_given(
    data: Path, tmp_path: Path
) -> None:
    bases = [tiny_llama(tmp_path / name, seed=seed).path for seed, name in enumerate("ab")]
    save_adapter(bases[0], data / "6_adapter")
    record(data, "train", "6_adapter", iter(()), base_model=str(bases[0]), revision=None)

    def merged_after(**settings: Any) -> torch.Tensor:
        record(data, "quantize", "7_gguf", iter(()), **settings)
        publish(data, include=["merged"])
        tensors = load_file(data / "9_model" / "merged" / "model.safetensors")
        return tensors["model.embed_tokens.weight"]

    for base, settings in zip(bases, ({}, {"adapter_base": str(bases[1])}), strict=True):
        expected = load_file(base / "model.safetensors")["model.embed_tokens.weight"]
        assert torch.equal(merged_after(**settings), expected.bfloat16())


def test_a_sample_that_names_the_project_is_left_out_and_a_title_is_held_back(
    data: Path, hub: HubServer, capsys: pytest.CaptureFixture[str]
) -> None:
    said = f"glass, by {PROJECT}."
    change(data / "6_adapter" / "evaluation.json", "glass.", said)
    record(data, "quantize", "7_gguf", iter(()))
    publish(data, repo_id="ada/tales")
    assert PROJECT not in card(data)
    assert "*(left out)*" in card(data)
    for name in ("README.md", "notes.txt"):
        path = data / "9_model" / name
        before = path.read_text() if path.exists() else ""
        path.write_text(f"{before}Thanks to {PROJECT}.\n")
        with pytest.raises(PipelineError, match=f"refers to {PROJECT}"):
            publish(data, repo_id="ada/tales")
        assert f"9_model/{name}:" in capsys.readouterr().err
        publish(data, repo_id="ada/tales", allow_mentions=[name])
        path.write_text(before)


def test_an_allowed_title_may_stand_in_the_card(tmp_path: Path, hub: HubServer) -> None:
    data = made(tmp_path / "data", title=f"How {PROJECT} began")
    with pytest.raises(PipelineError, match=f"refer to {PROJECT}"):
        publish(data, repo_id="ada/tales")
    with pytest.raises(UsageError, match="there is no such document"):
        publish(data, repo_id="ada/tales", allow_mentions=["84-tail"])
    publish(data, repo_id="ada/tales", allow_mentions=["84-tale", "932-house"])
    assert PROJECT in card(data)


def test_without_a_proof_there_is_nothing_to_publish(data: Path) -> None:
    (data / "7_gguf" / "proof.json").unlink()
    with pytest.raises(PipelineError, match=r"proof\.json is missing"):
        publish(data)
    shutil.rmtree(data / "8_ollama")
    with pytest.raises(PipelineError, match="Run `pipeline modelfile` first"):
        publish(data)


def test_a_proof_names_no_file_outside_its_directory(data: Path) -> None:
    (data / "secret.gguf").write_text(SECRET)
    change(
        data / "7_gguf" / "proof.json", f'"{GGUF}": {{', '"../secret.gguf": {}, "' + GGUF + '": {'
    )
    record(data, "modelfile", "8_ollama", iter(()))
    publish(data)
    assert "secret.gguf" not in files(data)

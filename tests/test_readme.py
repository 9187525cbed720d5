"""Every command in the README runs as it is written there, or says what it needs."""

import inspect
import json
import os
import re
import subprocess
from pathlib import Path

import pytest
import yaml

from pipeline.step6_train import train
from tests.chain import ROOT, environment
from tests.tiny_models import base_models, smollm2, tiny_llama_smollm

README = (ROOT / "README.md").read_text("utf-8")
NEEDS = re.compile(r"# needs (an account|the network|a GPU|Ollama)\n")
BLOCKS = re.findall(r"```bash\n(.*?)```", README, re.DOTALL)
RUNNABLE = [block for block in BLOCKS if not NEEDS.match(block)]
DEMO = [block for block in RUNNABLE if "make demo" in block]
SUITE = [block for block in RUNNABLE if "make test" in block]  # that is what runs this
SESSION = [block for block in RUNNABLE if block not in DEMO + SUITE]


@pytest.fixture
def clone(tmp_path: Path) -> Path:
    """The repository as a user has it, but with a `training-data` of its own."""
    if not (ROOT / ".venv" / ".done").exists():
        pytest.skip("the README's commands need the .venv that `make setup` makes")
    for path in ROOT.iterdir():
        if path.name not in {"training-data", ".git"}:
            (tmp_path / path.name).symlink_to(path)
    (tmp_path / "training-data").mkdir()
    return tmp_path


def shell(script: str, folder: Path, **extra: str) -> str:
    """Run a script as one typed it in the repository's folder; returns all that it printed."""
    path = f"{ROOT / '.venv' / 'bin'}{os.pathsep}{os.environ['PATH']}"
    result = subprocess.run(
        ["bash", "-euo", "pipefail", "-c", script], cwd=folder, timeout=900, text=True,
        env=environment(PATH=path, **extra), stdout=subprocess.PIPE, stderr=subprocess.STDOUT,
        check=False,
    )  # fmt: skip
    assert result.returncode == 0, f"{script}\n{result.stdout}"
    return result.stdout


def test_the_first_screen_has_the_two_commands() -> None:
    first_screen = README[: README.index("## ")]
    assert "make demo" in first_screen
    assert "make test" in first_screen
    assert len(DEMO) == len(SUITE) == 1


def test_every_picture_and_file_that_the_readme_names_is_there() -> None:
    links = re.findall(r"\]\((?!http|#)([^)]+)\)", README)
    assert links
    for link in links:
        assert (ROOT / link).is_file(), link
    headings = {re.sub(r"[^\w -]", "", h).strip().lower().replace(" ", "-")
                for h in re.findall(r"^#+ (.*)$", README, re.MULTILINE)}  # fmt: skip
    for anchor in re.findall(r"\]\(#([^)]+)\)", README):
        assert anchor in headings, anchor


def test_the_demo_trains_the_model_that_is_trained_by_default() -> None:
    demo = yaml.safe_load((ROOT / "configs" / "demo.yaml").read_text("utf-8"))
    default = inspect.signature(train).parameters["base_model"].default
    assert demo["train"]["base-model"] == default


@pytest.mark.slow
@pytest.mark.timeout(1200)
def test_make_demo_prints_both_completions_and_a_better_score(clone: Path) -> None:
    # A fifth of the training and a quarter of the scoring and the samples show the same.
    shorter = {
        "PIPELINE_TRAIN_EPOCHS": "0.2", "PIPELINE_TRAIN_EVAL_TOKENS": "1024",
        "PIPELINE_TRAIN_EVAL_EVERY": "0", "PIPELINE_TRAIN_SAMPLE_TOKENS": "20",
    }  # fmt: skip
    printed = shell(DEMO[0], clone, **shorter)
    before, after = re.search(r"base model (\d\.\d+)\n\s+adapter +(\d\.\d+)", printed).groups()  # type: ignore[union-attr]
    assert float(after) < float(before), printed
    proof = json.loads((clone / "training-data/demo/7_gguf/proof.json").read_text("utf-8"))
    (gguf,) = proof["files"].values()
    bits = proof["evaluation"]["bits_per_byte"]
    assert 0.5 < bits["base"] < 2
    assert abs(gguf["bits_per_byte"] - bits["adapter"]) < 0.1
    assert "I was walking on the shore, when I saw something peculiar burrowing" in printed
    assert "(base model) goes on:" in printed
    assert "(yours) goes on:" in printed


@pytest.mark.slow
@pytest.mark.timeout(1200)
def test_the_other_commands_run_in_the_order_of_the_readme(
    clone: Path, tmp_path_factory: pytest.TempPathFactory
) -> None:
    # The demo trains the real default model; what these commands do is the same with a small one.
    tiny = tiny_llama_smollm(tmp_path_factory.mktemp("tiny") / "tiny-llama").path
    quick = {"PIPELINE_TRAIN_EVAL_TOKENS": "256", "PIPELINE_TRAIN_SAMPLE_TOKENS": "8",
             "PIPELINE_TRAIN_SEQUENCE_LENGTH": "128", "PIPELINE_TRAIN_EVAL_EVERY": "0",
             "PIPELINE_TRAIN_BASE_MODEL": str(tiny)}  # fmt: skip
    unpacked = smollm2(base_models(tmp_path_factory)).path.parent
    (clone / "training-data" / ".cache").mkdir()
    (clone / "training-data" / ".cache" / "base").symlink_to(unpacked)
    assert len(SESSION) >= 5
    for block in SESSION:
        shell(block, clone, **quick)
    assert (clone / "training-data" / "8_ollama" / "Modelfile").is_file()
    assert (clone / "training-data" / "mine" / "8_ollama" / "Modelfile").is_file()

"""What holds the repository together: start-up, help, requirements, stages without torch."""

import re
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest

from tests.chain import DIRECTORIES, ROOT, environment, in_process, pipeline

SCRIPTS = {
    "acquire": "step1_acquire", "preprocess": "step2_preprocess", "chunk": "step3_chunk",
    "upload": "step4_upload", "train": "step6_train", "quantize": "step7_quantize",
    "modelfile": "step8_modelfile",
    "publish": "step9_publish",
}  # fmt: skip
HEAVY = ("torch", "transformers", "datasets", "pandas", "nltk", "pyarrow", "numpy", "requests",
         "matplotlib", "huggingface_hub", "peft", "trl", "llama_cpp", "gguf", "ftfy")  # fmt: skip


def python(code: str, *arguments: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-c", code, *arguments], capture_output=True, text=True, cwd=ROOT,
        env=environment(), check=False, timeout=120,
    )  # fmt: skip


def test_help_loads_no_heavy_library() -> None:
    code = f"""
import sys
from pipeline.cli import make_pipeline
make_pipeline()
print([name for name in {HEAVY} if name in sys.modules])
"""
    assert python(code).stdout.strip() == "[]"


@pytest.mark.parametrize("command", [*SCRIPTS, "all", "status", "generate"])
def test_every_command_has_a_help_worth_reading(command: str) -> None:
    text = in_process(command, "--help").stdout
    assert "--data-dir" in text
    assert "--debug" in text
    assert len(text) > 1000


@pytest.mark.parametrize(("stage", "script"), SCRIPTS.items())
def test_every_stage_is_a_script_of_its_own(stage: str, script: str) -> None:
    result = subprocess.run(
        [sys.executable, f"pipeline/{script}.py", "--help"], capture_output=True, text=True,
        cwd=ROOT, env=environment(), check=False, timeout=60,
    )  # fmt: skip
    assert result.returncode == 0, result.stderr
    assert "--data-dir" in result.stdout


def test_a_script_does_what_the_command_does(tmp_path: Path) -> None:
    for script in ("step1_acquire", "step2_preprocess", "step3_chunk"):
        subprocess.run(
            [sys.executable, f"pipeline/{script}.py", "--data_dir", tmp_path], check=True,
            cwd=ROOT, env=environment(), capture_output=True, timeout=60,
        )  # fmt: skip
    assert "(up to date)" in pipeline("chunk", "--data-dir", tmp_path).stderr


def test_stages_1_to_4_run_without_torch(tmp_path: Path) -> None:
    code = """
import sys
for name in ("torch", "transformers", "trl", "peft", "llama_cpp"):
    sys.modules[name] = None
from pipeline.cli import main
main()
"""
    for stage in ("acquire", "preprocess", "chunk", "upload"):
        result = python(code, stage, "--data-dir", str(tmp_path))
        assert result.returncode == 0, result.stderr
    assert list((tmp_path / DIRECTORIES["upload"]).glob("data/*.parquet"))


def names(lines: list[str]) -> set[str]:
    found = (re.match(r"[A-Za-z0-9_.-]+", line) for line in lines)
    return {match[0].lower().replace("_", "-") for match in found if match}


def test_requirements_are_pinned_and_those_of_the_package_agree() -> None:
    lines = [
        line for line in (ROOT / "requirements.txt").read_text().splitlines()
        if line and not line.startswith("#")
    ]  # fmt: skip
    assert all("==" in line for line in lines)
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    assert names(project["dependencies"]) == names(lines)


def test_the_gpu_requirements_take_the_same_versions() -> None:
    lines = (ROOT / "requirements-gpu.txt").read_text().splitlines()
    assert "-r requirements.txt" in lines
    own = [line for line in lines if line and not line.startswith(("#", "-r"))]
    common = names(own) & names((ROOT / "requirements.txt").read_text().splitlines())
    assert common == set()


def test_an_option_with_two_meanings_bears_its_stages_name_in_all() -> None:
    code = """
import inspect
from collections import Counter
from pipeline.chain import STAGE_FUNCTIONS
from pipeline.command import merge_parameters
names = Counter(n for f in STAGE_FUNCTIONS for n in inspect.signature(f).parameters)
merged = merge_parameters(STAGE_FUNCTIONS)
print(sorted(name for name, n in names.items() if n > 1 and name in merged))
print(sorted(name for name in merged if name not in names))
"""
    shared, renamed = python(code).stdout.splitlines()
    assert shared == "['data_dir', 'force', 'jobs', 'overwrite_edited', 'restore_deleted']"
    pushed = ("allow_mentions", "licence", "private", "publish_copyrighted", "repo_id", "revision")
    expected = {"acquire_revision", "train_revision"}
    expected |= {f"{stage}_{name}" for stage in ("upload", "publish") for name in pushed}
    assert renamed == str(sorted(expected))

"""The `pipeline` command as it is typed: commands that are loaded when they are run."""

from pathlib import Path

import pytest
from typer.testing import CliRunner

from pipeline.cli import COMMANDS, make_pipeline


def run(*arguments: str, **env: str) -> tuple[int, str]:
    result = CliRunner().invoke(make_pipeline(), arguments, env=env)
    return result.exit_code, result.output


def test_the_list_of_commands_says_what_each_does() -> None:
    code, text = run("--help")
    assert code == 0
    for name, entry in COMMANDS.items():
        assert name in text
        assert entry.summary.split()[1] in text


@pytest.mark.parametrize(
    ("variable", "value", "command"),
    [
        ("PIPELINE_CHUNK_CHUNK_SIZE", "-4", ["chunk"]),
        ("PIPELINE_CHUNK_CONFIG", "not-there.yaml", ["chunk"]),
        ("PIPELINE_PREPROCESS_SKIP_RULE", "no-such-rule", ["preprocess"]),
        ("PIPELINE_ALL_CONFIG", "not-there.yaml", ["all"]),
        ("PIPELINE_CHUNK_CHUNK_SIZE", "-4", ["all"]),
        ("PIPELINE_SERIES_BUILD_SEGMENTS", "0", ["series", "build", "a", "--to", "b"]),
    ],
)
def test_every_command_reads_its_own_variables(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, variable: str, value: str, command: list[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    code, text = run(*command, **{variable: value})
    assert code == 2, text
    assert value in text or "greater than or equal" in text


def test_a_typo_names_the_nearest_command() -> None:
    code, text = run("chunck")
    assert code == 2
    assert "'chunk'" in text

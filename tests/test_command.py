"""One definition of every option: precedence, spellings, errors and exit codes."""

import errno
import inspect
import os
import signal
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Annotated, Any

import pytest
import typer
from typer.testing import CliRunner

from pipeline.command import (
    DEFAULT_DATA_DIR,
    DataDir,
    Force,
    as_command,
    make_app,
    merge_parameters,
    stage_options,
)
from pipeline.errors import PipelineError, Stopped, UsageError

Seen = dict[str, Any]


@pytest.fixture
def seen() -> Seen:
    return {}


@pytest.fixture
def app(seen: Seen) -> typer.Typer:
    """Two small stages with the names of real ones, and `all` made of them."""

    def chunk(
        data_dir: DataDir = DEFAULT_DATA_DIR,
        chunk_size: Annotated[int, typer.Option(min=1, help="Size.")] = 7000,
        force: Force = False,
    ) -> None:
        seen["chunk"] = (data_dir, chunk_size, force)

    def acquire(
        data_dir: DataDir = DEFAULT_DATA_DIR,
        source: Annotated[list[str] | None, typer.Option(help="Where from.")] = None,
        ids: Annotated[str | None, typer.Option(help="Numbers.")] = None,
        languages: Annotated[str | None, typer.Option(help="Codes.")] = None,
        copyright: Annotated[str | None, typer.Option(help="Rights.")] = None,
        force: Force = False,
    ) -> None:
        seen["acquire"] = (data_dir, source, force)
        seen["words"] = (ids, languages, copyright)

    def all_stages(**values: Any) -> None:
        for function in (acquire, chunk):
            names = inspect.signature(function).parameters
            function(**{name: values[name] for name in names})

    app = make_app()
    stages: tuple[Callable[..., None], ...] = (acquire, chunk)
    known = {stage.__name__: stage_options(stage) for stage in stages}
    for stage in stages:
        parameters = dict(inspect.signature(stage).parameters)
        app.command(stage.__name__)(as_command(stage, parameters, known))
    app.command("all")(as_command(all_stages, merge_parameters(stages), known))
    return app


def run(app: typer.Typer, *arguments: str, code: int = 0, **env: str) -> str:
    result = CliRunner().invoke(app, arguments, env=env)
    assert result.exit_code == code, result.output
    return result.output


def test_precedence_is_command_line_then_environment_then_file_then_default(
    app: typer.Typer, seen: Seen, tmp_path: Path
) -> None:
    file = tmp_path / "settings.yaml"
    file.write_text("chunk:\n  chunk-size: 3\n")
    config = ("--config", str(file))
    run(app, "chunk")
    assert seen["chunk"][1] == 7000
    run(app, "chunk", *config)
    assert seen["chunk"][1] == 3
    run(app, "chunk", *config, PIPELINE_CHUNK_CHUNK_SIZE="4")
    assert seen["chunk"][1] == 4
    run(app, "chunk", *config, "--chunk-size", "5", PIPELINE_CHUNK_CHUNK_SIZE="4")
    assert seen["chunk"][1] == 5


def test_all_takes_every_stages_options_environment_and_sections(
    app: typer.Typer, seen: Seen, tmp_path: Path
) -> None:
    file = tmp_path / "settings.yaml"
    file.write_text(f"data-dir: {tmp_path / 'data'}\nacquire:\n  source: [a, b]\n")
    run(app, "all", "--config", str(file), "--force", PIPELINE_CHUNK_CHUNK_SIZE="9")
    assert seen["acquire"] == (tmp_path / "data", ["a", "b"], True)
    assert seen["chunk"] == (tmp_path / "data", 9, True)


def test_pipeline_yaml_in_the_data_directory_is_read_by_itself(
    app: typer.Typer, seen: Seen, tmp_path: Path
) -> None:
    (tmp_path / "pipeline.yaml").write_text("chunk:\n  chunk-size: 11\n")
    run(app, "chunk", "--data-dir", str(tmp_path))
    assert seen["chunk"][1] == 11
    run(app, "chunk", PIPELINE_DATA_DIR=str(tmp_path))
    assert seen["chunk"] == (tmp_path, 11, False)


def test_hyphens_and_underscores_both_work(app: typer.Typer, seen: Seen) -> None:
    run(app, "chunk", "--chunk_size", "6")
    assert seen["chunk"][1] == 6


@pytest.mark.parametrize("value", ["x", "0", "-1", "1.5"])
def test_a_value_that_makes_no_sense_is_refused_with_exit_code_2(
    app: typer.Typer, value: str
) -> None:
    assert "--chunk-size" in run(app, "chunk", "--chunk-size", value, code=2)


def test_a_typo_in_a_settings_file_names_line_and_nearest_key(
    app: typer.Typer, tmp_path: Path
) -> None:
    file = tmp_path / "settings.yaml"
    file.write_text("chunk:\n  chunk-sise: 3\n")
    output = run(app, "chunk", "--config", str(file), code=2)
    assert "settings.yaml:2" in output
    assert "Did you mean 'chunk-size'?" in output


def test_what_is_asked_for_once_cannot_stand_in_a_file(app: typer.Typer, tmp_path: Path) -> None:
    file = tmp_path / "settings.yaml"
    file.write_text("chunk:\n  force: true\n")
    assert "unknown key 'force'" in run(app, "all", "--config", str(file), code=2)


def test_a_list_of_one_needs_no_brackets(app: typer.Typer, seen: Seen, tmp_path: Path) -> None:
    file = tmp_path / "settings.yaml"
    file.write_text("acquire:\n  source: my books\n")
    run(app, "acquire", "--config", str(file))
    assert seen["acquire"][1] == ["my books"]


@pytest.mark.parametrize(
    ("line", "words"),
    [
        ("ids: [84, 345]", ("84,345", None, None)),
        ("ids: 84", ("84", None, None)),
        ("ids: 84,345", ("84,345", None, None)),
        ("languages: [en, fr]", (None, "en,fr", None)),
        ('languages: [en, "no"]', (None, "en,no", None)),
        ("copyright: [false, null]", (None, None, "false,null")),
        ("copyright: true", (None, None, "true")),
        ("copyright: null", (None, None, None)),
    ],
)
@pytest.mark.parametrize("command", ["acquire", "all"])
def test_what_has_commas_on_the_command_line_may_be_a_list_in_a_file(
    app: typer.Typer, seen: Seen, tmp_path: Path, line: str, words: tuple[str | None], command: str
) -> None:
    (tmp_path / "pipeline.yaml").write_text(f"acquire:\n  {line}\n")
    run(app, command, "--data-dir", str(tmp_path))
    assert seen["words"] == words


@pytest.mark.parametrize(
    "line", ["ids: []", "ids: [true]", "ids: {a: 1}", "ids: [[1]]", "languages: [en, no]",
             "languages: no", "copyright: [{}]"],
)  # fmt: skip
def test_a_list_of_what_are_no_words_is_refused(
    app: typer.Typer, tmp_path: Path, line: str
) -> None:
    (tmp_path / "pipeline.yaml").write_text(f"acquire:\n  {line}\n")
    output = run(app, "acquire", "--data-dir", str(tmp_path), code=2)
    assert f"--{line.split(':')[0]} takes one or more words" in output


@pytest.mark.parametrize("command", ["acquire", "all"])
@pytest.mark.parametrize(
    ("value", "items"),
    [
        ('["/x/my novels", "b=0.3"]', ["/x/my novels", "b=0.3"]),
        ('["[ab]*.txt"]', ["[ab]*.txt"]),
        ("a b", ["a", "b"]),
        ("", ["of the file"]),
    ],
)
def test_a_list_in_the_environment_is_words_or_json(
    app: typer.Typer, seen: Seen, tmp_path: Path, command: str, value: str, items: list[str]
) -> None:
    (tmp_path / "pipeline.yaml").write_text("acquire:\n  source: of the file\n")
    given = ("--data-dir", str(tmp_path))
    run(app, command, *given, PIPELINE_ACQUIRE_SOURCE=value)
    assert seen["acquire"][1] == items
    run(app, command, *given, "--source", "x y", PIPELINE_ACQUIRE_SOURCE=value)
    assert seen["acquire"][1] == ["x y"], "the command line goes first"


def test_a_list_in_the_environment_needs_no_settings_file(app: typer.Typer, seen: Seen) -> None:
    run(app, "acquire", PIPELINE_ACQUIRE_SOURCE='["my novels"]')
    assert seen["acquire"][1] == ["my novels"]


@pytest.mark.parametrize("value", ["[", "[ab]*.txt", "[1]", '["a"', "[" * 100_000])
def test_what_begins_as_a_json_list_must_be_one(app: typer.Typer, value: str) -> None:
    output = run(app, "acquire", code=2, PIPELINE_ACQUIRE_SOURCE=value)
    assert "PIPELINE_ACQUIRE_SOURCE begins with a bracket, but is no JSON list" in output


@pytest.mark.parametrize("value", ["[1, 2]", "no", "{a: 1}"])
def test_a_value_of_the_wrong_shape_is_refused(
    app: typer.Typer, tmp_path: Path, value: str
) -> None:
    file = tmp_path / "settings.yaml"
    file.write_text(f"chunk:\n  chunk-size: {value}\n")
    assert "--chunk-size takes" in run(app, "chunk", "--config", str(file), code=2)


def test_a_settings_file_named_by_the_environment_may_set_the_data_directory(
    app: typer.Typer, seen: Seen, tmp_path: Path
) -> None:
    file = tmp_path / "settings.yaml"
    file.write_text(f"data-dir: {tmp_path / 'there'}\n")
    run(app, "chunk", PIPELINE_CHUNK_CONFIG=str(file))
    assert seen["chunk"][0] == tmp_path / "there"


@pytest.mark.parametrize("command", ["chunk", "all"])
@pytest.mark.parametrize(
    ("variable", "meant"),
    [
        ("PIPELINE_CHUNK_CHUNKSIZE", "did you mean PIPELINE_CHUNK_CHUNK_SIZE?"),
        ("PIPELINE_CHUNK_SIZE", "did you mean PIPELINE_CHUNK_CHUNK_SIZE?"),
        ("PIPELINE_CHUNKS_CHUNK_SIZE", "did you mean PIPELINE_CHUNK_CHUNK_SIZE?"),
        ("PIPELINE_CHUNK_XYZZY", "see --help"),
    ],
)
def test_a_variable_that_sets_nothing_is_told_with_the_nearest_that_does(
    app: typer.Typer, seen: Seen, monkeypatch: pytest.MonkeyPatch,
    command: str, variable: str, meant: str,
) -> None:  # fmt: skip
    monkeypatch.setenv(variable, "4")
    said = " ".join(run(app, command).split())
    assert f"The environment variable {variable} sets no option: {meant}" in said
    assert seen["chunk"][1] == 7000, "and nothing else happens"


@pytest.mark.parametrize("command", ["acquire", "chunk", "all"])
@pytest.mark.parametrize(
    "variable",
    [
        "PIPELINE_CHUNK_CHUNK_SIZE",
        "PIPELINE_CHUNK_CONFIG",
        "PIPELINE_CHUNK_DATA_DIR",
        "PIPELINE_CHUNK_DEBUG",
        "PIPELINE_ACQUIRE_SOURCE",
        "PIPELINE_ACQUIRE_IDS",
        "PIPELINE_DATA_DIR",
        "PIPELINE_RUNNER_TOKEN",  # another program's
        "PIPELINES_CHUNK_SIZE",
    ],
)
def test_of_variables_that_set_something_and_of_other_programs_nothing_is_said(
    app: typer.Typer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, command: str, variable: str
) -> None:
    value = str(tmp_path / "empty.yaml") if variable.endswith("_CONFIG") else "1"
    (tmp_path / "empty.yaml").write_text("")
    monkeypatch.setenv(variable, value)
    assert "environment variable" not in run(app, command)


def test_an_empty_variable_is_none(app: typer.Typer) -> None:
    assert "environment variable" not in run(app, "chunk", PIPELINE_CHUNK_SIZE="")


def failing(error: BaseException) -> typer.Typer:
    def chunk() -> None:
        raise error

    app = make_app()
    app.command("chunk")(as_command(chunk, {}, {}))
    return app


@pytest.mark.parametrize(
    ("error", "code", "text"),
    [
        (PipelineError("It broke.", "Mend it."), 1, "error: It broke.\n  Mend it.\n"),
        (UsageError("No such thing."), 2, "error: No such thing.\n"),
        (Stopped("Stopped."), 33, "error: Stopped.\n"),
        (KeyboardInterrupt(), 1, "error: Stopped.\n"),
        (OSError(errno.ENOSPC, "No space left on device", "x.txt"), 1, "The disk is full"),
        (PermissionError(errno.EACCES, "Permission denied", "x.txt"), 1,
         "error: Permission denied: x.txt.\n"),
        (ValueError("odd\nthing"), 1, "Unexpected ValueError: odd thing"),
    ],
)  # fmt: skip
def test_an_error_is_a_sentence_and_an_exit_code(
    error: BaseException, code: int, text: str
) -> None:
    output = run(failing(error), code=code)
    assert text in output
    assert "Traceback" not in output


def test_debug_shows_the_traceback() -> None:
    assert "Traceback" in run(failing(PipelineError("It broke.")), "--debug", code=1)


def test_sigterm_is_an_interrupt() -> None:
    def chunk() -> None:
        os.kill(os.getpid(), signal.SIGTERM)
        signal.pause()

    app = make_app()
    app.command("chunk")(as_command(chunk, {}, {}))
    assert "Stopped." in run(app, code=1)


def test_a_reader_that_has_seen_enough_is_no_error(tmp_path: Path) -> None:
    program = (
        "import typer, pipeline.command as c\n"
        "def chunk(data_dir: c.DataDir = c.DEFAULT_DATA_DIR) -> None:\n"
        "    for _ in range(100_000):\n"
        "        typer.echo('one more line')\n"
        "c.run_script(chunk)\n"
    )
    with subprocess.Popen(
        [sys.executable, "-c", program], stdout=subprocess.PIPE, stderr=subprocess.PIPE
    ) as process:
        assert process.stdout and process.stderr
        process.stdout.readline()
        process.stdout.close()

        assert process.stderr.read() == b""
        assert process.wait() == 0

"""Bad input gets one sentence (what, where, what to do) and the right exit code."""

import re
from pathlib import Path
from typing import Any

import pytest

from pipeline import chain
from pipeline.books.sample import sample_library
from pipeline.errors import PipelineError, Stopped, UsageError
from pipeline.train_inputs import check_data_options
from tests.chain import in_process, pipeline
from tests.gutendex_server import GutendexServer


def complaint(*arguments: object, code: int = 1, run: Any = in_process) -> str:
    """What the command says when it fails, without colours and line breaks."""
    result = run(*arguments, code=code)
    assert "Traceback" not in result.stderr
    return re.sub(r"[│╭╮╰╯─\s]+", " ", result.stderr)


@pytest.fixture(scope="module")
def prepared(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A data directory as stages 1 to 4 leave it; nothing in it may change."""
    data = tmp_path_factory.mktemp("prepared") / "data"
    for stage in ("acquire", "preprocess", "chunk", "upload"):
        in_process(stage, "--data-dir", data)
    return data


def test_a_source_that_is_not_there(tmp_path: Path) -> None:
    text = complaint(
        "all", "--source", tmp_path / "none", "--data-dir", tmp_path / "data", run=pipeline
    )
    assert f"--source {tmp_path / 'none'} does not exist." in text


def test_a_folder_without_books(tmp_path: Path) -> None:
    (tmp_path / "books").mkdir()
    (tmp_path / "books" / "cover.jpg").write_bytes(b"\xff\xd8")
    text = complaint("all", "--source", tmp_path / "books", "--data-dir", tmp_path / "data")
    assert "has no texts (.txt, .md, .epub, .html) and no tables" in text


def test_a_file_of_another_kind(tmp_path: Path) -> None:
    (tmp_path / "cover.jpg").write_bytes(b"\xff\xd8")
    text = complaint("acquire", "--source", tmp_path / "cover.jpg", "--data-dir", tmp_path / "data")
    assert "cover.jpg was left out: it is not text but image/jpeg" in text
    assert "There is no text in what was asked for" in text


def test_an_empty_file_is_named_and_the_others_are_taken(tmp_path: Path) -> None:
    books = tmp_path / "books"
    books.mkdir()
    (books / "empty.txt").write_bytes(b"")
    (books / "full.txt").write_text("A line.\n")
    result = in_process("acquire", "--source", books, "--data-dir", tmp_path / "data")
    assert "empty.txt was left out: it is empty" in result.stderr
    assert "1 document, " in result.stderr


def test_nothing_but_an_empty_file(tmp_path: Path) -> None:
    (tmp_path / "empty.txt").write_bytes(b" \n")
    text = complaint("acquire", "--source", tmp_path / "empty.txt", "--data-dir", tmp_path / "data")
    assert "There is no text in what was asked for: 1 left out." in text


def test_a_topic_that_no_book_has(tmp_path: Path) -> None:
    with GutendexServer() as server:
        text = complaint(
            "all", "--topic", "zzz", "--gutendex-url", server.url, "--data-dir", tmp_path
        )
        assert "No books were found" in text
        # nor does it pass for success where other books are there already
        in_process("acquire", "--source", sample_library(), "--data-dir", tmp_path)
        complaint("acquire", "--topic", "zzz", "--gutendex-url", server.url, "--data-dir", tmp_path)


def test_no_network(tmp_path: Path) -> None:
    text = complaint(
        "acquire", "--topic", "horror", "--gutendex-url", "http://127.0.0.1:9", "--data-dir",
        tmp_path,
    )  # fmt: skip
    assert "127.0.0.1:9" in text
    assert "--gutendex-url" in text


@pytest.mark.parametrize("stage", ["acquire", "status", "all"])
def test_a_data_directory_that_is_a_file(tmp_path: Path, stage: str) -> None:
    (tmp_path / "data").write_text("")
    assert "is a file, but the data directory must be a directory" in complaint(
        stage, "--data-dir", tmp_path / "data"
    )


@pytest.mark.parametrize(
    ("stage", "before"),
    [("preprocess", "acquire"), ("chunk", "preprocess"), ("upload", "chunk"),
     ("train", "upload"), ("quantize", "train"), ("modelfile", "quantize"),
     ("publish", "modelfile")],
)  # fmt: skip
def test_a_stage_before_its_input_exists(tmp_path: Path, stage: str, before: str) -> None:
    assert f"Run `pipeline {before}` first." in complaint(stage, "--data-dir", tmp_path)


def test_generate_before_there_is_a_model(tmp_path: Path) -> None:
    assert "has no GGUF yet" in complaint("generate", "x", "--data-dir", tmp_path)


def test_a_settings_file_with_a_typo(tmp_path: Path) -> None:
    config = tmp_path / "config.yaml"
    config.write_text("train:\n  max-stepps: 3\n")
    text = complaint("all", "--config", config, "--data-dir", tmp_path, code=2)
    assert "config.yaml:2: unknown key 'max-stepps' in 'train'. Did you mean 'max-steps'?" in text


@pytest.mark.parametrize(
    ("arguments", "named"),
    [
        (("chunk", "--chunk-size", "0"), "--chunk-size"),
        (("chunk", "--chunk-size", "100", "--minimum-size", "200"), "--minimum-size 200"),
        (("train", "--max-steps", "0"), "--max-steps"),
        (("train", "--max-steps", "2", "--epochs", "1"), "--epochs"),
        (("train", "--learning-rate", "-1"), "--learning-rate"),
        (("train", "--scheduler", "cosin"), "--scheduler"),
        (("preprocess", "--skip-rule", "italic"), "Did you mean 'italics'?"),
        (("quantize", "--quantization", "q4_k_x"), "q4_k_m"),
    ],
)
def test_an_option_that_makes_no_sense(
    tmp_path: Path, arguments: tuple[str, ...], named: str
) -> None:
    run = pipeline if "--scheduler" in arguments else in_process
    assert named in complaint(*arguments, "--data-dir", tmp_path, code=2, run=run)


def test_a_repository_name_that_is_none(tmp_path: Path) -> None:
    text = complaint("upload", "--repo-id", "no/such/name", "--data-dir", tmp_path)
    assert "'no/such/name' is no name for a repository" in text


def test_pushing_without_a_token_is_refused_before_any_work(prepared: Path) -> None:
    before = (prepared / "4_dataset" / "stage.json").read_bytes()
    text = complaint("upload", "--repo-id", "me/books", "--data-dir", prepared, run=pipeline)
    assert "No Hugging Face token" in text
    assert "hf auth login" in text
    assert (prepared / "4_dataset" / "stage.json").read_bytes() == before


@pytest.mark.parametrize(
    ("option", "value"),
    [
        ("--skip-rule", "nosuch"),
        ("--quantization", "q9"),
        ("--base-model", "/nowhere"),
        ("--learning-rate", "-1"),
        ("--minimum-size", "8000"),
        ("--upload-repo-id", "a/b/c"),
        ("--publish-repo-id", "a/b/c"),
        ("--kind", "poem"),
        ("--dataset", "./no-such-table.jsonl"),
        ("--dataset-revision", "v9"),
        ("--chat-template", "no-such.jinja"),
        ("--rope-scaling", "foo"),
        ("--batch-tokens", "100"),
        ("--resume", "nonsense"),
        ("--precision", "bf15"),
    ],
)
def test_all_refuses_a_late_stages_option_before_any_work(
    tmp_path: Path, option: str, value: str
) -> None:
    run = pipeline if option in {"--quantization", "--base-model"} else in_process
    result = run("all", option, value, "--data-dir", tmp_path / "data", code=None)
    assert result.returncode in {1, 2}
    assert (option if option == "--dataset-revision" else value) in result.stderr
    assert not (tmp_path / "data").exists()


def test_options_of_the_data_are_checked_before_there_is_any(tmp_path: Path) -> None:
    data, tales = tmp_path / "data", tmp_path / "tales.jsonl"
    tales.write_text('{"text": "The lamp went out."}\n')
    template = tmp_path / "chat.jinja"
    template.write_text("{% for message in messages %}")
    check_data_options(data, str(tales), None, "text", None)
    check_data_options(data, str(data / "4_dataset"), None, "auto", None)  # made by then
    with pytest.raises(PipelineError, match="The dataset has no chats; it has texts"):
        check_data_options(data, str(tales), None, "chat", None)
    with pytest.raises(UsageError, match=r"chat\.jinja is no Jinja template"):
        check_data_options(data, None, None, "auto", str(template))
    with pytest.raises(UsageError, match="--chat-template is for chats, and --kind is text"):
        check_data_options(data, None, None, "text", "plain")


def test_base_models_that_are_not_there(prepared: Path, tmp_path: Path) -> None:
    before = (prepared / "4_dataset" / "stage.json").read_bytes()
    (tmp_path / "folder").mkdir()
    (tmp_path / "model.gguf").write_bytes(b"no model")
    for base, named in (
        (tmp_path / "none", "none"),
        (tmp_path / "folder", "config.json"),
        (tmp_path / "model.gguf", "model.gguf"),
        ("someone/no-such-model", "someone/no-such-model"),
    ):
        run = in_process if isinstance(base, Path) else pipeline
        assert named in complaint("train", "--base-model", base, "--data-dir", prepared, run=run)
        assert (prepared / "4_dataset" / "stage.json").read_bytes() == before
        assert not (prepared / "6_adapter").exists()


def test_a_directory_that_cannot_be_written_to(tmp_path: Path) -> None:
    assert "cannot be written to" in complaint("acquire", "--data-dir", "/proc/none")


def test_a_cleaned_text_that_is_not_utf8_is_named_with_its_line(tmp_path: Path) -> None:
    clean = tmp_path / "2_preprocessed"
    clean.mkdir()
    (clean / "mine.txt").write_bytes(b"one\ntw\xf6\n")
    assert "mine.txt:2 is not UTF-8 text" in complaint("chunk", "--data-dir", tmp_path)


def test_debug_shows_where(tmp_path: Path) -> None:
    result = pipeline("chunk", "--data-dir", tmp_path, "--debug", code=1)
    assert "Traceback" in result.stderr


@pytest.mark.parametrize(
    ("failing", "error", "continues"),
    [
        ("acquire", PipelineError("It broke.", "Mend it."), False),
        ("preprocess", PipelineError("It broke.", "Mend it."), True),
        ("preprocess", Stopped("Stopped.", "Saved."), True),
        ("preprocess", UsageError("No such thing.", "Mend it."), False),
    ],
)
def test_all_says_that_it_continues_only_where_it_does(
    monkeypatch: pytest.MonkeyPatch, failing: str, error: PipelineError, continues: bool
) -> None:
    def acquire(**_: Any) -> None:
        if failing == "acquire":
            raise error

    def preprocess(**_: Any) -> None:
        raise error

    monkeypatch.setattr(chain, "STAGE_FUNCTIONS", (acquire, preprocess))
    monkeypatch.setattr(chain, "check_options", lambda values: None)
    monkeypatch.setattr(chain, "values_of", lambda function, values: {})
    with pytest.raises(type(error)):
        chain.all_stages()
    assert (f"The stages before `{failing}` are done" in str(error)) is continues

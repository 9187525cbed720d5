"""Settings files: sections, spelling of keys, and errors that name file, line and key."""

from pathlib import Path

import pytest

from pipeline.errors import UsageError
from pipeline.settings import load_settings

KNOWN = {"chunk": {"chunk-size", "split-seed"}, "train": {"max-steps"}, "upload": None}


def load(tmp_path: Path, text: str) -> dict[str, dict[str, object]]:
    path = tmp_path / "settings.yaml"
    path.write_text(text)
    return load_settings(path, KNOWN)


def test_sections_and_shared_keys_are_read_by_parameter_name(tmp_path: Path) -> None:
    text = "data-dir: somewhere\nchunk:\n  chunk-size: 10\n  split_seed: 3\ntrain:\n"
    assert load(tmp_path, text) == {
        "": {"data_dir": "somewhere"},
        "chunk": {"chunk_size": 10, "split_seed": 3},
        "train": {},
    }


def test_an_empty_file_sets_nothing(tmp_path: Path) -> None:
    assert load(tmp_path, "# nothing\n") == {}


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("chunk:\n  chunk-sise: 3\n", "settings.yaml:2: unknown key 'chunk-sise' in 'chunk'. "
                                      "Did you mean 'chunk-size'?"),
        ("chnk:\n  chunk-size: 3\n", "settings.yaml:1: unknown key 'chnk'. Did you mean 'chunk'?"),
        ("zzz: 1\n", "Known are: chunk, data-dir, train, upload."),
        ("chunk: 3\n", "settings.yaml:1: 'chunk' must hold key: value lines"),
        ("- chunk\n", "settings.yaml:1 must be a mapping"),
        ("chunk:\n  a: [\n", "is not valid YAML"),
        ("chunk: !!python/object/apply:os.system ['true']\n", "is not valid YAML"),
    ],
)  # fmt: skip
def test_a_mistake_is_named_with_its_place(tmp_path: Path, text: str, message: str) -> None:
    with pytest.raises(UsageError) as error:
        load(tmp_path, text)
    assert message in str(error.value)


def test_the_keys_of_a_stage_that_is_not_known_here_are_left_to_it(tmp_path: Path) -> None:
    assert load(tmp_path, "upload:\n  anything: 1\n")["upload"] == {"anything": 1}


def test_a_file_that_is_not_there_is_named(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="No such file"):
        load_settings(tmp_path / "none.yaml", KNOWN)

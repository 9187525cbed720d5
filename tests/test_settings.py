"""Settings files: sections, spelling of keys, and errors that name file, line and key."""

from pathlib import Path

import pytest

from pipeline.command import stage_options
from pipeline.errors import UsageError
from pipeline.settings import DEEPEST, load_settings
from pipeline.step1_acquire import acquire
from pipeline.step2_preprocess import preprocess
from pipeline.step3_chunk import chunk
from pipeline.step4_upload import upload
from pipeline.step6_train import train
from pipeline.step7_quantize import quantize
from pipeline.step8_modelfile import modelfile
from pipeline.step9_publish import publish
from pipeline.training.configs import meta_model, new_config
from tests.chain import ROOT

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
        ("zzz: 1\n", "Known are: chunk, data-dir, include, train, upload."),
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


def files(tmp_path: Path, **texts: str) -> Path:
    """Settings files of these names; the first of them is the one to load."""
    for name, text in texts.items():
        (tmp_path / f"{name}.yaml").write_text(text)
    return tmp_path / f"{next(iter(texts))}.yaml"


def test_a_file_includes_another_and_wins_over_it_key_by_key(tmp_path: Path) -> None:
    path = files(
        tmp_path,
        mine="include: base.yaml\nchunk:\n  split-seed: 9\n",
        base="data-dir: here\nchunk:\n  chunk-size: 10\n  split-seed: 3\n",
    )
    assert load_settings(path, KNOWN) == {
        "": {"data_dir": "here"},
        "chunk": {"chunk_size": 10, "split_seed": 9},
    }


def test_of_several_included_files_the_later_wins(tmp_path: Path) -> None:
    path = files(
        tmp_path,
        mine="include: [a.yaml, b.yaml]\n",
        a="chunk:\n  chunk-size: 1\n  split-seed: 1\n",
        b="chunk:\n  chunk-size: 2\n",
    )
    assert load_settings(path, KNOWN)["chunk"] == {"chunk_size": 2, "split_seed": 1}


def test_an_included_file_is_looked_for_beside_the_one_that_includes_it(tmp_path: Path) -> None:
    (tmp_path / "deep").mkdir()
    (tmp_path / "deep" / "a.yaml").write_text("include: b.yaml\n")
    (tmp_path / "deep" / "b.yaml").write_text("train:\n  max-steps: 5\n")
    path = files(tmp_path, mine="include: deep/a.yaml\n")
    assert load_settings(path, KNOWN)["train"] == {"max_steps": 5}


@pytest.mark.parametrize(
    ("texts", "message"),
    [
        ({"a": "include: a.yaml\n"}, r"a\.yaml:1 includes .*a\.yaml, which includes this file"),
        (
            {"a": "include: b.yaml\n", "b": "# back\ninclude: a.yaml\n"},
            r"b\.yaml:2 includes .*a\.yaml, which includes this file in its turn",
        ),
        (
            {"a": "include: none.yaml\n"},
            r"none\.yaml, which .*a\.yaml includes, cannot be read: No such file",
        ),
        ({"a": "include: [b.yaml, 3]\n", "b": ""}, r"a\.yaml:1: 'include' takes the path"),
        ({"a": "include:\n"}, r"a\.yaml:1: 'include' takes the path"),
        ({"a": 'include: "b\\0"\n'}, r"a\.yaml:1: 'include' takes the path"),
        ({"a": "train:\ninclude: b.yaml\n", "b": ""}, r"a\.yaml:2: 'include' must be the first"),
        (
            {"a": "include: b.yaml\n", "b": "\nchunk:\n  chunk-sise: 3\n"},
            r"b\.yaml:3: unknown key 'chunk-sise'",
        ),
        ({"a": "inclde: b.yaml\n"}, "Did you mean 'include'"),
    ],
)
def test_a_mistake_with_an_included_file_is_one_sentence_with_its_place(
    tmp_path: Path, texts: dict[str, str], message: str
) -> None:
    with pytest.raises(UsageError, match=message):
        load_settings(files(tmp_path, **texts), KNOWN)


def test_files_include_one_another_ten_deep_and_no_further(tmp_path: Path) -> None:
    texts = {f"f{n}": f"include: f{n + 1}.yaml\n" for n in range(DEEPEST)}
    last = "train:\n  max-steps: 1\n"
    path = files(tmp_path, **texts, **{f"f{DEEPEST}": last})
    assert load_settings(path, KNOWN)["train"] == {"max_steps": 1}
    files(tmp_path, **{f"f{DEEPEST}": f"include: g.yaml\n{last}"}, g="")
    with pytest.raises(UsageError, match="more than 10 deep"):
        load_settings(path, KNOWN)


@pytest.mark.parametrize("path", sorted((ROOT / "configs").iterdir()), ids=lambda path: path.name)
def test_every_file_in_configs_is_accepted(path: Path) -> None:
    if path.suffix == ".json":
        assert new_config(path, 512, vocab_size=1000).max_position_embeddings >= 512
        return
    stages = (acquire, preprocess, chunk, upload, train, quantize, modelfile, publish)
    assert load_settings(path, {stage.__name__: stage_options(stage) for stage in stages})


def test_the_model_from_scratch_in_configs_has_about_five_million_weights() -> None:
    config = new_config(ROOT / "configs" / "tiny-llama.json", 512, vocab_size=49152)
    assert 4.5e6 < meta_model(config).num_parameters() < 5.5e6


@pytest.mark.parametrize("key", ["resume", "allow-changed", "force", "until-done"])
def test_what_a_run_of_training_is_told_once_cannot_stand_in_a_file(
    tmp_path: Path, key: str
) -> None:
    path = files(tmp_path, mine=f"train:\n  {key}: true\n")
    with pytest.raises(UsageError, match=f"unknown key '{key}' in 'train'"):
        load_settings(path, {"train": stage_options(train)})

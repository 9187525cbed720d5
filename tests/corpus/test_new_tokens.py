"""Names become single tokens: really new ones only, and nothing else of the tokenizer changes."""

import json
from pathlib import Path

import pytest

from pipeline.corpus.new_tokens import extend_tokenizer, read_tokens
from pipeline.corpus.token_cache import load_tokenizer
from pipeline.corpus.tokens import plain_ids, tokenizer_fingerprint
from pipeline.errors import PipelineError, UsageError
from tests.tokenizer_families import FAMILIES

TEXT = "In his house Nyarlathotep, and Nyarlathotep's sea; the lamp went out.\n"


@pytest.fixture(params=sorted(FAMILIES))
def base(request: pytest.FixtureRequest, tmp_path: Path) -> Path:
    FAMILIES[request.param]().save_pretrained(tmp_path / "base")
    return tmp_path / "base"


def test_a_new_token_is_one_id_and_the_text_comes_back(base: Path, tmp_path: Path) -> None:
    extended = extend_tokenizer(base, ["Nyarlathotep"], tmp_path / "tokenizers")
    before, after = load_tokenizer(base), load_tokenizer(extended.path)
    (new,) = extended.new
    assert new.id == max(before.get_vocab().values()) + 1
    assert extended.size == len(after) == len(before) + 1
    assert plain_ids(after, TEXT).count(new.id) == 2
    assert list(new.pieces) == plain_ids(before, "Nyarlathotep") and len(new.pieces) > 1
    assert "Nyarlathotep" in after.decode(plain_ids(after, TEXT))


def test_what_has_none_of_the_new_tokens_is_encoded_as_before(base: Path, tmp_path: Path) -> None:
    extended = extend_tokenizer(base, ["Nyarlathotep"], tmp_path / "tokenizers")
    before, after = load_tokenizer(base), load_tokenizer(extended.path)
    text = "The lamp went out, and nobody answered."
    assert plain_ids(after, text) == plain_ids(before, text)
    assert after.special_tokens_map == before.special_tokens_map
    assert after("a")["input_ids"] == before("a")["input_ids"]
    assert tokenizer_fingerprint(after) != tokenizer_fingerprint(before)


def test_tokens_that_are_there_already_are_not_new(base: Path, tmp_path: Path) -> None:
    tokenizer = load_tokenizer(base)
    there = [str(tokenizer.eos_token), "a"]
    extended = extend_tokenizer(base, there, tmp_path / "tokenizers")
    assert extended.new == () and extended.path == base and extended.size == len(tokenizer)
    both = extend_tokenizer(base, [*there, "Yog-Sothoth"], tmp_path / "tokenizers")
    assert [token.text for token in both.new] == ["Yog-Sothoth"]


def test_an_extended_tokenizer_is_made_once(base: Path, tmp_path: Path) -> None:
    first = extend_tokenizer(base, ["Nyarlathotep"], tmp_path)
    stamp = (first.path / "tokenizer.json").stat().st_mtime_ns
    assert extend_tokenizer(base, ["Nyarlathotep"], tmp_path) == first
    assert (first.path / "tokenizer.json").stat().st_mtime_ns == stamp
    assert extend_tokenizer(base, ["Yog-Sothoth"], tmp_path).path != first.path


def test_a_tokenizer_without_rules_is_refused(base: Path, tmp_path: Path) -> None:
    (tmp_path / "slow").mkdir()
    for file in base.iterdir():
        (tmp_path / "slow" / file.name).write_bytes(file.read_bytes())
    (tmp_path / "slow" / "tokenizer.json").unlink()
    with pytest.raises(PipelineError, match=r"tokenizer"):
        extend_tokenizer(tmp_path / "slow", ["Nyarlathotep"], tmp_path / "tokenizers")


def test_a_file_has_a_token_on_each_line(tmp_path: Path) -> None:
    path = tmp_path / "names.txt"
    path.write_text("\ufeffNyarlathotep\n\n  Shub-Niggurath \nNyarlathotep\n", "utf-8")
    assert read_tokens(path) == ("Nyarlathotep", "Shub-Niggurath")


def test_in_a_json_list_blanks_count(tmp_path: Path) -> None:
    path = tmp_path / "names.json"
    path.write_text(json.dumps([" Nyarlathotep", "Nyarlathotep"]), "utf-8")
    assert read_tokens(path) == (" Nyarlathotep", "Nyarlathotep")


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"", "holds 0 tokens"),
        (b"\n\n", "holds 0 tokens"),
        (b"\xff\xfe", "is not UTF-8"),
        (b"good\nbad\x07bell", r":2: .* cannot be printed"),
        (b"x" * 201, r":1: .* longer than 200 characters"),
        (b"[1]", "entry 1 is 1, not a string"),
        (b'["a"', "begins as a JSON list does"),
    ],
)
def test_a_file_that_makes_no_sense_is_refused_with_its_line(
    tmp_path: Path, content: bytes, message: str
) -> None:
    path = tmp_path / "tokens.txt"
    path.write_bytes(content)
    with pytest.raises(UsageError, match=f"--extra-tokens .*{message}"):
        read_tokens(path)


def test_a_file_that_is_not_there_is_refused(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="No such file"):
        read_tokens(tmp_path / "none.txt")

"""Sizes in tokens: any fast tokenizer, each text tokenized once, the cuts where they were."""

from itertools import pairwise
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers

from pipeline.corpus import tokenizing
from pipeline.corpus.chunking import chunk_ends
from pipeline.corpus.tokenizing import TokenPlaces, find_tokenizer, tokenizer_file
from pipeline.errors import PipelineError
from tests.corpus.test_chunking import prose


def save_tokenizer(folder: Path, vocabulary: int = 400) -> Path:
    """A byte-level BPE tokenizer, as a folder of transformers has it."""
    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=vocabulary, special_tokens=["<s>", "</s>"], show_progress=False,
        initial_alphabet=sorted(pre_tokenizers.ByteLevel.alphabet()),
    )  # fmt: skip
    tokenizer.train_from_iterator([prose(20_000)], trainer)
    # As in files that were made for short sentences.
    tokenizer.enable_truncation(16)
    tokenizer.enable_padding(length=16)
    folder.mkdir(exist_ok=True)
    tokenizer.save(str(folder / "tokenizer.json"))
    return folder


@pytest.fixture(scope="module")
def tokenizer(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return save_tokenizer(tmp_path_factory.mktemp("tokenizers") / "tiny") / "tokenizer.json"


def count(tokenizer: Path, text: str) -> int:
    own = Tokenizer.from_file(str(tokenizer))
    own.no_truncation()
    own.no_padding()
    return len(own.encode(text, add_special_tokens=False))


def test_every_token_is_counted_once_and_where_it_begins(tokenizer: Path) -> None:
    text = prose(30_000)
    places = TokenPlaces(text, tokenizer)
    assert places.units(0) == 0
    assert places.units(len(text)) == count(tokenizer, text)
    assert places.place(places.units(len(text))) == len(text)
    for unit in range(0, places.units(len(text)), 97):
        assert places.units(places.place(unit)) == unit


def test_a_long_text_is_tokenized_in_pieces_that_change_nothing(
    tokenizer: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    text = prose(60_000)
    whole = TokenPlaces(text, tokenizer)
    monkeypatch.setattr(tokenizing, "_PIECE", 700)
    pieces = TokenPlaces(text, tokenizer)
    step = range(0, len(text), 131)
    assert [whole.units(at) for at in step] == [pieces.units(at) for at in step]


@settings(deadline=None, max_examples=60)
@given(text=st.text(alphabet="ab é👩🏽霧\n</s>", max_size=200), target=st.integers(1, 12))
def test_chunks_of_tokens_joined_are_the_text(tokenizer: Path, text: str, target: int) -> None:
    places = TokenPlaces(text, tokenizer)
    ends = chunk_ends(text, target, 1, measure=places)
    assert ends == sorted(set(ends))
    assert ends[-1:] == ([len(text)] if text else [])


def test_chunks_have_as_many_tokens_as_asked_by_themselves_too(tokenizer: Path) -> None:
    text = prose(200_000)
    places = TokenPlaces(text, tokenizer)
    ends = chunk_ends(text, 2000, 1700, measure=places)
    for start, end in pairwise([0, *ends]):
        tokens = places.units(end) - places.units(start)
        assert 1700 <= tokens <= 2000
        assert abs(count(tokenizer, text[start:end]) - tokens) <= 2


def test_what_looks_like_an_end_token_is_plain_text(tokenizer: Path) -> None:
    assert TokenPlaces("</s>", tokenizer).units(4) > 1


def test_a_folder_and_its_file_are_found_and_named_by_their_content(tmp_path: Path) -> None:
    one = save_tokenizer(tmp_path / "one")
    found = find_tokenizer(str(one))
    assert found.name.startswith("one (")
    assert tokenizer_file(found, tmp_path) == one / "tokenizer.json"
    file = find_tokenizer(str(one / "tokenizer.json"))
    assert tokenizer_file(file, tmp_path) == one / "tokenizer.json"
    save_tokenizer(tmp_path / "one", vocabulary=280)
    assert find_tokenizer(str(one)).name != found.name


@pytest.mark.parametrize(
    ("spec", "sentence"),
    [
        ("no such/thing at all", "'no such/thing at all' is not there"),
        ("", "'' is not there"),
        ("someone/no-such-tokenizer", "someone/no-such-tokenizer is not on this disk"),
    ],
)
def test_a_tokenizer_that_is_not_there_is_one_sentence(
    spec: str, sentence: str, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    import huggingface_hub.constants

    monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_OFFLINE", True)
    with pytest.raises(PipelineError, match=sentence):
        find_tokenizer(spec)


def test_a_folder_or_a_file_that_is_no_tokenizer_is_named(tmp_path: Path) -> None:
    with pytest.raises(PipelineError, match="has no tokenizer in it"):
        find_tokenizer(str(tmp_path))
    (tmp_path / "tokenizer.json").write_text("{}")
    with pytest.raises(PipelineError, match="is no tokenizer that can be read"):
        TokenPlaces("text", tmp_path / "tokenizer.json")
    (tmp_path / "tokenizer.json").rename(tmp_path / "tokenizer_config.json")
    found = find_tokenizer(str(tmp_path))
    with pytest.raises(PipelineError, match="cannot be used"):
        tokenizer_file(found, tmp_path)

"""Tokenized once: used again only if nothing changed, continued where it was stopped."""

import pickle
import shutil
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

import pytest

from pipeline.corpus import token_cache
from pipeline.corpus.encoding import CUT_OFF, TOO_LONG, Encoder, EncodeSettings, Overlong, fit
from pipeline.corpus.token_cache import EMPTY, Example, open_or_build
from pipeline.corpus.token_store import HEADER, IDS, TokenStore
from pipeline.errors import PipelineError
from tests.tokenizer_families import TALE, llama3, qwen

LENGTH = 64
SETTINGS = EncodeSettings(LENGTH)


@pytest.fixture(scope="module")
def saved(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with a tokenizer."""
    directory = tmp_path_factory.mktemp("tokenizer")
    llama3().save_pretrained(directory)
    return directory


@pytest.fixture(autouse=True)
def small_parts(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(token_cache, "PART_CHARACTERS", 1500)


def novels(n: int = 6) -> list[Example]:
    return [
        Example(f"n{i}", {"text": f"{i}. " + TALE * (1 + i % 3)}, "novels" if i % 2 else "letters")
        for i in range(n)
    ]


def chats(n: int = 6) -> list[Example]:
    return [
        Example(
            f"c{i}",
            {
                "messages": [
                    {"role": "user", "content": f"{i}?"},
                    {"role": "assistant", "content": "No. " * (i * 4 + 1)},
                ]
            },
        )
        for i in range(n)
    ]


def rows(store: TokenStore) -> list[tuple[list[int], list[bool] | None]]:
    read = (store.row(i) for i in range(len(store)))
    return [(ids.tolist(), None if mask is None else mask.tolist()) for ids, mask in read]


def parts_made(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """The keys of the parts that are written from now on."""
    made: list[str] = []
    real = token_cache._write_part

    def noted(*args: Any) -> int:
        made.append(args[-1].key)
        return real(*args)

    monkeypatch.setattr(token_cache, "_write_part", noted)
    return made


@pytest.mark.parametrize("examples", [novels(), chats()], ids=["novels", "chats"])
def test_the_rows_are_those_of_each_example_in_order(
    tmp_path: Path, saved: Path, examples: list[Example]
) -> None:
    store = open_or_build(tmp_path / "tokens", examples, saved, SETTINGS)
    encoder = Encoder(llama3())
    expected = [
        (example.collection, row)
        for example in examples
        for row in fit(encoder.encode(example.content), LENGTH, "drop").rows
    ]
    masked = examples[0].id == "c0"
    assert rows(store) == [(row.ids, row.mask() if masked else None) for _, row in expected]
    assert store.collections() == [name for name, _ in expected]


def elsewhere(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """Let work be pickled as it is for other processes, which take seconds to start; with how many
    processes it was asked for."""
    asked: list[int] = []

    def pickled(function: Any, items: Iterable[Any], jobs: int) -> Iterator[Any]:
        asked.append(jobs)
        for item in items:
            work, given = pickle.loads(pickle.dumps((function, item)))
            yield pickle.loads(pickle.dumps(work(given)))

    monkeypatch.setattr(token_cache, "map_in_order", pickled)
    return asked


def test_several_processes_write_what_one_does(
    tmp_path: Path, saved: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    one = open_or_build(tmp_path / "one", novels(), saved, SETTINGS, jobs=1)
    asked = elsewhere(monkeypatch)
    two = open_or_build(tmp_path / "two", novels(), saved, SETTINGS, jobs=2)
    assert asked == [2]
    assert rows(one) == rows(two)
    assert (tmp_path / "one" / HEADER).read_bytes() == (tmp_path / "two" / HEADER).read_bytes()


def test_little_is_not_worth_starting_processes(
    tmp_path: Path, saved: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked = elsewhere(monkeypatch)
    open_or_build(tmp_path / "tokens", novels(2), saved, SETTINGS, jobs=8)
    assert asked == [1]


def test_what_is_there_is_used_again(
    tmp_path: Path, saved: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    before = rows(open_or_build(tmp_path / "tokens", novels(), saved, SETTINGS))
    made = parts_made(monkeypatch)
    assert rows(open_or_build(tmp_path / "tokens", novels(), saved, SETTINGS)) == before
    assert made == []


def test_with_a_key_for_the_data_the_examples_are_not_looked_at(
    tmp_path: Path, saved: Path
) -> None:
    def never() -> Iterator[Example]:
        yield pytest.fail("looked at")

    open_or_build(tmp_path / "tokens", iter(novels()), saved, SETTINGS, data_key="novels 1")
    store = open_or_build(tmp_path / "tokens", never(), saved, SETTINGS, data_key="novels 1")
    assert len(store) > 6
    with pytest.raises(pytest.fail.Exception):
        open_or_build(tmp_path / "tokens", never(), saved, SETTINGS, data_key="novels 2")


@pytest.mark.parametrize("what", ["data", "settings", "tokenizer"])
def test_what_was_made_from_something_else_is_made_anew_and_it_is_said(
    tmp_path: Path, saved: Path, what: str, capsys: pytest.CaptureFixture[str]
) -> None:
    examples, settings, tokenizer = novels(), SETTINGS, saved
    open_or_build(tmp_path / "tokens", examples, tokenizer, settings)
    if what == "data":
        examples = [*examples[:-1], Example("n5", {"text": "Another tale."}, "novels")]
    elif what == "settings":
        settings = EncodeSettings(LENGTH, overlap=4)
    else:
        tokenizer = tmp_path / "other"
        shutil.copytree(saved, tokenizer)
        changed = llama3()
        changed.add_tokens(["lamp"])
        changed.save_pretrained(tokenizer)
    store = open_or_build(tmp_path / "tokens", examples, tokenizer, settings)
    assert f"made with other {what}." in capsys.readouterr().err
    fresh = open_or_build(tmp_path / "fresh", examples, tokenizer, settings)
    assert rows(store) == rows(fresh)


def test_a_tokenizer_changed_in_its_own_folder_is_noticed(tmp_path: Path, saved: Path) -> None:
    tokenizer = tmp_path / "tokenizer"
    shutil.copytree(saved, tokenizer)
    before = open_or_build(tmp_path / "tokens", novels(), tokenizer, SETTINGS)
    whole = before.statistics()["tokens"]
    changed = llama3()
    changed.add_tokens(["The lamp went out."])
    changed.save_pretrained(tokenizer)
    after = open_or_build(tmp_path / "tokens", novels(), tokenizer, SETTINGS)
    assert after.statistics()["tokens"] < whole


def test_a_damaged_store_is_made_anew_with_a_warning(
    tmp_path: Path, saved: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    before = rows(open_or_build(tmp_path / "tokens", novels(), saved, SETTINGS))
    path = tmp_path / "tokens" / IDS
    data = bytearray(path.read_bytes())
    data[7] ^= 1
    path.write_bytes(data)
    assert rows(open_or_build(tmp_path / "tokens", novels(), saved, SETTINGS)) == before
    assert "ids.bin has changed. It is made anew." in capsys.readouterr().err


# --- stopped --------------------------------------------------------------------------------------


class Killed(BaseException):
    pass


def stop_after(parts: int, directory: Path, saved: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Build and be killed when so many parts are written."""
    real = token_cache._write_part
    done: list[int] = []

    def dying(*args: Any) -> int:
        if len(done) == parts:
            raise Killed
        done.append(1)
        return real(*args)

    with monkeypatch.context() as patch:
        patch.setattr(token_cache, "_write_part", dying)
        with pytest.raises(Killed):
            open_or_build(directory, novels(), saved, SETTINGS)


def test_what_was_stopped_goes_on_with_the_parts_that_are_there(
    tmp_path: Path, saved: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    stop_after(2, tmp_path / "tokens", saved, monkeypatch)
    assert not (tmp_path / "tokens").exists()
    made = parts_made(monkeypatch)
    store = open_or_build(tmp_path / "tokens", novels(), saved, SETTINGS)
    again = len(made)
    straight = open_or_build(tmp_path / "straight", novels(), saved, SETTINGS)
    assert len(made) - again == again + 2
    assert rows(store) == rows(straight)
    assert store.statistics() == straight.statistics()


@pytest.mark.parametrize("how", ["a byte changed", "cut short"])
def test_a_part_that_is_damaged_is_made_again(
    tmp_path: Path, saved: Path, monkeypatch: pytest.MonkeyPatch, how: str
) -> None:
    stop_after(2, tmp_path / "tokens", saved, monkeypatch)
    part = sorted((tmp_path / "tokens.building" / "parts").glob("*.npz"))[0]
    data = bytearray(part.read_bytes())
    data[len(data) // 4] ^= 1
    part.write_bytes(data if how == "a byte changed" else data[: len(data) // 2])
    made = parts_made(monkeypatch)
    store = open_or_build(tmp_path / "tokens", novels(), saved, SETTINGS)
    assert part.stem in made
    assert rows(store) == rows(open_or_build(tmp_path / "straight", novels(), saved, SETTINGS))


def test_a_folder_with_something_else_in_it_is_not_replaced(tmp_path: Path, saved: Path) -> None:
    (tmp_path / "letters").mkdir()
    (tmp_path / "letters" / "from-home.txt").write_text("Dear son")
    with pytest.raises(PipelineError, match="holds something, but no token store"):
        open_or_build(tmp_path / "letters", novels(), saved, SETTINGS)
    assert (tmp_path / "letters" / "from-home.txt").exists()


def test_nothing_is_left_beside_the_store(tmp_path: Path, saved: Path) -> None:
    open_or_build(tmp_path / "here" / "tokens", chats(), saved, SETTINGS)
    left = {p.name for p in (tmp_path / "here").iterdir() if not p.name.startswith(".tmp-")}
    assert left == {"tokens"}
    assert not (tmp_path / "here" / "tokens" / "parts").exists()


# --- counts ---------------------------------------------------------------------------------------


@pytest.mark.parametrize("policy", ["drop", "truncate", "split"])
def test_every_token_is_in_a_row_or_counted_as_lost(
    tmp_path: Path, saved: Path, policy: Overlong
) -> None:
    examples = [*chats(), *novels(2)]
    store = open_or_build(tmp_path / "tokens", examples, saved, EncodeSettings(32, 0, policy))
    said = store.statistics()
    lost = sum(said["dropped"].values())
    assert said["tokens"] == sum(
        len(Encoder(llama3()).encode(example.content).ids) for example in examples
    )
    assert said["stored"] == int(store.lengths().sum())
    assert said["stored"] + lost == said["tokens"] + said["repeated"]
    assert said["examples"] == len(examples)
    assert said["characters"] == sum(example.characters for example in examples)
    masks = [mask for _, mask in rows(store) if mask is not None]
    assert said["predicted"] == sum(map(sum, masks))
    reason = {"drop": TOO_LONG, "truncate": CUT_OFF}.get(policy)
    assert set(said["dropped"]) == ({reason} if reason else set())
    if reason:
        assert said["left_out"][reason][0].startswith("c")


def test_examples_without_text_are_counted_and_named(tmp_path: Path, saved: Path) -> None:
    examples = [Example("blank", {"text": " \n"}), *novels(1)]
    said = open_or_build(tmp_path / "tokens", examples, saved, SETTINGS).statistics()
    assert said["empty"] == 1
    assert said["left_out"] == {EMPTY: ["blank"]}


def test_counts_are_kept_for_each_source(tmp_path: Path, saved: Path) -> None:
    said = open_or_build(tmp_path / "tokens", novels(), saved, SETTINGS).statistics()
    by_source = said["collections"]
    assert set(by_source) == {"novels", "letters"}
    for name in ("examples", "characters", "tokens", "rows", "stored", "predicted"):
        assert by_source["novels"][name] + by_source["letters"][name] == said[name]


def test_an_example_that_cannot_be_encoded_is_named(tmp_path: Path) -> None:
    tokenizer = qwen()
    tokenizer.chat_template = "{{ raise_exception('no') }}"
    tokenizer.save_pretrained(tmp_path / "tokenizer")
    with pytest.raises(PipelineError, match=r"Example 'c0': The chat template of .*: no"):
        open_or_build(tmp_path / "tokens", chats(), tmp_path / "tokenizer", SETTINGS)


def test_a_folder_without_a_tokenizer_is_refused(tmp_path: Path) -> None:
    (tmp_path / "empty").mkdir()
    with pytest.raises(PipelineError, match="cannot be loaded"):
        open_or_build(tmp_path / "tokens", novels(), tmp_path / "empty", SETTINGS)

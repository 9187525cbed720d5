"""What a remote says of itself is hostile: the truth, or nothing, and never a way out."""

import json
from pathlib import PurePosixPath
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pipeline.files import FileFact
from pipeline.training.checkpoints import Broken
from pipeline.training.remote_registry import (
    Name,
    Registry,
    RemoteCheckpoint,
    Session,
    read_marker,
    read_registry,
    read_session,
    write_registry,
    write_session,
)

OWNER = Session(3, "ab12cd34")
FILES = (FileFact("model.safetensors", 1000, "a" * 64), FileFact("state.json", 10, "b" * 64))
KNOWN = [RemoteCheckpoint(Name(step, OWNER), FILES, "2026-01-01T00:00:00+00:00") for step in (2, 1)]
DATA = write_registry("spring", OWNER, KNOWN, [Name(3, OWNER)])


def is_harmless(registry: Registry) -> bool:
    """Whether every path that it leads to is below the folder of the run."""
    for found in registry.checkpoints:
        for path in [found.name.marker, *(f"{found.name}/{fact.path}" for fact in found.files)]:
            parts = PurePosixPath(path).parts
            if len(parts) != 2 or any(part.startswith((".", "/", "~")) for part in parts):
                return False
            if "\\" in path or "\0" in path or any(fact.size < 0 for fact in found.files):
                return False
    return True


def test_what_was_written_is_read() -> None:
    registry = read_registry(DATA)
    assert registry == Registry("spring", OWNER, tuple(KNOWN))
    assert json.loads(DATA)["version"] == 1
    assert [entry["status"] for entry in json.loads(DATA)["checkpoints"]] == ["complete"] * 2
    assert json.loads(DATA)["partial"] == ["step-00000003-0003-ab12cd34"]


def test_where_in_a_series_a_checkpoint_was_goes_from_its_marker_into_the_registry() -> None:
    fact = {"size": 1, "sha256": "a" * 64}
    cursor: dict[str, Any] = {"segment": "lists/2", "number": 2, "of": 3, "sequences": 7}

    def marked(told: Any) -> RemoteCheckpoint:
        value = {"version": 1, "step": 2, "files": {"x": fact}, "about": {"cursor": told}}
        return read_marker(json.dumps(value).encode(), Name(2, OWNER))

    data = write_registry("spring", OWNER, [marked(cursor)])
    assert json.loads(data)["checkpoints"][0]["cursor"] == cursor
    registry = read_registry(data)
    assert registry is not None
    assert dict(registry.checkpoints[0].cursor) == cursor
    for wrong in (None, [cursor], {"segment": "\x1b[2J"}, {"segment": "\ud800"}, {"number": "2"},
                  {"number": True}, {"number": -1}, {"path": "../x"}):  # fmt: skip
        assert marked(wrong).cursor == ()


@given(st.integers(0, len(DATA) - 1))
@settings(max_examples=200)
def test_a_registry_that_breaks_off_is_none(length: int) -> None:
    assert read_registry(DATA[:length].rstrip()) in (None, read_registry(DATA))


@given(st.integers(0, len(DATA) - 1), st.binary(max_size=4), st.integers(0, 5))
@settings(max_examples=400)
def test_damage_makes_it_none_or_something_harmless(at: int, new: bytes, cut: int) -> None:
    registry = read_registry(DATA[:at] + new + DATA[at + cut :])
    assert registry is None or is_harmless(registry)


EVIL = [
    "../x", "/etc/passwd", "..", ".", "", "a/b", "a\\b", "C:x", "\0", "~root", ".hidden", "-" * 200,
    "COMPLETE.json", "step-00000001-0001-ab12cd34/../x", "step-1-1-ab12cd34", "x" * 101,
    "step-000000001-0001-ab12cd34", "step-00000001-9999999999-ab12cd34", "a\n", "．．/x", 7, None,
]  # fmt: skip
JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.sampled_from(EVIL),
    lambda inner: (
        st.lists(inner, max_size=3)
        | st.dictionaries(
            st.sampled_from([e for e in EVIL if isinstance(e, str)]), inner, max_size=3
        )
    ),
    max_leaves=5,
)


def places(value: Any, path: tuple[Any, ...] = ()) -> list[tuple[Any, ...]]:
    items = value.items() if isinstance(value, dict) else enumerate(value)
    found = [(*path, key) for key, _ in items]
    for key, inner in value.items() if isinstance(value, dict) else enumerate(value):
        if isinstance(inner, dict | list):
            found += places(inner, (*path, key))
    return found


@given(st.sampled_from(places(json.loads(DATA))), JSON, st.sampled_from(EVIL))
@settings(max_examples=400)
def test_no_value_anywhere_in_it_leads_out(where: tuple[Any, ...], value: Any, key: Any) -> None:
    registry = json.loads(DATA)
    inner = registry
    for part in where[:-1]:
        inner = inner[part]
    inner[where[-1]] = value
    if isinstance(inner, dict) and isinstance(key, str):
        inner[key] = value
    found = read_registry(json.dumps(registry).encode())
    assert found is None or is_harmless(found)


@given(st.sampled_from(EVIL))
def test_no_name_of_a_file_in_a_marker_leads_out(name: Any) -> None:
    fact = {"size": 1, "sha256": "a" * 64}
    marker = {"version": 1, "step": 5, "files": {str(name): fact, "good.json": fact}, "about": {}}
    data = json.dumps(marker).encode()
    if name in (7, None, "step-1-1-ab12cd34", "step-000000001-0001-ab12cd34") or (
        name == "step-00000001-9999999999-ab12cd34"
    ):
        assert len(read_marker(data, Name(5, OWNER)).files) == 2, "these are names like any other"
    else:
        with pytest.raises(Broken):
            read_marker(data, Name(5, OWNER))


@pytest.mark.parametrize("data", [b"", b"[" * 100_000, b'{"a":' * 100_000, b"\xff", b"1", b"null"])
def test_what_is_no_json_or_too_deep_is_nothing(data: bytes) -> None:
    assert read_registry(data) is None
    assert read_session(data) == {"run": None, "begun": None}
    with pytest.raises(Broken):
        read_marker(data, Name(5, OWNER))


@given(st.integers(0, 10**9), st.integers(0, 10**9), st.from_regex(r"[0-9a-f]{8}", fullmatch=True))
def test_names_are_read_as_they_are_written_and_sort_as_their_steps(
    step: int, term: int, session: str
) -> None:
    name = Name(step, Session(term, session))
    assert Name.parse(str(name)) == name and Session.parse(name.by.path) == name.by
    assert Name(step + 1, Session(0, "00000000")) > name
    assert Name(step, Session(term + 1, "00000000")) > name


@given(st.text(max_size=60) | st.sampled_from([e for e in EVIL if isinstance(e, str)]))
def test_no_other_text_is_a_name(text: str) -> None:
    name, session = Name.parse(text), Session.parse(text)
    assert name is None or str(name) == text
    assert session is None or session.path.endswith(text)


def test_a_session_says_which_run_it_is_of() -> None:
    told = read_session(write_session(OWNER, "spring"))
    assert told["run"] == "spring" and told["begun"]
    assert read_session(b'{"run": "../x", "begun": "<script>"}') == {"run": None, "begun": None}

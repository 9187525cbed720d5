"""Checkpoints that are whole by their hashes and say what makes no sense, as one from elsewhere
may: a run goes on with such a one, or sets it aside with a word and takes the one before it."""

import json
import shutil
import tempfile
from collections.abc import Iterator
from hashlib import sha256
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pipeline.errors import PipelineError
from pipeline.status import unfinished_run
from pipeline.training import checkpoints
from pipeline.training.checkpointing import RunCheckpoints
from pipeline.training.checkpoints import COMPLETE
from pipeline.training.libraries import versions
from pipeline.training.run_state import STATE, Progress, load_random, load_state, save_state
from pipeline.training.save_policy import make_policy
from pipeline.workspace import Workspace
from tests.training.test_run_state import parts, steps

Way = tuple[str | int, ...]
IDENTITY = {"learning_rate": 0.1, "segments": [["a", 4, "0" * 64]]}
STEPS, NEWEST = 6, "step-00000002"

leaves = st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=5)
anything = leaves | st.sampled_from([[], {}, [1], {"a": 1}, 10**400, -1, 2**60, "1", "[" * 5])


def run_in(root: Path) -> RunCheckpoints:
    return RunCheckpoints(
        root / "6_adapter" / "checkpoints", IDENTITY, make_policy(), STEPS, sequences=24,
        sequences_per_step=4,
    )  # fmt: skip


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A real run of two checkpoints, with an optimizer that keeps numbers beside its tensors."""
    root = tmp_path_factory.mktemp("real")
    these, saves = parts(optimizer="adafactor"), run_in(root)
    about: dict[str, Any] = {
        "run": saves.run, "steps": STEPS, "reason": "steps", "identity": IDENTITY,
        "versions": versions("torch"), "follows": {"f" * 16: 1}, "command": ["train"],
        "cursor": {"segment": "a", "number": 1, "of": 1, "sequences": 4, "size": 4},
    }  # fmt: skip
    for step in (1, 2):
        steps(these, 1)
        progress = Progress(step, 4 * step, 70 * step, 80 * step, 1.5, about["cursor"])
        checkpoints.write(
            saves.folder, step, lambda folder: save_state(folder, these, progress), about  # noqa: B023
        )  # fmt: skip
    return root


def ways(value: Any, way: Way = ()) -> Iterator[Way]:
    """The way to each value within a value."""
    yield way
    if isinstance(value, dict | list):
        for key, item in value.items() if isinstance(value, dict) else enumerate(value):
            yield from ways(item, (*way, key))


def put(value: Any, way: Way, new: Any) -> Any:
    """`value` with `new` in that place."""
    if not way:
        return new
    inner = value
    for key in way[:-1]:
        inner = inner[key]
    inner[way[-1]] = new
    return value


def change(path: Path, name: str, data: bytes) -> None:
    """Give a file of a checkpoint other contents, and the marker their hash."""
    (path / name).write_bytes(data)
    if name != COMPLETE:
        record = json.loads((path / COMPLETE).read_bytes())
        record["files"][name] = {"size": len(data), "sha256": sha256(data).hexdigest()}
        (path / COMPLETE).write_text(json.dumps(record))


def gone_on(root: Path) -> int | None:
    """Go on with the run, as stage 6 does, and train a step. Returns where from."""
    saves = run_in(root)
    saves.find("auto")
    unfinished_run(Workspace(root))
    if saves.found is None:
        return None
    these = parts(optimizer="adafactor")
    load_state(saves.found.path, these)
    load_random(saves.found.path)
    steps(these, 1)
    return saves.found.step


@given(data=st.data())
@settings(max_examples=150, deadline=None)
def test_whatever_a_whole_checkpoint_says_a_run_goes_on_with_it_or_with_the_one_before(
    made: Path, data: st.DataObject
) -> None:
    with tempfile.TemporaryDirectory() as place:
        root = Path(place) / "run"
        shutil.copytree(made, root)
        path = run_in(root).folder / NEWEST
        name = data.draw(st.sampled_from([COMPLETE, STATE]))
        value = json.loads((path / name).read_bytes())
        way = data.draw(st.sampled_from([way for way in ways(value) if way[:1] != ("files",)]))
        change(path, name, json.dumps(put(value, way, data.draw(anything))).encode())
        try:
            assert gone_on(root) in (1, 2)
        except PipelineError as error:
            # What can only be seen beside the model is refused in a sentence.
            assert "does not fit this run" in error.message, way


@pytest.mark.parametrize(
    ("state", "word"),
    [
        (b"[" * 200_000, "nested too deeply"),
        (b"[]", "does not say how far"),
        (b'{"progress": {"step": 1}}', "is of step 1"),
        (b'{"progress": {"step": 2, "sequences": "x"}}', "sequences is 'x'"),
        (b'{"progress": {"step": 2, "sequences": null}}', "sequences is None"),
        (b'{"progress": {"step": 2}, "random": {}}', "random is not as a run writes it"),
    ],
)
def test_a_state_that_makes_no_sense_is_set_aside_with_a_word(
    made: Path, tmp_path: Path, state: bytes, word: str, capfd: pytest.CaptureFixture[str]
) -> None:
    root = tmp_path / "run"
    shutil.copytree(made, root)
    change(run_in(root).folder / NEWEST, STATE, state)
    assert gone_on(root) == 1
    said = " ".join(capfd.readouterr().err.split())
    assert word in said and f"broken-{NEWEST}" in said


def test_a_checkpoint_that_is_as_it_was_written_is_gone_on_with(made: Path, tmp_path: Path) -> None:
    shutil.copytree(made, tmp_path / "run")
    assert gone_on(tmp_path / "run") == 2

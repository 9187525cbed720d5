"""Who goes back in a run stays there: the same command never takes what was left behind, neither
here nor from a remote, and nothing of it is lost."""

import json
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from pipeline.errors import PipelineError
from pipeline.training import checkpoints
from pipeline.training.attempts import (
    FIRST,
    attempt_of,
    local_attempt,
    read_attempt,
    set_others_aside,
)
from pipeline.training.checkpointing import RunCheckpoints
from pipeline.training.checkpoints import Checkpoint
from pipeline.training.remote_copies import RemoteCopies
from pipeline.training.run_state import Progress
from pipeline.training.save_policy import doomed, make_policy
from tests.lying_remote import Remote, lying

URL = "lying://bucket/run"
STEPS = 6
POLICY = make_policy(save_minutes=0, keep_last=2)


@pytest.fixture(autouse=True)
def states_without_a_model(monkeypatch: pytest.MonkeyPatch) -> None:
    def save_state(folder: Path, parts: Any, progress: Progress) -> None:
        state = {"progress": {"step": progress.step}, "by": parts}
        (folder / "state.json").write_text(json.dumps(state))

    monkeypatch.setattr("pipeline.training.checkpointing.save_state", save_state)
    for module in ("checkpoints", "remote_fetch"):  # nobody pulls the plug here
        monkeypatch.setattr(f"pipeline.training.{module}.sync", lambda path: None)


@dataclass
class Machine:
    """One that trains a run of six steps, with copies at `url` if there is one."""

    root: Path
    url: str | None = None

    @contextmanager
    def session(self, resume: str = "auto") -> Iterator[RunCheckpoints]:
        saves = RunCheckpoints(self.root, {"data": "the same"}, POLICY, STEPS)
        if self.url is None:
            saves.find(resume)
            yield saves
            return
        copies = RemoteCopies(
            self.url, run=saves.run, sleep=lambda seconds: None,
            keep=lambda steps: doomed(steps, POLICY, best=None, last_good=None),
        )  # fmt: skip
        with copies as saves.remote:
            saves.find(resume)
            yield saves
            outcome = copies.finish(30)
            assert outcome.ok, outcome

    def train(self, by: str, *steps: int, resume: str = "auto") -> tuple[int, str] | None:
        """Save after `steps`, as `by`; a kill after the last. Returns where the session began: the
        step, and who had saved it."""
        with self.session(resume) as saves:
            for step in steps:
                saves.save(by, Progress(step), "steps", self.root, None)  # type: ignore[arg-type]
                saves.finish(30)
            return saved_by(saves.found)

    @property
    def folder(self) -> Path:
        return self.root / RunCheckpoints(self.root, {"data": "the same"}, POLICY, STEPS).run


def saved_by(found: Checkpoint | None) -> tuple[int, str] | None:
    return (
        (found.step, json.loads((found.path / "state.json").read_text())["by"]) if found else None
    )


@pytest.fixture
def remote() -> Iterator[Remote]:
    with lying() as there:
        yield there


def there(remote: Remote) -> list[str]:
    """Steps at the remote, and who saved them."""
    found = sorted(name for name in remote.objects if name.endswith("/state.json"))
    return [
        f"{int(name.split('/')[-2][5:13])} {json.loads(remote.objects[name])['by']}"
        for name in found
    ]


# What each way to go back begins with, after a run has come to step 4, or to its end with --force.
WAYS = {
    "never": ("never", 4, None),
    "path": ("path", 4, (2, "old")),
    "force": ("unfinished", 6, None),
}


@pytest.mark.parametrize("way", WAYS)
@pytest.mark.parametrize("url", [None, URL], ids=["local", "remote"])
@pytest.mark.parametrize("saves_before_the_kill", [0, 1])
def test_who_goes_back_and_is_killed_goes_on_from_there(
    way: str, url: str | None, saves_before_the_kill: int, remote: Remote, tmp_path: Path
) -> None:
    a = Machine(tmp_path / "a", url)
    resume, reached, start = WAYS[way]
    a.train("old", *range(2, reached + 1, 2))
    if resume == "path":
        resume = str(a.folder / "step-00000002")
    assert a.train("new", *[3][:saves_before_the_kill], resume=resume) == start
    # With --force that is the very same command again; with the others it is the plain one.
    again = "unfinished" if way == "force" else "auto"
    begun = (3, "new") if saves_before_the_kill else start
    assert a.train("newer", resume=again) == begun
    if url:
        before = there(remote)
        assert before if saves_before_the_kill else f"{reached} old" in before, "not yet in vain"
        b = Machine(tmp_path / "b", url)
        assert b.train("b", 4, resume=again) == begun, "another machine goes on with the same"
        assert f"{reached} old" not in there(remote)
        assert a.train("a", resume=again) == (4, "b")
    assert (reached, "old") in [
        saved_by(one) for folder in a.root.rglob("set-aside-*") for one in checkpoints.whole(folder)
    ], "what was left behind is not lost"


def test_a_machine_that_comes_back_sets_aside_what_it_had_done_further_on(
    remote: Remote, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    a, b = Machine(tmp_path / "a", URL), Machine(tmp_path / "b", URL)
    a.train("a", 2, 4)
    b.train("b", 3, resume="never")
    assert a.train("a", 5) == (3, "b")
    assert "is set aside, as set-aside-step-00000004/step-0" in capfd.readouterr().err
    kept = a.folder / "set-aside-step-00000004" / "step-00000004"
    assert saved_by(checkpoints.verify(kept)) == (4, "a")
    # It can be gone back to, which is one attempt more, and then that one counts everywhere.
    assert a.train("a", resume=str(kept)) == (4, "a")
    assert a.train("a", 6) == (4, "a")
    assert b.train("b") == (6, "a")


def test_who_goes_back_without_a_remote_and_then_names_it_does_not_lose_it(
    remote: Remote, tmp_path: Path
) -> None:
    a = Machine(tmp_path / "a", URL)
    a.train("old", 2, 4, 6)
    Machine(a.root).train("new", 1, resume="never")
    assert a.train("new", 2) == (1, "new")
    assert there(remote) == ["1 new", "2 new"]


def test_a_path_that_is_the_newest_is_no_other_attempt(remote: Remote, tmp_path: Path) -> None:
    a = Machine(tmp_path / "a", URL)
    a.train("a", 2, 4)
    assert a.train("a", 5, resume=str(a.folder / "step-00000004")) == (4, "a")
    assert local_attempt(a.folder) == FIRST
    assert not list(a.folder.glob("set-aside-*"))


def test_a_way_back_that_is_refused_changes_nothing(remote: Remote, tmp_path: Path) -> None:
    a = Machine(tmp_path / "a", URL)
    a.train("a", 2, 4)
    (a.folder / "step-00000002" / "state.json").write_text("{}")
    with pytest.raises(PipelineError, match=r"state.json has 2 bytes"):
        a.train("a", resume=str(a.folder / "step-00000002"))
    assert a.train("a") == (4, "a")


def test_what_was_left_behind_stays_there_until_the_attempt_has_a_copy(
    remote: Remote, tmp_path: Path
) -> None:
    a = Machine(tmp_path / "a", URL)
    a.train("old", 2, 4)
    a.train("new", resume="never")
    assert there(remote) == ["2 old", "4 old"]
    a.train("new", 1)
    assert there(remote) == ["1 new"]


def test_going_on_hashes_every_file_of_the_newest_checkpoint_once(
    remote: Remote, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    a = Machine(tmp_path / "a", URL)
    a.train("a", 2, 4)
    hashed: list[Path] = []
    sha256_file = checkpoints.sha256_file

    def noted(path: Path) -> str:
        hashed.append(path)
        return sha256_file(path)

    monkeypatch.setattr(checkpoints, "sha256_file", noted)
    a.train("a")
    assert [path.name for path in hashed] == ["state.json"]


@given(st.lists(st.none() | st.integers(1, 9), min_size=1, max_size=4), st.integers(1, 9))
@settings(max_examples=50, deadline=None, suppress_health_check=[HealthCheck.too_slow])
def test_an_attempt_goes_on_with_what_its_start_came_from_and_with_no_more(
    starts: list[int | None], step: int
) -> None:
    attempts = [FIRST]
    for start in starts:  # each from a checkpoint of the one before, or from nothing
        before = attempts[-1]
        found = None if start is None else Checkpoint(Path(), start, 0, before.noted(), "")
        attempts.append(before.next(found))
    last = attempts[-1]
    assert last.holds(last, step)
    assert max(attempts) == last
    for n, attempt in enumerate(attempts[:-1]):
        came_from = all(start is not None and step <= start for start in starts[n:])
        assert last.holds(attempt, step) == came_from
    again = read_attempt(json.loads(json.dumps(last.as_dict())))
    assert (again, again.left) == (last, last.left)


GOOD = FIRST.next(None).as_dict()


@pytest.mark.parametrize(
    "value",
    [
        None, [], "x", 7, {}, {"number": 1}, GOOD | {"number": 0}, GOOD | {"number": 10**30},
        GOOD | {"number": "1"}, GOOD | {"id": ""}, GOOD | {"id": "../../etc/passwd"},
        GOOD | {"left": []}, GOOD | {"left": {"../x": 1}}, GOOD | {"left": {"": -1}},
        GOOD | {"left": {"": "1"}}, GOOD | {"left": {"": 10**30}}, GOOD | {"left": {"": True}},
        GOOD | {"left": {f"{n:016x}": 1 for n in range(1000)}},
    ],
)  # fmt: skip
def test_what_is_no_attempt_is_taken_for_the_first(value: Any) -> None:
    assert read_attempt(GOOD).number == 1
    assert read_attempt(value) == attempt_of({"attempt": value}) == FIRST


def test_a_note_that_is_damaged_leaves_what_the_checkpoints_say(tmp_path: Path) -> None:
    attempt = FIRST.next(None)
    checkpoints.write(tmp_path, 2, lambda path: (path / "a").touch(), attempt.noted())
    checkpoints.write(tmp_path, 4, lambda path: (path / "a").touch(), {})
    (tmp_path / "attempt.json").write_text('{"number"')
    assert local_attempt(tmp_path) == attempt
    set_others_aside(tmp_path, attempt)
    assert [path.name for path in checkpoints.listed(tmp_path)] == ["step-00000002"]

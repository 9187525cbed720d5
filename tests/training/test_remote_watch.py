"""Copies beside a run: all that is whole is sent once, and no training is ever disturbed."""

import _thread
import json
import shutil
import time
from collections.abc import Callable, Iterator
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any

import pytest

from pipeline.errors import PipelineError, UsageError
from pipeline.training import checkpoints
from pipeline.training.checkpoints import COMPLETE, Checkpoint
from pipeline.training.copy_notes import COPIED
from pipeline.training.remote_copies import RemoteCopies
from pipeline.training.remote_lineage import FOLLOWS
from pipeline.training.remote_watch import Watch
from tests.lying_remote import SECRET, Remote, lying

URL = "lying://bucket/run"
RUN, LATER = "0123456789abcdef", "fedcba9876543210"
LAST = 9

Act = Callable[[], object]


def make(
    root: Path, step: int, run: str = RUN, later: float = 0, about: dict[str, Any] | None = None
) -> Checkpoint:
    """A checkpoint of a run of LAST steps, saved so many seconds later than now."""

    def files(path: Path) -> None:
        (path / "model.bin").write_bytes(f"{run} {step} ".encode() * 3000)

    more = {"run": run, "steps": LAST, **(about or {})}
    found = checkpoints.write(root / run, step, files, more)
    record = json.loads((found.path / COMPLETE).read_bytes())
    saved = datetime.fromisoformat(found.saved) + timedelta(seconds=later)
    (found.path / COMPLETE).write_text(json.dumps(record | {"saved": saved.isoformat()}))
    return checkpoints.verify(found.path)


def watch(root: Path, *acts: Act, url: str = URL, **how: Any) -> list[float]:
    """Watch while `acts` happen, each in place of a wait; then Ctrl-C. Returns the waits."""
    waits: list[float] = []
    left = list(acts)

    def sleep(seconds: float) -> None:
        waits.append(seconds)
        if not left:
            raise KeyboardInterrupt
        left.pop(0)()

    start = time.time()
    how = {"every": 60.0, "timeout": 20.0, "jitter": lambda: 0.5, **how}
    Watch(root, url, sleep=sleep, now=lambda: start + sum(waits), **how).follow()
    assert not left, "it ended before all had happened"
    return waits


def nothing() -> None:
    """A wait in which nothing happens."""


@pytest.fixture
def remote() -> Iterator[Remote]:
    with lying() as there:
        yield there


def complete(remote: Remote) -> list[int]:
    """The steps of the markers there."""
    return sorted(int(path.split("/")[-2][5:13]) for path in remote.objects if COMPLETE in path)


def test_each_whole_checkpoint_is_sent_once_and_told(
    remote: Remote, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    broken = make(tmp_path, 1).path / "model.bin"
    broken.write_bytes(b"x" * broken.stat().st_size)
    make(tmp_path, 2)
    (tmp_path / RUN / "step-00000003").mkdir()  # as a kill in the midst leaves no checkpoint

    def third() -> None:
        assert complete(remote) == [2]
        shutil.move(make(tmp_path / "elsewhere", 4).path, tmp_path / RUN)
        remote.calls.clear()

    waits = watch(tmp_path, third, nothing, nothing)
    assert complete(remote) == [2, 4] and waits == [60.0] * 4
    said = capfd.readouterr().err
    assert [said.count(f"Copied the checkpoint of step {n} to lying") for n in (2, 4)] == [1, 1]
    assert said.count("is not copied: it is broken (model.bin is not as it was written)") == 1
    assert said.rstrip().split("\n")[-1] == (
        "sync: 2 checkpoints sent to lying://bucket/run (0.1 MB), the last of step 4"
    )
    assert json.loads((tmp_path / RUN / COPIED).read_text())["step"] == 4
    lists = [path for method, path in remote.calls if method == "list"]
    assert len(lists) <= 6, "a look that finds nothing new here asks nothing there"


def test_what_is_there_already_is_not_sent_again(
    remote: Remote, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    make(tmp_path, 2)
    watch(tmp_path)
    before = dict(remote.objects)
    watch(tmp_path, nothing)
    assert remote.objects == before
    assert "sync: nothing was sent to lying://bucket/run" in capfd.readouterr().err


def test_until_done_waits_for_a_run_to_begin_and_to_end(remote: Remote, tmp_path: Path) -> None:
    training = [True]

    def last() -> None:
        make(tmp_path, LAST)

    def end() -> None:
        assert complete(remote) == [4, LAST], "sent at once, though the training is still at work"
        training.clear()

    acts = [nothing, lambda: make(tmp_path, 4), last, nothing, end]
    waits = watch(tmp_path, *acts, until_done=True, is_training=lambda: bool(training))
    assert len(waits) == len(acts), "it ended by itself"


def test_a_remote_that_fails_is_told_and_tried_again_more_and_more_seldom(
    remote: Remote, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    make(tmp_path, LAST)
    remote.fail = 1.0
    waits = watch(tmp_path, *[nothing] * 2, remote.heal, until_done=True)
    assert waits == [1.0, 2.0, 4.0] and complete(remote) == [LAST]
    said = capfd.readouterr().err
    assert said.count("It is tried again in") == 3 and SECRET not in said


def test_if_the_last_one_never_arrives_that_is_the_end_and_an_error(
    remote: Remote, tmp_path: Path
) -> None:
    make(tmp_path, 4)
    acts: list[Act] = [lambda: make(tmp_path, LAST), *[nothing] * 4]

    def blocks(method: str, path: str) -> bool:
        remote.fail = float(f"{LAST}-" in path.rpartition("-")[0])
        return False

    remote.blocks = blocks
    with pytest.raises(PipelineError, match=r"last checkpoint \(step 9\) never arrived") as error:
        watch(tmp_path, *acts, until_done=True)
    assert error.value.exit_code == 1 and complete(remote) == [4]


def test_ctrl_c_is_a_good_end_unless_the_remote_was_failing(remote: Remote, tmp_path: Path) -> None:
    watch(tmp_path)
    make(tmp_path, 4)
    remote.fail = 1.0
    with pytest.raises(PipelineError, match=r"\(step 4\) never arrived at lying"):
        watch(tmp_path, nothing)


def test_credentials_that_are_refused_from_the_start_end_it_at_once(
    remote: Remote, tmp_path: Path
) -> None:
    remote.fail, remote.error = 1.0, lambda: PermissionError(SECRET)
    with pytest.raises(PipelineError, match="Access to lying://bucket/run is denied"):
        watch(tmp_path)


def test_ctrl_c_in_an_upload_breaks_it_off_and_it_never_counts(
    remote: Remote, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    make(tmp_path, 4)

    def blocks(method: str, path: str) -> bool:
        if method == "put" and "model.bin" in path:
            _thread.interrupt_main()
            return True
        return False

    remote.blocks = blocks
    watch(tmp_path)
    assert complete(remote) == []
    assert [path.name for path in (tmp_path / RUN).iterdir()] == ["step-00000004"]
    assert "nothing was sent to lying://bucket/run; that of step 4 is not there yet" in (
        capfd.readouterr().err
    )


# --- beside a training that sends by itself -------------------------------------------------------


def test_what_is_new_is_left_to_the_training_that_owns_the_run_for_one_round(
    remote: Remote, tmp_path: Path
) -> None:
    with RemoteCopies(URL, run=RUN, keep=lambda n: n[:-1], sleep=lambda _: None) as training:
        training.offer(make(tmp_path, 4))
        assert training.finish(20).ok
        own = dict(remote.objects)

        def fifth() -> None:
            assert remote.objects == own, "it has sent nothing of its own"
            make(tmp_path, 5, later=60)

        def sixth() -> None:
            assert complete(remote) == [4]
            training.offer(make(tmp_path, 6, later=120))
            assert training.finish(20).ok

        watch(tmp_path, fifth, sixth, nothing)
        assert complete(remote) == [5, 6], "the training gave up 4; 5 is here still"
        training.offer(make(tmp_path, 7))
        outcome = training.finish(20)
        assert outcome.ok and outcome.reason is None, "it is the owner still"
        assert complete(remote) == [7], "what it does not keep goes, whoever sent it"


def test_what_a_training_is_sending_is_left_to_it_as_long_as_it_grows(
    remote: Remote, tmp_path: Path
) -> None:
    make(tmp_path, 4)
    with RemoteCopies(URL, run=RUN, sleep=lambda _: None) as training:
        assert training.run == RUN
        session = next(path for path in remote.objects if "sessions/" in path)
        part = f"bucket/run/step-00000004-{Path(session).stem}/model.bin"

        def grows() -> None:
            remote.objects[part] = remote.objects.get(part, b"") + b"x"

        def has_not_grown() -> None:
            assert complete(remote) == []

        watch(tmp_path, grows, grows, has_not_grown)
        assert complete(remote) == [4], "once it had stopped growing"


def test_what_a_later_session_took_for_litter_is_sent_again(
    remote: Remote, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    make(tmp_path, 4)
    cleared: list[str] = []

    def blocks(method: str, path: str) -> bool:
        if method == "put" and COMPLETE in path and not cleared:
            cleared.append(path.replace(COMPLETE, "model.bin"))
            del remote.objects[cleared[0]]
        return False

    remote.blocks = blocks
    assert watch(tmp_path, nothing)[0] == 1.0
    assert "was sent, and is not there in full. It is tried again" in capfd.readouterr().err
    with RemoteCopies(URL, run=RUN, by_hand=True) as reading:
        assert reading.steps() == {4}


def test_a_training_that_begins_later_does_not_clear_away_what_is_sent_beside_it(
    remote: Remote, tmp_path: Path
) -> None:
    def begin() -> None:
        with RemoteCopies(URL, run=RUN):
            pass
        make(tmp_path, 5)

    make(tmp_path, 4)
    watch(tmp_path, begin, nothing)
    terms = sorted(path.split("/")[-2].split("-")[2] for path in remote.objects if COMPLETE in path)
    assert terms == ["0001", "0002"], "of the same age as the owner"


# --- one address, one run -------------------------------------------------------------------------


def test_another_run_is_refused_unless_its_own_checkpoints_say_that_it_went_on_from_there(
    remote: Remote, tmp_path: Path
) -> None:
    make(tmp_path / "a", 4)
    watch(tmp_path / "a")
    make(tmp_path / "b", 5, LATER)
    with pytest.raises(UsageError, match=f"another run .{RUN}, and this is {LATER}"):
        watch(tmp_path / "b")
    make(tmp_path / "c", 5, LATER, about={FOLLOWS: {RUN: 3}})
    with pytest.raises(UsageError, match="another run"):
        watch(tmp_path / "c")
    make(tmp_path / "d", 5, LATER, about={FOLLOWS: {RUN: 4}})
    watch(tmp_path / "d")
    assert complete(remote) == [4, 5]
    watch(tmp_path / "d", nothing)
    with pytest.raises(UsageError, match=f"another run .{LATER}, and this is {RUN}"):
        watch(tmp_path / "a", lambda: make(tmp_path / "a", 6))

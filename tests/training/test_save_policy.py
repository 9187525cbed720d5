"""When a run is saved and what stays: arithmetic, whose laws hold for every sequence of saves."""

from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pipeline.errors import UsageError
from pipeline.training import checkpoints
from pipeline.training.checkpoints import Checkpoint
from pipeline.training.save_policy import (
    END,
    KEEP,
    MINUTES,
    STEPS,
    KeepStage,
    SavePolicy,
    Saver,
    doomed,
    doomed_of_run,
    make_policy,
    most_kept,
    parse_keep_every,
    round_ends,
)

NONE = SavePolicy(save_steps=None, save_minutes=None)


# --- what stays for good --------------------------------------------------------------------------


def test_the_documented_example_keeps_every_100th_up_to_1000_and_every_500th_after_it() -> None:
    policy = make_policy(keep_every="100:until=1000,500")
    assert policy.keep_every == (KeepStage(100, until=1000), KeepStage(500))
    kept = [step for step in range(1, 2600) if policy.is_permanent(step)]
    assert kept == [*range(100, 1001, 100), 1500, 2000, 2500]


@pytest.mark.parametrize(
    ("text", "stages"),
    [
        ("500", (KeepStage(500),)),
        (" 10 : until = 30 , 20:until=100 ", (KeepStage(10, 30), KeepStage(20, 100))),
    ],
)
def test_stages_are_read(text: str, stages: tuple[KeepStage, ...]) -> None:
    assert parse_keep_every(text) == stages


def test_after_the_last_stage_nothing_is_permanent() -> None:
    policy = make_policy(keep_every="10:until=30")
    assert [step for step in range(1, 100) if policy.is_permanent(step)] == [10, 20, 30]


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("", "'' is not"),
        ("often", "'often' is not"),
        ("100,", "'' is not"),
        ("-5", "'-5' is not"),
        ("1.5", "'1.5' is not"),
        ("٣", "is not"),
        ("100:until=", "'100:until=' is not"),
        ("100:until=9999999999999", "is not"),
        ("0", "0 must be 1 step or more"),
        ("0:until=10,5", "0:until=10 must be 1 step or more"),
        ("100,500", "100 never ends, so that what follows it never begins"),
        ("100:until=1000,50:until=1000", "50:until=1000 ends before it begins, after step 1000"),
        ("100:until=99,500", "100:until=99 keeps nothing: from step 1 to 99"),
        ("100:until=1000,300:until=1100", "300:until=1100 keeps nothing: from step 1001 to 1100"),
    ],
)
def test_what_makes_no_sense_is_refused_with_the_reason(text: str, reason: str) -> None:
    with pytest.raises(UsageError, match=r"--keep-every") as caught:
        make_policy(keep_every=text)
    assert reason in caught.value.message
    assert "100:until=1000,500" in (caught.value.hint or "")


@pytest.mark.parametrize(
    ("wrong", "reason"),
    [
        ({"save_steps": 0}, "--save-steps 0"),
        ({"save_minutes": -1.0}, "--save-minutes -1"),
        ({"save_minutes": float("nan")}, "--save-minutes nan"),
        ({"save_minutes": float("inf")}, "--save-minutes inf"),
        ({"keep_last": 0}, "--keep-last 0"),
    ],
)
def test_other_options_are_checked_too(wrong: dict[str, float], reason: str) -> None:
    with pytest.raises(UsageError, match=reason):
        make_policy(**wrong)  # type: ignore[arg-type]


# --- when -----------------------------------------------------------------------------------------


def saves(policy: SavePolicy, steps: int, seconds: float, started_at: int = 0) -> dict[int, str]:
    """The steps at which a run saves whose steps take `seconds` each, with the reasons."""
    saver, now, found = Saver(policy, steps, started_at, now=0.0), 0.0, {}
    for step in range(started_at + 1, steps + 1):
        now += seconds
        if reason := saver.due(step, now):
            found[step] = reason
            saver.saved(step, now)
    return found


def test_by_default_a_run_is_saved_every_quarter_of_an_hour_and_at_its_end() -> None:
    assert saves(SavePolicy(), 40, seconds=60) == {15: MINUTES, 30: MINUTES, 40: END}


def test_every_so_many_steps_and_at_the_end_even_where_both_fall_together() -> None:
    policy = make_policy(save_steps=4, save_minutes=0)
    assert saves(policy, 10, seconds=1e6) == {4: STEPS, 8: STEPS, 10: END}
    assert saves(policy, 8, seconds=1) == {4: STEPS, 8: END}


def test_a_save_of_any_kind_begins_the_minutes_anew() -> None:
    policy = SavePolicy(save_steps=10, save_minutes=8)
    assert saves(policy, 20, seconds=60) == {8: MINUTES, 10: STEPS, 18: MINUTES, 20: END}
    saver = Saver(SavePolicy(save_minutes=1), 100, 0, now=0.0)
    assert saver.due(1, 61.0) == MINUTES
    saver.saved(1, 121.0)  # it took a minute, which is not one of training
    assert saver.due(2, 180.0) is None
    assert saver.due(3, 181.0) == MINUTES


def test_a_save_that_takes_long_makes_the_minutes_longer_so_that_saving_costs_2_percent() -> None:
    saver = Saver(SavePolicy(), 10_000, 0, now=0.0)
    assert saver.due(1, 900.0) == MINUTES
    saver.saved(1, 960.0, seconds=60.0)
    assert saver.due(2, 960.0 + 2999.0) is None
    assert saver.due(3, 960.0 + 3000.0) == MINUTES
    saver.saved(3, 3961.0, seconds=1.0)  # and the one after it shorter again
    assert saver.due(4, 3961.0 + 899.0) is None
    assert saver.due(5, 3961.0 + 900.0) == MINUTES


@given(
    took=st.lists(st.floats(0, 50), min_size=2, max_size=8),
    step=st.floats(5, 500),
    minutes=st.floats(0.01, 30),
)
@settings(max_examples=40, deadline=None)
def test_whatever_saves_take_those_for_the_minutes_cost_2_percent_of_the_training_at_most(
    took: list[float], step: float, minutes: float
) -> None:
    saver = Saver(SavePolicy(None, minutes), 10**9, 0, 0.0)
    number, now, trained, saving = 0, 0.0, 0.0, 0.0
    for seconds in took:
        reason = None
        while not reason:
            number, now, trained = number + 1, now + step, trained + step
            reason = saver.due(number, now)
        assert reason == MINUTES
        assert saving <= 0.02 * trained + 1e-6
        now += seconds
        saving += seconds
        saver.saved(number, now, seconds)


def test_steps_that_were_asked_for_are_saved_however_long_that_takes() -> None:
    saver = Saver(SavePolicy(save_steps=1), 10, 0, now=0.0)
    saver.saved(1, 100.0, seconds=100.0)
    assert saver.due(2, 101.0) == STEPS


def test_a_permanent_checkpoint_is_made_though_nothing_else_is_due() -> None:
    policy = make_policy(save_minutes=0, keep_every="2:until=4,5")
    assert saves(policy, 12, seconds=1) == {2: KEEP, 4: KEEP, 5: KEEP, 10: KEEP, 12: END}


def test_without_any_interval_only_the_end_is_saved() -> None:
    assert saves(NONE, 30, seconds=3600) == {30: END}


def test_what_is_saved_already_is_not_saved_again() -> None:
    saver = Saver(make_policy(save_steps=5), 20, started_at=10, now=0.0)
    assert saver.due(10, 1e9) is None, "the checkpoint that the run goes on from"
    assert saver.due(15, 1.0) == STEPS
    saver.saved(15, 1.0)  # because it was asked for
    assert saver.due(15, 2.0) is None


def test_a_clock_that_goes_back_asks_for_nothing() -> None:
    saver = Saver(SavePolicy(), 100, 0, now=1e6)
    assert saver.due(1, 0.0) is None


# --- which may go ---------------------------------------------------------------------------------


def test_temporary_ones_are_replaced_and_the_last_two_stay() -> None:
    assert doomed([30, 10, 20, 40], NONE, best=None, last_good=40) == [10, 20]
    assert doomed([10, 20], NONE, best=None, last_good=20) == []
    assert doomed([], NONE, best=None, last_good=None) == []


def test_the_best_and_the_permanent_ones_stay() -> None:
    policy = make_policy(keep_last=1, keep_every="100")
    assert doomed([90, 100, 110, 120, 130], policy, best=110, last_good=130) == [90, 120]


def test_the_last_good_one_stays_though_newer_ones_are_there() -> None:
    assert doomed([10, 20, 30, 40], NONE, best=None, last_good=10) == [20]


@st.composite
def policies(draw: st.DrawFn) -> SavePolicy:
    stages, until = [], 0
    for _ in range(draw(st.integers(0, 2))):
        every = draw(st.integers(1, 20))
        until = (until // every + draw(st.integers(1, 4))) * every
        stages.append(KeepStage(every, until))
    if draw(st.booleans()):
        stages.append(KeepStage(draw(st.integers(1, 20))))
    policy = SavePolicy(
        save_steps=draw(st.none() | st.integers(1, 10)),
        save_minutes=draw(st.none() | st.floats(0, 5)),
        keep_last=draw(st.integers(1, 4)),
        keep_every=tuple(stages),
    )
    policy.check()
    return policy


@settings(max_examples=150, deadline=None)
@given(
    policy=policies(),
    total=st.integers(1, 80),
    minutes=st.lists(st.floats(0, 3), min_size=80, max_size=80),
    asked=st.sets(st.integers(1, 80)),
    better=st.sets(st.integers(1, 80)),
)
def test_whatever_the_sequence_of_saves_what_matters_stays_and_the_number_is_bounded(
    policy: SavePolicy, total: int, minutes: list[float], asked: set[int], better: set[int]
) -> None:
    saver, now, kept, best = Saver(policy, total, 0, 0.0), 0.0, set[int](), None
    saved: set[int] = set()
    for step in range(1, total + 1):
        now += minutes[step - 1] * 60
        if not (saver.due(step, now) or step in asked):
            continue
        saver.saved(step, now)
        kept.add(step)
        saved.add(step)
        best = step if step in better else best
        assert len(kept) <= most_kept(policy, total)
        gone = doomed(kept, policy, best=best, last_good=step)
        assert gone == sorted(gone) and kept.issuperset(gone)
        kept -= set(gone)
        newest = sorted(saved)[-policy.keep_last :]
        assert kept.issuperset(newest), "the newest, of which the last is whole"
        assert best is None or best in kept
        assert kept.issuperset(one for one in saved if policy.is_permanent(one))
        assert doomed(kept, policy, best=best, last_good=step) == [], "once is enough"
        # What stays has a reason, so their number does not grow with the number of saves.
        assert all(one in newest or one == best or policy.is_permanent(one) for one in kept)
    assert total in kept, "the end is always saved"
    assert {one for one in range(1, total + 1) if policy.is_permanent(one)} <= kept


@settings(max_examples=200, deadline=None)
@given(
    policy=policies(),
    steps=st.sets(st.integers(1, 200), min_size=1),
    data=st.data(),
)
def test_for_any_set_of_checkpoints_the_last_good_the_best_and_the_newest_are_never_doomed(
    policy: SavePolicy, steps: set[int], data: st.DataObject
) -> None:
    some = st.none() | st.sampled_from(sorted(steps))
    best, last_good = data.draw(some), data.draw(some)
    gone = doomed(steps, policy, best=best, last_good=last_good)
    assert not {best, last_good, max(steps)} & set(gone)
    assert not any(map(policy.is_permanent, gone))
    stays = [step for step in steps - set(gone) if not policy.is_permanent(step)]
    assert len(stays) <= policy.keep_last + 2


def test_another_runs_checkpoints_are_neither_counted_nor_deleted(tmp_path: Path) -> None:
    def write(step: int, run: str) -> Checkpoint:
        return checkpoints.write(
            tmp_path, step, lambda folder: (folder / "notes.json").write_text("{}"), {"run": run}
        )

    for step in (5, 15, 45):
        write(step, "theirs")
    for step in (10, 20, 30, 40):
        write(step, "ours")
    found = list(checkpoints.whole(tmp_path))
    gone = doomed_of_run(found, "ours", NONE, best=None, last_good=40)
    assert [one.step for one in gone] == [10, 20]
    for one in gone:
        checkpoints.remove(one.path)
    assert [one.step for one in checkpoints.whole(tmp_path)] == [45, 40, 30, 15, 5]


def test_most_kept_is_what_a_disk_must_have_room_for() -> None:
    assert most_kept(SavePolicy(), 10_000) == 5
    assert most_kept(SavePolicy(), 3) == 3
    assert most_kept(make_policy(keep_every="100:until=1000,500"), 2500) == 5 + 10 + 3


# --- rounds ---------------------------------------------------------------------------------------


def test_a_round_ends_after_its_steps_wherever_it_began() -> None:
    assert [step for step in range(1, 8) if round_ends(step, 0, 3)] == [3, 4, 5, 6, 7]
    assert next(step for step in range(8, 14) if round_ends(step, 7, 5)) == 12
    assert not any(round_ends(step, 0, None) for step in range(1, 10_000))

"""`pipeline status`: where the chain stands, in words and in a table."""

import shutil
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest

from pipeline.files import write_json
from pipeline.status import size, survey, table, unfinished_run, when, why
from pipeline.step1_acquire import acquire
from pipeline.step2_preprocess import preprocess
from pipeline.step3_chunk import chunk
from pipeline.training.checkpoints import write
from pipeline.training.copy_notes import COPIED, OWED, note_copy
from pipeline.workspace import Condition, Workspace


def states(data: Path) -> dict[str, str]:
    return {stage.name: stage.condition.state for stage in survey(Workspace(data))}


def test_a_new_workspace_has_everything_before_it(tmp_path: Path) -> None:
    assert set(states(tmp_path).values()) == {"missing"}


def test_what_follows_a_change_is_stale_with_the_reason(tmp_path: Path) -> None:
    for stage in (acquire, preprocess, chunk):
        stage(tmp_path)
    assert list(states(tmp_path).values())[:4] == ["fresh", "fresh", "fresh", "missing"]
    edited = tmp_path / "2_preprocessed" / "900001-the-third-tide.txt"
    edited.write_text("Mine.\n")
    assert list(states(tmp_path).values())[:3] == ["fresh", "edited", "stale"]
    rows = {row["stage"]: row for row in table(survey(Workspace(tmp_path)))["rows"]}
    assert rows["preprocess"]["why"] == f"edited by hand: {edited.name}"
    assert rows["chunk"]["why"] == f"2_preprocessed/{edited.name} has changed"
    assert rows["chunk"]["made"] == "12 documents, 24 chunks"


def test_a_stage_after_one_that_is_to_run_waits_for_it(tmp_path: Path) -> None:
    for stage in (acquire, preprocess, chunk):
        stage(tmp_path)
    (tmp_path / "1_raw" / "more.txt").write_text("One more text.\n")
    assert list(states(tmp_path).values())[:3] == ["edited", "stale", "stale"]
    rows = {row["stage"]: row for row in table(survey(Workspace(tmp_path)))["rows"]}
    assert rows["chunk"]["why"] == "preprocess is to run first"


def test_sizes_have_a_unit_that_suits_them(tmp_path: Path) -> None:
    acquire(tmp_path)
    record = Workspace(tmp_path).record("acquire")
    assert record is not None
    assert size(record).endswith(" KB")


def test_the_hour_today_and_the_date_before() -> None:
    now = datetime.now(UTC)
    assert ":" in when(now.isoformat())
    assert len(when((now - timedelta(days=2)).isoformat())) == len("2026-11-20")
    assert when("") == ""


def test_long_reasons_are_cut_and_counted() -> None:
    assert why(Condition("stale", ["a", "b", "c", "d"])) == "a; b; and 2 more"
    condition = Condition("edited", edited=["x"], deleted=["y", "z"], added=["w"])
    assert why(condition) == ("edited by hand: x; deleted by hand: y and 1 more; added by hand: w")


def test_a_training_that_was_stopped_says_how_far_it_is(tmp_path: Path) -> None:
    workspace = Workspace(tmp_path)
    assert unfinished_run(workspace) is None
    folder = tmp_path / "6_adapter" / "checkpoints" / "run"
    write(folder, 120, lambda path: (path / "state.json").write_text("{}"), {"steps": 500})
    said = unfinished_run(workspace)
    assert said is not None
    assert said.startswith("Training: 120 of 500 steps are done and saved (")
    assert said.endswith("step-00000120); the same command goes on with the other 380.")
    copy = {"step": 90, "url": "s3://bucket/run", "at": datetime.now(UTC).isoformat()}
    write_json(folder / COPIED, copy)
    said = unfinished_run(workspace)
    assert said is not None
    assert "; last copy: step 90 at s3://bucket/run (" in said


def the_run_ended(tmp_path: Path, counts: dict[str, Any] | None) -> Workspace:
    """A run of 500 steps whose last one is saved, and, with `counts`, the record of its results."""
    folder = tmp_path / "6_adapter" / "checkpoints" / "run"
    about = {"steps": 500, "command": ["train", "--sync-to", "s3://bucket/run"]}
    write(folder, 500, lambda path: (path / "state.json").write_text("{}"), about)
    if counts is not None:
        end = (datetime.now(UTC) + timedelta(seconds=5)).isoformat()
        record = {
            "stage": "train", "status": "complete", "version": 1, "settings": {}, "inputs": [],
            "outputs": [], "counts": counts, "warnings": [], "start": end, "end": end,
        }  # fmt: skip
        write_json(tmp_path / "6_adapter" / "stage.json", record)
    return Workspace(tmp_path)


@pytest.mark.parametrize("counts", [None, {"run": "another"}])
def test_results_that_were_not_written_are_told_with_the_command_that_does(
    counts: dict[str, Any] | None, tmp_path: Path
) -> None:
    said = unfinished_run(the_run_ended(tmp_path, counts))
    assert said is not None and said.startswith("Training: all 500 steps are saved (")
    assert said.endswith(
        ", the results are not written: the same command finishes it: "
        "pipeline train --sync-to s3://bucket/run"
    )


def test_a_run_that_is_done_is_told_with_its_last_copy_and_what_is_missing(tmp_path: Path) -> None:
    workspace = the_run_ended(tmp_path, {"run": "run"})
    assert unfinished_run(workspace) is None, "the table says it"
    run = tmp_path / "6_adapter" / "checkpoints" / "run"
    write_json(run / OWED, {"step": 500, "url": "s3://bucket/run"})
    said = str(unfinished_run(workspace))
    assert said == (
        "Training: done, all 500 steps; the copy of step 500 never arrived at s3://bucket/run: "
        "the same command sends it, as does pipeline sync up s3://bucket/run"
    )
    note_copy(run, 500, "s3://bucket/run")
    said = str(unfinished_run(workspace))
    assert said.startswith("Training: done, all 500 steps; last copy: step 500 at s3://bucket/run")
    assert "never arrived" not in said
    note_copy(run, 400, "s3://bucket/run")
    assert "last copy: step 500" in str(unfinished_run(workspace)), "older ones may come later"


def test_a_command_that_a_remote_made_up_is_not_told(tmp_path: Path) -> None:
    folder = tmp_path / "6_adapter" / "checkpoints" / "run"
    about = {"steps": 6, "command": ["rm", "-rf", "/"]}
    write(folder, 2, lambda path: (path / "a").touch(), about)
    assert str(unfinished_run(Workspace(tmp_path))).endswith("goes on with the other 4.")


def test_a_training_that_was_given_up_or_set_aside_is_not_gone_on_with(tmp_path: Path) -> None:
    workspace = Workspace(tmp_path)
    runs = tmp_path / "6_adapter" / "checkpoints"
    for name in ("set-aside-1-run", "run", "other"):
        write(runs / name, 120, lambda path: (path / "state.json").touch(), {"steps": 500})
    (runs / "other" / "GIVEN_UP").touch()
    assert f"{runs / 'run'}/step-" in str(unfinished_run(workspace))
    shutil.rmtree(runs / "run")
    assert unfinished_run(workspace) is None

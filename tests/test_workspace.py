"""The laws of the numbered directories: freshness, hand edits, records, what a kill leaves."""

import json
import os
import signal
import subprocess
import sys
import textwrap
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pipeline import outputs
from pipeline.errors import PipelineError, Stopped
from pipeline.records import JOURNAL, RECORD
from pipeline.run import StageRun, open_run
from pipeline.workspace import Workspace, changed_inputs

DOCUMENTS = {"alpha.txt": "Alpha.\n", "beta.txt": "Beta.\n", "gamma.txt": "Gamma.\n"}


@pytest.fixture
def workspace(tmp_path: Path) -> Workspace:
    """A workspace whose `1_raw` a person filled by hand."""
    raw = tmp_path / "1_raw"
    raw.mkdir()
    for name, text in DOCUMENTS.items():
        (raw / name).write_text(text)
    return Workspace(tmp_path)


def shout(workspace: Workspace, suffix: str = "!", version: int = 1, **options: bool) -> list[str]:
    """A small per-document stage: upper case and a suffix. Returns the names it wrote."""
    written = []
    inputs = workspace.inputs("preprocess")
    with open_run(
        workspace, "preprocess", version=version, settings={"suffix": suffix}, inputs=inputs,
        **options,
    ) as run:  # fmt: skip
        if run.is_fresh:
            return []
        for path in inputs:
            key = run.key(workspace.fact(path).sha256)
            if run.plan(path.name, key) == "write":
                text = path.read_text().upper() + suffix
                if run.write(path.name, text.encode(), key, {"file": path.name}):
                    written.append(path.name)
        run.counts["documents"] = len(run.rows())
    return written


def join(workspace: Workspace, **options: bool) -> bool:
    """A small whole-directory stage: all documents in two files. Returns whether it ran."""
    inputs = workspace.inputs("chunk")
    with open_run(
        workspace, "chunk", version=1, settings={}, inputs=inputs, **options
    ) as run:  # fmt: skip
        if run.is_fresh:
            return False
        with run.scratch() as folder:
            text = "".join(path.read_text() for path in inputs)
            (folder / "all.parquet").write_text(text)
            (folder / "data").mkdir()
            (folder / "data" / "size").write_text(str(len(text)))
            run.adopt(folder)
    return True


def state(workspace: Workspace, stage: str) -> str:
    return Workspace(workspace.root).examine(stage).state


def test_a_stage_runs_once_and_then_is_fresh(workspace: Workspace) -> None:
    assert state(workspace, "preprocess") == "missing"
    assert shout(workspace) == list(DOCUMENTS)
    assert state(workspace, "preprocess") == "fresh"
    assert shout(workspace) == []


def test_the_record_names_settings_inputs_outputs_counts_and_times(workspace: Workspace) -> None:
    shout(workspace)
    record = json.loads((workspace.directory("preprocess") / RECORD).read_text())
    assert record["status"] == "complete"
    assert record["settings"] == {"suffix": "!"}
    assert [item["path"] for item in record["inputs"]] == [f"1_raw/{name}" for name in DOCUMENTS]
    assert [item["path"] for item in record["outputs"]] == list(DOCUMENTS)
    assert all(len(item["sha256"]) == 64 for item in record["inputs"] + record["outputs"])
    assert record["counts"] == {"documents": 3}
    assert record["start"] <= record["end"]


def test_touching_a_file_changes_nothing(workspace: Workspace) -> None:
    shout(workspace)
    for path in (*workspace.files("acquire"), *workspace.files("preprocess")):
        os.utime(path, (1, 1))
    assert state(workspace, "preprocess") == "fresh"
    assert shout(workspace) == []


def test_only_the_document_that_changed_is_done_again(workspace: Workspace) -> None:
    shout(workspace)
    (workspace.directory("acquire") / "beta.txt").write_text("Other.\n")
    condition = Workspace(workspace.root).examine("preprocess")
    assert (condition.state, condition.why) == ("stale", ["1_raw/beta.txt has changed"])
    assert shout(workspace) == ["beta.txt"]


def test_a_changed_setting_or_code_version_makes_everything_stale(workspace: Workspace) -> None:
    shout(workspace)
    condition = workspace.examine("preprocess", settings={"suffix": "?"})
    assert condition.why == ["--suffix was '!', is '?'"]
    assert shout(workspace, suffix="?") == list(DOCUMENTS)
    assert shout(workspace, suffix="?", version=2) == list(DOCUMENTS)


def test_a_file_added_by_hand_is_input_of_the_next_stage(workspace: Workspace) -> None:
    shout(workspace)
    (workspace.directory("acquire") / "delta.txt").write_text("Delta.\n")
    assert shout(workspace) == ["delta.txt"]


def test_the_output_of_a_vanished_input_goes(workspace: Workspace) -> None:
    shout(workspace)
    (workspace.directory("acquire") / "beta.txt").unlink()
    shout(workspace)
    assert [p.name for p in workspace.files("preprocess")] == ["alpha.txt", "gamma.txt"]


def test_a_hand_edit_is_reported_and_kept_and_feeds_the_next_stage(workspace: Workspace) -> None:
    shout(workspace)
    join(workspace)
    edited = workspace.directory("preprocess") / "beta.txt"
    edited.write_text("by hand")
    condition = Workspace(workspace.root).examine("preprocess")
    assert (condition.state, condition.edited) == ("edited", ["beta.txt"])
    assert state(workspace, "chunk") == "stale"
    assert shout(workspace) == []
    assert join(workspace)
    assert edited.read_text() == "by hand"
    assert "by hand" in (workspace.directory("chunk") / "all.parquet").read_text()


def test_an_edit_survives_new_settings_and_new_input_until_it_is_asked_for(
    workspace: Workspace,
) -> None:
    shout(workspace)
    edited = workspace.directory("preprocess") / "beta.txt"
    edited.write_text("by hand")
    (workspace.directory("acquire") / "beta.txt").write_text("New.\n")
    assert shout(workspace, suffix="?") == ["alpha.txt", "gamma.txt"]
    assert edited.read_text() == "by hand"
    assert state(workspace, "preprocess") == "edited"
    assert shout(workspace, suffix="?", overwrite_edited=True) == ["beta.txt"]
    assert edited.read_text() == "NEW.\n?"
    assert state(workspace, "preprocess") == "fresh"


def test_an_edited_document_whose_input_is_gone_is_kept(workspace: Workspace) -> None:
    shout(workspace)
    edited = workspace.directory("preprocess") / "beta.txt"
    edited.write_text("by hand")
    (workspace.directory("acquire") / "beta.txt").unlink()
    shout(workspace)
    assert edited.read_text() == "by hand"


def test_a_deleted_document_stays_deleted_until_restored(workspace: Workspace) -> None:
    shout(workspace)
    gone = workspace.directory("preprocess") / "beta.txt"
    gone.unlink()
    condition = Workspace(workspace.root).examine("preprocess")
    assert (condition.state, condition.deleted) == ("edited", ["beta.txt"])
    assert shout(workspace, suffix="?") == ["alpha.txt", "gamma.txt"]
    assert not gone.exists()
    assert shout(workspace, suffix="?", restore_deleted=True) == ["beta.txt"]


def test_a_missing_file_of_a_whole_directory_stage_is_made_again(workspace: Workspace) -> None:
    shout(workspace)
    join(workspace)
    (workspace.directory("chunk") / "data" / "size").unlink()
    condition = Workspace(workspace.root).examine("chunk")
    assert (condition.state, condition.why) == ("stale", ["data/size is missing"])
    assert join(workspace)
    assert state(workspace, "chunk") == "fresh"


def test_an_edited_parquet_file_keeps_its_directory_until_asked(
    workspace: Workspace, capsys: pytest.CaptureFixture[str]
) -> None:
    shout(workspace)
    join(workspace)
    parquet = workspace.directory("chunk") / "all.parquet"
    parquet.write_text("by hand")
    (workspace.directory("preprocess") / "alpha.txt").write_text("edited too")
    assert not join(workspace)
    assert parquet.read_text() == "by hand"
    assert "--overwrite-edited" in capsys.readouterr().err
    assert join(workspace, overwrite_edited=True)
    assert parquet.read_text().startswith("edited too")


def test_a_persons_file_in_the_way_is_not_overwritten(workspace: Workspace) -> None:
    directory = workspace.directory("preprocess")
    directory.mkdir()
    (directory / "alpha.txt").write_text("mine")
    assert shout(workspace) == ["beta.txt", "gamma.txt"]
    assert (directory / "alpha.txt").read_text() == "mine"


def test_a_failed_stage_is_partial_and_goes_on_where_it_was(workspace: Workspace) -> None:
    inputs = workspace.inputs("preprocess")
    with (
        pytest.raises(RuntimeError),
        open_run(
            workspace, "preprocess", version=1, settings={"suffix": "!"}, inputs=inputs
        ) as run,
    ):
        run.write("alpha.txt", b"ALPHA.\n!", run.key(workspace.fact(inputs[0]).sha256), {})
        raise RuntimeError("boom")
    assert state(workspace, "preprocess") == "partial"
    with pytest.raises(PipelineError, match="unfinished"):
        workspace.inputs("chunk")
    assert shout(workspace) == ["beta.txt", "gamma.txt"]
    assert state(workspace, "preprocess") == "fresh"


def test_an_interrupt_is_a_stop_where_the_stage_can_continue(workspace: Workspace) -> None:
    with pytest.raises(Stopped) as stopped, open_run(
        workspace, "preprocess", version=1, settings={}
    ):  # fmt: skip
        raise KeyboardInterrupt
    assert stopped.value.exit_code == 33
    with pytest.raises(PipelineError, match="nothing of this run was kept") as lost, open_run(
        workspace, "modelfile", version=1, settings={}
    ):  # fmt: skip
        raise KeyboardInterrupt
    assert lost.value.exit_code == 1


def test_a_stage_before_its_input_names_the_command_to_run(tmp_path: Path) -> None:
    with pytest.raises(PipelineError) as error:
        Workspace(tmp_path).inputs("chunk")
    assert error.value.hint == "Run `pipeline preprocess` first."


def test_a_missing_file_of_the_stage_before_is_named(workspace: Workspace) -> None:
    shout(workspace)
    join(workspace)
    (workspace.directory("preprocess") / "alpha.txt").unlink()
    assert len(workspace.inputs("chunk")) == 2, "a person may delete a document"
    (workspace.directory("chunk") / "all.parquet").unlink()
    with pytest.raises(PipelineError, match=r"all\.parquet is missing") as error:
        workspace.inputs("upload")
    assert error.value.hint == "Run `pipeline chunk` again first."


def test_a_data_directory_that_is_a_file_is_refused(tmp_path: Path) -> None:
    file = tmp_path / "file"
    file.write_text("")
    with pytest.raises(PipelineError, match="is a file"):
        Workspace(file)


def test_two_processes_do_not_work_in_one_directory(workspace: Workspace) -> None:
    with (
        open_run(workspace, "preprocess", version=1, settings={}),
        pytest.raises(PipelineError, match="at work"),
        open_run(Workspace(workspace.root), "preprocess", version=1, settings={}),
    ):
        pass


@pytest.mark.parametrize("damage", ["", "{", "[]", '{"stage": 1}', '{"outputs": 3}'])
def test_a_broken_record_is_named(workspace: Workspace, damage: str) -> None:
    shout(workspace)
    (workspace.directory("preprocess") / RECORD).write_text(damage)
    with pytest.raises(PipelineError, match=r"stage\.json"):
        state(workspace, "preprocess")


@pytest.mark.parametrize("name", ["../x.txt", "/etc/passwd", "a/../../b", ""])
def test_a_record_cannot_reach_outside_its_directory(workspace: Workspace, name: str) -> None:
    shout(workspace)
    path = workspace.directory("preprocess") / RECORD
    record = json.loads(path.read_text())
    record["outputs"][0]["path"] = name
    path.write_text(json.dumps(record))
    with pytest.raises(PipelineError, match="outside its directory"):
        state(workspace, "preprocess")


KILLED = """
    import sys
    from pathlib import Path
    from pipeline import outputs, run
    from pipeline.run import open_run
    from pipeline.workspace import Workspace

    workspace = Workspace(Path(sys.argv[1]))
    moment, left = sys.argv[2], int(sys.argv[3])

    def die():
        global left
        left -= 1
        if left < 0:
            import os, signal
            os.kill(os.getpid(), signal.SIGKILL)

    def wrap(function, when):
        def wrapped(*args, **kwargs):
            if when == "before":
                die()
            result = function(*args, **kwargs)
            if when == "after":
                die()
            return result
        return wrapped

    where, when = moment.split(":")
    if where == "rename":
        outputs.rename = wrap(outputs.rename, when)
    elif where == "note":
        run.StageRun._note = wrap(run.StageRun._note, when)
    else:
        run.StageRun._save = wrap(run.StageRun._save, when)
    from tests.test_workspace import shout
    shout(workspace, suffix="!")
"""


@pytest.mark.parametrize("left", [0, 1, 2])
@pytest.mark.parametrize("moment", ["rename:before", "rename:after", "note:before", "save:after"])
@pytest.mark.parametrize("has_run", [False, True])
def test_killed_at_any_write_the_next_run_gives_the_same_files(
    workspace: Workspace, tmp_path: Path, moment: str, left: int, has_run: bool
) -> None:
    if has_run:  # an earlier run with other settings left its files
        shout(workspace, suffix="?")
    script = textwrap.dedent(KILLED)
    root = Path(__file__).parents[1]
    result = subprocess.run(
        [sys.executable, "-c", script, str(workspace.root), moment, str(left)],
        cwd=root, capture_output=True, timeout=60, check=False,
    )  # fmt: skip
    survived = moment == "save:after" and left == 2  # a stage saves its record twice
    assert result.returncode == (0 if survived else -signal.SIGKILL), result.stderr.decode()
    again = Workspace(workspace.root)
    shout(again)
    texts = {path.name: path.read_text() for path in again.files("preprocess")}
    assert texts == {name: text.upper() + "!" for name, text in DOCUMENTS.items()}
    assert state(again, "preprocess") == "fresh"
    leftovers = [p.name for p in again.directory("preprocess").iterdir() if p.name[0] == "."]
    assert leftovers == []


def test_stopped_between_rename_and_note_a_file_is_not_taken_for_a_hand_edit(
    workspace: Workspace, monkeypatch: pytest.MonkeyPatch
) -> None:
    shout(workspace, suffix="?")
    rename = outputs.rename

    def rename_and_stop(temporary: Path, final: Path) -> None:
        rename(temporary, final)
        raise KeyboardInterrupt

    monkeypatch.setattr(outputs, "rename", rename_and_stop)
    with pytest.raises(Stopped):
        shout(workspace)
    monkeypatch.undo()
    assert shout(Workspace(workspace.root), suffix="#") == list(DOCUMENTS)


def test_an_edit_that_was_undone_after_the_settings_changed_is_still_the_persons(
    workspace: Workspace,
) -> None:
    shout(workspace)
    edited = workspace.directory("preprocess") / "beta.txt"
    former = edited.read_text()
    edited.write_text("by hand")
    shout(workspace, suffix="?")
    edited.write_text(former)
    condition = Workspace(workspace.root).examine("preprocess")
    assert (condition.state, condition.edited) == ("edited", ["beta.txt"])


def test_files_that_no_record_explains_are_not_built_over(workspace: Workspace) -> None:
    shout(workspace)
    join(workspace)
    (workspace.directory("chunk") / RECORD).unlink()
    with pytest.raises(PipelineError, match="no record says where it came from"):
        join(workspace)
    assert join(workspace, overwrite_edited=True)
    assert state(workspace, "chunk") == "fresh"


def test_an_edited_shard_is_kept_with_its_siblings_even_when_forced(workspace: Workspace) -> None:
    shout(workspace)
    join(workspace)
    (workspace.directory("chunk") / "all.parquet").write_text("by hand")
    assert not join(workspace, force=True)


def test_a_lost_report_is_made_again_and_no_deleted_document(workspace: Workspace) -> None:
    with open_run(workspace, "preprocess", version=1, settings={}) as stage:
        stage.write("report.jsonl", b"{}")
    (workspace.directory("preprocess") / "report.jsonl").unlink()
    condition = workspace.examine("preprocess", inputs=[])
    assert (condition.state, condition.why) == ("stale", ["report.jsonl is missing"])


def test_inputs_from_elsewhere_are_looked_for_there(workspace: Workspace, tmp_path: Path) -> None:
    other = tmp_path / "other.parquet"
    other.write_text("x")
    with open_run(workspace, "train", version=1, settings={}, inputs=[other]) as stage:
        stage.write("adapter_model.safetensors", b"x")
    assert state(workspace, "train") == "fresh"
    other.write_text("y")
    assert state(workspace, "train") == "stale"


@pytest.mark.parametrize("name", ["a\u2028b.txt", "a\\b.txt", "caf\udce9.txt", "a\nb.txt"])
def test_odd_file_names_do_not_stop_a_stage(workspace: Workspace, name: str) -> None:
    (workspace.directory("acquire") / name).write_text("Odd.\n")
    assert name in shout(workspace)
    assert state(workspace, "preprocess") == "fresh"


def test_a_journal_line_cut_short_is_ignored(workspace: Workspace) -> None:
    shout(workspace)
    journal = workspace.directory("preprocess") / JOURNAL
    journal.write_text('{"path": "alpha.txt", "si')
    assert state(workspace, "preprocess") == "fresh"


ACTIONS = ("run", "edit", "delete", "drop", "add", "setting")


@settings(deadline=None, max_examples=40)
@given(
    st.lists(st.tuples(st.sampled_from(ACTIONS), st.sampled_from(sorted(DOCUMENTS))), max_size=12)
)
def test_whatever_happens_a_persons_text_is_never_lost(
    tmp_path_factory: pytest.TempPathFactory, actions: list[tuple[str, str]]
) -> None:
    """Play random edits, deletions and runs; what a person wrote is always still there."""
    workspace = Workspace(tmp_path_factory.mktemp("data"))
    raw, clean = workspace.directory("acquire"), workspace.directory("preprocess")
    raw.mkdir()
    for name, text in DOCUMENTS.items():
        (raw / name).write_text(text)
    suffix, by_hand, deleted = "!", dict[str, str](), set[str]()
    shout(workspace, suffix)
    for number, (action, name) in enumerate(actions):
        if action == "edit":
            (clean / name).write_text(f"hand {number}")
            by_hand[name] = f"hand {number}"
            deleted.discard(name)
        elif action == "delete" and (clean / name).exists():
            (clean / name).unlink()
            by_hand.pop(name, None)
            deleted.add(name)
        elif action == "drop":
            (raw / name).unlink(missing_ok=True)
            if not any(raw.glob("*.txt")):
                (raw / name).write_text(DOCUMENTS[name])
        elif action == "add":
            (raw / name).write_text(f"{name} {number}")
        else:
            suffix = f"!{number}" if action == "setting" else suffix
            workspace = Workspace(workspace.root)
            shout(workspace, suffix)
            for kept, text in by_hand.items():
                assert (clean / kept).read_text() == text
            for path in raw.glob("*.txt"):
                if path.name not in by_hand and path.name not in deleted:
                    assert (clean / path.name).read_text() == path.read_text().upper() + suffix


def test_changed_inputs_are_named_three_at_most() -> None:
    from pipeline.files import FileFact

    now = [FileFact(f"{n}.txt", 1, "x") for n in range(5)]
    assert changed_inputs([], now)[-1] == "and 2 more: is new"


def test_the_scratch_folder_is_gone_after_a_failure(workspace: Workspace) -> None:
    def fail(run: StageRun) -> None:
        with run.scratch() as folder:
            (folder / "half").write_text("x")
            raise RuntimeError

    with pytest.raises(RuntimeError), open_run(
        workspace, "chunk", version=1, settings={}
    ) as run:  # fmt: skip
        fail(run)
    assert [p.name for p in workspace.directory("chunk").iterdir()] == [RECORD]

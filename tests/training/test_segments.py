"""A series is one long run, segment after segment, wherever it is stopped and if it grows."""

import dataclasses
import gc
import itertools
import json
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given
from hypothesis import settings as hypothesis_settings
from hypothesis import strategies as st

from pipeline.errors import PipelineError, Stopped, UsageError
from pipeline.files import json_lines
from pipeline.status import segment_of
from pipeline.training import checkpoints
from pipeline.training.base_model import BaseModel
from pipeline.training.checkpointing import RunCheckpoints
from pipeline.training.checkpoints import Checkpoint
from pipeline.training.data import Sample
from pipeline.training.identity import Changes, compare, growth
from pipeline.training.metrics import read_metrics
from pipeline.training.save_policy import make_policy
from pipeline.training.segments import (
    OTHERS,
    Segment,
    Segments,
    Series,
    find_series,
    series_of,
    with_text,
)
from pipeline.training.trainer import TrainResult, TrainSettings, train
from pipeline.workspace import Workspace
from tests.sftp_server import SftpServer
from tests.tiny_models import TALE, Document, tiny_llama

# --- which document is in which segment -----------------------------------------------------------


def row(document: str, segment: Any, source: Any = "lists") -> dict[str, Any]:
    return {"document_id": document, "collection": source, "segment": segment}


def test_segments_come_in_the_order_of_their_numbers_and_gaps_are_listed() -> None:
    series = series_of([row("c", 10), row("a", 2), row("b", 9)])
    assert series is not None
    assert series.names == tuple(f"lists/{n}" for n in range(1, 11))
    assert [series.of(name) for name in ("a", "b#3", "c#4#5", "d")] == [
        "lists/2", "lists/9", OTHERS, OTHERS
    ]  # fmt: skip
    from_zero = series_of([row("a", 0)], listed=[row("z", 2)], count=5)
    assert from_zero is not None
    assert from_zero.names[-1] == "lists/4"


def test_several_series_take_turns_so_that_what_is_new_comes_last() -> None:
    rows = [row("a", 1, "one"), row("b", 1, "two"), row("c", 2, "one"), row("x", None)]
    series, grown = series_of(rows), series_of([*rows, row("d", 2, "two")], count=9)
    assert series is not None
    assert series.names == ("one/1", "two/1", "one/2")
    assert grown is not None
    assert grown.names == (*series.names, "two/2")


@pytest.mark.parametrize("segment", [None, "1", True, -1, 10**12, 1.0])
def test_what_is_no_number_of_a_segment_is_none(segment: Any) -> None:
    assert series_of([row("a", segment)]) is None


def test_the_segments_are_found_in_a_dataset_or_in_the_accounts_of_the_stages(
    tmp_path: Path,
) -> None:
    table = tmp_path / "4_dataset" / "data" / "train-00000-of-00001.parquet"
    assert find_series([table], Workspace(tmp_path)) is None
    (tmp_path / "3_chunks").mkdir()
    (tmp_path / "1_raw").mkdir()
    (tmp_path / "3_chunks" / "documents.jsonl").write_bytes(json_lines([row("a", 1)]))
    (tmp_path / "1_raw" / "catalog.jsonl").write_bytes(json_lines([row("a", 1), row("b", 2)]))
    found = find_series([table], Workspace(tmp_path))
    assert found == Series(("lists/1", "lists/2"), {"a": "lists/1"})
    assert find_series([table], None) is None
    books = tmp_path / "4_dataset" / "books" / "books.parquet"
    books.parent.mkdir(parents=True)
    pq.write_table(pa.Table.from_pylist([row("a", 3), row("x", None)]), books)
    in_dataset = find_series([table], None)
    assert in_dataset is not None
    assert in_dataset.documents == {"a": "lists/3"}
    assert in_dataset.mark != found.mark
    books.write_bytes(b"no Parquet")
    with pytest.raises(PipelineError, match=r"books\.parquet cannot be read"):
        find_series([table], None)


def sample(name: str, text: str = "Text.") -> Sample:
    return Sample(name, {"text": text})


def test_a_segment_without_text_is_refused_or_skipped_and_one_that_is_held_out_is_neither(
    capfd: pytest.CaptureFixture[str],
) -> None:
    series = series_of([row("a", 1), row("b", 2), row("c", 4), row("d", 5)])
    assert series is not None
    training = [sample("a"), sample("c"), sample("d", " \n"), sample("other")]
    held_out = [sample("b")]
    with pytest.raises(PipelineError, match="have no text to train on: lists/3, lists/5") as error:
        with_text(series, training, held_out, "fail")
    assert "--missing-segment skip" in (error.value.hint or "")
    left = with_text(series, training, held_out, "skip")
    assert left is not None
    assert left.names == (OTHERS, "lists/1", "lists/4")
    said = capfd.readouterr().err
    assert "Segment lists/2 is held out entirely" in said
    assert "lists/3, lists/5: left out" in said
    with pytest.raises(PipelineError, match="Segment lists/3 of the series is listed, but has no"):
        with_text(series, [*training, sample("d")], held_out, "fail")
    assert with_text(series, [sample("other")], held_out, "fail") is None, "another dataset"


# --- the cursor -----------------------------------------------------------------------------------


def segments_of(sizes: Sequence[int], per_step: int = 1) -> Segments:
    ends = list(itertools.accumulate(sizes))
    return Segments(
        tuple(
            Segment(f"s/{n}", tuple(range(end - size, end)), f"{n}" * 8)
            for n, (size, end) in enumerate(zip(sizes, ends, strict=True), 1)
        ),
        per_step,
    )


@given(
    sizes=st.lists(st.integers(1, 7), min_size=1, max_size=5),
    per_step=st.integers(1, 9),
    data=st.data(),
)
@hypothesis_settings(max_examples=80, deadline=None)
def test_the_cursor_is_where_the_order_is(
    sizes: list[int], per_step: int, data: st.DataObject
) -> None:
    segments = segments_of(sizes, per_step)
    total = data.draw(st.integers(1, 3 * sum(sizes)))
    read = data.draw(st.integers(0, total))
    order = segments.order(total, 7)
    cursor = segments.cursor(read, total)
    here = next(part for part in segments.parts if part.name == cursor.segment)
    if read < total:
        assert order[read] in here.sequences, "the next one is of it"
    before = order[read - cursor.sequences : read]
    assert set(before) <= set(here.sequences)
    assert len(set(before)) == cursor.sequences <= cursor.size == len(here.sequences)
    assert cursor.step * per_step >= cursor.sequences > (cursor.step - 1) * per_step
    if read < total:
        ends = [segments.end(read, n) for n in range(1, 6)]
        assert ends[0] == read - cursor.sequences + cursor.size
        assert ends == sorted(set(ends))
        assert segments.cursor(ends[0], ends[0] + 1).sequences == 0, "the cursor moves on"


def test_the_series_is_told_with_the_steps_of_one_pass() -> None:
    assert segments_of([3, 4, 1], per_step=3).describe() == [
        "3 segments of sequences, one after the other: s/1 (3), s/2 (4), s/3 (1).",
        "One pass over all of them is 8 sequences, 3 a step: 3 steps.",
    ]
    assert segments_of([2], per_step=2).describe() == [
        "1 segment of sequences, alone: s/1 (2).",
        "One pass over it is 2 sequences, 2 a step: 1 step.",
    ]


@pytest.mark.parametrize("cursor", [None, [], {"segment": "s/1"}, {"segment": 1, "number": "2"}])
def test_the_status_tells_of_no_cursor_that_is_none(cursor: Any) -> None:
    assert segment_of(cursor) == ""
    told = segment_of(segments_of([3, 4]).cursor(5, 7).as_dict())
    assert told == ", in segment s/2 (2 of 2; 2 of its 4 sequences read)"


# --- growth ---------------------------------------------------------------------------------------

A, B, C = ["s/1", 3, "aa"], ["s/2", 4, "bb"], ["s/3", 5, "cc"]


@pytest.mark.parametrize(
    ("before", "now", "grew", "told"),
    [
        ([A], [A, B, C], True, "segments (new: s/2, s/3)"),
        ([A, B], [A, ["s/2", 4, "xx"], C], False, "segments (changed: s/2; new: s/3)"),
        ([A, B], [A, C], False, "segments (gone: s/2; new: s/3)"),
        ([A, C], [A, B, C], False, "segments (new: s/2; what is new does not come last)"),
        ([A, B], [B, A], False, "segments (their order is another)"),
        (None, [A], False, "the data had no segments, now segments"),
        ([["s/1", "3", "aa"]], [A], False, "the data had no segments, now segments"),
        ([A, A], [A, B], False, "the data had no segments, now segments"),
        ([A], None, False, "the data had segments, now no segments"),
    ],
)
def test_a_series_has_grown_if_all_that_was_there_is_there_and_comes_first(
    before: Any, now: Any, grew: bool, told: str
) -> None:
    found = growth(before, now)
    assert (found.grew, found.told) == (grew, told)


def test_a_second_pass_leaves_no_room_for_a_new_segment(tmp_path: Path) -> None:
    now = {"segments": [A, B], "held_out": 2}
    for read, harmless in ((3, True), (4, False)):
        (tmp_path / "state.json").write_text(
            json.dumps({"progress": {"step": 1, "sequences": read}})
        )
        about = {"identity": {"segments": [A], "held_out": 1}}
        changes = compare(Checkpoint(tmp_path, 1, 0, about, ""), now)
        assert changes.harmless is harmless
        assert ("before what the run has read again" in str(changes)) is not harmless
        assert ("--allow-changed" in changes.way_out) is harmless
    assert not compare(Checkpoint(tmp_path, 1, 0, {"identity": now}, ""), now)


def test_where_a_series_has_grown_and_more_is_other_the_way_out_names_that() -> None:
    changes = Changes({"segments": "", "held_out": "", "seed": "", "epochs": ""}, True, False)
    assert changes.way_out.startswith("To go on with it, set seed as before and add --allow-")


def test_a_finished_run_is_only_gone_on_with_where_that_is_allowed(
    tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    def saves(steps: int, sequences: int, **identity: Any) -> RunCheckpoints:
        return RunCheckpoints(
            tmp_path, identity, make_policy(), steps, sequences=sequences, sequences_per_step=2
        )

    def state(folder: Path) -> None:
        (folder / "state.json").write_text('{"progress": {"step": 2, "sequences": 3}}')

    about = {"identity": {"segments": [A]}, "steps": 2}
    checkpoints.write(saves(2, 3, segments=[A]).folder, 2, state, about)
    anew = saves(4, 7, segments=[A, B])
    anew.find("auto")
    assert anew.found is None
    assert "of the same series before it grew; --allow-changed goes on" in capfd.readouterr().err
    grown = saves_of(saves(4, 7, segments=[A, B]))
    assert grown.found is not None
    assert grown.steps == 4
    assert saves_of(saves(4, 8, segments=[A, ["s/2", 5, "bb"]])).steps == 5, "3 + 5 sequences"
    with pytest.raises(UsageError, match="was not a full one, so it cannot be made longer"):
        saves(3, 6, segments=[A], epochs=2).find("auto", allow_changed=True)


def saves_of(saves: RunCheckpoints) -> RunCheckpoints:
    """Those that go on from whatever is allowed."""
    saves.find("auto", allow_changed=True)
    return saves


# --- runs -----------------------------------------------------------------------------------------

SETTINGS = TrainSettings(
    learning_rate=1e-2, rank=4, dropout=0.1, sequence_length=64, batch_size=4, micro_batch_size=4,
    eval_tokens=60, sample_tokens=1, eval_every=0, keep_best=False, save_minutes=0,
    sample_prompts=("The",),
)  # fmt: skip
PARAGRAPHS = (4, 5, 3)


def tales(n: int) -> list[Document]:
    return [
        Document(f"tale-{i}", "".join(f"{i}.{k}. {TALE}" for k in range(paragraphs)))
        for i, paragraphs in enumerate(PARAGRAPHS[:n], 1)
    ]


HELD_OUT = [Document("held-out", TALE)]


def series(n: int) -> Series:
    found = series_of([row(f"tale-{i}", i) for i in range(1, n + 1)])
    assert found is not None
    return found


@pytest.fixture(scope="module", autouse=True)
def only_what_is_tested() -> Iterator[None]:
    """Sessions without the picture and the measure of the machine, which take most of their time;
    transformers collects garbage in each, among all that is loaded."""
    gc.freeze()
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("pipeline.training.results.plot_loss", lambda *_: None)
        patch.setattr("pipeline.training.trainer.matmul_rate", lambda *_: None)
        yield
    gc.unfreeze()


@pytest.fixture(scope="module")
def base(tmp_path_factory: pytest.TempPathFactory) -> BaseModel:
    return tiny_llama(tmp_path_factory.mktemp("tiny") / "model")


def run(
    base: BaseModel, place: Path, n: int = 3, settings: TrainSettings = SETTINGS, **options: Any
) -> TrainResult:
    """A session of a run over the first `n` segments; its checkpoints are in `place`."""
    given: dict[str, Any] = {
        "series": series(n),
        "checkpoints_dir": place / "checkpoints",
    } | options
    out = place / f"session-{len(list(place.glob('session-*')))}"
    return train(settings, tales(n), given.pop("held_out", HELD_OUT), base, out, **given)


def outcome(place: Path) -> tuple[bytes, list[tuple[Any, ...]]]:
    """Weights and losses of the last session."""
    folder = place / f"session-{len(list(place.glob('session-*'))) - 1}"
    points = read_metrics(folder / "metrics.jsonl")
    losses = [(p.step, p.loss, p.learning_rate, p.tokens, p.grad_norm) for p in points]
    return (folder / "adapter_model.safetensors").read_bytes(), losses


def newest(place: Path) -> Checkpoint:
    found = [checkpoints.verify(path) for path in place.glob("checkpoints/*/step-*")]
    return max(found, key=lambda checkpoint: checkpoint.step)


@pytest.fixture(scope="module")
def straight(
    base: BaseModel, tmp_path_factory: pytest.TempPathFactory
) -> tuple[TrainResult, tuple[bytes, list[tuple[Any, ...]]]]:
    place = tmp_path_factory.mktemp("straight")
    result = run(base, place)
    return result, outcome(place)


def test_a_run_reads_one_segment_after_the_other_and_each_sequence_once(straight: Any) -> None:
    prepared = straight[0].run
    sizes = [len(part.sequences) for part in prepared.segments.parts]
    assert [part.name for part in prepared.segments.parts] == ["lists/1", "lists/2", "lists/3"]
    read = [set(prepared.order[end - n : end])
            for n, end in zip(sizes, itertools.accumulate(sizes), strict=True)]  # fmt: skip
    assert read == [set(part.sequences) for part in prepared.segments.parts]
    assert len(prepared.order) == sum(sizes) == len(set(prepared.order))
    assert prepared.length.steps == -(-sum(sizes) // 4)
    assert any(n % 4 for n in sizes[:2]), "some step ends one and begins the next"


def test_a_series_of_one_segment_is_the_run_without_segments(
    base: BaseModel, tmp_path: Path
) -> None:
    run(base, tmp_path / "series", 1)
    run(base, tmp_path / "plain", 1, series=None)
    assert outcome(tmp_path / "series") == outcome(tmp_path / "plain")


def test_stopped_within_a_segment_and_at_the_end_of_each_it_is_one_long_run(
    base: BaseModel, tmp_path: Path, straight: Any, capfd: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(Stopped, match="Stopped after step 1 of"):
        run(base, tmp_path, settings=dataclasses.replace(SETTINGS, steps_per_round=1))
    assert newest(tmp_path).about["cursor"] == {
        "segment": "lists/1", "number": 1, "of": 3, "epoch": 1, "step": 1, "sequences": 4,
        "size": 6,
    }  # fmt: skip
    settings = dataclasses.replace(SETTINGS, segments_per_round=1)
    sizes = [len(part.sequences) for part in straight[0].run.segments.parts]
    for number, end in enumerate(list(itertools.accumulate(sizes))[:2], 1):
        with pytest.raises(Stopped, match=r"\(end of a segment\), and saved") as stopped:
            run(base, tmp_path, settings=settings)
        assert stopped.value.exit_code == 33
        checkpoint = newest(tmp_path)
        assert checkpoint.step == -(-end // 4)
        cursor = checkpoint.about["cursor"]
        read = checkpoint.step * 4 - end  # of the next one, in the step that ended this one
        assert cursor == {
            "segment": f"lists/{number + 1}", "number": number + 1, "of": 3, "epoch": 1,
            "step": min(read, 1), "sequences": read, "size": sizes[number],
        }  # fmt: skip
        state = json.loads((checkpoint.path / "state.json").read_text())
        assert state["progress"]["cursor"] == cursor
    result = run(base, tmp_path, settings=settings)
    assert outcome(tmp_path) == straight[1]
    assert newest(tmp_path).about["cursor"]["sequences"] == sizes[2]
    assert result.steps == straight[0].steps
    said = capfd.readouterr().err
    assert "One pass over all of them is" in said
    assert "Segment lists/3 (3 of 3) from step" in said


def test_a_series_that_grew_is_gone_on_with_where_that_is_allowed(
    base: BaseModel, tmp_path: Path, straight: Any, capfd: pytest.CaptureFixture[str]
) -> None:
    first = run(base, tmp_path, 2)
    partial = len(first.run.order) % 4
    assert partial, "its last step was not full"
    settings = dataclasses.replace(SETTINGS, steps_per_round=1)
    other_text = [Document("held-out", "Another text. " + TALE)]
    with pytest.raises(Stopped):
        run(base, tmp_path, settings=settings, allow_changed=True, held_out=other_text)
    said = capfd.readouterr().err
    assert "The series has grown: segments (new: lists/3)." in said
    assert "scored anew" in said
    result = run(base, tmp_path, held_out=other_text)
    assert result.tokens == straight[0].tokens, "every sequence once"
    assert result.steps == first.steps + -(-(len(result.run.order) - len(first.run.order)) // 4)
    assert [point.step for point in result.points] == list(range(1, result.steps + 1))
    assert {score.step for score in result.held_out} == {0, result.steps}
    assert result.before.score != first.before.score


def test_a_series_that_grew_is_the_straight_run_where_the_rate_is_the_same(
    base: BaseModel, tmp_path: Path
) -> None:
    settings = dataclasses.replace(
        SETTINGS, batch_size=1, micro_batch_size=1, scheduler="constant", warmup=0
    )
    run(base, tmp_path / "grown", 1, settings)
    run(base, tmp_path / "grown", 2, settings, allow_changed=True)
    run(base, tmp_path / "straight", 2, settings)
    assert outcome(tmp_path / "grown") == outcome(tmp_path / "straight")


def test_a_series_that_grew_goes_on_at_the_same_remote_address_also_on_another_machine(
    base: BaseModel, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HOME", str(tmp_path / "home"))
    settings = dataclasses.replace(
        SETTINGS, batch_size=1, micro_batch_size=1, scheduler="constant", warmup=0
    )
    a, b, c = (tmp_path / name for name in "abc")
    with SftpServer(tmp_path / "far", tmp_path / "home") as far:
        first = run(base, a, 1, settings, sync_to=far.url)
        with pytest.raises(UsageError, match="has checkpoints of another run"):
            run(base, b, 2, settings, sync_to=far.url)
        rounds = dataclasses.replace(settings, steps_per_round=1)
        with pytest.raises(Stopped, match=f"after step {first.steps + 1} of"):
            run(base, b, 2, rounds, sync_to=far.url, allow_changed=True)
        assert newest(b).about["follows"] == {newest(a).path.parent.name: first.steps}
        run(base, c, 2, settings, sync_to=far.url)
    run(base, tmp_path / "straight", 2, settings)
    assert outcome(c) == outcome(tmp_path / "straight")


def test_a_series_that_is_another_is_refused_with_what_is_other(
    base: BaseModel, tmp_path: Path
) -> None:
    with pytest.raises(Stopped):
        run(base, tmp_path, 2, dataclasses.replace(SETTINGS, steps_per_round=1))
    with pytest.raises(UsageError, match=r"not finished.*segments \(new: lists/3\)") as error:
        run(base, tmp_path)
    assert "--allow-changed" in (error.value.hint or "")
    swapped = Series(("lists/1", "lists/2"), {"tale-1": "lists/2", "tale-2": "lists/1"})
    with pytest.raises(UsageError, match=r"segments \(changed: lists/1, lists/2\)") as error:
        run(base, tmp_path, 2, series=swapped, allow_changed=True)
    assert "may only grow at its end" in (error.value.hint or "")
    with pytest.raises(UsageError, match="the data had segments, now no segments"):
        run(base, tmp_path, 2, series=None, allow_changed=True)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"series": None}, "the data has no segments"),
        ({"settings": {"mix": ("a=1",)}}, "the sources have weights, and are mixed"),
        ({"settings": {"missing_segment": "ignore"}}, "--missing-segment 'ignore' is unknown"),
    ],
)
def test_rounds_of_segments_need_segments(
    base: BaseModel, tmp_path: Path, options: dict[str, Any], message: str
) -> None:
    changes = {"segments_per_round": 1, **options.pop("settings", {})}
    settings = dataclasses.replace(SETTINGS, **changes)
    samples = [Sample(d.id, {"text": d.text}, "a") for d in tales(2)]
    with pytest.raises(UsageError, match=message):
        train(settings, samples, HELD_OUT, base, tmp_path, **{"series": series(2)} | options)


def test_a_segment_that_is_listed_and_has_no_text_ends_the_run_before_it_begins(
    base: BaseModel, tmp_path: Path
) -> None:
    listed = series_of([row("tale-1", 1), row("tale-2", 3)])
    with pytest.raises(PipelineError, match="Segment lists/2 of the series is listed, but has no"):
        run(base, tmp_path, 2, series=listed)

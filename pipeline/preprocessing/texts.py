"""The texts of stage 2 at work: which are cleaned again, which are a person's, what is written.

A text is looked at in three steps. First every text that is new or changed is cleaned and written
as it comes, or rejected. Then all that are kept are compared by their sketches, and duplicates
give way: `rejected/` says to which. Last, a duplicate of an earlier run whose better is gone is
cleaned again and comes back.
"""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from functools import partial
from itertools import chain
from pathlib import Path
from typing import Any

from pipeline.books.duplicates import Duplicates, Entry, Pair, find_duplicates
from pipeline.console import progress
from pipeline.files import sha256_bytes
from pipeline.parallel import Workers
from pipeline.preprocessing.recipe import (
    Recipe,
    Result,
    Task,
    brought_up_to_date,
    facts_of,
    work_on,
)
from pipeline.preprocessing.sketch_cache import SketchCache
from pipeline.run import StageRun
from pipeline.workspace import Workspace

REJECTED = "rejected"  # the folder
SMALL = 12_000_000  # bytes: so much text is cleaned before a process has started
PARCEL = 800_000  # bytes of text that a process is sent at a time
_RELATIONS = {
    "exact": "its text is the same as that of {kept}",
    "near": "{share} of its text is that of {kept}",
    "contained": "{share} of it stands in {kept}",
}


@dataclass
class Text:
    """A text of this stage. `state`: "kept", "rejected", "deleted" (by hand), "dropped" (a
    duplicate of another); `fixed`: a person's, or for evaluation, never dropped. `sha256` is that
    of the cleaned text. A text that a person put into `2_preprocessed` has no `task`; it is
    `by_hand` if it bears the name of one of `1_raw` of which this stage has made nothing."""

    name: str
    state: str
    task: Task | None = None
    key: str = ""
    row: dict[str, Any] = field(default_factory=dict)
    sha256: str = ""
    fixed: bool = False
    by_hand: bool = False
    pair: Pair | None = None

    @property
    def id(self) -> str:
        return self.name.removesuffix(".txt")


def clean_texts(
    run: StageRun,
    paths: Sequence[Path],
    catalog: Mapping[str, Mapping[str, Any]],
    recipe: Recipe,
    cache: SketchCache,
    jobs: int,
) -> list[Text]:
    """Clean what is new or changed of `paths`; returns all texts, those put in by hand too."""
    texts = [_look(run, Task(p, facts_of(dict(catalog.get(p.name, {}))), recipe)) for p in paths]
    work: list[tuple[Text, Task | Path]] = []
    for text in [*texts, *_put_in_by_hand(run, {text.name for text in texts})]:
        if text.task is None:
            texts.append(text)
        if job := _job(run, text, cache):
            work.append((text, job))
    shown = progress("preprocess", len(paths), "texts")
    with _results(run, work, jobs) as results, shown as advance:
        advance(len(texts) - len(work))
        for text, result in results:
            advance(note=text.name, size=text.row.get("characters_in", 0))
            _take(run, text, result, cache)
    return texts


def compare_texts(texts: Sequence[Text], cache: SketchCache, *, drop: bool) -> Duplicates:
    """Find the duplicates among all texts that are there or were dropped before."""
    entries = []
    for text in texts:
        sketch = cache.get(text.sha256) if text.state in ("kept", "dropped") else None
        if sketch is not None:
            authors = tuple(text.row.get("authors") or ())
            fixed = text.fixed or not drop
            entries.append(Entry(text.id, sketch, text.row.get("title"), authors, fixed))
    return find_duplicates(entries)


def apply_duplicates(
    run: StageRun, texts: Sequence[Text], found: Duplicates, cache: SketchCache, jobs: int
) -> None:
    """Take out the texts that are to be dropped, and bring back those that no longer are."""
    by_id = {text.id: text for text in texts}
    back: list[tuple[Text, Task | Path]] = []
    for text in texts:
        pair = found.dropped.get(text.id)
        if pair is not None:
            _drop(run, text, pair, by_id[pair.kept])
        elif text.state == "dropped" and text.task is not None:
            text.state, text.row = "new", {}
            run.withdraw(f"{REJECTED}/{text.name}")
            back.append((text, text.task))
    with _results(run, back, jobs) as results:
        for text, result in results:
            _take(run, text, result, cache)


def has_to_choose_again(workspace: Workspace) -> bool:
    """Whether a person's hand changes which texts are there since the last run: one for which a
    duplicate was dropped is gone or was edited, or one that was left out was put in."""
    record = workspace.record("preprocess")
    folder, raw = workspace.directory("preprocess"), workspace.directory("acquire")
    outputs = record.outputs if record else {}
    for note, output in outputs.items():
        name = note.removeprefix(f"{REJECTED}/")
        if name not in outputs and (folder / name).is_file() and (raw / name).is_file():
            return True
        row = output.row or {}
        if row.get("verdict") == "duplicate":
            better = folder / f"{row['kept']}.txt"
            if not better.is_file() or workspace.fact(better).sha256 != row["kept_sha256"]:
                return True
    return False


# --- one text -------------------------------------------------------------------------------------


def _look(run: StageRun, task: Task) -> Text:
    """What is there of a text, and what is to be done about it: `state` is "new" if all."""
    name, note = task.path.name, f"{REJECTED}/{task.path.name}"
    key = run.key(run.workspace.fact(task.path).sha256, task.about)
    text = Text(name, "new", task, key, fixed=task.about.get("weight") == 0)
    plan = run.plan(name, key)
    if run.row(name) is None and (run.directory / name).is_file():
        if not run.overwrites_edited:
            text.by_hand = True
            return text
        run.claim(name)
    if plan == "deleted" and run.row(note) is not None and not run.is_edited(note):
        run.withdraw(name)  # it was this stage that took it away, and was killed over it
        plan = "write"
    if plan == "write" and run.has(note, key):
        text.row = dict(run.row(note) or {})
        text.state = "dropped" if text.row.get("verdict") == "duplicate" else "rejected"
        text.sha256 = str(text.row.get("sha256", ""))
    elif plan != "write":
        row = dict(run.row(name) or {"file": name, "document_id": task.path.stem})
        text.row = brought_up_to_date(row, task.about, task.recipe.languages)
        text.state = "deleted" if plan == "deleted" else "kept"
        if plan == "edited":
            text.fixed = True
        if plan != "deleted":
            text.sha256 = run.workspace.fact(run.directory / name).sha256
    return text


def _put_in_by_hand(run: StageRun, names: set[str]) -> Iterator[Text]:
    """The texts of the stage's directory that come from no file of `1_raw`, and stay."""
    for path in run.workspace.files("preprocess", ("*.txt",)):
        goes = run.overwrites_edited or not run.is_edited(path.name)
        if path.name in names or (run.row(path.name) is not None and goes):
            continue
        row = dict(run.row(path.name) or {})  # edited by hand, and what it came from is gone
        sha256 = run.workspace.fact(path).sha256
        yield Text(path.name, "kept", row=row, sha256=sha256, fixed=True)


def _job(run: StageRun, text: Text, cache: SketchCache) -> Task | Path | None:
    """The work that a text needs, if any."""
    if text.state == "new":
        return text.task
    if text.state == "dropped" and text.sha256 not in cache:
        return text.task
    is_edited = text.fixed and (text.task is None or run.is_edited(text.name))
    if text.state == "kept" and (is_edited or text.sha256 not in cache):
        return run.directory / text.name
    return None


@contextmanager
def _results(
    run: StageRun, work: Sequence[tuple[Text, Task | Path]], jobs: int
) -> Iterator[Iterator[tuple[Text, Result]]]:
    """The results of some work in their order, made by this process where it is little. To be
    opened before any progress is shown: a process with one thread starts others sooner."""
    sizes = [(job.path if isinstance(job, Task) else job).stat().st_size for _, job in work]
    jobs = jobs if sum(sizes) > SMALL else 1
    parcels = _parcels([job for _, job in work], sizes, PARCEL if jobs > 1 else 0)
    with ExitStack() as stack:
        folder = stack.enter_context(run.scratch()) if jobs > 1 and run.writes else None
        workers = stack.enter_context(Workers(jobs, imports=("numpy",)))
        made = chain.from_iterable(workers.map(partial(_work_on_all, folder=folder), parcels))
        yield zip((text for text, _ in work), made, strict=True)


def _parcels(
    work: Sequence[Task | Path], sizes: Sequence[int], least: int
) -> Iterator[list[Task | Path]]:
    """The work in parcels of at least so many bytes, if there are so many: short texts together,
    for to send each of them to another process takes longer than to send a few."""
    parcel: list[Task | Path] = []
    held = 0
    for job, size in zip(work, sizes, strict=True):
        parcel.append(job)
        held += size
        if held >= least:
            yield parcel
            parcel, held = [], 0
    if parcel:
        yield parcel


def _work_on_all(parcel: Sequence[Task | Path], folder: Path | None) -> list[Result]:
    return [work_on(job, folder) for job in parcel]


def _take(run: StageRun, text: Text, result: Result, cache: SketchCache) -> None:
    """Write what became of a text, and keep its sketch."""
    if result.sketch:
        cache.add(result.sha256, result.sketch)
    if text.state == "dropped":  # only its sketch was wanted
        text.sha256 = result.sha256
        return
    text.row = text.row | result.row
    if text.by_hand and (result.data is None or _was_left_out(run, text)):
        run.warn(f"{run.directory / text.name} was put there by hand and is kept as it is.")
        _leave_to_person(run, text, cache)
        return
    for warning in result.warnings:
        run.warn(warning)
    text.sha256 = result.sha256
    if text.state != "new":
        return
    if result.data is None:
        text.state = "rejected"
        sentence = f"{text.name} was rejected: {text.row['reason']}."
        run.warn(sentence)
        run.write(f"{REJECTED}/{text.name}", _encode(sentence), text.key, text.row)
        return
    text.state = "kept"
    about = (text.key, text.row)
    if isinstance(result.data, Path):
        is_written = run.take(text.name, result.data, *about, sha256=result.sha256)
    else:
        is_written = run.write(text.name, result.data, *about, sha256=result.sha256)
    if not is_written:
        _leave_to_person(run, text, cache)


def _was_left_out(run: StageRun, text: Text) -> bool:
    """Whether this stage would not have the text: then a file in its place is a person's, even
    one that is just what would be made."""
    return run.row(f"{REJECTED}/{text.name}") is not None


def _leave_to_person(run: StageRun, text: Text, cache: SketchCache) -> None:
    """Account for a text in whose place a person's file stands: what was cleaned away of the raw
    text is in its row, all of it if it would be rejected; the rest is changed by hand."""
    mine = work_on(run.directory / text.name)
    cache.add(mine.sha256, mine.sketch)
    for warning in mine.warnings:
        run.warn(warning)
    if text.row["verdict"] == "rejected":
        removed = {"rejected": {"count": 1, "characters": text.row["characters_in"]}}
        text.row |= {"verdict": "kept", "reason": None, "removed": removed, "warnings": []}
    text.row |= mine.row
    text.state, text.fixed, text.sha256 = "kept", True, mine.sha256
    run.leave_to_person(text.name, text.key, text.row)


def _encode(sentence: str) -> bytes:
    """A line of UTF-8; a file name may hold what is none."""
    return f"{sentence}\n".encode(errors="replace")


def _drop(run: StageRun, text: Text, pair: Pair, better: Text) -> None:
    """Put a sentence in the place of a duplicate."""
    relation = _RELATIONS.get(pair.relation, _RELATIONS["near"])
    reason = relation.format(kept=better.name, share=f"{pair.share:.1%}")
    sentence = _encode(f"{text.name} was left out: {reason}.")
    row = {
        name: value
        for name, value in text.row.items()
        if name not in ("removed", "warnings", "mentions", "quality")
    } | {
        "verdict": "duplicate", "reason": reason, "characters_out": 0, "removed": {},
        "kept": better.id, "kept_sha256": better.sha256, "sha256": text.sha256,
    }  # fmt: skip
    note = f"{REJECTED}/{text.name}"
    if text.state != "dropped" or row != text.row or sha256_bytes(sentence) != _content(run, note):
        run.write(note, sentence, text.key, row)
    run.withdraw(text.name)
    text.state, text.row, text.pair = "dropped", row, pair


def _content(run: StageRun, name: str) -> str:
    path = run.directory / name
    return run.workspace.fact(path).sha256 if path.is_file() else ""


def names(texts: Iterable[Text], state: str) -> list[str]:
    """The names of the texts in a state."""
    return [text.name for text in texts if text.state == state]

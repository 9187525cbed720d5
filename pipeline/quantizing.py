"""The work of `pipeline quantize`: from an adapter to GGUFs, or to one GGUF adapter, proven.

Each file is kept as soon as it is proven. A run that was killed, or that failed in a later file,
goes on from those, and so does one that asks for more types.
"""

import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any

from pipeline.console import progress
from pipeline.corpus.token_cache import load_tokenizer
from pipeline.corpus.tokens import plain_ids
from pipeline.errors import PipelineError
from pipeline.export import gguf
from pipeline.export.about import about
from pipeline.export.as_adapter import as_adapter, check_as_adapter
from pipeline.export.converter_configs import check_config
from pipeline.export.finished import ADAPTER, PROOF, Finished
from pipeline.export.merge import merge_adapter
from pipeline.export.modelfile import end_tokens
from pipeline.export.proof import Proof, Unproven
from pipeline.export.proof_adapter import prove_adapter, unproven_adapter
from pipeline.export.proof_bounds import Bounds, choose_mode
from pipeline.export.proof_subject import Subject, read_subject
from pipeline.export.proof_table import proof_table
from pipeline.export.room import Needed, Room, room_needed, told_if_full
from pipeline.files import read_json_object, write_json
from pipeline.printing import print_table
from pipeline.quantize_inputs import (
    belongs_to,
    dataset_of,
    ends_of_documents,
    evaluation_of,
    loaded,
    other_text,
    set_chat_template,
    trained_model,
    weights_of,
)
from pipeline.run import StageRun
from pipeline.scoring.bits import Window
from pipeline.training.adapter_sources import Source, Taken
from pipeline.training.base_model import BaseModel, resolve_base_model
from pipeline.training.libraries import quiet_libraries
from pipeline.training.scored_models import find_candidate

FOUR_BITS = "the base model is stored in 4 bits, and no GGUF of it is made"


@dataclass(frozen=True)
class Wish:
    """What is to be made, and how it is to be proven."""

    kinds: list[str]
    model_name: str | None
    author: str | None
    max_memory: int
    merge_base: str | None
    as_adapter: bool
    proof: str | None
    bounds: Bounds


@dataclass(frozen=True)
class Task:
    """A wish for something that is at hand: `original` is the base that is merged into, `windows`
    the held-out text if it is known, and `scratch` a folder that is deleted in the end. What is
    left to make and what it needs on the disk is in `finished` and `needed`."""

    run: StageRun
    wish: Wish
    finished: Finished
    needed: Needed
    taken: Taken
    original: BaseModel
    evaluation: dict[str, Any]
    windows: Path | None
    scratch: Path

    @property
    def name(self) -> str:
        """What the model is called."""
        return self.wish.model_name or f"{self.taken.base.name.split('/')[-1]}-tuned"

    @property
    def logs(self) -> Path:
        """The folder of the logs."""
        return self.run.directory / "logs"

    @property
    def metadata(self) -> dict[str, Any]:
        """What the GGUF's header says of the model besides its name."""
        base, workspace = self.taken.base, self.run.workspace
        is_own = self.taken.origin["kind"] in ("run", "checkpoint")
        dataset = dataset_of(workspace) if is_own else None
        return about(
            author=self.wish.author, licence=base.licence, base=base.as_dict(),
            datasets=[dataset] if dataset else (),
        )  # fmt: skip

    @property
    def room(self) -> Room:
        """What it takes on the disk to make what is left."""
        base, folder = self.taken.base.path, self.taken.folder
        if self.wish.as_adapter:
            # The base as a GGUF, against which it is proven, and the file itself.
            return replace(room_needed(base, folder, []), merged=weights_of(folder))
        is_other = self.original is not self.taken.base
        return room_needed(
            base, folder, self.finished.left, is_proven=self.wish.proof != "none",
            merge_base=self.original.path if is_other else None,
        )  # fmt: skip

    def told(self, sizes: dict[str, int]) -> dict[str, Any]:
        """What later stages take from proof.json."""
        return {
            "name": self.name,
            "base_model": self.taken.base.as_dict(),
            "source": dict(self.taken.origin),
            "end_tokens": end_tokens(self.taken.base.path),
            "context": self.evaluation["sequence_length"],
            "evaluation": self.evaluation,
            "sizes": {
                "base": weights_of(self.original.path), "adapter": weights_of(self.taken.folder),
                **sizes,
            },
        }  # fmt: skip


def export(run: StageRun, source: Source, scratch: Path, wish: Wish, key: str) -> None:
    """Make the GGUFs that are not there yet, and their proof; what lies between is deleted on the
    way. `key` says from what and how they are made, but for their types.

    Raises PipelineError: something does not fit, is missing or damaged, the disk is too small, or
    what was made is not what was trained. What was finished before that is in place.
    """
    quiet_libraries()
    finished = Finished(run, key, [ADAPTER] if wish.as_adapter else wish.kinds)
    try:
        with told_if_full(run.directory, scratch) as needed:
            if finished.left:
                _make(_task(run, source, scratch, wish, finished, needed))
            finished.tell()
    except PipelineError as error:
        if finished.files:
            kept = f"Finished, and not made again: {', '.join(finished.files)}."
            error.hint = f"{error.hint} {kept}" if error.hint else kept
        raise
    run.counts["files"] = len(finished.files)
    run.counts["bits_per_byte"] = {
        name: facts["bits_per_byte"] for name, facts in finished.files.items()
    }


def _task(
    run: StageRun, source: Source, scratch: Path, wish: Wish, finished: Finished, needed: Needed
) -> Task:  # fmt: skip
    """Have at hand what it takes, and see that there is room for what is made of it."""
    if source.weights is not None:
        # Of a checkpoint, what stage 6 would have left is made first, in 16 bits.
        needed.unpack(source.weights.path.stat().st_size, run.directory)
    taken = source.take(scratch)
    original = taken.base
    if wish.merge_base:
        original = resolve_base_model(wish.merge_base, run.workspace.cache / "base")
    evaluation, windows = evaluation_of(taken, run.workspace)
    check_config(original.path)
    if wish.as_adapter:
        check_as_adapter(taken.base.path, taken.folder)
    task = Task(run, wish, finished, needed, taken, original, evaluation, windows, scratch)
    needed.room = task.room
    needed.room.check(run.directory)
    return task


def _make(task: Task) -> None:
    task.logs.mkdir(exist_ok=True)
    if task.wish.as_adapter:
        _export_adapter(task)
    else:
        _export_model(task)


def _export_model(task: Task) -> None:
    run, wish, taken, logs = task.run, task.wish, task.taken, task.logs
    merged, plain = task.scratch / "merged", task.scratch / "plain.gguf"
    kinds = task.finished.left
    with progress("quantize", 3 + 2 * len(kinds), "steps") as advance:
        chat = task.evaluation.get("chat")
        done = merge_adapter(
            taken.base.path, taken.folder, merged, keep_chat_template=bool(chat),
            max_memory=wish.max_memory, merge_base=task.original.path if wish.merge_base else None,
        )  # fmt: skip
        if chat:
            set_chat_template(merged, chat["template"])
        advance(note="merged")
        log = logs / "convert.log"
        gguf.convert(merged, plain, log, name=task.name, metadata=task.metadata)
        advance(note="converted")
        proof = start_proof(task, done.bytes // 2, merged)
        report = task.told({"merged": done.bytes})
        with kept_if_it_fails(proof, report, logs / PROOF, task.finished):
            proof.take_models(
                partial(loaded, trained_model(taken.folder, task.original), run.workspace),
                partial(loaded, find_candidate(str(merged)), run.workspace),
                done.bytes // 2, plain, log,
            )  # fmt: skip
            advance(note="merged model compared")
            shutil.rmtree(merged)
            if taken.folder.is_relative_to(task.scratch):  # unpacked from a checkpoint
                shutil.rmtree(taken.folder)
            for kind in kinds:
                path, log = task.scratch / f"{stem(task)}-{kind.upper()}.gguf", logs / f"{kind}.log"
                gguf.quantize(plain, path, kind, log)
                advance(note=f"{kind} written")
                proof.check_file(path, kind, log)
                task.finished.add(path, kind, proof.files[path.name], report | proof.as_dict())
                task.needed.is_made(kind)
                advance(note=f"{kind} proven")


def _export_adapter(task: Task) -> None:
    """The adapter alone; of its base a GGUF is made only to prove the two, and deleted."""
    base, folder, log = task.taken.base, task.taken.folder, task.logs / "adapter.log"
    path = task.scratch / f"{stem(task)}-adapter-F16.gguf"
    with progress("quantize", 2, "steps") as advance:
        as_adapter(base.path, folder, path, log, name=task.name, metadata=task.metadata)
        advance(note="adapter written")
        proven = _proven_adapter(task, path, log)
        advance(note="adapter looked at")
    alone = {"file": path.name, "base_model": base.as_dict(), **proven.pop("adapter")}
    task.finished.add(path, ADAPTER, alone, task.told({}) | proven)


def _proven_adapter(task: Task, path: Path, log: Path) -> dict[str, Any]:
    base, wish = task.taken.base, task.wish
    if wish.proof == "none":
        return unproven_adapter(path, "--proof none was asked for")
    if "quantization_config" in read_json_object(base.path / "config.json"):
        return unproven_adapter(path, FOUR_BITS)
    plain = task.scratch / "base.gguf"
    gguf.convert(base.path, plain, task.logs / "convert.log")
    parameters = weights_of(base.path) // 2
    subject, mode = _subject(task, base.path, parameters)
    return prove_adapter(
        path, plain, subject,
        partial(loaded, trained_model(task.taken.folder, base), task.run.workspace),
        parameters=parameters, mode=mode, bounds=wish.bounds, logits=task.scratch / "logits",
        log=log,
    )  # fmt: skip


def start_proof(task: Task, parameters: int, merged: Path) -> Proof | Unproven:
    """The proof as it is wished for, with the text that it takes."""
    if task.wish.proof == "none":
        return Unproven(task.evaluation)
    subject, mode = _subject(task, merged, parameters)
    return Proof(subject, task.wish.bounds, task.scratch / "logits", task.logs / PROOF, mode)


def _subject(task: Task, model: Path, parameters: int) -> tuple[Subject, str]:
    """What the proof is about, and how much is proven. `model` is the folder of the model that has
    the tokenizer of an adapter from elsewhere, since such bring files that were never used."""
    taken, workspace = task.taken, task.run.workspace
    is_own = taken.origin["kind"] in ("run", "checkpoint")
    has_own = (taken.folder / "tokenizer.json").is_file()
    if is_own:
        model = taken.folder if has_own else taken.base.path
    tokenizer = load_tokenizer(model)
    windows: Path | list[Window]
    if task.windows is not None and belongs_to(task.windows, tokenizer):
        windows = task.windows
    else:
        windows = other_text(tokenizer, max(8, min(task.evaluation["sequence_length"], 512)))
    subject = read_subject(
        windows, task.evaluation, tokenizer,
        partial(plain_ids, tokenizer), end_texts=end_tokens(taken.base.path),
        tails=ends_of_documents(workspace, tokenizer) if is_own else (),
    )  # fmt: skip
    wanted = task.wish.proof or task.finished.mode
    mode = choose_mode(wanted, parameters, subject.tokens, len(task.wish.kinds))
    return (subject.shortened() if mode == "quick" else subject), mode


@contextmanager
def kept_if_it_fails(
    proof: Proof | Unproven, report: dict[str, Any], path: Path, finished: Finished
) -> Iterator[None]:
    """Leave what was measured until the proof failed in the folder of the logs, and show it."""
    path.unlink(missing_ok=True)
    try:
        yield
    except PipelineError as error:
        failed = report | proof.as_dict() | {"proven": False, "why": error.message}
        failed["files"] = finished.files | failed["files"]
        write_json(path, failed)
        print_table(proof_table(failed))
        raise


def stem(task: Task) -> str:
    """A file name without its ending, of letters, digits, dots and hyphens only."""
    kept = "".join(c if c.isascii() and (c.isalnum() or c in ".-_") else "-" for c in task.name)
    return kept.strip(".-")[:80] or "model"

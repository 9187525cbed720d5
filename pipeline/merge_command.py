"""`pipeline merge`: the whole model as a folder for transformers, vLLM and other programs.

pipeline merge --output tales                     what stage 6 made, merged into its base
pipeline merge --output tales --checkpoint latest a run that is still training, or was stopped
pipeline merge --output tales --dtype float32     the numbers as exact as they are computed
"""

import math
import re
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Annotated, Any

from typer import Option

from pipeline import quantize_options as options
from pipeline.command import DEFAULT_DATA_DIR, DataDir, OverwriteEdited
from pipeline.console import progress, say
from pipeline.errors import PipelineError, UsageError
from pipeline.export.kinds import WANTED
from pipeline.export.merge import MAX_MEMORY, Merged, merge_adapter
from pipeline.export.model_folder import check_target, finish, put_in_place
from pipeline.export.room import SPARE, lacking, room_needed
from pipeline.files import is_disk_full
from pipeline.hub.merged_card import merged_card
from pipeline.quantize_inputs import evaluation_of, set_chat_template
from pipeline.settings import nearest
from pipeline.tensor_files import SHARD_SIZE, check_disk
from pipeline.training.adapter_sources import CHECKPOINTS, Source, Taken, find_source
from pipeline.training.base_model import BaseModel, resolve_base_model
from pipeline.training.libraries import quiet_libraries
from pipeline.training.scored_models import holds_model
from pipeline.training.scratch import scratch_folder
from pipeline.workspace import Workspace

AUTO = "auto"
CARD = "README.md"
LICENCES = re.compile(r"(licen[cs]e|notice|copying|use_policy)([.-].*)?$", re.IGNORECASE)


def merge(
    output: Annotated[
        Path, Option(help="The folder of the model: a new one, or a former one of this command.")
    ],
    data_dir: DataDir = DEFAULT_DATA_DIR,
    dtype: Annotated[
        str,
        Option(
            help="bfloat16, float16 or float32; auto: float16 if the base is, else bfloat16. What "
            "training stored in 16 bits, a model trained as a whole, gains nothing by float32."
        ),
    ] = AUTO,
    max_shard_size: Annotated[
        float, Option(help="GB that a file of weights may have.")
    ] = SHARD_SIZE / 1e9,
    max_memory: options.MaxMemory = MAX_MEMORY / 2**30,
    merge_base: options.MergeBase = None,
    adapter: options.Adapter = None,
    adapter_revision: options.AdapterRevision = None,
    adapter_base: options.AdapterBase = None,
    checkpoint: options.Checkpoint = None,
    overwrite_edited: OverwriteEdited = False,
) -> None:
    """Write the whole model for transformers, vLLM and the like: base and adapter in one.

    Configuration, tokenizer and weights (safetensors, in shards) go to a folder that is whole or
    not there. Also of a run that is still training, from any whole checkpoint. Adapters alone and
    GGUFs need none of it: `pipeline quantize` merges by itself.
    """
    if dtype != AUTO and dtype not in WANTED:
        raise UsageError(
            f"--dtype {dtype}: there is no such type.", nearest(dtype, [AUTO, *WANTED])
        )
    for name, value in (("--max-shard-size", max_shard_size), ("--max-memory", max_memory)):
        if not 0 < value < math.inf:
            raise UsageError(f"{name} must be above 0, not {value}.")
    target = output.expanduser().resolve()
    check_target(target, overwrite_edited=overwrite_edited)
    workspace = Workspace(data_dir)
    source = found_source(workspace, adapter, checkpoint, adapter_revision, adapter_base)
    quiet_libraries()
    with (
        scratch_folder(target.parent, "merge") as scratch,
        told_if_full(target, scratch) as needed,
    ):
        if source.weights is not None:
            # Of a checkpoint, what stage 6 would have left is made first, in 16 bits.
            needed.append(source.weights.path.stat().st_size // 2)
            check_disk(scratch, needed[0])
        taken = source.take(scratch)
        original = original_of(taken, merge_base, workspace)
        made, kind = scratch / "model", None if dtype == AUTO else dtype
        size = size_of(taken, original, kind)
        needed.append(size)
        done = write_model(
            taken, original, workspace, made, dtype=kind, size=size,
            shard_size=round(max_shard_size * 1e9), max_memory=round(max_memory * 2**30),
        )  # fmt: skip
        about = account(taken, original, done)
        write_card(made, target.name, about, taken, workspace)
        finish(made, about)
        check_target(target, overwrite_edited=overwrite_edited)  # somebody may have been there
        put_in_place(made, target, scratch / "former")
    say(
        f"merge: {target}: {done.tensors:,} tensors, {done.changed:,} of them trained,"
        f" {done.bytes / 1e9:,.2f} GB in {done.dtype}"
    )


def found_source(
    workspace: Workspace,
    adapter: str | None,
    checkpoint: str | None,
    revision: str | None,
    base_model: str | None,
) -> Source:
    """What is to be merged; see `find_source`. If there is no result yet, the way out is told."""
    try:
        return find_source(
            workspace, adapter, checkpoint=checkpoint, revision=revision, base_model=base_model
        )
    except UsageError:
        raise
    except PipelineError as error:
        root = workspace.directory("train") / CHECKPOINTS
        if adapter or checkpoint or not any(root.glob("*/step-*")):
            raise
        raise PipelineError(
            error.message, "Let `pipeline train` end, or take what it has: --checkpoint latest."
        ) from error


def original_of(taken: Taken, merge_base: str | None, workspace: Workspace) -> BaseModel | None:
    """The 16-bit original that is merged into, if another than the base.

    Raises UsageError if nothing is merged.
    """
    if merge_base is None:
        return None
    if holds_model(taken.folder):
        raise UsageError(
            "The model was trained as a whole and nothing is merged, so --merge-base is of no use."
        )
    return resolve_base_model(merge_base, workspace.cache / "base")


def size_of(taken: Taken, original: BaseModel | None, dtype: str | None) -> int:
    """About how many bytes the model will have; from names and shapes only."""
    merge_base = original.path if original else None
    return room_needed(
        taken.base.path, taken.folder, [], merge_base=merge_base, dtype=dtype
    ).merged  # fmt: skip


def write_model(
    taken: Taken,
    original: BaseModel | None,
    workspace: Workspace,
    folder: Path,
    *,
    dtype: str | None,
    size: int,
    shard_size: int,
    max_memory: int,
) -> Merged:
    """Write the model into `folder`, for chats if it was trained on such."""
    evaluation, _ = evaluation_of(taken, workspace)
    chat = evaluation.get("chat")
    with progress("merge", size / 1e6, "MB") as advance:
        done = merge_adapter(
            taken.base.path, taken.folder, folder, keep_chat_template=bool(chat),
            max_memory=max_memory, merge_base=original.path if original else None,
            shard_size=shard_size, dtype=dtype, on_tensor=lambda written: advance(written / 1e6),
        )  # fmt: skip
    if chat:
        set_chat_template(folder, chat["template"])
    return done


def account(taken: Taken, original: BaseModel | None, done: Merged) -> dict[str, Any]:
    """What the folder's record says besides its files; no path of this machine."""
    return {
        "made_by": "pipeline merge", "source": dict(taken.origin),
        "base_model": taken.base.as_dict(),
        "merged_into": original.as_dict() if original else None,
        "dtype": done.dtype, "tensors": done.tensors, "changed": done.changed,
    }  # fmt: skip


def write_card(
    folder: Path, name: str, about: dict[str, Any], taken: Taken, workspace: Workspace
) -> None:
    """Write the README.md of the model called `name` into its folder, with the licence files that
    its base came with beside it."""
    licences = [
        path for path in sorted(taken.base.path.iterdir())
        if path.is_file() and LICENCES.match(path.name)
    ]  # fmt: skip
    for path in licences:
        shutil.copyfile(path, folder / path.name)
    kind = str(evaluation_of(taken, workspace)[0].get("kind") or "text")
    text = merged_card(name, about, kind, [path.name for path in licences])
    (folder / CARD).write_text(text, "utf-8")


@contextmanager
def told_if_full(target: Path, own: Path) -> Iterator[list[int]]:
    """Whatever of the block fails because the disk is full ends as one sentence, which says about
    how much is missing. Yields a list for what is known to be needed, in bytes. `own` is the folder
    that is filled, and gone after.

    Raises PipelineError.
    """
    needed: list[int] = []
    try:
        yield needed
    except PipelineError:
        raise
    except Exception as error:
        if not is_disk_full(error):
            raise
        missing = lacking(sum(needed) + SPARE, target.parent, own)
        raise PipelineError(
            f"The disk of {target.parent} is full: about {missing / 1e9:,.2f} GB more are needed."
            f" {target.name} is as it was before, and nothing is left unfinished.",
            "Make room there, or name another place with --output, and run the same command again.",
        ) from error

"""Merge an adapter into its base model, tensor by tensor: any model in little memory.

The merged model has the base's tensors under the base's names; those that the adapter changes are
computed in float32, slice by slice, and rounded once.
"""

from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING

from pipeline.errors import PipelineError
from pipeline.export.adapter_files import Adapter, read_adapter
from pipeline.export.adapters import Change, find_changes, vocabulary_of
from pipeline.export.arithmetic import Job, NotFinite, TooLarge, pieces, work_memory
from pipeline.export.bases import read_base
from pipeline.export.companions import (
    BaseChanges,
    copy_generation_config,
    copy_tokenizer,
    has_tokenizer,
    read_base_changes,
    text_part,
    write_config,
)
from pipeline.export.groups import GroupWork
from pipeline.export.kinds import Kinds
from pipeline.export.names import empty_model, find_homes
from pipeline.export.whole_model import holds_model, take_model
from pipeline.files import read_json_object
from pipeline.tensor_files import (
    DTYPES,
    SHARD_SIZE,
    Planned,
    Source,
    as_matrix,
    check_disk,
    write_folder,
)

if TYPE_CHECKING:
    import torch

MAX_MEMORY = 4 * 2**30


@dataclass(frozen=True)
class Merged:
    """A merged model: how many tensors it has, how many of them are not the base's, its bytes, the
    type of its matrices, and about how many bytes of memory the largest piece of work took."""

    tensors: int
    changed: int
    bytes: int
    dtype: str
    peak: int


def merge_adapter(
    base_dir: Path,
    adapter_dir: Path,
    out_dir: Path,
    *,
    keep_chat_template: bool = False,
    max_memory: int = MAX_MEMORY,
    merge_base: Path | None = None,
    shard_size: int = SHARD_SIZE,
    dtype: str | None = None,
    on_tensor: Callable[[int], object] = lambda _: None,
) -> Merged:
    """Write base + adapter to `out_dir` as a Hugging Face model, of 16 bits unless told otherwise.

    The result is PEFT's own merge, but each number is computed in float32 and rounded once: to
    `dtype` if that is given, else to float16 if the base is float16, else to bfloat16. The
    tokenizer is the base's, file by file (the adapter's if it brings new tokens); its chat template
    is left out, unless asked for, because Ollama would wrap the prompts of a completion model in
    it.

    A base that bitsandbytes stored in four bits is merged in either of two ways. By itself, its
    weights are unpacked to 16 bits: exactly the model that the adapter was trained on, with the
    losses of the four bits in it. With `merge_base`, the 16-bit original, the adapter is put upon
    better weights than it was trained on: usually the better model, but not quite the one that
    was scored in training.

    If `adapter_dir` holds a whole model (full fine-tuning), that is taken as it is.

    `out_dir` is the caller's temporary directory; what is in it after a failure is of no use.

    Args:
        keep_chat_template: for a model that chats.
        max_memory: bytes that the work may take, besides the libraries themselves.
        merge_base: the folder of the 16-bit original of a four-bit base.
        shard_size: the most bytes of a file of weights.
        dtype: "bfloat16", "float16" or "float32"; the few tensors that a 16-bit model has in
            float32 on purpose stay so.
        on_tensor: told the size of each tensor when it is written, in bytes.

    Raises:
        PipelineError: base or adapter is missing, damaged, or they do not belong together; the
            adapter is of a kind that cannot be merged; a number is too large for the type;
            memory or disk do not suffice.
    """
    _check_base(base_dir)
    if holds_model(adapter_dir):
        jobs = take_model(
            adapter_dir, out_dir, base_dir, max_memory=max_memory, shard_size=shard_size,
            dtype=dtype, on_tensor=on_tensor,
        )  # fmt: skip
        tokenizer = adapter_dir if has_tokenizer(adapter_dir) else base_dir
        copy_tokenizer(tokenizer, out_dir, keep_chat_template=keep_chat_template)
        peak = max(work_memory(job, {}, max_memory) for job in jobs)
        kind = max(jobs, key=lambda job: job.size).kind
        total = sum(job.size for job in jobs)
        return Merged(len(jobs), len(jobs), total, DTYPES[kind], peak)
    adapter = read_adapter(adapter_dir)
    changes = read_base_changes(adapter_dir)
    tokenizer = base_dir
    if changes.extra_tokens:
        tokenizer = adapter_dir
        if not has_tokenizer(adapter_dir):
            raise PipelineError(
                f"The adapter in {adapter_dir} was trained with new tokens, but its tokenizer is"
                " not there: tokenizer.json is missing.",
                "Copy the whole folder.",
            )
    if merge_base is not None:
        _check_original(base_dir, merge_base)
        base_dir = merge_base
    merge = _Merge(base_dir, adapter, changes, max_memory, dtype)
    merged = merge.write(out_dir, shard_size, on_tensor)
    copy_generation_config(base_dir, out_dir)
    copy_tokenizer(tokenizer, out_dir, keep_chat_template=keep_chat_template)
    return merged


def _check_base(base_dir: Path) -> None:
    if not (base_dir / "config.json").is_file():
        raise PipelineError(
            f"There is no base model in {base_dir}: config.json is missing.",
            "It must be the model that the adapter was trained on.",
        )


def _check_original(base_dir: Path, original: Path) -> None:
    """Raise PipelineError unless `original` can be what `base_dir` was made from."""
    _check_base(original)
    configs = [read_json_object(folder / "config.json") for folder in (base_dir, original)]
    for name in ("model_type", "hidden_size", "num_hidden_layers", "vocab_size"):
        one, other = (text_part(config).get(name) for config in configs)
        if one != other:
            raise PipelineError(
                f"The model in {original} is not the original of {base_dir}: its {name} is"
                f" {other!r} and not {one!r}.",
                "Give --merge-base the 16-bit model that the base was made from.",
            )


class _Merge:
    """One merge: what is to be written, worked out before anything is."""

    def __init__(
        self,
        base_dir: Path,
        adapter: Adapter,
        changes: BaseChanges,
        max_memory: int,
        dtype: str | None,
    ) -> None:
        self._base_dir, self._adapter, self._changes = base_dir, adapter, changes
        self._limit = max_memory
        self._config = read_json_object(base_dir / "config.json")
        self._tensors = read_base(base_dir, self._config)
        self._kinds = Kinds(self._config, self._tensors, dtype)
        self._homes = find_homes(empty_model(base_dir), self._tensors, base_dir)
        self._vocabulary = vocabulary_of(adapter, self._homes)
        self._wanted, self._shapes = find_changes(adapter, base_dir, self._homes, self._vocabulary)
        self._jobs: dict[str, Job] = {}
        self._groups: dict[str, GroupWork] = {}
        self.untied = self._plan_ties()
        self._plan()

    def _plan_ties(self) -> bool:
        """Make jobs for parameters that share another's weights; True if they no longer do."""
        untied = False
        for pair in self._homes.tied.items():
            change, other = (self._wanted.get(name) for name in pair)
            same = change == other or self._same_tensor(change, other)
            for name, partner in (pair, pair[::-1]):
                if same:
                    if not self._homes.has(name):
                        self._wanted.pop(name, None)
                elif not self._homes.has(name):
                    source = self._tensors[self._homes.direct[partner]]
                    self._add_job(name, name, source, self._wanted.pop(name, Change()))
            untied = untied or not same
        return untied

    def _same_tensor(self, one: Change | None, other: Change | None) -> bool:
        """Whether two changes are the same, put upon tensors of the same content."""
        if not (one and other and one.whole and other.whole):
            return False
        if replace(one, whole=None) != replace(other, whole=None):
            return False
        first, second = (self._adapter.tensors[name] for name in (one.whole, other.whole))
        if (first.kind, first.shape) != (second.kind, second.shape):
            return False
        rows, columns = as_matrix(first.shape)
        step = max(1, 2_000_000 // columns)
        return all(
            first.rows(at, min(at + step, rows)).equal(second.rows(at, min(at + step, rows)))
            for at in range(0, rows, step)
        )

    def _plan(self) -> None:
        for name, change in self._wanted.items():
            if self._homes.group_of(name) is not None:
                continue
            key = self._homes.direct.get(name)
            if key is None:
                raise PipelineError(
                    f"The adapter in {self._adapter.folder} changes {name}, which the base model"
                    f" in {self._base_dir} does not hold.",
                    "Give the base model that the adapter was trained on.",
                )
            self._add_job(key, name, self._tensors[key], change)
        for group in self._homes.groups:
            touched = {name: self._wanted[name] for name in group.targets if name in self._wanted}
            if touched:
                work = GroupWork(
                    group, self._homes.model, self._tensors, touched, self._kinds.target
                )
                work.check(self._adapter.tensors, self._limit)
                self._groups |= dict.fromkeys(group.keys.values(), work)
        self._grow_others()

    def _add_job(self, key: str, name: str, source: Source, change: Change) -> None:
        shape = self._shapes[name]
        if change.whole:
            source = self._adapter.tensors[change.whole]
        if source.shape != shape:
            new = set(range(source.shape[0], shape[0]))
            if source.shape[1:] != shape[1:] or not new <= set(change.indices):
                raise self._grown_without(name)
        self._jobs[key] = Job(key, source, change, self._kinds.target, shape)

    def _grow_others(self) -> None:
        """Make jobs for what the adapter says nothing about, but new tokens make longer."""
        for name, key in self._homes.direct.items():
            shape = self._shapes[name]
            if key in self._jobs or shape == self._homes.shapes[name]:
                continue
            if len(shape) > 1:
                raise self._grown_without(name)
            # A bias of the head: transformers begins with zeros, and nothing has trained them.
            self._jobs[key] = Job(key, self._tensors[key], Change(), self._kinds.target, shape)

    def _grown_without(self, name: str) -> PipelineError:
        return PipelineError(
            f"The adapter in {self._adapter.folder} was trained with {self._vocabulary} tokens, but"
            f" does not hold all that are new in {name}.",
            "Train the new tokens at the input and at the output, or save both ends.",
        )

    def _planned(self) -> list[Planned]:
        planned = []
        for key, source in self._tensors.items():
            if key in self._jobs:
                planned.append(Planned(key, self._jobs[key].kind, self._jobs[key].shape))
            else:
                kind = self._kinds.of(source, key in self._groups)
                planned.append(Planned(key, kind, source.shape))
        added = [job for key, job in self._jobs.items() if key not in self._tensors]
        return planned + [Planned(job.name, job.kind, job.shape) for job in added]

    def _job(self, tensor: Planned) -> Job:
        return self._jobs.get(tensor.name) or Job(
            tensor.name, self._tensors[tensor.name], Change(), tensor.kind, tensor.shape
        )

    def _pieces(self, tensor: Planned) -> Iterator[Callable[[], "torch.Tensor"]]:
        adapter = self._adapter.tensors
        if tensor.name not in self._groups:
            return pieces(self._job(tensor), adapter, self._limit)
        part = self._groups[tensor.name].take(tensor.name, adapter, self._limit)
        return iter([lambda: part])

    def write(self, out_dir: Path, shard_size: int, on_tensor: Callable[[int], object]) -> Merged:
        """Write weights and configuration. See `merge_adapter`."""
        planned = self._planned()
        total = sum(tensor.size for tensor in planned)
        peak = self._peak(planned)  # refuses what does not fit into the memory
        check_disk(out_dir, total)
        try:
            write_folder(out_dir, planned, self._pieces, shard_size=shard_size, on_tensor=on_tensor)
        except TooLarge as error:
            raise error.as_error() from error
        except NotFinite as error:
            raise PipelineError(
                f"The adapter in {self._adapter.folder} is broken: merged weights of {error} are"
                " not finite numbers.",
                "Train again with a lower learning rate, or merge an earlier checkpoint.",
            ) from error
        write_config(
            out_dir, self._config, dtype=DTYPES[self._kinds.target], changes=self._changes,
            untied=self.untied, vocabulary=self._vocabulary,
        )  # fmt: skip
        changed = len(self._jobs) + len(self._groups)
        return Merged(len(planned), changed, total, DTYPES[self._kinds.target], peak)

    def _peak(self, planned: list[Planned]) -> int:
        adapter, peaks = self._adapter.tensors, [0]
        for tensor in planned:
            if tensor.name in self._groups:
                peaks.append(self._groups[tensor.name].memory(adapter))
                continue
            peaks.append(work_memory(self._job(tensor), adapter, self._limit))
        return max(peaks)

"""A model that was trained as a whole, taken as it is: there is nothing to merge."""

import shutil
from collections.abc import Callable, Iterator, Mapping
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

from pipeline.errors import PipelineError
from pipeline.export.adapter_files import CONFIG
from pipeline.export.adapters import Change
from pipeline.export.ahead import in_order
from pipeline.export.arithmetic import Job, NotFinite, check_finite, pieces
from pipeline.export.companions import BaseChanges, copy_generation_config, write_config
from pipeline.export.kinds import Kinds
from pipeline.export.names import empty_model, find_homes
from pipeline.export.weights import (
    DTYPES,
    INDEX,
    SINGLE,
    Planned,
    Stored,
    check_disk,
    read_folder,
    write_folder,
)
from pipeline.files import link_or_copy, read_json_object

if TYPE_CHECKING:
    import torch


def holds_model(folder: Path) -> bool:
    """Whether it is a whole model that lies there, and no adapter."""
    weights = any((folder / name).is_file() for name in (SINGLE, INDEX))
    return weights and (folder / "config.json").is_file() and not (folder / CONFIG).is_file()


def take_model(
    folder: Path,
    out_dir: Path,
    *,
    max_memory: int,
    shard_size: int,
    on_tensor: Callable[[int], object],
) -> list[Job]:
    """Put the model in `folder` into `out_dir`, rounded to 16 bits if it is not so already.

    Returns:
        What was done, a job for each tensor.

    Raises:
        PipelineError: it is not whole, or holds numbers that are not finite.
    """
    config = read_json_object(folder / "config.json")
    tensors = read_folder(folder, "trained model")
    find_homes(empty_model(folder), tensors, folder, "trained model")
    kinds = Kinds(config, tensors)
    jobs = {
        key: Job(key, stored, Change(), kinds.of(stored, False), stored.shape)
        for key, stored in tensors.items()
    }

    def finite(tensor: Planned) -> Iterator[Callable[[], "torch.Tensor"]]:
        return (
            partial(_checked, task, tensor.name)
            for task in pieces(jobs[tensor.name], {}, max_memory)
        )

    planned = [Planned(job.name, job.kind, job.shape) for job in jobs.values()]
    total = sum(tensor.size for tensor in planned)
    try:
        if all(tensors[tensor.name].kind == tensor.kind for tensor in planned):
            for tensor in planned:
                for _ in in_order(finite(tensor)):
                    pass
                on_tensor(tensor.size)
            _link(folder, out_dir, tensors, total)
        else:
            check_disk(out_dir, total)
            write_folder(out_dir, planned, finite, shard_size=shard_size, on_tensor=on_tensor)
    except NotFinite as error:
        raise PipelineError(
            f"The model in {folder} is broken: weights of {error} are not finite numbers.",
            "Train again with a lower learning rate, or take an earlier checkpoint.",
        ) from error
    write_config(
        out_dir, config, dtype=DTYPES[kinds.target], changes=BaseChanges(), untied=False,
        vocabulary=None,
    )  # fmt: skip
    copy_generation_config(folder, out_dir)
    return list(jobs.values())


def _checked(task: Callable[[], "torch.Tensor"], name: str) -> "torch.Tensor":
    numbers = task()
    check_finite(numbers, name)
    return numbers


def _link(folder: Path, out_dir: Path, tensors: Mapping[str, Stored], total: int) -> None:
    """The same files in another folder; no copy where the disk can do without."""
    out_dir.mkdir(parents=True, exist_ok=True)
    if out_dir.stat().st_dev != folder.stat().st_dev:
        check_disk(out_dir, total)
    for path in sorted({stored.path for stored in tensors.values()}):
        link_or_copy(path, out_dir / path.name)
    if not (folder / SINGLE).is_file():
        shutil.copyfile(folder / INDEX, out_dir / INDEX)

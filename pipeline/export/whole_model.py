"""A model that was trained as a whole, taken as it is: there is nothing to merge."""

import shutil
from collections.abc import Callable, Iterator, Mapping
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

from pipeline.ahead import in_order
from pipeline.errors import PipelineError
from pipeline.export.adapter_files import CONFIG
from pipeline.export.adapters import Change
from pipeline.export.arithmetic import Job, NotFinite, TooLarge, check_finite, pieces
from pipeline.export.companions import (
    BaseChanges,
    copy_generation_config,
    text_part,
    write_config,
)
from pipeline.export.kinds import Kinds
from pipeline.export.names import empty_model, find_homes
from pipeline.files import link_or_copy, read_json_object, write_json
from pipeline.tensor_files import (
    DTYPES,
    INDEX,
    SINGLE,
    Planned,
    Stored,
    check_disk,
    n_bytes,
    read_folder,
    write_folder,
)

if TYPE_CHECKING:
    import torch


def holds_model(folder: Path) -> bool:
    """Whether it is a whole model that lies there, and no adapter."""
    weights = any((folder / name).is_file() for name in (SINGLE, INDEX))
    return weights and (folder / "config.json").is_file() and not (folder / CONFIG).is_file()


def take_model(
    folder: Path,
    out_dir: Path,
    base_dir: Path,
    *,
    max_memory: int,
    shard_size: int,
    dtype: str | None,
    on_tensor: Callable[[int], object],
) -> list[Job]:
    """Put the model in `folder`, made from that in `base_dir`, into `out_dir`: in `dtype` if that
    is given, else rounded to 16 bits if it is not so already.

    Returns:
        What was done, a job for each tensor.

    Raises:
        PipelineError: it is not whole, or holds numbers that are not finite, or too large for the
            type.
    """
    config = with_cache_of(read_json_object(base_dir / "config.json"), folder)
    tensors = read_folder(folder, "trained model")
    find_homes(empty_model(folder), tensors, folder, "trained model")
    kinds = Kinds(config, tensors, dtype)
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
        is_same = all(tensors[tensor.name].kind == tensor.kind for tensor in planned)
        if is_same and _fit(tensors, shard_size):
            for tensor in planned:
                for _ in in_order(finite(tensor)):
                    pass
                on_tensor(tensor.size)
            _link(folder, out_dir, tensors, total)
        else:
            check_disk(out_dir, total)
            write_folder(out_dir, planned, finite, shard_size=shard_size, on_tensor=on_tensor)
    except TooLarge as error:
        raise error.as_error() from error
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
    _generate_with_cache_of(config, out_dir / "generation_config.json")
    return list(jobs.values())


def with_cache_of(base: Mapping[str, Any], folder: Path) -> dict[str, Any]:
    """The config.json of the model in `folder`, with the base's `use_cache`.

    Trainers switch it off for themselves, and earlier versions of this product saved that too:
    everybody who loads such a model would generate without a cache, many times as slow.
    """
    config = read_json_object(folder / "config.json")
    text, base_text = text_part(config), text_part(dict(base))
    for part, original in ((config, base), (text, base_text)):
        if part.get("use_cache") is False and original.get("use_cache") is not False:
            part.pop("use_cache")
            part |= {"use_cache": original["use_cache"]} if "use_cache" in original else {}
    return config


def _generate_with_cache_of(config: Mapping[str, Any], path: Path) -> None:
    """Mend a generation_config.json that the library made of a configuration without the cache."""
    values = read_json_object(path) if path.is_file() else {}
    is_made = values.get("_from_model_config") is True and values.get("use_cache") is False
    if is_made and config.get("use_cache", True):
        write_json(path, values | {"use_cache": True})


def _fit(tensors: Mapping[str, Stored], shard_size: int) -> bool:
    """Whether no file is larger than it may be, but for one that holds a single large tensor."""
    files: dict[Path, list[int]] = {}
    for stored in tensors.values():
        files.setdefault(stored.path, []).append(n_bytes(stored.kind, stored.shape))
    return all(len(sizes) == 1 or sum(sizes) <= shard_size for sizes in files.values())


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

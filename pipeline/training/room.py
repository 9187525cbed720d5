"""The memory and the disk that there are, and what a run writes."""

import shutil
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

from pipeline.console import megabytes
from pipeline.errors import PipelineError
from pipeline.training.settings import TrainSettings
from pipeline.training.sizes import FLOAT

_CGROUP = Path("/sys/fs/cgroup")
_NO_LIMIT = 1 << 62


def free_memory(*, cuda: bool) -> int:
    """The bytes that this process can have in all, with what it has: of its container, if it is in
    one, and on GPUs of all together.
    """
    if cuda:
        import torch

        devices = range(torch.cuda.device_count())
        free = sum(torch.cuda.mem_get_info(device)[0] for device in devices)
        return free + sum(torch.cuda.memory_reserved(device) for device in devices)
    import psutil  # type: ignore[import-untyped]

    return min(
        int(psutil.virtual_memory().available) + _own_memory(), *_container_limits(), _NO_LIMIT
    )


@dataclass(frozen=True)
class Disk:
    """What a run writes, in bytes: its result, the best weights on the way, checkpoints with the
    optimizer's state, tokens."""

    result: int
    best: int
    checkpoints: int
    tokens: int

    @property
    def total(self) -> int:
        """All of it."""
        return self.result + self.best + self.checkpoints + self.tokens


def disk_needed(
    settings: TrainSettings,
    trained: int,
    state: int,
    *,
    characters: int = 0,
    checkpoints: int = 0,
) -> Disk:
    """What a run writes that trains so many weights, in float32 at the most.

    Args:
        state: bytes of the optimizer's state.
        characters: of the texts whose tokens are still to be stored.
        checkpoints: how many there are at once, at the most.
    """
    weights = FLOAT * trained
    return Disk(
        result=weights,
        best=weights if settings.keep_best else 0,
        checkpoints=checkpoints * (weights + state),
        tokens=2 * characters,  # 4 bytes a token, and hardly a text has less than 2 characters
    )


def check_room(needed: Disk, folder: Path) -> None:
    """Raise PipelineError if the disk of `folder`, which need not be there yet, has no room."""
    place = folder.absolute()
    while not place.exists():
        place = place.parent
    free = shutil.disk_usage(place).free
    if needed.total <= free:
        return
    parts = {
        "the result": needed.result, "the best weights on the way": needed.best,
        "checkpoints": needed.checkpoints, "tokens": needed.tokens,
    }  # fmt: skip
    told = ", ".join(f"{name} {megabytes(size)}" for name, size in parts.items() if size)
    raise PipelineError(
        f"The run writes about {megabytes(needed.total)} ({told}), and the disk of {folder} has "
        f"{megabytes(free)} free.",
        "Free some, or give another --data-dir.",
    )


def _container_limits() -> Iterator[int]:
    """What the limits of control groups, versions 2 and 1, leave to this container."""
    for limit, used, cache in (
        ("memory.max", "memory.current", "memory.stat"),
        ("memory/memory.limit_in_bytes", "memory/memory.usage_in_bytes", "memory/memory.stat"),
    ):
        with suppress(OSError, ValueError, StopIteration):  # not there, or "max"
            total, taken = (int((_CGROUP / name).read_text()) for name in (limit, used))
            lines = (_CGROUP / cache).read_text().splitlines()
            names = ("inactive_file ", "total_inactive_file ")  # cached files, given back if needed
            cached = next(int(x.split()[1]) for x in lines if x.startswith(names))
            yield total - taken + cached + _own_memory()


def _own_memory() -> int:
    import psutil

    return int(psutil.Process().memory_info().rss)

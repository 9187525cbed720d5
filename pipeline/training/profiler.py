"""A record of what the machine does in some steps: a trace to look at, and a table."""

import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from pipeline.console import say, warn
from pipeline.errors import PipelineError
from pipeline.files import atomic_path, write_bytes

TRACE = "profile.json.gz"
TABLE = "profile.txt"
SKIPPED = 3  # steps in which caches fill and kernels are chosen

_ROWS = 30


@contextmanager
def profiling(folder: Path, steps: int) -> Iterator[Callable[[], None]]:
    """Record `steps` optimizer steps after the first three with torch's profiler.

    Yields what is to be called after each step. Writes `profile.json.gz` into `folder`, for
    chrome://tracing or ui.perfetto.dev, and `profile.txt`, the operations that took the longest.
    Nothing happens where `steps` is 0.
    """
    if not steps:
        yield lambda: None
        return
    os.environ.setdefault("KINETO_LOG_LEVEL", "99")  # it would write into the progress bar
    from torch.profiler import ProfilerActivity, profile, schedule
    from torch.profiler import supported_activities as supported

    written: list[Path] = []

    def write(profiler: Any) -> None:
        written.append(_write(profiler, folder))

    activities = [a for a in (ProfilerActivity.CPU, ProfilerActivity.CUDA) if a in supported()]
    profiler = profile(
        activities=activities,
        # The last step before the record warms the profiler itself up.
        schedule=schedule(wait=SKIPPED - 1, warmup=1, active=steps, repeat=1),
        on_trace_ready=write,
    )
    with profiler:
        yield profiler.step
    if written:
        say(f"Profile: {TRACE} (open it at https://ui.perfetto.dev) and {TABLE}.")
    else:
        warn(f"No profile was written: the run has not more than {SKIPPED} steps.")


def _write(profiler: Any, folder: Path) -> Path:
    path = folder / TRACE
    try:
        with atomic_path(path) as temporary:
            # torch compresses if the name ends so.
            packed = temporary.with_name(temporary.name + ".gz")
            profiler.export_chrome_trace(str(packed))
            packed.replace(temporary)
    except OSError as error:
        raise PipelineError(f"The profile {path} cannot be written: {error}.") from error
    events = profiler.key_averages()
    on_gpu = any(getattr(event, "self_device_time_total", 0) for event in events)
    sort = "self_cuda_time_total" if on_gpu else "self_cpu_time_total"
    table = events.table(sort_by=sort, row_limit=_ROWS, max_name_column_width=60)
    write_bytes(folder / TABLE, table.encode())
    return path

"""How much memory a run takes: the GPUs' where there are some, else that of this process."""

import sys
from contextlib import suppress
from pathlib import Path

_CLEAR = Path("/proc/self/clear_refs")
_STATUS = Path("/proc/self/status")


class MemoryMeter:
    """Reads the memory in use now and at the most, in bytes.

    On GPUs: what torch has reserved, summed over them (what else shows as used is the driver's).
    """

    def __init__(self, *, cuda: bool) -> None:
        self._cuda = cuda
        self._seen = 0  # where only samples can be had

    def restart(self) -> int:
        """Forget the peak so far, where that can be done. Returns what is in use now."""
        if self._cuda:
            import torch

            for device in range(torch.cuda.device_count()):
                torch.cuda.reset_peak_memory_stats(device)
        else:
            with suppress(OSError):  # Linux only, and not in every container
                _CLEAR.write_text("5")
        self._seen = 0
        return self.now()

    def now(self) -> int:
        """What is in use."""
        if self._cuda:
            import torch

            count = torch.cuda.device_count()
            used = sum(torch.cuda.memory_reserved(device) for device in range(count))
        else:
            import psutil

            used = psutil.Process().memory_info().rss
        self._seen = max(self._seen, used)
        return used

    def peak(self) -> int:
        """The most that was in use since `restart`; of a process, where that cannot be known,
        since it began."""
        if self._cuda:
            import torch

            count = torch.cuda.device_count()
            return sum(torch.cuda.max_memory_reserved(device) for device in range(count))
        return max(self.now(), self._seen, _process_peak())


def _process_peak() -> int:
    with suppress(OSError, ValueError, IndexError):
        return int(_STATUS.read_text().partition("VmHWM:")[2].split()[0]) * 1024
    if sys.platform == "win32":
        import psutil

        return int(psutil.Process().memory_info().peak_wset)
    import resource

    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak if sys.platform == "darwin" else peak * 1024
